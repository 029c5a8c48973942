"""Commands: run, cancel, retry, recover."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from dsaflow.cli.common import (
    ConfigOption,
    JsonOption,
    ProfileOption,
    Setup,
    load_setup,
    open_record,
    print_json,
    print_table,
    say,
)

if TYPE_CHECKING:
    from dsaflow.runs.record import Record

FAILED = 1
RunArgument = Annotated[str, typer.Argument(help="id of the run (see `dsaflow runs`)")]


def run(
    targets: Annotated[
        list[str] | None, typer.Argument(help="rules and products; default: everything")
    ] = None,
    profile: ProfileOption = None,
    configfile: ConfigOption = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="until the run has ended")] = True,
    force: Annotated[
        bool, typer.Option("--force", help="try even if the same run failed for good before")
    ] = False,
    priority: Annotated[int, typer.Option(help="of the queued runs the largest starts first")] = 10,
    as_json: JsonOption = False,
) -> None:
    """Run the workflow: recorded, tried again where that can help, recovered after a crash.

    Ctrl-C leaves the run going. With --wait the exit code is 0 only if it is COMPLETE.
    """
    from dsaflow.runs import launch
    from dsaflow.runs.record import Record

    setup = load_setup(configfile, profile)
    record = Record.open(setup.config)
    run_id = launch.submit(
        record, setup.config, kind="run", targets=targets or [], profile=setup.profile,
        configfiles=setup.configfiles, priority=priority, force=force,
    )  # fmt: skip
    launch.dispatch(record, setup.config)
    if wait:
        raise typer.Exit(_follow(record, setup, run_id, as_json))
    row = launch.find(record, run_id)
    print_json(row) if as_json else say(_outcome(row))


def _follow(record: "Record", setup: Setup, run_id: str, as_json: bool) -> int:
    from dsaflow.cli.follow import Follower
    from dsaflow.runs import launch
    from dsaflow.runs.states import State

    if as_json:
        row = launch.wait(record, setup.config, run_id)
        print_json(row)
        return 0 if row["state"] == State.COMPLETE else FAILED
    say(f"run {run_id}, log {launch.find(record, run_id)['log_path']}")
    try:
        with Follower(record, setup.config, "") as follower:
            row = launch.wait(record, setup.config, run_id, on_poll=follower.update)
    except KeyboardInterrupt:
        say(f"the run goes on: `dsaflow status`, `dsaflow cancel {run_id}`")
        return 130
    say(_outcome(row))
    return 0 if row["state"] == State.COMPLETE else FAILED


def _outcome(row: dict[str, Any]) -> str:
    text = f"run {row['run_id']}: {row['state']}"
    message = row["error_message"] if row["state"] not in ("COMPLETE", "QUEUED") else ""
    return f"{text}, {row['error_class'] or 'error'}: {message}" if message else text


def cancel(
    run_id: RunArgument,
    profile: ProfileOption = None,
    configfile: ConfigOption = None,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="until no process is left of it")
    ] = True,
    as_json: JsonOption = False,
) -> None:
    """Cancel a run: SIGINT, SIGTERM, SIGKILL, scancel; then nothing of it writes any more."""
    from dsaflow.runs import launch

    setup = load_setup(configfile, profile)
    record = open_record(setup.config)
    state = launch.cancel(record, setup.config, run_id)
    if wait and state == "CANCELING":
        launch.wait(record, setup.config, run_id)
    row = launch.find(record, run_id)
    print_json(row) if as_json else say(_outcome(row))


def retry(
    run_id: RunArgument,
    profile: ProfileOption = None,
    configfile: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take up a run again that failed or was cancelled; one that waits for its next try, at once."""
    from dsaflow.runs import launch

    setup = load_setup(configfile, profile)
    record = open_record(setup.config)
    taken = launch.retry(record, setup.config, run_id)
    row = launch.find(record, run_id)
    if as_json:
        print_json(row)
    else:
        say(_outcome(row) if taken else f"{_outcome(row)}: nothing to try again")
    if not taken:
        raise typer.Exit(FAILED)


def recover(
    profile: ProfileOption = None,
    configfile: ConfigOption = None,
    resume: Annotated[
        bool, typer.Option("--resume/--no-resume", help="or only end what is left and unlock")
    ] = True,
    gone_host: Annotated[
        str, typer.Option(help="a host that is gone, or has another name now: its runs are dead")
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """After a crash: prove the old processes dead, end what is left, unlock, and resume."""
    from dsaflow.runs import launch
    from dsaflow.runs import recover as recovery

    setup = load_setup(configfile, profile)
    record = open_record(setup.config)
    found = recovery.examine(record, ".", gone_host)
    taken = recovery.recover(
        record, setup.config, resume=resume, profile=setup.profile,
        configfiles=setup.configfiles, gone_host=gone_host,
    )  # fmt: skip
    launch.dispatch(record, setup.config)
    rows = [
        {
            "run_id": one.run_id, "was": one.state, "processes": f"{one.condition} {one.detail}".strip(),
            "taken_up": one.run_id in taken, "now": launch.find(record, one.run_id)["state"],
        }
        for one in found
    ]  # fmt: skip
    if as_json:
        print_json(rows)
    elif rows:
        columns = list(rows[0])
        print_table("", columns, [list(row.values()) for row in rows])
    else:
        say("no run is live here")


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    for command in (run, cancel, retry, recover):
        app.command()(command)
