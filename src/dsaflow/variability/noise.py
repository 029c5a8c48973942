"""Likelihood of a light curve's noise: errors, white excess, and a damped random walk.

A damped random walk observed with white noise is a two-parameter state space: its likelihood takes
one pass over the epochs (Kelly, Bechtold & Siemiginowska 2009, eqs. 7-12). Several columns (the
curve, the baseline's terms, templates) go through the same filter, so that generalised least
squares needs no matrix of the size of the curve.
"""

import numpy as np
from numba import njit

# Correlation times tried [d]; the walk's amplitudes go from below the errors to beyond the curve's
# own scatter, the white excess is in units of the errors' variance.
TAU_DAYS = np.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0])
N_RED = 9
WHITE_SHARES = np.array([0.0, 0.25, 1.0])
WHITE_ALONE = np.array([0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0])


def decay_table(mjd: np.ndarray, tau_days: np.ndarray = TAU_DAYS) -> np.ndarray:
    """Correlation of each epoch with the one before it, shape (n_epoch, n_tau); 0 for the first."""
    step = np.diff(mjd, prepend=mjd[0])
    table = np.exp(-step[:, None] / tau_days)
    table[0] = 0.0
    return table


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def filter_columns(
    columns, variance, mask, decay, tau, red, white, sums, logdet
):  # pragma: no cover
    """Products of the whitened columns, for many noise models at once.

    Parameters
    ----------
    columns : ndarray, shape (n_column, n_epoch)
        Curve, constant, time, then the templates.
    variance, mask : ndarray, shape (n_epoch,)
    decay : ndarray, shape (n_epoch, n_tau)
    tau : ndarray of int, shape (n_model,)
        Column of `decay`.
    red, white : ndarray, shape (n_model,)
        Variances of the walk and of the white excess.
    sums : ndarray, shape (6 + 4 n_template, n_model)
        Out: yy, y1, yt, 11, 1t, tt, then dd, dy, d1, dt of each template.
    logdet : ndarray, shape (n_model,)
        Out: ln determinant of the covariance.
    """
    n_column, n_epoch = columns.shape
    n_model = len(tau)
    n_template = n_column - 3
    state = np.zeros((n_column, n_model))
    error = np.zeros((n_column, n_model))
    spread = red.copy()
    keep = np.empty(n_model)
    gain = np.empty(n_model)
    inverse = np.empty(n_model)
    product = np.ones(n_model)
    sums[:] = 0.0
    logdet[:] = 0.0
    pending = 0
    for i in range(n_epoch):
        for m in range(n_model):
            keep[m] = decay[i, tau[m]]
            spread[m] = keep[m] * keep[m] * (spread[m] - red[m]) + red[m]
        if not mask[i]:
            for c in range(n_column):
                for m in range(n_model):
                    state[c, m] *= keep[m]
            continue
        v = variance[i]
        for m in range(n_model):
            noise = v + white[m]
            total = spread[m] + noise
            inverse[m] = 1.0 / total
            gain[m] = spread[m] * inverse[m]
            spread[m] = gain[m] * noise
            product[m] *= total
        pending += 1
        if pending == 16:
            for m in range(n_model):
                logdet[m] += np.log(product[m])
                product[m] = 1.0
            pending = 0
        for c in range(n_column):
            x = columns[c, i]
            for m in range(n_model):
                predicted = keep[m] * state[c, m]
                error[c, m] = x - predicted
                state[c, m] = predicted + gain[m] * error[c, m]
        for m in range(n_model):
            y = error[0, m] * inverse[m]
            a = error[1, m] * inverse[m]
            b = error[2, m]
            sums[0, m] += y * error[0, m]
            sums[1, m] += y * error[1, m]
            sums[2, m] += y * b
            sums[3, m] += a * error[1, m]
            sums[4, m] += a * b
            sums[5, m] += b * b * inverse[m]
        for k in range(n_template):
            for m in range(n_model):
                d = error[3 + k, m] * inverse[m]
                sums[6 + 4 * k, m] += d * error[3 + k, m]
                sums[7 + 4 * k, m] += d * error[0, m]
                sums[8 + 4 * k, m] += d * error[1, m]
                sums[9 + 4 * k, m] += d * error[2, m]
    for m in range(n_model):
        logdet[m] += np.log(product[m])


@njit(cache=True, nogil=True, error_model="numpy")
def solve_base(sums, m, slope_precision, out):  # pragma: no cover
    """Generalised least squares of the baseline for one noise model.

    `out`: chi-squared, ln determinant, then the inverse of the information (aa, ab, bb) and the
    projections of the curve (level and slope).
    """
    a, b, c = sums[3, m], sums[4, m], sums[5, m] + slope_precision
    determinant = a * c - b * b
    out[2], out[3], out[4] = c / determinant, -b / determinant, a / determinant
    out[5] = out[2] * sums[1, m] + out[3] * sums[2, m]
    out[6] = out[3] * sums[1, m] + out[4] * sums[2, m]
    out[0] = sums[0, m] - out[5] * sums[1, m] - out[6] * sums[2, m]
    out[1] = np.log(determinant)


@njit(cache=True, nogil=True, error_model="numpy")
def solve_template(sums, m, k, base, sign):  # pragma: no cover
    """Improvement in chi-squared, amplitude and information of one template.

    `sign` -1: only dips count; +1: only rises; 0: both.
    """
    d1, dt = sums[8 + 4 * k, m], sums[9 + 4 * k, m]
    information = sums[6 + 4 * k, m] - base[2] * d1 * d1 - 2 * base[3] * d1 * dt - base[4] * dt * dt
    projection = sums[7 + 4 * k, m] - base[5] * d1 - base[6] * dt
    # A template that the baseline mimics says nothing.
    if information <= 1e-6 * sums[6 + 4 * k, m]:
        return 0.0, 0.0, 0.0
    amplitude = projection / information
    if sign * amplitude < 0:
        return 0.0, amplitude, information
    return projection * amplitude, amplitude, information


