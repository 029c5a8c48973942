"""The strip's reference catalogue: NVSS from VizieR, or a local one, through one interface."""

import itertools
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dsaflow.catalog.table import COLUMNS, Catalog, read_catalog, write_catalog
from dsaflow.errors import ConfigError, EnvironmentProblem
from dsaflow.verdict import Verdict

_RA_CHUNK_DEG = 15.0


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
    offset = np.abs(catalog.dec_deg - strip_dec_deg)
    near = (offset <= options.half_height_deg) & _inside(catalog.ra_deg, ra_range_deg)
    bright = (catalog.flux_jy >= options.bright_min_jy) & (offset <= options.bright_half_height_deg)
    bright &= _inside(catalog.ra_deg, bright_range(strip_dec_deg, ra_range_deg, options))
    if near.any():
        catalog = catalog.select(near | bright)
    else:
        raise ConfigError(
            f"catalogue {catalog.origin} has no source within {options.half_height_deg} deg "
            f"of declination {strip_dec_deg:+.1f} at RA {ra_range_deg[0]:.1f} to "
            f"{ra_range_deg[1]:.1f}: set paths.reference_catalog to one that covers the strip"
        )
    write_catalog(out_path, catalog)
    return Verdict(
        detail=f"{len(catalog)} sources of {catalog.origin} {catalog.version}",
        numbers={
            "n_source": len(catalog),
            "n_bright_outside": int((bright & ~near).sum()),
            "n_compact": int(catalog.compact.sum()),
            "min_flux_jy": float(catalog.flux_jy.min()),
            "frequency_hz": catalog.frequency_hz,
        },
        provenance={**Verdict().provenance, "origin": catalog.origin, "edition": catalog.version},
    )


def bright_range(
    strip_dec_deg: float, ra_range_deg: tuple[float, float], options
) -> tuple[float, float]:
    """West and east end [deg] of the range in which bright sources are kept; (0, 360) for all.

    The strip's own range reaches 5 deg on the sky beyond its tiles; what is added is as wide as
    the bright range is high, at the declination where a degree of right ascension is shortest.
    """
    width = ra_range_deg[1] - ra_range_deg[0]
    width = 360.0 if width >= 360.0 else width % 360.0
    poleward = abs(strip_dec_deg) + options.bright_half_height_deg
    if poleward >= 89.0:
        return 0.0, 360.0
    margin = options.bright_half_height_deg / np.cos(np.radians(poleward))
    if width + 2 * margin >= 360.0:
        return 0.0, 360.0
    return (ra_range_deg[0] - margin) % 360.0, (ra_range_deg[1] + margin) % 360.0


def _inside(ra_deg: NDArray, ra_range_deg: tuple[float, float]) -> NDArray:
    width = ra_range_deg[1] - ra_range_deg[0]
    if width >= 360.0:
        return np.ones(len(ra_deg), dtype=bool)
    return (ra_deg - ra_range_deg[0]) % 360.0 <= width % 360.0


def _local(path: Path) -> Catalog:
    if not path.is_file():
        raise EnvironmentProblem(
            f"paths.reference_catalog names {path}, which does not exist: put there a Parquet "
            f"catalogue (columns {', '.join(COLUMNS)}; metadata frequency_hz) or NVSS rows from VizieR as FITS"
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
            for constraints in _queries(strip_dec_deg, ra_range_deg, options):
                found = service.query_constraints(catalog=options.vizier_table, **constraints)
                tables.extend(found[:1])
        except (OSError, TimeoutError) as error:
            raise EnvironmentProblem(
                f"VizieR cannot be reached ({type(error).__name__}), and there is no local catalogue. "
                f"Either put the strip's catalogue at {out_path} (Parquet: {', '.join(COLUMNS)}; "
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


def _queries(strip_dec_deg: float, ra_range_deg: tuple[float, float], options) -> list[dict]:
    """VizieR's constraints: all of the strip in pieces, then the bright sources around it."""

    def declinations(half_height_deg: float) -> str:
        ends = (max(-90.0, min(90.0, strip_dec_deg + s * half_height_deg)) for s in (-1, 1))
        return "..".join(f"{end:.4f}" for end in ends)

    every = declinations(options.half_height_deg)
    bright = {
        "DEJ2000": declinations(options.bright_half_height_deg),
        "S1.4": f">={1e3 * options.bright_min_jy:g}",
    }
    around = bright_range(strip_dec_deg, ra_range_deg, options)
    return [
        {"RAJ2000": f"{west:.4f}..{east:.4f}", **more}
        for pieces, more in ((ra_range_deg, {"DEJ2000": every}), (around, bright))
        for west, east in ra_pieces(pieces)
    ]


def ra_pieces(ra_range_deg: tuple[float, float]) -> list[tuple[float, float]]:
    """Cut a range of RA [deg], which may pass through 0 h, into pieces of at most 15 deg."""
    west, east = ra_range_deg
    width = 360.0 if east - west >= 360.0 else (east - west) % 360.0
    edges = [west % 360.0 + min(i * _RA_CHUNK_DEG, width) for i in range(int(width // 15.0) + 2)]
    pieces = []
    for a, b in itertools.pairwise(edges):
        if b <= a:
            continue
        if a < 360.0 < b:
            pieces += [(a, 360.0), (0.0, b - 360.0)]
        else:
            pieces.append((a % 360.0, b - 360.0 if a >= 360.0 else b))
    return pieces
