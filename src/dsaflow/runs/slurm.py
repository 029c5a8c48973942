"""SLURM jobs of a run: Snakemake's executor names each after the start of Snakemake that submitted it."""

import re
import shutil
import subprocess
import time
from collections.abc import Iterable
from mmap import ACCESS_READ, mmap
from pathlib import Path

from dsaflow.errors import EnvironmentProblem
from dsaflow.runs.events import read_events

_RUN_ID = re.compile(rb"^SLURM run ID: ([A-Za-z0-9_-]{8,100})\s*$", re.MULTILINE)
COMMAND_S = 60.0
# SLURM itself sends SIGKILL KillWait (30 s by default) after the SIGTERM of scancel.
END_S = 120.0
POLL_S = 1.0


def run_ids(folder: Path) -> list[str]:
    """SLURM run ids of all starts of Snakemake in a run's folder, from its log and its events."""
    found: dict[str, None] = {}
    log, events = folder / "run.log", folder / "events.jsonl"
    if log.exists() and log.stat().st_size:
        # mapped: a log of many gigabytes is not read into memory
        with open(log, "rb") as stream, mmap(stream.fileno(), 0, access=ACCESS_READ) as content:
            found |= dict.fromkeys(match.decode() for match in _RUN_ID.findall(content))
    if events.exists():
        found |= dict.fromkeys(
            event["slurm_run_id"] for event in read_events(events) if event.get("slurm_run_id")
        )
    return list(found)


def _query(*command: str) -> str:
    """Ask SLURM; its controller may be restarting, so twice more before it is an error."""
    for last in (False, False, True):
        try:
            return subprocess.run(
                command, capture_output=True, text=True, check=True, timeout=COMMAND_S
            ).stdout
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            if last:
                told = (error.stderr or "").strip() if isinstance(error.stderr, str) else ""
                raise EnvironmentProblem(
                    f"{' '.join(command)} failed ({told or error}): it is not known whether SLURM "
                    "jobs of the run still write; repair SLURM, then `dsaflow recover`"
                ) from None
            time.sleep(POLL_S)
    raise AssertionError("unreachable")


def job_ids(identifiers: Iterable[str]) -> list[str]:
    """Jobs with these names that have not ended (those that are completing may still write)."""
    names = ",".join(identifiers)
    return _query("squeue", "--noheader", f"--name={names}", "--format=%A").split()


def end_jobs(identifiers: Iterable[str], wait_s: float = END_S) -> list[str]:
    """Cancel every SLURM job of these run ids and wait until SLURM says that it ended.

    Parameters
    ----------
    identifiers : iterable of str
        SLURM run ids, which are the jobs' names.
    wait_s : float
        Longest wait [s].

    Returns
    -------
    list of str
        Ids of the jobs that were cancelled.

    Raises
    ------
    EnvironmentProblem
        SLURM cannot be asked, or jobs are still there after the wait: nothing may be started beside
        them.
    """
    names = list(identifiers)
    if not names:
        return []
    if not (shutil.which("squeue") and shutil.which("scancel")):
        raise EnvironmentProblem(
            "the run submitted SLURM jobs, but squeue and scancel are not on PATH: put them there, "
            "then `dsaflow recover`"
        )
    ended = left = job_ids(names)
    deadline = time.monotonic() + wait_s
    while left:
        for name in names:
            _query("scancel", f"--name={name}")
        time.sleep(POLL_S)
        left = job_ids(names)
        if left and time.monotonic() > deadline:
            raise EnvironmentProblem(
                f"SLURM jobs {', '.join(left)} are still there {wait_s:.0f} s after scancel: see "
                "`scontrol show job`, then `dsaflow recover`"
            )
    return ended
