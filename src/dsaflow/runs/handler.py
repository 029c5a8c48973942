"""From Snakemake's log to events, so that every run is recorded, whoever starts it.

The workflow says at parse where the record lies (`announce`) and before its first job what it has to
do (`foresee`); the rest is read from the log. Nothing is written before a job really starts, and
nothing that fails here reaches the workflow.
"""

import logging
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from logging import LogRecord
from pathlib import Path
from typing import Any

from dsaflow.runs.classify import classify_text
from dsaflow.runs.joberrors import job_error, log_ends
from dsaflow.runs.processes import ATTEMPT, RUN_ID
from dsaflow.runs.record import Record, new_run_id
from dsaflow.runs.recording import Recording, RunLog
from dsaflow.runs.scan import Scanner, planned_fields
from dsaflow.runs.states import State

RECORD_FOLDER, RECORD_DATABASE = "DSAFLOW_RECORD_FOLDER", "DSAFLOW_RECORD_DATABASE"
# Pid of the process that records: a workflow started by one of its jobs is no run of its own.
RECORDED_BY = "DSAFLOW_RECORDED_BY"
LOG = logging.getLogger("snakemake.logging")
LISTED_FILES = 500
FAILED_JOBS_TOLD = 5

_SLURM_RUN = re.compile(r"SLURM run ID: (\S+)")
_SLURM_JOB = re.compile(r"Job (\S+) has been submitted with SLURM jobid (\d+)")
_INTERRUPTED = re.compile(r"Terminating processes on user request|Will exit after finishing curr")


@dataclass
class Workflow:
    """What the workflow has said of itself in this process."""

    folder: Path
    database: Path
    results: str
    published: str
    run_id: str = ""  # of the run that this process is, where no launcher gave one
    silent: bool = False  # touches files only, or is part of another run
    planned: dict[str, list[str]] = field(default_factory=dict)
    group_ids: list[str] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)
    configfiles: list[str] = field(default_factory=list)


_workflow: Workflow | None = None


def announce(results: str, database: str = "", published: str = "") -> None:
    """Say where the record lies; called when the workflow is parsed, by the main process only.

    Parameters
    ----------
    results : str
        ``paths.results``.
    database : str
        ``runs.database``.
    published : str
        ``paths.published``.
    """
    global _workflow
    folder = Path(results).resolve() / "runs"
    place = Path(database).resolve() if database else folder / "record.sqlite"
    if RECORD_FOLDER in os.environ:
        folder, place = Path(os.environ[RECORD_FOLDER]), Path(os.environ[RECORD_DATABASE])
    _workflow = Workflow(folder, place, results, published)


def foresee(workflow: Any) -> None:
    """Note the jobs that will run; called by ``onstart``, when the DAG is complete.

    Parameters
    ----------
    workflow : snakemake.workflow.Workflow
    """
    if _workflow is None:
        return
    try:
        me = str(os.getpid())
        _workflow.silent = workflow.touch or os.environ.setdefault(RECORDED_BY, me) != me
        _workflow.targets = sorted(map(str, workflow.dag_settings.targets or ()))
        _workflow.configfiles = [str(path) for path in workflow.configfiles]
        groups = set()
        for job in workflow.dag.needrun_jobs():
            wildcards = _plain(job.wildcards_dict)
            _workflow.planned.setdefault(job.rule.name, []).append(" ".join(wildcards.values()))
            groups |= {wildcards["group_id"]} if "group_id" in wildcards else set()
        _workflow.group_ids = sorted(groups)
        if RUN_ID not in os.environ and not _workflow.silent:
            # jobs inherit it, so that they are found should this process be killed
            _workflow.run_id = os.environ[RUN_ID] = new_run_id()
    except Exception as error:  # no change in Snakemake may stop a workflow here
        LOG.warning(f"dsaflow: the run record does not know what this run has to do: {error!r}")


def keep_logs(message: LogRecord) -> bool:
    """Read a failed job's logs where it is told to have failed: a filter of Snakemake's logger.

    A handler sees the message later, in a thread of its own, when Snakemake may have tried the job
    again and removed its log.
    """
    if str(getattr(message, "event", None)) == "job_error":
        paths = map(os.path.abspath, getattr(message, "log", None) or [])
        message.log_ends = log_ends(paths)
    return True


@dataclass
class Job:
    """One execution of a job."""

    rule: str
    item: str
    logs: list[str]
    benchmark: str
    outputs: list[str]
    started_s: float


