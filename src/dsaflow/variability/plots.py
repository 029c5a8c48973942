"""Figures: one of each candidate, and the light curves of the brightest sources."""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dsaflow.fileio import atomic_directory, atomic_file, write_json
from dsaflow.variability.candidates import SearchResult
from dsaflow.variability.curves import LightCurves
from dsaflow.variability.normalise import Normalised

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_NEIGHBOURS_SHOWN = 4
_BAND_COLOURS = ("#7b3294", "#2166ac", "#1b7837", "#d95f02", "#a6761d", "#666666")


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
) -> list[str]:
    """Draw the candidates into a directory whose ``index.json`` is written last.

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
            _draw(temporary / entry["file"], candidate, curves, normal, bands, search)
        write_json(
            temporary / "index.json", {"n_candidates": len(search.candidates), "plots": index}
        )
    return [entry["file"] for entry in index]


def _figure(width: float, height: float):
    # The object interface draws without pyplot's global state and without a display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _draw(
    path: Path,
    candidate: dict[str, Any],
    curves: LightCurves,
    normal: Normalised,
    bands: list[Normalised],
    search: SearchResult,
) -> None:
    source, bank = candidate["source"], search.bank
    if bank is None:
        raise ValueError("a candidate without a template bank")
    figure = _figure(11, 7.5)
    axes = figure.subplots(2, 2)
    start, end = candidate["start_mjd"], candidate["start_mjd"] + candidate["duration_days"]
    mjd, unit = curves.mjd, candidate["baseline_flux_jy"] / normal.level_jy[source]
    fine = np.linspace(mjd[0], mjd[-1], 2000)
    model = 1 - candidate["depth"] * bank.dip_at(candidate["template_index"], fine)
    error = np.sqrt(normal.variance[source] + candidate["excess"] ** 2) / unit
    for panel, title in ((axes[0, 0], "full curve"), (axes[0, 1], "zoom")):
        panel.axvspan(start, end, color="0.92", zorder=0)
        panel.errorbar(mjd, normal.flux[source] / unit, error, fmt="o", ms=4, color="k", capsize=2)
        panel.plot(fine, model, color="#d95f02", zorder=1.5)
        panel.set_title(title)
    margin = max(candidate["duration_days"], 2 * float(np.median(np.diff(mjd))))
    axes[0, 1].set_xlim(start - margin, end + margin)
    for k, band in enumerate(bands):
        _band_panel(axes[1, 0], mjd, band, source, k, curves.band_freq_hz[k])
    axes[1, 0].set_title(
        f"sub-bands: depth low / high = {candidate['chromatic_ratio']:.2f} "
        f"± {candidate['chromatic_ratio_err']:.2f}, {candidate['chromatic_label']}"
    )
    _neighbour_panel(axes[1, 1], mjd, normal, curves, candidate)
    for panel in axes.flat:
        panel.set_xlabel("MJD [d]")
        panel.locator_params(axis="x", nbins=5)
        panel.set_ylabel("flux / baseline")
        panel.ticklabel_format(axis="x", useOffset=False)
    figure.suptitle(
        f"{candidate['rank']}: {candidate['source_id']}  RA {candidate['ra_deg']:.4f}°, "
        f"Dec {candidate['dec_deg']:+.4f}°  "
        f"baseline {1e3 * candidate['baseline_flux_jy']:.1f} mJy\n"
        f"ln LR {candidate['log_likelihood_ratio']:.0f}, "
        f"depth ({100 * candidate['depth']:.1f} ± {100 * candidate['depth_err']:.1f}) %, "
        f"{candidate['duration_days']:.1f} d, {candidate['template']}"
        f"  {candidate['flags']}"
    )
    figure.savefig(path, dpi=100)


def _band_panel(
    panel: "Axes", mjd: np.ndarray, band: Normalised, source: int, k: int, freq_hz: float
) -> None:
    shift = 0.06 * float(np.median(np.diff(mjd))) * (k - 1.5)
    panel.errorbar(
        mjd + shift,
        band.flux[source],
        np.sqrt(band.variance[source]),
        fmt="o-",
        ms=3,
        lw=0.7,
        color=_BAND_COLOURS[k % len(_BAND_COLOURS)],
        label=f"{freq_hz / 1e6:.0f} MHz",
    )
    panel.legend(fontsize=7, ncols=2)


def _neighbour_panel(
    panel: "Axes",
    mjd: np.ndarray,
    normal: Normalised,
    curves: LightCurves,
    candidate: dict[str, Any],
) -> None:
    panel.axvspan(
        candidate["start_mjd"], candidate["start_mjd"] + candidate["duration_days"], color="0.92"
    )
    for k, other in enumerate(candidate["neighbours"][:_NEIGHBOURS_SHOWN]):
        panel.errorbar(
            mjd,
            normal.flux[other],
            np.sqrt(normal.variance[other]),
            fmt="o-",
            ms=3,
            lw=0.7,
            color=_BAND_COLOURS[k],
            label=str(curves.source_id[other]),
        )
    if len(candidate["neighbours"]):
        panel.legend(fontsize=7, ncols=2)
    panel.set_title(
        f"neighbours: depth {candidate['neighbour_depth']:.3f} ± "
        f"{candidate['neighbour_depth_err']:.3f} ({candidate['n_neighbours']})"
    )


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
    figure = _figure(11, 2 + 1.3 * ((len(chosen) + 2) // 3))
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
