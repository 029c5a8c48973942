"""The bank of dip templates: shape, duration and mid time, spaced by the S/N they may lose."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from dsaflow.config.sections import Variability
from dsaflow.variability.shapes import (
    Shape,
    box_dip,
    event_shapes,
    flat_dip,
    gaussian_dip,
    lens_dip,
    tolerances,
)

__all__ = [
    "DipRows",
    "Shape",
    "TemplateBank",
    "box_dip",
    "build_bank",
    "cadence_days",
    "event_shapes",
    "flat_dip",
    "gaussian_dip",
    "lens_dip",
    "longest_duration",
    "survey_bank",
]

# Level (of the depth) below which an epoch counts as outside the event, and above which as inside.
OUTSIDE_LEVEL = 0.4
INSIDE_LEVEL = 0.5
# Templates end where they fall below this.
_CUT_LEVEL = 0.01
_TABLE_REACH = 4.0
_TABLE_SIZE = 4097
# Of a data span: a longer event leaves less than its own duration for the baseline.
LONGEST_SHARE = 0.5


@dataclass
class DipRows:
    """Rows of the bank as dense arrays, made when asked for.

    A dense bank of a year has gigabytes; its templates are short.
    """

    values: np.ndarray
    first: np.ndarray
    offset: np.ndarray
    n_epoch: int

    @property
    def shape(self) -> tuple[int, int]:
        """Templates and epochs."""
        return len(self.first), self.n_epoch

    def __len__(self) -> int:
        return len(self.first)

    def __getitem__(self, key: int | slice | Sequence[int] | np.ndarray) -> np.ndarray:
        chosen = np.arange(len(self))[key]
        result = np.zeros((chosen.size, self.n_epoch))
        for row, k in enumerate(chosen.ravel()):
            part = self.values[self.offset[k] : self.offset[k + 1]]
            result[row, self.first[k] : self.first[k] + len(part)] = part
        return result.reshape(*chosen.shape, self.n_epoch)


@dataclass
class TemplateBank:
    """Dips of unit depth; the curve is baseline x (1 - depth x template).

    Attributes
    ----------
    mjd : ndarray, shape (n_epoch,)
    shape : list of str
        Names of the shapes.
    shape_index : ndarray of int, shape (n_template,)
    duration_days, mid_mjd : ndarray, shape (n_template,)
        Full width at half depth [d], centre [d].
    group_start : ndarray of int
        First template of each (shape, duration) group, ascending.
    values : ndarray of float32
        The templates where they are not 0, one after the other; 1 at the deepest, negative where
        the template rises above the baseline (cusps).
    first, offset : ndarray of int, shape (n_template,) and (n_template + 1,)
        First epoch of each template, and where its values begin.
    bounds : ndarray of int, shape (n_template, 7)
        Epochs: start, middle and end of the inside (above half the depth), start and end of the
        flank before, start and end of the flank after.
    table : ndarray, shape (n_shape, n_phase)
        The shapes on a fine grid of phases, for templates between those of the bank.
    outer_phase : ndarray, shape (n_shape,)
        Beyond this phase a shape is within 0.4 of its depth of the baseline.
    reach_phase : ndarray, shape (n_shape,)
        Beyond this phase a shape is 0.
    max_mismatch : float
        Fraction of S/N that an event between the templates may lose.
    longest_days : float
        The longest duration that the span allows [d].
    functions : list of callable
        The shapes themselves.
    """

    mjd: np.ndarray
    shape: list[str]
    shape_index: np.ndarray
    duration_days: np.ndarray
    mid_mjd: np.ndarray
    group_start: np.ndarray
    values: np.ndarray
    first: np.ndarray
    offset: np.ndarray
    bounds: np.ndarray
    table: np.ndarray
    outer_phase: np.ndarray
    reach_phase: np.ndarray
    max_mismatch: float
    longest_days: float
    min_epochs: int = 3
    margin_epochs: int = 2
    functions: list[Shape] = field(default_factory=list)

    @property
    def start_mjd(self) -> np.ndarray:
        """When half of the depth is first reached [d]."""
        return self.mid_mjd - 0.5 * self.duration_days

    @property
    def dip(self) -> DipRows:
        """Dense rows, shape (n_template, n_epoch)."""
        return DipRows(self.values, self.first, self.offset, len(self.mjd))

    def __len__(self) -> int:
        return len(self.first)

    def dip_at(self, template: int, mjd: np.ndarray) -> np.ndarray:
        """Dip of one template at any times [d]."""
        phase = (mjd - self.mid_mjd[template]) / self.duration_days[template]
        return self.functions[self.shape_index[template]](phase)

    def summary(self) -> dict[str, float | int | list[str]]:
        """What a record of the search must say about its bank."""
        return {
            "n_templates": len(self),
            "n_shapes": len(self.shape),
            "shapes": list(self.shape),
            "n_durations": len(np.unique(self.duration_days)),
            "max_mismatch": self.max_mismatch,
            "longest_duration_days": self.longest_days,
        }


def cadence_days(mjd: np.ndarray) -> float:
    """Typical step between epochs [d]: the median, which gaps do not stretch."""
    return float(np.median(np.diff(mjd)))


def longest_duration(mjd: np.ndarray, limit_days: float = 365.0) -> float:
    """Longest event that a data span can show with its fall, its recovery and a baseline [d]."""
    return float(min(LONGEST_SHARE * (mjd[-1] - mjd[0]), limit_days))


def build_bank(
    mjd: np.ndarray,
    shapes: dict[str, Shape],
    min_epochs: int = 3,
    duration_ratio: float = 2.0,
    margin_epochs: int = 2,
    max_mismatch: float = 0.1,
    longest_days: float = 365.0,
) -> TemplateBank:
    """Every template whose fall and recovery the epochs can show.

    A third of the mismatch is spent on the mid time, a third on the duration; the rest is what the
    shapes differ by (`event_shapes`). Near an optimum the losses add (Owen 1996).

    Parameters
    ----------
    mjd : ndarray, shape (n_epoch,)
        Ascending [d]; gaps are allowed.
    duration_ratio : float
        Upper limit to the step of the durations.
    margin_epochs : int
        Epochs needed in the flank on either side, which is as long as the event.
    max_mismatch : float
        Largest fraction of S/N lost by an event between the templates.
    longest_days : float
        Longest duration [d]; half of the span, where that is shorter.
    """
    mjd = np.asarray(mjd, float)
    step = cadence_days(mjd)
    longest = longest_duration(mjd, longest_days)
    shortest = min_epochs * step
    phase = np.linspace(-_TABLE_REACH, _TABLE_REACH, _TABLE_SIZE)
    table = np.array([shape(phase) for shape in shapes.values()])
    outer = np.array([np.abs(phase)[np.abs(row) > OUTSIDE_LEVEL].max() for row in table])
    reach = np.array([np.abs(phase)[np.abs(row) > _CUT_LEVEL].max() for row in table])
    groups: list[tuple[int, float, np.ndarray]] = []
    for k, shape in enumerate(shapes.values()):
        shift, ratio = tolerances(shape, max_mismatch / 3)
        ratio = min(ratio**2, duration_ratio)
        if longest < shortest:
            break
        number = 1 + int(np.ceil(np.log(longest / shortest) / np.log(ratio)))
        for duration in np.geomspace(shortest, longest, max(number, 1)):
            mid = np.arange(mjd[0], mjd[-1], max(2 * shift * duration, step / 2))
            groups.append((k, float(duration), mid))
    pieces = [
        _templates(mjd, table[k], k, d, mid, outer[k], reach[k], min_epochs, margin_epochs, step)
        for k, d, mid in groups
    ]
    pieces = [piece for piece in pieces if len(piece["mid"])]
    counts = [len(piece["mid"]) for piece in pieces]
    empty = np.zeros(0)
    joined = {
        name: np.concatenate([piece[name] for piece in pieces]) if pieces else empty
        for name in ("mid", "duration", "index", "first", "length", "values")
    }
    bounds = np.concatenate([p["bounds"] for p in pieces]) if pieces else np.zeros((0, 7))
    return TemplateBank(
        mjd,
        list(shapes),
        joined["index"].astype(np.int64),
        joined["duration"],
        joined["mid"],
        np.r_[0, np.cumsum(counts)[:-1]].astype(np.int64) if pieces else empty.astype(np.int64),
        joined["values"].astype(np.float32),
        joined["first"].astype(np.int64),
        np.r_[0, np.cumsum(joined["length"])].astype(np.int64),
        bounds.astype(np.int64),
        table,
        outer,
        reach,
        max_mismatch,
        longest,
        min_epochs,
        margin_epochs,
        list(shapes.values()),
    )


def survey_bank(mjd: np.ndarray, options: Variability) -> TemplateBank:
    """Build the bank that the configuration asks for."""
    shapes = event_shapes(
        options.lens_strengths,
        options.lens_source_size,
        options.lens_impacts,
        options.max_mismatch / 3,
    )
    return build_bank(
        mjd,
        shapes,
        options.min_event_epochs,
        options.duration_ratio,
        max_mismatch=options.max_mismatch,
        longest_days=options.longest_event_days,
    )


def event_bounds(
    mjd: np.ndarray, mid: np.ndarray, duration: float, outer: float, flank_days: float
) -> np.ndarray:
    """Epochs of the inside and of the two flanks, shape (n_mid, 7); see `TemplateBank.bounds`."""
    edges = [
        np.searchsorted(mjd, mid - 0.5 * duration),
        np.searchsorted(mjd, mid),
        np.searchsorted(mjd, mid + 0.5 * duration, side="right"),
        np.searchsorted(mjd, mid - outer * duration - flank_days),
        np.searchsorted(mjd, mid - outer * duration),
        np.searchsorted(mjd, mid + outer * duration, side="right"),
        np.searchsorted(mjd, mid + outer * duration + flank_days, side="right"),
    ]
    return np.stack(edges, axis=-1)


def flank_days(duration: float | np.ndarray, margin_epochs: int, step: float) -> np.ndarray:
    """Length of the flanks [d]: the event's, and room for a few missing epochs."""
    return np.maximum(duration, (margin_epochs + 2) * step)


