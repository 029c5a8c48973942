"""Beam, stations, channels and times of the simulated telescope."""

import numpy as np
import pytest

from dsaflow.errors import ConfigError
from dsaflow.simulate.array import (
    C_M_S,
    airy,
    apparent_lst_rad,
    channel_grid,
    choose_stations,
    meridian_enu,
    meridian_icrs_deg,
    read_array,
    sky_rate,
    source_enu,
    transit_jd,
)

JD = 2461061.71


@pytest.mark.parametrize("angle_deg", [0.0, 0.7, 1.35, 2.0, 3.1, 4.2, 6.0])
@pytest.mark.parametrize("freq_hz", [1.32e9, 1.405e9, 1.49e9])
def test_beam_is_the_transform_of_the_aperture(angle_deg, freq_hz):
    """Power pattern of a uniformly lit disc of 4.65 m, integrated over strips of the aperture."""
    radius_m = 0.5 * 4.65
    # substitution x = r sin(t) makes the integrand smooth at the rim
    t = (np.arange(4000) + 0.5) / 4000 * np.pi - 0.5 * np.pi
    x_m, chord_m = radius_m * np.sin(t), 2 * radius_m * np.cos(t)
    path = 2 * np.pi * x_m * np.sin(np.radians(angle_deg)) * freq_hz / C_M_S
    weight = chord_m * radius_m * np.cos(t) * (np.pi / 4000)
    voltage = np.sum(np.cos(path) * weight) / (np.pi * radius_m**2)
    assert airy(np.sin(np.radians(angle_deg)), freq_hz, 4.65) == pytest.approx(voltage**2, abs=1e-6)


def test_full_width_at_half_maximum():
    half = np.sin(np.radians(0.5 * 2.70))
    assert airy(half, 1.405e9, 4.65) == pytest.approx(0.5, abs=0.005)


def test_channels_descend_from_the_first_subband():
    grid = channel_grid(48)
    assert grid.shape == (16, 48)
    assert (np.diff(grid.ravel()) == -244140.625).all()
    assert grid[0, 0] == 1498.6279296875e6
    assert grid[15, 47] == 1311.3720703125e6
    for channels in (1, 2, 3, 7, 24):
        thin = channel_grid(channels)
        assert np.isin(thin, grid).all()
        assert (np.diff(thin.ravel()) < 0).all()


def test_stations(repository):
    array = read_array(repository / "config/antennas.csv", 96)
    assert array.used.size == 96
    assert len(array.name) == 117
    used = {int(array.name[i]) for i in array.used}
    assert used.isdisjoint({10, 21, 22, 23, *range(52, 68), 117})
    for number in (3, 10, 48, 82, 90):
        few = read_array(repository / "config/antennas.csv", number)
        assert np.unique(few.used).size == number
        assert np.isin(few.used, array.used).all()
    core = read_array(repository / "config/antennas.csv", 48)
    assert max(int(core.name[i]) for i in core.used) < 103
    assert np.ptp(core.enu_m[core.used], axis=0)[:2] == pytest.approx(
        np.ptp(array.enu_m[[i for i in array.used if int(array.name[i]) < 103]], axis=0)[:2]
    )
    assert choose_stations(np.arange(1, 118), 117).size == 117


def test_enu_and_itrf_agree(repository):
    array = read_array(repository / "config/antennas.csv", 96)
    one, two = array.used[[0, -1]]
    assert np.linalg.norm(array.enu_m[one] - array.enu_m[two]) == pytest.approx(
        np.linalg.norm(array.itrf_m[one] - array.itrf_m[two]), abs=1e-6
    )
    # station 103 lies south of the centre (a copy in circulation has it 233 m too far north)
    south = array.name.index("103")
    assert array.enu_m[south, 1] == pytest.approx((37.2300025 - 37.2334051) * 110980, rel=0.002)


def test_meridian_is_hour_angle_zero():
    ra_deg, dec_deg = meridian_icrs_deg(np.array([JD]), 16.1)
    seen = source_enu(np.array([JD]), ra_deg, dec_deg)[0, 0]
    assert seen == pytest.approx(meridian_enu(np.radians(16.1)), abs=1e-10)


def test_sky_rate_is_the_derivative_of_apparent_places():
    ra, dec = np.array([75.0, 82.0]), np.array([10.0, 55.0])
    step_s = 6.0
    seen = source_enu(JD + np.array([-step_s, 0, step_s]) / 86400, ra, dec)
    measured = (seen[2] - seen[0]) / (2 * step_s)
    # JD in a float64 is good to 4e-5 s; aberration and nutation change by less
    assert measured == pytest.approx(sky_rate(seen[1]), abs=1e-9)


def test_transit_and_sidereal_time_agree():
    jd = transit_jd(80.0, 16.6, JD)
    assert 0 <= jd - JD < 0.9973
    seen = source_enu(np.array([jd]), np.array([80.0]), np.array([16.6]))[0, 0]
    assert abs(seen[0]) < 1e-8
    # apparent right ascension of date by precession alone: 26 yr x (3.07 + 1.34 sin ra tan dec) s
    precessed_deg = 80.0 + 26.07 * (46.12 + 20.04 * 0.985 * 0.298) / 3600
    assert np.degrees(apparent_lst_rad(np.array([jd]))[0]) == pytest.approx(precessed_deg, abs=0.01)


def test_earth_orientation_is_the_whole_tables_and_is_never_extrapolated():
    from astropy.utils import iers

    from dsaflow.simulate.earth import earth_orientation

    jd = np.array([2459000.3, 2459000.9])
    whole = iers.IERS_A.read(iers.IERS_A_FILE)
    with earth_orientation(jd):
        used = iers.earth_orientation_table.get()
        assert used.ut1_utc(jd).value == pytest.approx(whole.ut1_utc(jd).value, abs=1e-9)
        for mine, theirs in zip(used.pm_xy(jd), whole.pm_xy(jd), strict=True):
            assert mine.value == pytest.approx(theirs.value, abs=1e-9)
    with pytest.raises(ConfigError, match="Earth orientation"):
        apparent_lst_rad(np.array([2475000.0]))
