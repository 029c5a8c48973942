"""From a CLEAN model to visibilities, through the beam as it moves and changes over the band."""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from dsaflow.imaging.beam import DriftBeam
from dsaflow.imaging.gridding import Gridder
from dsaflow.instrument import BAND_HIGH_HZ, BAND_LOW_HZ


def frequency_blocks(freq_hz: NDArray, parts: int) -> list[slice]:
    """Channels of each of `parts` equal parts of the band; a part may hold none.

    The parts are the instrument's, not the data's: a tile with subbands missing has the same ones.
    Data that leave the instrument's band are divided between their own ends.
    """
    edges = np.searchsorted(freq_hz, part_edges_hz(freq_hz, parts))
    return [slice(int(a), int(b)) for a, b in pairwise(edges)]


def part_edges_hz(freq_hz: NDArray, parts: int) -> NDArray:
    """Edges of the parts of the band, shape (parts + 1,)."""
    low, high = BAND_LOW_HZ, BAND_HIGH_HZ
    if freq_hz[0] < low or freq_hz[-1] > high:
        low, high = freq_hz[0], freq_hz[-1] * (1 + 1e-9)
    return np.linspace(low, high, parts + 1)


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
    terms : int
        Terms of the expansion of the moving beam; one is a static beam.
    parts : int
        Frequency blocks, see `frequency_blocks`.
    spectral_index : float
        S ~ nu^alpha of every model pixel within the band.

    Attributes
    ----------
    index : float
        Spectral index.
    reference : float64 ndarray, shape (size, size)
        B_ref, the mean beam over exactly the visibilities in the image.
    freq_hz : float
        Reference frequency of the model.
    channel_hz : ndarray
        The channels.
    blocks : list of slice
        Channels of each frequency block.

    Notes
    -----
    A source of apparent flux M at the reference beam appears in integration t and channel c as
    M B(t, c) / B_ref (nu / nu_ref)^alpha (compare the A-projection of Bhatnagar et al. 2008).
    B(t, c) over the field is a sum of few products phi_k(t, c) beta_k(l, m), found by singular
    value decomposition: each term is one degridding of all visibilities. Over a tile at dec +16 the
    largest error of the beam is 10, 5, 3, 0.7, 0.6, 0.2 and 0.1 % of its peak for 2 to 8 terms;
    constant beams in 8 chunks of time by 4 blocks of channels, 32 degriddings, leave 4 %.
    """

    def __init__(
        self,
        gridder: Gridder,
        drift: DriftBeam,
        weight: NDArray,
        terms: int,
        parts: int,
        spectral_index: float,
    ) -> None:
        self._gridder, self._drift, self._weight = gridder, drift, weight
        self.channel_hz = gridder.freq_hz
        self.blocks = frequency_blocks(gridder.freq_hz, parts)
        self.reference = drift.mean(weight)
        # in a null of the mean beam the ratio has no meaning and there is nothing to model
        floor = np.maximum(self.reference, 1e-3)
        self._floor = floor
        self._expansion, patterns = drift.expand(terms)
        self._patterns = [(pattern / floor).astype(np.float32) for pattern in patterns]
        self.set_index(spectral_index)

    def set_index(self, spectral_index: float) -> None:
        """Give every model pixel this spectral index."""
        self.index = spectral_index
        self.freq_hz = effective_frequency_hz(
            self.channel_hz, self._weight.sum(axis=0), spectral_index
        )
        spectrum = (self.channel_hz / self.freq_hz) ** spectral_index
        self._coefficient = (self._expansion * spectrum).astype(np.float32)

    def mean_log_frequency(self, block: slice) -> float:
        """Weighted mean of ln(nu / nu_ref) over the channels of `block`."""
        weight = self._weight[:, block].sum(axis=0)
        return float(np.log(self.channel_hz[block] / self.freq_hz) @ weight / weight.sum())

    def channels_used(self, block: slice = slice(None)) -> NDArray:
        """Which of the channels of `block` have weight, bool."""
        return np.asarray(self._weight[:, block].any(axis=0))

    def block_beam(self, block: slice) -> NDArray:
        """Mean beam over all times and the channels of `block`."""
        weight = np.zeros_like(self._weight)
        weight[:, block] = self._weight[:, block]
        return self._drift.mean(weight)

    def block_factor(self, block: slice, beam: NDArray) -> tuple[NDArray, float]:
        """Apparent flux in `block` over that at the reference, and the block's frequency [Hz]."""
        freq_hz = effective_frequency_hz(
            self._gridder.freq_hz[block], self._weight[:, block].sum(axis=0), self.index
        )
        spectrum = (freq_hz / self.freq_hz) ** self.index
        return spectrum * beam / self._floor, freq_hz

    def subtract(self, data: NDArray, model: NDArray, exact: bool = True) -> NDArray:
        """Data minus the visibilities of `model` (apparent Jy/pixel at the reference beam)."""
        residual = data.copy()
        if model.any():
            for coefficient, pattern in zip(self._coefficient, self._patterns, strict=True):
                part = self._gridder.visibilities(model * pattern, exact)
                part *= coefficient[:, None, :]
                residual -= part
        return residual
