"""Stage: phases and amplitude scalar of a tile against the catalogue's model of its own field."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from dsaflow.calibration.anchor import FactorTable, tie_scale
from dsaflow.calibration.choose import HALF_TILE_H, Choice, choose_bandpass
from dsaflow.calibration.gains import FieldGains, solve_field
from dsaflow.calibration.skymodel import field_model
from dsaflow.calibration.solutions import Solutions, write_h5parm
from dsaflow.calibration.solve_bandpass import read_flagged
from dsaflow.calibration.tile import average_divided
from dsaflow.catalog import read_catalog
from dsaflow.errors import DataRejected, ReasonCode
from dsaflow.instrument import PrimaryBeam
from dsaflow.verdict import Gate, Verdict
from dsaflow.visibilities.container import Visibilities

_SOLVE_WIDTH_HZ = 1e6


def solve_gains(
    ms_path: str | os.PathLike,
    flags_path: str | os.PathLike,
    bandpasses: Sequence[str | os.PathLike],
    catalog_path: str | os.PathLike,
    out_path: str | os.PathLike,
    config,
) -> Verdict:
    """Phase a tile on its own field and tie its amplitude to the flux scale by one scalar.

    Parameters
    ----------
    ms_path, flags_path : path
    bandpasses : sequence of path
        Usable bandpasses, nearest first.
    catalog_path : path
    out_path : path
        h5parm; its amplitudes hold the square root of the scalar.
    config : Config

    Returns
    -------
    Verdict
        With `scale`, `scale_err_relative` (epoch to epoch), `scale_err_catalog` (the same whenever
        this field is seen) and `scale_systematic` (absolute).

    Raises
    ------
    DataRejected
        ALL_FLAGGED, NO_BANDPASS, NO_CALIBRATOR (an empty field), BAD_SOLUTIONS.
    """
    options = config.calibrate
    vis = read_flagged(ms_path, flags_path)
    beam = PrimaryBeam.from_config(config.instrument.beam)
    choice = choose_bandpass(
        bandpasses, vis, options.bandpass_validity_hours, options.bandpass_fallback_days
    )
    tile = average_divided(vis, choice.gain, _SOLVE_WIDTH_HZ)
    model = field_model(
        tile.vis, read_catalog(catalog_path), beam, options.model_min_jy,
        options.default_spectral_index,
    )  # fmt: skip
    if len(model) == 0:
        raise DataRejected(ReasonCode.NO_CALIBRATOR, f"{ms_path}: no catalogue source to phase on")
    field = solve_field(
        tile, model, beam, options.phase_interval_s, options.min_snr, options.phase_good_snr,
        options.scale_max_weight, options.uv_min_lambda, options.amplitude_gains,
    )  # fmt: skip
    if not np.isfinite(field.gain).any():
        raise DataRejected(
            ReasonCode.BAD_SOLUTIONS, f"{ms_path}: no gain solution reaches S/N {options.min_snr}"
        )
    table = FactorTable.of(field.factors)
    own = choice.distance_h < HALF_TILE_H and len(choice.ids) == 1
    scale_numbers = tie_scale(
        field.scale, table, choice.attributes, choice.factors or FactorTable.empty(), own, options
    )
    numbers = {**scale_numbers, **_describe(tile.vis, field, choice)}
    verdict = Verdict(numbers=numbers, gates=_gates(numbers, options))
    verdict = verdict.apply_gates(ReasonCode.BAD_SOLUTIONS)
    verdict.provenance.update(rung=choice.rung, bandpass=choice.ids)
    write_h5parm(out_path, _to_solutions(vis, field, numbers, choice, verdict.verdict))
    return verdict


def _describe(vis: Visibilities, field: FieldGains, choice: Choice) -> dict[str, Any]:
    solved = np.isfinite(field.gain)
    with_bandpass = np.isfinite(choice.gain).any(axis=(0, 1)).T
    seen = np.broadcast_to(with_bandpass, solved.shape)
    phase = np.where(solved, np.angle(field.gain), np.nan)
    drift = np.degrees(np.angle(np.exp(1j * (phase - phase[:1]))))
    return {
        "rung": choice.rung,
        "bandpass_ids": choice.ids,
        "bandpass_distance_h": choice.distance_h,
        "calibrator": choice.attributes["calibrator"],
        "n_interval": len(field.gain),
        "interval_s": vis.integration_s * len(vis.time_mjd) / len(field.gain),
        "n_receptor_seen": int(with_bandpass.sum()),
        "flagged_solution_fraction": float(1.0 - solved[seen].mean()) if seen.any() else 1.0,
        "median_snr": float(np.median(field.snr[field.snr > 0])) if (field.snr > 0).any() else 0.0,
        "phase_drift_rms_deg": float(np.sqrt(np.nanmean(drift**2))),
        "visibility_noise_jy": field.factors.noise_jy,
    }


def _gates(numbers: dict[str, Any], options) -> list[Gate]:
    return [
        Gate.measure("median_snr", numbers["median_snr"], low=2 * options.min_snr, failing="warn"),
        Gate.measure(
            "flagged_solution_fraction", numbers["flagged_solution_fraction"],
            high=options.max_flagged_solutions,
        ),
        Gate.measure(
            "scale_sources", numbers["n_scale_source"], low=options.scale_min_sources,
            failing="warn",
        ),
        Gate.measure("scale", numbers["scale"], low=0.5, high=2.0),
    ]  # fmt: skip


def _to_solutions(
    vis: Visibilities, field: FieldGains, numbers: dict[str, Any], choice: Choice, outcome: str
) -> Solutions:
    gain = field.gain.transpose(0, 2, 1)[:, None] * np.sqrt(numbers["scale"])
    count = np.bincount(field.interval)
    time_mjd = np.bincount(field.interval, vis.time_mjd) / count
    half_d = 0.5 * vis.integration_s / 86400.0
    plain = {k: v for k, v in numbers.items() if not isinstance(v, list)}
    return Solutions(
        gain,
        field.error.transpose(0, 2, 1)[:, None],
        time_mjd,
        np.array([vis.freq_hz.mean()]),
        vis.antenna_name,
        vis.antenna_itrf_m,
        vis.polarization,
        {
            "kind": "gains",
            "start_mjd": vis.time_mjd[0] - half_d,
            "end_mjd": vis.time_mjd[-1] + half_d,
            "mid_mjd": vis.mid_mjd,
            "verdict": outcome,
            "bandpass": " ".join(choice.ids),
            **plain,
        },
    )
