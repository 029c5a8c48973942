"""Metrics against hand-computed cases, a slow reference, and their invariances."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dsaflow.variability import metrics

N_EPOCH = 12
fluxes = arrays(float, N_EPOCH, elements=st.floats(0.01, 10))
errors = arrays(float, N_EPOCH, elements=st.floats(0.001, 1))
# Powers of two scale without rounding.
factors = st.integers(-10, 10).map(lambda k: 2.0**k)


def slow_eta(flux: np.ndarray, error: np.ndarray) -> float:
    """The same definition in rational-like exact sums."""
    pairs = [(f, e) for f, e in zip(flux, error, strict=True) if math.isfinite(f)]
    total = math.fsum(1 / e**2 for _, e in pairs)
    mean = math.fsum(f / e**2 for f, e in pairs) / total
    return math.fsum((f - mean) ** 2 / e**2 for f, e in pairs) / (len(pairs) - 1)


def test_hand_computed() -> None:
    flux, error = np.array([1.0, 2.0, 3.0]), np.array([1.0, 1.0, 1.0])
    assert metrics.weighted_eta(flux, error) == pytest.approx(1.0)
    assert metrics.chi2(flux, error) == pytest.approx(2.0)
    assert metrics.modulation(flux) == pytest.approx(0.5)
    assert metrics.sigma_dev(flux) == pytest.approx(1.0)
    # weights 1 and 1/4: mean 6/5, chi2 = 1/25 + 16/25 / 4 = 0.2
    assert metrics.chi2(np.array([1.0, 2.0]), np.array([1.0, 2.0])) == pytest.approx(0.2)
    pair = metrics.pair_metrics(np.array([[1.0, np.nan, 3.0, 2.0]]), np.array([[0.3, 1, 0.4, 5]]))
    assert pair["vs"][0] == pytest.approx(-4.0)
    assert pair["m"][0] == pytest.approx(-1.0)
    assert (pair["first"][0], pair["second"][0]) == (0, 2)


def test_two_passes_keep_the_digits() -> None:
    flux = 1e8 + np.array([0.0, 1.0, 2.0])
    assert metrics.weighted_eta(flux, np.ones(3)) == pytest.approx(1.0, rel=1e-12)
    assert metrics.modulation(flux) == pytest.approx(1 / (1e8 + 1), rel=1e-12)


def test_too_little_data_is_nan() -> None:
    nothing = np.full((2, 3), np.nan)
    assert np.isnan(metrics.weighted_eta(nothing, nothing)).all()
    assert np.isnan(metrics.modulation(nothing)).all()
    assert np.isnan(metrics.sigma_dev(np.ones(4)))
    assert np.isnan(metrics.modulation(np.array([-1.0, -2.0])))
    assert metrics.pair_metrics(nothing, nothing)["first"].tolist() == [-1, -1]
    assert metrics.pair_metrics(np.zeros((0, 0)), np.zeros((0, 0)))["vs"].shape == (0,)


@settings(max_examples=60, deadline=None)
@given(fluxes, errors, factors, st.permutations(range(N_EPOCH)))
def test_properties(flux: np.ndarray, error: np.ndarray, factor: float, order: list[int]) -> None:
    eta = metrics.weighted_eta(flux, error)
    assert eta >= 0
    assert eta == pytest.approx(slow_eta(flux, error), rel=1e-9, abs=1e-18)
    assert metrics.weighted_eta(factor * flux, factor * error) == pytest.approx(eta, rel=1e-12)
    assert metrics.weighted_eta(flux[order], error[order]) == pytest.approx(
        eta, rel=1e-9, abs=1e-18
    )
    v = metrics.modulation(flux)
    assert v == pytest.approx(np.std(flux, ddof=1) / np.mean(flux), rel=1e-9, abs=1e-15)
    assert metrics.modulation(factor * flux) == pytest.approx(v, rel=1e-12, abs=1e-300)
    pair = metrics.pair_metrics(flux[None], error[None])
    slow = max(
        abs(flux[i] - flux[j]) / math.hypot(error[i], error[j])
        for i in range(N_EPOCH)
        for j in range(i)
    )
    assert abs(pair["vs"][0]) == pytest.approx(slow, rel=1e-12)
    deviation = metrics.sigma_dev(flux)
    assert np.isnan(deviation) or deviation <= (N_EPOCH - 1) / math.sqrt(N_EPOCH) * (1 + 1e-9)


def test_sigma_dev_reaches_its_bound_with_one_outlier() -> None:
    flux = np.ones(27)
    flux[3] = 0.5
    assert metrics.sigma_dev(flux) == pytest.approx(26 / math.sqrt(27))
    assert metrics.sigma_dev(flux[:26]) < 5  # the trigger used so far cannot fire before 27 epochs


def test_missing_epochs_do_not_count() -> None:
    rng = np.random.default_rng(1)
    flux, error = rng.normal(1, 0.1, (5, 9)), rng.uniform(0.05, 0.2, (5, 9))
    holes = np.insert(flux, 4, np.nan, axis=1), np.insert(error, 4, 0.1, axis=1)
    for name in ("weighted_eta", "chi2"):
        function = getattr(metrics, name)
        np.testing.assert_allclose(function(*holes), function(flux, error))
    np.testing.assert_allclose(metrics.modulation(holes[0]), metrics.modulation(flux))
