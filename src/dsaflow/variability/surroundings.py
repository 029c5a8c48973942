"""What else was special during an event: place in the mosaic, quality, Sun, neighbours on the sky."""

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from dsaflow.config.sections import Variability
from dsaflow.variability.curves import LightCurves
from dsaflow.variability.vetoes import separation_deg


@dataclass
class Surroundings:
    """Circumstances of one event; NaN, -1 or empty where the photometry tables do not say.

    Attributes
    ----------
    sun_distance_deg : float
        Least angular distance to the Sun during the event.
    galactic_latitude_deg : float
    beam_response_event, beam_response_outside : float
        Median beam response at the source over the event's epochs, and over all others.
    edge_distance_deg : float
        Least distance to the mosaic's edge during the event.
    n_tiles_event, n_tiles_outside : float
        Median number of tiles at the source.
    n_warned : int
        Epochs of the event whose measurement has a quality warning.
    warned_share_outside : float
        Share of the other epochs that have one.
    n_blend : int
        Most sources fitted together with this one during the event.
    known_variable : str
        Name of the known variable at this position.
    """

    sun_distance_deg: float = np.nan
    galactic_latitude_deg: float = np.nan
    beam_response_event: float = np.nan
    beam_response_outside: float = np.nan
    edge_distance_deg: float = np.nan
    n_tiles_event: float = np.nan
    n_tiles_outside: float = np.nan
    n_warned: int = 0
    warned_share_outside: float = np.nan
    n_blend: int = -1
    known_variable: str = ""
    flags: list[str] = field(default_factory=list)

    def columns(self) -> dict[str, Any]:
        """Columns of the table of candidates."""
        return {name: value for name, value in asdict(self).items() if name != "flags"}


def surroundings(
    source: int, curves: LightCurves, inside: np.ndarray, options: Variability
) -> Surroundings:
    """Look up the circumstances of one source's event.

    Parameters
    ----------
    source : int
    inside : ndarray of bool, shape (n_epoch,)
        Epochs of the event.
    """
    ra_deg, dec_deg = float(curves.ra_deg[source]), float(curves.dec_deg[source])
    used = curves.used[source]
    event, others = used & inside, used & ~inside
    result = Surroundings(galactic_latitude_deg=galactic_latitude_deg(ra_deg, dec_deg))
    if inside.any():
        result.sun_distance_deg = float(sun_distance_deg(curves.mjd[inside], ra_deg, dec_deg).min())
    response = _of_rows(curves, source, "beam_response")
    result.beam_response_event = _median(response[event])
    result.beam_response_outside = _median(response[others])
    edge = _of_rows(curves, source, "edge_distance_deg")[event]
    result.edge_distance_deg = float(np.nanmin(edge)) if np.isfinite(edge).any() else np.nan
    tiles = _of_rows(curves, source, "n_tiles")
    result.n_tiles_event, result.n_tiles_outside = _median(tiles[event]), _median(tiles[others])
    warned = curves.rows["qa"][curves.row[source]] == "warn"
    result.n_warned = int((warned & event).sum())
    result.warned_share_outside = float(warned[others].mean()) if others.any() else np.nan
    blend = _of_rows(curves, source, "n_blend")[event]
    result.n_blend = int(np.nanmax(blend)) if np.isfinite(blend).any() else -1
    result.known_variable = known_variable(ra_deg, dec_deg, options)
    result.flags = _flags(result, int(event.sum()), options)
    return result


def _of_rows(curves: LightCurves, source: int, name: str) -> np.ndarray:
    """One column of the photometry tables along a light curve; NaN where they lack it."""
    if name not in curves.rows:
        return np.full(len(curves.epoch), np.nan)
    row = curves.row[source]
    return np.where(row >= 0, curves.rows[name].astype(float)[row], np.nan)


def _median(values: np.ndarray) -> float:
    values = values[np.isfinite(values)]
    return float(np.median(values)) if len(values) else np.nan


def _flags(found: Surroundings, n_event: int, options: Variability) -> list[str]:
    flags = []
    if found.edge_distance_deg < options.edge_distance_deg:
        flags.append("near_edge")
    if found.n_tiles_event < found.n_tiles_outside:
        flags.append("fewer_tiles")
    if 2 * found.n_warned >= max(n_event, 1) and found.warned_share_outside < 0.5:
        flags.append("quality_warned")
    if found.known_variable:
        flags.append("known_variable")
    return flags


def response_explains(found: Surroundings, depth: float, depth_err: float, slope: float) -> bool:
    """Whether a wrong beam could make a dip this deep, since the response changed with the event.

    Parameters
    ----------
    slope : float
        d ln flux / d ln response of a source, for the largest error of the beam thought possible.
    """
    change = abs(np.log(found.beam_response_event / found.beam_response_outside))
    return bool(np.isfinite(change) and depth - 3 * depth_err < slope * change)


def known_variable(ra_deg: float, dec_deg: float, options: Variability) -> str:
    """Name of the nearest of the configured variables within their radius; empty if none is."""
    known = options.known_variables
    if not known:
        return ""
    apart = separation_deg(
        np.array([v.ra_deg for v in known]), np.array([v.dec_deg for v in known]), ra_deg, dec_deg
    )
    nearest = int(apart.argmin())
    return known[nearest].name if apart[nearest] * 3600 <= options.known_radius_arcsec else ""


def sun_distance_deg(mjd: np.ndarray, ra_deg: float, dec_deg: float) -> np.ndarray:
    """Angular distance of a direction (ICRS) from the Sun [deg], good to an arcminute.

    Parameters
    ----------
    mjd : ndarray
        UTC.
    """
    from astropy.coordinates import get_sun
    from astropy.time import Time

    # its frame is the Earth's, aberration and all: 20" from ICRS, and no Earth rotation is needed
    sun = get_sun(Time(mjd, format="mjd", scale="utc"))
    return separation_deg(sun.ra.deg, sun.dec.deg, ra_deg, dec_deg)


def galactic_latitude_deg(ra_deg: float, dec_deg: float) -> float:
    """Galactic latitude of a direction (ICRS) [deg]."""
    from astropy.coordinates import SkyCoord

    return float(SkyCoord(ra_deg, dec_deg, unit="deg").galactic.b.deg)
