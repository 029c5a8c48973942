"""The commands run, cancel, retry and recover, as a person types them."""

import json
import subprocess
import sys

import pytest

from dsaflow.runs.states import State

from .conftest import PROFILE


def dsaflow(site, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", "from dsaflow.cli import main; main()", *arguments, "--profile", PROFILE],
        cwd=site.path, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


@pytest.mark.slow
def test_run_waits_and_says_how_it_ended(site):
    done = dsaflow(site, "run", "quick")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "COMPLETE" in done.stdout
    assert (site.results / "quick.txt").read_text() == "done\n"
    (row,) = site.record.select("SELECT * FROM runs")
    assert row["requested_by"]
    assert row["priority"] == 10

    failed = dsaflow(site, "run", "broken")
    assert failed.returncode == 1
    assert "EXECUTOR_ERROR, permanent: broken: KeyError: 'no such column: flux_jy'" in failed.stdout

    refused = dsaflow(site, "run", "../../etc/passwd")
    assert refused.returncode == 2
    assert "is no target" in refused.stderr


def test_run_cancel_retry_and_recover(site):
    started = dsaflow(site, "run", "waiting", "--no-wait", "--json")
    assert started.returncode == 0, started.stderr
    run_id = json.loads(started.stdout)["run_id"]
    site.writer("waiting.txt")
    assert dsaflow(site, "retry", run_id).returncode == 1  # it runs
    canceled = dsaflow(site, "cancel", run_id)
    assert canceled.returncode == 0
    assert f"run {run_id}: CANCELED" in canceled.stdout
    assert dsaflow(site, "retry", run_id).returncode == 0
    site.until_state(run_id, State.RUNNING)
    site.kill_supervisor(run_id)
    recovered = dsaflow(site, "recover", "--json")
    (told,) = json.loads(recovered.stdout)
    assert told["run_id"] == run_id
    assert told["processes"].startswith("supervisor dead, Snakemake alive")
    assert told["taken_up"]
    (site.path / "go-waiting").touch()
    assert site.wait(run_id)["state"] == State.COMPLETE
    nothing = dsaflow(site, "cancel", "no-such-run")
    assert nothing.returncode == 2
    assert "no run no-such-run" in nothing.stderr
