"""Start, duration and depth of an event with errors, and the plasma lens that fits it."""

import math
from dataclasses import dataclass

import numpy as np

from dsaflow.variability.chromatic import MOST_REJECTED, BandData, EventFit, fit_event, lens_dips
from dsaflow.variability.lenstable import MAX_STRENGTH, LensTable, lens_table
from dsaflow.variability.templates import Shape

# Share of the depth below which an epoch is outside the event.
_OUTSIDE_LEVEL = 0.05
_REJECT_SIGMA = 4.5

# Nodes of the grid over mid time and duration, and its half widths in units of the errors.
_N_MID, _N_DURATION, _REACH_SIGMA = 41, 33, 5.0
_ZOOMS = 6
# First grid: mid time within this many durations, duration within this factor.
_MID_REACH, _DURATION_REACH = 0.6, 2.2
# Sizes of the source relative to the configured one: a prior flat in the logarithm.
_SIZES = 2.0 ** np.arange(-2, 2.01, 0.5)
_COVERED = 0.9999  # a gain of exactly 0 would leave no baseline to solve for


@dataclass
class EventTimes:
    """When, how long and how deep, with 1-sigma errors; days (MJD, UTC) and fractions.

    `delta_chi2` is the improvement of the best fit over no event.
    """

    mid_mjd: float
    mid_err_days: float
    start_mjd: float
    start_err_days: float
    duration_days: float
    duration_err_days: float
    depth: float
    depth_err: float
    baseline: float
    delta_chi2: float = math.nan


@dataclass
class LensParameters:
    """A plasma lens before the whole source; NaN where no such lens can be fitted.

    Attributes
    ----------
    strength, strength_err : float
        alpha at the mean frequency of the sub-bands. If the lens covers only part of the source,
        alpha is larger.
    crossing_days, crossing_err_days : float
        Time in which the line of sight moves by the lens's 1/e half width: the transverse scale
        over the transverse velocity.
    source_size : float
        Gaussian sigma of the source in lens radii: mean of its logarithm over the likelihood.
    delta_chi2 : float
        Chi-squared beyond that of the best fit with the covered fraction free.
    """

    strength: float = math.nan
    strength_err: float = math.nan
    crossing_days: float = math.nan
    crossing_err_days: float = math.nan
    source_size: float = math.nan
    delta_chi2: float = math.nan


@dataclass
class Noise:
    """Noise of one light curve.

    Attributes
    ----------
    variance : ndarray, shape (n_epoch,)
        Of each epoch's own noise, white excess included; NaN where not measured.
    red : float
        Variance of a damped random walk (refractive scintillation, intrinsic variability).
    tau_days : float
        Its correlation time.
    """

    variance: np.ndarray
    red: float = 0.0
    tau_days: float = math.nan


def fit_times(
    curve: np.ndarray,
    noise: Noise,
    mjd: np.ndarray,
    shape: Shape,
    mid_mjd: float,
    duration_days: float,
    drift_per_year: float = 0.1,
) -> EventTimes:
    """Mean and standard deviation of an event's parameters over its likelihood.

    Parameters
    ----------
    curve : ndarray, shape (n_epoch,)
        Normalised flux; NaN where not measured.
    noise : Noise
    mjd : ndarray, shape (n_epoch,)
    shape : Shape
        Of the best template, whose mid time and duration start the search.
    drift_per_year : float
        Standard deviation of the baseline's slope [1/yr].

    Notes
    -----
    The likelihood is evaluated on a grid over mid time and ln duration (flat in both), depth and
    baseline being solved for at each node; the grid closes in on what is likely. A mean over the
    likelihood also holds where it is no parabola: a box between two epochs, an edge in a gap.
    """
    seen = np.isfinite(curve) & np.isfinite(noise.variance) & (noise.variance > 0)
    data = _Whitened(curve[seen], noise.variance[seen], mjd[seen], noise, drift_per_year)
    times = _mean_event(data, shape, mid_mjd, duration_days)
    # a lone bad epoch outside must not drag the baseline
    dip = shape((mjd - times.mid_mjd) / times.duration_days)
    model = times.baseline * (1 - times.depth * dip)
    far = np.abs(curve - model) > _REJECT_SIGMA * np.sqrt(noise.variance + noise.red)
    bad = seen & far & (np.abs(dip) <= _OUTSIDE_LEVEL)
    if not 0 < bad.sum() <= max(1, MOST_REJECTED * seen.sum()):
        return times
    kept = seen & ~bad
    data = _Whitened(curve[kept], noise.variance[kept], mjd[kept], noise, drift_per_year)
    return _mean_event(data, shape, mid_mjd, duration_days)


