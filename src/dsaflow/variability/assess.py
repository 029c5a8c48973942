"""One source from screen to verdict: noise models, best event, rivals, and the rules' numbers."""

import numpy as np
from numba import njit

from dsaflow.variability.detail import (
    DURATION,
    FAVOURING,
    LARGEST,
    MID,
    NULL_RED,
    NULL_TAU,
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
from dsaflow.variability.noise import best_models, polish
from dsaflow.variability.rivals import best_rival, rival_values
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
FLOOR_DELTA_CHI2 = 8.0
_POLISHED = 3


@njit(cache=True, nogil=True, error_model="numpy")
def _columns(base, dips):  # pragma: no cover
    joined = np.empty((3 + len(dips), base.shape[1]))
    joined[:3] = base
    joined[3:] = dips
    return joined


@njit(cache=True, nogil=True, error_model="numpy")
def assess_source(
    y, variance, mask, mjd, time, decay, slope_precision, prior,
    values, first, offset, bounds, slot, n_slot, shape_index, bank_mid, bank_duration,
    table, outer, reach, limits, min_epochs, margin, step, out,
):  # pragma: no cover  # fmt: skip
    """Search one source; `out` gets the columns named above (RATIO 0 where nothing dips)."""
    n = len(y)
    out[:] = np.nan
    out[RATIO], out[TEMPLATE], out[WORST], out[RIVAL] = 0.0, -1, -1, 0.0
    out[RED], out[WHITE], out[FAVOURING], out[LARGEST], out[SCREENED] = 0.0, 0.0, 0.0, 0.0, 0.0
    out[RIVAL_KIND], out[RIVAL_EPOCH], out[RIVAL_SIGN] = -1, -1, 0
    seen = np.empty(n + 1, np.int64)
    count_seen(mask, seen)
    if seen[n] < min_epochs + 2 * margin:
        return
    # The curve as measured, less a lone epoch's excursion, about its mean.
    work = np.empty(n)
    rough = rough_excess(y, variance, mask, work)
    clipped = np.empty(n)
    supported(y, variance + rough, mask, 3.0, clipped)
    mean = typical = 0.0
    for i in range(n):
        if mask[i]:
            mean += clipped[i] / seen[n]
            typical += variance[i] / seen[n]
    scatter = 0.0
    for i in range(n):
        clipped[i] = clipped[i] - mean if mask[i] else 0.0
        scatter += clipped[i] ** 2 / seen[n]
    # First screen: white noise.
    rows = np.empty((6, n))
    keep = np.zeros(n)
    whiten(clipped, variance, mask, time, keep, 0.0, rough, slope_precision, rows)
    gain = np.empty(n_slot)
    choice = np.empty(n_slot, np.int64)
    screen_source(
        rows, seen, False, values, first, offset, bounds, slot, min_epochs, margin, gain, choice
    )
    edge, _ = edge_gain(rows, seen, margin)
    out[SCREENED] = gain.max()
    if max(gain.max(), edge) < FLOOR_DELTA_CHI2:
        return
    base = np.empty((3, n))
    base[0], base[1], base[2] = clipped, 1.0, time
    # Noise models without an event and with each slot's best.
    best = np.full(2, -np.inf)  # no event, event
    model = np.zeros((2, 3))
    event = np.full(3, -1.0)
    template = -1
    for turn in range(2):
        number = 0
        picked = np.empty(n_slot, np.int64)
        for k in range(n_slot):
            if choice[k] >= 0 and gain[k] > 0.25 * gain.max():
                picked[number] = choice[k]
                number += 1
        if turn == 0 or number > 0:
            dips = np.zeros((number, n))
            for k in range(number):
                t = picked[k]
                stop = first[t] + offset[t + 1] - offset[t]
                dips[k, first[t] : stop] = values[offset[t] : offset[t + 1]]
            each = np.empty(1 + number)
            models = np.empty((1 + number, 3))
            best_models(
                _columns(base, dips), variance, mask, decay, scatter, typical,
                slope_precision, prior, -1, each, models,
            )  # fmt: skip
            if each[0] > best[0]:
                best[0], model[0] = each[0], models[0]
            for k in range(number):
                if each[1 + k] > best[1]:
                    best[1], model[1], template = each[1 + k], models[1 + k], picked[k]
        if turn == 1:
            break
        which = 1 if template >= 0 else 0
        if model[which, 1] == 0 and model[0, 1] == 0:
            break
        # Second screen: the noise as it is with the best event taken out.
        used = which if model[which, 1] > 0 else 0
        t = int(model[used, 0])
        whiten(
            clipped, variance, mask, time, decay[:, t], model[used, 1], model[used, 2],
            slope_precision, rows,
        )  # fmt: skip
        screen_source(
            rows, seen, True, values, first, offset, bounds, slot, min_epochs, margin, gain, choice
        )
    polish(base, variance, mask, decay, typical, slope_precision, prior, -1, 0, best[:1], model[:1])
    out[NULL_TAU], out[NULL_RED] = model[0, 0], model[0, 1]
    dip = np.zeros((1, n))
    if template >= 0:
        trial = np.zeros((1, n))
        start = model[1:].copy()
        best[1] = -np.inf
        # From the screen's noise, and from none: off the grid a bright event may need none.
        for quiet in range(2):
            one, its = np.full(1, -np.inf), start.copy()
            if quiet:
                its[0, 1], its[0, 2] = 0.0, rough
            moved = np.array([shape_index[template], bank_mid[template], bank_duration[template]])
            for _ in range(2):
                t = int(its[0, 0])
                whiten(
                    clipped, variance, mask, time, decay[:, t], its[0, 1], its[0, 2],
                    slope_precision, rows,
                )  # fmt: skip
                fine_tune(
                    rows, seen, mjd, table, outer, reach, moved, limits, min_epochs, margin, step,
                    work,
                )  # fmt: skip
                make_template(table, int(moved[0]), moved[1], moved[2], mjd, trial[0])
                one[0] = -np.inf
                polish(
                    _columns(base, trial), variance, mask, decay, typical, slope_precision, prior,
                    -1, 1, one, its,
                )  # fmt: skip
            if one[0] > best[1]:
                best[1], model[1], event[:], dip[0] = one[0], its[0], moved, trial[0]
    # A rival has no slope of its own: a slope and a ramp make a dip.
    level_only = np.zeros(n)
    base[2] = 0.0
    found = np.empty(4)
    rival = -np.inf
    for h in range(2):
        if h == 1 and template < 0:
            continue
        t = int(model[h, 0])
        whiten(
            clipped, variance, mask, level_only, decay[:, t], model[h, 1], model[h, 2],
            slope_precision, rows,
        )  # fmt: skip
        best_rival(rows, seen, mjd, margin, found)
        if found[0] <= 0:
            continue
        other = np.zeros((1, n))
        rival_values(int(found[1]), int(found[2]), mjd, other[0])
        other *= -found[3]
        value = np.full(1, -np.inf)
        its = model[h : h + 1].copy()
        polish(
            _columns(base, other), variance, mask, decay, typical, slope_precision, prior,
            -1, 1, value, its,
        )  # fmt: skip
        if value[0] > rival:
            rival = value[0]
            out[RIVAL_KIND], out[RIVAL_EPOCH], out[RIVAL_SIGN] = found[1], found[2], found[3]
            out[RED], out[WHITE], out[TAU] = its[0, 1], its[0, 2], its[0, 0]
    out[RIVAL] = max(rival - best[0], 0.0)
    if template < 0:
        return
    out[RATIO] = best[1] - best[0]
    out[TEMPLATE], out[SHAPE], out[MID], out[DURATION] = template, event[0], event[1], event[2]
    out[TAU], out[RED], out[WHITE] = model[1, 0], model[1, 1], model[1, 2]
    describe(
        clipped, mean, variance, mask, mjd, time, decay, slope_precision, dip[0],
        seen, margin, outer, step, rows, out,
    )  # fmt: skip


@njit(cache=True, nogil=True, error_model="numpy")
def assess_block(
    curve, variance, mask, mjd, time, decay, slope_precision, prior,
    values, first, offset, bounds, slot, n_slot, shape_index, bank_mid, bank_duration,
    table, outer, reach, limits, min_epochs, margin, step, out,
):  # pragma: no cover  # fmt: skip
    """`assess_source` of every source of a block."""
    for s in range(len(curve)):
        assess_source(
            curve[s], variance[s], mask[s], mjd, time, decay, slope_precision, prior,
            values, first, offset, bounds, slot, n_slot, shape_index, bank_mid, bank_duration,
            table, outer, reach, limits, min_epochs, margin, step, out[s],
        )  # fmt: skip
