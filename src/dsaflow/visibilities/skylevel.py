"""The sky's part of an amplitude: smooth in time, and over contiguous channels."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter

from dsaflow.visibilities.detectors import robust_trend
from dsaflow.visibilities.noise import RAYLEIGH_MEDIAN, masked_median

# A baseline on which sources exceed the noise: median amplitude in sigma of one component.
_BRIGHT = 1.7
# Above this, a per cent of error in a channel's noise moves its level by more than interference.
_DAZZLING = 4.0
_CHANNELS = 9
_DEGREE = 4
_BLOCK = 256


def subtract_sky(scaled: NDArray, flags: NDArray, contiguous: bool) -> None:
    """Take the smooth level off amplitudes, in place.

    Without it the fringes of a bright calibrator, and its way through the beam, are flagged.

    Parameters
    ----------
    scaled : float32 ndarray, shape (n_time, n_baseline, n_channel)
        Amplitudes in units of the noise.
    flags : bool ndarray, same shape
    contiguous : bool
        Whether neighbouring channels touch, so that fringes are smooth over channels.

    Notes
    -----
    Where the sky is below the noise one level for each time, robust over channels, is enough and
    costs no sensitivity. Where it is above, two sources beat, and each channel has a level of its
    own; over contiguous channels it is medianed, so that a narrow band of interference stays.
    """
    level = masked_median(scaled.transpose(2, 0, 1), flags.transpose(2, 0, 1))
    gap = ~np.isfinite(level)
    if gap.any():
        overall = masked_median(level, gap)
        level = np.where(gap, np.where(np.isfinite(overall), overall, RAYLEIGH_MEDIAN), level)
    trend = robust_trend(level).astype(np.float32)
    bright = np.flatnonzero(np.median(level, axis=0) > _BRIGHT)
    faint = np.setdiff1d(np.arange(scaled.shape[1]), bright)
    scaled[:, faint] -= trend[:, faint, None]
    for start in range(0, bright.size, _BLOCK):
        block = bright[start : start + _BLOCK]
        values = scaled[:, block]
        filled = np.where(flags[:, block], trend[:, block, None], values)
        fringes = np.array(robust_trend(filled, degree=_DEGREE))
        if contiguous:
            weak = np.median(level[:, block], axis=0) < _DAZZLING
            fringes[:, weak] = median_filter(
                fringes[:, weak], size=(1, 1, _CHANNELS), mode="nearest"
            )
        scaled[:, block] = values - fringes
