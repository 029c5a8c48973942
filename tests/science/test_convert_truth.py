"""Converted visibilities against the forward model, which shares no geometry with the pipeline."""

import numpy as np
import pytest

from dsaflow import geometry
from dsaflow.config import load_config
from dsaflow.instrument import SPEED_OF_LIGHT_M_S, read_stations
from dsaflow.simulate import night
from dsaflow.simulate.array import airy, meridian_icrs_deg, read_array, source_enu
from dsaflow.simulate.schedule import tile_jd
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
    """A source at the centre: what is left are complex64's roundings."""
    assert np.abs(np.angle(vis.data)).max() < 2e-6


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


# dates of final, rapid and predicted Earth orientation (to November 2026), and of other aberration
STRIPS = [
    (16.1, "2026-01-25T00:00:00", 2),
    (16.1, "2026-01-25T00:00:00", 48),
    (33.0, "2025-07-02T00:00:00", 2),
    (54.6, "2024-10-03T00:00:00", 2),
    (71.6, "2026-11-20T00:00:00", 2),
]


@pytest.fixture(scope="module", params=STRIPS, ids=lambda p: f"dec {p[0]}, {p[2]} channels")
def strip(request, tmp_path_factory, repository):
    """A tile of all 96 stations with one source 1 deg off its centre, at the beam's flank."""
    declination_deg, start, channels = request.param
    folder = tmp_path_factory.mktemp("strip")
    changes = {
        "stations": 96,
        "integrations": 24 if channels < 48 else 3,
        "channels_per_subband": channels,
        "declination_deg": declination_deg,
        "start": start,
    }
    settings = settings_for(write_source(folder / "sky.csv", 80.0, 16.1), **changes)
    mid_jd = tile_jd(settings, 0, 0).mean(keepdims=True)
    ra0_deg, dec0_deg = (float(v[0]) for v in meridian_icrs_deg(mid_jd, declination_deg))
    source = ra0_deg + 0.8 / float(np.cos(np.radians(dec0_deg))), dec0_deg - 0.6
    settings = settings_for(write_source(folder / "sky.csv", *source), **changes)
    vis, _ = convert(folder, repository, settings)
    array = read_array(repository / "config/antennas.csv", 96)
    enu_m = array.enu_m[array.used]
    return settings, source, vis, enu_m[vis.antenna1] - enu_m[vis.antenna2]


def toward(vis, ra_deg, dec_deg):
    """The forward model's directions, shape (n_time, n_source, 3)."""
    return source_enu(vis.time_mjd + 2400000.5, np.array(ra_deg), np.array(dec_deg))


def test_visibilities_agree_with_the_forward_model(strip):
    settings, (ra_deg, dec_deg), vis, baseline_m = strip
    assert np.linalg.norm(baseline_m, axis=1).max() > 2600
    centre = vis.phase_ra_deg, vis.phase_dec_deg
    source, zero = np.moveaxis(toward(vis, [ra_deg, centre[0]], [dec_deg, centre[1]]), 1, 0)
    delay_m = np.einsum("bx,tx->tb", baseline_m, source - zero)
    from_zenith = np.radians(settings.declination_deg) - np.radians(vis.site_deg_m[1])
    beam_centre = np.array([0.0, np.sin(from_zenith), np.cos(from_zenith)])
    sine = np.linalg.norm(np.cross(source, beam_centre), axis=-1)
    beam = airy(sine[:, None], vis.freq_hz[None], 4.65)
    turns = delay_m[..., None] * vis.freq_hz / SPEED_OF_LIGHT_M_S
    truth = FLUX_JY * beam[:, None] * np.exp(2j * np.pi * turns)
    error = np.abs(vis.data - truth[..., None]) / FLUX_JY
    # asked: 1e-5. Measured: 0.8e-6, and 2e-6 with all channels, where the simulator's float32 phasors are
    # stepped 48 times; storage in complex64 alone makes 6e-8. 1e-5 is 0.025 mas on the longest baseline
    assert error.max() < 5e-6
    # the Measurement Set's equation, u l + v m + w (n - 1), up to differential aberration (1e-4)
    cosines = np.array(direction_cosines(ra_deg, dec_deg, *centre))
    equation = vis.uvw_m @ (cosines - [0, 0, 1])
    assert np.abs(equation - delay_m).max() < 2e-4 * np.abs(delay_m).max()


def test_uvw_agree_with_the_forward_model(strip):
    """w along the apparent place of the centre, v along ICRS north there, by differences of places."""
    _, _, vis, baseline_m = strip
    step_deg, centre = 0.001, (vis.phase_ra_deg, vis.phase_dec_deg)
    places = toward(vis, [centre[0]] * 3, centre[1] + step_deg * np.array([-1, 0, 1]))
    w_axis, v_axis = places[:, 1], places[:, 2] - places[:, 0]
    v_axis -= w_axis * np.sum(v_axis * w_axis, axis=1, keepdims=True)
    # the scale of apparent places differs from ICRS by aberration
    scale = np.linalg.norm(v_axis, axis=1, keepdims=True)
    assert np.abs(scale / np.radians(2 * step_deg) - 1).max() < 1.1e-4
    v_axis /= scale
    axes = np.stack([np.cross(v_axis, w_axis), v_axis, w_axis], axis=-1)
    error_m = np.abs(vis.uvw_m - np.einsum("bx,txi->tbi", baseline_m, axes)).max(axis=(0, 1))
    longest_m = np.linalg.norm(baseline_m, axis=1).max()
    # asked: 1e-5
    assert error_m[:2].max() < 1e-8 * longest_m
    assert error_m[2] < 1e-11 * longest_m


def direction_cosines(ra_deg, dec_deg, ra0_deg, dec0_deg):
    ra, dec, dec0 = np.radians([ra_deg - ra0_deg, dec_deg, dec0_deg])
    return (
        np.cos(dec) * np.sin(ra),
        np.sin(dec) * np.cos(dec0) - np.cos(dec) * np.sin(dec0) * np.cos(ra),
        np.sin(dec) * np.sin(dec0) + np.cos(dec) * np.cos(dec0) * np.cos(ra),
    )


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
