"""Transit times and sidereal-day numbers against astropy's own frames."""

import itertools

import numpy as np
import pytest

from dsaflow.geometry import SIDEREAL_DAY_S, meridian_icrs
from dsaflow.instrument import HEIGHT_M, LATITUDE_DEG, LONGITUDE_DEG, PrimaryBeam
from dsaflow.transit import (
    beam_radius_deg,
    calibrators_in_reach,
    nearest_transit_mjd,
    next_transit_mjd,
    previous_transit_mjd,
    sidereal_turns,
    transit_number,
    transit_times_mjd,
)

BEAM = PrimaryBeam(4.65)


def astropy_hour_angle_s(time_mjd, ra_deg, dec_deg):
    """Hour angle in seconds of sidereal time, by astropy's transformation to HADec."""
    from astropy import units as u
    from astropy.coordinates import EarthLocation, HADec, SkyCoord
    from astropy.time import Time

    site = EarthLocation.from_geodetic(LONGITUDE_DEG, LATITUDE_DEG, HEIGHT_M)
    times = Time(time_mjd, format="mjd", scale="utc", location=site)
    frame = HADec(obstime=times, location=site)
    place = SkyCoord(ra_deg * u.deg, dec_deg * u.deg, frame="icrs").transform_to(frame)
    return place.ha.wrap_at(180 * u.deg).hourangle * 3600.0


@pytest.mark.parametrize(
    ("ra_deg", "dec_deg"),
    [(80.2911918, 16.6394587), (343.4906164, 16.1482114), (128.7287672, 55.5725197), (0.01, 54.6)],
)
def test_transits_agree_with_astropy(ra_deg, dec_deg):
    times = transit_times_mjd(ra_deg, dec_deg, 61040.3, 61050.3)
    assert len(times) == 10
    assert np.abs(astropy_hour_angle_s(times, ra_deg, dec_deg)).max() < 0.02
    # precession and aberration change the interval by far less than a second
    assert np.diff(times) * 86400.0 == pytest.approx(SIDEREAL_DAY_S, abs=0.2)


def test_every_transit_is_found_once_whatever_the_interval():
    whole = transit_times_mjd(80.3, 16.6, 61040.0, 61060.0)
    edges = np.linspace(61040.0, 61060.0, 131)
    parts = [transit_times_mjd(80.3, 16.6, a, b) for a, b in itertools.pairwise(edges)]
    assert np.concatenate(parts) == pytest.approx(whole, abs=1e-8)


def test_past_and_coming_transit():
    now = 61045.5
    before, after = previous_transit_mjd(80.3, 16.6, now), next_transit_mjd(80.3, 16.6, now)
    assert before <= now <= after
    assert (after - before) * 86400.0 == pytest.approx(SIDEREAL_DAY_S, abs=0.1)
    assert nearest_transit_mjd(80.3, 16.6, now) in (before, after)
    assert next_transit_mjd(80.3, 16.6, after + 1e-3) > after


@pytest.mark.parametrize("ra_deg", [0.0, 0.001, 0.3, 179.9, 359.7, 359.9999])
def test_consecutive_transits_differ_by_exactly_one(ra_deg):
    times = transit_times_mjd(ra_deg, 16.1, 59849.0, 60400.0)
    numbers = transit_number(times, ra_deg)
    assert (np.diff(numbers) == 1).all()
    # and the neighbourhood of a transit belongs to it, on either side of midnight UTC
    for offset in (-0.45, -0.1, 0.1, 0.45):
        assert (transit_number(times + offset, ra_deg) == numbers).all()


def test_sidereal_turns_are_continuous_and_follow_astropy():
    from astropy.time import Time

    times = np.arange(58849.0, 61200.0, 0.37)
    turns = sidereal_turns(times)
    assert np.diff(turns) == pytest.approx(0.37 * 86400.0 / SIDEREAL_DAY_S, abs=1e-6)
    sample = times[::50]
    expected = Time(sample, format="mjd", scale="utc").sidereal_time(
        "apparent", longitude=LONGITUDE_DEG
    )
    difference = (turns[::50] - expected.hour / 24.0 + 0.5) % 1.0 - 0.5
    assert np.abs(difference * 86400.0).max() < 0.01


def test_calibrators_are_ranked_by_apparent_flux_and_cut_by_the_beam():
    names = ["near", "far", "flank", "sidelobe"]
    mjd = 61045.0
    centre_ra, centre = meridian_icrs(mjd, 16.1)
    ra, dec = np.full(4, float(centre_ra)), float(centre) + np.array([0.0, 6.0, 1.354, 4.3])
    found = calibrators_in_reach(
        names, ra, dec, np.array([3.0, 100.0, 10.0, 1000.0]), 16.1, mjd, BEAM, 0.01
    )
    assert [c.name for c in found] == ["flank", "near"]
    # half power 1.35 deg out: 1.029 lambda/D / 2 = 1.354 deg at 1.405 GHz
    assert found[0].response == pytest.approx(0.5, abs=0.003)
    assert found[1].apparent_jy == pytest.approx(3.0, rel=1e-4)


def test_radius_of_the_beam_cut_is_where_an_airy_pattern_falls_to_it():
    from scipy.special import j1

    radius = np.radians(beam_radius_deg(BEAM, 0.2))
    x = np.pi * 4.65 * np.sin(radius) * 1.405e9 / 299792458.0
    assert (2 * j1(x) / x) ** 2 == pytest.approx(0.2, abs=1e-4)
