"""Cleaning: what may go some time after publication, and the mark above which no new work starts.

Raw files are never touched. A Measurement Set goes together with its manifest, on which all that reads it
depends: while its products are up to date nothing is made again, and a later run that does need it
converts the raw files anew. So a set is only removed while its raw files are there.
"""

import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from dsaflow.errors import DsaflowError
from dsaflow.fileio import attempt_name, read_json
from dsaflow.names import WILDCARD_PATTERNS, product
from dsaflow.runs import conditions
from dsaflow.runs.locks import WorkdirLock
from dsaflow.runs.record import Record
from dsaflow.runs.states import State

if TYPE_CHECKING:
    from dsaflow.config import Config
    from dsaflow.planning import Plan

_DAY_S = 86400.0
# Measurement Set and manifest
_SETS = (("measurement_set", "ms_manifest"), ("calibrated_ms", "calibrated_manifest"))
_VERDICTS = ("convert_verdict", "calibrated_verdict", "tile_verdict")
_LEFTOVER = re.compile(r"\.tmp-[0-9a-f]{12}(\.|$)|^\.building-")


class FolderInUse(DsaflowError):
    """A run is live in the working directory, or died there."""


@dataclass(frozen=True)
class Item:
    """Something that may go.

    Attributes
    ----------
    path : str
    manifest : str
        Goes before it; empty for leftovers.
    size : int
        [bytes]
    age_days : float
        Since what it waited for: publication, or the last change.
    reason : str
    """

    path: str
    manifest: str
    size: int
    age_days: float
    reason: str


@dataclass
class CleanPlan:
    """What may go, and which tiles keep their Measurement Sets and why."""

    items: list[Item] = field(default_factory=list)
    kept: dict[str, str] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes to be freed."""
        return sum(item.size for item in self.items)


def above_high_water(config: "Config") -> bool:
    """Whether more of the results disk is used than ``clean.high_water``: no new run may start."""
    return conditions.used_fraction(config) > config.clean.high_water


def plan_clean(config: "Config", now_s: float | None = None) -> CleanPlan:
    """Find what may go; nothing is changed.

    Parameters
    ----------
    config : Config
    now_s : float, optional
        Unix time; default: now.
    """
    from dsaflow.planning import make_plan

    now_s = time.time() if now_s is None else now_s
    plan = make_plan(config)
    awaited = _awaited_tiles(config, plan)
    result = CleanPlan()
    for tile in sorted(p.name for p in Path(config.paths.results).glob("tiles/*")):
        if not re.fullmatch(WILDCARD_PATTERNS["tile"], tile):
            continue
        found = [pair for pair in _sets(config, tile) if pair[0].is_dir()]
        if not found:
            continue
        reason = awaited.get(tile) or _raw_missing(config, plan, tile)
        age_days = (now_s - _settled_s(config, plan, tile)) / _DAY_S
        if not reason and age_days < config.clean.keep_days:
            reason = f"{age_days:.1f} d of clean.keep_days = {config.clean.keep_days:g} have passed"
        if reason:
            result.kept[tile] = reason
            continue
        for path, manifest in found:
            text = f"{age_days:.1f} d since its mosaics were judged, or its own last product"
            result.items.append(Item(str(path), str(manifest), _size(path), age_days, text))
    for path in _leftovers(config):
        age_days = (now_s - _newest_s(path)) / _DAY_S
        if age_days >= config.clean.scratch_days:
            text = f"left by a process that was killed, unchanged for {age_days:.1f} d"
            result.items.append(Item(str(path), "", _size(path), age_days, text))
    return result


def clean(
    config: "Config",
    record: Record,
    workdir: str | os.PathLike = ".",
    wait_s: float = 0.0,
) -> CleanPlan:
    """Remove what `plan_clean` finds, while no run works in the folder.

    Parameters
    ----------
    config : Config
    record : Record
    workdir : path
        Folder of the Snakefile. The next run there starts when this is done.
    wait_s : float
        How long to wait for a gap between runs [s].

    Returns
    -------
    CleanPlan
        What has been removed, and what is kept.

    Raises
    ------
    FolderInUse
        A run is live in `workdir`, or was killed and not yet recovered: it may need any of it.
    """
    lock = WorkdirLock(workdir)
    if not lock.acquire({"clean": os.getpid()}, wait_s):
        raise FolderInUse("a run is live here: clean when it has ended (`dsaflow runs`)")
    try:
        _refuse_beside_snakemake(record, workdir)
        plan = plan_clean(config)
        for item in plan.items:
            _remove(item)
        if plan.items:
            record.emit("clean", paths=[item.path for item in plan.items], bytes=plan.size)
    finally:
        lock.release()
    return plan


def _refuse_beside_snakemake(record: Record, workdir: str | os.PathLike) -> None:
    """Refuse where Snakemake may work without holding the lock: typed, or its supervisor killed."""
    live = record.live_run(workdir)
    # one that waits for the lock has not looked at any file yet
    waits = live is not None and live["state"] == State.INITIALIZING and not live["snakemake_pid"]
    if live is not None and not waits:
        raise FolderInUse(f"run {live['run_id']} is {live['state']} here: clean when it has ended")
    if any(Path(workdir, ".snakemake", "locks").glob("*")):
        raise FolderInUse("Snakemake runs or was killed here: wait, or call `dsaflow recover`")


def _remove(item: Item) -> None:
    """Remove the manifest, then the rest under a leftover's name: a kill leaves no half of a product."""
    path = Path(item.path)
    if item.manifest:
        Path(item.manifest).unlink(missing_ok=True)
        doomed = attempt_name(path)
        os.rename(path, doomed)
        path = doomed
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _sets(config: "Config", tile: str) -> list[tuple[Path, Path]]:
    results = config.paths.results
    return [
        (Path(product(data, results, tile=tile)), Path(product(manifest, results, tile=tile)))
        for data, manifest in _SETS
    ]


