"""The noise of a mosaic: its spatial correlation, measured where the catalogue has no source."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WINDOW = 1024  # pixels a side; 10^4 beams give the correlation to 1 %
MIN_BEAMS = (
    200  # independent beams below which a measured correlation is worse than the beam's shape
)


@dataclass(frozen=True)
class NoiseModel:
    """Correlation of the noise and how well the noise map describes its amplitude.

    Attributes
    ----------
    rho : ndarray, shape (2 n + 1, 2 n + 1)
        Correlation coefficient against lag (y, x); rho[n, n] = 1.
    ratio : float
        rms of image / noise map on source-free pixels; 1 where the noise map is right.
    mean : float
        Mean of image / noise map there.
    measured : bool
        False where too few source-free pixels are left, and the restoring beam's shape stands in.
    """

    rho: NDArray
    ratio: float
    mean: float
    measured: bool


def beam_correlation(precision: NDArray, n_lag: int) -> NDArray:
    """Gaussian correlation with the beam's own shape, as a naturally weighted dirty beam has it."""
    lag = np.arange(-n_lag, n_lag + 1)
    y, x = np.meshgrid(lag, lag, indexing="ij")
    return np.exp(-0.5 * (precision[0] * x**2 + 2 * precision[1] * x * y + precision[2] * y**2))


def _window(valid: NDArray, noise: NDArray) -> tuple[slice, slice]:
    """At most WINDOW pixels a side about the middle of the deepest part."""
    depth = np.where(valid, 1 / noise**2, 0.0)
    slices = []
    for axis in (0, 1):
        profile = np.cumsum(depth.sum(axis=1 - axis))
        middle = int(np.searchsorted(profile, profile[-1] / 2))
        first = int(np.clip(middle - WINDOW // 2, 0, max(valid.shape[axis] - WINDOW, 0)))
        slices.append(slice(first, first + WINDOW))
    return slices[0], slices[1]


def measure_noise(
    image: NDArray, noise: NDArray, masked: NDArray, precision: NDArray, n_lag: int
) -> NoiseModel:
    """Measure the autocorrelation of image / noise outside `masked` and beyond-4-sigma pixels.

    Parameters
    ----------
    image, noise : ndarray, shape (ny, nx)
        [Jy/beam]; NaN outside the mosaic.
    masked : ndarray of bool, shape (ny, nx)
        Pixels near catalogue sources.
    precision : ndarray, shape (3,)
        Inverse second moments (xx, xy, yy) of the typical beam [pixel^-2].
    n_lag : int
        Largest lag [pixel].

    Returns
    -------
    NoiseModel
    """
    valid = np.isfinite(image) & np.isfinite(noise)
    cut = _window(valid, noise)
    with np.errstate(invalid="ignore"):
        values = np.asarray(image[cut] / noise[cut], dtype=float)
    kept = valid[cut] & ~masked[cut] & (np.abs(np.where(valid[cut], values, 0.0)) < 4)
    determinant = precision[0] * precision[2] - precision[1] ** 2
    beam_pix = 2 * np.pi / np.sqrt(determinant)
    if kept.sum() < MIN_BEAMS * beam_pix:
        return NoiseModel(beam_correlation(precision, n_lag), np.nan, np.nan, False)
    mean = float(values[kept].mean())
    centred = np.where(kept, values - mean, 0.0)
    rms = float(np.sqrt((centred**2).sum() / kept.sum()))
    return NoiseModel(_autocorrelation(centred, kept, n_lag), rms, mean, True)


def _autocorrelation(centred: NDArray, kept: NDArray, n_lag: int) -> NDArray:
    shape = [n + n_lag for n in centred.shape]

    def power(plane: NDArray) -> NDArray:
        product = np.fft.irfft2(np.abs(np.fft.rfft2(plane, shape)) ** 2, shape)
        rolled = np.roll(product, (n_lag, n_lag), (0, 1))
        return rolled[: 2 * n_lag + 1, : 2 * n_lag + 1]

    pairs = np.maximum(power(kept.astype(float)), 1.0)
    rho = power(centred) / pairs
    return rho / rho[n_lag, n_lag]
