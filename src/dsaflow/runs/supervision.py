"""Looking after one run: start Snakemake, wait, try again, cancel, settle.

What is done follows from the run's state in the record alone, so that another supervisor can take over
where one died. A Snakemake that outlived its supervisor is adopted: hours of work go on, and the exit
code comes from its file.
"""

import logging
import os
import random
import sqlite3
import subprocess
import time
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from signal import Signals
from typing import TYPE_CHECKING, Any

import psutil
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from dsaflow.errors import DsaflowError, EnvironmentProblem
from dsaflow.runs import command, processes, slurm
from dsaflow.runs.attempt import Attempt
from dsaflow.runs.classify import Failure, classify, read_tail
from dsaflow.runs.events import read_events
from dsaflow.runs.processes import Identity
from dsaflow.runs.record import Record, Row
from dsaflow.runs.spawn import RECORD_DATABASE, RECORD_FOLDER
from dsaflow.runs.states import ErrorClass, State

if TYPE_CHECKING:
    from dsaflow.config import Config

LOG = logging.getLogger("dsaflow.supervisor")
POLL_S = 0.3
UNLOCK_S = 300.0
# The record's disk may be full for a while: what is true must still get into it.
PERSIST = Retrying(
    retry=retry_if_exception_type((OSError, sqlite3.OperationalError)),
    wait=wait_random_exponential(multiplier=1, max=60),
    stop=stop_after_delay(24 * 3600),
    reraise=True,
)


class Exit(Enum):
    """What stands for an exit code while there is none."""

    STILL_RUNNING = "still running"


def backoff_s(options: Any, failures: int) -> float:
    """Wait before the next try [s].

    Parameters
    ----------
    options : dsaflow.config.service_sections.Runs
    failures : int
        Failed tries so far, at least 1.

    Notes
    -----
    tenacity's waits live in the process that sleeps; this one is a time in the record, which the next
    supervisor keeps when this one dies, and its jitter is relative and stays below the cap.
    """
    longest = min(options.backoff_cap_s, options.backoff_base_s * 2.0 ** min(failures - 1, 60))
    return longest * (1.0 - options.backoff_jitter * random.random())


