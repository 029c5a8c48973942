"""One mosaic as quality control sees it: image, noise map, sky coordinates, table of tiles."""

import csv
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsaflow.errors import DataRejected, ReasonCode

# gates look at the part that is at most this much noisier than the best: the edge is all beam flank
DEEP = 4.0


@dataclass(frozen=True)
class MosaicField:
    """Arrays have shape (ny, nx), fluxes are Jy/beam, NaN outside.

    `valid` marks finite pixels at most `DEEP` times noisier than the best.
    """

    image: NDArray
    noise: NDArray
    valid: NDArray
    header: Any
    wcs: Any
    tiles: list[dict[str, str]]

    @property
    def freq_hz(self) -> float:
        """Effective frequency."""
        return float(self.header["FREQ"])

    @property
    def beam_deg(self) -> tuple[float, float, float]:
        """Restoring beam: major, minor axis (FWHM) and position angle, north through east."""
        return tuple(float(self.header[k]) for k in ("BMAJ", "BMIN", "BPA"))  # type: ignore[return-value]

    @property
    def pixel_deg(self) -> tuple[float, float]:
        """Pixel increments (RA, Dec)."""
        return float(self.header["CDELT1"]), float(self.header["CDELT2"])

    @property
    def beam_area_pixels(self) -> float:
        """Solid angle of the restoring beam in pixels."""
        major, minor, _ = self.beam_deg
        dx, dy = self.pixel_deg
        return float(np.pi * major * minor / (4 * np.log(2)) / abs(dx * dy))

    @property
    def used_tiles(self) -> list[dict[str, str]]:
        """Rows of the tiles that went in."""
        return [row for row in self.tiles if row["used"] == "True"]

    def to_pixel(self, ra_deg: NDArray, dec_deg: NDArray) -> tuple[NDArray, NDArray]:
        """Zero-based pixel coordinates (x, y); NaN on the far side of the sky."""
        return self.wcs.wcs_world2pix(ra_deg, dec_deg, 0)

    def to_sky(self, x: NDArray, y: NDArray) -> tuple[NDArray, NDArray]:
        """ICRS position [deg] of pixel coordinates."""
        return self.wcs.wcs_pix2world(x, y, 0)

    def at(self, plane: NDArray, x: NDArray, y: NDArray) -> NDArray:
        """Value of the nearest pixel; NaN outside the image."""
        inside = np.isfinite(x) & np.isfinite(y)
        column = np.round(np.where(inside, x, -1)).astype(int)
        row = np.round(np.where(inside, y, -1)).astype(int)
        ny, nx = plane.shape
        inside &= (column >= 0) & (column < nx) & (row >= 0) & (row < ny)
        return np.where(inside, plane[row.clip(0, ny - 1), column.clip(0, nx - 1)], np.nan)


def read_tiles(path: str | os.PathLike) -> list[dict[str, str]]:
    """Rows of a mosaic's table of tiles (ECSV, space separated)."""
    with open(path, newline="") as stream:
        lines = [line for line in stream if not line.startswith("#")]
    return list(csv.DictReader(lines, delimiter=" "))


def read_field(products: dict[str, str]) -> MosaicField:
    """Open a mosaic's products (paths: image, noise, tiles).

    Raises
    ------
    DataRejected
        NO_DATA where the image is empty.
    """
    from astropy.io import fits
    from astropy.wcs import WCS

    with fits.open(products["image"]) as hdus:
        header, data = hdus[0].header, hdus[0].data
        image = None if data is None else np.asarray(data, dtype=np.float32)
    with fits.open(products["noise"]) as hdus:
        data = hdus[0].data
        noise = None if data is None else np.asarray(data, dtype=np.float32)
    if image is None or noise is None:
        raise DataRejected(ReasonCode.NO_DATA, f"{products['image']}: no image")
    finite = np.isfinite(image) & np.isfinite(noise) & (noise > 0)
    if not finite.any():
        raise DataRejected(ReasonCode.NO_DATA, f"{products['image']}: no finite pixel")
    valid = finite & (noise <= DEEP * noise[finite].min())
    return MosaicField(
        image, noise, valid, header, WCS(header).celestial, read_tiles(products["tiles"])
    )
