"""The command line of Snakemake: built from checked fields only, and what its runs depend on."""

import hashlib
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

import dsaflow
from dsaflow.errors import ConfigError
from dsaflow.fileio import digest, read_json, write_json

# No option can be made of these: none starts with "-", and there is no shell.
_TARGET = re.compile(r"[A-Za-z0-9_./][A-Za-z0-9_./+:@,~ -]*", re.ASCII)
_RULE = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_PROFILE = re.compile(r"[A-Za-z0-9_./][A-Za-z0-9_./+ -]*", re.ASCII)
# Sections that say how runs are looked after, not what they make.
_OPERATION = ("runs", "api", "alerts", "watch", "clean")
_CODE = ("Snakefile", "rules/*.smk", "scripts/*.py")


def check(workdir: Path, targets: Sequence[str], profile: str, configfiles: Sequence[str]) -> None:
    """Refuse what must not reach a command line.

    Raises
    ------
    ConfigError
        Naming the field, and what it may be.
    """
    if not (workdir / "Snakefile").is_file():
        raise ConfigError(f"{workdir} holds no Snakefile: start in the folder of the workflow")
    for target in targets:
        if not _TARGET.fullmatch(target) or ".." in Path(target).parts:
            raise ConfigError(f"{target!r} is no target: a rule, or the path of a product")
    if not _PROFILE.fullmatch(profile) or not (workdir / profile / "config.yaml").is_file():
        raise ConfigError(f"no profile {profile!r}: there is no file {profile}/config.yaml")
    for file in configfiles:
        if file.startswith("-") or not (workdir / file).is_file():
            raise ConfigError(f"no such configuration file: {file}")


def allow_rules(rules: Sequence[str]) -> list[str]:
    """Arguments that let Snakemake run these rules only: what others would make is taken as it is."""
    for rule in rules:
        if not _RULE.fullmatch(rule):
            raise ConfigError(f"{rule!r} is no name of a rule")
    return ["--allowed-rules", *rules] if rules else []


def snakemake(row: dict[str, Any]) -> list[str]:
    """Command that runs (or goes on with) a run.

    Parameters
    ----------
    row : dict
        The run: targets, profile, configfiles, workdir, arguments (as `allow_rules` gives them).

    Raises
    ------
    ConfigError
        See `check`.
    """
    workdir, profile = Path(row["workdir"]), row["profile"]
    check(workdir, row["targets"], profile, row["configfiles"])
    content = yaml.safe_load((workdir / profile / "config.yaml").read_text()) or {}
    loggers = content.get("logger") or []
    loggers = [loggers] if isinstance(loggers, str) else list(loggers)
    # targets first: --configfile takes all words that follow it
    rules = allow_rules(row["arguments"][1:])
    command = [*_base(row), *rules, "--rerun-incomplete"]
    return command if "dsaflow" in loggers else [*command, "--logger", *loggers, "dsaflow"]


def unlock(row: dict[str, Any]) -> list[str]:
    """Command that removes Snakemake's locks."""
    return [*_base(row), "--unlock"]


def _base(row: dict[str, Any]) -> list[str]:
    files = ["--configfile", *row["configfiles"]] if row["configfiles"] else []
    profile = ["--profile", row["profile"]] if row["profile"] else ["--cores", "1"]
    return [sys.executable, "-m", "snakemake", *row["targets"], *profile, *files]


def code_version(workdir: Path) -> str:
    """Version of the package, and a hash of its files and of the workflow's."""
    package = Path(dsaflow.__file__).parent
    files = sorted(package.rglob("*.py"))
    files += sorted(file for pattern in _CODE for file in workdir.glob(pattern))
    total = hashlib.sha256()
    for file in files:
        total.update(file.read_bytes())
    return f"{dsaflow.__version__}-{total.hexdigest()[:12]}"


class FailedForGood:
    """Marker beside the products of a run that would fail again: same targets, settings and code.

    Parameters
    ----------
    runs : Path
        ``<results>/runs``.
    row : dict
        The run.
    config : dict
        Its configuration, plain.
    """

    def __init__(self, runs: Path, row: dict[str, Any], config: dict[str, Any]) -> None:
        workdir = Path(row["workdir"])
        profile = workdir / row["profile"] / "config.yaml"
        self.row = row
        self.content = {
            "targets": sorted(row["targets"]),
            "arguments": row["arguments"],
            "workdir": str(workdir),
            "profile": row["profile"],
            "profile_hash": digest(profile.read_text() if profile.is_file() else ""),
            "config_hash": digest({k: v for k, v in config.items() if k not in _OPERATION}),
            "code_version": code_version(workdir),
        }
        self.path = runs / "failed" / f"{digest(self.content, 20)}.json"

    def message(self) -> str | None:
        """Error of the run that failed, or None where there is no marker."""
        try:
            stored = read_json(self.path)
        except FileNotFoundError:
            return None
        except ValueError:
            return "failed before (its marker cannot be read)"
        return (
            f"{stored['error_message']} [run {stored['run_id']} failed of this with the same targets, "
            "configuration and code; `dsaflow retry`, or --force, tries again]"
        )

    def write(self, message: str) -> None:
        """Leave the marker."""
        told = {"run_id": self.row["run_id"], "error_message": message}
        write_json(self.path, told | self.content)

    def remove(self) -> None:
        """Take it away."""
        self.path.unlink(missing_ok=True)
