"""Pixel grids on the sky: orthographic (SIN) by closed formulae, others by astropy's WCS."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dsaflow.errors import DataRejected, ReasonCode


class Grid(Protocol):
    """Anything that maps 0-based pixels to ICRS degrees and back."""

    @property
    def shape(self) -> tuple[int, int]:
        """(ny, nx)."""

    def world_to_pixel(self, ra_deg: ArrayLike, dec_deg: ArrayLike) -> tuple[NDArray, NDArray]:
        """Pixel coordinates (x, y), 0-based; NaN on the far side of the sky."""

    def pixel_to_world(self, x: ArrayLike, y: ArrayLike) -> tuple[NDArray, NDArray]:
        """ICRS right ascension in [0, 360) and declination [deg]; NaN off the sky."""


@dataclass(frozen=True)
class SinGrid:
    """Orthographic grid without rotation (Calabretta & Greisen 2002, sec. 5.1.5).

    Attributes
    ----------
    ra_deg, dec_deg : float
        Tangent point (CRVAL).
    x0, y0 : float
        Its 0-based pixel (CRPIX - 1).
    dx_deg, dy_deg : float
        Pixel increments (CDELT): `dx_deg` is negative where east is left.
    shape : tuple of int
        (ny, nx).
    slant : tuple of float
        (xi, eta) of the slanted projection (PV2_1, PV2_2).

    Notes
    -----
    Written out because importing astropy.wcs takes longer than a small mosaic; the tests hold it
    to astropy's within 1e-9 pixel.
    """

    ra_deg: float
    dec_deg: float
    x0: float
    y0: float
    dx_deg: float
    dy_deg: float
    shape: tuple[int, int]
    slant: tuple[float, float] = (0.0, 0.0)

    @classmethod
    def from_header(cls, header: Any) -> "SinGrid":
        """Read from a FITS header that `is_sin` accepts."""
        return cls(
            float(header["CRVAL1"]),
            float(header["CRVAL2"]),
            float(header["CRPIX1"]) - 1,
            float(header["CRPIX2"]) - 1,
            float(header["CDELT1"]),
            float(header["CDELT2"]),
            (int(header["NAXIS2"]), int(header["NAXIS1"])),
            (float(header.get("PV2_1", 0.0)), float(header.get("PV2_2", 0.0))),
        )

    def cards(self) -> dict[str, Any]:
        """World-coordinate cards of a FITS header."""
        return {
            "CTYPE1": "RA---SIN",
            "CRPIX1": self.x0 + 1,
            "CDELT1": self.dx_deg,
            "CRVAL1": self.ra_deg,
            "CUNIT1": "deg",
            "CTYPE2": "DEC--SIN",
            "CRPIX2": self.y0 + 1,
            "CDELT2": self.dy_deg,
            "CRVAL2": self.dec_deg,
            "CUNIT2": "deg",
            "RADESYS": "ICRS",
            "EQUINOX": 2000.0,
        } | {key: value for key, value in zip(("PV2_1", "PV2_2"), self.slant, strict=True) if value}

    def world_to_pixel(self, ra_deg: ArrayLike, dec_deg: ArrayLike) -> tuple[NDArray, NDArray]:
        """Pixel coordinates (x, y), 0-based; NaN on the far side of the sky."""
        offset = np.radians(np.asarray(ra_deg, float) - self.ra_deg)
        dec, dec0 = np.radians(np.asarray(dec_deg, float)), np.radians(self.dec_deg)
        east = np.cos(dec) * np.sin(offset)
        north = np.sin(dec) * np.cos(dec0) - np.cos(dec) * np.sin(dec0) * np.cos(offset)
        towards = np.sin(dec) * np.sin(dec0) + np.cos(dec) * np.cos(dec0) * np.cos(offset)
        far = towards <= 0
        if self.slant != (0.0, 0.0):
            east = east + self.slant[0] * (1 - towards)
            north = north + self.slant[1] * (1 - towards)
        x = self.x0 + np.degrees(east) / self.dx_deg
        y = self.y0 + np.degrees(north) / self.dy_deg
        return np.where(far, np.nan, x), np.where(far, np.nan, y)

    def pixel_to_world(self, x: ArrayLike, y: ArrayLike) -> tuple[NDArray, NDArray]:
        """ICRS right ascension in [0, 360) and declination [deg]; NaN off the sky."""
        east = np.radians((np.asarray(x, float) - self.x0) * self.dx_deg)
        north = np.radians((np.asarray(y, float) - self.y0) * self.dy_deg)
        if self.slant == (0.0, 0.0):
            square = 1 - east**2 - north**2
            towards = np.sqrt(np.where(square > 0, square, np.nan))
        else:
            towards, east, north = self._upright(east, north)
        dec0 = np.radians(self.dec_deg)
        dec = np.arcsin(np.clip(north * np.cos(dec0) + towards * np.sin(dec0), -1, 1))
        ra = np.arctan2(east, towards * np.cos(dec0) - north * np.sin(dec0))
        return np.mod(self.ra_deg + np.degrees(ra), 360.0), np.degrees(dec)

    def _upright(self, x: NDArray, y: NDArray) -> tuple[NDArray, NDArray, NDArray]:
        """Direction cosines towards the centre, east and north of slanted plane coordinates.

        The nearer root of (x - xi s)^2 + (y - eta s)^2 + (1 - s)^2 = 1 for s = 1 - towards, in the form that
        keeps its digits where s is small.
        """
        xi, eta = self.slant
        a, b, c = 1 + xi**2 + eta**2, 1 + x * xi + y * eta, x**2 + y**2
        square = b**2 - a * c
        below = b + np.sqrt(np.where(square > 0, square, np.nan))
        sunk = c / below
        return 1 - sunk, x - xi * sunk, y - eta * sunk


class WcsGrid:
    """Grid of any celestial projection, by astropy's WCS (wcslib)."""

    def __init__(self, header: Any) -> None:
        from astropy.wcs import WCS

        self._wcs = WCS(header, naxis=2)
        self.shape = (int(header["NAXIS2"]), int(header["NAXIS1"]))

    def world_to_pixel(self, ra_deg: ArrayLike, dec_deg: ArrayLike) -> tuple[NDArray, NDArray]:
        """Pixel coordinates (x, y), 0-based."""
        x, y = self._wcs.wcs_world2pix(ra_deg, dec_deg, 0)
        return x, y

    def pixel_to_world(self, x: ArrayLike, y: ArrayLike) -> tuple[NDArray, NDArray]:
        """ICRS right ascension in [0, 360) and declination [deg]; NaN off the sky."""
        ra, dec = self._wcs.wcs_pix2world(x, y, 0)
        return np.mod(ra, 360.0), dec


