"""Events injected into simulated strips, and what the search makes of them."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from dsaflow.characterise.detector import Found, normalised, sigma_dev
from dsaflow.characterise.grid import Cell
from dsaflow.characterise.optimal import matched_snr
from dsaflow.characterise.tasks import detector_for, generator, season_epochs
from dsaflow.config.sections import Variability
from dsaflow.simulate.seasons import Strip, observe
from dsaflow.simulate.transients import DIP_SHAPES, SCINTILLATION_DAYS, dips
from dsaflow.variability.normalise import Normalised

# Nearest that an event's mid time comes to the season's ends, in durations.
_CLEAR = 0.75


@dataclass
class Injections:
    """One entry an injected event; arrays of shape (n_event,).

    Attributes
    ----------
    cell : ndarray of int
        Index into the list of cells.
    depth, start_mjd, duration_days, lens : ndarray
        Truth: start where half of the depth is first reached, full width at half depth; whether
        the shape is a plasma lens or a Gaussian.
    ratio, announced : ndarray
        ln LR of the best event found anywhere, and the same where no rule vetoes it.
    matched : ndarray of bool
        The event found lies at the injected one.
    found_depth, found_depth_err, found_start_mjd, found_duration_days : ndarray
    snr : ndarray
        S/N of the search's own matched filter.
    optimal : ndarray
        S/N of the optimal filter on the same curve; what was missing of the event is not counted.
    sigma_dev : ndarray
    """

    cell: np.ndarray
    depth: np.ndarray
    start_mjd: np.ndarray
    duration_days: np.ndarray
    lens: np.ndarray
    ratio: np.ndarray
    announced: np.ndarray
    matched: np.ndarray
    found_depth: np.ndarray
    found_depth_err: np.ndarray
    found_start_mjd: np.ndarray
    found_duration_days: np.ndarray
    snr: np.ndarray
    optimal: np.ndarray
    sigma_dev: np.ndarray

    @classmethod
    def join(cls, parts: "list[Injections]") -> "Injections":
        """All parts one after the other."""
        names = [f.name for f in fields(cls)]
        return cls(**{n: np.concatenate([getattr(p, n) for p in parts]) for n in names})

    def __len__(self) -> int:
        return len(self.cell)

    def detected(self, threshold: float) -> np.ndarray:
        """Announced above the threshold, at the right time."""
        return self.matched & (self.announced > threshold)


@dataclass(frozen=True)
class InjectionTask:
    """Events for the targets of one strip: indices of cells that share a season."""

    cells: tuple[Cell, ...]
    index: tuple[int, ...]
    options: Variability
    seed: int
    number: int


def injection_tasks(
    cells: Sequence[Cell], per_cell: Sequence[int], options: Variability, seed: int, per_strip: int
) -> list[InjectionTask]:
    """Deal every cell's events out to strips of `per_strip` targets, season by season."""
    rng = generator(seed, "deal", 0)
    seasons = sorted({(c.season_days, c.step_nights) for c in cells})
    tasks: list[InjectionTask] = []
    for season in seasons:
        members = [
            np.full(count, k)
            for k, (cell, count) in enumerate(zip(cells, per_cell, strict=True))
            if (cell.season_days, cell.step_nights) == season
        ]
        events = rng.permutation(np.concatenate(members))
        for first in range(0, len(events), per_strip):
            index = tuple(int(k) for k in events[first : first + per_strip])
            chosen = tuple(cells[k] for k in index)
            tasks.append(InjectionTask(chosen, index, options, seed, len(tasks)))
    return tasks


def inject_strip(task: InjectionTask) -> Injections:
    """Simulate a strip with one event in every target, normalise and search it."""
    rng = generator(task.seed, "inject", task.number)
    plan = task.cells[0].plan
    mjd = season_epochs(plan, task.seed, task.number)
    number = len(task.cells)
    depth = _draw(rng, [cell.depth for cell in task.cells])
    duration = _draw(rng, [cell.duration_days for cell in task.cells])
    anywhere = np.array([cell.anywhere for cell in task.cells])
    clear = np.where(anywhere, 0.0, _CLEAR * duration)
    mid = rng.uniform(mjd[0] + clear, mjd[-1] - clear)
    shape = rng.choice(np.array(DIP_SHAPES), number)
    event = dips(mjd, mid, duration, depth, shape)
    strip = observe(
        plan,
        mjd,
        np.array([cell.kind for cell in task.cells], dtype="U20"),
        np.array([cell.snr for cell in task.cells]),
        rng,
        event,
    )
    normal = normalised(strip, task.options)
    targets = slice(plan.n_reference, None)
    curve, variance = normal.flux[targets], normal.variance[targets]
    found = detector_for(plan, task.options, task.seed, task.number).find(curve, variance)
    start = mid - 0.5 * duration
    return Injections(
        cell=np.array(task.index, np.int32),
        depth=depth,
        start_mjd=start,
        duration_days=duration,
        lens=shape == "lens",
        ratio=found.ratio,
        announced=found.announced,
        matched=overlaps(found, start, duration),
        found_depth=found.depth,
        found_depth_err=found.depth_err,
        found_start_mjd=found.start_mjd,
        found_duration_days=found.duration_days,
        snr=found.snr,
        optimal=_optimal(strip, normal, event, plan.n_reference, plan.scintillation_rms),
        sigma_dev=sigma_dev(curve),
    )


def overlaps(found: Found, start: np.ndarray, duration: np.ndarray) -> np.ndarray:
    """Whether the middle of the event found lies in the injected one, or the other way round."""
    mid_found, mid = found.start_mjd + 0.5 * found.duration_days, start + 0.5 * duration
    distance = np.abs(mid_found - mid)
    return np.isfinite(distance) & (
        distance <= 0.5 * np.fmax(np.nan_to_num(found.duration_days), duration)
    )


def _draw(rng: np.random.Generator, ranges: list[tuple[float, float]]) -> np.ndarray:
    low, high = np.array(ranges).T
    return rng.uniform(low, high)


def _optimal(
    strip: Strip, normal: Normalised, event: np.ndarray, first: int, walk_rms: float
) -> np.ndarray:
    """S/N of the optimal filter on the normalised curves, with the noise that was simulated."""
    sigma = strip.flux_err_jy[first:] / normal.level_jy[first:, None]
    days = np.zeros(len(sigma))
    for value in SCINTILLATION_DAYS:
        days[strip.kind[first:] == f"scintillation_{value:g}d"] = value
    return matched_snr(normal.flux[first:], sigma, 1 - event, strip.mjd, days, walk_rms)
