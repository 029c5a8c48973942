"""Figures of a characterisation, drawn from its tables."""

from pathlib import Path
from typing import Any

import numpy as np

from dsaflow.characterise.summary import ASKED_OPTIMAL, ASKED_RATE, NATURAL
from dsaflow.characterise.tables import read_columns
from dsaflow.fileio import read_json
from dsaflow.report.style import GREY, RED, figure, note

FIGURES = ("false_alarms.png", "efficiency.png", "recovery.png", "scintillators.png")

Table = dict[str, np.ndarray]


def draw_all(folder: Path) -> None:
    """Draw every figure of `FIGURES` beside the tables that `run.characterise` wrote."""
    threshold = float(read_json(folder / "ese.json")["threshold_ln_lr"])
    draw_false_alarms(
        read_columns(folder / "false_alarm_curve.parquet"), threshold, folder / "false_alarms.png"
    )
    cells = read_columns(folder / "efficiency.parquet")
    draw_efficiency(cells, folder / "efficiency.png")
    draw_recovery(read_columns(folder / "injections.parquet"), threshold, folder / "recovery.png")
    draw_scintillators(cells, folder / "scintillators.png")


def _colours(number: int) -> list[Any]:
    import matplotlib

    return [matplotlib.colormaps["viridis"](x) for x in np.linspace(0, 0.9, max(number, 1))]


def draw_false_alarms(curve: Table, threshold: float, path: Path) -> None:
    """False alarms per source-year above each ln LR, by kind of source."""
    with figure(path, 8, 5) as fig:
        axes = fig.add_subplot()
        names = list(dict.fromkeys(curve["sample"]))
        for name, colour in zip(names, _colours(len(names)), strict=True):
            own = (curve["sample"] == name) & (curve["false_alarms"] > 0)
            bold = name in ("all", NATURAL)
            axes.step(
                curve["ln_lr"][own],
                curve["per_source_year"][own],
                where="post",
                color=RED if bold else colour,
                ls="--" if name == "all" else "-",
                lw=2 if bold else 1,
                label=name,
            )
        axes.axhline(ASKED_RATE, color=GREY, ls=":")
        axes.axvline(threshold, color=GREY, ls=":")
        axes.set(xscale="log", yscale="log", xlabel="ln LR", ylabel="false alarms per source-year")
        axes.legend(fontsize=7, ncols=2)


def draw_efficiency(cells: Table, path: Path) -> None:
    """Efficiency over depth and duration, a panel for each S/N and season."""
    with figure(path, 10, 9) as fig:
        grid = cells["cell"] == "grid" if cells else np.zeros(0, bool)
        if not grid.any():
            note(fig, "no grid was injected")
            return
        rows = sorted({(d, s) for d, s in zip(
            cells["season_days"][grid], cells["step_nights"][grid], strict=True)})  # fmt: skip
        snrs = np.unique(cells["snr"][grid])
        panels = fig.subplots(len(rows), len(snrs), squeeze=False, sharex=True, sharey=True)
        durations = np.unique(cells["duration_low_days"][grid])
        depths = np.unique(cells["depth_low"][grid])
        for r, (days, step) in enumerate(rows):
            for c, snr in enumerate(snrs):
                own = grid & (cells["season_days"] == days) & (cells["step_nights"] == step)
                own &= cells["snr"] == snr
                image = np.full((len(depths), len(durations)), np.nan)
                y = np.searchsorted(depths, cells["depth_low"][own])
                x = np.searchsorted(durations, cells["duration_low_days"][own])
                image[y, x] = cells["efficiency"][own]
                axes = panels[r, c]
                shown = axes.imshow(image, vmin=0, vmax=1, aspect="auto", cmap="viridis")
                axes.set_xticks(range(len(durations)), [f"{d:g}" for d in durations])
                axes.set_yticks(range(len(depths)), [f"{100 * d:g}" for d in depths])
                axes.set_title(f"{days} d, every {step} d, S/N {snr:g}", fontsize=8)
        fig.supxlabel("duration [d]")
        fig.supylabel("depth [%]")
        fig.colorbar(shown, ax=panels, label="detection efficiency")


def draw_recovery(events: Table, threshold: float, path: Path) -> None:
    """Errors of the recovered start, duration and depth, and the share of the optimal S/N."""
    good = events["matched"] & (events["announced"] > threshold)
    with figure(path, 9, 6) as fig:
        if good.sum() < 10:
            note(fig, "hardly any event was found")
            return
        e = {name: values[good] for name, values in events.items()}
        ours = np.sqrt(2 * e["announced"])
        optimal = np.where(e["optimal"] > 0, e["optimal"], np.nan)
        panels = [
            ("start: found less true [durations]",
             (e["found_start_mjd"] - e["start_mjd"]) / e["duration_days"], 0.5),
            ("duration: found / true - 1", e["found_duration_days"] / e["duration_days"] - 1, 1.0),
            ("depth: found / true - 1", e["found_depth"] / e["depth"] - 1, 0.6),
            ("matched S/N over the optimal filter's", e["snr"] / optimal - ASKED_OPTIMAL, 0.5),
        ]  # fmt: skip
        for k, (label, values, reach) in enumerate(panels):
            axes = fig.add_subplot(2, 2, k + 1)
            offset = ASKED_OPTIMAL if k == 3 else 0.0
            edges = np.quantile(ours, np.linspace(0, 1, 11))
            middle = np.sqrt(edges[:-1] * edges[1:])
            bins = np.clip(np.searchsorted(edges, ours) - 1, 0, 9)
            marks = np.array(
                [np.nanpercentile(values[bins == b], (15.87, 50, 84.13)) for b in range(10)]
            )
            axes.fill_between(middle, marks[:, 0] + offset, marks[:, 2] + offset, alpha=0.3)
            axes.plot(middle, marks[:, 1] + offset, "o-", ms=3)
            axes.axhline(offset, color=GREY, ls=":")
            axes.set(
                xscale="log", ylim=(offset - reach, offset + reach), title=label,
                xlabel="sqrt(2 ln LR)",
            )  # fmt: skip


def draw_scintillators(cells: Table, path: Path) -> None:
    """Efficiency against the scintillators' correlation time, ours and the old trigger's."""
    with figure(path, 6, 4) as fig:
        own = cells["cell"] == "scintillator" if cells else np.zeros(0, bool)
        if not own.any():
            note(fig, "no scintillator was injected")
            return
        axes = fig.add_subplot()
        days = np.array([float(k.split("_")[1].rstrip("d")) for k in cells["kind"][own]])
        depths = np.unique(cells["depth_low"][own])
        for depth, colour in zip(depths, _colours(len(depths)), strict=True):
            at = cells["depth_low"][own] == depth
            low, value, high, old = (
                cells[name][own][at]
                for name in
                ("efficiency_low", "efficiency", "efficiency_high", "sigma_dev_efficiency")
            )  # fmt: skip
            axes.errorbar(
                days[at], value, np.maximum([value - low, high - value], 0), fmt="o-", color=colour,
                label=f"{100 * depth:g} % deep",
            )  # fmt: skip
            axes.plot(days[at], old, ":", color=colour)
        axes.set(
            xscale="log", ylim=(-0.02, 1.02), xlabel="correlation time [d]",
            ylabel="efficiency (dotted: max|f - mean| / std >= 5)",
        )  # fmt: skip
        axes.legend(fontsize=7)
