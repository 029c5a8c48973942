"""From a CLEAN model to visibilities, through the beam as it moves and changes over the band."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from dsaflow.imaging.beam import DriftBeam
from dsaflow.imaging.gridding import Gridder
from dsaflow.instrument import BAND_HIGH_HZ, BAND_LOW_HZ


def split(count: int, parts: int) -> list[slice]:
    """At most `parts` contiguous slices of nearly equal length that cover range(count)."""
    edges = np.unique(np.rint(np.linspace(0, count, min(parts, count) + 1)).astype(int))
    return [slice(int(a), int(b)) for a, b in zip(edges[:-1], edges[1:], strict=True)]


def frequency_blocks(freq_hz: NDArray, parts: int) -> list[slice]:
    """Channels of each of `parts` equal parts of the band; a part may hold none.

    The parts are the instrument's, not the data's: a tile with subbands missing has the same ones. Data that
    leave the instrument's band are divided between their own ends.
    """
    low, high = BAND_LOW_HZ, BAND_HIGH_HZ
    if freq_hz[0] < low or freq_hz[-1] > high:
        low, high = freq_hz[0], freq_hz[-1] * (1 + 1e-9)
    edges = np.searchsorted(freq_hz, np.linspace(low, high, parts + 1))
    return [slice(int(a), int(b)) for a, b in zip(edges[:-1], edges[1:], strict=True)]


def effective_frequency_hz(freq_hz: NDArray, weights: NDArray, spectral_index: float) -> float:
    """Frequency at which S ~ nu^alpha equals its weighted mean over the channels [Hz]."""
    mean = np.log(freq_hz) @ weights / weights.sum()
    if spectral_index == 0:
        return float(np.exp(mean))
    ratio = np.exp(spectral_index * (np.log(freq_hz) - mean)) @ weights / weights.sum()
    return float(np.exp(mean + np.log(ratio) / spectral_index))


class BeamModel:
    """The reference beam of an image, and the visibilities of models that were seen through it.

    Parameters
    ----------
    gridder : Gridder
    drift : DriftBeam
    weight : ndarray, shape (n_time, n_channel)
        Sums of the imaging weights over the baselines.
    time_chunks, channel_blocks : int
        The beam is taken as constant in each chunk of time and block of channels.
    spectral_index : float

    Attributes
    ----------
    reference : float64 ndarray, shape (size, size)
        B_ref, the mean beam over exactly the visibilities in the image.
    freq_hz : float
        Reference frequency of the model.
    """

    def __init__(
        self,
        gridder: Gridder,
        drift: DriftBeam,
        weight: NDArray,
        time_chunks: int,
        channel_blocks: int,
        spectral_index: float,
    ) -> None:
        self._gridder, self._drift, self._weight = gridder, drift, weight
        self._index = spectral_index
        self.chunks = split(weight.shape[0], time_chunks)
        self.blocks = frequency_blocks(gridder.freq_hz, channel_blocks)
        self.reference = drift.mean(weight)
        self.freq_hz = effective_frequency_hz(gridder.freq_hz, weight.sum(axis=0), spectral_index)

    def channels_used(self, block: slice = slice(None)) -> int:
        """Number of channels with weight."""
        return int(np.count_nonzero(self._weight[:, block].any(axis=0)))

    def block_beam(self, block: slice) -> NDArray:
        """Mean beam over all times and the channels of `block`."""
        return self._drift.mean(_only(self._weight, slice(None), block))

    def block_factor(self, block: slice, beam: NDArray) -> tuple[NDArray, float]:
        """Apparent flux in `block` over that at the reference, and the block's frequency [Hz]."""
        freq_hz = effective_frequency_hz(
            self._gridder.freq_hz[block], self._weight[:, block].sum(axis=0), self._index
        )
        spectrum = (freq_hz / self.freq_hz) ** self._index
        return spectrum * beam / self._floor(), freq_hz

    def subtract(self, data: NDArray, model: NDArray) -> NDArray:
        """Data minus the visibilities of `model` (apparent Jy/pixel at the reference beam)."""
        residual = data.copy()
        if not model.any():
            return residual
        spectrum = ((self._gridder.freq_hz / self.freq_hz) ** self._index).astype(np.float32)
        for times, channels, beam in self._beams():
            attenuated = (model * (beam / self._floor())).astype(np.float32)
            part = self._gridder.visibilities(attenuated, times, channels)
            residual[times, :, channels] -= part * spectrum[channels]
        return residual

    def _beams(self) -> Iterator[tuple[slice, slice, NDArray]]:
        for times in self.chunks:
            for channels in self.blocks:
                weight = _only(self._weight, times, channels)
                if weight.any():
                    yield times, channels, self._drift.mean(weight)

    def _floor(self) -> NDArray:
        # in a null of the mean beam the ratio has no meaning and there is nothing to model
        return np.maximum(self.reference, 1e-3)


def _only(weight: NDArray, times: slice, channels: slice) -> NDArray:
    """Weights with everything outside a chunk and a block set to zero."""
    kept = np.zeros_like(weight)
    kept[times, channels] = weight[times, channels]
    return kept
