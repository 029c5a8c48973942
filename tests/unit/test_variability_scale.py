"""The epochs' flux scale: pulls, robustness, the target left out."""

import numpy as np
import pytest

from dsaflow.variability.robust import excess_variance
from dsaflow.variability.scale import EpochScale, fit_epoch_scale


def simulate(
    rng: np.random.Generator, n_source: int = 60, n_epoch: int = 24
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    flux = 10 ** rng.uniform(-1.5, 0, n_source)
    error = flux[:, None] / rng.uniform(12, 60, n_source)[:, None] * np.ones(n_epoch)
    gain = np.exp(0.05 * rng.standard_normal(n_epoch))
    return flux[:, None] * gain + error * rng.standard_normal(error.shape), error, gain


def fit(flux: np.ndarray, error: np.ndarray, n_epoch: int = 24) -> EpochScale:
    return fit_epoch_scale(flux, error, np.ones(len(flux), bool), np.full(n_epoch, 0.02))


def pulls(scale: EpochScale, gain: np.ndarray) -> np.ndarray:
    difference = np.log(scale.scale / gain)
    return (difference - difference.mean()) / scale.scale_err


@pytest.mark.parametrize("outliers", [0, 6])
def test_pull_is_one(outliers: int) -> None:
    rng = np.random.default_rng(11)
    collected = []
    for _ in range(25):
        flux, error, gain = simulate(rng)
        flux[:outliers] *= 1 + 0.5 * rng.standard_normal((outliers, 24)).clip(-1.5, 1.5)
        flux[0, 8:16] *= 0.5
        collected.append(pulls(fit(flux, error), gain))
    # 600 pulls: the standard deviation is known to 3 %; 24 epochs share one free mean (2 %)
    assert np.std(collected) == pytest.approx(1.0, abs=0.1)


def test_three_per_cent_common_errors_are_removed() -> None:
    rng = np.random.default_rng(2)
    flux, error, gain = simulate(rng, n_source=100)
    scale = fit(flux, error)
    assert np.std(np.log(scale.scale / gain)) < 0.006
    assert np.std(np.log(gain)) > 0.03


def test_a_target_has_no_part_in_its_own_scale() -> None:
    rng = np.random.default_rng(3)
    flux, error, _ = simulate(rng, n_source=12)
    error[0] /= 100  # the target would carry all the weight
    flux[0] = flux[0, 0]
    before = fit(flux, error)
    flux[0, 10:13] *= 0.97
    after = fit(flux, error)
    moved = np.abs(np.log(after.source_scale[0] / before.source_scale[0]))
    # through the others' levels something remains, second order in 1 / n_references
    assert moved.max() < 0.006
    assert np.isfinite(after.source_scale_err).all()


def test_position_dependent_gains_of_one_night_show_as_excess() -> None:
    rng = np.random.default_rng(4)
    flux, error, _ = simulate(rng, n_source=80)
    flux[:, 7] *= np.exp(0.15 * rng.standard_normal(80))
    scale = fit(flux, error)
    assert scale.excess[7] == pytest.approx(0.15, rel=0.35)
    assert np.delete(scale.excess, 7).max() < 0.03


def test_variable_sources_are_no_references() -> None:
    rng = np.random.default_rng(5)
    flux, error, _ = simulate(rng)
    flux[:5] *= np.exp(0.4 * rng.standard_normal((5, 24)))
    assert not fit(flux, error).is_reference[:5].any()


def test_without_references_the_calibration_error_stands() -> None:
    rng = np.random.default_rng(6)
    flux, error, _ = simulate(rng, n_source=5)
    scale = fit(flux, error)
    assert not scale.measured.any()
    assert (scale.source_scale == 1).all()
    assert (scale.source_scale_err == 0.02).all()


def test_excess_variance_recovers_what_was_added() -> None:
    rng = np.random.default_rng(7)
    variance = rng.uniform(0.5, 2, (4000, 40))
    residual = rng.standard_normal(variance.shape) * np.sqrt(variance + 1.5)
    found = excess_variance(residual, variance, np.ones(variance.shape, bool), n_fitted=0)
    assert found.mean() == pytest.approx(1.5, rel=0.02)
    quiet = rng.standard_normal(variance.shape) * np.sqrt(variance)
    found = excess_variance(quiet, variance, np.ones(variance.shape, bool), 2.0, 0)
    assert (found > 0).mean() < 0.05
