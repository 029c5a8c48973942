"""Flux scale of each epoch from the references' light curves, the target left out."""

from dataclasses import dataclass

import numpy as np

from dsaflow.variability.curves import nan_median
from dsaflow.variability.robust import (
    BIWEIGHT_MEAN_WEIGHT,
    BIWEIGHT_VARIANCE,
    biweight,
    excess_variance,
)

# Twice the chi-squared's own scatter: a quiet reference or epoch gets no excess by chance.
_DEAD_ZONE_SIGMA = 2.0


@dataclass
class EpochScale:
    """Relative flux scale: true flux = measured flux / scale.

    Attributes
    ----------
    scale, scale_err : ndarray, shape (n_epoch,)
        From all references; dimensionless, `scale_err` relative. NaN scale_err: not known.
    source_scale, source_scale_err : ndarray, shape (n_source, n_epoch)
        The same with the source itself left out.
    excess : ndarray, shape (n_epoch,)
        Relative scatter of the references at that epoch beyond their errors (position-dependent
        gains): adds to every source's error.
    source_excess : ndarray, shape (n_source,)
        Relative variability of the references beyond their errors; NaN for other sources.
    n_references : ndarray of int, shape (n_epoch,)
    reduced_chi2 : ndarray, shape (n_epoch,)
        Of the references with positive weight, their errors and own variability only.
    is_reference : ndarray of bool, shape (n_source,)
    measured : ndarray of bool, shape (n_epoch,)
        Enough references; elsewhere the scale is 1 with the calibration's own error.
    """

    scale: np.ndarray
    scale_err: np.ndarray
    source_scale: np.ndarray
    source_scale_err: np.ndarray
    excess: np.ndarray
    source_excess: np.ndarray
    n_references: np.ndarray
    reduced_chi2: np.ndarray
    is_reference: np.ndarray
    measured: np.ndarray


@dataclass
class _Fit:
    """Two-way robust fit ln f = a_source + s_epoch; arrays over the references."""

    log_scale: np.ndarray
    offset: np.ndarray
    weight: np.ndarray
    source_excess: np.ndarray
    epoch_excess: np.ndarray
    z: np.ndarray


