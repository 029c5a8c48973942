"""Commands: batch create, list, show."""

from typing import Annotated, Any

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

app = typer.Typer(no_args_is_help=True, help="One run with the targets of many tiles or mosaics.")


@app.command()
def create(
    stage: Annotated[
        str,
        typer.Argument(
            help="convert, calibrate, image, mosaic, photometry, publish or ese-detect: its last files"
        ),
    ],
    tile: Annotated[list[str] | None, typer.Option(help="tile ids")] = None,
    group: Annotated[list[str] | None, typer.Option(help="group_ids")] = None,
    start: Annotated[str | None, typer.Option(help="ISO time (UTC)")] = None,
    end: Annotated[str | None, typer.Option(help="ISO time (UTC)")] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="until the run has ended")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print the targets only")] = False,
    configfile: ConfigOption = None,
    profile: ProfileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Queue a batch; with --wait, exit code 1 unless it is COMPLETE."""
    from dsaflow.planning import make_plan
    from dsaflow.runs import batch, launch
    from dsaflow.runs.record import Record

    setup = load_setup(configfile, profile)
    chosen: dict[str, Any] = {
        "tiles": tile or None, "group_ids": group or None, "start": start, "end": end,
    }  # fmt: skip
    if dry_run:
        files = batch.targets(setup.config, make_plan(setup.config), stage, **chosen)
        print_json(files) if as_json else say("\n".join(files))
        return
    record = Record.open(setup.config)
    run_id = batch.create(
        record, setup.config, stage, profile=setup.profile, configfiles=setup.configfiles, **chosen
    )
    if wait:
        run = launch.wait(record, setup.config, run_id)
    else:
        launch.dispatch(record, setup.config)
        run = launch.find(record, run_id)
    if as_json:
        print_json(run)
    else:
        say(f"batch {run_id}: {run['state']} {run['error_message'] or ''}".rstrip())
    if wait and run["state"] != "COMPLETE":
        raise typer.Exit(1)


@app.command("list")
def list_batches(
    configfile: ConfigOption = None,
    profile: ProfileOption = None,
    limit: Annotated[int, typer.Option(min=1, help="rows at most, newest first")] = 20,
    as_json: JsonOption = False,
) -> None:
    """Batches, the newest first."""
    record = open_record(load_setup(configfile, profile).config)
    rows = record.select(
        "SELECT * FROM runs WHERE kind = 'batch' ORDER BY created_s DESC, run_id DESC LIMIT ?",
        (limit,),
    )
    if as_json:
        print_json(rows)
        return
    print_table(
        "Batches",
        ["run", "stage", "targets", "state", "jobs", "error"],
        [
            [
                row["run_id"], row["options"].get("stage"), len(row["targets"]), row["state"],
                f"{row['jobs_done']} of {row['jobs_total']}", row["error_message"],
            ]
            for row in rows
        ],
    )  # fmt: skip


def register(parent: typer.Typer) -> None:
    """Add this module's commands."""
    parent.add_typer(app, name="batch")
