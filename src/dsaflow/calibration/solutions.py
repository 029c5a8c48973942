"""Solutions in memory and in h5parm files (LoSoTo's layout: de Gasperin et al. 2019)."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsaflow.calibration.anchor import FactorTable
from dsaflow.fileio import atomic_file

_DAY_S = 86400.0


@dataclass
class Solutions:
    """Gains of one tile.

    Attributes
    ----------
    gain : complex ndarray, shape (n_time, n_freq, n_antenna, n_pol)
        NaN where unsolved. V_observed = g_1 conj(g_2) V_true.
    error : ndarray, same shape
        1-sigma error of the real or imaginary part of `gain`.
    time_mjd : ndarray, shape (n_time,)
        Middle of each interval, UTC.
    freq_hz : ndarray, shape (n_freq,)
    antenna_name : list of str
    antenna_itrf_m : ndarray, shape (n_antenna, 3)
    polarization : tuple of str
    attributes : dict
        ``kind``, ``start_mjd``, ``end_mjd``, ``mid_mjd`` and what a stage adds (strings, numbers).
    factors : FactorTable or None
        The catalogue's sources as measured with these solutions.
    """

    gain: NDArray
    error: NDArray
    time_mjd: NDArray
    freq_hz: NDArray
    antenna_name: list[str]
    antenna_itrf_m: NDArray
    polarization: tuple[str, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    factors: FactorTable | None = None

    @property
    def mid_mjd(self) -> float:
        """Middle of the tile that was solved."""
        return float(self.attributes["mid_mjd"])


def write_h5parm(path: str | os.PathLike, solutions: Solutions) -> None:
    """Write solutions as an h5parm: ``sol000/amplitude000`` and ``phase000`` with val, weight, axes."""
    import h5py

    solved = np.isfinite(solutions.gain)
    values = {
        "amplitude": np.where(solved, np.abs(solutions.gain), np.nan),
        "phase": np.where(solved, np.angle(solutions.gain), np.nan),
    }
    names = np.array([n.encode() for n in solutions.antenna_name])
    with atomic_file(path) as temporary, h5py.File(temporary, "w") as file:
        solset = file.create_group("sol000")
        solset.attrs["h5parm_version"] = "1.0"
        for key, value in solutions.attributes.items():
            solset.attrs[key] = value
        antenna = np.zeros(len(names), dtype=[("name", "S16"), ("position", "f8", 3)])
        antenna["name"], antenna["position"] = names, solutions.antenna_itrf_m
        solset["antenna"] = antenna
        solset["source"] = np.zeros(0, dtype=[("name", "S128"), ("dir", "f4", 2)])
        for kind, value in values.items():
            table = solset.create_group(f"{kind}000")
            table.attrs["TITLE"] = kind
            table["time"] = solutions.time_mjd * _DAY_S
            table["freq"] = solutions.freq_hz
            table["ant"] = names
            table["pol"] = np.array([p.encode() for p in solutions.polarization])
            axes = np.bytes_("time,freq,ant,pol")
            table["val"] = value
            table["weight"] = solved.astype(np.float32)
            for name in ("val", "weight"):
                table[name].attrs["AXES"] = axes
        # LoSoTo ignores what it does not know
        solset["amplitude000"]["error"] = solutions.error
        if solutions.factors is not None:
            table = file.create_group("factors")
            ids = solutions.factors.source_id.astype(object)
            table.create_dataset("source_id", data=ids, dtype=h5py.string_dtype())
            table["factor"] = solutions.factors.factor
            table["error"] = solutions.factors.error


def read_h5parm(path: str | os.PathLike) -> Solutions:
    """Read what `write_h5parm` wrote.

    Raises
    ------
    OSError
        Not an HDF5 file.
    KeyError
        No such tables.
    """
    import h5py

    with h5py.File(path, "r") as file:
        solset = file["sol000"]
        amplitude, phase = solset["amplitude000"], solset["phase000"]
        gain = amplitude["val"][()] * np.exp(1j * phase["val"][()])
        gain[amplitude["weight"][()] == 0] = np.nan
        attributes = {
            k: v.item() if isinstance(v, np.generic) else v for k, v in solset.attrs.items()
        }
        attributes["file"] = Path(path).parent.name
        factors = None
        if "factors" in file:
            table = file["factors"]
            names = np.array(table["source_id"].asstr()[()], dtype=str)
            factors = FactorTable(names, table["factor"][()], table["error"][()])
        return Solutions(
            gain,
            amplitude["error"][()],
            amplitude["time"][()] / _DAY_S,
            amplitude["freq"][()],
            [n.decode() for n in amplitude["ant"][()]],
            solset["antenna"]["position"][()],
            tuple(p.decode() for p in amplitude["pol"][()]),
            attributes,
            factors,
        )
