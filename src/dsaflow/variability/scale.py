"""Flux scale of each epoch from the references' light curves, the target left out."""

from dataclasses import dataclass, field

import numpy as np

from dsaflow.variability.curves import nan_median
from dsaflow.variability.robust import (
    BIWEIGHT_MEAN_SLOPE,
    BIWEIGHT_MEAN_WEIGHT,
    BIWEIGHT_VARIANCE,
)
from dsaflow.variability.spatial import highest_order, n_terms, polynomials
from dsaflow.variability.twoway import TwoWayFit, fit_two_way

# Asymptotic covariance of an M-estimator (the sandwich, Maronna et al. 2006) over the inverse of
# its weighted normal matrix, and the estimate's response to one residual over the normal
# equations' at fixed weights.
_SANDWICH = BIWEIGHT_VARIANCE * BIWEIGHT_MEAN_WEIGHT
_RESPONSE = BIWEIGHT_MEAN_WEIGHT / BIWEIGHT_MEAN_SLOPE
_REFERENCES_PER_TERM = 5
# An epoch gets a spatial term that the others lack at this many standard errors, and at a
# likelihood ratio of e^5.
_OWN_TERM_SIGMA = 4.0
_OWN_TERM_GAIN = 5.0
_PREDICTION_CAP = 25.0
_CHUNK = 4096


@dataclass
class EpochScale:
    """Relative flux scale: true flux = measured flux / scale.

    Attributes
    ----------
    scale, scale_err : ndarray, shape (n_epoch,)
        From all references, their mean over the field; dimensionless, `scale_err` relative.
        NaN scale_err: not known.
    source_scale, source_scale_err : ndarray, shape (n_source, n_epoch)
        At the source's own position, with the source itself left out of every term.
    excess : ndarray, shape (n_epoch,)
        Relative scatter of the references at that epoch beyond their errors (position-dependent
        gains that the polynomial does not follow): adds to every source's error.
    source_excess : ndarray, shape (n_source,)
        Relative variability of the references beyond their errors; NaN for other sources.
    n_references : ndarray of int, shape (n_epoch,)
        With positive weight.
    reduced_chi2 : ndarray, shape (n_epoch,)
        Of the references with positive weight, their errors and own variability only.
    is_reference : ndarray of bool, shape (n_source,)
    measured : ndarray of bool, shape (n_epoch,)
        Enough references; elsewhere the scale is 1 with the error of a scale not measured.
    rejected : ndarray, shape (n_epoch,)
        Fraction of the references present that have no weight.
    order : ndarray of int, shape (n_epoch,)
        Degree of the spatial polynomial.
    theta, covariance : ndarray, shape (n_epoch, n_term), (n_epoch, n_term, n_term)
        Coefficients of ln scale and their covariance. Two sources at one epoch have the common
        covariance basis_i . covariance . basis_j; between epochs it is negligible.
    basis : ndarray, shape (n_source, n_term)
    parts : list of EpochScale
        The fields of a strip of several, each over its own sources; then the epochs' own arrays
        here are summaries.
    field : ndarray of int, shape (n_source,)
        Index into `parts`; empty without.
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
    rejected: np.ndarray
    order: np.ndarray
    theta: np.ndarray
    covariance: np.ndarray
    basis: np.ndarray
    parts: list["EpochScale"] = field(default_factory=list)
    field: np.ndarray = field(default_factory=lambda: np.zeros(0, int))

    @property
    def spatial_rms(self) -> np.ndarray:
        """Scatter of ln scale over the references' positions, shape (n_epoch,)."""
        if self.parts:
            return np.sqrt(np.mean([np.square(part.spatial_rms) for part in self.parts], axis=0))
        return np.sqrt(np.square(self.theta[:, 1:]).sum(axis=1))  # the basis is orthonormal there

    def flags(self, max_excess: float, max_rejected: float = 0.3) -> np.ndarray:
        """Why an epoch's scale is not to be trusted, shape (n_epoch,); empty where it is.

        ``few_references``: not measured. ``bad_fit``: the references scatter by more than
        `max_excess` beyond their errors, or more than `max_rejected` of them are outliers.
        """
        flag = np.full(len(self.scale), "", dtype="U20")
        flag[(self.excess > max_excess) | (self.rejected > max_rejected)] = "bad_fit"
        flag[~self.measured] = "few_references"
        return flag


