"""Forced photometry of one mosaic: fluxes, errors, limits and sub-bands at given positions."""

import logging
import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsaflow.catalog import read_catalog
from dsaflow.config import Config
from dsaflow.config.sections import Photometry
from dsaflow.errors import DataRejected, ReasonCode
from dsaflow.photometry.confusion import confusion_errors, unlisted_sources
from dsaflow.photometry.fit import (
    add_model,
    edge_distance,
    fit_groups,
    fit_offsets,
    local_background,
    mask_sources,
)
from dsaflow.photometry.noise import NoiseModel, central, measure_noise, ring_variance
from dsaflow.photometry.sources import Mosaic, Targets, isolated, locate, read_mosaic
from dsaflow.photometry.table import write_table
from dsaflow.verdict import Gate, Verdict

LOG = logging.getLogger(__name__)
PASSES = 3  # of fitting each group on the image less all other groups' models
MODEL_BEAMS = 2.5  # a Gaussian beam has 3e-8 of its peak there
MASK_BEAMS = 1.2


@dataclass
class Fit:
    """Result of the forced fits on one plane, arrays of shape (n,); Jy."""

    flux: NDArray
    flux_err: NDArray
    background: NDArray
    local_rms: NDArray
    missing: NDArray
    noise: NoiseModel


def fit_plane(
    image: NDArray,
    noise: NDArray,
    targets: Targets,
    options: Photometry,
    start_flux: NDArray | None = None,
) -> Fit:
    """Fit all targets on one plane.

    Each group is fitted on the image less the other groups' models, so that a bright source beyond
    the blending distance does not leak into its neighbour: `PASSES` times from nothing, once less
    from `start_flux`. The background and the noise's correlation are those of the last residual.

    Parameters
    ----------
    image, noise : ndarray, shape (ny, nx)
        [Jy/beam]; NaN outside.
    targets : Targets
    options : Photometry
    start_flux : ndarray, shape (n,), optional
        First guess [Jy].
    """
    x, y, precision = targets.x, targets.y, targets.precision
    masked = mask_sources(image.shape, x, y, precision, MASK_BEAMS)
    typical = np.median(precision, axis=0)
    width = np.sqrt(8 * np.log(2) / np.linalg.eigvalsh(typical[[[0, 1], [1, 2]]])[0])
    n_lag = int(np.ceil(2 * options.fit_radius_beams * width))
    ring_lag = int(np.ceil(2 * options.background_beams[1] * width))
    flux, zero = np.zeros(x.size), np.zeros(x.size)
    passes = PASSES
    if start_flux is not None:
        flux, passes = np.where(np.isfinite(start_flux), start_flux, 0.0), PASSES - 1
    radius, groups = options.fit_radius_beams, (targets.start, targets.members)
    for _ in range(passes - 1):
        residual = _less_model(image, targets, flux)
        change, _, _ = fit_groups(
            residual, noise, x, y, precision, *groups, zero, zero, radius, np.ones((1, 1))
        )
        flux = flux + np.where(np.isfinite(change), change, 0.0)
    residual = _less_model(image, targets, flux)
    model = measure_noise(residual, noise, masked, typical, ring_lag)
    ring_var, ring_cov, ring_pix = ring_variance(model.rho, typical, *options.background_beams)
    background, rms, count = local_background(
        residual, masked, x, y, precision, *options.background_beams
    )
    # where pixels of the ring are masked its mean is noisier; its covariance is not
    added = ring_var * ring_pix / np.maximum(count, 1) - 2 * ring_cov
    variance = np.where(count > 0, added, 0.0)
    change, flux_var, missing = fit_groups(
        residual, noise, x, y, precision, *groups,
        background, variance, radius, central(model.rho, n_lag), True,
    )  # fmt: skip
    flux = flux + change
    with np.errstate(invalid="ignore"):
        flux_err = np.where(flux_var > 0, np.sqrt(flux_var), np.nan)
    return Fit(flux, flux_err, background, rms, missing, model)


def _less_model(image: NDArray, targets: Targets, flux: NDArray) -> NDArray:
    residual = image.astype(np.float64)
    if flux.any():
        add_model(residual, targets.x, targets.y, targets.precision, -flux, MODEL_BEAMS)
    return residual


@dataclass(frozen=True)
class Offset:
    """Astrometric offset of a mosaic against the catalogue [pixel], and what it was measured on."""

    dx: float = 0.0
    dy: float = 0.0
    dx_err: float = np.nan
    dy_err: float = np.nan
    sources: int = 0


