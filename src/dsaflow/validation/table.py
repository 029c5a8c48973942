"""The truth table: skies with every effect on, from raw files to photometry, against the truth."""

import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dsaflow.config import Config
from dsaflow.fileio import write_json
from dsaflow.photometry.sources import read_mosaic
from dsaflow.validation.chain import Steps, run_nights, simulate, tile_noise_ratios
from dsaflow.validation.draws import pull_errors
from dsaflow.validation.ladder import Rung, rung_config
from dsaflow.validation.residual import residual_statistics, true_sources
from dsaflow.validation.score import join_truth, measure_places, robust_width, score

if TYPE_CHECKING:
    import pandas as pd

LOG = logging.getLogger(__name__)
EVERYTHING = Rung(
    "truth table",
    ("noise", "beam_motion", "smearing", "bandpass", "gain_drift", "dead_antennas", "rfi",
     "spoilt_catalog"),
    Steps(),
)  # fmt: skip
RESPONSES = (0.3, 0.45, 0.6, 0.75, 1.0)
INDEX_SNR = 30.0


@dataclass(frozen=True)
class Line:
    """One row of the table."""

    quantity: str
    bound: str
    measured: str
    holds: bool


def run_seed(base: Config, folder: Path, seed: int) -> Path:
    """Simulate and reduce one night of one sky; what is scored stays in the folder returned."""
    import pyarrow.parquet as pq

    place = folder / f"seed-{seed}"
    if (place / "rows.parquet").exists():
        return place
    config = rung_config(base, EVERYTHING, place, 1, seed)
    simulate(config, 1)
    (night,) = run_nights(config, EVERYTHING.steps, keep=False)
    truth = Path(config.paths.results) / "simulated"
    rows = join_truth([night.photometry], truth)
    rows = measure_places(rows, {night.folder.name: night.mosaic["image"]}, truth)
    write_json(place / "noise.json", tile_noise_ratios(night))
    left = residual_statistics(read_mosaic(night.mosaic), true_sources(truth), config.photometry)
    write_json(place / "residual.json", left)
    freq_hz = json.loads(pq.read_schema(night.photometry).metadata[b"band_freq_hz"])
    rows = rows.assign(**{f"freq_b{b}_hz": f for b, f in enumerate(freq_hz)})
    rows.to_parquet(place / "rows.parquet")
    return place


def truth_table(base: Config, folder: Path, seeds: Iterable[int]) -> list[Line]:
    """Run what is missing and put the figures beside their bounds.

    Parameters
    ----------
    base : Config
        Size of the simulation and options of the stages.
    folder : Path
        For the data; a seed's scores stay there and are not computed twice.
    seeds : iterable of int
        One sky and one night each.
    """
    import pandas as pd

    parts, noise, residual = [], [], []
    for seed in seeds:
        place = run_seed(base, folder, seed)
        parts.append(pd.read_parquet(place / "rows.parquet").assign(seed=seed))
        noise += json.loads((place / "noise.json").read_text())
        residual.append(json.loads((place / "residual.json").read_text()))
        LOG.info("seed %d: %d sources", seed, len(parts[-1]))
    rows = pd.concat(parts, ignore_index=True)
    return [
        *_flux_lines(rows), *_pull_lines(rows), *_place_lines(rows), *_noise_lines(noise, residual),
        *_trend_lines(rows), _index_line(rows), *_false_lines(residual),
    ]  # fmt: skip


def describe_table(lines: list[Line]) -> str:
    """Markdown of the table."""
    head = ["| quantity | bound | measured | |", "|---|---|---|---|"]
    rows = [
        f"| {x.quantity} | {x.bound} | {x.measured} | {'holds' if x.holds else '**not met**'} |"
        for x in lines
    ]
    return "\n".join(head + rows)


def _flux_lines(rows: "pd.DataFrame") -> list[Line]:
    found = score(rows)
    ratio, err = found["flux_ratio"], found["flux_ratio_err"]
    off = []
    for _, one in rows.groupby("seed"):
        alone = score(one)
        off.append((alone["flux_ratio"] - 1) / alone["flux_ratio_stated_err"])
    worst = float(np.max(np.abs(off)))
    return [
        Line("flux ratio, sources > 10 sigma, median", "within 1.5 %", f"{ratio:.4f} ± {err:.4f}",
             abs(ratio - 1) <= 0.015),
        Line("the same of each sky", "within 3 of its stated errors",
             f"at most {worst:.1f} of {len(off)}", worst <= 3),
    ]  # fmt: skip


def _pull_lines(rows: "pd.DataFrame") -> list[Line]:
    lines = []
    for found, errors in zip(score(rows)["bins"], pull_errors(rows), strict=True):
        high = f"-{found['high']:g}" if np.isfinite(found["high"]) else " and more"
        mean, width, (mean_err, width_err) = found["pull_mean"], found["pull_width"], errors
        # beyond chance: a bin of 100 sources knows its width to 0.1
        good = (
            abs(mean) <= 0.1 + 2 * mean_err and 0.9 - 2 * width_err <= width <= 1.1 + 2 * width_err
        )
        lines.append(
            Line(f"pull, {found['low']:g}{high} sigma", "width 0.9-1.1, mean within 0.1 (+ 2 errors)",
                 f"width {width:.2f} ± {width_err:.2f}, mean {mean:+.2f} ± {mean_err:.2f}, "
                 f"{found['sources']} sources", good)
        )  # fmt: skip
    return lines


