"""Broken files and a killed run: what is left is right, and says what is not there."""

import json
import os
import shutil
import signal
import subprocess
import time

import h5py
import numpy as np
import pandas as pd
import pytest
from astropy.io import fits

SMALL = {"stations": 24, "max_sources": 60, "n_epochs": 1, "full_array_tiles": []}
IMAGE = {"size": 560, "pixel_arcsec": 34.0, "beam_terms": 1, "channel_blocks": 2}


def photometry(workspace):
    (path,) = workspace.results.glob("photometry/*.parquet")
    return pd.read_parquet(path)


@pytest.fixture(scope="module")
def whole(make_workspace):
    """A night of four tiles, from start to end."""
    workspace = make_workspace(
        {
            "simulate": {**SMALL, "n_tiles": 4},
            "image": IMAGE,
            "plan": {"mosaic_tiles": 4, "min_tiles": 3},
        }
    )
    workspace.snakemake("simulation")
    workspace.snakemake("photometry")
    return workspace


def beside(workspace, make_workspace):
    """Return a new workspace with the same nights and configuration and no products."""
    other = make_workspace()
    (other.path / "test.yaml").write_bytes((workspace.path / "test.yaml").read_bytes())
    (other.path / "incoming").mkdir()
    for file in (workspace.path / "incoming").iterdir():
        os.link(file, other.path / "incoming" / file.name)
    (other.results / "simulated").mkdir(parents=True)
    for file in (workspace.results / "simulated").iterdir():
        os.link(file, other.results / "simulated" / file.name)
    return other


def test_truncated_tile_is_rejected_and_the_mosaic_made_from_the_rest(whole, make_workspace):
    workspace = beside(whole, make_workspace)
    tile = sorted(p.name for p in whole.results.glob("tiles/*"))[3]
    files = json.loads((whole.results / f"tiles/{tile}/convert.json").read_text())
    for name in files["provenance"]["files"][:6]:
        path = workspace.path / "incoming" / name
        content = path.read_bytes()
        path.unlink()  # a link to the whole run's file
        path.write_bytes(content[: len(content) // 2])
    workspace.snakemake("photometry")

    told = json.loads((workspace.results / f"tiles/{tile}/convert.json").read_text())
    assert told["verdict"] == "reject"
    assert told["reason_code"] == "TRUNCATED_HDF5"
    assert "10 usable subbands, 12 needed" in told["detail"]
    header = fits.getheader(workspace.results / f"tiles/{tile}/image.fits")
    assert header["NAXIS"] == 0
    assert header["VERDICT"] == "reject"

    (mosaic,) = workspace.results.glob("mosaics/*")
    verdict = json.loads((mosaic / "mosaic.json").read_text())
    assert verdict["verdict"] != "reject"
    assert (verdict["numbers"]["tiles_used"], verdict["numbers"]["tiles_offered"]) == (3, 4)
    (line,) = [row for row in (mosaic / "tiles.ecsv").read_text().splitlines() if tile in row]
    assert "False" in line
    assert "TRUNCATED_HDF5" in line
    assert fits.getdata(mosaic / "coverage.fits").max() == 3
    fluxes = photometry(workspace).set_index("source_id")
    complete = photometry(whole).set_index("source_id")
    assert 20 < len(fluxes) < len(complete)
    # where the lost tile had no part, nothing has changed but the noise model's neighbourhood
    same = fluxes.index[(fluxes["n_tiles"] == complete.loc[fluxes.index, "n_tiles"])]
    change = (fluxes["flux_jy"] - complete["flux_jy"]).loc[same] / fluxes["flux_err_jy"].loc[same]
    assert len(same) > 5
    assert change.abs().median() < 0.1


def readable(path):
    """Open a product; a half-written one raises."""
    if path.suffix == ".fits":
        with fits.open(path) as file:
            for hdu in file:
                assert hdu.data is not None or hdu.header["NAXIS"] == 0
    elif path.suffix == ".json":
        json.loads(path.read_text())
    elif path.suffix == ".parquet":
        pd.read_parquet(path)
    elif path.suffix == ".h5":
        with h5py.File(path) as file:
            assert len(file) or file.attrs["verdict"] == "reject"


def products(workspace):
    """Every file that a reader of the results can see, but logs."""
    visible = [p for p in workspace.results.rglob("*") if ".tmp-" not in str(p)]
    return [p for p in visible if p.is_file() and "logs" not in p.parts]


def kill(workspace, due):
    """Start the night and kill Snakemake with all its jobs once `due()` holds."""
    # a session of its own, so that the jobs can be killed with their master
    with open(workspace.path / "run.log", "w") as log:
        run = subprocess.Popen(
            workspace.command("photometry"), cwd=workspace.path, env=workspace.environment(),
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    deadline = time.monotonic() + 240
    while not due():
        assert run.poll() is None, (workspace.path / "run.log").read_text()[-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()


def resumes(workspace, whole):
    """What a killed run left can be read, and ends in the tables of a run left alone."""
    for path in products(workspace):
        readable(path)
    refused = workspace.snakemake("photometry", check=False)
    assert refused.returncode != 0
    assert "lock" in (refused.stdout + refused.stderr).lower()
    workspace.snakemake("--unlock")
    workspace.snakemake("photometry")

    (path,) = workspace.results.glob("photometry/*.parquet")
    (undisturbed,) = whole.results.glob("photometry/*.parquet")
    assert path.name == undisturbed.name
    # one thread a job: the same sums in the same order
    assert path.read_bytes() == undisturbed.read_bytes()
    again = workspace.snakemake("photometry", "--dry-run")
    assert "Nothing to be done" in again.stdout + again.stderr


def test_killed_run_leaves_nothing_half_written_and_resumes_to_the_same_tables(
    whole, make_workspace
):
    workspace = beside(whole, make_workspace)
    kill(workspace, lambda: list(workspace.results.glob("tiles/*/image.json")))
    assert not list(workspace.results.glob("photometry/*.parquet"))
    assert any(p.name == "image.fits" for p in products(workspace))
    resumes(workspace, whole)


# benchmarks/campaign.py asks for many
@pytest.mark.parametrize("seed", range(int(os.environ.get("DSAFLOW_KILLS", "0"))))
def test_a_run_killed_at_any_moment_resumes_to_the_same_tables(whole, make_workspace, seed):
    workspace = beside(whole, make_workspace)
    given = len(products(workspace))
    made = len(products(whole)) - given
    files = given + 1 + int(np.random.default_rng(seed).integers(0.9 * made))

    def due():
        # the plan is written before Snakemake takes its lock
        begun = any(workspace.results.glob("tiles/*/*"))
        return begun and len(products(workspace)) >= files

    kill(workspace, due)
    print(f"seed {seed}: killed after {len(products(workspace)) - given} of {made} files")
    resumes(workspace, whole)
    shutil.rmtree(workspace.path)
