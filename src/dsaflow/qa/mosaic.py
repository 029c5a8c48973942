"""The verdict on a mosaic: every gate measured on the products themselves."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dsaflow.catalog import read_catalog
from dsaflow.errors import ReasonCode
from dsaflow.qa.catalogue import astrometry_gates, completeness_gates, flux_gates, shape_gates
from dsaflow.qa.field import MosaicField, read_field
from dsaflow.qa.noise import noise_gates, tile_thermal_jy
from dsaflow.qa.sky import sun_moon_gates
from dsaflow.qa.sources import measure_sources
from dsaflow.qa.tile import flagged_gate
from dsaflow.verdict import Gate, Verdict

if TYPE_CHECKING:
    from dsaflow.config import Config


def qa_mosaic(
    products: dict[str, str],
    tile_verdicts: list[str | os.PathLike],
    catalog_path: str | os.PathLike,
    config: "Config",
    mid_mjd: float,
    centre: tuple[float, float],
    beam_fit: str | os.PathLike | None = None,
) -> Verdict:
    """Measure a mosaic's gates.

    Parameters
    ----------
    products : dict
        Paths: image, noise, tiles (others are ignored).
    tile_verdicts : list of path
        ``tiles/<tile>/<stage>.json`` of the tiles offered (convert, flag, image and others).
    catalog_path : path
        The strip's reference catalogue.
    config : Config
    mid_mjd : float
        UTC.
    centre : (ra_deg, dec_deg)
        ICRS.
    beam_fit : path, optional
        Verdict of `dsaflow.qa.beam.measure_beam`, whose gate is one of the mosaic's; where too few
        sources measured the beam it has none.

    Returns
    -------
    Verdict
        QA_REJECTED where a gate rejects; warnings do not.

    Raises
    ------
    DataRejected
        NO_DATA where there is no image.
    """
    field = read_field(products)
    options = config.qa
    thermal_jy = tile_thermal_jy(tile_verdicts, config.instrument.sefd_jy)
    sources = measure_sources(
        field,
        read_catalog(catalog_path),
        config.calibrate.default_spectral_index,
        min(options.flux_min_snr, options.completeness_snr),
    )
    verdict = Verdict()
    for gates, numbers in (
        noise_gates(field, thermal_jy, config),
        flux_gates(field, sources, options),
        astrometry_gates(sources, options),
        completeness_gates(sources, options),
        shape_gates(field, sources, options),
        sun_moon_gates(mid_mjd, *centre, options),
    ):
        verdict.gates += gates
        verdict.numbers |= numbers
    if beam_fit is not None:
        verdict.gates += Verdict.read(beam_fit).gates
    verdict.gates += _flagged(field, tile_verdicts, config)
    verdict.numbers |= {
        "tiles_used": len(field.used_tiles),
        "tiles_offered": len(field.tiles),
        "tiles_without_noise_theory": len(
            [t for t in field.used_tiles if t["tile"] not in thermal_jy]
        ),
    }
    verdict.apply_gates(ReasonCode.QA_REJECTED)
    verdict.detail = "; ".join(filter(None, [tiles_sentence(field), verdict.detail]))
    return verdict


def tiles_sentence(field: MosaicField) -> str:
    """``2 of 3 tiles, 1 rejected: TRUNCATED_HDF5``; empty where all went in."""
    out = [row for row in field.tiles if row["used"] != "True"]
    if not out:
        return ""
    reasons = sorted({row["reason"].split(":")[0] for row in out})
    return (
        f"{len(field.tiles) - len(out)} of {len(field.tiles)} tiles, "
        f"{len(out)} rejected: {', '.join(reasons)}"
    )


def _flagged(
    field: MosaicField, tile_verdicts: list[str | os.PathLike], config: "Config"
) -> list[Gate]:
    used = {row["tile"] for row in field.used_tiles}
    fractions = []
    for path in map(Path, tile_verdicts):
        if path.stem == "flag" and path.parent.name in used:
            fractions.append(Verdict.read(path).numbers.get("flagged_fraction", np.nan))
    return [flagged_gate(float(np.mean(fractions)), config)] if fractions else []


def gate_table(verdict: Verdict) -> str:
    """Print every gate with value, limits and verdict, one a line."""
    lines = []
    for gate in verdict.gates:
        limits = f"[{gate.low:.4g}, {gate.high:.4g}]".replace("nan", "-")
        lines.append(
            f"{gate.verdict:6s} {gate.name:30s} {gate.value:10.4g} {gate.unit:8s} {limits}"
        )
    return "\n".join([*lines, f"{verdict.verdict}: {verdict.detail or 'all gates passed'}"])
