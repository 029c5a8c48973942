"""Cut-outs from the mosaics before, in and after an event."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dsaflow.variability.curves import LightCurves

_WIDTH_DEG, _WIDTH_BEAMS = 0.2, 8.0
_OUTSIDE_PHASE = 2.0


@dataclass
class Cutout:
    """A square of sky about a source at one epoch.

    Attributes
    ----------
    image : ndarray, shape (n, n)
        [Jy/beam], north up, east left, NaN outside the mosaic.
    width_deg : float
    beam_deg : tuple of float
        Full widths and position angle of the restoring beam.
    epoch : int
        Column of the light curves.
    when : {"before", "in", "after"}
    """

    image: np.ndarray
    width_deg: float
    beam_deg: tuple[float, float, float]
    epoch: int
    when: str


def by_group(paths: Sequence[str | os.PathLike]) -> dict[str, Path]:
    """Mosaic images by the mosaic's id, the name of their folder."""
    return {Path(path).parent.name: Path(path) for path in paths}


def choose_epochs(
    mjd: np.ndarray, used: np.ndarray, mid_mjd: float, duration_days: float
) -> list[tuple[str, int]]:
    """An epoch well before an event, the two nearest to its middle, one well after.

    Well before is two durations before the middle, beyond a lens's cusps, or the nearest to that.
    """
    phase = np.where(used, (mjd - mid_mjd) / duration_days, np.nan)
    chosen: list[tuple[str, int]] = []
    before, after = np.flatnonzero(phase < -0.5), np.flatnonzero(phase > 0.5)
    inside = np.flatnonzero(np.abs(phase) <= 0.5)
    if len(before):
        chosen.append(("before", int(before[np.abs(phase[before] + _OUTSIDE_PHASE).argmin()])))
    nearest = inside[np.argsort(np.abs(phase[inside]), kind="stable")[:2]]
    chosen += [("in", int(k)) for k in np.sort(nearest)]
    if len(after):
        chosen.append(("after", int(after[np.abs(phase[after] - _OUTSIDE_PHASE).argmin()])))
    return chosen


def event_cutouts(
    source: int,
    curves: LightCurves,
    mosaics: Mapping[str, Path],
    mid_mjd: float,
    duration_days: float,
) -> list[Cutout]:
    """Cut-outs of one event; none where the mosaics are not given or hold no image."""
    result = []
    for when, epoch in choose_epochs(curves.mjd, curves.used[source], mid_mjd, duration_days):
        path = mosaics.get(str(curves.rows["group_id"][curves.row[source, epoch]]))
        found = read_cutout(path, curves.ra_deg[source], curves.dec_deg[source]) if path else None
        if found is not None:
            result.append(Cutout(*found, epoch=epoch, when=when))
    return result


def read_cutout(
    path: str | os.PathLike, ra_deg: float, dec_deg: float, width_deg: float = _WIDTH_DEG
) -> tuple[np.ndarray, float, tuple[float, float, float]] | None:
    """Read the pixels about a position; the rest of the mosaic stays on the disk.

    Returns
    -------
    image, width_deg, beam_deg
        None where the mosaic is header-only (rejected).
    """
    from astropy.io import fits
    from astropy.wcs import WCS

    with fits.open(path) as file:
        header = file[0].header
        if header["NAXIS"] < 2:
            return None
        wcs = WCS(header).celestial
        x, y = wcs.all_world2pix(ra_deg, dec_deg, 0)
        pixel_deg = abs(float(wcs.wcs.cdelt[1]))
        width_deg = max(width_deg, _WIDTH_BEAMS * float(header.get("BMAJ", 0.0)))
        half = round(0.5 * width_deg / pixel_deg)
        n_y, n_x = header["NAXIS2"], header["NAXIS1"]
        left, low = round(float(x)) - half, round(float(y)) - half
        image = np.full((2 * half + 1, 2 * half + 1), np.nan)
        columns = slice(max(left, 0), min(left + 2 * half + 1, n_x))
        rows = slice(max(low, 0), min(low + 2 * half + 1, n_y))
        if columns.start < columns.stop and rows.start < rows.stop:
            leading = (0,) * (header["NAXIS"] - 2)
            part = file[0].section[(*leading, rows, columns)]
            image[
                rows.start - low : rows.stop - low, columns.start - left : columns.stop - left
            ] = part
    beam = tuple(float(header.get(card, 0.0)) for card in ("BMAJ", "BMIN", "BPA"))
    return image, (2 * half + 1) * pixel_deg, beam  # type: ignore[return-value]
