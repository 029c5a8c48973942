"""The field itself as the catalogue has it: taken off before far sources are sought beside it."""

import numpy as np
from numpy.typing import NDArray

from dsaflow.catalog import Catalog
from dsaflow.far.fringes import Fringes
from dsaflow.far.sources import directions
from dsaflow.far.tile import Tile, site_of
from dsaflow.geometry import separation_rad
from dsaflow.instrument import PrimaryBeam
from dsaflow.transit import beam_centre_icrs

# Fainter sources (apparent) add less than the noise of one cell of the fit, all together.
_LEAST_JY = 0.02
_REACH_RAD = np.radians(4.0)


def field_visibilities(
    tile: Tile,
    catalog: Catalog,
    beam: PrimaryBeam,
    channels: list[NDArray],
    default_index: float,
    without: NDArray,
) -> NDArray:
    """Model visibilities of the field's brighter sources [Jy].

    Parameters
    ----------
    tile : Tile
    catalog : Catalog
    beam : PrimaryBeam
    channels : list of int ndarray
        Channels by group.
    default_index : float
    without : bool ndarray, shape (n_catalog,)
        Rows to leave out.

    Returns
    -------
    complex64 ndarray, shape (n_time, n_baseline, n_channel)

    Notes
    -----
    Smearing is left out: it is below 1 % within the beam on the array's core, and what is subtracted
    here is added again. The catalogue's errors of 5 % leave a twentieth of the field's sidelobes.
    """
    used = np.concatenate(channels)
    near = separation_rad(tile.phase_ra_deg, tile.phase_dec_deg, catalog.ra_deg, catalog.dec_deg)
    field = catalog.select((near < _REACH_RAD) & ~without)
    mid_hz = tile.freq_hz[used].mean(keepdims=True)
    index = np.where(np.isnan(field.spectral_index), default_index, field.spectral_index)
    flux_mid = field.flux_jy * (mid_hz / field.frequency_hz) ** index
    bright = flux_mid * _response(tile, field, beam, mid_hz)[..., 0].mean(axis=0) >= _LEAST_JY
    field, index = field.select(bright), index[bright]
    shape = (len(tile.time_mjd), len(tile.antenna1), len(used))
    out = np.zeros(shape, np.complex64)
    if not len(field):
        return out
    flux = field.flux_jy * (tile.freq_hz[used, None] / field.frequency_hz) ** index
    response = _response(tile, field, beam, tile.freq_hz[used])
    fringes = Fringes(tile, directions(tile, field.ra_deg, field.dec_deg))
    for time in range(shape[0]):
        e = fringes.antenna_phasors(time, used)
        apparent = (flux * response[time].T).astype(np.float32)
        full = (e * apparent[:, None]) @ e.conj().transpose(0, 2, 1)
        out[time] = full[:, tile.antenna1, tile.antenna2].T
    return out


def _response(tile: Tile, field: Catalog, beam: PrimaryBeam, freq_hz: NDArray) -> NDArray:
    """Beam toward each source, shape (n_time, n_source, n_channel); 1 for an instrument that tracks."""
    if not np.isfinite(tile.pointing_dec_deg):
        return np.ones((len(tile.time_mjd), len(field), len(freq_hz)))
    ra, dec = beam_centre_icrs(beam, tile.time_mjd, tile.pointing_dec_deg, site_of(tile))
    apart = separation_rad(ra[:, None], dec[:, None], field.ra_deg, field.dec_deg)
    return beam.power(apart[..., None], freq_hz)
