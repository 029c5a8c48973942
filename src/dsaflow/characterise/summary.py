"""Tables of a characterisation: false alarms by kind, efficiency by cell, and the bounds."""

from typing import Any

import numpy as np

from dsaflow.characterise.blank import BlankSeasons
from dsaflow.characterise.grid import Cell
from dsaflow.characterise.inject import Injections
from dsaflow.characterise.rates import (
    efficiency_interval,
    lowest_level,
    rate_limits,
)
from dsaflow.simulate.seasons import KINDS

# What is asked for: false alarms per source-year of observed time.
ASKED_RATE = 1e-4
SIGMA_DEV_TRIGGER = 5.0
ASKED_OPTIMAL = 0.85
NATURAL = "strip, natural shares"
LEVELS = np.arange(4.0, 400.0, 0.1)

Row = dict[str, Any]


def samples(blank: BlankSeasons) -> dict[str, np.ndarray]:
    """Groups of event-free seasons by name: each kind, the strips' own sources, all."""
    groups = {kind: blank.kind == k for k, kind in enumerate(KINDS)}
    groups = {kind: mask for kind, mask in groups.items() if mask.any()}
    groups[NATURAL] = blank.own
    groups["all"] = np.ones(len(blank), bool)
    return groups


def choose_threshold(blank: BlankSeasons, rate: float = ASKED_RATE) -> dict[str, float]:
    """Lowest ln LR that holds the rate, for each group and ("every") for all of them at once."""
    pairs = {
        name: (blank.announced[mask], float(blank.years[mask].sum()))
        for name, mask in samples(blank).items()
    }
    result = {name: lowest_level([pair], rate, LEVELS) for name, pair in pairs.items()}
    result["every"] = lowest_level(pairs.values(), rate, LEVELS)
    return result


def false_alarm_rows(blank: BlankSeasons, threshold: float) -> list[Row]:
    """One row a group: false alarms above the threshold, and those of the old trigger."""
    rows = []
    for name, mask in samples(blank).items():
        years = float(blank.years[mask].sum())
        count, rate, limit = rate_limits(blank.announced[mask], years, np.array([threshold]))
        old, old_rate, old_limit = rate_limits(
            blank.sigma_dev[mask], years, np.array([np.nextafter(SIGMA_DEV_TRIGGER, 0)])
        )
        above = mask & (blank.announced > threshold)
        rows.append(
            {
                "sample": name,
                "n_seasons": int(mask.sum()),
                "source_years": years,
                "false_alarms": int(count[0]),
                "n_strips_with_them": len(np.unique(blank.strip[above])),
                "per_source_year": float(rate[0]),
                "upper_limit": float(limit[0]),
                "largest_ln_lr": float(blank.announced[mask].max(initial=0.0)),
                "sigma_dev_alarms": int(old[0]),
                "sigma_dev_per_source_year": float(old_rate[0]),
                "sigma_dev_upper_limit": float(old_limit[0]),
            }
        )
    return rows


def curve_rows(blank: BlankSeasons) -> list[Row]:
    """False-alarm rate against ln LR for each group, where there is any season above."""
    rows = []
    levels = LEVELS[::5]
    for name, mask in samples(blank).items():
        years = float(blank.years[mask].sum())
        count, rate, limit = rate_limits(blank.announced[mask], years, levels)
        rows += [
            {
                "sample": name,
                "ln_lr": float(level),
                "false_alarms": int(count[k]),
                "per_source_year": float(rate[k]),
                "upper_limit": float(limit[k]),
            }
            for k, level in enumerate(levels)
            if k == 0 or count[k - 1] > 0
        ]
    return rows


