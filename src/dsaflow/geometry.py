"""Apparent places, meridian positions and projected baselines, through ERFA's observed-place functions.

The header's declination is apparent (of date) and a tile's beam sits at (apparent LST, apparent
declination): every conversion to ICRS goes through here.
"""

from functools import lru_cache

import erfa
import numpy as np
from numpy.typing import ArrayLike, NDArray

from dsaflow.instrument import HEIGHT_M, LATITUDE_DEG, LONGITUDE_DEG

_MJD0 = 2400000.5
SIDEREAL_DAY_S = 86164.0905


class Site:
    """Geodetic site of the array; the default is DSA-110's reference position."""

    def __init__(
        self,
        longitude_deg: float = LONGITUDE_DEG,
        latitude_deg: float = LATITUDE_DEG,
        height_m: float = HEIGHT_M,
    ) -> None:
        self.longitude_rad = np.radians(longitude_deg)
        self.latitude_rad = np.radians(latitude_deg)
        self.height_m = height_m


DSA110 = Site()


@lru_cache(maxsize=1)
def _iers_table() -> NDArray:
    """Columns MJD, polar motion x and y [arcsec], UT1-UTC [s] of IERS finals2000A; nothing is downloaded.

    The same file that astropy reads, from the package astropy-iers-data; its fixed columns are sliced
    here because astropy's reader takes a second, and every rule is a process of its own.

    Notes
    -----
    A day has Bulletin A's values (rapid, later predicted) and, some weeks afterwards, Bulletin B's final ones.
    The final ones count, as in astropy and pyuvdata: since 2023 they differ by up to 0.12 ms of UT1, which is
    1.8 mas of hour angle (0.025 ms rms).
    """
    from astropy_iers_data import IERS_A_FILE

    with open(IERS_A_FILE, "rb") as stream:
        lines = np.array(stream.read().splitlines())
    columns = lines.view("S1").reshape(len(lines), -1)

    def numbers(*spans: tuple[int, int]) -> NDArray:
        texts = [np.ascontiguousarray(columns[:, a:b]).view(f"S{b - a}").ravel() for a, b in spans]
        return np.array(
            [np.where(text == b" " * len(text[0]), b"nan", text) for text in texts], float
        )

    mjd = numbers((7, 15))
    rapid = numbers((18, 27), (37, 46), (58, 68))
    final = numbers((134, 144), (144, 154), (154, 165))
    values = np.where(np.isfinite(final).all(axis=0), final, rapid)
    known = np.isfinite(values).all(axis=0)
    return np.vstack([mjd, values])[:, known]


def earth_orientation(time_mjd: ArrayLike) -> tuple[NDArray, NDArray, NDArray]:
    """UT1-UTC [s] and polar motion x, y [rad] at UTC times.

    Raises
    ------
    ValueError
        A time beyond the table's predictions: never extrapolated, since 1 s of UT1 is 15 arcsec.
    """
    time_mjd = np.atleast_1d(np.asarray(time_mjd, dtype=float))
    mjd, pole_x, pole_y, ut1_utc = _iers_table()
    last = mjd[-1]
    if time_mjd.min() < mjd[0] or time_mjd.max() > last:
        raise ValueError(
            f"UT1-UTC is known for MJD {mjd[0]:.0f} to {last:.0f}, not for "
            f"{time_mjd.min():.1f} to {time_mjd.max():.1f}; install a newer astropy-iers-data"
        )
    near = slice(
        max(np.searchsorted(mjd, time_mjd.min()) - 2, 0), np.searchsorted(mjd, time_mjd.max()) + 2
    )
    # UT1-UTC jumps at leap seconds: interpolate UT1-TAI instead
    leap_s = erfa.dat(*_calendar(mjd[near]))
    ut1_tai = np.interp(time_mjd, mjd[near], ut1_utc[near] - leap_s)
    dut1 = ut1_tai + erfa.dat(*_calendar(time_mjd))
    x = np.radians(np.interp(time_mjd, mjd[near], pole_x[near]) / 3600)
    y = np.radians(np.interp(time_mjd, mjd[near], pole_y[near]) / 3600)
    return dut1, x, y


