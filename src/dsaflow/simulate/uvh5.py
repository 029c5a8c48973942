"""UVH5 files as the correlator writes them."""

import os
from dataclasses import dataclass

import h5py
import numpy as np
from numpy.typing import NDArray

from dsaflow.fileio import atomic_file
from dsaflow.simulate.array import (
    CHANNEL_HZ,
    HEIGHT_M,
    INTEGRATION_S,
    LATITUDE_RAD,
    LONGITUDE_RAD,
    Array,
    meridian_enu,
    reference_itrf_m,
)


@dataclass(frozen=True)
class Frame:
    """What the 16 files of a group share.

    Attributes
    ----------
    jd : ndarray, shape (n_time,)
        UTC, middle of each integration.
    lst_rad : ndarray, shape (n_time,)
        Apparent.
    ant1, ant2 : ndarray, shape (n_baseline,)
        Antenna numbers (slots), autocorrelations included, ant1 <= ant2.
    declination_rad : float
        Pointing, apparent.
    """

    array: Array
    jd: NDArray
    lst_rad: NDArray
    ant1: NDArray
    ant2: NDArray
    declination_rad: float


def meridian_uvw_m(array: Array, ant1: NDArray, ant2: NDArray, declination_rad: float) -> NDArray:
    """Baselines x2 - x1 toward (hour angle 0, declination), shape (n_baseline, 3)."""
    baseline = array.enu_m[ant2] - array.enu_m[ant1]
    w_axis = meridian_enu(declination_rad)
    v_axis = np.array([0.0, w_axis[2], -w_axis[1]])
    return np.stack([baseline[:, 0], baseline @ v_axis, baseline @ w_axis], axis=1)


def write_uvh5(path: str | os.PathLike, frame: Frame, freq_hz: NDArray, data: NDArray) -> None:
    """Write one subband atomically.

    Parameters
    ----------
    path : path
    frame : Frame
    freq_hz : ndarray, shape (n_channel,)
        Descending.
    data : complex64 ndarray, shape (n_time, n_baseline, n_channel, 2)
        XX, YY in correlator units.
    """
    n_time, n_baseline, n_channel, n_pol = data.shape
    n_blt = n_time * n_baseline
    uvw = meridian_uvw_m(frame.array, frame.ant1, frame.ant2, frame.declination_rad)
    delays = applied_delays(frame.array)
    scalars = {
        "Nants_data": frame.array.used.size,
        "Nants_telescope": len(frame.array.name),
        "Nbls": n_baseline,
        "Nblts": n_blt,
        "Nfreqs": n_channel,
        "Npols": n_pol,
        "Nspws": 1,
        "Ntimes": n_time,
        "Nphase": 1,
        "latitude": np.degrees(LATITUDE_RAD),
        "longitude": np.degrees(LONGITUDE_RAD),
        "altitude": HEIGHT_M,
        "flex_spw": False,
    }
    texts = {
        "telescope_name": "OVRO_MMA",
        "telescope_frame": "itrs",
        "instrument": "DSA",
        "vis_units": "uncalib",
        "version": "1.2",
        "history": "dsaflow forward model",
    }
    with atomic_file(path) as temporary, h5py.File(temporary, "w") as file:
        header = file.create_group("Header")
        for key, value in scalars.items():
            header[key] = value
        for key, text in texts.items():
            header[key] = np.bytes_(text)
        for key, column in _columns(frame, freq_hz, uvw).items():
            header[key] = column
        keywords = header.create_group("extra_keywords")
        keywords["phase_center_dec"] = frame.declination_rad
        keywords["ha_phase_center"] = 0.0
        keywords["phase_center_epoch"] = np.bytes_("HADEC")
        keywords["applied_delays_ns"] = np.bytes_(delays)
        centre = header.create_group("phase_center_catalog").create_group("0")
        centre["cat_name"] = np.bytes_("unprojected")
        centre["cat_type"] = np.bytes_("unprojected")
        centre["cat_lon"], centre["cat_lat"] = 0.0, np.pi / 2
        centre["cat_frame"] = np.bytes_("altaz")
        centre["info_source"] = np.bytes_("user")
        group = file.create_group("Data")
        group["visdata"] = data.reshape(n_blt, n_channel, n_pol)
        shape = (n_blt, n_channel, n_pol)
        # constant columns are compressed, as the telescope's bitshuffled ones are small
        group.create_dataset("flags", shape, bool, chunks=True, compression="lzf", fillvalue=False)
        group.create_dataset(
            "nsamples", shape, np.float32, chunks=True, compression="lzf", fillvalue=1.0
        )


def _columns(frame: Frame, freq_hz: NDArray, uvw: NDArray) -> dict[str, NDArray]:
    n_time, n_baseline = frame.jd.size, frame.ant1.size

    def by_time(column: NDArray) -> NDArray:
        return np.repeat(column, n_baseline)

    def by_baseline(column: NDArray) -> NDArray:
        return np.tile(column, (n_time,) + (1,) * (column.ndim - 1))

    array = frame.array
    return {
        "ant_1_array": by_baseline(frame.ant1),
        "ant_2_array": by_baseline(frame.ant2),
        "antenna_names": np.array(array.name, dtype="S"),
        "antenna_numbers": np.arange(len(array.name)),
        "antenna_positions": array.itrf_m - reference_itrf_m(),
        "antenna_diameters": np.full(len(array.name), 4.65),
        "channel_width": np.full(freq_hz.size, -CHANNEL_HZ),
        "flex_spw_id_array": np.zeros(freq_hz.size, dtype=np.int64),
        "freq_array": freq_hz,
        "integration_time": np.full(n_time * n_baseline, INTEGRATION_S),
        "lst_array": by_time(frame.lst_rad),
        "phase_center_app_dec": np.full(n_time * n_baseline, LATITUDE_RAD),
        "phase_center_app_ra": by_time(frame.lst_rad),
        "phase_center_frame_pa": np.zeros(n_time * n_baseline),
        "phase_center_id_array": np.zeros(n_time * n_baseline, dtype=np.int64),
        "polarization_array": np.array([-5, -6]),
        "spw_array": np.array([0]),
        "time_array": by_time(frame.jd),
        "uvw_array": by_baseline(uvw.astype(np.float32)),
    }


def applied_delays(array: Array) -> str:
    """Integer delays [ns] by station and receptor, 0 where there is no antenna, as in real headers."""
    length_m = np.hypot(array.enu_m[:, 0], array.enu_m[:, 1])
    delay_ns = np.round((16200 - length_m / 0.299792458 / 0.67) / 2).astype(int) * 2
    delay_ns[~np.isin(np.arange(length_m.size), array.used)] = 0
    return " ".join(f"{delay} {delay}" for delay in delay_ns)
