"""All that is said of one candidate: event, lens, colour, neighbours, circumstances, chances."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from dsaflow.config.sections import Variability
from dsaflow.variability.chromatic import measure_chromaticity
from dsaflow.variability.curves import LightCurves
from dsaflow.variability.eventfit import (
    EventTimes,
    LensParameters,
    Noise,
    fit_lens,
    fit_times,
    lens_shape,
)
from dsaflow.variability.normalise import Normalised
from dsaflow.variability.search import CLASSES, Events, clip_lone
from dsaflow.variability.surroundings import surroundings
from dsaflow.variability.templates import Shape, TemplateBank
from dsaflow.variability.vetoes import neighbour_depth

# Both hypotheses fit the sub-bands worse than chance would in this share of events.
_BAD_FIT_CHANCE = 1e-4
# The fitted lens has two parameters more than the bank's template.
_BETTER_CHI2 = 4.0


@dataclass
class Survey:
    """What every candidate of a strip is described from."""

    curves: LightCurves
    normal: Normalised
    bands: list[Normalised]
    events: Events
    bank: TemplateBank
    options: Variability


def describe(source: int, survey: Survey) -> dict[str, Any]:
    """Columns of one candidate, without its rank and its chances."""
    curves, normal, events = survey.curves, survey.normal, survey.events
    kind = int(events.shape_index[source])
    flux = np.array([b.flux[source] for b in survey.bands]).reshape(-1, len(curves.mjd))
    variance = (
        np.array([b.variance[source] for b in survey.bands]).reshape(-1, len(curves.mjd))
        + events.excess[source]
    )
    times, lens, shape = _fit(source, survey, flux, variance)
    is_template = shape is survey.bank.functions[kind]
    dip = shape((curves.mjd - times.mid_mjd) / times.duration_days)
    colour = measure_chromaticity(
        flux,
        variance,
        curves.band_freq_hz,
        curves.mjd,
        dip,
        times.mid_mjd,
        times.duration_days,
        times.depth,
        survey.options.lens_source_size,
    )
    inside = (curves.mjd >= times.start_mjd) & (curves.mjd <= times.start_mjd + times.duration_days)
    measured = inside & np.isfinite(normal.flux[source])
    around = surroundings(source, curves, inside, survey.options)
    neighbours = _neighbours(source, survey, dip)
    return {
        "source": source,
        "shape": shape,
        "event_class": CLASSES[int(events.cls[source])],
        "times": times,
        "source_id": str(curves.source_id[source]),
        "ra_deg": float(curves.ra_deg[source]),
        "dec_deg": float(curves.dec_deg[source]),
        "significance": float(np.sqrt(2 * events.log_likelihood_ratio[source])),
        "log_likelihood_ratio": float(events.log_likelihood_ratio[source]),
        "start_mjd": times.start_mjd,
        "start_err_days": times.start_err_days,
        "start_epoch": int(curves.epoch[int(np.argmax(measured))]),
        "mid_mjd": times.mid_mjd,
        "mid_err_days": times.mid_err_days,
        "duration_days": times.duration_days,
        "duration_err_days": times.duration_err_days,
        "depth": times.depth,
        "depth_err": times.depth_err,
        "template": survey.bank.shape[kind],
        "fitted_with": "template" if is_template else "lens",
        "median_snr": float(curves.median_snr[source]),
        "baseline_flux_jy": float(times.baseline * normal.level_jy[source]),
        "excess": float(np.sqrt(events.excess[source])),
        "n_epochs": int(events.n_epochs[source]),
        "n_epochs_event": int(measured.sum()),
        "epochs_event": " ".join(str(e) for e in curves.epoch[measured]),
        "largest_contribution": float(events.largest_single[source]),
        "lens_strength": lens.strength,
        "lens_strength_err": lens.strength_err,
        "lens_crossing_days": lens.crossing_days,
        "lens_crossing_err_days": lens.crossing_err_days,
        "lens_source_size": lens.source_size,
        "lens_delta_chi2": lens.delta_chi2,
        "chromatic_ratio": colour.ratio,
        "chromatic_ratio_err": colour.ratio_err,
        "chromatic_log_ratio": colour.log_ratio,
        "chromatic_expected_lens": colour.expected_lens,
        "chromatic_expected_achromatic": colour.expected_achromatic,
        "chromatic_label": colour.label,
        "band_depth": colour.depth,
        "band_depth_err": colour.depth_err,
        "colour": colour,
        **neighbours,
        **around.columns(),
        "around": around,
        "flags": ";".join(
            _flags(source, survey, inside, neighbours["n_neighbours"])
            + (["sub_bands_disagree"] if _bad_fit(colour.chi2, colour.n_freedom) else [])
            + around.flags
        ),
    }


def _fit(
    source: int, survey: Survey, flux: np.ndarray, variance: np.ndarray
) -> tuple[EventTimes, LensParameters, Shape]:
    """Times and depth with the best template or, where it fits better, the fitted lens.

    The bank's shapes are as far apart as its mismatch allows: at high S/N what they miss of an
    event would bias its depth.
    """
    curves, normal, events = survey.curves, survey.normal, survey.events
    red = float(events.red[source])
    own = normal.variance[source] + events.excess[source] - red
    noise = Noise(own, red, float(events.tau_days[source]))
    shape = survey.bank.functions[int(events.shape_index[source])]
    # A lone bad epoch would stretch the event to itself.
    whole = clip_lone(normal.flux[source], normal.variance[source])
    start = float(events.mid_mjd[source]), float(events.duration_days[source])
    times = fit_times(whole, noise, curves.mjd, shape, *start)
    size = survey.options.lens_source_size
    lens = fit_lens(flux, variance, curves.band_freq_hz, curves.mjd, times, size)
    other = lens_shape(lens)
    if other is not None:
        start = times.mid_mjd, times.duration_days
        better = fit_times(whole, noise, curves.mjd, other, *start)
        if better.delta_chi2 > times.delta_chi2 + _BETTER_CHI2:
            return better, lens, other
    return times, lens, shape


def _neighbours(source: int, survey: Survey, dip: np.ndarray) -> dict[str, Any]:
    curves, normal, options = survey.curves, survey.normal, survey.options
    mean, error, dipping, near = neighbour_depth(
        source,
        dip,
        float(survey.events.depth[source]),
        normal.flux,
        normal.variance,
        np.nan_to_num(np.square(normal.scale.source_excess)),
        curves.ra_deg,
        curves.dec_deg,
        options.neighbour_radius_deg,
        options.neighbour_number,
    )
    return {
        "neighbours": near,
        "neighbour_depth": mean,
        "neighbour_depth_err": error,
        "n_neighbours": len(near),
        "n_neighbours_dipping": dipping,
    }


def _bad_fit(chi2: float, n_freedom: int) -> bool:
    from scipy.special import gammaincc

    if n_freedom < 1 or not np.isfinite(chi2):
        return False
    return bool(gammaincc(0.5 * n_freedom, 0.5 * chi2) < _BAD_FIT_CHANCE)


def _flags(source: int, survey: Survey, inside: np.ndarray, n_neighbours: int) -> list[str]:
    """What a reader must know."""
    flags = []
    if survey.events.excess[source] > np.nanmedian(survey.normal.variance[source]):
        flags.append("variable_outside")
    if n_neighbours < survey.options.neighbour_min:
        flags.append("few_neighbours")
    if not survey.normal.scale.measured[inside].all():
        flags.append("scale_unmeasured")
    if not survey.curves.compact[source]:
        flags.append("extended")
    if not survey.curves.isolated[source]:
        flags.append("blended")
    return flags
