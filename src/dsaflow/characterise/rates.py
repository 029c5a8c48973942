"""Counts with their intervals: efficiencies, false-alarm rates, and the threshold for a rate."""

from collections.abc import Iterable

import numpy as np

DAYS_PER_YEAR = 365.25
# One-sided upper limit of rates, and coverage of the efficiencies' intervals.
CONFIDENCE = 0.95


def efficiency_interval(found: np.ndarray, tried: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Wilson interval of a binomial fraction (Wilson 1927; Brown, Cai & DasGupta 2001), 95 %.

    Parameters
    ----------
    found, tried : ndarray of int

    Returns
    -------
    low, high : ndarray
        0 and 1 where nothing was tried.
    """
    from astropy.stats import binom_conf_interval

    found, tried = np.atleast_1d(found), np.atleast_1d(tried)
    low, high = np.zeros(len(tried)), np.ones(len(tried))
    some = tried > 0
    if some.any():
        low[some], high[some] = binom_conf_interval(
            found[some], tried[some], confidence_level=CONFIDENCE, interval="wilson"
        )
    return low, high


def upper_limit(count: np.ndarray) -> np.ndarray:
    """Upper 95 % Poisson limit of an expected number after `count` were seen (Gehrels 1986).

    The limit is one-sided, so it is the upper end of a central interval of 90 %; 3.0 for none.
    """
    from astropy.stats import poisson_conf_interval

    count = np.atleast_1d(count)
    interval = poisson_conf_interval(
        count,
        interval="frequentist-confidence",
        # central: half of what is outside lies above
        sigma=_central_sigma(2 * CONFIDENCE - 1),
    )
    return interval[1]


def _central_sigma(coverage: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(0.5 * (1 + coverage)))


def rate_limits(
    ratio: np.ndarray, years: float, levels: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Count above each level, rate per source-year, and the rate's upper 95 % limit.

    Parameters
    ----------
    ratio : ndarray, shape (n_season,)
        ln LR of what the search would announce in each event-free season; 0: nothing.
    years : float
        Source-years of observed time in them.
    levels : ndarray, shape (n_level,)
    """
    if years <= 0:
        nothing = np.full(len(levels), np.nan)
        return np.zeros(len(levels), int), nothing, nothing
    ordered = np.sort(ratio)
    count = len(ordered) - np.searchsorted(ordered, levels, side="right")
    return count, count / years, upper_limit(count) / years


def lowest_level(
    samples: Iterable[tuple[np.ndarray, float]], rate: float, levels: np.ndarray
) -> float:
    """Lowest level at which every sample's upper limit is at or below `rate`; NaN if at none.

    Parameters
    ----------
    samples : iterable of (ratio, years)
    rate : float
        False alarms per source-year.
    levels : ndarray, shape (n_level,)
        Ascending.
    """
    good = np.ones(len(levels), bool)
    for ratio, years in samples:
        good &= rate_limits(ratio, years, levels)[2] <= rate
    return float(levels[good.argmax()]) if good.any() else float("nan")
