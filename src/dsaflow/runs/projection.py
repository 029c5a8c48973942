"""What each kind of event changes in the SQLite record; the same code live and in a rebuild.

An event of an unknown kind stays in its file and changes nothing.
"""

import json
import sqlite3
from collections.abc import Callable
from typing import Any

from dsaflow.runs.events import Event
from dsaflow.runs.states import FINISHED, State

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
_CREATED = [
    "priority",
    "requested_by",
    "workdir",
    "profile",
    "configfiles",
    "arguments",
    "targets",
    "group_ids",
    "options",
    "folder",
    "log_path",
    "idempotency_key",
]


def apply(db: sqlite3.Connection, event: Event) -> None:
    """Apply one event, inside the caller's transaction."""
    handler = _HANDLERS.get(event["kind"])
    if handler is not None:
        handler(db, event)


def _text(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, (dict, list)) else value


def _update(db: sqlite3.Connection, table: str, key: str, value: Any, fields: dict) -> None:
    if fields:
        assignments = ", ".join(f"{name} = ?" for name in fields)
        values = [_text(v) for v in fields.values()]
        db.execute(f"UPDATE {table} SET {assignments} WHERE {key} = ?", (*values, value))


def _run_created(db: sqlite3.Connection, event: Event) -> None:
    fields = {name: _text(event[name]) for name in _CREATED if name in event}
    fields |= {"run_id": event["run_id"], "created_s": event["time_s"], "kind": event["run_kind"]}
    fields["state"] = event.get("state", State.QUEUED)
    marks = ", ".join("?" for _ in fields)
    db.execute(f"INSERT INTO runs ({', '.join(fields)}) VALUES ({marks})", tuple(fields.values()))
    for group_id in event.get("group_ids", []):
        _group(db, event | {"group_id": group_id, "state": fields["state"]})


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
    _update(db, "runs", "run_id", run_id, fields)
    if state is State.INITIALIZING:
        db.execute(
            "UPDATE runs SET started_s = coalesce(started_s, ?) WHERE run_id = ?", (now, run_id)
        )
    if state in FINISHED or state is State.PAUSED:
        left = State.CANCELED if state in (State.CANCELED, State.CANCELING) else State.SYSTEM_ERROR
        db.execute(
            "UPDATE jobs SET state = ?, ended_s = ? WHERE run_id = ? AND state = 'RUNNING'",
            (left, now, run_id),
        )
    row = db.execute(
        "SELECT retry_count, next_retry_s, error_message, error_class FROM runs WHERE run_id = ?",
        (run_id,),
    ).fetchone()
    if row is not None:
        # a mosaic that is complete stays so when its run goes on with others
        db.execute(
            "UPDATE mosaic_groups SET state = ?, retry_count = ?, next_retry_s = ?, "
            "error_message = ?, error_class = ?, updated_s = ? WHERE run_id = ? AND "
            "(state <> 'COMPLETE' OR ? = 'QUEUED')",
            (state, *row, now, run_id, state),
        )


def _run_updated(db: sqlite3.Connection, event: Event) -> None:
    fields = {k: v for k, v in event.items() if k in RUN_COLUMNS}
    _update(db, "runs", "run_id", event["run_id"], fields)
    _count_retries(db, event["run_id"])


def _progress(db: sqlite3.Connection, event: Event) -> None:
    fields = {"jobs_done": event["done"], "jobs_total": event["total"]}
    _update(db, "runs", "run_id", event["run_id"], fields)


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
            event.get("threads"), _text(event.get("resources", {})),
            _text(event.get("inputs", [])), _text(event.get("outputs", [])),
            event.get("log_path", ""), event.get("benchmark_path", ""), event["time_s"],
        ),
    )  # fmt: skip
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
    _update(db, "jobs", "job_id", job["job_id"], fields)
    db.execute(
        "INSERT OR REPLACE INTO stage_timings VALUES (?, ?, ?, ?, ?)",
        (
            job["job_id"],
            job["rule"],
            event["time_s"] - job["started_s"],
            succeeded,
            event["time_s"],
        ),
    )


