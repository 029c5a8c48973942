"""Tiles in, the measured beam out: sightings of catalogue sources, their fit, the verdict."""

import logging
import os
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from dsaflow.catalog import Catalog, read_catalog
from dsaflow.errors import DataRejected, ReasonCode
from dsaflow.geometry import separation_rad
from dsaflow.instrument import PrimaryBeam
from dsaflow.qa.beamfit import (
    MIN_RESPONSE,
    Sightings,
    TilePointing,
    beam_gates,
    fit_beam,
)
from dsaflow.qa.field import MosaicField
from dsaflow.qa.sources import beam_precision, fit_source, isolation
from dsaflow.verdict import Verdict

if TYPE_CHECKING:
    from dsaflow.config import Config

LOG = logging.getLogger(__name__)
MIN_SNR = 15.0


def measure_beam(
    tiles: list[dict[str, str]], catalog_path: str | os.PathLike, config: "Config"
) -> Verdict:
    """Measure the primary beam on the tiles of one strip and night.

    Parameters
    ----------
    tiles : list of dict
        Paths: image, beam, noise, verdict of each tile; rejected tiles are left out.
    catalog_path : path
        The strip's reference catalogue.
    config : Config

    Returns
    -------
    Verdict
        Numbers: effective_diameter_m, pointing_east_deg, pointing_north_deg with errors, and
        beam_flux_change: the largest relative error of a flux within response 0.3. QA_REJECTED where
        that exceeds ``qa.beam_flux_change`` beyond chance.

    Raises
    ------
    DataRejected
        TOO_FEW_SOURCES where the fit would rest on chance.
    """
    usable = [paths for paths in tiles if Verdict.read(paths["verdict"]).usable]
    catalog = read_catalog(catalog_path)
    catalog = catalog.select(np.asarray(catalog.compact, bool))
    index = config.calibrate.default_spectral_index
    pointings, parts = [], []
    for number, paths in enumerate(usable):
        pointing, rows = _sight(paths, catalog, index, number)
        pointings.append(pointing)
        parts.append(rows)
    seen = np.concatenate(parts) if parts else np.empty((0, 5))
    kept, source = np.unique(seen[:, 0].astype(int), return_inverse=True)
    if len(kept) < config.qa.beam_min_sources or len(usable) < 2:
        raise DataRejected(
            ReasonCode.TOO_FEW_SOURCES,
            f"{len(kept)} sources above {MIN_SNR:g} sigma in {len(usable)} tiles; the beam needs "
            f"{config.qa.beam_min_sources} in at least 2",
        )
    sightings = Sightings(source, seen[:, 1].astype(int), *seen[:, 2:].T)
    freq_hz = float(np.mean([p.freq_hz for p in pointings]))
    flux_jy, err = _catalog_flux(catalog, kept, freq_hz, index)
    assumed = PrimaryBeam.from_config(config.instrument.beam)
    fit = fit_beam(
        sightings, pointings, catalog.ra_deg[kept], catalog.dec_deg[kept], flux_jy,
        np.hypot(err, config.qa.flux_intrinsic_scatter), assumed,
    )  # fmt: skip
    gates, numbers = beam_gates(fit, assumed, freq_hz, config)
    verdict = Verdict(gates=gates, numbers=numbers | _ratios(sightings, fit, flux_jy, pointings))
    verdict.apply_gates(ReasonCode.QA_REJECTED)
    if not verdict.usable:
        verdict.detail += (
            f": the data want instrument.beam.effective_diameter_m {fit.value[0]:.3f} ± "
            f"{fit.err[0]:.3f} m and pointing_offset_deg [{fit.value[1]:.3f}, {fit.value[2]:.3f}] "
            f"± {fit.err[1:].max():.3f}"
        )
    return verdict


def _catalog_flux(
    catalog: Catalog, kept: NDArray, freq_hz: float, index: float
) -> tuple[NDArray, NDArray]:
    """Flux at `freq_hz` [Jy] and its relative error."""
    alpha = np.where(np.isnan(catalog.spectral_index), index, catalog.spectral_index)[kept]
    flux = catalog.flux_jy[kept] * (freq_hz / catalog.frequency_hz) ** alpha
    return flux, catalog.flux_err_jy[kept] / catalog.flux_jy[kept]


def _sight(
    paths: dict[str, str], catalog: Catalog, index: float, number: int
) -> tuple[TilePointing, NDArray]:
    """Fit the catalogue's isolated sources in one tile; rows (source, tile, flux, error, response)."""
    from astropy.io import fits
    from astropy.wcs import WCS

    planes: dict[str, Any] = {}
    for key in ("image", "beam", "noise"):
        with fits.open(paths[key]) as hdus:
            planes[key], header = np.asarray(hdus[0].data, np.float64), hdus[0].header
    field = MosaicField(
        planes["image"], planes["noise"], planes["beam"] > MIN_RESPONSE, header, WCS(header), []
    )
    pointing = TilePointing(
        float(header["MJD-OBS"]), float(header["MJD-END"]), float(header["PNTDEC"]),
        field.freq_hz,
    )  # fmt: skip
    near = np.flatnonzero(
        separation_rad(catalog.ra_deg, catalog.dec_deg, header["CRVAL1"], header["CRVAL2"]) < 0.1
    )
    x, y = field.to_pixel(catalog.ra_deg[near], catalog.dec_deg[near])
    inside = np.isfinite(x) & np.isfinite(y)
    # between pixels: at the flank the beam changes by 1 % over half a pixel
    response = map_coordinates(planes["beam"], np.where(inside, [y, x], -1e3), order=1, cval=0.0)
    noise = field.at(planes["noise"], x, y)
    lonely = isolation(catalog.select(near), np.radians(2 * field.beam_deg[0]), 0.1)
    expected = _catalog_flux(catalog, near, field.freq_hz, index)[0] * response
    # chosen on the catalogue: no sighting is in because noise lifted it
    with np.errstate(invalid="ignore"):
        good = np.flatnonzero(lonely & (response > MIN_RESPONSE) & (expected > MIN_SNR * noise))
    precision = beam_precision(field)
    half = max(3, int(np.ceil(1.25 * field.beam_deg[0] / abs(field.pixel_deg[1]))))
    rows = []
    for k in good:
        flux = fit_source(planes["image"], x[k], y[k], precision, half)[0]
        if np.isfinite(flux) and flux > 0.3 * expected[k]:
            rows.append((near[k], number, flux, noise[k], response[k]))
    LOG.info("%s: %d of %d sources fitted", paths["image"], len(rows), good.size)
    return pointing, np.array(rows, float).reshape(-1, 5)


def _ratios(
    seen: Sightings, fit: Any, flux_jy: NDArray, tiles: list[TilePointing]
) -> dict[str, Any]:
    """Flux ratios against the assumed beam's response, for the figure."""
    ratio = seen.flux_jy / seen.response / fit.scale[seen.tile] / np.exp(fit.log_flux)[seen.source]
    return {
        "beam_tiles": len(tiles),
        "beam_response": np.round(seen.response, 4).tolist(),
        "beam_ratio": np.round(ratio, 4).tolist(),
        "beam_ratio_err": np.round(seen.err_jy / seen.flux_jy, 4).tolist(),
        "beam_catalog_ratio": np.round(
            (seen.flux_jy / seen.response / fit.scale[seen.tile]) / flux_jy[seen.source], 4
        ).tolist(),
    }
