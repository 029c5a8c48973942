"""The frame of an image: apparent direction cosines about the phase centre, and its ICRS header.

Fringes measure apparent offsets, which aberration stretches against ICRS ones by up to 1e-4
(0.7 arcsec at 2 deg). The map is conformal: one scale, put into CDELT, makes ICRS positions right.

Antennas on a plane have w = a u + b v, and their fringes u l + v m + w (n - 1) are those of an array
without w at the slanted cosines l + a (n - 1), m + b (n - 1). An image on these, FITS's slanted SIN
(Calabretta & Greisen 2002, sec. 5.1.5), leaves the gridder only what departs from the plane.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dsaflow.geometry import Site, frame_rotation_rad, hour_angle_declination


@dataclass(frozen=True)
class ApparentFrame:
    """Phase centre (ICRS, deg), ratio of apparent to ICRS offsets about it, and slant (a, b) of the image."""

    ra_deg: float
    dec_deg: float
    scale: float
    slant: tuple[float, float] = (0.0, 0.0)

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

    def slanted(self, uvw_m: NDArray, used: NDArray) -> "ApparentFrame":
        """The same frame with the slant of the array's plane.

        Parameters
        ----------
        uvw_m : ndarray, shape (..., 3)
        used : bool ndarray, shape (...)
            Which baselines are in the image.
        """
        rows = uvw_m[used]
        plane, *_ = np.linalg.lstsq(rows[:, :2], rows[:, 2], rcond=None)
        return replace(self, slant=(float(plane[0]), float(plane[1])))

    def on_image(self, ra_deg: ArrayLike, dec_deg: ArrayLike) -> NDArray:
        """Slanted cosines of ICRS positions, shape (..., 2): pixels of the image times its pixel."""
        lm = self.cosines(ra_deg, dec_deg)
        return lm + _n_less_one(lm[..., 0], lm[..., 1])[..., None] * np.array(self.slant)

    def directions(self, l: NDArray, m: NDArray) -> tuple[NDArray, NDArray]:  # noqa: E741
        """Apparent direction cosines of slanted ones, broadcast."""
        if self.slant == (0.0, 0.0):
            return l, m
        true_l, true_m = np.broadcast_arrays(l, m)
        for _ in range(12):  # each gains |slant| times the offset: a factor of 40 and more
            sunk = _n_less_one(true_l, true_m)
            true_l, true_m = l - self.slant[0] * sunk, m - self.slant[1] * sunk
        return true_l, true_m

    def slant_cards(self) -> dict[str, float]:
        """FITS cards of the slant; none without one."""
        if self.slant == (0.0, 0.0):
            return {}
        # 1 - n of ICRS times the square of the scale is that of apparent offsets
        return {"PV2_1": -self.slant[0] * self.scale, "PV2_2": -self.slant[1] * self.scale}


def _n_less_one(l: NDArray, m: NDArray) -> NDArray:  # noqa: E741
    square = l**2 + m**2
    return -square / (1.0 + np.sqrt(1.0 - square))


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
