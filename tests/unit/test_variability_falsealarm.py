"""False-alarm rates, q-values and probabilities against arithmetic; how the null is made."""

import numpy as np
import pytest

from dsaflow.variability.falsealarm import (
    CHANCE,
    DEEPEST,
    EVENT_RATE,
    FalseAlarms,
    analytic_threshold,
    block_permutation,
    correlation_epochs,
)
from dsaflow.variability.tail import Tail


def alarms(scale: float = 2.0, rate: float = 5.0) -> FalseAlarms:
    """100 sources in 40 source-years whose tail is exponential beyond ln LR 8."""
    draws = np.array([(scale, 0.0, rate)])
    # 20 permutations of the 100 sources, every quantile once
    share = (np.arange(2000) + 0.5)[::-1] / 2000
    values = 8 + scale * (np.log(rate / 100) - np.log(share))
    tail = Tail("permuted", 8.0, scale, 0.0, rate, draws, values, 0.05)
    return FalseAlarms(20.0, 18.0, n_source=100, source_years=40.0, tails=[tail])


def test_rates_per_survey_and_per_source_year() -> None:
    ratio = np.array([10.0, 14.0])
    expected = 5.0 * np.exp(-(ratio - 8) / 2)
    assert alarms().expected(ratio) == pytest.approx(expected)
    assert alarms().per_source_year(ratio) == pytest.approx(expected / 40)
    assert np.isnan(FalseAlarms(20.0, 18.0).per_source_year(ratio)).all()


def test_the_largest_estimate_counts() -> None:
    both = alarms()
    both.tails += alarms(scale=3.0, rate=2.0).tails
    ratio = np.array([8.5, 30.0])
    one, two = (alarms(s, r).expected(ratio) for s, r in ((2.0, 5.0), (3.0, 2.0)))
    assert both.expected(ratio) == pytest.approx(np.maximum(one, two))
    assert one[0] > two[0]
    assert one[1] < two[1]
    assert not both.agree
    prior = FalseAlarms(20.0, 18.0, n_source=100)
    assert prior.expected(np.array(7.0)) == pytest.approx(100 * CHANCE * 9.1188e-4, rel=1e-3)


def test_q_values_are_those_of_benjamini_and_hochberg() -> None:
    found = np.zeros(100)
    found[:3] = [30.0, 20.0, 14.0]
    p = -np.expm1(-alarms().expected(found[:3]) / 100)
    by_hand = np.minimum.accumulate((p * 100 / np.array([1, 2, 3]))[::-1])[::-1]
    q = alarms().q_values(found)
    assert q[:3] == pytest.approx(by_hand)
    assert (q[3:] == 1).all()
    assert len(alarms().q_values(np.zeros(0))) == 0


def test_false_discoveries_are_as_many_as_the_q_value_says() -> None:
    rng = np.random.default_rng(1)
    listed, false = 0, 0
    for _ in range(400):
        # event-free sources whose tail is that of `alarms`, and ten events far above it
        noise = 8 + 2 * (rng.exponential(1.0, 100) - np.log(100 / 5))
        ratio = np.r_[np.maximum(noise[:90], 0), rng.uniform(14, 30, 10)]
        chosen = alarms().q_values(ratio) <= 0.1
        listed += int(chosen.sum())
        false += int(chosen[:90].sum())
    assert listed > 3000
    # expected 0.1 x 90 / 100; 400 false ones scatter by 0.005
    assert false / listed <= 0.1 + 0.02


def test_probability_of_being_real_is_the_ratio_of_densities() -> None:
    ratio, depth_err = np.array([12.0, 20.0, 40.0]), np.full(3, 0.02)
    snr = np.array([6.0, 8.0, 12.0])
    real = EVENT_RATE * 0.4 * 0.02 / (DEEPEST * snr)
    noise = 5.0 * np.exp(-(ratio - 8) / 2) / 2 / 100
    expected = real / (real + noise)
    assert alarms().probability_real(ratio, snr, depth_err) == pytest.approx(expected, rel=0.03)
    assert expected[0] < 0.05
    assert expected[2] > 0.999


def test_the_analytic_threshold_allows_what_was_asked_for() -> None:
    threshold = analytic_threshold(100, 0.01)
    assert threshold == pytest.approx(np.log(100 * CHANCE / 0.01))
    allowed = FalseAlarms(threshold, threshold, n_source=100).expected(np.array(threshold))
    assert allowed == pytest.approx(0.01)


def test_blocks_stay_whole_and_nothing_is_lost() -> None:
    rng = np.random.default_rng(2)
    for n_epoch, block in ((24, 4), (107, 30), (50, 40)):
        order = block_permutation(n_epoch, block, rng)
        assert sorted(order) == list(range(n_epoch))
        # a break between neighbours ends a block
        breaks = (np.diff(order) % n_epoch != 1).sum()
        assert breaks <= max(2, n_epoch // block) - 1


def test_correlation_is_measured_where_there_is_any() -> None:
    rng = np.random.default_rng(3)
    quiet = 1 + 0.02 * rng.standard_normal((200, 120))
    quiet[rng.random(quiet.shape) < 0.05] = np.nan
    assert correlation_epochs(quiet) == 1 or correlation_epochs(quiet[:50]) == 1
    walk = np.empty((40, 120))
    walk[:, 0] = rng.standard_normal(40)
    keep = np.exp(-1 / 6)
    for k in range(1, 120):
        walk[:, k] = keep * walk[:, k - 1] + np.sqrt(1 - keep**2) * rng.standard_normal(40)
    mixed = quiet.copy()
    mixed[:40] += 0.05 * walk
    # 1/e of the correlation at lag 1 is reached 6 epochs later; the mean's removal shortens it
    assert 4 <= correlation_epochs(mixed) <= 9
