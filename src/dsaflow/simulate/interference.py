"""Interference and its truth."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsaflow.simulate.array import CHANNEL_HZ, channel_grid
from dsaflow.simulate.settings import SimulateSettings
from dsaflow.simulate.streams import random

KNOWN_RFI_HZ = (1350e6, 1395e6, 1405e6, 1422e6, 1475e6)
STUCK_JY = 40.0


@dataclass(frozen=True)
class Interferer:
    """One interferer within a tile: a box in time and frequency, constant over it on each baseline.

    Attributes
    ----------
    kind : str
        ``streak`` (broadband, short), ``narrow`` (a transmitter, always on) or ``stuck`` (the
        correlator puts out a constant in place of the data).
    first, last : int
        Integrations, `last` exclusive.
    low_hz, high_hz : float
        Channels with their centre between these.
    flux_jy : float
        Median over baselines.
    number : int
        Which of the tile's interferers this is.
    """

    kind: str
    first: int
    last: int
    low_hz: float
    high_hz: float
    flux_jy: float
    number: int


def interferers(settings: SimulateSettings, epoch: int, tile: int) -> list[Interferer]:
    """Draw a tile's interference: one streak over all or part of the band, lines, a stuck integration."""
    if not settings.effects.rfi:
        return []
    rng = random(settings, "rfi", epoch, tile)
    grid = channel_grid(settings.channels_per_subband)
    n_time = settings.integrations
    begin = int(rng.integers(0, n_time - 1))
    share, place = rng.uniform(0.4, 1.0), rng.random()
    span_hz = float(np.ptp(grid)) * share
    low_hz = float(grid.min() + place * (np.ptp(grid) - span_hz))
    found = [
        Interferer(
            "streak", begin, begin + int(rng.integers(1, 3)), low_hz - 1.0, low_hz + span_hz + 1.0,
            float(rng.uniform(30, 200)), 0,
        )
    ]  # fmt: skip
    # a thinned band has few channels: one transmitter already takes a sixteenth of it
    n_lines = 2 if settings.channels_per_subband >= 8 else 1
    for pick in rng.choice(len(KNOWN_RFI_HZ), n_lines, replace=False):
        wanted_hz = KNOWN_RFI_HZ[pick] + rng.uniform(-1e6, 1e6)
        centre_hz = float(grid.ravel()[np.abs(grid.ravel() - wanted_hz).argmin()])
        found.append(
            Interferer(
                "narrow", 0, n_time, centre_hz - 1.5 * CHANNEL_HZ, centre_hz + 1.5 * CHANNEL_HZ,
                float(rng.uniform(20, 200)), len(found),
            )
        )  # fmt: skip
    stuck = int(rng.integers(0, n_time))
    found.append(
        Interferer(
            "stuck", stuck, stuck + 1, grid.min() - 1.0, grid.max() + 1.0, STUCK_JY, len(found)
        )
    )
    return found


def strengths_jy(
    settings: SimulateSettings, epoch: int, tile: int, one: Interferer, n_baseline: int
) -> NDArray:
    """Complex strength of an interferer on each baseline and receptor, shape (n_baseline, 2)."""
    if one.kind == "stuck":
        return np.full((n_baseline, 2), one.flux_jy, dtype=np.complex64)
    rng = random(settings, "rfi_strength", epoch, tile, one.number)
    amplitude = one.flux_jy * rng.lognormal(0, 0.7, (n_baseline, 2))
    phase = rng.uniform(0, 2 * np.pi, (n_baseline, 2))
    return (amplitude * np.exp(1j * phase)).astype(np.complex64)


def add_interference(
    settings: SimulateSettings,
    epoch: int,
    tile: int,
    freq_hz: NDArray,
    autos: NDArray,
    data: NDArray,
) -> None:
    """Add a tile's interference to one subband's data (correlator units), in place.

    Shapes: freq_hz (n_channel,), autos (n_baseline,) bool, data (n_time, n_baseline, n_channel, 2).
    An autocorrelation receives the amplitude: it stays real.
    """
    for one in interferers(settings, epoch, tile):
        hit = np.flatnonzero((freq_hz >= one.low_hz) & (freq_hz <= one.high_hz))
        if hit.size == 0:
            continue
        value = strengths_jy(settings, epoch, tile, one, autos.size) * np.float32(
            settings.correlator_unit
        )
        value[autos] = np.abs(value[autos])
        block = data[one.first : one.last, :, hit[0] : hit[-1] + 1]
        if one.kind == "stuck":
            block[...] = value[:, None]
        else:
            block += value[:, None]


def rfi_truth(settings: SimulateSettings, epoch: int, tile: int, n_baseline: int) -> NDArray:
    """Amplitude of the interference in each visibility [Jy], zero where there is none.

    Parameters
    ----------
    n_baseline : int
        Baselines of the files, autocorrelations included, in the files' order.

    Returns
    -------
    float32 ndarray, shape (n_time, n_baseline, n_channel, 2)
        Channels ascending over the whole band. Amplitudes of several interferers in one visibility
        are added.
    """
    freq_hz = np.sort(channel_grid(settings.channels_per_subband).ravel())
    out = np.zeros((settings.integrations, n_baseline, freq_hz.size, 2), dtype=np.float32)
    for one in interferers(settings, epoch, tile):
        hit = np.flatnonzero((freq_hz >= one.low_hz) & (freq_hz <= one.high_hz))
        amplitude = np.abs(strengths_jy(settings, epoch, tile, one, n_baseline))
        out[one.first : one.last, :, hit[0] : hit[-1] + 1] += amplitude[:, None]
    return out
