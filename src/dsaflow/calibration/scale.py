"""A tile's amplitude scalar from its catalogue sources, robust against their variability."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsaflow.calibration.predict import Predictor
from dsaflow.calibration.skymodel import SkyModel
from dsaflow.geometry import separation_rad

_MERGE_RAD = np.radians(60.0 / 3600.0)
_MAX_FITTED = 300
_MAX_ROUNDS = 6
_TUKEY = 4.685


@dataclass
class SourceFactors:
    """Measured over catalogued flux of each group of sources (groups are closer than the beam).

    Attributes
    ----------
    factor, noise_err : ndarray, shape (n_group,)
        Ratio and its 1-sigma error from noise alone, with correlations.
    catalog_err : ndarray
        Fractional error of the catalogue's flux.
    expected_snr : ndarray
        Catalogued apparent flux over its noise: sources are selected on this, never on measured flux.
    compact : ndarray of bool
    source_id : ndarray of str
        Of each group's brightest source.
    members : ndarray, shape (n_source,)
        Group of each source of the model; the last group (index n_group) is all the rest.
    noise_jy : float
        RMS of one visibility (real or imaginary part).
    """

    factor: NDArray
    noise_err: NDArray
    catalog_err: NDArray
    expected_snr: NDArray
    compact: NDArray
    source_id: NDArray
    members: NDArray
    rest_factor: float
    noise_jy: float

    def per_source(self) -> NDArray:
        """Factor of each source of the model, shape (n_source,)."""
        return np.append(self.factor, self.rest_factor)[self.members]


@dataclass
class Scale:
    """Amplitude of the corrected data over the catalogue's (1 where they agree).

    Attributes
    ----------
    value : float
    noise_err : float
        Relative error from noise: new in every observation.
    catalog_err : float
        Relative error from the catalogue's errors and from what its sources have varied since: the
        same each time this field is observed.
    n_source : int
    max_weight : float
    scatter : float
        Excess scatter of the sources beyond noise and catalogue errors.
    """

    value: float
    noise_err: float
    catalog_err: float
    n_source: int
    max_weight: float
    scatter: float


def group_sources(model: SkyModel, fitted: NDArray) -> NDArray:
    """Group of each source: blends within 60 arcsec of a fitted source share its factor; -1 for the rest."""
    group = np.full(len(model), -1)
    n_group = 0
    for k in np.flatnonzero(fitted):
        if group[k] >= 0:
            continue
        near = separation_rad(model.ra_deg[k], model.dec_deg[k], model.ra_deg, model.dec_deg)
        group[(near < _MERGE_RAD) & (group < 0)] = n_group
        n_group += 1
    return group


def fit_sources(
    predictor: Predictor,
    data: NDArray,
    weight: NDArray,
    min_snr: float = 3.0,
    start: NDArray | None = None,
) -> SourceFactors:
    """Fit one factor for each bright group of sources jointly, and one for all the rest.

    Parameters
    ----------
    predictor : Predictor
    data : complex64 ndarray, shape (n_time, n_baseline, n_channel)
        Corrected visibilities, weighted mean over receptors.
    weight : float32 ndarray, same shape
        Number of visibilities in the mean; 0 where flagged.
    min_snr : float
        Expected S/N above which a source has a factor of its own.
    start : ndarray, shape (n_source,), optional
        Factors to start from.

    Returns
    -------
    SourceFactors

    Notes
    -----
    Linear least squares by residuals: each round predicts, correlates the residual with every
    source over the unflagged visibilities, and steps with a normal matrix that neglects the flags'
    pattern; its fixed point is the exact solution.
    """
    model, channels = predictor.model, slice(0, data.shape[2])
    fill = weight.mean()
    normal = predictor.normal_matrix(channels, every=4) * fill
    current = np.ones(len(model)) if start is None else start
    residual = data - predictor.rescaled(current).predict(channels)
    noise = float(np.sqrt(_mean_power(residual, weight) / 2))
    expected = np.sqrt(np.maximum(np.diag(normal), 0)) / noise
    fitted = expected >= min_snr
    fitted[_MAX_FITTED:] = False
    group = group_sources(model, fitted)
    n_group = group.max(initial=-1) + 1
    members = np.where(group < 0, n_group, group)
    indicator = np.zeros((len(model), n_group + 1))
    indicator[np.arange(len(model)), members] = 1.0
    indicator = indicator[:, indicator.any(axis=0)]
    matrix = indicator.T @ normal @ indicator
    factor = (indicator.T @ current) / indicator.sum(axis=0)
    inverse_diagonal = np.diag(np.linalg.inv(matrix))
    for _ in range(_MAX_ROUNDS):
        step = np.linalg.solve(
            matrix, indicator.T @ predictor.correlate(residual * weight, channels)
        )
        factor = factor + step
        if np.all(np.abs(step) < 0.1 * noise * np.sqrt(inverse_diagonal)):
            break
        scaled = predictor.rescaled(indicator @ factor)
        residual = data - scaled.predict(channels)
        noise = float(np.sqrt(_mean_power(residual, weight) / 2))
    error = noise * np.sqrt(inverse_diagonal)
    rest = factor[n_group] if len(factor) > n_group else 1.0
    leaders = np.array([np.flatnonzero(group == g)[0] for g in range(n_group)], dtype=int)
    flux = np.array([model.apparent_jy[group == g].sum() for g in range(n_group)])
    catalog_err = np.array(
        [
            np.sqrt(((model.catalog_err * model.apparent_jy)[group == g] ** 2).sum())
            for g in range(n_group)
        ]
    )
    return SourceFactors(
        factor[:n_group], error[:n_group], catalog_err / flux, 1.0 / error[:n_group],
        model.compact[leaders], model.source_id[leaders], members, float(rest), noise,
    )  # fmt: skip


def _mean_power(residual: NDArray, weight: NDArray) -> float:
    """Mean of weight |residual|^2 over the visibilities in use: the power of one receptor's noise."""
    power = weight * (residual.real**2 + residual.imag**2)
    return float(power.sum(dtype=float) / np.count_nonzero(weight))


