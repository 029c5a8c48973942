"""Geometry against astropy's frames, which it does not use."""

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import EarthLocation, HADec, SkyCoord
from astropy.time import Time
from astropy.utils import iers

from dsaflow import geometry
from dsaflow.instrument import HEIGHT_M, LATITUDE_DEG, LONGITUDE_DEG

PLACE = EarthLocation.from_geodetic(LONGITUDE_DEG, LATITUDE_DEG, HEIGHT_M)
# across the leap second of 2017-01-01, and (2026-11-27) beyond the final values of Earth orientation
TIMES_MJD = np.array([57753.9, 57754.1, 60000.3, 61070.2, 61371.2])


@pytest.fixture(scope="module", autouse=True)
def orientation():
    """Astropy's reading of the installed table.

    Its default replaces the final values before autumn 2024 by a reprocessed series (C04), which differs by
    up to 0.4 ms of UT1; since then the two agree to 4 microseconds.
    """
    table = iers.IERS_A.open(iers.IERS_A_FILE)
    with iers.earth_orientation_table.set(table):
        yield table


def test_hour_angles_and_declinations_agree_with_astropy():
    rng = np.random.default_rng(1)
    ra, dec = rng.uniform(0, 360, 200), rng.uniform(-35, 85, 200)
    for time in TIMES_MJD:
        ours = geometry.hour_angle_declination(time, ra, dec)
        frame = HADec(obstime=Time(time, format="mjd"), location=PLACE)
        seen = SkyCoord(ra, dec, unit="deg").transform_to(frame)
        turn = np.angle(np.exp(1j * (ours[0] - seen.ha.rad))) * np.cos(ours[1])
        # 0.1 microarcsecond; a longest baseline's phase is right to 1e-5 at 25
        assert np.degrees(np.abs(turn)).max() * 3600e6 < 0.1
        assert np.degrees(np.abs(ours[1] - seen.dec.rad)).max() * 3600e6 < 0.1


def test_earth_orientation_is_astropys(orientation):
    """Final values (Bulletin B) where there are any: rapid ones were once taken, 0.03 ms off."""
    dut1, x, y = geometry.earth_orientation(TIMES_MJD)
    expected = Time(TIMES_MJD, format="mjd")
    ut1_utc = u.Quantity(orientation.ut1_utc(expected), u.s).value
    assert dut1 == pytest.approx(ut1_utc, abs=1e-9)
    pole = orientation.pm_xy(expected)
    assert x == pytest.approx(pole[0].to_value(u.rad), abs=1e-13)
    assert y == pytest.approx(pole[1].to_value(u.rad), abs=1e-13)


def test_earth_orientation_is_that_of_the_reprocessed_series_too():
    """IERS C04, another file and another solution, to 5 microseconds and 0.06 mas since autumn 2024."""
    from astropy_iers_data import IERS_B_FILE

    times = Time(60650.3 + 50.1 * np.arange(12), format="mjd")
    other = iers.IERS_B.open(IERS_B_FILE)
    dut1, x, y = geometry.earth_orientation(times.mjd)
    assert dut1 == pytest.approx(other.ut1_utc(times).to_value(u.s), abs=5e-6)
    pole = other.pm_xy(times)
    assert x == pytest.approx(pole[0].to_value(u.rad), abs=3e-10)
    assert y == pytest.approx(pole[1].to_value(u.rad), abs=3e-10)


def test_earth_orientation_is_never_extrapolated():
    with pytest.raises(ValueError, match="install a newer astropy-iers-data"):
        geometry.earth_orientation([70000.0])


def test_sidereal_time_agrees_with_astropy():
    ours = geometry.local_apparent_sidereal_time(TIMES_MJD)
    theirs = Time(TIMES_MJD, format="mjd").sidereal_time("apparent", longitude=PLACE.lon).rad
    # astropy counts it from the TIO, 0.013 mas (6e-11) off in 2026
    assert ours == pytest.approx(theirs, abs=1e-10)


def test_the_meridian_round_trips():
    ra, dec = geometry.meridian_icrs(TIMES_MJD, 16.1)
    ha, apparent = geometry.hour_angle_declination(TIMES_MJD, ra, dec)
    assert ha == pytest.approx(np.zeros(TIMES_MJD.size), abs=1e-10)
    assert np.degrees(apparent) == pytest.approx(np.full(TIMES_MJD.size, 16.1), abs=1e-9)


def test_precession_is_not_forgotten():
    """RA taken for apparent sidereal time would be wrong by a third of a degree in 2026."""
    ra, _ = geometry.meridian_icrs(61070.2, 16.1)
    lst_deg = np.degrees(geometry.local_apparent_sidereal_time(61070.2))
    assert 0.25 < (lst_deg - ra)[0] % 360 < 0.45


def test_projected_baselines_point_along_icrs():
    """A source north and east of the centre has the phase that l, m, n say, to 1e-5 of a turn per km."""
    rng = np.random.default_rng(2)
    antennas = rng.uniform(-500, 500, (6, 3))
    time, ra, dec = np.array([61070.2, 61070.203]), 80.0, 16.1
    uvw = geometry.projected_baselines(antennas, time, ra, dec)
    step_deg = 0.05
    for dra, ddec in ((step_deg, 0.0), (0.0, step_deg)):
        there = SkyCoord(ra + dra, dec + ddec, unit="deg")
        offset = SkyCoord(ra, dec, unit="deg").spherical_offsets_to(there)
        east, north = np.sin(offset[0].rad), np.sin(offset[1].rad)
        moved = geometry.projected_baselines(antennas, time, ra + dra, dec + ddec)[..., 2]
        up = np.sqrt(1 - east**2 - north**2)
        expected = uvw @ np.array([east, north, up])
        # differential aberration over 0.05 deg is 1e-4 of the offset: 0.5 mm at 500 m
        assert np.abs(moved - expected).max() < 1e-3


def test_circular_mean_and_separation_across_zero():
    assert geometry.circular_mean_deg([359.0, 1.0]) == pytest.approx(0.0, abs=1e-9) or (
        geometry.circular_mean_deg([359.0, 1.0]) == pytest.approx(360.0, abs=1e-9)
    )
    assert np.degrees(geometry.separation_rad(359.5, 0, 0.5, 0)) == pytest.approx(1.0)
