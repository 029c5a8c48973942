"""scripts/create_mosaic_centered.py on a simulated night, through the real workflow."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import yaml
from astropy.io import fits

from dsaflow.cli.mosaic import Exit
from dsaflow.config import load_config
from dsaflow.publish import verify
from dsaflow.runs import launch
from dsaflow.runs.record import Record
from dsaflow.runs.states import FINISHED

pytestmark = pytest.mark.slow

# seconds a tile: the command is what is tested
NIGHT = {
    "simulate": {"stations": 24, "max_sources": 60, "n_epochs": 1, "full_array_tiles": []},
    "image": {"size": 560, "pixel_arcsec": 34.0, "beam_terms": 1, "channel_blocks": 2},
}
OPTIONS = ("--calibrator", "3C138", "--profile", "profiles/demo", "--poll-interval", "1")


class Night:
    """A working directory with one simulated night, and the command in it."""

    def __init__(self, workspace):
        self.path, self.results = workspace.path, workspace.results
        self.environment = workspace.environment()
        settings = yaml.safe_load((self.path / "test.yaml").read_text())
        for name in ("incoming", "results", "published"):
            settings["paths"][name] = str(self.path / settings["paths"][name])
        self.config = load_config(settings)
        self.record = Record.open(self.config)

    def command(self, *words, configfiles=("test.yaml",)):
        files = [word for file in configfiles for word in ("--configfile", file)]
        return [sys.executable, "scripts/create_mosaic_centered.py", *OPTIONS, *files, *words]

    def create(self, *words, **options):
        done = subprocess.run(
            self.command(*words, **options), cwd=self.path, env=self.environment,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    def runs(self):
        return self.record.select("SELECT * FROM runs WHERE kind = 'mosaic' ORDER BY created_s")

    def dsaflow(self, *words):
        done = subprocess.run(
            [sys.executable, "-c", "from dsaflow.cli import main; main()", *words,
             "--configfile", "test.yaml"],
            cwd=self.path, env=self.environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def night(make_workspace):
    workspace = make_workspace(NIGHT)
    workspace.snakemake("simulation")
    night = Night(workspace)
    yield night
    for run in night.runs():
        if run["state"] not in FINISHED:
            launch.cancel(night.record, night.config, run["run_id"])
            launch.wait(night.record, night.config, run["run_id"], timeout_s=120)
    night.record.close()


# In the order of the file, since each test goes on where the one before has left the night.


def test_nothing_is_made_without_data(night):
    code, _, errors = night.create("--transit", "2026-03-01")
    assert code == Exit.NO_TRANSIT
    assert "3C138 has no transit with data at 2026-03-01" in errors
    code, _, errors = night.create("--timespan-minutes", "10")
    assert code == Exit.TOO_FEW_TILES
    assert not (night.results / "plan" / "requests.json").exists()
    assert night.runs() == []


def test_a_mosaic_that_fails_a_gate_is_withheld_and_the_gate_told(night):
    (night.path / "strict.yaml").write_text("qa: {noise_low: 2.9, noise_high: 3.0}\n")
    code, output, errors = night.create(configfiles=("test.yaml", "strict.yaml"))
    assert code == Exit.WITHHELD, output + errors
    assert re.search(r"noise\w* +│ \d.* reject", output)
    assert "QA_REJECTED" in errors
    assert not (night.path / "published").exists()


def test_a_mosaic_is_published_and_found_again(night):
    code, output, errors = night.create()
    assert code == Exit.PUBLISHED, output + errors
    path = Path(re.search(r"^Published mosaic: (.*)$", output, re.MULTILINE)[1])
    image = fits.getdata(night.path / path)
    assert np.isfinite(image).sum() > 1e5
    verify(night.path / path.parent)
    assert sorted(night.results.glob("photometry/*.parquet"))
    # every stage was named as it ran
    assert "jobs done)" in output

    runs = night.runs()
    assert [r["state"] for r in runs] == ["COMPLETE"] * 2
    began = time.monotonic()
    again = night.create()
    assert time.monotonic() - began < 30
    assert again[0] == Exit.PUBLISHED
    assert again[1].endswith(f"Published mosaic: {path}\n")
    assert night.runs() == runs

    told = json.loads(night.dsaflow("status", path.parts[2], "--json"))
    assert told["mosaic"]["outcome"] == "published"
    assert told["files"]["state"] == "published"
    assert {s["rule"] for s in told["progress"]["stages"]} >= {"publish_mosaic"}


def test_a_longer_window_is_a_mosaic_of_its_own_in_every_later_plan(night):
    code, output, errors = night.create("--timespan-minutes", "50")
    assert code == Exit.PUBLISHED, output + errors
    assert "3 of 10 tiles" in output
    assert output.count("missing") == 7
    groups = [r["group_ids"][0] for r in night.runs()]
    assert len(set(groups)) == 2
    # its tiles were there: only the mosaic's own stages ran
    rules = {job["rule"] for job in night.record.jobs_of(night.runs()[-1]["run_id"])}
    assert "publish_mosaic" in rules
    assert not rules & {"convert", "flag", "solve_gains", "image_tile"}
    dry = subprocess.run(
        [sys.executable, "-m", "snakemake", "-n", "--configfile", "test.yaml", "--", "mosaics"],
        cwd=night.path, env=night.environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "Nothing to be done" in dry.stdout + dry.stderr
    assert all(g in night.dsaflow("plan") for g in groups)


def test_a_run_that_cannot_work_is_told_with_its_error(night):
    (night.path / "once.yaml").write_text("runs: {tries: 1}\n")
    words = ("--timespan-minutes", "25")
    group_id = night.create(*words, "--dry-run")[1].split(":")[0]
    in_the_way = night.results / "mosaics" / group_id
    in_the_way.write_text("not a folder")
    code, output, errors = night.create(*words, configfiles=("test.yaml", "once.yaml"))
    assert code == Exit.RUN_FAILED, output + errors
    assert group_id in errors
    run_id = night.runs()[-1]["run_id"]
    assert f"see `dsaflow logs {run_id}`" in errors
    assert str(in_the_way.relative_to(night.path)) in night.dsaflow("logs", run_id)
    in_the_way.unlink()


def test_time_that_is_up_a_queue_and_a_cancelled_run(night):
    before = len(night.runs())
    for file in night.results.glob("tiles/*/image.json"):
        file.unlink()
    code, output, errors = night.create("--timespan-minutes", "30", "--max-wait-hours", "0.002")
    assert code == Exit.TIMED_OUT, output + errors
    code, output, errors = night.create("--timespan-minutes", "36", "--max-wait-hours", "0.0003")
    assert code == Exit.BUSY, output + errors
    live, queued = night.runs()[before:]
    assert live["run_id"] in errors
    launch.cancel(night.record, night.config, queued["run_id"])

    waiting = subprocess.Popen(
        night.command("--timespan-minutes", "30"), cwd=night.path, env=night.environment,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    lines = iter(waiting.stdout.readline, "")
    assert any("image_tile" in line for line in lines)
    night.dsaflow("cancel", live["run_id"])
    _, errors = waiting.communicate(timeout=120)
    assert waiting.returncode == Exit.CANCELED, errors
    assert processes_in(night.path) == []


def processes_in(folder):
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and Path(process.cwd()) == folder:
                found.append(process.cmdline())
        except psutil.Error:
            continue
    return found


def test_a_published_file_that_has_changed_is_noticed(night):
    (group_id,) = night.runs()[1]["group_ids"]
    (image,) = (night.path / "published").glob(f"*/{group_id}/v1/mosaic.fits")
    image.chmod(0o644)
    with open(image, "r+b") as file:
        file.seek(10_000)
        byte = file.read(1)[0]
        file.seek(10_000)
        file.write(bytes([byte ^ 1]))
    code, output, errors = night.create()
    assert code == Exit.DAMAGED
    assert "mosaic.fits has changed" in errors
    assert "Published mosaic" not in output
    assert night.create("--timespan-minutes", "50")[0] == Exit.PUBLISHED


def test_a_retracted_mosaic_is_not_offered(night):
    for run in night.runs()[:3]:
        night.dsaflow("retract", run["group_ids"][0], "--reason", "only a test")
    before = night.runs()
    code, _, errors = night.create()
    assert code == Exit.WITHHELD
    assert "only a test" in errors
    assert night.runs() == before
