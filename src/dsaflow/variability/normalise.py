"""Curves divided by the epoch's scale and the source's median, with true relative errors."""

from dataclasses import dataclass

import numpy as np

from dsaflow.config.sections import Variability
from dsaflow.variability.curves import LightCurves, nan_median
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
    """Fit the epochs' scales in the whole band and apply them."""
    candidate = curves.compact & curves.isolated & (curves.median_snr > options.reference_min_snr)
    scale = fit_epoch_scale(
        curves.flux_jy,
        curves.flux_err_jy,
        candidate,
        nan_median(curves.scale_err.T),
        options.min_references,
        options.reference_max_excess,
        offset_deg=local_offsets(curves.ra_deg, curves.dec_deg),
        max_order=options.scale_max_order,
    )
    return _apply(curves.flux_jy, curves.flux_err_jy, scale)


def normalise_bands(
    curves: LightCurves, whole: Normalised, options: Variability
) -> list[Normalised]:
    """Fit and apply the scales of each sub-band; the references are those of the whole band.

    A bandpass that drifts gives each sub-band a scale of its own. Where a sub-band has too few
    references at an epoch, the whole band's scale stands in.
    """
    result = []
    offset_deg = local_offsets(curves.ra_deg, curves.dec_deg)
    for flux, error in zip(curves.band_flux_jy, curves.band_flux_err_jy, strict=True):
        snr = nan_median(flux) / nan_median(error)
        candidate = whole.scale.is_reference & (snr > 0.5 * options.reference_min_snr)
        own = fit_epoch_scale(
            flux,
            error,
            candidate,
            whole.scale.scale_err,
            options.min_references,
            options.reference_max_excess,
            offset_deg=offset_deg,
            order=whole.scale.order,
        )
        own.source_scale = np.where(own.measured, own.source_scale, whole.scale.source_scale)
        own.source_scale_err = np.where(
            own.measured, own.source_scale_err, whole.scale.source_scale_err
        )
        own.excess = np.where(own.measured, own.excess, whole.scale.excess)
        result.append(_apply(flux, error, own))
    return result


def _apply(flux: np.ndarray, flux_err: np.ndarray, scale: EpochScale) -> Normalised:
    scaled = flux / scale.source_scale
    level = nan_median(scaled)
    positive = np.where(level > 0, level, np.nan)[:, None]
    # The scale's error is taken at the baseline's flux, not at the epoch's: a weight must not
    # depend on the noise it weighs.
    variance = (
        np.square(flux_err / scale.source_scale / positive)
        + np.square(scale.source_scale_err)
        + np.square(scale.excess)
    )
    normal = np.where(np.isfinite(variance), scaled / positive, np.nan)
    return Normalised(normal, np.where(np.isfinite(normal), variance, np.nan), level, scale)
