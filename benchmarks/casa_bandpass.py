"""Compare our bandpass solutions with CASA's on the same Measurement Set.

    python3.11 -m venv casa
    casa/bin/pip install casatools casatasks casadata six    # 2 GB, no dependency of dsaflow
    python benchmarks/casa_bandpass.py --casa casa/bin/python

Two sources, noise, and gains drawn anew for each antenna, receptor and channel; both solve every
channel over all integrations, with the model given. Prints the largest and the median difference,
and the error that the noise gives a gain. Without --casa nothing is compared.
"""

import argparse
import json
import os
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

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
from dsaflow.visibilities.ms import write_ms

N_ANTENNA, N_CHANNEL, N_TIME, NOISE_JY = 24, 16, 12, 0.5
IN_CASA = """
import sys, json
import casatasks, casatools
ms, out = sys.argv[1:]
casatasks.bandpass(vis=ms, caltable=out, solint="inf", refant="0", minsnr=0.0, minblperant=3)
table = casatools.table()
table.open(out)
gain, flag = table.getcol("CPARAM"), table.getcol("FLAG")
table.close()
print("RESULT" + json.dumps([gain.real.tolist(), gain.imag.tolist(), int(flag.sum()),
                             casatools.version_string()]))
"""


def observation():
    """Visibilities with gains and noise, and the model without either."""
    rng = np.random.default_rng(8)
    stations = read_stations("config/antennas.csv")
    chosen = np.flatnonzero(stations.active)[:: 96 // N_ANTENNA][:N_ANTENNA]
    itrf = stations.itrf_m()[chosen]
    p, q = np.triu_indices(N_ANTENNA, 1)
    time = 61065.3 + np.arange(N_TIME) * INTEGRATION_S / 86400
    ra, dec = (float(x) for x in meridian_icrs(61065.3, 16.1))
    antenna = projected_baselines(itrf, time, ra, dec)
    uvw = antenna[:, p] - antenna[:, q]
    freq = 1.4e9 + CHANNEL_WIDTH_HZ * np.arange(N_CHANNEL)
    turns = np.einsum("tbx,x,c->tbc", uvw[..., :2], [0.004, -0.007], freq / 299792458.0)
    model = (5.0 + 2.0 * np.exp(2j * np.pi * turns)).astype(np.complex64)
    size = (N_CHANNEL, 2, N_ANTENNA)
    gain = rng.uniform(0.6, 1.5, size) * np.exp(1j * rng.uniform(-1, 1, size))
    data = np.zeros((*model.shape, 4), np.complex64)
    for k, hand in enumerate((0, 3)):
        product = (gain[:, k][:, p] * gain[:, k][:, q].conj()).T
        noise = rng.normal(0, NOISE_JY, (*model.shape, 2)) @ np.array([1, 1j])
        data[..., hand] = model * product + noise
    vis = Visibilities(
        data, np.zeros(data.shape, bool), uvw, p, q, time, INTEGRATION_S, freq, CHANNEL_WIDTH_HZ,
        ("XX", "XY", "YX", "YY"), [str(n) for n in stations.number[chosen]], itrf, ra, dec, 16.1,
        (LONGITUDE_DEG, LATITUDE_DEG, 1188.05),
    )  # fmt: skip
    return vis, model


def write_model(ms, model):
    """Add the column from which CASA takes its model."""
    from casacore import tables

    with tables.table(str(ms), readonly=False, ack=False) as table:
        description = table.getcoldesc("DATA")
        description["dataManagerGroup"] = "TiledMODEL"
        table.addcols(
            {"MODEL_DATA": description}, {"TYPE": "TiledColumnStMan", "NAME": "TiledMODEL"}
        )
        four = np.zeros((*model.shape, 4), np.complex64)
        four[..., 0] = four[..., 3] = model
        table.putcol("MODEL_DATA", four.reshape(-1, *four.shape[2:]))


def solve_in_casa(python, folder):
    """Gains of shape (channel, receptor, antenna), how many are flagged, and CASA's version."""
    data = subprocess.run(
        [python, "-c", "import casadata; print(casadata.datapath)"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    (folder / ".casa").mkdir()
    (folder / ".casa" / "config.py").write_text(
        f"measures_auto_update = False\ndata_auto_update = False\nmeasurespath = {data!r}\n"
    )
    done = subprocess.run(
        [python, "-c", IN_CASA, "data.ms", "bandpass.cal"],
        cwd=folder, env={**os.environ, "HOME": str(folder)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT")]
    if not lines:
        raise SystemExit(f"CASA failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    real, imaginary, flagged, version = json.loads(lines[0].removeprefix("RESULT"))
    return (np.array(real) + 1j * np.array(imaginary)).transpose(1, 0, 2), flagged, version


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--casa", metavar="PYTHON", help="an interpreter that has casatasks")
    python = parser.parse_args().casa
    if python is None:
        print("not compared: no --casa PYTHON (the script's head says how to make one)")
        return
    vis, model = observation()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_ms(folder / "data.ms", vis)
        write_model(folder / "data.ms", model)
        theirs, flagged, version = solve_in_casa(str(Path(python).absolute()), folder)
    two = replace(vis, data=vis.data[..., [0, 3]], flags=vis.flags[..., [0, 3]])
    sums = accumulate(two.data, two.flags, model)
    ours = solve(sums, vis.antenna1, vis.antenna2, N_ANTENNA).gain
    turn = np.exp(1j * (np.angle(theirs[..., :1]) - np.angle(ours[..., :1])))
    apart = np.abs(ours * turn / theirs - 1)
    # noise of both parts over a gain's amplitude: N - 1 baselines, N_TIME integrations
    expected = NOISE_JY * np.sqrt(
        2 / np.sum(np.mean(np.abs(model) ** 2, axis=(1, 2))) / (N_ANTENNA - 1)
    )
    print(
        f"CASA {version}, {apart.size} gains, {flagged} flagged: |ours / CASA's - 1| largest "
        f"{apart.max():.1e}, median {np.median(apart):.1e}; error from the noise about {expected:.1e}"
    )


if __name__ == "__main__":
    main()
