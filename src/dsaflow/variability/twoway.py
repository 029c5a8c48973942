"""Robust two-way fit of fluxes: a level for each source, a scale for each epoch over the field."""

from dataclasses import dataclass

import numpy as np

from dsaflow.variability.curves import nan_median
from dsaflow.variability.robust import biweight, huber, score_excess

# Twice the score's own scatter: a quiet reference or epoch gets no excess by chance.
_DEAD_ZONE_SIGMA = 2.0
_BAD_EPOCH_SIGMA = 3.0
# An epoch's excess rests on ten references at least: a bright one that varies is no bad epoch.
_SHARED = 10
_HUBER_STEPS = 5
# From here on the excess terms stand: one at the edge of the dead zone would go on and off.
_EXCESS_STEPS = 15
_TOLERANCE = 1e-6


@dataclass
class TwoWayFit:
    """flux = level x exp(basis . theta_epoch) x (1 + noise), over the references.

    Attributes
    ----------
    theta : ndarray, shape (n_epoch, n_term)
    inverse : ndarray, shape (n_epoch, n_term, n_term)
        Inverse of the weighted normal matrix (0 in the terms an epoch does not have).
    level : ndarray, shape (n_reference,)
    weight, residual : ndarray, shape (n_reference, n_epoch)
        Final weight (0 where rejected or not measured), and flux / model - 1.
    variance : ndarray, shape (n_reference, n_epoch)
        Of the residual by the flux errors alone.
    source_excess, epoch_excess : ndarray
        Variances beyond the flux errors, of each reference and of each epoch.
    """

    theta: np.ndarray
    inverse: np.ndarray
    level: np.ndarray
    weight: np.ndarray
    residual: np.ndarray
    variance: np.ndarray
    source_excess: np.ndarray
    epoch_excess: np.ndarray

    def quadratic(self, basis: np.ndarray) -> np.ndarray:
        """Basis times inverse times basis of any sources, shape (n_source, n_epoch)."""
        return np.einsum("sj,ej->se", outer(basis), flat(self.inverse))


def outer(basis: np.ndarray) -> np.ndarray:
    """Products of every two terms, shape (n_source, n_term^2)."""
    return (basis[:, :, None] * basis[:, None, :]).reshape(len(basis), basis.shape[1] ** 2)


def flat(matrix: np.ndarray) -> np.ndarray:
    """Last two axes as one."""
    return matrix.reshape(len(matrix), matrix.shape[-1] ** 2)


