"""Catalogue sources fitted on the mosaic, for the flux, position and completeness gates."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dsaflow.geometry import separation_rad
from dsaflow.qa.field import MosaicField

if TYPE_CHECKING:
    from dsaflow.catalog import Catalog


@dataclass(frozen=True)
class Measured:
    """Catalogue sources in the mosaic and what was found there; arrays of shape (n_source,).

    `catalog_jy` is at the mosaic's frequency; `flux_jy`, `dx_arcsec` (east), `dy_arcsec` (north)
    and `shape` (width over the restoring beam's, to first order) are NaN where no fit was made;
    `peak_snr` is the brightest pixel near the position over the noise map.
    """

    ra_deg: NDArray
    dec_deg: NDArray
    catalog_jy: NDArray
    catalog_err_jy: NDArray
    noise_jy: NDArray
    isolated: NDArray
    compact: NDArray
    flux_jy: NDArray
    dx_arcsec: NDArray
    dy_arcsec: NDArray
    shape: NDArray
    peak_snr: NDArray

    @property
    def expected_snr(self) -> NDArray:
        """Catalogue flux over the local noise: chosen on this, no gate prefers bright outcomes."""
        return self.catalog_jy / self.noise_jy

    def good(self, min_snr: float) -> NDArray:
        """Compact, isolated, fitted sources that should have at least this S/N."""
        return (
            self.compact
            & self.isolated
            & np.isfinite(self.flux_jy)
            & (self.expected_snr >= min_snr)
        )


def beam_precision(field: MosaicField) -> NDArray:
    """Inverse covariance of the restoring beam in pixels (x, y), shape (2, 2)."""
    major, minor, angle_deg = field.beam_deg
    angle = np.radians(angle_deg)
    # unit vectors of the axes in (east, north)
    axes = np.array([[np.sin(angle), np.cos(angle)], [np.cos(angle), -np.sin(angle)]])
    sigma = np.array([major, minor]) / np.sqrt(8 * np.log(2))
    precision_deg = axes.T @ np.diag(sigma**-2.0) @ axes
    # CDELT1 < 0: the unit vector along x points west, and the product keeps the sign
    scale = np.diag(field.pixel_deg)
    return scale @ precision_deg @ scale


def fit_source(
    image: NDArray, x: float, y: float, precision: NDArray, half: int
) -> tuple[float, float, float, float]:
    """Fit a beam-shaped source and a level by Gauss-Newton on a stamp.

    Parameters
    ----------
    image : ndarray, shape (ny, nx)
    x, y : float
        First guess [pixels].
    precision : ndarray, shape (2, 2)
        See `beam_precision`.
    half : int
        Half width of the stamp [pixels].

    Returns
    -------
    flux_jy, x, y, shape : float
        NaN where the stamp leaves the image or the fit runs away.
    """
    nothing = (np.nan,) * 4
    column, row = round(x), round(y)
    if not (half <= column < image.shape[1] - half and half <= row < image.shape[0] - half):
        return nothing
    stamp = image[row - half : row + half + 1, column - half : column + half + 1].astype(float)
    if not np.isfinite(stamp).all():
        return nothing
    grid_y, grid_x = np.mgrid[row - half : row + half + 1, column - half : column + half + 1]
    flux, fit_x, fit_y, level = float(stamp[half, half]), x, y, 0.0
    for _ in range(8):
        dx, dy = grid_x - fit_x, grid_y - fit_y
        gx = precision[0, 0] * dx + precision[0, 1] * dy
        gy = precision[0, 1] * dx + precision[1, 1] * dy
        shape = np.exp(-0.5 * (dx * gx + dy * gy))
        columns = np.stack([shape, flux * shape * gx, flux * shape * gy, np.ones_like(shape)])
        design = columns.reshape(4, -1).T
        step, *_ = np.linalg.lstsq(design, (stamp - flux * shape - level).ravel(), rcond=None)
        flux, level = flux + step[0], level + step[3]
        fit_x, fit_y = fit_x + np.clip(step[1], -1, 1), fit_y + np.clip(step[2], -1, 1)
    if not (abs(fit_x - x) < half and abs(fit_y - y) < half):
        return nothing
    # a source wider by a factor w is the beam times (1 + r^2 (w - 1)), to first order
    widening = shape * (dx * gx + dy * gy)
    design = np.stack([shape, widening, np.ones_like(shape)]).reshape(3, -1).T
    (peak, wider, _), *_ = np.linalg.lstsq(design, stamp.ravel(), rcond=None)
    return float(flux), float(fit_x), float(fit_y), float(1 + wider / peak)


def isolation(catalog: "Catalog", radius_rad: float, max_ratio: float) -> NDArray:
    """Whether no other catalogue source within a radius has more than `max_ratio` of the flux."""
    order = np.argsort(catalog.dec_deg)
    dec = np.radians(catalog.dec_deg[order])
    ra, flux = catalog.ra_deg[order], catalog.flux_jy[order]
    lonely = np.ones(len(order), bool)
    last = np.searchsorted(dec, dec + radius_rad, side="right")
    for i in range(len(order)):
        near = np.arange(i + 1, last[i])
        if near.size:
            gap = separation_rad(ra[i], np.degrees(dec[i]), ra[near], np.degrees(dec[near]))
            near = near[gap < radius_rad]
            lonely[i] &= not (flux[near] > max_ratio * flux[i]).any()
            lonely[near[flux[i] > max_ratio * flux[near]]] = False
    result = np.empty(len(order), bool)
    result[order] = lonely
    return result


def measure_sources(
    field: MosaicField, catalog: "Catalog", default_index: float, min_snr: float
) -> Measured:
    """Fit every catalogue source in the valid region that should be above `min_snr`.

    Notes
    -----
    Isolation counts every catalogue neighbour within two major axes with more than 10 % of the
    source's flux.
    """
    x, y = field.to_pixel(catalog.ra_deg, catalog.dec_deg)
    inside = field.at(field.valid, x, y) == 1
    near = separation_rad(
        catalog.ra_deg, catalog.dec_deg, field.header["CRVAL1"], field.header["CRVAL2"]
    )
    inside &= near < np.radians(60.0)
    major = field.beam_deg[0]
    lonely = isolation(catalog, np.radians(2 * major), 0.1)
    index = np.where(np.isfinite(catalog.spectral_index), catalog.spectral_index, default_index)
    flux = catalog.flux_jy * (field.freq_hz / catalog.frequency_hz) ** index
    noise = field.at(field.noise, x, y)
    with np.errstate(invalid="ignore", divide="ignore"):
        keep = np.flatnonzero(inside & (flux / noise >= min_snr))
    precision = beam_precision(field)
    half = max(3, int(np.ceil(1.25 * major / abs(field.pixel_deg[1]))))
    fits = np.array([fit_source(field.image, x[k], y[k], precision, half) for k in keep]).reshape(
        -1, 4
    )
    # sky offsets through the coordinates themselves: no assumption on orientation
    fitted = np.isfinite(fits).all(axis=1)
    found_ra, found_dec = field.to_sky(*np.where(fitted, fits[:, 1:3].T, 0.0))
    ra, dec = catalog.ra_deg[keep], catalog.dec_deg[keep]
    east = ((found_ra - ra + 180) % 360 - 180) * np.cos(np.radians(dec)) * 3600
    return Measured(
        ra_deg=ra,
        dec_deg=dec,
        catalog_jy=flux[keep],
        catalog_err_jy=(catalog.flux_err_jy * flux / catalog.flux_jy)[keep],
        noise_jy=noise[keep],
        isolated=lonely[keep],
        compact=np.asarray(catalog.compact, bool)[keep],
        flux_jy=np.where(fitted, fits[:, 0], np.nan),
        dx_arcsec=np.where(fitted, east, np.nan),
        dy_arcsec=np.where(fitted, (found_dec - dec) * 3600, np.nan),
        shape=fits[:, 3],
        peak_snr=_peak_snr(field, x[keep], y[keep]),
    )


def _peak_snr(field: MosaicField, x: NDArray, y: NDArray) -> NDArray:
    """Brightest pixel within half a minor axis, over the noise map."""
    reach = max(1, int(0.5 * field.beam_deg[1] / abs(field.pixel_deg[1])))
    best = np.full(len(x), -np.inf)
    with np.errstate(invalid="ignore"):
        snr = np.where(field.valid, field.image / field.noise, -np.inf)
    for dj in range(-reach, reach + 1):
        for di in range(-reach, reach + 1):
            best = np.fmax(best, field.at(snr, x + di, y + dj))
    return best
