"""Shapes of dips, and how unlike two of them are."""

import re
from collections.abc import Callable, Sequence

import numpy as np

from dsaflow.variability.lens import plasma_lens_gain, round_lens_gain

Shape = Callable[[np.ndarray], np.ndarray]

# Phases (in units of the duration) on which shapes are compared: the event and what surrounds it.
_PHASE = np.linspace(-3, 3, 2401)
_STRETCH = np.exp(np.linspace(-0.5, 0.5, 81))
# A lens whose axis is not the deepest place, or hardly dims, is no dip.
_MIN_DEPTH = 0.02


def gaussian_dip(phase: np.ndarray) -> np.ndarray:
    """Gaussian of unit depth and unit full width at half depth."""
    return np.exp2(-np.square(2 * phase))


def box_dip(phase: np.ndarray) -> np.ndarray:
    """1 within half a width of the centre, else 0."""
    return (np.abs(phase) <= 0.5).astype(float)


def flat_dip(phase: np.ndarray) -> np.ndarray:
    """Flat bottom with soft edges (a sixth-order Gaussian), of unit full width at half depth."""
    return np.exp2(-np.power(2 * np.clip(phase, -2, 2), 6))


def _from_profile(offset: np.ndarray, dip: np.ndarray) -> Shape:
    """Unit depth at the centre and unit full width at half depth."""
    dip = dip / dip[0]
    half = offset[np.argmax(dip < 0.5)]

    def shape(phase: np.ndarray) -> np.ndarray:
        return np.interp(np.abs(phase) * 2 * half, offset, dip, right=0.0)

    return shape


def lens_dip(strength: float, source_size: float) -> Shape:
    """Dip of a plasma lens, scaled to unit depth on the axis and unit full width at half depth."""
    offset = np.linspace(0, 30, 6001)
    return _from_profile(offset, 1 - plasma_lens_gain(offset, strength, source_size))


def round_lens_dip(strength: float, source_size: float, impact: float) -> Shape | None:
    """Dip along a track past a round lens, scaled likewise; None where the track shows no dip."""
    offset = np.linspace(0, 30, 6001)
    dip = 1 - round_lens_gain(offset, strength, source_size, impact)
    if dip[0] < _MIN_DEPTH or dip[0] < 0.9 * dip.max() or not (dip < 0.5 * dip[0]).any():
        return None
    return _from_profile(offset, dip)


def event_shapes(
    strengths: Sequence[float],
    source_size: float,
    impacts: Sequence[float] = (),
    max_mismatch: float = 0.0,
) -> dict[str, Shape]:
    """Shapes of the bank by name: Gaussian, flat, box, and the lenses.

    Parameters
    ----------
    strengths : sequence of float
        alpha of the one-dimensional lenses (``lens_<alpha>``).
    source_size : float
        Standard deviation of the lensed source in lens radii.
    impacts : sequence of float
        Closest approaches to round lenses of the same strengths (``lens_<alpha>_b<impact>``).
    max_mismatch : float
        A shape that another of the list represents with a smaller loss of S/N is left out.
    """
    shapes: dict[str, Shape] = {"gaussian": gaussian_dip, "flat": flat_dip, "box": box_dip}
    for strength in strengths:
        shapes[f"lens_{strength:g}"] = lens_dip(strength, source_size)
    for impact in impacts:
        for strength in strengths:
            dip = round_lens_dip(strength, source_size, impact)
            if dip is not None:
                shapes[f"lens_{strength:g}_b{impact:g}"] = dip
    return distinct_shapes(shapes, max_mismatch) if max_mismatch > 0 else shapes


def lens_parameters(name: str) -> tuple[float, float]:
    """Strength and impact of a shape's name; NaN where it is no lens."""
    found = re.fullmatch(r"lens_([^_]+)(?:_b(.+))?", name)
    if not found:
        return np.nan, np.nan
    return float(found[1]), float(found[2] or 0)


def _normed(dip: np.ndarray) -> np.ndarray:
    """Mean removed (the baseline is fitted) and of unit length."""
    dip = dip - dip.mean(axis=-1, keepdims=True)
    return dip / np.linalg.norm(dip, axis=-1, keepdims=True)


def mismatch(one: Shape, other: Shape) -> float:
    """Fraction of S/N that `one` loses on an event of shape `other`, duration free."""
    stretched = np.array([one(_PHASE * s) for s in _STRETCH])
    return float(1 - (_normed(stretched) @ _normed(other(_PHASE))).max())


def distinct_shapes(shapes: dict[str, Shape], max_mismatch: float) -> dict[str, Shape]:
    """Drop, in order, every shape that a kept one represents within the mismatch."""
    kept: dict[str, Shape] = {}
    for name, shape in shapes.items():
        if all(mismatch(other, shape) > max_mismatch for other in kept.values()):
            kept[name] = shape
    return kept


def tolerances(shape: Shape, loss: float) -> tuple[float, float]:
    """How far mid time and duration may be off for a loss of S/N each.

    Returns
    -------
    shift : float
        Of the mid time, in durations.
    ratio : float
        Of the durations, > 1.
    """
    reference = _normed(shape(_PHASE))
    shifts = np.linspace(0.002, 0.5, 250)
    moved = 1 - _normed(np.array([shape(_PHASE - s) for s in shifts])) @ reference
    ratios = np.exp(np.linspace(0.005, 0.6, 120))
    scaled = 1 - _normed(np.array([shape(_PHASE / r) for r in ratios])) @ reference
    shift = shifts[max(int(np.argmax(moved > loss)) - 1, 0)] if (moved > loss).any() else shifts[-1]
    ratio = (
        ratios[max(int(np.argmax(scaled > loss)) - 1, 0)] if (scaled > loss).any() else ratios[-1]
    )
    return float(shift), float(ratio)
