"""Supervisors: one detached process a run, which outlives whoever started it."""

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsaflow.errors import DsaflowError
from dsaflow.fileio import write_json
from dsaflow.runs.locks import WorkdirLock
from dsaflow.runs.processes import ATTEMPT, RUN_ID, Identity
from dsaflow.runs.record import Record

if TYPE_CHECKING:
    from dsaflow.config import Config

# For the log handler: it writes to the record that the run is in, whatever its configuration says.
RECORD_FOLDER = "DSAFLOW_RECORD_FOLDER"
RECORD_DATABASE = "DSAFLOW_RECORD_DATABASE"
PRIVATE = (RUN_ID, ATTEMPT, RECORD_FOLDER, RECORD_DATABASE)


class OtherHost(DsaflowError):
    """The run lives on another machine, which alone can say whether its processes are dead."""


def config_file(row: dict[str, Any]) -> Path:
    """Configuration of the run as it was when it was submitted."""
    return Path(row["folder"]) / "config.json"


def refuse_other_host(row: dict[str, Any]) -> None:
    """Raise `OtherHost` for a run that was started on another machine."""
    me = Identity.of(os.getpid())
    if me is not None and row["host"] and row["host"] != me.host:
        raise OtherHost(
            f"run {row['run_id']} was started on {row['host']}, this is {me.host}: use dsaflow there; "
            f"if that host is gone or was renamed, `dsaflow recover --gone-host {row['host']}`"
        )


def supervised(row: dict[str, Any]) -> bool:
    """Whether a live run has its supervisor, or is about to get it from a living dispatcher."""
    supervisor = Identity.from_row(row, "supervisor")
    if supervisor is not None and supervisor.alive:
        return True
    holder = WorkdirLock(row["workdir"]).holder()
    return holder is not None and holder.get("run_id") == row["run_id"]


def spawn(
    record: Record, config: "Config", row: dict[str, Any], resume: bool = True
) -> Identity | None:
    """Start the supervisor of a run, in a session of its own; returns who it is (None: dead already).

    Parameters
    ----------
    record : Record
    config : Config
        Used where the run has no configuration of its own.
    row : dict
        The run.
    resume : bool
        False: the supervisor only ends what is left of the run.
    """
    folder = Path(row["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    if not config_file(row).exists():
        write_json(config_file(row), config.model_dump(mode="json"))
    command = [sys.executable, "-m", "dsaflow.runs.supervisor", row["run_id"]]
    command += ["--folder", str(record.folder), "--database", str(record.database)]
    environment = {key: value for key, value in os.environ.items() if key not in PRIVATE}
    with open(folder / "supervisor.log", "ab") as log:
        process = subprocess.Popen(
            command if resume else [*command, "--no-resume"],
            cwd=row["workdir"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    supervisor = Identity.of(process.pid)
    # a service lives for months: no zombie may be left of each run
    threading.Thread(target=process.wait, daemon=True).start()
    return supervisor
