"""Visibilities in memory, in the Measurement Set's convention."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass
class Visibilities:
    """One tile's cross-correlations on one phase centre.

    Attributes
    ----------
    data : complex64 ndarray, shape (n_time, n_baseline, n_channel, n_pol)
        V = sum S exp(+2 pi i nu/c (u l + v m + w (n - 1))) with `uvw_m` as stored: the Measurement
        Set's convention (baseline antenna1 - antenna2; a UVH5's visibilities conjugated). A gain
        enters as g_antenna1 conj(g_antenna2).
    flags : bool ndarray, same shape
        True where not to be used.
    uvw_m : float64 ndarray, shape (n_time, n_baseline, 3)
        position(antenna1) - position(antenna2), toward the phase centre, v along ICRS north.
    antenna1, antenna2 : int ndarray, shape (n_baseline,)
        Indices into `antenna_name`.
    time_mjd : float64 ndarray, shape (n_time,)
        UTC, middle of the integration.
    integration_s : float
    freq_hz : float64 ndarray, shape (n_channel,)
        Channel centres, ascending.
    channel_width_hz : float
    polarization : tuple of str
        For example ("XX", "YY").
    antenna_name : list of str, length n_antenna
    antenna_itrf_m : float64 ndarray, shape (n_antenna, 3)
        Geocentric.
    phase_ra_deg, phase_dec_deg : float
        ICRS phase centre.
    pointing_dec_deg : float
        Apparent declination of the pointing (the header's), NaN for an instrument that tracks.
    site_deg_m : tuple
        Longitude, latitude [deg] and height [m] of the array.
    telescope : str
    """

    data: NDArray
    flags: NDArray
    uvw_m: NDArray
    antenna1: NDArray
    antenna2: NDArray
    time_mjd: NDArray
    integration_s: float
    freq_hz: NDArray
    channel_width_hz: float
    polarization: tuple[str, ...]
    antenna_name: list[str]
    antenna_itrf_m: NDArray
    phase_ra_deg: float
    phase_dec_deg: float
    pointing_dec_deg: float
    site_deg_m: tuple[float, float, float]
    telescope: str = "DSA_110"
    extra: dict = field(default_factory=dict)

    @property
    def mid_mjd(self) -> float:
        """Middle of the tile, UTC MJD."""
        return float(0.5 * (self.time_mjd[0] + self.time_mjd[-1]))

    @property
    def n_antenna(self) -> int:
        """Number of antennas in the table."""
        return len(self.antenna_name)

    def unflagged_fraction(self) -> float:
        """Fraction of visibilities that are not flagged."""
        return float(1.0 - np.count_nonzero(self.flags) / self.flags.size)