def robust_scale(factors: SourceFactors, max_weight: float, min_snr: float = 3.0) -> Scale:
    """Tukey-biweight mean of the sources' factors with inverse-variance weights, capped.

    Parameters
    ----------
    factors : SourceFactors
    max_weight : float
        Largest share of one source.
    min_snr : float
        Compact sources with an expected S/N above this take part.

    Returns
    -------
    Scale
        NaN value with no source.

    Notes
    -----
    The scatter beyond noise and catalogue errors (variability) is found from the data and widens
    every source's error alike.
    """
    use = factors.compact & (factors.expected_snr >= min_snr)
    if not use.any():
        return Scale(np.nan, np.nan, np.nan, 0, np.nan, np.nan)
    ratio, noise, catalog = (
        a[use] for a in (factors.factor, factors.noise_err, factors.catalog_err)
    )
    value, scatter = float(np.median(ratio)), 0.0
    weight = np.ones(len(ratio))
    for _ in range(50):
        variance = noise**2 + value**2 * (catalog**2 + scatter**2)
        base = capped(1.0 / variance, max_weight)
        deviate = (ratio - value) / np.sqrt(variance)
        weight = capped(base * biweight(deviate), max_weight)
        new = float((weight * ratio).sum())
        scatter = excess_scatter(ratio / new - 1, np.hypot(noise / new, catalog))
        moved, value = abs(new - value), new
        if moved < 1e-7 * abs(value):
            break
    # a biweight mean's variance is 1 / 0.95 of the mean's at the normal distribution
    return Scale(
        value,
        float(np.sqrt((weight**2 * noise**2).sum() / 0.95) / value),
        float(np.sqrt((weight**2 * (catalog**2 + scatter**2)).sum() / 0.95)),
        int((weight > 0).sum()),
        float(weight.max()),
        scatter,
    )


def biweight(deviate: NDArray) -> NDArray:
    """Tukey's weight of deviates in units of their error: 0 beyond 4.685."""
    return (1 - np.minimum((deviate / _TUKEY) ** 2, 1)) ** 2


def excess_scatter(deviation: NDArray, error: NDArray) -> float:
    """Scatter that, added to the errors, brings the weighted median of |deviation| to its place.

    0.6745 sigma at the normal distribution; outliers do not move it. Weights are inverse variances,
    so that it is the precise sources that tell.
    """

    def excess(scatter: float) -> float:
        total = np.hypot(error, scatter)
        size = np.abs(deviation) / total
        order = np.argsort(size)
        share = np.cumsum(total[order] ** -2.0)
        return size[order][np.searchsorted(share, 0.5 * share[-1])] - 0.6745

    low, high = 0.0, 1.0
    if excess(low) <= 0:
        return 0.0
    for _ in range(30):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if excess(middle) > 0 else (low, middle)
    return high


def capped(weight: NDArray, limit: float) -> NDArray:
    """Normalise weights so that none exceeds `limit` of the sum (or an equal share, where few remain)."""
    weight = weight / weight.sum()
    limit = float(max(limit, 1.0 / max(int(np.count_nonzero(weight)), 1)))
    for _ in range(100):
        above = weight > limit * (1 + 1e-9)
        if not above.any():
            break
        free = 1.0 - limit * int((weight >= limit).sum())
        rest = float(weight[weight < limit].sum())
        weight = np.where(weight >= limit, limit, weight * (free / rest if rest > 0 else 0.0))
    return weight
