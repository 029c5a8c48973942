"""Which tiles make which mosaic: centred on calibrator transits, or sliding over the strip."""

import math

import numpy as np

from dsaflow.geometry import meridian_icrs
from dsaflow.instrument import TILE_S, PrimaryBeam
from dsaflow.names import group_id
from dsaflow.planning.plan import PlannedMosaic, PlannedTile, Skipped
from dsaflow.transit import (
    ReachableCalibrator,
    beam_radius_deg,
    transit_number,
    transit_times_mjd,
)

_TILE_D = TILE_S / 86400.0
_DEG_PER_TILE = 360.0 * TILE_S / 86164.0905
# mid-times jitter by an integration or so: a tile on the window's edge must not fall out
_EDGE_D = 20.0 / 86400.0


def sliding_overlap(declination_deg: float, beam: PrimaryBeam, beam_cut: float) -> int:
    """Tiles that neighbouring sliding mosaics must share, ceil(2 r_cut / tile step) + 1.

    A source on the border of one mosaic's coverage then lies inside the next (5 tiles at dec +16,
    7 at +54.6).
    """
    step_deg = _DEG_PER_TILE * math.cos(math.radians(declination_deg))
    return math.ceil(2 * beam_radius_deg(beam, beam_cut) / step_deg) + 1


def window_tiles(tiles: list[PlannedTile], centre_mjd: float, n_tiles: int) -> list[PlannedTile]:
    """Tiles of a window: the `n_tiles` nearest to its centre in mid-time, none outside its length.

    Parameters
    ----------
    tiles : list of PlannedTile
        One strip, ascending in time.
    centre_mjd : float
    n_tiles : int
        The window is this many tiles long.

    Returns
    -------
    list of PlannedTile
        Ascending in time.
    """
    mids = np.array([t.mid_mjd for t in tiles])
    half = 0.5 * n_tiles * _TILE_D + _EDGE_D
    low, high = np.searchsorted(mids, [centre_mjd - half, centre_mjd + half])
    inside = sorted(tiles[low:high], key=lambda t: (abs(t.mid_mjd - centre_mjd), t.tile))
    return sorted(inside[:n_tiles], key=lambda t: t.mid_mjd)


def transits_with_data(
    tiles: list[PlannedTile], calibrators: list[ReachableCalibrator]
) -> tuple[dict[str, list[str]], list[tuple[float, ReachableCalibrator]]]:
    """Find which tiles hold which calibrator's transit.

    Parameters
    ----------
    tiles : list of PlannedTile
        One strip, ascending in time, not empty.
    calibrators : list of ReachableCalibrator
        In order of preference.

    Returns
    -------
    by_tile : dict
        Tile -> calibrator names, in the order given.
    transits : list of (mid_mjd, calibrator)
        Ascending in time.
    """
    mids = np.array([t.mid_mjd for t in tiles])
    by_tile: dict[str, list[str]] = {}
    transits = []
    for calibrator in calibrators:
        times = transit_times_mjd(
            calibrator.ra_deg, calibrator.dec_deg, mids[0] - _TILE_D, mids[-1] + _TILE_D
        )
        for time in times:
            nearest = int(np.argmin(np.abs(mids - time)))
            if abs(mids[nearest] - time) <= 0.5 * _TILE_D + _EDGE_D:
                by_tile.setdefault(tiles[nearest].tile, []).append(calibrator.name)
                transits.append((float(time), calibrator))
    return by_tile, sorted(transits, key=lambda item: (item[0], item[1].name))


def centred_windows(
    transits: list[tuple[float, ReachableCalibrator]], chosen: list[str]
) -> list[tuple[float, str, float]]:
    """Windows (transit, centre's name, RA) of the chosen calibrators, or each day's brightest."""
    if chosen:
        return [(time, c.name, c.ra_deg) for time, c in transits if c.name in chosen]
    if not transits:
        return []
    days = transit_number(
        np.array([time for time, _ in transits]), np.array([c.ra_deg for _, c in transits])
    )
    best: dict[int, tuple[float, ReachableCalibrator]] = {}
    for day, (time, calibrator) in zip(days.tolist(), transits, strict=True):
        if day not in best or calibrator.apparent_jy > best[day][1].apparent_jy:
            best[day] = (time, calibrator)
    return [(time, c.name, c.ra_deg) for time, c in best.values()]


