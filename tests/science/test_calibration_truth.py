"""The whole calibration of simulated tiles against the gains that the simulator injected."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import chi2

from dsaflow.calibration.solutions import read_h5parm
from dsaflow.calibration.stages import apply_calibration, solve_bandpass, solve_gains
from dsaflow.config import Config
from dsaflow.instrument import read_stations
from dsaflow.simulate import effects
from dsaflow.simulate.array import read_array
from dsaflow.simulate.night import simulate_night, write_reference_catalog
from dsaflow.simulate.settings import SimulateSettings
from dsaflow.visibilities.convert import convert_tile
from dsaflow.visibilities.flagfile import write_flags
from dsaflow.visibilities.ms import read_ms

ANTENNAS = "config/antennas.csv"
CALIBRATORS = "config/calibrators.csv"
SEFD_JY = 6500.0


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """Two tiles of a night: converted, flagged for the dead antenna, solved and corrected."""
    place = tmp_path_factory.mktemp("chain")
    settings = SimulateSettings(
        stations=40, channels_per_subband=1, n_tiles=2, max_sources=150,
        dead_antennas=["12", "81"], effects={"rfi": False},
    )  # fmt: skip
    tiles = simulate_night(settings, 0, place / "incoming", ANTENNAS)
    write_reference_catalog(settings, place / "catalog.parquet")
    config = Config()
    stations = read_stations(ANTENNAS)
    names = sorted((place / "incoming").iterdir())
    for k, tile in enumerate(tiles):
        files = [str(f) for f in names[16 * k : 16 * (k + 1)]]
        folder = place / tile
        folder.mkdir()
        convert_tile(files, folder / "data.ms", config, stations)
        vis = read_ms(folder / "data.ms")
        dead = np.isin(vis.antenna_name, settings.dead_antennas)
        flags = vis.flags.copy()
        flags[:, dead[vis.antenna1] | dead[vis.antenna2]] = True
        write_flags(folder / "flags.h5", flags)
    bandpass = place / tiles[0] / "bandpass.h5"
    solved = solve_bandpass(
        place / tiles[0] / "data.ms", place / tiles[0] / "flags.h5", place / "catalog.parquet",
        CALIBRATORS, bandpass, config,
    )  # fmt: skip
    verdicts = []
    for tile in tiles:
        folder = place / tile
        inputs = folder / "data.ms", folder / "flags.h5", [bandpass]
        gains = solve_gains(*inputs, place / "catalog.parquet", folder / "gains.h5", config)
        applied = apply_calibration(
            *inputs, [folder / "gains.h5"], folder / "calibrated.ms", config
        )
        verdicts.append((gains, applied))
    return SimpleNamespace(
        place=place, tiles=tiles, settings=settings, bandpass=solved, verdicts=verdicts
    )


def injected(chain, tile):
    """Gains in the Measurement Set's convention, shape (n_time, n_channel, n_antenna, 2)."""
    vis = read_ms(chain.place / tile / "data.ms")
    array = read_array(ANTENNAS, chain.settings.stations)
    slot = [list(array.name).index(n) for n in vis.antenna_name]
    number, jd = chain.tiles.index(tile), vis.time_mjd + 2400000.5
    drift = effects.gains(chain.settings, 0, number, len(array.name), jd)[:, slot]
    shape = effects.bandpass(chain.settings, len(array.name), vis.freq_hz)[slot]
    total = drift[:, None] * shape.transpose(2, 0, 1)[None]
    return vis, total.conj() * np.sqrt(chain.settings.correlator_unit)


