"""Every template of the bank against every source: the fast part of the search."""

import numpy as np
from numba import njit


@njit(cache=True, nogil=True, error_model="numpy")
def supported(y, variance, mask, reach, out):  # pragma: no cover
    """Clip each epoch to within `reach` sigma of what the measured epochs beside it span.

    A lone bad epoch outweighs a whole event in a sum of squares; an event has its neighbours'
    support.
    """
    n = len(y)
    for i in range(n):
        out[i] = y[i]
        if not mask[i]:
            continue
        low, high, seen = np.inf, -np.inf, 0
        j = i - 1
        while j >= 0 and not mask[j]:
            j -= 1
        if j >= 0:
            low, high, seen = min(low, y[j]), max(high, y[j]), seen + 1
        j = i + 1
        while j < n and not mask[j]:
            j += 1
        if j < n:
            low, high, seen = min(low, y[j]), max(high, y[j]), seen + 1
        if seen == 2:
            sigma = reach * np.sqrt(variance[i])
            out[i] = min(max(y[i], low - sigma), high + sigma)


@njit(cache=True, nogil=True, error_model="numpy")
def rough_excess(y, variance, mask, work):  # pragma: no cover
    """White variance beyond the errors, from the median square of neighbours' differences.

    Slow events and slow variations leave differences alone; the median passes over edges.
    """
    count = 0
    last = -1
    for i in range(len(y)):
        if mask[i]:
            if last >= 0:
                difference = y[i] - y[last]
                # 0.4549: median of a chi-squared variable of one degree of freedom
                work[count] = 0.5 * difference * difference / 0.4549364
                work[count] -= 0.5 * (variance[i] + variance[last])
                count += 1
            last = i
    if count < 4:
        return 0.0
    return max(np.median(work[:count]), 0.0)


@njit(cache=True, nogil=True, error_model="numpy")
def whiten(y, variance, mask, time, keep, red, white, slope_precision, rows):  # pragma: no cover
    """One pass of the filter: what the template kernels need of one source.

    `rows` (out), shape (6, n_epoch): feedback and feed-forward of the filter's state, inverse
    standard deviation, residual of the curve about its baseline, and the baseline's two whitened
    terms, made orthogonal.

    Returns
    -------
    float
        Chi-squared about the baseline.
    """
    n = len(y)
    aa = ab = bb = ya = yb = 0.0
    fy = fa = fb = 0.0
    spread = red
    for i in range(n):
        spread = keep[i] * keep[i] * (spread - red) + red
        fy, fa, fb = fy * keep[i], fa * keep[i], fb * keep[i]
        next_keep = keep[i + 1] if i + 1 < n else 0.0
        if not mask[i]:
            rows[0, i], rows[1, i], rows[2, i] = next_keep, 0.0, 0.0
            rows[3, i] = rows[4, i] = rows[5, i] = 0.0
            continue
        noise = variance[i] + white
        total = spread + noise
        gain = spread / total
        spread = gain * noise
        root = 1 / np.sqrt(total)
        ey, ea, eb = y[i] - fy, 1.0 - fa, time[i] - fb
        fy, fa, fb = fy + gain * ey, fa + gain * ea, fb + gain * eb
        rows[0, i] = next_keep * (1 - gain)
        rows[1, i] = next_keep * gain
        rows[2, i] = root
        rows[3, i], rows[4, i], rows[5, i] = ey * root, ea * root, eb * root
        aa += rows[4, i] * rows[4, i]
        ab += rows[4, i] * rows[5, i]
        bb += rows[5, i] * rows[5, i]
        ya += rows[3, i] * rows[4, i]
        yb += rows[3, i] * rows[5, i]
    # Cholesky factor of the baseline's information, the slope's prior included
    la = np.sqrt(aa)
    lb = ab / la
    lc = np.sqrt(max(bb + slope_precision - lb * lb, 1e-12 * (bb + slope_precision) + 1e-300))
    pa = ya / la
    pb = (yb - lb * pa) / lc
    slope = pb / lc
    level = (pa - lb * slope) / la
    chi2 = 0.0
    for i in range(n):
        a, b = rows[4, i], rows[5, i]
        rows[3, i] -= level * a + slope * b
        chi2 += rows[3, i] * rows[3, i]
        rows[4, i] = a / la
        rows[5, i] = (b - lb * rows[4, i]) / lc
    return chi2


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def dot_white(values, residual, first_term, second_term, weight):  # pragma: no cover
    """Products of one template with a source whose noise is white; all arrays alike in length."""
    p = a = b = s = 0.0
    for i in range(len(values)):
        t = values[i]
        p += t * residual[i]
        a += t * first_term[i]
        b += t * second_term[i]
        s += t * t * weight[i]
    return p, s - a * a - b * b, s


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def dot_red(values, start, rows):  # pragma: no cover
    """The same where the noise is correlated: the template goes through the filter.

    After the template's end its echo in the filter's state dies out; it is followed until it is
    below a thousandth.
    """
    n = rows.shape[1]
    p = a = b = s = state = 0.0
    end = start + len(values)
    for i in range(start, n):
        t = 0.0
        if i < end:
            t = values[i - start]
        elif abs(state) < 1e-3:
            break
        w = (t - state) * rows[2, i]
        p += w * rows[3, i]
        a += w * rows[4, i]
        b += w * rows[5, i]
        s += w * w
        state = rows[0, i] * state + rows[1, i] * t
    return p, s - a * a - b * b, s


