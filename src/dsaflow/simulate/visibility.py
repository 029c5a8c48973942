"""The visibilities themselves: a direct sum over sources, then what receivers do to it."""

import numpy as np
from numba import njit

C_M_S = 299_792_458.0


# The loops over sources are short functions of few arrays, so that the compiler can prove them free of
# aliasing and vectorise them: all in one function they run four times slower.
@njit(nogil=True, fastmath=True, cache=True)
def _project(baseline, vectors, scale, out):
    """Scaled product of a baseline (3,) and vectors (3, n_source)."""
    bx, by, bz = baseline[0] * scale, baseline[1] * scale, baseline[2] * scale
    x, y, z = vectors[0], vectors[1], vectors[2]
    for s in range(out.size):
        out[s] = bx * x[s] + by * y[s] + bz * z[s]


@njit(nogil=True, fastmath=True, cache=True)
def _phasors(delay, freq_hz, real, imag):
    """exp(2 pi i delay freq) to 1e-9: a series below 45 deg, the angle doubled twice."""
    for s in range(delay.size):
        cycles = delay[s] * freq_hz
        x = (0.5 * np.pi) * (cycles - np.rint(cycles))
        y = x * x
        sine = x * (1 - y / 6 * (1 - y / 20 * (1 - y / 42 * (1 - y / 72 * (1 - y / 110)))))
        cosine = 1 - y / 2 * (
            1 - y / 12 * (1 - y / 30 * (1 - y / 56 * (1 - y / 90 * (1 - y / 132))))
        )
        sine, cosine = 2 * sine * cosine, cosine * cosine - sine * sine
        real[s] = cosine * cosine - sine * sine
        imag[s] = 2 * sine * cosine


@njit(nogil=True, fastmath=True, cache=True)
def _losses(drift, freq_hz, out):
    """sin(x)/x with x = drift times frequency."""
    most = 0.0
    for s in range(drift.size):
        y = np.square(drift[s] * freq_hz)
        most = max(most, y)
        y = min(y, 6.0)
        out[s] = 1 - y / 6 * (
            1 - y / 20 * (1 - y / 42 * (1 - y / 72 * (1 - y / 110 * (1 - y / 156))))
        )
    if most > 6.0:
        # beyond the series: sources far outside the beam
        for s in range(drift.size):
            x = abs(drift[s] * freq_hz)
            if x * x > 6.0:
                out[s] = np.sin(x) / x


@njit(nogil=True, fastmath=True, cache=True)
def _scale(factor, source, out):
    for s in range(out.size):
        out[s] = factor[s] * source[s]


@njit(nogil=True, fastmath=True, cache=True)
def _growth(first, last, n_channel, out):
    """Ratio of the loss from channel to channel, (last/first)^(1/(n - 1)), as a binomial series.

    None where the loss is nearly total: such a source adds nothing.
    """
    p = 1.0 / max(n_channel - 1, 1)
    two, three = p * (p - 1) / 2, p * (p - 1) * (p - 2) / 6
    for s in range(out.size):
        change = last[s] / first[s] - 1 if abs(first[s]) > 0.05 else 0.0
        out[s] = 1 + change * (p + change * (two + change * three))


@njit(nogil=True, fastmath=True, cache=True)
def _advance(real, imag, turn_r, turn_i):
    for s in range(real.size):
        moved = real[s] * turn_r[s] - imag[s] * turn_i[s]
        imag[s] = real[s] * turn_i[s] + imag[s] * turn_r[s]
        real[s] = moved


@njit(nogil=True, fastmath=True, cache=True)
def _sum_and_advance(flux, real, imag, turn_r, turn_i):
    """Sum of flux times phasor; the phasors go on to the next channel."""
    sum_r, sum_i = np.float32(0), np.float32(0)
    for s in range(flux.size):
        sum_r += flux[s] * real[s]
        sum_i += flux[s] * imag[s]
        moved = real[s] * turn_r[s] - imag[s] * turn_i[s]
        imag[s] = real[s] * turn_i[s] + imag[s] * turn_r[s]
        real[s] = moved
    return complex(sum_r, sum_i)


