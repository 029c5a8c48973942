"""The reference catalogue (NVSS or another in the same form) and the calibrators with their flux scale."""

import csv
import os
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dsaflow.errors import ConfigError, EnvironmentProblem
from dsaflow.fileio import atomic_file
from dsaflow.verdict import Verdict

_COLUMNS = ("source_id", "ra_deg", "dec_deg", "flux_jy", "flux_err_jy", "spectral_index", "compact")
_UNITS = {"ra_deg": "deg", "dec_deg": "deg", "flux_jy": "Jy", "flux_err_jy": "Jy"}
NVSS_FREQUENCY_HZ = 1.4e9
_RA_CHUNK_DEG = 15.0


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
        return replace(self, **{name: getattr(self, name)[keep] for name in _COLUMNS})

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

    table = pq.read_table(path)
    missing = [name for name in _COLUMNS if name not in table.column_names]
    if missing:
        raise ConfigError(f"catalogue {path}: columns missing: {', '.join(missing)}")
    metadata = {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items()}
    column = {name: table[name].to_numpy() for name in _COLUMNS}
    return Catalog(
        np.asarray(column["source_id"], dtype=str),
        *(np.asarray(column[name], dtype=float) for name in _COLUMNS[1:6]),
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
            for name in _COLUMNS
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


def nvss_rows(table) -> Catalog:
    """Turn rows with VizieR's VIII/65 columns (astropy Table) into a `Catalog`.

    Fluxes come in mJy; a source is compact where NVSS gives only an upper limit for its major axis.
    """

    def column(name: str) -> NDArray:
        return np.ma.filled(np.ma.asarray(table[name]).astype(float), np.nan)

    flux, error = column("S1.4") / 1e3, column("e_S1.4") / 1e3
    limit = np.array([str(v).strip() for v in np.ma.filled(table["l_MajAxis"], "")])
    names = np.array([f"NVSS J{str(v).strip()}" for v in table["NVSS"]])
    catalog = Catalog(
        names, column("_RAJ2000") % 360.0, column("_DEJ2000"), flux, error,
        np.full(len(names), np.nan), limit == "<", origin="NVSS", version="VIII/65",
    )  # fmt: skip
    usable = np.isfinite(flux) & (flux > 0) & np.isfinite(error) & np.isfinite(catalog.ra_deg)
    _, first = np.unique(names, return_index=True)
    keep = np.zeros(len(names), dtype=bool)
    keep[first] = True
    return catalog.select(keep & usable)


def read_nvss_fits(path: str | os.PathLike) -> Catalog:
    """Read NVSS rows that were saved from VizieR as a FITS table."""
    from astropy.table import Table

    return nvss_rows(Table.read(path, format="fits", unit_parse_strict="silent")).validate()


def fetch_catalog(
    strip_dec_deg: float,
    ra_range_deg: tuple[float, float],
    config,
    out_path: str | os.PathLike,
) -> Verdict:
    """Write the reference catalogue around a strip, from `paths.reference_catalog` or from VizieR.

    Parameters
    ----------
    strip_dec_deg : float
        Apparent declination of the strip.
    ra_range_deg : tuple of float
        West and east end, ICRS; through 0 h where the second is the smaller; (0, 360) for all.
    config : Config
    out_path : path
        Parquet.

    Raises
    ------
    EnvironmentProblem
        No network and no local catalogue: says which file to put where.
    ConfigError
        The local catalogue cannot be used, or does not reach this strip.
    """
    options = config.catalog
    if config.paths.reference_catalog:
        catalog = _local(Path(config.paths.reference_catalog))
    else:
        catalog = _from_vizier(strip_dec_deg, ra_range_deg, options, Path(out_path))
    near = np.abs(catalog.dec_deg - strip_dec_deg) <= options.half_height_deg
    catalog = catalog.select(near & _inside(catalog.ra_deg, ra_range_deg))
    if len(catalog) == 0:
        raise ConfigError(
            f"catalogue {catalog.origin} has no source within {options.half_height_deg} deg of "
            f"declination {strip_dec_deg:+.1f} at RA {ra_range_deg[0]:.1f} to {ra_range_deg[1]:.1f}: "
            "set paths.reference_catalog to one that covers the strip"
        )
    write_catalog(out_path, catalog)
    return Verdict(
        detail=f"{len(catalog)} sources of {catalog.origin} {catalog.version}",
        numbers={
            "n_source": len(catalog),
            "n_compact": int(catalog.compact.sum()),
            "min_flux_jy": float(catalog.flux_jy.min()),
            "frequency_hz": catalog.frequency_hz,
        },
        provenance={**Verdict().provenance, "origin": catalog.origin, "edition": catalog.version},
    )


def _inside(ra_deg: NDArray, ra_range_deg: tuple[float, float]) -> NDArray:
    width = ra_range_deg[1] - ra_range_deg[0]
    if width >= 360.0:
        return np.ones(len(ra_deg), dtype=bool)
    return (ra_deg - ra_range_deg[0]) % 360.0 <= width % 360.0


def _local(path: Path) -> Catalog:
    if not path.is_file():
        raise EnvironmentProblem(
            f"paths.reference_catalog names {path}, which does not exist: put a Parquet catalogue "
            f"there (columns {', '.join(_COLUMNS)}; metadata frequency_hz) or NVSS rows from VizieR as FITS"
        )
    if path.suffix.lower() in (".fits", ".fit"):
        return read_nvss_fits(path)
    return read_catalog(path)


def _from_vizier(
    strip_dec_deg: float, ra_range_deg: tuple[float, float], options, out_path: Path
) -> Catalog:
    """NVSS rows by astroquery, in pieces of 15 deg of RA (VizieR answers those within a minute)."""
    import warnings

    from astropy.table import vstack
    from astropy.time import Time

    with warnings.catch_warnings():
        # astroquery warns at import about its own configuration and optional packages
        warnings.simplefilter("ignore")
        from astroquery.vizier import Vizier

        columns = ["_RAJ2000", "_DEJ2000", "NVSS", "S1.4", "e_S1.4", "l_MajAxis", "MajAxis"]
        service = Vizier(columns=columns, row_limit=-1, timeout=options.timeout_s)
        low, high = (strip_dec_deg + s * options.half_height_deg for s in (-1, 1))
        tables = []
        try:
            for west, east in ra_pieces(ra_range_deg):
                found = service.query_constraints(
                    catalog=options.vizier_table,
                    RAJ2000=f"{west:.4f}..{east:.4f}",
                    DEJ2000=f"{low:.4f}..{high:.4f}",
                )
                tables.extend(found[:1])
        except (OSError, TimeoutError) as error:
            raise EnvironmentProblem(
                f"VizieR cannot be reached ({type(error).__name__}), and there is no local catalogue. "
                f"Either put the strip's catalogue at {out_path} (Parquet: {', '.join(_COLUMNS)}; "
                f"metadata frequency_hz), or save the rows of {options.vizier_table} with declination "
                f"{low:.1f} to {high:.1f} from VizieR as nvss.fits (all columns) and set "
                "paths.reference_catalog to it"
            ) from error
    if not tables:
        raise ConfigError(
            f"{options.vizier_table} has no rows at declination {low:.1f} to {high:.1f}"
        )
    catalog = nvss_rows(vstack(tables, metadata_conflicts="silent"))
    return replace(catalog, version=f"{options.vizier_table} fetched {Time.now().isot[:10]}")


def ra_pieces(ra_range_deg: tuple[float, float]) -> list[tuple[float, float]]:
    """Cut a range of RA [deg], which may pass through 0 h, into pieces of at most 15 deg."""
    west, east = ra_range_deg
    width = 360.0 if east - west >= 360.0 else (east - west) % 360.0
    edges = [west % 360.0 + min(i * _RA_CHUNK_DEG, width) for i in range(int(width // 15.0) + 2)]
    pieces = []
    for a, b in zip(edges[:-1], edges[1:], strict=True):
        if b <= a:
            continue
        if a < 360.0 < b:
            pieces += [(a, 360.0), (0.0, b - 360.0)]
        else:
            pieces.append((a % 360.0, b - 360.0 if a >= 360.0 else b))
    return pieces


@dataclass(frozen=True)
class Calibrators:
    """Calibrators of ``config/calibrators.csv``; arrays of shape (n_calibrator,), flux at 1.4 GHz."""

    name: NDArray
    ra_deg: NDArray
    dec_deg: NDArray
    flux_jy: NDArray
    spectral_index: NDArray
    primary: NDArray
    coefficients: tuple[tuple[float, ...], ...]
    note: NDArray

    def __len__(self) -> int:
        return len(self.name)

    def select(self, keep: NDArray) -> "Calibrators":
        """Rows by boolean mask or index."""
        index = np.arange(len(self))[keep]
        chosen = {
            f.name: getattr(self, f.name)[index] for f in fields(self) if f.name != "coefficients"
        }
        return Calibrators(**chosen, coefficients=tuple(self.coefficients[i] for i in index))

    def flux_at(self, index: int, freq_hz: ArrayLike, default_index: float = -0.7) -> NDArray:
        """Flux density [Jy] of one calibrator: its polynomial where it is primary, else a power law."""
        if self.coefficients[index]:
            return perley_butler_jy(self.coefficients[index], freq_hz)
        alpha = self.spectral_index[index]
        alpha = default_index if np.isnan(alpha) else alpha
        return self.flux_jy[index] * (np.asarray(freq_hz, float) / NVSS_FREQUENCY_HZ) ** alpha


def perley_butler_jy(coefficients: tuple[float, ...], freq_hz: ArrayLike) -> NDArray:
    """Flux density [Jy], log10 S = sum a_i (log10 nu/GHz)^i (Perley & Butler 2017, eq. 1)."""
    log_ghz = np.log10(np.asarray(freq_hz, dtype=float) / 1e9)
    return 10.0 ** np.polynomial.polynomial.polyval(log_ghz, coefficients)


def read_calibrators(path: str | os.PathLike) -> Calibrators:
    """Read ``config/calibrators.csv``.

    Raises
    ------
    ConfigError
        A row cannot be parsed, or a name occurs twice.
    """
    with open(path, newline="") as stream:
        rows = list(csv.DictReader(line for line in stream if not line.startswith("#")))
    try:
        result = Calibrators(
            np.array([r["name"] for r in rows], dtype=str),
            np.array([float(r["ra_deg"]) for r in rows]),
            np.array([float(r["dec_deg"]) for r in rows]),
            np.array([float(r["flux_jy"]) for r in rows]),
            np.array([float(r["spectral_index"] or "nan") for r in rows]),
            np.array([r["primary"] == "1" for r in rows], dtype=bool),
            tuple(tuple(float(c) for c in r["coefficients"].split()) for r in rows),
            np.array([r["note"] or "" for r in rows], dtype=str),
        )
    except (KeyError, ValueError, AttributeError) as error:
        raise ConfigError(f"{path}: not a calibrator table ({error})") from error
    if len(set(result.name)) != len(result):
        raise ConfigError(f"{path}: a calibrator is named twice")
    if any(p and not c for p, c in zip(result.primary, result.coefficients, strict=True)):
        raise ConfigError(f"{path}: a primary calibrator lacks its coefficients")
    return result
