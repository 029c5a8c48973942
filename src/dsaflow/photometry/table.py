"""The photometry table: columns, units, deterministic Parquet, and which row is primary."""

import json
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from dsaflow import __version__
from dsaflow.fileio import atomic_file

COLUMNS: dict[str, tuple[str, str]] = {
    "source_id": ("string", ""),
    "ra_deg": ("double", "deg"),
    "dec_deg": ("double", "deg"),
    "strip": ("string", ""),
    "epoch": ("int64", "sidereal day"),
    "mjd": ("double", "d"),
    "group_id": ("string", ""),
    "primary": ("bool", ""),
    "weight": ("double", "Jy-2"),
    "flux_jy": ("double", "Jy"),
    "flux_err_jy": ("double", "Jy"),
    "scale_err": ("double", "1"),
    "abs_err_frac": ("double", "1"),
    "confusion_err_jy": ("double", "Jy"),
    "snr": ("double", "1"),
    "is_limit": ("bool", ""),
    "upper_limit_jy": ("double", "Jy"),
    "local_rms_jy": ("double", "Jy/beam"),
    "background_jy": ("double", "Jy/beam"),
    "n_blend": ("int64", ""),
    "isolated": ("bool", ""),
    "compact": ("bool", ""),
    "catalog_flux_jy": ("double", "Jy"),
    "n_tiles": ("int64", ""),
    "beam_response": ("double", "1"),
    "edge_distance_deg": ("double", "deg"),
    "qa": ("string", ""),
}


def schema(n_band: int, metadata: dict[str, Any]):
    """Arrow schema with units in each field's metadata."""
    import pyarrow as pa

    kinds = {"string": pa.string(), "double": pa.float64(), "int64": pa.int64(), "bool": pa.bool_()}
    columns = dict(COLUMNS)
    for band in range(n_band):
        columns[f"flux_b{band}_jy"] = ("double", "Jy")
        columns[f"flux_err_b{band}_jy"] = ("double", "Jy")
    fields = [
        pa.field(name, kinds[kind], metadata={"unit": unit} if unit else None)
        for name, (kind, unit) in columns.items()
    ]
    return pa.schema(fields, metadata={k: str(v) for k, v in metadata.items()})


def write_table(
    path: str | os.PathLike,
    columns: dict[str, Any],
    band_freq_hz: ArrayLike,
    freq_hz: float,
) -> None:
    """Write one mosaic's photometry; equal input gives equal bytes.

    Parameters
    ----------
    path : path
    columns : dict of array_like, shape (n,)
        All of `COLUMNS` and the sub-bands' fluxes and errors.
    band_freq_hz : array_like
        Mean frequency of each sub-band [Hz].
    freq_hz : float
        Of the full band [Hz].
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    frequencies = np.asarray(band_freq_hz, float).tolist()
    metadata = {
        "band_freq_hz": json.dumps(frequencies),
        "freq_hz": repr(float(freq_hz)),
        "version": __version__,
    }
    form = schema(len(frequencies), metadata)
    arrays = [pa.array(np.asarray(columns[f.name]).tolist(), f.type) for f in form]
    with atomic_file(path) as temporary:
        pq.write_table(pa.Table.from_arrays(arrays, schema=form), temporary, compression="zstd")


def write_empty(path: str | os.PathLike) -> None:
    """Write a table without rows: what a rejected mosaic leaves."""
    import pyarrow.parquet as pq

    form = schema(0, {"band_freq_hz": "[]", "freq_hz": "nan", "version": __version__})
    with atomic_file(path) as temporary:
        pq.write_table(form.empty_table(), temporary, compression="zstd")


def mark_primary(tables: Sequence[Any]) -> list[Any]:
    """Set `primary` in tables of one strip: of each source and epoch the usable row of most weight.

    Parameters
    ----------
    tables : sequence of pyarrow.Table

    Returns
    -------
    list of pyarrow.Table
        In the same order. Rows with qa "reject" are primary only where there is no other; ties go
        to the first group_id.
    """
    import pyarrow as pa

    best: dict[tuple, tuple] = {}
    for number, table in enumerate(tables):
        names = ("source_id", "strip", "epoch", "qa", "weight", "group_id")
        for row, (source, strip, epoch, qa, weight, group) in enumerate(
            zip(*(table[name].to_pylist() for name in names), strict=True)
        ):
            rank = (qa == "reject", -weight, group, number, row)
            key = (source, strip, epoch)
            best[key] = min(best.get(key, rank), rank)
    chosen = {rank[3:] for rank in best.values()}
    out = []
    for number, table in enumerate(tables):
        flags = [(number, row) in chosen for row in range(table.num_rows)]
        index = table.schema.get_field_index("primary")
        out.append(table.set_column(index, table.schema.field(index), pa.array(flags, pa.bool_())))
    return out
