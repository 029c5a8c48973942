"""The `dsaflow` command: what it prints is what the workflow will do, or has done."""

from pathlib import Path
from typing import Annotated

import typer

from dsaflow.config import load_config
from dsaflow.errors import ConfigError, DsaflowError

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)

ConfigOption = Annotated[
    list[Path],
    typer.Option("--configfile", help="YAML files, later ones override earlier ones"),
]
DEFAULT_CONFIG = [Path("config/config.yaml")]


def _config(files: list[Path]):
    import yaml

    merged: dict = {}
    for file in files:
        if not file.exists():
            raise ConfigError(f"no such file: {file}")
        _merge(merged, yaml.safe_load(file.read_text()) or {})
    return load_config(merged)


def _merge(into: dict, other: dict) -> None:
    for key, value in other.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


@app.command()
def plan(
    configfile: ConfigOption = DEFAULT_CONFIG,
    as_json: Annotated[bool, typer.Option("--json", help="print the whole plan as JSON")] = False,
) -> None:
    """Scan the incoming folder; show tiles, mosaics, gaps, and what is left out and why."""
    from dsaflow.planning import describe_plan, make_plan

    planned = make_plan(_config(configfile))
    typer.echo(planned.to_json() if as_json else describe_plan(planned))


@app.command()
def simulate(
    configfile: ConfigOption = DEFAULT_CONFIG,
    epoch: Annotated[
        list[int] | None, typer.Option(help="nights to simulate; default: all of them")
    ] = None,
) -> None:
    """Write simulated nights (UVH5), their truth, and the spoilt catalogue."""
    from dsaflow.simulate.night import run

    config = _config(configfile)
    run(config.simulate, epoch, config.paths.incoming, config.paths.antennas)


@app.command()
def retract(
    group_id: str,
    reason: Annotated[str, typer.Option(help="why, for whoever finds the tombstone")],
    configfile: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Retract a published mosaic; the tombstone outlives any re-run."""
    from dsaflow.publish import retract as retract_mosaic

    state = retract_mosaic(group_id, reason, _config(configfile).paths.published)
    typer.echo(f"{group_id}: {state['state']}")


@app.command()
def demo(
    profile: Annotated[str, typer.Option(help="Snakemake profile")] = "profiles/demo",
) -> None:
    """Simulate a month of nights, run the whole chain on them, and say what was found."""
    from dsaflow.demo import run_demo

    raise typer.Exit(run_demo(profile))


def main() -> None:
    """Entry point: errors that name their cause are printed without a traceback."""
    try:
        app()
    except DsaflowError as error:
        typer.echo(f"error: {error}", err=True)
        raise SystemExit(2) from None
