"""The watcher with real runs of toy rules that follow the real plan, on raw files of headers only."""

import json
import signal
import subprocess
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest

from dsaflow.names import product
from dsaflow.runs.states import FINISHED, LIVE, State
from dsaflow.runs.watch import AlreadyWatching, Watcher

REPOSITORY = Path(__file__).resolve().parents[2]
PROFILE = "profiles/toy"
WAIT_S = 120.0

SNAKEFILE = """
configfile: "config/config.yaml"

from dsaflow.config import load_config
from dsaflow.names import WILDCARD_PATTERNS, product as path_of
from dsaflow.planning import frozen_plan
from dsaflow.runs.handler import announce, foresee

CONFIG = load_config(config)
RESULTS = CONFIG.paths.results
if workflow.is_main_process:
    announce(RESULTS, CONFIG.runs.database, CONFIG.paths.published)
PLAN = frozen_plan(CONFIG, remake=workflow.is_main_process)

onstart:
    foresee(workflow)

wildcard_constraints:
    **WILDCARD_PATTERNS,

def product(key, **wildcards):
    return path_of(key, RESULTS, **wildcards)

def tiles(key, names):
    return [product(key, tile=tile) for tile in names]

rule convert:
    input: lambda w: PLAN.tile(w.tile).files
    output: product("convert_verdict")
    params: n=lambda w: len(PLAN.tile(w.tile).files)
    shell: "echo '{{\\"numbers\\": {{\\"n_subbands\\": {params.n}, \\"files_not_used\\": []}}}}' > {output}"

rule flag:
    input: product("convert_verdict")
    output: product("flag_verdict")
    shell: "echo {{}} > {output}; [ ! -e slow ] || sleep 3"

rule solve_bandpass:
    input: product("flag_verdict")
    output: product("bandpass_verdict")
    shell: "echo {{}} > {output}"

rule solve_gains:
    input: product("flag_verdict"), lambda w: tiles("bandpass_verdict", PLAN.bandpass_tiles(w.tile))
    output: product("gains_verdict")
    shell: "if [ -e broken ]; then echo 'KeyError: broken'; exit 1; fi; echo {{}} > {output}"

rule image_tile:
    input: lambda w: tiles("gains_verdict", PLAN.gain_tiles(w.tile))
    output: product("tile_verdict")
    shell: "echo {{}} > {output}"

rule make_mosaic:
    input: lambda w: tiles("tile_verdict", PLAN.mosaic(w.group_id).tiles)
    output: product("mosaic_verdict")
    params: n=lambda w: len(PLAN.mosaic(w.group_id).tiles)
    shell: "echo '{{\\"numbers\\": {{\\"tiles_offered\\": {params.n}}}}}' > {output}"

rule publish_mosaic:
    input: product("mosaic_verdict")
    output: product("publication")
    shell:
        "echo '{{\\"state\\": \\"published\\", \\"group_id\\": \\"{wildcards.group_id}\\", "
        "\\"path\\": \\"\\", \\"version\\": 1, \\"checksums\\": {{}}, \\"reason\\": \\"\\"}}' > {output}"

rule measure_photometry:
    input: product("mosaic_verdict")
    output: product("photometry_verdict")
    shell: "echo {{}} > {output}"

rule measure_variability:
    input: lambda w: [product("photometry_verdict", group_id=m.group_id) for m in PLAN.strip_mosaics(w.strip)]
    output: product("variability_verdict")
    shell: "echo {{}} > {output}"

rule draw_light_curves:
    input: product("variability_verdict")
    output: product("figure_light_curves")
    shell: "echo > {output}"

rule waiting:
    output: f"{RESULTS}/waiting.txt"
    shell: "until [ -e go ]; do sleep 0.1; done; echo > {output}"
"""


class Night:
    """A toy site whose incoming folder is filled tile by tile; tile 0 is the calibrator's transit."""

    def __init__(self, site, raw):
        self.site, self.raw = site, raw
        self.watcher = self.new_watcher()

    def new_watcher(self):
        return Watcher(self.site.record, self.site.config, PROFILE, workdir=self.site.path)

    def arrive(self, number, age_s=60.0):
        self.raw.write(number, age_s=age_s)

    def path(self, key, **item):
        return Path(product(key, self.site.config.paths.results, **item))

    def made(self, key, number):
        return self.path(key, tile=self.raw.tile(number)).exists()

    def look(self):
        """Look and wait for the run that it starts, if any; returns its row."""
        run_id = self.watcher.look()
        return None if run_id is None else self.site.wait(run_id)

    def publications(self):
        return sorted(self.site.results.glob("mosaics/*/publication.json"))

    def runs(self):
        return self.site.record.select("SELECT * FROM runs ORDER BY created_s")


@pytest.fixture
def night(make_site, raw_tiles, tmp_path):
    folders = {name: str(tmp_path / "site" / name) for name in ("incoming", "results", "published")}
    tables = {name: str(REPOSITORY / f"config/{name}.csv") for name in ("antennas", "calibrators")}
    site = make_site(
        paths=folders | tables,
        plan={"mosaic_tiles": 3},
        watch={"interval_s": 0.5},
    )
    (site.path / "Snakefile").write_text(SNAKEFILE)
    return Night(site, raw_tiles(site.path / "incoming"))


