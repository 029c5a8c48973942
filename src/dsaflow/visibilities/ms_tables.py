"""Subtables of a Measurement Set, filled so that WSClean, DP3 and CASA open it."""

from typing import Any

import numpy as np

from dsaflow import __version__
from dsaflow.visibilities.container import Visibilities

# casacore Stokes enumeration
POLARIZATION_CODE = {"XX": 9, "XY": 10, "YX": 11, "YY": 12}
_DISH_DIAMETER_M = 4.65


def write_subtables(table: Any, vis: Visibilities) -> None:
    """Fill every required subtable of a Measurement Set that `default_ms` made.

    Parameters
    ----------
    table : casacore.tables.table
        The main table, open for writing.
    vis : Visibilities
    """
    centre = np.radians([[vis.phase_ra_deg, vis.phase_dec_deg]])
    begin_s = (vis.time_mjd[0] * 86400.0) - 0.5 * vis.integration_s
    end_s = (vis.time_mjd[-1] * 86400.0) + 0.5 * vis.integration_s
    mid_s = 0.5 * (begin_s + end_s)
    n_antenna, n_channel = vis.n_antenna, vis.freq_hz.size
    pols = vis.polarization
    _fill(table, "ANTENNA", n_antenna, {
        "NAME": list(vis.antenna_name),
        "STATION": list(vis.antenna_name),
        "TYPE": ["GROUND-BASED"] * n_antenna,
        "MOUNT": ["ALT-AZ"] * n_antenna,
        "POSITION": vis.antenna_itrf_m,
        "OFFSET": np.zeros((n_antenna, 3)),
        "DISH_DIAMETER": np.full(n_antenna, _DISH_DIAMETER_M),
        "FLAG_ROW": np.zeros(n_antenna, bool),
    })  # fmt: skip
    identity = np.broadcast_to(np.eye(2, dtype=np.complex64), (n_antenna, 2, 2))
    _fill(table, "FEED", n_antenna, {
        "ANTENNA_ID": np.arange(n_antenna, dtype=np.int32),
        "FEED_ID": np.zeros(n_antenna, np.int32),
        "SPECTRAL_WINDOW_ID": np.full(n_antenna, -1, np.int32),
        "TIME": np.full(n_antenna, mid_s),
        "INTERVAL": np.full(n_antenna, end_s - begin_s),
        "NUM_RECEPTORS": np.full(n_antenna, 2, np.int32),
        "BEAM_ID": np.full(n_antenna, -1, np.int32),
        "BEAM_OFFSET": np.zeros((n_antenna, 2, 2)),
        "POLARIZATION_TYPE": {"shape": [n_antenna, 2], "array": ["X", "Y"] * n_antenna},
        "POL_RESPONSE": np.ascontiguousarray(identity),
        "POSITION": np.zeros((n_antenna, 3)),
        "RECEPTOR_ANGLE": np.zeros((n_antenna, 2)),
    })  # fmt: skip
    _fill(table, "FIELD", 1, {
        "NAME": [f"ra{vis.phase_ra_deg:.4f}dec{vis.phase_dec_deg:+.4f}"],
        "CODE": [""],
        "TIME": np.array([mid_s]),
        "NUM_POLY": np.zeros(1, np.int32),
        "DELAY_DIR": centre[None],
        "PHASE_DIR": centre[None],
        "REFERENCE_DIR": centre[None],
        "SOURCE_ID": np.full(1, -1, np.int32),
        "FLAG_ROW": np.zeros(1, bool),
    }, icrs=("DELAY_DIR", "PHASE_DIR", "REFERENCE_DIR"))  # fmt: skip
    _fill(table, "OBSERVATION", 1, {
        "TELESCOPE_NAME": [vis.telescope],
        "TIME_RANGE": np.array([[begin_s, end_s]]),
        "OBSERVER": [""],
        "PROJECT": [""],
        "SCHEDULE_TYPE": [""],
        "LOG": {"shape": [1, 1], "array": [""]},
        "SCHEDULE": {"shape": [1, 1], "array": [""]},
        "RELEASE_DATE": np.array([end_s]),
        "FLAG_ROW": np.zeros(1, bool),
    })  # fmt: skip
    _fill(table, "POLARIZATION", 1, {
        "NUM_CORR": np.array([len(pols)], np.int32),
        "CORR_TYPE": np.array([[POLARIZATION_CODE[p] for p in pols]], np.int32),
        "CORR_PRODUCT": np.array([[["XY".index(r) for r in p] for p in pols]], np.int32),
        "FLAG_ROW": np.zeros(1, bool),
    })  # fmt: skip
    width = np.full((1, n_channel), vis.channel_width_hz)
    _fill(table, "SPECTRAL_WINDOW", 1, {
        "NAME": ["band"],
        "NUM_CHAN": np.array([n_channel], np.int32),
        "CHAN_FREQ": vis.freq_hz[None],
        "CHAN_WIDTH": width,
        "EFFECTIVE_BW": width,
        "RESOLUTION": width,
        "REF_FREQUENCY": np.array([vis.freq_hz.mean()]),
        "TOTAL_BANDWIDTH": np.array([n_channel * vis.channel_width_hz]),
        "MEAS_FREQ_REF": np.full(1, 5, np.int32),  # topocentric
        "IF_CONV_CHAIN": np.zeros(1, np.int32),
        "NET_SIDEBAND": np.ones(1, np.int32),
        "FREQ_GROUP": np.zeros(1, np.int32),
        "FREQ_GROUP_NAME": ["band"],
        "FLAG_ROW": np.zeros(1, bool),
    })  # fmt: skip
    _fill(table, "DATA_DESCRIPTION", 1, {
        "SPECTRAL_WINDOW_ID": np.zeros(1, np.int32),
        "POLARIZATION_ID": np.zeros(1, np.int32),
        "FLAG_ROW": np.zeros(1, bool),
    })  # fmt: skip
    _fill(table, "STATE", 1, {
        "SIG": np.ones(1, bool),
        "REF": np.zeros(1, bool),
        "CAL": np.zeros(1),
        "LOAD": np.zeros(1),
        "SUB_SCAN": np.zeros(1, np.int32),
        "OBS_MODE": ["OBSERVE_TARGET.ON_SOURCE"],
        "FLAG_ROW": np.zeros(1, bool),
    })  # fmt: skip
    _fill(table, "PROCESSOR", 1, {
        "TYPE": ["CORRELATOR"],
        "SUB_TYPE": [""],
        "TYPE_ID": np.full(1, -1, np.int32),
        "MODE_ID": np.full(1, -1, np.int32),
        "FLAG_ROW": np.zeros(1, bool),
    })  # fmt: skip
    directions = np.broadcast_to(centre[None], (n_antenna, 1, 2))
    _fill(table, "POINTING", n_antenna, {
        "ANTENNA_ID": np.arange(n_antenna, dtype=np.int32),
        "TIME": np.full(n_antenna, mid_s),
        "INTERVAL": np.full(n_antenna, end_s - begin_s),
        "NAME": [""] * n_antenna,
        "NUM_POLY": np.zeros(n_antenna, np.int32),
        "TIME_ORIGIN": np.full(n_antenna, mid_s),
        "DIRECTION": np.ascontiguousarray(directions),
        "TARGET": np.ascontiguousarray(directions),
        "TRACKING": np.zeros(n_antenna, bool),
    }, icrs=("DIRECTION", "TARGET"))  # fmt: skip
    _fill(table, "HISTORY", 1, {
        "TIME": np.array([end_s]),
        "OBSERVATION_ID": np.zeros(1, np.int32),
        "MESSAGE": ["converted from UVH5"],
        "PRIORITY": ["INFO"],
        "ORIGIN": [f"dsaflow {__version__}"],
        "OBJECT_ID": np.zeros(1, np.int32),
        "APPLICATION": ["dsaflow"],
        "CLI_COMMAND": {"shape": [1, 1], "array": [""]},
        "APP_PARAMS": {"shape": [1, 1], "array": [""]},
    })  # fmt: skip


def _fill(
    table: Any, name: str, n_row: int, columns: dict[str, Any], icrs: tuple[str, ...] = ()
) -> None:
    from casacore import tables

    with tables.table(table.getkeyword(name), readonly=False, ack=False) as sub:
        sub.addrows(n_row)
        for column, values in columns.items():
            sub.putcol(column, values)
        for column in icrs:
            keyword = sub.getcolkeyword(column, "MEASINFO")
            sub.putcolkeyword(column, "MEASINFO", keyword | {"Ref": "ICRS"})
