"""Light curves: the plasma lens's physics, the others' statistics."""

import numpy as np
import pytest

from dsaflow.simulate.settings import Event, SimulateSettings
from dsaflow.simulate.variation import damped_walk, lens_factor, lens_strength, light_curve

PLACE = np.linspace(-12, 12, 4801)


@pytest.mark.parametrize("strength", [0.3, 1.0, 3.0, 12.0])
def test_lens_conserves_flux(strength):
    gain = lens_factor(PLACE, strength)
    assert np.trapezoid(gain - 1, PLACE) == pytest.approx(0, abs=2e-3)
    assert gain.max() > 1.05


@pytest.mark.parametrize("strength", [0.3, 1.0, 3.0])
def test_small_source_on_the_axis(strength):
    """One image there, at the lens's own axis: gain 1/(1 + alpha)."""
    assert lens_factor(0.0, strength, 0.03) == pytest.approx(1 / (1 + strength), rel=5e-3)


def test_gain_is_the_sum_over_the_images():
    """Against the images found by root search, away from the caustics."""
    strength, place = 4.0, 2.6
    u = np.linspace(-6, 6, 2_000_001)
    miss = u * (1 + strength * np.exp(-(u**2))) - place
    images = u[np.flatnonzero(miss[:-1] * miss[1:] <= 0)]
    stretch = 1 + (1 - 2 * images**2) * strength * np.exp(-(images**2))
    assert images.size == 1 or images.size == 3
    assert lens_factor(place, strength, 0.02) == pytest.approx(
        np.sum(1 / np.abs(stretch)), rel=0.02
    )


def test_lens_is_symmetric_and_ends():
    gain = lens_factor(PLACE, 2.0)
    assert gain == pytest.approx(gain[::-1], abs=2e-3)
    assert abs(lens_factor(8.0, 2.0) - 1) < 1e-3


def event_curve(**changes):
    settings = SimulateSettings(n_epochs=401, event=Event(**{"peak_epoch": 200.0, **changes}))
    rng = np.random.default_rng(0)
    return light_curve(settings.event.kind, settings, rng, np.array([0.94, 1.0, 1.07]))


def test_event_has_the_depth_and_duration_that_the_settings_say():
    curve = event_curve(duration_epochs=100.0, depth=0.4)[:, 1]
    assert curve.argmin() == 200
    assert curve.min() == pytest.approx(0.6, abs=0.002)
    below = np.flatnonzero(curve < 0.8)
    assert np.ptp(below) == pytest.approx(100, abs=2)
    # a rise at either edge, the same
    assert curve[:150].max() > 1.1
    assert curve[:150].max() == pytest.approx(curve[250:].max(), rel=0.01)


def test_strength_goes_as_wavelength_squared():
    low, middle, high = event_curve(duration_epochs=100.0, depth=0.4)[200]
    strength = lens_strength(0.4)
    assert low == pytest.approx(lens_factor(0.0, strength / 0.94**2), rel=1e-6)
    assert high == pytest.approx(lens_factor(0.0, strength / 1.07**2), rel=1e-6)
    # at the axis 1/gain - 1 is alpha, but for the source's extent
    measured = (1 / low - 1) / (1 / high - 1)
    assert measured == pytest.approx((1.07 / 0.94) ** 2, rel=0.02)
    assert low < middle < high


def test_many_frequencies_equal_few():
    settings = SimulateSettings()
    rng = np.random.default_rng(0)
    ratio = np.linspace(0.94, 1.07, 300)
    many = light_curve("plasma_lens", settings, rng, ratio)
    few = light_curve("plasma_lens", settings, rng, ratio[[0, 77, 299]])
    assert many[:, [0, 77, 299]] == pytest.approx(few, abs=2e-3)


def test_gaussian_dip_is_achromatic():
    curve = event_curve(kind="gaussian_dip", duration_epochs=100.0, depth=0.3)
    assert curve[200] == pytest.approx(0.7)
    assert curve[150] == pytest.approx(0.85)


def test_walk_has_unit_variance_and_its_timescale():
    rng = np.random.default_rng(3)
    walks = np.array([damped_walk(rng, 200, 8.0) for _ in range(400)])
    # 80 000 values with a correlation of 16 nights: 1/sqrt(2 x 5000), 5 sigma
    assert walks.var() == pytest.approx(1, abs=0.05)
    lagged = np.mean(walks[:, 8:] * walks[:, :-8]) / walks.var()
    assert lagged == pytest.approx(np.exp(-1), abs=0.05)


def test_other_kinds_stay_positive_and_vary():
    settings = SimulateSettings(n_epochs=60)
    for kind in ("flare", "slow", "scintillation"):
        for seed in range(20):
            curve = light_curve(kind, settings, np.random.default_rng(seed), np.array([1.0, 1.1]))
            assert curve.min() > 0.5
            assert np.ptp(curve[:, 0]) > 0.01
            assert (curve[:, 0] == curve[:, 1]).all()


def test_unknown_kind_and_impossible_depth_are_refused():
    with pytest.raises(ValueError, match="unknown kind"):
        light_curve("comet", SimulateSettings(), np.random.default_rng(0), np.ones(1))
    with pytest.raises(ValueError, match="deep"):
        lens_strength(0.99)
