"""Tables of a characterisation, as Parquet and as ECSV."""

import os
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from dsaflow.fileio import atomic_file


def write_rows(stem: str | os.PathLike, rows: list[dict[str, Any]]) -> None:
    """Write rows as ``<stem>.parquet`` and ``<stem>.ecsv``; without rows nothing is written."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from astropy.table import Table

    if not rows:
        return
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    with atomic_file(f"{stem}.parquet") as temporary:
        pq.write_table(pa.table(columns), temporary)
    with atomic_file(f"{stem}.ecsv") as temporary:
        Table({name: np.array(values) for name, values in columns.items()}).write(
            temporary, format="ascii.ecsv", overwrite=True
        )


def write_records(path: str | os.PathLike, records: Any) -> None:
    """Write a dataclass of equally long arrays as Parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {f.name: pa.array(np.asarray(getattr(records, f.name))) for f in fields(records)}
    with atomic_file(path) as temporary:
        pq.write_table(pa.table(columns), temporary)


def read_columns(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Read a table written here, column by column; empty where there is none."""
    import pyarrow.parquet as pq

    if not Path(path).exists():
        return {}
    table = pq.read_table(path)
    return {name: table[name].to_numpy() for name in table.column_names}
