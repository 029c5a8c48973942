"""Files of a night: quirks, one seed, gains, interference and its truth, dead antennas, missing nights."""

import re
from datetime import datetime

import h5py
import numpy as np
import pytest

from dsaflow.simulate import effects, night
from dsaflow.simulate.array import channel_grid, read_array
from dsaflow.simulate.settings import Effects, SimulateSettings

SMALL = {
    "stations": 6, "channels_per_subband": 2, "integrations": 3, "n_tiles": 2, "n_epochs": 3,
    "max_sources": 12, "dead_antennas": [],
}  # fmt: skip


def quiet(*on):
    return Effects(**{name: name in on for name in Effects.model_fields})


def read_all(folder, tile=0, n_tile=2):
    """Data of one tile as (time, baseline, channel ascending, receptor), and the headers."""
    files = sorted(folder.glob("*.hdf5"))
    groups: dict[float, list] = {}
    for path in files:
        with h5py.File(path) as file:
            groups.setdefault(float(file["Header/time_array"][0]), []).append(path)
    assert len(groups) == n_tile
    chosen = groups[sorted(groups)[tile]]
    parts = []
    for path in chosen:
        with h5py.File(path) as file:
            n_time = int(file["Header/Ntimes"][()])
            data = file["Data/visdata"][()]
            parts.append((file["Header/freq_array"][()], data.reshape(n_time, -1, *data.shape[1:])))
    freq_hz = np.concatenate([f for f, _ in parts])
    order = np.argsort(freq_hz)
    return np.concatenate([d for _, d in parts], axis=2)[:, :, order]


def simulate(folder, repository, epoch=0, **changes):
    settings = SimulateSettings(**{**SMALL, **changes})
    tiles = night.simulate_night(settings, epoch, folder, repository / "config/antennas.csv")
    return settings, tiles


def test_files_are_like_the_telescopes(tmp_path, repository):
    settings, tiles = simulate(tmp_path, repository)
    files = sorted(tmp_path.iterdir())
    assert len(files) == 2 * 16
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d_sb\d\d\.hdf5", f.name) for f in files)
    assert [datetime.strptime(t, "%Y%m%dT%H%M%S").year for t in tiles] == [2026, 2026]
    first = [f for f in files if abs(_name_jd(f) - night.tile_jd(settings, 0, 0)[0]) < 2e-4]
    assert len(first) == 16
    jitter_s = np.ptp([_name_jd(f) for f in first]) * 86400
    assert 0.5 < jitter_s < 2.5
    times, tops = set(), {}
    for path in first:
        with h5py.File(path) as file:
            header = file["Header"]
            times.add(header["time_array"][()].tobytes())
            tops[int(path.name[-7:-5])] = header["freq_array"][0]
            assert header["uvw_array"].dtype == np.float32
            assert (header["channel_width"][()] == -244140.625).all()
            assert (np.diff(header["freq_array"][()]) < 0).all()
            assert header["Nants_data"][()] == 6
            assert header["antenna_names"].shape == (117,)
            assert header["Nblts"][()] == 3 * 21
            assert header["polarization_array"][()].tolist() == [-5, -6]
            assert (header["integration_time"][()] == 12.884902000427246).all()
            keywords = header["extra_keywords"]
            assert keywords["phase_center_dec"][()] == np.radians(16.1)
            assert keywords["ha_phase_center"][()] == 0.0
            assert keywords["phase_center_epoch"][()] == b"HADEC"
            assert len(keywords["applied_delays_ns"][()].split()) == 234
            assert file["Data/visdata"].dtype == np.complex64
            assert not file["Data/flags"][()].any()
            assert (file["Data/nsamples"][()] == 1).all()
    assert len(times) == 1
    # the highest frequency is in sb00
    assert (np.diff([tops[n] for n in range(16)]) < 0).all()


def _name_jd(path):
    start = datetime.fromisoformat(path.name[:19] + "+00:00")
    return start.timestamp() / 86400 + 2440587.5


