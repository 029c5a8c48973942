"""The visibilities themselves: a direct sum over sources."""

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

C_M_S = 299_792_458.0


@njit(parallel=True, fastmath=True, cache=True)
def sum_sources(enu_m, ant1, ant2, offset, rate, amplitude, freq_hz, integration_s, smear):
    """Sum sources for one subband.

    Parameters
    ----------
    enu_m : float64 ndarray, shape (n_antenna, 3)
    ant1, ant2 : int ndarray, shape (n_baseline,)
    offset : float64 ndarray, shape (n_time, n_source, 3)
        Direction less the fringe-stopping direction.
    rate : float64 ndarray, same shape
        Its rate of change [1/s].
    amplitude : float32 ndarray, shape (n_time, n_channel, n_source)
        Apparent flux [Jy].
    freq_hz : float64 ndarray, shape (n_channel,)
        Evenly spaced.
    integration_s : float
    smear : bool
        Whether fringes wash out within an integration.

    Returns
    -------
    complex64 ndarray, shape (n_time, n_baseline, n_channel)
        sum S B exp(+2 pi i nu/c (x2 - x1).(s - s0)).
    """
    n_time, n_source = offset.shape[0], offset.shape[1]
    n_baseline, n_channel = ant1.size, freq_hz.size
    out = np.empty((n_time, n_baseline, n_channel), np.complex64)
    middle = freq_hz[n_channel // 2]
    step_hz = freq_hz[1] - freq_hz[0] if n_channel > 1 else 0.0
    for baseline in prange(n_baseline):
        bx = enu_m[ant2[baseline], 0] - enu_m[ant1[baseline], 0]
        by = enu_m[ant2[baseline], 1] - enu_m[ant1[baseline], 1]
        bz = enu_m[ant2[baseline], 2] - enu_m[ant1[baseline], 2]
        real = np.empty(n_source, np.float32)
        imag = np.empty(n_source, np.float32)
        turn_r = np.empty(n_source, np.float32)
        turn_i = np.empty(n_source, np.float32)
        for time in range(n_time):
            for s in range(n_source):
                delay = (
                    bx * offset[time, s, 0] + by * offset[time, s, 1] + bz * offset[time, s, 2]
                ) / C_M_S
                loss = 1.0
                if smear:
                    drift = (
                        bx * rate[time, s, 0] + by * rate[time, s, 1] + bz * rate[time, s, 2]
                    ) / C_M_S
                    x = np.pi * drift * integration_s * middle
                    if abs(x) > 1e-4:
                        loss = np.sin(x) / x
                phase = 2 * np.pi * (delay * freq_hz[0] % 1.0)
                real[s] = loss * np.cos(phase)
                imag[s] = loss * np.sin(phase)
                turn = 2 * np.pi * delay * step_hz
                turn_r[s] = np.cos(turn)
                turn_i[s] = np.sin(turn)
            for channel in range(n_channel):
                sum_r = np.float32(0)
                sum_i = np.float32(0)
                for s in range(n_source):
                    sum_r += amplitude[time, channel, s] * real[s]
                    sum_i += amplitude[time, channel, s] * imag[s]
                    turned = real[s] * turn_r[s] - imag[s] * turn_i[s]
                    imag[s] = real[s] * turn_i[s] + imag[s] * turn_r[s]
                    real[s] = turned
                out[time, baseline, channel] = complex(sum_r, sum_i)
    return out


@njit(parallel=True, fastmath=True, cache=True)
def corrupt(model, gain, ant1, ant2, unit, out):
    """Multiply by g1 conj(g2) and the correlator's unit.

    Shapes: model (n_time, n_baseline, n_channel), gain (n_time, n_antenna, 2, n_channel), out
    (n_time, n_baseline, n_channel, 2).
    """
    for baseline in prange(ant1.size):
        for time in range(model.shape[0]):
            for channel in range(model.shape[2]):
                for pol in range(2):
                    product = gain[time, ant1[baseline], pol, channel] * np.conj(
                        gain[time, ant2[baseline], pol, channel]
                    )
                    out[time, baseline, channel, pol] = (
                        model[time, baseline, channel] * product * unit
                    )


def fringe_rate(direction_rate: NDArray, centre_rate: NDArray) -> NDArray:
    """Rate of (s - s0) within an integration, while the correlator's centre follows the sky."""
    return direction_rate - centre_rate
