"""Calibrators and their flux scale."""

import csv
import os
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dsaflow.catalog.table import NVSS_FREQUENCY_HZ
from dsaflow.errors import ConfigError


@dataclass(frozen=True)
class Calibrators:
    """Calibrators of ``config/calibrators.csv``; arrays of shape (n_calibrator,), at 1.4 GHz."""

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
        """Flux density [Jy] of one calibrator: a primary's polynomial, else a power law."""
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
