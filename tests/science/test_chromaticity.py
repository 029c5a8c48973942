"""Lens or achromatic: labels, ratios and lens parameters on events of the forward model."""

from dataclasses import dataclass

import numpy as np
import pytest
from scipy.stats import poisson

from dsaflow.simulate.variation import lens_factor, lens_strength
from dsaflow.variability.chromatic import Chromaticity, measure_chromaticity
from dsaflow.variability.eventfit import Noise, fit_lens, fit_times
from dsaflow.variability.templates import gaussian_dip

FREQ_HZ = np.array([1334.6e6, 1381.6e6, 1428.4e6, 1475.4e6])
MJD = 60000.3 + 0.99727 * np.arange(120)
SOURCE_SIZE = 0.2


@dataclass
class Event:
    """One event as four sub-bands see it, and its truth."""

    shape: np.ndarray
    mid_mjd: float
    duration_days: float
    depth: float
    strength: float
    crossing_days: float


def draw_event(rng: np.random.Generator, kind: str) -> Event:
    """Depth 20-50 %, 8-50 d; the achromatic ones have the shape of a lens at mid-band, or Gaussian."""
    depth, duration = rng.uniform(0.2, 0.5), rng.uniform(8, 50)
    mid = MJD[0] + rng.uniform(35, 85)
    phase = (MJD - mid) / duration
    strength = lens_strength(depth)
    places = np.linspace(0, 8, 4001)
    half = places[np.flatnonzero(lens_factor(places, strength) < 1 - 0.5 * depth)[-1]]
    ratio = FREQ_HZ.mean() / FREQ_HZ
    if kind == "achromatic lens shape":
        ratio = np.ones(4)
    shape = np.array([lens_factor(2 * half * phase, strength * r**2) for r in ratio])
    if kind == "gaussian":
        shape = np.tile(1 - depth * np.exp(-4 * np.log(2) * phase**2), (4, 1))
    return Event(shape, mid, duration, depth, strength, duration / (2 * half))


def measure(rng: np.random.Generator, event: Event, snr: float) -> Chromaticity:
    """Sub-band curves at S/N `snr` an epoch of the whole band, normalised as the pipeline does."""
    error = 2 / snr
    curve = event.shape + error * rng.standard_normal(event.shape.shape)
    level = np.median(curve, axis=1)[:, None]
    variance = np.square(error / level) * np.ones_like(curve)
    # as found by a search: off by a part of its spacing
    mid = event.mid_mjd + 0.05 * event.duration_days * rng.uniform(-1, 1)
    duration = event.duration_days * np.exp(rng.uniform(-0.1, 0.1))
    dip = gaussian_dip((MJD - mid) / duration)
    return measure_chromaticity(
        curve / level, variance, FREQ_HZ, MJD, dip, mid, duration, event.depth, SOURCE_SIZE
    )


def sample(kind: str, snr: float, number: int) -> list[Chromaticity]:
    rng = np.random.default_rng([7, int(snr), len(kind)])
    return [measure(rng, draw_event(rng, kind), snr) for _ in range(number)]


def check(kind: str, snrs: tuple[float, ...], number: int) -> None:
    """Labels contradict the truth no oftener than e^-5 allows, and ratios are as expected."""
    truth, wrong = ("chromatic", "achromatic") if kind == "lens" else ("achromatic", "chromatic")
    found = [sample(kind, snr, number) for snr in snrs]
    labels = np.array([[c.label for c in row] for row in found])
    # e^-5 of the labels may be wrong: more than this many are by chance once in a thousand times
    assert (labels == wrong).sum() <= poisson.isf(1e-3, np.exp(-5) * labels.size)
    side = "expected_lens" if kind == "lens" else "expected_achromatic"
    expected = np.array([[getattr(c, side) for c in row] for row in found])
    ratio = np.array([[c.log_ratio for c in row] for row in found])
    telling = np.abs(expected) > 2
    pull = ((ratio - expected) / np.sqrt(2 * np.abs(expected)))[telling]
    # mean 0 and width 1 where the ratio is Gaussian; the expected one is itself from noisy fits
    assert abs(pull.mean()) < 0.3 + 3 / np.sqrt(pull.size)
    assert abs(pull.std() - 1) < 0.25 + 3 / np.sqrt(2 * pull.size)
    assert (labels[np.abs(expected) < 3] == "undecided").all()
    # where the ratio is expected at 30, a measured one below 5 is 3.2 sigma away
    sure = labels[np.abs(expected) > 30] == truth
    assert sure.sum() >= 0.97 * sure.size


