"""The solver against DP3's gaincal on the same Measurement Set."""

import os
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest

from dsaflow.calibration.solver import accumulate, solve
from dsaflow.geometry import meridian_icrs, projected_baselines
from dsaflow.instrument import (
    CHANNEL_WIDTH_HZ,
    INTEGRATION_S,
    LATITUDE_DEG,
    LONGITUDE_DEG,
    read_stations,
)
from dsaflow.visibilities.container import Visibilities

# its casacore and python-casacore's crash each other: dp3 is never imported in this process
pytestmark = pytest.mark.skipif(find_spec("dp3") is None, reason="dp3 is not installed")

_RUN = "import sys, dp3; dp3.execute_from_command_line(['DP3', sys.argv[1]])"


def observation(n_antenna=14, n_channel=3, n_time=6):
    """Random sky of two sources, gains and noise; four correlations with empty cross hands."""
    rng = np.random.default_rng(8)
    stations = read_stations("config/antennas.csv")
    chosen = np.flatnonzero(stations.active)[:: 96 // n_antenna][:n_antenna]
    itrf = stations.itrf_m()[chosen]
    p, q = np.triu_indices(n_antenna, 1)
    time = 61065.3 + np.arange(n_time) * INTEGRATION_S / 86400
    ra, dec = (float(x) for x in meridian_icrs(61065.3, 16.1))
    antenna = projected_baselines(itrf, time, ra, dec)
    uvw = antenna[:, p] - antenna[:, q]
    freq = 1.4e9 + CHANNEL_WIDTH_HZ * np.arange(n_channel)
    turns = np.einsum("tbx,x,c->tbc", uvw[..., :2], [0.004, -0.007], freq / 299792458.0)
    model = 5.0 + 2.0 * np.exp(2j * np.pi * turns)
    gain = rng.uniform(0.6, 1.5, (n_channel, 2, n_antenna)) * np.exp(
        1j * rng.uniform(-1, 1, (n_channel, 2, n_antenna))
    )
    data = np.zeros((n_time, len(p), n_channel, 4), np.complex64)
    for k, receptor in enumerate((0, 3)):
        product = (gain[:, k][:, p] * gain[:, k][:, q].conj()).T
        noise = rng.normal(0, 0.05, (*model.shape, 2)) @ np.array([1, 1j])
        data[..., receptor] = model * product + noise
    vis = Visibilities(
        data, np.zeros(data.shape, bool), uvw, p, q, time, INTEGRATION_S, freq, CHANNEL_WIDTH_HZ,
        ("XX", "XY", "YX", "YY"), [str(n) for n in stations.number[chosen]], itrf, ra, dec, 16.1,
        (LONGITUDE_DEG, LATITUDE_DEG, 1188.05),
    )  # fmt: skip
    return vis, model.astype(np.complex64)


def test_gains_equal_dp3_gaincal(tmp_path):
    import h5py
    from casacore import tables

    from dsaflow.visibilities.ms import write_ms

    vis, model = observation()
    write_ms(tmp_path / "data.ms", vis)
    with tables.table(str(tmp_path / "data.ms"), readonly=False, ack=False) as table:
        description = table.getcoldesc("DATA")
        description["dataManagerGroup"] = "TiledMODEL"
        table.addcols(
            {"MODEL_DATA": description}, {"TYPE": "TiledColumnStMan", "NAME": "TiledMODEL"}
        )
        four = np.zeros((*model.shape, 4), np.complex64)
        four[..., 0] = four[..., 3] = model
        table.putcol("MODEL_DATA", four.reshape(-1, *four.shape[2:]))
    parset = tmp_path / "gaincal.parset"
    parset.write_text(
        f"msin={tmp_path}/data.ms\nmsout=\nsteps=[gaincal]\ngaincal.caltype=diagonal\n"
        f"gaincal.usemodelcolumn=true\ngaincal.modelcolumn=MODEL_DATA\n"
        f"gaincal.parmdb={tmp_path}/dp3.h5\ngaincal.solint=0\ngaincal.nchan=1\n"
        "gaincal.tolerance=1e-8\ngaincal.maxiter=500\nnumthreads=1\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", _RUN, str(parset)], capture_output=True, text=True, timeout=300,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    with h5py.File(tmp_path / "dp3.h5") as file:
        amplitude, phase = (file[f"sol000/{k}000/val"][0] for k in ("amplitude", "phase"))
        axes = file["sol000/amplitude000/val"].attrs["AXES"]
    assert axes == b"time,freq,ant,pol"
    theirs = (amplitude * np.exp(1j * phase)).transpose(0, 2, 1)
    two = replace(vis, data=vis.data[..., [0, 3]], flags=vis.flags[..., [0, 3]])
    ours = solve(accumulate(two.data, two.flags, model), vis.antenna1, vis.antenna2, 14).gain
    turn = np.exp(1j * (np.angle(theirs[..., :1]) - np.angle(ours[..., :1])))
    assert np.abs(ours * turn / theirs - 1).max() < 1e-3
