"""Lens, template bank, and the search's likelihood ratio."""

import numpy as np
import pytest

from dsaflow.simulate.variation import lens_factor
from dsaflow.variability.chromatic import depth_scaling
from dsaflow.variability.falsealarm import block_permutation
from dsaflow.variability.lens import plasma_lens_gain, round_lens_gain
from dsaflow.variability.shapes import event_shapes, lens_parameters, mismatch
from dsaflow.variability.templates import build_bank, longest_duration
from dsaflow.variability.vetoes import fit_depths, separation_deg

MJD = 60000.0 + np.arange(24.0)


@pytest.mark.parametrize("strength", [0.5, 1.0, 10.0, 30.0])
def test_a_lens_dims_its_axis_and_conserves_flux(strength: float) -> None:
    offset = np.linspace(-30, 30, 60_001)
    gain = plasma_lens_gain(offset, strength, 0.05)
    tolerance = 0.02 if strength < 2 else 0.05  # of the small source's smoothing
    assert gain[30_000] == pytest.approx(1 / (1 + strength), rel=tolerance)
    assert np.mean(gain) == pytest.approx(1.0, abs=2e-3)
    np.testing.assert_allclose(gain, gain[::-1], atol=0.02)


def test_caustics_form_above_the_critical_strength() -> None:
    # d u'/du = 1 + alpha (1 - 2 u^2) exp(-u^2) first reaches 0 at u^2 = 3/2: alpha = e^1.5 / 2
    offset = np.linspace(0, 10, 2001)
    for strength, folded in ((0.5 * np.exp(1.5) / 2, False), (2 * np.exp(1.5) / 2, True)):
        rays = np.linspace(0, 10, 20_001)
        arrival = rays * (1 + strength * np.exp(-(rays**2)))
        assert (np.diff(arrival) < 0).any() == folded
        brightest = plasma_lens_gain(offset, strength, 0.05).max()
        assert (brightest > 2.5) == folded


def test_a_lens_between_caustics_matches_the_sum_of_its_images() -> None:
    strength, where = 10.0, 3.6
    rays = np.linspace(0, 12, 1_200_001)
    crossing = rays * (1 + strength * np.exp(-(rays**2))) - where
    roots = rays[np.flatnonzero(np.diff(np.sign(crossing)))]
    gains = 1 / np.abs(1 + strength * (1 - 2 * roots**2) * np.exp(-(roots**2)))
    assert len(roots) == 3
    found = plasma_lens_gain(np.array([where]), strength, 0.03)[0]
    assert found == pytest.approx(gains.sum(), rel=0.03)


def test_depth_of_a_lens_follows_the_wavelength() -> None:
    freq_hz = np.array([1.3e9, 1.5e9])
    scaled = depth_scaling(0.01, freq_hz)  # a weak lens: as its strength
    assert scaled[0] / scaled[1] == pytest.approx((1.5 / 1.3) ** 2, rel=0.01)
    scaled = depth_scaling(0.5, freq_hz)  # alpha = 1: half of that slope
    assert scaled[0] / scaled[1] == pytest.approx((1.5 / 1.3) ** 1, rel=0.01)


def test_a_round_lens_conserves_flux_and_dims_by_its_impact() -> None:
    across = np.arange(-14, 14, 0.1)
    plane = np.array([round_lens_gain(across, 3.0, 0.2, abs(b)) for b in across])
    assert plane.mean() == pytest.approx(1.0, abs=5e-3)
    # on the axis 1 / (1 + alpha)^2, less what a source of a fifth of the lens smooths
    assert round_lens_gain(np.zeros(1), 1.0, 0.1, 0.0)[0] == pytest.approx(0.25, rel=0.1)
    depths = [1 - round_lens_gain(np.zeros(1), 1.0, 0.2, b)[0] for b in (0.0, 1.0, 2.0)]
    assert depths == sorted(depths, reverse=True)


def test_shapes_that_others_represent_are_left_out() -> None:
    shapes = event_shapes((1.0, 3.0, 10.0), 0.2, (0.5, 1.0), max_mismatch=0.03)
    everything = event_shapes((1.0, 3.0, 10.0), 0.2, (0.5, 1.0))
    assert 3 < len(shapes) < len(everything)
    for name, shape in everything.items():
        assert min(mismatch(kept, shape) for kept in shapes.values()) <= 0.03, name
    assert lens_parameters("lens_3_b0.5") == (3.0, 0.5)
    assert np.isnan(lens_parameters("box")).all()


