"""Rejected inputs and products: look at one, process it again, or note what was done about it."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dsaflow.errors import DsaflowError
from dsaflow.names import product
from dsaflow.planning import Plan
from dsaflow.runs import launch
from dsaflow.runs.record import Busy, Record, Row
from dsaflow.verdict import Verdict

if TYPE_CHECKING:
    from dsaflow.config import Config


class UnknownItem(DsaflowError):
    """Nothing of that name was ever rejected."""


class NothingToRetry(DsaflowError):
    """The item is not rejected by a file that could be made again."""


def find(record: Record, item: str) -> Row:
    """Row of a rejected item, ``<stage>/<tile, mosaic or file>``; raises `UnknownItem`."""
    row = record.one("SELECT * FROM quarantine WHERE item = ?", (item,))
    if row is None:
        raise UnknownItem(f"nothing rejected as {item}")
    return row


def retry(
    record: Record,
    config: "Config",
    item: str,
    *,
    profile: str,
    configfiles: Sequence[str] = (),
    workdir: str | os.PathLike = ".",
    requested_by: str = "",
) -> str:
    """Queue a run that judges a rejected item again, and makes its published mosaics anew.

    The rejecting verdict is removed, so that Snakemake makes it again whatever has changed.

    Returns
    -------
    str
        Id of the run.

    Raises
    ------
    UnknownItem
    NothingToRetry
        Planning left it out (each run plans anew: mend the file), or it is not rejected any more.
    Busy
        A run is live in `workdir`: its jobs may be about to read the verdict.
    QueueFull
        Too many runs wait.
    """
    row = find(record, item)
    path = Path(row["path"])
    if row["stage"] == "plan":
        raise NothingToRetry(
            f"{item} was left out by planning, which looks at every file again in each run: mend or "
            "replace the file"
        )
    inside = path.resolve().is_relative_to(Path(config.paths.results).resolve())
    if not inside or not path.is_file() or Verdict.read(path).usable:
        raise NothingToRetry(f"{item}: {path} is not rejected any more")
    live = record.live_run(workdir)
    if live is not None:
        raise Busy(f"run {live['run_id']} is live: try again when it has ended")
    groups = _made_from(config, item.partition("/")[2])
    targets = [str(path)]
    targets += [product("publication", config.paths.results, group_id=g) for g in groups]
    run_id = launch.submit(
        record,
        config,
        kind="batch",
        targets=targets,
        profile=profile,
        configfiles=configfiles,
        workdir=workdir,
        group_ids=groups,
        options={"stage": "retry", "item": item},
        requested_by=requested_by,
        force=True,
    )
    path.unlink()
    record.emit("quarantine.state", item=item, state="retrying", note=f"run {run_id}")
    return run_id


def _made_from(config: "Config", name: str) -> list[str]:
    """Mosaics, of those made already, that an item is part of (or is)."""
    path = Path(product("plan", config.paths.results))
    plan = Plan.read(path) if path.exists() else Plan()
    return [
        mosaic.group_id
        for mosaic in plan.mosaics
        if name in (mosaic.group_id, *mosaic.tiles)
        and Path(product("publication", config.paths.results, group_id=mosaic.group_id)).exists()
    ]


def resolve(record: Record, item: str, note: str = "") -> None:
    """Note that an item was dealt with; rejected again, it is open again.

    Raises
    ------
    UnknownItem
    """
    find(record, item)
    record.emit("quarantine.state", item=item, state="resolved", note=note)
