"""Completeness and false alarms of the event search, on seasons whose truth is known.

Like `dsaflow.validation` this is a referee: it knows the forward model and the pipeline, and nothing
but the command line and a rule's script uses it.
"""
