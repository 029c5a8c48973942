"""The frame of an image: apparent direction cosines about the phase centre, and its ICRS header.

Fringes measure apparent offsets, which aberration stretches against ICRS ones by up to 1e-4
(0.7 arcsec at 2 deg). The map is conformal: one scale, put into CDELT, makes ICRS positions right.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dsaflow.geometry import Site, frame_rotation_rad, hour_angle_declination


@dataclass(frozen=True)
class ApparentFrame:
    """Phase centre (ICRS, deg) and the ratio of apparent to ICRS offsets about it."""

    ra_deg: float
    dec_deg: float
    scale: float

    @classmethod
    def at(
        cls, time_mjd: float, ra_deg: float, dec_deg: float, site: tuple[float, float, float]
    ) -> "ApparentFrame":
        """Measure the scale at `time_mjd` with ERFA's apparent places; see `offset_matrix`."""
        matrix = offset_matrix(time_mjd, ra_deg, dec_deg, site)
        return cls(ra_deg, dec_deg, float(np.sqrt(np.linalg.det(matrix))))

    def cosines(self, ra_deg: ArrayLike, dec_deg: ArrayLike) -> NDArray:
        """Apparent direction cosines (l, m) of ICRS positions, shape (..., 2)."""
        return self.scale * sine_projection(ra_deg, dec_deg, self.ra_deg, self.dec_deg)


def sine_projection(
    lon_deg: ArrayLike, lat_deg: ArrayLike, lon0_deg: float, lat0_deg: float
) -> NDArray:
    """Direction cosines (l east, m north) about a centre, shape (..., 2)."""
    dlon = np.radians(np.asarray(lon_deg, float) - lon0_deg)
    lat, lat0 = np.radians(lat_deg), np.radians(lat0_deg)
    return np.stack(
        [
            np.cos(lat) * np.sin(dlon),
            np.sin(lat) * np.cos(lat0) - np.cos(lat) * np.sin(lat0) * np.cos(dlon),
        ],
        axis=-1,
    )


def offset_matrix(
    time_mjd: float,
    ra_deg: float,
    dec_deg: float,
    site: tuple[float, float, float],
    radius_deg: float = 1.0,
) -> NDArray:
    """Matrix from ICRS to apparent direction cosines, both with m along ICRS north at the centre.

    Fitted to eight positions at `radius_deg`; shape (2, 2). Near scale times the identity.
    """
    place = Site(*site)
    angle = np.arange(8) * np.pi / 4
    x, y = np.radians(radius_deg) * np.sin(angle), np.radians(radius_deg) * np.cos(angle)
    dec0 = np.radians(dec_deg)
    z = np.sqrt(1 - x**2 - y**2)
    dec = np.degrees(np.arcsin(y * np.cos(dec0) + z * np.sin(dec0)))
    ra = ra_deg + np.degrees(np.arctan2(x, z * np.cos(dec0) - y * np.sin(dec0)))
    ha, app_dec = hour_angle_declination(time_mjd, ra, dec, place)
    ha0, app_dec0 = hour_angle_declination(time_mjd, ra_deg, dec_deg, place)
    of_date = sine_projection(
        -np.degrees(ha), np.degrees(app_dec), -np.degrees(float(ha0)), np.degrees(float(app_dec0))
    )
    turn = float(np.ravel(frame_rotation_rad(time_mjd, ra_deg, dec_deg, place))[0])
    l = of_date[:, 0] * np.cos(turn) - of_date[:, 1] * np.sin(turn)  # noqa: E741
    m = of_date[:, 0] * np.sin(turn) + of_date[:, 1] * np.cos(turn)
    solution, *_ = np.linalg.lstsq(np.stack([x, y], 1), np.stack([l, m], 1), rcond=None)
    return solution.T
