"""The ladder of effects: each rung adds one thing that spoils the data, and is scored against the truth."""

import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dsaflow.config import Config
from dsaflow.fileio import write_json
from dsaflow.simulate.settings import Effects
from dsaflow.validation.chain import Steps, run_nights, simulate, tile_noise_ratios
from dsaflow.validation.score import join_truth, score

LOG = logging.getLogger(__name__)
EXACT_CATALOG = {"variable_fraction": 0.0, "event": {"kind": "none"}}


@dataclass(frozen=True)
class Rung:
    """One step of the ladder: effects that are on, stages that are real."""

    name: str
    effects: tuple[str, ...]
    steps: Steps = field(default_factory=Steps)


_SKY = ("noise", "beam_motion", "smearing")
_GAINS = (*_SKY, "bandpass", "gain_drift")
_PERFECT = Steps(flag=False, calibrate=False)
RUNGS = (
    Rung("moving beam alone", ("beam_motion",), _PERFECT),
    Rung("+ noise", ("noise", "beam_motion"), _PERFECT),
    Rung("+ smearing", _SKY, _PERFECT),
    Rung("+ calibration", _SKY, Steps(flag=False)),
    Rung("+ bandpass", (*_SKY, "bandpass"), Steps(flag=False)),
    Rung("+ gain drift", _GAINS, Steps(flag=False)),
    Rung("+ dead antennas, flagging", (*_GAINS, "dead_antennas")),
    Rung("+ interference", (*_GAINS, "dead_antennas", "rfi")),
    Rung("+ spoilt catalogue", (*_GAINS, "dead_antennas", "rfi", "spoilt_catalog")),
    Rung("+ far sources", (*_GAINS, "dead_antennas", "rfi", "spoilt_catalog", "far_sources")),
)


def rung_config(base: Config, rung: Rung, folder: Path, nights: int, seed: int) -> Config:
    """Configuration of one rung, in a folder of its own."""
    content = base.model_dump(mode="json")
    content["paths"] |= {
        "incoming": str(folder / "incoming"),
        "results": str(folder / "results"),
        "published": str(folder / "published"),
        "reference_catalog": str(folder / "results" / "simulated" / "catalog.parquet"),
    }
    content["plan"]["settle_s"] = 0
    simulated = content["simulate"] | EXACT_CATALOG
    simulated |= {
        "seed": seed,
        "n_epochs": nights,
        "full_array_tiles": [],
        "effects": {name: name in rung.effects for name in Effects.model_fields},
    }
    if not rung.steps.calibrate:
        simulated["correlator_unit"] = 1.0
    return Config.model_validate(content | {"simulate": simulated})


def climb(
    base: Config, folder: Path, nights: int = 2, seeds: Iterable[int] = (1,), only: str = ""
) -> list[dict[str, Any]]:
    """Run the rungs and score them.

    Parameters
    ----------
    base : Config
        Size of the simulation and options of the stages.
    folder : Path
        For the rungs' data; each rung's score stays there as JSON, and is not computed twice.
    nights : int
        Nights a seed.
    seeds : iterable of int
        One sky each.
    only : str
        Run the rungs with this in their name.

    Returns
    -------
    list of dict
        ``name``, ``flux_ratio``, ``bins`` (see `dsaflow.validation.score.score`),
        ``noise_ratio_median`` and ``noise_ratio_worst`` of the tiles.
    """
    import pandas as pd

    results = []
    for number, rung in enumerate(RUNGS):
        if only not in rung.name:
            continue
        parts, noise = [], []
        for seed in seeds:
            place = folder / f"rung-{number:02d}" / f"seed-{seed}"
            rows = place / "rows.parquet"
            if not rows.exists():
                config = rung_config(base, rung, place, nights, seed)
                simulate(config, nights)
                done = run_nights(config, rung.steps)
                truth = Path(config.paths.results) / "simulated"
                table = join_truth([night.photometry for night in done], truth)
                write_json(
                    place / "noise.json", np.concatenate([tile_noise_ratios(n) for n in done])
                )
                table.to_parquet(rows)
            parts.append(pd.read_parquet(rows).assign(seed=seed))
            noise += json.loads((place / "noise.json").read_text())
        scored = {"name": rung.name, **score(pd.concat(parts))}
        scored |= {
            "noise_ratio_median": float(np.median(noise)),
            "noise_ratio_worst": float(np.max(noise)),
        }
        LOG.info("%s: %s", rung.name, scored)
        results.append(scored)
    return results


def describe(results: list[dict[str, Any]]) -> str:
    """Markdown table of the ladder."""
    bins = [f"{b['low']:g}-{b['high']:g}".replace("-inf", "+") for b in results[0]["bins"]]
    head = "".join(f" {name} sigma |" for name in bins)
    lines = [
        f"| rung | flux ratio | tile noise |{head}",
        "|---|---|---|" + "---|" * len(bins),
    ]
    for row in results:
        cells = "".join(
            f" {b['ratio']:.4f}, {b['pull_mean']:+.2f}, {b['pull_width']:.2f} ({b['sources']}) |"
            for b in row["bins"]
        )
        lines.append(
            f"| {row['name']} | {row['flux_ratio']:.4f} ± {row['flux_ratio_err']:.4f} | "
            f"{row['noise_ratio_median']:.2f}, {row['noise_ratio_worst']:.2f} |{cells}"
        )
    return "\n".join(lines)


def draw(results: list[dict[str, Any]], path: Path) -> None:
    """Figure of the ladder: flux ratio and pull width by rung and S/N."""
    from dsaflow.report.style import GREY, figure

    place = np.arange(len(results))
    with figure(path, 10, 4.6) as fig:
        left, middle, right = fig.subplots(1, 3, sharey=True)
        for k in range(len(results[0]["bins"])):
            rows = [row["bins"][k] for row in results]
            label = f"{rows[0]['low']:g} to {rows[0]['high']:g} sigma"
            left.plot([b["ratio"] for b in rows], place, "o-", ms=4, lw=0.8, label=label)
            middle.plot([b["pull_width"] for b in rows], place, "o-", ms=4, lw=0.8)
        right.plot([row["noise_ratio_median"] for row in results], place, "o-", ms=4, lw=0.8)
        right.plot([row["noise_ratio_worst"] for row in results], place, ".", color=GREY)
        left.legend(fontsize=7)
        left.set_xlabel("measured / true flux, median")
        middle.set_xlabel("robust width of the pulls")
        right.set_xlabel("tile noise / radiometer, median and worst")
        left.set_yticks(place, [row["name"] for row in results])
        left.invert_yaxis()
        for ax, bounds in ((left, (1, 1)), (middle, (0.9, 1.1)), (right, (1, 1.3))):
            for bound in bounds:
                ax.axvline(bound, color=GREY, lw=0.8, ls="--")
