"""`dsaflow doctor`: whether this machine is fit to run the pipeline with this configuration and profile."""

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from dsaflow.errors import DsaflowError
from dsaflow.runs import conditions, doctor_slurm, doctor_time, recover
from dsaflow.runs.channels import check_channel
from dsaflow.runs.database import file_system, refuse_network
from dsaflow.runs.diagnosis import Finding, fail, ok, warn
from dsaflow.runs.record import Record

if TYPE_CHECKING:
    from dsaflow.config import Config

LOCK_FILE = Path("requirements.lock")
# compiled, and so the first to miss a library of the system
_ENGINES = ("casacore.tables", "aoflagger", "ducc0", "radler", "h5py", "numba")
_FEW_INODES = 0.05


def examine(config: "Config", profile: str, workdir: str | os.PathLike = ".") -> list[Finding]:
    """Examine the machine; nothing is downloaded, nothing made but absent folders and the record.

    Parameters
    ----------
    config : Config
    profile : str
        Folder of a Snakemake profile.
    workdir : path
        Folder of the Snakefile.

    Returns
    -------
    list of Finding
        An examination that cannot be made is a failure, never a pass.
    """
    place = Path(workdir)
    checks: list[Callable[[], Iterator[Finding]]] = [
        partial(_packages, place),
        partial(_engines, config),
        partial(_folders, config),
        partial(_disks, config),
        partial(_record, config),
        partial(_runs, config, place),
        partial(_files, config),
        partial(_channels, config),
        partial(doctor_time.clock, config),
        doctor_time.leap_seconds,
        partial(doctor_time.sky, config),
        partial(doctor_slurm.slurm, place / profile),
    ]
    findings: list[Finding] = []
    for check in checks:
        try:
            findings += check()
        except Exception as error:
            function = getattr(check, "func", check)
            name = function.__name__.strip("_").replace("_", " ")
            text = f"{type(error).__name__}: {error}"
            findings.append(fail(name, str(error) if isinstance(error, DsaflowError) else text))
    return findings


def _packages(workdir: Path) -> Iterator[Finding]:
    """Installed packages against the pinned ones."""
    from packaging.requirements import Requirement

    missing = []
    for line in requires("dsaflow") or []:
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            try:
                installed = version(requirement.name)
            except PackageNotFoundError:
                missing.append(requirement.name)
                continue
            if not requirement.specifier.contains(installed, prereleases=True):
                missing.append(f"{requirement.name}{requirement.specifier} (here {installed})")
    if missing:
        yield fail(
            "packages", f"missing or too old: {', '.join(missing)}: install requirements.lock"
        )
    lock = workdir / LOCK_FILE
    if not lock.exists():
        yield warn("packages", f"versions not compared: no {LOCK_FILE} in the working directory")
        return
    other = []
    for name, pinned in _pins(lock):
        try:
            installed = version(name)
        except PackageNotFoundError:  # of another platform, or for development
            continue
        if installed != pinned:
            other.append(f"{name} {installed} (pinned {pinned})")
    if other:
        yield warn("packages", "not the tested versions: " + ", ".join(other))
    elif not missing:
        yield ok("packages", f"dsaflow {version('dsaflow')}, all as pinned in {LOCK_FILE}")


def _pins(lock: Path) -> Iterator[tuple[str, str]]:
    for line in lock.read_text().splitlines():
        words = line.split()
        if words and "==" in words[0] and not line.startswith((" ", "#")):
            name, _, pinned = words[0].partition("==")
            yield name, pinned


def _engines(config: "Config") -> Iterator[Finding]:
    """Compiled packages can be loaded."""
    for name in _ENGINES:
        try:
            import_module(name)
        except ImportError as error:
            yield fail("engines", f"{name} cannot be loaded: {error}")
            return
    yield ok("engines", f"{', '.join(_ENGINES)} can be loaded")
    if config.image.engine == "wsclean" and shutil.which("wsclean") is None:
        yield fail("engines", "image.engine is wsclean, and there is no such program on PATH")


