"""One figure a candidate, by which an astronomer can judge it at a glance."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dsaflow.variability.curves import LightCurves
from dsaflow.variability.cutouts import Cutout
from dsaflow.variability.normalise import Normalised
from dsaflow.variability.templates import Shape

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_NEIGHBOURS_SHOWN = 4
_BAND_COLOURS = ("#7b3294", "#2166ac", "#1b7837", "#d95f02", "#a6761d", "#666666")
_FIT, _EVENT = "#d95f02", "#fdebd9"
_EMPTY = "no mosaics at hand"


def figure_of(width: float, height: float):
    """Empty figure; the object interface draws without pyplot's global state and a display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def draw_candidate(
    path: Path,
    candidate: dict[str, Any],
    curves: LightCurves,
    normal: Normalised,
    bands: list[Normalised],
    cutouts: list[Cutout],
    threshold: float,
) -> None:
    """Draw the whole curve, the event, its colour, the neighbours, cut-outs, and what was measured.

    Parameters
    ----------
    candidate : dict
        As `describe` gives it, with its rank and chances.
    threshold : float
        ln LR that a candidate must exceed.
    """
    figure, shape = figure_of(13, 9.5), candidate["shape"]
    grid = figure.add_gridspec(3, 12, height_ratios=(1, 1.1, 1))
    _curve_panel(figure.add_subplot(grid[0, :8]), candidate, curves, normal, shape, zoom=False)
    _text_panel(figure.add_subplot(grid[0, 8:]), candidate, threshold)
    _curve_panel(figure.add_subplot(grid[1, :4]), candidate, curves, normal, shape, zoom=True)
    _band_panel(figure.add_subplot(grid[1, 4:8]), candidate, curves, bands, shape)
    _colour_panel(figure.add_subplot(grid[1, 8:]), candidate, curves.band_freq_hz)
    _neighbour_panel(figure.add_subplot(grid[2, :4]), candidate, curves, normal)
    if cutouts:
        scale = max(candidate["baseline_flux_jy"], 1e-6)
        for k, cutout in enumerate(cutouts[:4]):
            panel = figure.add_subplot(grid[2, 4 + 2 * k : 6 + 2 * k])
            _cutout_panel(panel, cutout, candidate["source"], curves, scale)
    else:
        panel = figure.add_subplot(grid[2, 4:])
        panel.text(0.5, 0.5, _EMPTY, ha="center", va="center", color="0.5")
        panel.set_axis_off()
    figure.suptitle(
        f"#{candidate['rank']}  {candidate['source_id']}   RA {candidate['ra_deg']:.4f}°  "
        f"Dec {candidate['dec_deg']:+.4f}°   baseline {1e3 * candidate['baseline_flux_jy']:.1f} mJy   "
        f"{candidate['chromatic_label']}",
        fontsize=13,
    )
    figure.savefig(path, dpi=100)


def _span(candidate: dict[str, Any]) -> tuple[float, float]:
    return candidate["start_mjd"], candidate["start_mjd"] + candidate["duration_days"]


def _zoom(candidate: dict[str, Any], mjd: np.ndarray) -> tuple[float, float]:
    start, end = _span(candidate)
    margin = max(1.2 * candidate["duration_days"], 3 * float(np.median(np.diff(mjd))))
    return max(start - margin, mjd[0] - 1), min(end + margin, mjd[-1] + 1)


def _model(candidate: dict[str, Any], shape: Shape, mjd: np.ndarray) -> np.ndarray:
    phase = (mjd - candidate["mid_mjd"]) / candidate["duration_days"]
    return 1 - candidate["depth"] * shape(phase)


def _dress(panel: "Axes", candidate: dict[str, Any], title: str) -> None:
    panel.axvspan(*_span(candidate), color=_EVENT, zorder=0)
    panel.set_title(title, fontsize=9)
    panel.set_xlabel("MJD [d]", fontsize=8)
    panel.tick_params(labelsize=8)
    panel.locator_params(axis="x", nbins=5)
    panel.ticklabel_format(axis="x", useOffset=False)


def _errors(
    panel: "Axes",
    mjd: np.ndarray,
    flux: np.ndarray,
    variance: np.ndarray,
    colour: str,
    line: str = "o",
) -> None:
    panel.errorbar(mjd, flux, np.sqrt(variance), fmt=line, ms=2.5, lw=0.7, color=colour)


def _label(panel: "Axes", text: str, low: float, high: float, y: float, colour: str) -> None:
    """Name of a curve left of it, in room made for that."""
    room = 0.34 * (high - low)
    panel.set_xlim(low - room, high)
    panel.annotate(
        text, (low - room, y), (3, 0), textcoords="offset points", va="center", fontsize=7,
        color=colour,
    )  # fmt: skip


def share(value: float) -> str:
    """A probability in words that never say 1."""
    return "> 0.999" if value > 0.999 else f"{value:.3g}"


def rate(value: float) -> str:
    """A rate; extrapolated beyond what any calibration has counted it is only called small."""
    return "< 1e-6" if value < 1e-6 else f"{value:.2g}"


