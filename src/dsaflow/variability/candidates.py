"""From the search's best events to a ranked list of candidates."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dsaflow.config.sections import Variability
from dsaflow.variability.chromatic import measure_chromaticity
from dsaflow.variability.curves import LightCurves
from dsaflow.variability.falsealarm import FalseAlarms, calibrate_threshold
from dsaflow.variability.normalise import Normalised
from dsaflow.variability.search import VETOES, Events, SearchRules, search
from dsaflow.variability.templates import TemplateBank, build_bank, event_shapes
from dsaflow.variability.vetoes import neighbour_depth

# A neighbour's mean depth above this share of the candidate's, at 3 sigma, is a common cause.
_COMMON_SHARE = 0.25


@dataclass
class SearchResult:
    """Everything the search says.

    Attributes
    ----------
    events : Events
        Best event of each source.
    bank : TemplateBank
    false_alarms : FalseAlarms or None
        None where there were too few epochs or sources to search.
    searched : ndarray of bool, shape (n_source,)
    veto : ndarray of str, shape (n_source,)
        Why a source above the threshold is no candidate; empty otherwise.
    candidates : list of dict
        One a candidate, by rank.
    """

    events: Events
    bank: TemplateBank | None
    false_alarms: FalseAlarms | None
    searched: np.ndarray
    veto: np.ndarray
    candidates: list[dict[str, Any]] = field(default_factory=list)


def find_candidates(
    curves: LightCurves, normal: Normalised, bands: list[Normalised], options: Variability
) -> SearchResult:
    """Search every light curve for a dip, calibrate the threshold, veto, rank and describe.

    Sources below ``search_min_snr`` or with fewer than ``min_epochs`` epochs are not searched.
    """
    n_source = len(curves.source_id)
    measured = np.isfinite(normal.flux).sum(axis=1)
    searched = (measured >= options.min_epochs) & (curves.median_snr > options.search_min_snr)
    events = Events.none(n_source)
    veto = np.full(n_source, "", dtype="U20")
    result = SearchResult(events, None, None, searched, veto)
    index = np.flatnonzero(searched)
    if len(index) == 0:
        return result
    shapes = event_shapes(options.lens_strengths, options.lens_source_size)
    bank = build_bank(curves.mjd, shapes, options.min_event_epochs, options.duration_ratio)
    result.bank = bank
    rules = SearchRules(options.min_event_epochs, options.max_single_contribution)
    y, variance = normal.flux[index], normal.variance[index]
    found = search(y, variance, bank, rules)
    events.put(index, found, np.arange(len(index)))
    result.false_alarms = calibrate_threshold(
        y,
        variance,
        bank,
        rules,
        found,
        options.false_alarms_per_survey,
        options.permutations,
        options.block_epochs,
        options.seed,
    )
    above = np.flatnonzero(events.log_likelihood_ratio > result.false_alarms.threshold)
    veto[above] = np.array(VETOES)[events.veto[above]]
    order = above[np.argsort(-events.log_likelihood_ratio[above], kind="stable")]
    for source in order:
        if veto[source]:
            continue
        candidate = _describe(int(source), curves, normal, bands, result, options)
        if _common_cause(candidate, options):
            veto[source] = "neighbours_dip"
            continue
        candidate["rank"] = len(result.candidates) + 1
        result.candidates.append(candidate)
    return result


def _common_cause(candidate: dict[str, Any], options: Variability) -> bool:
    """Whether the neighbours dip too: on average, or two of them by themselves."""
    if candidate["n_neighbours"] < options.neighbour_min:
        return False
    mean, error = candidate["neighbour_depth"], candidate["neighbour_depth_err"]
    together = mean > _COMMON_SHARE * candidate["depth"] and mean > 3 * error
    return together or candidate["n_neighbours_dipping"] >= 2


def _describe(
    source: int,
    curves: LightCurves,
    normal: Normalised,
    bands: list[Normalised],
    result: SearchResult,
    options: Variability,
) -> dict[str, Any]:
    """All columns of one candidate."""
    events, bank = result.events, result.bank
    if bank is None or result.false_alarms is None:
        raise ValueError("a candidate without a search")
    k = int(events.template[source])
    ratio = float(events.log_likelihood_ratio[source])
    start, duration = float(bank.start_mjd[k]), float(bank.duration_days[k])
    mean, error, dipping, near = neighbour_depth(
        source,
        bank.dip[k],
        float(events.depth[source]),
        normal.flux,
        normal.variance,
        np.nan_to_num(np.square(normal.scale.source_excess)),
        curves.ra_deg,
        curves.dec_deg,
        options.neighbour_radius_deg,
        options.neighbour_number,
    )
    colour = measure_chromaticity(
        np.array([b.flux[source] for b in bands]).reshape(len(bands), -1),
        np.array([b.variance[source] for b in bands]).reshape(len(bands), -1)
        + events.excess[source],
        curves.band_freq_hz,
        curves.mjd,
        bank.dip[k],
        float(bank.mid_mjd[k]),
        duration,
        float(events.depth[source]),
        options.lens_source_size,
    )
    inside = (curves.mjd >= start) & (curves.mjd <= start + duration)
    first = int(np.argmax(inside & np.isfinite(normal.flux[source])))
    return {
        "rank": 0,
        "source": source,
        "template_index": k,
        "neighbours": near,
        "source_id": str(curves.source_id[source]),
        "ra_deg": float(curves.ra_deg[source]),
        "dec_deg": float(curves.dec_deg[source]),
        "significance": float(np.sqrt(2 * ratio)),
        "log_likelihood_ratio": ratio,
        "false_alarms_per_survey": float(result.false_alarms.expected(np.array(ratio))),
        "start_mjd": start,
        "start_epoch": int(curves.epoch[first]),
        "mid_mjd": float(bank.mid_mjd[k]),
        "duration_days": duration,
        "depth": float(events.depth[source]),
        "depth_err": float(events.depth_err[source]),
        "template": bank.shape[bank.shape_index[k]],
        "baseline_flux_jy": float(events.baseline[source] * normal.level_jy[source]),
        "excess": float(np.sqrt(events.excess[source])),
        "n_epochs": int(events.n_epochs[source]),
        "largest_contribution": float(events.largest_single[source]),
        "chromatic_ratio": colour.ratio,
        "chromatic_ratio_err": colour.ratio_err,
        "chromatic_log_ratio": colour.log_ratio,
        "chromatic_label": colour.label,
        "band_depth": colour.depth,
        "band_depth_err": colour.depth_err,
        "neighbour_depth": mean,
        "neighbour_depth_err": error,
        "n_neighbours": len(near),
        "n_neighbours_dipping": dipping,
        "flags": _flags(source, curves, normal, events, inside, len(near), options),
    }


def _flags(
    source: int,
    curves: LightCurves,
    normal: Normalised,
    events: Events,
    inside: np.ndarray,
    n_neighbours: int,
    options: Variability,
) -> str:
    """What a reader must know, separated by semicolons."""
    flags = []
    if events.excess[source] > np.nanmedian(normal.variance[source]):
        flags.append("variable_outside")
    if n_neighbours < options.neighbour_min:
        flags.append("few_neighbours")
    if not normal.scale.measured[inside].all():
        flags.append("scale_unmeasured")
    if not curves.compact[source]:
        flags.append("extended")
    if not curves.isolated[source]:
        flags.append("blended")
    return ";".join(flags)
