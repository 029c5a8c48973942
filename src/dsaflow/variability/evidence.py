"""Evidence: the likelihood averaged over what the noise, and the event, may be.

A maximum over noise models lets the best of many describe an event away, and a maximum over events
finds one in every noise; averages do neither (the Occam factor of Bayesian evidence, MacKay 1992; Kass
& Raftery 1995, section 2). The ratio of two of them exceeds x by chance in fewer than 1/x of the
curves that the priors describe, however many templates there are.
"""

import numpy as np
from numba import njit

from dsaflow.variability.noise import TAU_DAYS, filter_columns, solve_base, solve_template
from dsaflow.variability.screen import dot_red, dot_white, shows

# Slower walks than this share of the span are the baseline's slope.
LONGEST_TAU = 0.3
# Amplitudes of the walk, in standard deviations of their logarithm about the typical one.
_AMPLITUDES = np.linspace(-2.0, 2.0, 5)
# White excess variance in units of the errors' variance, and how often it happens.
_WHITE = np.array([[0.0, 0.8], [0.25, 0.1], [1.0, 0.05], [4.0, 0.04], [16.0, 0.01]])
_WHITE_OF_WALKS = 3
# Depths of events, log-uniform between.
_SHALLOWEST, _DEEPEST = 0.02, 0.8
_LN_DEPTHS = np.log(_DEEPEST / _SHALLOWEST)


def noise_prior(
    span_days: float, variable_share: float, typical_rms: float, spread: float
) -> np.ndarray:
    """Noise models and their prior probabilities.

    Parameters
    ----------
    span_days : float
        From the first to the last epoch.
    variable_share : float
        Fraction of the sources with a damped random walk.
    typical_rms, spread : float
        Median of the walk's relative amplitude, and the scatter of its natural logarithm.

    Returns
    -------
    ndarray, shape (n_model, 4)
        Index into `noise.TAU_DAYS`, the walk's variance, white excess in units of the errors'
        variance, ln of the prior probability.
    """
    models = [(0, 0.0, white, (1 - variable_share) * share) for white, share in _WHITE]
    longest = LONGEST_TAU * span_days
    n_tau = max(1, int(np.searchsorted(TAU_DAYS, longest, side="right")))
    height = np.exp(-0.5 * np.square(_AMPLITUDES))
    white = _WHITE[:_WHITE_OF_WALKS] / [1.0, _WHITE[:_WHITE_OF_WALKS, 1].sum()]
    for tau in range(n_tau):
        for off, weight in zip(_AMPLITUDES, height / height.sum(), strict=True):
            variance = (typical_rms * np.exp(off * spread)) ** 2
            models += [
                (tau, variance, excess, variable_share / n_tau * weight * share)
                for excess, share in white
            ]
    table = np.array(models, dtype=float)
    table[:, 3] = np.log(table[:, 3])
    return table


@njit(cache=True, nogil=True, error_model="numpy")
def evidence(
    columns, variance, mask, decay, typical, slope_precision, prior, out
):  # pragma: no cover
    """Ln evidence of a curve without an event, and with each template.

    Parameters
    ----------
    columns : ndarray, shape (3 + n_template, n_epoch)
        As for `noise.filter_columns`.
    typical : float
        Typical variance of an epoch's error.
    prior : ndarray, shape (n_model, 4)
        As `noise_prior` gives it.
    out : ndarray, shape (1 + n_template,)
        Out; amplitude and baseline maximised.
    """
    n_model, n_template = len(prior), len(columns) - 3
    tau = np.empty(n_model, np.int64)
    red, white = np.empty(n_model), np.empty(n_model)
    for m in range(n_model):
        tau[m] = int(prior[m, 0])
        red[m], white[m] = prior[m, 1], prior[m, 2] * typical
    sums = np.empty((6 + 4 * n_template, n_model))
    logdet = np.empty(n_model)
    filter_columns(columns, variance, mask, decay, tau, red, white, sums, logdet)
    values = np.empty((1 + n_template, n_model))
    base = np.empty(7)
    for m in range(n_model):
        solve_base(sums, m, slope_precision, base)
        value = prior[m, 3] - 0.5 * (logdet[m] + base[0] + base[1])
        values[0, m] = value
        for k in range(n_template):
            gain, _, _ = solve_template(sums, m, k, base, -1)
            values[1 + k, m] = value + 0.5 * gain
    for h in range(1 + n_template):
        largest = -np.inf
        for m in range(n_model):
            largest = max(largest, values[h, m])
        total = 0.0
        for m in range(n_model):
            total += np.exp(values[h, m] - largest)
        out[h] = largest + np.log(total)


@njit(cache=True, nogil=True, error_model="numpy")
def occam(rows, seen, correlated, bank):  # pragma: no cover
    """Ln of the likelihood averaged over all events, over that of the best template.

    The prior is uniform over the octaves of duration that the epochs show anything of, in each over
    the bank's templates (mid time, duration, shape), and log-uniform over the depth; the noise is that
    of the whitened `rows`.
    """
    n = rows.shape[1]
    count, total = np.zeros(bank.n_slot), np.zeros(bank.n_slot)
    best = 0.0
    weighted = np.empty((4, n))
    for i in range(n):
        for c in range(3):
            weighted[c, i] = rows[3 + c, i] * rows[2, i]
        weighted[3, i] = rows[2, i] * rows[2, i]
    for k in range(len(bank.first)):
        if not shows(bank.bounds[k], seen, bank.min_epochs, bank.margin):
            continue
        slot = bank.slot[k]
        count[slot] += 1
        start, begin, end = bank.first[k], bank.offset[k], bank.offset[k + 1]
        stop = start + end - begin
        if correlated:
            p, information, everything = dot_red(bank.values[begin:end], start, rows)
        else:
            p, information, everything = dot_white(
                bank.values[begin:end], weighted[0, start:stop], weighted[1, start:stop],
                weighted[2, start:stop], weighted[3, start:stop],
            )  # fmt: skip
        if p >= 0 or information <= 1e-6 * everything or -p < _SHALLOWEST * information:
            continue
        gain = p * p / information
        if gain > best:
            total *= np.exp(0.5 * (best - gain))
            best = gain
        # Laplace's method over the logarithm of the depth; a gain below 1 is no peak
        width = np.sqrt(2 * np.pi / max(gain, 1.0)) / _LN_DEPTHS
        total[slot] += width * np.exp(0.5 * (gain - best))
    average = octaves = 0.0
    for k in range(bank.n_slot):
        if count[k] > 0:
            average += total[k] / count[k]
            octaves += 1
    return np.log(average / octaves) if average > 0 else -np.inf
