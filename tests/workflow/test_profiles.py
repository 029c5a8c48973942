"""A dry run of each profile: with nothing to do, and on a simulated night."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

PROFILES = ["demo", "workstation", "slurm"]


@pytest.fixture
def site(repository, tmp_path):
    """Make a working directory that sees the repository's configuration and nothing of its data."""
    (tmp_path / "config").symlink_to(repository / "config")
    for folder in ("incoming", "demo/incoming"):
        (tmp_path / folder).mkdir(parents=True)
    return tmp_path


def dry_run(repository: Path, site: Path, profile: str, *arguments: str) -> str:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "snakemake",
            "--snakefile",
            str(repository / "Snakefile"),
            "--profile",
            str(repository / "profiles" / profile),
            "--dry-run",
            *arguments,
        ],
        cwd=site,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def planned_jobs(output: str) -> dict[str, int]:
    """Jobs of each rule in the table that Snakemake prints."""
    lines = output[output.index("Job stats:") :].splitlines()[3:]
    counts = {}
    for line in lines:
        words = line.split()
        if len(words) != 2 or not words[1].isdigit():
            break
        counts[words[0]] = int(words[1])
    return counts


@pytest.mark.parametrize("profile", PROFILES)
def test_empty_incoming_folder_plans_nothing(repository, site, profile):
    output = dry_run(repository, site, profile)
    assert "Nothing to be done" in output or set(planned_jobs(output)) <= {"all", "total"}


@pytest.mark.parametrize("profile", PROFILES)
def test_simulation_is_planned(repository, site, profile):
    counts = planned_jobs(dry_run(repository, site, profile, "simulation"))
    assert counts["simulate_night"] >= 1
    assert counts["total"] >= counts["simulate_night"] + 1


def test_memory_and_time_grow_with_the_attempt_on_slurm_only(repository):
    for profile in PROFILES:
        content = yaml.safe_load((repository / "profiles" / profile / "config.yaml").read_text())
        assert content["scheduler"] == "greedy"
        assert content["rerun-incomplete"] is True
        assert content["keep-going"] is True
        assert "keep-incomplete" not in content
        resources = [content["default-resources"], *content.get("set-resources", {}).values()]
        amounts = [r[key] for r in resources for key in ("mem_mb", "runtime") if key in r]
        if profile == "slurm":
            assert content["retries"] == 2
            assert content["slurm-status-command"] == "squeue"
            assert content["slurm-no-requeue"] is True
            assert all(str(amount).endswith("* attempt") for amount in amounts)
        else:
            assert content["retries"] == 0
            assert all(isinstance(amount, int) for amount in amounts)
