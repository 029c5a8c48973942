"""CLEAN by radler, WSClean's deconvolution library, with the moving beam in the major cycle."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import radler
from numpy.typing import NDArray

from dsaflow.imaging.bright import finish_known, place_bright
from dsaflow.imaging.gridding import Gridder
from dsaflow.imaging.known import KnownSources
from dsaflow.imaging.restore import clipped_rms, fit_beam, grow
from dsaflow.imaging.skymodel import BeamModel
from dsaflow.imaging.spectrum import measure_index

if TYPE_CHECKING:
    from dsaflow.config.sections import Image


# A run ends when its threshold was reached and the residual's rms fell by less than to this: radler's
# threshold follows the rms at the start of a perform, which sidelobes still dominate. With the
# threshold out of reach it ends when the rms hardly falls.
SETTLED = 0.9
STALLED = 0.98
# Far sidelobes are not the PSF's: w turns them, and those beyond its edge are unknown. Cleaning below
# this multiple of the largest one before the residual is made anew digs components that are not there.
CYCLE_FACTOR = 1.5
LEAST_GAIN = 0.2
PLACE_BEAMS = 1.5
SIGNIFICANT = 5.0  # errors of a measured spectral index from which it is used
# Expected S/N from which a catalogue source is taken off to the last; below, what is left of it biases
# its forced flux by less than 5 % of a sigma.
FINISH_SIGMA = 1.0


@dataclass
class CleanResult:
    """What a deconvolution left.

    Attributes
    ----------
    model : float32 ndarray, shape (size, size)
        CLEAN components [Jy/pixel], apparent flux at the reference beam.
    residual : float32 ndarray, shape (size, size)
        Jy/beam, regridded after the last component was found.
    block_residuals : list of ndarray
        The same for each frequency block; NaN where a block has no data.
    iterations : int
        Minor iterations of both runs.
    major_iterations : int
        Regriddings of the residual.
    depth_sigma : float
        Largest |residual| where there is model, over the residual's rms, at the end of CLEAN.
    block_models : list of ndarray or None
        The model in each block; None where it follows from `model` and the beam.
    """

    model: NDArray
    residual: NDArray
    block_residuals: list[NDArray]
    iterations: int
    major_iterations: int
    depth_sigma: float
    block_models: list[NDArray] | None = None


def depth_reached(model: NDArray, residual: NDArray) -> float:
    """Largest |residual| where there is model (anywhere without one), over the residual's rms."""
    mask = grow(model != 0) if model.any() else np.ones(model.shape, bool)
    rms = clipped_rms(residual)
    return float(np.abs(residual[mask]).max()) / rms if rms > 0 else float("inf")


