"""The forward model's seasons: walks, dips and nuisances have the properties that they are named for."""

import numpy as np
import pytest

from dsaflow.simulate import transients
from dsaflow.simulate.seasons import (
    KINDS,
    STRIP_SHARES,
    SeasonPlan,
    epochs,
    observe,
    own_kinds,
    variation,
)

PLAN = SeasonPlan()


def season(seed: int = 1) -> np.ndarray:
    return epochs(PLAN, np.random.default_rng(seed))


def test_epochs_are_lost_and_leave_one_gap() -> None:
    number = np.array([len(season(seed)) for seed in range(200)])
    # 5 % of 114 outside the gap, ends kept: mean 112 x 0.95 + 2 = 108.4, 2.3 rms, so +-0.6 of 200
    assert number.mean() == pytest.approx(108.4, abs=0.6)
    steps = np.diff(season()) / 0.9972696
    assert steps.max() >= PLAN.gap_steps
    assert np.allclose(steps, np.round(steps))


@pytest.mark.parametrize("days", [1.0, 10.0])
def test_walks_have_unit_variance_and_their_correlation_on_uneven_epochs(days: float) -> None:
    mjd = np.array([0.0, 1.0, 2.0, 7.0, 8.0, 20.0])
    walks = transients.damped_walks(np.random.default_rng(2), mjd, np.full(40000, days))
    measured = walks.T @ walks / len(walks)
    expected = np.exp(-np.abs(mjd[:, None] - mjd) / days)
    # errors of a covariance from 40000 draws: below 0.0071, 36 entries
    assert np.abs(measured - expected).max() < 0.03


@pytest.mark.parametrize("shape", transients.DIP_SHAPES)
@pytest.mark.parametrize("depth", [0.05, 0.3, 0.5])
def test_dips_have_their_depth_and_width(shape: str, depth: float) -> None:
    mjd = np.linspace(0, 100, 20001)
    (curve,) = transients.dips(
        mjd, np.array([50.0]), np.array([20.0]), np.array([depth]), np.array([shape])
    )
    middle = curve[np.abs(mjd - 50) < 0.1].mean()
    assert 1 - middle == pytest.approx(depth, rel=0.02)
    below = mjd[curve < 1 - 0.5 * depth]
    assert below[-1] - below[0] == pytest.approx(20.0, rel=0.02)
    assert curve.max() > 1.005 if shape == "lens" else curve.max() <= 1.0


def test_a_lens_is_deeper_at_long_wavelengths() -> None:
    ratios = np.array([0.95, 1.0, 1.05])
    depth = [1 - transients.lens_dip_curve(np.array([0.0]), 0.3, r)[0] for r in ratios]
    assert depth[0] > depth[1] > depth[2]
    # on the axis 1 / (1 + alpha), alpha as wavelength squared, for a source that is hardly resolved
    alpha = 0.3 / 0.7 / ratios**2
    assert depth == pytest.approx(list(alpha / (1 + alpha)), abs=0.01)


def test_a_decline_into_the_gap_is_over_after_it() -> None:
    mjd = season()
    gap = int(np.diff(mjd).argmax())
    curves = variation("gap_edge", mjd, 50, PLAN, np.random.default_rng(3))
    assert (curves[:, gap] <= 0.9 + 1e-12).all()
    assert (curves[:, gap + 1 :] == 1).all()
    assert (np.diff(curves[:, : gap + 1], axis=1) <= 0).all()
    ends = variation("unrecovered", mjd, 50, PLAN, np.random.default_rng(3))
    assert (ends[:, -1] == ends.min(axis=1)).all()
    with pytest.raises(ValueError, match="no gap"):
        transients.declines(np.random.default_rng(0), np.arange(50.0), 1, "gap")


def test_nuisances_leave_their_marks() -> None:
    mjd, rng = season(), np.random.default_rng(4)
    assert (variation("flare", mjd, 100, PLAN, rng).min(axis=1) >= 1).all()
    lone = variation("bad_epochs", mjd, 100, PLAN, rng)
    assert set(np.unique((lone != 1).sum(axis=1))) <= {1, 2, 3}
    steps = variation("step", mjd, 100, PLAN, rng)
    assert ((np.diff(steps, axis=1) != 0).sum(axis=1) == 1).all()
    with pytest.raises(ValueError, match="unknown kind"):
        variation("comet", mjd, 1, PLAN, rng)


def test_a_strip_is_measured_with_its_gains_and_its_noise() -> None:
    rng = np.random.default_rng(5)
    mjd = season()
    kind = np.array(["quiet"] * 300 + ["heavy_noise"] * 300)
    strip = observe(PLAN, mjd, kind, np.full(600, 50.0), rng)
    assert strip.reference.sum() == PLAN.n_reference
    targets = slice(PLAN.n_reference, None)
    relative = strip.flux_jy[targets] / (PLAN.noise_jy * 50)
    gain = np.nanmean(relative, axis=0)
    # 3 % rms over 108 epochs: known to 6.8 %
    assert np.std(np.log(gain)) == pytest.approx(PLAN.gain_rms, rel=0.25)
    pull = (relative / gain - 1) * gain * PLAN.noise_jy * 50 / strip.flux_err_jy[targets]
    assert np.nanstd(pull[:300]) == pytest.approx(1, abs=0.02)
    assert np.nanstd(pull[300:]) == pytest.approx(1, abs=0.04)
    assert np.isnan(strip.flux_jy).mean() == pytest.approx(PLAN.missing, abs=0.004)
    tail = np.abs(pull) > 4
    assert tail[300:].sum() > 10 * max(tail[:300].sum(), 1)


def test_the_strips_own_sources_have_their_shares() -> None:
    kinds = own_kinds(40000, np.random.default_rng(6))
    for name, share in STRIP_SHARES.items():
        assert (kinds == name).mean() == pytest.approx(share, abs=5 * np.sqrt(share / 40000))
    scintillating = np.char.startswith(kinds, "scintillation").mean()
    assert scintillating == pytest.approx(0.10, abs=0.008)
    assert set(kinds) <= set(KINDS)


def test_a_bad_night_hits_every_source_in_one_epoch() -> None:
    mjd = season()
    quiet = np.full(200, "quiet", dtype="U20")
    strips = [
        observe(PLAN, mjd, quiet, np.full(200, 200.0), np.random.default_rng(7), bad_night=bad)
        for bad in (False, True)
    ]
    lows = [np.nanmedian(s.flux_jy[100:], axis=0) / 0.2 for s in strips]
    assert (lows[0] > 0.85).all()
    assert (lows[1] < 0.85).sum() == 1
    assert (strips[1].kind[100:] == "bad_night").all()
