"""The variability stage: all epochs' photometry of a strip in, light curves and candidates out."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dsaflow.config import Config
from dsaflow.errors import DataRejected, ReasonCode
from dsaflow.variability import candidatetable, products
from dsaflow.variability.candidates import SearchResult, find_candidates
from dsaflow.variability.curves import LightCurves, build, empty, read_photometry
from dsaflow.variability.cutouts import by_group
from dsaflow.variability.falsealarm import FalseAlarms
from dsaflow.variability.normalise import normalise, normalise_bands
from dsaflow.variability.plots import write_candidate_plots
from dsaflow.variability.search import CLASSES
from dsaflow.variability.templates import cadence_days
from dsaflow.verdict import Gate, Verdict

_METHOD = "dip templates against a constant baseline"


def run(
    photometry_paths: Sequence[str | os.PathLike],
    outputs: Mapping[str, str | os.PathLike],
    config: Config,
    mosaic_paths: Sequence[str | os.PathLike] = (),
) -> Verdict:
    """Join all epochs of a strip into light curves, measure variability, search for ESEs.

    Parameters
    ----------
    photometry_paths : sequence of paths
        Photometry tables, one a mosaic; tables without rows are passed over.
    outputs : mapping
        Paths by name: light_curves, epoch_scale, metrics, ese_candidates, ese_candidates_ecsv,
        ese_candidates_votable, plots (a directory).
    config : Config
    mosaic_paths : sequence of paths
        Mosaic images, ``{group_id}/mosaic.fits``, from which the candidates' plots have cut-outs.

    Returns
    -------
    Verdict
        Rejected (with empty, valid tables) where there is no measurement or strips are mixed.
    """
    try:
        rows, band_freq_hz = read_photometry(photometry_paths)
        if not rows:
            raise DataRejected(
                ReasonCode.NO_DATA, f"no measurement in {len(photometry_paths)} photometry tables"
            )
        curves = build(rows, band_freq_hz)
    except DataRejected as error:
        _write(empty(), outputs, config)  # valid tables without rows
        return Verdict.rejected(error, n_sources=0, n_epochs=0, n_candidates=0)
    search, numbers, gates = _write(curves, outputs, config, by_group(mosaic_paths))
    verdict = Verdict(numbers=numbers, gates=gates)
    verdict.detail = _sentence(search, numbers)
    sentence = verdict.detail
    verdict.apply_gates(ReasonCode.TOO_FEW_SOURCES)
    if verdict.detail != sentence:
        verdict.detail = f"{sentence}; {verdict.detail}"
    return verdict


def _write(
    curves: LightCurves,
    outputs: Mapping[str, str | os.PathLike],
    config: Config,
    mosaics: Mapping[str, Path] | None = None,
) -> tuple[SearchResult, dict[str, Any], list[Gate]]:
    """Compute and write everything, the plots' manifest last."""
    options = config.variability
    normal = normalise(curves, options)
    bands = normalise_bands(curves, normal, options)
    search = find_candidates(curves, normal, bands, options)
    numbers = _numbers(curves, search)
    scale_columns = products.epoch_scale_columns(curves, normal, options)
    flags = scale_columns["flag"][0]
    numbers["n_epochs_few_references"] = int((flags == "few_references").sum())
    numbers["n_epochs_bad_fit"] = int((flags == "bad_fit").sum())
    numbers["n_references"] = int(normal.scale.is_reference.sum())
    numbers["scale_scatter"] = float(np.std(normal.scale.scale)) if len(curves.epoch) else None
    meta: dict[str, Any] = {
        "strip": curves.strip,
        "band_freq_hz": [float(f) for f in curves.band_freq_hz],
    }
    products.write_table(
        outputs["light_curves"], products.light_curve_columns(curves, normal, bands), **meta
    )
    products.write_table(outputs["epoch_scale"], scale_columns, **meta)
    products.write_table(
        outputs["metrics"], products.metrics_columns(curves, normal, search), **meta
    )
    table = candidatetable.candidate_columns(search.candidates, curves.band_freq_hz)
    meta |= {"method": _METHOD, "threshold_log_likelihood_ratio": numbers["threshold_ln_lr"]}
    products.write_table(outputs["ese_candidates"], table, **meta)
    candidatetable.write_ecsv(outputs["ese_candidates_ecsv"], table, **meta)
    candidatetable.write_votable(outputs["ese_candidates_votable"], table, **meta)
    write_candidate_plots(
        outputs["plots"], curves, normal, bands, search, options.max_plots, mosaics
    )
    measured = len(curves.epoch) - numbers["n_epochs_few_references"]
    share = measured / len(curves.epoch) if len(curves.epoch) else 0.0
    gates = [
        Gate.measure("epochs_with_measured_scale", share, low=0.5, failing="warn", unit="fraction")
    ]
    return search, numbers, gates


def _numbers(curves: LightCurves, search: SearchResult) -> dict[str, Any]:
    alarms = search.false_alarms
    vetoed = search.veto[search.veto != ""]
    return {
        "n_sources": len(curves.source_id),
        "n_epochs": len(curves.epoch),
        "span_days": float(np.ptp(curves.mjd)) if len(curves.mjd) else 0.0,
        "step_days": cadence_days(curves.mjd) if len(curves.mjd) > 1 else 0.0,
        "n_rows_used": int(curves.used.sum()),
        "n_searched": int(search.searched.sum()),
        "n_templates": len(search.bank) if search.bank is not None else 0,
        "bank": search.bank.summary() if search.bank is not None else None,
        "n_candidates": len(search.candidates),
        "n_vetoed": {str(name): int((vetoed == name).sum()) for name in np.unique(vetoed)},
        "threshold_ln_lr": alarms.threshold if alarms else None,
        "threshold_analytic_ln_lr": alarms.analytic if alarms else None,
        "threshold_permutation_ln_lr": alarms.permutation if alarms else None,
        "source_years": alarms.source_years if alarms else 0.0,
        "false_alarms_per_survey": _at_threshold(alarms, "expected"),
        "false_alarms_per_source_year": _at_threshold(alarms, "per_source_year"),
        "n_permutations": alarms.n_permutations if alarms else 0,
        "n_sources_permuted": alarms.n_quiet if alarms else 0,
        "unfinished": _unfinished(curves, search),
        "candidates": [c["source_id"] for c in search.candidates],
    }


def _unfinished(curves: LightCurves, search: SearchResult) -> list[str]:
    """Sources above the threshold of whose event the data show only the fall, or the return."""
    if search.false_alarms is None:
        return []
    one_sided = np.isin(np.array(CLASSES)[search.events.cls], ("no_recovery", "no_onset"))
    above = search.events.log_likelihood_ratio > search.false_alarms.threshold
    return [str(name) for name in curves.source_id[one_sided & above]]


def _at_threshold(alarms: FalseAlarms | None, rate: str) -> float | None:
    """False alarms expected above the threshold: in the survey, or per source-year."""
    return float(getattr(alarms, rate)(np.array(alarms.threshold))) if alarms else None


def _sentence(search: SearchResult, numbers: dict[str, Any]) -> str:
    if search.false_alarms is None:
        return f"nothing to search: {numbers['n_sources']} sources, {numbers['n_epochs']} epochs"
    return (
        f"{numbers['n_candidates']} candidates among {numbers['n_searched']} sources searched over "
        f"{numbers['n_epochs']} epochs (ln LR > {search.false_alarms.threshold:.1f})"
    )
