"""Which events are injected: the grid of cells, and the bounds that some of them are held to."""

from dataclasses import dataclass
from itertools import product

from dsaflow.simulate.seasons import SeasonPlan
from dsaflow.simulate.transients import SCINTILLATION_DAYS

DEPTHS = (0.05, 0.1, 0.2, 0.3, 0.5)
DURATIONS_DAYS = (5.0, 10.0, 20.0, 40.0, 60.0, 90.0, 150.0, 250.0)
SNRS = (10.0, 20.0, 50.0, 100.0)
STEPS_NIGHTS = (1, 3)
SEASON_DAYS = (120, 365, 1095)
# Longest event of a season, as a fraction of it: both sides must be seen.
LONGEST = 0.55


@dataclass(frozen=True)
class Cell:
    """Events alike: drawn uniformly between two depths and two durations.

    Attributes
    ----------
    name : str
        ``grid``, or what the cell is for.
    depth, duration_days : pair of float
    snr : float
        Of an epoch, outside the event.
    season_days, step_nights : int
    kind : str
        Of source (`simulate.seasons.KINDS`).
    anywhere : bool
        Mid times over the whole season, so that some events are only partly seen.
    target : float
        Detection efficiency asked for; 0: none.
    """

    name: str
    depth: tuple[float, float]
    duration_days: tuple[float, float]
    snr: float
    season_days: int = 120
    step_nights: int = 1
    kind: str = "quiet"
    anywhere: bool = False
    target: float = 0.0

    @property
    def plan(self) -> SeasonPlan:
        """Season in which the cell's events are injected."""
        return SeasonPlan(
            n_epoch=self.season_days // self.step_nights, step_nights=self.step_nights
        )


def target_cells() -> list[Cell]:
    """The cells with a bound, the scintillators, and events seen in part."""
    short, long = (20.0, 60.0), (90.0, 250.0)
    cells = [
        Cell("quiet, S/N 50, 5 %", (0.05, 0.05), short, 50.0, target=0.95),
        Cell("quiet, S/N 10, 30 %", (0.3, 0.3), short, 10.0, target=0.95),
        Cell("three years, S/N 20", (0.2, 0.5), long, 20.0, season_days=1095, target=0.90),
        Cell("three years, S/N 50", (0.2, 0.5), long, 50.0, season_days=1095, target=0.90),
        Cell("mid time anywhere, S/N 50, 30 %", (0.3, 0.3), short, 50.0, anywhere=True),
    ]
    for days, depth in product(SCINTILLATION_DAYS, (0.1, 0.2, 0.3, 0.5)):
        kind = f"scintillation_{days:g}d"
        cells.append(Cell("scintillator", (depth, depth), short, 50.0, kind=kind))
    return cells


def grid_cells(longest_days: int = max(SEASON_DAYS)) -> list[Cell]:
    """Depth x duration x S/N x cadence x season length, quiet sources."""
    return [
        Cell("grid", (depth, depth), (duration, duration), snr, season, step)
        for season, step, duration, depth, snr in product(
            SEASON_DAYS, STEPS_NIGHTS, DURATIONS_DAYS, DEPTHS, SNRS
        )
        if duration <= LONGEST * season and season <= longest_days
    ]
