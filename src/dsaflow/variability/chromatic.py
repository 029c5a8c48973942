"""Is the event deeper at long wavelengths: a plasma lens against an achromatic event."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from dsaflow.variability.lenstable import MAX_STRENGTH, LensTable, lens_table
from dsaflow.variability.templates import flat_dip, gaussian_dip
from dsaflow.variability.vetoes import fit_depths

# |ln LR|, measured and expected, that calls a label: odds of 150 to 1.
DECISIVE_LOG_RATIO = 5.0
# Lens strengths from which the fits start, and the least that they may reach.
_START_STRENGTHS = (0.2, 0.4, 0.7, 1.0, 1.5, 2.2, 3.5, 6.0, 12.0)
_LEAST_STRENGTH = 0.05
# Sizes of the source that are tried, relative to the configured one.
_SIZES = (0.5, 1.0, 2.0)
_START_STRETCHES = (0.7, 1.0, 1.4)
# A measurement this far from both hypotheses is interference in one sub-band, not a colour.
_REJECT_SIGMA = 5.0
# More of them than this share are no accidents: neither hypothesis has the event's shape.
MOST_REJECTED = 0.03

# Dips in every sub-band, shape (n_band, n_epoch), from phase, amplitude and strength.
BandDips = Callable[[np.ndarray, float, float], np.ndarray]


@dataclass
class Chromaticity:
    """Depth against frequency of one event.

    Attributes
    ----------
    depth, depth_err : ndarray, shape (n_band,)
        Relative depth of the candidate's own template in each sub-band.
    ratio, ratio_err : float
        Depth in the lowest sub-band over that in the highest; NaN where the latter is below 2
        sigma.
    log_ratio : float
        ln likelihood of the best plasma lens minus that of the best achromatic event.
    expected_lens, expected_achromatic : float
        What `log_ratio` would be on average were the best lens, or the best achromatic event, the
        truth: > 0 and < 0. It scatters about that by sqrt(2 |expected|).
    lens_depth, achromatic_depth : ndarray, shape (n_band,)
        `depth` of the two hypotheses' best fits.
    chi2, n_freedom : float
        Of the better of the two hypotheses.
    label : {"chromatic", "achromatic", "undecided"}
    """

    depth: np.ndarray
    depth_err: np.ndarray
    ratio: float = math.nan
    ratio_err: float = math.nan
    log_ratio: float = math.nan
    expected_lens: float = math.nan
    expected_achromatic: float = math.nan
    lens_depth: np.ndarray = field(default_factory=lambda: np.zeros(0))
    achromatic_depth: np.ndarray = field(default_factory=lambda: np.zeros(0))
    chi2: float = math.nan
    n_freedom: int = 0
    label: str = "undecided"


@dataclass
class BandData:
    """Sub-band curves of one source.

    Attributes
    ----------
    curve : ndarray, shape (n_band, n_epoch)
        Normalised flux; 0 where not measured.
    root_weight : ndarray, shape (n_band, n_epoch)
        1 over the error; 0 where not measured.
    mjd : ndarray, shape (n_epoch,)
    freq_hz : ndarray, shape (n_band,)
    """

    curve: np.ndarray
    root_weight: np.ndarray
    mjd: np.ndarray
    freq_hz: np.ndarray

    @classmethod
    def of(
        cls, curve: np.ndarray, variance: np.ndarray, mjd: np.ndarray, freq_hz: np.ndarray
    ) -> "BandData":
        """From curves with NaN where not measured."""
        seen = np.isfinite(curve) & np.isfinite(variance) & (variance > 0)
        root = np.where(seen, 1 / np.sqrt(np.where(seen, variance, 1.0)), 0.0)
        return cls(np.where(seen, curve, 0.0), root, mjd, freq_hz)


@dataclass
class EventFit:
    """One hypothesis fitted to all sub-bands, a baseline for each.

    Attributes
    ----------
    chi2 : float
    model : ndarray, shape (n_band, n_epoch)
    parameters : ndarray
        Shift of the mid time [durations], ln of the stretch of the duration, covered fraction,
        and for lenses ln strength.
    jacobian : ndarray, shape (n_datum, n_parameter)
        Of the weighted residuals.
    """

    chi2: float
    model: np.ndarray
    parameters: np.ndarray
    jacobian: np.ndarray


def depth_scaling(depth: float, freq_hz: np.ndarray) -> np.ndarray:
    """Depth on the axis of a lens in each sub-band over that at the mean of the frequencies.

    The depth is alpha / (1 + alpha) (Clegg et al. 1998), alpha scales as wavelength squared.
    """
    depth = float(np.clip(depth, 0.01, 0.99))
    strength = depth / (1 - depth) * np.square(freq_hz.mean() / freq_hz)
    return strength / (1 + strength) / depth


def measure_chromaticity(
    curve: np.ndarray,
    variance: np.ndarray,
    freq_hz: np.ndarray,
    mjd: np.ndarray,
    dip: np.ndarray,
    mid_mjd: float,
    duration_days: float,
    event_depth: float,
    source_size: float,
) -> Chromaticity:
    """Fit the event to all sub-bands as a plasma lens and as an achromatic event.

    Parameters
    ----------
    curve, variance : ndarray, shape (n_band, n_epoch)
        Normalised sub-band curves; NaN where not measured.
    freq_hz : ndarray, shape (n_band,)
    mjd : ndarray, shape (n_epoch,)
    dip : ndarray, shape (n_epoch,)
        The candidate's template.
    mid_mjd, duration_days, event_depth : float
        As found in the whole band.
    source_size : float
        Lens radii; half and twice of it are tried too.

    Notes
    -----
    Both hypotheses have the same shapes and free parameters (mid time, duration, the fraction of
    the source that is covered, strength, a baseline for each sub-band), so that only colour tells
    them apart: lenses with their strength scaled as wavelength squared or frozen, and a Gaussian
    and a flat dip with the depth of a lens scaled likewise or frozen.

    The expected ratio is that of the noiseless best fit of one hypothesis under the other (the
    Asimov data set of Cowan et al. 2011, section 3.2). A label needs |ln LR| and both |expected|
    of 5: a truth contradicted by that much has a probability below e^-5 = 0.7 %, and where the
    sub-bands could not tell a lens from an achromatic event, chance must not.
    """
    depth, error = fit_depths(curve, variance, dip)
    result = Chromaticity(depth, error)
    if len(freq_hz) < 2:
        return result
    low, high = int(np.argmin(freq_hz)), int(np.argmax(freq_hz))
    if depth[high] > 2 * error[high]:
        result.ratio = float(depth[low] / depth[high])
        result.ratio_err = float(np.hypot(error[low], result.ratio * error[high]) / depth[high])
    data = BandData.of(curve, variance, mjd, freq_hz)
    if (data.root_weight > 0).any(axis=1).sum() < 2:
        return result
    start = mid_mjd, duration_days, float(np.clip(event_depth, 0.02, 0.98))
    lens, plain = (_best_fit(data, *start, source_size, frozen) for frozen in (False, True))
    better = lens if lens.chi2 < plain.chi2 else plain
    far = np.abs(data.root_weight * (data.curve - better.model)) > _REJECT_SIGMA
    if 0 < far.sum() <= MOST_REJECTED * (data.root_weight > 0).sum():
        data.root_weight = np.where(far, 0.0, data.root_weight)
        lens, plain = (_best_fit(data, *start, source_size, frozen) for frozen in (False, True))
    result.lens_depth = fit_depths(lens.model, variance, dip)[0]
    result.achromatic_depth = fit_depths(plain.model, variance, dip)[0]
    result.log_ratio = 0.5 * (plain.chi2 - lens.chi2)
    result.chi2 = min(plain.chi2, lens.chi2)
    result.n_freedom = int((data.root_weight > 0).sum()) - len(freq_hz) - 4
    seen_as_plain, seen_as_lens = (
        _best_fit(
            BandData(truth.model, data.root_weight, mjd, freq_hz), *start, source_size, frozen
        )
        for truth, frozen in ((lens, True), (plain, False))
    )
    result.expected_lens = 0.5 * seen_as_plain.chi2
    result.expected_achromatic = -0.5 * seen_as_lens.chi2
    result.label = _label(result)
    return result


def _label(result: Chromaticity) -> str:
    telling = min(result.expected_lens, -result.expected_achromatic) >= DECISIVE_LOG_RATIO
    if not telling or abs(result.log_ratio) < DECISIVE_LOG_RATIO:
        return "undecided"
    return "chromatic" if result.log_ratio > 0 else "achromatic"


def _best_fit(
    data: BandData,
    mid_mjd: float,
    duration_days: float,
    depth: float,
    source_size: float,
    frozen: bool,
) -> EventFit:
    """Best event of one hypothesis: the best start of the lenses, and the plain shapes, refined."""
    fits = [
        fit_event(data, dips, mid_mjd, duration_days, start)
        for dips, start in _plain_shapes(data.freq_hz, depth, frozen)
    ]
    table, start = _lens_start(data, mid_mjd, duration_days, depth, source_size, frozen)
    fits.append(
        fit_event(data, lens_dips(table, data.freq_hz, frozen), mid_mjd, duration_days, start)
    )
    return min(fits, key=lambda fit: fit.chi2)


def _plain_shapes(
    freq_hz: np.ndarray, depth: float, frozen: bool
) -> Iterator[tuple[BandDips, list[float]]]:
    for shape in (gaussian_dip, flat_dip):

        def dips(phase: np.ndarray, covered: float, _: float, shape=shape) -> np.ndarray:
            tilt = np.ones(len(freq_hz)) if frozen else depth_scaling(covered, freq_hz)
            return tilt[:, None] * shape(phase)

        yield dips, [0.0, 0.0, depth]


def lens_dips(table: LensTable, freq_hz: np.ndarray, frozen: bool = False) -> BandDips:
    """Dips of the table's lenses, for `fit_event`."""
    return lambda phase, _, strength: table.bands(phase, strength, freq_hz, frozen)


