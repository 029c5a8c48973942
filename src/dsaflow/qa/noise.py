"""Noise gates: against the radiometer equation and confusion, by region, and negative peaks."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dsaflow.geometry import separation_rad
from dsaflow.instrument import TILE_S, PrimaryBeam, radiometer_noise_jy
from dsaflow.qa.field import MosaicField
from dsaflow.verdict import Gate, Verdict

if TYPE_CHECKING:
    from dsaflow.config import Config

_MAD_SIGMA = 1.4826
_DRIFT_DEG = 360.0 * TILE_S / 86164.0905
_DRIFT_STEPS = 8


def confusion_jy(field: MosaicField, jy_per_arcmin2: float) -> float:
    """Noise of unresolved faint sources [Jy/beam].

    Proportional to the beam's FWHM area and nu^-0.7 (Condon 2002, ASP Conf. 278, 155:
    0.2 mJy/beam at 1 GHz for one square arcminute; 0.11 mJy/beam for 68 x 37 arcsec at 1.4 GHz).
    """
    major, minor, _ = field.beam_deg
    return jy_per_arcmin2 * major * minor * 3600.0 * (field.freq_hz / 1e9) ** -0.7


def tile_thermal_jy(paths: list[str | os.PathLike], sefd_jy: float) -> dict[str, float]:
    """Thermal noise of each tile [Jy/beam, apparent] from its stages' verdicts.

    The image's own number where it is there (it knows the weights); else natural weighting.

    Parameters
    ----------
    paths : list of path
        ``tiles/<tile>/{convert,flag,image}.json`` and others.
    sefd_jy : float

    Returns
    -------
    dict
        Tile -> noise; tiles without the numbers are absent.
    """
    numbers: dict[str, dict[str, Any]] = {}
    for path in map(Path, paths):
        verdict = Verdict.read(path)
        if verdict.usable:
            numbers.setdefault(path.parent.name, {})[path.stem] = verdict.numbers
    result = {}
    for tile, stages in numbers.items():
        if "radiometer_jy" in stages.get("image", {}):
            result[tile] = float(stages["image"]["radiometer_jy"])
            continue
        convert, flag = stages.get("convert", {}), stages.get("flag", {})
        needed = ("n_antennas", "n_channels", "channel_width_hz", "n_integrations", "integration_s")
        if all(key in convert for key in needed) and "flagged_fraction" in flag:
            kept = 1.0 - flag["flagged_fraction"]
            result[tile] = radiometer_noise_jy(
                sefd_jy,
                convert["n_antennas"],
                convert["n_channels"] * convert["channel_width_hz"] * kept,
                convert["n_integrations"] * convert["integration_s"],
            )
    return result


def drift_beam(
    beam: PrimaryBeam,
    ra_deg: NDArray,
    dec_deg: NDArray,
    centre: tuple[float, float],
    freq_hz: float,
) -> NDArray:
    """Beam of a tile averaged over its drift; `centre` is its ICRS meridian at mid-time [deg]."""
    offsets = ((np.arange(_DRIFT_STEPS) + 0.5) / _DRIFT_STEPS - 0.5) * _DRIFT_DEG
    return np.mean(
        [
            beam.power(separation_rad(ra_deg, dec_deg, centre[0] + d, centre[1]), freq_hz)
            for d in offsets
        ],
        axis=0,
    )


def thermal_map_jy(
    field: MosaicField,
    thermal_jy: dict[str, float],
    beam: PrimaryBeam,
    cut: float,
    x: NDArray,
    y: NDArray,
) -> NDArray:
    """Thermal noise expected in the mosaic at pixels (x, y): 1 / sqrt(sum of beam^2 / noise^2)."""
    ra_deg, dec_deg = field.to_sky(x, y)
    weight = np.zeros(np.shape(x))
    for row in field.used_tiles:
        response = drift_beam(
            beam, ra_deg, dec_deg, (float(row["ra_deg"]), float(row["dec_deg"])), field.freq_hz
        )
        # a tile without a known noise must not pass for one without noise
        sigma = thermal_jy.get(row["tile"], np.nan)
        weight += np.where(response >= cut, (response / sigma) ** 2, 0.0)
    with np.errstate(divide="ignore"):
        return 1.0 / np.sqrt(weight)


def blocks(field: MosaicField, size: int) -> list[tuple[slice, slice]]:
    """Square blocks of `size` pixels that are valid throughout at least half."""
    ny, nx = field.valid.shape
    return [
        (slice(j, j + size), slice(i, i + size))
        for j in range(0, ny - size + 1, size)
        for i in range(0, nx - size + 1, size)
        if field.valid[j : j + size, i : i + size].mean() >= 0.5
    ]


def robust_rms(values: NDArray) -> float:
    """1.4826 times the median absolute deviation of the finite values."""
    values = values[np.isfinite(values)]
    if values.size == 0:
        return float("nan")
    return float(_MAD_SIGMA * np.median(np.abs(values - np.median(values))))


def noise_gates(
    field: MosaicField, thermal_jy: dict[str, float], config: "Config"
) -> tuple[list[Gate], dict[str, Any]]:
    """Measure the noise in blocks and hold it against theory and against the noise map."""
    options = config.qa
    # a block of some 80 beams gives its rms to 8 %
    size = max(32, int(np.sqrt(80 * field.beam_area_pixels)))
    found = blocks(field, size)
    middle = np.array([[(b[1].start + size / 2), (b[0].start + size / 2)] for b in found])
    middle = middle.reshape(-1, 2)
    measured = np.array(
        [robust_rms(np.where(field.valid[b], field.image[b], np.nan)) for b in found]
    )
    mapped = np.array([np.median(field.noise[b][field.valid[b]]) for b in found])
    thermal = thermal_map_jy(
        field, thermal_jy, PrimaryBeam.from_config(config.instrument.beam),
        config.mosaic.beam_cut, middle[:, 0], middle[:, 1],
    )  # fmt: skip
    confusion = confusion_jy(field, options.confusion_jy_per_arcmin2)

    def typical(values: NDArray) -> float:
        return float(np.median(values)) if values.size else float("nan")

    over_thermal = typical(measured / thermal)
    over_expected = typical(measured / np.hypot(thermal, confusion))
    over_map = typical(measured / mapped)
    regions = _regions(measured / mapped, middle)
    spread = max(regions) / min(regions) if regions else float("nan")
    gates = [
        Gate.measure("noise_over_thermal", over_thermal, low=options.noise_low),
        Gate.measure("noise_over_expected", over_expected, high=options.noise_high),
        Gate.measure("noise_warning", over_expected, high=options.noise_warn, failing="warn"),
        Gate.measure("noise_over_map", over_map, 1 / options.noise_map_factor,
                     options.noise_map_factor),
        Gate.measure("noise_region_spread", spread, high=options.noise_region_spread,
                     failing="warn"),
        *_peak_gates(field, options),
    ]  # fmt: skip
    return gates, {
        "noise_jy": typical(measured),
        "noise_thermal_jy": typical(thermal),
        "noise_confusion_jy": confusion,
        "noise_blocks": len(found),
        "noise_over_map_by_region": regions,
    }


def _regions(ratio: NDArray, middle: NDArray) -> list[float]:
    """Median ratio in three parts along right ascension by three along declination."""
    if len(ratio) < 9:
        return [float(r) for r in ratio]
    cells = [
        np.clip(np.searchsorted(np.quantile(axis, [1 / 3, 2 / 3]), axis), 0, 2) for axis in middle.T
    ]
    cell = 3 * cells[1] + cells[0]
    return [float(np.median(ratio[cell == k])) for k in range(9) if (cell == k).any()]


def _peak_gates(field: MosaicField, options) -> list[Gate]:
    snr = field.image[field.valid] / field.noise[field.valid]
    deepest, highest = float(snr.min()), float(snr.max())
    return [
        Gate.measure("negative_peak", deepest, low=-options.negative_peak_sigma, unit="sigma",
                     failing="warn"),
        Gate.measure("negative_over_positive", -deepest / highest,
                     high=options.negative_over_positive,
                     failing="reject" if deepest < -2 * options.negative_peak_sigma else "warn"),
    ]  # fmt: skip