@dataclass
class _References:
    """What every fit of one data set shares."""

    flux: np.ndarray
    flux_err: np.ndarray
    good: np.ndarray
    basis: np.ndarray

    def of(self, keep: np.ndarray) -> "_References":
        return _References(self.flux[keep], self.flux_err[keep], self.good[keep], self.basis[keep])

    def fit(self, order: np.ndarray, iterations: int) -> TwoWayFit:
        """Two-way fit with a polynomial of the given degree at each epoch."""
        width = min(n_terms(int(order.max(initial=0))), self.basis.shape[1])
        has_term = np.arange(width) < np.array([n_terms(int(k)) for k in order])[:, None]
        return fit_two_way(
            self.flux,
            self.flux_err,
            self.good,
            self.basis[:, :width],
            has_term,
            iterations=iterations,
        )


def fit_epoch_scale(
    flux: np.ndarray,
    flux_err: np.ndarray,
    candidate: np.ndarray,
    calibration_err: np.ndarray,
    min_references: int = 10,
    max_excess: float = 0.1,
    iterations: int = 30,
    offset_deg: np.ndarray | None = None,
    max_order: int = 2,
    order: np.ndarray | None = None,
) -> EpochScale:
    """Fit the flux scale of every epoch to the log flux ratios of stable reference sources.

    The model is ln f = a_source + s_epoch(position), s a polynomial, fitted by Tukey's biweight
    (an M-estimator) with each reference's own excess variability and each epoch's excess scatter
    estimated in turn.

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
    offset_deg : ndarray, shape (n_source, 2), optional
        Offsets from the field's centre; without them the scale has no spatial term.
    max_order : int
        Highest degree of the spatial polynomial that is tried.
    order : ndarray of int, shape (n_epoch,), optional
        Degrees to use instead of the cross-validated ones; every candidate is a reference then.

    Notes
    -----
    A scale that is not measured has the error of the calibration or the scatter of the measured
    epochs' scales, whichever is larger: what the other epochs show is what it may be off by.
    """
    n_source, n_epoch = flux.shape
    median = nan_median(flux)
    good = np.isfinite(flux) & np.isfinite(flux_err) & (flux_err > 0) & (median > 0)[:, None]
    reference = candidate & (good.sum(axis=1) >= max(3, n_epoch // 2))
    if offset_deg is None:
        offset_deg, max_order = np.zeros((n_source, 2)), 0
    elif order is not None:
        max_order = int(order.max(initial=0))
    typical = int(np.median(good[reference].sum(axis=0))) if n_epoch and reference.any() else 0
    max_order = min(max_order, highest_order(typical, _REFERENCES_PER_TERM))
    basis = polynomials(offset_deg, reference, max_order)
    if basis.shape[1] < n_terms(max_order):  # all on a line: the scale has no second dimension
        basis, max_order = basis[:, :1], 0

    data = _References(np.where(good, flux, 1.0), np.where(good, flux_err, 1.0), good, basis)
    for _ in range(3 if order is None else 0):  # with a given order the references are given too
        index = np.flatnonzero(reference)
        fit = data.of(index).fit(np.full(n_epoch, max_order), iterations // 2)
        unstable = np.sqrt(fit.source_excess) > max_excess
        if not unstable.any():
            break
        reference[index[unstable]] = False
    index = np.flatnonzero(reference)
    own = data.of(index)
    if order is None:
        order = _choose_order(own, max_order, iterations // 2)
    order = np.minimum(order, max_order)
    order = np.minimum(
        order, [highest_order(n, _REFERENCES_PER_TERM) for n in own.good.sum(axis=0)]
    )
    fit = own.fit(order, iterations)
    return _assemble(fit, index, data, order, calibration_err, min_references)


def _choose_order(own: _References, max_order: int, iterations: int) -> np.ndarray:
    """Degree of each epoch's polynomial by cross-validation over the references.

    Each reference is predicted from all others, in closed form. An epoch gets a higher degree if
    that improves its own log predictive density by 4 standard errors (over the references); all
    the others together get it if it improves their sum by more than one. Choosing for each epoch
    by the better value would select on noise, and an error that is chosen away is in no
    covariance.
    """
    n_epoch = own.good.shape[1]
    chosen = np.zeros(n_epoch, int)
    if max_order == 0 or len(own.flux) < 3:
        return chosen
    every = np.arange(n_epoch)
    density = np.array(
        [_predictive(own, own.fit(np.full(n_epoch, k), iterations)) for k in range(max_order + 1)]
    )
    count = np.maximum(own.good.sum(axis=0), 1)
    for k in range(1, max_order + 1):
        gain = density[k] - density[chosen, :, every].T
        total = gain.sum(axis=0)
        spread = np.sqrt(np.square(gain - total / count).sum(axis=0, where=own.good))
        higher = total > np.maximum(_OWN_TERM_SIGMA * spread, _OWN_TERM_GAIN)
        rest = gain[:, ~higher].sum(axis=1)
        if rest.sum() > np.sqrt(len(rest)) * rest.std():
            higher[:] = True
        chosen[higher] = k
    return chosen


def _predictive(own: _References, fit: TwoWayFit) -> np.ndarray:
    """Log density of each measurement as the other references predict it, 0 where none."""
    shift, variance = _left_out(fit, own.basis[:, : fit.theta.shape[1]])
    total = fit.variance + fit.source_excess[:, None] + fit.epoch_excess + variance
    z2 = np.minimum(np.square(fit.residual + shift) / total, _PREDICTION_CAP)
    return np.where(own.good, -0.5 * (np.log(total) + z2), 0.0)


def _left_out(fit: TwoWayFit, basis: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What leaving each reference out takes off its ln scale, and the variance of the rest.

    Sherman and Morrison (1950) on the normal equations: exact at fixed weights, to first order in
    the response of the weights.
    """
    quadratic = fit.quadratic(basis)
    own = np.minimum(fit.weight * quadratic, 0.95)
    shift = _RESPONSE * own * fit.residual / (1 - own)
    return shift, _SANDWICH * quadratic / (1 - own)


def _assemble(
    fit: TwoWayFit,
    index: np.ndarray,
    data: _References,
    order: np.ndarray,
    calibration_err: np.ndarray,
    min_references: int,
) -> EpochScale:
    """Scales of all sources from the references' fit."""
    n_source, n_epoch = data.flux.shape
    basis = data.basis[:, : fit.theta.shape[1]]
    present = data.good[index]
    kept = fit.weight > 0
    n_references = kept.sum(axis=0)
    measured = n_references >= min_references
    scatter = float(fit.theta[measured, 0].std(ddof=1)) if measured.sum() >= 3 else 0.0
    fallback = np.maximum(np.where(np.isfinite(calibration_err), calibration_err, np.nan), scatter)
    lowered = _lowered_variance(fit, order, measured)

    log_scale, variance = np.empty((n_source, n_epoch)), np.empty((n_source, n_epoch))
    for start in range(0, n_source, _CHUNK):
        part = slice(start, start + _CHUNK)
        log_scale[part] = basis[part] @ fit.theta.T
        variance[part] = _SANDWICH * fit.quadratic(basis[part])
    shift, rest = _left_out(fit, basis[index])
    log_scale[index] -= shift
    variance[index] = rest
    variance += np.square(basis) @ lowered.T
    np.exp(log_scale, out=log_scale)
    np.sqrt(variance, out=variance)
    log_scale[:, ~measured] = 1.0
    variance[:, ~measured] = fallback[~measured]

    source_excess = np.full(n_source, np.nan)
    source_excess[index] = np.sqrt(fit.source_excess)
    z2 = np.square(fit.residual) / (fit.variance + fit.source_excess[:, None])
    chi2 = np.where(kept, z2, 0).sum(axis=0) / np.maximum(n_references - 1, 1)
    covariance = _SANDWICH * fit.inverse + np.eye(fit.theta.shape[1]) * lowered[:, None, :]
    reference = np.zeros(n_source, bool)
    reference[index] = True
    return EpochScale(
        scale=np.where(measured, np.exp(fit.theta[:, 0]), 1.0),
        scale_err=np.where(measured, np.sqrt(covariance[:, 0, 0]), fallback),
        source_scale=log_scale,
        source_scale_err=variance,
        excess=np.where(measured, np.sqrt(fit.epoch_excess), 0.0),
        source_excess=source_excess,
        n_references=n_references,
        reduced_chi2=np.where(measured, chi2, np.nan),
        is_reference=reference,
        measured=measured,
        rejected=1 - n_references / np.maximum(present.sum(axis=0), 1),
        order=np.where(measured, order, 0),
        theta=np.where(measured[:, None], fit.theta, 0.0),
        covariance=covariance,
        basis=basis,
    )


def _lowered_variance(fit: TwoWayFit, order: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """Variance of the spatial terms an epoch lacks though most have them, (n_epoch, n_term).

    Such an epoch has too few references for the term; what the others scatter is its error.
    """
    result = np.zeros(fit.theta.shape)
    terms = np.array([n_terms(int(k)) for k in order], int)
    for k in range(1, fit.theta.shape[1]):
        has = measured & (terms > k)
        if 2 * has.sum() > measured.sum():
            result[~(terms > k), k] = np.mean(np.square(fit.theta[has, k]))
    return result
