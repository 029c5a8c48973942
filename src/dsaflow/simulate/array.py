"""Stations, channels and the drifting beam of the simulated telescope."""

import csv
import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import j1

from dsaflow.simulate.earth import earth_orientation

C_M_S = 299_792_458.0
LATITUDE_RAD = 0.6498455107238486
LONGITUDE_RAD = -2.064427799136453
HEIGHT_M = 1188.05
INTEGRATION_S = 12.884902000427246
SUBBANDS = 16
CHANNEL_HZ = 244140.625
BAND_TOP_HZ = 1498.75e6


@dataclass(frozen=True)
class Array:
    """All station slots, and which of them deliver data.

    Attributes
    ----------
    name : list of str
        Station numbers, ``1`` to ``117``.
    itrf_m : ndarray, shape (n_slot, 3)
        Geocentric.
    enu_m : ndarray, shape (n_slot, 3)
        East, north, up from the reference position.
    used : ndarray of int
        Slots that deliver data, ascending.
    """

    name: list[str]
    itrf_m: NDArray
    enu_m: NDArray
    used: NDArray


def read_array(path: str | os.PathLike, n_station: int) -> Array:
    """Read the station table and choose `n_station` of the active stations.

    The two arms of the core come first, evenly thinned so that both keep their length; the outriggers
    (103 to 117) are used only when there are not enough stations in the core.
    """
    from astropy import units as u
    from astropy.coordinates import EarthLocation

    with open(path, newline="") as stream:
        rows = list(csv.DictReader(line for line in stream if not line.startswith("#")))
    column = {key: np.array([float(row[key]) for row in rows]) for key in rows[0]}
    places = EarthLocation.from_geodetic(
        column["longitude_deg"] * u.deg, column["latitude_deg"] * u.deg, column["height_m"] * u.m
    )
    itrf = np.stack([places.x.value, places.y.value, places.z.value], axis=1)
    enu = (itrf - reference_itrf_m()) @ _enu_axes().T
    active = np.flatnonzero(column["active"] > 0)
    used = choose_stations(column["station"][active], n_station)
    return Array([str(int(s)) for s in column["station"]], itrf, enu, np.sort(active[used]))


def choose_stations(number: NDArray, n_station: int) -> NDArray:
    """Indices into `number` (station numbers) of the stations to use, see `read_array`."""
    core, outer = np.flatnonzero(number < 103), np.flatnonzero(number >= 103)
    arms = [core[number[core] < 52], core[number[core] >= 52]]
    n_core = min(n_station, core.size)
    n_first = round(n_core * arms[0].size / core.size)
    thinned = [
        arm[np.round(np.linspace(0, arm.size - 1, n)).astype(int)]
        for arm, n in zip(arms, (n_first, n_core - n_first), strict=True)
    ]
    return np.concatenate([*thinned, outer[: n_station - n_core]])


def reference_itrf_m() -> NDArray:
    """Geocentric position of the array's reference point [m]."""
    from astropy import units as u
    from astropy.coordinates import EarthLocation

    place = EarthLocation.from_geodetic(LONGITUDE_RAD * u.rad, LATITUDE_RAD * u.rad, HEIGHT_M * u.m)
    return np.array([place.x.value, place.y.value, place.z.value])


def _enu_axes() -> NDArray:
    """Rows: east, north, up in the geocentric frame."""
    sl, cl = np.sin(LONGITUDE_RAD), np.cos(LONGITUDE_RAD)
    sp, cp = np.sin(LATITUDE_RAD), np.cos(LATITUDE_RAD)
    return np.array([[-sl, cl, 0.0], [-sp * cl, -sp * sl, cp], [cp * cl, cp * sl, sp]])


def channel_grid(channels_per_subband: int) -> NDArray:
    """Channel centres by file, shape (16, n), as the correlator orders them: all descending [Hz]."""
    top_down = BAND_TOP_HZ - CHANNEL_HZ * (np.arange(SUBBANDS * 48) + 0.5)
    step = 48 / channels_per_subband
    picks = np.floor((np.arange(channels_per_subband) + 0.5) * step).astype(int)
    return top_down.reshape(SUBBANDS, 48)[:, picks]


