"""Figures: one of each candidate, and the light curves of the brightest sources."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from dsaflow.fileio import atomic_directory, atomic_file, write_json
from dsaflow.variability.candidateplot import draw_candidate, figure_of
from dsaflow.variability.candidates import SearchResult
from dsaflow.variability.curves import LightCurves
from dsaflow.variability.cutouts import event_cutouts
from dsaflow.variability.normalise import Normalised
from dsaflow.variability.searchplot import draw_search

# The list as a figure, beside the candidates' own.
SEARCH_PLOT = "search.png"


def plot_name(rank: int, source_id: str) -> str:
    """File name of a candidate's plot."""
    return f"{rank:03d}_{re.sub(r'[^A-Za-z0-9+.-]', '_', source_id)}.png"


def write_candidate_plots(
    directory: str | os.PathLike,
    curves: LightCurves,
    normal: Normalised,
    bands: list[Normalised],
    search: SearchResult,
    max_plots: int,
    mosaics: Mapping[str, Path] | None = None,
) -> list[str]:
    """Draw the candidates into a directory whose ``index.json`` is written last.

    Parameters
    ----------
    mosaics : mapping, optional
        Mosaic images by group_id, for cut-outs.

    Returns
    -------
    list of str
        File names, by rank; empty where there is no candidate.
    """
    shown = search.candidates[:max_plots]
    index = [
        {
            "rank": c["rank"],
            "source_id": c["source_id"],
            "file": plot_name(c["rank"], c["source_id"]),
        }
        for c in shown
    ]
    with atomic_directory(directory) as temporary:
        temporary.mkdir(parents=True)
        for candidate, entry in zip(shown, index, strict=True):
            if search.false_alarms is None:
                raise ValueError("a candidate without a search")
            where = candidate["mid_mjd"], candidate["duration_days"]
            draw_candidate(
                temporary / entry["file"],
                candidate,
                curves,
                normal,
                bands,
                event_cutouts(candidate["source"], curves, mosaics or {}, *where),
                search.false_alarms.threshold,
            )
        draw_search(temporary / SEARCH_PLOT, search, curves.strip)
        write_json(
            temporary / "index.json", {"n_candidates": len(search.candidates), "plots": index}
        )
    return [entry["file"] for entry in index]


def draw_light_curves(
    light_curves_path: str | os.PathLike, path: str | os.PathLike, number: int = 12
) -> None:
    """Draw the light curves with the largest eta-like scatter and the brightest, for the report.

    Half of the panels are the sources of largest reduced chi-squared, half the brightest others.

    Parameters
    ----------
    light_curves_path : path
        ``light_curves.parquet``.
    path : path
        PNG to write.
    number : int
        Panels.
    """
    import pyarrow.parquet as pq

    from dsaflow.variability.curves import nan_median
    from dsaflow.variability.metrics import weighted_eta

    table = pq.read_table(
        light_curves_path, columns=["source_id", "mjd", "flux_jy", "scale", "norm_flux", "norm_err"]
    )
    source_id, index = np.unique(table["source_id"].to_numpy().astype(str), return_inverse=True)
    place = np.zeros(len(index), int)
    order = np.argsort(index, kind="stable")
    counts = np.bincount(index, minlength=len(source_id))
    place[order] = np.concatenate([np.arange(c) for c in counts]) if len(counts) else place
    grids = {}
    for name in ("mjd", "flux_jy", "norm_flux", "norm_err"):
        grids[name] = np.full((len(source_id), counts.max(initial=0)), np.nan)
        grids[name][index, place] = table[name].to_numpy()
    eta = np.nan_to_num(weighted_eta(grids["norm_flux"], grids["norm_err"]))
    flux = np.nan_to_num(nan_median(grids["flux_jy"]))
    first = np.argsort(-eta, kind="stable")[: number // 2]
    rest = [k for k in np.argsort(-flux, kind="stable") if k not in first]
    chosen = [*first, *rest[: number - len(first)]]
    figure = figure_of(11, 2 + 1.3 * ((len(chosen) + 2) // 3))
    if not chosen:
        figure.text(0.5, 0.5, "no measurement", ha="center")
    else:
        panels = figure.subplots((len(chosen) + 2) // 3, 3, sharex=True, squeeze=False).flat
        for panel, k in zip(panels, chosen, strict=False):
            panel.errorbar(
                grids["mjd"][k],
                grids["norm_flux"][k],
                grids["norm_err"][k],
                fmt="o",
                ms=3,
                color="k",
            )
            panel.axhline(1, color="0.7", lw=0.7)
            panel.set_title(f"{source_id[k]}  {1e3 * flux[k]:.1f} mJy  η {eta[k]:.1f}", fontsize=8)
            panel.tick_params(labelsize=7)
            panel.ticklabel_format(axis="x", useOffset=False)
        figure.supxlabel("MJD [d]")
        for panel in figure.axes:
            panel.locator_params(axis="x", nbins=4)
        figure.supylabel("flux / scale / median")
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=100, format="png")
