"""Commands: watch, clean, doctor, alerts, publish, retract."""

import logging
import signal
import threading
from dataclasses import asdict
from typing import Annotated

import typer

from dsaflow.cli.common import (
    ConfigOption,
    JsonOption,
    ProfileOption,
    load_setup,
    open_record,
    print_json,
    print_table,
)
from dsaflow.cli.mosaic import Exit

_GIB = 2.0**30

alerts_app = typer.Typer(no_args_is_help=True, help="Alerts: what was told, and a test.")


def watch(
    profile: ProfileOption = None,
    configfile: ConfigOption = None,
    once: Annotated[bool, typer.Option("--once", help="look once, start what is due")] = False,
) -> None:
    """Look for new data until stopped; each tile is processed as it arrives, then its mosaic.

    A run that it started goes on without it.
    """
    from dsaflow.runs.record import Record
    from dsaflow.runs.watch import Watcher

    setup = load_setup(configfile, profile)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    watcher = Watcher(Record.open(setup.config), setup.config, setup.profile, setup.configfiles)
    if once:
        run_id = watcher.look()
        typer.echo(f"run {run_id}" if run_id else "nothing was started")
        return
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    typer.echo(f"watching {setup.config.paths.incoming}, runs with {setup.profile}")
    watcher.run(stop)
    typer.echo("stopped; a run that is live goes on")


def clean(
    yes: Annotated[bool, typer.Option("--yes", help="remove; without it, only show")] = False,
    wait_minutes: Annotated[
        float, typer.Option(min=0.0, help="with --yes: for a gap between runs")
    ] = 0.0,
    profile: ProfileOption = None,
    configfile: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show, or with --yes remove, Measurement Sets of published tiles and leftovers of killed jobs."""
    from dsaflow.runs.clean import clean as remove
    from dsaflow.runs.clean import plan_clean

    config = load_setup(configfile, profile).config
    record = open_record(config)
    plan = remove(config, record, wait_s=60.0 * wait_minutes) if yes else plan_clean(config)
    if as_json:
        print_json(asdict(plan) | {"size": plan.size, "removed": yes})
        return
    rows = [[i.path, f"{i.size / _GIB:.2f}", f"{i.age_days:.1f}", i.reason] for i in plan.items]
    print_table("removed" if yes else "may go", ["path", "GiB", "days", "why"], rows)
    if plan.kept:
        kept = [[tile, reason] for tile, reason in plan.kept.items()]
        print_table("Measurement Sets kept", ["tile", "why"], kept)
    words = "freed" if yes else "to be freed; nothing was removed, --yes does it"
    typer.echo(f"{len(plan.items)} items, {plan.size / _GIB:.2f} GiB {words}")


def doctor(
    profile: ProfileOption = None, configfile: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Examine the machine: versions, disk, clock, Earth rotation, calibrators, access, SLURM.

    Exit code 1 where something fails.
    """
    from dsaflow.runs.doctor import examine

    setup = load_setup(configfile, profile)
    findings = examine(setup.config, setup.profile)
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        rows = [
            [f.status if f.status == "ok" else f.status.upper(), f.name, f.detail] for f in findings
        ]
        print_table("", ["", "examined", "found"], rows)
    raise typer.Exit(int(any(finding.status == "fail" for finding in findings)))


@alerts_app.command("list")
def list_alerts(
    limit: Annotated[int, typer.Option(min=1, help="newest ones")] = 50,
    profile: ProfileOption = None,
    configfile: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Alerts, newest first, and what became of each."""
    from dsaflow.runs.times import unix_text

    record = open_record(load_setup(configfile, profile).config)
    rows = record.select("SELECT * FROM alerts ORDER BY time_s DESC LIMIT ?", (limit,))
    if as_json:
        print_json(rows)
        return
    keys = ["severity", "state", "rule", "subject", "message", "error"]
    table = [[unix_text(row["time_s"]), *(row[key] for key in keys)] for row in rows]
    print_table("alerts", ["time (UTC)", *keys], table)


@alerts_app.command("test")
def send_test(
    profile: ProfileOption = None, configfile: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Send a test message to every channel; exit code 1 where one fails, or none is configured."""
    from dsaflow.runs import alerts

    config = load_setup(configfile, profile).config
    deliveries = alerts.send_test(config)
    if as_json:
        print_json([asdict(delivery) for delivery in deliveries])
    elif not deliveries:
        typer.echo("alerts.channels is empty: nobody would be told")
    else:
        rows = [[d.channel, d.error or "sent"] for d in deliveries]
        print_table("", ["channel", "outcome"], rows)
    raise typer.Exit(int(not deliveries or any(delivery.error for delivery in deliveries)))


def publish(
    group_id: str,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="until it is published")] = True,
    profile: ProfileOption = None,
    configfile: ConfigOption = None,
) -> None:
    """Make, judge and publish one mosaic of the plan; exit codes as of `dsaflow mosaic create`."""
    from dsaflow.runs import batch, launch, mosaics
    from dsaflow.runs.record import Record

    setup = load_setup(configfile, profile)
    outcome = mosaics.outcome(setup.config, group_id)
    if outcome["state"] not in ("published", "retracted"):
        record = Record.open(setup.config)
        run_id = batch.create(
            record, setup.config, "publish", group_ids=[group_id], profile=setup.profile,
            configfiles=setup.configfiles,
        )  # fmt: skip
        if not wait:
            launch.dispatch(record, setup.config)
            typer.echo(f"run {run_id}")
            return
        run = launch.wait(record, setup.config, run_id)
        outcome = mosaics.outcome(setup.config, group_id)
        if run["state"] != "COMPLETE" or not outcome["state"]:
            typer.echo(f"run {run_id} ended {run['state']}: {run['error_message'] or ''}", err=True)
            raise typer.Exit(Exit.CANCELED if run["state"] == "CANCELED" else Exit.RUN_FAILED)
    if outcome["state"] == "published":
        typer.echo(f"Published mosaic: {outcome['path']}")
        return
    hint = "; remove its retracted.json to lift that" if outcome["state"] == "retracted" else ""
    typer.echo(f"{group_id} is {outcome['state']}: {outcome['reason']}{hint}", err=True)
    raise typer.Exit(Exit.WITHHELD)


def retract(
    group_id: str,
    reason: Annotated[str, typer.Option(help="why, for whoever finds the tombstone")],
    profile: ProfileOption = None,
    configfile: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Retract a published mosaic; the tombstone outlives any re-run."""
    from dsaflow.publish import retract as retract_mosaic
    from dsaflow.runs import scan

    config = load_setup(configfile, profile).config
    tombstone = retract_mosaic(group_id, reason, config.paths.published)
    scan.sync(open_record(config), config, group_ids=[group_id])
    if as_json:
        print_json(tombstone)
    else:
        typer.echo(f"{group_id}: {tombstone['state']}")


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    for command in (watch, clean, doctor, publish, retract):
        app.command()(command)
    app.add_typer(alerts_app, name="alerts")
