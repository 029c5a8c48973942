"""From the events to a new SQLite file."""

import heapq
import math
import os
import sqlite3
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from dsaflow.fileio import attempt_name
from dsaflow.runs.database import connect, remove, transaction
from dsaflow.runs.events import Event, read_events
from dsaflow.runs.projection import apply
from dsaflow.runs.states import LIVE, State


def replay(folder: Path, database: Path) -> tuple[Counter[str], int]:
    """Make the SQLite file anew from the events; the caller keeps others from writing meanwhile.

    Parameters
    ----------
    folder : Path
        Of the runs; it need not exist.
    database : Path
        Replaced as a whole, so that a killed replay leaves what was there.

    Returns
    -------
    counts : Counter
        Events applied by kind, and `skipped`: those that contradict the ones before.
    last : int
        Number of the last event.
    """
    counts: Counter[str] = Counter()
    last = 0
    temporary = attempt_name(database)
    try:
        connection = connect(temporary)
        connection.execute("PRAGMA synchronous = OFF")
        with transaction(connection):
            for event in ordered_events(folder):
                last = max(last, event.get("seq", 0))
                counts[event["kind"] if _applied(connection, event) else "skipped"] += 1
            connection.execute("UPDATE sequence SET last = ?", (last,))
        connection.close()  # the last to close takes the write-ahead log in
        remove(database)
        os.replace(temporary, database)
    finally:
        remove(temporary)
    return counts, last


def _applied(connection: sqlite3.Connection, event: Event) -> bool:
    connection.execute("SAVEPOINT event")
    try:
        try:
            apply(connection, event)
        except sqlite3.IntegrityError:
            if event["kind"] != "run.created" or event.get("state") not in LIVE:
                raise
            # written while SQLite was away, which would have refused a second live run
            connection.execute("ROLLBACK TO event")
            apply(connection, event | {"state": State.SYSTEM_ERROR})
    except (sqlite3.Error, KeyError, ValueError, TypeError):
        connection.execute("ROLLBACK TO event")
        return False
    finally:
        connection.execute("RELEASE event")
    return True


def ordered_events(folder: Path) -> Iterator[Event]:
    """Events of all runs in the order in which they were applied.

    A file is opened when its first event is due: a record has many files, few of them at a time.
    An event without a number (SQLite was away) stays beside its neighbour in its file.
    """
    paths = [folder / "operations.jsonl", *sorted(folder.glob("*/events.jsonl"))]
    files = []
    for index, path in enumerate(paths):
        first = next(_numbered(path), None)
        if first is not None:
            files.append((first[0], index))
    waiting = sorted(files, reverse=True)
    heap: list[tuple[float, int, Event, Iterator[tuple[float, Event]]]] = []
    while heap or waiting:
        if waiting and (not heap or waiting[-1] <= heap[0][:2]):
            _, index = waiting.pop()
            stream = _numbered(paths[index])
        else:
            _, index, event, stream = heapq.heappop(heap)
            yield event
        for number, event in stream:
            heapq.heappush(heap, (number, index, event, stream))
            break


def _numbered(path: Path) -> Iterator[tuple[float, Event]]:
    if not path.exists():
        return
    number, first = 0, list[Event]()
    for event in read_events(path):
        number = max(number, event.get("seq", 0))
        if number:
            yield from ((number, earlier) for earlier in first)
            first = []
            yield number, event
        else:
            first.append(event)
    # a file of which SQLite never knew: after all that it knew
    yield from ((math.inf, event) for event in first)
