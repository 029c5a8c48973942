"""One tile: calibrated visibilities to Stokes I images with their drift-averaged primary beam."""

import os
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dsaflow.catalog import Catalog, read_catalog
from dsaflow.errors import ReasonCode
from dsaflow.far import FarOptions, far_numbers, subtract_far
from dsaflow.imaging.average import adjacent_groups, smearing_loss
from dsaflow.imaging.beam import DriftBeam, beam_centres_lm, check_field, field_half_width_rad
from dsaflow.imaging.clean import CleanResult, deconvolve
from dsaflow.imaging.frame import ApparentFrame
from dsaflow.imaging.gridding import Gridder
from dsaflow.imaging.known import known_sources, within_image
from dsaflow.imaging.products import DAY_S, SubBand, TileImages, write_images
from dsaflow.imaging.restore import Restorer, clipped_rms, fit_beam, noise_map
from dsaflow.imaging.skymodel import BeamModel, part_edges_hz
from dsaflow.imaging.weighting import (
    StokesI,
    briggs_weights,
    parallel_hands,
    stokes_i,
    thermal_noise_jy,
)
from dsaflow.instrument import PrimaryBeam
from dsaflow.verdict import Gate, Verdict
from dsaflow.visibilities.container import Visibilities

if TYPE_CHECKING:
    from dsaflow.config import Config
    from dsaflow.config.sections import Image

ARCSEC = np.pi / 648000


def image_visibilities(
    vis: Visibilities,
    options: "Image",
    beam: PrimaryBeam,
    sefd_jy: float,
    threads: int = 1,
    ms_path: str | os.PathLike | None = None,
    catalog: Catalog | None = None,
    default_index: float = -0.7,
) -> TileImages:
    """Grid, deconvolve and restore one tile's calibrated visibilities.

    Parameters
    ----------
    vis : Visibilities
        Calibrated, in Jy; far sources are subtracted in place.
    options : Image
        The configuration's ``image`` section.
    beam : PrimaryBeam
    sefd_jy : float
        For the radiometer value.
    threads : int
    ms_path : path-like, optional
        The Measurement Set with the same visibilities, for the engine "wsclean" alone.
    catalog : Catalog, optional
        Sources that are cleaned as deep as bright ones (not by the engine "wsclean").
    default_index : float
        Spectral index of catalogue sources without one.

    Raises
    ------
    ConfigError
        The image is narrower than the beam.
    DataRejected
        ALL_FLAGGED, NO_DATA, BAD_DATA_ZERO.
    EnvironmentProblem
        Engine "wsclean" without the program.
    """
    pixel_rad = options.pixel_arcsec * ARCSEC
    frame = ApparentFrame.at(vis.mid_mjd, vis.phase_ra_deg, vis.phase_dec_deg, vis.site_deg_m)
    far = _without_far(vis, options, frame, beam, catalog, default_index)
    stokes = _averaged(vis, options)
    weights = briggs_weights(
        stokes.hands, stokes.uvw_m, stokes.freq_hz, options.size, pixel_rad, options.robust,
        options.uv_fraction,
    )  # fmt: skip
    weight = weights.sum(axis=1, dtype=float)
    centres = beam_centres_lm(vis, frame, beam, stokes.time_mjd)
    check_field(beam, centres, vis.freq_hz, options)
    if options.slant and options.engine != "wsclean":
        frame = frame.slanted(stokes.uvw_m, np.count_nonzero(weights, axis=-1) > 0)
    gridder = Gridder(
        stokes.uvw_m, stokes.freq_hz, options.size, pixel_rad, options.gridding_accuracy, threads,
        frame.slant, used=weights > 0,
    )  # fmt: skip
    drift = DriftBeam(beam, centres, stokes.freq_hz, gridder.l, gridder.m, frame.directions)
    sky = BeamModel(
        gridder, drift, weight, options.beam_terms, options.channel_blocks,
        options.model_spectral_index,
    )  # fmt: skip
    if options.engine == "wsclean":
        from dsaflow.imaging.wsclean import run_wsclean

        psf, clean = run_wsclean(ms_path, sky, options, threads)
    else:
        psf = gridder.image(np.ones_like(stokes.data), weights)
        known = None
        if catalog is not None:
            known = known_sources(
                catalog, frame, sky.reference, pixel_rad, sky.freq_hz, default_index
            )
        clean = deconvolve(gridder, sky, stokes.data, weights, psf, options, threads, known)
    channel_hz = vis.channel_width_hz * stokes.channels
    images = _restore(psf, clean, sky, frame, channel_hz, options)
    images.numbers = _numbers(images, clean) | {
        "radiometer_jy": thermal_noise_jy(
            weights, stokes.hands, stokes.n_hands, sefd_jy, vis.channel_width_hz, vis.integration_s
        ),
        "flagged_fraction": 1.0 - float(stokes.hands.sum(dtype=float)) / (vis.data[..., 0].size),
        "outside_grid_fraction": _outside_fraction(weights, stokes.hands),
        "model_spectral_index": sky.index,
        "averaged_channels": int(stokes.channels.max()),
        "averaged_integrations": int(stokes.integrations.max()),
        "smearing_at_edge": _edge_loss(vis, stokes, weights, beam, centres, options),
    }
    images.numbers |= far
    return images


