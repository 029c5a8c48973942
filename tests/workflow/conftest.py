"""Workflow tests run the real Snakefile in a folder of their own, on simulated nights."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
LINKED = ("Snakefile", "rules", "scripts", "config", "envs", "profiles", "docs")

# One channel a subband, the 48 most central stations, three tiles a night: seconds a tile.
SMALL = {
    "paths": {"reference_catalog": "results/simulated/catalog.parquet"},
    "plan": {"settle_s": 0, "mosaic_tiles": 3},
}


@dataclass
class Workspace:
    """A working directory with the repository's workflow linked in and its own configuration."""

    path: Path

    @property
    def results(self) -> Path:
        return self.path / "results"

    def command(self, *arguments: str, cores: int = 2) -> list[str]:
        return [
            sys.executable, "-m", "snakemake", "--cores", str(cores), "--configfile", "test.yaml",
            "--scheduler", "greedy", "--scheduler-subsample", "8", "--rerun-incomplete",
            "--keep-going", *arguments,
        ]  # fmt: skip

    def environment(self) -> dict[str, str]:
        return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "default"}

    def snakemake(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess:
        done = subprocess.run(
            self.command(*arguments), cwd=self.path, env=self.environment(),
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if check and done.returncode != 0:
            logs = "\n".join(
                f"--- {log}\n{log.read_text()[-1500:]}"
                for log in sorted(self.results.glob("logs/*/*.log"), key=os.path.getmtime)[-4:]
            )
            pytest.fail(f"snakemake failed\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}\n{logs}")
        return done


def merged(base: dict, other: dict) -> dict:
    result = dict(base)
    for key, value in other.items():
        result[key] = (
            merged(result[key], value) if isinstance(value, dict) and key in result else value
        )
    return result


@pytest.fixture(scope="session")
def make_workspace(tmp_path_factory):
    def make(overrides: dict | None = None) -> Workspace:
        path = tmp_path_factory.mktemp("workspace")
        for name in LINKED:
            (path / name).symlink_to(ROOT / name)
        small = merged(yaml.safe_load((ROOT / "config/demo.yaml").read_text()), SMALL)
        small["paths"] = {
            "incoming": "incoming",
            "results": "results",
            "published": "published",
            "reference_catalog": "results/simulated/catalog.parquet",
        }
        (path / "test.yaml").write_text(yaml.safe_dump(merged(small, overrides or {})))
        return Workspace(path)

    return make