def deconvolve(
    gridder: Gridder,
    sky: BeamModel,
    data: NDArray,
    weights: NDArray,
    psf: NDArray,
    options: "Image",
    threads: int = 1,
    known: KnownSources | None = None,
) -> CleanResult:
    """Place bright catalogue sources, CLEAN twice (without a mask, then deeper within one), finish the rest.

    Parameters
    ----------
    gridder : Gridder
    sky : BeamModel
        Model images to residual visibilities, through the moving beam.
    data : complex64 ndarray, shape (n_time, n_baseline, n_channel)
    weights : float32 ndarray, same shape
    psf : float32 ndarray, shape (size, size)
    options : Image
    threads : int
    known : KnownSources, optional
        Catalogue sources: placed from `place_sigma` on, in the mask from `catalog_mask_sigma` of the
        first run's residual on, finished (`finish_known`) from `FINISH_SIGMA` on.

    Notes
    -----
    The first CLEAN ends at `clean_sigma`, the second at `mask_sigma`. Driven from Python, radler's own
    automatic mask lacks the components just found: the mask of the second run is made here (pixels with
    components and known sources, grown by one). A perform after which the residual's rms is larger (a
    minor loop can diverge) is taken back, and repeated to a lesser depth. On a slanted image what is
    left of w is dropped while sources are placed, which is five times faster, but not in CLEAN: it would take
    the errors, 0.1 % of a source at 2 deg, for sources.
    """
    state = _State(gridder.image(data, weights, exact=False), data, exact=not gridder.slanted)
    gain = min(options.major_gain, max(1.0 - CYCLE_FACTOR * largest_sidelobe(psf), LEAST_GAIN))
    placed = np.zeros_like(state.model)
    if known is not None and options.place_sigma is not None:
        placed = place_bright(
            state.residual, state.model, known, options.place_sigma,
            PLACE_BEAMS * fit_beam(psf).major_pixel, psf,
            lambda: _regrid(state, gridder, sky, data, weights),
        )  # fmt: skip
        if options.fit_index:
            change = measure_index(gridder, sky, state.vis, weights, known, placed, state.residual)
            if change is not None and abs(change.value) > SIGNIFICANT * change.error:
                sky.set_index(sky.index + change.value)
                state.exact = True
                _regrid(state, gridder, sky, data, weights)
    if not state.exact:
        state.exact = True
        _regrid(state, gridder, sky, data, weights)
    with tempfile.TemporaryDirectory(prefix="dsaflow-clean-") as scratch:
        for sigma, masked in ((options.clean_sigma, False), (options.mask_sigma, True)):
            settings = _settings(options, psf.shape[0], gridder.pixel_rad, sigma, threads)
            if masked:
                mask = state.model != placed
                if known is not None:
                    least_jy = options.catalog_mask_sigma * clipped_rms(state.residual)
                    mask |= known.mask(mask.shape, least_jy)
                if not mask.any():
                    break
                settings.fits_mask = str(_write_mask(grow(mask), Path(scratch)))
            run_gain = gain
            for _ in range(options.major_iterations):
                before, kept = clipped_rms(state.residual), state.model.copy()
                settings.major_loop_gain = run_gain
                cleaner = radler.Radler(
                    settings, psf, state.residual, state.model, 5 * gridder.pixel_rad
                )
                again = cleaner.perform(0)
                state.iterations += cleaner.iteration_number
                _regrid(state, gridder, sky, data, weights)
                after = clipped_rms(state.residual)
                if after > before:
                    state.model[:] = kept
                    _regrid(state, gridder, sky, data, weights)
                    run_gain *= 0.6
                    if run_gain < LEAST_GAIN:
                        break
                elif after > (STALLED if again else SETTLED) * before:
                    break
    depth = depth_reached(state.model - placed, state.residual)
    if known is not None:
        finish_known(
            state.residual, state.model, known, FINISH_SIGMA * clipped_rms(state.residual), psf,
            PLACE_BEAMS * fit_beam(psf).major_pixel,
            lambda: _regrid(state, gridder, sky, data, weights),
        )  # fmt: skip
    return CleanResult(
        state.model,
        state.residual,
        [_block_image(gridder, state.vis, weights, block) for block in sky.blocks],
        state.iterations,
        state.majors,
        depth,
    )


class _State:
    """Images and residual visibilities that a deconvolution works on."""

    def __init__(self, dirty: NDArray, data: NDArray, exact: bool) -> None:
        self.residual, self.model, self.vis = dirty, np.zeros_like(dirty), data
        self.iterations = self.majors = 0
        self.exact = exact


def _regrid(
    state: _State, gridder: Gridder, sky: BeamModel, data: NDArray, weights: NDArray
) -> None:
    """Make the residual of the model anew (radler keeps views of both images)."""
    state.vis = sky.subtract(data, state.model, state.exact)
    state.residual[:] = gridder.image(state.vis, weights, exact=state.exact)
    state.majors += 1


def largest_sidelobe(psf: NDArray) -> float:
    """Largest |PSF| outside its main lobe and the ring about it."""
    beam = fit_beam(psf)
    far = beam.kernel(psf.shape[0]) < 1e-4
    return float(np.abs(psf[far]).max())


def _block_image(gridder: Gridder, vis: NDArray, weights: NDArray, block: slice) -> NDArray:
    if not weights[..., block].any():
        return np.full((gridder.size, gridder.size), np.nan, np.float32)
    return gridder.image(vis, weights, block)


def _settings(
    options: "Image", size: int, pixel_rad: float, sigma: float, threads: int
) -> radler.Settings:
    settings = radler.Settings()
    settings.trimmed_image_width = settings.trimmed_image_height = size
    settings.pixel_scale.x = settings.pixel_scale.y = pixel_rad
    settings.minor_iteration_count = options.minor_iterations
    settings.minor_loop_gain = options.minor_gain
    settings.auto_threshold_sigma = sigma
    settings.algorithm_type = radler.AlgorithmType.generic_clean
    settings.thread_count = threads
    settings.parallel.max_threads = threads
    return settings


def _write_mask(mask: NDArray, folder: Path) -> Path:
    """Write the mask as radler reads it: a FITS image, non-zero where components may be put."""
    from astropy.io import fits

    path = folder / "mask.fits"
    header = fits.Header()
    header["CTYPE1"], header["CTYPE2"] = "RA---SIN", "DEC--SIN"
    header["CRPIX1"], header["CRPIX2"] = mask.shape[1] // 2 + 1, mask.shape[0] // 2 + 1
    header["CDELT1"], header["CDELT2"] = -1.0, 1.0
    fits.PrimaryHDU(mask.astype(np.float32), header).writeto(path, overwrite=True)
    return path