def _averaged(vis: Visibilities, options: "Image") -> StokesI:
    """Stokes I averaged as configured; WSClean reads the Measurement Set's own channels."""
    if options.engine == "wsclean":
        return stokes_i(vis)
    edges = part_edges_hz(vis.freq_hz, options.channel_blocks)
    return stokes_i(
        vis,
        adjacent_groups(vis.freq_hz, vis.channel_width_hz, options.average_hz, edges),
        adjacent_groups(vis.time_mjd * DAY_S, vis.integration_s, options.average_s),
    )


def _edge_loss(
    vis: Visibilities,
    stokes: StokesI,
    weights: NDArray,
    beam: PrimaryBeam,
    centres: NDArray,
    options: "Image",
) -> float:
    """Loss of a source's peak by channel and integration where the beam falls to `field_response`."""
    extent = vis.integration_s * stokes.integrations, vis.channel_width_hz * stokes.channels
    mean_hz = float(stokes.freq_hz.mean())
    away = field_half_width_rad(beam, centres, mean_hz, options.field_response)
    places = ((away, 0.0), (0.0, away), (0.7 * away, 0.7 * away), (0.7 * away, -0.7 * away))
    return max(
        smearing_loss(stokes.uvw_m, stokes.time_mjd * DAY_S, stokes.freq_hz, weights, extent, place)
        for place in places
    )


def _without_far(
    vis: Visibilities,
    options: "Image",
    frame: ApparentFrame,
    beam: PrimaryBeam,
    catalog: Catalog | None,
    default_index: float,
) -> dict[str, Any]:
    """Subtract far sources from the visibilities, in place; numbers for the verdict."""
    if not options.far_sources or options.engine == "wsclean":
        return {}  # WSClean reads the Measurement Set itself
    inside = None
    if catalog is not None:
        inside = within_image(catalog, frame, options.size, options.pixel_arcsec * ARCSEC)
    fit = subtract_far(
        vis,
        parallel_hands(vis.polarization),
        catalog,
        inside,
        beam,
        FarOptions(options.far_min_jy, options.far_radius_deg, options.far_sigma, default_index),
    )
    return far_numbers(fit)


def _outside_fraction(weights: NDArray, hands: NDArray) -> float:
    """Fraction of the unflagged visibilities that the pixel grid is too coarse for."""
    used = np.count_nonzero(hands)
    return float((used - np.count_nonzero(weights)) / used)


def _restore(
    psf: NDArray,
    clean: CleanResult,
    sky: BeamModel,
    frame: ApparentFrame,
    channel_hz: NDArray,
    options: "Image",
) -> TileImages:
    """Restore the band and each block with the one Gaussian of the whole band's PSF."""
    restoring = fit_beam(psf)
    restore = Restorer(restoring, psf.shape[0])
    box = int(np.ceil(options.noise_box_beams * np.sqrt(restoring.area_pixel)))
    subbands = [_subband(sky, k, clean, restore, box, channel_hz) for k in range(len(sky.blocks))]
    return TileImages(
        image=restore(clean.model) + clean.residual,
        residual=clean.residual,
        psf=psf,
        beam=sky.reference.astype(np.float32),
        noise=noise_map(clean.residual, box),
        subbands=subbands,
        restoring=restoring,
        frame=frame,
        pixel_rad=options.pixel_arcsec * ARCSEC,
        freq_hz=sky.freq_hz,
        bandwidth_hz=float(channel_hz[sky.channels_used()].sum()),
    )


