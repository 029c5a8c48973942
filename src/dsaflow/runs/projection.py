"""What each kind of event changes in the SQLite record; the same code live and in a rebuild.

An event of an unknown kind stays in its file and changes nothing.
"""

import json
import sqlite3
from collections.abc import Callable

from dsaflow.runs import items
from dsaflow.runs.events import Event
from dsaflow.runs.items import text, update
from dsaflow.runs.states import FINISHED, LIVE, State

RUN_COLUMNS = frozenset(
    [
        "attempt",
        "next_retry_s",
        "exit_code",
        "error_class",
        "error_message",
        "jobs_done",
        "jobs_total",
        "log_path",
        "folder",
        "host",
        "boot_id",
        "supervisor_pid",
        "supervisor_start",
        "snakemake_pid",
        "snakemake_start",
        "slurm_run_id",
        "started_s",
        "ended_s",
        "retry_count",
    ]
)
_CREATED = RUN_COLUMNS | {
    "priority",
    "requested_by",
    "workdir",
    "profile",
    "configfiles",
    "arguments",
    "targets",
    "group_ids",
    "options",
    "idempotency_key",
}


def apply(db: sqlite3.Connection, event: Event) -> None:
    """Apply one event, inside the caller's transaction."""
    handler = _HANDLERS.get(event["kind"])
    if handler is not None:
        handler(db, event)


def _run_created(db: sqlite3.Connection, event: Event) -> None:
    fields = {name: text(event[name]) for name in sorted(_CREATED) if name in event}
    fields |= {"run_id": event["run_id"], "created_s": event["time_s"], "kind": event["run_kind"]}
    fields["state"] = event.get("state", State.QUEUED)
    if fields["state"] in LIVE:
        fields.setdefault("started_s", event["time_s"])
    marks = ", ".join("?" for _ in fields)
    db.execute(f"INSERT INTO runs ({', '.join(fields)}) VALUES ({marks})", tuple(fields.values()))
    _take_groups(db, event, event.get("group_ids", []), fields["state"])


def _take_groups(db: sqlite3.Connection, event: Event, group_ids: list[str], state: str) -> None:
    """Note that a run makes these mosaics."""
    base = {"run_id": event["run_id"], "time_s": event["time_s"], "state": state}
    for group_id in group_ids:
        items.group(db, base | {"group_id": group_id})


def _run_state(db: sqlite3.Connection, event: Event) -> None:
    run_id, state, now = event["run_id"], State(event["state"]), event["time_s"]
    fields = {k: v for k, v in event.items() if k in RUN_COLUMNS}
    fields["state"] = state
    if state is State.QUEUED:
        fields |= {"ended_s": None, "exit_code": None, "next_retry_s": None}
        fields |= {"error_class": None, "error_message": None}
    elif state is State.INITIALIZING:
        fields.setdefault("next_retry_s", None)
    if state in FINISHED:
        fields |= {"ended_s": now, "next_retry_s": None}
    update(db, "runs", "run_id", run_id, fields)
    if state is State.INITIALIZING:
        db.execute(
            "UPDATE runs SET started_s = coalesce(started_s, ?) WHERE run_id = ?", (now, run_id)
        )
    if state in FINISHED or state is State.PAUSED:
        db.execute(
            "UPDATE jobs SET state = ?, ended_s = ? WHERE run_id = ? AND state = 'RUNNING'",
            (_LEFT.get(state, State.SYSTEM_ERROR), now, run_id),
        )
    _count_retries(db, run_id)
    _state_of_groups(db, run_id, state, now)


# What a job is whose end was not told; a run that exits with 0 has no failed job.
_LEFT = {State.COMPLETE: State.COMPLETE, State.CANCELED: State.CANCELED}


