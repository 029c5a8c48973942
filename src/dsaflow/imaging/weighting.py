"""Stokes I visibilities and their imaging weights."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from dsaflow.errors import DataRejected, ReasonCode
from dsaflow.instrument import SPEED_OF_LIGHT_M_S
from dsaflow.visibilities.container import Visibilities

_PARALLEL_HANDS = (("XX", "YY"), ("RR", "LL"), ("I",))


@dataclass
class StokesI:
    """Total-intensity visibilities, averaged over groups of channels and integrations.

    Attributes
    ----------
    data : complex64 ndarray, shape (n_time, n_baseline, n_channel)
        Mean of the unflagged parallel hands [Jy]; zero where all are flagged.
    hands : float32 ndarray, same shape
        Number of unflagged samples averaged over the number of hands there are: without averaging 0,
        1/2 or 1. Natural weights.
    n_hands : int
        2 for XX, YY; 1 where only one hand was recorded.
    uvw_m : ndarray, shape (n_time, n_baseline, 3)
        Mean over the samples of each baseline.
    time_mjd : ndarray, shape (n_time,)
        Mean over the samples.
    freq_hz : ndarray, shape (n_channel,)
        Likewise.
    channels, integrations : int ndarray, shapes (n_channel,), (n_time,)
        How many with data are in each group.
    """

    data: NDArray
    hands: NDArray
    n_hands: int
    uvw_m: NDArray
    time_mjd: NDArray
    freq_hz: NDArray
    channels: NDArray
    integrations: NDArray


def parallel_hands(polarization: tuple[str, ...]) -> list[int]:
    """Indices of the hands whose mean is Stokes I.

    Raises
    ------
    DataRejected
        UNREADABLE where no parallel hand is present.
    """
    for names in _PARALLEL_HANDS:
        found = [polarization.index(name) for name in names if name in polarization]
        if found:
            return found
    raise DataRejected(ReasonCode.UNREADABLE, f"no parallel hands among {polarization}")


def stokes_i(
    vis: Visibilities, channels: NDArray | None = None, integrations: NDArray | None = None
) -> StokesI:
    """Average the parallel hands that are not flagged; non-finite data count as flagged.

    Parameters
    ----------
    vis : Visibilities
    channels, integrations : int ndarray, optional
        First of each group that is averaged, see `dsaflow.imaging.average`; default: no averaging.

    Raises
    ------
    DataRejected
        ALL_FLAGGED, or UNREADABLE (no parallel hand).

    Notes
    -----
    One hand alone measures the I of an unpolarised source with sqrt(2) times the noise: its natural
    weight is half. All samples of a group count alike, so that its weight is their number. The
    coordinates are where the samples are in the mean: a baseline's u, v, w over its own, a channel's
    frequency over all baselines', since the gridder has one list of frequencies. One integration at
    a time, so that no second copy of the data is made.
    """
    index = parallel_hands(vis.polarization)
    n_time, n_baseline, n_channel = vis.data.shape[:3]
    channels = np.arange(n_channel) if channels is None else channels
    integrations = np.arange(n_time) if integrations is None else integrations
    shape = (len(integrations), n_baseline, len(channels))
    data = np.empty(shape, np.complex64)
    hands = np.empty(shape, np.float32)
    of_row = np.zeros((n_time, n_baseline))
    of_channel = np.zeros(n_channel)
    for group, (first, end) in enumerate(pairwise([*integrations, n_time])):
        total = np.zeros((n_baseline, n_channel), np.complex64)
        count = np.zeros((n_baseline, n_channel), np.float32)
        for t in range(first, end):
            for p in index:
                value = vis.data[t, ..., p]
                good = ~vis.flags[t, ..., p] & np.isfinite(value)
                total += np.where(good, value, 0)
                count += good
                of_row[t] += np.count_nonzero(good, axis=1)
        of_channel += count.sum(axis=0, dtype=float)
        counted = np.add.reduceat(count, channels, axis=1)
        data[group] = np.add.reduceat(total, channels, axis=1) / np.maximum(counted, 1)
        hands[group] = counted / len(index)
    if not hands.any():
        raise DataRejected(ReasonCode.ALL_FLAGGED, "every visibility of the tile is flagged")
    of_time = of_row.sum(axis=1)
    return StokesI(
        data,
        hands,
        len(index),
        _group_mean(vis.uvw_m, of_row[..., None], integrations),
        _group_mean(vis.time_mjd, of_time, integrations),
        _group_mean(vis.freq_hz, of_channel, channels),
        np.add.reduceat((of_channel > 0).astype(int), channels),
        np.add.reduceat((of_time > 0).astype(int), integrations),
    )


def _group_mean(values: NDArray, samples: NDArray, starts: NDArray) -> NDArray:
    """Mean of `values` over the samples of each group along the first axis; the plain mean without any."""
    if len(starts) == len(values):
        return values
    # differences from the group's first keep the digits of a time in MJD
    first = np.repeat(values[starts], np.diff([*starts, len(values)]), axis=0)
    number = np.add.reduceat(samples, starts, axis=0)
    missing = np.repeat(number == 0, np.diff([*starts, len(values)]), axis=0)
    counted = np.where(missing, 1.0, samples)
    mean = np.add.reduceat((values - first) * counted, starts, axis=0)
    return values[starts] + mean / np.add.reduceat(counted, starts, axis=0)


def _cells(uv_m: NDArray, freq_hz: NDArray, cell_lambda: float, half: int) -> NDArray:
    """Flat index of each visibility's cell on the folded grid (v >= 0), -1 outside it.

    Shapes: (n_baseline, 2+), (n_channel,) -> (n_baseline, n_channel).
    """
    scale = freq_hz / (SPEED_OF_LIGHT_M_S * cell_lambda)
    u, v = (np.rint(uv_m[:, k, None] * scale).astype(np.int32) for k in (0, 1))
    inside = (np.abs(u) < half) & (np.abs(v) < half)
    u = np.where(v < 0, -u, u)
    return np.where(inside, np.abs(v) * (2 * half) + u + half, -1)


def briggs_weights(
    natural: NDArray,
    uvw_m: NDArray,
    freq_hz: NDArray,
    size: int,
    pixel_rad: float,
    robust: float,
    uv_fraction: float = 1.0,
) -> NDArray:
    """Imaging weights after Briggs (1995), with one density grid for the whole band.

    Parameters
    ----------
    natural : float32 ndarray, shape (n_time, n_baseline, n_channel)
        Natural weights (inverse variance, any unit).
    uvw_m : ndarray, shape (n_time, n_baseline, 3)
    freq_hz : ndarray, shape (n_channel,)
    size : int
        Pixels a side of the image, whose grid counts the density.
    pixel_rad : float
    robust : float
        -2 (uniform) to 2 (natural).
    uv_fraction : float
        Visibilities beyond this fraction of the grid's half width get no weight.

    Returns
    -------
    float32 ndarray, shape of `natural`
        w / (1 + W f^2) with W the density of the cell and f^2 = (5 10^-R)^2 / (sum W^2 / sum w).

    Raises
    ------
    DataRejected
        NO_DATA where no visibility lies on the grid.
    """
    half, cell_lambda = size // 2, 1.0 / (size * pixel_rad)
    limit = max(int(half * uv_fraction), 1)
    density = np.zeros(size * limit)
    total = 0.0
    for t in range(natural.shape[0]):
        cells = _cells(uvw_m[t], freq_hz, cell_lambda, limit)
        used = cells >= 0
        kept = natural[t][used]
        total += float(kept.sum(dtype=float))
        density += np.bincount(cells[used], kept, minlength=density.size)
    if total <= 0:
        raise DataRejected(ReasonCode.NO_DATA, "no unflagged visibility on the image's uv grid")
    f2 = (5.0 * 10.0**-robust) ** 2 / (float(np.sum(density**2)) / total)
    weights = np.empty(natural.shape, np.float32)
    for t in range(natural.shape[0]):
        cells = _cells(uvw_m[t], freq_hz, cell_lambda, limit)
        factor = 1.0 / (1.0 + f2 * density[np.maximum(cells, 0)])
        weights[t] = np.where(cells >= 0, natural[t] * factor, 0.0)
    return weights


def thermal_noise_jy(
    weights: NDArray,
    hands: NDArray,
    n_hands: int,
    sefd_jy: float,
    channel_width_hz: float,
    integration_s: float,
) -> float:
    """Thermal noise of the image that these weights make [Jy/beam].

    Notes
    -----
    sqrt(sum w^2 sigma^2) / sum w, sigma^2 = SEFD^2 / (2 channel_width integration n), n the hands
    in the visibility (Thompson, Moran & Swenson 2017, sec. 6.2).
    """
    one_hand_jy = sefd_jy / np.sqrt(2.0 * channel_width_hz * integration_s)
    variance = total = 0.0
    for t in range(weights.shape[0]):
        w, n = weights[t].astype(float), hands[t] * n_hands
        variance += float(np.sum(np.where(n > 0, w**2 / np.maximum(n, 1), 0.0)))
        total += float(w.sum())
    return float(one_hand_jy * np.sqrt(variance) / total)
