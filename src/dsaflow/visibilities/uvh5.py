"""Reading UVH5 files: the telescope's own, and those of other drift-scan and tracking arrays.

A UVH5 baseline is position(antenna 2) - position(antenna 1) and a source is
exp(+2 pi i nu/c (u l + v m + w n)) on it (pyuvdata memo "UVH5 file format").
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from dsaflow.errors import DataRejected, ReasonCode
from dsaflow.visibilities.phasecentre import PhaseCentre, read_phase_centre

AIPS_POLARIZATION = {-5: "XX", -6: "YY"}
_JD_OF_MJD_ZERO = 2400000.5
_SAME_TIME_S = 1e-3


@dataclass
class Header:
    """What one UVH5 file says about itself, put into time-major order.

    Attributes
    ----------
    path : Path
    telescope : str
    site_deg_m : tuple
        Longitude, latitude [deg], height [m] of the array.
    antenna_name : list of str, length n_antenna
        Antennas that take part in a baseline, in the file's order.
    antenna_relative_m, antenna_itrf_m : ndarray, shape (n_antenna, 3)
        ECEF axes, relative to the telescope location and geocentric.
    antenna1, antenna2 : int ndarray, shape (n_baseline,)
        Indices into `antenna_name` of the cross-correlations, as ordered in the file.
    uvw_m : float64 ndarray, shape (n_time, n_baseline, 3)
        As the file has it: position(antenna2) - position(antenna1). For checks only.
    time_mjd : ndarray, shape (n_time,)
        UTC, middle of the integration.
    integration_s : float
    freq_hz : ndarray, shape (n_channel,)
        As ordered in the file.
    channel_width_hz : float
        Positive.
    polarization_index : ndarray, shape (2,)
        Where XX and YY are on the file's polarisation axis.
    rows : int ndarray, shape (n_time, n_baseline)
        Rows of the file's data for each time and cross-correlation.
    phase_centre : PhaseCentre
    """

    path: Path
    telescope: str
    site_deg_m: tuple[float, float, float]
    antenna_name: list[str]
    antenna_relative_m: NDArray
    antenna_itrf_m: NDArray
    antenna1: NDArray
    antenna2: NDArray
    uvw_m: NDArray
    time_mjd: NDArray
    integration_s: float
    freq_hz: NDArray
    channel_width_hz: float
    polarization_index: NDArray
    rows: NDArray
    phase_centre: PhaseCentre


def text(value: Any) -> str:
    """Decode a scalar string of an HDF5 file, of whatever type it was written as."""
    if isinstance(value, np.ndarray):
        value = value.item() if value.shape == () else value.ravel()[0]
    return value.decode() if isinstance(value, bytes) else str(value)


def read_header(path: str | os.PathLike) -> Header:
    """Read and check one file's header.

    Raises
    ------
    DataRejected
        ZERO_BYTE, TRUNCATED_HDF5 or UNREADABLE for a damaged file; HEADER_MISMATCH where the
        baselines or polarisations are not what can be converted.
    OSError
        The machine failed (no such file, no permission, I/O error).
    """
    path = Path(path)
    with open_uvh5(path) as file:
        try:
            return _header(path, file["Header"])
        except (KeyError, OSError, UnicodeDecodeError) as error:
            raise DataRejected(ReasonCode.UNREADABLE, f"{path.name}: {error}") from error


def open_uvh5(path: Path) -> h5py.File:
    """Open a file for reading, telling damage apart from trouble with the machine."""
    if path.stat().st_size == 0:
        raise DataRejected(ReasonCode.ZERO_BYTE, f"{path.name} has no bytes")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        if error.errno:
            raise
        with open(path, "rb") as stream:
            signed = stream.read(8) == b"\x89HDF\r\n\x1a\n"
        code = ReasonCode.TRUNCATED_HDF5 if signed else ReasonCode.UNREADABLE
        raise DataRejected(code, f"{path.name}: {error}") from error


def _header(path: Path, group: h5py.Group) -> Header:
    def mismatch(detail: str) -> DataRejected:
        return DataRejected(ReasonCode.HEADER_MISMATCH, f"{path.name}: {detail}")

    import erfa

    site = tuple(float(group[key][()]) for key in ("longitude", "latitude", "altitude"))
    centre_m = erfa.gd2gc(1, np.radians(site[0]), np.radians(site[1]), site[2])
    number = np.asarray(group["antenna_numbers"][()])
    names = [text(name) for name in group["antenna_names"][()]]
    ant1, ant2 = group["ant_1_array"][()], group["ant_2_array"][()]
    seen = np.unique(np.concatenate([np.unique(ant1), np.unique(ant2)]))
    if missing := set(seen.tolist()) - set(number.tolist()):
        raise mismatch(f"baselines of antennas {sorted(missing)} that have no position")
    used = np.isin(number, seen)
    relative_m = np.asarray(group["antenna_positions"][()], dtype=np.float64)[used]
    polarization = np.asarray(group["polarization_array"][()]).tolist()
    if not set(AIPS_POLARIZATION) <= set(polarization):
        raise mismatch(f"polarisations {polarization} lack XX (-5) or YY (-6)")
    freq_hz = np.asarray(group["freq_array"][()], dtype=np.float64).ravel()
    time_jd = np.asarray(group["time_array"][()], dtype=np.float64)
    ascending = np.argsort(number[used])
    a1 = ascending[np.searchsorted(number[used], ant1, sorter=ascending)]
    a2 = ascending[np.searchsorted(number[used], ant2, sorter=ascending)]
    rows = _time_major(time_jd, a1, a2, mismatch)
    uvw_m = np.asarray(group["uvw_array"][()], dtype=np.float64)
    time_mjd = time_jd[rows[:, 0]] - _JD_OF_MJD_ZERO
    return Header(
        path=path,
        telescope=text(group["telescope_name"][()]),
        site_deg_m=site,  # type: ignore[arg-type]
        antenna_name=[name for name, keep in zip(names, used, strict=True) if keep],
        antenna_relative_m=relative_m,
        antenna_itrf_m=relative_m + centre_m,
        antenna1=a1[rows[0]],
        antenna2=a2[rows[0]],
        uvw_m=uvw_m[rows],
        time_mjd=time_mjd,
        integration_s=float(np.median(group["integration_time"][()])),
        freq_hz=freq_hz,
        channel_width_hz=float(np.median(np.abs(group["channel_width"][()]))),
        polarization_index=np.array([polarization.index(p) for p in AIPS_POLARIZATION]),
        rows=rows,
        phase_centre=read_phase_centre(group, rows[:, 0], time_mjd, site, mismatch),
    )


def _time_major(time_jd: NDArray, ant1: NDArray, ant2: NDArray, mismatch) -> NDArray:
    """Rows of the cross-correlations by time and baseline, in the file's order where it has one."""
    # times of one integration agree but for rounding in files written by others
    step = np.diff(np.sort(time_jd)) * 86400.0 > _SAME_TIME_S
    edges = np.sort(time_jd)[np.concatenate([[True], step])]
    when = np.searchsorted(edges, time_jd + 0.5 * _SAME_TIME_S / 86400.0) - 1
    n_time = edges.size
    if time_jd.size % n_time:
        raise mismatch(f"{time_jd.size} rows are no multiple of {n_time} times")
    order = np.arange(time_jd.size)
    contiguous = bool(np.all(np.diff(when) >= 0))
    grid1, grid2 = ant1.reshape(n_time, -1), ant2.reshape(n_time, -1)
    contiguous = contiguous and bool((grid1 == grid1[0]).all() and (grid2 == grid2[0]).all())
    if not contiguous:
        order = np.lexsort((ant2, ant1, when))
    rows = order.reshape(n_time, -1)
    one_time = (when[rows] == np.arange(n_time)[:, None]).all()
    if not one_time or (ant1[rows] != ant1[rows[0]]).any() or (ant2[rows] != ant2[rows[0]]).any():
        raise mismatch("the times do not all have the same baselines")
    pairs = np.stack([np.minimum(ant1, ant2), np.maximum(ant1, ant2)])[:, rows[0]]
    if np.unique(pairs, axis=1).shape[1] != rows.shape[1]:
        raise mismatch("a baseline occurs twice in one integration")
    cross = ant1[rows[0]] != ant2[rows[0]]
    if not cross.any():
        raise mismatch("there are no cross-correlations")
    return rows[:, cross]


