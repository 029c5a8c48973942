"""Converted visibilities against the forward model, which shares no geometry with the pipeline."""

import numpy as np
import pytest

from dsaflow import geometry
from dsaflow.config import load_config
from dsaflow.instrument import SPEED_OF_LIGHT_M_S, read_stations
from dsaflow.simulate import night
from dsaflow.simulate.array import airy, read_array, source_enu
from dsaflow.simulate.settings import Effects, SimulateSettings
from dsaflow.visibilities.convert import convert_tile
from dsaflow.visibilities.ms import read_ms

FLUX_JY = 7.0


def settings_for(table, **changes):
    quiet = Effects(**dict.fromkeys(Effects.model_fields, False) | {"beam_motion": True})
    plain = {
        "n_tiles": 1,
        "stations": 8,
        "integrations": 4,
        "channels_per_subband": 2,
        "calibrator": "",
        "source_table": str(table),
        "event": {"kind": "none"},
        "variable_fraction": 0.0,
        "correlator_unit": 1.0,
        "effects": quiet,
    }
    return SimulateSettings(**plain | changes)


def convert(tmp_path, repository, settings):
    (tile,) = night.simulate_night(settings, 0, tmp_path / "in", repository / "config/antennas.csv")
    files = sorted(str(f) for f in (tmp_path / "in").glob("*.hdf5"))
    stations = read_stations(repository / "config/antennas.csv")
    verdict = convert_tile(files, tmp_path / f"{tile}.ms", load_config(), stations)
    return read_ms(tmp_path / f"{tile}.ms"), verdict


def assert_no_phase(vis):
    """A source at the centre: within 1 mas on every baseline, which is 1e-5 on most of them.

    Of it 0.46 mas are a constant difference between ERFA driven by hand and astropy's frames.
    """
    phase = np.angle(vis.data)
    assert np.median(np.abs(phase)) < 1e-5
    turns = np.linalg.norm(vis.uvw_m, axis=-1)[..., None] * vis.freq_hz / SPEED_OF_LIGHT_M_S
    assert (np.abs(phase) < 2 * np.pi * turns[..., None] * 4.8e-9 + 1e-6).all()


def write_source(path, ra_deg, dec_deg):
    path.write_text(
        f"ra_deg,dec_deg,flux_jy,spectral_index\n{ra_deg!r},{dec_deg!r},{FLUX_JY},0.0\n"
    )
    return path


@pytest.fixture(scope="module")
def centre(tmp_path_factory, repository):
    """Phase centre of the tile, which depends on its time and declination only."""
    folder = tmp_path_factory.mktemp("centre")
    settings = settings_for(write_source(folder / "sky.csv", 80.0, 16.1))
    vis, _ = convert(folder, repository, settings)
    return vis.phase_ra_deg, vis.phase_dec_deg


def test_source_at_the_phase_centre_has_no_phase(tmp_path, repository, centre):
    vis, verdict = convert(
        tmp_path, repository, settings_for(write_source(tmp_path / "sky.csv", *centre))
    )
    assert verdict.verdict == "pass"
    assert_no_phase(vis)
    assert not vis.flags.any()


def test_visibilities_of_an_offset_source_agree_with_the_forward_model(
    tmp_path, repository, centre
):
    ra_deg, dec_deg = centre[0] + 0.8, centre[1] - 0.6
    settings = settings_for(write_source(tmp_path / "sky.csv", ra_deg, dec_deg), stations=20)
    vis, _ = convert(tmp_path, repository, settings)
    array = read_array(repository / "config/antennas.csv", 20)
    jd = vis.time_mjd + 2400000.5
    toward = source_enu(jd, np.array([ra_deg, centre[0]]), np.array([dec_deg, centre[1]]))
    enu_m = array.enu_m[array.used]
    baseline_m = enu_m[vis.antenna1] - enu_m[vis.antenna2]
    delay_m = np.einsum("bx,tx->tb", baseline_m, toward[:, 0] - toward[:, 1])
    from_zenith = np.radians(settings.declination_deg) - np.radians(vis.site_deg_m[1])
    beam_centre = np.array([0.0, np.sin(from_zenith), np.cos(from_zenith)])
    sine = np.linalg.norm(np.cross(toward[:, 0], beam_centre), axis=-1)
    beam = airy(sine[:, None], vis.freq_hz[None], 4.65)
    turns = delay_m[..., None] * vis.freq_hz / SPEED_OF_LIGHT_M_S
    truth = FLUX_JY * beam[:, None] * np.exp(2j * np.pi * turns)
    error = np.abs(vis.data - truth[..., None]) / FLUX_JY
    # the rest is 0.4 mas between ERFA driven by hand and astropy, on the longest baseline
    assert np.sqrt(np.mean(error**2)) < 1e-5
    assert error.max() < 3e-5
    # uvw against the same independent directions: w is the delay toward the centre
    w_m = np.einsum("bx,tx->tb", baseline_m, toward[:, 1])
    assert np.abs(vis.uvw_m[..., 2] - w_m).max() < 1e-5 * np.abs(baseline_m).max()
    # the Measurement Set's equation, u l + v m + w (n - 1), up to differential aberration (1e-4)
    cosines = np.array(direction_cosines(ra_deg, dec_deg, *centre))
    equation = vis.uvw_m @ (cosines - [0, 0, 1])
    assert np.abs(equation - delay_m).max() < 2e-4 * np.abs(delay_m).max()