def _subband(
    sky: BeamModel,
    number: int,
    clean: CleanResult,
    restore: Restorer,
    box: int,
    channel_hz: NDArray,
) -> SubBand:
    block, residual = sky.blocks[number], clean.block_residuals[number]
    if not sky.channels_used(block).any():
        return SubBand(residual, residual, residual, float("nan"), 0.0)
    beam = sky.block_beam(block)
    factor, freq_hz = sky.block_factor(block, beam)
    model = clean.model * factor if clean.block_models is None else clean.block_models[number]
    return SubBand(
        restore(model) + residual,
        beam.astype(np.float32),
        noise_map(residual, box),
        freq_hz,
        float(channel_hz[block][sky.channels_used(block)].sum()),
    )


def _numbers(images: TileImages, clean: CleanResult) -> dict[str, Any]:
    """Measured quantities of the images, for the verdict."""
    residual, size = images.residual, images.residual.shape[0]
    centre = slice(size // 4, size - size // 4)
    noise_jy = clipped_rms(residual[centre, centre])
    peak_jy = float(images.image.max())
    arcsec = images.pixel_arcsec
    return {
        "noise_jy": noise_jy,
        "peak_jy": peak_jy,
        "dynamic_range": peak_jy / noise_jy if noise_jy > 0 else float("inf"),
        "model_pixels": int(np.count_nonzero(clean.model)),
        "model_flux_jy": float(clean.model.sum(dtype=float)),
        "minor_iterations": clean.iterations,
        "major_iterations": clean.major_iterations,
        "depth_sigma": clean.depth_sigma,
        "beam_major_arcsec": images.restoring.major_pixel * arcsec,
        "beam_minor_arcsec": images.restoring.minor_pixel * arcsec,
        "beam_angle_deg": images.restoring.angle_deg,
        "beam_minor_pixel": images.restoring.minor_pixel,
        "freq_hz": images.freq_hz,
        "bandwidth_hz": images.bandwidth_hz,
        "frame_scale": images.frame.scale,
        "beam_response_at_edge": float(
            max(images.beam[[0, -1]].max(), images.beam[:, [0, -1]].max())
        ),
    }


def judge(images: TileImages, options: "Image", provenance: dict[str, Any]) -> Verdict:
    """Verdict of a tile's images: two-sided gates on the noise, depth and sampling as warnings."""
    numbers = images.numbers
    ratio = numbers["noise_jy"] / numbers["radiometer_jy"]
    gates = [
        Gate.measure("noise_over_radiometer", ratio, options.noise_low, options.noise_high),
        Gate.measure("noise_warning", ratio, high=options.noise_warn, failing="warn"),
        Gate.measure(
            "beam_minor", numbers["beam_minor_pixel"], low=2.0, unit="pixel", failing="warn"
        ),
        Gate.measure(
            "clean_depth", numbers["depth_sigma"], high=2 * options.clean_sigma, unit="sigma",
            failing="warn",
        ),
        Gate.measure(
            "smearing", numbers["smearing_at_edge"], high=options.smearing_warn, failing="warn"
        ),
    ]  # fmt: skip
    verdict = Verdict(gates=gates, numbers=numbers | {"noise_over_radiometer": ratio})
    verdict.provenance |= provenance
    return verdict.apply_gates(ReasonCode.NOISE_OUT_OF_RANGE)


def image_tile(
    ms_path: str | os.PathLike,
    outputs: dict[str, str],
    config: "Config",
    provenance: dict[str, Any],
    threads: int = 1,
    catalog_path: str | os.PathLike | None = None,
) -> Verdict:
    """Image a calibrated Measurement Set and write the tile's FITS products.

    Parameters
    ----------
    ms_path : path
        Calibrated, on one phase centre, with its flags.
    outputs : dict of path
        Keys image, residual, psf, beam, noise, subbands.
    config : Config
    provenance : dict
        tile, input_hash, config_hash, version, rung, scale, scale_err_relative, scale_systematic:
        written to the headers where given.
    threads : int
    catalog_path : path, optional
        The strip's reference catalogue, whose sources CLEAN's second mask holds.

    Returns
    -------
    Verdict

    Raises
    ------
    ConfigError, DataRejected, EnvironmentProblem
        As `image_visibilities`.
    """
    from dsaflow.visibilities.ms import read_ms

    vis = read_ms(ms_path)
    images = image_visibilities(
        vis,
        config.image,
        PrimaryBeam.from_config(config.instrument.beam),
        config.instrument.sefd_jy,
        threads,
        ms_path,
        None if catalog_path is None else read_catalog(catalog_path),
        config.calibrate.default_spectral_index,
    )
    verdict = judge(images, config.image, provenance)
    write_images(images, vis, outputs, provenance)
    return verdict
