"""A dry run of each profile: nothing to do, the simulation, and a night of three tiles."""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml

from dsaflow.instrument import BAND_HIGH_HZ, INTEGRATION_S, SUBBAND_WIDTH_HZ, TILE_S
from dsaflow.names import raw_name
from dsaflow.transit import nearest_transit_mjd

PROFILES = ["demo", "workstation", "slurm"]


@pytest.fixture
def site(repository, tmp_path):
    """Make a working directory that sees the repository's configuration and nothing of its data."""
    (tmp_path / "config").symlink_to(repository / "config")
    for folder in ("incoming", "demo/incoming"):
        (tmp_path / folder).mkdir(parents=True)
    return tmp_path


def write_night(folder: Path) -> None:
    """Write the headers, all that planning reads, of three tiles about the transit of 3C138."""
    transit_mjd = nearest_transit_mjd(80.2912, 16.6395, 61050.0)
    for tile in range(3):
        start_mjd = transit_mjd + (tile - 1.5) * TILE_S / 86400
        start = datetime(1858, 11, 17, tzinfo=UTC) + timedelta(days=start_mjd)
        times = start_mjd + 2400000.5 + (np.arange(24) + 0.5) * INTEGRATION_S / 86400
        for subband in range(16):
            path = folder / raw_name(start, subband)
            highest_hz = BAND_HIGH_HZ - subband * SUBBAND_WIDTH_HZ
            with h5py.File(path, "w") as file:
                header = file.create_group("Header")
                header["time_array"] = times
                header["integration_time"] = np.full(24, INTEGRATION_S)
                header["freq_array"] = np.linspace(highest_hz, highest_hz - SUBBAND_WIDTH_HZ, 4)
                header["Ntimes"], header["Nfreqs"], header["Nants_data"] = 24, 4, 96
                header["extra_keywords/phase_center_dec"] = np.radians(16.64)
            os.utime(path, (0, 0))  # settled long ago


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


def test_empty_incoming_folder_plans_nothing(repository, site):
    output = dry_run(repository, site, "workstation")
    assert "Nothing to be done" in output or set(planned_jobs(output)) <= {"all", "total"}


@pytest.mark.parametrize("profile", PROFILES)
def test_a_night_is_planned_through_every_stage(repository, site, profile):
    # the catalogue that the demo takes from its simulation
    catalog = site / "demo/results/simulated/catalog.parquet"
    catalog.parent.mkdir(parents=True)
    catalog.touch()
    write_night(site / ("demo/incoming" if profile == "demo" else "incoming"))
    # one dry run, 2 s of imports, for both of the demo's targets
    targets = ["all", "simulation"] if profile == "demo" else []
    counts = planned_jobs(dry_run(repository, site, profile, *targets))
    if profile == "demo":
        assert counts["simulate_night"] >= 20
        assert counts["simulate_truth"] == 1
    tile_rules = ("convert", "flag", "solve_gains", "apply_calibration", "image_tile")
    assert {name: counts.get(name) for name in tile_rules} == dict.fromkeys(tile_rules, 3)
    mosaic_rules = ("make_mosaic", "qa_mosaic", "publish_mosaic", "measure_photometry")
    assert {name: counts.get(name) for name in mosaic_rules} == dict.fromkeys(mosaic_rules, 1)
    assert counts["solve_bandpass"] >= 1
    assert counts["fetch_catalog"] == counts["measure_variability"] == counts["draw_mosaic"] == 1


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
