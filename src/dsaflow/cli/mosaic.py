"""Commands: mosaic create, also as scripts/create_mosaic_centered.py."""

import time
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dsaflow.cli.common import ConfigOption, ProfileOption, Setup, load_setup, report_errors
from dsaflow.errors import ConfigError
from dsaflow.names import PRODUCTS

if TYPE_CHECKING:
    from dsaflow.runs.mosaics import Created, RequestedMosaic
    from dsaflow.runs.record import Row


class Exit(IntEnum):
    """How a request for a mosaic ended; 2 is a wrong option or configuration, 130 Ctrl-C."""

    PUBLISHED = 0  # and its checksums hold; with --no-wait: queued; with --dry-run: could be made
    NO_TRANSIT = 10  # no transit (or window) with data
    TOO_FEW_TILES = 11  # too few tiles, or some are still arriving
    WITHHELD = 12  # rejected by its quality gates, or retracted
    RUN_FAILED = 13
    TIMED_OUT = 14  # the run goes on
    BUSY = 15  # the queue is full, or the run was still waiting in it when the time was up
    CANCELED = 16
    DAMAGED = 17  # published, but its files are missing or have changed


def create(
    calibrator: Annotated[
        str | None, typer.Option(help="name in the calibrators' table, e.g. 0834+555")
    ] = None,
    ra_deg: Annotated[float | None, typer.Option(help="ICRS; centre instead of a name")] = None,
    dec_deg: Annotated[float | None, typer.Option(help="ICRS")] = None,
    start: Annotated[
        str | None, typer.Option(help="ISO time (UTC); with --end, instead of a transit")
    ] = None,
    end: Annotated[str | None, typer.Option(help="ISO time (UTC)")] = None,
    timespan_minutes: Annotated[
        float | None,
        typer.Option(
            help="length about the transit in whole tiles, 50 is 10 of them; default: plan.mosaic_tiles"
        ),
    ] = None,
    transit: Annotated[
        str,
        typer.Option(
            help="latest or earliest (with enough tiles), an ISO time, a date, or list: show them"
        ),
    ] = "latest",
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="until it is published")] = True,
    poll_interval: Annotated[
        float, typer.Option(min=0.1, help="s between looks at the run's progress")
    ] = 5.0,
    max_wait_hours: Annotated[
        float, typer.Option(min=0.0, help="h; then exit, while the run goes on")
    ] = 24.0,
    profile: ProfileOption = None,
    configfile: ConfigOption = None,
    photometry: Annotated[
        bool, typer.Option("--with-photometry/--no-photometry", help="measure its sources too")
    ] = True,
    force: Annotated[
        bool, typer.Option("--force", help="try even if the same run failed for good before")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="show the plan, start nothing")
    ] = False,
) -> None:
    """Make a mosaic centred on a transit and publish it; finds it if it is published already."""
    from dsaflow.runs.mosaics import NoTransit, TooFewTiles, resolve

    setup = load_setup(configfile, profile)
    if transit == "list":
        raise typer.Exit(_list(setup, calibrator))
    try:
        mosaic = resolve(
            setup.config, calibrator=calibrator, ra_deg=ra_deg, dec_deg=dec_deg, start=start,
            end=end, timespan_minutes=timespan_minutes, transit=transit,
        )  # fmt: skip
    except NoTransit as error:
        raise typer.Exit(_end(Exit.NO_TRANSIT, f"no transit with data: {error}")) from None
    except TooFewTiles as error:
        raise typer.Exit(_end(Exit.TOO_FEW_TILES, f"too few tiles: {error}")) from None
    from dsaflow.cli.tables import print_request

    print_request(mosaic)
    for note in mosaic.notes:
        typer.echo(f"passed over {note}")
    if dry_run:
        raise typer.Exit(Exit.PUBLISHED)
    request = _Request(setup, mosaic, photometry, force)
    code = request.follow(poll_interval, 3600.0 * max_wait_hours) if wait else request.queue()
    raise typer.Exit(code)


def _list(setup: Setup, calibrator: str | None) -> Exit:
    from dsaflow.cli.tables import print_transits
    from dsaflow.runs.transits import transits

    print_transits(transits(setup.config, calibrator))
    return Exit.PUBLISHED


def _end(code: Exit, message: str) -> Exit:
    typer.echo(message, err=True)
    return code