def _calendar(time_mjd: NDArray) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    year, month, day, fraction = erfa.jd2cal(_MJD0, time_mjd)
    return year, month, day, fraction


def _two_part_jd(time_mjd: NDArray) -> tuple[NDArray, NDArray]:
    """Julian date as midnight and fraction of the day.

    ERFA adds TAI-UTC and UT1-UTC to the second part: to a bare MJD they are added to 0.6 microseconds only,
    0.01 mas of the Earth's turn.
    """
    day = np.floor(time_mjd)
    return _MJD0 + day, time_mjd - day


def hour_angle_declination(
    time_mjd: ArrayLike, ra_deg: ArrayLike, dec_deg: ArrayLike, site: Site = DSA110
) -> tuple[NDArray, NDArray]:
    """Observed (refraction off) hour angle and declination of ICRS positions.

    Parameters
    ----------
    time_mjd, ra_deg, dec_deg : array_like
        UTC MJD and ICRS position; broadcast.
    site : Site

    Returns
    -------
    hour_angle_rad, declination_rad : ndarray
        Hour angle in (-pi, pi], declination of date.

    Notes
    -----
    ERFA's ``atco13``: precession, nutation, annual and diurnal aberration, polar motion, UT1. Its first
    part (``apco13``) knows no position and takes nearly all of its time: it is done once a time, and
    not once for each pair of time and position.
    """
    time_mjd = np.asarray(time_mjd, float)
    dut1, xp, yp = (v.reshape(time_mjd.shape) for v in earth_orientation(time_mjd.ravel()))
    astrometry, _ = erfa.apco13(
        *_two_part_jd(time_mjd), dut1,
        site.longitude_rad, site.latitude_rad, site.height_m, xp, yp, 0.0, 0.0, 0.0, 0.5,
    )  # fmt: skip
    place = erfa.atciq(np.radians(ra_deg), np.radians(dec_deg), 0.0, 0.0, 0.0, 0.0, astrometry)
    observed = erfa.atioq(*place, astrometry)
    return observed[2], observed[3]


def icrs_at(
    time_mjd: ArrayLike,
    hour_angle_rad: ArrayLike,
    declination_rad: ArrayLike,
    site: Site = DSA110,
) -> tuple[NDArray, NDArray]:
    """ICRS position [deg] seen at an observed hour angle and declination (ERFA ``atoc13``)."""
    time_mjd, ha, dec = np.broadcast_arrays(
        np.asarray(time_mjd, float), np.asarray(hour_angle_rad, float), declination_rad
    )
    shape = time_mjd.shape
    dut1, xp, yp = (v.reshape(shape) for v in earth_orientation(time_mjd.ravel()))
    ra, dec = erfa.atoc13(
        "H", ha, dec, *_two_part_jd(time_mjd), dut1,
        site.longitude_rad, site.latitude_rad, site.height_m, xp, yp, 0.0, 0.0, 0.0, 0.5,
    )  # fmt: skip
    return np.degrees(ra), np.degrees(dec)


def meridian_icrs(
    time_mjd: ArrayLike, apparent_dec_deg: ArrayLike, site: Site = DSA110
) -> tuple[NDArray, NDArray]:
    """ICRS position [deg] of the meridian at an apparent declination: the drifting beam's centre."""
    return icrs_at(time_mjd, 0.0, np.radians(apparent_dec_deg), site)


def local_apparent_sidereal_time(time_mjd: ArrayLike, site: Site = DSA110) -> NDArray:
    """Local apparent sidereal time [rad], IAU 2006/2000A (ERFA ``gst06a``)."""
    time_mjd = np.atleast_1d(np.asarray(time_mjd, float))
    dut1, _, _ = earth_orientation(time_mjd)
    tai = erfa.utctai(*_two_part_jd(time_mjd))
    tt = erfa.taitt(*tai)
    ut1 = erfa.utcut1(*_two_part_jd(time_mjd), dut1)
    return erfa.anp(erfa.gst06a(*ut1, *tt) + site.longitude_rad)


