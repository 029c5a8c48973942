"""Compare our bandpass solutions with QuartiCal's on the same Measurement Set.

    python3.11 -m venv quartical
    quartical/bin/pip install quartical    # no dependency of dsaflow; goes into an environment of its own
    python benchmarks/quartical_bandpass.py --quartical quartical/bin

The data are those of casa_bandpass.py: two sources, noise, and gains drawn anew for each antenna, receptor and
channel. QuartiCal (Kenyon et al. 2025) solves a diagonal term of one interval for every channel, with the model
given. Prints the largest and the median difference, and the error that the noise gives a gain. Without
--quartical nothing is compared.
"""

import argparse
import json
import os
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from casa_bandpass import N_ANTENNA, NOISE_JY, observation, write_model

from dsaflow.calibration.solver import accumulate, solve
from dsaflow.visibilities.ms import write_ms

READ = """
import json
import quartical
from importlib.metadata import version
from daskms.experimental.zarr import xds_from_zarr
(term,) = xds_from_zarr("gains.qc::B")
gain = term.gains.values
print("RESULT" + json.dumps([list(term.gains.dims), gain.real.tolist(), gain.imag.tolist(),
                             term.gain_flags.values.tolist(), version("quartical")]))
"""


def solve_in_quartical(folder, tools):
    """Gains of shape (channel, receptor, antenna), how many are flagged, and QuartiCal's version."""
    command = [
        tools / "goquartical", "input_ms.path=data.ms", "input_model.recipe=MODEL_DATA",
        "input_ms.data_column=DATA", "solver.terms=[B]",
        "solver.iter_recipe=[200]", "solver.convergence_criteria=1e-8",
        "solver.convergence_fraction=1.0", "solver.propagate_flags=False",
        "B.type=diag_complex", "B.time_interval=0", "B.freq_interval=1",
        "output.gain_directory=gains.qc", "output.log_directory=logs.qc", "output.overwrite=True",
        "output.flags=False", "dask.threads=1", "solver.threads=1",
    ]  # fmt: skip
    environment = os.environ | {"HOME": str(folder)}
    for step in ([str(part) for part in command], [str(tools / "python"), "-c", READ]):
        done = subprocess.run(
            step, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"QuartiCal failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    line = next(x for x in done.stdout.splitlines() if x.startswith("RESULT"))
    dims, real, imaginary, flags, version = json.loads(line.removeprefix("RESULT"))
    gain = np.array(real) + 1j * np.array(imaginary)
    if dims != ["gain_time", "gain_freq", "antenna", "direction", "correlation"]:
        raise SystemExit(f"QuartiCal's gains have the axes {dims}")
    # correlations are XX, XY, YX, YY, of which a diagonal term has the first and the last
    gain = gain[0, :, :, 0, [0, -1]]
    return gain.transpose(1, 0, 2), int(np.sum(flags)), version


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quartical", metavar="FOLDER", help="the programs of its environment")
    tools = parser.parse_args().quartical
    if tools is None:
        print("not compared: no --quartical FOLDER (the script's head says how to make one)")
        return
    vis, model = observation()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_ms(folder / "data.ms", vis)
        write_model(folder / "data.ms", model)
        theirs, flagged, version = solve_in_quartical(folder, Path(tools).absolute())
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
        f"QuartiCal {version}, {apart.size} gains, {flagged} flagged: |ours / QuartiCal's - 1| "
        f"largest {apart.max():.1e}, median {np.median(apart):.1e}; error from the noise about "
        f"{expected:.1e}"
    )


if __name__ == "__main__":
    main()
