"""Commands that show what is recorded, made, judged and published."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dsaflow.cli import batch, db, logs, quarantine, status
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
from dsaflow.cli.follow import duration

if TYPE_CHECKING:
    from dsaflow.runs.record import Row

LimitOption = Annotated[int, typer.Option(min=1, help="rows at most, newest first")]


def runs(
    configfile: ConfigOption = None,
    profile: ProfileOption = None,
    state: Annotated[str | None, typer.Option(help="only these, e.g. QUEUED")] = None,
    kind: Annotated[
        str | None, typer.Option(help="run, mosaic, batch, watch, or snakemake: started by hand")
    ] = None,
    limit: LimitOption = 20,
    as_json: JsonOption = False,
) -> None:
    """Runs, the newest first."""
    record = open_record(load_setup(configfile, profile).config)
    where, values = _where({"state": state and state.upper(), "kind": kind})
    rows = record.select(
        f"SELECT * FROM runs {where} ORDER BY created_s DESC, run_id DESC LIMIT ?",
        (*values, limit),
    )
    if as_json:
        print_json(rows)
    else:
        status.print_runs("Runs", rows)


def jobs(
    configfile: ConfigOption = None,
    profile: ProfileOption = None,
    run: Annotated[str | None, typer.Option(help="run id")] = None,
    rule: Annotated[str | None, typer.Option(help="rule")] = None,
    item: Annotated[str | None, typer.Option(help="tile, group_id or strip")] = None,
    state: Annotated[str | None, typer.Option(help="e.g. RUNNING, EXECUTOR_ERROR")] = None,
    limit: LimitOption = 20,
    as_json: JsonOption = False,
) -> None:
    """Executions of jobs, the newest first."""
    record = open_record(load_setup(configfile, profile).config)
    where, values = _where(
        {"run_id": run, "rule": rule, "item": item, "state": state and state.upper()}
    )
    rows = record.select(
        f"SELECT * FROM jobs {where} ORDER BY started_s DESC, job_id DESC LIMIT ?",
        (*values, limit),
    )
    if as_json:
        print_json(rows)
        return
    print_table(
        "Jobs",
        ["job", "rule", "item", "state", "execution", "time", "error"],
        [
            [
                row["job_id"], row["rule"], row["item"], row["state"], row["execution"],
                _spent(row), row["error_message"],
            ]
            for row in rows
        ],
    )  # fmt: skip


def _spent(row: "Row") -> str:
    return duration(row["ended_s"] - row["started_s"]) if row["ended_s"] else ""


def _where(conditions: dict[str, Any]) -> tuple[str, list[Any]]:
    given = {column: value for column, value in conditions.items() if value}
    clause = " AND ".join(f"{column} = ?" for column in given)
    return (f"WHERE {clause}" if clause else ""), list(given.values())


def transits(
    configfile: ConfigOption = None,
    profile: ProfileOption = None,
    calibrator: Annotated[
        str | None, typer.Option(help="default: all in reach of the strips with data")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Transits of calibrators during the time of the data, with data or not, and the next ones."""
    from dsaflow.cli.tables import print_transits
    from dsaflow.runs.transits import transits as list_transits

    rows = list_transits(load_setup(configfile, profile).config, calibrator)
    if as_json:
        print_json(rows)
    else:
        print_transits(rows)


def published(
    configfile: ConfigOption = None,
    profile: ProfileOption = None,
    check: Annotated[bool, typer.Option("--check", help="recompute the checksums")] = False,
    as_json: JsonOption = False,
) -> None:
    """Published mosaics, every version; with --check, exit code 1 where a file has changed."""
    from dsaflow.publish import list_published

    rows = list_published(load_setup(configfile, profile).config.paths.published)
    if check:
        rows = [row | {"intact": _intact(row)} for row in rows]
    if as_json:
        print_json(rows)
    else:
        columns = ["strip", "group_id", "version", "state", "reason", "path"]
        columns += ["intact"] if check else []
        print_table("Published", columns, [[row[c] for c in columns] for row in rows])
    if any(row.get("intact", "yes") != "yes" for row in rows):
        raise typer.Exit(1)


def _intact(row: dict[str, Any]) -> str:
    from dsaflow.publish import PublicationError, verify

    try:
        verify(Path(row["path"]))
    except PublicationError as error:
        return str(error)
    return "yes"


def qa(
    configfile: ConfigOption = None,
    profile: ProfileOption = None,
    stage: Annotated[list[str] | None, typer.Option(help="only these stages")] = None,
    start: Annotated[str | None, typer.Option(help="ISO time (UTC)")] = None,
    end: Annotated[str | None, typer.Option(help="ISO time (UTC)")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="list what passed too, with its gates")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Report the verdicts of every stage: conversion, calibration, tiles, mosaics, photometry."""
    from dsaflow.runs.quality import summary, verdicts

    rows = verdicts(load_setup(configfile, profile).config, stage, start, end)
    counts = summary(rows)
    listed = rows if everything else [row for row in rows if row["verdict"] != "pass"]
    if as_json:
        print_json({"stages": counts, "verdicts": listed})
        return
    print_table(
        "Quality",
        ["stage", "pass", "warn", "reject", "reasons"],
        [
            [
                count["stage"], count["pass"], count["warn"], count["reject"],
                ", ".join(f"{n} {code}" for code, n in count["reasons"].items()),
            ]
            for count in counts
        ],
    )  # fmt: skip
    if not listed:
        say("every verdict is a pass" if rows else "no verdict yet")
        return
    print_table(
        "Verdicts" if everything else "Not passed",
        ["stage", "item", "verdict", "reason", "detail"],
        [
            [row["stage"], row["item"], row["verdict"], row["reason_code"], row["detail"]]
            for row in listed
        ],
    )


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    for command in (status.status, logs.logs, runs, jobs, transits, published, qa):
        app.command()(command)
    for module in (batch, quarantine, db):
        module.register(app)
