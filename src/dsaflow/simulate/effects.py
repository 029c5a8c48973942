"""Gains that drift in time, and the bandpass."""

import numpy as np
from numpy.typing import NDArray

from dsaflow.simulate.array import BAND_TOP_HZ, CHANNEL_HZ, SUBBANDS
from dsaflow.simulate.settings import SimulateSettings
from dsaflow.simulate.streams import random

CORRELATION_D = 0.25
_ORIGIN_JD = 2461000.5


def smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], jd: NDArray) -> NDArray:
    """Unit-variance processes that forget themselves within 6 h, shape (*shape, n_time).

    A sum of cosines with Gaussian angular frequencies: the correlation is exp(-(dt/6 h)^2/2), and
    the value at a time does not depend on which other times are asked for.
    """
    terms = 16
    rate = rng.standard_normal((*shape, terms)) / CORRELATION_D
    start = rng.uniform(0, 2 * np.pi, (*shape, terms))
    days = np.asarray(jd) - _ORIGIN_JD
    return np.sqrt(2 / terms) * np.cos(rate[..., None] * days + start[..., None]).sum(axis=-2)


def gains(settings: SimulateSettings, epoch: int, tile: int, n_slot: int, jd: NDArray) -> NDArray:
    """Complex gains without bandpass, shape (n_time, n_slot, 2).

    `tile` is not used: the drift is one process over all nights.
    """
    result = np.ones((np.size(jd), n_slot, 2), dtype=complex)
    if not settings.effects.gain_drift:
        return result
    rng = random(settings, "gains")
    # the two receptors of a dish share most of the drift (cable, clock, temperature)
    shared, own = np.sqrt(0.64), np.sqrt(0.36)
    wander = shared * smooth_noise(rng, (n_slot, 1), jd) + own * smooth_noise(rng, (n_slot, 2), jd)
    turn = shared * smooth_noise(rng, (n_slot, 1), jd) + own * smooth_noise(rng, (n_slot, 2), jd)
    common = 1 + settings.common_gain_rms * smooth_noise(rng, (1, 1), jd)
    # a night's error is one of power, hence of flux
    night = 1 + settings.epoch_gain_rms * random(settings, "epoch_gain", epoch).standard_normal()
    amplitude = (1 + settings.antenna_gain_rms * wander) * common * np.sqrt(max(night, 0.1))
    phase = np.radians(settings.phase_drift_deg) * turn
    return np.moveaxis(amplitude * np.exp(1j * phase), -1, 0)


def bandpass(settings: SimulateSettings, n_slot: int, freq_hz: NDArray) -> NDArray:
    """Complex bandpass, constant in time, shape (n_slot, 2, *freq_hz.shape).

    A level and a phase by receptor; ripple; the filter's roll-off at the band's edges; jumps between
    subbands; what the cable delays leave (a slope of 3 deg over the band, and a wiggle).
    """
    if not settings.effects.bandpass:
        return np.ones((n_slot, 2, *freq_hz.shape), dtype=complex)
    rng = random(settings, "bandpass")
    one = (n_slot, 2, *(1,) * freq_hz.ndim)
    band = (BAND_TOP_HZ - freq_hz) / (SUBBANDS * 48 * CHANNEL_HZ)
    level = 1 + 0.1 * rng.standard_normal(one)
    offset = rng.uniform(-np.pi, np.pi, one)
    period, start = rng.uniform(0.15, 0.6, one), rng.uniform(0, 2 * np.pi, one)
    ripple = 1 + 0.06 * np.sin(2 * np.pi * band / period + start)
    edge = 1 - 0.4 * np.exp(-np.minimum(band, 1 - band) / 0.015)
    subband = np.clip((band * SUBBANDS).astype(int), 0, SUBBANDS - 1)
    jump = np.take(1 + 0.05 * rng.standard_normal((n_slot, 2, SUBBANDS)), subband, axis=-1)
    turn = np.take(np.radians(8) * rng.standard_normal((n_slot, 2, SUBBANDS)), subband, axis=-1)
    slope = np.radians(3) * rng.standard_normal(one) * (band - 0.5)
    wiggle = 0.08 * np.sin(2 * np.pi * band / rng.uniform(0.2, 0.5, one) + start)
    return level * ripple * edge * jump * np.exp(1j * (offset + turn + slope + wiggle))
