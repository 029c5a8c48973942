"""The calibrated threshold holds its rate where the noise is neither Gaussian nor white."""

import numpy as np
import pytest

from dsaflow.config.sections import Variability
from dsaflow.simulate.transients import damped_walks
from dsaflow.variability.falsealarm import calibrate_threshold
from dsaflow.variability.search import SearchRules, search
from dsaflow.variability.templates import survey_bank

N_SOURCE, N_EPOCH, N_SURVEY = 60, 60, 4
MJD = 60000 + 0.99727 * np.arange(N_EPOCH)
OPTIONS = Variability()


def noise(kind: str, rng: np.random.Generator) -> np.ndarray:
    """Relative noise of a survey without events; its stated error is 2 %."""
    white = 0.02 * rng.standard_normal((N_SOURCE, N_EPOCH))
    if kind == "student":
        return 0.02 * np.sqrt(3 / 5) * rng.standard_t(5, (N_SOURCE, N_EPOCH))
    if kind == "walks":
        return white + 0.05 * damped_walks(rng, MJD, np.full(N_SOURCE, 5.0))
    return white


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["student", "walks"])
def test_the_rate_holds_in_other_noise(kind: str) -> None:
    bank, rules = survey_bank(MJD, OPTIONS), SearchRules.of(OPTIONS)
    above = 0
    for seed in range(N_SURVEY):
        curve = 1 + noise(kind, np.random.default_rng(seed))
        variance = np.full(curve.shape, 0.02**2)
        events = search(curve, variance, bank, rules)
        alarms = calibrate_threshold(curve, variance, bank, rules, events, 1.0, 1, 4, seed)
        # Where fewer than 50 of the 600 permuted curves show any event there is no tail to fit, and
        # the threshold of simulated seasons must hold by itself.
        assert len(alarms.tails) == 2 or kind == "student"
        assert alarms.source_years == pytest.approx(N_SOURCE * N_EPOCH * 0.99727 / 365.25)
        announced = np.where(events.veto == 0, events.log_likelihood_ratio, 0.0)
        above += int((announced > alarms.threshold).sum())
    # one a survey is allowed: more than 10 where 4 are expected has a chance of 0.3 %
    assert above <= 10