@njit(nogil=True, fastmath=True, cache=True)
def sum_sources(
    baseline_m, offset, rate, amplitude, freq_hz, integration_s, out, channel_width_hz=0.0
):
    """Sum point sources over all subbands, for the baselines given.

    The phase is stepped from channel to channel and from subband to subband by one complex
    multiplication for each source; the loss by smearing is taken along as the modulus of the step.

    Parameters
    ----------
    baseline_m : float64 ndarray, shape (n_baseline, 3)
        x2 - x1, east, north, up [m].
    offset : float64 ndarray, shape (n_time, 3, n_source)
        Direction less the fringe-stopping direction.
    rate : float64 ndarray, same shape
        Its rate of change [1/s]; zeros for no smearing.
    amplitude : float32 ndarray, shape (n_time, n_subband, n_channel, n_source)
        Apparent flux [Jy].
    freq_hz : float64 ndarray, shape (n_subband, n_channel)
        Evenly spaced along either axis.
    integration_s : float
    out : complex64 ndarray, shape (n_time, n_baseline, n_subband, n_channel)
        Filled with sum S B loss exp(+2 pi i nu/c (x2 - x1).(s - s0)) [Jy].
    channel_width_hz : float
        For the loss within a channel; 0 for none.
    """
    n_source = offset.shape[2]
    n_subband, n_channel = freq_hz.shape
    subband_hz = freq_hz[1, 0] - freq_hz[0, 0] if n_subband > 1 else 0.0
    channel_hz = freq_hz[0, 1] - freq_hz[0, 0] if n_channel > 1 else 0.0
    delay, drift = np.empty(n_source), np.empty(n_source)
    loss, after, growth = np.empty(n_source), np.empty(n_source), np.empty(n_source)
    start_r, start_i = np.empty(n_source, np.float32), np.empty(n_source, np.float32)
    jump_r, jump_i = np.empty(n_source, np.float32), np.empty(n_source, np.float32)
    step_r, step_i = np.empty(n_source, np.float32), np.empty(n_source, np.float32)
    real, imag = np.empty(n_source, np.float32), np.empty(n_source, np.float32)
    turn_r, turn_i = np.empty(n_source, np.float32), np.empty(n_source, np.float32)
    for time in range(offset.shape[0]):
        for row in range(baseline_m.shape[0]):
            _project(baseline_m[row], offset[time], 1 / C_M_S, delay)
            _project(baseline_m[row], rate[time], np.pi * integration_s / C_M_S, drift)
            _phasors(delay, freq_hz[0, 0], start_r, start_i)
            if channel_width_hz > 0:
                _losses(delay, np.pi * channel_width_hz, loss)
                _scale(loss, start_r, start_r)
                _scale(loss, start_i, start_i)
            _phasors(delay, subband_hz, jump_r, jump_i)
            _phasors(delay, channel_hz, step_r, step_i)
            for subband in range(n_subband):
                _losses(drift, freq_hz[subband, 0], loss)
                _scale(loss, start_r, real)
                _scale(loss, start_i, imag)
                if n_channel > 1:
                    _losses(drift, freq_hz[subband, n_channel - 1], after)
                    _growth(loss, after, n_channel, growth)
                    _scale(growth, step_r, turn_r)
                    _scale(growth, step_i, turn_i)
                else:
                    turn_r[:], turn_i[:] = step_r, step_i
                for channel in range(n_channel):
                    out[time, row, subband, channel] = _sum_and_advance(
                        amplitude[time, subband, channel], real, imag, turn_r, turn_i
                    )
                _advance(start_r, start_i, jump_r, jump_i)


@njit(nogil=True, fastmath=True, cache=True)
def receive(model, gain, ant1, ant2, noise_jy, system_jy, unit, data):
    """Turn unit noise into data: the sky and the receivers' noise through gains, in place.

    Parameters
    ----------
    model : complex64 ndarray, shape (n_time, n_baseline, n_channel)
    gain : complex64 ndarray, shape (n_time, n_antenna, 2, n_channel)
        Enters as g1 conj(g2).
    ant1, ant2 : int64 ndarray, shape (n_baseline,)
    noise_jy : float
        Sigma of the real and of the imaginary part of a cross-correlation.
    system_jy : float
        System power in an autocorrelation, beside the sky's.
    unit : float
        Correlator units per Jy.
    data : complex64 ndarray, shape (n_time, n_baseline, n_channel, 2)
        Unit normal deviates on entry. An autocorrelation is real, and its noise is sqrt(2) times
        the real part's of a cross-correlation.
    """
    noise, level = np.float32(noise_jy * unit), np.float32(unit)
    system, auto_noise = np.float32(system_jy * unit), np.float32(np.sqrt(2.0) * noise_jy * unit)
    for time in range(data.shape[0]):
        for row in range(data.shape[1]):
            one, two = ant1[row], ant2[row]
            for channel in range(data.shape[2]):
                sky = model[time, row, channel] * level
                for receptor in range(2):
                    product = gain[time, one, receptor, channel] * np.conj(
                        gain[time, two, receptor, channel]
                    )
                    draw = data[time, row, channel, receptor]
                    if one == two:
                        power = sky.real + system + auto_noise * draw.real
                        data[time, row, channel, receptor] = product.real * power
                    else:
                        data[time, row, channel, receptor] = product * (sky + noise * draw)
