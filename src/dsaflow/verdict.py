"""Verdicts: every stage's small JSON product that says pass, warn or reject, why, and with which numbers."""

import math
import os
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from dsaflow import __version__
from dsaflow.errors import DataRejected, ReasonCode
from dsaflow.fileio import read_json, write_json

Outcome = Literal["pass", "warn", "reject"]


@dataclass(frozen=True)
class Gate:
    """One measured value against its limits; `low` and `high` are NaN where a side has no limit."""

    name: str
    value: float
    low: float
    high: float
    unit: str
    verdict: Outcome

    @classmethod
    def measure(
        cls,
        name: str,
        value: float,
        low: float = math.nan,
        high: float = math.nan,
        unit: str = "",
        failing: Outcome = "reject",
    ) -> "Gate":
        """Judge `value`: `failing` outside [low, high] or where it is not finite."""
        inside = (
            math.isfinite(value)
            and not (math.isfinite(low) and value < low)
            and not (math.isfinite(high) and value > high)
        )
        return cls(name, float(value), low, high, unit, "pass" if inside else failing)


@dataclass
class Verdict:
    """Outcome of one stage for one item (a tile, a mosaic, a solution).

    Attributes
    ----------
    verdict : {"pass", "warn", "reject"}
    reason_code : str or None
        A `ReasonCode` where the verdict is "reject".
    detail : str
        One sentence for a person.
    gates : list of Gate
    numbers : dict
        Measured quantities, units in the keys.
    provenance : dict
        Input hashes, configuration hash, rung of the selection ladder, software version.
    """

    verdict: Outcome = "pass"
    reason_code: str | None = None
    detail: str = ""
    gates: list[Gate] = field(default_factory=list)
    numbers: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=lambda: {"version": __version__})

    @classmethod
    def rejected(cls, error: DataRejected, **numbers: Any) -> "Verdict":
        """Build the verdict of an input that raised `DataRejected`."""
        return cls("reject", str(error.code), error.detail, numbers=numbers)

    @property
    def usable(self) -> bool:
        """Whether what follows may use the product (pass or warn)."""
        return self.verdict != "reject"

    def apply_gates(self, code: ReasonCode) -> "Verdict":
        """Set the verdict to the worst of the gates', with `code` and the failing gates' names."""
        for outcome in ("reject", "warn"):
            failing = [g for g in self.gates if g.verdict == outcome]
            if failing:
                self.verdict = outcome
                self.reason_code = str(code) if outcome == "reject" else self.reason_code
                self.detail = "; ".join(
                    f"{g.name} = {g.value:.4g} {g.unit} outside [{g.low:.4g}, {g.high:.4g}]"
                    for g in failing
                )
                return self
        return self

    def write(self, path: str | os.PathLike) -> None:
        """Write as JSON, atomically."""
        write_json(path, asdict(self))

    @classmethod
    def read(cls, path: str | os.PathLike) -> "Verdict":
        """Read back what `write` wrote; null numbers become NaN in the gates."""
        content = read_json(path)
        gates = []
        for row in content.pop("gates"):
            value, low, high = (
                math.nan if row[k] is None else row[k] for k in ("value", "low", "high")
            )
            gates.append(Gate(row["name"], value, low, high, row["unit"], row["verdict"]))
        return cls(gates=gates, **content)
