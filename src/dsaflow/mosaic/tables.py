"""The table of a mosaic's tiles: what went in, what did not, and why."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from dsaflow.fileio import atomic_file
from dsaflow.geometry import separation_rad
from dsaflow.mosaic.tiles import Tile
from dsaflow.verdict import Verdict

TILE_COLUMNS = {
    "tile": "string",
    "used": "bool",
    "reason": "string",
    "ra_deg": "deg",
    "dec_deg": "deg",
    "offset_deg": "deg",
    "mjd": "d",
    "weight_share": "",
    "noise_jy": "Jy / beam",
    "scale": "",
    "scale_err": "",
    "scale_sys": "",
    "bmaj_deg": "deg",
    "bmin_deg": "deg",
    "bpa_deg": "deg",
    "freq_hz": "Hz",
}


def _row(tile: Tile, total: float, centre: tuple[float, float]) -> list[Any]:
    ra, dec = tile.card("CRVAL1"), tile.card("CRVAL2")
    return [
        tile.name, tile.used, tile.reason, ra, dec,
        float(np.degrees(separation_rad(ra, dec, *centre))), tile.card("MJD-AVG"),
        tile.weight / total, tile.noise_jy, tile.card("CALSCALE"), tile.card("SCALEERR"),
        tile.card("SCALESYS"), tile.card("BMAJ"), tile.card("BMIN"), tile.card("BPA"),
        tile.card("FREQ"),
    ]  # fmt: skip


def _cell(value: Any) -> str:
    if isinstance(value, str):
        text = " ".join(value.split()).replace('"', '""')
        return f'"{text}"'
    return repr(value)


def _write(path: str | os.PathLike, rows: list[list[Any]]) -> None:
    """Write as ECSV (Astropy APE 6) without importing astropy.table, which costs a second."""
    lines = ["# %ECSV 1.0", "# ---", "# datatype:"]
    for name, unit in TILE_COLUMNS.items():
        kind = unit if unit in ("string", "bool") else "float64"
        suffix = f", unit: {unit}" if unit and kind == "float64" else ""
        lines.append(f"# - {{name: {name}, datatype: {kind}{suffix}}}")
    lines.append(" ".join(TILE_COLUMNS))
    lines += [" ".join(_cell(value) for value in row) for row in rows]
    with atomic_file(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n")


def write_tiles(path: str | os.PathLike, tiles: list[Tile], centre: tuple[float, float]) -> None:
    """Write one row a tile offered."""
    total = sum(tile.weight for tile in tiles)
    _write(path, [_row(tile, total, centre) for tile in tiles])


def write_rejected_tiles(
    path: str | os.PathLike, tiles: Sequence[str], verdict_paths: Sequence[str]
) -> None:
    """Write the table of a mosaic that was not made: no tile used, each with its own verdict."""
    rows = []
    for tile, verdict_path in zip(tiles, verdict_paths, strict=True):
        verdict = Verdict.read(verdict_path)
        own = "the mosaic was rejected"
        reason = own if verdict.usable else f"{verdict.reason_code}: {verdict.detail}"
        rows.append([tile, False, reason, *[float("nan")] * (len(TILE_COLUMNS) - 3)])
    _write(path, rows)
