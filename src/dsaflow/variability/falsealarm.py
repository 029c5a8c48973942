"""Threshold of the search: analytic trials correction, and epochs permuted in blocks."""

import math
from dataclasses import dataclass

import numpy as np

from dsaflow.variability.search import Events, SearchRules, search
from dsaflow.variability.templates import TemplateBank

# The tail is fitted to this share of the permuted curves' likelihood ratios.
_TAIL_FRACTION = 0.01
_MIN_TAIL = 30


@dataclass
class FalseAlarms:
    """Expected number of event-free sources above a log likelihood ratio, per survey.

    Attributes
    ----------
    threshold : float
        Log likelihood ratio that a candidate must exceed: the larger of the two estimates.
    analytic, permutation : float
        The two estimates; `permutation` is NaN where it could not be made.
    tail_level, tail_scale, tail_rate : float
        Rate above x is tail_rate exp(-(x - tail_level) / tail_scale) a survey.
    n_permutations, n_quiet : int
        Permutations made, and sources in them.
    """

    threshold: float
    analytic: float
    permutation: float
    tail_level: float
    tail_scale: float
    tail_rate: float
    n_permutations: int
    n_quiet: int
    n_trials: float

    def expected(self, ratio: np.ndarray) -> np.ndarray:
        """False alarms per survey above a log likelihood ratio, the larger of both estimates."""
        ratio = np.asarray(ratio, float)
        gauss = self.n_trials * _gaussian_tail(ratio)
        if not math.isfinite(self.tail_scale):
            return gauss
        return np.maximum(
            gauss, self.tail_rate * np.exp(-(ratio - self.tail_level) / self.tail_scale)
        )


def _gaussian_tail(ratio: np.ndarray) -> np.ndarray:
    from scipy.special import ndtr

    return ndtr(-np.sqrt(2 * np.maximum(ratio, 0)))


def analytic_threshold(n_trials: float, false_alarms: float) -> float:
    """Log likelihood ratio that one-sided Gaussian trials exceed `false_alarms` times."""
    from scipy.special import ndtri

    return 0.5 * float(ndtri(false_alarms / max(n_trials, 1.0)) ** 2)


def calibrate_threshold(
    curve: np.ndarray,
    variance: np.ndarray,
    bank: TemplateBank,
    rules: SearchRules,
    events: Events,
    false_alarms: float,
    permutations: int,
    block_epochs: int,
    seed: int,
) -> FalseAlarms:
    """Threshold at which event-free sources give `false_alarms` candidates a survey.

    Epochs are permuted in blocks, jointly for all sources, so that a night of bad gains stays one
    night and correlated variations keep their length. Sources above the analytic threshold (events
    and strong variables) are taken out first: permuted, an event still looks like one.

    Parameters
    ----------
    curve, variance : ndarray, shape (n_source, n_epoch)
    events : Events
        What the search found in the true order.
    false_alarms : float
        Candidates per survey allowed by chance.
    permutations : int
        As many as make 1e4 curves, at least 5, at most ten times this; 0: none.
    """
    n_source, n_epoch = curve.shape
    # Every template a trial of its own: neighbours are alike, so this errs on the safe side.
    n_trials = float(max(n_source * len(bank), 1))
    analytic = analytic_threshold(n_trials, false_alarms)
    quiet = events.log_likelihood_ratio < analytic
    n_quiet = int(quiet.sum())
    result = FalseAlarms(
        analytic, analytic, math.nan, math.nan, math.nan, 0.0, 0, n_quiet, n_trials
    )
    if n_quiet == 0 or len(bank) == 0 or permutations == 0:
        return result
    number = int(min(10 * permutations, max(5, 1e4 // n_quiet)))
    rng = np.random.default_rng(seed)
    ratios = []
    for _ in range(number):
        order = block_permutation(n_epoch, block_epochs, rng)
        found = search(curve[quiet][:, order], variance[quiet][:, order], bank, rules)
        ratios.append(np.where(found.veto == 0, found.log_likelihood_ratio, 0.0))
    tail = np.sort(np.concatenate(ratios))[::-1]
    result.n_permutations = number
    count = int(
        min(max(_MIN_TAIL, _TAIL_FRACTION * len(tail)), len(tail) - 1, (tail > 0).sum() - 1)
    )
    if count < _MIN_TAIL - 1:
        return result  # hardly anything reaches the floor of the search: far below the analytic one
    result.tail_level = float(tail[count])
    # A Gaussian chi-squared falls at least as fast as exp(-x): a smaller scale is chance.
    slope = float((tail[:count] - result.tail_level).mean()) * (1 + 1 / math.sqrt(count))
    result.tail_scale = max(slope, 1.0)
    result.tail_rate = count / number * n_source / n_quiet
    result.permutation = result.tail_level + result.tail_scale * math.log(
        max(result.tail_rate / false_alarms, 1.0)
    )
    result.threshold = max(analytic, result.permutation)
    return result


def block_permutation(n_epoch: int, block: int, rng: np.random.Generator) -> np.ndarray:
    """Order of epochs with whole blocks exchanged; the blocks' phase is random too."""
    shift = int(rng.integers(n_epoch))
    blocks = np.array_split(np.roll(np.arange(n_epoch), shift), max(2, round(n_epoch / block)))
    return np.concatenate([blocks[k] for k in rng.permutation(len(blocks))])
