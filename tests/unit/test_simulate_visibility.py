"""The direct sum against a plain one in float64; receivers: gains, noise, autocorrelations."""

import numpy as np
import pytest

from dsaflow.simulate.array import C_M_S, INTEGRATION_S, channel_grid
from dsaflow.simulate.visibility import receive, sum_sources


def plain_sum(baseline_m, offset, rate, amplitude, freq_hz):
    """The definition, written down in numpy."""
    delay = np.einsum("bx,txs->tbs", baseline_m, offset) / C_M_S
    drift = np.einsum("bx,txs->tbs", baseline_m, rate) / C_M_S * INTEGRATION_S
    cycles = delay[..., None, None] * freq_hz
    loss = np.sinc(drift[..., None, None] * freq_hz)
    return np.einsum("tbskc,tkcs->tbkc", loss * np.exp(2j * np.pi * cycles), amplitude)


@pytest.mark.parametrize("channels", [1, 2, 48])
@pytest.mark.parametrize(("radius_deg", "tolerance"), [(2.5, 5e-6), (5.0, 1e-3)])
def test_sum_equals_the_definition(channels, radius_deg, tolerance):
    rng = np.random.default_rng(1)
    n_source, n_time, n_baseline = 37, 2, 9
    freq_hz = channel_grid(channels)
    baseline_m = rng.uniform(-2000, 2000, (n_baseline, 3)) * [1, 1, 0.01]
    offset = np.radians(radius_deg) * rng.uniform(-1, 1, (n_time, 3, n_source))
    rate = 7.3e-5 * offset
    amplitude = rng.exponential(1, (n_time, *freq_hz.shape, n_source)).astype(np.float32)
    out = np.empty((n_time, n_baseline, *freq_hz.shape), np.complex64)
    sum_sources(baseline_m, offset, rate, amplitude, freq_hz, INTEGRATION_S, out)
    expected = plain_sum(baseline_m, offset, rate, amplitude, freq_hz)
    # float32 phasors, 48 + 16 steps: 64 x 6e-8 at the very most for each source; where the loss is
    # nearly total, its change over a subband is approximate
    total = amplitude.sum(axis=-1).max()
    assert np.abs(out - expected).max() < tolerance * total
    assert np.abs(expected).max() > 0.1 * total


def test_smearing_off_centre_is_the_published_one():
    """Two degrees north on the longest E-W baseline: 0.9 % lost at dec +16, 7 % at +54.6."""
    from dsaflow.simulate.array import LATITUDE_RAD, meridian_enu, sky_rate

    assert np.degrees(LATITUDE_RAD) == pytest.approx(37.2334051, abs=1e-7)
    for declination_deg, expected, tolerance in ((16.1, 0.009, 0.001), (54.6, 0.07, 0.005)):
        rate = sky_rate(meridian_enu(np.radians(declination_deg + 2))) - sky_rate(
            meridian_enu(np.radians(declination_deg))
        )
        freq_hz = np.array([[1405e6]])
        out = np.empty((1, 1, 1, 1), np.complex64)
        sum_sources(
            np.array([[1695.6, 5.2, 2.0]]), np.zeros((1, 3, 1)), rate[None, :, None],
            np.ones((1, 1, 1, 1), np.float32), freq_hz, INTEGRATION_S, out,
        )  # fmt: skip
        assert 1 - abs(out.item()) == pytest.approx(expected, abs=tolerance)


def received(noise_jy, gain, model_jy=3.0 + 4.0j, n_time=100, n_channel=1000, seed=0):
    rng = np.random.default_rng(seed)
    data = rng.standard_normal((n_time, 3, n_channel, 2, 2), dtype=np.float32)
    data = data.view(np.complex64)[..., 0]
    model = np.full((n_time, 3, n_channel), model_jy, np.complex64)
    model[:, [0, 2]] = abs(model_jy)
    gains = np.broadcast_to(gain[None, :, :, None], (n_time, 2, 2, n_channel)).astype(np.complex64)
    receive(model, gains, np.array([0, 0, 1]), np.array([0, 1, 1]), noise_jy, 6500.0, 0.04, data)
    return data


def test_gain_enters_as_first_times_conjugate_of_second():
    gain = np.array([[1.1 * np.exp(0.3j), 0.8 * np.exp(-1j)], [0.9j, 1.3 + 0.1j]])
    data = received(0.0, gain, n_time=1, n_channel=2)
    for receptor in range(2):
        expected = 0.04 * (3 + 4j) * gain[0, receptor] * np.conj(gain[1, receptor])
        assert data[0, 1, :, receptor] == pytest.approx(expected, rel=1e-6)
    power = 0.04 * (6500 + 5.0) * np.abs(gain[0]) ** 2
    assert data[0, 0, 0].real == pytest.approx(power, rel=1e-6)
    assert (data[:, [0, 2]].imag == 0).all()


def test_noise_is_the_radiometer_equations_and_passes_through_gains():
    noise_jy = 6500 / np.sqrt(2 * 244140.625 * INTEGRATION_S)
    gain = np.array([[1.5, 1.0], [0.8j, 1.0]])
    data = received(noise_jy, gain)
    n = data[:, 1, :, 0].size
    for receptor, level in ((0, 1.2), (1, 1.0)):
        cross = data[:, 1, :, receptor]
        for part in (cross.real, cross.imag):
            # a standard deviation is known to 1/sqrt(2 n): 5 sigma
            assert part.std() == pytest.approx(0.04 * noise_jy * level, rel=5 / np.sqrt(2 * n))
    auto = data[:, 0, :, 1].real
    assert auto.std() == pytest.approx(0.04 * np.sqrt(2) * noise_jy, rel=5 / np.sqrt(2 * n))
    correlation = np.mean(cross.real * cross.imag) - cross.real.mean() * cross.imag.mean()
    assert abs(correlation) < 5 / np.sqrt(n) * (0.04 * noise_jy) ** 2
