"""The real chain on a small night, recorded and launched: what a kill leaves is recovered and published."""

import time
from pathlib import Path

import psutil
import pytest
import yaml

from dsaflow.config import load_config
from dsaflow.fileio import read_json
from dsaflow.publish import verify
from dsaflow.runs import launch, recover
from dsaflow.runs.processes import Identity, members
from dsaflow.runs.record import Record
from dsaflow.runs.states import FINISHED, State

pytestmark = pytest.mark.slow

NIGHT = {
    "simulate": {
        "stations": 24, "max_sources": 60, "n_epochs": 1, "n_tiles": 3, "full_array_tiles": [],
    },
    "image": {"size": 560, "pixel_arcsec": 34.0, "beam_terms": 1, "channel_blocks": 2},
    "plan": {"mosaic_tiles": 3, "min_tiles": 3},
    "runs": {"backoff_base_s": 1.0, "terminate_s": 5.0},
    "clean": {"high_water": 1.0},
}  # fmt: skip
PROFILE = {
    "cores": 2, "scheduler": "greedy", "keep-going": True, "rerun-incomplete": True,
    "configfile": "test.yaml", "logger": "dsaflow",
}  # fmt: skip
WAIT_S = 600.0


def until(condition, what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {WAIT_S:.0f} s for {what}"
        time.sleep(0.05)


@pytest.fixture
def night(make_workspace, monkeypatch):
    """A simulated night and the record of its runs."""
    workspace = make_workspace(NIGHT)
    monkeypatch.chdir(workspace.path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    Path("profile").mkdir()
    Path("profile/config.yaml").write_text(yaml.safe_dump(PROFILE))
    workspace.snakemake("simulation")
    merged = yaml.safe_load(Path("config/config.yaml").read_text())
    for section, content in yaml.safe_load(Path("test.yaml").read_text()).items():
        merged[section] = merged.get(section, {}) | content
    config = load_config(merged)
    record = Record.open(config)
    yield workspace, config, record
    for row in record.select("SELECT * FROM runs"):
        supervisor = Identity.from_row(row, "supervisor")
        if supervisor is not None and supervisor.alive:
            psutil.Process(supervisor.pid).kill()
        for process in members(row["run_id"], Identity.from_row(row, "snakemake")):
            process.kill()
    record.close()


def test_snakemake_killed_while_it_images_is_recovered_and_published(night):
    workspace, config, record = night
    run_id = launch.submit(
        record,
        config,
        kind="run",
        targets=["mosaics"],
        profile="profile",
        configfiles=["test.yaml"],
    )
    assert launch.dispatch(record, config) == run_id

    def row():
        return record.run(run_id)

    def running(rule):
        assert row()["state"] not in FINISHED, Path(row()["log_path"]).read_text()[-3000:]
        jobs = record.jobs_of(run_id)
        return [j for j in jobs if j["rule"] == rule and j["state"] == State.RUNNING]

    until(lambda: running("image_tile"), "a tile's imaging")
    leader = Identity.from_row(row(), "snakemake")
    supervisor = psutil.Process(row()["supervisor_pid"])
    before = members(run_id, leader)
    supervisor.kill()
    (snakemake,) = psutil.Process(leader.pid).children()
    snakemake.kill()
    until(lambda: not psutil.pid_exists(supervisor.pid) or supervisor.status() == "zombie", "death")
    orphans = [p for p in members(run_id, leader) if p in before]
    assert orphans, "the imaging job should outlive Snakemake"

    assert recover.recover(record, config) == [run_id]
    ended = launch.wait(record, config, run_id, poll_s=0.5, timeout_s=WAIT_S)
    assert ended["state"] == State.COMPLETE, Path(ended["log_path"]).read_text()[-3000:]
    assert ended["attempt"] == 2
    assert not [p for p in orphans if p.is_running() and p.status() != "zombie"]

    # what was complete was kept, what was being imaged was made anew
    executions = [job["rule"] for job in record.jobs_of(run_id)]
    assert executions.count("convert") == 3
    assert executions.count("image_tile") > 3
    assert executions.count("make_mosaic") == 1

    (publication,) = workspace.results.glob("mosaics/*/publication.json")
    assert read_json(publication)["state"] == "published"
    verify(publication)
    group = record.group(publication.parent.name)
    assert group["state"] == State.COMPLETE
    assert group["outcome"] == "published"
    (product,) = record.select("SELECT * FROM products WHERE state = 'published'")
    assert product["group_id"] == publication.parent.name
    assert record.live_run(workspace.path) is None
