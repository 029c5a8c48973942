"""The `dsaflow` command: what it prints is what the workflow will do, or has done."""

from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from dsaflow.cli.common import (
    ConfigOption,
    JsonOption,
    ProfileOption,
    load_setup,
    print_json,
    report_errors,
)

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)


@app.command()
def plan(
    configfile: ConfigOption = None, profile: ProfileOption = None, as_json: JsonOption = False
) -> None:
    """Scan the incoming folder; show tiles, mosaics, gaps, and what is left out and why."""
    from dsaflow.planning import describe_plan, make_plan

    planned = make_plan(load_setup(configfile, profile).config)
    if as_json:
        print_json(planned.to_dict())
    else:
        typer.echo(describe_plan(planned))


@app.command()
def simulate(
    configfile: ConfigOption = None,
    profile: ProfileOption = None,
    epoch: Annotated[
        list[int] | None, typer.Option(help="nights to simulate; default: all of them")
    ] = None,
) -> None:
    """Write simulated nights (UVH5), their truth, and the spoilt catalogue."""
    from dsaflow.simulate.night import run

    config = load_setup(configfile, profile).config
    run(config.simulate, epoch, config.paths.incoming, config.paths.antennas)


@app.command()
def demo(
    profile: Annotated[str, typer.Option(help="Snakemake profile")] = "profiles/demo",
) -> None:
    """Simulate a month of nights, run the whole chain on them, and say what was found."""
    from dsaflow.demo import run_demo

    raise typer.Exit(run_demo(profile))


@app.command()
def validate(
    ladder: Annotated[bool, typer.Option("--ladder", help="one effect after the other")] = False,
    table: Annotated[bool, typer.Option("--table", help="all effects, beside the bounds")] = False,
    mutations: Annotated[
        bool, typer.Option("--mutations", help="errors made in the pipeline, and what shows each")
    ] = False,
    folder: Annotated[
        Path | None,
        typer.Option(help="for the data and the scores; default: ladder, truth or mutations"),
    ] = None,
    figure: Annotated[
        Path | None, typer.Option(help="PNG or SVG; default: ladder.png in the folder")
    ] = None,
    nights: Annotated[int, typer.Option(min=1, help="nights a sky")] = 2,
    seed: Annotated[
        list[int] | None, typer.Option(help="skies; default: 1, for mutations 3")
    ] = None,
    only: Annotated[str, typer.Option(help="rungs or errors with this in their name")] = "",
    configfile: ConfigOption = None,
    profile: ProfileOption = "profiles/demo",
) -> None:
    """Run the stages on simulated nights and score them against the truth.

    --ladder adds one effect after the other; --table has all of them on, one night a seed, and ends
    with exit code 1 where a bound is not met. --mutations breaks the physics of the pipeline, one
    error at a time, and ends with exit code 1 where one is not caught (nights, figure and
    configuration have no part in it).
    """
    from dsaflow.validation.ladder import climb, describe, draw, wide
    from dsaflow.validation.table import describe_table, truth_table

    if ladder + table + mutations != 1:
        raise typer.BadParameter("choose what to validate: --ladder, --table or --mutations")
    if mutations:
        from dsaflow.validation.mutations import run_all

        good, text = run_all(folder or Path("mutations"), seed or [3], only)
        typer.echo(text)
        raise typer.Exit(0 if good else 1)
    config = load_setup(configfile, profile).config
    if table:
        lines = truth_table(config, folder or Path("truth"), seed or [1])
        typer.echo(describe_table(lines))
        raise typer.Exit(0 if all(line.holds for line in lines) else 1)
    folder = folder or Path("ladder")
    results = climb(config, folder, nights, seed or [1], only)
    if not results:
        raise typer.BadParameter(f"no rung has {only!r} in its name")
    figure = figure or folder / "ladder.png"
    draw(results, figure)
    typer.echo(describe(results))
    for line in wide(results):
        typer.echo(f"pulls wider than 1.1: {line}")
    typer.echo(f"figure: {figure}")


for _name in ("runs", "mosaic", "show", "serve", "operate", "ese"):
    import_module(f"dsaflow.cli.{_name}").register(app)


def main() -> None:
    """Entry point."""
    report_errors(app)
