"""Figure of the measured primary beam."""

import os

import numpy as np

from dsaflow.report.style import BLUE, GREY, figure, note
from dsaflow.verdict import Verdict


def draw_beam(verdict_path: str | os.PathLike, path: str | os.PathLike) -> None:
    """Flux ratios against the assumed beam's response, with the fit's numbers.

    Parameters
    ----------
    verdict_path : path
        What `dsaflow.qa.beam.measure_beam` returned.
    path : path
        PNG to write.
    """
    verdict = Verdict.read(verdict_path)
    numbers = verdict.numbers
    with figure(path, 9, 3.8) as fig:
        if "beam_ratio" not in numbers:
            note(fig, f"beam not measured: {verdict.detail}")
            return
        response = np.array(numbers["beam_response"])
        err = np.array(numbers["beam_ratio_err"])
        left, right = fig.subplots(1, 2, sharey=True)
        for ax, key, over in (
            (left, "beam_ratio", "flux of all tiles"),
            (right, "beam_catalog_ratio", "catalogue"),
        ):
            ratio = np.array(numbers[key])
            ax.errorbar(response, ratio, err * ratio, fmt=".", color=BLUE, lw=0.7)
            ax.axhline(1, color=GREY, lw=0.8)
            ax.set(ylim=(0.6, 1.4), xlim=(0, 1.02))
            ax.set_xlabel("response of the assumed beam")
            ax.set_ylabel(f"flux / {over}")
        value = [numbers[k] for k in ("pointing_east_deg", "pointing_north_deg")]
        error = [numbers[k] for k in ("pointing_east_deg_err", "pointing_north_deg_err")]
        fig.suptitle(
            f"D = {numbers['effective_diameter_m']:.3f} ± {numbers['effective_diameter_m_err']:.3f} m, "
            f"pointing {value[0]:+.3f} ± {error[0]:.3f}° east, {value[1]:+.3f} ± {error[1]:.3f}° north; "
            f"flux error {100 * numbers['beam_flux_change']:.1f} ± "
            f"{100 * numbers['beam_flux_change_err']:.1f} %",
            fontsize=9,
        )
