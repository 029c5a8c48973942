"""Runs: into the queue, out of it in order, cancelled, tried again, waited for."""

import os
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsaflow.errors import ConfigError, DsaflowError
from dsaflow.fileio import exclusive, read_json, write_json
from dsaflow.runs import alerts, clean, recover
from dsaflow.runs.command import FailedForGood, allow_rules, check
from dsaflow.runs.processes import Identity, user_name
from dsaflow.runs.record import Busy, Record, Row, new_run_id
from dsaflow.runs.spawn import config_file, refuse_other_host, spawn, supervised
from dsaflow.runs.states import FINISHED, LIVE, ErrorClass, State

if TYPE_CHECKING:
    from dsaflow.config import Config

KINDS = ("run", "mosaic", "batch", "watch")
# How often `wait` makes sure that the run still has its supervisor [s].
SETTLE_S = 5.0


class QueueFull(DsaflowError):
    """As many runs as ``runs.queue_limit`` allows wait already."""


class UnknownRun(DsaflowError):
    """The record has no such run."""


def submit(
    record: Record,
    config: "Config",
    *,
    kind: str,
    targets: Iterable[str],
    profile: str,
    configfiles: Sequence[str | os.PathLike] = (),
    workdir: str | os.PathLike = ".",
    group_ids: Iterable[str] = (),
    options: dict[str, Any] | None = None,
    priority: int = 10,
    requested_by: str = "",
    idempotency_key: str | None = None,
    rules: Sequence[str] = (),
    force: bool = False,
) -> str:
    """Put a run into the queue; nothing starts before `dispatch`.

    Parameters
    ----------
    record : Record
    config : Config
        As Snakemake will see it with `profile` and `configfiles`.
    kind : {"run", "mosaic", "batch", "watch"}
    targets : iterable of str
        Rules and paths of products; none: the workflow's default target.
    profile : str
        Folder of the Snakemake profile, relative to `workdir`.
    configfiles : sequence of path
        For Snakemake's ``--configfile``.
    workdir : path
        Folder of the Snakefile.
    group_ids : iterable of str
        Mosaics that the run makes.
    options : dict, optional
        What the request asked for.
    priority : int
        Larger starts first; equal ones in the order in which they came.
    requested_by : str
        Default: the user.
    idempotency_key : str, optional
        A second request with the same key is the first one's run.
    rules : sequence of str
        Only these may run; what others would make is taken as it is. None: all may.
    force : bool
        Try even if the same run failed for good before.

    Returns
    -------
    str
        Id of the run.

    Raises
    ------
    QueueFull
    ConfigError
        A field must not reach a command line (see `dsaflow.runs.command.check`).
    """
    place = Path(workdir).resolve()
    names, files = [str(target) for target in targets], [str(file) for file in configfiles]
    fields = {"targets": names, "profile": str(profile), "configfiles": files}
    fields |= {"arguments": allow_rules(rules)}
    if kind not in KINDS:
        raise ConfigError(f"{kind!r} is no kind of run: {', '.join(KINDS)}")
    check(place, names, str(profile), files)
    content = config.model_dump(mode="json")
    run_id = new_run_id()
    row = {"run_id": run_id, "workdir": str(place), "folder": str(record.folder / run_id)} | fields
    with exclusive(record.folder / "queue.lock"):
        if idempotency_key is not None:
            known = record.one("SELECT * FROM runs WHERE idempotency_key = ?", (idempotency_key,))
            if known is not None:
                return known["run_id"]
        if len(record.queued()) >= config.runs.queue_limit:
            raise QueueFull(
                f"{config.runs.queue_limit} runs wait already: try again when some have started, "
                "or raise runs.queue_limit"
            )
        if force:
            FailedForGood(record.folder, row, content).remove()
        write_json(config_file(row), content)
        record.create_run(
            kind, place, run_id=run_id, group_ids=list(group_ids), options=options or {},
            priority=priority, requested_by=requested_by or user_name(),
            idempotency_key=idempotency_key, **fields,
        )  # fmt: skip
    return run_id


def dispatch(record: Record, config: "Config", workdir: str | os.PathLike = ".") -> str | None:
    """Start the next queued run of a working directory, unless one is live there.

    Returns
    -------
    str or None
        Id of the run that was started. Nothing starts while the disk is too full (it stays queued).
        A run that failed for good before with the same targets, configuration and code ends at once,
        with the message of then.
    """
    place = str(Path(workdir).resolve())
    waiting = [row for row in record.queued() if row["workdir"] == place]
    if not waiting or record.live_run(place) is not None:
        return None
    if clean.above_high_water(config):
        alerts.high_water(record, config)
        return None
    me = Identity.of(os.getpid())
    assert me is not None
    for row in waiting:
        try:
            mine = record.transition(
                row["run_id"], State.INITIALIZING, only_from=State.QUEUED,
                snakemake_pid=None, snakemake_start=None, **me.fields("supervisor"),
            )  # fmt: skip
        except Busy:
            return None
        if mine and not _stopped(record, config, row):
            return row["run_id"]
    return None


