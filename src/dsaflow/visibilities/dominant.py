"""The brightest source of a field, taken off raw visibilities without knowing it.

A calibrator of 22 Jy is 8 sigma of one visibility, and its amplitude beats with every other source
of the field: that is no smooth level to measure interference against. One point source through any
antenna gains is g_1 conj(g_2) in each integration and channel, wherever it is; what is left beside
it are the field's other sources, below the noise.
"""

import numpy as np
from numpy.typing import NDArray

from dsaflow.visibilities.noise import masked_median

# Amplitude of one visibility in sigma from which the source is taken off. The strongest such product
# in noise alone has 2 / sqrt(n_antenna): 0.2 of 96 antennas.
_DOMINANT = 1.5
_FEWEST_ANTENNAS = 16
# Amplitudes are pulled in to this many times their median: interference on one baseline must not
# turn its two antennas.
_WINSOR = 3.0
_TOLERANCE = 1e-3
_MAX_ITERATIONS = 60


def subtract_dominant_source(
    data: NDArray, noise: NDArray, flags: NDArray, antenna1: NDArray, antenna2: NDArray
) -> bool:
    """Take the strongest product of antenna gains off each integration and channel, in place.

    Parameters
    ----------
    data : complex64 ndarray, shape (n_time, n_baseline, n_channel)
    noise : ndarray, shape (n_baseline, n_channel)
        Sigma of one component; NaN where there are no data.
    flags : bool ndarray, shape of `data`
        Those samples have no part in it.
    antenna1, antenna2 : int ndarray, shape (n_baseline,)

    Returns
    -------
    bool
        False where no source exceeds the noise of one visibility (or too few antennas are alive):
        nothing is changed then.

    Notes
    -----
    Costs 2 / n_antenna of the noise's power. Interference that is the same source for all antennas
    would be taken off where it is stronger than the sky, whose brightest source then stays, and else
    stays itself: either shows in what is left.
    """
    live = ~flags.all(axis=(0, 2))
    if np.unique(np.concatenate([antenna1[live], antenna2[live]])).size < _FEWEST_ANTENNAS:
        return False
    n_time = len(data)

    def fit(time: int, start: NDArray | None) -> NDArray:
        return _fit(data[time], noise, flags[time], antenna1, antenna2, start)

    gain: NDArray | None = None
    # at either end, too: the source may be on its way through the beam
    if max(_strength(fit(time, None)) for time in (0, n_time // 2, n_time - 1)) < _DOMINANT:
        return False
    for time in range(n_time):
        gain = fit(time, gain)
        source = (gain[:, antenna1] * gain[:, antenna2].conj()).T
        data[time] -= np.where(np.isfinite(noise), noise, 0) * source
    return True


def _strength(gain: NDArray) -> float:
    """Amplitude of one visibility in sigma, median over channels."""
    power = np.abs(gain) ** 2
    used = power.any(axis=1)
    if not used.any():
        return 0.0
    return float(np.median(power[used].sum(axis=1) / np.count_nonzero(power[used], axis=1)))


def _fit(
    data: NDArray,
    noise: NDArray,
    flags: NDArray,
    antenna1: NDArray,
    antenna2: NDArray,
    start: NDArray | None,
) -> NDArray:
    """Gains of one integration in units of the noise, shape (n_channel, n_antenna).

    Alternating least squares, every second iterate averaged with the one before; zero where there
    are no data.
    """
    n_antenna = int(max(antenna1.max(), antenna2.max())) + 1
    use = ~flags & np.isfinite(noise) & (noise > 0)
    scaled = np.where(use, data / np.where(use, noise, 1), 0).astype(np.complex64)
    size = np.abs(scaled)
    limit = np.nan_to_num(_WINSOR * masked_median(size, ~use))
    scaled *= np.minimum(1, limit / np.maximum(size, 1e-30)).astype(np.float32)
    shape = (data.shape[1], n_antenna, n_antenna)
    matrix, weight = np.zeros(shape, np.complex64), np.zeros(shape, np.float32)
    matrix[:, antenna1, antenna2] = scaled.T
    matrix[:, antenna2, antenna1] = scaled.T.conj()
    weight[:, antenna1, antenna2] = weight[:, antenna2, antenna1] = use.T
    gain = _first_guess(matrix, weight)
    if start is not None:
        known = start.any(axis=1)
        gain[known] = start[known]
    for iteration in range(_MAX_ITERATIONS):
        power = (weight @ (np.abs(gain) ** 2)[..., None])[..., 0]
        new = (matrix @ gain[..., None])[..., 0] / np.maximum(power, 1e-30)
        new = np.where(power > 0, new, 0)
        change = np.linalg.norm(new - gain)
        gain = 0.5 * (gain + new) if iteration % 2 else new
        if iteration % 2 and change <= _TOLERANCE * np.linalg.norm(new):
            break
    return gain


def _first_guess(matrix: NDArray, weight: NDArray) -> NDArray:
    """Phases against the antenna with the most power, one amplitude a channel."""
    size = np.abs(matrix)
    channel = np.arange(len(matrix))
    reference = size.sum(axis=2).argmax(axis=1)
    phase = matrix[channel, :, reference].copy()
    phase /= np.maximum(np.abs(phase), 1e-30)
    phase[channel, reference] = 1
    mean = size.sum(axis=(1, 2)) / np.maximum(weight.sum(axis=(1, 2)), 1)
    gain = phase * np.sqrt(mean)[:, None]
    return np.where(weight.any(axis=2), gain, 0).astype(np.complex64)