def test_bandpass_meets_theory_in_every_channel(chain):
    vis, truth = injected(chain, chain.tiles[0])
    solution = read_h5parm(chain.place / chain.tiles[0] / "bandpass.h5")
    numbers = chain.bandpass.numbers
    assert chain.bandpass.verdict == "pass"
    assert numbers["calibrator"] == "3C138"
    reference = vis.antenna_name.index(numbers["reference_antenna"])
    dead = np.isin(vis.antenna_name, chain.settings.dead_antennas)
    ratio = (solution.gain[0] / truth.mean(axis=0))[:, ~dead]
    assert dead.sum() == 2
    assert np.isfinite(ratio).all(), "a healthy antenna is lost"
    assert np.isnan(solution.gain[0][:, dead]).all()
    keep = np.flatnonzero(~dead)
    ratio = ratio * np.exp(-1j * np.angle(ratio[:, list(keep).index(reference)]))[:, None]
    length_s = vis.integration_s * len(vis.time_mjd)
    theory = SEFD_JY / (
        numbers["calibrator_apparent_jy"]
        * np.sqrt(2 * vis.channel_width_hz * length_s * (len(keep) - 1))
    )
    amplitude = np.abs(ratio) - 1
    by_channel = np.sqrt((amplitude**2).mean(axis=(1, 2)))
    bound = 1.3 * np.hypot(theory, 0.005)
    assert by_channel.max() < bound
    # 38 antennas x 2 receptors sample a channel's rms to 8 %: at the error of theory one channel of
    # the 16 is above the bound once in 10 000 skies, by chance alone
    n = amplitude[0].size
    assert len(by_channel) * chi2.sf(n * (bound / theory) ** 2, n) < 1e-4
    assert np.sqrt((amplitude**2).mean()) < bound
    assert abs(amplitude.mean()) < 0.003
    assert np.median(np.abs(amplitude.mean(axis=0))) < 0.005
    assert np.degrees(np.median(np.abs(np.angle(ratio).mean(axis=0)))) < 0.5


def test_gains_follow_the_drift_of_each_tile(chain):
    for tile, (gains, applied) in zip(chain.tiles, chain.verdicts, strict=True):
        vis, truth = injected(chain, tile)
        bandpass = read_h5parm(chain.place / chain.tiles[0] / "bandpass.h5").gain
        solution = read_h5parm(chain.place / tile / "gains.h5")
        interval = np.abs(vis.time_mjd[:, None] - solution.time_mjd).argmin(axis=1)
        ratio = solution.gain[interval] * bandpass / truth
        dead = np.isin(vis.antenna_name, chain.settings.dead_antennas)
        assert np.isnan(ratio[:, :, dead]).all()
        ratio = ratio[:, :, ~dead]
        assert np.isfinite(ratio).all(), "a healthy antenna is lost"
        against = list(np.flatnonzero(~dead)).index(
            vis.antenna_name.index(chain.bandpass.numbers["reference_antenna"])
        )
        ratio = ratio * np.exp(-1j * np.angle(ratio[:, :, against : against + 1]))
        mean = ratio.mean(axis=(0, 1))
        assert np.degrees(np.median(np.abs(np.angle(mean)))) < 0.5
        # without the tile's scalar, whose own error is stated and tested below
        assert np.median(np.abs(np.abs(mean) / np.abs(mean).mean() - 1)) < 0.005
        numbers = applied.numbers
        total = np.mean(np.abs(ratio)) ** 2
        # 0.3 %: the bandpass's mean amplitude, with the catalogue's errors in its model
        assert abs(total - 1) < 4 * numbers["scale_err_relative"] + 0.003
        assert numbers["scale_err_catalog"] == 0
        assert numbers["scale_err_relative"] < 0.03
        assert gains.numbers["scale_anchor"] == "primary"
        assert numbers["rung"] == "same-date/primary/3C138+own"
        assert numbers["lost_to_solutions_fraction"] < 0.001


def test_corrected_visibilities_are_in_jansky_and_flagged_where_unsolved(chain):
    tile = chain.tiles[0]
    vis = read_ms(chain.place / tile / "calibrated.ms")
    dead = np.isin(vis.antenna_name, chain.settings.dead_antennas)
    assert vis.flags[:, dead[vis.antenna1] | dead[vis.antenna2]].all()
    good = ~vis.flags
    # the calibrator's own visibility, and noise of the radiometer's size on it
    noise = SEFD_JY / np.sqrt(2 * vis.channel_width_hz * vis.integration_s)
    rms = np.sqrt((np.abs(vis.data[good]) ** 2).mean() / 2)
    assert rms == pytest.approx(
        np.hypot(noise, chain.bandpass.numbers["calibrator_apparent_jy"] / np.sqrt(2)), rel=0.1
    )


def test_the_input_is_not_changed(chain):
    """Calibrating twice gives the same numbers: nothing was edited in place."""
    tile = chain.tiles[1]
    folder = chain.place / tile
    again = solve_gains(
        folder / "data.ms", folder / "flags.h5",
        [chain.place / chain.tiles[0] / "bandpass.h5"], chain.place / "catalog.parquet",
        folder / "again.h5", Config(),
    )  # fmt: skip
    assert again.numbers["scale"] == pytest.approx(chain.verdicts[1][0].numbers["scale"], rel=1e-9)
