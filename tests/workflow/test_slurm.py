"""One small mosaic, and a killed run, on a real SLURM of two nodes on loopback."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import psutil
import pytest
import yaml

from dsaflow.config import load_config
from dsaflow.runs import launch, recover
from dsaflow.runs.processes import Identity, members
from dsaflow.runs.record import Record
from dsaflow.runs.states import State

pytestmark = [pytest.mark.slow, pytest.mark.slurm]

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel")
PATH = os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"])
RUN_TIMEOUT_S = 600
# One machine's disk shows files at once; polls at 3, 16 and 39 s fit its jobs of 10 to 35 s.
ONE_MACHINE = ["--jobs=4", "--latency-wait=5", "--slurm-init-seconds-before-status-checks=3"]
SUBMITTED = re.compile(r"submitted with SLURM jobid (\d+)")
LATE_FILE = "2026-01-20T09:00:00_sb00.hdf5"
# Groups are one SLURM job each: prepare (convert, flag), image (apply_calibration, image_tile)
# and mosaic (all from make_mosaic on); the rest are jobs of their own.
N_SLURM_JOBS = {"prepare": 3, "fetch_catalog": 1, "solve_bandpass": 1, "solve_gains": 3}
N_SLURM_JOBS |= {"image": 3, "mosaic": 1}


@dataclass
class Cluster:
    """A running SLURM in `folder`."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        return {
            "SLURM_CONF": str(self.folder / "slurm.conf"),
            "PATH": os.pathsep.join([str(self.folder / "bin"), PATH]),
        }

    def query(self, *command: str) -> str:
        return subprocess.run(
            command,
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        ).stdout