def _number(value: float, error: float) -> str:
    """Value with its error to two digits of it, e.g. ``5.13 ± 0.02``."""
    if not (np.isfinite(error) and error > 0):
        return f"{value:.3g} ± ?"
    digits = int(np.clip(1 - np.floor(np.log10(error)), 0, 6))
    return f"{value:.{digits}f} ± {error:.{digits}f}"


def _curve_panel(
    panel: "Axes",
    candidate: dict[str, Any],
    curves: LightCurves,
    normal: Normalised,
    shape: Shape,
    zoom: bool,
) -> None:
    """Measured curve with baseline and template; hollow where quality or the scale is in doubt."""
    source, mjd = candidate["source"], curves.mjd
    unit = candidate["baseline_flux_jy"] / normal.level_jy[source]
    flux = normal.flux[source] / unit
    error = np.sqrt(normal.variance[source] + candidate["excess"] ** 2) / unit
    doubt = (curves.rows["qa"][curves.row[source]] == "warn") | ~normal.scale.measured
    size = 5 if zoom else 4 if len(mjd) < 100 else 2.5
    panel.axhline(1, color="0.6", lw=0.8, ls="--", zorder=1)
    for chosen, face in ((~doubt, "k"), (doubt, "w")):
        panel.errorbar(
            mjd[chosen],
            flux[chosen],
            error[chosen],
            fmt="o",
            ms=size,
            mfc=face,
            color="k",
            lw=0.8,
            zorder=2,
        )
    low, high = _zoom(candidate, mjd) if zoom else (mjd[0], mjd[-1])
    fine = np.linspace(low, high, 2000)
    panel.plot(fine, _model(candidate, shape, fine), color=_FIT, lw=1.6, zorder=3)
    if zoom:
        panel.set_xlim(low, high)
    shown = "fitted lens" if candidate["fitted_with"] == "lens" else candidate["template"]
    _dress(panel, candidate, f"event and {shown}" if zoom else "all epochs")
    panel.set_ylabel("flux / baseline", fontsize=8)
    if not zoom and doubt.any():
        panel.plot([], [], "o", mfc="w", color="k", ms=4, label="quality warning or scale unknown")
        panel.legend(fontsize=7, loc="best")


def _band_panel(
    panel: "Axes",
    candidate: dict[str, Any],
    curves: LightCurves,
    bands: list[Normalised],
    shape: Shape,
) -> None:
    """Sub-bands one below the other, each with the template at its own depth."""
    source, mjd = candidate["source"], curves.mjd
    low, high = _zoom(candidate, mjd)
    fine = np.linspace(low, high, 1000)
    shown = (mjd >= low) & (mjd <= high)
    step = max(0.6 * candidate["depth"], 0.02)
    for k, band in enumerate(bands):
        depth, colour = candidate["band_depth"][k], _BAND_COLOURS[k % len(_BAND_COLOURS)]
        depth = depth if np.isfinite(depth) else 0.0
        flux, variance = band.flux[source], band.variance[source]
        model = 1 - depth * shape((mjd - candidate["mid_mjd"]) / candidate["duration_days"])
        level = np.nansum(flux * model / variance) / max(np.nansum(model**2 / variance), 1e-300)
        level = level if level > 0 else 1.0
        shift = -k * step
        _errors(panel, mjd[shown], flux[shown] / level + shift, variance[shown] / level**2, colour)
        dip = shape((fine - candidate["mid_mjd"]) / candidate["duration_days"])
        panel.plot(fine, 1 + shift - depth * dip, color=colour, lw=1)
        _label(panel, f"{curves.band_freq_hz[k] / 1e6:.0f} MHz", low, high, 1 + shift, colour)
    _dress(panel, candidate, "sub-bands, shifted")


def _colour_panel(panel: "Axes", candidate: dict[str, Any], freq_hz: np.ndarray) -> None:
    """Depth by sub-band against what a lens and an achromatic event would have."""
    colour, place = candidate["colour"], freq_hz / 1e6
    panel.errorbar(place, colour.depth, colour.depth_err, fmt="o", color="k", zorder=3)
    if len(colour.lens_depth):
        panel.plot(place, colour.lens_depth, "-", color="#2166ac", label="plasma lens")
        panel.plot(place, colour.achromatic_depth, "--", color="0.5", label="achromatic")
        panel.legend(fontsize=7)
    panel.set_xlabel("MHz", fontsize=8)
    panel.set_ylabel("depth", fontsize=8)
    panel.tick_params(labelsize=8)
    panel.set_title(
        f"colour: ln LR lens/achromatic {colour.log_ratio:+.1f}\n(a lens would give "
        f"{colour.expected_lens:+.1f} ± {np.sqrt(2 * abs(colour.expected_lens)):.1f}, achromatic "
        f"{colour.expected_achromatic:+.1f} ± {np.sqrt(2 * abs(colour.expected_achromatic)):.1f})",
        fontsize=8,
    )


