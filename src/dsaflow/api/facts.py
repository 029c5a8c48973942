"""Slow facts about the data: what arrived last, how many tiles wait to be processed; disks."""

import os
from datetime import datetime
from pathlib import Path
from typing import Any

from dsaflow.config import Config
from dsaflow.instrument import TILE_S
from dsaflow.names import parse_raw_name, parse_tile_id, product
from dsaflow.planning.plan import Plan
from dsaflow.runs import conditions


def gather(config: Config) -> dict[str, float | None]:
    """Look at the incoming folder and at the plan.

    Returns
    -------
    dict
        ``last_data_s``: Unix time at which the newest raw file arrived, None without any;
        ``tiles_behind``: tiles observed but not yet imaged (None without a plan): the plan's that
        some mosaic needs, and groups of files newer than the plan.

    Notes
    -----
    Names only, no header is read: groups that the plan does not know are told apart by their times.
    """
    newest = conditions.newest_data(config.paths.incoming)
    facts: dict[str, float | None] = {"last_data_s": newest[1] if newest else None}
    path = Path(product("plan", config.paths.results))
    if not path.exists():
        return facts | {"tiles_behind": None}
    plan = Plan.read(path)
    waiting = {t.tile for t in plan.tiles if t.status == "waiting"}
    behind = [
        tile
        for tile in {*plan.needed_tiles, *waiting}
        if not Path(product("tile_verdict", config.paths.results, tile=tile)).exists()
    ]
    last = max((parse_tile_id(t.tile) for t in plan.tiles), default=None)
    later = _groups_after(_starts(Path(config.paths.incoming)), last)
    return facts | {"tiles_behind": float(len(behind) + later)}


def _starts(folder: Path) -> list[datetime]:
    """Times in the names of the raw files, ascending."""
    if not folder.is_dir():
        return []
    parsed = (parse_raw_name(name) for name in os.listdir(folder))
    return sorted({found[0] for found in parsed if found is not None})


def _groups_after(starts: list[datetime], last: datetime | None) -> int:
    """Groups of files that start after the newest tile known, half a tile or more apart."""
    count = 0
    for start in starts:
        if last is None or (start - last).total_seconds() > 0.5 * TILE_S:
            count, last = count + 1, start
    return count


def disks(config: Config) -> list[dict[str, Any]]:
    """Each disk in use: the setting that names it, size and free space [bytes], used fraction."""
    import psutil

    found = []
    for setting, place in conditions.disks(config).items():
        usage = psutil.disk_usage(str(place))
        found.append(
            {
                "setting": setting,
                "total_bytes": usage.total,
                "free_bytes": usage.free,
                "used_fraction": usage.percent / 100.0,
            }
        )
    return found
