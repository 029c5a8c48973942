"""The solver, solutions on disk, and their choice, each against a known answer."""

import numpy as np
import pytest

from dsaflow.calibration.anchor import FactorTable
from dsaflow.calibration.bandpass import fill_gaps
from dsaflow.calibration.choose import bracket, interpolate
from dsaflow.calibration.scale import SourceFactors, robust_scale
from dsaflow.calibration.solutions import Solutions, read_h5parm, write_h5parm
from dsaflow.calibration.solver import accumulate, solve
from dsaflow.calibration.tile import reference_antenna


def problem(seed, n_antenna=12, noise=0.0):
    rng = np.random.default_rng(seed)
    p, q = np.triu_indices(n_antenna, 1)
    shape = (6, len(p), 2)
    model = (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)
    gain = rng.uniform(0.5, 2, (2, 2, n_antenna)) * np.exp(
        2j * np.pi * rng.uniform(size=(2, 2, n_antenna))
    )
    data = model[..., None] * (gain[..., p] * gain[..., q].conj()).transpose(2, 0, 1)
    data = data + noise * (rng.normal(size=data.shape) + 1j * rng.normal(size=data.shape))
    return p, q, model, gain, data.astype(np.complex64)


@pytest.mark.parametrize("seed", range(3))
def test_noiseless_gains_are_recovered(seed):
    p, q, model, gain, data = problem(seed)
    flags = np.zeros(data.shape, bool)
    flags[:3, ::4] = True
    data[flags] = 1e3
    found = solve(accumulate(data, flags, model), p, q, 12)
    turn = np.exp(1j * (np.angle(gain[..., :1]) - np.angle(found.gain[..., :1])))
    assert found.converged.all()
    assert np.abs(found.gain * turn - gain).max() < 1e-4


def test_phase_only_keeps_unit_amplitude():
    p, q, model, gain, data = problem(4)
    found = solve(accumulate(data, np.zeros(data.shape, bool), model), p, q, 12, phase_only=True)
    phase = np.angle(found.gain / gain)
    assert np.abs(found.gain) == pytest.approx(1.0)
    assert np.abs(np.angle(np.exp(1j * (phase - phase[..., :1])))).max() < 0.05


def test_errors_are_the_scatter():
    pulls = []
    for seed in range(40):
        p, q, model, gain, data = problem(seed, noise=0.2)
        found = solve(accumulate(data, np.zeros(data.shape, bool), model), p, q, 12)
        pulls.append((np.abs(found.gain) - np.abs(gain)) / found.error)
    assert np.std(pulls) == pytest.approx(1.0, abs=0.08)
    assert abs(np.mean(pulls)) < 0.1


def test_an_antenna_without_data_is_unsolved_and_harms_none():
    p, q, model, gain, data = problem(9)
    flags = np.zeros(data.shape, bool)
    flags[:, (p == 5) | (q == 5), :, 0] = True
    found = solve(accumulate(data, flags, model), p, q, 12)
    assert np.isnan(found.gain[:, 0, 5]).all()
    assert np.isfinite(found.gain[:, 1]).all()
    others = np.arange(12) != 5
    assert np.abs(np.abs(found.gain) - np.abs(gain))[..., others].max() < 1e-4


def test_h5parm_round_trip_and_layout(tmp_path):
    import h5py

    rng = np.random.default_rng(0)
    gain = rng.normal(size=(2, 3, 4, 2)) + 1j * rng.normal(size=(2, 3, 4, 2))
    gain[0, 1, 2, 0] = np.nan
    written = Solutions(
        gain, np.abs(gain) * 0.01, np.array([61000.1, 61000.2]), np.array([1.3e9, 1.4e9, 1.5e9]),
        ["1", "2", "7", "103"], np.ones((4, 3)), ("XX", "YY"),
        {"kind": "bandpass", "mid_mjd": 61000.15, "calibrator": "3C48", "start_mjd": 61000.1},
        FactorTable(np.array(["a", "bc"]), np.array([0.9, 1.1]), np.array([0.01, 0.02])),
    )  # fmt: skip
    write_h5parm(tmp_path / "b.h5", written)
    read = read_h5parm(tmp_path / "b.h5")
    np.testing.assert_allclose(read.gain, gain, rtol=1e-12)
    np.testing.assert_allclose(read.time_mjd, written.time_mjd, rtol=0, atol=1e-9)
    assert read.antenna_name == written.antenna_name
    assert read.attributes["calibrator"] == "3C48"
    assert read.factors.source_id.tolist() == ["a", "bc"]
    assert read.factors.factor.tolist() == [0.9, 1.1]
    assert read.factors.error.tolist() == [0.01, 0.02]
    with h5py.File(tmp_path / "b.h5") as file:
        table = file["sol000/phase000"]
        assert table["val"].attrs["AXES"] == b"time,freq,ant,pol"
        assert table.attrs["TITLE"] == "phase"
        assert table["weight"][0, 1, 2, 0] == 0
        assert table["time"][0] == pytest.approx(61000.1 * 86400)


