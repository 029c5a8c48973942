"""Detection efficiency of events like a candidate, from a characterisation of the search."""

import os
from dataclasses import dataclass

import numpy as np

# Columns of the table that are used; `dsaflow ese characterise` writes them.
COLUMNS = (
    "kind",
    "depth_low",
    "depth_high",
    "duration_low_days",
    "duration_high_days",
    "snr",
    "season_days",
    "step_nights",
    "efficiency",
    "efficiency_low",
    "efficiency_high",
)
# Beyond this distance (in the logarithms of depth, duration and S/N) no cell is like the event.
_FARTHEST = 1.5
_QUIET = "quiet"


@dataclass(frozen=True)
class Efficiency:
    """Share of events that the search finds, with its 95 % interval; NaN where not known."""

    value: float = np.nan
    low: float = np.nan
    high: float = np.nan


@dataclass(frozen=True)
class EfficiencyTable:
    """Cells of a characterisation with quiet sources; none where there is no table."""

    cells: dict[str, np.ndarray]

    @classmethod
    def read(cls, path: str | os.PathLike | None) -> "EfficiencyTable":
        """Read ``efficiency.parquet``; without a path the table is empty."""
        if not path:
            return cls({})
        import pyarrow.parquet as pq

        table = pq.read_table(path, columns=list(COLUMNS))
        cells = {name: table[name].to_numpy(zero_copy_only=False) for name in COLUMNS}
        quiet = cells["kind"] == _QUIET
        return cls({name: values[quiet] for name, values in cells.items()})

    def of(
        self, depth: float, duration_days: float, snr: float, season_days: float, step_days: float
    ) -> Efficiency:
        """Efficiency in the cell most like an event.

        Parameters
        ----------
        depth : float
        duration_days : float
            Full width at half depth.
        snr : float
            Of an epoch outside the event; above the largest that was tried, the largest counts.
        season_days, step_days : float
            Length of the light curve and typical step between its epochs.
        """
        if not self.cells or not len(self.cells["snr"]):
            return Efficiency()
        snr = min(snr, float(self.cells["snr"].max()))
        with np.errstate(divide="ignore", invalid="ignore"):
            near = (
                _outside(depth, self.cells["depth_low"], self.cells["depth_high"])
                + _outside(
                    duration_days, self.cells["duration_low_days"], self.cells["duration_high_days"]
                )
                + np.square(np.log(snr / self.cells["snr"]))
            )
            alike = np.square(np.log(season_days / self.cells["season_days"])) + np.square(
                np.log(step_days / self.cells["step_nights"])
            )
        if not np.isfinite(near).any() or np.nanmin(near) > _FARTHEST**2:
            return Efficiency()
        # of cells equally like the event, the season's length and cadence decide
        best = int(np.nanargmin(near + 0.1 * alike))
        return Efficiency(
            *(float(self.cells[f"efficiency{end}"][best]) for end in ("", "_low", "_high"))
        )


def _outside(value: float, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Squared distance of ln value from a range of it; 0 within."""
    return np.square(np.maximum(np.maximum(np.log(low / value), np.log(value / high)), 0.0))
