"""Commands: ese characterise, published."""

from pathlib import Path
from typing import Annotated

import typer

from dsaflow.cli.common import (
    ConfigOption,
    JsonOption,
    ProfileOption,
    load_setup,
    print_json,
    print_table,
    say,
)

app = typer.Typer(no_args_is_help=True, help="The search for extreme scattering events.")


@app.command()
def characterise(
    out: Annotated[Path, typer.Option(help="folder for tables and figures")] = Path("ese"),
    seasons: Annotated[int, typer.Option(min=1, help="event-free seasons, at least")] = 12000,
    natural: Annotated[
        int, typer.Option(min=0, help="event-free seasons with the kinds in natural shares")
    ] = 12000,
    events: Annotated[int, typer.Option(min=1, help="in each cell that has a bound")] = 200,
    grid: Annotated[int, typer.Option(min=0, help="events in each cell of the grid")] = 0,
    longest_days: Annotated[
        int, typer.Option(min=120, help="d; longest season that events are injected into")
    ] = 1095,
    seed: Annotated[int, typer.Option(min=0, help="of everything random")] = 1,
    workers: Annotated[int, typer.Option(min=1, help="processes")] = 2,
    threshold: Annotated[
        float | None, typer.Option(help="ln LR; default: the lowest that holds the rate")
    ] = None,
    observed: Annotated[
        Path | None, typer.Option(help="light_curves.parquet to inject events into, too")
    ] = None,
    configfile: ConfigOption = None,
    profile: ProfileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure detection efficiency and false alarms of the search on simulated seasons.

    Ends with exit code 1 where a bound is not met; with few seasons that of the false alarms cannot
    be (a million of natural shares are needed).
    """
    from dsaflow.characterise.run import Size, characterise

    options = load_setup(configfile, profile).config.variability
    size = Size(seasons, natural, events, grid, longest_days, workers)
    result = characterise(out, options, size, seed, threshold, observed)
    if as_json:
        print_json(result)
    else:
        print_table(
            "Bounds",
            ["what", "bound", "measured", "met"],
            [[r["what"], r["bound"], r["measured"], "yes" if r["met"] else "no"]
             for r in result["bounds"]],
        )  # fmt: skip
        say(f"threshold: ln LR > {result['threshold_ln_lr']:.1f}; tables and figures: {out}")
    raise typer.Exit(0 if all(row["met"] for row in result["bounds"]) else 1)


@app.command()
def published(
    out: Annotated[Path, typer.Option(help="folder for the table")] = Path("ese"),
    seed: Annotated[int, typer.Option(min=0, help="of gains and noise")] = 1,
    threshold: Annotated[float, typer.Option(help="ln LR that an event must exceed")] = 25.0,
    configfile: ConfigOption = None,
    profile: ProfileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Re-create the published events from their parameters, and search for them.

    Ends with exit code 1 where one is not found, or an achromatic one is called chromatic.
    """
    from dsaflow.characterise.published import recreate
    from dsaflow.characterise.tables import write_rows

    options = load_setup(configfile, profile).config.variability
    rows = recreate(options, threshold, seed)
    write_rows(out / "published", rows)
    if as_json:
        print_json(rows)
    else:
        print_table(
            "Published events, re-created",
            ["event", "published", "assumed", "depth", "days", "found", "ln LR", "colour"],
            [[r["event"], r["published"], r["assumed"], f"{r['depth']:.2f}",
              f"{r['duration_days']:.0f}", "yes" if r["found"] else "no", f"{r['ln_lr']:.0f}",
              r["chromatic_label"]] for r in rows],
        )  # fmt: skip
    wrong = [r for r in rows if r["achromatic"] and r["chromatic_label"] == "chromatic"]
    raise typer.Exit(0 if all(r["found"] for r in rows) and not wrong else 1)


def register(parent: typer.Typer) -> None:
    """Add this module's commands."""
    parent.add_typer(app, name="ese")