class _Request:
    """One request for a mosaic, from submitting it to its end."""

    def __init__(
        self, setup: Setup, mosaic: "RequestedMosaic", photometry: bool, force: bool
    ) -> None:
        from dsaflow.runs.record import Record

        self.setup = setup
        self.mosaic = mosaic
        self.photometry = photometry
        self.force = force
        self.record: Record = Record.open(setup.config)

    def queue(self) -> Exit:
        """Submit, and start the run where nothing else is live."""
        from dsaflow.runs import launch

        created = self._create()
        if isinstance(created, Exit):
            return created
        if created.run_id is None:
            return self._conclude()
        launch.dispatch(self.record, self.setup.config)
        typer.echo(f"Run {created.run_id} ({created.status}) makes {created.group_id}")
        return Exit.PUBLISHED

    def follow(self, poll_s: float, longest_s: float) -> Exit:
        """Submit, wait for the end, and say what has come of it."""
        deadline_s = time.monotonic() + longest_s
        while True:
            created = self._create()
            if isinstance(created, Exit):
                return created
            if created.run_id is None:
                return self._conclude()
            run = self._wait(created.run_id, poll_s, deadline_s - time.monotonic())
            # a run that was live before may have been asked for less than is wanted here
            if created.status == "queued" or run["state"] != "COMPLETE" or self._made():
                return self._judge(run)

    def _create(self) -> "Created | Exit":
        from dsaflow.publish import PublicationError
        from dsaflow.runs import launch
        from dsaflow.runs.mosaics import Retracted, create

        try:
            return create(
                self.record, self.setup.config, self.mosaic, profile=self.setup.profile,
                configfiles=self.setup.configfiles, photometry=self.photometry,
                force=self.force,
            )  # fmt: skip
        except Retracted as error:
            return _end(Exit.WITHHELD, str(error))
        except PublicationError as error:
            return _end(Exit.DAMAGED, f"published, but damaged: {error}")
        except launch.QueueFull as error:
            return _end(Exit.BUSY, f"busy: {error}")

    def _wait(self, run_id: str, poll_s: float, timeout_s: float) -> "Row":
        from dsaflow.cli.follow import Follower
        from dsaflow.runs import launch

        typer.echo(f"run {run_id}")
        try:
            with Follower(self.record, self.setup.config, self.mosaic.group_id) as follower:
                return launch.wait(
                    self.record, self.setup.config, run_id, poll_s=poll_s,
                    timeout_s=max(timeout_s, 0.0), on_poll=follower.update,
                )  # fmt: skip
        except KeyboardInterrupt:
            typer.echo(
                f"the run goes on: `dsaflow status {run_id}` shows it, "
                f"`dsaflow cancel {run_id}` ends it",
                err=True,
            )
            raise

    def _made(self) -> bool:
        from dsaflow.runs.mosaics import targets

        wanted = targets(self.setup.config, self.mosaic.group_id, self.photometry)
        return all(Path(target).exists() for target in wanted)

    def _judge(self, run: "Row") -> Exit:
        """Exit code of a run that ended, or did not in time."""
        from dsaflow.cli.follow import why_queued
        from dsaflow.runs.states import FINISHED

        run_id = run["run_id"]
        if run["state"] == "QUEUED":
            reason = why_queued(self.record, self.setup.config, run)
            return _end(Exit.BUSY, f"busy: run {run_id} still waits {reason}".rstrip())
        if run["state"] not in FINISHED:
            return _end(Exit.TIMED_OUT, f"timed out: run {run_id} goes on ({run['state']})")
        if run["state"] == "CANCELED":
            return _end(Exit.CANCELED, f"run {run_id} was canceled")
        if run["state"] != "COMPLETE":
            message = run["error_message"] or "no message was left"
            return _end(
                Exit.RUN_FAILED, f"run {run_id} failed: {message}\nsee `dsaflow logs {run_id}`"
            )
        return self._conclude()

    def _conclude(self) -> Exit:
        """Exit code by what the files say."""
        from dsaflow.cli.tables import print_gates
        from dsaflow.publish import PublicationError
        from dsaflow.runs.mosaics import outcome

        group_id = self.mosaic.group_id
        try:
            result = outcome(self.setup.config, group_id)
        except PublicationError as error:
            return _end(Exit.DAMAGED, f"published, but damaged: {error}")
        if result["state"] == "published":
            image = Path(result["path"]) / Path(PRODUCTS["mosaic_image"]).name
            typer.echo(f"Published mosaic: {image}")
            return Exit.PUBLISHED
        if not result["state"]:
            return _end(Exit.RUN_FAILED, f"the run ended well, but {group_id} was not made")
        if result["gates"]:
            print_gates(result["gates"])
        return _end(Exit.WITHHELD, f"{group_id} is {result['state']}: {result['reason']}")


def forget(group_id: str, configfile: ConfigOption = None, profile: ProfileOption = None) -> None:
    """Forget a request (cancelled, say), so that later runs do not make it; products stay."""
    from dsaflow.planning.requests import withdraw_request

    if not withdraw_request(load_setup(configfile, profile).config, group_id):
        raise ConfigError(f"{group_id} was not asked for; mosaics of the plan cannot be forgotten")
    typer.echo(f"{group_id} is forgotten")


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    group = typer.Typer(no_args_is_help=True, help="Make mosaics.")

    group.command()(create)
    group.command()(forget)
    app.add_typer(group, name="mosaic")


def main() -> None:
    """Entry point of scripts/create_mosaic_centered.py."""
    app = typer.Typer(add_completion=False)
    app.command()(create)
    report_errors(app)
