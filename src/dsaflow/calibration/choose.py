"""Which solutions serve a tile: nearest in both directions, interpolated between brackets."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsaflow.calibration.anchor import FactorTable, between
from dsaflow.calibration.solutions import Solutions, read_h5parm
from dsaflow.calibration.tile import align_antennas
from dsaflow.errors import DataRejected, ReasonCode
from dsaflow.instrument import TILE_S
from dsaflow.visibilities.container import Visibilities

HALF_TILE_H = 0.5 * TILE_S / 3600.0
_AMBIGUOUS_RAD = np.pi / 2


@dataclass
class Choice:
    """Solutions for one tile.

    Attributes
    ----------
    gain : complex ndarray, shape (n_time, n_channel, n_antenna, n_pol)
        On the tile's antennas and channels; n_time and n_channel may be 1. NaN: unsolved.
    ids : list of str
        Tiles whose solutions went in.
    rung : str
        How they were found.
    attributes : dict
        Numbers of the solutions, interpolated like the gains; others from the nearest.
    distance_h : float
        Time to the nearest [h].
    factors : FactorTable or None
        Catalogue sources as measured in the bandpass's own tiles, interpolated likewise.
    """

    gain: NDArray
    ids: list[str]
    rung: str
    attributes: dict[str, Any]
    distance_h: float
    factors: FactorTable | None = None


def bracket(mid_mjd: Sequence[float], time_mjd: float, reach_d: float) -> list[tuple[int, float]]:
    """Solutions to use at a time and their weights: its own, or those before and after, or the nearest.

    Parameters
    ----------
    mid_mjd : sequence of float
        Middle of each solution's tile.
    time_mjd : float
    reach_d : float
        Validity, either way [d].

    Returns
    -------
    list of (index, weight)
        Empty where none is valid; linear weights in time between brackets.
    """
    offset = np.asarray(mid_mjd, dtype=float) - time_mjd
    valid = np.abs(offset) <= reach_d + 1e-9
    if not valid.any():
        return []
    nearest = int(np.argmin(np.where(valid, np.abs(offset), np.inf)))
    if 24.0 * abs(offset[nearest]) < HALF_TILE_H:
        return [(nearest, 1.0)]
    before = np.where(valid & (offset < 0), offset, -np.inf)
    after = np.where(valid & (offset > 0), offset, np.inf)
    low, high = int(before.argmax()), int(after.argmin())
    if not (np.isfinite(before[low]) and np.isfinite(after[high])):
        return [(nearest, 1.0)]
    part = -offset[low] / (offset[high] - offset[low])
    return [(low, 1.0 - part), (high, part)]


def interpolate(low: NDArray, high: NDArray, part: float) -> NDArray:
    """Interpolate gains between two solutions, amplitude and phase apart.

    An antenna that only one of them solved, or whose phase moved by more than 90 deg (the way round
    is then a guess), takes the nearer (or the only) solution.
    """
    # NaN marks the unsolved
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = high / low
        between = low * np.exp(part * (np.log(np.abs(ratio)) + 1j * np.angle(ratio)))
    nearer, other = (low, high) if part < 0.5 else (high, low)
    clear = np.isfinite(ratio) & (np.abs(np.angle(ratio)) <= _AMBIGUOUS_RAD)
    return np.where(clear, between, np.where(np.isfinite(nearer), nearer, other))


def on_grid(solutions: Solutions, vis: Visibilities) -> NDArray:
    """Gains on a tile's antennas and channels, shape (n_time, n_channel or 1, n_antenna, n_pol)."""
    if tuple(solutions.polarization) != tuple(vis.polarization):
        raise DataRejected(
            ReasonCode.BAD_SOLUTIONS,
            f"solutions for {solutions.polarization}, data have {vis.polarization}",
        )
    gain = align_antennas(solutions.gain, solutions.antenna_name, vis.antenna_name)
    if solutions.attributes["kind"] != "bandpass":
        return gain
    nearest = np.abs(solutions.freq_hz - vis.freq_hz[:, None]).argmin(axis=1)
    apart = np.abs(solutions.freq_hz[nearest] - vis.freq_hz) > 0.25 * vis.channel_width_hz
    gain = gain[:, nearest]
    gain[:, apart] = np.nan
    return gain