def measure_offset(mosaic: Mosaic, targets: Targets, alone: NDArray, options: Photometry) -> Offset:
    """One shift of all positions from bright, isolated, compact sources (robust weighted mean).

    With fewer than `offset_min_sources` of them the offset stays zero and its error NaN.
    """
    column, row = np.rint(targets.x).astype(int), np.rint(targets.y).astype(int)
    snr = mosaic.image[row, column] / mosaic.noise[row, column]
    use = alone & targets.catalog.compact & (snr >= options.offset_min_snr)
    if use.sum() < options.offset_min_sources:
        return Offset(sources=int(use.sum()))
    x, y, precision = targets.x[use], targets.y[use], targets.precision[use]
    weight = np.minimum(snr[use], 5 * options.offset_min_snr) ** 2
    shift = np.zeros(2)
    for _ in range(3):
        found = fit_offsets(mosaic.image, mosaic.noise, x + shift[0], y + shift[1], precision, 1.0)
        good = np.isfinite(found).all(axis=1)
        if good.sum() < options.offset_min_sources:
            return Offset(sources=int(good.sum()))
        middle = np.median(found[good], axis=0)
        scatter = 1.4826 * np.median(np.abs(found[good] - middle), axis=0)
        good &= (np.abs(found - middle) <= 3.5 * scatter + 1e-9).all(axis=1)
        mean = np.average(found[good], axis=0, weights=weight[good])
        share = weight[good] / weight[good].sum()
        error = np.sqrt((share[:, None] ** 2 * (found[good] - mean) ** 2).sum(axis=0))
        shift += mean
    (dx, dy), (dx_err, dy_err) = shift.tolist(), error.tolist()
    return Offset(dx, dy, dx_err, dy_err, int(good.sum()))


def _quality(targets: Targets, fit: Fit, noise_here: NDArray, edge_beams: NDArray) -> NDArray:
    """Row quality: "reject" without a flux, "warn" with missing pixels or a noisy surrounding."""
    bad = ~(np.isfinite(fit.flux) & np.isfinite(fit.flux_err))
    with np.errstate(invalid="ignore"):
        doubtful = (fit.missing > 0) | ~np.isfinite(fit.background) | (edge_beams < 1)
        doubtful |= fit.local_rms > 2 * noise_here
    return np.where(bad, "reject", np.where(doubtful, "warn", "pass"))


def measure(mosaic: Mosaic, targets: Targets, config: Config) -> tuple[dict, Fit, Offset]:
    """Measure all targets: columns that do not depend on the epoch, the fit, the offset.

    Sources are measured at the catalogue position plus the mosaic's offset (`targets` is changed).
    """
    options = config.photometry
    alone = isolated(targets)
    offset = measure_offset(mosaic, targets, alone, options) if options.fit_offset else Offset()
    targets.x, targets.y = targets.x + offset.dx, targets.y + offset.dy
    fit = fit_plane(mosaic.image, mosaic.noise, targets, options)
    ny, nx = mosaic.image.shape
    column = np.clip(np.rint(targets.x).astype(int), 0, nx - 1)
    row = np.clip(np.rint(targets.y).astype(int), 0, ny - 1)
    noise_here = mosaic.noise[row, column].astype(float)
    edge_pix = edge_distance(mosaic.coverage > 0, targets.x, targets.y)
    width_pix = np.sqrt(8 * np.log(2)) * (targets.local["PSF_XX"] * targets.local["PSF_YY"]) ** 0.25
    snr = fit.flux / fit.flux_err
    with np.errstate(invalid="ignore"):
        is_limit = ~(snr >= options.limit_sigma)
    catalog = targets.catalog
    confusion_jy, _ = unlisted_sources(mosaic, targets, config)
    columns = {
        "source_id": catalog.source_id,
        "ra_deg": catalog.ra_deg,
        "dec_deg": catalog.dec_deg,
        "mjd": mosaic.mjd0 + targets.local["MJD"],
        "weight": noise_here**-2.0,
        "flux_jy": fit.flux,
        "flux_err_jy": fit.flux_err,
        "scale_err": targets.local["SCALEERR"],
        "abs_err_frac": targets.local["SCALESYS"],
        "confusion_err_jy": confusion_errors(mosaic.image, targets, confusion_jy, options),
        "snr": snr,
        "is_limit": is_limit,
        "upper_limit_jy": np.maximum(fit.flux, 0) + options.limit_sigma * fit.flux_err,
        "local_rms_jy": fit.local_rms,
        "background_jy": fit.background,
        "n_blend": targets.group_size(),
        "isolated": alone,
        "compact": catalog.compact,
        "catalog_flux_jy": catalog.flux_jy,
        "n_tiles": mosaic.coverage[row, column].astype(int),
        "beam_response": targets.local["BEAM"],
        "edge_distance_deg": edge_pix * mosaic.pixel_deg,
        "qa": _quality(targets, fit, noise_here, edge_pix / width_pix),
    }
    for band in range(len(mosaic.bands)):
        result = fit_plane(mosaic.bands[band], mosaic.band_noise[band], targets, options, fit.flux)
        columns[f"flux_b{band}_jy"] = result.flux
        columns[f"flux_err_b{band}_jy"] = result.flux_err
    return columns, fit, offset


