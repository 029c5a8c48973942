"""The list of candidates as a figure: false alarms expected against sources found, and each chance."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dsaflow.variability.candidateplot import figure_of, rate, share
from dsaflow.variability.candidates import SearchResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LISTED = 15
_HEADINGS = (
    "",
    "source",
    "ln LR",
    "false alarms\na source-year",
    "q",
    "P(real)",
    "efficiency",
    "colour",
)
_WIDTHS = (0.04, 0.19, 0.09, 0.15, 0.11, 0.11, 0.15, 0.16)


def draw_search(path: Path, search: SearchResult, strip: str) -> None:
    """Draw how many sources lie above each ln LR, how many would by chance, and the candidates.

    Parameters
    ----------
    path : Path
        PNG to write.
    search : SearchResult
    strip : str
    """
    figure = figure_of(13, 5)
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.6))
    if search.false_alarms is None:
        figure.suptitle(f"strip {strip}: too few epochs or sources to search")
        left.set_axis_off()
        right.set_axis_off()
    else:
        _rates(left, search)
        _list(right, search.candidates)
        figure.suptitle(_summary(search, strip), fontsize=11)
    figure.savefig(path, dpi=100)


def _summary(search: SearchResult, strip: str) -> str:
    alarms = search.false_alarms
    if alarms is None:
        raise ValueError("no search to summarise")
    threshold = np.array(alarms.threshold)
    return (
        f"strip {strip}: {int(search.searched.sum())} sources searched, {len(search.candidates)} above ln LR "
        f"{alarms.threshold:.1f}, in {alarms.source_years:.1f} source-years\n"
        f"false alarms expected above that: {float(alarms.expected(threshold)):.2g} in this survey, "
        f"{float(alarms.per_source_year(threshold)):.2g} a source-year"
    )


def _rates(panel: "Axes", search: SearchResult) -> None:
    """Cumulative counts of events that no rule vetoes, and of the false ones expected."""
    alarms, events = search.false_alarms, search.events
    if alarms is None:
        return
    found = events.log_likelihood_ratio[
        search.searched
        & (events.veto == 0)
        & (search.veto == "")
        & (events.log_likelihood_ratio > 0)
    ]
    top = max(1.3 * alarms.threshold, 1.1 * found.max(initial=0.0))
    ratio = np.linspace(1, top, 400)
    low, high = alarms.interval(ratio)
    panel.fill_between(ratio, low, high, color="0.85", label="5 to 95 % of it")
    panel.plot(ratio, alarms.expected(ratio), color="0.3", label="false alarms expected")
    order = np.sort(found)[::-1]
    panel.step(
        order, np.arange(1, len(order) + 1), where="post", color="#2166ac", label="sources found"
    )
    above = order[order > alarms.threshold]
    panel.plot(above, np.arange(1, len(above) + 1), "o", color="#d95f02", label="candidates")
    panel.axvline(alarms.threshold, color="k", lw=0.8, ls="--")
    panel.set_yscale("log")
    panel.set_ylim(1e-4, 2 * max(len(search.searched), 10))
    panel.set_xlim(0, top)
    panel.set_xlabel("ln LR")
    panel.set_ylabel("sources above it")
    panel.legend(fontsize=8)


def _list(panel: "Axes", candidates: list[dict[str, Any]]) -> None:
    panel.set_axis_off()
    if not candidates:
        panel.text(0.5, 0.5, "no candidate", ha="center", va="center", fontsize=12)
        return
    rows = [
        (
            str(c["rank"]),
            c["source_id"],
            f"{c['log_likelihood_ratio']:.1f}",
            rate(c["false_alarms_per_source_year"]),
            rate(c["q_value"]),
            share(c["probability_real"]),
            _efficiency(c),
            c["chromatic_label"],
        )
        for c in candidates[:_LISTED]
    ]
    table = panel.table(
        rows,
        colLabels=_HEADINGS,
        colWidths=_WIDTHS,
        loc="upper left",
        edges="horizontal",
        cellLoc="center",
    )
    table.auto_set_font_size(False)
    table.set_fontsize(8)
    table.scale(1, 1.5)
    for column in range(len(_HEADINGS)):
        table[0, column].set_height(2 * table[1, column].get_height())
    if len(candidates) > _LISTED:
        panel.set_title(f"the first {_LISTED} of {len(candidates)}", fontsize=9)


def _efficiency(candidate: dict[str, Any]) -> str:
    if not np.isfinite(candidate["efficiency"]):
        return "not known"
    return f"{candidate['efficiency']:.2f} ({candidate['efficiency_low']:.2f}-{candidate['efficiency_high']:.2f})"
