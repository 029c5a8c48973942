"""The run record as the rest of the package sees it: emit events, change states, ask."""

import fcntl
import json
import os
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from dsaflow.errors import DsaflowError, EnvironmentProblem
from dsaflow.runs.database import connect, transaction
from dsaflow.runs.events import Event, append_event, make_event
from dsaflow.runs.projection import apply
from dsaflow.runs.replay import replay
from dsaflow.runs.states import LIVE, State, may_precede

if TYPE_CHECKING:
    from dsaflow.config import Config

_JSON = frozenset(
    [
        "configfiles",
        "arguments",
        "targets",
        "group_ids",
        "options",
        "wildcards",
        "resources",
        "inputs",
        "outputs",
        "tiles",
        "planned",
    ]
)
OPEN_TRIES = 10
OPEN_WAIT_S = 0.05
Row = dict[str, Any]
T = TypeVar("T")


class Busy(DsaflowError):
    """Another run is live in the working directory."""


def new_run_id() -> str:
    """Id of a run: its UTC second and eight random digits."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}"


def _last(connection: sqlite3.Connection) -> int:
    """Number of the last event that SQLite knows."""
    return int(connection.execute("SELECT last FROM sequence").fetchone()[0])


def _plain(row: sqlite3.Row) -> Row:
    return {
        key: json.loads(row[key]) if key in _JSON and isinstance(row[key], str) else row[key]
        for key in row.keys()  # noqa: SIM118
    }


Identity = tuple[tuple[int, int] | None, ...]


def _identity(path: Path) -> Identity:
    """Device and inode of the SQLite file and its companions: others once they were deleted."""

    def inode(suffix: str) -> tuple[int, int] | None:
        try:
            status = os.stat(f"{path}{suffix}")
        except FileNotFoundError:
            return None
        return status.st_dev, status.st_ino

    return inode(""), inode("-wal"), inode("-shm")


class Record:
    """Events and SQLite of one results folder.

    Parameters
    ----------
    folder : path
        ``<results>/runs``: a folder a run with its events and log, ``operations.jsonl`` for what
        belongs to no run.
    database : path
        The SQLite file.

    Notes
    -----
    One connection a thread, so that a service may call from a pool of threads. An event is appended
    to its file inside the SQLite transaction that applies it: both or, after a kill, the file alone.
    The lock file beside SQLite holds the number of the last event: whoever opens a SQLite file that
    is gone, or knows less, makes it anew from the events, with the lock to itself.
    """

    def __init__(self, folder: str | os.PathLike, database: str | os.PathLike) -> None:
        self.folder = Path(folder).resolve()
        self.database = Path(database).resolve()
        self.scanned: dict[str, int] = {}  # mtimes of the verdicts that `scan` has read
        self._local = threading.local()

    @classmethod
    def open(cls, config: "Config") -> "Record":
        """Record of a configuration's results folder."""
        folder = Path(config.paths.results) / "runs"
        return cls(folder, config.runs.database or folder / "record.sqlite")

    @property
    def db(self) -> sqlite3.Connection:
        """Connection of the calling thread to the file that is there now."""
        connection = getattr(self._local, "connection", None)
        if connection is not None and self._local.identity == _identity(self.database):
            return connection
        self.close()
        with self._locked(fcntl.LOCK_EX) as lock:
            self._local.connection = self._opened(lock)
            self._local.identity = _identity(self.database)
        return self._local.connection

    def _opened(self, lock: int) -> sqlite3.Connection:
        """Open the SQLite file, made anew where it has to be; the lock is the caller's alone."""
        for left in reversed(range(OPEN_TRIES)):
            try:
                if not self.database.exists():
                    self._replay(lock)
                connection = connect(self.database)
                if _last(connection) >= int(os.pread(lock, 20, 0) or b"0"):
                    return connection
                connection.close()
                self._replay(lock)
            except sqlite3.OperationalError:  # somebody is just deleting it
                if not left:
                    raise
            time.sleep(OPEN_WAIT_S)
        raise EnvironmentProblem(f"the run record {self.database} is deleted again and again")

    def _replay(self, lock: int) -> dict[str, int]:
        counts, last = replay(self.folder, self.database)
        os.ftruncate(lock, 0)
        os.pwrite(lock, b"%d" % last, 0)
        return dict(counts)

    def close(self) -> None:
        """Close this thread's connection."""
        if getattr(self._local, "connection", None) is not None:
            self._local.connection.close()
            self._local.connection = None

    def remake(self) -> dict[str, int]:
        """Make the SQLite file anew from the events, whatever state it is in.

        Returns
        -------
        dict
            Events applied by kind, and `skipped`.
        """
        self.close()
        with self._locked(fcntl.LOCK_EX) as lock:
            return self._replay(lock)

    @contextmanager
    def _locked(self, how: int) -> Iterator[int]:
        """Hold the lock beside the SQLite file: shared by writers, exclusive while it is replaced."""
        self.database.parent.mkdir(parents=True, exist_ok=True)
        # hidden, so that removing record.sqlite* does not take it along
        path = self.database.with_name(f".{self.database.name}.lock")
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, how)
            yield descriptor
        finally:
            os.close(descriptor)

    def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do `work` in one write transaction on the file that is there now.

        For others only where there is no event: what they write is made anew from other files.
        """
        while True:
            connection, result, done = self.db, None, False
            try:
                with self._locked(fcntl.LOCK_SH) as lock, transaction(connection):
                    if self._local.identity == _identity(self.database):
                        result = work(connection)
                        os.pwrite(lock, b"%d" % _last(connection), 0)
                        done = True
            except sqlite3.OperationalError:
                if self._local.identity == _identity(self.database):
                    raise
            if done:  # were the file deleted since, its successor has read the event
                return cast(T, result)

    def _commit(self, db: sqlite3.Connection, event: Event) -> None:
        """Number an event, apply and append it, inside a transaction of `write`."""
        (event["seq"],) = db.execute(
            "UPDATE sequence SET last = last + 1 RETURNING last"
        ).fetchone()
        apply(db, event)
        append_event(self.events_path(event["run_id"]), event)

    def events_path(self, run_id: str) -> Path:
        """File of a run's events, or of those that belong to no run."""
        return self.folder / run_id / "events.jsonl" if run_id else self.folder / "operations.jsonl"

    def emit(self, kind: str, run_id: str = "", **payload: Any) -> Event:
        """Append an event and apply it."""
        event = make_event(kind, run_id, **payload)
        self.write(lambda db: self._commit(db, event))
        return event

    def create_run(self, kind: str, workdir: str | os.PathLike, **fields: Any) -> str:
        """Record a new run; returns its id.

        Parameters
        ----------
        kind : {"run", "mosaic", "batch", "watch", "snakemake"}
        workdir : path
        **fields
            Columns of ``runs``: priority, requested_by, profile, configfiles, arguments, targets,
            group_ids, options, idempotency_key, the identity of its processes, and `state`
            (default QUEUED).

        Raises
        ------
        Busy
            `state` is a live one and another run is live in `workdir`.
        sqlite3.IntegrityError
            The idempotency key is taken.
        """
        run_id = fields.pop("run_id", None) or new_run_id()
        folder = self.folder / run_id
        fields.setdefault("log_path", str(folder / "run.log"))
        try:
            self.emit(
                "run.created", run_id, run_kind=kind, folder=str(folder),
                workdir=str(Path(workdir).resolve()), **fields,
            )  # fmt: skip
        except sqlite3.IntegrityError as error:
            if "runs.workdir" in str(error):
                raise Busy(f"a run is live in {workdir}") from None
            raise
        return run_id

    def transition(
        self, run_id: str, new: State, only_from: State | None = None, **fields: Any
    ) -> bool:
        """Move a run to another state, if the table allows it from the one that it is in now.

        Parameters
        ----------
        run_id : str
        new : State
        only_from : State, optional
            The only state from which to move; default: all that the table allows.
        **fields
            Columns of ``runs`` to set with it.

        Returns
        -------
        bool
            False where the run is in a state from which `new` cannot be reached: somebody else was
            first (a cancel, another dispatcher).

        Raises
        ------
        Busy
            `new` is live and another run is live in the same working directory.
        """
        event = make_event("run.state", run_id, state=new, **fields)
        allowed = [old for old in may_precede(new) if only_from in (None, old)]
        marks = ", ".join("?" for _ in allowed)

        def swap(db: sqlite3.Connection) -> bool:
            query = f"SELECT 1 FROM runs WHERE run_id = ? AND state IN ({marks})"
            found = db.execute(query, (run_id, *allowed)).fetchone() is not None
            if found:
                self._commit(db, event)
            return found

        try:
            return self.write(swap)
        except sqlite3.IntegrityError:
            raise Busy("another run is live in the working directory") from None

    def select(self, query: str, parameters: Iterable[Any] = ()) -> list[Row]:
        """Rows of a query, JSON columns decoded."""
        given = tuple(parameters)
        for left in reversed(range(OPEN_TRIES)):
            try:
                return [_plain(row) for row in self.db.execute(query, given)]
            except sqlite3.OperationalError:
                if not left or self._local.identity == _identity(self.database):
                    raise
        return []

    def one(self, query: str, parameters: Iterable[Any] = ()) -> Row | None:
        """First row of a query, or None."""
        rows = self.select(query, parameters)
        return rows[0] if rows else None

    def run(self, run_id: str) -> Row | None:
        """One run."""
        return self.one("SELECT * FROM runs WHERE run_id = ?", (run_id,))

    def live_run(self, workdir: str | os.PathLike) -> Row | None:
        """The run that is live in a working directory."""
        marks = ", ".join("?" for _ in LIVE)
        return self.one(
            f"SELECT * FROM runs WHERE workdir = ? AND state IN ({marks})",
            (str(Path(workdir).resolve()), *sorted(LIVE)),
        )

    def queued(self) -> list[Row]:
        """Queued runs in the order in which they start: larger priority, then first come."""
        return self.select(
            "SELECT * FROM runs WHERE state = 'QUEUED' ORDER BY priority DESC, created_s, run_id"
        )

    def group(self, group_id: str) -> Row | None:
        """One mosaic."""
        return self.one("SELECT * FROM mosaic_groups WHERE group_id = ?", (group_id,))

    def job(self, job_id: str) -> Row | None:
        """One execution of a job."""
        return self.one("SELECT * FROM jobs WHERE job_id = ?", (job_id,))

    def jobs_of(self, run_id: str) -> list[Row]:
        """Executions of a run's jobs, in order of their start."""
        return self.select(
            "SELECT * FROM jobs WHERE run_id = ? ORDER BY started_s, job_id", (run_id,)
        )
