"""Stage: a new Measurement Set with the chosen solutions divided out."""

import os
from collections.abc import Sequence

import numpy as np

from dsaflow.calibration.choose import Choice, choose_bandpass, choose_gains
from dsaflow.calibration.solve_bandpass import read_flagged
from dsaflow.calibration.tile import divide_gains
from dsaflow.errors import DataRejected, ReasonCode
from dsaflow.verdict import Gate, Verdict


def apply_calibration(
    ms_path: str | os.PathLike,
    flags_path: str | os.PathLike,
    bandpasses: Sequence[str | os.PathLike],
    gains: Sequence[str | os.PathLike],
    out_ms_path: str | os.PathLike,
    config,
) -> Verdict:
    """Divide bandpass and gains out of a tile's visibilities, into a new Measurement Set [Jy].

    Parameters
    ----------
    ms_path, flags_path : path
        Read only.
    bandpasses, gains : sequence of path
        Usable solutions, nearest first; the tile's own gains first.
    out_ms_path : path
        New Measurement Set; flags are the flag file's and every antenna and channel unsolved.
    config : Config

    Returns
    -------
    Verdict
        With the scale, its relative and absolute errors, the rung and the solutions' ids.

    Raises
    ------
    DataRejected
        ALL_FLAGGED, NO_BANDPASS, NO_GAINS, BAD_SOLUTIONS.
    """
    from dsaflow.visibilities.ms import write_ms

    options = config.calibrate
    vis = read_flagged(ms_path, flags_path)
    before = vis.unflagged_fraction()
    bandpass = choose_bandpass(
        bandpasses, vis, options.bandpass_validity_hours, options.bandpass_fallback_days
    )
    gain = choose_gains(gains, vis, options.gain_validity_hours)
    divide_gains(vis.data, vis.flags, bandpass.gain * gain.gain, vis)
    vis.data[vis.flags] = 0
    after = vis.unflagged_fraction()
    if after == 0:
        raise DataRejected(ReasonCode.BAD_SOLUTIONS, f"{ms_path}: no visibility has a solution")
    write_ms(out_ms_path, vis)
    numbers = {
        **_scale_numbers(gain, options),
        "flagged_fraction": 1.0 - after,
        "lost_to_solutions_fraction": before - after,
        "bandpass_ids": bandpass.ids,
        "gain_ids": gain.ids,
        "bandpass_distance_h": bandpass.distance_h,
        "gain_distance_h": gain.distance_h,
        "rung": f"{bandpass.rung}+{gain.rung}",
    }
    lost = Gate.measure(
        "lost_to_solutions_fraction", before - after, high=options.max_flagged_solutions
    )
    own = Gate.measure("own_gains", float(gain.rung == "own"), low=1.0, failing="warn")
    verdict = Verdict(numbers=numbers, gates=[lost, own]).apply_gates(ReasonCode.BAD_SOLUTIONS)
    verdict.provenance.update(rung=numbers["rung"], bandpass=bandpass.ids, gains=gain.ids)
    return verdict


def _scale_numbers(gain: Choice, options) -> dict[str, float | str]:
    """Scale and errors of the gains; gains of a neighbour add the drift between."""
    known = gain.attributes
    drift = 0.0 if gain.rung == "own" else options.drift_per_hour * gain.distance_h
    return {
        "scale": float(known["scale"]),
        "scale_err_relative": float(np.hypot(known["scale_err_relative"], drift)),
        "scale_err_catalog": float(known["scale_err_catalog"]),
        "scale_systematic": float(known["scale_systematic"]),
        "scale_anchor": str(known["scale_anchor"]),
    }
