"""The whole characterisation: event-free seasons, injected events, tables and figures."""

import logging
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from dsaflow import __version__
from dsaflow.characterise import summary
from dsaflow.characterise.blank import BlankSeasons, BlankTask, blank_strip
from dsaflow.characterise.grid import Cell, grid_cells, target_cells
from dsaflow.characterise.inject import Injections, inject_strip, injection_tasks
from dsaflow.characterise.tables import write_records, write_rows
from dsaflow.characterise.tasks import run_tasks
from dsaflow.config.sections import Variability
from dsaflow.fileio import write_json
from dsaflow.simulate.seasons import SeasonPlan

LOG = logging.getLogger(__name__)
# Targets of mixed kinds in each event-free strip, and events in each strip of injections.
_BLANK_TARGETS = 1100
_EVENTS_PER_STRIP = 200
_REPORT_S = 60.0
# In each cell of the observed curves, where the grid has none of its own.
_OBSERVED_EVENTS = 20

Item = TypeVar("Item")


@dataclass(frozen=True)
class Size:
    """How much is simulated.

    Attributes
    ----------
    seasons : int
        Event-free seasons of a source with all kinds in equal shares, at least.
    natural : int
        The same with the kinds' natural shares, beside those.
    per_target, per_cell : int
        Events in each cell with a bound, and in each cell of the grid (0: no grid).
    longest_days : int
        Longest season of the grid and of the bounds.
    workers : int
        Processes.
    """

    seasons: int = 12000
    natural: int = 0
    per_target: int = 200
    per_cell: int = 0
    longest_days: int = 1095
    workers: int = 2


def characterise(
    folder: Path,
    options: Variability,
    size: Size,
    seed: int,
    threshold: float | None = None,
    observed: Path | None = None,
) -> dict[str, Any]:
    """Measure efficiency and false alarms; write tables and figures into `folder`.

    Parameters
    ----------
    threshold : float, optional
        ln LR above which an event is announced; default: the lowest at which the upper limit of
        the false-alarm rate is as low as is asked for with the kinds in natural shares, or, where
        the seasons are too few for that, the largest ln LR in those.
    observed : Path, optional
        ``light_curves.parquet`` of real epochs, into whose curves events are injected too.

    Returns
    -------
    dict
        What ``ese.json`` holds: seed, sizes, thresholds, and the bounds with what was measured.
    """
    folder.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    blank = event_free(options, size, seed)
    lowest = summary.choose_threshold(blank)
    limited = threshold is None and not np.isfinite(lowest[summary.NATURAL])
    if threshold is None:
        threshold = lowest[summary.NATURAL]
        if limited:
            threshold = float(blank.announced[blank.own].max(initial=0.0))
    alarms = summary.false_alarm_rows(blank, threshold)
    write_rows(folder / "false_alarms", alarms)
    write_rows(folder / "false_alarm_curve", summary.curve_rows(blank))
    cells, per_cell = injected_cells(size)
    tasks = injection_tasks(cells, per_cell, options, seed, _EVENTS_PER_STRIP)
    events = Injections.join(list(_watched("injections", inject_strip, tasks, size.workers)))
    write_records(folder / "injections.parquet", events)
    efficiencies = summary.efficiency_rows(events, cells, threshold)
    write_rows(folder / "efficiency", efficiencies)
    held = summary.bounds(alarms, efficiencies, threshold)
    write_rows(folder / "bounds", held)
    result: dict[str, Any] = {
        "version": __version__,
        "seed": seed,
        "size": asdict(size),
        "n_event_free_seasons": len(blank),
        "source_years": float(blank.years.sum()),
        "n_injected": len(events),
        "threshold_ln_lr": threshold,
        "threshold_limited_by_number_of_seasons": limited,
        "lowest_threshold_by_sample": lowest,
        "bounds": held,
        "options": options.model_dump(mode="json"),
    }
    if observed is not None:
        from dsaflow.characterise.observed import inject_observed

        count = size.per_cell or _OBSERVED_EVENTS
        rows = inject_observed(observed, options, threshold, count, seed)
        write_rows(folder / "observed", rows)
        result["n_injected_observed"] = int(sum(row["n_injected"] for row in rows))
    result["elapsed_s"] = time.monotonic() - started
    write_json(folder / "ese.json", result)
    from dsaflow.characterise.figures import draw_all

    draw_all(folder)
    return result


def event_free(options: Variability, size: Size, seed: int) -> BlankSeasons:
    """Search event-free strips until there are as many seasons as asked for."""
    plan = SeasonPlan()
    per_strip = plan.n_reference + _BLANK_TARGETS
    tasks = (
        BlankTask(plan, options, seed, number, _BLANK_TARGETS, natural)
        for seasons, natural in ((size.seasons, False), (size.natural, True))
        for number in range(-(-seasons // per_strip))
    )
    return BlankSeasons.join(list(_watched("event-free", blank_strip, tasks, size.workers)))


def injected_cells(size: Size) -> tuple[list[Cell], list[int]]:
    """Cells and the number of events in each."""
    bounded = [cell for cell in target_cells() if cell.season_days <= size.longest_days]
    grid = grid_cells(size.longest_days) if size.per_cell else []
    return bounded + grid, [size.per_target] * len(bounded) + [size.per_cell] * len(grid)


def _watched(name: str, function: Any, tasks: Iterable[Item], workers: int) -> Iterator[Any]:
    last = time.monotonic()
    for done, result in enumerate(run_tasks(function, tasks, workers), 1):
        if time.monotonic() - last > _REPORT_S:
            last = time.monotonic()
            LOG.info("%s: %d strips done", name, done)
        yield result
