"""Command: logs, of a run, of the run of a mosaic, or of a job; --follow until the run has ended."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dsaflow.cli.common import (
    ConfigOption,
    JsonOption,
    ProfileOption,
    load_setup,
    open_record,
    print_json,
)
from dsaflow.errors import ConfigError, DsaflowError

if TYPE_CHECKING:
    from dsaflow.runs.record import Record

_POLL_S = 0.5
_CHUNK_BYTES = 1 << 20


class NoLog(DsaflowError):
    """There is no such log."""


def logs(
    what: Annotated[str, typer.Argument(help="run id, group_id, or job id (`dsaflow jobs`)")],
    configfile: ConfigOption = None,
    profile: ProfileOption = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="go on as it grows, until the run has ended")
    ] = False,
    tail: Annotated[int | None, typer.Option(min=0, help="only the last lines")] = None,
    as_json: JsonOption = False,
) -> None:
    """Print a log; with --json and --follow, one JSON object a line."""
    record = open_record(load_setup(configfile, profile).config)
    path, run_id = find_log(record, what)
    if not path.exists() and not follow:
        raise NoLog(f"no log at {path} (yet)")
    size = path.stat().st_size if path.exists() else 0
    lines = _last(path, size, tail)
    if as_json and not follow:
        print_json({"path": str(path), "run_id": run_id, "lines": lines})
        return
    for line in lines:
        _write(line, as_json)
    if follow:
        for line in _grown(record, path, run_id, size):
            _write(line, as_json)


def _write(line: str, as_json: bool) -> None:
    typer.echo(json.dumps({"line": line}) if as_json else line)


def find_log(record: "Record", what: str) -> tuple[Path, str]:
    """Log of a run, of a mosaic's latest run, or of a job; returns its path and the run's id.

    Raises
    ------
    ConfigError
        No such run, mosaic or job.
    NoLog
        The mosaic was made by no recorded run, or the rule has no log.
    """
    job = record.job(what)
    if job is not None:
        run = record.run(job["run_id"])
        if not job["log_path"]:
            raise NoLog(f"rule {job['rule']} has no log")
        # a rule's log is relative to the folder in which its run works
        return Path(run["workdir"] if run else ".") / job["log_path"], job["run_id"]
    group = record.group(what)
    run_id = group["run_id"] if group is not None else what
    if run_id is None:
        raise NoLog(f"no run of {what} is recorded")
    run = record.run(run_id)
    if run is None:
        raise ConfigError(f"neither a run, a mosaic nor a job of the record: {what}")
    return Path(run["log_path"]), run_id


def _last(path: Path, size: int, count: int | None) -> list[str]:
    """Complete lines in the first `size` bytes, the last `count` of them."""
    if not size:
        return []
    with open(path, "rb") as stream:
        lines = stream.read(size).decode(errors="replace").splitlines()
    return lines if count is None else lines[max(len(lines) - count, 0) :]


def _grown(record: "Record", path: Path, run_id: str, position: int) -> Iterator[str]:
    """Lines from a position on, as they come, until the run has ended."""
    from dsaflow.runs.states import FINISHED

    rest = b""
    while True:
        # the state before the log's tail: what a run writes last must not be lost
        run = record.run(run_id)
        ended = run is None or run["state"] in FINISHED
        if path.exists():
            with open(path, "rb") as stream:
                stream.seek(position)
                while fresh := stream.read(_CHUNK_BYTES):
                    position += len(fresh)
                    *whole, rest = (rest + fresh).split(b"\n")
                    yield from (line.decode(errors="replace") for line in whole)
        if ended:
            if rest:
                yield rest.decode(errors="replace")
            return
        time.sleep(_POLL_S)
