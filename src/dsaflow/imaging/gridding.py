"""Visibilities to images and back, by ducc0's w-gridder (Arras et al. 2021)."""

from typing import Any

import numpy as np
from ducc0.wgridder.experimental import dirty2vis, vis2dirty
from numpy.typing import NDArray


class Gridder:
    """Gridding and degridding on one image geometry.

    Images are float32 (n_y, n_x) as in FITS: columns run west (l falls), rows north, centre at
    pixel (size / 2, size / 2) counted from 0.

    Parameters
    ----------
    uvw_m : ndarray, shape (n_time, n_baseline, 3)
        As in `Visibilities`.
    freq_hz : ndarray, shape (n_channel,)
    size : int
    pixel_rad : float
        In apparent direction cosine.
    epsilon : float
        Accuracy of a gridding, relative to the data's L2 norm.
    threads : int
    slant : tuple of float
        (a, b) of the image's slanted cosines, see `dsaflow.imaging.frame`.
    used : bool ndarray, shape (n_time, n_baseline, n_channel), optional
        Visibilities of non-zero weight: the others are not predicted.

    Attributes
    ----------
    slanted : bool
        Whether there is a slant: without one every gridding is exact.

    Notes
    -----
    The first axis of ducc0's image is its u: handing it (-v, u, w) puts m on the rows and -l on the
    columns with the data's sign exp(+2 pi i (ul + vm + w(n - 1))), so that nothing is transposed or
    reversed. What the slant leaves of w is multiplied by n - 1 at the slanted cosines instead of the
    true ones: 1e-5 of a turn at 2 deg.
    """

    def __init__(
        self,
        uvw_m: NDArray,
        freq_hz: NDArray,
        size: int,
        pixel_rad: float,
        epsilon: float = 1e-4,
        threads: int = 1,
        slant: tuple[float, float] = (0.0, 0.0),
        used: NDArray | None = None,
    ) -> None:
        self._mask = None if used is None else used.reshape(-1, used.shape[-1]).astype(np.uint8)
        left_m = uvw_m[..., 2] - slant[0] * uvw_m[..., 0] - slant[1] * uvw_m[..., 1]
        self.uvw = np.stack([-uvw_m[..., 1], uvw_m[..., 0], left_m], axis=-1)
        self.freq_hz = np.ascontiguousarray(freq_hz, dtype=float)
        self.size = size
        self.pixel_rad = pixel_rad
        self.slanted = slant != (0.0, 0.0)
        self._options = {
            "pixsize_x": pixel_rad,
            "pixsize_y": pixel_rad,
            "epsilon": epsilon,
            "divide_by_n": False,
            "nthreads": threads,
        }

    def _how(self, exact: bool) -> dict[str, Any]:
        return self._options | {"do_wgridding": exact or not self.slanted}

    @property
    def l(self) -> NDArray:  # noqa: E743
        """Direction cosines of the columns, slanted."""
        return -(np.arange(self.size) - self.size // 2) * self.pixel_rad

    @property
    def m(self) -> NDArray:
        """Direction cosines of the rows, slanted."""
        return (np.arange(self.size) - self.size // 2) * self.pixel_rad

    def image(
        self, vis: NDArray, weights: NDArray, channels: slice = slice(None), exact: bool = True
    ) -> NDArray:
        """Weighted mean over the visibilities of Re(V exp(-2 pi i phase)) at each pixel.

        Parameters
        ----------
        vis, weights : ndarray, shape (n_time, n_baseline, n_channel)
        channels : slice
            The channels to use.
        exact : bool
            False: what the slant leaves of w may be dropped.

        Returns
        -------
        float32 ndarray, shape (size, size)
            Jy per beam: a point source of 1 Jy at a pixel reads 1 there.
        """
        vis, weights = vis[..., channels], weights[..., channels]
        shape = (-1, vis.shape[-1])
        total = weights.sum(dtype=float)
        dirty = vis2dirty(
            uvw=self.uvw.reshape(-1, 3),
            freq=self.freq_hz[channels],
            vis=vis.reshape(shape),
            wgt=weights.reshape(shape),
            npix_x=self.size,
            npix_y=self.size,
            **self._how(exact),
        )
        dirty *= np.float32(1.0 / total)
        return dirty

    def visibilities(self, image: NDArray, exact: bool = True) -> NDArray:
        """Visibilities of a model image [Jy/pixel], complex64 (n_time, n_baseline, n_channel).

        Zero where the gridder was told that they are not used; `exact` as in `image`.
        """
        vis = dirty2vis(
            uvw=self.uvw.reshape(-1, 3),
            freq=self.freq_hz,
            dirty=np.ascontiguousarray(image, dtype=np.float32),
            mask=self._mask,
            **self._how(exact),
        )
        return vis.reshape(*self.uvw.shape[:2], -1)
