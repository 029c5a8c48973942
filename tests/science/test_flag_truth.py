"""Flagging against known interference: what is found, what is lost, what is left in an image."""

from dataclasses import dataclass

import numpy as np
import pytest

from dsaflow.config import load_config
from dsaflow.errors import DataRejected, ReasonCode
from dsaflow.visibilities.container import Visibilities
from dsaflow.visibilities.flag import flag_tile, flag_visibilities
from dsaflow.visibilities.flagfile import read_flags, write_flags
from dsaflow.visibilities.ms import write_ms

SIGMA_JY = 2.59  # of one component: 6500 Jy / sqrt(2 x 244 kHz x 12.9 s)


@dataclass
class Tile:
    vis: Visibilities
    interference: np.ndarray
    alive: np.ndarray
    dead: list

    def measures(self, flags):
        """Found above 3 sigma, lost of the clean, growth of the noise of the natural mean."""
        strength = np.abs(self.interference[:, self.alive])
        flagged = flags[:, self.alive]
        left = np.where(flagged, 0, strength)
        kept = np.count_nonzero(~flagged)
        found = flagged[strength > 3 * SIGMA_JY].mean() if strength.any() else np.nan
        # phases are independent: the powers of noise and interference add in a weighted mean
        growth = np.sqrt(1 + np.sum(left**2) / (2 * SIGMA_JY**2 * kept)) - 1
        return found, flagged[strength == 0].mean(), growth

    def kept_power(self, flags):
        """Power of the clean visibilities that are kept over that of all, in units of their mean."""
        clean = self.interference[:, self.alive] == 0
        power = np.abs(self.vis.data[:, self.alive]) ** 2
        power /= np.mean(power, axis=0, where=clean)
        kept = clean & ~flags[:, self.alive]
        return power[kept].mean() / power[clean].mean()


