"""From the search's best events to a ranked list of candidates."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dsaflow.config.sections import Variability
from dsaflow.variability.curves import LightCurves
from dsaflow.variability.describe import Survey, describe
from dsaflow.variability.efficiency import EfficiencyTable
from dsaflow.variability.falsealarm import FalseAlarms, calibrate_threshold
from dsaflow.variability.normalise import Normalised
from dsaflow.variability.search import VETOES, Events, SearchRules, search
from dsaflow.variability.surroundings import response_explains
from dsaflow.variability.templates import (
    TemplateBank,
    cadence_days,
    survey_bank,
)

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
    bank = survey_bank(curves.mjd, options)
    result.bank = bank
    rules = SearchRules.of(options)
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
    survey = Survey(curves, normal, bands, events, bank, options)
    for source in order:
        if veto[source]:
            continue
        candidate = describe(int(source), survey)
        veto[source] = _veto(candidate, options)
        if veto[source]:
            continue
        candidate["rank"] = len(result.candidates) + 1
        result.candidates.append(candidate)
    _add_chances(result, survey)
    return result


def _add_chances(result: SearchResult, survey: Survey) -> None:
    """Give each candidate its false-alarm rates, q-value, probability of being real, efficiency."""
    alarms, events = result.false_alarms, result.events
    if alarms is None or not result.candidates:
        return
    mjd, options = survey.curves.mjd, survey.options
    index = np.array([c["source"] for c in result.candidates])
    ratios = events.log_likelihood_ratio[index]
    announced = np.where((events.veto == 0) & (result.veto == ""), events.log_likelihood_ratio, 0.0)
    q_values = np.full(len(result.searched), np.nan)
    q_values[result.searched] = alarms.q_values(announced[result.searched])
    low, high = alarms.interval(ratios)
    columns = {
        "false_alarms_per_survey": alarms.expected(ratios),
        "false_alarms_per_survey_low": low,
        "false_alarms_per_survey_high": high,
        "false_alarms_per_source_year": alarms.per_source_year(ratios),
        "q_value": q_values[index],
        "probability_real": alarms.probability_real(
            ratios, events.snr[index], events.depth_err[index]
        ),
    }
    efficiencies = EfficiencyTable.read(options.efficiency_table)
    for k, candidate in enumerate(result.candidates):
        candidate |= {name: float(values[k]) for name, values in columns.items()}
        found = efficiencies.of(
            candidate["depth"],
            candidate["duration_days"],
            candidate["median_snr"],
            float(mjd[-1] - mjd[0]),
            cadence_days(mjd),
        )
        candidate |= {
            "efficiency": found.value,
            "efficiency_low": found.low,
            "efficiency_high": found.high,
        }


def _veto(candidate: dict[str, Any], options: Variability) -> str:
    """Why a dip is no candidate though the search allows it; empty if it is one."""
    if _common_cause(candidate, options):
        return "neighbours_dip"
    depth, error = candidate["depth"], candidate["depth_err"]
    if response_explains(candidate["around"], depth, error, options.beam_error_slope):
        return "beam_position"
    return ""


def _common_cause(candidate: dict[str, Any], options: Variability) -> bool:
    """Whether the neighbours dip too: on average, or two of them by themselves."""
    if candidate["n_neighbours"] < options.neighbour_min:
        return False
    mean, error = candidate["neighbour_depth"], candidate["neighbour_depth_err"]
    together = mean > _COMMON_SHARE * candidate["depth"] and mean > 3 * error
    return together or candidate["n_neighbours_dipping"] >= 2
