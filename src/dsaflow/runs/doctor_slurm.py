"""Examination of a profile, and of SLURM where the profile uses it."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from dsaflow.runs.diagnosis import Finding, fail, ok, warn

_PROGRAMS = ("sbatch", "squeue", "scancel", "srun", "scontrol", "sinfo")
_MIN_JOB_AGE_S = 300
_TIMEOUT_S = 30.0


def slurm(profile: Path) -> Iterator[Finding]:
    """Whether SLURM is as the profile needs it."""
    content = yaml.safe_load((profile / "config.yaml").read_text()) or {}
    executor = content.get("executor", "local")
    if executor != "slurm":
        yield ok("profile", f"{profile.name}: jobs run on this machine")
        return
    missing = [name for name in _PROGRAMS if shutil.which(name) is None]
    if missing:
        yield fail("slurm", f"not on PATH: {', '.join(missing)}")
        return
    yield from _profile(content, profile)
    answered, text = _ask("scontrol", "show", "config")
    if not answered:
        yield fail("slurm", f"the controller does not answer: {text}")
        return
    yield _memory_of_jobs(text)
    yield from _partitions(content)


def _profile(content: dict[str, Any], profile: Path) -> Iterator[Finding]:
    """Settings without which runs hang or write twice (docs/slurm.md)."""
    if content.get("slurm-status-command") != "squeue" and not _ask("sacct", "-n", "-X")[0]:
        yield fail(
            "slurm",
            f"{profile.name}: without accounting, `slurm-status-command: squeue` is needed: sacct hangs",
        )
    if content.get("slurm-no-requeue") is not True:
        yield warn(
            "slurm",
            f"{profile.name}: set `slurm-no-requeue: true`: a job requeued by SLURM runs unwatched",
        )


def _memory_of_jobs(text: str) -> Finding:
    """Judge how long the controller remembers a finished job, from its configuration."""
    found = re.search(r"^MinJobAge\s*=\s*(\d+)", text, re.MULTILINE)
    if found is None:
        return warn("slurm", "scontrol does not tell MinJobAge; it must be at least 300 s")
    if int(found[1]) < _MIN_JOB_AGE_S:
        return fail(
            "slurm",
            f"MinJobAge is {found[1]} s: finished jobs are forgotten before squeue is asked; ask the "
            f"administrator for {_MIN_JOB_AGE_S} s",
        )
    return ok("slurm", f"the controller answers, MinJobAge {found[1]} s")


def _partitions(content: dict[str, Any]) -> Iterator[Finding]:
    resources = [content.get("default-resources") or {}]
    resources += (content.get("set-resources") or {}).values()
    names = sorted(
        {r["slurm_partition"] for r in map(_mapping, resources) if "slurm_partition" in r}
    )
    if not names:
        yield warn("slurm", "the profile names no slurm_partition: SLURM's default one is used")
    for name in names:
        answered, text = _ask("sinfo", "-h", "-p", name, "-o", "%a %D %T")
        if not answered:
            yield fail("slurm", f"sinfo: {text}")
        elif not text.strip():
            yield fail(
                "slurm", f"there is no partition {name}: change slurm_partition in the profile"
            )
        elif not any(line.startswith("up") for line in text.splitlines()):
            yield fail("slurm", f"partition {name} is down")
        else:
            yield ok("slurm", f"partition {name}: {'; '.join(text.split(chr(10))).strip('; ')}")


def _mapping(resources: Any) -> dict[str, Any]:
    """Resources as a mapping: profiles may also list them as NAME=VALUE."""
    if isinstance(resources, dict):
        return resources
    return dict(str(item).split("=", 1) for item in resources)


def _ask(*command: str) -> tuple[bool, str]:
    """Whether a program succeeded in time, and what it said."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return False, str(error)
    return done.returncode == 0, (done.stdout if done.returncode == 0 else done.stderr).strip()
