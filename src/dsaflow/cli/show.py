"""Commands: what is recorded, made and published."""

import typer


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
