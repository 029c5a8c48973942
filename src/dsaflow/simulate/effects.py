"""What the receivers and the neighbourhood do to the data: gains, bandpass, interference."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsaflow.simulate.array import BAND_TOP_HZ, CHANNEL_HZ, SUBBANDS
from dsaflow.simulate.settings import SimulateSettings
from dsaflow.simulate.sky import random

_HOURS_6_D = 0.25


def smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], jd: NDArray) -> NDArray:
    """Unit-variance processes with a correlation time of 6 h, shape (*shape, n_time).

    A sum of cosines with Gaussian frequencies: the same at any time, whichever night is asked for.
    """
    terms = 32
    rate = rng.standard_normal((*shape, terms)) / _HOURS_6_D
    start = rng.uniform(0, 2 * np.pi, (*shape, terms))
    days = np.asarray(jd) - 2461000.5
    return np.sqrt(2 / terms) * np.cos(rate[..., None] * days + start[..., None]).sum(axis=-2)


def gains(settings: SimulateSettings, epoch: int, tile: int, n_slot: int, jd: NDArray) -> NDArray:
    """Complex gains without bandpass, shape (n_time, n_slot, 2)."""
    result = np.ones((jd.size, n_slot, 2), dtype=complex)
    if not settings.effects.gain_drift:
        return result
    rng = random(settings, "gains")
    level = 1 + 0.1 * rng.standard_normal((n_slot, 2))
    offset = rng.uniform(-np.pi, np.pi, (n_slot, 2))
    amplitude = level[..., None] * (
        1 + settings.antenna_gain_rms * smooth_noise(rng, (n_slot, 2), jd)
    )
    common = 1 + settings.common_gain_rms * smooth_noise(rng, (1, 1), jd)
    # the two receptors of a dish share most of the drift (cable, clock)
    shared = smooth_noise(rng, (n_slot, 1), jd)
    own = smooth_noise(rng, (n_slot, 2), jd)
    phase = np.radians(settings.phase_drift_deg) * (0.8 * shared + 0.6 * own) + offset[..., None]
    night = 1 + settings.epoch_gain_rms * random(settings, "epochgain", epoch).standard_normal()
    return np.moveaxis(amplitude * common * np.sqrt(abs(night)) * np.exp(1j * phase), -1, 0)


def bandpass(settings: SimulateSettings, n_slot: int, freq_hz: NDArray) -> NDArray:
    """Complex bandpass, shape (n_slot, 2, *freq_hz.shape): ripple, roll-off, jumps between subbands."""
    shape = (n_slot, 2, *freq_hz.shape)
    if not settings.effects.bandpass:
        return np.ones(shape, dtype=complex)
    rng = random(settings, "bandpass")
    one = (n_slot, 2, *(1,) * freq_hz.ndim)
    band = (BAND_TOP_HZ - freq_hz) / (SUBBANDS * 48 * CHANNEL_HZ)
    period, start = rng.uniform(0.15, 0.6, one), rng.uniform(0, 2 * np.pi, one)
    ripple = 1 + 0.06 * np.sin(2 * np.pi * band / period + start)
    edge = 1 - 0.4 * np.exp(-np.minimum(band, 1 - band) / 0.015)
    subband = np.clip((band * SUBBANDS).astype(int), 0, SUBBANDS - 1)
    jump = np.take(1 + 0.05 * rng.standard_normal((n_slot, 2, SUBBANDS)), subband, axis=-1)
    turn = np.take(np.radians(8) * rng.standard_normal((n_slot, 2, SUBBANDS)), subband, axis=-1)
    slope = rng.normal(0, 0.6, one) * (band - 0.5)
    wiggle = 0.08 * np.sin(2 * np.pi * band / rng.uniform(0.2, 0.5, one) + start)
    return ripple * edge * jump * np.exp(1j * (turn + slope + wiggle))


@dataclass(frozen=True)
class Interference:
    """What interferes in one tile, for all subbands.

    Attributes
    ----------
    streak : tuple of int
        First and last integration (exclusive) of the broadband streak.
    channels : list of (float, float)
        Centre [Hz] and flux [Jy] of narrow-band transmitters.
    stuck : int
        Integration whose correlator output is stuck at a constant, or -1.
    seed : tuple of int
        Of the amplitudes by baseline.
    """

    streak: tuple[int, int]
    streak_jy: float
    channels: list[tuple[float, float]]
    stuck: int
    seed: tuple[int, ...]


KNOWN_RFI_HZ = (1350e6, 1395e6, 1405e6, 1422e6, 1475e6)


def interference(settings: SimulateSettings, epoch: int, tile: int) -> Interference:
    """Draw a tile's interference."""
    rng = random(settings, "rfi", epoch, tile)
    begin = int(rng.integers(0, settings.integrations - 1))
    picks = rng.choice(len(KNOWN_RFI_HZ), 2, replace=False)
    lines = [(KNOWN_RFI_HZ[p] + rng.uniform(-1e6, 1e6), float(rng.uniform(20, 200))) for p in picks]
    return Interference(
        (begin, begin + 1), float(rng.uniform(30, 200)), lines,
        int(rng.integers(0, settings.integrations)), (settings.seed, epoch, tile),
    )  # fmt: skip


def rfi_visibilities(
    rfi: Interference, subband: int, freq_hz: NDArray, n_time: int, n_baseline: int
) -> NDArray:
    """Interference in Jy, shape (n_time, n_baseline, n_channel, 2); zero where there is none."""
    rng = np.random.default_rng(np.random.SeedSequence([*rfi.seed, 77, subband]))
    out = np.zeros((n_time, n_baseline, freq_hz.size, 2), dtype=np.complex64)
    shape = (n_baseline, 1, 2)
    first, last = rfi.streak
    # every baseline sees it with a strength and a phase of its own
    strength = rfi.streak_jy * rng.lognormal(0, 0.5, shape) * np.exp(2j * np.pi * rng.random(shape))
    out[first:last] += strength.astype(np.complex64)
    near = [np.abs(freq_hz - centre) <= width for centre, width in _lines(rfi, freq_hz)]
    for (_, flux_jy), hit in zip(rfi.channels, near, strict=True):
        strength = flux_jy * rng.lognormal(0, 0.5, shape) * np.exp(2j * np.pi * rng.random(shape))
        out[:, :, hit] += strength.astype(np.complex64)
    return out


def _lines(rfi: Interference, freq_hz: NDArray) -> list[tuple[float, float]]:
    """Lines as (centre, half width): three channels wide, or the nearest channel of a thinned band."""
    spacing = np.abs(np.diff(freq_hz)).min() if freq_hz.size > 1 else 48 * CHANNEL_HZ
    return [(centre, max(1.5 * CHANNEL_HZ, 0.5 * spacing)) for centre, _ in rfi.channels]