def test_one_seed_gives_the_same_night_in_any_order(tmp_path, repository):
    simulate(tmp_path / "a", repository, 1)
    simulate(tmp_path / "b", repository, 0)
    simulate(tmp_path / "b2", repository, 1)
    one, two = read_all(tmp_path / "a"), read_all(tmp_path / "b2")
    assert one.tobytes() == two.tobytes()
    assert not np.array_equal(one, read_all(tmp_path / "b"))
    simulate(tmp_path / "c", repository, 1, seed=1)
    assert not np.array_equal(one, read_all(tmp_path / "c"))


def test_a_night_later_is_a_sidereal_day_later():
    settings = SimulateSettings(**SMALL)
    first, second = (night.tile_jd(settings, n, 1) for n in (0, 1))
    assert (second - first) * 86400 == pytest.approx(86164.0905, abs=1e-3)
    assert np.diff(first) * 86400 == pytest.approx(12.884902, abs=1e-4)
    tiles = [night.tile_jd(settings, 0, t) for t in (0, 1)]
    assert (tiles[1][0] - tiles[0][-1]) * 86400 == pytest.approx(12.884902, abs=1e-4)


def test_a_missing_night_has_no_data(tmp_path, repository):
    _, tiles = simulate(tmp_path, repository, 1, missing_epochs=[1])
    assert tiles == []
    assert not list(tmp_path.glob("*.hdf5"))


def test_gains_and_bandpass_are_those_stated(tmp_path, repository):
    """Data with gains over data without = g1 conj(g2), by channel, time and receptor."""
    changes = {"n_tiles": 1, "integrations": 3}
    settings, _ = simulate(
        tmp_path / "gain", repository, effects=quiet("gain_drift", "bandpass"), **changes
    )
    simulate(tmp_path / "plain", repository, effects=quiet(), **changes)
    ratio = read_all(tmp_path / "gain", n_tile=1) / read_all(tmp_path / "plain", n_tile=1)
    array = read_array(repository / "config/antennas.csv", 6)
    freq_hz = np.sort(channel_grid(2).ravel())
    gain = effects.gains(settings, 0, 0, 117, night.tile_jd(settings, 0, 0))
    total = (gain[..., None] * effects.bandpass(settings, 117, freq_hz))[:, array.used]
    first, second = np.triu_indices(6)
    expected = np.moveaxis(total[:, first] * np.conj(total[:, second]), 2, 3)
    assert np.abs(ratio - expected).max() < 1e-4


def test_drift_has_the_stated_size():
    settings = SimulateSettings(effects=quiet("gain_drift"))
    jd = 2461060.0 + np.arange(0, 60, 0.5)
    gain = effects.gains(settings, 0, 0, 117, jd)
    amplitude, phase = np.abs(gain), np.angle(gain)
    # 3 % an antenna, 1 % in common; 20 deg
    own = amplitude / amplitude.mean(axis=(1, 2), keepdims=True)
    assert own.std() == pytest.approx(0.03, rel=0.1)
    assert np.degrees(phase.std()) == pytest.approx(20, rel=0.05)
    common = np.array([effects.gains(settings, 0, 0, 117, jd)]).mean(axis=(0, 2, 3))
    assert np.abs(common).std() / np.abs(common).mean() == pytest.approx(0.01, rel=0.6)
    # receptors are alike, not equal
    correlation = np.corrcoef(phase[..., 0].ravel(), phase[..., 1].ravel())[0, 1]
    assert correlation == pytest.approx(0.64, abs=0.05)
    # a minute changes little, six hours most of it
    soon = effects.gains(settings, 0, 0, 117, jd + 60 / 86400)
    assert np.degrees(np.angle(soon / gain)).std() < 0.2
    later = effects.gains(settings, 0, 0, 117, jd + 0.25)
    assert np.corrcoef(np.angle(later).ravel(), phase.ravel())[0, 1] == pytest.approx(
        np.exp(-0.5), abs=0.05
    )