def fit_epoch_scale(
    flux: np.ndarray,
    flux_err: np.ndarray,
    candidate: np.ndarray,
    calibration_err: np.ndarray,
    min_references: int = 10,
    max_excess: float = 0.1,
    iterations: int = 30,
) -> EpochScale:
    """Fit the flux scale of every epoch to the log flux ratios of stable reference sources.

    The model is ln f = a_source + s_epoch, fitted by Tukey's biweight (an M-estimator) with each
    reference's own excess variability and each epoch's excess scatter estimated in turn. In
    logarithms a gain error is additive, and the bias of the logarithm is the same at all epochs.

    Parameters
    ----------
    flux, flux_err : ndarray, shape (n_source, n_epoch)
        [Jy]; NaN where not measured. Errors without any scale term.
    candidate : ndarray of bool, shape (n_source,)
        Sources that may serve: compact, isolated, bright; judged over all epochs together, never
        epoch by epoch (that would select on noise).
    calibration_err : ndarray, shape (n_epoch,)
        Relative error of the scale from calibration, for epochs with too few references.
    min_references : int
        Fewer at an epoch leave its scale unmeasured.
    max_excess : float
        Sources whose excess exceeds this fraction are dropped from the references.
    """
    n_source, n_epoch = flux.shape
    median = nan_median(flux)
    good = np.isfinite(flux) & (flux > 0) & (median > 0)[:, None]
    # The median's flux, not the epoch's own: a weight must not depend on the noise it weighs.
    variance = np.where(good, np.square(flux_err / np.where(median > 0, median, 1)[:, None]), 1.0)
    log_flux = np.where(good, np.log(np.where(good, flux, 1.0)), 0.0)
    reference = candidate & (good.sum(axis=1) >= max(3, n_epoch // 2))

    for _ in range(3):
        index = np.flatnonzero(reference)
        fit = _two_way_fit(log_flux[index], variance[index], good[index], iterations)
        unstable = np.sqrt(fit.source_excess) > max_excess
        if not unstable.any():
            break
        reference[index[unstable]] = False
    index = np.flatnonzero(reference)
    fit = _two_way_fit(log_flux[index], variance[index], good[index], iterations)

    weight = np.zeros((n_source, n_epoch))
    weighted = np.zeros((n_source, n_epoch))
    weight[index] = fit.weight
    weighted[index] = fit.weight * (log_flux[index] - fit.offset[:, None])
    n_references = (weight > 0).sum(axis=0)
    measured = n_references >= min_references
    factor = BIWEIGHT_VARIANCE * BIWEIGHT_MEAN_WEIGHT
    rest = np.maximum(weight.sum(axis=0) - weight, 1e-12)
    log_source = np.where(measured, (weighted.sum(axis=0) - weighted) / rest, 0.0)
    fallback = np.where(np.isfinite(calibration_err), calibration_err, np.nan)
    scale_err = np.sqrt(factor / np.maximum(weight.sum(axis=0), 1e-12))
    source_excess = np.full(n_source, np.nan)
    source_excess[index] = np.sqrt(fit.source_excess)
    kept = fit.weight > 0
    chi2 = np.where(kept, np.square(fit.z), 0).sum(axis=0) / np.maximum(kept.sum(axis=0) - 1, 1)
    return EpochScale(
        scale=np.where(measured, np.exp(fit.log_scale), 1.0),
        scale_err=np.where(measured, scale_err, fallback),
        source_scale=np.exp(log_source),
        source_scale_err=np.where(measured, np.sqrt(factor / rest), fallback),
        excess=np.where(measured, np.sqrt(fit.epoch_excess), 0.0),
        source_excess=source_excess,
        n_references=n_references,
        reduced_chi2=np.where(measured, chi2, np.nan),
        is_reference=reference,
        measured=measured,
    )


def _two_way_fit(
    log_flux: np.ndarray, variance: np.ndarray, good: np.ndarray, iterations: int
) -> _Fit:
    """Alternate between epochs' scales, sources' levels and both excess terms (all in logs)."""
    n_source, n_epoch = log_flux.shape
    scale, offset = np.zeros(n_epoch), np.zeros(n_source)
    source_excess, epoch_excess = np.zeros(n_source), np.zeros(n_epoch)
    if n_source == 0:
        empty = np.zeros((0, n_epoch))
        return _Fit(scale, offset, empty, source_excess, epoch_excess, empty)
    seen = np.where(good, log_flux, np.nan)
    for _ in range(4):  # medians first: the biweight needs a robust start
        offset = np.nan_to_num(nan_median(seen - scale))
        scale = np.nan_to_num(nan_median((seen - offset[:, None]).T))
    for _ in range(iterations):
        total = variance + source_excess[:, None] + epoch_excess
        residual = log_flux - offset[:, None] - scale
        weight = np.where(good, biweight(residual / np.sqrt(total)) / total, 0.0)
        norm = np.maximum(weight.sum(axis=0), 1e-12)
        new = (weight * (log_flux - offset[:, None])).sum(axis=0) / norm
        present = weight.sum(axis=0) > 0
        new = np.where(present, new, 0.0)
        new -= new[present].mean() if present.any() else 0.0
        change = np.abs(new - scale).max()
        scale = new
        norm = np.maximum(weight.sum(axis=1), 1e-12)
        offset = np.where(
            weight.sum(axis=1) > 0, (weight * (log_flux - scale)).sum(axis=1) / norm, offset
        )
        residual = log_flux - offset[:, None] - scale
        source_excess = excess_variance(residual, variance + epoch_excess, good, _DEAD_ZONE_SIGMA)
        epoch_excess = excess_variance(
            residual.T, (variance + source_excess[:, None]).T, good.T, _DEAD_ZONE_SIGMA
        )
        if change < 1e-7:
            break
    z = residual / np.sqrt(variance + source_excess[:, None])
    return _Fit(scale, offset, weight, source_excess, epoch_excess, z)