def _stopped(record: Record, config: "Config", row: Row) -> bool:
    """Start the supervisor of a run, or end the run at once where it cannot succeed."""
    message = _marker(record, config, row).message()
    if message is not None:
        return record.transition(
            row["run_id"], State.EXECUTOR_ERROR, only_from=State.INITIALIZING,
            error_class=ErrorClass.PERMANENT, error_message=message,
        )  # fmt: skip
    try:
        supervisor = spawn(record, config, row)
    except OSError as error:
        return record.transition(
            row["run_id"], State.SYSTEM_ERROR, error_class=ErrorClass.TRANSIENT,
            error_message=f"no supervisor could be started: {error}",
        )  # fmt: skip
    # in this process's place, which may live on when a supervisor dies before it has said who it is
    nobody = {"supervisor_pid": None, "supervisor_start": None}
    fields = nobody if supervisor is None else supervisor.fields("supervisor")
    record.emit("run.updated", row["run_id"], **fields)
    return False


def _marker(record: Record, config: "Config", row: Row) -> FailedForGood:
    try:
        content = read_json(config_file(row))
    except (OSError, ValueError):  # a damaged one is for the supervisor to tell of
        content = config.model_dump(mode="json")
    return FailedForGood(record.folder, row, content)


def find(record: Record, run_id: str) -> Row:
    """Row of a run; raises `UnknownRun`."""
    row = record.run(run_id)
    if row is None:
        raise UnknownRun(f"no run {run_id} in {record.database}: `dsaflow runs` lists them")
    return row


def cancel(record: Record, config: "Config", run_id: str) -> State:
    """Cancel a run; its supervisor ends its processes, or a new one where it is dead.

    Returns
    -------
    State
        CANCELED for a run that had not started; CANCELING; or the state of a run that has ended.

    Raises
    ------
    UnknownRun
    OtherHost
        It lives on another machine.
    """
    if record.transition(find(record, run_id)["run_id"], State.CANCELED, only_from=State.QUEUED):
        return State.CANCELED
    row = find(record, run_id)
    if row["state"] in LIVE:
        refuse_other_host(row)
        record.transition(run_id, State.CANCELING)
        row = find(record, run_id)
    if row["state"] == State.CANCELING and not supervised(row):
        spawn(record, config, row)
    return State(row["state"])


def retry(record: Record, config: "Config", run_id: str) -> bool:
    """Try a run again that failed or was cancelled, or at once if it waits for its next try.

    A marker of a failure for good is removed.

    Returns
    -------
    bool
        False where there is nothing to try: it runs, is complete, or was typed by a person and is
        theirs to repeat.
    """
    row = find(record, run_id)
    if row["kind"] not in KINDS or row["state"] == State.COMPLETE:
        return False
    _marker(record, config, row).remove()
    if row["state"] == State.PAUSED:
        record.emit("run.updated", run_id, next_retry_s=time.time())
        return True
    if not (row["state"] == State.QUEUED or record.transition(run_id, State.QUEUED)):
        return False
    dispatch(record, config, row["workdir"])
    return True


def wait(
    record: Record,
    config: "Config",
    run_id: str,
    poll_s: float = 1.0,
    timeout_s: float | None = None,
    on_poll: Callable[[Row], None] | None = None,
) -> Row:
    """Wait for the end of a run, and meanwhile start what is queued.

    Parameters
    ----------
    record : Record
    config : Config
    run_id : str
    poll_s : float
        Between looks [s].
    timeout_s : float, optional
        Longest wait [s].
    on_poll : callable, optional
        Called with the run's row at each look.

    Returns
    -------
    dict
        The run; after `timeout_s` it may be in any state.
    """
    started = time.monotonic()
    settled = -SETTLE_S
    while True:
        row = find(record, run_id)
        if on_poll is not None:
            on_poll(row)
        now = time.monotonic()
        if row["state"] in FINISHED or (timeout_s is not None and now - started > timeout_s):
            return row
        if now - settled >= SETTLE_S:
            recover.settle(record, config, row["workdir"])
            settled = now
        dispatch(record, config, row["workdir"])
        time.sleep(poll_s)
