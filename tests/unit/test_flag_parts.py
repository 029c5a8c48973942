"""Parts of the flagger on data made for each."""

import numpy as np
import pytest

from dsaflow.visibilities.detectors import array_cells, array_level, uneven_channels
from dsaflow.visibilities.dominant import subtract_dominant_source

N_TIME, N_ANTENNA, N_CHANNEL = 8, 24, 6
FIRST, SECOND = np.triu_indices(N_ANTENNA, 1)


def normal(rng, *size):
    return (rng.normal(size=size) + 1j * rng.normal(size=size)).astype(np.complex64)


@pytest.fixture
def field():
    """A source of 6 sigma that moves, through gains of any phase; and the noise's sigma."""
    rng = np.random.default_rng(1)
    gain = rng.uniform(0.7, 1.4, (N_ANTENNA, N_CHANNEL)) * np.exp(
        2j * np.pi * rng.random((N_ANTENNA, N_CHANNEL))
    )
    product = gain[FIRST] * gain[SECOND].conj()
    turn = np.exp(2j * np.pi * np.linspace(0, 2, N_TIME)[:, None] * rng.normal(size=N_ANTENNA))
    fringe = turn[:, FIRST] * turn[:, SECOND].conj()
    return (6 * fringe[..., None] * product).astype(np.complex64), np.abs(product)


def test_a_moving_source_is_taken_off_without_the_gains_being_known(field):
    source, noise = field
    data, flags = source.copy(), np.zeros(source.shape, bool)
    assert subtract_dominant_source(data, noise, flags, FIRST, SECOND)
    # the iteration stops at a change of 1e-3 of the gains
    assert np.max(np.abs(data) / np.abs(source)) < 5e-3


def test_noise_stays_but_for_the_freedom_of_the_gains(field):
    source, noise = field
    grain = noise * normal(np.random.default_rng(2), *source.shape)
    data, flags = source + grain, np.zeros(source.shape, bool)
    assert subtract_dominant_source(data, noise, flags, FIRST, SECOND)
    left = np.mean(np.abs(data / noise) ** 2) / np.mean(np.abs(grain / noise) ** 2)
    # 2 N - 1 real parameters of N (N - 1) real numbers
    assert left == pytest.approx(1 - 2 / N_ANTENNA, abs=0.01)


@pytest.mark.parametrize("n_antenna", [N_ANTENNA, 8])
def test_nothing_is_taken_off_noise_or_with_few_antennas(field, n_antenna):
    source, noise = field
    data = noise * normal(np.random.default_rng(3), *source.shape)
    if n_antenna == 8:
        data += source
    flags = np.zeros(data.shape, bool)
    flags[:, n_antenna <= SECOND] = True
    before = data.copy()
    assert not subtract_dominant_source(data, noise, flags, FIRST, SECOND)
    assert np.array_equal(data, before)


def test_interference_on_one_baseline_and_a_flagged_channel(field):
    source, noise = field
    data, flags = source.copy(), np.zeros(source.shape, bool)
    data[3, 50, 2] += 1000 * noise[50, 2]
    flags[:, :, 4] = True
    flags[:, 7] = True
    noise[:, 4] = np.nan
    assert subtract_dominant_source(data, noise, flags, FIRST, SECOND)
    assert np.abs(data[3, 50, 2]) == pytest.approx(1000 * noise[50, 2], rel=0.02)
    others = np.ones(data.shape, bool)
    others[3, 50, 2] = False
    others[:, :, 4] = False
    # pulled in to three times the source, it moves its two antennas by 3 / (n - 1)
    assert np.max((np.abs(data) / np.abs(source))[others]) < 0.2
    assert np.array_equal(data[:, :, 4], source[:, :, 4])


def cells(amplitude):
    every = np.ones(amplitude.shape[1], bool)
    return array_cells(array_level(amplitude, every), every.size, 0.08)


def test_a_streak_over_half_of_the_band_leaves_the_other_half():
    rng = np.random.default_rng(4)
    amplitude = np.abs(normal(rng, 24, 500, 32))
    amplitude[10:12, :, :18] += 0.6
    amplitude[20] += 0.4
    bad = cells(amplitude)
    assert bad[10:12, :18].all()
    assert not bad[10:12, 18:].any()
    assert bad[20].all()
    assert np.count_nonzero(bad) == 2 * 18 + 32


def test_a_sky_that_rises_at_one_end_of_the_band_is_kept():
    rng = np.random.default_rng(5)
    time, channel = np.linspace(-1, 1, 24)[:, None, None], np.linspace(-1, 1, 32)
    amplitude = np.abs(normal(rng, 24, 500, 32)) * (1 + 0.25 * time * channel)
    assert not cells(amplitude).any()


def test_noise_that_is_no_product_of_antennas():
    rng = np.random.default_rng(6)
    antenna = rng.uniform(0.8, 1.2, (N_ANTENNA, 16))
    factors = antenna[FIRST] * antenna[SECOND]
    noise = factors * rng.lognormal(0, 0.15, factors.shape)
    noise[:, 5] = factors[:, 5] * rng.lognormal(0, 0.5, FIRST.size)
    flags = np.zeros((24, 16), bool)
    # half of the differences: sqrt(2) of the scatter
    flags[::4, 9] = True
    noise[:, 9] = factors[:, 9] * rng.lognormal(0, 0.15 * np.sqrt(2), FIRST.size)
    assert list(np.flatnonzero(uneven_channels(noise, factors, flags))) == [5]
    assert not uneven_channels(factors, factors, flags).any()