def _lens_start(
    data: BandData,
    mid_mjd: float,
    duration_days: float,
    depth: float,
    source_size: float,
    frozen: bool,
) -> tuple[LensTable, list[float]]:
    """The most likely of a few lenses that could be as deep, at the event's mid time."""
    best, choice = -1.0, (lens_table(source_size), [0.0, 0.0, depth, 0.0])
    for size in _SIZES:
        table = lens_table(size * source_size)
        for strength in _START_STRENGTHS:
            covered = min(depth / table.profile(strength)[0], 1.0)
            dips = np.array(
                [
                    table.bands(
                        (data.mjd - mid_mjd) / (duration_days * stretch),
                        strength,
                        data.freq_hz,
                        frozen,
                    )
                    for stretch in _START_STRETCHES
                ]
            )
            gain = _common_amplitude_gain(data, dips)
            if gain.max() > best:
                best = float(gain.max())
                stretch = math.log(_START_STRETCHES[int(gain.argmax())])
                choice = table, [0.0, stretch, covered, math.log(strength)]
    return choice


def fit_event(
    data: BandData,
    dips: BandDips,
    mid_mjd: float,
    duration_days: float,
    start: list[float],
    max_strength: float = MAX_STRENGTH,
    covered: float | None = None,
) -> EventFit:
    """Least squares of baseline x (1 - covered fraction x dip), the baselines solved for exactly.

    Parameters
    ----------
    start : list of float
        As `EventFit.parameters`; three for shapes without a strength.
    covered : float, optional
        Hold the covered fraction at this.
    """
    from scipy.optimize import least_squares

    low = np.array([-0.5, -0.9, 1e-3, math.log(_LEAST_STRENGTH)])[: len(start)]
    high = np.array([0.5, 0.9, 1.0, math.log(max_strength)])[: len(start)]
    free = np.array([True, True, covered is None, True])[: len(start)]
    whole = np.array(start, float)
    if covered is not None:
        whole[2] = covered

    def model(values: np.ndarray) -> np.ndarray:
        whole[free] = values
        phase = (data.mjd - mid_mjd - whole[0] * duration_days) / (
            duration_days * math.exp(whole[1])
        )
        strength = math.exp(whole[3]) if len(whole) > 3 else 0.0
        shape = 1 - whole[2] * dips(phase, whole[2], strength)
        weighted = np.square(data.root_weight) * shape
        norm = np.maximum((weighted * shape).sum(axis=1), 1e-300)
        return ((weighted * data.curve).sum(axis=1) / norm)[:, None] * shape

    def residual(values: np.ndarray) -> np.ndarray:
        return (data.root_weight * (data.curve - model(values))).ravel()

    inside = np.clip(whole[free], low[free] + 1e-6, high[free] - 1e-6)
    fit = least_squares(
        residual, inside, bounds=(low[free], high[free]), diff_step=1e-4, x_scale=0.1, max_nfev=60
    )
    best = model(fit.x)
    return EventFit(2 * float(fit.cost), best, whole.copy(), fit.jac)


def _common_amplitude_gain(data: BandData, dip: np.ndarray) -> np.ndarray:
    """Chi-squared improvement with one amplitude for all sub-bands and a baseline for each."""
    weight = np.square(data.root_weight)
    norm = np.maximum(weight.sum(axis=-1), 1e-300)
    residual = data.curve - ((weight * data.curve).sum(axis=-1) / norm)[:, None]
    shifted = dip - ((weight * dip).sum(axis=-1) / norm)[..., None]
    projection = -(weight * residual * shifted).sum(axis=(-1, -2))
    information = (weight * np.square(shifted)).sum(axis=(-1, -2))
    safe = np.where(information > 0, information, 1.0)
    return np.where((projection > 0) & (information > 0), np.square(projection) / safe, 0.0)
