"""The scheduler's default rate limit is lifted, an operator's own is kept; in real Snakemake runs."""

import subprocess
import sys

import pytest

SNAKEFILE = """
import threading
from dsaflow.runs.pace import lift_rate_limit

onstart:
    lift_rate_limit(workflow)

onsuccess:
    limiter = workflow.scheduler.job_rate_limiter
    with open("limit.txt", "w") as out:
        print(limiter and limiter.max_jobs, file=out)
        print(sum(isinstance(t, threading.Timer) for t in threading.enumerate()), file=out)

rule all:
    input:
        expand("{number}.done", number=range(12)),

rule one:
    output:
        touch("{number}.done"),
"""


@pytest.mark.parametrize(
    ("options", "limit"), [((), "None"), (("--max-jobs-per-timespan", "50/1s"), "50")]
)
def test_only_the_default_is_lifted(tmp_path, options, limit):
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--quiet", "all", *options]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=100)
    kept, timers = (tmp_path / "limit.txt").read_text().split()
    assert kept == limit
    # with a limit each round of the last second has left a timer: so the test sees them
    assert (int(timers) == 0) == (limit == "None")
