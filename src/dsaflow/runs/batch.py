"""Batches: one Snakemake run with the targets of many tiles or mosaics."""

from collections.abc import Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

from dsaflow.errors import ConfigError, DsaflowError
from dsaflow.names import product
from dsaflow.planning import Plan, PlannedMosaic, PlannedTile, make_plan
from dsaflow.runs import launch
from dsaflow.runs.record import Record
from dsaflow.runs.times import Moment, mjd_of, utc_text

if TYPE_CHECKING:
    from dsaflow.config import Config

# The last file of each stage, and of what.
STAGES = {
    "convert": ("tile", "convert_verdict"),
    "calibrate": ("tile", "calibrated_verdict"),
    "image": ("tile", "tile_verdict"),
    "mosaic": ("group_id", "mosaic_qa"),
    "photometry": ("group_id", "photometry_verdict"),
    "publish": ("group_id", "publication"),
    "ese-detect": ("strip", "variability_verdict"),
}
# Snakemake's cost grows faster than its jobs, and each target is a word of a command line.
MOST_TARGETS = 1000


class NothingSelected(DsaflowError):
    """No tile or mosaic of the plan lies in what was asked for."""


def targets(
    config: "Config",
    plan: Plan,
    stage: str,
    *,
    tiles: Sequence[str] | None = None,
    group_ids: Sequence[str] | None = None,
    start: Moment | None = None,
    end: Moment | None = None,
) -> list[str]:
    """Files that a batch must make.

    Parameters
    ----------
    config : Config
    plan : Plan
    stage : str
        One of `STAGES`.
    tiles, group_ids : sequence of str, optional
        Which tiles and mosaics. Of tiles, the stages after imaging take every mosaic with one of
        them; of mosaics, the stages up to imaging take all their tiles.
    start, end : str, datetime or float, optional
        UTC (ISO text or MJD): middles of tiles or mosaics from `start` to `end`; with lists, both count.

    Returns
    -------
    list of str
        Paths, in the plan's order.

    Raises
    ------
    ConfigError
        No such stage, tile or mosaic; nothing given to choose by; more than one run should make.
    NothingSelected
        The window is empty.
    """
    if stage not in STAGES:
        raise ConfigError(f"no stage {stage!r}: one of {', '.join(STAGES)}")
    if tiles is None and group_ids is None and start is None and end is None:
        raise ConfigError("say what to process: tiles, mosaics, or a start and an end")
    item, key = STAGES[stage]
    first = -float("inf") if start is None else mjd_of(start)
    last = float("inf") if end is None else mjd_of(end)
    if first > last:
        raise ConfigError("the end lies before the start")
    if item == "tile":
        found = [t for t in _tiles(plan, tiles, group_ids) if first <= t.mid_mjd <= last]
        names = [t.tile for t in found]
    else:
        mosaics = [m for m in _mosaics(plan, tiles, group_ids) if first <= m.mid_mjd <= last]
        names = [m.group_id if item == "group_id" else m.strip for m in mosaics]
    names = list(dict.fromkeys(names))
    if not names:
        between = " ".join(f"{word} {utc_text(t)}" for word, t in _ends(first, last))
        what = "tile" if item == "tile" else "mosaic"
        raise NothingSelected(f"no {what} of the plan {between or 'is in the lists'}")
    if len(names) > MOST_TARGETS:
        raise ConfigError(
            f"{len(names)} targets; one run should make {MOST_TARGETS} at most: split the window"
        )
    return [product(key, config.paths.results, **{item: name}) for name in names]


def _ends(first: float, last: float) -> list[tuple[str, float]]:
    ends = [("after", first), ("before", last)]
    return [(word, time) for word, time in ends if abs(time) != float("inf")]