def _neighbour_panel(
    panel: "Axes", candidate: dict[str, Any], curves: LightCurves, normal: Normalised
) -> None:
    """Nearest neighbours one below the other on the candidate's own scale of depth."""
    mjd, step = curves.mjd, max(0.6 * candidate["depth"], 0.02)
    low, high = _zoom(candidate, mjd)
    shown = (mjd >= low) & (mjd <= high)
    for k, other in enumerate(candidate["neighbours"][:_NEIGHBOURS_SHOWN]):
        flux, colour = normal.flux[other][shown] - k * step, _BAND_COLOURS[k]
        _errors(panel, mjd[shown], flux, normal.variance[other][shown], colour, line="o-")
        _label(panel, str(curves.source_id[other]), low, high, 1 - k * step, colour)
    _dress(
        panel,
        candidate,
        f"neighbours, shifted: depth {candidate['neighbour_depth']:.3f} ± "
        f"{candidate['neighbour_depth_err']:.3f} (mean of {candidate['n_neighbours']})",
    )


def _cutout_panel(
    panel: "Axes", cutout: Cutout, source: int, curves: LightCurves, scale_jy: float
) -> None:
    """One cut-out; all of a candidate have the same grey scale, from below 0 to the baseline."""
    from matplotlib.patches import Ellipse

    half = 30 * cutout.width_deg  # arcminutes
    panel.imshow(
        cutout.image,
        origin="lower",
        cmap="gray_r",
        vmin=-0.1 * scale_jy,
        vmax=scale_jy,
        extent=(half, -half, -half, half),
        interpolation="nearest",
    )
    major, minor, angle = cutout.beam_deg
    # the axis runs east to the left: position angle north through east turns with it
    panel.add_patch(
        Ellipse(
            (0.75 * half, -0.75 * half), 60 * minor, 60 * major, angle=-angle, fc="none", ec="b"
        )
    )
    inner, outer = 0.25 * half, 0.5 * half
    panel.plot([inner, outer], [0, 0], [0, 0], [inner, outer], color="r", lw=1)
    flux = 1e3 * curves.flux_jy[source, cutout.epoch]
    error = 1e3 * curves.flux_err_jy[source, cutout.epoch]
    inside = cutout.when == "in"
    panel.set_title(
        f"{'in event' if inside else cutout.when}: MJD {curves.mjd[cutout.epoch]:.1f}\n"
        f"{flux:.1f} ± {error:.1f} mJy",
        fontsize=8,
        color="#b34700" if inside else "k",
    )
    panel.tick_params(labelsize=7)
    panel.set_xlabel("arcmin", fontsize=7)


def _text_panel(panel: "Axes", candidate: dict[str, Any], threshold: float) -> None:
    """What was measured, in lines."""
    panel.set_axis_off()
    panel.text(
        0.0, 1.0, "\n".join(_lines(candidate, threshold)), va="top", fontsize=10, linespacing=1.4,
        transform=panel.transAxes,
    )  # fmt: skip


def _lines(c: dict[str, Any], threshold: float) -> list[str]:
    chance = f"q {rate(c['q_value'])}, probability of being real {share(c['probability_real'])}"
    efficiency = "efficiency for such events not known"
    if np.isfinite(c["efficiency"]):
        efficiency = (
            f"efficiency for such events {c['efficiency']:.2f} "
            f"({c['efficiency_low']:.2f} to {c['efficiency_high']:.2f})"
        )
    lines = [
        f"ln LR {c['log_likelihood_ratio']:.1f}  (threshold {threshold:.1f})",
        f"false alarms {rate(c['false_alarms_per_source_year'])} a source-year, "
        f"{rate(c['false_alarms_per_survey'])} a survey",
        chance,
        efficiency,
        f"depth ({_number(100 * c['depth'], 100 * c['depth_err'])}) %",
        f"duration {_number(c['duration_days'], c['duration_err_days'])} d from MJD "
        f"{_number(c['start_mjd'], c['start_err_days'])}",
        f"{c['n_epochs_event']} epochs in the event ({c['n_warned']} warned), largest share "
        f"{100 * c['largest_contribution']:.0f} %",
    ]
    if np.isfinite(c["lens_strength"]):
        crossing = _number(c["lens_crossing_days"], c["lens_crossing_err_days"])
        lines += [
            f"lens: strength {_number(c['lens_strength'], c['lens_strength_err'])}, its radius",
            f"    crossed in {crossing} d",
        ]
    if np.isfinite(c["beam_response_event"]):
        lines.append(
            f"beam response {c['beam_response_event']:.2f} in the event, "
            f"{c['beam_response_outside']:.2f} outside"
        )
    lines.append(
        f"Sun {c['sun_distance_deg']:.0f}°   galactic latitude {c['galactic_latitude_deg']:+.0f}°"
    )
    if c["known_variable"]:
        lines.append(f"known variable: {c['known_variable']}")
    if c["flags"]:
        lines.append("flags: " + c["flags"].replace(";", ", "))
    return lines
