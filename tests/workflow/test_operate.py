"""Watching and cleaning with the real workflow on a small simulated night."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from dsaflow.config import load_config
from dsaflow.publish import verify
from dsaflow.runs.record import Record

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

DSAFLOW = Path(sys.executable).with_name("dsaflow")
NIGHT = {
    "simulate": {
        "stations": 24, "max_sources": 60, "n_epochs": 1, "full_array_tiles": [], "n_tiles": 3,
    },
    "image": {"size": 560, "pixel_arcsec": 34.0, "beam_terms": 1, "channel_blocks": 2},
    "plan": {"mosaic_tiles": 3, "min_tiles": 3},
    "clean": {"high_water": 1.0},
}  # fmt: skip
# the last tile's mosaic has to be out by then
OUT_S = 600.0


def dsaflow(workspace, *arguments, check=True):
    done = subprocess.run(
        [DSAFLOW, *arguments, "--profile", "profiles/demo", "--configfile", "test.yaml"],
        cwd=workspace.path, env=workspace.environment(), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert not check or done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done


@pytest.fixture(scope="module")
def raw(make_workspace):
    """The night's raw files, and nothing made of them."""
    workspace = make_workspace(NIGHT)
    workspace.snakemake("simulation")
    return workspace


@pytest.fixture(scope="module")
def telescope(raw, make_workspace):
    """A workspace without data, and a function that lets the next tile arrive if there is one."""
    observing = {**NIGHT, "plan": {**NIGHT["plan"], "settle_s": 60}, "watch": {"interval_s": 1.0}}
    workspace = make_workspace(observing)
    (workspace.path / "incoming").mkdir()
    (workspace.results / "simulated").mkdir(parents=True)
    catalog = "simulated/catalog.parquet"
    shutil.copy(raw.results / catalog, workspace.results / catalog)
    files = sorted((raw.path / "incoming").iterdir())
    assert len(files) == 48

    def arrive():
        quiet_s = time.time() - 11.0
        for file in [files.pop(0) for _ in files[:16]]:
            copy = workspace.path / "incoming" / file.name
            part = copy.with_suffix(".part")
            shutil.copyfile(file, part)
            os.utime(part, (quiet_s, quiet_s))
            part.rename(copy)

    return workspace, arrive


def watch(workspace):
    with open(workspace.path / "watch.log", "a") as log:
        return subprocess.Popen(
            [DSAFLOW, "watch", "--profile", "profiles/demo", "--configfile", "test.yaml"],
            cwd=workspace.path, env=workspace.environment(), stdout=log, stderr=log,
        )  # fmt: skip


def until(condition, what, workspace, wait_s=OUT_S):
    deadline = time.monotonic() + wait_s
    while not condition():
        told = (workspace.path / "watch.log").read_text()
        assert time.monotonic() < deadline, f"{what}\n{told[-3000:]}"
        time.sleep(0.1)


def test_a_night_tile_by_tile_with_the_watcher_killed_in_the_middle(telescope):
    workspace, arrive = telescope
    record = Record.open(load_config({"paths": {"results": str(workspace.results)}}))
    products = workspace.results

    def count(pattern):
        return len(list(products.glob(pattern)))

    def live():
        return record.select("SELECT * FROM runs WHERE state = 'RUNNING'")

    watching = watch(workspace)
    try:
        arrive()
        until(lambda: count("tiles/*/flag.json") == 1, "first tile flagged", workspace)
        arrive()
        until(lambda: live() and count("calibration/*/bandpass.json") == 1, "bandpass", workspace)
        watching.kill()
        watching.wait()
        watching = watch(workspace)
        until(lambda: count("tiles/*/gains.json") == 2, "second tile phased", workspace)
        assert count("mosaics/*") == 0
        arrive()
        arrived_s = time.time()
        until(lambda: count("mosaics/*/publication.json") == 1, "publication", workspace)
        out_s = time.time() - arrived_s
        until(lambda: count("variability/*/variability.json") == 1, "light curves", workspace)
        until(lambda: not live(), "end of the last run", workspace)
        watching.send_signal(signal.SIGTERM)
        assert watching.wait(60) == 0
    finally:
        watching.kill()
        watching.wait()
    print(f"mosaic out {out_s:.0f} s after its last tile")

    (publication,) = products.glob("mosaics/*/publication.json")
    told = json.loads(publication.read_text())
    assert told["state"] == "published"
    verify(workspace.path / told["path"])
    verdict = json.loads(publication.with_name("mosaic.json").read_text())
    assert verdict["numbers"]["tiles_used"] == 3
    runs = record.select("SELECT * FROM runs ORDER BY created_s")
    assert {run["kind"] for run in runs} == {"watch"}
    assert {run["state"] for run in runs} == {"COMPLETE"}
    # each tile was imaged once
    images = record.select("SELECT item FROM jobs WHERE rule = 'image_tile'")
    assert len(images) == len({row["item"] for row in images}) == 3
    record.close()


def contents(folder, *but):
    return {
        str(path.relative_to(folder)): path.stat().st_size
        for path in folder.rglob("*")
        if path.is_file() and not set(but) & {*path.parts, path.name}
    }


def nothing_to_do(workspace):
    done = workspace.snakemake("photometry", "mosaics", "--dry-run")
    return "Nothing to be done" in done.stdout + done.stderr


@pytest.fixture
def night(telescope):
    """The night with all its products: what the watcher has not made is made now."""
    workspace, arrive = telescope
    for _ in range(3):
        arrive()
    workspace.snakemake("photometry", "mosaics")
    return workspace


def test_cleaned_sets_are_not_made_again_until_they_are_needed(night):
    assert nothing_to_do(night)
    raw = contents(night.path / "incoming")
    kept = json.loads(dsaflow(night, "clean", "--json").stdout)
    assert kept["items"] == []
    assert len(kept["kept"]) == 3
    assert "keep_days" in str(kept["kept"])

    settings = night.path / "test.yaml"
    settings.write_text(settings.read_text().replace("clean:\n", "clean:\n  keep_days: 0\n"))
    sets = sorted(night.results.glob("tiles/*/*.ms"))
    assert len(sets) == 6
    shown = json.loads(dsaflow(night, "clean", "--json").stdout)
    assert len(shown["items"]) == 6
    assert all(path.is_dir() for path in sets)

    others = contents(night.results, "runs", "plan", "visibilities_ms.json", "calibrated_ms.json")
    others = {name: size for name, size in others.items() if ".ms/" not in name}
    images = {p: fits.getdata(p) for p in night.results.glob("tiles/*/image.fits")}
    done = dsaflow(night, "clean", "--yes")
    assert "6 items" in done.stdout
    assert not list(night.results.glob("tiles/*/*.ms"))
    assert contents(night.path / "incoming") == raw
    now = contents(night.results, "runs", "plan", "visibilities_ms.json", "calibrated_ms.json")
    assert now == others
    assert nothing_to_do(night)

    # a run that needs a set makes it again, from the raw files
    (first, *_) = sorted(images)
    night.snakemake(str(first.with_name("image.json").relative_to(night.path)), "--forcerun",
                    "image_tile")  # fmt: skip
    assert (first.parent / "calibrated.ms").is_dir()
    rms = np.nanstd(images[first])
    assert np.nanmax(np.abs(fits.getdata(first) - images[first])) < 1e-4 * rms
    night.snakemake("photometry", "mosaics")
    assert nothing_to_do(night)
