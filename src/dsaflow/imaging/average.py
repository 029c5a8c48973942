"""Which channels and integrations are averaged before gridding, and what that takes off a source."""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from dsaflow.instrument import SPEED_OF_LIGHT_M_S

TOUCHING = 0.01  # of a cell's width, by which the distance of neighbours may differ from it


def adjacent_groups(
    centre: NDArray, width: float, widest: float | None, edges: NDArray | tuple = ()
) -> NDArray:
    """First index of each group of cells that touch and are together no wider than `widest`.

    Parameters
    ----------
    centre : ndarray, shape (n,)
        Centres of the channels [Hz] or integrations [s], ascending.
    width : float
        Of each, same unit. Cells further apart than this (a missing subband, a band of which only some
        channels are kept) are never averaged.
    widest : float or None
        None: every cell is a group of its own.
    edges : array-like
        No group lies across one of these.

    Returns
    -------
    int ndarray
        Ascending, the first 0. A run of touching cells is divided as evenly as can be.
    """
    if widest is None or centre.size < 2:
        return np.arange(centre.size)
    most = max(int(widest / width * (1 + 1e-9)), 1)
    apart = np.abs(np.diff(centre) - width) > TOUCHING * width
    apart |= np.diff(np.searchsorted(edges, centre)) > 0
    firsts = [0, *(np.flatnonzero(apart) + 1), centre.size]
    starts = []
    for first, end in pairwise(firsts):
        parts = -(-(end - first) // most)
        starts.append(first + np.arange(parts) * (end - first) // parts)
    return np.concatenate(starts)


def smearing_loss(
    uvw_m: NDArray,
    time_s: NDArray,
    freq_hz: NDArray,
    weights: NDArray,
    extent: tuple[NDArray, NDArray],
    lm: tuple[float, float],
) -> float:
    """Fraction of a point source's peak that channels and integrations of finite extent take off.

    Parameters
    ----------
    uvw_m : ndarray, shape (n_time, n_baseline, 3)
    time_s : ndarray, shape (n_time,)
    freq_hz : ndarray, shape (n_channel,)
    weights : ndarray, shape (n_time, n_baseline, n_channel)
        Of the image.
    extent : tuple of ndarray
        Length of each integration [s], shape (n_time,), and width of each channel [Hz].
    lm : tuple of float
        Direction cosines of the source.

    Notes
    -----
    Weighted mean of 1 - sinc(width delay) sinc(length fringe rate) (Bridle & Schwab 1999, for square
    responses), at the mean frequency and width of the channels.
    """
    direction = np.array([*lm, np.sqrt(1.0 - lm[0] ** 2 - lm[1] ** 2) - 1.0])
    delay_s = uvw_m @ direction / SPEED_OF_LIGHT_M_S
    of_channel = weights.sum(axis=(0, 1), dtype=float)
    mean_hz = float(np.average(freq_hz, weights=of_channel))
    kept = np.sinc(delay_s * float(np.average(extent[1], weights=of_channel)))
    if time_s.size > 1:
        rate_hz = np.gradient(delay_s, time_s, axis=0) * mean_hz
        kept *= np.sinc(rate_hz * extent[0][:, None])
    of_row = weights.sum(axis=2, dtype=float)
    return float(1.0 - (of_row * kept).sum() / of_row.sum())
