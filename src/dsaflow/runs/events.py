"""Events: one JSON object a line, appended and never changed."""

import errno
import fcntl
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dsaflow.fileio import to_plain

Event = dict[str, Any]
# What must outlive a power failure: nothing else tells it, or it is what recovery goes by.
DURABLE = frozenset(["run.created", "run.state", "quarantine.state", "review", "alert"])


def make_event(kind: str, run_id: str = "", **payload: Any) -> Event:
    """Build an event with its time; `payload` becomes plain JSON."""
    return {"time_s": time.time(), "kind": kind, "run_id": run_id, **to_plain(payload)}


def append_event(path: Path, event: Event) -> None:
    """Append one event, whole or not at all.

    Several processes may do so at once; a killed one leaves at most its own line torn.

    Raises
    ------
    OSError
        The disk is full, or the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(event, separators=(",", ":"), allow_nan=False).encode() + b"\n"
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        size = os.fstat(descriptor).st_size
        # a line torn by a kill must not swallow the next one
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            line = b"\n" + line
        if os.write(descriptor, line) != len(line):
            os.ftruncate(descriptor, size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        if event["kind"] in DURABLE:
            os.fdatasync(descriptor)
    finally:
        os.close(descriptor)


def read_events(path: Path) -> Iterator[Event]:
    """Events of a file in order; a torn line is left out."""
    with open(path, "rb") as stream:
        for line in stream:
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict) and "kind" in event:
                yield event
