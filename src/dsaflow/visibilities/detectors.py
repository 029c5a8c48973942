"""Detectors over many baselines at once: what no single baseline of 24 integrations can show.

Interference differs in amplitude and phase on each baseline but comes at the same times and in the
same channels, so the amplitudes' median over baselines shows it far below one baseline's noise.
"""

import numpy as np
from numpy.typing import NDArray

from dsaflow.visibilities.noise import masked_median

# Scatter of the median of n Rayleigh amplitudes, relative to the median: 0.849 / (1.177 sqrt(n)).
_MEDIAN_SCATTER = 0.721
# Scatter of the mean of n Rayleigh amplitudes, relative to the mean.
_MEAN_SCATTER = 0.523
_SIGNIFICANT = 6.0
_CLIP = 4.0
# A stuck integration repeats its predecessor to rounding; noise alone never comes so close.
_REPEATED = 1e-4
# A channel this far below its neighbours in amplitude over noise is drowned in interference.
_SUNK = 0.75
# ln of the least excess of a channel's noise over its neighbours' that is not taken for bandpass.
_NOISY = 0.3
_FEWEST_CHANNELS = 8
# Scatter of a channel's noise about products of antennas, over the other channels': the scatter
# itself is known to 6 % from 276 baselines.
_UNEVEN = 1.5


def robust_trend(values: NDArray, degree: int = 2) -> NDArray:
    """Polynomial along the first axis that outliers do not pull, evaluated at every sample.

    Least squares on values pulled in to 2.5 robust sigma of the previous fit, starting from the
    median (Huber's winsorising).
    """
    n = len(values)
    if n <= degree + 2:
        return np.broadcast_to(np.median(values, axis=0), values.shape)
    return _robust_fit(values, np.polynomial.legendre.legvander(np.linspace(-1, 1, n), degree))


def robust_surface(values: NDArray, degree: int = 2) -> NDArray:
    """Polynomial along both axes, products included, that outliers do not pull (`robust_trend`)."""
    if min(values.shape) <= degree + 2:
        return np.broadcast_to(robust_trend(np.median(values, axis=1))[:, None], values.shape)
    rows, columns = (
        np.polynomial.legendre.legvander(np.linspace(-1, 1, n), degree) for n in values.shape
    )
    return _robust_fit(values.ravel(), np.kron(rows, columns)).reshape(values.shape)


def _robust_fit(values: NDArray, basis: NDArray) -> NDArray:
    inverse = np.linalg.pinv(basis)
    trend = np.broadcast_to(np.median(values, axis=0), values.shape)
    for _ in range(4):
        residual = values - trend
        limit = 2.5 * 1.4826 * np.median(np.abs(residual), axis=0)
        pulled = trend + np.clip(residual, -limit, limit)
        trend = np.tensordot(basis, np.tensordot(inverse, pulled, axes=1), axes=1)
    return trend


def running_median(values: NDArray, width: int) -> NDArray:
    """Median in a window of `width` samples along the only axis, shortened at the ends."""
    half = width // 2
    return np.array(
        [np.median(values[max(i - half, 0) : i + half + 1]) for i in range(values.size)]
    )


def dead_antennas(
    amplitude: NDArray, antenna1: NDArray, antenna2: NDArray, n_antenna: int, ratio: float
) -> NDArray:
    """Antennas (of one polarisation) whose amplitudes are nothing like the others'.

    Parameters
    ----------
    amplitude : ndarray, shape (n_baseline,)
        Median amplitude of each baseline; zero or NaN where there is none.
    ratio : float
        Below `ratio` times, or above 1 / `ratio` times, the array's median.

    Returns
    -------
    bool ndarray, shape (n_antenna,)
    """
    value = np.nan_to_num(amplitude)
    level = np.array(
        [np.median(value[(antenna1 == i) | (antenna2 == i)]) for i in range(n_antenna)]
    )
    alive = level[level > 0]
    if not alive.size:
        return np.ones(n_antenna, bool)
    typical = np.median(alive)
    return (level < ratio * typical) | (level > typical / ratio)


