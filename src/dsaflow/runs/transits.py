"""Transits of calibrators and of any position: with data or not, and the next one."""

import difflib
import math
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dsaflow.errors import ConfigError, EnvironmentProblem
from dsaflow.fileio import DamagedFile
from dsaflow.names import product
from dsaflow.planning import CalibratorList, Plan, load_calibrators, make_plan
from dsaflow.planning.make import reachable
from dsaflow.planning.requests import (
    NoTransit,
    TooFewTiles,
    Window,
    make_request,
    transit_windows,
)
from dsaflow.publish import read_publication
from dsaflow.runs.times import mjd_of, utc_text
from dsaflow.transit import next_transit_mjd

if TYPE_CHECKING:
    from dsaflow.config import Config
    from dsaflow.planning.requests import RequestedMosaic

_UNIX_MJD = 40587.0
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_NEAR_D = 1.0 / 24.0  # a transit asked for by its time lies within this of it


def find_calibrator(path: str | Path, name: str) -> CalibratorList:
    """Look up one calibrator by its name or its name in the VLA's list.

    Raises
    ------
    ConfigError
        Not in the table; names the nearest.
    """
    known = load_calibrators(str(path))
    wanted = name.strip().upper().removeprefix("J")
    for index, own in enumerate(known.name):
        if wanted in (own.upper(), known.vla_name[index].upper()):
            return CalibratorList(
                [own],
                known.ra_deg[[index]],
                known.dec_deg[[index]],
                known.flux_jy[[index]],
                known.primary[[index]],
            )
    near = difflib.get_close_matches(wanted, known.name, n=3, cutoff=0.6)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    raise ConfigError(f"no calibrator {name!r} in {path}{hint}")


def centre_name(ra_deg: float, dec_deg: float) -> str:
    """Name of a position (ICRS) in a group_id, to 0.001 deg."""
    return f"ra{ra_deg:07.3f}{dec_deg:+07.3f}"


def position(ra_deg: float, dec_deg: float) -> CalibratorList:
    """Any position (ICRS, to 0.001 deg, so that its name says all) as if it were a calibrator.

    Raises
    ------
    ConfigError
        Not on the sky.
    """
    if not (math.isfinite(ra_deg) and math.isfinite(dec_deg) and -90 <= dec_deg <= 90):
        raise ConfigError(f"centre {ra_deg}, {dec_deg}: ra and dec in degrees, dec in [-90, 90]")
    # + 0.0: -0.0 would give one place two names
    ra_deg, dec_deg = round(ra_deg % 360.0, 3) % 360.0, round(dec_deg, 3) + 0.0
    return CalibratorList(
        [centre_name(ra_deg, dec_deg)],
        np.array([ra_deg]),
        np.array([dec_deg]),
        np.array([1.0]),
        np.array([False]),
    )


def observed_windows(
    plan: Plan, config: "Config", target: CalibratorList, n_tiles: int, min_response: float | None
) -> list[Window]:
    """Windows about those transits of a target that a tile holds, ascending in time.

    Parameters
    ----------
    plan : Plan
    config : Config
    target : CalibratorList
        Of one.
    n_tiles : int
    min_response : float or None
        Least response of a strip's beam to the target; None: that of calibrators.

    Raises
    ------
    NoTransit
        There is none; says whether for want of data, reach, or a tile at the right time.
    """
    (name,) = target.name
    strips = sorted({t.strip for t in plan.tiles})
    if not strips:
        raise NoTransit(f"no data: no raw files in {config.paths.incoming}")
    windows: list[Window] = []
    without: list[Window] = []
    for strip in strips:
        tiles = [t for t in plan.tiles if t.strip == strip]
        for found in reachable(tiles, config, target, min_response):
            for window, observed in transit_windows(plan, strip, found, n_tiles):
                (windows if observed else without).append(window)
    if windows:
        return sorted(windows, key=lambda w: w.mid_mjd)
    if without:
        last = utc_text(max(w.mid_mjd for w in without))
        raise NoTransit(f"no transit of {name} has data; its last among the data was at {last}")
    if any(
        reachable([t for t in plan.tiles if t.strip == strip], config, target, min_response)
        for strip in strips
    ):
        raise NoTransit(f"no transit of {name} falls into the time of the data")
    raise NoTransit(
        f"{name} at dec {target.dec_deg[0]:+.2f} deg is out of the beam's reach "
        f"of the strips with data: {', '.join(strips)}"
    )