def _state_of_groups(db: sqlite3.Connection, run_id: str, state: State, now: float) -> None:
    """Give a run's mosaics its state; one that is complete stays so while the run goes on."""
    run = db.execute("SELECT * FROM runs WHERE run_id = ?", (run_id,)).fetchone()
    if run is None:
        return
    db.execute(
        "UPDATE mosaic_groups SET state = ?, next_retry_s = ?, updated_s = ? "
        "WHERE run_id = ? AND (state <> 'COMPLETE' OR ? = 'QUEUED')",
        (state, run["next_retry_s"], now, run_id, state),
    )
    if state is State.QUEUED:
        db.execute(
            "UPDATE mosaic_groups SET error_message = NULL, error_class = NULL WHERE run_id = ?",
            (run_id,),
        )
    elif state in (State.PAUSED, State.EXECUTOR_ERROR, State.SYSTEM_ERROR, State.CANCELED):
        # its own failed job says more than another mosaic's
        db.execute(
            "UPDATE mosaic_groups SET error_class = ?, error_message = coalesce((SELECT "
            "rule || ' ' || item || ': ' || jobs.error_message FROM jobs WHERE jobs.run_id = ? "
            "AND jobs.attempt = ? AND jobs.state = 'EXECUTOR_ERROR' AND jobs.error_message <> '' "
            f"AND {_JOB_OF_GROUP} ORDER BY ended_s DESC LIMIT 1), ?) "
            "WHERE run_id = ? AND state <> 'COMPLETE'",
            (run["error_class"], run_id, run["attempt"], run["error_message"], run_id),
        )


_JOB_OF_GROUP = """(jobs.item = mosaic_groups.group_id
    OR instr(mosaic_groups.tiles, '"' || jobs.item || '"') > 0)"""


def _run_planned(db: sqlite3.Connection, event: Event) -> None:
    """Note what an attempt has to do: jobs by rule, and the mosaics that they belong to."""
    db.execute(
        "INSERT OR REPLACE INTO run_plans (run_id, attempt, planned) VALUES (?, ?, ?)",
        (event["run_id"], event.get("attempt", 1), text(event["planned"])),
    )
    group_ids = event.get("group_ids", [])
    _take_groups(db, event, group_ids, State.RUNNING)
    known = db.execute("SELECT group_ids FROM runs WHERE run_id = ?", (event["run_id"],)).fetchone()
    every = list(dict.fromkeys([*json.loads(known[0]), *group_ids]))
    update(db, "runs", "run_id", event["run_id"], {"group_ids": every})


def _run_updated(db: sqlite3.Connection, event: Event) -> None:
    fields = {k: v for k, v in event.items() if k in RUN_COLUMNS}
    update(db, "runs", "run_id", event["run_id"], fields)
    _count_retries(db, event["run_id"])


def _progress(db: sqlite3.Connection, event: Event) -> None:
    fields = {"jobs_done": event["done"], "jobs_total": event["total"]}
    update(db, "runs", "run_id", event["run_id"], fields)


def _job_started(db: sqlite3.Connection, event: Event) -> None:
    run_id, rule = event["run_id"], event["rule"]
    wildcards = json.dumps(event.get("wildcards", {}), sort_keys=True)
    (earlier,) = db.execute(
        "SELECT count(*) FROM jobs WHERE run_id = ? AND rule = ? AND wildcards = ?",
        (run_id, rule, wildcards),
    ).fetchone()
    execution, attempt = earlier + 1, event.get("attempt", 1)
    item = " ".join(str(v) for v in event.get("wildcards", {}).values())
    db.execute(
        "INSERT INTO jobs (job_id, run_id, attempt, snakemake_jobid, execution, rule, wildcards, "
        "item, state, reason, threads, resources, inputs, outputs, log_path, benchmark_path, "
        "started_s) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
        (
            f"{run_id}.{attempt}.{event['jobid']}.{execution}", run_id, attempt, event["jobid"],
            execution, rule, wildcards, item, State.RUNNING, event.get("reason", ""),
            event.get("threads"), text(event.get("resources", {})),
            text(event.get("inputs", [])), text(event.get("outputs", [])),
            event.get("log_path", ""), event.get("benchmark_path", ""), event["time_s"],
        ),
    )  # fmt: skip
    if earlier:
        _count_retries(db, run_id)
    db.execute(
        "UPDATE mosaic_groups SET stage = ?, updated_s = ? WHERE run_id = ? AND state <> 'COMPLETE' "
        "AND (group_id = ? OR instr(tiles, ?))",
        (rule, event["time_s"], run_id, item, f'"{item}"'),
    )