def read_visibilities(header: Header) -> tuple[NDArray, NDArray]:
    """Read one file's cross-correlations and flags, XX and YY, as stored (UVH5's sign).

    Returns
    -------
    data : complex64 ndarray, shape (n_time, n_baseline, n_channel, 2)
    flags : bool ndarray, same shape

    Raises
    ------
    DataRejected
        UNREADABLE or TRUNCATED_HDF5 where the file's data cannot be read.
    """
    with open_uvh5(header.path) as file:
        try:
            return _ordered(file["Data/visdata"], header), _ordered(file["Data/flags"], header)
        except (KeyError, OSError) as error:
            if isinstance(error, OSError) and error.errno:
                raise
            raise DataRejected(ReasonCode.UNREADABLE, f"{header.path.name}: {error}") from error


def _ordered(dataset: h5py.Dataset, header: Header) -> NDArray:
    values = dataset[()]
    if values.dtype.names:
        parts = values
        values = np.empty(parts.shape, np.complex64)
        values.real, values.imag = parts[parts.dtype.names[0]], parts[parts.dtype.names[1]]
    elif values.dtype.kind == "c":
        values = values.astype(np.complex64, copy=False)
    if values.ndim == 4:  # files before pyuvdata 2.2 have an axis of spectral windows
        values = values[:, 0]
    n_time, n_baseline = header.rows.shape
    expected = (header.freq_hz.size, 2)
    if values.shape[1] != expected[0] or values.shape[2] <= header.polarization_index.max():
        raise KeyError(f"{dataset.name} has shape {dataset.shape}, not the header's")
    if not np.array_equal(header.polarization_index, np.arange(values.shape[2])):
        values = values[:, :, header.polarization_index]
    return values[header.rows.ravel()].reshape(n_time, n_baseline, *expected)
