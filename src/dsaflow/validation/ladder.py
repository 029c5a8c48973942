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
from dsaflow.validation.score import join_truth, measure_places, score

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
_ARRAY = (*_GAINS, "dead_antennas")
_UNFLAGGED = Steps(flag=False)
RUNGS = (
    Rung("noise alone", ("noise",), Steps(flag=False, calibrate=False, track=True)),
    Rung("+ moving beam", ("noise", "beam_motion"), Steps(flag=False, calibrate=False)),
    Rung("+ smearing", _SKY, Steps(flag=False, calibrate=False)),
    Rung("+ calibration", _SKY, _UNFLAGGED),
    Rung("+ bandpass", (*_SKY, "bandpass"), _UNFLAGGED),
    Rung("+ gain drift", _GAINS, _UNFLAGGED),
    Rung("+ dead antennas, flagging", _ARRAY),
    Rung("+ interference", (*_ARRAY, "rfi")),
    Rung("+ spoilt catalogue", (*_ARRAY, "rfi", "spoilt_catalog")),
    Rung("+ far sources", (*_ARRAY, "rfi", "spoilt_catalog", "far_sources")),
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
        ``name``, what `dsaflow.validation.score.score` returns for all sources but the flux
        calibrator, ``calibrator_ratio`` (measured over true flux), ``noise_ratio_median`` and
        ``noise_ratio_worst`` of the tiles.
    """
    import pandas as pd

    results = []
    for number, rung in enumerate(RUNGS):
        if only not in rung.name:
            continue
        parts, noise = [], []
        for seed in seeds:
            place = folder / f"rung-{number:02d}" / f"seed-{seed}"
            if not (place / "rows.parquet").exists():
                _run_rung(rung_config(base, rung, place, nights, seed), rung, nights, place)
            parts.append(pd.read_parquet(place / "rows.parquet").assign(seed=seed))
            noise += json.loads((place / "noise.json").read_text())
        rows = pd.concat(parts)
        # at S/N 3000 it would make a class of its own: what is left of it is no matter of noise
        calibrator = rows["kind"] == "calibrator"
        scored = {"name": rung.name, **score(rows[~calibrator])}
        ratio = (rows["flux_jy"] / rows["true_jy"])[calibrator]
        scored |= {
            "calibrator_ratio": float(np.median(ratio)) if len(ratio) else float("nan"),
            "noise_ratio_median": float(np.median(noise)),
            "noise_ratio_worst": float(np.max(noise)),
        }
        LOG.info("%s: %s", rung.name, scored)
        results.append(scored)
    return results


def _run_rung(config: Config, rung: Rung, nights: int, place: Path) -> None:
    """Simulate and reduce some nights; leave their rows beside the truth, and the tiles' noise."""
    simulate(config, nights)
    done = run_nights(config, rung.steps)
    truth = Path(config.paths.results) / "simulated"
    table = join_truth([night.photometry for night in done], truth)
    table = measure_places(
        table, {night.folder.name: night.mosaic["image"] for night in done}, truth
    )
    write_json(place / "noise.json", np.concatenate([tile_noise_ratios(n) for n in done]))
    table.to_parquet(place / "rows.parquet")


def wide(results: list[dict[str, Any]], limit: float = 1.1) -> list[str]:
    """Where the pulls get wide: the first rung of each bin of S/N, by more than twice its error."""
    lines = []
    for k, bounds in enumerate(results[0]["bins"]):
        for row in results:
            found = row["bins"][k]
            if found["pull_width"] - 2 * found["pull_width_err"] > limit:
                lines.append(
                    f"{_bin(bounds)} sigma: {found['pull_width']:.2f} ± "
                    f"{found['pull_width_err']:.2f} from '{row['name']}' on"
                )
                break
    return lines


def _bin(bounds: dict[str, Any]) -> str:
    low, high = bounds["low"], bounds["high"]
    return f"{low:g}-{high:g}" if np.isfinite(high) else f"> {low:g}"


def describe(results: list[dict[str, Any]]) -> str:
    """Markdown table of the ladder."""
    bins = [_bin(b) for b in results[0]["bins"]]
    head = "".join(f" {name} sigma |" for name in bins)
    lines = [
        f"| rung | flux ratio (± chance, stated) | calibrator | tile noise | offset east, north; scatter |{head}",
        "|---|---|---|---|---|" + "---|" * len(bins),
    ]
    for row in results:
        place = row["place"]
        cells = "".join(
            f" {b['ratio']:.3f}, {b['pull_mean']:+.2f}, {b['pull_width']:.2f} ± "
            f"{b['pull_width_err']:.2f} ({b['sources']}) |"
            for b in row["bins"]
        )
        lines.append(
            f"| {row['name']} | {row['flux_ratio']:.4f} ± {row['flux_ratio_err']:.4f}, "
            f"{row['flux_ratio_stated_err']:.4f} | {row['calibrator_ratio']:.4f} | "
            f"{row['noise_ratio_median']:.2f}, {row['noise_ratio_worst']:.2f} | "
            f'{place["east_arcsec"]:+.2f}", {place["north_arcsec"]:+.2f}"; '
            f"{place['east_scatter']:.2f}, {place['north_scatter']:.2f} |{cells}"
        )
    return "\n".join(lines)


def draw(results: list[dict[str, Any]], path: Path) -> None:
    """Figure of the ladder: flux ratio, pull width by S/N and tile noise on each rung."""
    from matplotlib.ticker import LogLocator, NullLocator, ScalarFormatter

    from dsaflow.report.style import GREY, figure

    rungs = np.arange(len(results))
    with figure(path, 8, 8) as fig:
        top, middle, low = fig.subplots(3, 1, sharex=True, height_ratios=(3, 4, 3))
        ratio = [row["flux_ratio"] for row in results]
        stated = [row["flux_ratio_stated_err"] for row in results]
        top.errorbar(rungs, ratio, stated, fmt="none", ecolor=GREY, lw=4, alpha=0.4)
        top.errorbar(rungs, ratio, [row["flux_ratio_err"] for row in results], fmt="o", ms=4)
        top.set_ylabel("measured / true flux\n(stated and chance error)")
        for k, bounds in enumerate(results[0]["bins"]):
            cells = [row["bins"][k] for row in results]
            width, error = ([c[key] for c in cells] for key in ("pull_width", "pull_width_err"))
            # side by side, so that the error bars can be told apart
            middle.errorbar(
                rungs + 0.12 * (k - 1.5), width, error, fmt="o", ms=4, lw=1, label=_bin(bounds)
            )
        middle.set_ylabel("robust width of the pulls")
        middle.legend(title="S/N", fontsize=8, ncols=4, loc="upper left")
        low.plot(rungs, [row["noise_ratio_median"] for row in results], "o", ms=4, label="median")
        low.plot(rungs, [row["noise_ratio_worst"] for row in results], "x", ms=5, label="worst")
        low.set_ylabel("tile noise / radiometer")
        low.legend(fontsize=8, ncols=2, loc="upper left")
        low.set_xticks(rungs, [row["name"] for row in results], rotation=30, ha="right")
        # what is wide is wide by factors
        middle.set_yscale("log")
        middle.yaxis.set_major_locator(LogLocator(subs=(1, 1.2, 1.5, 2, 3, 5, 7, 8.5)))
        middle.yaxis.set_major_formatter(ScalarFormatter())
        middle.yaxis.set_minor_locator(NullLocator())
        for ax, bounds in ((top, (0.985, 1.015)), (middle, (0.9, 1.1)), (low, (1.0, 1.3))):
            ax.axhspan(*bounds, color=GREY, alpha=0.15, lw=0)
        bottom, height = middle.get_ylim()
        middle.set_ylim(bottom, height * (height / bottom) ** 0.25)  # the legend's room