def separation_rad(
    ra1_deg: ArrayLike, dec1_deg: ArrayLike, ra2_deg: ArrayLike, dec2_deg: ArrayLike
) -> NDArray:
    """Angle between two directions [rad]; RA-wrap safe (Vincenty formula, ERFA ``seps``)."""
    return erfa.seps(
        np.radians(ra1_deg), np.radians(dec1_deg), np.radians(ra2_deg), np.radians(dec2_deg)
    )


def circular_mean_deg(angle_deg: ArrayLike) -> float:
    """Mean of angles [deg] on the circle, in [0, 360)."""
    angle = np.radians(angle_deg)
    return float(np.degrees(np.arctan2(np.sin(angle).mean(), np.cos(angle).mean())) % 360.0)


def frame_rotation_rad(
    time_mjd: ArrayLike, ra_deg: float, dec_deg: float, site: Site = DSA110
) -> NDArray:
    """Angle from north of date to ICRS north at a position, positive through east [rad]."""
    # to both sides: from one end of the arc, meridians' convergence would turn it by half the arc times tan(dec)
    step_deg = 0.005
    ha0, dec0 = hour_angle_declination(time_mjd, ra_deg, dec_deg - step_deg, site)
    ha1, dec1 = hour_angle_declination(time_mjd, ra_deg, dec_deg + step_deg, site)
    east = -(ha1 - ha0) * np.cos(0.5 * (dec0 + dec1))
    return np.arctan2(east, dec1 - dec0)


def projected_baselines(
    itrf_m: NDArray, time_mjd: NDArray, ra_deg: float, dec_deg: float, site: Site = DSA110
) -> NDArray:
    """Antenna coordinates (u, v, w) toward an ICRS phase centre, with v along ICRS north.

    Parameters
    ----------
    itrf_m : ndarray, shape (n_antenna, 3)
        Geocentric (or any parallel-frame) positions.
    time_mjd : ndarray, shape (n_time,)
        UTC, mid-integration.
    ra_deg, dec_deg : float
        ICRS phase centre.

    Returns
    -------
    ndarray, shape (n_time, n_antenna, 3)
        Antenna uvw [m]; a baseline's is a difference of two (Thompson, Moran & Swenson 2017, eq. 4.1).
    """
    ha, dec = hour_angle_declination(time_mjd, ra_deg, dec_deg, site)
    rotation = frame_rotation_rad(time_mjd, ra_deg, dec_deg, site)
    uvw = uvw_hour_angle(itrf_m, ha, dec, site)
    u, v = uvw[..., 0].copy(), uvw[..., 1].copy()
    sin, cos = np.sin(rotation)[:, None], np.cos(rotation)[:, None]
    uvw[..., 0] = u * cos - v * sin
    uvw[..., 1] = u * sin + v * cos
    return uvw


def uvw_hour_angle(
    itrf_m: NDArray, hour_angle_rad: ArrayLike, declination_rad: ArrayLike, site: Site = DSA110
) -> NDArray:
    """Antenna uvw [m] toward observed hour angles and declinations, v along north of date.

    Shapes: (n_antenna, 3), (n_time,), (n_time,) -> (n_time, n_antenna, 3).
    """
    ha = np.atleast_1d(hour_angle_rad)[:, None]
    dec = np.atleast_1d(declination_rad)[:, None]
    x, y, z = itrf_m.T
    # ITRF turned to the local meridian: x toward (HA 0, dec 0), y toward HA -90 deg (east)
    lon = site.longitude_rad
    xl = x * np.cos(lon) + y * np.sin(lon)
    yl = -x * np.sin(lon) + y * np.cos(lon)
    u = np.sin(ha) * xl + np.cos(ha) * yl
    v = -np.sin(dec) * np.cos(ha) * xl + np.sin(dec) * np.sin(ha) * yl + np.cos(dec) * z
    w = np.cos(dec) * np.cos(ha) * xl - np.cos(dec) * np.sin(ha) * yl + np.sin(dec) * z
    return np.stack([u, v, w], axis=-1)
