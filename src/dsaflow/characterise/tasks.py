"""Independent pieces of work on a few processes, their random streams, and what they share."""

import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from multiprocessing import get_context
from typing import TypeVar

import numpy as np

from dsaflow.characterise.detector import Detector
from dsaflow.config.sections import Variability
from dsaflow.simulate.seasons import SeasonPlan, epochs

# Patterns of lost epochs and gaps: each needs a template bank of its own, which a process keeps.
_MOST_PATTERNS = 6
_PATTERN_EPOCHS = 1100

Task = TypeVar("Task")
Result = TypeVar("Result")


def generator(seed: int, purpose: str, number: int) -> np.random.Generator:
    """Random stream of one piece of work: the same whichever process does it, and when."""
    return np.random.default_rng([seed, zlib.crc32(purpose.encode()), number])


def pattern(plan: SeasonPlan, number: int) -> int:
    """Which of a few patterns of lost epochs a strip has: fewer for long seasons."""
    return number % max(1, min(_MOST_PATTERNS, _PATTERN_EPOCHS // plan.n_epoch))


def season_epochs(plan: SeasonPlan, seed: int, number: int) -> np.ndarray:
    """Epochs of a strip [d]."""
    purpose = f"epochs {plan.n_epoch} {plan.step_nights}"
    return epochs(plan, generator(seed, purpose, pattern(plan, number)))


def detector_for(plan: SeasonPlan, options: Variability, seed: int, number: int) -> Detector:
    """Template bank of a strip's pattern of epochs; made once a process."""
    return _detector(plan, options.model_dump_json(), seed, pattern(plan, number))


@lru_cache(maxsize=_MOST_PATTERNS)
def _detector(plan: SeasonPlan, options: str, seed: int, number: int) -> Detector:
    return Detector(season_epochs(plan, seed, number), Variability.model_validate_json(options))


def run_tasks(
    function: Callable[[Task], Result], tasks: Iterable[Task], workers: int
) -> Iterator[Result]:
    """Results in the order of the tasks, from `workers` processes (1: this one).

    The children do linear algebra with one thread each: several would wait for one another.
    """
    if workers <= 1:
        yield from map(function, tasks)
        return
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            yield from pool.map(function, tasks)
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
