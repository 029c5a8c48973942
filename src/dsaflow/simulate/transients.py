"""Relative light curves, many at a time: dips to be found, and what must not be taken for one."""

import numpy as np
from numpy.typing import NDArray

from dsaflow.simulate.variation import lens_factor, lens_strength

DIP_SHAPES = ("gaussian", "lens")
SCINTILLATION_DAYS = (1.0, 3.0, 10.0, 30.0)
# A gap of this many typical steps ends a decline.
_GAP_STEPS = 3.0


def dips(
    mjd: NDArray,
    mid_mjd: NDArray,
    duration_days: NDArray,
    depth: NDArray,
    shape: NDArray,
    freq_ratio: float = 1.0,
) -> NDArray:
    """Flux over quiet flux of dips of full width `duration_days` at half their depth.

    Parameters
    ----------
    mjd : ndarray, shape (n_epoch,)
    mid_mjd, duration_days, depth : ndarray, shape (n_source,)
        At `freq_ratio` 1; depth relative, 0 to below 0.95 for lenses.
    shape : ndarray of str, shape (n_source,)
        Of `DIP_SHAPES`; the lens is that of Clegg, Fey & Lazio (1998) and has its rises at either
        edge. Depths of lenses are rounded to 0.01: one ray map serves many.
    freq_ratio : float
        Frequency over that of `depth`; only a lens depends on it.

    Returns
    -------
    ndarray, shape (n_source, n_epoch)
    """
    phase = (mjd - mid_mjd[:, None]) / duration_days[:, None]
    gauss = np.exp(-4 * np.log(2) * np.square(phase))
    result = 1 - depth[:, None] * gauss
    lens = np.asarray(shape) == "lens"
    rounded = np.round(depth, 2)
    for value in np.unique(rounded[lens & (rounded > 0)]):
        rows = lens & (rounded == value)
        result[rows] = lens_dip_curve(phase[rows], float(value), freq_ratio)
    return result


def lens_dip_curve(phase: NDArray, depth: float, freq_ratio: float = 1.0) -> NDArray:
    """Gain of the lens that is `depth` deep on its axis at frequency ratio 1; phase in durations."""
    strength = lens_strength(depth)
    grid = np.linspace(0, 8, 4001)
    half = grid[np.flatnonzero(lens_factor(grid, strength) < 1 - 0.5 * depth)[-1]]
    return lens_factor(2 * half * phase, strength / freq_ratio**2)


def damped_walks(rng: np.random.Generator, mjd: NDArray, timescale_days: NDArray) -> NDArray:
    """Unit-variance damped random walks (Ornstein-Uhlenbeck), exact for any sampling.

    Parameters
    ----------
    mjd : ndarray, shape (n_epoch,)
    timescale_days : ndarray, shape (n_source,)
        Autocorrelation exp(-lag / timescale).
    """
    draws = rng.standard_normal((len(timescale_days), len(mjd)))
    keep = np.exp(-np.diff(mjd) / timescale_days[:, None])
    for k in range(1, len(mjd)):
        k0 = keep[:, k - 1]
        draws[:, k] = k0 * draws[:, k - 1] + np.sqrt(1 - np.square(k0)) * draws[:, k]
    return draws


def flares(rng: np.random.Generator, mjd: NDArray, number: int) -> NDArray:
    """Exponential rise in 1 to 3 d, decay in 3 to 20 d, 20 to 100 % high, anywhere in the season."""
    since = mjd - rng.uniform(mjd[0], mjd[-1], (number, 1))
    rise, decay = rng.uniform(1, 3, (number, 1)), rng.uniform(3, 20, (number, 1))
    shape = np.exp(np.minimum(since, 0) / rise - np.maximum(since, 0) / decay)
    return 1 + rng.uniform(0.2, 1.0, (number, 1)) * shape


def bad_epochs(rng: np.random.Generator, mjd: NDArray, number: int) -> NDArray:
    """One to three lone epochs, each 0.2 to 1.8 times the flux."""
    result = np.ones((number, len(mjd)))
    for _ in range(3):
        rows = np.flatnonzero(rng.random(number) < (1.0 if _ == 0 else 0.3))
        columns = rng.integers(len(mjd), size=len(rows))
        result[rows, columns] = rng.uniform(0.2, 1.8, len(rows))
    return result


def steps(rng: np.random.Generator, mjd: NDArray, number: int) -> NDArray:
    """A lasting change by 10 to 50 %, down or up, in the middle four fifths of the season."""
    when = mjd[0] + (mjd[-1] - mjd[0]) * rng.uniform(0.1, 0.9, (number, 1))
    change = rng.uniform(0.1, 0.5, (number, 1))
    level = np.where(rng.random((number, 1)) < 0.5, 1 - change, 1 / (1 - change))
    return np.where(mjd < when, 1.0, level)


def declines(rng: np.random.Generator, mjd: NDArray, number: int, into: str = "gap") -> NDArray:
    """A linear decline by 10 to 50 % over 8 to 30 d that nobody sees recover.

    Parameters
    ----------
    into : {"gap", "end"}
        Where it ends: at the season's longest gap, after which the flux is as before, or at the
        season's end.
    """
    step = np.diff(mjd)
    longest = int(step.argmax())
    if into == "gap" and step[longest] < _GAP_STEPS * np.median(step):
        raise ValueError("the season has no gap that a decline could end at")
    last = longest if into == "gap" else len(mjd) - 1
    length, depth = rng.uniform(8, 30, (number, 1)), rng.uniform(0.1, 0.5, (number, 1))
    fall = np.clip((mjd - (mjd[last] - length)) / length, 0, 1)
    return 1 - depth * np.where(np.arange(len(mjd)) <= last, fall, 0.0)
