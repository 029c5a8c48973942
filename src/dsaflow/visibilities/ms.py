"""Measurement Sets: writing and reading one tile's visibilities.

Rows are time-major, cross-correlations only, one spectral window with ascending channels.
What the standard has no place for (the pointing's apparent declination, times in MJD to the last
bit) is in the record ``DSAFLOW`` of the main table's keywords.
"""

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsaflow.errors import DataRejected, ReasonCode
from dsaflow.fileio import atomic_directory
from dsaflow.visibilities.container import Visibilities
from dsaflow.visibilities.ms_tables import POLARIZATION_CODE, write_subtables

KEYWORD = "DSAFLOW"
SECONDS = 86400.0
# One tile of the storage manager holds about this many visibilities: 1 MiB of complex64.
_TILE_CELLS = 131072


def write_ms(path: str | os.PathLike, vis: Visibilities) -> None:
    """Write visibilities as a Measurement Set, atomically.

    Parameters
    ----------
    path : path
        Replaced where it exists.
    vis : Visibilities
        ``extra["weight_spectrum"]``, float32 of the data's shape, becomes WEIGHT_SPECTRUM.
    """
    from casacore import tables

    n_time, n_baseline, n_channel, n_pol = vis.data.shape
    shape = [n_channel, n_pol]
    rows_in_tile = max(1, _TILE_CELLS // (n_channel * n_pol))
    names = ["DATA", "FLAG"]
    columns = [
        tables.makearrcoldesc("DATA", 0j, valuetype="complex", ndim=2, shape=shape,
                              datamanagertype="TiledColumnStMan", datamanagergroup="TiledDATA"),
        tables.makearrcoldesc("FLAG", False, valuetype="bool", ndim=2, shape=shape,
                              datamanagertype="TiledColumnStMan", datamanagergroup="TiledFLAG"),
        tables.makearrcoldesc("UVW", 0.0, valuetype="double", ndim=1, shape=[3],
                              datamanagertype="TiledColumnStMan", datamanagergroup="TiledUVW",
                              keywords=_uvw_keywords()),
    ]  # fmt: skip
    weights = vis.extra.get("weight_spectrum")
    if weights is not None:
        names.append("WEIGHT_SPECTRUM")
        columns.append(
            tables.makearrcoldesc("WEIGHT_SPECTRUM", 0.0, valuetype="float", ndim=2, shape=shape,
                                  datamanagertype="TiledColumnStMan",
                                  datamanagergroup="TiledWEIGHT_SPECTRUM")
        )  # fmt: skip
    managers = {
        f"*{i}": {
            "NAME": f"Tiled{name}",
            "TYPE": "TiledColumnStMan",
            "SPEC": {"DEFAULTTILESHAPE": np.array([n_pol, n_channel, rows_in_tile], np.int32)},
        }
        for i, name in enumerate(names)
    }
    managers["*uvw"] = {
        "NAME": "TiledUVW",
        "TYPE": "TiledColumnStMan",
        "SPEC": {"DEFAULTTILESHAPE": np.array([3, 4096], np.int32)},
    }
    with atomic_directory(path) as temporary:
        table = tables.default_ms(str(temporary), tables.maketabdesc(columns), managers)
        try:
            table.addrows(n_time * n_baseline)
            _write_rows(table, vis)
            table.putkeyword(KEYWORD, _record(vis))
            write_subtables(table, vis)
            table.flush(True)
        finally:
            table.close()


def _uvw_keywords() -> dict[str, Any]:
    return {
        "QuantumUnits": np.array(["m", "m", "m"]),
        "MEASINFO": {"type": "uvw", "Ref": "ICRS"},
    }


def _record(vis: Visibilities) -> dict[str, Any]:
    return {
        "pointing_dec_deg": float(vis.pointing_dec_deg),
        "phase_ra_deg": float(vis.phase_ra_deg),
        "phase_dec_deg": float(vis.phase_dec_deg),
        "site_deg_m": np.array(vis.site_deg_m, dtype=float),
        "time_mjd": np.array(vis.time_mjd, dtype=float),
    }


def _write_rows(table: Any, vis: Visibilities) -> None:
    n_time, n_baseline, _, n_pol = vis.data.shape
    n_row = n_time * n_baseline
    time_s = np.repeat(vis.time_mjd * SECONDS, n_baseline)
    table.putcol("TIME", time_s)
    table.putcol("TIME_CENTROID", time_s)
    table.putcol("INTERVAL", np.full(n_row, vis.integration_s))
    table.putcol("EXPOSURE", np.full(n_row, vis.integration_s))
    table.putcol("ANTENNA1", np.tile(vis.antenna1.astype(np.int32), n_time))
    table.putcol("ANTENNA2", np.tile(vis.antenna2.astype(np.int32), n_time))
    for name in ("FEED1", "FEED2", "DATA_DESC_ID", "FIELD_ID", "ARRAY_ID", "OBSERVATION_ID",
                 "STATE_ID", "PROCESSOR_ID"):  # fmt: skip
        table.putcol(name, np.zeros(n_row, np.int32))
    table.putcol("SCAN_NUMBER", np.ones(n_row, np.int32))
    table.putcol("UVW", vis.uvw_m.reshape(n_row, 3))
    table.putcol("WEIGHT", np.ones((n_row, n_pol), np.float32))
    table.putcol("SIGMA", np.ones((n_row, n_pol), np.float32))
    flag_row = vis.flags.reshape(n_row, -1).all(axis=1)
    table.putcol("FLAG_ROW", flag_row)
    weights = vis.extra.get("weight_spectrum")
    for time in range(n_time):  # in slices, so that no second copy of the tile is ever in memory
        rows = time * n_baseline, n_baseline
        table.putcol("DATA", np.ascontiguousarray(vis.data[time], np.complex64), *rows)
        table.putcol("FLAG", np.ascontiguousarray(vis.flags[time]), *rows)
        if weights is not None:
            table.putcol("WEIGHT_SPECTRUM", np.ascontiguousarray(weights[time], np.float32), *rows)


def read_ms(path: str | os.PathLike) -> Visibilities:
    """Read a Measurement Set that `write_ms` wrote, whole.

    Raises
    ------
    DataRejected
        UNREADABLE where the set is none of this package's, or its rows are not time-major.
    """
    from casacore import tables

    with tables.table(str(path), ack=False) as table:
        if KEYWORD not in table.keywordnames():
            raise DataRejected(ReasonCode.UNREADABLE, f"{path} was not written by dsaflow")
        record = table.getkeyword(KEYWORD)
        time_mjd = np.asarray(record["time_mjd"], dtype=float)
        n_time = time_mjd.size
        n_baseline, remainder = divmod(table.nrows(), n_time)
        antenna1 = table.getcol("ANTENNA1").reshape(n_time, -1)
        antenna2 = table.getcol("ANTENNA2").reshape(n_time, -1)
        if remainder or (antenna1 != antenna1[0]).any() or (antenna2 != antenna2[0]).any():
            raise DataRejected(ReasonCode.UNREADABLE, f"{path}: rows are not time-major")
        window = _cell_columns(table, "SPECTRAL_WINDOW", "CHAN_FREQ", "CHAN_WIDTH")
        codes = _cell_columns(table, "POLARIZATION", "CORR_TYPE")["CORR_TYPE"]
        names = {code: name for name, code in POLARIZATION_CODE.items()}
        antennas = _cell_columns(table, "ANTENNA", "NAME", "POSITION", whole=True)
        observation = _cell_columns(table, "OBSERVATION", "TELESCOPE_NAME")
        shape = (n_time, n_baseline, window["CHAN_FREQ"].size, len(codes))
        extra = {}
        if "WEIGHT_SPECTRUM" in table.colnames():
            extra["weight_spectrum"] = _read_column(table, "WEIGHT_SPECTRUM", shape, np.float32)
        return Visibilities(
            data=_read_column(table, "DATA", shape, np.complex64),
            flags=_read_column(table, "FLAG", shape, bool),
            uvw_m=table.getcol("UVW").reshape(n_time, n_baseline, 3),
            antenna1=antenna1[0].astype(np.int64),
            antenna2=antenna2[0].astype(np.int64),
            time_mjd=time_mjd,
            integration_s=float(table.getcell("EXPOSURE", 0)),
            freq_hz=window["CHAN_FREQ"],
            channel_width_hz=float(window["CHAN_WIDTH"][0]),
            polarization=tuple(names[int(code)] for code in codes),
            antenna_name=list(antennas["NAME"]),
            antenna_itrf_m=antennas["POSITION"],
            phase_ra_deg=record["phase_ra_deg"],
            phase_dec_deg=record["phase_dec_deg"],
            pointing_dec_deg=record["pointing_dec_deg"],
            site_deg_m=tuple(float(v) for v in record["site_deg_m"]),  # type: ignore[arg-type]
            telescope=observation["TELESCOPE_NAME"],
            extra=extra,
        )


def _cell_columns(table: Any, subtable: str, *columns: str, whole: bool = False) -> dict[str, Any]:
    from casacore import tables

    with tables.table(table.getkeyword(subtable), ack=False) as sub:
        return {name: sub.getcol(name) if whole else sub.getcell(name, 0) for name in columns}


def _read_column(table: Any, name: str, shape: tuple[int, ...], kind: Any) -> NDArray:
    values = np.empty(shape, kind)
    for time in range(shape[0]):
        table.getcolnp(name, values[time], time * shape[1], shape[1])
    return values
