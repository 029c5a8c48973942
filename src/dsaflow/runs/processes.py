"""Processes of this machine: who they are, which belong to a run, and ending them until none is left.

Linux only: a process is known by its pid together with its start in clock ticks since boot, the boot
id and the host, because pids are reused.
"""

import getpass
import os
import signal
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

# In the environment of Snakemake and of all that it starts.
RUN_ID = "DSAFLOW_RUN_ID"
ATTEMPT = "DSAFLOW_RUN_ATTEMPT"
POLL_S = 0.1
# Uninterruptible sleep (a hanging disk) is the only thing that outlives SIGKILL for longer.
KILL_S = 10.0

Find = Callable[[], list[psutil.Process]]


def boot_id() -> str:
    """Random id of this boot of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _stat(pid: int) -> tuple[str, str] | None:
    """State letter and start [clock ticks since boot] of a process, zombies too."""
    try:
        # the name in parentheses may hold anything, also spaces and parentheses
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return fields[0], fields[19]


def start_ticks(pid: int) -> str | None:
    """Start of a process [clock ticks since boot], or None if it is not there or already dead.

    A zombie is dead: it neither runs nor writes, and only waits for its parent.
    """
    stat = _stat(pid)
    return None if stat is None or stat[0] in "ZX" else stat[1]


@dataclass(frozen=True)
class Identity:
    """One process, for ever.

    Attributes
    ----------
    pid : int
    start : str
        Start [clock ticks since boot].
    boot_id, host : str
    """

    pid: int
    start: str
    boot_id: str
    host: str

    @classmethod
    def of(cls, pid: int) -> "Identity | None":
        """Identity of a living process of this machine."""
        start = start_ticks(pid)
        return None if start is None else cls(pid, start, boot_id(), socket.gethostname())

    @classmethod
    def from_row(cls, row: dict, role: str) -> "Identity | None":
        """Read a run's ``supervisor`` or ``snakemake`` from its row; None where none was recorded."""
        pid, start = row[f"{role}_pid"], row[f"{role}_start"]
        if not pid or not start:
            return None
        return cls(pid, start, row["boot_id"] or "", row["host"] or "")

    def fields(self, role: str) -> dict:
        """Columns of ``runs`` that hold this identity."""
        return {
            f"{role}_pid": self.pid,
            f"{role}_start": self.start,
            "boot_id": self.boot_id,
            "host": self.host,
        }

    @property
    def here(self) -> bool:
        """Whether it is, or was, a process of this machine."""
        return self.host == socket.gethostname()

    @property
    def alive(self) -> bool:
        """Whether it runs; only meaningful for a process of this machine."""
        return self.here and self.boot_id == boot_id() and start_ticks(self.pid) == self.start

    @property
    def may_have_session(self) -> bool:
        """Whether processes of the session that it led can be left.

        While one is, the kernel gives the leader's pid to nobody else.
        """
        stat = _stat(self.pid)
        same_boot = self.here and self.boot_id == boot_id()
        return same_boot and (stat is None or stat[1] == self.start)


def living(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Those that still run; zombies do not."""
    found = []
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            if process.is_running() and process.status() not in ("zombie", "dead"):
                found.append(process)
    return found


def _environment(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except (psutil.Error, OSError):  # another user's, or gone
        return {}


def _in_session(process: psutil.Process, leader: int) -> bool:
    try:
        return leader in (os.getsid(process.pid), os.getpgid(process.pid))
    except OSError:
        return False


def members(run_id: str, leader: Identity | None = None) -> list[psutil.Process]:
    """Living processes of a run on this machine, also those that lost their parents.

    Parameters
    ----------
    run_id : str
    leader : Identity, optional
        Of the process that leads, or led, the run's session.

    Returns
    -------
    list of psutil.Process
        All in whose environment `run_id` is the run, all of the leader's session and process group,
        and all that descend from these; never the caller and its parents.

    Notes
    -----
    Jobs inside a SLURM allocation that is not the caller's are SLURM's to end. Not found is only a
    job that clears its environment and also starts a session of its own.
    """
    everyone = living(psutil.process_iter())
    allocation = os.environ.get("SLURM_JOB_ID")
    session = leader.pid if leader is not None and leader.may_have_session else None
    found = set()
    for process in everyone:
        environment = _environment(process)
        marked = environment.get(RUN_ID) == run_id
        ours = environment.get("SLURM_JOB_ID", allocation) == allocation
        if (marked and ours) or (session is not None and _in_session(process, session)):
            found.add(process)
    return sorted(_with_descendants(found, everyone) - _mine(), key=lambda p: p.pid)


def _with_descendants(
    found: set[psutil.Process], everyone: list[psutil.Process]
) -> set[psutil.Process]:
    parents = {}
    for process in everyone:
        with suppress(psutil.Error):
            parents[process] = process.ppid()
    pids = {process.pid for process in found}
    while True:
        more = {p for p, parent in parents.items() if parent in pids and p.pid not in pids}
        if not more:
            return {process for process in everyone if process.pid in pids}
        pids |= {process.pid for process in more}


def _mine() -> set[psutil.Process]:
    me = psutil.Process()
    return {me, *me.parents()}


def end(find: Find, number: signal.Signals, wait_s: float, only: Find | None = None) -> bool:
    """Send a signal and wait until nothing is left.

    Parameters
    ----------
    find : callable
        Finds the processes that must end.
    number : signal
    wait_s : float
        Longest wait [s].
    only : callable, optional
        Finds those that get the signal; default: all. What appears during the wait gets it too.

    Returns
    -------
    bool
        Whether none is left.
    """
    deadline = time.monotonic() + wait_s
    told: set[psutil.Process] = set()
    while True:
        left = find()
        if not left:
            return True
        if time.monotonic() > deadline:
            return False
        for process in set(left if only is None else only()) - told:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)  # psutil refuses where the pid was reused
            told.add(process)
        time.sleep(POLL_S)


def end_all(find: Find, terminate_s: float) -> list[psutil.Process]:
    """End processes: SIGTERM, after `terminate_s` SIGKILL; returns what survived even that."""
    if end(find, signal.SIGTERM, terminate_s) or end(find, signal.SIGKILL, KILL_S):
        return []
    return find()


def foreign_snakemake(workdir: str | os.PathLike, run_id: str) -> list[int]:
    """Pids of Snakemake processes that work in a directory of this machine and are not of the run."""
    found = []
    for process in living(psutil.process_iter()):
        with suppress(psutil.Error, OSError):
            named = any(Path(word).name == "snakemake" for word in process.cmdline()[:4])
            there = named and Path(process.cwd()) == Path(workdir).resolve()
            if there and _environment(process).get(RUN_ID) != run_id:
                found.append(process.pid)
    return found


def user_name() -> str:
    """Name of the user, or the number where a container has no name for it."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def describe(processes: Iterable[psutil.Process]) -> str:
    """Pids and commands, for a message."""
    words = []
    for process in processes:
        with suppress(psutil.Error):
            words.append(f"{process.pid} ({' '.join(process.cmdline())[:60]})")
    return ", ".join(words)
