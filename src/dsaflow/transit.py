"""Meridian crossings: transit times, sidereal-day numbers, calibrators within a strip's reach."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dsaflow.geometry import (
    DSA110,
    SIDEREAL_DAY_S,
    Site,
    earth_orientation,
    hour_angle_declination,
    local_apparent_sidereal_time,
    meridian_icrs,
)
from dsaflow.instrument import BAND_HIGH_HZ, BAND_LOW_HZ, PrimaryBeam

_SIDEREAL_DAY_D = SIDEREAL_DAY_S / 86400.0
REFERENCE_FREQ_HZ = 0.5 * (BAND_LOW_HZ + BAND_HIGH_HZ)


def beam_centre_icrs(
    beam: PrimaryBeam, time_mjd: ArrayLike, pointing_dec_deg: float, site: Site = DSA110
) -> tuple[NDArray, NDArray]:
    """ICRS position of the primary beam's centre, which stands still while the sky drifts by.

    Parameters
    ----------
    beam : PrimaryBeam
        For its pointing offset.
    time_mjd : array_like, shape (n,)
        UTC.
    pointing_dec_deg : float
        Apparent declination of the header.

    Returns
    -------
    ra_deg, dec_deg : ndarray, shape (n,)

    Notes
    -----
    The offset is laid along ICRS axes, which are turned against those of date by up to 0.3 deg: of
    an offset of 0.1 deg that is 2 arcsec, 1e-4 of the beam.
    """
    return beam.shifted(*meridian_icrs(time_mjd, pointing_dec_deg, site))


def transit_times_mjd(
    ra_deg: float, dec_deg: float, start_mjd: float, stop_mjd: float, site: Site = DSA110
) -> NDArray:
    """Upper transits of an ICRS position.

    Parameters
    ----------
    ra_deg, dec_deg : float
        ICRS.
    start_mjd, stop_mjd : float
        UTC; both ends belong to the interval.

    Returns
    -------
    ndarray, shape (n_transit,)
        UTC MJD at which the observed hour angle is zero, ascending.

    Raises
    ------
    ValueError
        Times without known Earth rotation.

    Notes
    -----
    Newton steps on ERFA's hour angle; two leave less than a millisecond, since the hour angle of a
    fixed position runs uniformly to 1e-8.
    """
    if stop_mjd < start_mjd:
        return np.empty(0)
    hour_angle, _ = hour_angle_declination(start_mjd, ra_deg, dec_deg, site)
    # start one transit early: a transit just at the start must not be lost to rounding
    to_first = (-float(hour_angle) / (2 * np.pi)) % 1.0 - 1.0
    count = int(np.ceil((stop_mjd - start_mjd) / _SIDEREAL_DAY_D)) + 2
    times = start_mjd + _SIDEREAL_DAY_D * (to_first + np.arange(count))
    for _ in range(2):
        hour_angle, _ = hour_angle_declination(times, ra_deg, dec_deg, site)
        times = times - hour_angle / (2 * np.pi) * _SIDEREAL_DAY_D
    return times[(times >= start_mjd) & (times <= stop_mjd)]


def nearest_transit_mjd(
    ra_deg: float, dec_deg: float, time_mjd: float, site: Site = DSA110
) -> float:
    """UTC MJD of the transit nearest to a time."""
    reach = 0.75 * _SIDEREAL_DAY_D
    times = transit_times_mjd(ra_deg, dec_deg, time_mjd - reach, time_mjd + reach, site)
    return float(times[np.argmin(np.abs(times - time_mjd))])


def next_transit_mjd(ra_deg: float, dec_deg: float, time_mjd: float, site: Site = DSA110) -> float:
    """UTC MJD of the first transit at or after a time."""
    return float(
        transit_times_mjd(ra_deg, dec_deg, time_mjd, time_mjd + 1.01 * _SIDEREAL_DAY_D, site)[0]
    )


def previous_transit_mjd(
    ra_deg: float, dec_deg: float, time_mjd: float, site: Site = DSA110
) -> float:
    """UTC MJD of the last transit at or before a time."""
    return float(
        transit_times_mjd(ra_deg, dec_deg, time_mjd - 1.01 * _SIDEREAL_DAY_D, time_mjd, site)[-1]
    )


def sidereal_turns(time_mjd: ArrayLike, site: Site = DSA110) -> NDArray:
    """Local apparent sidereal time as a continuous count of turns since J2000.

    Parameters
    ----------
    time_mjd : array_like, shape (n,)
        UTC.

    Returns
    -------
    ndarray, shape (n,)
        Turns; the fraction is the apparent sidereal time / 24 h.
    """
    time_mjd = np.atleast_1d(np.asarray(time_mjd, float))
    fraction = local_apparent_sidereal_time(time_mjd, site) / (2 * np.pi)
    dut1, _, _ = earth_orientation(time_mjd)
    # Earth rotation angle without its wrap (Capitaine et al. 2000): right to 0.01 turn for decades
    ut1 = time_mjd + dut1 / 86400.0 - 51544.5
    coarse = 0.7790572732640 + 1.00273781191135448 * ut1 + site.longitude_rad / (2 * np.pi)
    return fraction + np.round(coarse - fraction)


def transit_number(time_mjd: ArrayLike, ra_deg: ArrayLike, site: Site = DSA110) -> NDArray:
    """Sidereal-day number (epoch) of a position: which of its transits a time belongs to.

    Parameters
    ----------
    time_mjd : array_like, shape (n,)
        UTC, within half a day of the transit meant.
    ra_deg : array_like
        ICRS right ascension; broadcast against the times.

    Returns
    -------
    ndarray of int64
        Consecutive transits of one position differ by exactly one, whatever the date, midnight or
        the side of RA = 0 on which neighbours lie.

    Notes
    -----
    Rounding, not truncation: precession (0.35 deg by 2027) and aberration move the apparent place,
    and a position near RA = 0 would jump between two numbers. Two positions on either side of
    RA = 0 observed in one run have numbers that differ by one: give each source its own.
    """
    turns = sidereal_turns(time_mjd, site)
    return np.round(turns - np.asarray(ra_deg, float) / 360.0).astype(np.int64)


@dataclass(frozen=True)
class ReachableCalibrator:
    """A calibrator as one strip sees it at transit."""

    name: str
    ra_deg: float
    dec_deg: float
    flux_jy: float
    response: float
    primary: bool = False

    @property
    def apparent_jy(self) -> float:
        """Flux density times the beam's response at transit [Jy]."""
        return self.flux_jy * self.response


