"""The noise of uncalibrated visibilities, per antenna and channel, from the data themselves."""

import numpy as np
from numpy.typing import NDArray

# Median of a Rayleigh distribution, in units of the sigma of one component.
RAYLEIGH_MEDIAN = np.sqrt(2 * np.log(2))
_FEWEST_DIFFERENCES = 3
_FEWEST_ANTENNAS = 8


def masked_median(values: NDArray, mask: NDArray) -> NDArray:
    """Median over the first axis of what is not masked; NaN where all is.

    Parameters
    ----------
    values : ndarray, shape (n, ...)
    mask : bool ndarray, same shape
    """
    if not mask.any():
        return np.median(values, axis=0)
    ordered = np.sort(np.where(mask, np.nan, values), axis=0)  # NaN last
    count = np.count_nonzero(~mask, axis=0)
    low = np.maximum((count - 1) // 2, 0)
    high = np.minimum(count // 2, len(values) - 1)
    pick = [np.take_along_axis(ordered, i[None], axis=0)[0] for i in (low, high)]
    return np.where(count > 0, 0.5 * (pick[0] + pick[1]), np.nan)


def baseline_noise(data: NDArray, flags: NDArray) -> NDArray:
    """Sigma of one component of each baseline and channel, from differences between neighbours.

    Differences in time leave out the sky, whose fringes change little from one integration to the
    next, and interference that is steady; both would raise an amplitude's median. Where there are
    too few integrations, channels are differenced instead, and all channels share one sigma.

    Parameters
    ----------
    data : complex64 ndarray, shape (n_time, n_baseline, n_channel)
    flags : bool ndarray, same shape

    Returns
    -------
    ndarray, shape (n_baseline, n_channel)
        NaN where everything is flagged.
    """
    if len(data) > _FEWEST_DIFFERENCES:
        return masked_median(np.abs(np.diff(data, axis=0)), flags[1:] | flags[:-1]) / (
            np.sqrt(2) * RAYLEIGH_MEDIAN
        )
    step = np.abs(np.diff(data, axis=2)).transpose(0, 2, 1).reshape(-1, data.shape[1])
    mask = (flags[:, :, 1:] | flags[:, :, :-1]).transpose(0, 2, 1).reshape(step.shape)
    sigma = masked_median(step, mask) / (np.sqrt(2) * RAYLEIGH_MEDIAN)
    return np.repeat(sigma[:, None], data.shape[2], axis=1)


def antenna_noise(sigma: NDArray, antenna1: NDArray, antenna2: NDArray, live: NDArray) -> NDArray:
    """Replace each baseline's sigma by the product of two antennas' robust ones.

    Interference on some baselines, or a noisy estimate from 23 differences, then does not raise the
    scale it is measured by.

    Parameters
    ----------
    sigma : ndarray, shape (n_baseline, n_channel)
    antenna1, antenna2 : int ndarray, shape (n_baseline,)
    live : bool ndarray, shape (n_antenna,)
        Antennas to be used.

    Returns
    -------
    ndarray, shape (n_baseline, n_channel)
        As given where there are too few antennas, not every baseline, or a channel without data.

    Notes
    -----
    log sigma_ij = a_i + a_j by alternating medians, as an additive two-way table (Tukey 1977).
    """
    index = np.flatnonzero(live)
    n_antenna = index.size
    both = live[antenna1] & live[antenna2]
    if n_antenna < _FEWEST_ANTENNAS or np.count_nonzero(both) != n_antenna * (n_antenna - 1) // 2:
        return sigma
    order = np.full(live.size, -1)
    order[index] = np.arange(n_antenna)
    first, second = order[antenna1[both]], order[antenna2[both]]
    good = np.isfinite(sigma[both]).all(axis=0) & (sigma[both] > 0).all(axis=0)
    table = np.empty((n_antenna, n_antenna, np.count_nonzero(good)), np.float32)
    table[first, second] = table[second, first] = np.log(sigma[np.ix_(both, good)])
    others = np.array([[j for j in range(n_antenna) if j != i] for i in range(n_antenna)])
    rows = table[np.arange(n_antenna)[:, None], others]
    level = 0.5 * np.median(rows, axis=1)
    for _ in range(3):
        level += 0.5 * (np.median(rows - level[others], axis=1) - level)
    result = sigma.copy()
    result[np.ix_(both, good)] = np.exp(level[first] + level[second])
    return result
