"""Visibilities to images and back, by ducc0's w-gridder (Arras et al. 2021)."""

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
    used : bool ndarray, shape (n_time, n_baseline, n_channel), optional
        Visibilities of non-zero weight: the others are not predicted.

    Notes
    -----
    The first axis of ducc0's image is its u: handing it (-v, u, w) puts m on the rows and -l on the
    columns with the data's sign exp(+2 pi i (ul + vm + w(n - 1))), so that nothing is transposed or
    reversed.
    """

    def __init__(
        self,
        uvw_m: NDArray,
        freq_hz: NDArray,
        size: int,
        pixel_rad: float,
        epsilon: float = 1e-4,
        threads: int = 1,
        used: NDArray | None = None,
    ) -> None:
        self._mask = None if used is None else used.reshape(-1, used.shape[-1]).astype(np.uint8)
        self.uvw = np.stack([-uvw_m[..., 1], uvw_m[..., 0], uvw_m[..., 2]], axis=-1)
        self.freq_hz = np.ascontiguousarray(freq_hz, dtype=float)
        self.size = size
        self.pixel_rad = pixel_rad
        self._options = {
            "pixsize_x": pixel_rad,
            "pixsize_y": pixel_rad,
            "epsilon": epsilon,
            "do_wgridding": True,
            "divide_by_n": False,
            "nthreads": threads,
        }

    @property
    def l(self) -> NDArray:  # noqa: E743
        """Direction cosines of the columns."""
        return -(np.arange(self.size) - self.size // 2) * self.pixel_rad

    @property
    def m(self) -> NDArray:
        """Direction cosines of the rows."""
        return (np.arange(self.size) - self.size // 2) * self.pixel_rad

    def image(self, vis: NDArray, weights: NDArray, channels: slice = slice(None)) -> NDArray:
        """Weighted mean over the visibilities of Re(V exp(-2 pi i phase)) at each pixel.

        Parameters
        ----------
        vis, weights : ndarray, shape (n_time, n_baseline, n_channel)
        channels : slice
            The channels to use.

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
            **self._options,
        )
        dirty *= np.float32(1.0 / total)
        return dirty

    def visibilities(self, image: NDArray) -> NDArray:
        """Visibilities of a model image [Jy/pixel], complex64 (n_time, n_baseline, n_channel).

        Zero where the gridder was told that they are not used.
        """
        vis = dirty2vis(
            uvw=self.uvw.reshape(-1, 3),
            freq=self.freq_hz,
            dirty=np.ascontiguousarray(image, dtype=np.float32),
            mask=self._mask,
            **self._options,
        )
        return vis.reshape(*self.uvw.shape[:2], -1)
