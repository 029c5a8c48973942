"""Lens, template bank, and the search's likelihood ratio."""

import numpy as np
import pytest

from dsaflow.variability.chromatic import depth_scaling
from dsaflow.variability.falsealarm import analytic_threshold, block_permutation
from dsaflow.variability.lens import plasma_lens_gain
from dsaflow.variability.search import SearchRules, refine, screen
from dsaflow.variability.templates import box_dip, build_bank, event_shapes
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


def test_the_bank_covers_dips_within_its_mismatch() -> None:
    """S/N that the bank loses on random Gaussian dips: below 6 % for nine in ten."""
    rng = np.random.default_rng(1)
    bank = build_bank(MJD, event_shapes((1.0, 3.0), 0.2))
    centred = bank.dip - bank.dip.mean(axis=1, keepdims=True)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    losses = []
    for _ in range(200):
        width, mid = rng.uniform(3, 8), MJD[0] + rng.uniform(8, 15)
        dip = np.exp2(-np.square(2 * (MJD - mid) / width))
        dip -= dip.mean()
        losses.append(1 - (centred @ dip).max() / np.linalg.norm(dip))
    assert np.quantile(losses, 0.9) < 0.06


def test_templates_show_fall_and_recovery() -> None:
    gap = np.r_[MJD[:8], MJD[8:] + 20]
    for mjd in (MJD, gap):
        bank = build_bank(mjd, event_shapes((1.0, 10.0), 0.2))
        assert ((bank.dip > 0.5).sum(axis=1) >= 3).all()
        assert (np.abs(bank.dip[:, :2]) <= 0.05).all()
        assert (np.abs(bank.dip[:, -2:]) <= 0.05).all()
        assert len(np.unique(bank.group_start)) == len(bank.group_start)


def test_the_screen_is_the_difference_of_two_least_squares_fits() -> None:
    rng = np.random.default_rng(2)
    bank = build_bank(MJD, {"box": box_dip})
    y, variance = rng.normal(1, 0.1, (3, 24)), rng.uniform(0.005, 0.02, (3, 24))
    mask = rng.random((3, 24)) > 0.1
    gain = screen(y, variance, mask, bank, SearchRules())
    checked = 0
    for s, t in zip(*np.nonzero(gain), strict=True):
        weight = mask[s] / variance[s]
        root = np.sqrt(weight)
        chi2 = []
        for columns in ([np.ones(24)], [np.ones(24), -bank.dip[t]]):
            design = np.array(columns).T
            solution = np.linalg.lstsq(design * root[:, None], y[s] * root, rcond=None)[0]
            chi2.append((weight * (y[s] - design @ solution) ** 2).sum())
        assert gain[s, t] == pytest.approx(chi2[0] - chi2[1], rel=1e-8)
        checked += 1
    assert checked > 20


def test_refining_recovers_depth_baseline_and_error() -> None:
    rng = np.random.default_rng(3)
    bank = build_bank(MJD, {"box": box_dip})
    t = int(np.argmin(np.abs(bank.mid_mjd - MJD[12]) + np.abs(bank.duration_days - 6)))
    n, sigma = 4000, 0.05
    y = 1.1 * (1 - 0.4 * bank.dip[t]) + sigma * rng.standard_normal((n, 24))
    shape = np.ones((n, 24))
    events = refine(y, sigma**2 * shape, shape > 0, bank, np.full((n, 1), t), SearchRules())
    pull = (events.depth[:, 0] - 0.4) / events.depth_err[:, 0]
    assert events.baseline.mean() == pytest.approx(1.1, abs=0.002)
    assert abs(pull.mean()) < 0.08
    # excess noise, where chance makes some, adds to the error: a few per cent on average
    assert 0.88 < np.std(pull) < 1.03
    inside = bank.dip[t].sum()
    exact = 0.5 * (0.44 / sigma) ** 2 * inside * (1 - inside / 24)
    # Student's tail, where chance makes some excess noise, takes a part; nothing may add
    assert 0.8 * exact < np.median(events.log_likelihood_ratio) < 1.05 * exact


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


def test_threshold_and_permutation() -> None:
    assert analytic_threshold(1.0, 0.0013498980316) == pytest.approx(4.5)  # 3 sigma
    rng = np.random.default_rng(5)
    for n_epoch in (8, 24, 101):
        order = block_permutation(n_epoch, 4, rng)
        assert sorted(order) == list(range(n_epoch))
        together = (np.diff(order) % n_epoch == 1).mean()
        assert together > 0.6
