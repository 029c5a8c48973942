"""Unit visibilities of far sources: phase, smearing in time and frequency, extent."""

import numpy as np
from numpy.typing import NDArray

from dsaflow.far.sources import FarSources
from dsaflow.far.tile import Tile, site_of
from dsaflow.geometry import hour_angle_declination, uvw_hour_angle
from dsaflow.instrument import SPEED_OF_LIGHT_M_S

_EARTH_RATE_RAD_S = 7.2921150e-5


class Fringes:
    """What a source of 1 Jy leaves on each baseline, integration and channel.

    Parameters
    ----------
    tile : Tile
    sources : FarSources

    Notes
    -----
    Phases are against the phase centre. Losses are against the point that the correlator tracks
    (the meridian at the pointing's declination; the phase centre of an instrument that tracks):
    sinc(delay x channel width) and sinc(fringe rate x integration). A 1 km baseline loses 0.4 % by
    the first and 20 % by the second to a source 5 deg away.
    """

    def __init__(self, tile: Tile, sources: FarSources) -> None:
        self._tile, self._sources = tile, sources
        # a cubic in frequency between four nodes follows the smearing over the band
        low, high = tile.freq_hz[0], tile.freq_hz[-1]
        self._node_hz = np.linspace(low, high, 4) if high > low else np.array([low])
        self._losses_of = -1
        self._at_nodes = np.zeros(0)
        site = site_of(tile)
        itrf = tile.antenna_itrf_m - tile.antenna_itrf_m.mean(axis=0)

        def toward(hour_angle: NDArray, declination: NDArray) -> NDArray:
            """Antenna uvw [m], shape (*places, n_antenna, 3)."""
            ha, dec = np.broadcast_arrays(hour_angle, declination)
            return uvw_hour_angle(itrf, ha.ravel(), dec.ravel(), site).reshape(*ha.shape, -1, 3)

        ha, dec = sources.hour_angle_rad, sources.declination_rad
        centre = hour_angle_declination(tile.time_mjd, tile.phase_ra_deg, tile.phase_dec_deg, site)
        tracked = centre
        if np.isfinite(tile.pointing_dec_deg):
            tracked = (
                np.zeros_like(centre[0]),
                np.full_like(centre[1], np.radians(tile.pointing_dec_deg)),
            )
        seen, reference = toward(ha, dec), toward(*tracked)[:, None]
        self._uv_m = seen[..., :2]
        self._path_m = seen[..., 2] - toward(*centre)[:, None, :, 2]
        self._delay_m = seen[..., 2] - reference[..., 2]
        # dw/dt of a place fixed on the sky: w = b . s, and the hour angle grows by the Earth's turn
        rate = _EARTH_RATE_RAD_S
        self._rate_m_s = rate * (
            np.cos(dec)[..., None] * -seen[..., 0]
            + np.cos(tracked[1])[:, None, None] * reference[..., 0]
        )

    def antenna_phasors(self, time: int, channels: NDArray) -> NDArray:
        """exp(2 pi i nu path / c), complex64, shape (n_channel, n_antenna, n_source)."""
        freq_hz = self._tile.freq_hz[channels]
        turns = freq_hz[:, None, None] * (self._path_m[time].T / SPEED_OF_LIGHT_M_S)
        phase = (2 * np.pi * (turns - np.rint(turns))).astype(np.float32)
        out = np.empty(phase.shape, np.complex64)
        np.cos(phase, out=out.real)
        np.sin(phase, out=out.imag)
        return out

    def losses(self, time: int, freq_hz: float) -> NDArray:
        """Modulus of the unit visibilities, float32, shape (n_baseline, n_source)."""
        if self._losses_of != time:
            self._losses_of = time
            self._at_nodes = self._losses_at_nodes(time)
        weights = np.array([
            np.prod([(freq_hz - b) / (a - b) for b in self._node_hz if b != a])
            for a in self._node_hz
        ])  # fmt: skip
        loss = np.tensordot(weights.astype(np.float32), self._at_nodes, axes=1)
        # a disc's lobes are too narrow in frequency for the nodes
        for s in np.flatnonzero(self._sources.disc):
            width_rad = float(self._sources.width_rad[s])
            loss[:, s] *= extent(self._lengths_s(time, int(s)) * freq_hz, width_rad, True)
        return loss

    def _lengths_s(self, time: int, source: int) -> NDArray:
        """Projected baselines in light travel time, shape (n_baseline,)."""
        uv = self._uv_m[time, source]
        apart = uv[self._tile.antenna1] - uv[self._tile.antenna2]
        return np.hypot(*apart.T) / SPEED_OF_LIGHT_M_S

    def _losses_at_nodes(self, time: int) -> NDArray:
        """Losses at the nodes of frequency, shape (n_node, n_baseline, n_source)."""
        tile = self._tile
        one, two = tile.antenna1, tile.antenna2

        def difference(values: NDArray) -> NDArray:
            return ((values[:, one] - values[:, two]) / SPEED_OF_LIGHT_M_S).T

        turns = difference(self._rate_m_s[time]) * tile.integration_s
        loss = np.stack([_sinc(turns * f) for f in self._node_hz])
        loss *= _sinc(difference(self._delay_m[time]) * tile.channel_width_hz)
        for s in np.flatnonzero((self._sources.width_rad > 0) & ~self._sources.disc):
            length_lambda = np.outer(self._node_hz, self._lengths_s(time, int(s)))
            loss[..., s] *= extent(length_lambda, float(self._sources.width_rad[s]), False)
        return loss

    def rows(self, time: int, channels: NDArray) -> NDArray:
        """Unit visibilities, complex64, shape (n_channel, n_baseline, n_source).

        The losses are those of the channels' mean frequency: keep these within a subband.
        """
        e = self.antenna_phasors(time, channels)
        out = e[:, self._tile.antenna1]
        out *= e.conj()[:, self._tile.antenna2]
        out *= self.losses(time, float(self._tile.freq_hz[channels].mean()))
        return out


def _sinc(turns: NDArray) -> NDArray:
    """sin(pi x) / (pi x) in single precision."""
    x = np.maximum(np.abs(turns * np.pi), 1e-4).astype(np.float32)
    return np.sin(x) / x


def extent(length_lambda: NDArray, width_rad: float, disc: bool) -> NDArray:
    """Visibility of a Gaussian of this FWHM, or of a uniform disc of this diameter, of 1 Jy."""
    x = np.pi * width_rad * length_lambda
    if not disc:
        return np.exp(-(x**2) / (4 * np.log(2)))
    from scipy.special import j1  # slow to import, and needed by day alone

    return np.where(x > 1e-6, 2 * j1(np.maximum(x, 1e-6)) / np.maximum(x, 1e-6), 1.0)