def _awaited_tiles(config: "Config", plan: "Plan") -> dict[str, str]:
    """Tiles that a mosaic without a verdict on its publication still needs -> why."""
    awaited: dict[str, str] = {}
    for mosaic in plan.mosaics:
        if Path(product("publication", config.paths.results, group_id=mosaic.group_id)).exists():
            continue
        for tile in mosaic.tiles:
            for needed in (tile, *plan.bandpass_tiles(tile), *plan.gain_tiles(tile)):
                awaited.setdefault(needed, f"mosaic {mosaic.group_id} is not made yet")
    return awaited


def _raw_missing(config: "Config", plan: "Plan", tile: str) -> str:
    """Why a set cannot be made again from the incoming folder; empty if it can."""
    try:
        names = {Path(file).name for file in plan.tile(tile).files}
    except KeyError:
        return f"its raw files are not in {config.paths.incoming}: the set could not be made again"
    verdict = Path(product("convert_verdict", config.paths.results, tile=tile))
    if not verdict.exists():
        return "its conversion is not complete"
    gone = set(read_json(verdict)["provenance"].get("files", [])) - names
    if gone:
        return f"{len(gone)} of its raw files are gone, e.g. {min(gone)}"
    return ""


def _settled_s(config: "Config", plan: "Plan", tile: str) -> float:
    """When the last mosaic of a tile was judged, or its own last product made."""
    results = config.paths.results
    paths = [product(key, results, tile=tile) for key in _VERDICTS]
    paths += [
        product("publication", results, group_id=mosaic.group_id)
        for mosaic in plan.mosaics
        if tile in mosaic.tiles
    ]
    return max((os.stat(path).st_mtime for path in paths if os.path.exists(path)), default=0.0)


def _leftovers(config: "Config") -> Iterator[Path]:
    """Half-built products of killed processes, below the results and the published tree."""
    for root in {config.paths.results, config.paths.published}:
        for folder, folders, files in os.walk(root):
            for name in [*folders, *files]:
                if _LEFTOVER.search(name):
                    yield Path(folder, name)
            # a Measurement Set has many files and no leftovers; runs are the record's
            folders[:] = [
                name for name in folders if not (name.endswith(".ms") or _LEFTOVER.search(name))
            ]


def _newest_s(path: Path) -> float:
    """Time of the last change of a file, or of anything in a folder."""
    return max((status.st_mtime for status in _statuses(path)), default=time.time())


def _size(path: Path) -> int:
    """Bytes on the disk."""
    return sum(status.st_blocks * 512 for status in _statuses(path))


def _statuses(path: Path) -> Iterator[os.stat_result]:
    for entry in (path, *(path.rglob("*") if path.is_dir() else ())):
        with suppress(FileNotFoundError):  # a live run's: gone between listing and looking
            yield entry.lstat()