def _templates(
    mjd: np.ndarray,
    row: np.ndarray,
    index: int,
    duration: float,
    mid: np.ndarray,
    outer: float,
    reach: float,
    min_epochs: int,
    margin_epochs: int,
    step: float,
) -> dict[str, np.ndarray]:
    """All templates of one shape and duration that the epochs can show."""
    bounds = event_bounds(
        mjd, mid, duration, outer, float(flank_days(duration, margin_epochs, step))
    )
    kept = (
        (bounds[:, 2] - bounds[:, 0] >= min_epochs)
        & (bounds[:, 1] > bounds[:, 0])
        & (bounds[:, 2] > bounds[:, 1])
        & (bounds[:, 4] - bounds[:, 3] >= margin_epochs)
        & (bounds[:, 6] - bounds[:, 5] >= margin_epochs)
    )
    mid, bounds = mid[kept], bounds[kept]
    first = np.searchsorted(mjd, mid - reach * duration)
    length = np.searchsorted(mjd, mid + reach * duration, side="right") - first
    span = np.arange(length.max(initial=0))
    inside = span < length[:, None]
    epoch = np.minimum(first[:, None] + span, len(mjd) - 1)
    phase = (mjd[epoch] - mid[:, None]) / duration
    grid = np.linspace(-_TABLE_REACH, _TABLE_REACH, _TABLE_SIZE)
    dips = np.where(inside, np.interp(phase, grid, row, left=0.0, right=0.0), 0.0)
    # A box between two epochs is the box before it.
    same = np.zeros(len(mid), bool)
    same[1:] = (np.diff(first) == 0) & (np.abs(np.diff(dips, axis=0)) < 1e-6).all(axis=1)
    dips, inside = dips[~same], inside[~same]
    return {
        "mid": mid[~same],
        "duration": np.full((~same).sum(), duration),
        "index": np.full((~same).sum(), index),
        "first": first[~same],
        "length": length[~same],
        "values": dips[inside],
        "bounds": bounds[~same],
    }
