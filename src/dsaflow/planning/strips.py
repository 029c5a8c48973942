"""Declination strips, tiles placed on the sky, and the gaps between them."""

from itertools import pairwise
from statistics import median

import numpy as np

from dsaflow.errors import ReasonCode
from dsaflow.geometry import earth_orientation, meridian_icrs
from dsaflow.names import strip_name
from dsaflow.planning.groups import Group, admission
from dsaflow.planning.plan import Gap, PlannedTile, Skipped
from dsaflow.transit import transit_number

# an unreadable group takes the declination of the nearest tile in time within this
_NEIGHBOUR_S = 3600.0
# a longer pause separates two observing runs
_RUN_BREAK_S = 3600.0


def separate_strips(
    declination_deg: dict[str, float], tolerance_deg: float
) -> tuple[dict[str, str], list[Skipped]]:
    """Assign tiles to strips by apparent declination.

    Parameters
    ----------
    declination_deg : dict
        Tile -> apparent declination [deg].
    tolerance_deg : float
        Largest distance of a tile from its strip's median.

    Returns
    -------
    strips : dict
        Tile -> strip id.
    skipped : list of Skipped
        Tiles that lie between two strips and belong to neither.
    """
    strips: dict[str, str] = {}
    skipped: list[Skipped] = []
    ordered = sorted(declination_deg, key=lambda t: (declination_deg[t], t))
    clusters: list[list[str]] = []
    for tile in ordered:
        last = declination_deg[clusters[-1][-1]] if clusters else -np.inf
        if declination_deg[tile] - last > tolerance_deg:
            clusters.append([])
        clusters[-1].append(tile)
    for cluster in clusters:
        middle = median(declination_deg[t] for t in cluster)
        for tile in cluster:
            if abs(declination_deg[tile] - middle) <= tolerance_deg:
                strips[tile] = strip_name(middle)
            else:
                skipped.append(
                    Skipped(
                        tile,
                        f"{ReasonCode.STRIPS_MIXED}: {declination_deg[tile]:.3f} deg is "
                        f"more than {tolerance_deg} deg from its strip's {middle:.3f} deg",
                    )
                )
    return strips, skipped


def known_declinations(groups: list[Group]) -> tuple[dict[str, float], list[Skipped]]:
    """Declination of each group: its header's, or the nearest readable group's within an hour."""
    known = {
        g.tile: median(f.header.declination_deg for f in g.files if f.header)
        for g in groups
        if g.header
    }
    readable = [g for g in groups if g.header]
    times = np.array([g.mid_mjd for g in readable])
    result, skipped = dict(known), []
    for group in (g for g in groups if not g.header):
        distance_s = np.abs(times - group.mid_mjd) * 86400.0
        if distance_s.size and distance_s.min() <= _NEIGHBOUR_S:
            result[group.tile] = known[readable[int(distance_s.argmin())].tile]
        else:
            skipped.append(
                Skipped(
                    group.tile,
                    f"{group.files[0].reason}; no readable file, and no readable tile within "
                    f"{_NEIGHBOUR_S / 3600:.0f} h that would give its declination",
                )
            )
    return result, skipped


def place_tiles(
    groups: list[Group], tolerance_deg: float, settle_s: float, now_s: float
) -> tuple[list[PlannedTile], list[Skipped]]:
    """Give each group its strip, its ICRS centre and its admission status."""
    groups, skipped = _valid(groups)
    declinations, more = known_declinations(groups)
    skipped += more
    strips, more = separate_strips(declinations, tolerance_deg)
    skipped += more
    groups = [g for g in groups if g.tile in strips]
    if not groups:
        return [], skipped
    mids = np.array([g.mid_mjd for g in groups])
    ra_deg, dec_deg = meridian_icrs(mids, np.array([declinations[g.tile] for g in groups]))
    nights = transit_number(mids, ra_deg)
    tiles = []
    for index, group in enumerate(groups):
        status, reason = admission(group, now_s, settle_s)
        tiles.append(
            PlannedTile(
                tile=group.tile,
                strip=strips[group.tile],
                night=int(nights[index]),
                start_mjd=group.start_mjd,
                mid_mjd=group.mid_mjd,
                declination_deg=declinations[group.tile],
                ra_deg=float(ra_deg[index]),
                dec_deg=float(dec_deg[index]),
                files=[f.path for f in group.files],
                n_subbands=len({f.subband for f in group.files if f.header}),
                n_channels=sum(f.header.n_channels for f in group.files if f.header),
                status=status,  # type: ignore[arg-type]
                reason=reason,
            )
        )
    return tiles, skipped


def _valid(groups: list[Group]) -> tuple[list[Group], list[Skipped]]:
    """Drop groups whose time has no known Earth rotation, and second groups of one id."""
    kept: dict[str, Group] = {}
    skipped = []
    for group in groups:
        try:
            earth_orientation(group.mid_mjd)
        except ValueError as error:
            skipped.append(Skipped(group.files[0].path, f"{ReasonCode.HEADER_MISMATCH}: {error}"))
            continue
        if group.tile in kept:
            skipped.append(
                Skipped(group.files[0].path, f"{ReasonCode.TIME_MISMATCH}: second {group.tile}")
            )
            continue
        kept[group.tile] = group
    return list(kept.values()), skipped


def find_gaps(tiles: list[PlannedTile], tolerance_s: float) -> list[Gap]:
    """Pauses longer than the tolerance between consecutive tiles of each strip."""
    gaps = []
    for strip in sorted({t.strip for t in tiles}):
        ordered = [t for t in tiles if t.strip == strip]
        for one, two in pairwise(ordered):
            end_mjd = 2 * one.mid_mjd - one.start_mjd
            pause_s = (two.start_mjd - end_mjd) * 86400.0
            if pause_s > tolerance_s:
                kind = "gap" if pause_s <= _RUN_BREAK_S else "between runs"
                gaps.append(Gap(strip, one.tile, two.tile, round(pause_s / 60.0, 2), kind))  # type: ignore[arg-type]
    return gaps
