"""Stage: bandpass solutions from a calibrator's transit tile, judged before they may be used."""

import os
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsaflow.calibration.anchor import FactorTable
from dsaflow.calibration.bandpass import BandpassSolution, solve_bandpass_gains
from dsaflow.calibration.gains import FieldGains, solve_field
from dsaflow.calibration.skymodel import SkyModel, beam_response, field_model
from dsaflow.calibration.solutions import Solutions, write_h5parm
from dsaflow.calibration.tile import average_divided, thin_channels
from dsaflow.catalog import Calibrators, read_calibrators, read_catalog
from dsaflow.errors import DataRejected, ReasonCode
from dsaflow.geometry import separation_rad
from dsaflow.instrument import PrimaryBeam
from dsaflow.verdict import Gate, Verdict
from dsaflow.visibilities.container import Visibilities

_BRIGHT_JY = 5.0
_SOLVE_WIDTH_HZ = 1e6
_SCALE_CHANNELS = 64
_WILD_AMPLITUDE = 5.0
# A source in the sidelobes of this share of the calibrator's apparent flux turns a bandpass by a
# few per cent at most, and incoherently.
_SIDELOBE_SHARE = 0.1
_SIDELOBE_TOLERANCE = 0.02
_SIDELOBE_ROUNDS = 3
_TRACKED_RAD = np.radians(30.0 / 3600.0)


def read_flagged(ms_path: str | os.PathLike, flags_path: str | os.PathLike) -> Visibilities:
    """Visibilities with the flag file's flags added to their own."""
    from dsaflow.visibilities.flagfile import read_flags
    from dsaflow.visibilities.ms import read_ms

    vis = read_ms(ms_path)
    flags = vis.flags | read_flags(flags_path)
    if flags.all():
        raise DataRejected(ReasonCode.ALL_FLAGGED, f"{flags_path}: every visibility is flagged")
    return replace(vis, flags=flags)


def pick_calibrator(
    vis: Visibilities, calibrators: Calibrators, beam: PrimaryBeam, min_apparent_jy: float
) -> tuple[int, str, float]:
    """Row of the calibrator to use, its kind, and its apparent flux [Jy] averaged over the tile.

    A primary flux calibrator comes first, then the brightest; ("field", -1) where none is bright
    enough and the catalogue alone must serve. An instrument that tracks, whose beam is not known
    here, has only what stands at its phase centre.
    """
    mid_hz = np.array([0.5 * (vis.freq_hz[0] + vis.freq_hz[-1])])
    response = beam_response(vis, calibrators.ra_deg, calibrators.dec_deg, beam, mid_hz)
    apparent = response.mean(axis=0)[:, 0] * calibrators.flux_jy
    if np.isnan(vis.pointing_dec_deg):
        away = separation_rad(
            vis.phase_ra_deg, vis.phase_dec_deg, calibrators.ra_deg, calibrators.dec_deg
        )
        apparent = np.where(away < _TRACKED_RAD, apparent, 0.0)
    for among, kind in ((calibrators.primary, "primary"), (~calibrators.primary, "catalogue")):
        best = int(np.where(among, apparent, -1.0).argmax())
        if among[best] and apparent[best] >= min_apparent_jy:
            if kind != "primary":
                kind = "bright" if calibrators.flux_jy[best] >= _BRIGHT_JY else "calibrator"
            return best, kind, float(apparent[best])
    return -1, "field", float("nan")


