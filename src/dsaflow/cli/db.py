"""Commands: db path, rebuild, check."""

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

app = typer.Typer(no_args_is_help=True, help="The SQLite file of the run record.")


@app.command()
def path(
    configfile: ConfigOption = None, profile: ProfileOption = None, as_json: JsonOption = False
) -> None:
    """Where it lies."""
    from dsaflow.runs.record import Record

    database = Record.open(load_setup(configfile, profile).config).database
    print_json({"path": str(database)}) if as_json else say(str(database))


@app.command()
def rebuild(
    configfile: ConfigOption = None, profile: ProfileOption = None, as_json: JsonOption = False
) -> None:
    """Make it anew from the events of the runs and from the products."""
    from dsaflow.runs.rebuild import rebuild as make_anew

    counts = make_anew(load_setup(configfile, profile).config)
    if as_json:
        print_json(counts)
    else:
        print_table("Rebuilt", ["from", "count"], [[name, n] for name, n in counts.items()])


@app.command()
def check(
    configfile: ConfigOption = None, profile: ProfileOption = None, as_json: JsonOption = False
) -> None:
    """Check its integrity; exit code 1 where it is damaged (then: `dsaflow db rebuild`)."""
    import sqlite3

    from dsaflow.errors import EnvironmentProblem

    record = open_record(load_setup(configfile, profile).config)
    counts: dict[str, int] = {}
    try:
        problems = [row[0] for row in record.db.execute("PRAGMA integrity_check") if row[0] != "ok"]
        problems += [
            f"{row['table']}: row without its {row['parent']}"
            for row in record.db.execute("PRAGMA foreign_key_check")
        ]
        for table in ("runs", "jobs", "mosaic_groups", "products", "quarantine", "alerts"):
            (counts[table],) = record.db.execute(f"SELECT count(*) FROM {table}").fetchone()
    except (sqlite3.DatabaseError, EnvironmentProblem) as error:
        problems = [str(error)]
    if as_json:
        print_json({"path": str(record.database), "problems": problems, "rows": counts})
    else:
        say(str(record.database))
        print_table("", ["table", "rows"], [[name, n] for name, n in counts.items()])
        say("\n".join(problems) or "intact")
    if problems:
        raise typer.Exit(1)


def register(parent: typer.Typer) -> None:
    """Add this module's commands."""
    parent.add_typer(app, name="db")