def fit_two_way(
    flux: np.ndarray,
    flux_err: np.ndarray,
    good: np.ndarray,
    basis: np.ndarray,
    has_term: np.ndarray,
    epoch_variance: np.ndarray | float = 0.0,
    iterations: int = 30,
) -> TwoWayFit:
    """Fit levels and scales in turn by Tukey's biweight, with both excess terms.

    Parameters
    ----------
    flux, flux_err : ndarray, shape (n_reference, n_epoch)
        Positive median of each row; any unit.
    good : ndarray of bool, shape (n_reference, n_epoch)
    basis : ndarray, shape (n_reference, n_term)
    has_term : ndarray of bool, shape (n_epoch, n_term)
        Which terms each epoch may have.
    epoch_variance : ndarray, shape (n_reference, n_epoch) or 0
        Extra variance of the residuals that is known beforehand.

    Notes
    -----
    The scale and the levels are logarithms, so that a gain error is additive, but the residual is
    flux / model - 1: linear in the noise. The residual of log flux has the bias -1 / (2 snr^2),
    which differs between epochs of different noise, and excludes negative fluxes, which selects on
    noise. The weights are from the model's flux, not the epoch's own: a weight must not depend on
    the noise it weighs. The first steps use Huber's weights, which have one solution only.

    The mean over the epochs of each term that all epochs have is a convention (it exchanges with
    the levels) and is set to 0.
    """
    n_epoch, n_term = has_term.shape
    theta, level = _start(np.where(good, flux, np.nan), n_term)
    gauge = has_term.all(axis=0)
    pair = has_term[:, :, None] & has_term[:, None, :]
    filler = np.eye(n_term) * np.where(has_term, 0.0, 1.0)[:, None, :]
    products = outer(basis)
    source_excess, epoch_excess = np.zeros(len(flux)), np.zeros(n_epoch)
    inverse: np.ndarray = np.zeros((n_epoch, n_term, n_term))
    model = level[:, None] * np.exp(basis @ theta.T)
    relative = np.where(good, flux / model, 1.0)
    variance = np.where(good, np.square(flux_err / model), 1.0)
    for step in range(iterations):
        if step == 0:
            epoch_excess = _spread(relative - 1, good)
        total = variance + source_excess[:, None] + epoch_excess + epoch_variance
        z = (relative - 1) / np.sqrt(total)
        trust = huber(z) if step < _HUBER_STEPS else biweight(z)
        weight = np.where(good, trust / total, 0.0)
        normal = np.einsum("se,sj->ej", weight, products).reshape(pair.shape)
        ridge = np.eye(n_term) * (1e-12 * np.trace(normal, axis1=1, axis2=2) + 1e-9)[:, None, None]
        inverse = np.linalg.inv(np.where(pair, normal + ridge, 0.0) + filler)
        inverse[~pair] = 0.0
        right = np.einsum("se,sj->ej", weight * (relative - 1), basis)
        seen = weight.sum(axis=0) > 0
        change = np.einsum("ejk,ek->ej", inverse, right)
        change = np.where(seen[:, None], np.clip(change, -0.5, 0.5), 0.0)
        mean = np.zeros(n_term)
        if seen.any():
            mean = np.where(gauge, (theta + change)[seen].mean(axis=0), 0.0)
        theta = np.where(seen[:, None], theta + change - mean, 0.0)
        level = level * np.exp(basis @ mean)
        factor = np.exp(basis @ -change.T)  # the mean went into the levels: the model has not moved
        norm = weight.sum(axis=1)
        shift = (weight * (relative * factor - 1)).sum(axis=1) / np.where(norm > 0, norm, np.inf)
        shift = np.clip(shift, -0.5, 0.5)
        level = level * (1 + shift)
        factor /= 1 + shift[:, None]
        relative = np.where(good, relative * factor, 1.0)
        variance = np.where(good, variance * np.square(factor), 1.0)
        if step < _EXCESS_STEPS:
            lost = weight * np.einsum("sj,ej->se", products, flat(inverse))
            lost += weight / np.where(norm > 0, norm, np.inf)[:, None]
            square = np.square(relative - 1) / np.maximum(1 - lost, 0.05)
            known = variance + epoch_variance
            source_excess = score_excess(square, known + epoch_excess, good, _DEAD_ZONE_SIGMA)
            epoch_excess = _epoch_excess(square, known + source_excess[:, None], good, epoch_excess)
        moved = max(np.abs(change).max(initial=0), np.abs(shift).max(initial=0))
        if step > _HUBER_STEPS and moved < _TOLERANCE:
            break
    return TwoWayFit(
        theta, inverse, level, weight, relative - 1, variance, source_excess, epoch_excess
    )


def _epoch_excess(
    square: np.ndarray, variance: np.ndarray, good: np.ndarray, before: np.ndarray
) -> np.ndarray:
    """Excess of each epoch: what all epochs share, and what a bad one has beyond it.

    An epoch by itself cannot tell an excess below the errors of its ten brightest references; all
    epochs together can, and the brightest sources' errors depend on it.
    """
    n_epoch = good.shape[1]
    beyond = np.maximum(before - np.median(before), 0.0) if n_epoch else before
    common = score_excess(
        square.ravel(),
        (variance + beyond).ravel(),
        good.ravel(),
        _DEAD_ZONE_SIGMA,
        _SHARED * n_epoch,
    )
    own = score_excess(square.T, variance.T + common, good.T, _BAD_EPOCH_SIGMA, _SHARED)
    return common + own


def _start(seen: np.ndarray, n_term: int) -> tuple[np.ndarray, np.ndarray]:
    """Medians of sources and epochs in turn; NaN where not measured."""
    scale, level = np.ones(seen.shape[1]), np.ones(len(seen))
    for _ in range(3):
        level = nan_median(seen / scale)
        level = np.where(level > 0, level, 1.0)
        scale = nan_median((seen / level[:, None]).T)
        scale = np.where(scale > 0, scale, 1.0)
    theta = np.zeros((seen.shape[1], n_term))
    theta[:, 0] = np.log(scale)
    return theta, level


def _spread(residual: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Squared robust scatter of each epoch: wide weights until the field's shape is known."""
    size = nan_median(np.where(good, np.abs(residual), np.nan).T)
    return np.square(1.4826 * np.nan_to_num(size))
