"""Commands: the HTTP service."""

from typing import Annotated

import typer

from dsaflow.cli.common import ConfigOption, ProfileOption, load_setup, profile_configfiles


def serve(
    configfile: ConfigOption = None,
    profile: ProfileOption = None,
    host: Annotated[str | None, typer.Option(help="default: api.host")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="default: api.port")] = None,
    access_log: Annotated[bool, typer.Option("--access-log", help="log each request")] = False,
) -> None:
    """Serve the HTTP API (docs/api.md) and start what is queued; one process a results folder."""
    import logging
    from pathlib import Path

    from dsaflow.api.auth import take_token
    from dsaflow.api.server import serve as run_service
    from dsaflow.api.settings import Service
    from dsaflow.runs.record import Record

    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    setup = load_setup(configfile, profile)
    files = setup.configfiles
    if not files and (Path(setup.profile) / "config.yaml").is_file():
        # named outright, so that a run with another profile has the configuration of the service
        files = [str(file) for file in profile_configfiles(setup.profile)]
    service = Service(
        config=setup.config,
        record=Record.open(setup.config),
        workdir=Path.cwd(),
        profile=setup.profile,
        configfiles=files,
        token=take_token(),
    )
    run_service(service, host or setup.config.api.host, port or setup.config.api.port, access_log)


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command()(serve)