def _job_slurm(db: sqlite3.Connection, event: Event) -> None:
    job = _job(db, event)
    if job is not None:
        _update(db, "jobs", "job_id", job["job_id"], {"slurm_job_id": event["slurm_job_id"]})


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


_GROUP_COLUMNS = frozenset(
    [
        "run_id",
        "centre",
        "calibrator",
        "transit_mjd",
        "start_mjd",
        "end_mjd",
        "strip",
        "stage",
        "state",
        "tiles",
        "tiles_used",
        "tiles_rejected",
        "outcome",
        "published_path",
        "error_message",
        "error_class",
        "next_retry_s",
    ]
)


def _group(db: sqlite3.Connection, event: Event) -> None:
    """Insert a mosaic or set what the event names of it."""
    group_id, now = event["group_id"], event["time_s"]
    fields = {k: v for k, v in event.items() if k in _GROUP_COLUMNS and (k != "run_id" or v)}
    db.execute(
        "INSERT OR IGNORE INTO mosaic_groups (group_id, state, created_s, updated_s) VALUES (?,?,?,?)",
        (group_id, fields.get("state", State.QUEUED), now, now),
    )
    _update(db, "mosaic_groups", "group_id", group_id, fields | {"updated_s": now})


def _product(db: sqlite3.Connection, event: Event) -> None:
    columns = [
        "product_id",
        "group_id",
        "kind",
        "state",
        "path",
        "version",
        "checksum",
        "reason",
        "run_id",
    ]
    values = [event.get(name, "") for name in columns]
    values[columns.index("version")] = event.get("version", 0)
    db.execute(
        f"INSERT OR REPLACE INTO products ({', '.join(columns)}, updated_s) "
        f"VALUES ({', '.join('?' for _ in columns)}, ?)",
        (*values, event["time_s"]),
    )


def _quarantine_seen(db: sqlite3.Connection, event: Event) -> None:
    """Note a rejected input; seen again after it was resolved, it is open again."""
    db.execute(
        "INSERT INTO quarantine (item, stage, reason_code, detail, path, state, first_seen_s, "
        "last_seen_s) VALUES (:item, :stage, :reason_code, :detail, :path, 'open', :t, :t) "
        "ON CONFLICT (item) DO UPDATE SET reason_code = :reason_code, detail = :detail, "
        "path = :path, state = 'open', times_seen = times_seen + 1, last_seen_s = :t",
        {
            "item": event["item"], "stage": event["stage"], "reason_code": event["reason_code"],
            "detail": event.get("detail", ""), "path": event.get("path", ""), "t": event["time_s"],
        },
    )  # fmt: skip


def _quarantine_state(db: sqlite3.Connection, event: Event) -> None:
    fields = {"state": event["state"], "note": event.get("note", "")}
    _update(db, "quarantine", "item", event["item"], fields)


def _alert(db: sqlite3.Connection, event: Event) -> None:
    columns = ["alert_id", "rule", "subject", "severity", "message", "run_id", "state", "error"]
    db.execute(
        f"INSERT OR REPLACE INTO alerts ({', '.join(columns)}, time_s) "
        f"VALUES ({', '.join('?' for _ in columns)}, ?)",
        (*(event.get(name, "") for name in columns), event["time_s"]),
    )


def _review(db: sqlite3.Connection, event: Event) -> None:
    db.execute(
        "INSERT INTO reviews (candidate_id, verdict, reviewer, note, time_s) VALUES (?,?,?,?,?)",
        (
            event["candidate_id"], event["verdict"], event.get("reviewer", ""),
            event.get("note", ""), event["time_s"],
        ),
    )  # fmt: skip


_HANDLERS: dict[str, Callable[[sqlite3.Connection, Event], None]] = {
    "run.created": _run_created,
    "run.state": _run_state,
    "run.updated": _run_updated,
    "run.progress": _progress,
    "job.started": _job_started,
    "job.finished": _job_ended,
    "job.error": _job_ended,
    "job.slurm": _job_slurm,
    "group": _group,
    "product": _product,
    "quarantine.seen": _quarantine_seen,
    "quarantine.state": _quarantine_state,
    "alert": _alert,
    "review": _review,
}
