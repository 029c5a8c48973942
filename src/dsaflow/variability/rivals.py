"""What else a dip could be: a step, a decline or a rise that nobody saw end, a flare."""

import numpy as np
from numba import njit

from dsaflow.variability.screen import dot_red

# Kinds of rivals: a step and a ramp to the end, downwards or upwards; a decline that ends at a gap
# and a rise that begins at one, the flux on the gap's other side being the usual one; then flares.
STEP, RAMP, FALL, RISE, FLARE = 0, 1, 2, 3, 4
FLARE_DECAY_DAYS = np.array([2.0, 6.0, 18.0, 54.0])
N_KIND = 4 + 4
# Epochs at which rivals begin, at most.
_MAX_STARTS = 96
# A time without measurements this many steps long is a gap; a decline into one takes at most so long.
GAP_STEPS = 3.5
_LONGEST_FALL_DAYS = 60.0


@njit(cache=True, nogil=True, error_model="numpy")
def rival_values(kind, start, gap, mjd, out):  # pragma: no cover
    """Unit rival that begins at epoch `start`; `gap` is the first epoch after the gap, if it has one.

    A step, a ramp to the end, a ramp to the last epoch before the gap, a ramp back from the first
    epoch after the gap to `start`, or a flare that decays.
    """
    n = len(mjd)
    if kind == STEP:
        out[start:] = 1.0
    elif kind == RAMP:
        before = mjd[start - 1]
        for i in range(start, n):
            out[i] = (mjd[i] - before) / (mjd[n - 1] - before)
    elif kind == FALL:
        out[start:] = 0.0
        before = mjd[start - 1]
        for i in range(start, gap):
            out[i] = (mjd[i] - before) / (mjd[gap - 1] - before)
    elif kind == RISE:
        out[gap:] = 0.0
        for i in range(gap, start):
            out[i] = (mjd[start] - mjd[i]) / (mjd[start] - mjd[gap])
    else:
        for i in range(start, n):
            out[i] = np.exp(-(mjd[i] - mjd[start]) / FLARE_DECAY_DAYS[kind - FLARE])


@njit(cache=True, nogil=True, error_model="numpy")
def best_rival(rows, seen, mjd, step, margin, found):  # pragma: no cover
    """Rival of the largest improvement for one noise model, given the whitened source.

    `found` (out): improvement in chi-squared, kind, epoch, gap (see `rival_values`), sign of its
    amplitude. A step and a ramp count in either direction, those at a gap only downwards, a flare
    only upwards.
    """
    n = len(mjd)
    found[:] = 0.0
    values = np.empty(n)
    stride = max(1, n // _MAX_STARTS)
    for kind in range(N_KIND):
        if kind in (FALL, RISE):
            continue
        start = 1
        while start < n:
            start = _scan_one(rows, seen, mjd, margin, kind, start, values, found) + stride
    if stride > 1 and found[0] > 0:
        kind, middle = int(found[1]), int(found[2])
        for start in range(max(1, middle - stride + 1), min(n, middle + stride)):
            _scan_one(rows, seen, mjd, margin, kind, start, values, found)
    before = -1
    for i in range(n):
        if rows[2, i] == 0.0:
            continue
        if before >= 0 and mjd[i] - mjd[before] > GAP_STEPS * step:
            _scan_gap(rows, mjd, margin, before, i, values, found)
        before = i


@njit(cache=True, nogil=True, error_model="numpy")
def _scan_one(rows, seen, mjd, margin, kind, start, values, found):  # pragma: no cover
    n = len(mjd)
    if rows[2, start] == 0.0 or seen[start] < margin or seen[n] - seen[start] < margin:
        return start
    rival_values(kind, start, 0, mjd, values)
    p, information, total = dot_red(values[start:], start, rows)
    if information > 1e-6 * total and (kind < FLARE or p > 0):
        _keep(p, information, kind, start, 0, found)
    return start


@njit(cache=True, nogil=True, error_model="numpy")
def _scan_gap(rows, mjd, margin, last, first, values, found):  # pragma: no cover
    """Declines that end at epoch `last` before a gap, and rises from epoch `first` after it."""
    n = len(mjd)
    # missing epochs within the gap belong to its near side: they have no weight
    start = last - 1
    while start >= max(1, margin) and mjd[last] - mjd[start - 1] <= _LONGEST_FALL_DAYS:
        rival_values(FALL, start, last + 1, mjd, values)
        p, information, total = dot_red(values[start : last + 1], start, rows)
        if p < 0 and information > 1e-6 * total:
            _keep(p, information, FALL, start, last + 1, found)
        start -= 1
    end = first + 2
    while end < n - margin and mjd[end] - mjd[first] <= _LONGEST_FALL_DAYS:
        rival_values(RISE, end, first, mjd, values)
        p, information, total = dot_red(values[first:end], first, rows)
        if p < 0 and information > 1e-6 * total:
            _keep(p, information, RISE, end, first, found)
        end += 1


@njit(cache=True, nogil=True, error_model="numpy")
def _keep(p, information, kind, start, gap, found):  # pragma: no cover
    gain = p * p / information
    if gain > found[0]:
        found[0], found[1], found[2], found[3] = gain, kind, start, gap
        found[4] = 1.0 if p > 0 else -1.0
