"""Mosaics that were asked for: which window a request means, and its place in every later plan.

A request is kept as a window (centre, time, length) in ``plan/requests.json``; its id and its tiles
follow from the configuration and the data, as those of the mosaics that the plan makes by itself.
"""

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from dsaflow.errors import ConfigError, DsaflowError, ReasonCode
from dsaflow.fileio import digest, exclusive, read_json, write_json
from dsaflow.instrument import TILE_S
from dsaflow.names import group_id, product
from dsaflow.planning.mosaics import plan_mosaics, transits_with_data, window_tiles
from dsaflow.planning.plan import Plan, PlannedMosaic, PlannedTile, Skipped
from dsaflow.transit import ReachableCalibrator, transit_times_mjd

if TYPE_CHECKING:
    from dsaflow.config import Config

_FORMAT = 1
_TILE_D = TILE_S / 86400.0
# a strip's name is its median declination, which new tiles may move across a rounding
_STRIP_SHIFT_DEG = 0.15
# two computations of one transit differ by far less, two transits by far more
_SAME_D = 1.0 / 86400.0
LONGEST_H = 6.0


class NoTransit(DsaflowError):
    """No transit (or window) of what was asked for has data."""


class TooFewTiles(DsaflowError):
    """The window asked for has data, but not yet, or never, enough for a mosaic."""


@dataclass(frozen=True)
class Window:
    """A stretch of one strip: `n_tiles` long about `mid_mjd`, when `ra_deg` (ICRS) transits."""

    centre: str
    kind: Literal["centred", "window"]
    ra_deg: float
    mid_mjd: float
    n_tiles: int
    strip: str


@dataclass(frozen=True)
class RequestedMosaic(PlannedMosaic):
    """A mosaic that was asked for, with what a person wants to know before it is made.

    Attributes
    ----------
    n_tiles : int
        Tiles that the window would hold without gaps.
    offset_min : list of float
        Mid-time of each tile less the window's [min].
    missing_min : list of float
        The same for the tiles that are not there.
    planned : bool
        Whether the plan has it already, by itself or by an earlier request.
    notes : list of str
        Windows that were passed over, and why.
    """

    n_tiles: int
    offset_min: list[float]
    missing_min: list[float]
    planned: bool
    notes: list[str]


def tiles_in(minutes: float) -> int:
    """Length of a window in whole tiles.

    Raises
    ------
    ConfigError
        Shorter than half a tile, or longer than is sensible for one image.
    """
    n_tiles = round(minutes * 60.0 / TILE_S) if math.isfinite(minutes) else 0
    if not 1 <= n_tiles <= LONGEST_H * 3600.0 / TILE_S:
        raise ConfigError(
            f"a window of {minutes:g} min: ask for {TILE_S / 60:.1f} min (one tile) to "
            f"{60 * LONGEST_H:.0f} min, or set plan.sliding for mosaics of a whole night"
        )
    return n_tiles


def window_hash(config: "Config", n_tiles: int) -> str:
    """Last part of a group_id: the science hash for windows as long as the plan's, else its own."""
    science = config.science_hash()
    return science if n_tiles == config.plan.mosaic_tiles else digest([science, n_tiles])


def window_id(config: "Config", window: Window) -> str:
    """Compute the group_id of a window's mosaic."""
    return group_id(window.centre, window.mid_mjd, window_hash(config, window.n_tiles))


def read_requests(config: "Config") -> list[Window]:
    """Windows asked for so far, in the order of asking."""
    path = Path(product("requests", config.paths.results))
    if not path.exists():
        return []
    return [Window(**item) for item in read_json(path)["windows"]]


def add_request(config: "Config", window: Window) -> bool:
    """Keep a window for every later plan; False where it is there already.

    Notes
    -----
    Written atomically under a lock: several processes may ask at once.
    """
    path = Path(product("requests", config.paths.results))
    with exclusive(path.with_suffix(".lock")):
        windows = read_requests(config)
        if any(_same(window, other) for other in windows):
            return False
        content = [asdict(w) for w in [*windows, window]]
        write_json(path, {"format": _FORMAT, "windows": content})
        return True


def withdraw_request(config: "Config", group_id: str) -> bool:
    """Forget a window by its mosaic's id, so that later plans do without it; False where it is unknown.

    What was made of it stays. A mosaic that the plan makes by itself is not affected.
    """
    path = Path(product("requests", config.paths.results))
    with exclusive(path.with_suffix(".lock")):
        windows = read_requests(config)
        kept = [w for w in windows if window_id(config, w) != group_id]
        if len(kept) == len(windows):
            return False
        write_json(path, {"format": _FORMAT, "windows": [asdict(w) for w in kept]})
        return True


def _same(one: Window, two: Window) -> bool:
    return (one.centre, one.n_tiles) == (two.centre, two.n_tiles) and (
        abs(one.mid_mjd - two.mid_mjd) < _SAME_D
    )


def planned_already(plan: Plan, config: "Config", window: Window) -> PlannedMosaic | None:
    """Find the window's mosaic among those of the plan, which has its length and centre."""
    last = window_hash(config, window.n_tiles)
    for mosaic in plan.mosaics:
        if (
            mosaic.centre == window.centre
            and mosaic.group_id.endswith(f"_{last}")
            and abs(mosaic.mid_mjd - window.mid_mjd) < _SAME_D
        ):
            return mosaic
    return None


