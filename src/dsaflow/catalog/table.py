"""The reference catalogue in memory and as Parquet."""

import os
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dsaflow.errors import ConfigError
from dsaflow.fileio import atomic_file

COLUMNS = ("source_id", "ra_deg", "dec_deg", "flux_jy", "flux_err_jy", "spectral_index", "compact")
_UNITS = {"ra_deg": "deg", "dec_deg": "deg", "flux_jy": "Jy", "flux_err_jy": "Jy"}
NVSS_FREQUENCY_HZ = 1.4e9


@dataclass(frozen=True)
class Catalog:
    """Sources with fluxes at one frequency; arrays of shape (n_source,).

    Attributes
    ----------
    source_id : ndarray of str
    ra_deg, dec_deg : ndarray
        ICRS.
    flux_jy, flux_err_jy : ndarray
        Integrated flux density at `frequency_hz` and its 1-sigma error.
    spectral_index : ndarray
        S ~ nu^alpha; NaN where unknown.
    compact : ndarray of bool
        Unresolved by the survey.
    frequency_hz : float
    origin, version : str
        Where the rows come from, and which edition of it.
    """

    source_id: NDArray
    ra_deg: NDArray
    dec_deg: NDArray
    flux_jy: NDArray
    flux_err_jy: NDArray
    spectral_index: NDArray
    compact: NDArray
    frequency_hz: float = NVSS_FREQUENCY_HZ
    origin: str = ""
    version: str = ""

    def __len__(self) -> int:
        return len(self.source_id)

    def select(self, keep: NDArray) -> "Catalog":
        """Rows by boolean mask or index."""
        return replace(self, **{name: getattr(self, name)[keep] for name in COLUMNS})

    def validate(self) -> "Catalog":
        """Return self if every row is usable.

        Raises
        ------
        ConfigError
            Naming the column and the number of wrong rows.
        """
        problems = {
            "ra_deg": ~((self.ra_deg >= 0) & (self.ra_deg < 360)),
            "dec_deg": ~(np.abs(self.dec_deg) <= 90),
            "flux_jy": ~(np.isfinite(self.flux_jy) & (self.flux_jy > 0)),
            "flux_err_jy": ~(np.isfinite(self.flux_err_jy) & (self.flux_err_jy >= 0)),
        }
        for name, bad in problems.items():
            if bad.any():
                raise ConfigError(f"catalogue {self.origin}: {bad.sum()} rows with unusable {name}")
        if len(np.unique(self.source_id)) != len(self):
            raise ConfigError(f"catalogue {self.origin}: source_id is not unique")
        if not (np.isfinite(self.frequency_hz) and self.frequency_hz > 0):
            raise ConfigError(f"catalogue {self.origin}: metadata lacks frequency_hz")
        return self


def read_catalog(path: str | os.PathLike) -> Catalog:
    """Read a reference catalogue in Parquet.

    Raises
    ------
    ConfigError
        Columns or metadata are missing, or values make no sense.
    """
    import pyarrow.parquet as pq

    # not read_table: that imports pyarrow's datasets and with them pandas, 0.3 s of every job
    table = pq.ParquetFile(path).read()
    missing = [name for name in COLUMNS if name not in table.column_names]
    if missing:
        raise ConfigError(f"catalogue {path}: columns missing: {', '.join(missing)}")
    metadata = {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items()}
    column = {name: table[name].to_numpy() for name in COLUMNS}

    def numbers(name: str) -> NDArray:
        return np.asarray(column[name], dtype=float)

    return Catalog(
        np.asarray(column["source_id"], dtype=str),
        numbers("ra_deg"),
        numbers("dec_deg"),
        numbers("flux_jy"),
        numbers("flux_err_jy"),
        numbers("spectral_index"),
        np.asarray(column["compact"], dtype=bool),
        frequency_hz=float(metadata.get("frequency_hz", "nan")),
        origin=metadata.get("origin", str(path)),
        version=metadata.get("version", ""),
    ).validate()


def write_catalog(path: str | os.PathLike, catalog: Catalog) -> None:
    """Write a reference catalogue as Parquet, atomically, with units and origin in the metadata."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(
        [
            pa.field(
                name,
                pa.string()
                if name == "source_id"
                else pa.bool_()
                if name == "compact"
                else pa.float64(),
                metadata={"unit": _UNITS[name]} if name in _UNITS else None,
            )
            for name in COLUMNS
        ],
        metadata={
            "frequency_hz": repr(float(catalog.frequency_hz)),
            "origin": catalog.origin,
            "version": catalog.version,
        },
    )
    arrays = [pa.array(getattr(catalog, f.name).tolist(), f.type) for f in schema]
    with atomic_file(path) as temporary:
        pq.write_table(pa.Table.from_arrays(arrays, schema=schema), temporary)
