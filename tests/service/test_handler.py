"""Real Snakemake runs of a toy workflow, as a person types them, and what the record knows after."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dsaflow.runs.events import read_events
from dsaflow.runs.processes import Identity
from dsaflow.runs.record import Record
from dsaflow.runs.states import State

TILES = ["20260120T050940", "20260120T051449"]
GROUP = "3C286_20260120T051723_6aab7074"

# The head is that of rules/common.smk.
SNAKEFILE = f"""
from dsaflow.runs.handler import announce, foresee

if workflow.is_main_process:
    announce("results", "", "published")

onstart:
    foresee(workflow)

rule all:
    input: "results/mosaics/{GROUP}/mosaic.json"

rule convert:
    output: "results/tiles/{{tile}}/convert.json"
    log: "logs/convert/{{tile}}.log"
    benchmark: "logs/benchmarks/{{tile}}.tsv"
    script: "convert.py"

rule make_mosaic:
    input: expand("results/tiles/{{tile}}/convert.json", tile={TILES})
    output: "results/mosaics/{{group_id}}/mosaic.json"
    log: "logs/make_mosaic/{{group_id}}.log"
    shell: "{{config[mosaic]}} 2> {{log}} > {{output}}"

rule slow:
    output: "results/slow.txt"
    log: "logs/slow.log"
    shell: "until [ -e go ]; do sleep 0.1; done; touch {{output}}"
"""

SCRIPT = """
import json, os, pathlib, signal
from dsaflow.stage import start_log
start_log(snakemake.log[0])
mode, tile = pathlib.Path("mode").read_text(), snakemake.wildcards.tile
first = tile == "20260120T050940"
tries = pathlib.Path("tries")
if mode == "raise" and first:
    raise OSError(28, "No space left on device", "disk")
if mode == "die" and first:
    os.kill(os.getpid(), signal.SIGKILL)
if mode == "once" and first and not tries.exists():
    tries.touch()
    raise RuntimeError("only the first time")
verdict = {"verdict": "pass"}
if mode == "reject" and first:
    verdict = {"verdict": "reject", "reason_code": "TRUNCATED_HDF5", "detail": "16 bytes"}