def efficiency_rows(events: Injections, cells: list[Cell], threshold: float) -> list[Row]:
    """One row a cell: efficiency with its interval, recovered parameters, the optimal filter."""
    rows = []
    detected = events.detected(threshold)
    old = events.sigma_dev >= SIGMA_DEV_TRIGGER
    order = np.argsort(events.cell, kind="stable")
    edges = np.searchsorted(events.cell[order], np.arange(len(cells) + 1))
    for k, cell in enumerate(cells):
        own = order[edges[k] : edges[k + 1]]
        if len(own) == 0:
            continue
        good = own[detected[own]]
        low, high = efficiency_interval(np.array([len(good)]), np.array([len(own)]))
        rows.append(
            {
                "cell": cell.name,
                "kind": cell.kind,
                "depth_low": cell.depth[0],
                "depth_high": cell.depth[1],
                "duration_low_days": cell.duration_days[0],
                "duration_high_days": cell.duration_days[1],
                "snr": cell.snr,
                "season_days": cell.season_days,
                "step_nights": cell.step_nights,
                "n_injected": len(own),
                "n_detected": len(good),
                "efficiency": len(good) / len(own),
                "efficiency_low": float(low[0]),
                "efficiency_high": float(high[0]),
                "vetoed": float(((events.ratio > threshold) & (events.announced == 0))[own].mean()),
                "sigma_dev_efficiency": float(old[own].mean()),
                **recovery(events, good),
                "target": cell.target,
            }
        )
    return rows


def recovery(events: Injections, index: np.ndarray) -> Row:
    """Bias (median) and scatter (half the central 68 %) of what was recovered; NaN below 5 events.

    ``optimal_fraction``: S/N of the search's matched filter over the optimal filter's;
    ``evidence_fraction``: sqrt(2 ln LR) over the same, which is lower where noise of the source's
    own could explain a part of the event.
    """
    start = events.found_start_mjd[index] - events.start_mjd[index]
    duration = events.duration_days[index]
    optimal = np.where(events.optimal[index] > 0, events.optimal[index], np.nan)
    ours = np.sqrt(2 * np.maximum(events.announced[index], 0))
    quantities = {
        "start_days": start,
        "start": start / duration,
        "duration": events.found_duration_days[index] / duration - 1,
        "depth": events.found_depth[index] / events.depth[index] - 1,
        "depth_pull": (events.found_depth[index] - events.depth[index])
        / events.found_depth_err[index],
        "optimal_fraction": events.snr[index] / optimal,
        "evidence_fraction": ours / optimal,
    }
    row: Row = {}
    for name, values in quantities.items():
        low, middle, high = (
            np.nanpercentile(values, (15.87, 50, 84.13)) if len(index) >= 5 else [np.nan] * 3
        )
        row[name if name.endswith("fraction") else f"{name}_bias"] = float(middle)
        row[f"{name}_scatter"] = float(0.5 * (high - low))
    return row


def bounds(alarms: list[Row], efficiencies: list[Row], threshold: float) -> list[Row]:
    """What was asked for beside what was measured."""
    by_name = {row["sample"]: row for row in alarms}
    rows = []

    def add(what: str, bound: str, measured: str, met: bool) -> None:
        rows.append({"what": what, "bound": bound, "measured": measured, "met": bool(met)})

    for name in ("all", NATURAL, *(k for k in KINDS if k in by_name)):
        row = by_name[name]
        add(
            f"false alarms per source-year, {name}",
            f"<= {ASKED_RATE:g} (upper 95 %)",
            f"{row['false_alarms']} in {row['source_years']:.0f} source-years: "
            f"{row['per_source_year']:.1e} (< {row['upper_limit']:.1e})",
            row["upper_limit"] <= ASKED_RATE,
        )
    own = by_name[NATURAL]
    add(
        "false alarms a year, 100 compact sources of a strip",
        "<= 0.01",
        f"{100 * own['per_source_year']:.4f} (< {100 * own['upper_limit']:.4f})",
        100 * own["upper_limit"] <= 0.01,
    )
    for row in efficiencies:
        if row["target"] > 0:
            add(
                f"efficiency, {row['cell']}",
                f">= {row['target']:.2f}",
                f"{row['efficiency']:.3f} ({row['efficiency_low']:.3f} to "
                f"{row['efficiency_high']:.3f}) of {row['n_injected']}; sigma_dev >= 5: "
                f"{row['sigma_dev_efficiency']:.3f}",
                row["efficiency"] >= row["target"],
            )
            add(
                f"of the optimal filter's S/N, {row['cell']}",
                f">= {ASKED_OPTIMAL}",
                f"{row['optimal_fraction']:.3f} (scatter {row['optimal_fraction_scatter']:.3f}); "
                f"sqrt(2 ln LR): {row['evidence_fraction']:.3f}",
                row["optimal_fraction"] >= ASKED_OPTIMAL,
            )
    return rows