def add_requested(plan: Plan, config: "Config") -> None:
    """Add the mosaics that were asked for to the plan, but for those that it has already."""
    by_length: dict[tuple[str, str, int], list[Window]] = defaultdict(list)
    for window in read_requests(config):
        if planned_already(plan, config, window) is not None:
            continue
        strip = _strip_near({t.strip for t in plan.tiles}, window.strip)
        if strip:
            by_length[strip, window.kind, window.n_tiles].append(window)
        else:
            reason = f"{ReasonCode.NO_DATA}: no tile of {window.strip}"
            plan.skipped.append(Skipped(window_id(config, window), reason))
    for (strip, _, _), windows in by_length.items():
        mosaics, skipped = _fill(plan, config, strip, windows)
        plan.mosaics += mosaics
        plan.skipped += skipped


def _fill(
    plan: Plan, config: "Config", strip: str, windows: list[Window]
) -> tuple[list[PlannedMosaic], list[Skipped]]:
    """Fill windows of one length and kind with tiles."""
    first = windows[0]
    return plan_mosaics(
        [(w.mid_mjd, w.centre, w.ra_deg) for w in windows], first.kind,
        [t for t in plan.tiles if t.strip == strip], first.n_tiles, config.plan.min_tiles,
        window_hash(config, first.n_tiles), plan.more_after_mjd,
    )  # fmt: skip


def _strip_near(strips: set[str], wanted: str) -> str | None:
    def distance(strip: str) -> float:
        return abs(float(strip.removeprefix("dec")) - float(wanted.removeprefix("dec")))

    near = min(strips, key=lambda s: (distance(s), s), default=None)
    return near if near is not None and distance(near) <= _STRIP_SHIFT_DEG else None


def transit_windows(
    plan: Plan, strip: str, calibrator: ReachableCalibrator, n_tiles: int
) -> Iterator[tuple[Window, bool]]:
    """Windows about a position's transits over a strip's data, and whether a tile holds the transit.

    Yields
    ------
    window : Window
        Ascending in time, from the strip's first tile to its last.
    observed : bool
    """
    tiles = [t for t in plan.tiles if t.strip == strip]
    _, observed = transits_with_data(tiles, [calibrator])
    held = np.array([time for time, _ in observed])
    times = transit_times_mjd(
        calibrator.ra_deg, calibrator.dec_deg,
        tiles[0].mid_mjd - _TILE_D, tiles[-1].mid_mjd + _TILE_D,
    )  # fmt: skip
    for time in times.tolist():
        window = Window(calibrator.name, "centred", calibrator.ra_deg, time, n_tiles, strip)
        yield window, bool((np.abs(held - time) < _SAME_D).any())


def make_request(
    plan: Plan, config: "Config", window: Window
) -> tuple[RequestedMosaic | None, str]:
    """Try to fill a window; returns the mosaic, or None and the reason.

    Parameters
    ----------
    plan : Plan
    config : Config
    window : Window
        Its strip is one of the plan's.
    """
    ours = planned_already(plan, config, window)
    mosaic = ours
    if mosaic is None:
        mosaics, skipped = _fill(plan, config, window.strip, [window])
        if not mosaics:
            return None, skipped[0].reason
        mosaic = mosaics[0]
    tiles = [plan.tile(t) for t in mosaic.tiles]
    offsets = [_minutes(t.mid_mjd - mosaic.mid_mjd) for t in tiles]
    return RequestedMosaic(
        **mosaic.to_dict(), n_tiles=window.n_tiles, offset_min=offsets,
        missing_min=missing(tiles, window), planned=ours is not None, notes=[],
    ), ""  # fmt: skip


def _minutes(days: float) -> float:
    return round(1440.0 * float(days), 2)


def missing(tiles: list[PlannedTile], window: Window) -> list[float]:
    """Places of a window that no tile fills, as offsets from its middle [min].

    Parameters
    ----------
    tiles : list of PlannedTile
        The window's, not empty.
    window : Window
    """
    mids = np.array([t.mid_mjd for t in tiles])
    nearest = mids[np.argmin(np.abs(mids - window.mid_mjd))]
    steps = np.arange(-window.n_tiles, window.n_tiles + 1)
    # tiles follow one another on a grid through the one nearest to the middle
    grid = nearest + _TILE_D * steps + _TILE_D * round((window.mid_mjd - nearest) / _TILE_D)
    wanted = sorted(grid, key=lambda t: (abs(t - window.mid_mjd), t))[: window.n_tiles]
    empty = [t for t in wanted if np.abs(mids - t).min() > 0.5 * _TILE_D]
    # of two places equally far from the middle, only one belongs to the window
    return [_minutes(t - window.mid_mjd) for t in sorted(empty[: window.n_tiles - len(tiles)])]


def fullest_strip(plan: Plan, centre_mjd: float, n_tiles: int) -> str | None:
    """Strip with the most tiles in a window (the telescope points at one at a time), or None."""
    counts = {
        strip: len(window_tiles([t for t in plan.tiles if t.strip == strip], centre_mjd, n_tiles))
        for strip in sorted({t.strip for t in plan.tiles})
    }
    strip = max(counts, key=lambda s: counts[s], default=None)
    return strip if strip is not None and counts[strip] else None
