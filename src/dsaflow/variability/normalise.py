"""Curves divided by the epoch's scale and the source's median, with true relative errors."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numba
import numpy as np

from dsaflow.config.sections import Variability
from dsaflow.variability.curves import LightCurves, nan_median
from dsaflow.variability.fields import join_fields, split_fields
from dsaflow.variability.scale import EpochScale, fit_epoch_scale
from dsaflow.variability.spatial import local_offsets


@dataclass
class Normalised:
    """Relative light curves.

    Attributes
    ----------
    flux, variance : ndarray, shape (n_source, n_epoch)
        Flux over scale and median (about 1), and its variance: measurement, epoch scale, and the
        epoch's excess scatter. NaN where not measured or where the scale's error is not known.
    level_jy : ndarray, shape (n_source,)
        The median of flux / scale [Jy].
    scale : EpochScale
    """

    flux: np.ndarray
    variance: np.ndarray
    level_jy: np.ndarray
    scale: EpochScale


def normalise(curves: LightCurves, options: Variability) -> Normalised:
    """Fit the epochs' scales in the whole band and apply them.

    Each source's relative errors are those of its light curve; the absolute scale's error, common
    to all epochs, has no part in them (`LightCurves.scale_err` holds the calibration's).
    """
    candidate = curves.compact & curves.isolated & (curves.median_snr > options.reference_min_snr)
    field = split_fields(curves.ra_deg, options.scale_field_deg)

    def fit(k: int) -> EpochScale:
        own = field == k
        return fit_epoch_scale(
            curves.flux_jy[own],
            curves.flux_err_jy[own],
            candidate[own],
            nan_median(curves.scale_err[own].T),
            options.min_references,
            options.reference_max_excess,
            offset_deg=local_offsets(curves.ra_deg[own], curves.dec_deg[own]),
            max_order=options.scale_max_order,
        )

    parts = _each_field(fit, field)
    return _apply(curves.flux_jy, curves.flux_err_jy, join_fields(parts, field), field, parts)


def normalise_bands(
    curves: LightCurves, whole: Normalised, options: Variability
) -> list[Normalised]:
    """Fit and apply the scales of each sub-band; the references are those of the whole band.

    A bandpass that drifts gives each sub-band a scale of its own. Where a sub-band has too few
    references at an epoch, the whole band's scale stands in. The scales at each source's position
    are in the normalised fluxes and not kept by themselves, which would be as large again.
    """
    field = whole.scale.field if whole.scale.parts else np.zeros(len(curves.source_id), int)
    result = []
    for flux, error in zip(curves.band_flux_jy, curves.band_flux_err_jy, strict=True):
        snr = nan_median(flux) / nan_median(error)
        candidate = whole.scale.is_reference & (snr > 0.5 * options.reference_min_snr)
        fit = partial(_fit_band, curves, whole, options, flux, error, candidate, field)
        parts = _each_field(fit, field)
        normal = _apply(flux, error, join_fields(parts, field), field, parts)
        nothing = np.zeros((0, len(curves.epoch)))
        normal.scale.source_scale = normal.scale.source_scale_err = nothing
        result.append(normal)
    return result


def _each_field(fit: Callable[[int], EpochScale], field: np.ndarray) -> list[EpochScale]:
    """Fit the fields, as many at a time as there are threads."""
    with ThreadPoolExecutor(numba.get_num_threads()) as pool:
        return list(pool.map(fit, range(int(field.max(initial=0)) + 1)))


def _fit_band(
    curves: LightCurves,
    whole: Normalised,
    options: Variability,
    flux: np.ndarray,
    error: np.ndarray,
    candidate: np.ndarray,
    field: np.ndarray,
    k: int,
) -> EpochScale:
    """Scale of one field in one sub-band, the whole band's where it is not measured."""
    own = field == k
    of_whole = whole.scale.parts[k] if whole.scale.parts else whole.scale
    part = fit_epoch_scale(
        flux[own],
        error[own],
        candidate[own],
        of_whole.scale_err,
        options.min_references,
        options.reference_max_excess,
        offset_deg=local_offsets(curves.ra_deg[own], curves.dec_deg[own]),
        order=of_whole.order,
    )
    for name in ("source_scale", "source_scale_err"):
        stand_in = getattr(whole.scale, name)[own]
        setattr(part, name, np.where(part.measured, getattr(part, name), stand_in))
    part.excess = np.where(part.measured, part.excess, of_whole.excess)
    return part


def _apply(
    flux: np.ndarray,
    flux_err: np.ndarray,
    scale: EpochScale,
    field: np.ndarray,
    parts: list[EpochScale],
) -> Normalised:
    """Divide by scale and level, a field at a time."""
    normal, total = np.empty(flux.shape), np.empty(flux.shape)
    level = np.empty(len(flux))
    for k, part in enumerate(parts):
        own = field == k
        source_scale = scale.source_scale[own]
        scaled = flux[own] / source_scale
        level[own] = nan_median(scaled)
        positive = np.where(level[own] > 0, level[own], np.nan)[:, None]
        # The scale's error is taken at the baseline's flux, not at the epoch's: a weight must not
        # depend on the noise it weighs.
        variance = (
            np.square(flux_err[own] / source_scale / positive)
            + np.square(scale.source_scale_err[own])
            + np.square(part.excess)
        )
        normal[own] = np.where(np.isfinite(variance), scaled / positive, np.nan)
        total[own] = np.where(np.isfinite(normal[own]), variance, np.nan)
    return Normalised(normal, total, level, scale)
