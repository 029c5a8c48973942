"""Gates against the catalogue: flux scale, beam, positions, completeness, source shapes."""

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dsaflow.geometry import separation_rad
from dsaflow.qa.field import MosaicField
from dsaflow.qa.sources import Measured
from dsaflow.verdict import Gate

if TYPE_CHECKING:
    from dsaflow.config.sections import Qa

# distance from the nearest tile centre's drift track: inner beam, flank, edge
DISTANCE_EDGES_DEG = (0.0, 0.5, 1.0, 1.5, 2.5)


def robust_mean(value: NDArray, err: NDArray) -> tuple[float, float]:
    """Huber estimate of location and its error, from the scatter that is really there.

    Parameters
    ----------
    value, err : ndarray, shape (n,)
        Values and 1-sigma errors; the errors set relative weights only.

    Returns
    -------
    mean, error : float
        NaN with fewer than three values.

    Notes
    -----
    Huber (1981), k = 1.345, iteratively reweighted; the error is the sandwich estimate, with fewer
    than eight values at least that of the stated errors.
    """
    good = np.isfinite(value) & np.isfinite(err) & (err > 0)
    value, err = value[good], err[good]
    if value.size < 3:
        return float("nan"), float("nan")
    mean = float(np.median(value))
    weight = err**-2.0
    for _ in range(30):
        pull = (value - mean) / err
        spread = max(1.4826 * float(np.median(np.abs(pull))), 1e-12)
        clip = np.minimum(1.0, 1.345 / np.maximum(np.abs(pull) / spread, 1e-12))
        weight = clip * err**-2.0
        mean = float(np.sum(weight * value) / np.sum(weight))
    residual = weight * (value - mean)
    inner = np.sum(np.where(clip >= 1, err**-2.0, 0.0))
    scatter = float(np.sqrt(np.sum(residual**2)) / max(inner, 1e-300))
    stated = float(np.sum(err**-2.0) ** -0.5)
    # the scatter of a handful of values may be small by chance
    return mean, scatter if value.size >= 8 else max(scatter, stated)


def flux_gates(
    field: MosaicField, sources: Measured, options: "Qa"
) -> tuple[list[Gate], dict[str, Any]]:
    """Flux scale against the catalogue, and its change with distance in the beam."""
    good = sources.good(options.flux_min_snr)
    ratio = sources.flux_jy[good] / sources.catalog_jy[good]
    err = np.sqrt(
        (sources.noise_jy[good] / sources.catalog_jy[good]) ** 2
        + (sources.catalog_err_jy[good] / sources.catalog_jy[good]) ** 2
        + options.flux_intrinsic_scatter**2
    )
    scale, scale_err = robust_mean(ratio, err)
    numbers: dict[str, Any] = {
        "flux_scale": scale,
        "flux_scale_err": scale_err,
        "flux_scale_sources": int(good.sum()),
        "flux_scale_scatter": float(1.4826 * np.median(np.abs(ratio - scale)))
        if good.any()
        else float("nan"),
    }
    gates = [
        Gate.measure("flux_scale_sources", good.sum(), low=options.min_sources, failing="warn")
    ]
    if gates[0].verdict == "pass":
        margin = options.false_alarm_sigma * scale_err
        for name, limit, failing in (
            ("flux_scale", options.flux_scale_reject, "reject"),
            ("flux_scale_warning", options.flux_scale_warn, "warn"),
        ):
            gates.append(
                Gate.measure(name, scale, 1 - limit - margin, 1 + limit + margin, failing=failing)  # type: ignore[arg-type]
            )
        gates.append(
            Gate.measure("flux_scale_err", scale_err, high=options.flux_scale_err, failing="warn")
        )
    distance = beam_distance_deg(field, sources.ra_deg[good], sources.dec_deg[good])
    bins = _binned(ratio, err, distance)
    numbers["flux_ratio_by_distance"] = bins
    filled = [b for b in bins if b["sources"] >= options.min_sources]
    if len(filled) >= 2:
        gates.append(_beam_gate(filled[0], filled[-1], options))
    return gates, numbers


def _binned(ratio: NDArray, err: NDArray, distance: NDArray) -> list[dict[str, Any]]:
    bins = []
    for low, high in pairwise(DISTANCE_EDGES_DEG):
        inside = (distance >= low) & (distance < high)
        mean, error = robust_mean(ratio[inside], err[inside])
        bins.append(
            {
                "from_deg": low,
                "to_deg": high,
                "ratio": mean,
                "err": error,
                "sources": int(inside.sum()),
            }
        )
    return bins


