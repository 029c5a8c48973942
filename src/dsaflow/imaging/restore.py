"""The restoring beam, restored images and the noise map."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsaflow.errors import DataRejected, ReasonCode

FWHM_PER_SIGMA = 2.0 * np.sqrt(2.0 * np.log(2.0))
MAD_TO_SIGMA = 1.482602218505602


@dataclass(frozen=True)
class RestoringBeam:
    """Elliptical Gaussian: full widths at half maximum and position angle (north through east)."""

    major_pixel: float
    minor_pixel: float
    angle_deg: float

    @property
    def area_pixel(self) -> float:
        """Solid angle in pixels: pi / (4 ln 2) times the product of the widths."""
        return np.pi / (4 * np.log(2)) * self.major_pixel * self.minor_pixel

    def kernel(self, size: int) -> NDArray:
        """Gaussian of peak 1 centred on pixel (size / 2, size / 2), float32 (size, size)."""
        y, x = np.ogrid[:size, :size]
        west, north = x - size // 2, y - size // 2
        angle = np.radians(self.angle_deg)
        along = north * np.cos(angle) - west * np.sin(angle)
        across = north * np.sin(angle) + west * np.cos(angle)
        exponent = (along / self.major_pixel) ** 2 + (across / self.minor_pixel) ** 2
        return np.exp(-4 * np.log(2) * exponent).astype(np.float32)


def fit_beam(psf: NDArray, level: float = 0.3) -> RestoringBeam:
    """Fit a Gaussian of peak 1 to the PSF's main lobe, by Gauss-Newton on its pixels above `level`.

    Raises
    ------
    DataRejected
        NO_DATA where the lobe has fewer than 5 pixels or the fit is no ellipse.
    """
    centre, reach = psf.shape[0] // 2, min(60, psf.shape[0] // 2 - 1)
    cut = psf[centre - reach : centre + reach + 1, centre - reach : centre + reach + 1].astype(
        float
    )
    lobe = _connected(cut > level, reach)
    y, x = np.nonzero(lobe)
    if y.size < 5:
        raise DataRejected(
            ReasonCode.NO_DATA,
            f"the main lobe of the PSF has {y.size} pixels: image.pixel_arcsec is too coarse",
        )
    terms = np.stack([(x - reach) ** 2, 2 * (x - reach) * (y - reach), (y - reach) ** 2], 1)
    value = cut[y, x]
    form, *_ = np.linalg.lstsq(terms * value[:, None], -np.log(value) * value, rcond=None)
    for _ in range(20):
        gauss = np.exp(-terms @ form)
        step, *_ = np.linalg.lstsq(-terms * gauss[:, None], value - gauss, rcond=None)
        form = form + step
    eigenvalue, vector = np.linalg.eigh(np.array([[form[0], form[1]], [form[1], form[2]]]))
    if not np.all(eigenvalue > 0):
        raise DataRejected(ReasonCode.NO_DATA, "the main lobe of the PSF is no Gaussian")
    width = 2 * np.sqrt(np.log(2) / eigenvalue)
    # columns run west: an axis along (x, y) has position angle atan2(-x, y)
    angle = np.degrees(np.arctan2(-vector[0, 0], vector[1, 0]))
    return RestoringBeam(float(width[0]), float(width[1]), float((angle + 90) % 180 - 90))


def _connected(mask: NDArray, centre: int) -> NDArray:
    """Pixels of `mask` joined to its centre (four neighbours)."""
    reached = np.zeros_like(mask)
    reached[centre, centre] = mask[centre, centre]
    while True:
        grown = grow(reached, diagonal=False) & mask
        if np.array_equal(grown, reached):
            return reached
        reached = grown


def grow(mask: NDArray, diagonal: bool = True) -> NDArray:
    """Mask grown by one pixel."""
    grown = mask.copy()
    grown[1:] |= mask[:-1]
    grown[:-1] |= mask[1:]
    source = grown.copy() if diagonal else mask
    grown[:, 1:] |= source[:, :-1]
    grown[:, :-1] |= source[:, 1:]
    return grown


class Restorer:
    """Convolution of models with one restoring beam."""

    def __init__(self, beam: RestoringBeam, size: int) -> None:
        self._size = size
        self._transform = np.fft.rfft2(np.fft.ifftshift(beam.kernel(size)))

    def __call__(self, model: NDArray) -> NDArray:
        """Model [Jy/pixel] to Jy/beam, float32."""
        product = np.fft.rfft2(model) * self._transform
        return np.fft.irfft2(product, s=(self._size, self._size)).astype(np.float32)


def clipped_rms(values: NDArray, clip: float = 3.5) -> float:
    """Rms about zero after two-sided clipping at `clip` robust sigma, corrected for the clip.

    Zero is the mean of an interferometer's residual image: a local offset counts as noise.
    """
    deviation = np.abs(values)
    kept = deviation[deviation <= clip * MAD_TO_SIGMA * np.median(deviation)]
    # variance of a Gaussian truncated at 3.5 sigma on both sides is 0.99389 of the whole
    return float(np.sqrt(np.mean(kept**2, dtype=float) / 0.993888))


def noise_map(residual: NDArray, box_pixel: int) -> NDArray:
    """Local rms of a residual image, in half-overlapping boxes, bilinear between their centres.

    Parameters
    ----------
    residual : ndarray, shape (n, n)
    box_pixel : int
        Side of the boxes: some tens of beams, so that each holds hundreds of independent values.

    Returns
    -------
    float32 ndarray, shape (n, n)
        Always positive.

    Raises
    ------
    DataRejected
        BAD_DATA_ZERO where a box has no noise at all.
    """
    size = residual.shape[0]
    box = min(box_pixel, size)
    count = max(int(np.ceil(2 * size / box)) - 1, 1)
    start = np.rint(np.linspace(0, size - box, count)).astype(int)
    values = np.array(
        [[clipped_rms(residual[y : y + box, x : x + box]) for x in start] for y in start]
    )
    if not np.all(values > 0):
        raise DataRejected(ReasonCode.BAD_DATA_ZERO, "a part of the residual image has no noise")
    at, centres = np.arange(size), start + (box - 1) / 2
    to_pixels = np.stack([np.interp(at, centres, unit) for unit in np.eye(count)], axis=1)
    return (to_pixels @ values @ to_pixels.T).astype(np.float32)