def _place_lines(rows: "pd.DataFrame") -> list[Line]:
    place = score(rows)["place"]
    seen = rows[np.isfinite(rows["east_arcsec"])]
    ratio = [place[f"{axis}_scatter"] for axis in ("east", "north")]
    east, north = place["east_arcsec"], place["north_arcsec"]
    return [
        Line("position, scatter (68 %) of each axis", "of half a beam axis / (S/N) + 0.3\": 1",
             f"{ratio[0]:.2f} east, {ratio[1]:.2f} north, {len(seen)} sources", max(ratio) <= 1),
        Line("position, systematic", 'within 0.3"', f'{east:+.2f}" east, {north:+.2f}" north',
             max(abs(east), abs(north)) <= 0.3),
    ]  # fmt: skip


def _noise_lines(noise: list[float], residual: list[dict[str, Any]]) -> list[Line]:
    by_count: dict[str, list[float]] = {}
    for one in residual:
        for count, value in one["coverage"].items():
            by_count.setdefault(count, []).append(value)
    means = {count: float(np.mean(values)) for count, values in sorted(by_count.items())}
    said = ", ".join(f"{value:.2f} with {count}" for count, value in means.items())
    return [
        Line("tile noise over radiometer", "<= 1.3",
             f"median {np.median(noise):.2f}, worst {np.max(noise):.2f} of {len(noise)} tiles",
             float(np.max(noise)) <= 1.3),
        Line("mosaic's scatter over its noise map, by tiles", "within 10 %", said,
             max(abs(v - 1) for v in means.values()) <= 0.1),
    ]  # fmt: skip


def _trend_lines(rows: "pd.DataFrame") -> list[Line]:
    bright = rows[rows["true_snr"] > 10]
    ratio = bright["flux_jy"] / bright["scale"] / bright["true_jy"]
    said, worst = [], 0.0
    for low, high in pairwise(RESPONSES):
        inside = ratio[(bright["beam_response"] >= low) & (bright["beam_response"] < high)]
        err = 1.2533 * robust_width(inside.to_numpy()) / np.sqrt(len(inside))
        change = float(inside.median() - 1)
        said.append(f"{100 * change:+.1f} ± {100 * err:.1f}")
        worst = max(worst, abs(change) - 2 * err)
    names = ", ".join(f"{low:g}" for low in RESPONSES[:-1])
    return [
        Line(f"flux against beam's response (from {names}; %)", "no trend > 2 % (+ 2 errors)",
             ", ".join(said), worst <= 0.02)
    ]  # fmt: skip


def _index_line(rows: "pd.DataFrame") -> Line:
    """Pull of the spectral index fitted to four sub-bands against that of the true fluxes."""
    bright = rows[rows["true_snr"] > INDEX_SNR]
    bands = range(4)
    flux = np.stack([bright[f"flux_b{b}_jy"] for b in bands], axis=1)
    err = np.stack([bright[f"flux_err_b{b}_jy"] for b in bands], axis=1) / flux
    true = np.stack([bright[f"true_b{b}_jy"] for b in bands], axis=1)
    good = np.all(np.isfinite(flux) & (flux > 0) & (err < 0.2), axis=1)
    weight = 1 / err[good] ** 2
    # ratio of measured to true: the slope that is left is the index's error, in any sub-bands
    left = np.log(flux[good] / true[good])
    x = np.log(np.stack([bright[f"freq_b{b}_hz"] for b in bands], axis=1)[good])
    x = x - (weight * x).sum(1, keepdims=True) / weight.sum(1, keepdims=True)
    slope = (weight * x * left).sum(1) / (weight * x**2).sum(1)
    pull = slope * np.sqrt((weight * x**2).sum(1))
    width, width_err = robust_width(pull), 1.36 / np.sqrt(2 * len(pull))
    return Line(
        "spectral index from sub-bands, pull", "width 0.8-1.2 (+ 2 errors)",
        f"width {width:.2f} ± {width_err:.2f}, median {np.median(pull):+.2f}, {len(pull)} sources",
        bool(0.8 - 2 * width_err <= width <= 1.2 + 2 * width_err),
    )  # fmt: skip


def _false_lines(residual: list[dict[str, Any]]) -> list[Line]:
    total = {k: sum(one[k] for one in residual) for k in residual[0] if k != "coverage"}
    expected = total["tail_expected"]
    tails = [total["tail_positive"], total["tail_negative"]]
    false = [total["false_positive"], total["false_negative"]]
    return [
        Line("false sources above 5.5 sigma, positive and negative", "<= 1 over all skies",
             f"{false[0]}, {false[1]} in {total['beams']:.0f} beams", sum(false) <= 1),
        Line("beams beyond 4 sigma, positive and negative", "3 sqrt(n) of Gaussian",
             f"{tails[0]:.0f}, {tails[1]:.0f}, Gaussian {expected:.0f}",
             max(abs(t - expected) for t in tails) <= 3 * np.sqrt(max(expected, 1))),
    ]  # fmt: skip
