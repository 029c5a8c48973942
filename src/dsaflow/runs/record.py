"""The run record as the rest of the package sees it: emit events, change states, ask."""

import json
import os
import sqlite3
import threading
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsaflow.runs.database import connect, transaction
from dsaflow.runs.events import Event, append_event, make_event
from dsaflow.runs.projection import apply
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
    ]
)
Row = dict[str, Any]


class Busy(Exception):
    """Another run is live in the working directory."""


def new_run_id() -> str:
    """Id of a run: its UTC second and eight random digits."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}"


def _plain(row: sqlite3.Row) -> Row:
    return {key: json.loads(row[key]) if key in _JSON else row[key] for key in row.keys()}  # noqa: SIM118


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
    to its file inside the SQLite transaction that applies it: both or, after a kill, the file alone,
    which a rebuild applies.
    """

    def __init__(self, folder: str | os.PathLike, database: str | os.PathLike) -> None:
        self.folder = Path(folder)
        self.database = Path(database)
        self._local = threading.local()

    @classmethod
    def open(cls, config: "Config") -> "Record":
        """Record of a configuration's results folder."""
        folder = Path(config.paths.results) / "runs"
        return cls(folder, config.runs.database or folder / "record.sqlite")

    @property
    def db(self) -> sqlite3.Connection:
        """Connection of the calling thread."""
        if getattr(self._local, "connection", None) is None:
            self._local.connection = connect(self.database)
        return self._local.connection

    def close(self) -> None:
        """Close this thread's connection."""
        if getattr(self._local, "connection", None) is not None:
            self._local.connection.close()
            self._local.connection = None

    def events_path(self, run_id: str) -> Path:
        """File of a run's events, or of those that belong to no run."""
        return self.folder / run_id / "events.jsonl" if run_id else self.folder / "operations.jsonl"

    def emit(self, kind: str, run_id: str = "", **payload: Any) -> Event:
        """Append an event and apply it."""
        event = make_event(kind, run_id, **payload)
        with transaction(self.db):
            apply(self.db, event)
            append_event(self.events_path(run_id), event)
        return event

    def create_run(self, kind: str, workdir: str | os.PathLike, **fields: Any) -> str:
        """Record a new run; returns its id.

        Parameters
        ----------
        kind : {"run", "mosaic", "batch", "watch", "snakemake"}
        workdir : path
        **fields
            Columns of ``runs``: priority, requested_by, profile, configfiles, arguments, targets,
            group_ids, options, idempotency_key, and `state` (default QUEUED).

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

    def transition(self, run_id: str, new: State, **fields: Any) -> bool:
        """Move a run to another state, if the table allows it from the one that it is in now.

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
        allowed = may_precede(new)
        marks = ", ".join("?" for _ in allowed)
        try:
            with transaction(self.db):
                if self.db.execute(
                    f"SELECT 1 FROM runs WHERE run_id = ? AND state IN ({marks})",
                    (run_id, *allowed),
                ).fetchone():
                    apply(self.db, event)
                    append_event(self.events_path(run_id), event)
                    return True
        except sqlite3.IntegrityError:
            raise Busy("another run is live in the working directory") from None
        return False

    def select(self, query: str, parameters: Iterable[Any] = ()) -> list[Row]:
        """Rows of a query, JSON columns decoded."""
        return [_plain(row) for row in self.db.execute(query, tuple(parameters))]

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