def test_brackets_are_nearest_in_both_directions():
    assert bracket([10.0, 11.0, 12.5], 11.5, 1.5) == [
        (1, pytest.approx(2 / 3)),
        (2, pytest.approx(1 / 3)),
    ]
    assert bracket([10.0, 11.0], 11.001, 1.0) == [(1, 1.0)]
    assert bracket([10.0, 11.0], 12.0, 1.0) == [(1, 1.0)]
    assert bracket([10.0], 12.0, 1.0) == []
    assert bracket([], 12.0, 1.0) == []


def test_interpolation_goes_the_short_way_round():
    low, high = np.array([np.exp(3.1j), 1.0, np.nan]), np.array([4 * np.exp(-3.1j), -1.0, 2.0])
    between = interpolate(low, high, 0.25)
    assert np.abs(between[0]) == pytest.approx(4**0.25)
    assert np.exp(1j * np.angle(between[0])) == pytest.approx(
        np.exp(1j * (3.1 + 0.25 * (2 * np.pi - 6.2)))
    )
    assert between[1] == 1.0  # a turn by 180 deg has no short way
    assert between[2] == 2.0


def test_gaps_of_three_are_filled_and_wider_ones_are_not():
    freq = 1.4e9 + 1e6 * np.arange(12)
    gain = (np.exp(0.1j * np.arange(12)) * (1 + 0.01 * np.arange(12)))[:, None, None]
    gain = np.repeat(gain, 2, axis=1)
    spoilt = gain.copy()
    spoilt[2:5, 0] = np.nan
    spoilt[4:8, 1] = np.nan
    filled, _, mask = fill_gaps(spoilt, np.ones(gain.shape), freq, 1e6)
    assert np.abs(filled[:, 0] - gain[:, 0]).max() < 1e-3
    assert np.isnan(filled[4:8, 1]).all()
    assert mask.sum() == 3
    # the same gap where the channels lie apart is no gap of 3 channels
    assert np.isnan(fill_gaps(spoilt, np.ones(gain.shape), freq, 0.25e6)[0][2:5, 0]).all()


def test_reference_antenna_falls_back():
    names = ["1", "103", "104"]
    assert reference_antenna(names, np.array([1, 1, 1.0]), ["103", "104"]) == 1
    assert reference_antenna(names, np.array([1, 0.2, 1.0]), ["103", "104"]) == 2
    assert reference_antenna(names, np.array([1, 0, 0.0]), ["103", "104"]) == 0


def factors(ratio, noise, catalog):
    n = len(ratio)
    return SourceFactors(
        ratio, noise, catalog, 1 / noise, np.ones(n, bool), np.arange(n).astype(str),
        np.arange(n), 1.0, 1.0,
    )  # fmt: skip


def test_no_source_weighs_more_than_its_share_and_variables_do_not_pull():
    rng = np.random.default_rng(2)
    noise = np.full(40, 0.03)
    noise[0] = 1e-4
    ratio = 1.2 * (1 + 0.05 * rng.normal(size=40)) + noise * rng.normal(size=40)
    ratio[:4] = [0.6, 1.7, 0.8, 1.65]
    scale = robust_scale(factors(ratio, noise, np.full(40, 0.05)), 0.1)
    assert scale.value == pytest.approx(1.2, abs=4 * 1.2 * 0.06 / 6)
    assert scale.max_weight <= 0.1 + 1e-9


def test_scatter_beyond_the_stated_errors_widens_the_error():
    pulls = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        noise = rng.uniform(0.005, 0.2, 50)
        ratio = 1 + 0.1 * rng.normal(size=50) + noise * rng.normal(size=50)
        scale = robust_scale(factors(ratio, noise, np.full(50, 0.03)), 0.1)
        pulls.append((scale.value - 1) / np.hypot(scale.noise_err, scale.catalog_err))
    assert np.std(pulls) == pytest.approx(1.0, abs=0.3)
