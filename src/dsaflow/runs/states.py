"""States of runs, jobs and mosaics, as in GA4GH WES 1.1, and the one table of legal transitions."""

from enum import StrEnum


class State(StrEnum):
    """State of a run, of a job, or of a mosaic's processing (GA4GH WES 1.1)."""

    QUEUED = "QUEUED"
    INITIALIZING = "INITIALIZING"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"  # waits for its next try
    COMPLETE = "COMPLETE"
    EXECUTOR_ERROR = "EXECUTOR_ERROR"  # a rule, the configuration or the code failed
    SYSTEM_ERROR = "SYSTEM_ERROR"  # the machine failed, or the process vanished
    CANCELED = "CANCELED"
    CANCELING = "CANCELING"


class ErrorClass(StrEnum):
    """Whether trying again can help."""

    TRANSIENT = "transient"
    PERMANENT = "permanent"


# A run in one of these has, or is about to have, a process; one a working directory.
LIVE = frozenset({State.INITIALIZING, State.RUNNING, State.PAUSED, State.CANCELING})
FINISHED = frozenset({State.COMPLETE, State.EXECUTOR_ERROR, State.SYSTEM_ERROR, State.CANCELED})

_ENDS = {State.EXECUTOR_ERROR, State.SYSTEM_ERROR, State.CANCELING}
TRANSITIONS: dict[State, frozenset[State]] = {
    State.QUEUED: frozenset({State.INITIALIZING, State.CANCELED, State.SYSTEM_ERROR}),
    State.INITIALIZING: frozenset({State.RUNNING, State.PAUSED, State.COMPLETE, *_ENDS}),
    State.RUNNING: frozenset({State.PAUSED, State.COMPLETE, *_ENDS}),
    State.PAUSED: frozenset({State.INITIALIZING, *_ENDS}),
    # exit code 0 wins over a late cancel
    State.CANCELING: frozenset({State.CANCELED, State.COMPLETE, State.SYSTEM_ERROR}),
    State.COMPLETE: frozenset(),
    # an explicit retry, or recovery, takes up the same run again
    State.EXECUTOR_ERROR: frozenset({State.QUEUED}),
    State.SYSTEM_ERROR: frozenset({State.QUEUED}),
    State.CANCELED: frozenset({State.QUEUED}),
}


def may_become(old: State, new: State) -> bool:
    """Whether the table allows the transition."""
    return new in TRANSITIONS[old]


def may_precede(new: State) -> list[State]:
    """States from which `new` can be reached in one step."""
    return [old for old, reached in TRANSITIONS.items() if new in reached]
