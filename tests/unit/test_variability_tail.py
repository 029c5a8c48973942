"""The tail of event-free sources: what is fitted is what was drawn, and its uncertainty is true."""

import numpy as np
import pytest
from scipy.stats import genpareto

from dsaflow.variability.tail import fit_pareto, fit_tail


def test_scale_and_shape_are_those_drawn() -> None:
    # asymptotic errors of a generalised Pareto fit: (1 + shape) / sqrt(n) and sqrt(2 (1 + shape) / n)
    n, scale, shape = 20000, 3.0, 0.25
    beyond = genpareto.rvs(shape, scale=scale, size=n, random_state=1)
    found = fit_pareto(beyond, np.ones(n))
    assert found[0] == pytest.approx(scale, rel=4 * np.sqrt(2 * 1.25 / n))
    assert found[1] == pytest.approx(shape, abs=4 * 1.25 / np.sqrt(n) + 0.01)
    theirs = genpareto.fit(beyond, floc=0)
    assert found == pytest.approx((theirs[2], theirs[0]), abs=0.05)


def test_an_exponential_tail_is_seldom_taken_for_a_heavy_one() -> None:
    rng = np.random.default_rng(2)
    shapes = [fit_pareto(rng.exponential(2.0, 300), np.ones(300))[1] for _ in range(400)]
    heavy = np.mean(np.array(shapes) > 0)
    # 5 % by the likelihood ratio's distribution; 4 sigma of 400 trials
    assert heavy <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / 400)


def test_weights_count_as_repetitions() -> None:
    rng = np.random.default_rng(3)
    beyond = rng.pareto(3.0, 200)
    weight = rng.integers(0, 4, 200)
    assert fit_pareto(beyond, weight) == pytest.approx(
        fit_pareto(np.repeat(beyond, weight), np.ones(weight.sum())), rel=1e-9
    )


def test_a_tail_steeper_than_gaussian_noise_is_not_believed() -> None:
    assert fit_pareto(np.full(100, 0.1), np.ones(100)) == (1.0, 0.0)


def test_the_expected_number_is_that_of_new_draws_and_its_interval_holds_it() -> None:
    rng = np.random.default_rng(4)
    n_source, inside, ratios = 400, 0, []
    for trial in range(60):
        # every permutation of a source shares its noise: 20 curves are worth little more than one
        own = rng.exponential(2.0, n_source)
        values = own + 0.1 * rng.standard_normal((20, n_source))
        tail = fit_tail("permuted", np.maximum(values, 0), 20.0, trial)
        assert tail is not None
        at = np.array(12.0)
        truth = n_source * np.exp(-12.0 / 2.0)
        low, high = tail.interval(at)
        inside += bool(low <= truth <= high)
        ratios.append(float(tail.expected(at)) / truth)
    # 90 % intervals by the bootstrap of few exceedances: at least 75 % (4 sigma of 60 trials)
    assert inside >= 0.75 * 60
    assert np.median(ratios) == pytest.approx(1, abs=0.6)


def test_threshold_and_expected_number_are_inverse() -> None:
    rng = np.random.default_rng(5)
    for draws in (rng.exponential(2.0, (20, 500)), rng.pareto(4.0, (20, 500)) * 5):
        tail = fit_tail("permuted", draws, 20.0, 1)
        assert tail is not None
        for allowed in (1.0, 0.01):
            assert tail.expected(np.array(tail.threshold(allowed))) == pytest.approx(allowed)
        below = np.array([0.5 * tail.level])
        assert tail.expected(below) == pytest.approx((draws > below).sum() / 20, rel=1e-3)


def test_no_tail_where_nothing_is_found() -> None:
    assert fit_tail("permuted", np.zeros((20, 100)), 20.0, 1) is None
