"""Commands: run, recover, cancel, retry."""

import typer


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