def simulate(seed, kinds, n_antenna=40, n_channel=16, n_time=24, flux_jy=0.0, median_sigma=8.0):
    """One tile: noise, two sources that beat, a bandpass with jumps, interference, dead antennas."""
    rng = np.random.default_rng(seed)
    antenna1, antenna2 = np.triu_indices(n_antenna, 1)
    n_baseline = antenna1.size
    shape = (n_time, n_baseline, n_channel, 2)
    step_hz = 187.5e6 / 16 if n_channel == 16 else 244140.625
    freq_hz = 1.3132e9 + step_hz * np.arange(n_channel)
    sky = np.zeros(shape, np.complex64)
    place_m = rng.normal(size=(n_antenna, 2)) * 200
    beam = 1 - 0.4 * np.linspace(-0.2, 1, n_time) ** 2
    for flux, cosines in ((flux_jy, (0.002, -0.01)), (0.15 * flux_jy, (0.012, 0.01))):
        delay_s = (place_m[antenna1] - place_m[antenna2]) @ cosines / 2.998e8
        turn = 1 + 0.02 * np.linspace(-1, 1, n_time)
        phase = turn[:, None, None] * delay_s[:, None] * freq_hz
        sky += (flux * beam[:, None, None] * np.exp(2j * np.pi * phase))[..., None]
    added = interference(rng, kinds, shape, median_sigma * SIGMA_JY)
    noise = SIGMA_JY * (rng.normal(size=shape) + 1j * rng.normal(size=shape))
    ripple = 1 + 0.06 * np.sin(np.linspace(0, 25, n_channel) + rng.uniform(0, 6, (n_antenna, 1)))
    jumps = np.repeat(rng.uniform(0.85, 1.15, 16), n_channel // 16)
    level = rng.uniform(0.8, 1.25, (n_antenna, 1, 2)) * (ripple * jumps)[..., None]
    gain = level * np.exp(2j * np.pi * rng.random((n_antenna, 1, 2)))
    data = (sky + noise + added) * (gain[antenna1] * gain[antenna2].conj())
    dead = rng.choice(n_antenna, 2, replace=False)
    silent = np.isin(antenna1, dead) | np.isin(antenna2, dead)
    data[:, silent] *= 1e-4
    vis = Visibilities(
        data=data.astype(np.complex64), flags=np.zeros(shape, bool),
        uvw_m=np.zeros((n_time, n_baseline, 3)), antenna1=antenna1, antenna2=antenna2,
        time_mjd=61060 + np.arange(n_time) * 12.884902 / 86400, integration_s=12.884902,
        freq_hz=freq_hz, channel_width_hz=244140.625, polarization=("XX", "YY"),
        antenna_name=[str(i + 1) for i in range(n_antenna)],
        antenna_itrf_m=np.zeros((n_antenna, 3)), phase_ra_deg=80.0, phase_dec_deg=16.0,
        pointing_dec_deg=16.1, site_deg_m=(-118.283, 37.2334, 1188.0),
    )  # fmt: skip
    return Tile(vis, added, ~silent, sorted(str(i + 1) for i in dead))


def interference(rng, kinds, shape, median_jy):
    """Different in strength and phase on each baseline."""
    n_time, n_baseline, n_channel, n_pol = shape
    added = np.zeros(shape, np.complex64)

    def on_baselines():
        return median_jy * rng.lognormal(0, 0.5, (n_baseline, 1, n_pol))

    def phases(*size):
        return np.exp(2j * np.pi * rng.random(size))

    if "streak" in kinds:
        begin = rng.integers(n_time - 2)
        added[begin : begin + 2] += on_baselines() * phases(2, n_baseline, n_channel, n_pol)
    if "stuck" in kinds:
        added[rng.integers(n_time)] += on_baselines() * phases(n_baseline, n_channel, n_pol)
    if "fluctuating" in kinds:
        channel = rng.integers(n_channel)
        strength = on_baselines()[:, 0] * rng.uniform(0.7, 1.3, (n_time, 1, 1))
        added[:, :, channel] += strength * phases(n_time, n_baseline, n_pol)
    if "steady" in kinds:
        channel = rng.integers(n_channel)
        added[:, :, channel] += on_baselines()[:, 0] * phases(n_baseline, n_pol)
    if "bursts" in kinds:  # each baseline at times and in channels of its own
        for baseline in np.flatnonzero(rng.random(n_baseline) < 0.3):
            channel, begin = rng.integers(n_channel), rng.integers(n_time - 4)
            strength = median_jy * rng.lognormal(0, 0.5)
            added[begin : begin + 4, baseline, channel] += strength * phases(4, n_pol)
    return added


@pytest.mark.parametrize(
    ("kinds", "options"),
    [
        ("streak stuck fluctuating bursts", {}),
        ("steady bursts", {"median_sigma": 5.0}),
        ("streak stuck steady bursts", {"flux_jy": 8.5}),
        ("streak fluctuating", {"flux_jy": 22.0, "median_sigma": 12.0}),
        ("streak stuck steady bursts", {"n_antenna": 24, "n_channel": 192}),
        ("streak steady bursts", {"n_antenna": 24, "n_channel": 192, "flux_jy": 22.0}),
    ],
)
def test_interference_is_found_and_little_else(kinds, options):
    tile = simulate(11, kinds.split(), **options)
    flags, numbers = flag_visibilities(tile.vis, load_config().flag)
    found, lost, growth = tile.measures(flags)
    assert found >= 0.95
    assert lost < 0.03
    assert growth < 0.05
    assert numbers["dead_antennas"] == {"XX": tile.dead, "YY": tile.dead}
    assert flags[:, ~tile.alive].all()


@pytest.mark.parametrize(
    ("flux_jy", "n_channel"), [(0.0, 16), (8.5, 16), (22.0, 16), (0.0, 192), (22.0, 192)]
)
def test_fringes_of_a_calibrator_and_the_bandpass_are_kept(flux_jy, n_channel):
    tile = simulate(5, (), n_antenna=24, n_channel=n_channel, flux_jy=flux_jy)
    flags, _ = flag_visibilities(tile.vis, load_config().flag)
    _, lost, _ = tile.measures(flags)
    assert 0 < lost < 0.03
    # Noise and sky are cut alike by a limit on their sum: a source below the noise of a visibility
    # loses as much of its flux as is lost of the power. The scatter is 1e-4 and less.
    assert tile.kept_power(flags) == pytest.approx(1, abs=0.002)


def test_one_dead_receptor_of_a_live_antenna():
    tile = simulate(2, ())
    victim = next(i for i in range(40) if str(i + 1) not in tile.dead)
    mine = (tile.vis.antenna1 == victim) | (tile.vis.antenna2 == victim)
    tile.vis.data[:, mine, :, 1] *= 1e-3
    flags, numbers = flag_visibilities(tile.vis, load_config().flag)
    assert str(victim + 1) in numbers["dead_antennas"]["YY"]
    assert str(victim + 1) not in numbers["dead_antennas"]["XX"]
    assert flags[:, mine, :, 1].all()
    assert flags[:, mine & tile.alive, :, 0].mean() < 0.03


def test_interference_at_one_antenna_only():
    tile = simulate(4, ())
    mine = (tile.vis.antenna1 == 7) | (tile.vis.antenna2 == 7)
    tile.vis.data[6, mine] *= 3
    flags, _ = flag_visibilities(tile.vis, load_config().flag)
    assert flags[6, mine].mean() > 0.95
    assert flags[6, ~mine & tile.alive].mean() < 0.03


def test_a_repeated_integration_is_flagged():
    tile = simulate(6, ())
    turn = np.exp(2j * np.pi * np.random.default_rng(0).random(tile.vis.antenna1.size))
    tile.vis.data[9] = tile.vis.data[8] * turn[:, None, None].astype(np.complex64)
    flags, _ = flag_visibilities(tile.vis, load_config().flag)
    assert flags[9].all()
    assert flags[8][tile.alive].mean() < 0.1


def test_flags_of_the_input_survive():
    tile = simulate(7, ())
    tile.vis.flags[:, :, 3] = True
    tile.vis.flags[2, ::3, 5] = True
    before = tile.vis.flags.copy()
    flags, numbers = flag_visibilities(tile.vis, load_config().flag)
    assert flags[before].all()
    assert np.array_equal(tile.vis.flags, before), "the input is read-only"
    assert numbers["fraction_by_channel"][3] == 1.0
    assert flags[:, tile.alive][:, :, [0, 1, 2, 4]].mean() < 0.03


def test_file_and_verdict(tmp_path):
    tile = simulate(8, ["streak"])
    write_ms(tmp_path / "a.ms", tile.vis)
    verdict = flag_tile(tmp_path / "a.ms", tmp_path / "flags.h5", load_config())
    flags = read_flags(tmp_path / "flags.h5")
    assert verdict.verdict == "pass"
    assert verdict.numbers["flagged_fraction"] == flags.mean()
    assert verdict.numbers["fraction_by_time"] == pytest.approx(flags.mean((1, 2, 3)), abs=1e-5)
    assert verdict.numbers["fraction_by_antenna"][tile.dead[0]] == 1.0
    assert (tmp_path / "flags.h5").stat().st_size < flags.size / 8


def test_nothing_flagged_and_all_flagged_are_rejections(tmp_path, monkeypatch):
    tile = simulate(9, (), n_antenna=10)
    write_ms(tmp_path / "a.ms", tile.vis)
    config = load_config({"flag": {"max_flagged_fraction": 0.01}})
    with pytest.raises(DataRejected) as caught:
        flag_tile(tmp_path / "a.ms", tmp_path / "flags.h5", config)
    assert caught.value.code == ReasonCode.ALL_FLAGGED
    from dsaflow.visibilities import flag

    monkeypatch.setattr(flag, "_flag_polarization", lambda *_: {"dead_antennas": []})
    with pytest.raises(DataRejected) as caught:
        flag_tile(tmp_path / "a.ms", tmp_path / "flags.h5", load_config())
    assert caught.value.code == ReasonCode.NOTHING_FLAGGED
    assert not (tmp_path / "flags.h5").exists()


@pytest.mark.parametrize("shape", [(2, 3, 5, 2), (1, 1, 1, 1), (4, 6, 16, 2)])
def test_flag_file_round_trip(tmp_path, shape):
    flags = np.random.default_rng(1).random(shape) < 0.3
    write_flags(tmp_path / "f.h5", flags)
    assert np.array_equal(read_flags(tmp_path / "f.h5"), flags)