def _tiles(
    plan: Plan, tiles: Sequence[str] | None, group_ids: Sequence[str] | None
) -> list[PlannedTile]:
    if tiles is None and group_ids is None:
        return plan.admitted
    wanted = set(tiles or []) | {t for m in _named(plan, group_ids) for t in m.tiles}
    known = {t.tile: t.status for t in plan.tiles}
    for tile in sorted(wanted):
        if known.get(tile) != "admitted":
            state = "is still arriving" if tile in known else "is not in the incoming folder"
            raise ConfigError(f"tile {tile} {state}: see `dsaflow plan`")
    return [t for t in plan.tiles if t.tile in wanted]


def _mosaics(
    plan: Plan, tiles: Sequence[str] | None, group_ids: Sequence[str] | None
) -> list[PlannedMosaic]:
    if tiles is None and group_ids is None:
        return plan.mosaics
    wanted = {m.group_id for m in _named(plan, group_ids)}
    chosen = {t.tile for t in _tiles(plan, tiles, None)} if tiles is not None else set()
    return [m for m in plan.mosaics if m.group_id in wanted or chosen & set(m.tiles)]


def _named(plan: Plan, group_ids: Sequence[str] | None) -> list[PlannedMosaic]:
    known = {m.group_id: m for m in plan.mosaics}
    unknown = sorted(set(group_ids or []) - set(known))
    if unknown:
        raise ConfigError(f"no mosaic {unknown[0]} in the plan: see `dsaflow plan`")
    return [known[g] for g in group_ids or []]


def create(
    record: Record,
    config: "Config",
    stage: str,
    *,
    profile: str,
    configfiles: Sequence[str] = (),
    workdir: str | PathLike = ".",
    tiles: Sequence[str] | None = None,
    group_ids: Sequence[str] | None = None,
    start: Moment | None = None,
    end: Moment | None = None,
    priority: int = 10,
    requested_by: str = "",
    idempotency_key: str | None = None,
) -> str:
    """Queue a batch; returns the id of its run.

    Parameters
    ----------
    record : Record
    config : Config
    stage : str
    profile : str
        Snakemake profile.
    configfiles : sequence of str
        Files for Snakemake's ``--configfile``.
    workdir : path
        Folder of the Snakefile.
    tiles, group_ids, start, end
        As for `targets`.
    priority : int
        Larger starts first.
    requested_by : str
    idempotency_key : str, optional

    Raises
    ------
    ConfigError, NothingSelected
        As `targets`.
    QueueFull
        Too many runs wait.
    """
    plan = make_plan(config)
    files = targets(config, plan, stage, tiles=tiles, group_ids=group_ids, start=start, end=end)
    asked = asked_for(stage, tiles=tiles, group_ids=group_ids, start=start, end=end)
    return launch.submit(
        record,
        config,
        kind="batch",
        targets=files,
        profile=profile,
        configfiles=configfiles,
        workdir=workdir,
        group_ids=_groups_of(config, plan, stage, files),
        options=asked | {"n_targets": len(files)},
        priority=priority,
        requested_by=requested_by,
        idempotency_key=idempotency_key,
    )


def asked_for(
    stage: str,
    *,
    tiles: Sequence[str] | None = None,
    group_ids: Sequence[str] | None = None,
    start: Moment | None = None,
    end: Moment | None = None,
) -> dict[str, Any]:
    """Describe a request as the record keeps it in a batch's options, beside `n_targets`."""
    ends = {
        name: utc_text(mjd_of(t)) for name, t in (("start", start), ("end", end)) if t is not None
    }
    lists = {
        name: list(items)
        for name, items in (("tiles", tiles), ("group_ids", group_ids))
        if items is not None
    }
    return {"stage": stage, **ends, **lists}


def _groups_of(config: "Config", plan: Plan, stage: str, files: list[str]) -> list[str]:
    """Mosaics that a batch makes: what the record follows."""
    item, key = STAGES[stage]
    if item == "tile":
        return []
    made = set(files)
    if item == "strip":
        return [
            m.group_id
            for m in plan.mosaics
            if product(key, config.paths.results, strip=m.strip) in made
        ]
    return [
        m.group_id
        for m in plan.mosaics
        if product(key, config.paths.results, group_id=m.group_id) in made
    ]
