"""After a crash of anything: which live runs have lost their processes, and taking them up again.

A run is only taken from processes that are provably dead: its supervisor's pid, start, boot id and
host, and the lock of the working directory, which the kernel frees with its holder. What is left of the
run (Snakemake, its jobs, SLURM jobs) is for the new supervisor to adopt or to end: a living Snakemake is
adopted, anything without one is ended, the directory unlocked, and the run resumed.
"""

import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from dsaflow.runs import command, processes
from dsaflow.runs.locks import WorkdirLock
from dsaflow.runs.processes import Identity, boot_id
from dsaflow.runs.record import Record, Row
from dsaflow.runs.spawn import spawn, supervised
from dsaflow.runs.states import LIVE, State

if TYPE_CHECKING:
    from dsaflow.config import Config

# Time for a new supervisor to start and take the lock [s].
START_S = 30.0


class Condition(StrEnum):
    """What became of the processes of a live run."""

    SUPERVISED = "supervised"
    OTHER_HOST = "on another host"  # only that host can tell
    REBOOTED = "ended by a reboot"
    GONE = "of a host that is gone"
    UNSUPERVISED = "supervisor dead, Snakemake alive"
    DEAD = "dead"


@dataclass(frozen=True)
class Finding:
    """A live run and the condition of its processes."""

    run_id: str
    state: State
    condition: Condition
    detail: str

    @property
    def needs_recovery(self) -> bool:
        """Whether nobody looks after it, and this machine may."""
        return self.condition not in (Condition.SUPERVISED, Condition.OTHER_HOST)


def examine(
    record: Record, workdir: str | os.PathLike | None = None, gone_host: str = ""
) -> list[Finding]:
    """Condition of every live run, of one working directory or of all.

    Parameters
    ----------
    record : Record
    workdir : path, optional
    gone_host : str
        Name of a host that is known to be gone, or to have another name now: its runs are dead.
    """
    marks = ", ".join("?" for _ in LIVE)
    rows = record.select(
        f"SELECT * FROM runs WHERE state IN ({marks}) ORDER BY created_s", sorted(LIVE)
    )
    place = None if workdir is None else str(Path(workdir).resolve())
    return [_examine(row, gone_host) for row in rows if place in (None, row["workdir"])]


def _examine(row: Row, gone_host: str) -> Finding:
    """Judge one live run."""

    def finding(condition: Condition, detail: str = "") -> Finding:
        return Finding(row["run_id"], State(row["state"]), condition, detail)

    snakemake = Identity.from_row(row, "snakemake")
    me = Identity.of(os.getpid())
    if me is not None and row["host"] and row["host"] != me.host:
        gone = row["host"] == gone_host
        return finding(
            Condition.GONE if gone else Condition.OTHER_HOST, f"started on {row['host']}"
        )
    if row["boot_id"] and row["boot_id"] != boot_id():
        return finding(Condition.REBOOTED)
    alive = snakemake is not None and snakemake.alive
    typed = row["kind"] == "snakemake" and row["state"] != State.CANCELING
    if (typed and alive) or supervised(row):
        return finding(Condition.SUPERVISED)
    if alive and snakemake is not None:
        return finding(Condition.UNSUPERVISED, f"Snakemake {snakemake.pid}")
    return finding(Condition.DEAD)


def settle(record: Record, config: "Config", workdir: str | os.PathLike = ".") -> list[str]:
    """Give every live run whose supervisor is provably dead a new one; quick, safe to repeat.

    The new supervisor finds out what is left: it adopts a living Snakemake, reads the exit code of one
    that ended meanwhile, or ends what is left, unlocks and resumes. A run that a person typed and that
    vanished becomes SYSTEM_ERROR. A run of another host is left alone.

    Returns
    -------
    list of str
        Ids of the runs that got a new supervisor.
    """
    return _take_up(record, config, workdir, resume=True)


def _take_up(
    record: Record,
    config: "Config",
    workdir: str | os.PathLike,
    resume: bool,
    gone_host: str = "",
) -> list[str]:
    found = examine(record, workdir, gone_host)
    lost = [one.run_id for one in found if one.needs_recovery]
    for run_id in lost:
        row = record.run(run_id)
        if row is not None:
            spawn(record, config, row, resume)
    return lost


def recover(
    record: Record,
    config: "Config",
    workdir: str | os.PathLike = ".",
    resume: bool = True,
    profile: str = "",
    configfiles: Sequence[str] = (),
    gone_host: str = "",
) -> list[str]:
    """Settle, wait until each run has its supervisor, and unlock a directory that no run claims.

    Parameters
    ----------
    record : Record
    config : Config
    workdir : path
    resume : bool
        False: what is left is ended and the runs become SYSTEM_ERROR (`dsaflow retry` resumes them).
    profile, configfiles : str, sequence of str
        For ``snakemake --unlock``, where a run without a record left its lock.
    gone_host : str
        See `examine`.

    Returns
    -------
    list of str
        Ids of the runs that were taken up.
    """
    taken = _take_up(record, config, workdir, resume, gone_host)
    for run_id in taken:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            row = record.run(run_id)
            if row is None or row["state"] not in LIVE or supervised(row):
                break
            time.sleep(0.2)
    if record.live_run(workdir) is None:
        unlock_unclaimed(workdir, profile, configfiles)
    return taken


def unlock_unclaimed(
    workdir: str | os.PathLike, profile: str = "", configfiles: Sequence[str] = ()
) -> bool:
    """Remove the locks of a Snakemake that left no record and is dead.

    Returns
    -------
    bool
        Whether there was a lock and it is gone.
    """
    place = Path(workdir).resolve()
    locks = place / ".snakemake" / "locks"
    if not (locks.is_dir() and any(locks.iterdir())):
        return False
    lock = WorkdirLock(place)
    if not lock.acquire({"run_id": "", "pid": os.getpid()}):
        return False
    try:
        if processes.foreign_snakemake(place, ""):
            return False
        row = {"targets": [], "profile": profile, "configfiles": list(configfiles)}
        done = subprocess.run(
            command.unlock(row),
            cwd=place,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
    finally:
        lock.release()
    return done.returncode == 0
