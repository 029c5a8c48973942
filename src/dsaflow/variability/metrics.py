"""Variability metrics of light curves, in float64 and two passes, vectorised over sources.

Every function takes arrays of shape (..., n_epoch), in time order, NaN where not measured, and
works along the last axis. Errors are 1 sigma with the epoch's scale error included; an epoch
without a finite positive error counts for nothing where errors are used. A forced flux below the
detection limit is a measurement with an error like any other: leaving it out, or putting the
limit in its place, would select on noise and bias every metric of a faint source.
"""

import numpy as np

_IQR_OF_NORMAL = 1.3489795


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

    Noise and scale errors are in it: compare with `modulation_noise`.

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


def modulation_noise(flux: np.ndarray, flux_err: np.ndarray) -> np.ndarray:
    """Root mean squared error over mean: the V that a constant source would have."""
    flux = np.where(_weight(flux, flux_err) > 0, flux, np.nan)
    mean, _, count = _moments(flux)
    valid = (count >= 2) & (mean > 0)
    square = np.where(np.isfinite(flux), np.square(flux_err), 0.0).sum(axis=-1)
    noise = np.sqrt(square / np.maximum(count, 1))
    return np.where(valid, noise / np.where(valid, mean, 1.0), np.nan)


def excess_variance(flux: np.ndarray, flux_err: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Normalised excess variance and its error by noise (Vaughan et al. 2003).

    V^2 less the noise's, so it may be negative: (S^2 - <err^2>) / mean^2; the error is that of a
    given light curve by its measurement noise alone, ``modulation_noise``^2 sqrt(2 / N) and
    2 ``modulation_noise`` F sqrt(1 / N) in quadrature, F^2 the excess where positive.

    Returns
    -------
    excess, error : ndarray, shape (...)
        NaN where V is.
    """
    flux = np.where(_weight(flux, flux_err) > 0, flux, np.nan)
    count = np.maximum(np.isfinite(flux).sum(axis=-1), 1)
    noise = np.square(modulation_noise(flux, flux_err))
    excess = np.square(modulation(flux)) - noise
    error = np.sqrt(2 * np.square(noise) / count + 4 * noise * np.maximum(excess, 0) / count)
    return excess, error


def von_neumann(flux: np.ndarray) -> np.ndarray:
    """Mean squared successive difference over the sample variance (von Neumann 1941).

    ``[sum (f_k+1 - f_k)^2 / (N - 1)] / [sum (f - mean)^2 / (N - 1)]`` over the measured epochs in
    their order, whatever the gaps between them (Sokolovsky et al. 2017 use its inverse). White
    noise gives 2; below it neighbours are alike, as in an event of several epochs. In [0, 4].

    Returns
    -------
    ndarray, shape (...)
        NaN with fewer than two epochs or without any scatter.
    """
    _, deviation, count = _moments(flux)
    good = np.isfinite(flux)
    order = np.argsort(~good, axis=-1, kind="stable")  # the measured ones first, in their order
    packed = np.take_along_axis(deviation, order, axis=-1)
    step = np.arange(1, packed.shape[-1]) < count[..., None]
    square = np.where(step, np.square(np.diff(packed, axis=-1)), 0.0).sum(axis=-1)
    total = np.square(deviation).sum(axis=-1)
    valid = (count >= 2) & (total > 0)
    return np.where(valid, square / np.where(valid, total, 1.0), np.nan)


def interquartile(flux: np.ndarray) -> np.ndarray:
    """Interquartile range over 1.349 times the median: a relative scatter that outliers leave.

    The range of Sokolovsky et al. (2017), of the plain fluxes, by linear interpolation; the factor
    makes it the standard deviation of a normal distribution. NaN with fewer than two epochs or a
    median of zero or below.
    """
    flux = np.asarray(flux, float)
    result = np.full(flux.shape[:-1], np.nan)
    some = np.isfinite(flux).sum(axis=-1) >= 2
    if some.any():
        clean = np.where(np.isfinite(flux[some]), flux[some], np.nan)
        low, middle, high = np.nanpercentile(clean, [25, 50, 75], axis=-1)
        valid = middle > 0
        spread = (high - low) / (_IQR_OF_NORMAL * np.where(valid, middle, 1.0))
        result[some] = np.where(valid, spread, np.nan)
    return result


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


def pair_metrics(flux: np.ndarray, flux_err: np.ndarray) -> dict[str, np.ndarray]:
    """Vs and m of the most significant pair of epochs (Mooley et al. 2016).

    Vs = (S1 - S2) / sqrt(sigma1^2 + sigma2^2) and m = 2 (S1 - S2) / (S1 + S2), for the earlier
    epoch minus the later; of all pairs the one with the largest |Vs|. The largest of N (N - 1) / 2
    pairs is not a normal deviate: with 365 epochs noise alone reaches about 4.5.

    Parameters
    ----------
    flux, flux_err : ndarray, shape (n_source, n_epoch)
        [Jy]; NaN where not measured.

    Returns
    -------
    dict
        ``vs``, ``m``, ``m_err`` (NaN with fewer than two epochs; m NaN where the pair's mean is
        not positive), ``first``, ``second`` (indices of the pair, -1 without).
    """
    from dsaflow.variability.pairs import best_pairs

    flux = np.ascontiguousarray(flux, float)
    flux_err = np.ascontiguousarray(flux_err, float)
    first, second = best_pairs(flux, flux_err)
    some = first >= 0
    rows = np.flatnonzero(some)
    result = {name: np.full(len(flux), np.nan) for name in ("vs", "m", "m_err")}
    one, two = flux[rows, first[rows]], flux[rows, second[rows]]
    error_1, error_2 = flux_err[rows, first[rows]], flux_err[rows, second[rows]]
    result["vs"][rows] = (one - two) / np.hypot(error_1, error_2)
    total = np.where(one + two > 0, one + two, np.nan)
    result["m"][rows] = 2 * (one - two) / total
    result["m_err"][rows] = 4 * np.hypot(two * error_1, one * error_2) / np.square(total)
    return result | {"first": first, "second": second}


def all_metrics(flux: np.ndarray, flux_err: np.ndarray, chunk: int = 4096) -> dict[str, np.ndarray]:
    """Every metric of this module, in chunks of sources so that memory stays bounded.

    Parameters
    ----------
    flux, flux_err : ndarray, shape (n_source, n_epoch)
        [Jy]; NaN where not measured.

    Returns
    -------
    dict of ndarray, shape (n_source,)
        ``n_epochs, mean, chi2, eta, v, v_noise, excess_variance, excess_variance_err, vs, m,
        m_err, first, second, von_neumann, iqr, sigma_dev``.
    """
    parts = [
        _metrics_of(flux[start : start + chunk], flux_err[start : start + chunk])
        for start in range(0, max(len(flux), 1), chunk)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _metrics_of(flux: np.ndarray, flux_err: np.ndarray) -> dict[str, np.ndarray]:
    excess, excess_err = excess_variance(flux, flux_err)
    return {
        "n_epochs": np.isfinite(flux).sum(axis=-1),
        "mean": weighted_mean(flux, flux_err),
        "chi2": chi2(flux, flux_err),
        "eta": weighted_eta(flux, flux_err),
        "v": modulation(flux),
        "v_noise": modulation_noise(flux, flux_err),
        "excess_variance": excess,
        "excess_variance_err": excess_err,
        **pair_metrics(flux, flux_err),
        "von_neumann": von_neumann(flux),
        "iqr": interquartile(flux),
        "sigma_dev": sigma_dev(flux),
    }
