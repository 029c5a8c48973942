"""What else a dip could be: a step, a decline or a rise without a return, a flare."""

import numpy as np
from numba import njit

from dsaflow.variability.screen import dot_red

# Kinds of rivals: a step and a ramp, downwards or upwards, then flares.
STEP, RAMP, FLARE = 0, 1, 2
FLARE_DECAY_DAYS = np.array([2.0, 6.0, 18.0, 54.0])
N_KIND = 2 + 4
# Epochs at which rivals begin, at most.
_MAX_STARTS = 96


@njit(cache=True, nogil=True, error_model="numpy")
def rival_values(kind, start, mjd, out):  # pragma: no cover
    """Unit rival that begins at an epoch: a step, a ramp to the end, or a flare that decays."""
    n = len(mjd)
    if kind == STEP:
        out[start:] = 1.0
    elif kind == RAMP:
        before = mjd[start - 1]
        for i in range(start, n):
            out[i] = (mjd[i] - before) / (mjd[n - 1] - before)
    else:
        for i in range(start, n):
            out[i] = np.exp(-(mjd[i] - mjd[start]) / FLARE_DECAY_DAYS[kind - FLARE])


@njit(cache=True, nogil=True, error_model="numpy")
def best_rival(rows, seen, mjd, margin, found):  # pragma: no cover
    """Rival of the largest improvement for one noise model, given the whitened source.

    `found` (out): improvement in chi-squared, kind, first epoch, sign of its amplitude. A step and
    a ramp count in either direction, a flare only upwards.
    """
    n = len(mjd)
    found[:] = 0.0
    values = np.empty(n)
    stride = max(1, n // _MAX_STARTS)
    for kind in range(N_KIND):
        start = 1
        while start < n:
            start = _scan_one(rows, seen, mjd, margin, kind, start, values, found) + stride
    if stride > 1 and found[0] > 0:
        kind, middle = int(found[1]), int(found[2])
        for start in range(max(1, middle - stride + 1), min(n, middle + stride)):
            _scan_one(rows, seen, mjd, margin, kind, start, values, found)


@njit(cache=True, nogil=True, error_model="numpy")
def _scan_one(rows, seen, mjd, margin, kind, start, values, found):  # pragma: no cover
    n = len(mjd)
    if rows[2, start] == 0.0 or seen[start] < margin or seen[n] - seen[start] < margin:
        return start
    rival_values(kind, start, mjd, values)
    p, information, total = dot_red(values[start:], start, rows)
    if information > 1e-6 * total and (kind < FLARE or p > 0):
        gain = p * p / information
        if gain > found[0]:
            found[0], found[1], found[2] = gain, kind, start
            found[3] = 1.0 if p > 0 else -1.0
    return start