pathlib.Path(snakemake.output[0]).write_text(json.dumps(verdict))
"""
MOSAIC = {"verdict": "pass", "numbers": {"tiles_used": 2, "tiles_offered": 2}}


@dataclass
class Site:
    """A working directory with the toy workflow."""

    path: Path
    started: list[subprocess.Popen] = field(default_factory=list)

    def convert(self, mode: str) -> None:
        """What rule convert does with the first tile: pass, reject, raise, die, once (raise)."""
        (self.path / "mode").write_text(mode)

    def command(self, *arguments: str, mosaic: str = "cat mosaic.in") -> list[str]:
        return [
            sys.executable, "-m", "snakemake", "--logger", "dsaflow", "--cores", "2", "--keep-going",
            "--rerun-incomplete", "--scheduler", "greedy", *arguments, "--config",
            f"mosaic={mosaic}",
        ]  # fmt: skip

    def snakemake(self, *arguments: str, code: int = 0, **more) -> str:
        done = subprocess.run(
            self.command(*arguments, **more), cwd=self.path, capture_output=True, text=True,
            check=False, env=clean_environment(),
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def start(self, *arguments: str) -> subprocess.Popen:
        process = subprocess.Popen(
            self.command(*arguments), cwd=self.path, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True, env=clean_environment(),
        )  # fmt: skip
        self.started.append(process)
        return process

    @property
    def record(self) -> Record:
        return Record(self.path / "results/runs", self.path / "results/runs/record.sqlite")

    @property
    def runs(self) -> list[dict]:
        return self.record.select("SELECT * FROM runs ORDER BY created_s")

    def files(self) -> dict[str, int]:
        found = (p for p in self.path.rglob("*") if ".snakemake" not in p.parts)
        return {str(p): p.stat().st_mtime_ns for p in found if p.is_file()}


def clean_environment(**more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("DSAFLOW_")}
    return {**kept, "PYTHONWARNINGS": "default", **more}


def wait_for(condition, timeout_s: float = 60.0):
    end = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)
    return found


@pytest.fixture
def site(tmp_path):
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    (tmp_path / "convert.py").write_text(SCRIPT)
    (tmp_path / "mosaic.in").write_text(json.dumps(MOSAIC))
    made = Site(tmp_path)
    made.convert("pass")
    yield made
    for process in made.started:
        # a job's shell outlives SIGINT where its child ends at that moment
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_a_typed_run_is_recorded_from_its_first_job_to_its_end(site):
    for harmless in ("--dry-run", "--unlock"):
        site.snakemake(harmless)
        assert not (site.path / "results").exists()

    site.convert("reject")
    before = time.time()
    shown = site.snakemake("--quiet", "all")
    assert "dsaflow" not in shown
    (run,) = site.runs
    assert (run["kind"], run["state"], run["exit_code"]) == ("snakemake", "COMPLETE", 0)
    assert (run["jobs_done"], run["jobs_total"], run["retry_count"]) == (4, 4, 0)
    assert run["workdir"] == str(site.path)
    assert before < run["started_s"] < run["ended_s"] < time.time()
    assert run["snakemake_pid"] > 0
    assert Identity.from_row(run, "snakemake").alive is False
    assert "--quiet" in run["arguments"]

    jobs = {(job["rule"], job["item"]): job for job in site.record.jobs_of(run["run_id"])}
    assert set(jobs) == {
        ("convert", TILES[0]), ("convert", TILES[1]), ("make_mosaic", GROUP), ("all", ""),
    }  # fmt: skip
    assert {job["state"] for job in jobs.values()} == {"COMPLETE"}
    job = jobs["convert", TILES[0]]
    assert job["wildcards"] == {"tile": TILES[0]}
    assert job["log_path"] == str(site.path / f"logs/convert/{TILES[0]}.log")
    assert job["outputs"] == [f"results/tiles/{TILES[0]}/convert.json"]
    assert run["started_s"] <= job["started_s"] < job["ended_s"] <= run["ended_s"]
    # what it measured itself is shorter than what Snakemake saw
    (timing,) = site.record.select(
        "SELECT seconds FROM stage_timings WHERE job_id = ?", (job["job_id"],)
    )
    assert 0 < timing["seconds"] < job["ended_s"] - job["started_s"]

    # the plan comes from the DAG, mosaics and rejected inputs from the products
    (plan,) = site.record.select("SELECT planned FROM run_plans")
    assert sorted(plan["planned"]["convert"]) == TILES
    group = site.record.group(GROUP)
    assert (group["state"], group["run_id"]) == ("COMPLETE", run["run_id"])
    assert (group["tiles_used"], group["tiles_rejected"], group["stage"]) == (2, 0, "make_mosaic")
    (rejected,) = site.record.select("SELECT * FROM quarantine")
    assert (rejected["item"], rejected["state"]) == (f"convert/{TILES[0]}", "open")
    assert (rejected["reason_code"], rejected["detail"]) == ("TRUNCATED_HDF5", "16 bytes")

    # Snakemake's own words are kept, also those that the user did not want to see
    text = Path(run["log_path"]).read_text()
    assert "rule convert:" in text
    assert "4 of 4 steps (100%) done" in text

    # nothing to be done: nothing is written; files that are only touched are no work
    files = site.files()
    assert "Nothing to be done" in site.snakemake()
    assert site.files() == files
    site.snakemake("--touch", "--forceall")
    assert [row["run_id"] for row in site.runs] == [run["run_id"]]


def test_a_failed_job_says_why_and_the_next_run_succeeds(site):
    site.convert("raise")
    site.snakemake(code=1)
    (run,) = site.runs
    message = "OSError: [Errno 28] No space left on device: 'disk'"
    assert (run["state"], run["exit_code"]) == ("EXECUTOR_ERROR", 1)
    assert run["error_message"] == f"convert {TILES[0]}: {message}"
    assert run["error_class"] == "transient"
    jobs = {job["item"]: job for job in site.record.jobs_of(run["run_id"])}
    assert jobs[TILES[0]]["error_message"] == message
    assert jobs[TILES[0]]["state"] == "EXECUTOR_ERROR"
    assert jobs[TILES[1]]["state"] == "COMPLETE"
    assert site.record.group(GROUP)["state"] == "EXECUTOR_ERROR"
    assert site.record.group(GROUP)["error_message"] == run["error_message"]
    (event,) = [
        e for e in read_events(site.record.events_path(run["run_id"])) if e["kind"] == "job.error"
    ]
    assert "Traceback" in event["log_tail"]

    site.convert("pass")
    site.snakemake()
    assert [run["state"] for run in site.runs] == ["EXECUTOR_ERROR", "COMPLETE"]
    assert site.record.group(GROUP)["run_id"] == site.runs[1]["run_id"]
    rules = [job["rule"] for job in site.record.jobs_of(site.runs[1]["run_id"])]
    assert rules == ["convert", "make_mosaic", "all"]  # resumed, not begun anew


@pytest.mark.parametrize(
    ("mode", "mosaic", "said"),
    [
        ("die", "cat mosaic.in", f"convert {TILES[0]}: died with <Signals.SIGKILL: 9>"),
        pytest.param(
            "pass", "cat no-such-file", f"make_mosaic {GROUP}: cat: no-such-file: No such",
            marks=pytest.mark.slow,
        ),
    ],
    ids=["killed", "shell"],
)  # fmt: skip
def test_a_job_without_exception_says_why_too(site, mode, mosaic, said):
    site.convert(mode)
    site.snakemake(code=1, mosaic=mosaic)
    assert site.runs[0]["error_message"].startswith(said)


def test_a_job_that_snakemake_tries_again_is_two_executions(site):
    site.convert("once")
    site.snakemake("--retries", "1")
    (run,) = site.runs
    assert (run["state"], run["retry_count"]) == ("COMPLETE", 1)
    assert run["error_message"] is None
    jobs = [job for job in site.record.jobs_of(run["run_id"]) if job["item"] == TILES[0]]
    assert [job["execution"] for job in jobs] == [1, 2]
    assert [job["error_message"] for job in jobs] == ["RuntimeError: only the first time", None]


def test_an_interrupted_run_is_canceled(site):
    process = site.start("results/slow.txt")
    (job,) = wait_for(lambda: site.record.select("SELECT * FROM jobs WHERE rule = 'slow'"))
    assert site.record.run(job["run_id"])["targets"] == ["results/slow.txt"]
    # Python drops a KeyboardInterrupt that falls into a destructor: as at a terminal, press again
    for _ in range(3):
        os.killpg(process.pid, signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(30)
            break
    assert process.returncode is not None
    (run,) = site.runs
    assert run["state"] == "CANCELED"
    assert {job["state"] for job in site.record.jobs_of(run["run_id"])} <= {
        "CANCELED", "EXECUTOR_ERROR",
    }  # fmt: skip


@pytest.mark.slow
def test_a_killed_run_is_settled_by_the_next_one_when_nothing_of_it_is_left(site):
    process = site.start("results/slow.txt")
    wait_for(lambda: site.record.select("SELECT * FROM jobs WHERE rule = 'slow'"))
    (run,) = site.runs
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    # its job is alive and would still write: the next run must not call it dead
    said = site.snakemake("--nolock")
    assert "another run is live" in said
    first, second = site.runs
    assert (first["run_id"], first["state"]) == (run["run_id"], "RUNNING")
    assert (second["state"], second["jobs_done"]) == ("COMPLETE", 4)

    os.killpg(process.pid, signal.SIGKILL)
    (site.path / "go").touch()
    site.snakemake("--nolock", "--forceall")
    first, _, third = site.runs
    assert first["state"] == "SYSTEM_ERROR"
    assert "vanished" in first["error_message"]
    assert third["state"] == "COMPLETE"


def test_a_launched_run_gets_jobs_but_keeps_its_state(site):
    record = site.record
    run_id = record.create_run("run", site.path, state=State.RUNNING, attempt=2)
    subprocess.run(
        site.command(), cwd=site.path, capture_output=True, check=True,
        env=clean_environment(DSAFLOW_RUN_ID=run_id, DSAFLOW_RUN_ATTEMPT="2"),
    )  # fmt: skip
    (run,) = site.runs
    assert (run["run_id"], run["state"], run["exit_code"]) == (run_id, "RUNNING", None)
    assert (run["jobs_done"], run["jobs_total"]) == (4, 4)
    assert {job["attempt"] for job in record.jobs_of(run_id)} == {2}
    assert not Path(run["log_path"]).exists()  # the launcher's


def test_a_record_that_cannot_be_written_does_not_harm_the_workflow(site):
    folder = site.path / "results" / "runs"
    folder.mkdir(parents=True)
    (folder / "record.sqlite").write_bytes(b"no SQLite at all" * 300)
    said = site.snakemake()
    assert said.count("dsaflow: run record") == 1
    assert (site.path / "results/mosaics" / GROUP / "mosaic.json").exists()
    # the events are there all the same, and give the record
    site.record.remake()
    (run,) = site.runs
    assert (run["state"], run["jobs_done"]) == ("COMPLETE", 4)
    assert len(site.record.jobs_of(run["run_id"])) == 4


@pytest.mark.slow
def test_a_folder_that_cannot_be_made_does_not_harm_the_workflow(site):
    (site.path / "results").mkdir()
    (site.path / "results" / "runs").write_text("a file where the record's folder should be")
    said = site.snakemake()
    assert said.count("dsaflow: run record") == 1
    assert (site.path / "results/mosaics" / GROUP / "mosaic.json").exists()


@pytest.mark.slow
def test_sqlite_deleted_in_the_middle_of_a_run_is_made_anew(site):
    process = site.start("results/slow.txt", "all")
    wait_for(lambda: site.record.select("SELECT * FROM jobs WHERE rule = 'slow'"))
    for path in (site.path / "results/runs").glob("record.sqlite*"):
        path.unlink()
    (site.path / "go").touch()
    process.wait(120)
    assert process.returncode == 0
    (run,) = site.runs
    assert (run["state"], run["jobs_done"]) == ("COMPLETE", 5)
    assert {job["state"] for job in site.record.jobs_of(run["run_id"])} == {"COMPLETE"}
