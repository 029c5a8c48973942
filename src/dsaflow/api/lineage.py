"""Where a mosaic comes from: its inputs' verdicts and provenance, and the jobs that made them."""

import os
from pathlib import Path
from typing import Any

from dsaflow.api.files import read_if_there
from dsaflow.names import product
from dsaflow.planning.plan import Plan
from dsaflow.runs.record import Record, Row

# Job that wrote each output last, by item and absolute path.
Jobs = dict[tuple[str, str], Row]
# Verdicts of one tile in the order of the stages.
TILE_STAGES = ("convert", "flag", "gains", "calibrated", "tile")
MOSAIC_STAGES = ("mosaic", "mosaic_qa", "photometry")


def _step(stage: str, item: str, path: str, jobs: Jobs) -> Row | None:
    """One stage's verdict, its provenance, and the job that wrote it; None where it is not there."""
    content = read_if_there(path)
    if content is None:
        return None
    provenance: dict[str, Any] = content["provenance"]
    job = jobs.get((item, os.path.abspath(path)))
    return {
        "stage": stage,
        "item": item,
        "path": path,
        "verdict": content["verdict"],
        "reason_code": content["reason_code"],
        "detail": content["detail"],
        "version": provenance.get("version", ""),
        "config_hash": provenance.get("config_hash"),
        "input_hash": provenance.get("input_hash"),
        "provenance": provenance,
        "job_id": job["job_id"] if job else None,
        "run_id": job["run_id"] if job else None,
        "rule": job["rule"] if job else None,
        "inputs": job["inputs"] if job else [],
        "ended_s": job["ended_s"] if job else None,
    }


def _writers(record: Record, items: list[str]) -> Jobs:
    found: Jobs = {}
    for first in range(0, len(items), 500):
        part = items[first : first + 500]
        marks = ", ".join("?" for _ in part)
        rows = record.select(
            f"SELECT * FROM jobs WHERE item IN ({marks}) AND state = 'COMPLETE' ORDER BY ended_s",
            part,
        )
        for row in rows:
            found |= {(row["item"], os.path.abspath(output)): row for output in row["outputs"]}
    return found


def _raw_files(results: Path) -> dict[str, list[str]]:
    """Raw files of each tile of the plan."""
    path = Path(product("plan", str(results)))
    if not path.exists():
        return {}
    return {tile.tile: tile.files for tile in Plan.read(path).tiles}


def lineage(record: Record, results: Path, group_id: str, tiles: list[str]) -> dict[str, Any]:
    """Trace a mosaic back to its raw files.

    Parameters
    ----------
    record : Record
    results : Path
    group_id : str
    tiles : list of str
        Tiles offered to it.

    Returns
    -------
    dict
        group_id, config_hash, versions (of dsaflow, of all steps), mosaic (steps), tiles (each:
        tile, raw_files, bandpass and gains tiles, steps).

    Notes
    -----
    The files say all but who made them when: that is in the record, and absent where the record does
    not know the run.
    """
    root = str(results)
    solved = _solution_tiles(root, tiles)
    everything = sorted({group_id, *tiles, *(t for used in solved.values() for t in used)})
    jobs = _writers(record, everything)
    raw = _raw_files(results)
    steps = [
        _step(stage, group_id, _verdict_path(stage, root, group_id=group_id), jobs)
        for stage in MOSAIC_STAGES
    ]
    traced: list[dict[str, Any]] = []
    for tile in tiles:
        own = [
            _step(stage, tile, _verdict_path(stage, root, tile=tile), jobs) for stage in TILE_STAGES
        ]
        own += [
            _step("bandpass", other, product("bandpass_verdict", root, tile=other), jobs)
            for other in solved[tile]
        ]
        traced.append(
            {"tile": tile, "raw_files": raw.get(tile, []), "steps": [s for s in own if s]}
        )
    mosaic = [step for step in steps if step]
    all_steps = mosaic + [step for part in traced for step in part["steps"]]
    return {
        "group_id": group_id,
        "config_hash": group_id.rsplit("_", 1)[1],
        "versions": sorted({step["version"] for step in all_steps if step["version"]}),
        "mosaic": mosaic,
        "tiles": traced,
    }


def _verdict_path(stage: str, results: str, **wildcards: str) -> str:
    key = "mosaic_qa" if stage == "mosaic_qa" else f"{stage}_verdict"
    return product(key, results, **wildcards)


def _solution_tiles(results: str, tiles: list[str]) -> dict[str, list[str]]:
    """Tiles whose bandpass serves each tile, as its calibration recorded them."""
    found = {}
    for tile in tiles:
        content = read_if_there(product("calibrated_verdict", results, tile=tile))
        found[tile] = list(content["provenance"].get("bandpass", [])) if content else []
    return found
