"""The quiet Sun, seen through the sidelobes by day: a uniform disc at its topocentric place."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import j1

from dsaflow.simulate.array import (
    C_M_S,
    CHANNEL_HZ,
    HEIGHT_M,
    INTEGRATION_S,
    LATITUDE_RAD,
    LONGITUDE_RAD,
    airy,
    meridian_enu,
    sky_rate,
)
from dsaflow.simulate.earth import earth_orientation
from dsaflow.simulate.settings import SimulateSettings

# At decimetre wavelengths the disc is a tenth wider than the photosphere's 32 arcmin.
DISC_RAD = np.radians(35.0 / 60)


def sun_enu(jd_utc: NDArray) -> NDArray:
    """Apparent direction of the Sun, shape (n_time, 3) east, north, up."""
    from astropy import units as u
    from astropy.coordinates import AltAz, EarthLocation, get_body
    from astropy.time import Time

    place = EarthLocation.from_geodetic(LONGITUDE_RAD * u.rad, LATITUDE_RAD * u.rad, HEIGHT_M * u.m)
    with earth_orientation(jd_utc):
        time = Time(jd_utc, format="jd", scale="utc")
        sun = get_body("sun", time, place, ephemeris="builtin")
        seen = sun.transform_to(AltAz(obstime=time, location=place))
    alt, az = seen.alt.rad, seen.az.rad
    return np.stack([np.cos(alt) * np.sin(az), np.cos(alt) * np.cos(az), np.sin(alt)], axis=-1)


def sun_visibilities(
    settings: SimulateSettings, jd: NDArray, baseline_m: NDArray, freq_hz: NDArray
) -> NDArray | float:
    """Visibilities of the Sun [Jy], fringe-stopped as the correlator does; 0.0 at night.

    Shapes: (n_time,), (n_baseline, 3), (n_subband, n_channel) -> (n_time, n_baseline, n_subband,
    n_channel). Smearing in time and over a channel is that of the disc's centre.
    """
    toward, centre = sun_enu(jd), meridian_enu(np.radians(settings.declination_deg))
    if toward[:, 2].min() <= 0:
        return 0.0
    sine = np.linalg.norm(np.cross(toward, centre), axis=1)
    sine = np.where(toward @ centre > 0, sine, 1.0)
    diameter_m = settings.true_diameter_m
    apparent = settings.sun_flux_jy * airy(sine[:, None, None], freq_hz, diameter_m)
    delay = (toward - centre) @ baseline_m.T / C_M_S
    drift = (sky_rate(toward) - sky_rate(centre)) @ baseline_m.T / C_M_S * INTEGRATION_S
    along = toward @ baseline_m.T
    across = np.sqrt(np.maximum(np.square(baseline_m).sum(axis=1) - along**2, 0)) / C_M_S
    x = np.pi * DISC_RAD * across[..., None, None] * freq_hz
    x = np.maximum(x, 1e-6)
    out = np.exp(2j * np.pi * delay[..., None, None] * freq_hz) * (2 * j1(x) / x)
    if settings.effects.smearing:
        out *= np.sinc(drift[..., None, None] * freq_hz)
        out *= np.sinc(delay * CHANNEL_HZ)[..., None, None]
    return (out * apparent[:, None]).astype(np.complex64)
