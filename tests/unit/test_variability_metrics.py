"""Metrics against hand-computed cases, a slow reference, and their invariances."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dsaflow.variability import metrics
from dsaflow.variability.curves import nan_median

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


def slow_reference(flux: np.ndarray, error: np.ndarray) -> dict[str, float]:
    """Every metric by its definition, one epoch at a time, in exact sums."""
    seen = [(float(f), float(e)) for f, e in zip(flux, error, strict=True) if math.isfinite(f)]
    f, e = [x for x, _ in seen], [x for _, x in seen]
    n = len(f)
    mean = math.fsum(f) / n
    square = math.fsum((x - mean) ** 2 for x in f)
    noise = math.fsum(x**2 for x in e) / n / mean**2
    excess = square / (n - 1) / mean**2 - noise
    vs, m, m_err = max(
        (
            (f[i] - f[j]) / math.hypot(e[i], e[j]),
            2 * (f[i] - f[j]) / (f[i] + f[j]),
            4 * math.hypot(f[j] * e[i], f[i] * e[j]) / (f[i] + f[j]) ** 2,
        )
        for i in range(n)
        for j in range(n)
        if i != j
    )
    ranked = sorted(f)

    def quantile(q: float) -> float:
        low = math.floor(q * (n - 1))
        return ranked[low] + (q * (n - 1) - low) * (ranked[min(low + 1, n - 1)] - ranked[low])

    return {
        "n_epochs": n,
        "v": math.sqrt(square / (n - 1)) / mean,
        "v_noise": math.sqrt(noise),
        "excess_variance": excess,
        "excess_variance_err": math.sqrt(2 * noise**2 / n + 4 * noise * max(excess, 0) / n),
        "eta": slow_eta(flux, error),
        "chi2": slow_eta(flux, error) * (n - 1),
        "vs": vs,
        "m": m,
        "m_err": m_err,
        "von_neumann": math.fsum((f[k + 1] - f[k]) ** 2 for k in range(n - 1)) / square,
        "iqr": (quantile(0.75) - quantile(0.25)) / 1.3489795 / quantile(0.5),
        "sigma_dev": max(abs(x - mean) for x in f) / math.sqrt(square / (n - 1)),
    }


def test_all_metrics_agree_with_a_slow_reference() -> None:
    rng = np.random.default_rng(17)
    flux = rng.lognormal(0, 0.4, (40, 25))
    error = rng.uniform(0.02, 0.5, flux.shape)
    flux[rng.random(flux.shape) < 0.2] = np.nan
    found = metrics.all_metrics(flux, error, chunk=7)
    for k in range(len(flux)):
        for name, value in slow_reference(flux[k], error[k]).items():
            got = abs(found[name][k]) if name in ("vs", "m") else found[name][k]
            assert got == pytest.approx(abs(value) if name in ("vs", "m") else value), name


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


def test_hand_computed_order_and_spread() -> None:
    # differences 1, 1, -3; deviations from the mean 1.5: squares 0.25, 0.25, 2.25, 2.25
    flux = np.array([1.0, np.nan, 2.0, 3.0, 0.0])
    assert metrics.von_neumann(flux) == pytest.approx((1 + 1 + 9) / 5.0)
    assert metrics.interquartile(np.array([1.0, 2, 3, 4, 5])) == pytest.approx(2 / 1.3489795 / 3)
    # V^2 = 1 / 4; noise 0.6^2 / 2^2 = 0.09; error^2 = 2 0.09^2 / 3 + 4 0.09 0.16 / 3
    excess, error = metrics.excess_variance(np.array([1.0, 2.0, 3.0]), np.full(3, 0.6))
    assert excess == pytest.approx(0.16)
    assert error == pytest.approx(math.sqrt((2 * 0.0081 + 4 * 0.0144) / 3))
    pair = metrics.pair_metrics(np.array([[3.0, 1.0]]), np.array([[0.3, 0.4]]))
    assert pair["m_err"][0] == pytest.approx(4 * math.hypot(1 * 0.3, 3 * 0.4) / 16)


def test_what_white_noise_gives() -> None:
    """Means over 4000 quiet curves of 60 epochs, each to 5 of its own standard errors."""
    rng = np.random.default_rng(4)
    error = np.exp(0.3 * rng.standard_normal((4000, 60))) * 0.05
    found = metrics.all_metrics(1 + error * rng.standard_normal(error.shape), error)
    for name, expected in (("eta", 1.0), ("von_neumann", 2.0), ("excess_variance", 0.0)):
        spread = np.std(found[name]) / np.sqrt(len(error))
        assert found[name].mean() == pytest.approx(expected, abs=5 * spread), name


@pytest.mark.parametrize("amplitude", [0.0, 0.1])
def test_error_of_the_excess_variance(amplitude: float) -> None:
    """One true curve, 4000 times with other noise: the scatter is known to 1.1 %."""
    rng = np.random.default_rng(5)
    true = 1 + amplitude * np.sin(np.arange(200))
    error = np.full((4000, 200), 0.05)
    excess, quoted = metrics.excess_variance(true + error * rng.standard_normal(error.shape), error)
    assert excess.mean() == pytest.approx(np.var(true, ddof=1), abs=5 * excess.std() / 4000**0.5)
    # where nothing varies the term of the positive half of the excess adds 5 %
    assert np.sqrt(np.mean(np.square(quoted))) == pytest.approx(excess.std(), rel=0.1)


@settings(max_examples=60, deadline=None)
@given(fluxes, errors, factors, st.permutations(range(N_EPOCH)))
def test_properties_of_all(
    flux: np.ndarray, error: np.ndarray, factor: float, order: list[int]
) -> None:
    found = {k: v[0] for k, v in metrics.all_metrics(flux[None], error[None]).items()}
    scaled = metrics.all_metrics(factor * flux[None], factor * error[None])
    mixed = metrics.all_metrics(flux[order][None], error[order][None])
    assert np.isnan(found["von_neumann"]) or -1e-9 <= found["von_neumann"] <= 4 + 1e-9
    assert found["eta"] >= 0
    assert found["iqr"] >= 0
    for name, value in found.items():
        if name in ("mean", "first", "second"):
            continue
        assert scaled[name][0] == pytest.approx(value, rel=1e-9, abs=1e-15, nan_ok=True), name
        if name in ("von_neumann", "vs", "m", "m_err"):  # these know the order of time
            continue
        assert mixed[name][0] == pytest.approx(value, rel=1e-7, abs=1e-12, nan_ok=True), name
    assert abs(mixed["vs"][0]) == pytest.approx(abs(found["vs"]), rel=1e-12)


@pytest.mark.parametrize("case", ["free", "grows", "falls", "equal", "ties"])
def test_the_best_pair_is_the_best_of_all(case: str) -> None:
    """Whatever relates fluxes to errors, against every pair."""
    rng = np.random.default_rng(9)
    flux, error = rng.normal(1, 0.2, (50, 30)), rng.uniform(0.01, 0.3, (50, 30))
    if case in ("grows", "falls"):
        error.sort(axis=1)
        flux.sort(axis=1)
        flux = flux if case == "grows" else flux[:, ::-1]
    elif case == "equal":
        flux[:] = 1.0
    elif case == "ties":
        flux, error = np.round(flux, 1), np.full_like(error, 0.1)
    flux[:, ::7] = np.nan
    pair = metrics.pair_metrics(flux, error)
    every = flux[:, :, None] - flux[:, None, :]
    every = np.abs(every) / np.hypot(error[:, :, None], error[:, None, :])
    np.testing.assert_allclose(np.abs(pair["vs"]), np.nanmax(every, axis=(1, 2)), rtol=1e-12)
    assert (pair["first"] < pair["second"]).all()
    assert np.isfinite(np.take_along_axis(flux, pair["first"][:, None], 1)).all()


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


def test_median_without_nan() -> None:
    rng = np.random.default_rng(6)
    for shape in ((40, 7), (40, 8), (3, 20, 9), (4, 1)):
        values = rng.normal(size=shape)
        values[rng.random(shape) < 0.3] = np.nan
        values[..., 0] = 0.5
        np.testing.assert_allclose(nan_median(values), np.nanmedian(values, axis=-1))
        values[0] = np.nan
        assert np.isnan(nan_median(values)[0]).all()
    assert np.isnan(nan_median(np.zeros((3, 0)))).all()
    assert nan_median(np.zeros((0, 3))).shape == (0,)
