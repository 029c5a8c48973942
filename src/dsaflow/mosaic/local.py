"""What varies slowly over a mosaic: the effective beam's shape, scale errors, epoch and response.

Kept at the nodes of the resampling map (every `STEP` pixels), as extension LOCAL of the noise map.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsaflow.mosaic.resample import STEP, sample_smooth
from dsaflow.mosaic.tiles import Tile
from dsaflow.projection import Grid

PLANES = ("WEIGHT", "PSF_XX", "PSF_XY", "PSF_YY", "SCALEERR", "SCALESYS", "MJD", "BEAM")


@dataclass
class LocalProperties:
    """Weighted sums over tiles at the nodes; weight w = B^2 / s^2.

    Attributes
    ----------
    sums : ndarray, shape (len(PLANES), n_node_y, n_node_x)
        Sums of w; of w times the second moments of the beam in mosaic pixels (3 planes); of
        (w e)^2; of w times the systematic error; of w (MJD - `mjd0`); the largest response.
    mjd0 : float
        Reference of the times: a float32 MJD would be wrong by 5 minutes.
    """

    sums: NDArray
    mjd0: float = np.nan

    @classmethod
    def zeros(cls, grid: Grid) -> "LocalProperties":
        """Start empty."""
        nodes = [-(-(n - 1) // STEP) + 1 for n in grid.shape]
        return cls(np.zeros((len(PLANES), *nodes)))

    def add(
        self,
        tile: Tile,
        beam: NDArray,
        noise: NDArray,
        map_x: NDArray,
        map_y: NDArray,
        first: tuple[int, int],
        beam_cut: float,
    ) -> None:
        """Add a tile; `map_x`, `map_y` are its pixels at the nodes that begin at `first`."""
        if not np.isfinite(self.mjd0):
            self.mjd0 = float(np.floor(tile.card("MJD-AVG")))
        with np.errstate(invalid="ignore", divide="ignore"):
            response = sample_smooth(beam, map_x, map_y)
            weight = (response / sample_smooth(noise, map_x, map_y)) ** 2
            inside = (response >= beam_cut) & np.isfinite(weight)
        weight, response = np.where(inside, weight, 0.0), np.where(inside, response, 0.0)
        psf = np.where(inside, beam_in_target_pixels(tile, map_x, map_y), 0.0)
        window = self.sums[
            :, first[0] : first[0] + weight.shape[0], first[1] : first[1] + weight.shape[1]
        ]
        window[0] += weight
        window[1:4] += weight * psf
        window[4] += (weight * tile.card("SCALEERR")) ** 2
        window[5] += weight * tile.card("SCALESYS")
        window[6] += weight * (tile.card("MJD-AVG") - self.mjd0)
        np.maximum(window[7], response, out=window[7])

    def planes(self) -> NDArray:
        """Weighted means, shape as `sums`; NaN where nothing contributes.

        The relative scale error is sqrt(sum (w e)^2) / sum w: tiles' errors are independent.
        """
        out = self.sums.copy()
        with np.errstate(invalid="ignore", divide="ignore"):
            out[4] = np.sqrt(out[4])
            out[1:7] /= out[0]
        out[1:, self.sums[0] == 0] = np.nan
        return out


def beam_in_target_pixels(tile: Tile, map_x: NDArray, map_y: NDArray) -> NDArray:
    """Second moments (xx, xy, yy) [pixel^2] of a tile's beam as it appears on the mosaic.

    The restoring beam is constant in the tile's own pixels; the map's gradient turns and shears it
    (8 deg of rotation at the ends of a mosaic at dec +54.6).
    """
    scale = np.diag([1 / tile.card("CDELT1"), 1 / tile.card("CDELT2")])
    in_tile = scale @ tile.covariance_deg2() @ scale
    gradient = np.empty((*map_x.shape, 2, 2))
    for row, plane in enumerate((map_x, map_y)):
        by_y, by_x = np.gradient(plane, STEP)
        gradient[..., row, 0], gradient[..., row, 1] = by_x, by_y
    inverse = np.linalg.inv(np.where(np.isfinite(gradient), gradient, np.eye(2)))
    psf = inverse @ in_tile @ np.swapaxes(inverse, -1, -2)
    return np.stack([psf[..., 0, 0], psf[..., 0, 1], psf[..., 1, 1]])


def read_local(planes: NDArray, x: NDArray, y: NDArray) -> dict[str, NDArray]:
    """Values at pixels (x, y) of the mosaic, weighted between the nodes that have data.

    Parameters
    ----------
    planes : ndarray, shape (len(PLANES), n_node_y, n_node_x)
        Extension LOCAL.
    x, y : ndarray, shape (n,)
        0-based pixels.

    Returns
    -------
    dict of ndarray, shape (n,)
        Keys of `PLANES`; NaN where no node around has data.
    """
    ny, nx = planes.shape[1:]
    j = np.clip((y // STEP).astype(int), 0, max(ny - 2, 0))
    i = np.clip((x // STEP).astype(int), 0, max(nx - 2, 0))
    fy, fx = y / STEP - j, x / STEP - i
    total = np.zeros((len(PLANES), x.size))
    weights = np.zeros(x.size)
    for dj, wy in ((0, 1 - fy), (1, fy)):
        for di, wx in ((0, 1 - fx), (1, fx)):
            node = planes[:, np.minimum(j + dj, ny - 1), np.minimum(i + di, nx - 1)]
            weight = np.where(node[0] > 0, node[0] * np.clip(wx * wy, 1e-6, None), 0.0)
            total += np.where(weight > 0, node, 0.0) * weight
            weights += weight
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.where(weights > 0, total / weights, np.nan)
    return dict(zip(PLANES, means, strict=True))
