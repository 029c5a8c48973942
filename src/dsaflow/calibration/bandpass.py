"""One complex bandpass for each antenna and receptor from a calibrator's transit."""

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsaflow.calibration.predict import Predictor
from dsaflow.calibration.skymodel import SkyModel
from dsaflow.calibration.solver import Gains, NormalEquations, accumulate, solve
from dsaflow.calibration.tile import (
    interval_of_integration,
    reference_antenna,
    short_baselines,
)
from dsaflow.instrument import PrimaryBeam
from dsaflow.visibilities.container import Visibilities

_CHANNELS_A_BLOCK = 48
_MAX_GAP = 3


@dataclass
class BandpassSolution:
    """Result of `solve_bandpass_gains`.

    Attributes
    ----------
    gain, error, snr : ndarray, shape (n_channel, n_pol, n_antenna)
        Phases against the reference antenna; NaN where unsolved.
    interpolated : bool ndarray, same shape
    interval_phase_deg : ndarray, shape (n_interval, n_pol, n_antenna)
        Phase of each interval against the tile's mean.
    noise_recorded : ndarray, shape (n_channel, n_pol)
        RMS residual of one visibility (real or imaginary part), in the correlator's units.
    reference : int
    converged : float
        Fraction of problems that converged.
    """

    gain: NDArray
    error: NDArray
    snr: NDArray
    interpolated: NDArray
    interval_phase_deg: NDArray
    noise_recorded: NDArray
    reference: int
    converged: float


def tile_equations(
    vis: Visibilities,
    model: SkyModel,
    beam: PrimaryBeam,
    interval: NDArray,
    uv_min_lambda: float,
) -> NormalEquations:
    """Normal equations of every interval, channel and receptor; data and model are met once.

    Returns
    -------
    NormalEquations
        Leading axes (n_interval, n_channel, n_pol).
    """
    short = short_baselines(vis, uv_min_lambda)
    predictor = Predictor(vis, model, beam)
    blocks = []
    for first in range(0, len(vis.freq_hz), _CHANNELS_A_BLOCK):
        channels = slice(first, min(first + _CHANNELS_A_BLOCK, len(vis.freq_hz)))
        predicted = predictor.predict(channels)
        predictor.forget()
        parts = []
        for k in range(interval[-1] + 1):
            times = slice(*np.searchsorted(interval, [k, k + 1]))
            flags = vis.flags[times, :, channels] | short[None, :, None, None]
            parts.append(accumulate(vis.data[times, :, channels], flags, predicted[times]))
        blocks.append(
            [
                np.stack([getattr(p, name) for p in parts])
                for name in ("cross", "model", "power", "count")
            ]
        )
    return NormalEquations(*(np.concatenate(a, axis=1) for a in zip(*blocks, strict=True)))


def solve_bandpass_gains(
    vis: Visibilities,
    model: SkyModel,
    beam: PrimaryBeam,
    interval_s: float,
    min_snr: float,
    uv_min_lambda: float = 0.0,
    reference: list[str] | None = None,
) -> BandpassSolution:
    """Solve one gain a channel, antenna and receptor, with phases followed at `interval_s`.

    A first bandpass aligns the channels; the whole band then gives each interval's phases; the
    second bandpass is solved with these taken out. Where the phases of an interval are noisier than
    their scatter they are left out: they would only add noise.

    Parameters
    ----------
    vis : Visibilities
    model : SkyModel
    beam : PrimaryBeam
    interval_s : float
        Interval of the phase solutions.
    min_snr : float
        Solutions below are flagged.
    uv_min_lambda : float
        Shorter baselines are not used.
    reference : list of str, optional
        Reference antennas in order of preference.
    """
    interval = interval_of_integration(vis, interval_s)
    equations = tile_equations(vis, model, beam, interval, uv_min_lambda)
    first = _solve_blocks(equations.total(0), vis)
    phases = _interval_phases(equations, first.gain, vis)
    phasor = np.exp(-1j * phases)
    turn = phasor[..., vis.antenna1] * phasor[..., vis.antenna2].conj()
    turned = NormalEquations(
        np.einsum("kcpb,kpb->cpb", equations.cross, turn.astype(np.complex64)),
        equations.model.sum(axis=0),
        equations.power.sum(axis=0),
        equations.count.sum(axis=0),
    )
    start = np.where(np.isfinite(first.gain), first.gain, 1.0)
    final = _solve_blocks(turned, vis, start)
    keep = final.snr >= min_snr
    gain = np.where(keep, final.gain, np.nan)
    error = np.where(keep, final.error, np.nan)
    solved = np.isfinite(gain).mean(axis=(0, 1))
    chosen = reference_antenna(vis.antenna_name, solved, reference or [])
    against = np.exp(-1j * np.angle(gain[..., chosen : chosen + 1]))
    gain = gain * np.where(np.isfinite(against), against, 1.0)
    gain, error, interpolated = fill_gaps(gain, error, vis.freq_hz, vis.channel_width_hz)
    return BandpassSolution(
        gain, error, final.snr, interpolated, np.degrees(phases), final.reduced_noise_jy, chosen,
        float(final.converged.mean()),
    )  # fmt: skip


