"""Bright catalogue sources taken off at their places, before CLEAN puts components on pixels.

A source between pixels is a row of components to CLEAN, found in noise and never complete: its image
is wider than the restoring beam by an amount that depends on its place within the pixel, which is 1 %
of its flux with three pixels across the beam. Drawn as a band-limited point it is exact in the
visibilities and after restoring.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from dsaflow.imaging.known import KnownSources
from dsaflow.imaging.restore import clipped_rms

# Kaiser's window over 25 pixels: right to 0.3 % up to 0.8 of the Nyquist frequency, beyond which the
# weights hold nothing (image.uv_fraction). Kaiser (1974).
HALF_WIDTH, BETA = 12, 6.5
ROUNDS = 4


def point(position: float) -> tuple[int, NDArray]:
    """Band-limited point along one axis.

    Parameters
    ----------
    position : float
        0-based pixel coordinate.

    Returns
    -------
    first : int
        Pixel of the first sample.
    samples : ndarray, shape (2 * HALF_WIDTH + 1,)
        Windowed sinc, of unit sum.
    """
    middle = round(position)
    away = np.arange(-HALF_WIDTH, HALF_WIDTH + 1) - (position - middle)
    inside = np.clip(1 - (away / (HALF_WIDTH + 1)) ** 2, 0, None)
    samples = np.sinc(away) * np.i0(BETA * np.sqrt(inside))
    return middle - HALF_WIDTH, samples / samples.sum()


class Points:
    """Sources between the pixels of an image.

    Parameters
    ----------
    x, y : ndarray, shape (n,)
        0-based pixel coordinates (column, row), `HALF_WIDTH` and more from the edge.
    """

    def __init__(self, x: NDArray, y: NDArray) -> None:
        self.flux_jy = np.zeros(len(x))
        self._stamps = []
        for one_x, one_y in zip(x, y, strict=True):
            (column, across), (row, along) = point(one_x), point(one_y)
            size = 2 * HALF_WIDTH + 1
            cut = slice(row, row + size), slice(column, column + size)
            self._stamps.append((cut, np.outer(along, across)))

    def measure(self, image: NDArray) -> NDArray:
        """Value of a band-limited image at each place."""
        return np.array([float((image[cut] * stamp).sum()) for cut, stamp in self._stamps])

    def add(self, model: NDArray, change_jy: NDArray) -> None:
        """Add this flux at each place to a model, in place."""
        for (cut, stamp), flux in zip(self._stamps, change_jy, strict=True):
            model[cut] += (flux * stamp).astype(model.dtype)
        self.flux_jy += change_jy


def lonely(x: NDArray, y: NDArray, flux_jy: NDArray, reach_pixel: float) -> NDArray:
    """Whether no brighter one of the sources lies within `reach_pixel`: a pair would share its flux twice."""
    distance = np.hypot(x[:, None] - x, y[:, None] - y)
    return ~((distance < reach_pixel) & (flux_jy[None, :] > flux_jy[:, None])).any(axis=1)


def place_bright(
    residual: NDArray,
    model: NDArray,
    known: KnownSources,
    sigma: float,
    reach_pixel: float,
    regrid: Callable[[], None],
) -> NDArray:
    """Take bright catalogue sources off at their places; the data give the fluxes.

    Parameters
    ----------
    residual, model : float32 ndarray, shape (size, size)
        Jy/beam and apparent Jy; `regrid` makes the first anew from the second.
    known : KnownSources
    sigma : float
        Of the residual's rms; fainter sources are left to CLEAN. The rms falls as the brightest are
        taken off, so that more follow.
    reach_pixel : float
        Of two catalogue sources nearer than this, the fainter is left to CLEAN.
    regrid : callable

    Returns
    -------
    float32 ndarray, shape of `model`
        What was added to the model.
    """
    size = model.shape[0]
    margin = HALF_WIDTH + 1
    within = (known.x > margin) & (known.x < size - 1 - margin)
    within &= (known.y > margin) & (known.y < size - 1 - margin)
    within &= lonely(known.x, known.y, known.apparent_jy, reach_pixel)
    points = Points(known.x[within], known.y[within])
    added = np.zeros_like(model)
    for _ in range(ROUNDS):
        change = points.measure(residual)
        rms = clipped_rms(residual)
        # what was placed stays: sidelobes of the others were in its first flux
        placed = points.flux_jy != 0
        chosen = placed | (points.flux_jy + change > sigma * rms)
        if not (chosen & ~placed).any() and np.all(np.abs(change[placed]) < rms):
            break
        before = model.copy()
        points.add(model, np.where(chosen, change, 0.0))
        added += model - before
        regrid()
    return added
