"""What every command shares: which configuration counts, and output as tables or as JSON."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dsaflow.errors import ConfigError, DsaflowError, EnvironmentProblem
from dsaflow.fileio import to_plain

if TYPE_CHECKING:
    from rich.console import Console

    from dsaflow.config import Config
    from dsaflow.runs.record import Record

# The Snakefile's own configfile: what a profile or the command line names comes on top of it.
BASE_CONFIG = Path("config/config.yaml")
_PIPE_WIDTH = 200

ConfigOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--configfile",
        help="YAML files on top of config/config.yaml, later ones override earlier ones; "
        "as in Snakemake they replace the profile's own",
    ),
]
ProfileOption = Annotated[
    str | None, typer.Option("--profile", help="Snakemake profile; default: api.profile")
]
JsonOption = Annotated[bool, typer.Option("--json", help="print JSON instead of tables")]


@dataclass(frozen=True)
class Setup:
    """Configuration as a run in this folder would see it, and how to start that run.

    Attributes
    ----------
    config : Config
    profile : str
        Folder of the Snakemake profile.
    configfiles : list of str
        As given on the command line: the profile's own are read by Snakemake itself.
    """

    config: "Config"
    profile: str
    configfiles: list[str]


def load_setup(configfiles: list[Path] | None = None, profile: str | None = None) -> Setup:
    """Load the configuration that Snakemake would use with the same files and profile.

    Parameters
    ----------
    configfiles : list of Path, optional
        Replace the configuration files that the profile names, as they do in Snakemake.
    profile : str, optional
        Default: ``api.profile``.

    Raises
    ------
    ConfigError
        A file or the profile is absent, or sets what the record could not know.
    """
    from dsaflow.config import load_config

    base: dict = {}
    if BASE_CONFIG.exists():
        _merge(base, _read_yaml(BASE_CONFIG))
    files = list(configfiles or [])
    if profile is None:
        named = dict(base)
        for file in files:
            _merge(named, _read_yaml(file))
        profile = load_config(named).api.profile
        own = profile_configfiles(profile) if Path(profile).is_dir() else []
    else:
        own = profile_configfiles(profile)
    for file in files or own:
        _merge(base, _read_yaml(file))
    return Setup(load_config(base), profile, [str(file) for file in files])


def profile_configfiles(profile: str) -> list[Path]:
    """Configuration files that a Snakemake profile names.

    Raises
    ------
    ConfigError
        No such profile, or it sets `config` or `directory`, which only Snakemake would see.
    """
    file = Path(profile) / "config.yaml"
    if not file.is_file():
        raise ConfigError(f"no profile {profile}: there is no file {file}")
    content = _read_yaml(file)
    for key in ("config", "directory"):
        if key in content:
            raise ConfigError(
                f"{file}: {key!r} in a profile is not supported: put settings into a file, name it "
                "under `configfile`, and start in the folder of the Snakefile"
            )
    named = content.get("configfile") or content.get("configfiles") or []
    return [Path(name) for name in ([named] if isinstance(named, str) else named)]


def _read_yaml(file: Path) -> dict:
    import yaml

    if not file.is_file():
        raise ConfigError(f"no such file: {file}")
    content = yaml.safe_load(file.read_text()) or {}
    if not isinstance(content, dict):
        raise ConfigError(f"{file}: expected keys and values, got {type(content).__name__}")
    return content


def _merge(into: dict, other: dict) -> None:
    for key, value in other.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


def open_record(config: "Config") -> "Record":
    """Open the record of a configuration's results, for reading.

    Raises
    ------
    EnvironmentProblem
        There is no results folder: rather the wrong configuration than nothing recorded.
    """
    from dsaflow.runs.record import Record

    if not Path(config.paths.results).is_dir():
        raise EnvironmentProblem(
            f"no folder {config.paths.results}: nothing was made here yet; if it was made with "
            "another configuration, name its --profile or --configfile"
        )
    return Record.open(config)


def say(text: str) -> None:
    """Print plain text."""
    typer.echo(text)


def print_json(content: Any) -> None:
    """Print strict JSON, indented: NaN as null, numpy values as plain ones."""
    typer.echo(json.dumps(to_plain(content), indent=1, allow_nan=False))


def console() -> "Console":
    """Where tables go: as wide as the terminal, wide enough for any id in a file or a pipe."""
    import sys

    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH)


def print_table(title: str, columns: list[str], rows: list[list[Any]]) -> None:
    """Print a table; what is None or empty stays blank."""
    from rich.table import Table

    table = Table(title=title or None, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*("" if value is None else str(value) for value in row))
    console().print(table)


def report_errors(app: typer.Typer) -> None:
    """Run an application; errors that name their cause are printed without a traceback."""
    try:
        app()
    except DsaflowError as error:
        typer.echo(f"error: {error}", err=True)
        raise SystemExit(2) from None
