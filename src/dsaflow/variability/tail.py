"""Tail of the largest ln LR of event-free sources: generalised Pareto, with its uncertainty."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

# The tail is the largest this share of the curves' values, but at least so many of them.
_SHARE = 0.02
_LEAST, _MOST = 50, 2000
# Gain in ln likelihood over an exponential for a shape > 0 to be believed: 5 % by chance, since
# half of all exponential tails have their best shape below 0 (Self & Liang 1987).
_SHAPE_GAIN = 1.353
# Slopes of the profile likelihood's parameter, in units of one over the mean excess.
_PROFILE = np.geomspace(1e-3, 30.0, 120)
_DRAWS = 200


@dataclass(frozen=True)
class Tail:
    """Event-free sources above a ln LR, per survey: rate (1 + shape (x - level) / scale)^(-1/shape).

    Above the level that is a generalised Pareto distribution (Pickands 1975), the limit for
    exceedances over a high level whatever the noise; below it the curves are counted. Shape 0 is
    the exponential (Gumbel's domain), which the ln LR of Gaussian noise has.

    Attributes
    ----------
    method : str
        How the event-free curves were made.
    level, scale, shape, rate : float
    draws : ndarray, shape (n_draw, 3)
        scale, shape and rate of resampled sources: their scatter is the uncertainty.
    values : ndarray
        The largest ln LR of each curve, ascending.
    weight : float
        Sources a survey for each curve.
    """

    method: str
    level: float
    scale: float
    shape: float
    rate: float
    draws: np.ndarray
    values: np.ndarray
    weight: float

    def expected(self, ratio: np.ndarray) -> np.ndarray:
        """Event-free sources above each ln LR, per survey."""
        ratio = np.asarray(ratio, float)
        counted = len(self.values) - np.searchsorted(self.values, ratio, side="left")
        tail = self.rate * _survival(ratio - self.level, self.scale, self.shape)
        return np.where(ratio > self.level, tail, self.weight * counted)

    def interval(self, ratio: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """5th and 95th percentile of the same."""
        beyond = np.maximum(np.asarray(ratio, float) - self.level, 0.0)
        scale, shape, rate = self.draws.T.reshape(3, -1, *([1] * beyond.ndim))
        low, high = np.percentile(rate * _survival(beyond, scale, shape), (5, 95), axis=0)
        return low, high

    def threshold(self, allowed: float) -> float:
        """Ln LR above which `allowed` event-free sources are expected, per survey."""
        excess = self.rate / allowed
        if excess <= 1:
            return self.level
        if self.shape == 0:
            return self.level + self.scale * float(np.log(excess))
        return self.level + self.scale * float(np.expm1(self.shape * np.log(excess))) / self.shape


def _survival(beyond: np.ndarray, scale: ArrayLike, shape: ArrayLike) -> np.ndarray:
    from scipy.stats import genpareto

    return genpareto.sf(np.maximum(beyond, 0.0), shape, scale=scale)


def fit_tail(method: str, values: np.ndarray, n_survey: float, seed: int) -> Tail | None:
    """Fit the tail of event-free curves.

    Parameters
    ----------
    values : ndarray, shape (n_permutation, n_quiet)
        Largest ln LR of each curve; -inf where the search finds nothing.
    n_survey : float
        Surveys that the curves amount to (permutations times the share of the sources used).

    Returns
    -------
    Tail or None
        None where the search finds anything in fewer than 50 curves: its own floor is then above
        what chance gives.

    Notes
    -----
    The uncertainty is from resampling whole sources: the permutations of one source share its
    noise, so that they are not independent.
    """
    flat = np.sort(values.ravel())
    finite = int(np.isfinite(flat).sum())
    count = int(min(max(_LEAST, _SHARE * len(flat)), _MOST, finite - 1))
    if count < _LEAST - 1:
        return None
    level = float(flat[-count - 1])
    column = np.nonzero(values > level)[1]
    beyond = values[values > level] - level
    if len(beyond) == 0:
        return None
    scale, shape = fit_pareto(beyond, np.ones(len(beyond)))
    rng = np.random.default_rng(seed)
    n_quiet = values.shape[1]
    draws = []
    for _ in range(_DRAWS):
        weight = np.bincount(rng.integers(n_quiet, size=n_quiet), minlength=n_quiet)[column]
        if weight.sum() > 1:
            draws.append((*fit_pareto(beyond, weight), weight.sum() / n_survey))
    return Tail(
        method=method,
        level=level,
        scale=scale,
        shape=shape,
        rate=len(beyond) / n_survey,
        draws=np.array(draws) if draws else np.array([(scale, shape, len(beyond) / n_survey)]),
        values=flat.astype(np.float32),
        weight=1 / n_survey,
    )


def fit_pareto(beyond: np.ndarray, weight: np.ndarray) -> tuple[float, float]:
    """Maximum-likelihood scale and shape >= 0 of a generalised Pareto tail (Grimshaw 1993).

    With s = shape / scale the likelihood is maximised over the shape in closed form, mean of
    ln(1 + s x), so that one parameter is left.

    Parameters
    ----------
    beyond : ndarray, shape (n,)
        Exceedances over the level, >= 0.
    weight : ndarray, shape (n,)
        How often each counts.

    Returns
    -------
    scale, shape : float
        Scale at least 1: the ln LR of Gaussian noise falls as exp(-x) or faster, and a slope
        steeper than that is chance, or a bound that more data would pass.
    """
    total = weight.sum()
    mean = float((weight * beyond).sum() / total)
    if mean <= 1:
        return 1.0, 0.0
    slopes = _PROFILE / mean
    shape = (weight * np.log1p(slopes[:, None] * beyond)).sum(axis=1) / total
    gain = -total * (np.log(shape / slopes) + shape - np.log(mean))
    best = int(gain.argmax())
    if gain[best] > _SHAPE_GAIN:
        return max(float(shape[best] / slopes[best]), 1.0), float(shape[best])
    return mean, 0.0
