"""Catalogue sources in a tile's image: where CLEAN may go deep, so that what is measured there is cleaned.

A source that CLEAN leaves in the residual keeps the dirty beam's shape; a fit of the restoring beam
then finds too little of it (4 to 5 % at 5 to 10 sigma with 48 stations).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsaflow.catalog import Catalog
from dsaflow.geometry import separation_rad
from dsaflow.imaging.frame import ApparentFrame

REACH_RAD = np.radians(20.0)  # wider than any image; the projection folds beyond 90 deg


@dataclass(frozen=True)
class KnownSources:
    """Places on the image, in pixels (x is the column), and apparent fluxes [Jy]; shape (n,)."""

    x: NDArray
    y: NDArray
    apparent_jy: NDArray

    def mask(self, shape: tuple[int, int], least_jy: float) -> NDArray:
        """Pixels of the sources with at least this apparent flux, bool of `shape`."""
        mask = np.zeros(shape, bool)
        bright = self.apparent_jy >= least_jy
        mask[np.rint(self.y[bright]).astype(int), np.rint(self.x[bright]).astype(int)] = True
        return mask


def known_sources(
    catalog: Catalog,
    frame: ApparentFrame,
    beam: NDArray,
    pixel_rad: float,
    freq_hz: float,
    default_index: float,
) -> KnownSources:
    """Place a catalogue on an image.

    Parameters
    ----------
    catalog : Catalog
    frame : ApparentFrame
    beam : ndarray, shape (size, size)
        Reference primary beam.
    pixel_rad : float
        In apparent direction cosine.
    freq_hz : float
        Of the image.
    default_index : float
        Spectral index where the catalogue has none.
    """
    size = beam.shape[0]
    near = separation_rad(frame.ra_deg, frame.dec_deg, catalog.ra_deg, catalog.dec_deg) < REACH_RAD
    catalog = catalog.select(near)
    x, y, inside = _pixels(catalog, frame, size, pixel_rad)
    alpha = np.where(np.isnan(catalog.spectral_index), default_index, catalog.spectral_index)
    flux = (catalog.flux_jy * (freq_hz / catalog.frequency_hz) ** alpha)[inside]
    x, y = x[inside], y[inside]
    return KnownSources(x, y, flux * beam[np.rint(y).astype(int), np.rint(x).astype(int)])


def within_image(catalog: Catalog, frame: ApparentFrame, size: int, pixel_rad: float) -> NDArray:
    """Rows of a catalogue that an image of this size holds, bool (n_source,)."""
    near = separation_rad(frame.ra_deg, frame.dec_deg, catalog.ra_deg, catalog.dec_deg) < REACH_RAD
    return near & _pixels(catalog, frame, size, pixel_rad)[2]


def _pixels(
    catalog: Catalog, frame: ApparentFrame, size: int, pixel_rad: float
) -> tuple[NDArray, NDArray, NDArray]:
    """Column and row of each source, and whether they are in the image."""
    cosines = frame.on_image(catalog.ra_deg, catalog.dec_deg) / pixel_rad
    x = size // 2 - cosines[:, 0]
    y = size // 2 + cosines[:, 1]
    return x, y, (x > -0.5) & (x < size - 0.5) & (y > -0.5) & (y < size - 0.5)
