"""Commands: the HTTP service."""

import typer


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