def _solve_blocks(
    equations: NormalEquations, vis: Visibilities, start: NDArray | None = None
) -> Gains:
    """`solve` over blocks of channels: the square matrices of the whole band would take gigabytes."""
    parts = []
    for first in range(0, len(vis.freq_hz), _CHANNELS_A_BLOCK):
        block = slice(first, first + _CHANNELS_A_BLOCK)
        guess = None if start is None else start[block]
        parts.append(
            solve(equations.select(block), vis.antenna1, vis.antenna2, vis.n_antenna, start=guess)
        )
    return Gains(
        np.concatenate([p.gain for p in parts]),
        np.concatenate([p.error for p in parts]),
        np.concatenate([p.snr for p in parts]),
        np.concatenate([p.reduced_noise_jy for p in parts]),
        max(p.iterations for p in parts),
        np.concatenate([p.converged for p in parts]),
    )


def _interval_phases(equations: NormalEquations, gain: NDArray, vis: Visibilities) -> NDArray:
    """Phase [rad] of each interval, receptor and antenna against the tile's mean, whole band.

    Antennas whose scatter over the intervals is explained by noise keep zero.
    """
    solved = np.isfinite(gain)
    product = np.where(solved, gain, 0)[..., vis.antenna1]
    product = product * np.where(solved, gain, 0)[..., vis.antenna2].conj()
    collapsed = NormalEquations(
        np.einsum("kcpb,cpb->kpb", equations.cross, product.conj()),
        np.einsum("kcpb,cpb->kpb", equations.model, np.abs(product) ** 2),
        equations.power.sum(axis=1),
        equations.count.sum(axis=1),
    )
    phased = solve(
        collapsed, vis.antenna1, vis.antenna2, vis.n_antenna, phase_only=True,
        start=np.ones((*collapsed.cross.shape[:-1], vis.n_antenna)),
    )  # fmt: skip
    phase = np.angle(np.where(np.isfinite(phased.gain), phased.gain, 1.0))
    phase = phase - np.median(phase, axis=-1, keepdims=True)
    phase = np.angle(np.exp(1j * (phase - phase.mean(axis=0))))
    with np.errstate(divide="ignore"):
        variance = 1.0 / np.maximum(phased.snr, 1e-6) ** 2
    chi2 = (phase**2 / variance).sum(axis=0) / max(len(phase) - 1, 1)
    return np.where(chi2 > 3.0, phase, 0.0)


def fill_gaps(
    gain: NDArray, error: NDArray, freq_hz: NDArray, channel_width_hz: float
) -> tuple[NDArray, NDArray, NDArray]:
    """Interpolate gaps of up to 3 contiguous channels between solved ones (amplitude and phase).

    Shapes (n_channel, n_pol, n_antenna). Gaps in the frequencies themselves are never bridged.
    """
    gain, error = gain.copy(), error.copy()
    filled = np.zeros(gain.shape, dtype=bool)
    for p, a in np.ndindex(gain.shape[1:]):
        good = np.flatnonzero(np.isfinite(gain[:, p, a]))
        for low, high in itertools.pairwise(good):
            width = (freq_hz[high] - freq_hz[low]) / channel_width_hz
            if high - low < 2 or width > _MAX_GAP + 1.5:
                continue
            inside = np.arange(low + 1, high)
            part = (freq_hz[inside] - freq_hz[low]) / (freq_hz[high] - freq_hz[low])
            ratio = gain[high, p, a] / gain[low, p, a]
            gain[inside, p, a] = gain[low, p, a] * np.exp(part * np.log(ratio))
            error[inside, p, a] = max(error[low, p, a], error[high, p, a])
            filled[inside, p, a] = True
    return gain, error, filled
