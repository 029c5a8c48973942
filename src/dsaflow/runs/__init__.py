"""The run record, the launcher and what an operator does with runs; files stay the truth.

Every change is an event: appended to a JSON-lines file, then applied to SQLite. The SQLite file can be
deleted at any moment and is made anew from the events and the products (`dsaflow.runs.rebuild`).
"""
