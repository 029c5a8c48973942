"""The chain against a sky that is known: one night in one process, its scores, the ladder of effects.

Unlike the stages this package knows the truth (`dsaflow.simulate`); nothing else imports it but the
command line.
"""