@pytest.mark.parametrize("kind", ["lens", "gaussian", "achromatic lens shape"])
def test_labels_are_wrong_no_oftener_than_the_ratio_says(kind: str) -> None:
    check(kind, (15, 100), 8)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["lens", "gaussian", "achromatic lens shape"])
def test_many_labels_over_signal_to_noise(kind: str) -> None:
    """120 events: less than 0.81 wrong labels are expected, and 5 allowed."""
    check(kind, (10, 20, 30, 50, 100, 200), 20)


def test_a_bad_sub_band_at_one_epoch_is_no_colour() -> None:
    rng = np.random.default_rng(3)
    event = draw_event(rng, "gaussian")
    middle = int(np.abs(MJD - event.mid_mjd).argmin())
    event.shape[0, middle] = 0.2
    found = measure(rng, event, 100)
    assert found.label != "chromatic"


def lens_pulls(seeds: range, snr: float) -> np.ndarray:
    """Pulls of strength, crossing time, start, duration and depth."""
    pulls = []
    for seed in seeds:
        rng = np.random.default_rng([seed, int(snr)])
        event = draw_event(rng, "lens")
        error = 2 / snr
        curve = event.shape + error * rng.standard_normal(event.shape.shape)
        variance = np.full(curve.shape, error**2)
        dip = np.exp(-4 * np.log(2) * ((MJD - event.mid_mjd) / event.duration_days) ** 2)
        plain = 1 - event.depth * dip + error / 2 * rng.standard_normal(len(MJD))
        times = fit_times(
            plain,
            Noise(variance[0] / 4),
            MJD,
            gaussian_dip,
            event.mid_mjd + 0.1 * event.duration_days * rng.uniform(-1, 1),
            event.duration_days * np.exp(rng.uniform(-0.2, 0.2)),
        )
        lens = fit_lens(curve, variance, FREQ_HZ, MJD, times, SOURCE_SIZE)
        start = event.mid_mjd - 0.5 * event.duration_days
        pulls.append(
            [
                (lens.strength - event.strength) / lens.strength_err,
                (lens.crossing_days - event.crossing_days) / lens.crossing_err_days,
                (times.start_mjd - start) / times.start_err_days,
                (times.duration_days - event.duration_days) / times.duration_err_days,
                (times.depth - event.depth) / times.depth_err,
            ]
        )
    return np.array(pulls)


def check_pulls(pulls: np.ndarray) -> None:
    """Mean within 4 standard errors (and 0.3 for the curvature), width 1 within 4 of its own."""
    n = len(pulls)
    assert np.isfinite(pulls).all()
    assert (np.abs(pulls.mean(axis=0)) < 0.3 + 4 / np.sqrt(n)).all()
    assert (pulls.std(axis=0) < 1.15 + 4 / np.sqrt(2 * n)).all()
    assert (pulls.std(axis=0) > 0.85 - 4 / np.sqrt(2 * n)).all()


def test_lens_parameters_and_times_have_true_errors() -> None:
    check_pulls(lens_pulls(range(20), 20))


@pytest.mark.slow
@pytest.mark.parametrize("snr", [10, 30, 60])
def test_pulls_of_many_events(snr: float) -> None:
    check_pulls(lens_pulls(range(1000, 1060), snr))