@njit(cache=True, nogil=True, error_model="numpy")
def shows(bounds, seen, min_epochs, margin):  # pragma: no cover
    """Whether a source's own epochs show the fall, the bottom and the recovery.

    `bounds` as in the bank; `seen` counts the measured epochs before each.
    """
    return (
        seen[bounds[2]] - seen[bounds[0]] >= min_epochs
        and seen[bounds[1]] > seen[bounds[0]]
        and seen[bounds[2]] > seen[bounds[1]]
        and seen[bounds[4]] - seen[bounds[3]] >= margin
        and seen[bounds[6]] - seen[bounds[5]] >= margin
    )


@njit(cache=True, nogil=True, error_model="numpy")
def screen_source(rows, seen, correlated, bank, gain, choice):  # pragma: no cover
    """Best dip in each slot (an octave of durations) of one source, given its whitened rows.

    Parameters
    ----------
    correlated : bool
        Whether the filter has memory; without, products are plain sums over the template.
    bank : packs.Rack
    gain, choice : ndarray, shape (n_slot,)
        Out: improvement in chi-squared, and the template; -1 where none dips.
    """
    gain[:] = 0.0
    choice[:] = -1
    n = rows.shape[1]
    first, offset, values, slot = bank.first, bank.offset, bank.values, bank.slot
    weighted = np.empty((4, n))
    if not correlated:
        for i in range(n):
            for c in range(3):
                weighted[c, i] = rows[3 + c, i] * rows[2, i]
            weighted[3, i] = rows[2, i] * rows[2, i]
    for k in range(len(first)):
        if not shows(bank.bounds[k], seen, bank.min_epochs, bank.margin):
            continue
        start, begin, end = first[k], offset[k], offset[k + 1]
        stop = start + end - begin
        if correlated:
            p, information, total = dot_red(values[begin:end], start, rows)
        else:
            p, information, total = dot_white(
                values[begin:end], weighted[0, start:stop], weighted[1, start:stop],
                weighted[2, start:stop], weighted[3, start:stop],
            )  # fmt: skip
        if p < 0 and information > 1e-6 * total:
            better = p * p / information
            if better > gain[slot[k]]:
                gain[slot[k]] = better
                choice[slot[k]] = k


@njit(cache=True, nogil=True, error_model="numpy")
def count_seen(mask, seen):  # pragma: no cover
    """Measured epochs before each epoch, shape (n_epoch + 1,)."""
    seen[0] = 0
    for i in range(len(mask)):
        seen[i + 1] = seen[i] + mask[i]


@njit(cache=True, nogil=True, error_model="numpy")
def edge_gain(rows, seen, margin):  # pragma: no cover
    """Best improvement in chi-squared of a step at any epoch, white noise: (gain, epoch).

    Sums from the end give every step in one pass; with the baseline's terms taken off.
    """
    n = rows.shape[1]
    p = a = b = s = 0.0
    best, place = 0.0, -1
    for i in range(n - 1, 0, -1):
        w = rows[2, i]
        p += w * rows[3, i]
        a += w * rows[4, i]
        b += w * rows[5, i]
        s += w * w
        information = s - a * a - b * b
        if seen[i] < margin or seen[n] - seen[i] < margin or information <= 1e-6 * s:
            continue
        if p * p / information > best:
            best, place = p * p / information, i
    return best, place