def is_sin(header: Any) -> bool:
    """Whether the header is an unrotated RA---SIN, DEC--SIN grid, slanted or not."""
    return (
        header.get("CTYPE1") == "RA---SIN"
        and header.get("CTYPE2") == "DEC--SIN"
        and float(header.get("LONPOLE", 180.0)) == 180.0
        and float(header.get("CROTA2", 0.0)) == 0.0
        and all(float(header.get(f"PC{i}_{j}", i == j)) == (i == j) for i in (1, 2) for j in (1, 2))
        and "CD1_1" not in header
    )


def grid_of(header: Any) -> Grid:
    """Grid of an image header.

    Raises
    ------
    DataRejected
        HEADER_MISMATCH where the header has no celestial coordinates.
    """
    if is_sin(header):
        return SinGrid.from_header(header)
    if not str(header.get("CTYPE1", "")).startswith("RA--"):
        raise DataRejected(
            ReasonCode.HEADER_MISMATCH, f"no celestial axes: CTYPE1 = {header.get('CTYPE1')}"
        )
    return WcsGrid(header)


def beam_covariance(bmaj_deg: float, bmin_deg: float, bpa_deg: float) -> NDArray:
    """Second moments of a Gaussian beam in (east, north), shape (2, 2) [deg^2].

    `bmaj_deg`, `bmin_deg` are full widths at half maximum, `bpa_deg` counts from north to east.
    """
    to_sigma = 1 / np.sqrt(8 * np.log(2))
    pa = np.radians(bpa_deg)
    major = np.array([np.sin(pa), np.cos(pa)]) * bmaj_deg * to_sigma
    minor = np.array([np.cos(pa), -np.sin(pa)]) * bmin_deg * to_sigma
    return np.outer(major, major) + np.outer(minor, minor)


def beam_of_covariance(covariance_deg2: NDArray) -> tuple[float, float, float]:
    """Inverse of `beam_covariance`: (bmaj_deg, bmin_deg, bpa_deg in [-90, 90))."""
    values, vectors = np.linalg.eigh(covariance_deg2)
    bmin, bmaj = np.sqrt(values * 8 * np.log(2))
    bpa = np.degrees(np.arctan2(vectors[0, 1], vectors[1, 1]))
    return float(bmaj), float(bmin), float((bpa + 90) % 180 - 90)