def meridian_enu(declination_rad: float) -> NDArray:
    """Unit vector to hour angle 0 at an apparent declination."""
    from_zenith = declination_rad - LATITUDE_RAD
    return np.array([0.0, np.sin(from_zenith), np.cos(from_zenith)])


def airy(sin_theta: ArrayLike, freq_hz: ArrayLike, diameter_m: float) -> NDArray:
    """Power pattern of a uniformly lit circular aperture, (2 J1(x)/x)^2."""
    x = np.pi * diameter_m * np.asarray(freq_hz) / C_M_S * np.asarray(sin_theta)
    x = np.maximum(np.abs(x), 1e-9)
    return np.square(2 * j1(x) / x)


def source_enu(jd_utc: NDArray, ra_deg: NDArray, dec_deg: NDArray) -> NDArray:
    """Apparent directions (refraction off), shape (n_time, n_source, 3) east, north, up.

    From astropy's AltAz frame: nothing of it is shared with the pipeline's geometry.
    """
    from astropy import units as u
    from astropy.coordinates import AltAz, EarthLocation, SkyCoord
    from astropy.time import Time

    place = EarthLocation.from_geodetic(LONGITUDE_RAD * u.rad, LATITUDE_RAD * u.rad, HEIGHT_M * u.m)
    with earth_orientation(jd_utc):
        frame = AltAz(obstime=Time(jd_utc[:, None], format="jd", scale="utc"), location=place)
        seen = SkyCoord(ra_deg[None, :] * u.deg, dec_deg[None, :] * u.deg).transform_to(frame)
    alt, az = seen.alt.rad, seen.az.rad
    return np.stack([np.cos(alt) * np.sin(az), np.cos(alt) * np.cos(az), np.sin(alt)], axis=-1)


def sky_rate(direction: NDArray) -> NDArray:
    """Velocity of a direction fixed on the sky, in the ground's frame [rad/s]: -Omega pole x s."""
    pole = np.array([0.0, np.cos(LATITUDE_RAD), np.sin(LATITUDE_RAD)])
    return -7.2921150e-5 * np.cross(pole, direction)


def transit_jd(ra_deg: float, dec_deg: float, after_jd: float) -> float:
    """First upper transit after `after_jd` (UTC JD), by the zero of the east component."""
    jd, ra, dec = after_jd, np.array([ra_deg]), np.array([dec_deg])

    def hour_angle(t: float) -> float:
        east, north, up = source_enu(np.array([t]), ra, dec)[0, 0]
        toward_equator = up * np.cos(LATITUDE_RAD) - north * np.sin(LATITUDE_RAD)
        return float(np.arctan2(-east, toward_equator))

    sidereal_day = 86164.0905 / 86400.0
    jd += (-hour_angle(jd) % (2 * np.pi)) / (2 * np.pi) * sidereal_day
    for _ in range(4):
        jd -= hour_angle(jd) / (2 * np.pi) * sidereal_day
    return jd


def meridian_icrs_deg(jd_utc: NDArray, declination_deg: float) -> tuple[NDArray, NDArray]:
    """ICRS position [deg] of the meridian at an apparent declination."""
    from astropy import units as u
    from astropy.coordinates import AltAz, EarthLocation, SkyCoord
    from astropy.time import Time

    east, north, up = meridian_enu(np.radians(declination_deg))
    place = EarthLocation.from_geodetic(LONGITUDE_RAD * u.rad, LATITUDE_RAD * u.rad, HEIGHT_M * u.m)
    azimuth = np.full(jd_utc.size, np.arctan2(east, north)) * u.rad
    altitude = np.full(jd_utc.size, np.arcsin(up)) * u.rad
    with earth_orientation(jd_utc):
        frame = AltAz(obstime=Time(jd_utc, format="jd", scale="utc"), location=place)
        there = SkyCoord(az=azimuth, alt=altitude, frame=frame).icrs
    return there.ra.deg, there.dec.deg


def apparent_lst_rad(jd_utc: NDArray) -> NDArray:
    """Apparent sidereal time at the reference position."""
    from astropy import units as u
    from astropy.time import Time

    with earth_orientation(jd_utc):
        times = Time(jd_utc, format="jd", scale="utc")
        return times.sidereal_time("apparent", LONGITUDE_RAD * u.rad).rad
