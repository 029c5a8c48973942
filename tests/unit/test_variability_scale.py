"""The epochs' flux scale: pulls, robustness, the target left out."""

import numpy as np
import pytest

from dsaflow.variability.fields import join_fields, split_fields
from dsaflow.variability.robust import excess_variance, score_excess
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


def field(
    rng: np.random.Generator, gradient: np.ndarray, n_source: int = 120, snr: float = 60
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Fluxes with a gain of its own at each place: offsets of up to 6 deg by 1.5 deg."""
    n_epoch = len(gradient)
    offset = rng.uniform(-1, 1, (n_source, 2)) * [6.0, 1.5]
    gain = np.exp(0.05 * rng.standard_normal(n_epoch)) * (1 + np.outer(offset[:, 0] / 6, gradient))
    error = np.full((n_source, n_epoch), 1 / snr)
    return gain + error * rng.standard_normal(gain.shape), error, gain, offset


def fit_field(flux: np.ndarray, error: np.ndarray, offset: np.ndarray, **more) -> EpochScale:
    every = np.ones(len(flux), bool)
    calibration = np.full(flux.shape[1], 0.02)
    return fit_epoch_scale(flux, error, every, calibration, offset_deg=offset, **more)


@pytest.mark.parametrize("case", ["flat", "every", "one"])
def test_a_gradient_is_fitted_where_there_is_one(case: str) -> None:
    rng = np.random.default_rng(21)
    other, pulls_of = 0, []
    for _ in range(12):
        gradient = 0.04 * rng.standard_normal(24) if case == "every" else np.zeros(24)
        if case == "one":
            gradient[7] = 0.06  # from the centre to the edge, 6 standard errors of the slope
        flux, error, gain, offset = field(rng, gradient)
        scale = fit_field(flux, error, offset)
        other += (scale.order != (np.ones(24) if case == "every" else gradient != 0)).sum()
        ratio = np.log(scale.source_scale / gain)
        ratio -= ratio.mean(axis=1, keepdims=True)
        pulls_of.append(ratio / scale.source_scale_err)
    # an epoch of a flat survey gets a term of its own by chance once in thousands
    assert other <= 2
    # 288 independent errors (all sources of an epoch share one): the width to 4 %, 4 of these
    assert np.std(pulls_of) == pytest.approx(1.0, abs=0.17)


def test_covariance_of_the_terms() -> None:
    """Errors of the scale at two places, and what they have in common, over 600 epochs."""
    rng = np.random.default_rng(22)
    collected = []
    for _ in range(25):
        flux, error, gain, offset = field(rng, 0.03 * rng.standard_normal(24))
        offset[0], offset[1] = (6, 1.5), (-6, -1.5)
        gain[:2] = gain[0] / gain[0].mean()  # two places that no source marks
        flux[:2] = np.nan
        scale = fit_field(flux, error, offset, order=np.ones(24, int))
        true = np.linalg.lstsq(scale.basis[2:], np.log(gain[2:]), rcond=None)[0].T
        wrong = scale.theta - true
        wrong -= wrong.mean(axis=0)  # a convention; takes 1 / 24 of the variance
        whitened = np.linalg.solve(np.linalg.cholesky(scale.covariance), wrong[..., None])
        collected.append(whitened[..., 0] * np.sqrt(24 / 23))
        corner = np.einsum("j,ejk,k->e", scale.basis[0], scale.covariance, scale.basis[0])
        np.testing.assert_allclose(np.sqrt(corner), scale.source_scale_err[0], rtol=1e-9)
    z = np.concatenate(collected)
    covariance = z.T @ z / len(z)
    # 600 epochs: each entry to 0.06 (diagonal) and 0.04; 4 of these
    assert np.abs(np.diag(covariance) - 1).max() < 0.24
    assert np.abs(covariance - np.diag(np.diag(covariance))).max() < 0.16


def test_leaving_out_is_as_fitting_without() -> None:
    rng = np.random.default_rng(23)
    flux, error, _, offset = field(rng, 0.03 * rng.standard_normal(24), n_source=40)
    error[0] /= 20
    flux[0] = flux[0].mean() * np.where(np.arange(24) // 6 == 2, 0.97, 1.0)
    every = fit_field(flux, error, offset, order=np.ones(24, int))
    without = np.arange(40) > 0
    calibration = np.full(24, 0.02)
    refit = fit_epoch_scale(
        flux, error, without, calibration, offset_deg=offset, order=np.ones(24, int)
    )
    difference = np.log(every.source_scale[0] / refit.source_scale[0])
    difference -= difference.mean()
    # what is left comes through the other sources' levels and weights
    assert np.abs(difference).max() < 0.5 * refit.source_scale_err[0].min()
    np.testing.assert_allclose(every.source_scale_err[0], refit.source_scale_err[0], rtol=0.1)


def test_a_night_of_more_noise_has_no_bias() -> None:
    """S/N 10, one night 3: ln f would be off by -1 / 18 + 1 / 200 = -5 % there."""
    rng = np.random.default_rng(24)
    off, errors = [], []
    for _ in range(40):
        gain = np.exp(0.03 * rng.standard_normal(16))
        error = np.where(np.arange(16) == 5, 1 / 3, 0.1) * np.ones((300, 1))
        flux = gain + error * rng.standard_normal(error.shape)
        scale = fit(flux, error, 16)
        ratio = np.log(scale.scale / gain)
        off.append(ratio[5] - np.delete(ratio, 5).mean())
        errors.append(scale.scale_err[5])
    assert np.mean(errors) < 0.025
    assert abs(np.mean(off)) < 4 * np.mean(errors) / np.sqrt(40)


def test_an_epoch_without_references_may_be_off_by_what_the_others_are() -> None:
    rng = np.random.default_rng(25)
    flux, error, gain = simulate(rng)
    flux[5:, 9] = np.nan
    scale = fit(flux, error)
    assert scale.flags(0.1)[9] == "few_references"
    assert scale.scale[9] == 1
    others = np.delete(np.log(gain), 9)
    assert scale.scale_err[9] == pytest.approx(others.std(ddof=1), rel=0.05)


def test_an_epoch_of_many_outliers_is_flagged() -> None:
    rng = np.random.default_rng(26)
    flux, error, _ = simulate(rng)
    flux[:22, 4] *= rng.uniform(0.2, 0.6, 22)
    scale = fit(flux, error)
    flags = scale.flags(0.1)
    assert flags[4] == "bad_fit"
    assert (np.delete(flags, 4) == "").all()


def test_fields_of_a_strip() -> None:
    ra = np.concatenate([np.linspace(350, 372, 200), [373.0]]) % 360
    field = split_fields(ra, 12)
    assert sorted(set(field)) == [0, 1]
    assert (np.diff(field) >= 0).all()  # across 0 h in one piece
    assert (split_fields(ra, 30) == 0).all()
    assert split_fields(np.arange(0, 360.0), 20).max() == 17
    assert len(split_fields(np.zeros(0), 20)) == 0


def test_each_field_has_its_own_scale() -> None:
    rng = np.random.default_rng(27)
    parts, gains = [], []
    for _ in range(3):
        flux, error, gain = simulate(rng)
        parts.append(fit(flux, error))
        gains.append(gain)
    parts[2].measured[4] = False
    field = np.arange(180) // 60
    order = rng.permutation(180)
    alone = [part.source_scale.copy() for part in parts]
    scale = join_fields(parts, field[order])
    for k in range(3):
        rows = np.flatnonzero(field[order] == k)
        np.testing.assert_array_equal(scale.source_scale[rows], alone[k])
    assert scale.measured.all()
    assert scale.n_references[0] == sum(part.n_references[0] for part in parts)
    two = np.exp(np.mean([np.log(part.scale[4]) for part in parts[:2]]))
    assert scale.scale[4] == pytest.approx(two)
    mean = np.mean(np.log(gains), axis=0)
    error = np.log(scale.scale / np.exp(mean))
    error = np.delete(error - error.mean(), 4) / np.delete(scale.scale_err, 4)
    # 23 pulls: their width is known to 15 %; 4 of these
    assert np.std(error) == pytest.approx(1, abs=0.6)


def test_score_excess_is_the_maximum_of_the_likelihood() -> None:
    """Against a fine grid, no winsorised residual, variances over three decades."""
    rng = np.random.default_rng(28)
    variance = 10 ** rng.uniform(-3, 0, (6, 200))
    residual = rng.uniform(-1.6, 1.6, variance.shape) * np.sqrt(variance + 0.02)
    found = score_excess(np.square(residual) * 0.99501, variance, np.ones(variance.shape, bool))
    grid = np.linspace(0, 0.1, 20001)
    for k in range(6):
        total = variance[k] + grid[:, None]
        likelihood = -0.5 * (np.log(total) + np.square(residual[k]) / total).sum(axis=1)
        assert found[k] == pytest.approx(grid[likelihood.argmax()], abs=1e-4)


def test_a_lone_bright_source_makes_no_bad_epoch() -> None:
    rng = np.random.default_rng(29)
    variance = np.append(np.full(60, 1e-3), 1e-6)[None, :]
    square = variance * np.square(rng.standard_normal(variance.shape))
    square[0, -1] = 0.01  # 100 standard errors off
    mask = np.ones(variance.shape, bool)
    assert score_excess(square, variance, mask, 3.0)[0] > 1e-4
    assert score_excess(square, variance, mask, 3.0, 10)[0] == 0
