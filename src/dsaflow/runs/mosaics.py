"""Mosaics on request: which one is meant, making it, and whether it is published and intact."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dsaflow.errors import ConfigError, DsaflowError
from dsaflow.fileio import exclusive
from dsaflow.geometry import meridian_icrs
from dsaflow.instrument import TILE_S
from dsaflow.names import product
from dsaflow.planning import Plan, PlannedMosaic, make_plan
from dsaflow.planning.requests import (
    NoTransit,
    RequestedMosaic,
    TooFewTiles,
    Window,
    add_request,
    fullest_strip,
    tiles_in,
    withdraw_request,
)
from dsaflow.publish import find_tombstone, read_publication, verify
from dsaflow.runs import launch
from dsaflow.runs.record import Record, Row
from dsaflow.runs.states import LIVE, State
from dsaflow.runs.times import Moment, mjd_of, utc_text
from dsaflow.runs.transits import (
    centre_name,
    choose,
    find_calibrator,
    in_order,
    observed_windows,
    position,
    transits,
)
from dsaflow.verdict import Verdict

if TYPE_CHECKING:
    from dsaflow.config import Config

__all__ = [
    "Created",
    "NoTransit",
    "RequestedMosaic",
    "Retracted",
    "TooFewTiles",
    "create",
    "live_run",
    "outcome",
    "published",
    "resolve",
    "targets",
    "transits",
]

_TILE_D = TILE_S / 86400.0


class Retracted(DsaflowError):
    """The mosaic was retracted; its tombstone forbids making it again."""


@dataclass(frozen=True)
class Created:
    """What became of a request.

    Attributes
    ----------
    group_id : str
    run_id : str or None
        The run that makes or will make it; None where it is published.
    status : {"queued", "live", "published"}
        queued: a new run; live: a run that was queued or running before.
    publication : dict or None
        As in ``publication.json``, its checksums proved.
    """

    group_id: str
    run_id: str | None
    status: Literal["queued", "live", "published"]
    publication: dict[str, Any] | None = None


def resolve(
    config: "Config",
    *,
    calibrator: str | None = None,
    ra_deg: float | None = None,
    dec_deg: float | None = None,
    start: Moment | None = None,
    end: Moment | None = None,
    timespan_minutes: float | None = None,
    transit: str = "latest",
) -> RequestedMosaic:
    """Find the mosaic that is meant by a calibrator, a position, or a stretch of time.

    Parameters
    ----------
    config : Config
    calibrator : str, optional
        Name in the calibrators' table.
    ra_deg, dec_deg : float, optional
        ICRS centre; the mosaic is about its transit.
    start, end : str, datetime or float, optional
        UTC (ISO text or MJD); the mosaic is about the middle.
    timespan_minutes : float, optional
        Length about a transit; default: that of ``plan.mosaic_tiles``.
    transit : str
        Which transit: "latest" or "earliest" of those with enough tiles, an ISO time, or a date.

    Returns
    -------
    RequestedMosaic
        Of the tiles nearest to the transit (or middle). Nothing is written.

    Raises
    ------
    ConfigError
        What is asked for makes no sense.
    NoTransit
        No transit of it has data.
    TooFewTiles
        None has enough tiles, or tiles are still arriving.
    """
    kinds = [calibrator is not None, ra_deg is not None, start is not None]
    if sum(kinds) != 1 or (ra_deg is None) != (dec_deg is None) or (start is None) != (end is None):
        raise ConfigError("name one of: a calibrator, a centre (ra and dec), a start and an end")
    if start is not None and end is not None:
        if timespan_minutes is not None:
            raise ConfigError("a start and an end leave no room for a timespan: drop one")
        return _about_middle(config, mjd_of(start), mjd_of(end))
    n_tiles = config.plan.mosaic_tiles if timespan_minutes is None else tiles_in(timespan_minutes)
    min_response = None
    if calibrator is not None:
        target = find_calibrator(config.paths.calibrators, calibrator)
    else:
        assert ra_deg is not None
        assert dec_deg is not None
        target, min_response = position(ra_deg, dec_deg), config.mosaic.beam_cut
    plan = make_plan(config)
    windows = in_order(observed_windows(plan, config, target, n_tiles, min_response), transit)
    mosaic, passed_over = choose(plan, config, windows)
    return replace(mosaic, notes=passed_over)


def _about_middle(config: "Config", start_mjd: float, end_mjd: float) -> RequestedMosaic:
    n_tiles = tiles_in((end_mjd - start_mjd) * 1440.0)
    middle = 0.5 * (start_mjd + end_mjd)
    plan = make_plan(config)
    strip = fullest_strip(plan, middle, n_tiles)
    if strip is None:
        raise NoTransit(f"no data between {utc_text(start_mjd)} and {utc_text(end_mjd)}")
    window = _window_about(plan, strip, middle, n_tiles)
    mosaic, _ = choose(plan, config, [window])
    return mosaic


def _window_about(plan: Plan, strip: str, middle_mjd: float, n_tiles: int) -> Window:
    tiles = [t for t in plan.tiles if t.strip == strip]
    declination_deg = float(np.median([t.declination_deg for t in tiles]))
    ra_deg, dec_deg = (float(v) for v in meridian_icrs(middle_mjd, declination_deg))
    return Window(centre_name(ra_deg, dec_deg), "window", ra_deg, middle_mjd, n_tiles, strip)


def targets(config: "Config", group_id: str, photometry: bool = True) -> list[str]:
    """Files that a run must make for a mosaic to be published (or withheld) and measured."""
    keys = ("publication", "photometry_verdict") if photometry else ("publication",)
    return [product(key, config.paths.results, group_id=group_id) for key in keys]


def create(
    record: Record,
    config: "Config",
    mosaic: PlannedMosaic,
    *,
    profile: str,
    configfiles: Sequence[str] = (),
    workdir: str | PathLike = ".",
    photometry: bool = True,
    priority: int = 10,
    requested_by: str = "",
    idempotency_key: str | None = None,
    force: bool = False,
) -> Created:
    """Queue a run that makes a mosaic, unless it is published or being made.

    Parameters
    ----------
    record : Record
    config : Config
    mosaic : PlannedMosaic
        As `resolve` found it, or one of the plan's.
    profile : str
        Snakemake profile.
    configfiles : sequence of str
        Files for Snakemake's ``--configfile``.
    workdir : path
        Folder of the Snakefile.
    photometry : bool
        Measure it too.
    priority : int
        Larger starts first.
    requested_by : str
    idempotency_key : str, optional
    force : bool
        Try even if the same run failed for good before.

    Returns
    -------
    Created
        `launch.dispatch` (or `launch.wait`) starts the run.

    Raises
    ------
    Retracted
        A tombstone stands.
    PublicationError
        It is published, but its files are not as they were.
    QueueFull
        Too many runs wait.

    Notes
    -----
    One caller at a time looks and submits: of any number of requests for one mosaic, one makes a run.
    """
    group_id = mosaic.group_id
    tombstone = find_tombstone(config.paths.published, group_id)
    if tombstone is not None:
        raise Retracted(f"{group_id} was retracted: {tombstone['reason']}")
    with exclusive(Path(config.paths.results) / "plan" / "create.lock"):
        publication = published(config, group_id)
        if publication and all(Path(t).exists() for t in targets(config, group_id, photometry)):
            return Created(group_id, None, "published", publication)
        run = live_run(record, group_id)
        if run is not None:
            return Created(group_id, run["run_id"], "live")
        # before the run, whose plan must know the mosaic
        kept = (
            isinstance(mosaic, RequestedMosaic)
            and not mosaic.planned
            and add_request(config, _window_of(mosaic))
        )
        try:
            run_id = launch.submit(
                record,
                config,
                kind="mosaic",
                targets=targets(config, group_id, photometry),
                profile=profile,
                configfiles=configfiles,
                workdir=workdir,
                group_ids=[group_id],
                options={"photometry": photometry},
                priority=priority,
                requested_by=requested_by,
                idempotency_key=idempotency_key,
                force=force,
            )
        except DsaflowError:
            if kept:
                withdraw_request(config, group_id)
            raise
        record.emit("group", run_id, **_description(config, mosaic))
        return Created(group_id, run_id, "queued")


def _window_of(mosaic: RequestedMosaic) -> Window:
    assert mosaic.kind != "sliding"
    return Window(
        mosaic.centre, mosaic.kind, mosaic.ra_deg, mosaic.mid_mjd, mosaic.n_tiles, mosaic.strip
    )


def _description(config: "Config", mosaic: PlannedMosaic) -> dict[str, Any]:
    """What the record keeps of a mosaic before it is made."""
    n_tiles = mosaic.n_tiles if isinstance(mosaic, RequestedMosaic) else config.plan.mosaic_tiles
    half = 0.5 * n_tiles * _TILE_D
    return {
        "group_id": mosaic.group_id,
        "centre": mosaic.centre,
        "calibrator": None if mosaic.centre.startswith("ra") else mosaic.centre,
        "transit_mjd": mosaic.mid_mjd,
        "start_mjd": mosaic.mid_mjd - half,
        "end_mjd": mosaic.mid_mjd + half,
        "strip": mosaic.strip,
        "tiles": mosaic.tiles,
    }


def live_run(record: Record, group_id: str) -> Row | None:
    """Run that is queued or live and makes a mosaic; the live one before those that wait."""
    states = sorted({State.QUEUED, *LIVE})
    marks = ", ".join("?" for _ in states)
    return record.one(
        f"SELECT * FROM runs WHERE state IN ({marks}) AND instr(group_ids, ?) "
        "ORDER BY state = 'QUEUED', created_s LIMIT 1",
        (*states, f'"{group_id}"'),
    )


def published(config: "Config", group_id: str) -> dict[str, Any] | None:
    """Publication of a mosaic, its checksums proved; None where it is not published.

    Raises
    ------
    PublicationError
        Files are missing or have changed.
    """
    path = Path(product("publication", config.paths.results, group_id=group_id))
    if not path.exists() or find_tombstone(config.paths.published, group_id) is not None:
        return None
    publication = read_publication(path)
    if publication["state"] != "published":
        return None
    verify(publication)
    return publication


def outcome(config: "Config", group_id: str) -> dict[str, Any]:
    """What the files say of a mosaic.

    Returns
    -------
    dict
        state (published, withheld, retracted, or empty: not made), reason, path, and gates: those of
        its quality that failed, as in its verdict.

    Raises
    ------
    PublicationError
        It is published, but files are missing or have changed.
    """
    path = Path(product("publication", config.paths.results, group_id=group_id))
    tombstone = find_tombstone(config.paths.published, group_id)
    if tombstone is not None:
        return {"state": "retracted", "reason": tombstone["reason"], "path": "", "gates": []}
    if not path.exists():
        return {"state": "", "reason": "", "path": "", "gates": []}
    publication = read_publication(path)
    if publication["state"] == "published":
        verify(publication)
    gates = []
    judged = Path(product("mosaic_qa", config.paths.results, group_id=group_id))
    if publication["state"] != "published" and judged.exists():
        gates = [vars(g) for g in Verdict.read(judged).gates if g.verdict != "pass"]
    return {key: publication[key] for key in ("state", "reason", "path")} | {"gates": gates}