def in_order(windows: list[Window], transit: str) -> list[Window]:
    """Windows in the order in which to try them.

    Parameters
    ----------
    windows : list of Window
        Ascending in time, not empty.
    transit : str
        "latest", "earliest", an ISO time (the transit nearest to it, within an hour) or date (the
        transit of that UTC day).

    Raises
    ------
    ConfigError
        Neither of those.
    NoTransit
        No transit with data then.
    """
    if transit in ("latest", "earliest"):
        return windows[::-1] if transit == "latest" else windows
    wanted = mjd_of(transit)
    if _DATE.fullmatch(transit):
        near = [w for w in windows if wanted <= w.mid_mjd < wanted + 1]
    else:
        near = [w for w in windows if abs(w.mid_mjd - wanted) <= _NEAR_D]
    if not near:
        closest = min(windows, key=lambda w: abs(w.mid_mjd - wanted))
        raise NoTransit(
            f"{closest.centre} has no transit with data at {transit}; "
            f"the nearest is at {utc_text(closest.mid_mjd)}"
        )
    return [min(near, key=lambda w: abs(w.mid_mjd - wanted))]


def choose(
    plan: Plan, config: "Config", windows: list[Window]
) -> tuple["RequestedMosaic", list[str]]:
    """Take the first window that has enough tiles; returns its mosaic, and why others were not.

    Raises
    ------
    TooFewTiles
        None has.
    """
    passed_over: list[str] = []
    for window in windows:
        mosaic, reason = make_request(plan, config, window)
        if mosaic is not None:
            return mosaic, passed_over
        passed_over.append(f"{utc_text(window.mid_mjd)}: {reason}")
    raise TooFewTiles(f"{windows[0].centre}: {'; '.join(passed_over[:5])}")


def transits(
    config: "Config", calibrator: str | None = None, now_s: float | None = None
) -> list[dict[str, Any]]:
    """Transits during the time of the data, and the next one, of one calibrator or all in reach.

    Parameters
    ----------
    config : Config
    calibrator : str, optional
    now_s : float, optional
        Unix time; default: now.

    Returns
    -------
    list of dict
        Ascending in time: calibrator, strip, transit_utc, transit_mjd, status, tiles, wanted (tiles
        of the window), group_id and state (published, withheld, retracted, or empty) of its mosaic,
        reason, apparent_jy. Status: ready (a mosaic can be made), few, waiting, no data, coming.
    """
    plan = make_plan(config)
    known = load_calibrators(config.paths.calibrators)
    targets = find_calibrator(config.paths.calibrators, calibrator) if calibrator else known
    now_mjd = (time.time() if now_s is None else now_s) / 86400.0 + _UNIX_MJD
    rows: list[dict[str, Any]] = []
    coming = dict(zip(targets.name, range(len(targets.name)), strict=True)) if calibrator else {}
    for strip in sorted({t.strip for t in plan.tiles}):
        tiles = [t for t in plan.tiles if t.strip == strip]
        for found in reachable(tiles, config, targets):
            coming[found.name] = targets.name.index(found.name)
            for window, observed in transit_windows(plan, strip, found, config.plan.mosaic_tiles):
                row = _row(found.name, strip, window.mid_mjd, config.plan.mosaic_tiles)
                row["apparent_jy"] = round(found.apparent_jy, 4)
                if observed:
                    row |= _possible(plan, config, window)
                rows.append(row)
    for name, index in coming.items():
        next_mjd = _next(float(targets.ra_deg[index]), float(targets.dec_deg[index]), now_mjd)
        row = _row(name, "", next_mjd, config.plan.mosaic_tiles)
        rows.append(row | {"status": "coming"})
    return sorted(rows, key=lambda row: (row["transit_mjd"], row["calibrator"]))


def _row(name: str, strip: str, mid_mjd: float, wanted: int) -> dict[str, Any]:
    return {
        "calibrator": name, "strip": strip, "transit_utc": utc_text(mid_mjd),
        "transit_mjd": mid_mjd, "status": "no data", "tiles": 0, "wanted": wanted,
        "group_id": "", "state": "", "reason": "", "apparent_jy": None,
    }  # fmt: skip


def _possible(plan: Plan, config: "Config", window: Window) -> dict[str, Any]:
    mosaic, reason = make_request(plan, config, window)
    if mosaic is None:
        return {"status": "waiting" if reason.startswith("waiting") else "few", "reason": reason}
    row = {"status": "ready", "tiles": len(mosaic.tiles), "group_id": mosaic.group_id}
    publication = Path(product("publication", config.paths.results, group_id=mosaic.group_id))
    if publication.exists():
        try:
            row["state"] = read_publication(publication)["state"]
        except DamagedFile as error:  # the other transits are none the worse for it
            row |= {"state": "damaged", "reason": str(error)}
    return row


def _next(ra_deg: float, dec_deg: float, now_mjd: float) -> float:
    try:
        return next_transit_mjd(ra_deg, dec_deg, now_mjd)
    except ValueError as error:
        raise EnvironmentProblem(f"the next transit cannot be computed: {error}") from None
