"""All epochs' photometry as arrays: one row a source, one column an epoch."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dsaflow.errors import DataRejected, ReasonCode

REQUIRED_COLUMNS = (
    "source_id",
    "ra_deg",
    "dec_deg",
    "strip",
    "epoch",
    "mjd",
    "group_id",
    "weight",
    "flux_jy",
    "flux_err_jy",
    "scale_err",
    "is_limit",
    "upper_limit_jy",
    "isolated",
    "compact",
    "qa",
)


@dataclass
class LightCurves:
    """Photometry of every source at every epoch, the primary measurement of each.

    Attributes
    ----------
    source_id : ndarray of str, shape (n_source,)
        Sorted.
    ra_deg, dec_deg : ndarray, shape (n_source,)
    compact, isolated : ndarray of bool, shape (n_source,)
        `isolated` where it is so at half of the epochs or more.
    epoch : ndarray of int, shape (n_epoch,)
        Sorted sidereal-day numbers.
    mjd : ndarray, shape (n_epoch,)
        Median over the sources [d].
    used : ndarray of bool, shape (n_source, n_epoch)
        A finite measurement that quality assurance did not reject.
    flux_jy, flux_err_jy : ndarray, shape (n_source, n_epoch)
        [Jy]; NaN where not used.
    scale_err : ndarray, shape (n_source, n_epoch)
        Relative error of the amplitude scale as calibration gives it (a fraction).
    band_flux_jy, band_flux_err_jy : ndarray, shape (n_band, n_source, n_epoch)
        [Jy]; NaN where not used or not measured.
    band_freq_hz : ndarray, shape (n_band,)
    row : ndarray of int, shape (n_source, n_epoch)
        Index into `rows`, -1 where there is no measurement.
    rows : dict of ndarray
        Every input column.
    strip : str
    """

    source_id: np.ndarray
    ra_deg: np.ndarray
    dec_deg: np.ndarray
    compact: np.ndarray
    isolated: np.ndarray
    epoch: np.ndarray
    mjd: np.ndarray
    used: np.ndarray
    flux_jy: np.ndarray
    flux_err_jy: np.ndarray
    scale_err: np.ndarray
    band_flux_jy: np.ndarray
    band_flux_err_jy: np.ndarray
    band_freq_hz: np.ndarray
    row: np.ndarray
    rows: dict[str, np.ndarray]
    strip: str

    @property
    def median_flux_jy(self) -> np.ndarray:
        """Median over the used epochs [Jy], NaN without any, shape (n_source,)."""
        return nan_median(self.flux_jy)

    @property
    def median_snr(self) -> np.ndarray:
        """Median flux over median error, shape (n_source,)."""
        return self.median_flux_jy / nan_median(self.flux_err_jy)


def nan_median(values: np.ndarray) -> np.ndarray:
    """Median along the last axis without NaN; NaN (and no warning) where nothing is finite."""
    ordered = np.sort(np.where(np.isfinite(values), values, np.nan), axis=-1)  # NaN come last
    count = np.isfinite(ordered).sum(axis=-1)[..., None]
    if ordered.shape[-1] == 0:
        return np.full(values.shape[:-1], np.nan)
    low = np.take_along_axis(ordered, np.maximum(count - 1, 0) // 2, axis=-1)
    high = np.take_along_axis(ordered, np.minimum(count // 2, ordered.shape[-1] - 1), axis=-1)
    return 0.5 * (low + high)[..., 0]


def read_photometry(
    paths: Sequence[str | os.PathLike],
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Read and join photometry tables; tables without rows (rejected mosaics) are passed over.

    Returns
    -------
    rows : dict of ndarray
        The columns that all tables have, in the order of the paths.
    band_freq_hz : ndarray, shape (n_band,)

    Raises
    ------
    DataRejected
        A table lacks a column of the contract, or its sub-bands differ from the others'.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables = []
    frequencies: list[float] | None = None
    for path in paths:
        table = pq.read_table(path)
        if table.num_rows == 0:
            continue
        missing = [name for name in REQUIRED_COLUMNS if name not in table.column_names]
        if missing:
            raise DataRejected(ReasonCode.HEADER_MISMATCH, f"{path} lacks the columns {missing}")
        own = json.loads((table.schema.metadata or {}).get(b"band_freq_hz", b"[]"))
        # Flagging moves a sub-band's mean frequency a little; 10 MHz is a fifth of a sub-band.
        if frequencies is not None and (
            len(own) != len(frequencies) or not np.allclose(own, frequencies, rtol=0, atol=1e7)
        ):
            raise DataRejected(
                ReasonCode.WRONG_BAND, f"{path} has sub-bands at {own}, others at {frequencies} Hz"
            )
        frequencies = own
        tables.append(table.replace_schema_metadata(None))
    if not tables:
        return {}, np.zeros(0)
    common = [c for c in tables[0].column_names if all(c in t.column_names for t in tables)]
    joined = pa.concat_tables(
        [_plain(t.select(common)) for t in tables], promote_options="permissive"
    )
    rows = {name: joined[name].to_numpy() for name in common}
    for name in ("source_id", "strip", "group_id", "qa"):
        rows[name] = rows[name].astype(str)
    return rows, np.array(frequencies or [], float)


def _plain(table):
    import pyarrow as pa

    return table.cast(pa.schema([pa.field(f.name, f.type) for f in table.schema]))


def build(rows: dict[str, np.ndarray], band_freq_hz: np.ndarray) -> LightCurves:
    """Arrange joined rows into light curves.

    Of several rows of a source at an epoch the usable one of highest weight is primary.

    Raises
    ------
    DataRejected
        Rows of several declination strips (their epochs and scales are not comparable).
    """
    strips = np.unique(rows["strip"])
    if len(strips) != 1:
        raise DataRejected(ReasonCode.STRIPS_MIXED, f"photometry of several strips: {list(strips)}")
    source_id, source = np.unique(rows["source_id"], return_inverse=True)
    epoch, column = np.unique(rows["epoch"].astype(np.int64), return_inverse=True)
    flux, error = rows["flux_jy"].astype(float), rows["flux_err_jy"].astype(float)
    usable = np.isfinite(flux) & np.isfinite(error) & (error > 0) & (rows["qa"] != "reject")
    weight = np.nan_to_num(rows["weight"].astype(float), nan=-np.inf)
    order = np.lexsort((rows["group_id"], -weight, ~usable, column, source))
    first = np.ones(len(order), bool)
    first[1:] = (np.diff(source[order]) != 0) | (np.diff(column[order]) != 0)
    primary = order[first]

    shape = (len(source_id), len(epoch))
    row = np.full(shape, -1)
    row[source[primary], column[primary]] = primary
    used = (row >= 0) & usable[row]

    def grid(name: str) -> np.ndarray:
        return np.where(used, rows[name].astype(float)[row], np.nan)

    def per_source(name: str) -> np.ndarray:
        """Value of the first primary row of each source (used or not)."""
        return rows[name][row[np.arange(shape[0]), (row >= 0).argmax(axis=1)]]

    n_band = len(band_freq_hz)
    bands = np.array([grid(f"flux_b{k}_jy") for k in range(n_band)]).reshape(n_band, *shape)
    errors = np.array([grid(f"flux_err_b{k}_jy") for k in range(n_band)]).reshape(n_band, *shape)
    bad = ~(np.isfinite(bands) & (errors > 0))
    bands[bad] = np.nan
    errors[bad] = np.nan
    here = row >= 0
    isolated = (here & rows["isolated"].astype(bool)[row]).sum(axis=1) >= 0.5 * here.sum(axis=1)
    by_epoch = primary[np.argsort(column[primary], kind="stable")]
    starts = np.searchsorted(column[by_epoch], np.arange(1, shape[1]))
    mjd = np.array([np.median(part) for part in np.split(rows["mjd"][by_epoch], starts)])
    return LightCurves(
        source_id=source_id,
        ra_deg=per_source("ra_deg").astype(float),
        dec_deg=per_source("dec_deg").astype(float),
        compact=per_source("compact").astype(bool),
        isolated=isolated,
        epoch=epoch,
        mjd=mjd,
        used=used,
        flux_jy=grid("flux_jy"),
        flux_err_jy=grid("flux_err_jy"),
        scale_err=grid("scale_err"),
        band_flux_jy=bands,
        band_flux_err_jy=errors,
        band_freq_hz=band_freq_hz,
        row=row,
        rows=rows,
        strip=str(strips[0]),
    )


def empty() -> LightCurves:
    """No source, no epoch: what a strip without any photometry has."""
    text, number, truth = np.zeros(0, str), np.zeros(0), np.zeros(0, bool)
    rows = dict.fromkeys(REQUIRED_COLUMNS, number)
    rows |= dict.fromkeys(("source_id", "strip", "group_id", "qa"), text)
    rows |= dict.fromkeys(("is_limit", "isolated", "compact"), truth)
    grid = np.zeros((0, 0))
    cube = np.zeros((0, 0, 0))
    return LightCurves(
        text,
        number,
        number,
        truth,
        truth,
        np.zeros(0, np.int64),
        number,
        grid.astype(bool),
        grid,
        grid,
        grid,
        cube,
        cube,
        number,
        grid.astype(int),
        rows,
        "",
    )
