"""The flag file: one bit a visibility, beside the Measurement Set, which is never edited."""

import os

import h5py
import numpy as np
from numpy.typing import NDArray

from dsaflow import __version__
from dsaflow.fileio import atomic_file


def write_flags(path: str | os.PathLike, flags: NDArray) -> None:
    """Write flags, packed to bits and chunked by integration, atomically.

    Parameters
    ----------
    path : path
    flags : bool ndarray, shape (n_time, n_baseline, n_channel, n_pol)
        True where not to be used.
    """
    n_time, n_baseline = flags.shape[:2]
    packed = np.packbits(flags.reshape(n_time, n_baseline, -1), axis=2)
    with atomic_file(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["version"] = __version__
        dataset = file.create_dataset(
            "flags", data=packed, chunks=(1, *packed.shape[1:]), compression="gzip",
            compression_opts=1,
        )  # fmt: skip
        dataset.attrs["shape"] = flags.shape
        dataset.attrs["axes"] = "time baseline channel polarisation, the last two packed"


def read_flags(path: str | os.PathLike) -> NDArray:
    """Read flags, bool, shape (n_time, n_baseline, n_channel, n_pol)."""
    with h5py.File(path, "r") as file:
        dataset = file["flags"]
        shape = tuple(int(n) for n in dataset.attrs["shape"])
        bits = np.unpackbits(dataset[()], axis=2, count=shape[2] * shape[3])
    return bits.view(bool).reshape(shape)