def _folders(config: "Config") -> Iterator[Finding]:
    """Folders can be read and written, really."""
    incoming = Path(config.paths.incoming)
    if not incoming.is_dir():
        yield fail("folders", f"paths.incoming: no folder {incoming}")
    elif not os.access(incoming, os.R_OK | os.X_OK):
        yield fail("folders", f"paths.incoming: {incoming} cannot be read")
    results, published = Path(config.paths.results), Path(config.paths.published)
    try:
        for folder in (results, published):
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder, prefix=".doctor-") as place:
                Path(place, "new").write_text("x")
                os.replace(Path(place, "new"), Path(place, "renamed"))
    except OSError as error:
        yield fail("folders", f"cannot be written: {error}")
        return
    yield ok("folders", f"{results} and {published} can be written")
    if config.publish.link and results.stat().st_dev != published.stat().st_dev:
        yield warn("folders", "results and published are on different disks: mosaics are copied")


def _disks(config: "Config") -> Iterator[Finding]:
    """Room on each disk."""
    low = [rule.limit for rule in config.alerts.rules if rule.rule == "disk_low"]
    for key, place in conditions.disks(config).items():
        usage = psutil.disk_usage(str(place))
        free = usage.free / usage.total
        text = f"{key}: {usage.free / conditions.GIB:.1f} GiB free ({100 * free:.0f} %)"
        inodes = os.statvfs(place)
        if key == "paths.results" and usage.percent / 100 > config.clean.high_water:
            text += ", above clean.high_water: nothing new starts; see `dsaflow clean`"
            yield fail("disk", text)
        elif low and free < max(low):
            yield warn("disk", f"{text}: see `dsaflow clean`")
        elif inodes.f_files and inodes.f_favail / inodes.f_files < _FEW_INODES:
            yield warn("disk", f"{text}, but few inodes: Measurement Sets have many files")
        else:
            yield ok("disk", text)


def _record(config: "Config") -> Iterator[Finding]:
    """The run record lies on a disk of this machine and is whole."""
    record = Record.open(config)
    refuse_network(record.database)
    try:
        (answer,) = record.db.execute("PRAGMA quick_check(1)").fetchone()
    finally:
        record.close()
    if answer == "ok":
        where = file_system(record.database) or "a local disk"
        yield ok("record", f"{record.database} on {where}")
    else:
        yield fail("record", f"{record.database} is damaged ({answer}): `dsaflow db rebuild`")


def _runs(config: "Config", workdir: Path) -> Iterator[Finding]:
    """Nothing that was killed waits for recovery."""
    record = Record.open(config)
    try:
        live = recover.examine(record, workdir)
        unfinished = record.live_run(workdir)
    finally:
        record.close()
    lost = [f for f in live if f.needs_recovery]
    for found in lost:
        yield fail("runs", f"{found.run_id} is {found.condition}: `dsaflow recover`")
    if unfinished is None and any((workdir / ".snakemake" / "locks").glob("*")):
        yield fail("runs", "Snakemake was killed here and left its locks: `dsaflow recover`")
    elif not lost:
        yield ok("runs", f"{len(live)} live, none lost")


def _files(config: "Config") -> Iterator[Finding]:
    """Files that the configuration names."""
    for key in ("antennas", "calibrators", "reference_catalog"):
        path = getattr(config.paths, key)
        if path and not Path(path).is_file():
            yield fail("files", f"paths.{key}: no file {path}")
    token = config.api.token_file
    if token and not Path(token).is_file():
        yield fail("files", f"api.token_file: no file {token}")
    elif token and Path(token).stat().st_mode & 0o077:
        yield warn("files", f"api.token_file: others can read {token}: chmod 600")


def _channels(config: "Config") -> Iterator[Finding]:
    """Alert channels are complete; nothing is sent (`dsaflow alerts test` does)."""
    if not config.alerts.channels:
        yield warn("alerts", "alerts.channels is empty: nobody is told of failures")
        return
    problems = [problem for url in config.alerts.channels if (problem := check_channel(url))]
    for problem in problems:
        yield fail("alerts", problem)
    if not problems:
        yield ok("alerts", f"{len(config.alerts.channels)} channels; try `dsaflow alerts test`")
    silenced = config.alerts.silence_until
    if silenced and conditions.silence_end_s(silenced) > time.time():
        yield warn("alerts", f"silenced until {silenced}")
