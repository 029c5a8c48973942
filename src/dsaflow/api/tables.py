"""The tables of the variability stage, read at need and kept while their files do not change."""

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from dsaflow.fileio import to_plain
from dsaflow.geometry import separation_rad
from dsaflow.names import PRODUCTS, product

Row = dict[str, Any]
_BAND_COLUMNS = ("flux_jy", "flux_err_jy", "norm_flux", "norm_err", "depth", "depth_err")


@dataclass(frozen=True)
class Cone:
    """A circle on the sky [deg, ICRS]."""

    ra_deg: float
    dec_deg: float
    radius_deg: float


def strips(results: Path, strip: str | None = None) -> list[str]:
    """Declination strips with light curves (all, or the one named if it has)."""
    name = Path(PRODUCTS["metrics"]).name
    found = sorted(path.parent.name for path in results.glob(f"variability/*/{name}"))
    return [s for s in found if strip is None or s == strip]


@lru_cache(maxsize=16)
def _read(path: str, mtime_ns: int, size: int) -> Any:
    import pyarrow.parquet as pq

    return pq.read_table(path)


def read(results: Path, key: str, strip: str) -> Any:
    """Arrow table of one product of a strip; None where it is not made."""
    path = Path(product(key, str(results), strip=strip))
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    # written anew by renaming: size and time tell one edition from another
    return _read(str(path), status.st_mtime_ns, status.st_size)


def rows_of(table: Any, strip: str, keep: np.ndarray | None = None) -> list[Row]:
    """Rows as plain mappings (NaN as None), with the strip, and the sub-bands' columns as `bands`."""
    import pyarrow as pa

    frequencies = json.loads((table.schema.metadata or {}).get(b"band_freq_hz", b"[]"))
    if keep is not None:
        table = table.filter(pa.array(keep))
    return [
        to_plain(row | {"strip": strip, "bands": bands_of(row, frequencies)})
        for row in table.to_pylist()
    ]


def bands_of(row: Row, freq_hz: list[float]) -> list[Row]:
    """Sub-bands of a row: its columns ``<name>_b<k>[_jy]`` by their name without the number."""
    return [
        {"freq_hz": frequency}
        | {
            name: row.get(name.replace("_jy", f"_b{k}_jy") if "_jy" in name else f"{name}_b{k}")
            for name in _BAND_COLUMNS
        }
        for k, frequency in enumerate(freq_hz)
    ]


def column(table: Any, name: str) -> np.ndarray:
    """One column as an array."""
    return table[name].to_numpy(zero_copy_only=False)


def sources(results: Path, strip: str | None, cone: Cone | None, min_flux_jy: float) -> list[Row]:
    """Metrics of the sources in a cone (or all), nearest (or brightest) first.

    Returns
    -------
    list of dict
        Columns of ``metrics.parquet``, `strip`, and `separation_deg` (None without a cone).
    """
    found: list[Row] = []
    for name in strips(results, strip):
        table = read(results, "metrics", name)
        if table is None:
            continue
        keep = np.ones(table.num_rows, bool)
        apart = np.full(table.num_rows, np.nan)
        if cone is not None:
            where = column(table, "ra_deg"), column(table, "dec_deg")
            apart = np.degrees(separation_rad(*where, cone.ra_deg, cone.dec_deg))
            keep &= apart <= cone.radius_deg
        if min_flux_jy > 0:
            with np.errstate(invalid="ignore"):
                keep &= column(table, "median_flux_jy") >= min_flux_jy
        for row, separation in zip(rows_of(table, name, keep), apart[keep].tolist(), strict=True):
            found.append(row | {"separation_deg": separation if cone is not None else None})
    if cone is not None:
        return sorted(found, key=lambda r: (r["separation_deg"], r["source_id"], r["strip"]))
    return sorted(found, key=lambda r: (-(r["median_flux_jy"] or 0), r["source_id"], r["strip"]))


def of_source(results: Path, key: str, source_id: str, strip: str | None) -> list[Row]:
    """Rows of one source in a table of each strip that has it.

    Notes
    -----
    Filtered while reading: light curves of all sources of many epochs do not fit into memory.
    """
    import pyarrow.parquet as pq

    found: list[Row] = []
    for name in strips(results, strip):
        path = Path(product(key, str(results), strip=name))
        if path.exists():
            found += rows_of(pq.read_table(path, filters=[("source_id", "=", source_id)]), name)
    return found


def candidates(results: Path, strip: str | None) -> list[Row]:
    """ESE candidates of all strips (or one), most significant first."""
    found: list[Row] = []
    for name in strips(results, strip):
        table = read(results, "ese_candidates", name)
        if table is not None:
            found += rows_of(table, name)
    return sorted(found, key=lambda r: (-(r["significance"] or 0), r["strip"], r["source_id"]))
