"""The output tables; every column has its unit and meaning in the schema."""

import json
import os
from typing import Any

import numpy as np

from dsaflow import __version__
from dsaflow.config.sections import Variability
from dsaflow.fileio import atomic_file
from dsaflow.variability import metrics
from dsaflow.variability.candidates import SearchResult
from dsaflow.variability.curves import LightCurves, nan_median
from dsaflow.variability.normalise import Normalised
from dsaflow.variability.search import CLASSES

# name -> (values, unit, meaning)
Columns = dict[str, tuple[Any, str, str]]


def write_table(path: str | os.PathLike, columns: Columns, **metadata: Any) -> None:
    """Write a Parquet table atomically, units and meanings in the column metadata."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrays, fields = [], []
    for name, (values, unit, meaning) in columns.items():
        values = np.asarray(values)
        kind = pa.string() if values.dtype.kind in "UO" else pa.from_numpy_dtype(values.dtype)
        arrays.append(pa.array(values.tolist() if kind == pa.string() else values, type=kind))
        fields.append(pa.field(name, kind, metadata={"unit": unit, "description": meaning}))
    content = {"version": __version__} | {
        key: value if isinstance(value, str) else json.dumps(value)
        for key, value in metadata.items()
    }
    table = pa.Table.from_arrays(arrays, schema=pa.schema(fields, metadata=content))
    with atomic_file(path) as temporary:
        pq.write_table(table, temporary)


def light_curve_columns(
    curves: LightCurves, normal: Normalised, bands: list[Normalised]
) -> Columns:
    """One row a source an epoch, rejected measurements too (``used`` false, normalised NaN)."""
    source, epoch = np.nonzero(curves.row >= 0)
    rows = curves.row[source, epoch]
    raw = curves.rows

    def at(grid: np.ndarray) -> np.ndarray:
        return np.asarray(grid, float)[source, epoch]

    scale = normal.scale
    columns: Columns = {
        "source_id": (curves.source_id[source], "", "catalogue name"),
        "ra_deg": (curves.ra_deg[source], "deg", "ICRS"),
        "dec_deg": (curves.dec_deg[source], "deg", "ICRS"),
        "strip": (raw["strip"][rows], "", "declination strip"),
        "epoch": (curves.epoch[epoch], "d", "sidereal-day number"),
        "mjd": (raw["mjd"][rows].astype(float), "d", "UTC, middle of the mosaic"),
        "group_id": (raw["group_id"][rows], "", "mosaic of highest weight"),
        "qa": (raw["qa"][rows], "", "verdict on the mosaic"),
        "used": (curves.used[source, epoch], "", "measured, and not rejected"),
        "is_limit": (raw["is_limit"][rows].astype(bool), "", "below the detection limit"),
        "upper_limit_jy": (raw["upper_limit_jy"][rows].astype(float), "Jy", "where is_limit"),
        "flux_jy": (raw["flux_jy"][rows].astype(float), "Jy", "as measured, no epoch scale"),
        "flux_err_jy": (raw["flux_err_jy"][rows].astype(float), "Jy", "1 sigma, no scale term"),
        "scale": (at(scale.source_scale), "", "epoch's flux scale without this source"),
        "scale_err": (at(scale.source_scale_err), "", "1 sigma, relative"),
        "epoch_excess": (scale.excess[epoch], "", "scatter of references beyond their errors"),
        "norm_flux": (at(normal.flux), "", "flux / scale / median over the epochs"),
        "norm_err": (np.sqrt(at(normal.variance)), "", "1 sigma, all relative terms"),
    }
    for k, band in enumerate(bands):
        meaning = f"sub-band at {curves.band_freq_hz[k] / 1e6:.1f} MHz"
        columns[f"flux_b{k}_jy"] = (at(curves.band_flux_jy[k]), "Jy", meaning)
        columns[f"flux_err_b{k}_jy"] = (at(curves.band_flux_err_jy[k]), "Jy", meaning)
        columns[f"norm_flux_b{k}"] = (at(band.flux), "", meaning)
        columns[f"norm_err_b{k}"] = (np.sqrt(at(band.variance)), "", meaning)
    return columns


def epoch_scale_columns(curves: LightCurves, normal: Normalised, options: Variability) -> Columns:
    """One row an epoch."""
    scale = normal.scale
    return {
        "epoch": (curves.epoch, "d", "sidereal-day number"),
        "mjd": (curves.mjd, "d", "UTC, median over the sources"),
        "scale": (scale.scale, "", "measured over true relative flux"),
        "scale_err": (scale.scale_err, "", "1 sigma, relative"),
        "excess": (scale.excess, "", "scatter of references beyond their errors"),
        "reduced_chi2": (scale.reduced_chi2, "", "of the references"),
        "n_references": (scale.n_references, "", "with positive weight"),
        "rejected": (scale.rejected, "", "fraction of the references without weight"),
        "spatial_order": (scale.order, "", "degree of the polynomial over the mosaic"),
        "spatial_rms": (scale.spatial_rms, "", "of ln scale over the references' positions"),
        "n_sources": (curves.used.sum(axis=0), "", "used measurements"),
        "calibration_err": (nan_median(curves.scale_err.T), "", "relative, from calibration"),
        "flag": (scale.flags(options.max_epoch_excess), "", "few_references, bad_fit, or empty"),
    }


def metrics_columns(curves: LightCurves, normal: Normalised, search: SearchResult) -> Columns:
    """One row a source; metrics are of the scaled fluxes with the epoch's scale error included."""
    flux = normal.flux * normal.level_jy[:, None]
    error = np.sqrt(normal.variance) * normal.level_jy[:, None]
    found = metrics.all_metrics(flux, error)
    limit = np.zeros(curves.row.shape, bool)
    if len(curves.rows["is_limit"]):
        limit = curves.used & curves.rows["is_limit"].astype(bool)[curves.row]
    label = np.append(curves.epoch, -1)
    events = search.events
    return {
        "source_id": (curves.source_id, "", "catalogue name"),
        "ra_deg": (curves.ra_deg, "deg", "ICRS"),
        "dec_deg": (curves.dec_deg, "deg", "ICRS"),
        "n_epochs": (found["n_epochs"], "", "used"),
        "n_limits": (limit.sum(axis=1), "", "of them below the detection limit"),
        "median_flux_jy": (normal.level_jy, "Jy", "of the scaled fluxes"),
        "mean_flux_jy": (found["mean"], "Jy", "weighted"),
        "median_snr": (curves.median_snr, "", "of an epoch"),
        "eta": (found["eta"], "", "Swinbank et al. 2015"),
        "v": (found["v"], "", "std / mean, Swinbank et al. 2015"),
        "v_noise": (found["v_noise"], "", "V of a constant source with these errors"),
        "excess_variance": (found["excess_variance"], "", "V^2 less noise, Vaughan et al. 2003"),
        "excess_variance_err": (found["excess_variance_err"], "", "1 sigma, by noise"),
        "vs": (found["vs"], "", "most significant pair, Mooley et al. 2016"),
        "m": (found["m"], "", "of that pair, Mooley et al. 2016"),
        "m_err": (found["m_err"], "", "1 sigma"),
        "vs_epoch_1": (label[found["first"]], "d", "earlier epoch of the pair; -1: none"),
        "vs_epoch_2": (label[found["second"]], "d", "later epoch of the pair; -1: none"),
        "chi2": (found["chi2"], "", "about the weighted mean"),
        "chi2_dof": (np.maximum(found["n_epochs"] - 1, 0), "", "degrees of freedom"),
        "von_neumann": (found["von_neumann"], "", "successive differences; 2 for white noise"),
        "iqr": (found["iqr"], "", "interquartile range / (1.349 median)"),
        "sigma_dev": (found["sigma_dev"], "", "max|f - mean| / std; for comparison only"),
        "is_reference": (normal.scale.is_reference, "", "serves the epoch's flux scale"),
        "reference_excess": (normal.scale.source_excess, "", "its variability beyond the errors"),
        "compact": (curves.compact, "", "in the catalogue"),
        "isolated": (curves.isolated, "", "no neighbour fitted with it at most epochs"),
        "ese_searched": (search.searched, "", "bright and often enough measured"),
        "ese_log_likelihood_ratio": (events.log_likelihood_ratio, "", "best dip; 0: none"),
        "ese_depth": (events.depth, "", "relative, of the best dip"),
        "ese_class": (
            np.array(CLASSES)[events.cls],
            "",
            "event, no_recovery, no_onset; empty: none",
        ),
        "ese_edge_mjd": (events.edge_mjd, "d", "UTC, where a fall or return without the other is"),
        "ese_veto": (search.veto, "", "why a dip above the threshold is no candidate"),
    }
