"""The noise of a mosaic: its spatial correlation, measured where the catalogue has no source."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WINDOW = 640  # pixels a side; 8000 beams of 50 pixels give each lag of the correlation to 1 %
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
    shape = [-(-(n + n_lag) // 64) * 64 for n in centred.shape]  # sizes that the FFT likes

    def power(plane: NDArray) -> NDArray:
        transform = np.fft.rfft2(plane.astype(np.float32), shape)
        product = np.fft.irfft2(transform.real**2 + transform.imag**2, shape)
        rolled = np.roll(product, (n_lag, n_lag), (0, 1))
        return rolled[: 2 * n_lag + 1, : 2 * n_lag + 1]

    pairs = np.maximum(power(kept), 1.0)
    rho = power(centred) / pairs
    return rho / rho[n_lag, n_lag]


def central(rho: NDArray, n_lag: int) -> NDArray:
    """Cut a correlation down to lags of at most `n_lag`."""
    middle = rho.shape[0] // 2
    n_lag = min(n_lag, middle)
    cut = slice(middle - n_lag, middle + n_lag + 1)
    return np.ascontiguousarray(rho[cut, cut])


def ring_variance(
    rho: NDArray, precision: NDArray, inner_beams: float, outer_beams: float
) -> tuple[float, float, int]:
    """Variance that subtracting the mean of an elliptical ring adds to a pixel at its centre.

    Parameters
    ----------
    rho : ndarray
        Correlation of the noise, to lags of the ring's diameter.
    precision : ndarray, shape (3,)
        Inverse second moments of the beam [pixel^-2].
    inner_beams, outer_beams : float
        Edges of the ring in full widths at half maximum.

    Returns
    -------
    variance, covariance : float
        Of the ring's mean, and of the mean with a pixel at the centre, in units of the noise
        squared. What is added is variance - 2 covariance: negative where the ring's noise follows
        the centre's.
    n_pixel : int
        Of the ring.
    """
    n = rho.shape[0] // 2
    lag = np.arange(-n, n + 1)
    y, x = np.meshgrid(lag, lag, indexing="ij")
    q = precision[0] * x**2 + 2 * precision[1] * x * y + precision[2] * y**2
    q /= 8 * np.log(2)
    ring = ((q >= inner_beams**2) & (q <= outer_beams**2)).astype(float)
    n_pixel = int(ring.sum())
    covariance = float((ring * rho).sum()) / n_pixel
    # sum over pairs = sum over lags of rho times the ring's own autocorrelation (even in the lag)
    size = 2 * rho.shape[0]
    pairs = np.fft.irfft2(np.abs(np.fft.rfft2(ring, (size, size))) ** 2, (size, size))
    pairs = np.roll(pairs, (n, n), (0, 1))[: 2 * n + 1, : 2 * n + 1]
    return float((pairs * rho).sum()) / n_pixel**2, covariance, n_pixel