def measure_mosaic(
    mosaic: dict[str, str],
    catalog_path: str | os.PathLike,
    out_path: str | os.PathLike,
    config: Config,
    epoch: int,
    strip: str,
    group_id: str,
    mid_mjd: float,
) -> Verdict:
    """Measure every catalogue source inside a mosaic and write the photometry table.

    Parameters
    ----------
    mosaic : dict
        Paths: image, noise, coverage, subbands, and qa, the verdict on the mosaic: every row of a
        mosaic that it rejects has qa "reject".
    catalog_path : path
        Reference catalogue (Parquet).
    out_path : path
        Photometry table to write.
    config : Config
    epoch : int
        Sidereal-day number of the mosaic's centre; a source beyond RA = 0 has its own.
    strip, group_id : str
    mid_mjd : float
        Mid-time of the mosaic; each row has its own, from the tiles that it is seen in.

    Returns
    -------
    Verdict
        Gates (warnings): noise map against measured noise, astrometric offset, median flux ratio.

    Raises
    ------
    DataRejected
        NO_DATA: the mosaic is header-only; TOO_FEW_SOURCES: no catalogue source lies in it.
    """
    planes = read_mosaic(mosaic)
    catalog = read_catalog(catalog_path)
    catalog = catalog.select(catalog.flux_jy >= config.photometry.min_flux_jy)
    targets = locate(planes, catalog, config.photometry.blend_beams)
    n = targets.x.size
    if n == 0:
        raise DataRejected(
            ReasonCode.TOO_FEW_SOURCES,
            f"no catalogue source above {config.photometry.min_flux_jy} Jy inside the mosaic",
        )
    columns, fit, offset = measure(planes, targets, config)
    columns |= {
        "strip": np.full(n, strip),
        "epoch": source_epochs(epoch, planes.centre_ra_deg, columns["ra_deg"]),
        "group_id": np.full(n, group_id),
        "primary": np.ones(n, bool),
    }
    mosaic_qa = Verdict.read(mosaic["qa"])
    rows_qa = columns["qa"] if mosaic_qa.usable else np.full(n, "reject")
    write_table(out_path, columns | {"qa": rows_qa}, planes.band_freq_hz, planes.freq_hz)
    verdict = _judge(columns, fit, offset, planes, mid_mjd)
    confusion_jy, counts = unlisted_sources(planes, targets, config)
    verdict.numbers |= {
        "mosaic_qa": mosaic_qa.verdict,
        "confusion_jy": confusion_jy,
        "counts_per_deg2": counts.per_deg2,
        "counts_sources": counts.sources,
    }
    return verdict


def source_epochs(epoch: int, centre_ra_deg: float, ra_deg: NDArray) -> NDArray:
    """Sidereal-day number of each source in a mosaic of which the centre's is known.

    Equal to `dsaflow.transit.transit_number` of the mosaic's mid-time and the source: mosaics on
    either side of RA = 0 then agree on a source that both hold.
    """
    return epoch + np.rint((centre_ra_deg - ra_deg) / 360.0).astype(np.int64)


def _judge(columns: dict, fit: Fit, offset: Offset, mosaic: Mosaic, mid_mjd: float) -> Verdict:
    good = (columns["qa"] == "pass") & columns["isolated"] & (columns["snr"] > 10)
    ratio = columns["flux_jy"][good] / columns["catalog_flux_jy"][good]
    arcsec = 3600 * mosaic.pixel_deg
    width_pix = np.sqrt(8 * np.log(2)) * np.nanmedian(mosaic.local[1] * mosaic.local[3]) ** 0.25
    gates = [
        Gate.measure(
            "offset", float(np.hypot(offset.dx, offset.dy) / width_pix), high=0.2, unit="beam",
            failing="warn",
        )
    ]  # fmt: skip
    if fit.noise.measured:
        gates.append(Gate.measure("noise_over_map", fit.noise.ratio, 0.8, 1.25, failing="warn"))
    verdict = Verdict(
        gates=gates,
        numbers={
            "sources": len(columns["snr"]),
            "detections": int((~columns["is_limit"]).sum()),
            "rejected": int((columns["qa"] == "reject").sum()),
            "warned": int((columns["qa"] == "warn").sum()),
            "blended": int((columns["n_blend"] > 1).sum()),
            "flux_ratio_median": float(np.median(ratio)) if ratio.size else None,
            "flux_ratio_sources": int(ratio.size),
            "noise_over_map": fit.noise.ratio,
            "noise_correlation": "measured" if fit.noise.measured else "beam",
            "offset_x_arcsec": offset.dx * arcsec,
            "offset_y_arcsec": offset.dy * arcsec,
            "offset_x_err_arcsec": offset.dx_err * arcsec,
            "offset_y_err_arcsec": offset.dy_err * arcsec,
            "offset_sources": offset.sources,
            "mid_mjd": mid_mjd,
        },
    )
    return verdict.apply_gates(ReasonCode.QA_REJECTED)