def event_of_the_truth(rng: np.random.Generator, mjd: np.ndarray, duration: float, mid: float):
    """A dip from the forward model's own shapes."""
    phase = (mjd - mid) / duration
    kind = rng.integers(3)
    if kind == 0:
        return np.exp(-4 * np.log(2) * np.square(phase))
    if kind == 1:
        return (np.abs(phase) < 0.5).astype(float)
    strength = float(rng.choice([0.6, 1.5, 4.0, 8.0]))
    grid = np.linspace(0, 8, 4001)
    gain = lens_factor(grid, strength)
    half = grid[np.flatnonzero(1 - gain > 0.5 * (1 - gain[0]))[-1]]
    return 1 - lens_factor(2 * half * phase, strength)


@pytest.mark.parametrize("sampling", ["daily", "gaps"])
def test_the_bank_loses_no_more_than_its_mismatch_between_grid_points(sampling: str) -> None:
    rng = np.random.default_rng(1)
    mjd = 60000.0 + np.arange(200.0)
    if sampling == "gaps":
        mjd = mjd[rng.random(200) > 0.2]
        mjd = mjd[(mjd < 60070) | (mjd > 60078)]
    shapes = event_shapes((1.0, 3.0, 10.0, 30.0), 0.2, (0.5, 1.0, 1.5, 2.0), 0.1 / 3)
    bank = build_bank(mjd, shapes, max_mismatch=0.1)
    centred = bank.dip[:] - bank.dip[:].mean(axis=1, keepdims=True)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    losses = []
    for _ in range(300):
        duration = float(np.exp(rng.uniform(np.log(8), np.log(90))))
        mid = 60000 + rng.uniform(duration, 199 - duration)
        if mid - 0.5 * duration < 60082 < mid + duration or 60066 < mid < 60082:
            continue  # the gap hides an edge
        dip = event_of_the_truth(rng, mjd, duration, mid)
        dip = dip - dip.mean()
        losses.append(1 - (centred @ dip).max() / np.linalg.norm(dip))
    assert len(losses) > 100
    assert np.mean(losses) < 0.04
    assert np.quantile(losses, 0.97) < 0.1


def test_the_longest_duration_is_half_of_the_span() -> None:
    for n_epoch, longest in ((120, 59.5), (365, 182.0), (1095, 365.0)):
        mjd = 60000.0 + np.arange(float(n_epoch))
        assert longest_duration(mjd) == longest
    bank = build_bank(60000.0 + np.arange(120.0), event_shapes((1.0,), 0.2))
    assert bank.summary()["longest_duration_days"] == 59.5
    assert bank.duration_days.max() == pytest.approx(59.5)
    assert bank.duration_days.min() == pytest.approx(3.0)


def test_templates_show_fall_bottom_and_recovery() -> None:
    gap = np.r_[MJD[:8], MJD[8:] + 20]
    for mjd in (MJD, gap):
        bank = build_bank(mjd, event_shapes((1.0, 10.0), 0.2))
        for k in range(len(bank)):
            outside = np.abs(mjd - bank.mid_mjd[k]) > 0.5 * bank.duration_days[k]
            reach = 1 + bank.outer_phase[bank.shape_index[k]]
            near = np.abs(mjd - bank.mid_mjd[k]) < reach * bank.duration_days[k] + 6
            assert (outside & near & (mjd < bank.mid_mjd[k])).sum() >= 2
            assert (outside & near & (mjd > bank.mid_mjd[k])).sum() >= 2
            inside = ~outside
            assert inside.sum() >= 3
            assert (inside & (mjd < bank.mid_mjd[k])).any()
            assert (inside & (mjd >= bank.mid_mjd[k])).any()
        assert len(np.unique(bank.group_start)) == len(bank.group_start)


def test_depths_of_neighbours_are_unbiased() -> None:
    rng = np.random.default_rng(4)
    dip = np.exp(-0.5 * np.square((MJD - MJD[11]) / 3))
    curve = 0.9 * (1 - 0.2 * dip) + 0.03 * rng.standard_normal((3000, 24))
    curve[:, 5] = np.nan
    depth, error = fit_depths(curve, np.full(curve.shape, 0.03**2), dip)
    pull = (depth - 0.2) / error
    assert abs(pull.mean()) < 0.06
    assert np.std(pull) == pytest.approx(1.0, abs=0.05)


def test_separation_across_ra_zero() -> None:
    assert separation_deg(np.array([0.5]), np.array([0.0]), 359.5, 0.0)[0] == pytest.approx(1.0)
    assert separation_deg(np.array([10.0]), np.array([60.0]), 11.0, 60.0)[0] == pytest.approx(
        0.5, rel=1e-3
    )


def test_permutation_keeps_neighbours_together() -> None:
    rng = np.random.default_rng(5)
    for n_epoch in (8, 24, 101):
        order = block_permutation(n_epoch, 4, rng)
        assert sorted(order) == list(range(n_epoch))
        together = (np.diff(order) % n_epoch == 1).mean()
        assert together > 0.6
