"""Matched search for dips: likelihood ratio of an event against a constant baseline."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from dsaflow.variability.robust import biweight, excess_variance
from dsaflow.variability.templates import INSIDE_LEVEL, OUTSIDE_LEVEL, TemplateBank, outside_sides

VETOES = ("", "few_epochs", "single_epoch", "not_a_dip", "no_recovery")

# Templates refined for each source: the best of the best (shape, duration) groups.
_REFINED = 10
# Below this chi-squared improvement nothing can become a candidate: not refined.
_FLOOR_DELTA_CHI2 = 8.0


@dataclass(frozen=True)
class SearchRules:
    """What an event must rest on.

    Attributes
    ----------
    min_epochs : int
        Epochs in the dip that each favour the event.
    max_single : float
        Largest fraction of the improvement that one epoch may contribute.
    margin_epochs : int
        Measured epochs outside the event on either side.
    min_side : float
        The depth against the baseline of either side alone, over the fitted depth, must exceed
        this: a step or a decline into a gap has no second side.
    """

    min_epochs: int = 3
    max_single: float = 0.6
    margin_epochs: int = 2
    min_side: float = 0.5


@dataclass
class Events:
    """Best event of each source; arrays of shape (n_source,).

    `template` is -1 where no template fits the source's epochs or none is worth refining; then
    `log_likelihood_ratio` is 0. `veto` indexes `VETOES`. `depth` is relative to `baseline`;
    `excess` is the variance added to every epoch's, from outside the event.
    """

    template: np.ndarray
    log_likelihood_ratio: np.ndarray
    depth: np.ndarray
    depth_err: np.ndarray
    baseline: np.ndarray
    excess: np.ndarray
    n_epochs: np.ndarray
    largest_single: np.ndarray
    veto: np.ndarray
    worst_epoch: np.ndarray

    @classmethod
    def none(cls, n_source: int) -> "Events":
        """No event for any source."""
        zero = np.zeros(n_source)
        whole = np.zeros(n_source, int)
        return cls(
            whole - 1,
            zero,
            zero + np.nan,
            zero + np.nan,
            zero + np.nan,
            zero.copy(),
            whole.copy(),
            zero.copy(),
            whole.copy(),
            whole - 1,
        )

    def put(self, index: np.ndarray, other: "Events", which: Any) -> None:
        """Set the sources `index` to entries `which` of `other`."""
        for name in self.__dataclass_fields__:
            getattr(self, name)[index] = getattr(other, name)[which]


def search(
    curve: np.ndarray, variance: np.ndarray, bank: TemplateBank, rules: SearchRules
) -> Events:
    """Best dip of every source.

    Parameters
    ----------
    curve : ndarray, shape (n_source, n_epoch)
        Normalised flux (about 1), NaN where not measured.
    variance : ndarray, shape (n_source, n_epoch)
        Of `curve`: measurement and epoch scale.
    bank : TemplateBank

    Notes
    -----
    All templates are screened with the nominal errors (a bound on what refining can give), the
    best of the best groups are refined. Where the best is vetoed because it rests on one epoch,
    that epoch is left out and the source is searched again, so that a bad night cannot hide an
    event; at most twice.
    """
    mask = np.isfinite(curve) & np.isfinite(variance) & (variance > 0)
    events = _search_once(curve, variance, mask, bank, rules)
    for _ in range(2):
        lone = (events.veto == VETOES.index("single_epoch")) & (events.worst_epoch >= 0)
        index = np.flatnonzero(lone)
        if len(index) == 0:
            break
        mask[index, events.worst_epoch[index]] = False
        again = _search_once(curve[index], variance[index], mask[index], bank, rules)
        events.put(index, again, np.arange(len(index)))
    return events


def _search_once(
    curve: np.ndarray,
    variance: np.ndarray,
    mask: np.ndarray,
    bank: TemplateBank,
    rules: SearchRules,
) -> Events:
    n_source = len(curve)
    events = Events.none(n_source)
    if len(bank) == 0 or n_source == 0:
        return events
    chunk = max(1, int(2e7 // len(bank)))
    for start in range(0, n_source, chunk):
        part = slice(start, start + chunk)
        y = np.where(mask[part], curve[part], 0.0)
        v = np.where(mask[part], variance[part], 1.0)
        gain = screen(_supported(y, v, mask[part]), v, mask[part], bank, rules)
        best = np.maximum.reduceat(gain, bank.group_start, axis=1)
        rows = np.flatnonzero(best.max(axis=1) > _FLOOR_DELTA_CHI2)
        if len(rows) == 0:
            continue
        templates = _best_of_groups(gain[rows], best[rows], bank)
        refined = refine(y[rows], v[rows], mask[part][rows], bank, templates, rules)
        screened = np.take_along_axis(gain[rows], templates, axis=1)
        choice = _choose(refined, screened)
        events.put(start + rows, refined, (np.arange(len(rows)), choice))
    return events


def ratio_error(
    amplitude: np.ndarray,
    baseline: np.ndarray,
    centre: np.ndarray,
    information: np.ndarray,
    norm: np.ndarray,
) -> np.ndarray:
    """Error of amplitude / baseline times the baseline, with their covariance.

    The baseline is level + amplitude x centre, where level (information `norm`) and amplitude
    (`information`) are independent.
    """
    depth = amplitude / np.where(baseline > 0, baseline, np.nan)
    return np.sqrt(
        np.square(1 - depth * centre) / information
        + np.square(depth) / np.where(norm > 0, norm, np.inf)
    )


def _supported(y: np.ndarray, variance: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Clip each epoch to within 3 sigma of what the epochs on either side span.

    A lone bad epoch outweighs a whole event in a sum of squares; an event has its neighbours'
    support.
    """
    seen = np.where(mask, y, np.nan)
    edge = np.full((len(y), 1), np.nan)
    before, after = np.hstack([edge, seen[:, :-1]]), np.hstack([seen[:, 1:], edge])
    reach = 3 * np.sqrt(variance)
    low, high = np.fmin(before, after) - reach, np.fmax(before, after) + reach
    return np.where(np.isfinite(low), np.clip(y, low, high), y)


