"""Columns of the table of candidates, and its forms for other tools."""

import os
from typing import Any

import numpy as np

from dsaflow.fileio import atomic_file
from dsaflow.variability.products import Columns

_COLUMNS: dict[str, tuple[type, str, str]] = {
    "rank": (int, "", "by log likelihood ratio"),
    "source_id": (str, "", "catalogue name"),
    "ra_deg": (float, "deg", "ICRS"),
    "dec_deg": (float, "deg", "ICRS"),
    "significance": (float, "", "sqrt(2 ln LR): sigma of a single trial"),
    "log_likelihood_ratio": (float, "", "event against constant baseline"),
    "false_alarms_per_survey": (float, "", "expected above this ln LR, all sources"),
    "false_alarms_per_survey_low": (float, "", "5th percentile: how well that is known"),
    "false_alarms_per_survey_high": (float, "", "95th percentile"),
    "false_alarms_per_source_year": (float, "1/yr", "of observed time, expected above this ln LR"),
    "q_value": (float, "", "least false discovery rate of a list that holds this candidate"),
    "probability_real": (float, "", "event and no false alarm, for 0.017 events a source-year"),
    "efficiency": (float, "", "share of such events that the search finds; NaN: not known"),
    "efficiency_low": (float, "", "95 % interval"),
    "efficiency_high": (float, "", "95 % interval"),
    "start_mjd": (float, "d", "UTC, half of the depth reached"),
    "start_err_days": (float, "d", "1 sigma"),
    "start_epoch": (int, "d", "first sidereal day in the event"),
    "mid_mjd": (float, "d", "UTC"),
    "mid_err_days": (float, "d", "1 sigma"),
    "duration_days": (float, "d", "full width at half depth"),
    "duration_err_days": (float, "d", "1 sigma"),
    "depth": (float, "", "relative to the baseline"),
    "depth_err": (float, "", "1 sigma"),
    "event_class": (str, "", "event, no_recovery or no_onset: what the data's span shows of it"),
    "template": (str, "", "shape; lens_<alpha> after Clegg et al. 1998"),
    "fitted_with": (str, "", "shape that start, duration and depth are of: template or lens"),
    "median_snr": (float, "", "of an epoch"),
    "baseline_flux_jy": (float, "Jy", "outside the event"),
    "excess": (float, "", "scatter outside the event beyond the errors"),
    "n_epochs": (int, "", "in the dip and favouring it"),
    "n_epochs_event": (int, "", "measured between start and end"),
    "epochs_event": (str, "", "their sidereal-day numbers"),
    "largest_contribution": (float, "", "of one epoch to the improvement"),
    "lens_strength": (float, "", "alpha at the band's centre if all of the source is lensed"),
    "lens_strength_err": (float, "", "1 sigma"),
    "lens_crossing_days": (float, "d", "lens's 1/e half width over its transverse velocity"),
    "lens_crossing_err_days": (float, "d", "1 sigma"),
    "lens_source_size": (float, "", "Gaussian sigma of the source in lens radii"),
    "lens_delta_chi2": (float, "", "worse than a lens that covers part of the source"),
    "chromatic_ratio": (float, "", "depth in the lowest sub-band over the highest"),
    "chromatic_ratio_err": (float, "", "1 sigma"),
    "chromatic_log_ratio": (float, "", "ln LR of a plasma lens against an achromatic event"),
    "chromatic_expected_lens": (float, "", "the same on average were the best lens true"),
    "chromatic_expected_achromatic": (float, "", "the same were the best achromatic event true"),
    "chromatic_label": (str, "", "chromatic, achromatic, undecided"),
    "neighbour_depth": (float, "", "mean depth of the same event in neighbours"),
    "neighbour_depth_err": (float, "", "1 sigma"),
    "n_neighbours": (int, "", "that could show it"),
    "n_neighbours_dipping": (int, "", "that dip by half of the depth at 4 sigma"),
    "beam_response_event": (float, "", "median over the event's epochs"),
    "beam_response_outside": (float, "", "median over the others"),
    "edge_distance_deg": (float, "deg", "least distance to a mosaic's edge in the event"),
    "n_tiles_event": (float, "", "median over the event's epochs"),
    "n_tiles_outside": (float, "", "median over the others"),
    "n_warned": (int, "", "epochs of the event with a quality warning"),
    "warned_share_outside": (float, "", "of the other epochs"),
    "n_blend": (int, "", "most sources fitted together in the event; -1: not known"),
    "known_variable": (str, "", "known variable at this position"),
    "sun_distance_deg": (float, "deg", "least during the event"),
    "galactic_latitude_deg": (float, "deg", ""),
    "flags": (str, "", "separated by semicolons"),
}


def candidate_columns(candidates: list[dict[str, Any]], band_freq_hz: np.ndarray) -> Columns:
    """One row a candidate."""
    columns: Columns = {}
    for name, (kind, unit, meaning) in _COLUMNS.items():
        columns[name] = (np.array([c[name] for c in candidates], dtype=kind), unit, meaning)
    for k, frequency in enumerate(band_freq_hz):
        for name in ("depth", "depth_err"):
            values = np.array([c[f"band_{name}"][k] for c in candidates], float)
            columns[f"{name}_b{k}"] = (values, "", f"sub-band at {frequency / 1e6:.1f} MHz")
    return columns


def _astropy_table(columns: Columns, metadata: dict[str, Any]) -> Any:
    from astropy.table import Column, Table

    table = Table(meta=metadata)
    for name, (values, unit, meaning) in columns.items():
        values = np.asarray(values)
        if values.dtype.kind == "U" and values.dtype.itemsize == 0:
            values = values.astype("U1")
        table[name] = Column(values, unit=unit or None, description=meaning)
    return table


def write_ecsv(path: str | os.PathLike, columns: Columns, **metadata: Any) -> None:
    """Write the table as ECSV, for people and for astropy."""
    with atomic_file(path) as temporary:
        _astropy_table(columns, metadata).write(temporary, format="ascii.ecsv", overwrite=True)


def write_votable(path: str | os.PathLike, columns: Columns, **metadata: Any) -> None:
    """Write the table as VOTable 1.4, for TOPCAT and other tools of the virtual observatory."""
    from astropy.io.votable import from_table
    from astropy.io.votable.tree import Info

    file = from_table(_astropy_table(columns, {}))
    for name, value in metadata.items():
        file.resources[0].infos.append(Info(name=name, value=str(value)))
    with atomic_file(path) as temporary:
        file.to_xml(str(temporary))
