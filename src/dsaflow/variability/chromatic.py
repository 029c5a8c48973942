"""Is the event deeper at long wavelengths: depths by sub-band, lens against achromatic dip."""

import functools
import math
from dataclasses import dataclass

import numpy as np

from dsaflow.variability.lens import plasma_lens_gain
from dsaflow.variability.templates import Shape, event_shapes
from dsaflow.variability.vetoes import fit_depths

# Lens strengths at the band's centre that are tried against the achromatic shapes.
_STRENGTHS = (0.5, 0.7, 1.0, 1.4, 2.0, 3.0, 5.0, 8.0, 14.0, 30.0)
# ln LR that calls the label; below it the band cannot decide.
DECISIVE_LOG_RATIO = 5.0
_DURATION_STEPS = np.array([0.64, 0.8, 0.9, 1.0, 1.11, 1.25, 1.56])
_MID_STEPS = np.array([-0.2, -0.1, 0.0, 0.1, 0.2])


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
        ln likelihood of the best plasma lens minus that of the best achromatic shape.
    label : {"chromatic", "achromatic", "undecided"}
    """

    depth: np.ndarray
    depth_err: np.ndarray
    ratio: float
    ratio_err: float
    log_ratio: float
    label: str


@functools.cache
def _profile(strength: float, source_size: float) -> tuple[np.ndarray, np.ndarray]:
    offset = np.linspace(0, 30, 3001)
    return offset, 1 - plasma_lens_gain(offset, strength, source_size)


def half_width(strength: float, source_size: float) -> float:
    """Offset (in lens radii) at which a lens's dip has half its central depth."""
    offset, dip = _profile(strength, source_size)
    return float(offset[np.argmax(dip < 0.5 * dip[0])])


def lens_bands(
    phase: np.ndarray, strength: float, source_size: float, freq_hz: np.ndarray
) -> np.ndarray:
    """Dip of one lens in every sub-band, its strength scaled as wavelength squared.

    Parameters
    ----------
    phase : ndarray, shape (n_epoch,)
        (t - mid) / duration, the duration being the full width at half depth at the mean of the
        frequencies.
    strength : float
        alpha at the mean of the frequencies.
    freq_hz : ndarray, shape (n_band,)

    Returns
    -------
    ndarray, shape (n_band, n_epoch)
        1 - gain.
    """
    offset = np.abs(phase) * 2 * half_width(strength, source_size)
    scaled = strength * np.square(freq_hz.mean() / freq_hz)
    return np.array([np.interp(offset, *_profile(float(a), source_size), right=0) for a in scaled])


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
    """Fit the event to each sub-band and compare a plasma lens with an achromatic event.

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

    Notes
    -----
    Both hypotheses have the same shapes and free parameters (amplitude, mid time, duration, a
    baseline for each sub-band), so that only colour tells them apart: each lens with its strength
    scaled as wavelength squared or frozen; the Gaussian dip and the box with the depth of a lens,
    alpha / (1 + alpha), scaled likewise, or frozen.
    """
    if len(freq_hz) < 2:
        nothing = np.full(len(freq_hz), np.nan)
        return Chromaticity(nothing, nothing, math.nan, math.nan, math.nan, "undecided")
    depth, error = fit_depths(curve, variance, dip)
    low, high = int(np.argmin(freq_hz)), int(np.argmax(freq_hz))
    ratio = ratio_err = math.nan
    if depth[high] > 2 * error[high]:
        ratio = float(depth[low] / depth[high])
        ratio_err = float(np.hypot(error[low], ratio * error[high]) / depth[high])
    shapes = event_shapes((), source_size)
    tilt = depth_scaling(event_depth, freq_hz)
    lens_gain = frozen_gain = 0.0
    for stretch in _DURATION_STEPS:
        for shift in _MID_STEPS:
            width = duration_days * stretch
            phase = (mjd - mid_mjd - shift * duration_days) / width
            lens, frozen = _improvements(curve, variance, freq_hz, phase, source_size, shapes, tilt)
            lens_gain, frozen_gain = max(lens_gain, lens), max(frozen_gain, frozen)
    log_ratio = 0.5 * (lens_gain - frozen_gain)
    label = "undecided"
    if log_ratio >= DECISIVE_LOG_RATIO:
        label = "chromatic"
    elif log_ratio <= -DECISIVE_LOG_RATIO:
        label = "achromatic"
    return Chromaticity(depth, error, ratio, ratio_err, log_ratio, label)


def _improvements(
    curve: np.ndarray,
    variance: np.ndarray,
    freq_hz: np.ndarray,
    phase: np.ndarray,
    source_size: float,
    shapes: dict[str, Shape],
    tilt: np.ndarray,
) -> tuple[float, float]:
    """Best chi-squared improvement of a lens, and of a shape frozen in frequency."""
    centre = np.array([freq_hz.mean()] * len(freq_hz))
    lens = [lens_bands(phase, a, source_size, freq_hz) for a in _STRENGTHS]
    frozen = [lens_bands(phase, a, source_size, centre) for a in _STRENGTHS]
    plain = [np.broadcast_to(shape(phase), curve.shape) for shape in shapes.values()]
    lens += [dip * tilt[:, None] for dip in plain]
    frozen += plain
    gains = _common_amplitude_gain(curve, variance, np.array(lens + frozen))
    return float(gains[: len(lens)].max()), float(gains[len(lens) :].max())


def _common_amplitude_gain(curve: np.ndarray, variance: np.ndarray, dip: np.ndarray) -> np.ndarray:
    """Chi-squared improvement with one amplitude for all sub-bands and a baseline for each."""
    mask = np.isfinite(curve) & np.isfinite(variance)
    weight = np.where(mask, 1 / np.where(mask, variance, 1.0), 0.0)
    y = np.where(mask, curve, 0.0)
    norm = np.maximum(weight.sum(axis=-1), 1e-300)
    residual = y - ((weight * y).sum(axis=-1) / norm)[:, None]
    shifted = dip - ((weight * dip).sum(axis=-1) / norm)[..., None]
    projection = -(weight * residual * shifted).sum(axis=(-1, -2))
    information = (weight * np.square(shifted)).sum(axis=(-1, -2))
    safe = np.where(information > 0, information, 1.0)
    return np.where((projection > 0) & (information > 0), np.square(projection) / safe, 0.0)
