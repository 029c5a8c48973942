"""`make demo` as a newcomer runs it: the injected event is found, and nothing else."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def call_demo(workspace):
    done = subprocess.run(
        [Path(sys.executable).with_name("dsaflow"), "demo"],
        cwd=workspace.path, env=workspace.environment(), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    return done


def state(workspace):
    """Time of every file that the workflow made; Snakemake's own records and the plan change."""
    demo = workspace.path / "demo"
    return {
        str(p.relative_to(demo)): p.stat().st_mtime_ns
        for p in demo.rglob("*")
        if p.is_file() and "plan" not in p.parts
    }


@pytest.fixture(scope="module")
def demo(make_workspace):
    workspace = make_workspace()
    return workspace, call_demo(workspace)


@pytest.fixture(scope="module")
def figures(demo, repository):
    workspace, _ = demo
    done = subprocess.run(
        [sys.executable, repository / "benchmarks/validate.py", "--json", "demo/results"],
        cwd=workspace.path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_injected_event_is_the_only_candidate(demo, figures):
    _, done = demo
    line = done.stdout.strip().splitlines()[-1]
    found = re.fullmatch(
        r"injected event in (\S+): found as rank 1, significance (\S+), depth (\d+) % "
        r"\(injected (\d+) %\), 0 other candidates",
        line,
    )
    assert found, line
    assert abs(int(found[3]) - int(found[4])) < 15
    assert figures["injected_rank"] == 1
    assert figures["constant_candidates"] == 0
    assert figures["sources_searched"] > 50


def test_figures_of_the_demo(figures):
    assert abs(figures["flux_ratio"] - 1) < min(0.05, 3 * figures["flux_ratio_stated_err"])
    assert abs(figures["offset_east_arcsec"]) < 2
    assert abs(figures["offset_north_arcsec"]) < 2
    assert figures["tile_noise_ratio_highest"] <= 1.5
    assert figures["published_verified"] > 0.8 * figures["mosaics"]


def test_second_call_does_nothing_but_say_so(demo):
    workspace, first = demo
    before = state(workspace)
    again = call_demo(workspace)
    assert state(workspace) == before
    assert again.stdout.strip().splitlines()[-1] == first.stdout.strip().splitlines()[-1]
    told = again.stdout + again.stderr
    assert told.count("Nothing to be done") == 2
    assert "localrule" not in told