class Recorder:
    """Turns the log of one Snakemake process into events of one run.

    Parameters
    ----------
    enabled : bool
        False for a dry run.
    """

    def __init__(self, enabled: bool = True) -> None:
        self.enabled = enabled
        self.recording: Recording | None = None  # from the first job on
        self.log = RunLog()
        self.own = False  # no launcher looks after this run
        self.attempt = 1
        self.warned = self.interrupted = False
        self.jobs: dict[int, Job] = {}
        self.failed: dict[int, str] = {}
        self.groups: dict[str, list[int]] = {}
        self.group_logs: dict[int, list[str]] = {}  # of its members, until each is told to fail
        self.slurm_run_id = ""
        self.said: dict[int | None, str] = {}
        self.last_error = ""
        self.counts: dict[str, int] = {}
        self.done = self.total = 0
        self._methods: dict[str, Callable[[Any], None]] = {
            "run_info": self._run_info,
            "job_started": self._jobs_selected,
            "job_info": self._job_info,
            "job_finished": self._job_finished,
            "job_error": self._job_error,
            "group_info": self._group_info,
            "group_error": self._group_error,
            "progress": self._progress,
            "error": self._error,
            "": self._message,
        }

    def handle(self, message: LogRecord, line: str = "") -> None:
        """Take one message of Snakemake's log; never raises.

        Parameters
        ----------
        message : LogRecord
        line : str
            As Snakemake shows it to a person, for the log of a run that no launcher keeps.
        """
        if not self.enabled:
            return
        try:
            event = str(getattr(message, "event", None) or "")
            if event in self._methods:
                self._methods[event](message)
            self.log.write(line)
        except Exception as error:  # the record must never harm the workflow
            self._warn(f"{type(error).__name__}: {error}")

    def close(self) -> None:
        """Settle a run that no launcher looks after; never raises."""
        recording, self.recording = self.recording, None
        if recording is None or not self.enabled:
            return
        self.enabled = False
        try:
            if self.own:
                self._settle(recording)
            recording.record.close()
        except Exception as error:
            self._warn(f"{type(error).__name__}: {error}")

    def _warn(self, text: str) -> None:
        if not self.warned:
            self.warned = True
            LOG.warning(f"dsaflow: run record: {text}")

    def _emit(self, message: LogRecord, kind: str, **payload: Any) -> None:
        if self.recording is not None:
            self.recording.emit(kind, time_s=message.created, **payload)

    # Messages of Snakemake

    def _run_info(self, message: Any) -> None:
        self.counts = {rule: n for rule, n in message.stats.items() if rule != "total"}
        self.total = sum(self.counts.values())

    def _jobs_selected(self, message: LogRecord) -> None:
        if self.recording is None:
            self._begin(message)

    def _begin(self, message: LogRecord) -> None:
        """Attach to the run that a launcher made, or make one: now there is something to record."""
        flow = _workflow
        if flow is None or flow.silent:
            self.enabled = False
            return
        launched = os.environ.get(RUN_ID, "")
        self.own = launched in ("", flow.run_id)
        run_id = launched or new_run_id()
        self.attempt = 1 if self.own else int(os.environ.get(ATTEMPT, "1"))
        self.recording = Recording(Record(flow.folder, flow.database), run_id, self._warn)
        if self.own:
            self.recording.create(
                time_s=message.created, targets=flow.targets, configfiles=flow.configfiles,
                group_ids=flow.group_ids,
            )  # fmt: skip
            self.log.open(flow.folder / run_id / "run.log")
        else:
            self.log.drop()
        self._emit(
            message, "run.planned", attempt=self.attempt, planned=flow.planned or self.counts,
            group_ids=flow.group_ids,
        )  # fmt: skip
        self._emit(message, "run.progress", done=0, total=self.total)
        if self.slurm_run_id:
            self._emit(message, "run.updated", slurm_run_id=self.slurm_run_id)
        plan = self._scanner().plan
        for mosaic in plan.mosaics:
            if mosaic.group_id in flow.group_ids:
                fields = planned_fields(plan, mosaic)
                self._emit(message, "group", group_id=mosaic.group_id, **fields)

    def _scanner(self) -> Scanner:
        assert self.recording is not None
        assert _workflow is not None
        record, run_id = self.recording.record, self.recording.run_id
        return Scanner(record, _workflow.results, _workflow.published, run_id)

    def _job_info(self, message: Any) -> None:
        wildcards = _plain(message.wildcards or {})
        logs = [os.path.abspath(path) for path in message.log or []]
        benchmark = os.path.abspath(message.benchmark) if message.benchmark else ""
        outputs = list(map(str, message.output))
        self.jobs[message.jobid] = Job(
            message.rule_name, " ".join(wildcards.values()), logs, benchmark, outputs,
            message.created,
        )  # fmt: skip
        self._emit(
            message, "job.started", attempt=self.attempt, jobid=message.jobid,
            rule=message.rule_name, wildcards=wildcards, reason=str(message.reason)[:500],
            threads=message.threads, resources=_resources(message.resources),
            inputs=list(map(str, message.input))[:LISTED_FILES], outputs=outputs[:LISTED_FILES],
            log_path=logs[0] if logs else "", benchmark_path=benchmark,
        )  # fmt: skip

    def _job_finished(self, message: Any) -> None:
        job = self.jobs.get(message.job_id)
        self.failed.pop(message.job_id, None)
        self._emit(
            message, "job.finished", attempt=self.attempt, jobid=message.job_id,
            seconds=_benchmark_s(job) if job else None,
        )  # fmt: skip
        if job is not None and self.recording is not None and self.recording.has_sqlite:
            self._scanner().outputs(job.outputs)

    def _job_error(self, message: Any) -> None:
        said = self.said.pop(message.thread, "")
        job = self.jobs.get(message.jobid)
        own = job.logs if job else []
        more = [path for path in map(os.path.abspath, message.log or []) if path not in own]
        of_group = self.group_logs.pop(message.jobid, None)
        innocent = of_group == []
        said = "\n".join(filter(None, [str(message.rule_msg or ""), said]))
        text, tail = job_error(
            [*own, *more, *(of_group or [])], said, job.started_s if job else 0.0, innocent,
            getattr(message, "log_ends", {}),
        )  # fmt: skip
        if innocent and not text:
            text = "another job of its group failed"
        else:
            name = f"{job.rule} {job.item}".strip() if job else message.rule_name
            self.failed[message.jobid] = f"{name}: {text or 'failed without a message'}"
        self._emit(
            message, "job.error", attempt=self.attempt, jobid=message.jobid, error_message=text,
            error_class=classify_text(f"{text}\n{said}"), log_tail=tail,
        )  # fmt: skip

    def _group_info(self, message: Any) -> None:
        members = [job.jobid for job in message.jobs]
        for job in message.jobs:  # SLURM's message names a group by the id of one of them
            self.groups[job.uuid()] = members

    def _group_error(self, message: Any) -> None:
        """Note where the reason is to be looked for: in a member's own log, else in the group's."""
        members = [info["jobid"] for info in message.job_error_info]
        known = [self.jobs[jobid] for jobid in members if jobid in self.jobs]
        told = any(job_error(job.logs, "", job.started_s, innocent=True)[0] for job in known)
        logs = [] if told else [os.path.abspath(path) for path in message.aux_logs]
        self.group_logs |= dict.fromkeys(members, logs)

    def _progress(self, message: Any) -> None:
        self.done, self.total = message.done, message.total
        if self.done == self.total:
            self.last_error = ""  # of a job that was tried again
        self._emit(message, "run.progress", done=self.done, total=self.total)

    def _error(self, message: LogRecord) -> None:
        self.last_error = message.getMessage().strip()
        self.said[message.thread] = self.last_error

    def _message(self, message: LogRecord) -> None:
        text = message.getMessage()
        if found := _SLURM_RUN.search(text):
            self.slurm_run_id = found[1]  # told before there is anything to record
        elif found := _SLURM_JOB.search(text):
            jobid = found[1]
            for member in self.groups.get(jobid) or ([int(jobid)] if jobid.isdigit() else []):
                self._emit(
                    message, "job.slurm", attempt=self.attempt, jobid=member,
                    slurm_job_id=int(found[2]),
                )  # fmt: skip
        elif _INTERRUPTED.search(text):
            self.interrupted = True

    def _settle(self, recording: Recording) -> None:
        """Say how the run ended, from what was seen: Snakemake tells nobody."""
        if self.done == self.total and not self.last_error:
            recording.settle(State.COMPLETE, exit_code=0)
        elif self.interrupted:
            recording.settle(State.CANCELED, exit_code=1, error_message="interrupted by a person")
        else:
            told = list(self.failed.values())[:FAILED_JOBS_TOLD]
            if len(self.failed) > len(told):
                told.append(f"and {len(self.failed) - len(told)} more")
            text = "; ".join(told) or self.last_error or "ended before all its jobs were done"
            recording.settle(
                State.EXECUTOR_ERROR, exit_code=1, error_message=text[:2000],
                error_class=classify_text(text),
            )  # fmt: skip


def _plain(wildcards: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in wildcards.items()}


def _resources(resources: Any) -> dict[str, Any]:
    """Resources that a person asked for, as plain values."""
    items: Iterable[tuple[str, Any]] = resources.items() if resources else ()
    return {
        name: value if isinstance(value, (int, float, str)) else str(value)
        for name, value in items
        if not name.startswith("_") and name != "tmpdir"
    }


def _benchmark_s(job: Job) -> float | None:
    """Run time of a job as it measured it itself: without the queue, and of one member of a group."""
    try:
        path = Path(job.benchmark)
        if not job.benchmark or path.stat().st_mtime < job.started_s:
            return None
        header, *rows = [line.split("\t") for line in path.read_text().splitlines()]
        return float(rows[-1][header.index("s")])
    except (OSError, ValueError, IndexError):
        return None
