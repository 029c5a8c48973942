"""Sun and Moon: distance from the mosaic, day or night."""

from typing import TYPE_CHECKING, Any

import erfa
import numpy as np

from dsaflow.geometry import DSA110, hour_angle_declination, separation_rad
from dsaflow.verdict import Gate

if TYPE_CHECKING:
    from dsaflow.config.sections import Qa

_MJD0 = 2400000.5


def sun_position_deg(time_mjd: float) -> tuple[float, float]:
    """Direction of the Sun [deg], good to an arcminute (ERFA ``epv00``; UTC for TDB)."""
    heliocentric, _ = erfa.epv00(_MJD0, time_mjd)
    ra, dec = erfa.c2s(-heliocentric["p"])
    return float(np.degrees(ra) % 360), float(np.degrees(dec))


def moon_position_deg(time_mjd: float) -> tuple[float, float]:
    """Geocentric direction of the Moon [deg] (ERFA ``moon98``); parallax is up to 1 deg."""
    ra, dec = erfa.c2s(erfa.moon98(_MJD0, time_mjd)["p"])
    return float(np.degrees(ra) % 360), float(np.degrees(dec))


def sun_moon_gates(
    time_mjd: float, ra_deg: float, dec_deg: float, options: "Qa"
) -> tuple[list[Gate], dict[str, Any]]:
    """Warn of a near Sun or Moon; say whether it was day.

    Parameters
    ----------
    time_mjd : float
        UTC, middle of the mosaic.
    ra_deg, dec_deg : float
        ICRS centre.
    options : Qa
    """
    sun, moon = sun_position_deg(time_mjd), moon_position_deg(time_mjd)
    sun_deg = float(np.degrees(separation_rad(ra_deg, dec_deg, *sun)))
    moon_deg = float(np.degrees(separation_rad(ra_deg, dec_deg, *moon)))
    ha, dec = hour_angle_declination(time_mjd, *sun)
    lat = DSA110.latitude_rad
    altitude = np.degrees(
        np.arcsin(np.sin(lat) * np.sin(dec) + np.cos(lat) * np.cos(dec) * np.cos(ha))
    )
    gates = [
        Gate.measure("sun_distance", sun_deg, low=options.sun_distance_deg, unit="deg",
                     failing="warn"),
        Gate.measure("moon_distance", moon_deg, low=options.moon_distance_deg, unit="deg",
                     failing="warn"),
    ]  # fmt: skip
    return gates, {"sun_altitude_deg": float(altitude), "daytime": bool(altitude > -0.8)}