def calibrators_in_reach(
    names: list[str],
    ra_deg: NDArray,
    dec_deg: NDArray,
    flux_jy: NDArray,
    strip_declination_deg: float,
    time_mjd: float,
    beam: PrimaryBeam,
    min_response: float,
    primary: NDArray | None = None,
) -> list[ReachableCalibrator]:
    """Calibrators that cross the beam of a strip, brightest (apparent) first.

    Parameters
    ----------
    names, ra_deg, dec_deg, flux_jy : sequences of length n
        ICRS positions and fluxes near 1.4 GHz.
    strip_declination_deg : float
        Apparent pointing declination.
    time_mjd : float
        UTC, for the apparent declinations (precession: 0.15 deg since 2000).
    beam : PrimaryBeam
    min_response : float
        Least response at transit, at the middle of the band.
    primary : ndarray of bool, optional

    Returns
    -------
    list of ReachableCalibrator
        Ties broken by name.
    """
    primary = np.zeros(len(names), bool) if primary is None else np.asarray(primary, bool)
    _, apparent = hour_angle_declination(time_mjd, ra_deg, dec_deg)
    offset = np.abs(apparent - np.radians(strip_declination_deg))
    # the far side of the Airy pattern rises again: nothing beyond the first null is in reach
    first_null = 1.22 / 1.029 * beam.fwhm_rad(REFERENCE_FREQ_HZ)
    response = np.where(offset < first_null, beam.power(offset, REFERENCE_FREQ_HZ), 0.0)
    found = [
        ReachableCalibrator(
            str(names[i]), float(ra_deg[i]), float(dec_deg[i]), float(flux_jy[i]),
            float(response[i]), bool(primary[i]),
        )
        for i in np.flatnonzero(response >= min_response)
    ]  # fmt: skip
    return sorted(found, key=lambda c: (-c.apparent_jy, c.name))


def beam_radius_deg(beam: PrimaryBeam, cut: float, freq_hz: float = REFERENCE_FREQ_HZ) -> float:
    """Radius at which the beam falls to `cut` of its peak [deg], inside the first null."""
    first_null = 1.22 / 1.029 * beam.fwhm_rad(freq_hz)
    radius = np.linspace(0.0, first_null, 4001)
    return float(np.degrees(np.interp(-cut, -beam.power(radius, freq_hz), radius)))
