"""The demo: simulated nights through the whole workflow, and one line on the injected event."""

import subprocess
import sys
import time
from pathlib import Path

from dsaflow.fileio import read_json

DEMO = Path("demo")
RESULTS = DEMO / "results"
REPORT = DEMO / "report.html"


def _snakemake(profile: str, *arguments: str) -> int:
    command = [sys.executable, "-m", "snakemake", "--profile", profile, *arguments]
    return subprocess.run(command, check=False).returncode


def _say(text: str) -> None:
    print(f"\n== {text}", flush=True)


def run_demo(profile: str) -> int:
    """Run (or resume) the demo; returns the exit code.

    A second call finds everything complete and only prints the outcome.
    """
    started = time.monotonic()
    _say("Simulating nights of UVH5 files (one strip, three tiles a night)")
    if code := _snakemake(profile, "simulation"):
        return code
    _say("Running the workflow: UVH5 -> mosaics -> light curves -> ESE candidates")
    if code := _snakemake(profile):
        return code
    newest = max(p.stat().st_mtime for p in RESULTS.glob("variability/*/variability.json"))
    if not REPORT.exists() or REPORT.stat().st_mtime < newest:
        _say("Writing the report")
        if code := _snakemake(profile, "--report", str(REPORT)):
            return code
    _say(f"Done in {(time.monotonic() - started) / 60:.1f} min")
    print(outcome())
    return 0


def outcome() -> str:
    """Where the products are, and whether the injected event is the first candidate."""
    import pandas as pd

    lines = []
    publications = [read_json(p) for p in sorted(RESULTS.glob("mosaics/*/publication.json"))]
    published = [p for p in publications if p["state"] == "published"]
    lines.append(f"mosaics:    {len(published)} of {len(publications)} published")
    if published:
        lines.append(f"            latest {published[-1]['path']}")
    tables = sorted(RESULTS.glob("variability/*/ese_candidates.ecsv"))
    lines += [f"candidates: {path}" for path in tables]
    lines.append(f"report:     {REPORT}")
    truth = read_json(RESULTS / "simulated" / "truth.json")["ese"]
    candidates = pd.concat(
        [pd.read_parquet(path.with_suffix(".parquet")) for path in tables], ignore_index=True
    )
    lines.append(verdict_line(truth, candidates))
    return "\n".join(lines)


def verdict_line(truth: dict, candidates) -> str:
    """Say in one line whether the injected source is the first candidate of the table."""
    name = truth["source_id"]
    found = candidates.loc[candidates["source_id"] == name]
    if found.empty:
        return f"injected event in {name}: NOT found ({len(candidates)} other candidates)"
    row = found.sort_values("rank").iloc[0]
    others = len(candidates) - len(found)
    return (
        f"injected event in {name}: found as rank {int(row['rank'])}, "
        f"significance {row['significance']:.1f}, depth {100 * row['depth']:.0f} % "
        f"(injected {100 * truth['depth']:.0f} %), {others} other candidates"
    )
