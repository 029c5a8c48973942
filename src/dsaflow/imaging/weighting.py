"""Stokes I visibilities and their imaging weights."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsaflow.errors import DataRejected, ReasonCode
from dsaflow.instrument import SPEED_OF_LIGHT_M_S
from dsaflow.visibilities.container import Visibilities

_PARALLEL_HANDS = (("XX", "YY"), ("RR", "LL"), ("I",))


@dataclass
class StokesI:
    """Total-intensity visibilities.

    Attributes
    ----------
    data : complex64 ndarray, shape (n_time, n_baseline, n_channel)
        Mean of the unflagged parallel hands [Jy]; zero where both are flagged.
    hands : float32 ndarray, same shape
        Number of unflagged parallel hands over the number there are: 0, 1/2 or 1.
    n_hands : int
        2 for XX, YY; 1 where only one hand was recorded.
    """

    data: NDArray
    hands: NDArray
    n_hands: int


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


def stokes_i(vis: Visibilities) -> StokesI:
    """Average the parallel hands that are not flagged; non-finite data count as flagged.

    Notes
    -----
    One hand alone measures the I of an unpolarised source with sqrt(2) times the noise: its
    natural weight is half. One integration at a time, so that no second copy of the data is made.
    """
    index = parallel_hands(vis.polarization)
    shape = vis.data.shape[:3]
    data = np.empty(shape, np.complex64)
    hands = np.empty(shape, np.float32)
    for t in range(shape[0]):
        total = np.zeros(shape[1:], np.complex64)
        count = np.zeros(shape[1:], np.float32)
        for p in index:
            value = vis.data[t, ..., p]
            good = ~vis.flags[t, ..., p] & np.isfinite(value)
            total += np.where(good, value, 0)
            count += good
        data[t] = total / np.maximum(count, 1)
        hands[t] = count / len(index)
    if not hands.any():
        raise DataRejected(ReasonCode.ALL_FLAGGED, "every visibility of the tile is flagged")
    return StokesI(data, hands, len(index))


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
