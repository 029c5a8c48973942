"""Variability metrics of light curves, in float64 and two passes, vectorised over sources."""

import numpy as np


def weighted_mean(flux: np.ndarray, flux_err: np.ndarray) -> np.ndarray:
    """Inverse-variance weighted mean along the last axis; NaN where nothing is measured."""
    weight = _weight(flux, flux_err)
    total = weight.sum(axis=-1)
    mean = (weight * np.where(weight > 0, flux, 0.0)).sum(axis=-1) / np.where(total > 0, total, 1)
    return np.where(total > 0, mean, np.nan)


def _weight(flux: np.ndarray, flux_err: np.ndarray) -> np.ndarray:
    good = np.isfinite(flux) & np.isfinite(flux_err) & (flux_err > 0)
    return np.where(good, 1 / np.square(np.where(good, flux_err, 1.0)), 0.0)


def chi2(flux: np.ndarray, flux_err: np.ndarray) -> np.ndarray:
    """Chi-squared about the weighted mean.

    Parameters
    ----------
    flux, flux_err : ndarray, shape (..., n_epoch)
        Flux densities and 1-sigma errors [Jy]; NaN where not measured.

    Returns
    -------
    ndarray, shape (...)
        >= 0, or NaN with fewer than two epochs.
    """
    flux, flux_err = np.asarray(flux, float), np.asarray(flux_err, float)
    weight = _weight(flux, flux_err)
    residual = np.where(weight > 0, flux - weighted_mean(flux, flux_err)[..., None], 0.0)
    value = (weight * np.square(residual)).sum(axis=-1)
    return np.where((weight > 0).sum(axis=-1) >= 2, value, np.nan)


def weighted_eta(flux: np.ndarray, flux_err: np.ndarray) -> np.ndarray:
    """Reduced weighted chi-squared about the weighted mean (eta of Swinbank et al. 2015).

    Parameters and NaN policy as in `chi2`.

    Notes
    -----
    Two passes in float64: the one-pass form loses every digit at S/N > 1000.
    """
    count = (_weight(np.asarray(flux, float), np.asarray(flux_err, float)) > 0).sum(axis=-1)
    return chi2(flux, flux_err) / np.maximum(count - 1, 1)


def modulation(flux: np.ndarray) -> np.ndarray:
    """Sample standard deviation over mean (V of Swinbank et al. 2015).

    Parameters
    ----------
    flux : ndarray, shape (..., n_epoch)
        [Jy]; NaN where not measured.

    Returns
    -------
    ndarray, shape (...)
        NaN with fewer than two epochs or a mean of zero or below (V has no meaning there).
    """
    mean, deviation, count = _moments(flux)
    valid = (count >= 2) & (mean > 0)
    spread = np.sqrt(np.square(deviation).sum(axis=-1) / np.maximum(count - 1, 1))
    return np.where(valid, spread / np.where(valid, mean, 1.0), np.nan)


def sigma_dev(flux: np.ndarray) -> np.ndarray:
    """max|f - mean| / std, the trigger used so far; kept for comparison, never a detector.

    With the sample standard deviation it cannot exceed (N - 1) / sqrt(N). NaN with fewer than two
    epochs or without any scatter.
    """
    _, deviation, count = _moments(flux)
    spread = np.sqrt(np.square(deviation).sum(axis=-1) / np.maximum(count - 1, 1))
    valid = (count >= 2) & (spread > 0)
    return np.where(
        valid, np.abs(deviation).max(axis=-1, initial=0.0) / np.where(valid, spread, 1), np.nan
    )


def _moments(flux: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, deviations from it (0 where not measured), and count along the last axis."""
    flux = np.asarray(flux, float)
    good = np.isfinite(flux)
    count = good.sum(axis=-1)
    mean = np.where(good, flux, 0.0).sum(axis=-1) / np.maximum(count, 1)
    return mean, np.where(good, flux - mean[..., None], 0.0), count


def pair_metrics(flux: np.ndarray, flux_err: np.ndarray, chunk: int = 256) -> dict[str, np.ndarray]:
    """Vs and m of the most significant pair of epochs (Mooley et al. 2016).

    Vs = (S1 - S2) / sqrt(sigma1^2 + sigma2^2) and m = 2 (S1 - S2) / (S1 + S2), for the earlier
    epoch minus the later; of all pairs the one with the largest |Vs|, the first on ties.

    Parameters
    ----------
    flux, flux_err : ndarray, shape (n_source, n_epoch)
        [Jy]; NaN where not measured.

    Returns
    -------
    dict
        ``vs``, ``m`` (NaN with fewer than two epochs; m NaN where the pair's mean is not
        positive), ``first``, ``second`` (indices of the pair, -1 without).
    """
    flux, flux_err = np.asarray(flux, float), np.asarray(flux_err, float)
    n_source, n_epoch = flux.shape
    result = {
        "vs": np.full(n_source, np.nan),
        "m": np.full(n_source, np.nan),
        "first": np.full(n_source, -1),
        "second": np.full(n_source, -1),
    }
    first, second = np.triu_indices(n_epoch, 1)
    if len(first) == 0:
        return result
    for start in range(0, n_source, chunk):
        part = slice(start, start + chunk)
        one, two = flux[part][:, first], flux[part][:, second]
        error = np.hypot(flux_err[part][:, first], flux_err[part][:, second])
        vs = (one - two) / error
        best = np.where(np.isfinite(vs), np.abs(vs), -1.0).argmax(axis=1)
        rows = np.arange(len(best))
        some = np.isfinite(vs).any(axis=1)
        total = (one + two)[rows, best]
        result["vs"][part] = np.where(some, vs[rows, best], np.nan)
        positive = some & (total > 0)
        m = 2 * (one - two)[rows, best] / np.where(positive, total, 1.0)
        result["m"][part] = np.where(positive, m, np.nan)
        result["first"][part] = np.where(some, first[best], -1)
        result["second"][part] = np.where(some, second[best], -1)
    return result
