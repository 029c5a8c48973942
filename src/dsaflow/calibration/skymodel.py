"""Model visibilities of a field: catalogue and calibrator seen through the drifting primary beam."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dsaflow.catalog import Calibrators, Catalog
from dsaflow.geometry import (
    DSA110,
    Site,
    separation_rad,
)
from dsaflow.instrument import PrimaryBeam
from dsaflow.transit import beam_centre_icrs
from dsaflow.visibilities.container import Visibilities

_MATCH_RAD = np.radians(30.0 / 3600.0)


@dataclass(frozen=True)
class SkyModel:
    """Components of one field; arrays over sources.

    Attributes
    ----------
    source_id : ndarray of str
    ra_deg, dec_deg : ndarray
        ICRS.
    flux_jy : ndarray, shape (n_source, n_channel)
        True flux density, without the beam.
    apparent_jy : ndarray, shape (n_source,)
        Flux times beam, averaged over the tile's integrations, at the middle of the band.
    catalog_err : ndarray, shape (n_source,)
        Fractional error of the catalogue's flux; 0 for a primary calibrator's polynomial.
    compact : ndarray of bool
    calibrator : int
        Index of the calibrator, -1 where there is none.
    """

    source_id: NDArray
    ra_deg: NDArray
    dec_deg: NDArray
    flux_jy: NDArray
    apparent_jy: NDArray
    catalog_err: NDArray
    compact: NDArray
    calibrator: int = -1

    def __len__(self) -> int:
        return len(self.source_id)

    def scaled(self, factor: NDArray) -> "SkyModel":
        """Multiply each source's flux by its factor, shape (n_source,)."""
        return replace(
            self, flux_jy=self.flux_jy * factor[:, None], apparent_jy=self.apparent_jy * factor
        )


def site_of(vis: Visibilities) -> Site:
    """Site for the geometry of these visibilities."""
    return DSA110 if vis.telescope == "DSA_110" else Site(*vis.site_deg_m)


def beam_response(
    vis: Visibilities, ra_deg: NDArray, dec_deg: NDArray, beam: PrimaryBeam, freq_hz: NDArray
) -> NDArray:
    """Power response toward each source at each integration, shape (n_time, n_source, n_channel).

    The beam's centre is the meridian at the pointing declination of date, so it moves over the sky;
    an instrument that tracks (no pointing declination) has its beam left out.
    """
    shape = (len(vis.time_mjd), len(ra_deg), len(freq_hz))
    if np.isnan(vis.pointing_dec_deg):
        return np.ones(shape)
    centre_ra, centre_dec = beam_centre_icrs(beam, vis.time_mjd, vis.pointing_dec_deg, site_of(vis))
    separation = separation_rad(centre_ra[:, None], centre_dec[:, None], ra_deg, dec_deg)
    return beam.power(separation[:, :, None], freq_hz)


def field_model(
    vis: Visibilities,
    catalog: Catalog,
    beam: PrimaryBeam,
    min_apparent_jy: float,
    default_index: float = -0.7,
    calibrators: Calibrators | None = None,
    calibrator: int = -1,
) -> SkyModel:
    """Sources of the catalogue that a tile sees above a limit, and one calibrator instead of its entry.

    Parameters
    ----------
    vis : Visibilities
        For times, frequencies and pointing.
    catalog : Catalog
    beam : PrimaryBeam
    min_apparent_jy : float
        Limit on flux times mean beam.
    default_index : float
        Spectral index where the catalogue has none.
    calibrators : Calibrators, optional
    calibrator : int
        Row of the calibrator: its own model replaces catalogue entries within 30 arcsec.

    Returns
    -------
    SkyModel
        Brightest (apparent) first.
    """
    mid_hz = np.array([0.5 * (vis.freq_hz[0] + vis.freq_hz[-1])])
    near = separation_rad(vis.phase_ra_deg, vis.phase_dec_deg, catalog.ra_deg, catalog.dec_deg)
    catalog = catalog.select(near < np.radians(12.0))
    alpha = np.where(np.isnan(catalog.spectral_index), default_index, catalog.spectral_index)
    flux = catalog.flux_jy[:, None] * (vis.freq_hz / catalog.frequency_hz) ** alpha[:, None]
    columns = {
        "source_id": catalog.source_id,
        "ra_deg": catalog.ra_deg,
        "dec_deg": catalog.dec_deg,
        "flux_jy": flux,
        "catalog_err": catalog.flux_err_jy / catalog.flux_jy,
        "compact": catalog.compact,
    }
    if calibrators is not None and calibrator >= 0:
        ra, dec = calibrators.ra_deg[calibrator], calibrators.dec_deg[calibrator]
        apart = separation_rad(catalog.ra_deg, catalog.dec_deg, ra, dec) > _MATCH_RAD
        own = {
            "source_id": calibrators.name[calibrator],
            "ra_deg": ra,
            "dec_deg": dec,
            "flux_jy": calibrators.flux_at(calibrator, vis.freq_hz, default_index)[None],
            "catalog_err": 0.0 if calibrators.primary[calibrator] else 0.1,
            "compact": True,
        }
        columns = {k: np.concatenate([np.atleast_1d(own[k]), v[apart]]) for k, v in columns.items()}
    response = beam_response(vis, columns["ra_deg"], columns["dec_deg"], beam, mid_hz).mean(axis=0)
    apparent = columns["flux_jy"].mean(axis=1) * response[:, 0]
    keep = np.flatnonzero(apparent >= min_apparent_jy)
    keep = keep[np.argsort(-apparent[keep], kind="stable")]
    chosen = {k: v[keep] for k, v in columns.items()}
    found = (
        np.flatnonzero(keep == 0) if calibrators is not None and calibrator >= 0 else np.empty(0)
    )
    return SkyModel(
        **chosen, apparent_jy=apparent[keep], calibrator=int(found[0]) if len(found) else -1
    )
