"""Command: status, of everything, of one run, or of one mosaic."""

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dsaflow.cli.common import (
    ConfigOption,
    JsonOption,
    ProfileOption,
    load_setup,
    open_record,
    print_json,
    print_table,
    say,
)
from dsaflow.cli.follow import describe, duration

if TYPE_CHECKING:
    from dsaflow.config import Config
    from dsaflow.runs.record import Record, Row

_LATEST = 5


def status(
    what: Annotated[str | None, typer.Argument(help="run id or group_id; default: overall")] = None,
    configfile: ConfigOption = None,
    profile: ProfileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what runs, what waits, what came of the latest runs; or all of one run or mosaic."""
    from dsaflow.errors import ConfigError

    config = load_setup(configfile, profile).config
    record = open_record(config)
    if what is None:
        content = overall(record, config)
        print_json(content) if as_json else _print_overall(content)
    elif (run := record.run(what)) is not None:
        content = _of_run(record, run)
        print_json(content) if as_json else _print_run(content)
    elif (group := record.group(what)) is not None:
        content = _of_group(record, config, group)
        print_json(content) if as_json else _print_group(content)
    else:
        raise ConfigError(f"neither a run nor a mosaic of the record: {what}")


def overall(record: "Record", config: "Config") -> dict[str, Any]:
    """Counts and latest entries of the record, and the disk."""
    import psutil

    from dsaflow.runs.progress import run_progress
    from dsaflow.runs.recover import examine
    from dsaflow.runs.states import LIVE

    marks = ", ".join("?" for _ in LIVE)
    live = record.select(f"SELECT * FROM runs WHERE state IN ({marks})", sorted(LIVE))
    finished = record.select(
        "SELECT * FROM runs WHERE ended_s IS NOT NULL ORDER BY ended_s DESC LIMIT ?", (_LATEST,)
    )
    mosaics = record.select(
        "SELECT * FROM mosaic_groups ORDER BY updated_s DESC, group_id DESC LIMIT ?", (_LATEST,)
    )
    disk = psutil.disk_usage(config.paths.results)
    return {
        "live": [run | {"progress": run_progress(record, run["run_id"])} for run in live],
        "orphaned": [
            {"run_id": found.run_id, "condition": found.condition, "detail": found.detail}
            for found in examine(record)
            if found.needs_recovery
        ],
        "queued": record.queued(),
        "finished": finished,
        "runs": _counts(record, "runs", "state"),
        "mosaics": _counts(record, "mosaic_groups", "state"),
        "outcomes": _counts(record, "mosaic_groups", "outcome"),
        "latest_mosaics": mosaics,
        "quarantine": _counts(record, "quarantine", "state"),
        "alerts_last_day": record.select(
            "SELECT rule, subject, severity, message, state, time_s FROM alerts "
            "WHERE time_s > ? ORDER BY time_s DESC LIMIT ?",
            (time.time() - 86400.0, _LATEST),
        ),
        "disk_used": disk.used / disk.total,
        "disk_free_bytes": disk.free,
    }


def _counts(record: "Record", table: str, column: str) -> dict[str, int]:
    rows = record.select(
        f"SELECT {column} AS value, count(*) AS n FROM {table} GROUP BY {column} ORDER BY {column}"
    )
    return {row["value"]: row["n"] for row in rows}


def print_runs(title: str, rows: list["Row"]) -> None:
    """Table of runs."""
    from dsaflow.runs.times import unix_text

    print_table(
        title,
        ["run", "kind", "state", "jobs", "retries", "created (UTC)", "time", "for", "error"],
        [
            [
                row["run_id"], row["kind"], row["state"], _jobs(row), row["retry_count"] or "",
                unix_text(row["created_s"]), _spent(row), _purpose(row), _first_line(row),
            ]
            for row in rows
        ],
    )  # fmt: skip


def _jobs(row: "Row") -> str:
    return f"{row['jobs_done']} of {row['jobs_total']}" if row["jobs_total"] else ""


def _spent(row: "Row") -> str:
    if row["started_s"] is None:
        return ""
    return duration((row["ended_s"] or time.time()) - row["started_s"])


def _purpose(row: "Row") -> str:
    names = row["group_ids"] or row["targets"]
    return " ".join(names[:1]) + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def _first_line(row: "Row") -> str:
    return (row["error_message"] or "").split("\n")[0]


def _print_overall(content: dict[str, Any]) -> None:
    for run in content["live"]:
        say(f"{run['run_id']} {describe(run, run['progress'])} {_jobs(run)}")
    for found in content["orphaned"]:
        told = f"{found['run_id']} {found['condition']} {found['detail']}".rstrip()
        say(f"{told}: `dsaflow recover` settles or resumes it")
    for title, key in (("Live", "live"), ("Queued", "queued"), ("Latest", "finished")):
        if content[key]:
            print_runs(title, content[key])
    if content["latest_mosaics"]:
        print_groups("Latest mosaics", content["latest_mosaics"])
    if content["alerts_last_day"]:
        print_table(
            "Alerts of the last day",
            ["rule", "about", "severity", "message", "state"],
            [
                [row[k] for k in ("rule", "subject", "severity", "message", "state")]
                for row in content["alerts_last_day"]
            ],
        )
    for title, key in (
        ("runs", "runs"), ("mosaics", "mosaics"), ("of them", "outcomes"),
        ("quarantine", "quarantine"),
    ):  # fmt: skip
        counts = ", ".join(f"{n} {name or 'not judged'}" for name, n in content[key].items())
        say(f"{title + ':':<12}{counts or 'none'}")
    free = content["disk_free_bytes"] / 1e9
    say(f"{'disk:':<12}{100 * content['disk_used']:.0f} % used, {free:.1f} GB free")


def print_groups(title: str, rows: list["Row"]) -> None:
    """Table of mosaics."""
    print_table(
        title,
        ["mosaic", "state", "stage", "tiles", "outcome", "published", "error"],
        [
            [
                row["group_id"], row["state"], row["stage"], _tiles(row), row["outcome"],
                row["published_path"], _first_line(row),
            ]
            for row in rows
        ],
    )  # fmt: skip


def _tiles(row: "Row") -> str:
    if row["tiles_used"] is None:
        return str(len(row["tiles"])) if row["tiles"] else ""
    rejected = f", {row['tiles_rejected']} rejected" if row["tiles_rejected"] else ""
    return f"{row['tiles_used']} used{rejected}"


def _of_run(record: "Record", run: "Row") -> dict[str, Any]:
    from dsaflow.runs.progress import run_progress

    failed = record.select(
        "SELECT * FROM jobs WHERE run_id = ? AND state NOT IN ('RUNNING', 'COMPLETE') "
        "ORDER BY started_s, job_id",
        (run["run_id"],),
    )
    return {
        "run": run,
        "progress": run_progress(record, run["run_id"]),
        "failed_jobs": failed,
        "mosaics": record.select(
            "SELECT * FROM mosaic_groups WHERE run_id = ? ORDER BY group_id", (run["run_id"],)
        ),
    }


def _print_run(content: dict[str, Any]) -> None:
    run = content["run"]
    print_runs("Run", [run])
    if run["error_message"]:
        say(f"{run['error_class'] or ''} error: {run['error_message']}")
    say(f"log: {run['log_path']}")
    _print_stages(content["progress"])
    if content["failed_jobs"]:
        print_table(
            "Failed jobs",
            ["job", "rule", "item", "error", "log"],
            [
                [row[k] for k in ("job_id", "rule", "item", "error_message", "log_path")]
                for row in content["failed_jobs"]
            ],
        )
    if content["mosaics"]:
        print_groups("Mosaics", content["mosaics"])


def _print_stages(progress: dict[str, Any]) -> None:
    if progress.get("stages"):
        print_table(
            "Stages",
            ["rule", "done", "running", "failed", "time", "expected"],
            [
                [
                    row["rule"], row["done"], row["running"], row["failed"],
                    duration(row["seconds"]), duration(row["expected_s"]),
                ]
                for row in progress["stages"]
            ],
        )  # fmt: skip


def _of_group(record: "Record", config: "Config", group: "Row") -> dict[str, Any]:
    from dsaflow.runs.mosaics import outcome
    from dsaflow.runs.progress import group_progress

    return {
        "mosaic": group,
        "run": record.run(group["run_id"]) if group["run_id"] else None,
        "progress": group_progress(record, group["group_id"]),
        "files": outcome(config, group["group_id"]),
    }


def _print_group(content: dict[str, Any]) -> None:
    from dsaflow.cli.tables import print_gates

    print_groups("Mosaic", [content["mosaic"]])
    if content["run"] is not None:
        print_runs("Made by", [content["run"]])
    _print_stages(content["progress"])
    files = content["files"]
    if files["gates"]:
        print_gates(files["gates"])
    if files["state"]:
        say(f"{files['state']} {files['path']} {files['reason']}".strip())
