"""Visibilities of a tile with gains divided out, and averaged for solving."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dsaflow.instrument import SPEED_OF_LIGHT_M_S
from dsaflow.visibilities.container import Visibilities


def align_antennas(gain: NDArray, names: list[str], wanted: list[str]) -> NDArray:
    """Reorder the antenna axis (the last but one) by name; antennas without a solution get NaN."""
    position = {name: i for i, name in enumerate(names)}
    out = np.full((*gain.shape[:-2], len(wanted), gain.shape[-1]), np.nan, dtype=complex)
    for i, name in enumerate(wanted):
        if name in position:
            out[..., i, :] = gain[..., position[name], :]
    return out


def divide_gains(data: NDArray, flags: NDArray, gain: NDArray, vis: Visibilities) -> None:
    """Divide g_1 conj(g_2) out of `data` in place, and flag what has no solution.

    Parameters
    ----------
    data : complex64 ndarray, shape (n_time, n_baseline, n_channel, n_pol)
    flags : bool ndarray, same shape
    gain : complex ndarray, shape (n_time or 1, n_channel or 1, n_antenna, n_pol)
    vis : Visibilities
        For antenna1 and antenna2.
    """
    solved = np.isfinite(gain) & (np.abs(gain) > 0)
    inverse = np.where(solved, 1.0 / np.where(solved, gain, 1.0), 0.0).astype(np.complex64)
    for t in range(len(data)):
        k = min(t, len(gain) - 1)
        factor = inverse[k][:, vis.antenna1] * inverse[k][:, vis.antenna2].conj()
        data[t] *= factor.transpose(1, 0, 2)
        missing = ~(solved[k][:, vis.antenna1] & solved[k][:, vis.antenna2])
        flags[t] |= missing.transpose(1, 0, 2)


@dataclass(frozen=True)
class AveragedTile:
    """Visibilities averaged over runs of contiguous channels.

    Attributes
    ----------
    vis : Visibilities
        With the averaged data, flags and frequencies.
    weight : float32 ndarray, shape of ``vis.data``
        Visibilities in each mean.
    spread_hz : float
        Standard deviation of the frequencies in one mean.
    """

    vis: Visibilities
    weight: NDArray
    spread_hz: float


def average_channels(vis: Visibilities, width_hz: float) -> AveragedTile:
    """Average unflagged channels over runs of at most `width_hz` where the channels are contiguous."""
    count = max(1, int(width_hz / vis.channel_width_hz))
    gap = np.diff(vis.freq_hz) > 1.5 * vis.channel_width_hz
    run = np.concatenate([[0], np.cumsum(gap)])
    within = np.arange(len(run)) - np.searchsorted(run, run)
    block = np.unique(run * len(run) + within // count, return_inverse=True)[1]
    if block[-1] + 1 == len(run):
        return AveragedTile(vis, (~vis.flags).astype(np.float32), 0.0)
    starts = np.flatnonzero(np.concatenate([[True], np.diff(block) > 0]))
    good = ~vis.flags
    weight = np.add.reduceat(good, starts, axis=2, dtype=np.float32)
    total = np.add.reduceat(np.where(good, vis.data, np.complex64(0)), starts, axis=2)
    sizes = np.bincount(block)
    averaged = replace(
        vis,
        data=total / np.maximum(weight, 1),
        flags=weight == 0,
        freq_hz=np.bincount(block, vis.freq_hz) / sizes,
        channel_width_hz=vis.channel_width_hz * count,
    )
    spread_hz = vis.channel_width_hz * np.sqrt((np.median(sizes) ** 2 - 1) / 12.0)
    return AveragedTile(averaged, weight, float(spread_hz))


def average_divided(vis: Visibilities, gain: NDArray, width_hz: float) -> AveragedTile:
    """`divide_gains`, then `average_channels`, with one integration of the tile copied at a time.

    Parameters
    ----------
    vis : Visibilities
        Stays as it is.
    gain : complex ndarray, shape (n_time or 1, n_channel or 1, n_antenna, n_pol)
    width_hz : float
    """
    parts = []
    for t in range(len(vis.time_mjd)):
        one = replace(vis, data=vis.data[t : t + 1].copy(), flags=vis.flags[t : t + 1].copy())
        k = min(t, len(gain) - 1)
        divide_gains(one.data, one.flags, gain[k : k + 1], vis)
        parts.append(average_channels(one, width_hz))
    averaged = replace(
        parts[0].vis,
        data=np.concatenate([part.vis.data for part in parts]),
        flags=np.concatenate([part.vis.flags for part in parts]),
    )
    weight = np.concatenate([part.weight for part in parts])
    return AveragedTile(averaged, weight, parts[0].spread_hz)


def thin_channels(tile: AveragedTile, most: int) -> AveragedTile:
    """Keep at most `most` channels, spread evenly over the band."""
    n_channel = len(tile.vis.freq_hz)
    if n_channel <= most:
        return tile
    keep = np.linspace(0, n_channel - 1, most).round().astype(int)
    vis = replace(
        tile.vis,
        data=tile.vis.data[:, :, keep],
        flags=tile.vis.flags[:, :, keep],
        freq_hz=tile.vis.freq_hz[keep],
    )
    return AveragedTile(vis, tile.weight[:, :, keep], tile.spread_hz)


def short_baselines(vis: Visibilities, min_lambda: float) -> NDArray:
    """Baselines whose projection is shorter than `min_lambda` at mid-band and mid-tile, bool (n_baseline,)."""
    middle = len(vis.time_mjd) // 2
    length = np.hypot(*vis.uvw_m[middle, :, :2].T)
    return length * vis.freq_hz.mean() / SPEED_OF_LIGHT_M_S < min_lambda


def receptor_mean(tile: AveragedTile) -> tuple[NDArray, NDArray]:
    """Weighted mean over receptors, and the summed weight; shape (n_time, n_baseline, n_channel)."""
    weight = tile.weight.sum(axis=-1)
    total = (np.where(tile.vis.flags, np.complex64(0), tile.vis.data) * tile.weight).sum(axis=-1)
    return total / np.maximum(weight, 1), weight


def interval_of_integration(vis: Visibilities, interval_s: float) -> NDArray:
    """Solution interval of each integration: as many equal intervals as fit best, shape (n_time,)."""
    n_time = len(vis.time_mjd)
    n_interval = min(n_time, max(1, round(n_time * vis.integration_s / interval_s)))
    return np.arange(n_time) * n_interval // n_time


def reference_antenna(names: list[str], solved_fraction: NDArray, preferred: list[str]) -> int:
    """First of the preferred antennas solved in nearly all channels, else the one with the most."""
    best = solved_fraction.max()
    for name in preferred:
        if name in names and solved_fraction[names.index(name)] >= 0.95 * best > 0:
            return names.index(name)
    return int(solved_fraction.argmax())
