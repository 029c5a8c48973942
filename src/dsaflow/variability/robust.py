"""Robust statistics shared by the flux scale and the event search."""

import numpy as np
from numba import njit

# Tukey's biweight at 95 % efficiency, and what a standard normal gives with it: the mean weight
# E[h], the mean slope E[psi'], and the asymptotic variance E[psi^2] / E[psi']^2 of the location
# (Maronna et al. 2006).
BIWEIGHT_TUNING = 4.685
BIWEIGHT_MEAN_WEIGHT = 0.91511
BIWEIGHT_MEAN_SLOPE = 0.75778
BIWEIGHT_VARIANCE = 1.0526

_WINSOR = 3.0
_WINSOR_MEAN = 0.99501  # E[min(z^2, 9)] of a standard normal


def biweight(z: np.ndarray) -> np.ndarray:
    """Tukey's biweight: weight of a residual of `z` standard deviations (0 beyond 4.685)."""
    return np.where(np.abs(z) < BIWEIGHT_TUNING, np.square(1 - np.square(z / BIWEIGHT_TUNING)), 0.0)


def excess_variance(
    residual: np.ndarray,
    variance: np.ndarray,
    mask: np.ndarray,
    dead_zone_sigma: float = 0.0,
    n_fitted: int = 1,
    iterations: int = 8,
) -> np.ndarray:
    """Variance to add to `variance` so that the winsorised reduced chi-squared is 1.

    Parameters
    ----------
    residual, variance : ndarray, shape (..., n)
        Residuals about the fit and their expected variances (> 0 where `mask`).
    mask : ndarray of bool, shape (..., n)
        Which residuals count.
    dead_zone_sigma : float
        An excess of chi-squared below this many of its standard errors gives 0: without it half
        of all quiet curves would get a positive excess by chance.
    n_fitted : int
        Parameters fitted to the residuals.

    Returns
    -------
    ndarray, shape (...)
        >= 0; 0 where fewer than two degrees of freedom are left.
    """
    freedom = mask.sum(axis=-1) - n_fitted
    known = freedom >= 2
    freedom = np.maximum(freedom, 1)
    square = np.where(mask, np.square(residual), 0.0)
    variance = np.where(mask, variance, 1.0)
    excess = np.zeros(residual.shape[:-1])
    for step in range(iterations):
        total = variance + excess[..., None]
        inverse = np.where(mask, 1 / total, 0.0)
        z2 = np.minimum(square * inverse, _WINSOR**2)
        ratio = z2.sum(axis=-1) / (_WINSOR_MEAN * freedom)
        if step == 0:
            known = known & (ratio > 1 + dead_zone_sigma * np.sqrt(2 / freedom))
        typical = mask.sum(axis=-1) / np.maximum(inverse.sum(axis=-1), 1e-300)
        excess = np.where(known, np.maximum(excess + (ratio - 1) * typical, 0.0), 0.0)
    return excess


def huber(z: np.ndarray, tuning: float = 1.345) -> np.ndarray:
    """Huber's weight of a residual of `z` standard deviations: one solution, whatever the start."""
    return np.minimum(1.0, tuning / np.maximum(np.abs(z), 1e-12))


def score_excess(
    square: np.ndarray,
    variance: np.ndarray,
    mask: np.ndarray,
    dead_zone_sigma: float = 0.0,
    shared: int = 1,
    iterations: int = 20,
) -> np.ndarray:
    """Variance to add to `variance` by maximum likelihood, winsorised at 3 sigma.

    Fisher scoring on the Gaussian likelihood (its score is sum (z^2 - 1) / total): residuals of
    small variance tell most about a small excess, which a reduced chi-squared, in which all weigh
    alike, would miss.

    Parameters
    ----------
    square, variance : ndarray, shape (..., n)
        Squared residuals, corrected for the degrees of freedom fitted, and expected variances.
    mask : ndarray of bool, shape (..., n)
    dead_zone_sigma : float
        A score at zero excess below this many of its standard errors gives 0.
    shared : int
        No residual weighs more than the one of this rank (at most a third of them), so that
        one alone makes no excess.

    Returns
    -------
    ndarray, shape (...)
        >= 0; 0 where fewer than three residuals count.
    """
    square, variance = np.atleast_2d(square), np.atleast_2d(variance)
    weight = np.where(np.atleast_2d(mask), 1 / variance, 0.0)
    count = (weight > 0).sum(axis=-1)
    largest = np.full(len(weight), np.inf)
    rank = min(shared, int(np.median(count)) // 3) if len(count) else 1
    if rank > 1:
        largest = np.partition(weight, -rank, axis=-1)[:, -rank]
    variance = np.where(weight > 0, variance, 0.0)
    excess = score_kernel(
        np.ascontiguousarray(square), variance, largest, dead_zone_sigma, iterations
    )
    return excess.reshape(mask.shape[:-1])


@njit(cache=True, nogil=True)
def score_kernel(square, variance, largest, dead_zone_sigma, iterations):
    """Rows of `score_excess`; `variance` is 0 where nothing counts, `largest` caps the weights."""
    n_row, n = square.shape
    excess = np.zeros(n_row)
    for k in range(n_row):
        value = 0.0
        for step in range(iterations):
            score = slope = spread = 0.0
            count = 0
            for j in range(n):
                if variance[k, j] <= 0:
                    continue
                count += 1
                inverse = 1 / (variance[k, j] + value)
                weight = min(inverse, largest[k])
                z2 = min(square[k, j] * inverse, _WINSOR * _WINSOR)
                score += (z2 / _WINSOR_MEAN - 1) * weight
                slope += weight * inverse
                spread += weight * weight
            if count < 3 or (step == 0 and score <= dead_zone_sigma * np.sqrt(2 * spread)):
                break
            before = value
            value = max(value + score / slope, 0.0)
            if abs(value - before) <= 1e-4 * value:
                break
        excess[k] = value
    return excess
