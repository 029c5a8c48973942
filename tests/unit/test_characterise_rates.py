"""Intervals and thresholds of the characterisation, against numbers known from elsewhere."""

import numpy as np
import pytest

from dsaflow.characterise.optimal import matched_snr
from dsaflow.characterise.rates import (
    efficiency_interval,
    lowest_level,
    rate_limits,
    upper_limit,
)


def test_upper_limits_are_those_of_gehrels() -> None:
    # Gehrels (1986), table 1, 95 %
    assert upper_limit(np.array([0, 1, 3, 10])) == pytest.approx(
        [2.996, 4.744, 7.754, 16.96], abs=0.005
    )


def test_efficiency_intervals_are_wilsons() -> None:
    low, high = efficiency_interval(np.array([95, 0]), np.array([100, 0]))
    z = 1.959964
    middle, width = 0.95 + z * z / 200, z * np.sqrt(0.95 * 0.05 / 100 + z * z / 40000)
    assert low[0] == pytest.approx((middle - width) / (1 + z * z / 100), abs=1e-5)
    assert high[0] == pytest.approx((middle + width) / (1 + z * z / 100), abs=1e-5)
    assert (low[1], high[1]) == (0, 1)


def test_upper_limits_cover_as_often_as_they_say() -> None:
    rng = np.random.default_rng(1)
    for mean in (0.5, 3.0, 12.0):
        covered = (upper_limit(rng.poisson(mean, 4000)) >= mean).mean()
        assert covered >= 0.95 - 4 * np.sqrt(0.05 * 0.95 / 4000)


def test_counts_and_the_lowest_level_that_holds_a_rate() -> None:
    ratio = np.arange(1000) / 100  # 0.00 to 9.99
    levels = np.arange(0.0, 20.0, 0.5)
    count, rate, limit = rate_limits(ratio, 500.0, levels)
    assert count[2] == 899
    assert rate[2] == pytest.approx(899 / 500)
    assert (limit > rate).all()
    # 3.0 / 500 = 0.006 with none above: the first level beyond the largest value
    assert lowest_level([(ratio, 500.0)], 0.006, levels) == 10.0
    assert np.isnan(lowest_level([(ratio, 500.0)], 0.005, levels))
    assert lowest_level([(ratio, 500.0), (ratio + 5, 500.0)], 0.006, levels) == 15.0


def test_the_optimal_filter_has_the_sn_of_theory() -> None:
    rng = np.random.default_rng(2)
    mjd = np.arange(100.0)
    dip = np.exp(-0.5 * np.square((mjd - 50) / 8))
    sigma = rng.uniform(0.05, 0.1, 100)
    depth, number = 0.2, 3000
    curve = 1 - depth * dip + sigma * rng.standard_normal((number, 100))
    curve[:, ::7] = np.nan
    rows = np.ones((number, 1))
    snr = matched_snr(curve, sigma * rows, depth * dip * rows, mjd, np.zeros(number), 0.05)
    seen = np.isfinite(curve[0])
    weight = 1 / sigma[seen] ** 2
    shifted = dip[seen] - np.average(dip[seen], weights=weight)
    expected = depth * np.sqrt((weight * shifted**2).sum())
    assert snr.std() == pytest.approx(1, abs=0.06)
    assert snr.mean() == pytest.approx(expected, abs=4 / np.sqrt(number))


def test_the_optimal_filter_knows_the_walk() -> None:
    rng = np.random.default_rng(3)
    mjd, number = np.arange(80.0), 1500
    lag = np.abs(mjd[:, None] - mjd)
    covariance = 0.05**2 * np.exp(-lag / 10) + np.diag(np.full(80, 0.02**2))
    curve = 1 + rng.multivariate_normal(np.zeros(80), covariance, number)
    dip = np.exp(-0.5 * np.square((mjd - 40) / 6))
    ones = np.ones((number, 1))
    sigma = np.full((number, 80), 0.02)
    known = matched_snr(curve, sigma, dip * ones, mjd, np.full(number, 10.0), 0.05)
    blind = matched_snr(curve, sigma, dip * ones, mjd, np.zeros(number), 0.05)
    assert known.std() == pytest.approx(1, abs=0.08)
    assert blind.std() > 2
