"""A working directory with toy rules, recorded and launched as the real workflow is."""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import yaml

from dsaflow.config import Config, load_config
from dsaflow.runs import launch
from dsaflow.runs.events import read_events
from dsaflow.runs.processes import Identity, members
from dsaflow.runs.record import Record
from dsaflow.runs.states import FINISHED, State

PROFILE = "profiles/toy"
WAIT_S = 120.0

# The head is that of rules/common.smk. Files named `go-...` let a waiting job end.
SNAKEFILE = """
configfile: "config/config.yaml"

from dsaflow.config import load_config
from dsaflow.runs.handler import announce, foresee

CONFIG = load_config(config)
RESULTS = CONFIG.paths.results

if workflow.is_main_process:
    announce(RESULTS, CONFIG.runs.database, CONFIG.paths.published)

onstart:
    foresee(workflow)

rule all:
    default_target: True
    input: f"{RESULTS}/quick.txt"

rule quick:
    output: f"{RESULTS}/quick.txt"
    log: f"{RESULTS}/logs/quick.log"
    shell: "echo done > {output}"

rule waiting:
    "Appends a line with its pid until it may end."
    output: f"{RESULTS}/waiting.txt"
    log: f"{RESULTS}/logs/waiting.log"
    shell: "echo $$ > {output}; until [ -e go-waiting ]; do echo $$ >> {output}; sleep 0.1; done"

rule stubborn:
    "As waiting, but only SIGKILL ends it."
    output: f"{RESULTS}/stubborn.txt"
    log: f"{RESULTS}/logs/stubborn.log"
    shell:
        "trap '' HUP INT TERM; echo $$ > {output}; "
        "until [ -e go-stubborn ]; do echo $$ >> {output}; sleep 0.1; done"

rule flaky:
    "Fails twice of what disks do, then works."
    output: f"{RESULTS}/flaky.txt"
    log: f"{RESULTS}/logs/flaky.log"
    params: tries="tries"
    script: "scripts/flaky.py"

rule broken:
    output: f"{RESULTS}/broken.txt"
    log: f"{RESULTS}/logs/broken.log"
    script: "scripts/broken.py"

rule after_flaky:
    input: f"{RESULTS}/quick.txt", f"{RESULTS}/flaky.txt"
    output: f"{RESULTS}/after.txt"
    log: f"{RESULTS}/logs/after.log"
    shell: "cat {input} > {output}"
"""

FLAKY = """
from pathlib import Path
tries = Path(snakemake.params.tries)
count = len(tries.read_text()) if tries.exists() else 0
tries.write_text("x" * (count + 1))
if count < 2:
    error = OSError(5, "Input/output error", f"disk {count + 1}")
    Path(snakemake.log[0]).write_text(f"{type(error).__name__}: {error}\\n")
    raise error
Path(snakemake.output[0]).write_text("done\\n")
"""

BROKEN = """
from pathlib import Path
with open("executions", "a") as stream:
    stream.write("x")
raise KeyError("no such column: flux_jy")
"""

RUNS = {
    "tries": 4,
    "backoff_base_s": 0.5,
    "backoff_cap_s": 2.0,
    "interrupt_s": 2.0,
    "terminate_s": 1.0,
}


def until(condition: Callable[[], object], what: str = "", wait_s: float = WAIT_S) -> None:
    """Wait for something; fails the test after `wait_s`."""
    deadline = time.monotonic() + wait_s
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"waited {wait_s:.0f} s for {what or condition}")
        time.sleep(0.05)


