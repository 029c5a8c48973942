"""Phases of a tile on its own field, and its amplitude scalar."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dsaflow.calibration.predict import Predictor
from dsaflow.calibration.scale import Scale, SourceFactors, fit_sources, robust_scale
from dsaflow.calibration.skymodel import SkyModel
from dsaflow.calibration.solver import NormalEquations, solve
from dsaflow.calibration.tile import (
    AveragedTile,
    divide_gains,
    interval_of_integration,
    receptor_mean,
    short_baselines,
    thin_channels,
)
from dsaflow.instrument import PrimaryBeam

_CHANNELS_A_BLOCK = 16
_SCALE_CHANNELS = 64


@dataclass
class FieldGains:
    """Phases (and, where asked for, amplitudes) of one tile against its field's model.

    Attributes
    ----------
    gain, error : ndarray, shape (n_interval, n_pol, n_antenna)
        |gain| = 1 unless amplitudes are solved (then their geometric mean is 1). NaN: unsolved.
    snr : ndarray, same shape
    interval : int ndarray, shape (n_time,)
        Interval of each integration.
    factors : SourceFactors
    scale : Scale
        Amplitude of the data over the catalogue's.
    noise_jy : float
    """

    gain: NDArray
    error: NDArray
    snr: NDArray
    interval: NDArray
    factors: SourceFactors
    scale: Scale


def integration_equations(
    tile: AveragedTile, predictor: Predictor, uv_min_lambda: float
) -> NormalEquations:
    """Normal equations of each integration and receptor, summed over the band."""
    vis = tile.vis
    short = short_baselines(vis, uv_min_lambda)[None, :, None, None]
    sums: list[NDArray] | None = None
    for first in range(0, len(vis.freq_hz), _CHANNELS_A_BLOCK):
        channels = slice(first, min(first + _CHANNELS_A_BLOCK, len(vis.freq_hz)))
        model = predictor.predict(channels)
        weight = np.where(vis.flags[:, :, channels] | short, 0, tile.weight[:, :, channels])
        data = vis.data[:, :, channels]
        squared = (model.real**2 + model.imag**2)[..., None]
        part = [
            (weight * data * model.conj()[..., None]).sum(axis=2),
            (weight * squared).sum(axis=2),
            (weight * (data.real**2 + data.imag**2)).sum(axis=2),
            (weight > 0).sum(axis=2).astype(np.float32),
        ]
        sums = part if sums is None else [a + b for a, b in zip(sums, part, strict=True)]
    return NormalEquations(*(a.transpose(0, 2, 1) for a in sums or []))


def solve_field(
    tile: AveragedTile,
    model: SkyModel,
    beam: PrimaryBeam,
    interval_s: float,
    min_snr: float,
    good_snr: float,
    max_weight: float,
    uv_min_lambda: float = 0.0,
    amplitudes: bool = False,
) -> FieldGains:
    """Phase a tile on its field and measure its amplitude against the catalogue.

    The sources' own factors, fitted jointly after a first phase solution, enter the model of the
    second: a wrong or varying flux then disturbs neither phases nor scale.

    Parameters
    ----------
    tile : AveragedTile
        Bandpass divided out.
    model : SkyModel
    beam : PrimaryBeam
    interval_s : float
        Shortest interval of the phases; longer where the field is faint, see `choose_interval`.
    min_snr : float
        Solutions below are flagged.
    good_snr : float
        Median S/N that an interval must reach, else a longer one is taken.
    max_weight : float
        Largest weight of one source in the scale.
    uv_min_lambda : float
    amplitudes : bool
        Solve amplitudes for each antenna, too.
    """
    vis = tile.vis
    predictor = Predictor(vis, model, beam, tile.spread_hz)
    current, known = predictor, None
    for _ in range(2):
        equations = integration_equations(tile, current, uv_min_lambda)
        interval = choose_interval(equations, tile, interval_s, good_snr)
        summed = sum_intervals(equations, interval)
        solution = solve(
            summed, vis.antenna1, vis.antenna2, vis.n_antenna, phase_only=not amplitudes
        )
        gain = _centred(np.where(solution.snr >= min_snr, solution.gain, np.nan))
        factors = _factors(tile, predictor, gain, interval, known)
        known = factors.per_source()
        current = predictor.rescaled(known)
    scale = robust_scale(factors, max_weight)
    return FieldGains(gain, solution.error, solution.snr, interval, factors, scale)


def _centred(gain: NDArray) -> NDArray:
    """Divide out the geometric mean of the amplitudes: that belongs to the scale."""
    solved = np.isfinite(gain) & (np.abs(gain) > 0)
    log = np.where(solved, np.log(np.abs(np.where(solved, gain, 1.0))), 0.0)
    count = np.maximum(solved.sum(axis=-1, keepdims=True), 1)
    return np.where(solved, gain, np.nan) / np.exp(log.sum(axis=-1, keepdims=True) / count)


def choose_interval(
    equations: NormalEquations, tile: AveragedTile, interval_s: float, good_snr: float
) -> NDArray:
    """Shortest of the intervals (as configured, doubled, ...) at which the median S/N is reached.

    A phase error of 1 / S/N turns into a loss of 1 / S/N^2 of every flux: below 20 more is lost to
    noise than a drift of degrees an hour can cost in 5 minutes.
    """
    vis = tile.vis
    n_time = len(vis.time_mjd)
    length_s = n_time * vis.integration_s
    trial_s = interval_s
    while True:
        interval = interval_of_integration(vis, trial_s)
        if interval[-1] == 0:
            return interval
        solution = solve(
            sum_intervals(equations, interval), vis.antenna1, vis.antenna2, vis.n_antenna,
            phase_only=True, tolerance=1e-3, max_iterations=40,
        )  # fmt: skip
        connected = solution.snr > 0
        if connected.any() and np.median(solution.snr[connected]) >= good_snr:
            return interval
        trial_s = min(2 * trial_s, 2 * length_s)


def sum_intervals(equations: NormalEquations, interval: NDArray) -> NormalEquations:
    """Add the equations of the integrations of each interval."""
    starts = np.searchsorted(interval, np.arange(interval[-1] + 1))
    return NormalEquations(
        *(
            np.add.reduceat(getattr(equations, name), starts, axis=0)
            for name in ("cross", "model", "power", "count")
        )
    )


def _factors(
    tile: AveragedTile,
    predictor: Predictor,
    gain: NDArray,
    interval: NDArray,
    start: NDArray | None,
) -> SourceFactors:
    """Sources' factors in data with these gains divided out, on a thinned set of channels."""
    thin = thin_channels(tile, _SCALE_CHANNELS)
    data, flags = thin.vis.data.copy(), thin.vis.flags.copy()
    divide_gains(data, flags, gain[interval].transpose(0, 2, 1)[:, None], thin.vis)
    corrected = AveragedTile(
        replace(thin.vis, data=data, flags=flags),
        np.where(flags, np.float32(0), thin.weight),
        thin.spread_hz,
    )
    if len(thin.vis.freq_hz) != len(tile.vis.freq_hz):
        keep = np.searchsorted(tile.vis.freq_hz, thin.vis.freq_hz)
        sky = replace(predictor.model, flux_jy=predictor.model.flux_jy[:, keep])
        predictor = Predictor(thin.vis, sky, predictor.beam, thin.spread_hz)
    mean, weight = receptor_mean(corrected)
    return fit_sources(predictor, mean, weight, start=start)
