"""The way of one Snakemake process's events into the record, and the run that nobody launched."""

import os
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dsaflow.errors import EnvironmentProblem
from dsaflow.runs.events import append_event, make_event
from dsaflow.runs.processes import Identity, members, user_name
from dsaflow.runs.record import Busy, Record
from dsaflow.runs.states import State


class Recording:
    """Where the events of this process's run go.

    Parameters
    ----------
    record : Record
    run_id : str
    warn : callable
        Tells the user; only the first text is shown.

    Notes
    -----
    Without SQLite (damaged, locked for long) events still go to their file, for a rebuild. While
    another run is live in the directory the record takes no second one: then all that happens is
    kept and written when this run has ended.
    """

    def __init__(self, record: Record, run_id: str, warn: Callable[[str], None]) -> None:
        self.record, self.run_id, self.warn = record, run_id, warn
        self._own: dict[str, Any] = {}
        self._sqlite_lost = False
        self._kept: list[tuple[str, dict[str, Any]]] | None = None

    @property
    def has_sqlite(self) -> bool:
        """Whether SQLite knows the run and all its events so far."""
        return not self._sqlite_lost and self._kept is None

    def emit(self, kind: str, **payload: Any) -> None:
        """Write an event of the run, as far as that is possible."""
        if self._kept is not None:
            self._kept.append((kind, payload))
            return
        if not self._sqlite_lost:
            try:
                self.record.emit(kind, self.run_id, **payload)
                return
            except (sqlite3.Error, EnvironmentProblem) as error:
                self._lose_sqlite(error)
        self._append(kind, payload)

    def create(self, **fields: Any) -> None:
        """Record the run that this process is, where no launcher did."""
        identity = Identity.of(os.getpid())
        self._own = {
            "run_id": self.run_id, "requested_by": user_name(), "attempt": 1,
            "profile": profile_of(sys.argv), "arguments": sys.argv[1:],
            **(identity.fields("snakemake") if identity else {}), **fields,
        }  # fmt: skip
        try:
            if not (self._created_live() or (self._settle_dead() and self._created_live())):
                self._kept = []
                self.warn("another run is live in this directory; this one is recorded at its end")
        except (sqlite3.Error, EnvironmentProblem) as error:
            self._lose_sqlite(error)
            self._append("run.created", self._created(State.RUNNING))

    def settle(self, state: State, **fields: Any) -> None:
        """End the run that `create` recorded.

        Parameters
        ----------
        state : {COMPLETE, EXECUTOR_ERROR, CANCELED}
        **fields
            Columns of ``runs``: exit_code, error_message, error_class.
        """
        if self._kept is not None:
            events, self._kept = self._kept, None
            self._create(state)
            for kind, payload in events:
                self.emit(kind, **payload)
            self.emit("run.state", state=state, **fields)
        elif self._sqlite_lost:
            self._append("run.state", {"state": state, **fields})
        else:
            if state is State.CANCELED:
                self.record.transition(self.run_id, State.CANCELING)
            self.record.transition(self.run_id, state, **fields)

    def _create(self, state: State) -> None:
        self.record.create_run("snakemake", os.getcwd(), state=state, **self._own)

    def _created_live(self) -> bool:
        try:
            self._create(State.RUNNING)
        except Busy:
            return False
        return True

    def _created(self, state: State) -> dict[str, Any]:
        folder = self.record.folder / self.run_id
        paths = {"folder": str(folder), "log_path": str(folder / "run.log"), "workdir": os.getcwd()}
        return {"run_kind": "snakemake", "state": state, **paths, **self._own}

    def _append(self, kind: str, payload: dict[str, Any]) -> None:
        payload = {key: value for key, value in payload.items() if key != "run_id"}
        append_event(self.record.events_path(self.run_id), make_event(kind, self.run_id, **payload))

    def _lose_sqlite(self, error: Exception) -> None:
        self._sqlite_lost = True
        self.warn(
            f"the run record's SQLite file does not work ({error}); events go on in "
            f"{self.record.events_path(self.run_id)}: run `dsaflow db rebuild` when it is mended"
        )

    def _settle_dead(self) -> bool:
        """Settle the live run in this directory if it is provably dead; whether it is out of the way."""
        row = self.record.live_run(os.getcwd())
        if row is None:
            return True
        identities = [Identity.from_row(row, role) for role in ("supervisor", "snakemake")]
        known = [identity for identity in identities if identity is not None]
        if not known or not all(i.here and not i.alive for i in known):
            return False
        if row["slurm_run_id"] or any(members(row["run_id"], i) for i in known):
            return False  # `dsaflow recover` ends what is left of it
        message = f"its process {known[0].pid} vanished; settled by run {self.run_id}"
        return self.record.transition(row["run_id"], State.SYSTEM_ERROR, error_message=message)


def profile_of(arguments: list[str]) -> str:
    """Profile that a Snakemake command line names, or an empty string."""
    for number, word in enumerate(arguments):
        if word.startswith("--profile="):
            return word.partition("=")[2]
        if word == "--profile" and number + 1 < len(arguments):
            return arguments[number + 1]
    return os.environ.get("SNAKEMAKE_PROFILE", "")


class RunLog:
    """The log of a run that no launcher keeps: what Snakemake shows.

    Parameters
    ----------
    limit : int
        Lines kept while it is not yet known whether there will be a run.
    """

    def __init__(self, limit: int = 1000) -> None:
        self._waiting: list[str] | None = []
        self._limit = limit
        self._path: Path | None = None

    def open(self, path: Path) -> None:
        """Write what waits, and from now on everything."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        waiting, self._waiting = self._waiting or [], None
        self.write("\n".join(waiting))

    def drop(self) -> None:
        """Keep nothing: somebody else does, or nothing is recorded."""
        self._waiting = None

    def write(self, line: str) -> None:
        """Add a line (or several)."""
        if not line:
            return
        if self._waiting is not None:
            self._waiting = [*self._waiting, line][-self._limit :]
        elif self._path is not None:
            with open(self._path, "a") as stream:
                stream.write(line + "\n")
