"""Commands: quarantine list, show, retry, resolve."""

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
    say,
)

app = typer.Typer(no_args_is_help=True, help="Inputs that were rejected, and why.")
ItemArgument = Annotated[str, typer.Argument(help="as listed, e.g. convert/20260125T222605")]


@app.command("list")
def list_items(
    configfile: ConfigOption = None,
    profile: ProfileOption = None,
    state: Annotated[str | None, typer.Option(help="open, retrying or resolved")] = None,
    as_json: JsonOption = False,
) -> None:
    """Rejected inputs, the last seen first."""
    record = open_record(load_setup(configfile, profile).config)
    rows = record.select(
        "SELECT * FROM quarantine WHERE ? IN ('', state) ORDER BY last_seen_s DESC, item",
        (state or "",),
    )
    if as_json:
        print_json(rows)
        return
    columns = ["item", "state", "reason_code", "detail", "times_seen", "note"]
    print_table("Quarantine", columns, [[row[c] for c in columns] for row in rows])


@app.command()
def show(
    item: ItemArgument,
    configfile: ConfigOption = None,
    profile: ProfileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show all about one rejected input."""
    from dsaflow.runs.quarantine import find

    row = find(open_record(load_setup(configfile, profile).config), item)
    if as_json:
        print_json(row)
    else:
        say("\n".join(f"{name:<14}{value}" for name, value in row.items()))


@app.command()
def retry(
    item: ItemArgument,
    configfile: ConfigOption = None,
    profile: ProfileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove the rejecting verdict and queue a run that judges the input anew."""
    from dsaflow.runs import launch, quarantine

    setup = load_setup(configfile, profile)
    record = open_record(setup.config)
    run_id = quarantine.retry(
        record, setup.config, item, profile=setup.profile, configfiles=setup.configfiles,
        workdir=".",
    )  # fmt: skip
    launch.dispatch(record, setup.config)
    print_json({"item": item, "run_id": run_id}) if as_json else say(f"{item}: run {run_id}")


@app.command()
def resolve(
    item: ItemArgument,
    note: Annotated[str, typer.Option(help="why, for whoever looks at it later")] = "",
    configfile: ConfigOption = None,
    profile: ProfileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Mark an input as dealt with; seen again, it is open again."""
    from dsaflow.runs import quarantine

    record = open_record(load_setup(configfile, profile).config)
    quarantine.resolve(record, item, note)
    row = quarantine.find(record, item)
    print_json(row) if as_json else say(f"{item}: {row['state']}")


def register(parent: typer.Typer) -> None:
    """Add this module's commands."""
    parent.add_typer(app, name="quarantine")