def unused_ports(count: int) -> list[int]:
    """Ports that nobody listens on now, different from each other."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for listener in sockets:
            listener.bind(("127.0.0.1", 0))
        return [listener.getsockname()[1] for listener in sockets]


@pytest.fixture(scope="module")
def cluster(repository):
    """Start SLURM in a folder of its own and stop it whatever happens; skip where it cannot be."""
    missing = [program for program in PROGRAMS if shutil.which(program, path=PATH) is None]
    if missing:
        pytest.skip(f"no SLURM: {', '.join(missing)} not found (tests/install-system-packages.sh)")
    if os.geteuid() != 0:
        pytest.skip("no SLURM: its daemons need root")
    script = repository / "tests" / "mini_slurm.sh"
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))  # pytest's are too long for a Unix socket

    def control(action: str, *arguments: str) -> subprocess.CompletedProcess:
        with (folder / f"{action}.log").open("w") as log:  # daemons would keep a pipe open
            return subprocess.run(
                ["bash", str(script), action, str(folder), *arguments],
                env={**os.environ, "PATH": PATH},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                check=False,
                timeout=90,
            )

    try:
        started = control("start", *map(str, unused_ports(3)))
        assert started.returncode == 0, "\n".join(
            f"--- {path.name}\n{path.read_text()[-2000:]}"
            for path in [folder / "start.log", *folder.glob("log/*.log")]
        )
        yield Cluster(folder)
    finally:
        control("stop")
        shutil.rmtree(folder, ignore_errors=True)


def identity(path: Path) -> tuple[int, int]:
    """Changes whenever the file is written, in place or by replacing it."""
    status = path.stat()
    return status.st_ino, status.st_mtime_ns


def run_on_slurm(workspace, cluster: Cluster, *targets: str) -> tuple[int, str, list[tuple]]:
    """Run the slurm profile; return exit code, log and what the plan's file was at each look."""
    log_path = workspace.path / "slurm-run.log"
    plans = []
    with log_path.open("w") as log:
        process = subprocess.Popen(
            workspace.command(*targets, "--profile", "profiles/slurm", *ONE_MACHINE),
            cwd=workspace.path,
            env={**workspace.environment(), **cluster.environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            end = time.monotonic() + RUN_TIMEOUT_S
            while process.poll() is None and time.monotonic() < end:
                if SUBMITTED.search(log_path.read_text()):
                    # only now, so that a job that scanned would write another plan
                    (workspace.path / "incoming" / LATE_FILE).write_text("arrives after the plan")
                    plans.append(identity(workspace.results / "plan" / "plan.json"))
                time.sleep(1)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGINT)  # cancels the SLURM jobs too
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
    return process.returncode, log_path.read_text(), plans


def test_small_mosaic_is_made_and_published_through_slurm(make_workspace, cluster):
    workspace = make_workspace({"simulate": {"n_epochs": 1, "full_array_tiles": []}})
    workspace.snakemake("simulation")

    code, log, plans = run_on_slurm(workspace, cluster, "mosaics", "photometry")
    assert code == 0, log[-6000:]

    # every group and every other job ran once, on a node, and SLURM says that it completed
    jobs = SUBMITTED.findall(log)
    assert len(set(jobs)) == len(jobs) == sum(N_SLURM_JOBS.values())
    for job in jobs:
        record = cluster.query("scontrol", "--oneliner", "show", "job", job)
        assert "JobState=COMPLETED" in record
        assert re.search(r" NodeList=node[01] ", record)
    assert cluster.query("squeue", "--noheader", "--states=PENDING,RUNNING,SUSPENDED") == ""

    # the run record knows each job with its SLURM job, and the run's name in SLURM
    record = Record(workspace.results / "runs", workspace.results / "runs" / "record.sqlite")
    (run,) = record.select("SELECT * FROM runs")
    assert (run["state"], run["kind"]) == ("COMPLETE", "snakemake")
    assert f"SLURM run ID: {run['slurm_run_id']}" in log
    recorded = record.select("SELECT * FROM jobs WHERE rule NOT IN ('mosaics', 'photometry')")
    assert {job["state"] for job in recorded} == {"COMPLETE"}
    assert {str(job["slurm_job_id"]) for job in recorded} == set(jobs)
    assert [g["outcome"] for g in record.select("SELECT * FROM mosaic_groups")] == ["published"]

    # jobs on nodes read the plan and never make it anew; the next main process does
    plan = workspace.results / "plan" / "plan.json"
    assert len(plans) > 2
    assert set(plans) == {identity(plan)}
    workspace.snakemake("--dry-run", "mosaics")
    assert identity(plan) not in plans

    (publication,) = workspace.results.glob("mosaics/*/publication.json")
    content = json.loads(publication.read_text())
    assert content["state"] == "published", content
    (photometry,) = workspace.results.glob("photometry/**/*.parquet")
    assert pd.read_parquet(photometry)["flux_jy"].notna().sum() > 10


# One job on a node that appends its pid to its output until it may end.
ONE_WRITER = """
configfile: "config.yaml"

from dsaflow.config import load_config
from dsaflow.runs.handler import announce, foresee

CONFIG = load_config(config)

if workflow.is_main_process:
    announce(CONFIG.paths.results, CONFIG.runs.database, CONFIG.paths.published)

onstart:
    foresee(workflow)

rule writer:
    output: "results/lines.txt"
    shell: "echo $$ > {output}; until [ -e go ]; do echo $$ >> {output}; sleep 0.2; done"
"""
SLURM_PROFILE = {
    "executor": "slurm", "jobs": 2, "scheduler": "greedy", "latency-wait": 5, "retries": 0,
    "slurm-status-command": "squeue", "slurm-no-requeue": True, "logger": "dsaflow",
    "slurm-init-seconds-before-status-checks": 3,
    "default-resources": {"slurm_partition": "main", "mem_mb": 100, "runtime": 10},
}  # fmt: skip


@pytest.fixture
def one_writer(cluster, tmp_path, monkeypatch):
    """A recorded workflow of one SLURM job; whatever it started is ended after the test."""
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Snakefile").write_text(ONE_WRITER)
    (tmp_path / "profile").mkdir()
    (tmp_path / "profile/config.yaml").write_text(yaml.safe_dump(SLURM_PROFILE))
    runs = {"backoff_base_s": 0.5, "interrupt_s": 20, "terminate_s": 2}
    content = {"paths": {"results": "results"}, "runs": runs, "clean": {"high_water": 1.0}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
    config = load_config("config.yaml")
    record = Record.open(config)
    yield config, record
    for row in record.select("SELECT * FROM runs"):
        supervisor = Identity.from_row(row, "supervisor")
        if supervisor is not None and supervisor.alive:
            psutil.Process(supervisor.pid).kill()
        for process in members(row["run_id"], Identity.from_row(row, "snakemake")):
            process.kill()
    record.close()


def wait_until(condition, what: str, wait_s: float = 120) -> None:
    end = time.monotonic() + wait_s
    while not condition():
        assert time.monotonic() < end, f"waited {wait_s:.0f} s for {what}"
        time.sleep(0.1)


def test_slurm_jobs_of_a_killed_run_are_cancelled_before_it_is_resumed(one_writer, cluster):
    config, record = one_writer
    lines = Path("results/lines.txt")
    active = ("squeue", "--noheader", "--format=%A")

    def start() -> str:
        run_id = launch.submit(
            record, config, kind="run", targets=["results/lines.txt"], profile="profile"
        )
        assert launch.dispatch(record, config) == run_id
        return run_id

    def writing() -> set[str]:
        return set(lines.read_text().split()) if lines.exists() else set()

    run_id = start()
    wait_until(writing, "a line from the node")
    first = writing()
    (job,) = cluster.query(*active).split()
    row = record.run(run_id)
    supervisor = psutil.Process(row["supervisor_pid"])
    (snakemake,) = psutil.Process(row["snakemake_pid"]).children()
    for process in (supervisor, snakemake):
        process.kill()
    wait_until(lambda: (Path(row["folder"]) / "attempt-1.exit").exists(), "the exit code")
    # nobody is left but SLURM, and the job writes on
    size = lines.stat().st_size
    wait_until(lambda: lines.stat().st_size > size, "more lines")

    assert recover.recover(record, config) == [run_id]
    wait_until(lambda: writing() and writing() != first, "another writer")
    told = cluster.query("scontrol", "--oneliner", "show", "job", job)
    assert "JobState=CANCELLED" in told
    (second,) = cluster.query(*active).split()
    assert second != job
    Path("go").touch()
    ended = launch.wait(record, config, run_id, poll_s=0.2, timeout_s=120)
    assert ended["state"] == State.COMPLETE, Path(ended["log_path"]).read_text()[-3000:]
    assert ended["attempt"] == 2
    assert len(writing()) == 1
    assert not writing() & first
    executions = {job["slurm_job_id"] for job in record.jobs_of(run_id)}
    assert executions == {int(job), int(second)}

    # a cancelled run leaves no job in SLURM
    Path("go").unlink()
    lines.unlink()
    run_id = start()
    wait_until(writing, "a line from the node")
    launch.cancel(record, config, run_id)
    ended = launch.wait(record, config, run_id, poll_s=0.2, timeout_s=120)
    assert ended["state"] == State.CANCELED
    assert cluster.query(*active) == ""


FAILING = """
from dsaflow.runs.handler import announce, foresee

if workflow.is_main_process:
    announce("results")

onstart:
    foresee(workflow)

localrules: all

rule all:
    input: "results/second.txt", "results/killed.txt"

rule first:
    output: "results/first.txt"
    log: "logs/first.log"
    group: "pair"
    script: "good.py"

rule second:
    input: "results/first.txt"
    output: "results/second.txt"
    log: "logs/second.log"
    group: "pair"
    script: "raising.py"

rule killed:
    output: "results/killed.txt"
    log: "logs/killed.log"
    script: "killed.py"
"""
LOGGED = "from dsaflow.stage import start_log\nstart_log(snakemake.log[0])\n"
SCRIPTS = {
    "good.py": "open(snakemake.output[0], 'w').write('x')\n",
    "raising.py": "raise ValueError('odd channel')\n",
    "killed.py": "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n",
}


def test_the_record_says_why_jobs_on_nodes_failed(tmp_path, cluster):
    (tmp_path / "Snakefile").write_text(FAILING)
    for name, text in SCRIPTS.items():
        (tmp_path / name).write_text(LOGGED + text)
    options = [
        "--executor=slurm", "--keep-going", "--logger=dsaflow", "--scheduler=greedy", *ONE_MACHINE,
        "--slurm-status-command=squeue", "--slurm-no-requeue", "--default-resources",
        "slurm_partition=main", "mem_mb=200", "runtime=5",
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", *options], cwd=tmp_path, stdin=subprocess.DEVNULL,
        env={**os.environ, **cluster.environment}, capture_output=True, text=True, check=False,
        timeout=RUN_TIMEOUT_S,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    record = Record(tmp_path / "results/runs", tmp_path / "results/runs/record.sqlite")
    jobs = {job["rule"]: job for job in record.select("SELECT * FROM jobs")}
    messages = {rule: job["error_message"] for rule, job in jobs.items()}
    assert messages == {
        "first": "another job of its group failed",
        "second": "ValueError: odd channel",
        "killed": "died with <Signals.SIGKILL: 9> SLURM status is: 'FAILED'",
    }
    assert (jobs["second"]["error_class"], jobs["killed"]["error_class"]) == (
        "permanent",
        "transient",
    )
    assert jobs["first"]["slurm_job_id"] == jobs["second"]["slurm_job_id"]
    assert jobs["first"]["slurm_job_id"] != jobs["killed"]["slurm_job_id"] is not None
    (run,) = record.select("SELECT * FROM runs")
    assert run["state"] == "EXECUTOR_ERROR"
    assert "second: ValueError: odd channel" in run["error_message"]


def test_doctor_finds_this_slurm_in_order_and_says_what_is_wrong(repository, cluster, monkeypatch):
    from dsaflow.runs.doctor_slurm import slurm

    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    found = list(slurm(repository / "profiles/slurm"))
    assert [finding.status for finding in found] == ["ok", "ok"]
    assert "MinJobAge 300 s" in found[0].detail
    cluster.query("scontrol", "update", "PartitionName=main", "State=DOWN")
    try:
        (_, partition) = slurm(repository / "profiles/slurm")
    finally:
        cluster.query("scontrol", "update", "PartitionName=main", "State=UP")
    assert partition.status == "fail"
    assert "partition main is down" in partition.detail
