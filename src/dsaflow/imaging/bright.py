"""Bright catalogue sources taken off at their places, before CLEAN puts components on pixels.

A source between pixels is a row of components to CLEAN, found in noise and never complete: its image
is wider than the restoring beam by an amount that depends on its place within the pixel, which is 1 %
of its flux with three pixels across the beam. Drawn as a band-limited point it is exact in the
visibilities and after restoring.
"""

from collections.abc import Callable

import ducc0
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
        self.x, self.y = x, y
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

    def draw(self, model: NDArray, flux_jy: NDArray) -> None:
        """Add this flux at each place to a model, in place."""
        for (cut, stamp), flux in zip(self._stamps, flux_jy, strict=True):
            model[cut] += (flux * stamp).astype(model.dtype)

    def add(self, model: NDArray, change_jy: NDArray) -> None:
        """Draw a change, and keep it in `flux_jy`."""
        self.draw(model, change_jy)
        self.flux_jy += change_jy

    def response(self, index: NDArray, psf: NDArray) -> NDArray:
        """What a dirty image holds at each of the places for 1 Jy at each, shape (n, n).

        0 for places further apart than the PSF reaches.
        """
        size, middle = psf.shape[0], psf.shape[0] // 2
        response = np.eye(len(index))
        for row, one in enumerate(index):
            others = index[:row]
            x, y = middle + self.x[others] - self.x[one], middle + self.y[others] - self.y[one]
            reached = np.flatnonzero(
                np.maximum(np.abs(x - middle), np.abs(y - middle)) < size / 2 - HALF_WIDTH - 1
            )
            values = Points(x[reached], y[reached]).measure(psf)
            response[row, reached] = response[reached, row] = values
        return response


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
    psf: NDArray,
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
        taken off, so that more follow, once.
    reach_pixel : float
        Of two catalogue sources nearer than this, the fainter is left to CLEAN.
    psf : float32 ndarray, shape (size, size)
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
    for attempt in range(ROUNDS):
        # Those that the threshold, falling a last time, would still admit are CLEAN's: a
        # regridding costs more than they gain.
        change = _fluxes(points, residual, sigma if attempt < 2 else np.inf, psf)
        if change is None:
            break
        before = model.copy()
        points.add(model, change)
        added += model - before
        regrid()
    return added


def _fluxes(points: Points, residual: NDArray, sigma: float, psf: NDArray) -> NDArray | None:
    """Changes of the points' fluxes that the residual asks for, or None where it asks for nothing.

    The sidelobes of all chosen ones are told apart by the PSF, which is exact but for the beam's motion
    and the sky's curvature: a regridding, ten times as costly, has to correct only for those.
    """
    # what was placed stays: sidelobes of the others were in its first flux
    chosen = points.flux_jy != 0
    change, left = np.zeros_like(points.flux_jy), residual
    for attempt in range(ROUNDS):
        rms = clipped_rms(left)
        measured = points.measure(left)
        more = ~chosen & (change + points.flux_jy + measured > sigma * rms)
        if not more.any() and (attempt > 0 or np.all(np.abs(measured[chosen]) < rms)):
            break
        chosen |= more
        index = np.flatnonzero(chosen)
        change[index] += np.linalg.lstsq(points.response(index, psf), measured[index])[0]
        model = np.zeros_like(psf)
        points.draw(model, change)
        left = residual - convolve(model, psf)
    return change if change.any() else None


def convolve(model: NDArray, psf: NDArray) -> NDArray:
    """Dirty image of a model: linear convolution with the PSF, whose peak is at size // 2."""
    size = psf.shape[0]
    whole = 2 * size, 2 * size
    spectra = [ducc0.fft.r2c(_padded(plane, whole)) for plane in (model, psf)]
    spectra[0] *= spectra[1]
    product = ducc0.fft.c2r(spectra[0], lastsize=whole[1], forward=False, inorm=2)
    middle = slice(size // 2, size // 2 + size)
    return product[middle, middle]


def _padded(plane: NDArray, whole: tuple[int, int]) -> NDArray:
    """An image in the corner of a larger one of zeros, single precision."""
    padded = np.zeros(whole, np.float32)
    padded[: plane.shape[0], : plane.shape[1]] = plane
    return padded


def finish_known(
    residual: NDArray,
    model: NDArray,
    known: KnownSources,
    least_jy: float,
    psf: NDArray,
    reach_pixel: float,
    regrid: Callable[[], None],
) -> None:
    """Take off at their places what CLEAN's threshold has left of catalogue sources, in one joint step.

    CLEAN leaves up to its threshold of each source in the residual, and all of those that it never
    reached. That part keeps the dirty beam's shape, of which a forced fit finds too little, and its
    sidelobes are the same in every tile, so that they do not average down in a mosaic.

    Parameters
    ----------
    residual, model : float32 ndarray, shape (size, size)
        Jy/beam and apparent Jy; `regrid` makes the first anew from the second.
    known : KnownSources
    least_jy : float
        Apparent flux from which a source takes part. The catalogue's, so that noise does not choose;
        what is taken off is measured, and may be negative.
    psf : float32 ndarray, shape (size, size)
    reach_pixel : float
        Of two catalogue sources nearer than this, the fainter is left as it is.
    regrid : callable
    """
    size = model.shape[0]
    margin = HALF_WIDTH + 1
    use = known.apparent_jy >= least_jy
    use &= (known.x > margin) & (known.x < size - 1 - margin)
    use &= (known.y > margin) & (known.y < size - 1 - margin)
    x, y = known.x[use], known.y[use]
    apart = lonely(x, y, known.apparent_jy[use], reach_pixel)
    x, y = x[apart], y[apart]
    if not x.size:
        return
    points = Points(x, y)
    # as `Points.response`, bilinear: right to a few per cent of a sidelobe, for all pairs at once
    shared = _bilinear(psf, y[:, None] - y + size // 2, x[:, None] - x + size // 2)
    np.fill_diagonal(shared, 1.0)
    points.draw(model, np.linalg.solve(shared, points.measure(residual)))
    regrid()


def _bilinear(plane: NDArray, row: NDArray, column: NDArray) -> NDArray:
    """Plane between its pixels, float64 of the shape of `row`; 0 beyond its edge."""
    padded = np.pad(plane.astype(float), 1)
    low, left = np.floor(row).astype(int), np.floor(column).astype(int)
    down, right = row - low, column - left
    size = plane.shape[0]
    inside = (low >= -1) & (low < size) & (left >= -1) & (left < size)
    low, left = np.where(inside, low, 0) + 1, np.where(inside, left, 0) + 1
    upper = padded[low, left] * (1 - right) + padded[low, left + 1] * right
    lower = padded[low + 1, left] * (1 - right) + padded[low + 1, left + 1] * right
    return np.where(inside, upper * (1 - down) + lower * down, 0.0)