def _job(db: sqlite3.Connection, event: Event) -> sqlite3.Row | None:
    """Return the newest execution that an event of a job speaks of."""
    return db.execute(
        "SELECT * FROM jobs WHERE run_id = ? AND attempt = ? AND snakemake_jobid = ? "
        "ORDER BY execution DESC LIMIT 1",
        (event["run_id"], event.get("attempt", 1), event["jobid"]),
    ).fetchone()


def _job_ended(db: sqlite3.Connection, event: Event) -> None:
    job = _job(db, event)
    if job is None or job["state"] != State.RUNNING:
        return
    succeeded = event["kind"] == "job.finished"
    state = State.COMPLETE if succeeded else State.EXECUTOR_ERROR
    fields = {"state": state, "ended_s": event["time_s"]}
    fields |= {k: event[k] for k in ("error_class", "error_message") if k in event}
    update(db, "jobs", "job_id", job["job_id"], fields)
    db.execute(
        "INSERT OR REPLACE INTO stage_timings VALUES (?, ?, ?, ?, ?)",
        (
            job["job_id"],
            job["rule"],
            event.get("seconds") or event["time_s"] - job["started_s"],
            succeeded,
            event["time_s"],
        ),
    )
    if succeeded:
        _complete_group(db, event["run_id"], job["item"], event["time_s"])


def _complete_group(db: sqlite3.Connection, run_id: str, item: str, now: float) -> None:
    """Complete a mosaic whose last planned job has ended, while its run goes on with others."""
    group = db.execute(
        "SELECT group_id FROM mosaic_groups WHERE run_id = ? AND group_id = ? "
        "AND state <> 'COMPLETE'",
        (run_id, item),
    ).fetchone()
    plan = db.execute("SELECT planned FROM run_plans WHERE run_id = ?", (run_id,)).fetchone()
    if group is None or plan is None:
        return
    planned = {
        rule
        for rule, of_rule in json.loads(plan["planned"]).items()
        if isinstance(of_rule, list) and item in of_rule
    }
    done = db.execute(
        "SELECT DISTINCT rule FROM jobs WHERE run_id = ? AND item = ? AND state = 'COMPLETE'",
        (run_id, item),
    )
    if planned and planned <= {row["rule"] for row in done}:
        db.execute(
            "UPDATE mosaic_groups SET state = 'COMPLETE', next_retry_s = NULL, updated_s = ? "
            "WHERE group_id = ?",
            (now, item),
        )


def _job_slurm(db: sqlite3.Connection, event: Event) -> None:
    job = _job(db, event)
    if job is not None:
        update(db, "jobs", "job_id", job["job_id"], {"slurm_job_id": event["slurm_job_id"]})


def _count_retries(db: sqlite3.Connection, run_id: str) -> None:
    """Set retries: all executions less one, of the job that ran most often or of Snakemake itself."""
    db.execute(
        "UPDATE runs SET retry_count = max(0, attempt - 1, coalesce((SELECT max(execution) - 1 FROM jobs "
        "WHERE run_id = runs.run_id), 0)) WHERE run_id = ?",
        (run_id,),
    )
    db.execute(
        "UPDATE mosaic_groups SET retry_count = (SELECT retry_count FROM runs WHERE run_id = ?) "
        "WHERE run_id = ?",
        (run_id, run_id),
    )


_HANDLERS: dict[str, Callable[[sqlite3.Connection, Event], None]] = {
    "run.created": _run_created,
    "run.state": _run_state,
    "run.updated": _run_updated,
    "run.progress": _progress,
    "run.planned": _run_planned,
    "job.started": _job_started,
    "job.finished": _job_ended,
    "job.error": _job_ended,
    "job.slurm": _job_slurm,
    "group": items.group,
    "product": items.product,
    "quarantine.seen": items.quarantine_seen,
    "quarantine.state": items.quarantine_state,
    "alert": items.alert,
    "review": items.review,
}
