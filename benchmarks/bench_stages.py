"""Time and memory of each stage on one simulated tile, as a Markdown table.

By default the demo's tile (48 stations, one channel a subband, 640 pixels); with ``--full`` the telescope's
(96 stations, 768 channels, 2400 pixels). Each stage runs in a process of its own, as it does under Snakemake, so
that Python's start and imports are in the times and the peak memory is the stage's alone.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).resolve().parents[1]
STAGES = (
    "simulate", "convert", "flag", "solve_bandpass", "solve_gains", "apply_calibration", "image_tile",
)  # fmt: skip
PACKAGES = ("numpy", "numba", "ducc0", "aoflagger", "python-casacore", "radler")


@dataclass(frozen=True)
class Measured:
    """What a process used; `outcome` says how it ended."""

    wall_s: float
    cpu_s: float
    peak_gb: float
    outcome: str


def measure(command: list[str], limit_s: float, limit_gb: float) -> Measured:
    """Run a command to its end, or kill it at a limit of processor time or of resident memory.

    Processor time, since the machine may be shared.
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
    said = process.stdout.read().strip().splitlines() if process.stdout else []
    if process.returncode == 0 and said:
        outcome = said[-1]
    else:
        outcome = stopped or (f"stopped at {limit_s:.0f} s" if cpu_s >= limit_s - 1 else "failed")
    return Measured(wall_s, cpu_s, usage.ru_maxrss / 2**20, outcome)


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


def bench_config(full: bool, folder: Path) -> dict:
    """Demo or default configuration with one tile, centred on the calibrator's transit."""
    content = {} if full else yaml.safe_load((REPOSITORY / "config" / "demo.yaml").read_text())
    content["paths"] = {
        "incoming": str(folder / "incoming"),
        "antennas": str(REPOSITORY / "config" / "antennas.csv"),
        "calibrators": str(REPOSITORY / "config" / "calibrators.csv"),
    }
    size = {"stations": 96, "channels_per_subband": 48} if full else {}
    content["simulate"] = {
        **content.get("simulate", {}), **size, "n_epochs": 1, "n_tiles": 1, "full_array_tiles": [],
        "event": {"peak_epoch": 0.0},
    }  # fmt: skip
    return content


def run_stage(stage: str, folder: Path, threads: int) -> str:
    """Run one stage on what the stages before it left in `folder`; returns its verdict."""
    from dsaflow.config import load_config

    config = load_config(json.loads((folder / "config.json").read_text()))
    ms, flags, catalog = folder / "visibilities.ms", folder / "flags.h5", folder / "catalog.parquet"
    bandpass, gains, calibrated = (
        folder / "bandpass.h5",
        folder / "gains.h5",
        folder / "calibrated.ms",
    )
    if stage == "simulate":
        from dsaflow.simulate.night import simulate_night, write_reference_catalog

        simulate_night(config.simulate, 0, config.paths.incoming, config.paths.antennas)
        write_reference_catalog(config.simulate, catalog)
        return "pass"
    if stage == "convert":
        from dsaflow.instrument import read_stations
        from dsaflow.visibilities.convert import convert_tile

        files = sorted(str(path) for path in Path(config.paths.incoming).glob("*.hdf5"))
        return convert_tile(files, ms, config, read_stations(config.paths.antennas)).verdict
    if stage == "flag":
        from dsaflow.visibilities.flag import flag_tile

        return flag_tile(ms, flags, config).verdict
    if stage == "image_tile":
        from dsaflow.imaging.tile import image_tile

        keys = ("image", "residual", "psf", "beam", "noise", "subbands")
        outputs = {key: folder / f"{key}.fits" for key in keys}
        return image_tile(calibrated, outputs, config, {"tile": "bench"}, threads).verdict
    from dsaflow.calibration import stages

    if stage == "solve_bandpass":
        verdict = stages.solve_bandpass(
            ms, flags, catalog, config.paths.calibrators, bandpass, config
        )
    elif stage == "solve_gains":
        verdict = stages.solve_gains(ms, flags, [bandpass], catalog, gains, config)
    else:
        verdict = stages.apply_calibration(ms, flags, [bandpass], [gains], calibrated, config)
    return verdict.verdict


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="the telescope's size")
    parser.add_argument("--threads", type=int, default=1, help="threads of the gridder")
    parser.add_argument(
        "--limit-s", type=float, default=900.0, help="CPU s; a stage is stopped then"
    )
    parser.add_argument("--limit-gb", type=float, default=12.0, help="GiB; likewise")
    parser.add_argument(
        "--start", choices=STAGES, default=STAGES[0], help="first stage, with what --folder holds"
    )
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help="where the products stay; default: deleted")
    options = parser.parse_args()
    if options.stage:
        print(run_stage(options.stage, options.folder, options.threads))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        content = bench_config(options.full, folder)
        (folder / "config.json").write_text(json.dumps(content))
        print(
            f"{'Full-size' if options.full else 'Demo-size'} tile, {options.threads} thread(s) in the gridder"
        )
        print(f"{machine()}\n")
        print("| stage | wall [s] | CPU [s] | peak memory [GiB] | outcome |\n|---|---|---|---|---|")
        for stage in STAGES[STAGES.index(options.start) :]:
            command = [sys.executable, __file__, "--stage", stage, "--folder", str(folder)]
            command += ["--threads", str(options.threads)]
            used = measure(command, options.limit_s, options.limit_gb)
            print(
                f"| {stage} | {used.wall_s:.1f} | {used.cpu_s:.1f} | {used.peak_gb:.2f} | {used.outcome} |",
                flush=True,
            )
            if used.outcome not in ("pass", "warn"):
                break


if __name__ == "__main__":
    main()
