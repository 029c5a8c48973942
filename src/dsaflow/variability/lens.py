"""Light curve behind a diverging plasma lens (Clegg, Fey & Lazio 1998)."""

import numpy as np

_RAY_STEP = 0.0005
_BIN = 0.02


def plasma_lens_gain(
    offset: np.ndarray, strength: float, source_size: float, half_range: float = 30.0
) -> np.ndarray:
    """Gain of a Gaussian plasma lens at the observer's offset from its axis.

    A ray that crosses the lens at u (in units of the lens's 1/e half width a) reaches the
    observer's plane at u' = u (1 + alpha exp(-u^2)) (their eq. 11). Uniform rays are followed and
    binned in u', which conserves flux and sums multiple images; the finite source smooths the
    result.

    Parameters
    ----------
    offset : ndarray
        u', dimensionless.
    strength : float
        alpha >= 0, dimensionless; proportional to wavelength squared. Caustics form above
        e^(3/2) / 2 = 2.24; on the axis a point source is dimmed to 1 / (1 + alpha).
    source_size : float
        Standard deviation of the Gaussian source in units of a, > 0 (bins of 0.02 resolve it).
    half_range : float
        Rays are followed to |u'| of this; beyond it the gain is 1.

    Returns
    -------
    ndarray
        Flux over unlensed flux, shape of `offset`.
    """
    u = np.arange(-half_range, half_range, _RAY_STEP) + 0.5 * _RAY_STEP
    arrival = u * (1 + strength * np.exp(-np.square(u)))
    edges = np.arange(-half_range, half_range + 0.5 * _BIN, _BIN)
    counts, _ = np.histogram(arrival, edges)
    gain = counts * (_RAY_STEP / _BIN)
    centres = 0.5 * (edges[1:] + edges[:-1])
    reach = int(np.ceil(5 * source_size / _BIN))
    kernel = np.exp(-0.5 * np.square(np.arange(-reach, reach + 1) * _BIN / source_size))
    smooth = 1 + np.convolve(gain - 1, kernel / kernel.sum(), mode="same")
    return np.interp(offset, centres, smooth, left=1.0, right=1.0)