def direction_cosines(ra_deg, dec_deg, ra0_deg, dec0_deg):
    ra, dec, dec0 = np.radians([ra_deg - ra0_deg, dec_deg, dec0_deg])
    return (
        np.cos(dec) * np.sin(ra),
        np.sin(dec) * np.cos(dec0) - np.cos(dec) * np.sin(dec0) * np.cos(ra),
        np.sin(dec) * np.sin(dec0) + np.cos(dec) * np.cos(dec0) * np.cos(ra),
    )


def test_uvw_lie_along_icrs_north(tmp_path, repository, centre):
    """u and v by numerical differentiation of the delay over ICRS position."""
    settings = settings_for(write_source(tmp_path / "sky.csv", *centre), stations=20)
    vis, _ = convert(tmp_path, repository, settings)
    array = read_array(repository / "config/antennas.csv", 20)
    step_deg = 0.01
    ra0, dec0 = centre
    east_deg = step_deg / np.cos(np.radians(dec0))
    toward = source_enu(
        vis.time_mjd + 2400000.5,
        np.array([ra0 + east_deg, ra0 - east_deg, ra0, ra0]),
        np.array([dec0, dec0, dec0 + step_deg, dec0 - step_deg]),
    )
    enu_m = array.enu_m[array.used]
    baseline_m = enu_m[vis.antenna1] - enu_m[vis.antenna2]
    for axis, (plus, minus) in enumerate(((0, 1), (2, 3))):
        slope = (toward[:, plus] - toward[:, minus]) / (2 * np.radians(step_deg))
        expected = np.einsum("bx,tx->tb", baseline_m, slope)
        # the scale of apparent places differs from ICRS by aberration, up to 1.0e-4
        assert np.abs(vis.uvw_m[..., axis] - expected).max() < 1.5e-4 * np.abs(baseline_m).max()


def test_receptors_are_not_exchanged(tmp_path, repository, centre):
    """X and Y have gains of their own, which the simulator states."""
    from dsaflow.simulate import effects

    settings = settings_for(write_source(tmp_path / "sky.csv", *centre))
    settings.effects.gain_drift = True
    vis, _ = convert(tmp_path, repository, settings)
    array = read_array(repository / "config/antennas.csv", 8)
    gain = effects.gains(settings, 0, 0, len(array.name), vis.time_mjd + 2400000.5)[:, array.used]
    amplitude = np.abs(gain[:, vis.antenna1] * gain[:, vis.antenna2])
    plain, _ = convert(
        tmp_path / "plain", repository, settings_for(write_source(tmp_path / "sky.csv", *centre))
    )
    ratio = np.abs(vis.data) / np.abs(plain.data)
    assert np.abs(ratio - amplitude[:, :, None]).max() < 1e-5


def test_channels_ascend_and_hold_their_own_subband(tmp_path, repository, centre):
    table = tmp_path / "sky.csv"
    table.write_text(
        f"ra_deg,dec_deg,flux_jy,spectral_index\n{centre[0]!r},{centre[1]!r},{FLUX_JY},-2.0\n"
    )
    vis, _ = convert(tmp_path, repository, settings_for(table))
    assert (np.diff(vis.freq_hz) > 0).all()
    spectrum = np.abs(vis.data[vis.time_mjd.size // 2]).mean(axis=(0, 2))
    ra_deg, dec_deg = geometry.meridian_icrs(vis.time_mjd, 16.1)
    away_rad = geometry.separation_rad(ra_deg, dec_deg, *centre)[vis.time_mjd.size // 2]
    expected = FLUX_JY * (vis.freq_hz / 1.4e9) ** -2.0 * airy(np.sin(away_rad), vis.freq_hz, 4.65)
    assert spectrum == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("declination_deg", [33.0, 54.6, 71.6])
def test_other_strips(tmp_path, repository, declination_deg):
    table = write_source(tmp_path / "sky.csv", 80.0, declination_deg)
    settings = settings_for(table, declination_deg=declination_deg)
    vis, _ = convert(tmp_path, repository, settings)
    settings.source_table = str(
        write_source(tmp_path / "centre.csv", vis.phase_ra_deg, vis.phase_dec_deg)
    )
    vis, _ = convert(tmp_path / "again", repository, settings)
    assert_no_phase(vis)
    assert vis.pointing_dec_deg == pytest.approx(declination_deg, abs=1e-9)