def is_dead(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


@dataclass
class Site:
    """A working directory, its configuration and its record."""

    path: Path
    config: Config
    record: Record

    @property
    def results(self) -> Path:
        return Path(self.config.paths.results)

    def submit(self, *targets: str, **fields) -> str:
        named = {"kind": "run", "profile": PROFILE, "workdir": self.path} | fields
        return launch.submit(self.record, self.config, targets=targets, **named)

    def dispatch(self) -> str | None:
        return launch.dispatch(self.record, self.config, self.path)

    def start(self, *targets: str, **fields) -> str:
        """Submit and dispatch."""
        run_id = self.submit(*targets, **fields)
        assert self.dispatch() == run_id
        return run_id

    def wait(self, run_id: str, wait_s: float = WAIT_S) -> dict:
        """Only look: what happens is the supervisor's doing."""
        until(lambda: self.row(run_id)["state"] in FINISHED, f"the end of {run_id}", wait_s)
        return self.row(run_id)

    def until_state(self, run_id: str, *states: State) -> None:
        until(lambda: self.row(run_id)["state"] in states, f"{states} of {run_id}")

    def row(self, run_id: str) -> dict:
        row = self.record.run(run_id)
        assert row is not None
        return row

    def events(self, run_id: str, kind: str = "") -> list[dict]:
        found = read_events(self.record.events_path(run_id))
        return [event for event in found if kind in ("", event["kind"])]

    def states(self, run_id: str) -> list[str]:
        return [event["state"] for event in self.events(run_id, "run.state")]

    def log(self, run_id: str) -> str:
        return (self.record.folder / run_id / "run.log").read_text()

    def supervisor(self, run_id: str) -> psutil.Process:
        """Process that looks after a run, once it has said so."""

        def known() -> bool:
            identity = Identity.from_row(self.row(run_id), "supervisor")
            return identity is not None and identity.alive and identity.pid != os.getpid()

        until(known, "the supervisor")
        return psutil.Process(self.row(run_id)["supervisor_pid"])

    def snakemake(self, run_id: str) -> psutil.Process:
        """Snakemake itself, the child of the shell that leads the session."""
        until(lambda: self.row(run_id)["snakemake_pid"], "Snakemake")
        leader = psutil.Process(self.row(run_id)["snakemake_pid"])
        until(leader.children, "Snakemake")
        return leader.children()[0]

    def kill_supervisor(self, run_id: str) -> None:
        self.until_state(run_id, State.RUNNING)
        supervisor = self.supervisor(run_id)
        supervisor.kill()
        until(lambda: is_dead(supervisor), "the supervisor's death")

    def writer(self, name: str, after: psutil.Process | None = None) -> psutil.Process:
        """Job that appends to a product, once it does; another one than `after`."""
        file = self.results / name

        def lines() -> list[str]:
            return file.read_text().split() if file.exists() else []

        known = [str(after.pid)] if after else []
        until(lambda: len(lines()) > 1 and lines()[:1] != known, f"a line in {name}")
        return psutil.Process(int(lines()[0]))

    def end_everything(self) -> None:
        for row in self.record.select("SELECT * FROM runs"):
            leader = Identity.from_row(row, "snakemake")
            supervisor = Identity.from_row(row, "supervisor")
            left = members(row["run_id"], leader)
            if supervisor is not None and supervisor.alive and supervisor.pid != os.getpid():
                left.append(psutil.Process(supervisor.pid))
            for process in left:
                process.send_signal(signal.SIGKILL)
        self.record.close()


@pytest.fixture
def make_site(tmp_path):
    """Make toy working directories; whatever they started is ended after the test."""
    sites = []

    def make(name: str = "site", results: Path | None = None, **sections) -> Site:
        path = tmp_path / name
        for folder in ("config", "scripts", PROFILE):
            (path / folder).mkdir(parents=True)
        (path / "Snakefile").write_text(SNAKEFILE)
        (path / "scripts/flaky.py").write_text(FLAKY)
        (path / "scripts/broken.py").write_text(BROKEN)
        profile = {
            "cores": 2, "scheduler": "greedy", "keep-going": True, "retries": 0,
            "show-failed-logs": True, "logger": "dsaflow", "latency-wait": 2,
        }  # fmt: skip
        (path / PROFILE / "config.yaml").write_text(yaml.safe_dump(profile))
        content = {
            "paths": {
                "results": str(results or path / "results"),
                "incoming": str(path / "incoming"),
                "published": str(path / "published"),
            },
            "runs": RUNS,
            # the test machine's disk is not what is tested
            "clean": {"high_water": 1.0},
            "alerts": {"dry_run": True},
            **sections,
        }
        (path / "incoming").mkdir()
        (path / "config/config.yaml").write_text(yaml.safe_dump(content))
        config = load_config(path / "config/config.yaml")
        site = Site(path, config, Record.open(config))
        sites.append(site)
        return site

    yield make
    for site in sites:
        site.end_everything()


@pytest.fixture
def site(make_site) -> Site:
    """One toy working directory."""
    return make_site()


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    """Nothing of a run that this test process might be in."""
    for name in ("DSAFLOW_RUN_ID", "DSAFLOW_RUN_ATTEMPT"):
        monkeypatch.delenv(name, raising=False)