@pytest.mark.slow
def test_each_tile_as_it_arrives_and_the_mosaic_after_the_last(night):
    assert night.look() is None
    night.arrive(-1)
    run = night.look()
    assert (run["kind"], run["priority"], run["state"]) == ("watch", 0, State.COMPLETE)
    assert night.made("flag_verdict", -1)
    assert night.look() is None

    # everything that counts is in the files and the record
    night.watcher = night.new_watcher()
    assert night.look() is None
    night.arrive(0)
    assert night.look()["state"] == State.COMPLETE
    assert night.made("gains_verdict", -1)
    assert night.made("gains_verdict", 0)
    assert night.publications() == []

    night.arrive(1)
    run = night.look()
    assert run["state"] == State.COMPLETE
    (publication,) = night.publications()
    assert run["group_ids"] == [publication.parent.name]
    assert night.site.record.group(publication.parent.name)["state"] == "COMPLETE"
    assert len(list(night.site.results.glob("photometry/*.json"))) == 1

    run = night.look()  # nothing else is to be done: the light curves
    assert run["arguments"] == ["--allowed-rules", "measure_variability", "draw_light_curves"]
    (job,) = night.site.record.jobs_of(run["run_id"])
    assert job["rule"] == "measure_variability"
    night.arrive(5)
    assert night.look() is None


def test_what_was_asked_for_goes_first_and_there_are_never_two_runs(night):
    for number in (-1, 0, 1):
        night.arrive(number)
    asked = night.site.submit("waiting", kind="batch")
    assert night.watcher.look() == asked
    night.site.until_state(asked, State.RUNNING)
    for _ in range(3):
        assert night.watcher.look() is None
    assert [run["run_id"] for run in night.runs()] == [asked]
    (night.site.path / "go").touch()
    night.site.wait(asked)
    assert night.look()["kind"] == "watch"
    assert len(night.publications()) == 1


def test_a_failure_is_not_repeated_before_something_has_changed(night):
    (night.site.path / "broken").touch()
    night.arrive(0)
    run = night.look()
    assert run["state"] == State.EXECUTOR_ERROR
    for _ in range(3):
        assert night.look() is None
    night.arrive(0, age_s=-1)  # a file of the tile comes again
    for path in (night.site.path / "incoming").iterdir():
        assert path.stat().st_mtime > time.time() - 5
    assert night.look() is None  # it still arrives
    night.arrive(0, age_s=0.5)
    night.watcher.config.plan.settle_s = 0.1
    assert night.look()["state"] == State.EXECUTOR_ERROR
    (night.site.path / "broken").unlink()
    assert night.look() is None
    # another configuration is another try
    night.watcher.version = "changed"
    assert night.look()["state"] == State.COMPLETE
    assert night.made("gains_verdict", 0)


def test_no_new_work_above_the_high_water_mark(night):
    night.arrive(0)
    night.watcher.config.clean.high_water = 0.0
    assert night.look() is None
    assert night.runs() == []
    (alert, *_) = night.site.record.select(
        "SELECT * FROM alerts WHERE subject = 'high-water mark' ORDER BY time_s"
    )
    assert "clean.high_water" in alert["message"]
    night.watcher.config.clean.high_water = 1.0
    assert night.look()["state"] == State.COMPLETE


def test_a_look_that_fails_is_told_and_the_next_one_works(night, monkeypatch, caplog):
    stop, looks = threading.Event(), []
    real = night.watcher.look

    def look():
        looks.append(1)
        if len(looks) <= 3:
            raise OSError("stale file handle")
        real()
        stop.set()

    monkeypatch.setattr(night.watcher, "look", look)
    night.watcher.config.watch.interval_s = 0.01
    night.watcher.run(stop)
    (alert,) = night.site.record.select("SELECT * FROM alerts WHERE subject = 'watcher'")
    assert "3 looks failed in a row, the last with stale file handle" in alert["message"]
    assert caplog.text.count("this look failed") == 3


def start_watching(night):
    log = open(night.site.path / "watch.log", "a")  # noqa: SIM115
    with log:
        return subprocess.Popen(
            [Path(sys.executable).with_name("dsaflow"), "watch", "--profile", PROFILE],
            cwd=night.site.path, stdout=log, stderr=log,
        )  # fmt: skip


def until(condition, what):
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


@pytest.mark.slow
def test_killed_in_the_middle_and_started_again(night):
    site = night.site
    (site.path / "slow").touch()
    night.arrive(-1)
    watching = start_watching(night)
    try:
        until(lambda: any(r["state"] == State.RUNNING for r in night.runs()), "a run")
        (run,) = night.runs()
        supervisor = site.supervisor(run["run_id"])
        watching.kill()
        watching.wait()
        # the run does not belong to the watcher
        assert supervisor.is_running()
        watching = start_watching(night)
        night.arrive(0)
        assert site.wait(run["run_id"])["state"] == State.COMPLETE
        until(lambda: night.made("gains_verdict", 0), "the second tile")
        (site.path / "slow").unlink()

        with pytest.raises(AlreadyWatching, match=f"process {watching.pid} watches"):
            night.watcher.run(None)
        other = start_watching(night)
        assert other.wait(60) == 2
        assert "watches already" in (site.path / "watch.log").read_text()

        night.arrive(1)
        until(night.publications, "the mosaic")
        until(lambda: list(site.results.glob("variability/*/*.json")), "light curves")
        watching.send_signal(signal.SIGTERM)
        assert watching.wait(60) == 0
    finally:
        watching.kill()
        watching.wait()
    until(lambda: all(r["state"] in FINISHED for r in night.runs()), "all runs")
    assert {run["state"] for run in night.runs()} == {State.COMPLETE}
    spans = sorted((run["started_s"], run["ended_s"]) for run in night.runs())
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))
    assert not LIVE & {run["state"] for run in night.runs()}
    told = json.loads(
        night.path("mosaic_verdict", group_id=night.publications()[0].parent.name).read_text()
    )
    assert told["numbers"]["tiles_offered"] == 3
