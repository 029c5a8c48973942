"""Time to simulate one full-size group (96 stations, 24 integrations, 768 channels, 300 sources) against its bound."""

import json
import sys
import tempfile
from pathlib import Path

from bench_stages import bench_config
from measuring import machine, measure

BOUND_S = 90.0  # on 2 cores, files written


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "config.json").write_text(json.dumps(bench_config(True, folder)))
        stages = Path(__file__).with_name("bench_stages.py")
        command = [sys.executable, str(stages), "--stage", "simulate", "--folder", str(folder)]
        command += ["--tile", "0"]
        used = measure(command, limit_s=10 * BOUND_S, limit_gb=12.0)
        files = sorted((folder / "incoming").glob("*.hdf5"))
        size_gb = sum(path.stat().st_size for path in files) / 1e9
    print(machine())
    print(
        f"{len(files)} files, {size_gb:.2f} GB: wall {used.wall_s:.1f} s (bound {BOUND_S:.0f} s), "
        f"CPU {used.cpu_s:.1f} s, peak memory {used.peak_gb:.2f} GiB, {used.outcome}"
    )
    if used.outcome != "pass" or used.wall_s > BOUND_S:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
