"""One source from screen to verdict: noise models, best event, rivals, and the rules' numbers."""

import numpy as np
from numba import njit

from dsaflow.variability.detail import (
    DURATION,
    FAVOURING,
    LARGEST,
    MID,
    RATIO,
    RED,
    RIVAL,
    RIVAL_EPOCH,
    RIVAL_KIND,
    RIVAL_SIGN,
    SCREENED,
    SHAPE,
    TAU,
    TEMPLATE,
    WHITE,
    WORST,
    describe,
)
from dsaflow.variability.evidence import evidence, occam
from dsaflow.variability.noise import best_models, polish
from dsaflow.variability.packs import Source
from dsaflow.variability.rivals import RISE, best_rival, rival_values
from dsaflow.variability.screen import (
    count_seen,
    edge_gain,
    rough_excess,
    screen_source,
    supported,
    whiten,
)
from dsaflow.variability.tune import fine_tune, make_template

# Below this chi-squared improvement nothing can become a candidate: not assessed.
FLOOR_DELTA_CHI2 = 14.0
# An epoch this far beyond what its neighbours span is a lone excursion [sigma].
_LONE_SIGMA = 3.0
# Templates within this share of the best improvement get noise models of their own.
_WORTH = 0.25


@njit(cache=True, nogil=True, error_model="numpy")
def prepare(y, variance, mask):  # pragma: no cover
    """Clip lone excursions, take the mean off, and measure the scatter."""
    n = len(y)
    seen = np.empty(n + 1, np.int64)
    count_seen(mask, seen)
    base = np.ones((3, n))
    rough = rough_excess(y, variance, mask, base[1])
    supported(y, variance + rough, mask, _LONE_SIGMA, base[0])
    mean = typical = scatter = 0.0
    for i in range(n):
        if mask[i]:
            mean += base[0, i] / seen[n]
            typical += variance[i] / seen[n]
    for i in range(n):
        base[0, i] = base[0, i] - mean if mask[i] else 0.0
        scatter += base[0, i] ** 2 / max(seen[n], 1)
    base[1] = 1.0
    return Source(variance, mask, seen, base, mean, rough, typical, scatter)


@njit(cache=True, nogil=True, error_model="numpy")
def whiten_source(source, sampling, time, model, rows):  # pragma: no cover
    """`screen.whiten` with a noise model: tau's index, red and white variance."""
    whiten(
        source.base[0], source.variance, source.mask, time, sampling.decay[:, int(model[0])],
        model[1], model[2], sampling.slope_precision, rows,
    )  # fmt: skip


@njit(cache=True, nogil=True, error_model="numpy")
def polish_source(source, sampling, dip, best, model):  # pragma: no cover
    """`noise.polish` with a template, or without where `dip` has no row."""
    columns = np.empty((3 + len(dip), source.base.shape[1]))
    columns[:3] = source.base
    columns[3:] = dip
    polish(
        columns, source.variance, source.mask, sampling.decay, source.typical,
        sampling.slope_precision, sampling.prior, -1, len(dip), best, model,
    )  # fmt: skip


@njit(cache=True, nogil=True, error_model="numpy")
def weigh(source, sampling, bank, gain, choice, best, model):  # pragma: no cover
    """Noise models of each octave's best template; keep the best with and without an event.

    Returns the template of the best event, -1 where none improved on what `best` had.
    """
    picked = [
        choice[k] for k in range(bank.n_slot) if choice[k] >= 0 and gain[k] > _WORTH * gain.max()
    ]
    columns = np.zeros((3 + len(picked), source.base.shape[1]))
    columns[:3] = source.base
    for k in range(len(picked)):
        first, begin, end = (
            bank.first[picked[k]],
            bank.offset[picked[k]],
            bank.offset[picked[k] + 1],
        )
        columns[3 + k, first : first + end - begin] = bank.values[begin:end]
    each = np.empty(1 + len(picked))
    models = np.empty((1 + len(picked), 3))
    best_models(
        columns, source.variance, source.mask, sampling.decay, source.scatter, source.typical,
        sampling.slope_precision, sampling.prior, -1, each, models,
    )  # fmt: skip
    template = -1
    if each[0] > best[0]:
        best[0], model[0] = each[0], models[0]
    for k in range(len(picked)):
        if each[1 + k] > best[1]:
            best[1], model[1], template = each[1 + k], models[1 + k], picked[k]
    return template


@njit(cache=True, nogil=True, error_model="numpy")
def settle_event(
    source, sampling, bank, template, best, model, event, dip, rows
):  # pragma: no cover
    """Move the best event off the grid together with its noise.

    From the screen's noise, and from none: a bright event between two templates leaves residuals
    that look like noise until it is off the grid.
    """
    trial = np.zeros((1, source.base.shape[1]))
    start = model.copy()
    best[0] = -np.inf
    for quiet in range(2):
        one, its = np.full(1, -np.inf), start.copy()
        if quiet:
            its[0, 1], its[0, 2] = 0.0, source.rough
        moved = np.array([bank.shape_index[template], bank.mid[template], bank.duration[template]])
        for _ in range(2):
            whiten_source(source, sampling, sampling.time, its[0], rows)
            fine_tune(rows, source.seen, sampling, bank, moved)
            make_template(bank.table, int(moved[0]), moved[1], moved[2], sampling.mjd, trial[0])
            one[0] = -np.inf
            polish_source(source, sampling, trial, one, its)
        if one[0] > best[0]:
            best[0], model[0], event[:], dip[0] = one[0], its[0], moved, trial[0]