def solve_bandpass(
    ms_path: str | os.PathLike,
    flags_path: str | os.PathLike,
    catalog_path: str | os.PathLike,
    calibrators_path: str | os.PathLike,
    out_path: str | os.PathLike,
    config,
) -> Verdict:
    """Solve a transit tile for one complex gain a channel, antenna and receptor.

    Parameters
    ----------
    ms_path, flags_path : path
        The transit tile.
    catalog_path, calibrators_path : path
        Sky.
    out_path : path
        h5parm.
    config : Config

    Returns
    -------
    Verdict
        With the calibrator, S/N, scatter, and the catalogue's scale in this tile.

    Raises
    ------
    DataRejected
        ALL_FLAGGED; NO_CALIBRATOR where the field holds no source to solve on.
    """
    options = config.calibrate
    vis = read_flagged(ms_path, flags_path)
    beam = PrimaryBeam.from_config(config.instrument.beam)
    calibrators = read_calibrators(calibrators_path)
    row, kind, apparent_jy = pick_calibrator(vis, calibrators, beam, options.min_calibrator_jy)
    model = field_model(
        vis, read_catalog(catalog_path), beam, options.model_min_jy,
        options.default_spectral_index, calibrators, row,
    )  # fmt: skip
    if len(model) == 0:
        raise DataRejected(
            ReasonCode.NO_CALIBRATOR,
            f"no source above {options.model_min_jy} Jy (apparent) in the field of {ms_path}",
        )
    solution, wild, field = _solved(vis, model, beam, options, ms_path)
    for _ in range(_SIDELOBE_ROUNDS):
        factor = sidelobe_factors(vis, model, beam, field)
        if np.abs(factor - 1).max() < _SIDELOBE_TOLERANCE:
            break
        model = model.scaled(factor)
        solution, wild, field = _solved(vis, model, beam, options, ms_path)
    scale = field.scale
    name = str(calibrators.name[row]) if row >= 0 else "field"
    numbers: dict[str, Any] = {
        "calibrator": name,
        "source": kind,
        "calibrator_apparent_jy": apparent_jy,
        "n_model_source": len(model),
        "n_wild_receptor": wild,
        "catalog_scale": scale.value,
        "catalog_scale_err_relative": scale.noise_err,
        "catalog_scale_err_catalog": scale.catalog_err,
        "n_scale_source": scale.n_source,
        **calibrator_factor(model, field),
        **describe(vis, solution),
    }
    verdict = Verdict(
        detail=f"{kind} {name}", gates=gates(numbers, options), numbers=numbers
    ).apply_gates(ReasonCode.BAD_SOLUTIONS)
    write_h5parm(out_path, _to_solutions(vis, solution, numbers, verdict.verdict, field))
    return verdict


def _solved(
    vis: Visibilities, model: SkyModel, beam: PrimaryBeam, options, ms_path: str | os.PathLike
) -> tuple[BandpassSolution, int, FieldGains]:
    """Bandpass on this model, number of receptors flagged as wild, the field seen with it."""
    solution = solve_bandpass_gains(
        vis, model, beam, options.phase_interval_s, options.min_snr, options.uv_min_lambda,
        options.reference_antennas,
    )  # fmt: skip
    wild = reject_wild(solution)
    if not np.isfinite(solution.gain).any():
        raise DataRejected(
            ReasonCode.BAD_SOLUTIONS,
            f"{ms_path}: no bandpass solution reaches S/N {options.min_snr}",
        )
    return solution, wild, transit_field(vis, model, beam, solution, options)


def sidelobe_factors(
    vis: Visibilities, model: SkyModel, beam: PrimaryBeam, field: FieldGains
) -> NDArray:
    """What to multiply the model's sources by whose response nobody knows, shape (n_source,).

    Beyond the first null the beam of the configuration is a guess, and a source as bright as Cas A
    there outshines the calibrator: its flux against the calibrator's is then taken from the data.
    One for every source of the main lobe, and for those too faint to turn a bandpass.
    """
    ones = np.ones(len(model))
    if model.calibrator < 0 or np.isnan(vis.pointing_dec_deg):
        return ones
    measured = field.factors.per_source()
    first_null_rad = 1.22 / 1.029 * beam.fwhm_rad(float(vis.freq_hz[0]))
    away = separation_rad(vis.phase_ra_deg, vis.phase_dec_deg, model.ra_deg, model.dec_deg)
    bright = model.apparent_jy * measured > _SIDELOBE_SHARE * model.apparent_jy[model.calibrator]
    reference = measured[model.calibrator]
    unknown = (away > first_null_rad) & bright & (measured > 0) & (reference > 0)
    return np.where(unknown, measured / reference, ones)


def calibrator_factor(model: SkyModel, field: FieldGains) -> dict[str, float]:
    """Calibrator's flux as measured with its own bandpass, over its model's; NaN without one.

    Its error is that of the bandpass's mean amplitude; its departure from 1 is what wrong fluxes of
    the other sources in the model did to the bandpass.
    """
    factors = field.factors
    group = factors.members[model.calibrator] if model.calibrator >= 0 else len(factors.factor)
    known = group < len(factors.factor)
    return {
        "calibrator_factor": float(factors.factor[group]) if known else float("nan"),
        "calibrator_err_relative": float(factors.noise_err[group]) if known else float("nan"),
    }


def transit_field(
    vis: Visibilities, model: SkyModel, beam: PrimaryBeam, solution: BandpassSolution, options
) -> FieldGains:
    """Fit of the catalogue's sources in the transit tile itself, with its bandpass applied."""
    tile = average_divided(vis, solution.gain.transpose(0, 2, 1)[None], _SOLVE_WIDTH_HZ)
    tile = thin_channels(tile, _SCALE_CHANNELS)
    sky = field_on_channels(model, vis, tile.vis)
    return solve_field(
        tile, sky, beam, options.phase_interval_s, options.min_snr, options.phase_good_snr,
        options.scale_max_weight, options.uv_min_lambda,
    )  # fmt: skip