def _mean_event(
    data: "_Whitened", shape: Shape, mid_mjd: float, duration_days: float
) -> EventTimes:
    """Moments of the likelihood on a grid that closes in on its peak."""
    middle, log_width = mid_mjd, math.log(duration_days)
    reach, log_reach = _MID_REACH * duration_days, math.log(_DURATION_REACH)
    first = middle - reach, middle + reach, log_width - log_reach, log_width + log_reach
    for _ in range(_ZOOMS):
        mid = np.linspace(max(middle - reach, first[0]), min(middle + reach, first[1]), _N_MID)
        log_duration = np.linspace(
            max(log_width - log_reach, first[2]), min(log_width + log_reach, first[3]), _N_DURATION
        )
        mids, durations = (v.ravel() for v in np.meshgrid(mid, np.exp(log_duration)))
        gain, depth, depth_var, base = data.solve(shape, mids, durations)
        chance = np.exp(0.5 * (gain - gain.max()))
        chance /= chance.sum()
        middle, mid_err = _moments(mids, chance)
        log_width, log_err = _moments(np.log(durations), chance)
        old = reach, log_reach
        # not at once: the first grid's peak lies between its nodes
        reach = min(reach, max(_REACH_SIGMA * mid_err, reach / 8))
        log_reach = min(log_reach, max(_REACH_SIGMA * log_err, log_reach / 8))
        if reach > 0.7 * old[0] and log_reach > 0.7 * old[1]:
            break
    start, start_err = _moments(mids - 0.5 * durations, chance)
    width, width_err = _moments(durations, chance)
    deep, spread = _moments(depth, chance)
    return EventTimes(
        mid_mjd=middle,
        mid_err_days=mid_err,
        start_mjd=start,
        start_err_days=start_err,
        duration_days=width,
        duration_err_days=width_err,
        depth=deep,
        depth_err=math.sqrt(spread**2 + float(chance @ depth_var)),
        baseline=float(chance @ base),
        delta_chi2=float(gain.max()),
    )


def _moments(values: np.ndarray, chance: np.ndarray) -> tuple[float, float]:
    mean = float(chance @ values)
    return mean, math.sqrt(float(chance @ np.square(values - mean)))


