"""Checks across the options; each says what contradicts what, and what to change."""

import math
from itertools import pairwise
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dsaflow.config.model import Config

# Apparent motion of the sky in one hour of UTC [deg].
SKY_DEG_PER_HOUR = 15.041


def inconsistencies(config: "Config") -> list[str]:
    """One sentence for each contradiction between options; empty where there is none."""
    checks = (
        _image_width,
        _clean_depth,
        _noise_gates,
        _mosaic_kinds,
        _validity,
        _beam_table,
        _folders,
    )
    return [problem for check in checks for problem in check(config)]


def needed_width_deg(config: "Config") -> float:
    """Width of an image that holds a tile's beam down to ``image.field_response`` all round [deg].

    The beam is that of the band's lower edge, averaged over the drift of one tile on the equator:
    the widest there is. The imaging stage checks again with the tile's own band and declination.
    """
    import numpy as np

    from dsaflow.instrument import BAND_LOW_HZ, TILE_S, PrimaryBeam

    beam = PrimaryBeam.from_config(config.instrument.beam)
    drift_deg = SKY_DEG_PER_HOUR * TILE_S / 3600
    from_centre = np.linspace(0, 10, 1001)[:, None]
    moved = from_centre - np.linspace(-drift_deg / 2, drift_deg / 2, 25)
    response = beam.power(np.radians(moved), BAND_LOW_HZ).mean(axis=1)
    return float(2 * from_centre[np.argmax(response < config.image.field_response), 0])


def _image_width(config: "Config") -> list[str]:
    image = config.image
    width = image.size * image.pixel_arcsec / 3600
    needed = needed_width_deg(config)
    if width >= needed:
        return []
    return [
        f"image.size * image.pixel_arcsec is {width:.2f} deg, but the beam is above "
        f"image.field_response ({image.field_response:g}) over {needed:.2f} deg: raise image.size "
        f"to {2 * math.ceil(needed * 1800 / image.pixel_arcsec)}, or image.pixel_arcsec to "
        f"{math.ceil(needed * 36000 / image.size) / 10:g}, or raise image.field_response"
    ]


def _clean_depth(config: "Config") -> list[str]:
    image = config.image
    if image.mask_sigma < image.clean_sigma:
        return []
    return [
        f"image.mask_sigma ({image.mask_sigma:g}) must be below image.clean_sigma "
        f"({image.clean_sigma:g}): the second CLEAN goes deeper within the mask of the first"
    ]


def _noise_gates(config: "Config") -> list[str]:
    limits = {
        f"{section}.{name}": getattr(getattr(config, section), name)
        for section, names in (
            ("image", ("noise_low", "noise_warn", "noise_high")),
            ("qa", ("noise_low", "noise_high")),
        )
        for name in names
    }
    return [
        f"{low} ({limits[low]:g}) is not below {high} ({limits[high]:g}), so that nothing passes: "
        "lower the first or raise the second"
        for low, high in pairwise(limits)
        if low.split(".")[0] == high.split(".")[0] and limits[low] >= limits[high]
    ]


def _mosaic_kinds(config: "Config") -> list[str]:
    if config.plan.centred or config.plan.sliding:
        return []
    return ["plan.centred and plan.sliding are both false, so no mosaic is made: set one to true"]


def _validity(config: "Config") -> list[str]:
    calibrate = config.calibrate
    if calibrate.gain_validity_hours <= calibrate.bandpass_validity_hours:
        return []
    return [
        f"calibrate.gain_validity_hours ({calibrate.gain_validity_hours:g}) exceeds "
        f"bandpass_validity_hours ({calibrate.bandpass_validity_hours:g}): gains are solved on "
        "top of a bandpass and outlive none; lower the first or raise the second"
    ]


def _beam_table(config: "Config") -> list[str]:
    beam = config.instrument.beam
    problems = []
    freq_hz = beam.table_freq_hz
    if any(later <= earlier for earlier, later in pairwise(freq_hz)):
        problems.append("instrument.beam.table_freq_hz must ascend: sort the table by frequency")
    if any(d <= 0 for d in beam.table_diameter_m):
        problems.append("instrument.beam.table_diameter_m must be positive [m]")
    if freq_hz and not all(1e8 < f < 1e11 for f in freq_hz):
        problems.append("instrument.beam.table_freq_hz is in Hz, e.g. 1.405e9")
    return problems


def _folders(config: "Config") -> list[str]:
    folders = {
        name: PurePosixPath(getattr(config.paths, name))
        for name in ("incoming", "results", "published")
    }
    return [
        f"paths.{inner} ({folders[inner]}) lies in paths.{outer} ({folders[outer]}): "
        "give each a folder of its own"
        for outer in folders
        for inner in folders
        if inner != outer and folders[inner].is_relative_to(folders[outer])
    ]