def _beam_gate(inner: dict[str, Any], outer: dict[str, Any], options: "Qa") -> Gate:
    """Outer over inner flux ratio: what a wrong beam changes first."""
    change = outer["ratio"] / inner["ratio"]
    error = change * np.hypot(outer["err"] / outer["ratio"], inner["err"] / inner["ratio"])
    margin = options.beam_slope + options.false_alarm_sigma * error
    return Gate.measure("flux_ratio_outer_over_inner", change, 1 - margin, 1 + margin)


def beam_distance_deg(field: MosaicField, ra_deg: NDArray, dec_deg: NDArray) -> NDArray:
    """Distance from the nearest centre of a tile that went in [deg]."""
    centres = [(float(row["ra_deg"]), float(row["dec_deg"])) for row in field.used_tiles]
    if not centres:
        return np.full(len(ra_deg), np.nan)
    return np.degrees(np.min([separation_rad(ra_deg, dec_deg, *c) for c in centres], axis=0))


def astrometry_gates(sources: Measured, options: "Qa") -> tuple[list[Gate], dict[str, Any]]:
    """Offset and scatter of the positions against the catalogue's."""
    good = sources.good(options.flux_min_snr)
    offsets = np.stack([sources.dx_arcsec[good], sources.dy_arcsec[good]])
    if good.sum() < options.min_sources:
        return [], {"position_sources": int(good.sum())}
    scatter = float(1.4826 * np.median(np.abs(offsets - np.median(offsets, axis=1)[:, None])))
    spread = np.full(offsets.shape[1], scatter)
    (east, east_err), (north, north_err) = (robust_mean(axis, spread) for axis in offsets)
    error = max(east_err, north_err)
    numbers = {
        "offset_east_arcsec": east,
        "offset_north_arcsec": north,
        "offset_err_arcsec": error,
        "position_scatter_arcsec": scatter,
        "position_sources": int(good.sum()),
        "offsets_arcsec": np.round(offsets.T, 3).tolist(),
    }
    offset = float(np.hypot(east, north))
    margin = options.false_alarm_sigma * error
    gates = [
        Gate.measure("astrometric_offset", offset, high=options.offset_reject_arcsec + margin,
                     unit="arcsec"),
        Gate.measure("astrometric_offset_warning", offset,
                     high=options.offset_warn_arcsec + margin, unit="arcsec", failing="warn"),
        Gate.measure("astrometric_scatter", scatter, high=options.position_scatter_arcsec,
                     unit="arcsec", failing="warn"),
    ]  # fmt: skip
    return gates, numbers


def completeness_gates(sources: Measured, options: "Qa") -> tuple[list[Gate], dict[str, Any]]:
    """Fraction found of the sources that the local noise should let be seen."""
    due = sources.isolated & (sources.expected_snr >= options.completeness_snr)
    n_due, n_found = int(due.sum()), int((due & (sources.peak_snr >= 5.0)).sum())
    numbers = {"completeness_due": n_due, "completeness_found": n_found}
    if n_due < options.min_sources:
        return [], numbers
    low = options.completeness
    # binomial scatter about the limit, so that a small mosaic is not rejected for one source
    margin = options.false_alarm_sigma * np.sqrt(low * (1 - low) / n_due)
    fraction = n_found / n_due
    return [
        Gate.measure("completeness", fraction, low=low - margin),
        Gate.measure("completeness_warning", fraction, low=low, failing="warn"),
    ], numbers


def shape_gates(
    field: MosaicField, sources: Measured, options: "Qa"
) -> tuple[list[Gate], dict[str, Any]]:
    """Restoring beam within what the array can give, and sources shaped like it."""
    major, minor, _ = field.beam_deg
    size_arcsec = 3600 * float(np.sqrt(major * minor))
    gates = [
        Gate.measure("beam_axis_ratio", major / minor, 1.0, options.beam_axis_ratio,
                     failing="warn"),
        Gate.measure("beam_size", size_arcsec, options.beam_size_low_arcsec,
                     options.beam_size_high_arcsec, unit="arcsec", failing="warn"),
    ]  # fmt: skip
    good = sources.good(2 * options.flux_min_snr)
    shape = float(np.median(sources.shape[good])) if good.any() else float("nan")
    if good.sum() >= options.min_sources:
        low, high = 1 - options.source_shape, 1 + options.source_shape
        gates.append(Gate.measure("source_shape", shape, low, high, failing="warn"))
    return gates, {"source_shape": shape, "beam_size_arcsec": size_arcsec}
