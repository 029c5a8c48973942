"""Dips of plasma lenses as a smooth function of strength, for continuous fits."""

import functools
from dataclasses import dataclass

import numpy as np

from dsaflow.variability.lens import plasma_lens_gain

# Strengths between which the dips are interpolated; beyond them nothing changes that a fit could see.
MIN_STRENGTH, MAX_STRENGTH = 0.02, 30.0
_STRENGTH_RATIO = 1.12
# The outer cusp lies at u = 1 / sqrt(2), seen at (1 + alpha e^(-1/2)) / sqrt(2).
_CUSP_SHIFT = 0.43
_PHASE_REACH, _N_PHASE = 4.0, 2001
# Offsets at which a point source's gain is tabulated, and the size below which steps are not refined.
_REACH, _CELL = 30.0, 0.02
_LEAST_SIZE = 0.1


@dataclass(frozen=True)
class LensTable:
    """Dips 1 - gain of lenses of many strengths, for one size of the source.

    Each is tabulated against phase = offset / (2 x half width), in which the inner cusps of lenses
    of like strength lie on one another; the steps in strength move the outer one by less than the
    size of all but the smallest sources, so that interpolating does not double it.

    Attributes
    ----------
    log_strength : ndarray, shape (n_strength,)
    half_width : ndarray, shape (n_strength,)
        Offset (in lens radii) at which the dip has half its central depth.
    phase : ndarray, shape (n_phase,)
        From 0.
    dip : ndarray, shape (n_strength, n_phase)
    """

    log_strength: np.ndarray
    half_width: np.ndarray
    phase: np.ndarray
    dip: np.ndarray

    def width(self, strength: float) -> float:
        """Half width at half depth of a lens [lens radii]."""
        return float(
            np.exp(np.interp(np.log(strength), self.log_strength, np.log(self.half_width)))
        )

    def profile(self, strength: float) -> np.ndarray:
        """Dip of a lens against `phase`, shape (n_phase,)."""
        place = np.interp(np.log(strength), self.log_strength, np.arange(len(self.log_strength)))
        row = min(int(place), len(self.log_strength) - 2)
        share = place - row
        return (1 - share) * self.dip[row] + share * self.dip[row + 1]

    def bands(
        self, phase: np.ndarray, strength: float, freq_hz: np.ndarray, frozen: bool = False
    ) -> np.ndarray:
        """Dip of one lens in every sub-band, its strength proportional to wavelength squared.

        Parameters
        ----------
        phase : ndarray, shape (n_epoch,)
            (t - mid) / duration, the duration being the full width at half depth at the mean of
            the frequencies.
        strength : float
            alpha at the mean of the frequencies.
        freq_hz : ndarray, shape (n_band,)
        frozen : bool
            The same strength in every sub-band: an achromatic event of a lens's shape.

        Returns
        -------
        ndarray, shape (n_band, n_epoch)
        """
        phase = np.abs(phase)
        if frozen:
            dip = np.interp(phase, self.phase, self.profile(strength), right=0.0)
            return np.broadcast_to(dip, (len(freq_hz), *phase.shape))
        width = self.width(strength)
        scaled = strength * np.square(freq_hz.mean() / freq_hz)
        return np.array(
            [
                np.interp(phase * width / self.width(a), self.phase, self.profile(a), right=0.0)
                for a in scaled
            ]
        )


@functools.lru_cache(maxsize=1)
def _point_source() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Offsets, strengths, and the dips of an all but pointlike source, shape (n_strength, n_offset)."""
    strengths = [MIN_STRENGTH]
    while strengths[-1] < 1.2 * MAX_STRENGTH:
        step = min((_STRENGTH_RATIO - 1) * strengths[-1], _LEAST_SIZE / _CUSP_SHIFT)
        strengths.append(strengths[-1] + step)
    offset = np.arange(-_REACH, _REACH + 0.5 * _CELL, _CELL)
    dips = np.array([1 - plasma_lens_gain(offset, a, _CELL) for a in strengths])
    return offset, np.array(strengths), dips


@functools.lru_cache(maxsize=32)
def lens_table(source_size: float) -> LensTable:
    """Table of lenses in front of a source of this size [lens radii, Gaussian sigma]."""
    offset, strengths, points = _point_source()
    rest = np.sqrt(max(source_size**2 - _CELL**2, 1e-6)) / _CELL
    reach = int(np.ceil(5 * rest))
    kernel = np.exp(-0.5 * np.square(np.arange(-reach, reach + 1) / rest))
    phase = np.linspace(0, _PHASE_REACH, _N_PHASE)
    middle = len(offset) // 2
    widths, dips = [], []
    for point in points:
        dip = np.convolve(point, kernel / kernel.sum(), mode="same")[middle:]
        beyond = int(np.argmax(dip < 0.5 * dip[0]))
        pair = slice(middle + beyond - 1, middle + beyond + 1)
        width = float(np.interp(-0.5 * dip[0], -dip[beyond - 1 : beyond + 1], offset[pair]))
        widths.append(width)
        dips.append(np.interp(phase * 2 * width, offset[middle:], dip, right=0.0))
    return LensTable(np.log(strengths), np.array(widths), phase, np.array(dips))