def _combine(
    solutions: list[Solutions], weights: list[float], vis: Visibilities
) -> tuple[NDArray, dict[str, Any]]:
    nearest = int(np.argmax(weights))
    attributes = dict(solutions[nearest].attributes)
    grids = [on_grid(s, vis) for s in solutions]
    if len(grids) == 1:
        return grids[0], attributes
    if attributes["kind"] != "bandpass":
        grids = [_mean_in_time(g) for g in grids]
    for key in ("catalog_scale", "scale"):
        if key in attributes:
            values = np.array([float(s.attributes[key]) for s in solutions])
            if np.all(np.isfinite(values) & (values > 0)):
                attributes[key] = float(np.exp(np.dot(weights, np.log(values))))
    return interpolate(grids[0], grids[1], weights[1]), attributes


def _mean_in_time(gain: NDArray) -> NDArray:
    """Mean over intervals, ignoring unsolved ones; shape (1, ...)."""
    solved = np.isfinite(gain)
    count = solved.sum(axis=0, keepdims=True)
    total = np.where(solved, gain, 0).sum(axis=0, keepdims=True)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def choose_bandpass(
    paths: Sequence[str | os.PathLike], vis: Visibilities, validity_h: float, fallback_d: float
) -> Choice:
    """Bandpass for a tile, down the ladder: within the validity, else the nearest validated date.

    Raises
    ------
    DataRejected
        NO_BANDPASS, with how far away the nearest is.
    """
    all_solutions = [read_h5parm(p) for p in paths]
    mids = [s.mid_mjd for s in all_solutions]
    chosen, rung = bracket(mids, vis.mid_mjd, validity_h / 24.0), "same-date"
    if not chosen:
        chosen, rung = bracket(mids, vis.mid_mjd, fallback_d), "nearest-date"
        chosen = sorted(chosen, key=lambda c: -c[1])[:1]
    if not chosen:
        near = min((abs(m - vis.mid_mjd) for m in mids), default=np.inf)
        raise DataRejected(
            ReasonCode.NO_BANDPASS,
            f"{len(mids)} bandpasses, the nearest {near:.2f} d away (limit {fallback_d:g} d)",
        )
    used = [all_solutions[i] for i, _ in chosen]
    gain, attributes = _combine(used, [w for _, w in chosen], vis)
    rung = f"{rung}/{attributes['source']}/{attributes['calibrator']}"
    return Choice(
        gain, [s.attributes["file"] for s in used], rung, attributes,
        24.0 * min(abs(s.mid_mjd - vis.mid_mjd) for s in used),
        between([s.factors for s in used if s.factors is not None], [w for _, w in chosen])
        if all(s.factors is not None for s in used)
        else None,
    )  # fmt: skip


def choose_gains(
    paths: Sequence[str | os.PathLike], vis: Visibilities, validity_h: float
) -> Choice:
    """Gains for a tile: its own, else interpolated between its neighbours, else the nearest.

    Raises
    ------
    DataRejected
        NO_GAINS where none is within the validity.
    """
    all_solutions = [read_h5parm(p) for p in paths]
    chosen = bracket([s.mid_mjd for s in all_solutions], vis.mid_mjd, validity_h / 24.0)
    if not chosen:
        raise DataRejected(
            ReasonCode.NO_GAINS,
            f"none of {len(all_solutions)} gain solutions is within {validity_h:g} h",
        )
    used = [all_solutions[i] for i, _ in chosen]
    gain, attributes = _combine(used, [w for _, w in chosen], vis)
    distance_h = 24.0 * min(abs(s.mid_mjd - vis.mid_mjd) for s in used)
    if distance_h < HALF_TILE_H:
        rung = "own"
        interval = np.abs(vis.time_mjd[:, None] - used[0].time_mjd).argmin(axis=1)
        gain = gain[interval] if len(gain) > 1 else gain
    else:
        rung = "interpolated" if len(used) == 2 else "neighbour"
        gain = _mean_in_time(gain)
    return Choice(gain, [s.attributes["file"] for s in used], rung, attributes, distance_h)