class Supervisor:
    """Looks after one run; the caller holds the lock of its working directory.

    Parameters
    ----------
    record : Record
    config : Config
        Of the run.
    run_id : str
    resume : bool
        False: only end what is left of it.
    reason : str
        Why it is not resumed.
    """

    def __init__(
        self,
        record: Record,
        config: "Config",
        run_id: str,
        resume: bool = True,
        reason: str = "",
    ) -> None:
        self.record, self.config, self.run_id = record, config, run_id
        self.resume, self.reason = resume, reason or "ended by `dsaflow recover --no-resume`"
        row = self.row
        self.workdir, self.folder = Path(row["workdir"]), Path(row["folder"])
        self.typed = row["kind"] == "snakemake"
        # before this supervisor's own boot id stands there
        self.leader = Identity.from_row(row, "snakemake")
        self.child: subprocess.Popen[bytes] | None = None

    @property
    def row(self) -> Row:
        """The run as it is now."""
        row = PERSIST(self.record.run, self.run_id)
        assert row is not None
        return row

    @property
    def state(self) -> State:
        """State of the run now."""
        return State(self.row["state"])

    @property
    def attempt(self) -> Attempt:
        """The newest start of Snakemake."""
        return Attempt(self.folder, self.row["attempt"])

    def run(self) -> None:
        """Do what the run's state asks for until it has ended."""
        if not self.typed:
            me = Identity.of(os.getpid())
            assert me is not None
            kept = self.leader is not None and self.leader.may_have_session
            fields = {} if kept else {"snakemake_pid": None, "snakemake_start": None}
            PERSIST(
                self.record.emit, "run.updated", self.run_id, **me.fields("supervisor"), **fields
            )
        steps: dict[State, Callable[[], None]] = {
            State.INITIALIZING: self._start,
            State.RUNNING: self._watch,
            State.PAUSED: self._pause,
            State.CANCELING: self._cancel,
        }
        while (step := steps.get(self.state)) is not None:
            if not self.resume and self.state is not State.CANCELING:
                step = self._abandon
            try:
                step()
            except EnvironmentProblem as error:
                self._stuck(str(error))

    def move(self, new: State, **fields: Any) -> bool:
        """Change the run's state in the record; False if somebody else changed it first."""
        return PERSIST(self.record.transition, self.run_id, new, **fields)

    # one step for each live state

    def _start(self) -> None:
        row = self.row
        self._end_left()
        try:
            line = command.snakemake(row)
        except DsaflowError as error:
            self._failed(Failure(ErrorClass.PERMANENT, str(error)), None)
            return
        self._unlock(row, wait=True)
        number = row["attempt"] + 1
        PERSIST(self.record.emit, "run.updated", self.run_id, attempt=number)
        environment = {
            processes.RUN_ID: self.run_id,
            processes.ATTEMPT: str(number),
            RECORD_FOLDER: str(self.record.folder),
            RECORD_DATABASE: str(self.record.database),
        }
        try:
            self.child = Attempt(self.folder, number).start(line, self.workdir, environment)
        except OSError as error:  # a full disk, no more processes
            message = f"Snakemake could not be started: {error}"
            self._failed(Failure(ErrorClass.TRANSIENT, message), None)
            return
        self.leader = Identity.of(self.child.pid)
        fields = {} if self.leader is None else self.leader.fields("snakemake")
        if not self.move(State.RUNNING, **fields):  # cancelled meanwhile
            PERSIST(self.record.emit, "run.updated", self.run_id, **fields)

    def _watch(self) -> None:
        while (code := self._exit()) is Exit.STILL_RUNNING:
            if self.state is not State.RUNNING:
                return
            time.sleep(POLL_S)
        if code == 0:
            self._finish(State.COMPLETE, exit_code=0)
            return
        adopted = self.child is None
        self._end_left()
        if self.typed:
            self._unlock(self.row)
            pid = "?" if self.leader is None else self.leader.pid
            self._finish(
                State.SYSTEM_ERROR, error_class=ErrorClass.TRANSIENT,
                error_message=f"Snakemake (pid {pid}), started by hand, vanished without an end",
            )  # fmt: skip
        elif code is None and adopted:
            self._interrupted()
        else:
            failure = classify(code, self.attempt.output(), self._failed_jobs())
            self._failed(failure, code)

    def _pause(self) -> None:
        while self.state is State.PAUSED:
            if time.time() >= (self.row["next_retry_s"] or 0):
                self.move(
                    State.INITIALIZING, only_from=State.PAUSED,
                    snakemake_pid=None, snakemake_start=None,
                )  # fmt: skip
                return
            time.sleep(POLL_S)

    def _cancel(self) -> None:
        if self._exit() is Exit.STILL_RUNNING:
            LOG.info("cancel: SIGINT to Snakemake")
            processes.end(self._snakemakes, Signals.SIGINT, self.config.runs.interrupt_s)
        if self._members():
            LOG.info("cancel: SIGTERM to all, then SIGKILL")
        self._end_left()
        code = self._exit()
        if code == 0:
            self._finish(State.COMPLETE, exit_code=0)
            return
        self._unlock(self.row)
        self._finish(State.CANCELED, exit_code=code)

    def _abandon(self) -> None:
        code = self._exit()
        self._end_left()
        if code == 0:
            self._finish(State.COMPLETE, exit_code=0)
            return
        self._unlock(self.row)
        code = self.attempt.exit_code()
        self._finish(
            State.SYSTEM_ERROR, exit_code=code, error_class=ErrorClass.TRANSIENT,
            error_message=self.reason,
        )  # fmt: skip

    # what the steps are made of

    def _exit(self) -> int | Exit | None:
        """Exit code of the newest attempt; None if it vanished without one."""
        if self.child is not None:
            code = self.child.poll()
            if code is None:
                return Exit.STILL_RUNNING
            if code >= 0:
                return code
        elif self.leader is not None and self.leader.alive:
            return Exit.STILL_RUNNING
        return None if self.typed else self.attempt.exit_code()

    def _members(self) -> list[psutil.Process]:
        return processes.members(self.run_id, self.leader)

    def _snakemakes(self) -> list[psutil.Process]:
        """Snakemake itself: the leader's child, or the process that a person started."""
        if self.leader is None or not self.leader.alive:
            return []
        try:
            leader = psutil.Process(self.leader.pid)
            return processes.living([leader] if self.typed else leader.children())
        except psutil.NoSuchProcess:
            return []

    def _end_left(self) -> None:
        """End every process and SLURM job of the run; raises `EnvironmentProblem` if one survives."""
        left = self._members()
        if left:
            LOG.warning("ending what is left of the run: %s", processes.describe(left))
            survivors = processes.end_all(self._members, self.config.runs.terminate_s)
            if survivors:
                raise EnvironmentProblem(
                    f"processes survive SIGKILL: {processes.describe(survivors)} (a disk that hangs?)"
                )
        # after the processes: one of them may have been submitting a job
        for job in slurm.end_jobs(slurm.run_ids(self.folder)):
            LOG.warning("SLURM job %s is cancelled", job)

    def _stuck(self, problem: str) -> None:
        """Stay live: the directory is given to nobody while something of the run may write into it."""
        LOG.error("%s", problem)
        if self.row["error_message"] != problem:
            PERSIST(
                self.record.emit, "run.updated", self.run_id,
                error_message=problem, error_class=ErrorClass.TRANSIENT,
            )  # fmt: skip
        time.sleep(min(self.config.runs.backoff_base_s, 60.0))

    def _unlock(self, row: Row, wait: bool = False) -> None:
        """Remove Snakemake's locks: whoever held them is dead, since this process has the flock."""
        locks = self.workdir / ".snakemake" / "locks"
        if not (locks.is_dir() and any(locks.iterdir())):
            return
        others = processes.foreign_snakemake(self.workdir, self.run_id)
        if others and not wait:
            return
        if others:
            raise EnvironmentProblem(
                f"Snakemake runs in {self.workdir} without a record (pid "
                f"{', '.join(map(str, others))}): the run waits until it has ended"
            )
        attempt = self.attempt
        attempt.say("unlocking: the run that held the lock is dead")
        with open(attempt.log, "ab") as log:
            done = subprocess.run(
                command.unlock(row), cwd=self.workdir, stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, timeout=UNLOCK_S, check=False,
            )  # fmt: skip
        if done.returncode != 0:  # the next start of Snakemake will say why
            LOG.error("snakemake --unlock ended with %d, see run.log", done.returncode)

    def _failed_jobs(self) -> list[tuple[str, str]]:
        """Rule, item and error of each job whose last execution in this attempt failed."""
        last: dict[str, Row] = {}
        for job in self.record.jobs_of(self.run_id):
            if job["attempt"] == self.row["attempt"]:
                last[f"{job['rule']} {job['item']}".strip()] = job
        return [
            (name, f"{_log_of(self.workdir, job)}\n{job['error_message'] or ''}")
            for name, job in last.items()
            if job["state"] == State.EXECUTOR_ERROR
        ]

    def _failures(self) -> int:
        """Tries that failed since the run was queued; what an interruption ended is none."""
        count = 0
        for event in read_events(self.record.events_path(self.run_id)):
            if event["kind"] == "run.state":
                if event["state"] == State.QUEUED:
                    count = 0
                elif event["state"] == State.PAUSED and not event.get("interrupted"):
                    count += 1
        return count

    def _failed(self, failure: Failure, code: int | None) -> None:
        failures = self._failures() + 1
        fields = {
            "exit_code": code,
            "error_class": failure.error_class,
            "error_message": failure.message,
        }
        LOG.error("try %d failed (%s): %s", failures, failure.error_class, failure.message)
        if failure.error_class is ErrorClass.PERMANENT:
            marker = command.FailedForGood(
                self.record.folder, self.row, self.config.model_dump(mode="json")
            )
            if self._finish(State.EXECUTOR_ERROR, **fields):
                PERSIST(marker.write, failure.message)
        elif failures < self.config.runs.tries:
            wait_s = backoff_s(self.config.runs, failures)
            self.attempt.say(f"failed ({failure.message}); next try in {wait_s:.0f} s")
            self.move(State.PAUSED, next_retry_s=time.time() + wait_s, **fields)
        else:
            self._finish(State.SYSTEM_ERROR, **fields)

    def _interrupted(self) -> None:
        """Go on at once after the machine, or all of the run's processes, went down."""
        message = (
            "interrupted: Snakemake and its supervisor died, or the machine went down; resumed"
        )
        self.attempt.say(message)
        self.move(
            State.PAUSED, interrupted=True, next_retry_s=time.time(), error_message=message,
            error_class=ErrorClass.TRANSIENT,
        )  # fmt: skip

    def _finish(self, state: State, **fields: Any) -> bool:
        """End the run; its mosaics and products are in the record before anybody sees that."""
        try:
            from dsaflow.runs.scan import sync

            sync(self.record, self.config, self.run_id, self.row["group_ids"] or None)
        except Exception:
            LOG.exception("the record could not be brought up to date with the products")
        self.attempt.say(f"{state}: {fields.get('error_message', '')}".rstrip(": "))
        LOG.info("%s %s", state, fields)
        return self.move(state, **fields)


def _log_of(workdir: Path, job: Row) -> str:
    """Tail of a job's own log, if this execution wrote it."""
    path = workdir / (job["log_path"] or "")
    try:
        written = path.is_file() and path.stat().st_mtime >= (job["started_s"] or 0) - 1
    except OSError:
        return ""
    return read_tail(path, limit=20_000) if written else ""