def sliding_windows(
    tiles: list[PlannedTile], n_tiles: int, beam: PrimaryBeam, beam_cut: float
) -> list[tuple[float, str, float]]:
    """Windows (time, centre's name, RA) on a grid of right ascensions, the same each sidereal day.

    The grid's step is the window less the overlap (at least one tile), shortened to divide 360
    deg: a source always falls into the same mosaics, and late data never shift the others.
    """
    declination_deg = float(np.median([t.declination_deg for t in tiles]))
    stride = max(n_tiles - sliding_overlap(declination_deg, beam, beam_cut), 1)
    n_centres = math.ceil(360.0 / (stride * _DEG_PER_TILE))
    dec_deg = float(np.median([t.dec_deg for t in tiles]))
    half = 0.5 * n_tiles * _TILE_D
    windows = []
    for first, last in _runs(tiles, half):
        start, stop = first.mid_mjd - half, last.mid_mjd + half
        for index in range(n_centres):
            ra_deg = 360.0 * index / n_centres
            # hours of data need a handful of the grid: ask only for those near the meridian
            if not _may_transit(ra_deg, first, stop - start):
                continue
            for time in transit_times_mjd(ra_deg, dec_deg, start, stop):
                windows.append((float(time), f"ra{ra_deg:05.1f}{declination_deg:+05.1f}", ra_deg))
    return sorted(set(windows))


def _may_transit(ra_deg: float, first: PlannedTile, length_d: float) -> bool:
    ahead_deg = (ra_deg - first.ra_deg + 180.0) % 360.0 - 180.0
    reach_deg = 361.0 * length_d + 1.0
    return abs(ahead_deg) <= reach_deg


def _runs(tiles: list[PlannedTile], reach_d: float) -> list[tuple[PlannedTile, PlannedTile]]:
    """First and last tile of each stretch without a pause longer than `reach_d`."""
    runs = [(tiles[0], tiles[0])]
    for tile in tiles[1:]:
        if tile.mid_mjd - runs[-1][1].mid_mjd > reach_d + _TILE_D:
            runs.append((tile, tile))
        else:
            runs[-1] = (runs[-1][0], tile)
    return runs


def plan_mosaics(
    windows: list[tuple[float, str, float]],
    kind: str,
    tiles: list[PlannedTile],
    n_tiles: int,
    min_tiles: int,
    config_hash: str,
    more_expected_after_mjd: float,
) -> tuple[list[PlannedMosaic], list[Skipped]]:
    """Fill windows with tiles.

    Parameters
    ----------
    windows : list of (mid_mjd, name, ra_deg)
    kind : {"centred", "sliding", "window"}
    tiles : list of PlannedTile
        All of the strip, waiting ones too, ascending in time.
    n_tiles, min_tiles : int
    config_hash : str
    more_expected_after_mjd : float
        Data later than this may still arrive: an incomplete window that reaches beyond it waits.

    Returns
    -------
    mosaics : list of PlannedMosaic
    skipped : list of Skipped
        Windows that wait or have too few tiles.
    """
    if not windows:
        return [], []
    strip = tiles[0].strip
    mids = np.array([time for time, _, _ in windows])
    declination_deg = float(np.median([t.declination_deg for t in tiles]))
    _, dec_deg = meridian_icrs(mids, declination_deg)
    epochs = transit_number(mids, np.array([ra for _, _, ra in windows]))
    mosaics, skipped = [], []
    for index, (time, name, ra_deg) in enumerate(windows):
        inside = window_tiles(tiles, time, n_tiles)
        waiting = [t.tile for t in inside if t.status == "waiting"]
        identifier = group_id(name, time, config_hash)
        end_mjd = time + 0.5 * n_tiles * _TILE_D
        if waiting:
            skipped.append(Skipped(identifier, f"waiting for {' '.join(waiting)}"))
        elif len(inside) < n_tiles and end_mjd > more_expected_after_mjd:
            skipped.append(
                Skipped(identifier, f"waiting: {len(inside)} of {n_tiles} tiles, observing goes on")
            )
        elif len(inside) < min_tiles:
            skipped.append(
                Skipped(identifier, f"TOO_FEW_TILES: {len(inside)}, at least {min_tiles} needed")
            )
        else:
            mosaics.append(
                PlannedMosaic(
                    group_id=identifier,
                    kind=kind,  # type: ignore[arg-type]
                    centre=name,
                    ra_deg=ra_deg,
                    dec_deg=float(dec_deg[index]),
                    mid_mjd=time,
                    strip=strip,
                    epoch=int(epochs[index]),
                    tiles=[t.tile for t in inside],
                )
            )
    return mosaics, skipped