def test_interference_is_where_the_truth_says(tmp_path, repository):
    changes = {"n_tiles": 1, "integrations": 8, "channels_per_subband": 8}
    settings, _ = simulate(tmp_path / "rfi", repository, effects=quiet("rfi"), **changes)
    simulate(tmp_path / "plain", repository, effects=quiet(), **changes)
    dirty = read_all(tmp_path / "rfi", n_tile=1)
    clean = read_all(tmp_path / "plain", n_tile=1)
    truth = night.rfi_truth(settings, 0, 0, 21)
    assert truth.shape == dirty.shape
    changed = np.abs(dirty - clean) > 1e-6 * np.abs(clean).max()
    assert (changed == (truth > 0)).mean() > 0.999
    share = (truth > 0).mean()
    assert 0.1 < share < 0.6
    narrow = (truth > 0).all(axis=(0, 1, 3))
    assert 1 <= narrow.sum() <= 6
    only_narrow = np.where(narrow[:, None], truth, 0)
    quiet_times = ~(truth > 0).all(axis=(1, 3))[:, ~narrow].any(axis=1)
    added = np.abs(dirty - clean)[quiet_times] / settings.correlator_unit
    assert added == pytest.approx(only_narrow[quiet_times], rel=1e-3, abs=2e-3)
    # different on each baseline
    strength = truth[quiet_times][0][:, narrow][:, 0, 0]
    assert np.unique(strength).size == 21


def test_dead_antennas_say_next_to_nothing(tmp_path, repository):
    simulate(tmp_path, repository, dead_antennas=["28"], stations=8, n_tiles=1)
    array = read_array(repository / "config/antennas.csv", 8)
    dead = [array.name[i] for i in array.used].index("28")
    first, second = np.triu_indices(8)
    power = np.abs(read_all(tmp_path, n_tile=1)).mean(axis=(0, 2, 3))
    silent = (first == dead) | (second == dead)
    assert power[silent & (first != second)].max() < 1e-3 * power[~silent].min()
    assert power[silent].max() > 0


def test_full_array_tile(tmp_path, repository):
    simulate(tmp_path, repository, full_array_tiles=[[0, 1]], integrations=2)
    assert read_all(tmp_path, 0).shape[1] == 21
    assert read_all(tmp_path, 1).shape[1] == 96 * 97 // 2


def test_effects_leave_each_others_draws_alone(tmp_path, repository):
    """Noise alone equals the difference that switching noise makes."""
    simulate(tmp_path / "n", repository, effects=quiet("noise"), n_tiles=1)
    simulate(tmp_path / "nr", repository, effects=quiet("noise", "rfi"), n_tiles=1)
    simulate(tmp_path / "r", repository, effects=quiet("rfi"), n_tiles=1)
    simulate(tmp_path / "q", repository, effects=quiet(), n_tiles=1)
    n, nr, r, q = (read_all(tmp_path / k, n_tile=1) for k in ("n", "nr", "r", "q"))
    cross = np.subtract(*np.triu_indices(6)) != 0
    both = (nr - r)[:, cross]
    stuck = np.all(both == 0, axis=(1, 2, 3))
    assert stuck.sum() == 1
    assert np.abs(both - (n - q)[:, cross])[~stuck].max() < 1e-4


def test_truth_tables(tmp_path, repository):
    import pandas as pd

    settings = SimulateSettings(**SMALL)
    summary = night.write_truth(settings, tmp_path, repository / "config/antennas.csv")
    tables = {p.stem: pd.read_parquet(p) for p in tmp_path.glob("*.parquet")}
    assert set(tables) == {"sources", "fluxes", "tiles", "interference", "gains", "bandpass"}
    sources, fluxes = tables["sources"], tables["fluxes"]
    assert summary["ese"]["source_id"] in set(sources["source_id"])
    assert len(fluxes) == 3 * len(sources)
    calibrator = sources.loc[sources["kind"] == "calibrator", "source_id"].item()
    one = fluxes.loc[fluxes["source_id"] == calibrator]
    assert np.ptp(one["band_flux_jy"]) == 0
    assert (one["flux_b0_jy"] > one["flux_b3_jy"]).all()
    _, tiles = simulate(tmp_path / "in", repository, 2)
    assert tables["tiles"].loc[tables["tiles"]["epoch"] == 2, "tile"].tolist() == tiles
    assert len(tables["gains"]) == 3 * 2 * 117 * 2
    assert len(tables["bandpass"]) == 117 * 2 * 32


