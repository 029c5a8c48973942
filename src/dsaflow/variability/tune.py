"""Move an event off the bank's grid: any mid time, duration and shape."""

import numpy as np
from numba import njit

from dsaflow.variability.screen import dot_red, shows


@njit(cache=True, nogil=True, error_model="numpy")
def make_template(table, shape, mid, duration, mjd, out):  # pragma: no cover
    """One template at any mid time and duration, from the table of shapes (phases -4 to 4)."""
    size = table.shape[1]
    scale = (size - 1) / 8.0
    for i in range(len(mjd)):
        place = ((mjd[i] - mid) / duration + 4.0) * scale
        if place <= 0 or place >= size - 1:
            out[i] = 0.0
        else:
            k = int(place)
            out[i] = table[shape, k] + (place - k) * (table[shape, k + 1] - table[shape, k])


@njit(cache=True, nogil=True, error_model="numpy")
def template_bounds(mjd, mid, duration, outer, margin, step, out):  # pragma: no cover
    """`templates.event_bounds` of one template."""
    flank = max(duration, (margin + 2) * step)
    out[0] = np.searchsorted(mjd, mid - 0.5 * duration)
    out[1] = np.searchsorted(mjd, mid)
    out[2] = np.searchsorted(mjd, mid + 0.5 * duration, side="right")
    out[3] = np.searchsorted(mjd, mid - outer * duration - flank)
    out[4] = np.searchsorted(mjd, mid - outer * duration)
    out[5] = np.searchsorted(mjd, mid + outer * duration, side="right")
    out[6] = np.searchsorted(mjd, mid + outer * duration + flank, side="right")


@njit(cache=True, nogil=True, error_model="numpy")
def try_event(rows, seen, sampling, bank, shape, mid, duration, work, bounds):  # pragma: no cover
    """Improvement in chi-squared of one free template; 0 where the epochs do not show it."""
    mjd = sampling.mjd
    template_bounds(mjd, mid, duration, bank.outer[shape], bank.margin, sampling.step, bounds)
    if not shows(bounds, seen, bank.min_epochs, bank.margin):
        return 0.0
    start = np.searchsorted(mjd, mid - bank.reach[shape] * duration)
    stop = np.searchsorted(mjd, mid + bank.reach[shape] * duration, side="right")
    make_template(bank.table, shape, mid, duration, mjd[start:stop], work[start:stop])
    p, information, total = dot_red(work[start:stop], start, rows)
    if p >= 0 or information <= 1e-6 * total:
        return 0.0
    return p * p / information


@njit(cache=True, nogil=True, error_model="numpy")
def fine_tune(rows, seen, sampling, bank, event):  # pragma: no cover
    """Move mid time and duration off the bank's grid, in every shape, to the best of them.

    `event` (in and out): shape, mid time, duration. Steps along either axis, halved where none
    helps. Returns the improvement in chi-squared.
    """
    bounds = np.empty(7, np.int64)
    work = np.empty(len(sampling.mjd))
    first_mid, first_duration = event[1], event[2]
    best = 0.0
    for shape in range(len(bank.table)):
        mid, duration = first_mid, first_duration
        gain = try_event(rows, seen, sampling, bank, shape, mid, duration, work, bounds)
        size = 0.12
        for _ in range(10):
            moved = False
            for direction in range(4):
                new_mid, new_duration = mid, duration
                if direction < 2:
                    new_mid = mid + (2 * direction - 1) * size * duration
                else:
                    new_duration = duration * np.exp((2 * direction - 5) * 1.5 * size)
                    new_duration = min(max(new_duration, bank.limits[0]), bank.limits[1])
                trial = try_event(
                    rows, seen, sampling, bank, shape, new_mid, new_duration, work, bounds
                )
                if trial > gain:
                    gain, mid, duration, moved = trial, new_mid, new_duration, True
            if not moved:
                size *= 0.5
                if size < 0.01:
                    break
        if gain > best:
            best = gain
            event[0], event[1], event[2] = shape, mid, duration
    return best
