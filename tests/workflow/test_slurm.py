"""One small mosaic through profiles/slurm on a real SLURM of two nodes on loopback."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

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