def field_on_channels(model: SkyModel, vis: Visibilities, averaged: Visibilities) -> SkyModel:
    """The same sky at the averaged channels (power law between the recorded ones)."""
    log_flux = np.log(model.flux_jy)
    flux = np.stack([np.interp(averaged.freq_hz, vis.freq_hz, row) for row in log_flux])
    return replace(model, flux_jy=np.exp(flux))


def reject_wild(solution: BandpassSolution) -> int:
    """Flag receptors whose amplitude is over 5 times, or under a fifth of, the array's; count them."""
    size = np.abs(solution.gain)
    level = np.array(
        [
            [np.median(r[np.isfinite(r)]) if np.isfinite(r).any() else np.nan for r in rows]
            for rows in size.transpose(1, 2, 0)
        ]
    )
    live = np.isfinite(level)
    ratio = (
        np.where(live, level, 1.0) / np.median(level[live]) if live.any() else np.ones_like(level)
    )
    wild = live & ((ratio > _WILD_AMPLITUDE) | (ratio < 1 / _WILD_AMPLITUDE))
    solution.gain[:, wild] = np.nan
    solution.error[:, wild] = np.nan
    return int(wild.sum())


def describe(vis: Visibilities, solution: BandpassSolution) -> dict[str, Any]:
    """Numbers by which a bandpass is judged; receptors that never had data count as dead, not bad."""
    n_pol, n_antenna = solution.gain.shape[1:]
    seen = np.zeros((n_antenna, n_pol), dtype=bool)
    for p in range(n_pol):
        used = ~vis.flags[..., p].all(axis=(0, 2))
        seen[vis.antenna1[used], p] = seen[vis.antenna2[used], p] = True
    # a channel without data (a missing subband, interference) is no failure of the solver
    observed = ~vis.flags.all(axis=(0, 1))
    solved = np.isfinite(solution.gain).transpose(2, 1, 0)
    expected = seen[..., None] & observed.T
    phase = solution.interval_phase_deg.transpose(0, 2, 1)[:, seen]
    return {
        "n_antenna": n_antenna,
        "n_receptor_seen": int(seen.sum()),
        "n_receptor_solved": int(solved.any(axis=2).sum()),
        "flagged_solution_fraction": float(1.0 - solved[expected].mean())
        if expected.any()
        else 1.0,
        "interpolated_fraction": float(solution.interpolated.mean()),
        "median_snr": float(np.median(solution.snr[solution.snr > 0])),
        "amplitude_error_relative": float(np.nanmedian(solution.error / np.abs(solution.gain))),
        "phase_scatter_deg": float(phase.std()),
        "converged_fraction": solution.converged,
        "visibility_noise_correlator_units": float(np.nanmedian(solution.noise_recorded)),
        "reference_antenna": vis.antenna_name[solution.reference],
    }


def gates(numbers: dict[str, Any], options) -> list[Gate]:
    """Gates of a bandpass."""
    found = [
        Gate.measure("median_snr", numbers["median_snr"], low=2 * options.min_snr),
        Gate.measure(
            "flagged_solution_fraction", numbers["flagged_solution_fraction"],
            high=options.max_flagged_solutions,
        ),
        Gate.measure(
            "receptors_solved", numbers["n_receptor_solved"] / max(numbers["n_receptor_seen"], 1),
            low=1 - options.max_flagged_solutions,
        ),
        Gate.measure("phase_scatter", numbers["phase_scatter_deg"], high=30.0, unit="deg"),
        Gate.measure("converged_fraction", numbers["converged_fraction"], low=0.9, failing="warn"),
    ]  # fmt: skip
    factor = numbers.get("calibrator_factor", float("nan"))
    if numbers.get("source") == "primary" and np.isfinite(factor):
        # solved on the calibrator and not finding it again: something brighter is in the data
        found.append(Gate.measure("calibrator_factor", factor, low=0.8, high=1.25))
    return found


def _to_solutions(
    vis: Visibilities,
    solution: BandpassSolution,
    numbers: dict[str, Any],
    outcome: str,
    field: FieldGains,
) -> Solutions:
    def arranged(values: NDArray) -> NDArray:
        return values.transpose(0, 2, 1)[None]

    half_d = 0.5 * vis.integration_s / 86400.0
    return Solutions(
        arranged(solution.gain),
        arranged(solution.error),
        np.array([vis.mid_mjd]),
        vis.freq_hz,
        vis.antenna_name,
        vis.antenna_itrf_m,
        vis.polarization,
        {
            "kind": "bandpass",
            "start_mjd": vis.time_mjd[0] - half_d,
            "end_mjd": vis.time_mjd[-1] + half_d,
            "mid_mjd": vis.mid_mjd,
            "verdict": outcome,
            **numbers,
        },
        FactorTable.of(field.factors),
    )
