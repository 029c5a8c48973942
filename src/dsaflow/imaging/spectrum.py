"""The spectral index of a tile's CLEAN model, measured from its bright sources.

A source whose spectrum is not the model's leaves in each channel a part of its flux that the band's PSF
does not describe: at 8.6 Jy and 0.16 of index a cross of 12 sigma along the array's sidelobes. One index
for all of a tile takes off what the brightest sources make.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsaflow.imaging.bright import HALF_WIDTH, Points
from dsaflow.imaging.gridding import Gridder
from dsaflow.imaging.known import KnownSources
from dsaflow.imaging.restore import clipped_rms
from dsaflow.imaging.skymodel import BeamModel

LEAST_SNR = 200.0  # below, a wrong index leaves less than a sigma


@dataclass(frozen=True)
class IndexChange:
    """Change of the model's spectral index and its error by noise."""

    value: float
    error: float


def measure_index(
    gridder: Gridder,
    sky: BeamModel,
    vis: NDArray,
    weights: NDArray,
    known: KnownSources,
    placed: NDArray,
    residual: NDArray,
) -> IndexChange | None:
    """Index that the residuals of placed sources in the frequency blocks ask for.

    Parameters
    ----------
    gridder : Gridder
    sky : BeamModel
    vis : complex64 ndarray, shape (n_time, n_baseline, n_channel)
        Residual visibilities, with the placed sources taken off.
    weights : float32 ndarray, same shape
    known : KnownSources
    placed, residual : float32 ndarray, shape (size, size)
        Model of the placed sources [Jy/pixel], and the band's residual [Jy/beam].

    Returns
    -------
    IndexChange or None
        None where no placed source is above `LEAST_SNR`, or a single block has data.

    Notes
    -----
    A source of flux F leaves F f_b d ln(nu_b / nu) in block b, f_b its flux there over F; d is the
    least-squares value over all sources and blocks, which weights a source by its flux squared.
    """
    rms = clipped_rms(residual)
    chosen = known.apparent_jy > LEAST_SNR * rms
    chosen &= np.abs(known.x - placed.shape[1] / 2) < placed.shape[1] / 2 - HALF_WIDTH - 1
    chosen &= np.abs(known.y - placed.shape[0] / 2) < placed.shape[0] / 2 - HALF_WIDTH - 1
    points = Points(known.x[chosen], known.y[chosen])
    row, column = np.rint(known.y[chosen]).astype(int), np.rint(known.x[chosen]).astype(int)
    reach = range(-HALF_WIDTH, HALF_WIDTH + 1)
    flux = np.array(
        [
            placed[np.ix_([i + k for k in reach], [j + k for k in reach])].sum(dtype=float)
            for i, j in zip(row, column, strict=True)
        ]
    )
    across = power = 0.0
    for block in sky.blocks:
        if not sky.channels_used(block).any() or not flux.any():
            continue
        factor, _ = sky.block_factor(block, sky.block_beam(block))
        slope = flux * factor[row, column] * sky.mean_log_frequency(block)
        share = float(weights[..., block].sum(dtype=float) / weights.sum(dtype=float))
        left = points.measure(gridder.image(vis, weights, block, exact=False))
        across += share * float(left @ slope)
        power += share * float(slope @ slope)
    if power <= 0:
        return None
    return IndexChange(across / power, rms / float(np.sqrt(power)))
