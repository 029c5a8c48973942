"""The array, the band and the primary beam, as the pipeline believes them to be."""

import os
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

SPEED_OF_LIGHT_M_S = 299792458.0
# Reference position (T-centre) of dsa110-antpos, 2022-02-15.
LATITUDE_DEG = np.degrees(0.6498455107238486)
LONGITUDE_DEG = np.degrees(-2.064427799136453)
HEIGHT_M = 1188.05
TELESCOPE = "DSA_110"

SUBBANDS = 16
CHANNELS_PER_SUBBAND = 48
CHANNEL_WIDTH_HZ = 187.5e6 / 768
BAND_LOW_HZ, BAND_HIGH_HZ = 1311.25e6, 1498.75e6
SUBBAND_WIDTH_HZ = CHANNELS_PER_SUBBAND * CHANNEL_WIDTH_HZ
INTEGRATION_S = 12.884902000427246
INTEGRATIONS = 24
TILE_S = INTEGRATION_S * INTEGRATIONS


def radiometer_noise_jy(
    sefd_jy: float, n_antenna: float, bandwidth_hz: float, time_s: float, n_pol: int = 2
) -> float:
    """Thermal noise of a naturally weighted Stokes I image [Jy/beam].

    sigma = SEFD / sqrt(n_pol N (N-1) bandwidth time) (Thompson, Moran & Swenson 2017, eq. 6.62).
    """
    return sefd_jy / np.sqrt(n_pol * n_antenna * (n_antenna - 1) * bandwidth_hz * time_s)


@lru_cache(maxsize=1)
def _airy_table() -> tuple[NDArray, float]:
    """(2 J1(x)/x)^2 tabulated over x in [0, 60]; linear interpolation errs by < 1e-7.

    J1(x) is Bessel's integral, 2/pi times that of sin(x sin t) sin t from 0 to pi/2, by the midpoint
    rule: with 28 nodes its error is of the order of J_111(60), below rounding. Importing
    scipy.special would take a quarter of a second of every job.
    """
    x = np.linspace(0.0, 60.0, 60_001)
    nodes = 28
    bessel = np.zeros_like(x)
    for sine in np.sin((np.arange(nodes) + 0.5) * np.pi / (2 * nodes)):
        bessel += np.sin(x * sine) * sine / nodes
    table = np.ones_like(x)
    table[1:] = np.square(2 * bessel[1:] / x[1:])
    return table, x[1]


def airy_power(separation_rad: ArrayLike, freq_hz: ArrayLike, diameter_m: float) -> NDArray:
    """Power response of a uniformly lit circular dish, (2 J1(x)/x)^2 with x = pi D sin(theta)/lambda.

    Parameters
    ----------
    separation_rad : array_like
        Angle from the beam's centre.
    freq_hz : array_like
        Broadcast against `separation_rad`.
    diameter_m : float
        Effective diameter.

    Returns
    -------
    ndarray
        Response relative to the centre, 0 to 1.

    Notes
    -----
    Born & Wolf, Principles of Optics, sec. 8.5.2. Half power at 1.029 lambda/D.
    """
    scale = np.pi * diameter_m * np.asarray(freq_hz, dtype=float) / SPEED_OF_LIGHT_M_S
    x = np.abs(np.sin(np.asarray(separation_rad, dtype=float))) * scale
    table, step = _airy_table()
    index = np.minimum((x / step).astype(np.int64), table.size - 2)
    fraction = np.minimum(x / step - index, 1.0)
    return table[index] * (1 - fraction) + table[index + 1] * fraction


@dataclass(frozen=True)
class PrimaryBeam:
    """The primary beam: an Airy pattern with an effective diameter, or one per tabulated frequency.

    Attributes
    ----------
    diameter_m : float
        Effective diameter where no table is given.
    table_freq_hz, table_diameter_m : ndarray or None
        Effective diameter against frequency (linear interpolation, constant beyond the ends).
    offset_deg : (float, float)
        Centre less (meridian, header's declination), east and north on the sky.
    """

    diameter_m: float
    table_freq_hz: NDArray | None = None
    table_diameter_m: NDArray | None = None
    offset_deg: tuple[float, float] = (0.0, 0.0)

    @classmethod
    def from_config(cls, beam) -> "PrimaryBeam":
        """Build from the configuration's ``instrument.beam`` section."""
        if beam.table_freq_hz:
            return cls(
                beam.effective_diameter_m,
                np.asarray(beam.table_freq_hz, dtype=float),
                np.asarray(beam.table_diameter_m, dtype=float),
                offset_deg=beam.pointing_offset_deg,
            )
        return cls(beam.effective_diameter_m, offset_deg=beam.pointing_offset_deg)

    def effective_diameter_m(self, freq_hz: ArrayLike) -> NDArray:
        """Effective diameter at each frequency [m]."""
        freq_hz = np.asarray(freq_hz, dtype=float)
        if self.table_freq_hz is None or self.table_diameter_m is None:
            return np.full(freq_hz.shape, self.diameter_m)
        return np.interp(freq_hz, self.table_freq_hz, self.table_diameter_m)

    def power(self, separation_rad: ArrayLike, freq_hz: ArrayLike) -> NDArray:
        """Power response at `separation_rad` and `freq_hz` (broadcast), 0 to 1."""
        freq_hz = np.asarray(freq_hz, dtype=float)
        # D enters only through D * frequency
        scaled = freq_hz * self.effective_diameter_m(freq_hz) / self.diameter_m
        return airy_power(separation_rad, scaled, self.diameter_m)

    def shifted(self, ra_deg: NDArray, dec_deg: NDArray) -> tuple[NDArray, NDArray]:
        """Centre of the beam where the meridian's position (ICRS) is given."""
        east_deg, north_deg = self.offset_deg
        return ra_deg + east_deg / np.cos(np.radians(dec_deg)), dec_deg + north_deg

    def fwhm_rad(self, freq_hz: float) -> float:
        """Full width at half power [rad]."""
        return float(
            1.0290 * SPEED_OF_LIGHT_M_S / (freq_hz * self.effective_diameter_m(np.array(freq_hz)))
        )


@dataclass(frozen=True)
class Stations:
    """Surveyed stations: names ``1`` to ``117``, geodetic WGS84 positions, active flag."""

    number: NDArray
    latitude_deg: NDArray
    longitude_deg: NDArray
    height_m: NDArray
    active: NDArray

    def itrf_m(self) -> NDArray:
        """Geocentric positions, shape (n, 3) [m] (WGS84 by ERFA gd2gc)."""
        import erfa

        return erfa.gd2gc(
            1, np.radians(self.longitude_deg), np.radians(self.latitude_deg), self.height_m
        )


def read_stations(path: str | os.PathLike) -> Stations:
    """Read ``config/antennas.csv``."""
    import csv

    with open(path, newline="") as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    return Stations(
        np.array([int(row["station"]) for row in rows]),
        np.array([float(row["latitude_deg"]) for row in rows]),
        np.array([float(row["longitude_deg"]) for row in rows]),
        np.array([float(row["height_m"]) for row in rows]),
        np.array([bool(int(row["active"])) for row in rows]),
    )
