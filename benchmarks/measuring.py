"""What a stage of the benchmarks uses, in a process of its own; and which machine it is."""

import json
import os
import platform
import resource
import subprocess
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGES = ("numpy", "numba", "ducc0", "aoflagger", "python-casacore", "radler")


@dataclass(frozen=True)
class Measured:
    """What a process used; `outcome` says how it ended."""

    wall_s: float
    cpu_s: float
    peak_gb: float
    read_gb: float
    written_gb: float
    outcome: str


def measure(command: list[str], limit_s: float, limit_gb: float) -> Measured:
    """Run a command to its end, or kill it at a limit of processor time or of resident memory.

    Processor time, since the machine may be shared. The command's last line is what `said` makes.
    """
    started = time.perf_counter()
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (int(limit_s), int(limit_s))),
    )
    stopped = ""
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            break
        if not stopped and resident_gb(process.pid) > limit_gb:
            stopped = f"stopped at {limit_gb:.0f} GiB"
            process.kill()
        time.sleep(0.02)
    wall_s = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    cpu_s = usage.ru_utime + usage.ru_stime
    lines = process.stdout.read().strip().splitlines() if process.stdout else []
    told = {
        "outcome": stopped or (f"stopped at {limit_s:.0f} s" if cpu_s >= limit_s - 1 else "failed")
    }
    if process.returncode == 0 and lines:
        told = json.loads(lines[-1])
    peak_gb = usage.ru_maxrss / 2**20
    nan = float("nan")
    return Measured(
        wall_s,
        cpu_s,
        peak_gb,
        told.get("read_gb", nan),
        told.get("written_gb", nan),
        told["outcome"],
    )


def said(outcome: str) -> str:
    """Last line of a measured process: its outcome, and what it has read and written, caches included [GB].

    Bytes asked of the system; Python's own modules are among those read (about 0.05 GB).
    """
    lines = Path("/proc/self/io").read_text().splitlines()
    count = {key: int(value) for key, value in (line.split(": ") for line in lines)}
    told = {"outcome": outcome, "read_gb": count["rchar"] / 1e9, "written_gb": count["wchar"] / 1e9}
    return json.dumps(told)


def resident_gb(pid: int) -> float:
    """Resident memory of a process [GiB]; 0 once it has ended."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    lines = [line for line in text.splitlines() if line.startswith("VmRSS")]
    return int(lines[0].split()[1]) / 2**20 if lines else 0.0


def machine() -> str:
    """Processor, cores, memory and the versions that matter."""
    model = [
        line.split(":")[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return (
        f"{model[0] if model else platform.machine()}, {os.cpu_count()} cores, {memory_gb:.0f} GiB; "
        f"Python {platform.python_version()}, {versions}"
    )