@pytest.mark.parametrize("epoch", [0, 1])
def test_noise_in_the_files_is_the_radiometer_equations(tmp_path, repository, epoch):
    changes = {"stations": 24, "integrations": 4, "n_tiles": 1}
    settings, _ = simulate(tmp_path / "n", repository, epoch, effects=quiet("noise"), **changes)
    simulate(tmp_path / "q", repository, epoch, effects=quiet(), **changes)
    added = read_all(tmp_path / "n", n_tile=1) - read_all(tmp_path / "q", n_tile=1)
    cross = np.subtract(*np.triu_indices(24)) != 0
    values = added[:, cross].view(np.float32) / settings.correlator_unit
    assert values.size == 276 * 4 * 32 * 2 * 2
    # 6500 Jy / sqrt(2 x 244140.625 Hz x 12.884902 s) = 2.5915 Jy, known to 0.19 %
    assert values.std() == pytest.approx(2.5915, rel=0.0094)
    assert abs(values.mean()) < 5 * 2.5915 / np.sqrt(values.size)


def one_source(tmp_path, *on, offset_deg=(0.3, 1.2), **changes):
    """Visibilities of a source off the pointing at mid-tile, on one long baseline and a short one."""
    settings = SimulateSettings(
        calibrator="", centre_ra_deg=80.0, n_tiles=1, channels_per_subband=1, integrations=9,
        event={"kind": "none"}, effects=quiet(*on), **changes,
    )  # fmt: skip
    ra_deg, dec_deg = (float(np.mean(v)) for v in night.pointing_track(settings))
    ra_deg = float(ra_deg + offset_deg[0] / np.cos(np.radians(dec_deg)))
    table = tmp_path / "one.csv"
    table.write_text(
        f"ra_deg,dec_deg,flux_jy,spectral_index\n{ra_deg!r},{dec_deg + offset_deg[1]!r},1.0,0.0\n"
    )
    settings.source_table = str(table)
    jd = night.tile_jd(settings, 0, 0)
    baseline_m = np.array([[1600.0, 20.0, 1.0], [8.0, 0.0, 0.0]])
    return np.abs(night.true_visibilities(settings, night.true_sky(settings), 0, jd, baseline_m))


def test_beam_moves_or_stands_still(tmp_path):
    moving, static = one_source(tmp_path, "beam_motion"), one_source(tmp_path)
    assert np.ptp(static, axis=0).max() < 1e-6
    assert moving[4] == pytest.approx(static[4], rel=1e-5)
    assert (np.diff(moving[:, 1, 8]) != 0).all()
    assert np.ptp(moving[:, 1, 8]) > 0.02


def test_smearing_takes_from_long_baselines_only(tmp_path):
    plain = one_source(tmp_path, offset_deg=(0.0, 2.0), declination_deg=54.6)
    smeared = one_source(tmp_path, "smearing", offset_deg=(0.0, 2.0), declination_deg=54.6)
    loss = 1 - smeared[4] / plain[4]
    # two degrees north: 7.4 % at 1405 MHz on 1696 m, as the square of both
    expected = 0.0743 * (1600 / 1696) ** 2 * (channel_grid(1).ravel() / 1.405e9) ** 2
    assert loss[0].ravel() == pytest.approx(expected, rel=0.03)
    assert loss[1].max() < 1e-4


def test_beam_error_is_the_other_beam_off_its_place(tmp_path):
    from dsaflow.simulate.array import airy

    changes = {"beam_error_diameter_m": 4.2, "pointing_offset_deg": (0.3, 1.2)}
    onto = one_source(tmp_path, "beam_error", **changes)
    assert onto[4] == pytest.approx(1, abs=2e-3)
    changes["pointing_offset_deg"] = (0.0, 0.0)
    off = one_source(tmp_path, "beam_error", **changes)
    sine = np.sin(np.radians(np.hypot(0.3, 1.2)))
    assert off[4, 1, :, 0] == pytest.approx(airy(sine, channel_grid(1)[:, 0], 4.2), abs=2e-3)