@njit(cache=True, nogil=True, error_model="numpy")
def settle_rival(source, sampling, bank, models, rows, out):  # pragma: no cover
    """Best rival with the noise of either hypothesis, then with its own; its evidence.

    A rival has no slope of its own: a slope and a ramp make a dip.
    """
    n = source.base.shape[1]
    flat = np.zeros(n)
    source.base[2] = 0.0
    found = np.empty(5)
    best = -np.inf
    chosen = np.zeros((1, n))
    for h in range(len(models)):
        whiten_source(source, sampling, flat, models[h], rows)
        best_rival(rows, source.seen, sampling.mjd, sampling.step, bank.margin, found)
        if found[0] <= 0:
            continue
        other = np.zeros((1, n))
        rival_values(int(found[1]), int(found[2]), int(found[3]), sampling.mjd, other[0])
        other *= -found[4]
        value = np.full(1, -np.inf)
        its = models[h : h + 1].copy()
        polish_source(source, sampling, other, value, its)
        if value[0] > best:
            best = value[0]
            chosen[0] = other[0]
            epoch = found[3] if found[1] == RISE else found[2]
            out[RIVAL_KIND], out[RIVAL_EPOCH], out[RIVAL_SIGN] = found[1], epoch, found[4]
            out[TAU], out[RED], out[WHITE] = its[0]
    each = np.full(2, -np.inf)
    if best > -np.inf:
        average_noise(source, sampling, chosen, each)
    source.base[2] = sampling.time
    return each[1]


@njit(cache=True, nogil=True, error_model="numpy")
def average_noise(source, sampling, dip, each):  # pragma: no cover
    """`evidence.evidence` without an event and with one."""
    columns = np.empty((3 + len(dip), source.base.shape[1]))
    columns[:3] = source.base
    columns[3:] = dip
    evidence(
        columns, source.variance, source.mask, sampling.decay, source.typical,
        sampling.slope_precision, sampling.models, each,
    )  # fmt: skip


@njit(cache=True, nogil=True, error_model="numpy")
def screen_twice(source, sampling, bank, best, model, rows, out):  # pragma: no cover
    """Best template of the bank: with white noise, then with the noise beside the best event.

    Returns the template; -2 where nothing is worth assessing, -1 where only an edge is.
    """
    gain = np.empty(bank.n_slot)
    choice = np.empty(bank.n_slot, np.int64)
    white = np.array([0.0, 0.0, source.rough])
    whiten_source(source, sampling, sampling.time, white, rows)
    screen_source(rows, source.seen, False, bank, gain, choice)
    edge, _ = edge_gain(rows, source.seen, bank.margin)
    out[SCREENED] = gain.max()
    if max(gain.max(), edge) < FLOOR_DELTA_CHI2:
        return -2
    template = weigh(source, sampling, bank, gain, choice, best, model)
    used = 1 if template >= 0 and model[1, 1] > 0 else 0
    if model[used, 1] > 0:
        whiten_source(source, sampling, sampling.time, model[used], rows)
        screen_source(rows, source.seen, True, bank, gain, choice)
        again = weigh(source, sampling, bank, gain, choice, best, model)
        template = again if again >= 0 else template
    return template


@njit(cache=True, nogil=True, error_model="numpy")
def assess_source(y, variance, mask, sampling, bank, out):  # pragma: no cover
    """Search one source; `out` gets the columns named in `detail` (RATIO 0 where nothing dips)."""
    out[:] = np.nan
    for column in (RATIO, RIVAL, RED, WHITE, FAVOURING, LARGEST, SCREENED, RIVAL_SIGN):
        out[column] = 0.0
    for column in (TEMPLATE, WORST, RIVAL_KIND, RIVAL_EPOCH):
        out[column] = -1
    n = len(y)
    if mask.sum() < bank.min_epochs + 2 * bank.margin:
        return
    source = prepare(y, variance, mask)
    source.base[2] = sampling.time
    rows = np.empty((6, n))
    best = np.full(2, -np.inf)  # no event, event
    model = np.zeros((2, 3))
    event = np.full(3, -1.0)
    dip = np.zeros((1, n))
    template = screen_twice(source, sampling, bank, best, model, rows, out)
    if template < -1:
        return
    polish_source(source, sampling, dip[:0], best[:1], model[:1])
    if template >= 0:
        settle_event(
            source, sampling, bank, template, best[1:], model[1:], event, dip, rows
        )  # fmt: skip
    known = 2 if template >= 0 else 1
    each = np.zeros(2)
    average_noise(source, sampling, dip, each)
    rival = settle_rival(source, sampling, bank, model[:known], rows, out)
    out[RIVAL] = max(rival - each[0], 0.0)
    if template < 0:
        return
    out[TEMPLATE], out[SHAPE], out[MID], out[DURATION] = template, event[0], event[1], event[2]
    out[TAU], out[RED], out[WHITE] = model[1]
    describe(source, sampling, bank, dip[0], rows, out)
    out[RATIO] = each[1] - each[0] + occam(rows, source.seen, out[RED] > 0, bank)


@njit(cache=True, nogil=True, error_model="numpy")
def assess_block(curve, variance, mask, sampling, bank, out):  # pragma: no cover
    """`assess_source` of every source of a block."""
    for s in range(len(curve)):
        assess_source(curve[s], variance[s], mask[s], sampling, bank, out[s])