def stuck_integrations(amplitude: NDArray) -> NDArray:
    """Integrations that repeat the one before, shape (n_time,) bool.

    Amplitudes are compared: the phase has since been rotated to the tile's centre.
    """
    stuck = np.zeros(len(amplitude), bool)
    for time in range(1, len(amplitude)):
        now, before = amplitude[time], amplitude[time - 1]
        same = np.abs(now - before) <= _REPEATED * now
        used = now > 0
        stuck[time] = used.any() and np.count_nonzero(same & used) > 0.5 * np.count_nonzero(used)
    return stuck


def array_level(amplitude: NDArray, baselines: NDArray) -> NDArray:
    """Median over some baselines at each time and channel, with one integration copied at a time.

    Parameters
    ----------
    amplitude : ndarray, shape (n_time, n_baseline, n_channel)
    baselines : bool ndarray, shape (n_baseline,)

    Returns
    -------
    ndarray, shape (n_time, n_channel)
    """
    return np.stack(
        [np.median(slab[baselines], axis=0, overwrite_input=True) for slab in amplitude]
    )


def array_cells(level: NDArray, n_baseline: int, excess: float) -> NDArray:
    """Times and cells in which most baselines are stronger than at other times.

    Parameters
    ----------
    level : ndarray, shape (n_time, n_channel)
        From `array_level`, in any unit that is constant in time: each channel is compared with
        itself, so the noise need not be known (interference in some integrations would spoil its
        estimate).
    n_baseline : int
        Baselines in the median.
    excess : float
        Fraction above the smooth level that is never flagged, however significant: the sky's own
        change over the tile stays below it.

    Returns
    -------
    bool ndarray, shape (n_time, n_channel)
    """
    typical = np.median(level, axis=0)
    relative = level / np.where(typical > 0, typical, 1)
    error = _MEDIAN_SCATTER / np.sqrt(n_baseline)
    # in both: a far source in a sidelobe rises at one end of the band and sets at the other
    relative = relative / robust_surface(relative)
    bad = relative > 1 + max(excess, _SIGNIFICANT * error)
    for time, cells in enumerate(bad):
        rest = relative[time, ~cells]
        if not rest.size:
            continue
        limit = max(excess, _SIGNIFICANT * error / np.sqrt(rest.size))
        quartile, median = np.quantile(rest, (0.25, 0.5))
        # A whole integration only if it is too strong nearly everywhere: a streak over half of the
        # band leaves the other half clean.
        if median > 1 + limit and quartile > 1 + 0.5 * limit:
            bad[time] = True
    return bad


def array_channels(level: NDArray, n_baseline: int, bad: NDArray, excess: float) -> NDArray:
    """Channels in which most baselines are stronger than in the neighbouring channels.

    Parameters
    ----------
    level : ndarray, shape (n_time, n_channel)
        From `array_level`, of amplitudes in units of each baseline's and channel's noise.
    n_baseline : int
        Baselines in the median.
    bad : bool ndarray, shape (n_time, n_channel)
        Cells to be left out.
    excess : float
        See `array_cells`.

    Returns
    -------
    bool ndarray, shape (n_channel,)
    """
    by_channel = masked_median(level, bad)
    live = np.isfinite(by_channel)
    found = np.zeros(level.shape[1], bool)
    if not live.any():
        return found
    count = np.count_nonzero(~bad, axis=0)[live]
    error = _MEDIAN_SCATTER / np.sqrt(n_baseline * count)
    smooth = _smooth_over_channels(by_channel[live])
    found[live] = by_channel[live] > smooth * (1 + np.maximum(excess, _SIGNIFICANT * error))
    # interference that changes with time raises the noise itself, below which a bright sky sinks
    found[live] |= by_channel[live] < smooth * _SUNK
    return found


