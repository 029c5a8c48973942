"""What one event rests on: depth and error, each epoch's contribution, the two sides."""

import numpy as np
from numba import njit

from dsaflow.variability.screen import dot_red, whiten
from dsaflow.variability.tune import template_bounds

# Columns of an assessment; see `search.Events`.
(
    RATIO,
    TEMPLATE,
    SHAPE,
    MID,
    DURATION,
    AMPLITUDE,
    DEPTH,
    DEPTH_ERR,
    BASELINE,
    SNR,
    TAU,
    RED,
    WHITE,
    RIVAL,
    RIVAL_KIND,
    RIVAL_EPOCH,
    RIVAL_SIGN,
    FAVOURING,
    LARGEST,
    WORST,
    FROM_DIP,
    BALANCE,
    SIDE,
    SCREENED,
    GAP,
    INSIDE,
    REST,
) = range(27)
N_COLUMN = 27


@njit(cache=True, nogil=True, error_model="numpy")
def longest_gap(mjd, mask, first, last):  # pragma: no cover
    """Longest time without a measurement from before epoch `first` to after `last` [d]."""
    longest = 0.0
    before = -1
    for i in range(len(mjd)):
        if not mask[i]:
            continue
        if before >= 0 and i >= first:
            longest = max(longest, mjd[i] - mjd[before])
        before = i
        if i >= last:
            break
    return longest


@njit(cache=True, nogil=True, error_model="numpy")
def describe(source, sampling, bank, dip, rows, out):  # pragma: no cover
    """Depth, baseline and their errors of the chosen event, and what each epoch contributes."""
    y, variance, mask = source.base[0], source.variance, source.mask
    mjd, time, decay = sampling.mjd, sampling.time, sampling.decay
    slope_precision = sampling.slope_precision
    n = len(y)
    whiten(
        y, variance, mask, time, decay[:, int(out[TAU])], out[RED], out[WHITE],
        slope_precision, rows,
    )  # fmt: skip
    p, information, _ = dot_red(dip, 0, rows)
    amplitude = max(-p / information, 0.0)
    # Baseline beneath the event: solved again in the unwhitened terms.
    total = np.empty(n)
    aa = ab = bb = ya = yb = 0.0
    fy = fa = fb = fd = 0.0
    spread = out[RED]
    da = db = 0.0
    for i in range(n):
        keep = decay[i, int(out[TAU])]
        spread = keep * keep * (spread - out[RED]) + out[RED]
        fy, fa, fb, fd = fy * keep, fa * keep, fb * keep, fd * keep
        total[i] = variance[i] + out[RED] + out[WHITE]
        if not mask[i]:
            continue
        noise = variance[i] + out[WHITE]
        both = spread + noise
        gain = spread / both
        spread = gain * noise
        ey, ea, eb, ed = y[i] - fy, 1.0 - fa, time[i] - fb, dip[i] - fd
        fy, fa, fb, fd = fy + gain * ey, fa + gain * ea, fb + gain * eb, fd + gain * ed
        aa += ea * ea / both
        ab += ea * eb / both
        bb += eb * eb / both
        ya += ea * (ey + amplitude * ed) / both
        yb += eb * (ey + amplitude * ed) / both
        da += ed * ea / both
        db += ed * eb / both
    bb += slope_precision
    determinant = aa * bb - ab * ab
    level = (bb * ya - ab * yb) / determinant
    slope = (aa * yb - ab * ya) / determinant
    middle = np.interp(out[MID], mjd, time)
    baseline = source.mean + level + slope * middle
    g1, g2 = (bb - ab * middle) / determinant, (aa * middle - ab) / determinant
    mixed = g1 * da + g2 * db
    own = g1 + g2 * middle
    out[AMPLITUDE], out[BASELINE] = amplitude, baseline
    out[SNR] = amplitude * np.sqrt(information)
    if baseline > 0:
        depth = amplitude / baseline
        error = np.sqrt((1 - depth * mixed) ** 2 / information + depth * depth * own) / baseline
        out[DEPTH], out[DEPTH_ERR] = depth, error
    bounds = np.empty(7, np.int64)
    outer = bank.outer[int(out[SHAPE])]
    template_bounds(mjd, out[MID], out[DURATION], outer, bank.margin, sampling.step, bounds)
    # Against the curve's own level and slope without an event: what each epoch says.
    ya0, yb0 = ya - amplitude * da, yb - amplitude * db
    level0 = (bb * ya0 - ab * yb0) / determinant
    slope0 = (aa * yb0 - ab * ya0) / determinant
    gap = longest_gap(mjd, mask, bounds[4], bounds[5])
    # Two missing epochs in a row are the normal case, however short the event.
    out[GAP] = gap / out[DURATION] if gap > 3.5 * sampling.step else 0.0
    whole = inside = halves0 = halves1 = largest = 0.0
    rest = first = second = third = 0.0
    favouring = 0
    worst = -1
    low = low_weight = 0.0
    sides = np.zeros((2, 2))
    for i in range(n):
        if not mask[i]:
            continue
        flat = y[i] - level0 - slope0 * time[i]
        fitted = y[i] - level - slope * time[i] + amplitude * dip[i]
        contribution = (flat * flat - fitted * fitted) / total[i]
        whole += contribution
        if contribution > largest:
            largest, worst = contribution, i
        if dip[i] > 0.25:
            rest += contribution
            if contribution > first:
                first, second, third = contribution, first, second
            elif contribution > second:
                second, third = contribution, second
            elif contribution > third:
                third = contribution
        depressed = level + slope * time[i] - y[i]
        if bounds[0] <= i < bounds[2]:
            inside += contribution
            if i < bounds[1]:
                halves0 += contribution
            else:
                halves1 += contribution
            if contribution > 0 and dip[i] > 0.25:
                favouring += 1
            low += depressed / total[i]
            low_weight += 1 / total[i]
        elif bounds[3] <= i < bounds[4]:
            sides[0, 0] += depressed / total[i]
            sides[0, 1] += 1 / total[i]
        elif bounds[5] <= i < bounds[6]:
            sides[1, 0] += depressed / total[i]
            sides[1, 1] += 1 / total[i]
    out[INSIDE], out[REST] = inside, rest - first - second - third
    whole = max(whole, 1e-300)
    out[FAVOURING], out[LARGEST], out[WORST] = favouring, largest / whole, worst
    out[FROM_DIP] = inside / whole
    out[BALANCE] = min(halves0, halves1) / max(halves0 + halves1, 1e-300)
    bottom = low / max(low_weight, 1e-300)
    left, right = sides[0, 0] / sides[0, 1], sides[1, 0] / sides[1, 1]
    # Lesser recovery of the two sides, in units of the depth reached.
    out[SIDE] = (bottom - max(left, right)) / bottom if bottom > 0 else -1.0
