"""What a UVH5 file's data are phased to: nothing, a fixed hour angle, or a place on the sky."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import h5py
import numpy as np
from numpy.typing import NDArray

from dsaflow import geometry

Kind = Literal["hadec", "unprojected", "sidereal"]


@dataclass(frozen=True)
class PhaseCentre:
    """Phase centre of a file's data.

    Attributes
    ----------
    kind : {"hadec", "unprojected", "sidereal"}
        Fringe-stopped to a fixed hour angle and declination of date; not fringe-stopped; or phased
        to an ICRS position.
    hour_angle_rad, declination_rad : float
        Apparent: of the phase centre ("hadec"), or of where the antennas point ("unprojected"; the
        meridian).
    ra_deg, dec_deg : float
        ICRS; NaN but for "sidereal".
    """

    kind: Kind
    hour_angle_rad: float = np.nan
    declination_rad: float = np.nan
    ra_deg: float = np.nan
    dec_deg: float = np.nan


def read_phase_centre(
    group: h5py.Group,
    rows: NDArray,
    time_mjd: NDArray,
    site_deg_m: Any,
    mismatch: Callable[[str], Exception],
) -> PhaseCentre:
    """Find what the data are phased to, from DSA-110's keywords or pyuvdata's (all versions).

    Parameters
    ----------
    group : h5py.Group
        The file's ``Header``.
    rows : ndarray, shape (n_time,)
        One row of each integration.
    time_mjd : ndarray, shape (n_time,)
    site_deg_m : tuple
        Longitude, latitude [deg], height [m].
    mismatch : callable
        Builds the exception to raise.
    """
    keywords = group.get("extra_keywords", {})
    if "phase_center_epoch" in keywords and _text(keywords["phase_center_epoch"][()]) == "HADEC":
        return PhaseCentre(
            "hadec",
            float(keywords["ha_phase_center"][()]),
            float(keywords["phase_center_dec"][()]),
        )
    catalog = _catalog(group)
    if len(catalog) > 1:
        raise mismatch(f"{len(catalog)} phase centres in one file")
    entry = catalog[0]
    kind = entry.get("cat_type", "")
    if kind == "sidereal":
        ra_deg, dec_deg = _icrs(entry, time_mjd, mismatch)
        return PhaseCentre("sidereal", ra_deg=ra_deg, dec_deg=dec_deg)
    if kind not in ("unprojected", "driftscan"):
        raise mismatch(f"phase centre of type {kind!r}")
    import erfa

    azimuth = float(entry.get("cat_lon", 0.0))
    altitude = float(entry.get("cat_lat", np.pi / 2))
    hour_angle, declination = erfa.ae2hd(azimuth, altitude, np.radians(site_deg_m[1]))
    return PhaseCentre(
        "hadec" if kind == "driftscan" else "unprojected", float(hour_angle), float(declination)
    )


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _catalog(group: h5py.Group) -> list[dict[str, Any]]:
    """Entries of the phase-centre catalogue, whichever way the file's version writes them."""
    if "phase_center_catalog" in group:
        stored = group["phase_center_catalog"]
        if isinstance(stored, h5py.Dataset):  # version 1.0: a JSON string
            return list(json.loads(_text(stored[()])).values())
        entries = []
        for item in stored.values():
            values = {k: v[()] for k, v in item.items() if v.shape is not None}
            entries.append({k: _text(v) if isinstance(v, bytes) else v for k, v in values.items()})
        return entries
    if _text(group["phase_type"][()]) == "drift":
        return [{"cat_type": "unprojected"}]
    entry = {"cat_type": "sidereal", "cat_frame": "icrs", "cat_epoch": 2000.0}
    if "phase_center_frame" in group:
        entry["cat_frame"] = _text(group["phase_center_frame"][()])
    entry["cat_lon"] = group["phase_center_ra"][()]
    entry["cat_lat"] = group["phase_center_dec"][()]
    return [entry]


def _icrs(
    entry: dict[str, Any], time_mjd: NDArray, mismatch: Callable[[str], Exception]
) -> tuple[float, float]:
    ra, dec = float(np.ravel(entry["cat_lon"])[0]), float(np.ravel(entry["cat_lat"])[0])
    frame = str(entry.get("cat_frame", "icrs"))
    if frame == "icrs":
        return float(np.degrees(ra)), float(np.degrees(dec))
    if frame == "fk5" and float(entry.get("cat_epoch", 2000.0)) == 2000.0:
        import erfa

        ra, dec = erfa.fk5hz(ra, dec, 2400000.5, float(time_mjd.mean()))
        return float(np.degrees(ra)), float(np.degrees(dec))
    raise mismatch(f"phase centre in frame {frame!r}, epoch {entry.get('cat_epoch')}")


def old_w_m(centre: PhaseCentre, positions_m: NDArray, n_time: int, site: geometry.Site) -> NDArray:
    """Antennas' w [m] that is already taken out of the data, shape (n_time, n_antenna).

    Raises
    ------
    ValueError
        For data on a sidereal centre, whose phase is kept.
    """
    if centre.kind == "sidereal":
        raise ValueError("data on a sidereal centre are not rephased")
    if centre.kind == "unprojected":
        return np.zeros((n_time, len(positions_m)))
    uvw = geometry.uvw_hour_angle(positions_m, centre.hour_angle_rad, centre.declination_rad, site)
    return np.broadcast_to(uvw[..., 2], (n_time, len(positions_m)))