@njit(cache=True, nogil=True, error_model="numpy")
def log_prior(red, white, prior):  # pragma: no cover
    """Prior of a noise model: quiet sources are the rule, strong variables the exception.

    `prior`: what a walk and a white excess must gain to be believed, the walk's typical amplitude
    (ln) and the inverse variance of its logarithm.
    """
    value = 0.0
    if red > 0:
        value -= prior[0] + 0.5 * prior[3] * (0.5 * np.log(red) - prior[2]) ** 2
    if white > 0:
        value -= prior[1]
    return value


@njit(cache=True, nogil=True, error_model="numpy")
def best_models(
    columns, variance, mask, decay, scatter, typical, slope_precision, prior, sign, best, model
):  # pragma: no cover
    """Best noise model of the curve without an event, and with each template.

    Parameters
    ----------
    scatter, typical : float
        The curve's variance about its mean, and its typical error's variance: they set the grid.
    sign : int
        See `solve_template`.
    best : ndarray, shape (1 + n_template,)
        Out: log posterior of the noise at its maximum, amplitude and baseline maximised.
    model : ndarray, shape (1 + n_template, 3)
        Out: tau's index, red and white variance.
    """
    n_template = len(columns) - 3
    n_tau = decay.shape[1]
    best[:] = -np.inf
    n_white = len(WHITE_ALONE) + 1
    n_grid = N_RED * len(WHITE_SHARES)
    low, high = 0.1 * typical, 4.0 * max(scatter, typical)
    size = max(n_grid, n_white)
    tau = np.zeros(size, np.int64)
    red = np.zeros(size)
    white = np.zeros(size)
    sums = np.empty((6 + 4 * n_template, size))
    logdet = np.empty(size)
    for t in range(-1, n_tau):
        if t < 0:
            number = n_white
            white[0] = 0.0
            for m in range(1, n_white):
                white[m] = WHITE_ALONE[m - 1] * typical
        else:
            number = n_grid
            m = 0
            for r in range(N_RED):
                for w in range(len(WHITE_SHARES)):
                    tau[m] = t
                    red[m] = low * (high / low) ** (r / (N_RED - 1.0))
                    white[m] = WHITE_SHARES[w] * typical
                    m += 1
        _take_best(
            columns, variance, mask, decay, tau[:number], red[:number], white[:number],
            sums[:, :number], logdet[:number], slope_precision, prior, sign, 0, best, model,
        )  # fmt: skip


@njit(cache=True, nogil=True, error_model="numpy")
def _take_best(
    columns, variance, mask, decay, tau, red, white, sums, logdet,
    slope_precision, prior, sign, first, best, model,
):  # pragma: no cover  # fmt: skip
    """Evaluate noise models and keep each hypothesis's best; hypotheses below `first` are left."""
    filter_columns(columns, variance, mask, decay, tau, red, white, sums, logdet)
    base = np.empty(7)
    for m in range(len(tau)):
        solve_base(sums, m, slope_precision, base)
        value = -0.5 * (logdet[m] + base[0] + base[1])
        value += log_prior(red[m], white[m], prior)
        for h in range(first, len(best)):
            gain = 0.0
            if h > 0:
                gain, _, _ = solve_template(sums, m, h - 1, base, sign)
            if value + 0.5 * gain > best[h]:
                best[h] = value + 0.5 * gain
                model[h, 0], model[h, 1], model[h, 2] = tau[m], red[m], white[m]


@njit(cache=True, nogil=True, error_model="numpy")
def polish(
    columns, variance, mask, decay, typical, slope_precision, prior, sign, event, best, model
):  # pragma: no cover
    """Refine one noise model about its best on the grid, in steps that halve.

    `columns` has one template where `event` is 1, none where it is 0; `best` and `model` are those
    of that hypothesis alone and are replaced where the likelihood grows.
    """
    tau = np.zeros(27, np.int64)
    red = np.zeros(27)
    white = np.zeros(27)
    sums = np.empty((6 + 4 * event, 27))
    logdet = np.empty(27)
    both = np.full(1 + event, -np.inf)
    models = np.zeros((1 + event, 3))
    both[event] = best[0]
    models[event] = model[0]
    n_tau = decay.shape[1]
    for level in range(3):
        step = 2.0 ** (0.5 / 2.0**level)
        t0, r0, w0 = int(models[event, 0]), models[event, 1], models[event, 2]
        floor = max(w0, 0.02 * typical)
        m = 0
        for a in range(-1, 2):
            for b in range(-1, 2):
                for c in range(-1, 2):
                    tau[m] = min(max(t0 + a, 0), n_tau - 1)
                    red[m] = r0 * step ** (2 * b)
                    # Below a fiftieth of the errors a white excess is none.
                    white[m] = w0 if c == 0 else (floor * step ** (4 * c) if c > 0 else 0.0)
                    if c < 0 and w0 > 0.04 * typical:
                        white[m] = w0 * step**-4
                    m += 1
        _take_best(
            columns, variance, mask, decay, tau, red, white, sums, logdet,
            slope_precision, prior, sign, event, both, models,
        )  # fmt: skip
    best[0] = both[event]
    model[0] = models[event]
