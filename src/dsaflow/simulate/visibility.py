"""The visibilities themselves: a direct sum over sources, then what receivers do to it."""

import numpy as np
from numba import njit

C_M_S = 299_792_458.0


@njit(nogil=True, fastmath=True, cache=True)
def _sinc_series(y):
    """sin(x)/x from y = x^2, to 1e-7 below y = 6; branch-free, so that loops over it vectorise."""
    return 1 - y / 6 * (1 - y / 20 * (1 - y / 42 * (1 - y / 72 * (1 - y / 110 * (1 - y / 156)))))


@njit(nogil=True, fastmath=True, cache=True)
def _turn(cycles):
    """cos and sin of 2 pi `cycles`, to 1e-9: a series below 45 deg, the angle doubled twice."""
    x = (0.5 * np.pi) * (cycles - np.rint(cycles))
    y = x * x
    s = x * (1 - y / 6 * (1 - y / 20 * (1 - y / 42 * (1 - y / 72 * (1 - y / 110)))))
    c = 1 - y / 2 * (1 - y / 12 * (1 - y / 30 * (1 - y / 56 * (1 - y / 90 * (1 - y / 132)))))
    s, c = 2 * s * c, c * c - s * s
    return c * c - s * s, 2 * s * c


@njit(nogil=True, fastmath=True, cache=True)
def sum_sources(baseline_m, offset, rate, amplitude, freq_hz, integration_s, out):
    """Sum point sources over all subbands, for the baselines given.

    The phase is stepped from channel to channel and from subband to subband by one complex
    multiplication for each source; the loss by smearing is taken along as the modulus of the step.

    Parameters
    ----------
    baseline_m : float64 ndarray, shape (n_baseline, 3)
        x2 - x1, east, north, up [m].
    offset : float64 ndarray, shape (n_time, n_source, 3)
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
    """
    n_time, n_source = offset.shape[0], offset.shape[1]
    n_subband, n_channel = freq_hz.shape
    subband_hz = freq_hz[1, 0] - freq_hz[0, 0] if n_subband > 1 else 0.0
    channel_hz = freq_hz[0, 1] - freq_hz[0, 0] if n_channel > 1 else 0.0
    start_r, start_i = np.empty(n_source, np.float32), np.empty(n_source, np.float32)
    jump_r, jump_i = np.empty(n_source, np.float32), np.empty(n_source, np.float32)
    step_r, step_i = np.ones(n_source, np.float32), np.zeros(n_source, np.float32)
    real, imag = np.empty(n_source, np.float32), np.empty(n_source, np.float32)
    turn_r, turn_i = np.empty(n_source, np.float32), np.empty(n_source, np.float32)
    smear = np.empty(n_source)
    for time in range(n_time):
        for row in range(baseline_m.shape[0]):
            bx, by, bz = baseline_m[row, 0], baseline_m[row, 1], baseline_m[row, 2]
            most = 0.0
            for s in range(n_source):
                delay = (
                    bx * offset[time, s, 0] + by * offset[time, s, 1] + bz * offset[time, s, 2]
                ) / C_M_S
                drift = (
                    bx * rate[time, s, 0] + by * rate[time, s, 1] + bz * rate[time, s, 2]
                ) / C_M_S
                smear[s] = np.square(np.pi * drift * integration_s)
                start_r[s], start_i[s] = _turn(delay * freq_hz[0, 0])
                jump_r[s], jump_i[s] = _turn(delay * subband_hz)
                step_r[s], step_i[s] = _turn(delay * channel_hz)
                most = max(most, smear[s])
            for subband in range(n_subband):
                first, last = freq_hz[subband, 0], freq_hz[subband, n_channel - 1]
                for s in range(n_source):
                    loss = _sinc_series(min(smear[s] * first * first, 6.0))
                    after = _sinc_series(min(smear[s] * last * last, 6.0))
                    growth = 1 + (after / loss - 1) / max(n_channel - 1, 1)
                    real[s], imag[s] = loss * start_r[s], loss * start_i[s]
                    turn_r[s], turn_i[s] = growth * step_r[s], growth * step_i[s]
                if most * first * first > 6.0:
                    for s in range(n_source):
                        x = np.sqrt(smear[s]) * 0.5 * (first + last)
                        if x * x > 6.0:
                            loss = np.sin(x) / x
                            real[s], imag[s] = loss * start_r[s], loss * start_i[s]
                            turn_r[s], turn_i[s] = step_r[s], step_i[s]
                for s in range(n_source):
                    moved = start_r[s] * jump_r[s] - start_i[s] * jump_i[s]
                    start_i[s] = start_r[s] * jump_i[s] + start_i[s] * jump_r[s]
                    start_r[s] = moved
                for channel in range(n_channel):
                    flux = amplitude[time, subband, channel]
                    sum_r, sum_i = np.float32(0), np.float32(0)
                    for s in range(n_source):
                        sum_r += flux[s] * real[s]
                        sum_i += flux[s] * imag[s]
                        moved = real[s] * turn_r[s] - imag[s] * turn_i[s]
                        imag[s] = real[s] * turn_i[s] + imag[s] * turn_r[s]
                        real[s] = moved
                    out[time, row, subband, channel] = complex(sum_r, sum_i)


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