class _Whitened:
    """A curve and its baseline (a level, and a slope with a prior) in independent, unit noise."""

    def __init__(
        self, y: np.ndarray, variance: np.ndarray, mjd: np.ndarray, noise: Noise, drift: float
    ) -> None:
        self.variance, self.mjd, self.noise = variance, mjd, noise
        self.years = (mjd - mjd.mean()) / 365.25
        self.curve = np.append(self._whiten(y[None])[0], 0.0)
        base = self._whiten(np.array([np.ones(len(y)), self.years]))
        # the slope's prior is one more datum
        self.base = np.hstack([base, [[0.0], [1 / drift]]])
        self.covariance = np.linalg.inv(self.base @ self.base.T)

    def _whiten(self, columns: np.ndarray) -> np.ndarray:
        """Innovations of a damped random walk with white noise (Kelly et al. 2009, eqs. 7-12)."""
        if not self.noise.red > 0:
            return columns / np.sqrt(self.variance)
        decay = np.exp(-np.diff(self.mjd, prepend=self.mjd[0]) / self.noise.tau_days)
        state, spread, red = np.zeros(len(columns)), self.noise.red, self.noise.red
        result = np.empty(columns.shape)
        for k, own in enumerate(self.variance):
            state = decay[k] * state
            spread = decay[k] ** 2 * (spread - red) + red
            total = spread + own
            innovation = columns[:, k] - state
            result[:, k] = innovation / math.sqrt(total)
            state = state + spread / total * innovation
            spread = spread * own / total
        return result

    def solve(
        self, shape: Shape, mid_mjd: np.ndarray, duration_days: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Chi-squared improvement, depth and its variance, baseline of events, shape (n_event,)."""
        dip = self._whiten(shape((self.mjd - mid_mjd[:, None]) / duration_days[:, None]))
        dip = np.hstack([dip, np.zeros((len(dip), 1))])
        in_dip = dip @ self.base.T @ self.covariance
        in_curve = self.covariance @ (self.base @ self.curve)
        shifted = dip - in_dip @ self.base
        information = np.square(shifted).sum(axis=1)
        known = information > 1e-9 * np.square(self.base[0]).sum()
        safe = np.where(known, information, 1.0)
        amplitude = np.where(known, -(shifted @ self.curve) / safe, 0.0)
        # the baseline under the event is its level there without a dip, and amplitude x centre
        years = (mid_mjd - self.mjd.mean()) / 365.25
        here = np.array([np.ones(len(years)), years]).T
        centre = (here * in_dip).sum(axis=1)
        baseline = here @ in_curve + amplitude * centre
        level_var = ((here @ self.covariance) * here).sum(axis=1)
        positive = baseline > 0
        divisor = np.where(positive, baseline, 1.0)
        depth = np.where(positive, amplitude / divisor, 0.0)
        depth_var = np.square(1 - depth * centre) / safe + np.square(depth) * level_var
        gain = np.where(known & (amplitude > 0) & positive, np.square(amplitude) * safe, 0.0)
        return gain, depth, depth_var / np.square(divisor), baseline


def fit_lens(
    curve: np.ndarray,
    variance: np.ndarray,
    freq_hz: np.ndarray,
    mjd: np.ndarray,
    times: EventTimes,
    source_size: float,
) -> LensParameters:
    """Fit a plasma lens before the whole source to all sub-bands.

    Parameters
    ----------
    curve, variance : ndarray, shape (n_band, n_epoch)
        As for `measure_chromaticity`; one band of the whole band's curve will do.
    times : EventTimes
        Where the fit starts.
    source_size : float
        Lens radii; a quarter to four times of it is tried.

    Notes
    -----
    Errors are from the curvature of chi-squared at the best fit of each size of the source, and
    from what the sizes differ by, weighted by their likelihood: with smooth dips a larger source
    before a stronger lens looks much the same. A strength at the edge of the range has error NaN.
    """
    data = BandData.of(curve, variance, mjd, freq_hz)
    if (data.root_weight > 0).sum() < len(freq_hz) + 4 or not 0 < times.depth < 1:
        return LensParameters()
    fits = []
    for size in _SIZES * source_size:
        table = lens_table(float(size))
        depths = np.array([table.profile(a)[0] for a in np.exp(table.log_strength)])
        strength = math.exp(np.interp(times.depth, depths, table.log_strength))
        start = [0.0, 0.0, _COVERED, math.log(min(strength, MAX_STRENGTH))]
        where = data, lens_dips(table, freq_hz), times.mid_mjd, times.duration_days
        fits.append((fit_event(*where, start, covered=_COVERED), table, where))
    chi2 = np.array([fit.chi2 for fit, _, _ in fits])
    best, _, where = fits[int(chi2.argmin())]
    looser = fit_event(*where, list(best.parameters))
    chance = np.exp(-0.5 * (chi2 - chi2.min()))
    chance /= chance.sum()
    logs = np.array([_log_parameters(fit, table, times) for fit, table, _ in fits])
    strength, strength_err = _mixture(logs[:, 0], logs[:, 1], chance)
    crossing, crossing_err = _mixture(logs[:, 2], logs[:, 3], chance)
    return LensParameters(
        strength=strength,
        strength_err=strength_err,
        crossing_days=crossing,
        crossing_err_days=crossing_err,
        source_size=float(np.exp(chance @ np.log(_SIZES * source_size))),
        delta_chi2=max(best.chi2 - looser.chi2, 0.0),
    )


def lens_shape(lens: LensParameters) -> Shape | None:
    """Dip of the fitted lens at unit depth and unit full width; None where none was fitted."""
    if not math.isfinite(lens.strength):
        return None
    table = lens_table(lens.source_size)
    profile = table.profile(lens.strength)
    return lambda phase: np.interp(np.abs(phase), table.phase, profile / profile[0], right=0.0)


def _mixture(logs: np.ndarray, errors: np.ndarray, chance: np.ndarray) -> tuple[float, float]:
    """Value and error of what is known by its logarithm under each of several models."""
    mean, spread = _moments(logs, chance)
    return math.exp(mean), math.exp(mean) * math.sqrt(spread**2 + chance @ np.square(errors))


def _log_parameters(
    fit: EventFit, table: LensTable, times: EventTimes
) -> tuple[float, float, float, float]:
    """Logarithms of strength and crossing time of one fit, each with its error (NaN at an edge)."""
    log_strength = fit.parameters[3]
    strength = math.exp(log_strength)
    log_width = math.log(2 * table.width(strength))
    log_crossing = math.log(times.duration_days) + fit.parameters[1] - log_width
    information = fit.jacobian.T @ fit.jacobian
    if np.linalg.cond(information) > 1e12 or strength > 0.98 * MAX_STRENGTH:
        return log_strength, math.nan, log_crossing, math.nan
    covariance = np.linalg.inv(information)  # of shift, ln stretch, ln strength
    step = 0.02
    slope = (log_width - math.log(2 * table.width(strength * math.exp(step)))) / step
    variance = covariance[1, 1] + slope**2 * covariance[2, 2] + 2 * slope * covariance[1, 2]
    return log_strength, math.sqrt(covariance[2, 2]), log_crossing, math.sqrt(max(variance, 0.0))
