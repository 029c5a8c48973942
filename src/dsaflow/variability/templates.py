"""The bank of dip templates: shape, duration and mid time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from dsaflow.variability.lens import plasma_lens_gain

# Offset by which a template counts as outside the event, as a fraction of its depth.
OUTSIDE_LEVEL = 0.05
INSIDE_LEVEL = 0.5

Shape = Callable[[np.ndarray], np.ndarray]


@dataclass
class TemplateBank:
    """Dips of unit depth; the curve is baseline x (1 - depth x template).

    Attributes
    ----------
    dip : ndarray, shape (n_template, n_epoch)
        1 at the deepest; negative where the template rises above the baseline (cusps).
    shape : list of str
        Names of the shapes.
    shape_index : ndarray of int, shape (n_template,)
    duration_days, mid_mjd : ndarray, shape (n_template,)
        Full width at half depth [d], centre [d].
    group_start : ndarray of int
        First template of each (shape, duration) group, ascending.
    functions : list of callable
        The shapes themselves, for drawing between the epochs.
    """

    dip: np.ndarray
    shape: list[str]
    shape_index: np.ndarray
    duration_days: np.ndarray
    mid_mjd: np.ndarray
    group_start: np.ndarray
    functions: list[Shape] = field(default_factory=list)

    @property
    def start_mjd(self) -> np.ndarray:
        """When half of the depth is first reached [d]."""
        return self.mid_mjd - 0.5 * self.duration_days

    def __len__(self) -> int:
        return len(self.dip)

    def dip_at(self, template: int, mjd: np.ndarray) -> np.ndarray:
        """Dip of one template at any times [d]."""
        phase = (mjd - self.mid_mjd[template]) / self.duration_days[template]
        return self.functions[self.shape_index[template]](phase)

    @cached_property
    def square(self) -> np.ndarray:
        """Square of the dips."""
        return np.square(self.dip)

    @cached_property
    def sides(self) -> tuple[np.ndarray, np.ndarray]:
        """Epochs before and after each event, as 0 and 1."""
        before, after = outside_sides(self.dip)
        return before.astype(float), after.astype(float)

    @cached_property
    def inside(self) -> np.ndarray:
        """Epochs in the lower half of each dip, as 0 and 1."""
        return (self.dip > INSIDE_LEVEL).astype(float)


def gaussian_dip(phase: np.ndarray) -> np.ndarray:
    """Gaussian of unit depth and unit full width at half depth."""
    return np.exp2(-np.square(2 * phase))


def box_dip(phase: np.ndarray) -> np.ndarray:
    """1 within half a width of the centre, else 0."""
    return (np.abs(phase) <= 0.5).astype(float)


def flat_dip(phase: np.ndarray) -> np.ndarray:
    """Flat bottom with soft edges (a sixth-order Gaussian), of unit full width at half depth."""
    return np.exp2(-np.power(2 * np.clip(phase, -2, 2), 6))


def lens_dip(strength: float, source_size: float) -> Shape:
    """Dip of a plasma lens, scaled to unit depth on the axis and unit full width at half depth."""
    offset = np.linspace(0, 30, 6001)
    dip = 1 - plasma_lens_gain(offset, strength, source_size)
    dip /= dip[0]
    half = offset[np.argmax(dip < 0.5)]

    def shape(phase: np.ndarray) -> np.ndarray:
        return np.interp(np.abs(phase) * 2 * half, offset, dip, right=0.0)

    return shape


def event_shapes(strengths: Sequence[float], source_size: float) -> dict[str, Shape]:
    """Shapes of the bank by name: Gaussian, flat, box, and one lens for each strength."""
    shapes: dict[str, Shape] = {
        "gaussian": gaussian_dip,
        "flat": flat_dip,
        "box": box_dip,
    }
    for strength in strengths:
        shapes[f"lens_{strength:g}"] = lens_dip(strength, source_size)
    return shapes


def cadence_days(mjd: np.ndarray) -> float:
    """Typical step between epochs [d]: the median, which gaps do not stretch."""
    return float(np.median(np.diff(mjd)))


def build_bank(
    mjd: np.ndarray,
    shapes: dict[str, Shape],
    min_epochs: int = 3,
    duration_ratio: float = 1.25,
    margin_epochs: int = 2,
) -> TemplateBank:
    """Every template whose fall and recovery the epochs can show.

    Durations grow by `duration_ratio` from `min_epochs` steps; mid times move by an eighth of the
    duration, at least half a step. A template is kept if >= `min_epochs` epochs lie in its dip and
    >= `margin_epochs` lie outside it on either side.

    Parameters
    ----------
    mjd : ndarray, shape (n_epoch,)
        Ascending [d]; gaps are allowed.
    """
    step, span = cadence_days(mjd), float(mjd[-1] - mjd[0])
    n_duration = 1 + int(
        np.floor(np.log(max(span / (min_epochs * step), 1)) / np.log(duration_ratio))
    )
    durations = min_epochs * step * duration_ratio ** np.arange(n_duration)
    dips, index, widths, mids, starts = [], [], [], [], []
    count = 0
    for k, shape in enumerate(shapes.values()):
        for duration in durations:
            mid = np.arange(mjd[0], mjd[-1] + 1e-9, max(duration / 8, step / 2))
            dip = shape((mjd - mid[:, None]) / duration)
            kept = _observable(dip, min_epochs, margin_epochs)
            kept[kept] = _distinct(dip[kept])
            if not kept.any():
                continue
            starts.append(count)
            count += int(kept.sum())
            dips.append(dip[kept])
            index.append(np.full(kept.sum(), k))
            widths.append(np.full(kept.sum(), duration))
            mids.append(mid[kept])
    if not dips:
        nothing = np.zeros(0)
        return TemplateBank(
            np.zeros((0, len(mjd))),
            list(shapes),
            nothing.astype(int),
            nothing,
            nothing,
            nothing.astype(int),
            list(shapes.values()),
        )
    return TemplateBank(
        np.concatenate(dips),
        list(shapes),
        np.concatenate(index),
        np.concatenate(widths),
        np.concatenate(mids),
        np.array(starts),
        list(shapes.values()),
    )


def outside_sides(dip: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which epochs lie outside the event, before it and after it.

    Parameters
    ----------
    dip : ndarray, shape (..., n_epoch)

    Returns
    -------
    before, after : ndarray of bool, shape (..., n_epoch)
    """
    touched = np.abs(dip) > OUTSIDE_LEVEL
    before = ~np.logical_or.accumulate(touched, axis=-1)
    after = ~np.logical_or.accumulate(touched[..., ::-1], axis=-1)[..., ::-1]
    return before, after


def _observable(dip: np.ndarray, min_epochs: int, margin_epochs: int) -> np.ndarray:
    before, after = outside_sides(dip)
    inside = (dip > INSIDE_LEVEL).sum(axis=-1)
    return (
        (inside >= min_epochs)
        & (before.sum(axis=-1) >= margin_epochs)
        & (after.sum(axis=-1) >= margin_epochs)
    )


def _distinct(dip: np.ndarray) -> np.ndarray:
    """Leave out a template that equals the one before it (a box between two epochs)."""
    return np.r_[True, (np.abs(np.diff(dip, axis=0)) > 1e-9).any(axis=1)][: len(dip)]