def noisy_channels(sigma: NDArray) -> NDArray:
    """Channels whose noise, median over baselines, stands out from their neighbours'.

    Parameters
    ----------
    sigma : ndarray, shape (n_baseline, n_channel)
        NaN where there are no data.

    Returns
    -------
    bool ndarray, shape (n_channel,)

    Notes
    -----
    The limit follows the channels' own scatter: the bandpass ripples, and jumps between subbands.
    """
    level = np.full(sigma.shape[1], np.nan)
    live = np.isfinite(sigma).any(axis=0)
    noisy = np.zeros(live.size, bool)
    if np.count_nonzero(live) < _FEWEST_CHANNELS:
        return noisy
    level = np.log(masked_median(sigma[:, live], ~np.isfinite(sigma[:, live])))
    # a window shorter than a subband: a jump between subbands is no narrow band
    above = level - (running_median(level, 9) if level.size > 32 else robust_trend(level))
    scatter = 1.4826 * np.median(np.abs(above))
    noisy[live] = above > max(_NOISY, _SIGNIFICANT * scatter)
    return noisy


def uneven_channels(noise: NDArray, factors: NDArray, flags: NDArray) -> NDArray:
    """Channels whose noise is no product of antennas: interference that fluctuates, on each baseline its own.

    Where each channel has a bandpass of its own (one channel a subband) its level tells nothing.

    Parameters
    ----------
    noise : ndarray, shape (n_baseline, n_channel)
        From `baseline_noise`, baselines of live antennas.
    factors : ndarray, same shape
        From `antenna_noise`; equal to `noise` where that found no factors.
    flags : bool ndarray, shape (n_time, n_channel)
        Cells that had no part in the noise.

    Returns
    -------
    bool ndarray, shape (n_channel,)
    """
    known = np.isfinite(noise) & np.isfinite(factors) & (noise > 0) & (factors > 0)
    ratio = np.abs(np.log(np.where(known, noise, 1) / np.where(known, factors, 1)))
    count = np.count_nonzero(~(flags[1:] | flags[:-1]), axis=0)
    spread = masked_median(ratio, ~known) * np.sqrt(count)
    spread = np.nan_to_num(spread)
    if np.count_nonzero(spread) < _FEWEST_CHANNELS:
        return np.zeros(spread.size, bool)
    return spread > _UNEVEN * np.median(spread[spread > 0])


def _smooth_over_channels(values: NDArray) -> NDArray:
    width = max(9, values.size // 8)
    if values.size <= 2 * width:
        return robust_trend(values)
    return running_median(values, width)


def antenna_detector(
    scaled: NDArray, flags: NDArray, antenna1: NDArray, antenna2: NDArray, n_antenna: int
) -> NDArray:
    """Cells in which all of one antenna's baselines are too strong.

    Parameters
    ----------
    scaled, flags : ndarray, shape (n_time, n_baseline, n_channel)

    Returns
    -------
    bool ndarray, shape (n_time, n_antenna, n_channel)
    """
    n_time, n_baseline, n_channel = scaled.shape
    member = np.zeros((n_antenna, n_baseline), np.float32)
    member[antenna1, np.arange(n_baseline)] = member[antenna2, np.arange(n_baseline)] = 1
    bad = np.zeros((n_time, n_antenna, n_channel), bool)
    mean = np.empty((n_time, n_antenna, n_channel), np.float32)
    count = np.empty_like(mean)
    for time in range(n_time):
        use = ~flags[time]
        mean[time] = member @ np.where(use, np.minimum(scaled[time], _CLIP), 0)
        count[time] = member @ use.astype(np.float32)
    enough = count >= 8
    mean = np.where(enough, mean / np.maximum(count, 1), np.nan)
    for antenna in range(n_antenna):
        if enough[:, antenna].all(axis=0).sum() * n_time < 0.5 * n_time * n_channel:
            continue
        usable = enough[:, antenna].all(axis=0)
        values = mean[:, antenna][:, usable]
        smooth = robust_trend(np.median(values, axis=1))[:, None]
        error = _MEAN_SCATTER / np.sqrt(count[:, antenna][:, usable])
        bad[:, antenna, usable] = values > smooth * (1 + np.maximum(_SIGNIFICANT * error, 0.2))
    return bad