def screen(
    y: np.ndarray, variance: np.ndarray, mask: np.ndarray, bank: TemplateBank, rules: SearchRules
) -> np.ndarray:
    """Improvement in chi-squared of each template over a constant, shape (n_source, n_template).

    0 where the amplitude is not a dip or the source's own epochs do not show the event.
    """
    weight = mask / variance
    dip = bank.dip
    total = weight.sum(axis=1)[:, None]
    total = np.where(total > 0, total, 1.0)
    mean = (weight * y).sum(axis=1)[:, None] / total
    first = _products(weight, dip)
    information = _products(weight, bank.square) - np.square(first) / total
    # The mean is taken off first: the difference of two large sums would lose digits.
    projection = -_products(weight * (y - mean), dip)
    valid = (projection > 0) & (information > 1e-9 * total)
    if not mask.all():
        seen = mask.astype(float)
        before, after = bank.sides
        for region, fewest in (
            (bank.inside, rules.min_epochs),
            (before, rules.margin_epochs),
            (after, rules.margin_epochs),
        ):
            valid &= _products(seen, region) > fewest - 0.5
    return np.where(valid, np.square(projection) / np.where(valid, information, 1.0), 0.0)


def _products(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Matrix product left @ right.T.

    Small ones without BLAS: its threads wait for each other longer than the product takes when
    other jobs have the cores (measured: 26 ms against 1 ms).
    """
    if left.size * len(right) < 2e7:
        return np.einsum("se,te->st", left, right)
    return left @ right.T


def _best_of_groups(gain: np.ndarray, best: np.ndarray, bank: TemplateBank) -> np.ndarray:
    """Indices of the best template in each of the best groups, shape (n_source, <= _REFINED)."""
    number = min(_REFINED, best.shape[1])
    groups = np.argsort(-best, axis=1, kind="stable")[:, :number]
    ends = np.r_[bank.group_start[1:], len(bank)]
    result = np.empty(groups.shape, int)
    for group in np.unique(groups):
        rows, columns = np.nonzero(groups == group)
        inside = slice(bank.group_start[group], ends[group])
        result[rows, columns] = bank.group_start[group] + gain[rows, inside].argmax(axis=1)
    return result


def refine(
    y: np.ndarray,
    variance: np.ndarray,
    mask: np.ndarray,
    bank: TemplateBank,
    templates: np.ndarray,
    rules: SearchRules,
) -> Events:
    """Fit baseline and depth with the excess noise seen outside the event, and apply the rules.

    Parameters
    ----------
    y, variance, mask : ndarray, shape (n_source, n_epoch)
    templates : ndarray of int, shape (n_source, n_choice)

    Returns
    -------
    Events
        Arrays of shape (n_source, n_choice).

    Notes
    -----
    Where excess noise dominates, its estimate from few epochs has a t distribution's tail; the
    likelihood ratio is Student's with Satterthwaite's effective degrees of freedom, and Gaussian
    where the errors explain the scatter.
    """
    dip = bank.dip[templates]
    y, variance, mask = y[:, None, :], variance[:, None, :], mask[:, None, :]
    before, after = outside_sides(dip)
    outside = mask & (np.abs(dip) <= OUTSIDE_LEVEL)
    base, excess = _outside_level(y, variance, outside & ~_beside(dip))
    total = variance + excess[..., None]
    # A single bad epoch outside must not drag the baseline into the dip.
    trust = np.where(outside, biweight((y - base[..., None]) / np.sqrt(total)), 1.0)
    weight = mask * trust / total
    norm = weight.sum(axis=-1)
    level = (weight * y).sum(axis=-1) / norm
    centre = (weight * dip).sum(axis=-1) / norm
    shifted = dip - centre[..., None]
    information = (weight * np.square(shifted)).sum(axis=-1)
    information = np.where(information > 0, information, np.inf)
    amplitude = -(weight * (y - level[..., None]) * shifted).sum(axis=-1) / information
    baseline = level + amplitude * centre
    model = baseline[..., None] - amplitude[..., None] * dip
    contribution = weight * (np.square(y - level[..., None]) - np.square(y - model))
    gain = np.maximum(contribution.sum(axis=-1), 0.0)

    in_dip = mask & (dip > INSIDE_LEVEL)
    favouring = mask & (dip > 0.5 * INSIDE_LEVEL) & (contribution > 0)
    largest = contribution.max(axis=-1) / np.where(gain > 0, gain, 1.0)
    from_dip = np.where(in_dip, contribution, 0.0).sum(axis=-1)
    low = _mean(y, weight * in_dip)
    sides = [
        _mean(y, weight * side) - low >= rules.min_side * amplitude for side in (before, after)
    ]
    veto = np.zeros(gain.shape, int)
    for name, broken in (
        ("no_recovery", ~(sides[0] & sides[1])),
        ("not_a_dip", (amplitude <= 0) | (baseline <= 0) | (from_dip < 0.3 * gain)),
        ("few_epochs", favouring.sum(axis=-1) < rules.min_epochs),
        ("single_epoch", largest > rules.max_single),
    ):
        veto[broken] = VETOES.index(name)
    n_outside = outside.sum(axis=-1)
    fraction = excess / np.maximum(_mean(total, outside.astype(float)), 1e-300)
    freedom = np.maximum(n_outside - 1, 1) / np.maximum(np.square(fraction), 1e-6)
    safe = np.where(baseline > 0, baseline, np.nan)
    return Events(
        template=templates,
        log_likelihood_ratio=0.5 * (freedom + 1) * np.log1p(gain / freedom),
        depth=amplitude / safe,
        depth_err=ratio_error(amplitude, baseline, centre, information, norm) / safe,
        baseline=baseline,
        excess=excess,
        n_epochs=favouring.sum(axis=-1),
        largest_single=largest,
        veto=veto,
        worst_epoch=contribution.argmax(axis=-1),
    )


def _beside(dip: np.ndarray) -> np.ndarray:
    """Epochs next to the event: where it began between two templates, they are partly inside."""
    touched = np.abs(dip) > OUTSIDE_LEVEL
    near = np.zeros_like(touched)
    near[..., 1:] |= touched[..., :-1]
    near[..., :-1] |= touched[..., 1:]
    return near


def _mean(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    total = weight.sum(axis=-1)
    return (weight * values).sum(axis=-1) / np.where(total > 0, total, np.inf)


def _outside_level(
    y: np.ndarray, variance: np.ndarray, outside: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Robust level outside the event, and the excess variance about it."""
    shape = outside.shape
    y, variance = np.broadcast_to(y, shape), np.broadcast_to(variance, shape)
    excess = np.zeros(shape[:-1])
    base = _mean(y, outside / variance)
    for _ in range(4):
        total = variance + excess[..., None]
        z = (y - base[..., None]) / np.sqrt(total)
        # Huber's weights have no second solution that a distant start could fall into.
        base = _mean(y, outside * np.minimum(1, 1.5 / np.maximum(np.abs(z), 1e-9)) / total)
        excess = excess_variance(y - base[..., None], variance, outside, iterations=5)
    return base, excess


def _choose(refined: Events, screened: np.ndarray) -> np.ndarray:
    """Column of the best template that no rule vetoes, unless a vetoed one is twice as likely.

    A curve that a forbidden shape explains far better (one bad epoch, a step) shows that shape,
    and the rules must see it. Among templates of like likelihood the one with the largest
    improvement at the nominal errors describes the event: the excess noise, estimated from the
    few epochs outside each of them, would choose by chance.
    """
    ratio = refined.log_likelihood_ratio
    allowed = np.where(refined.veto == 0, ratio, -1.0)
    best = allowed.max(axis=1)
    fair = best >= 0.5 * ratio.max(axis=1)
    alike = (refined.veto == 0) & (ratio >= 0.25 * best[:, None])
    nearest = np.where(alike, screened, -1.0).argmax(axis=1)
    return np.where(fair, nearest, ratio.argmax(axis=1))
