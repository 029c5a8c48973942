"""One report over the verdicts of every stage, from conversion to variability."""

import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsaflow.errors import ConfigError
from dsaflow.names import PRODUCTS, WILDCARD_PATTERNS
from dsaflow.runs.times import Moment, mjd_of, utc_text
from dsaflow.verdict import Verdict

if TYPE_CHECKING:
    from dsaflow.config import Config

# In the order of processing; names as in the quarantine.
STAGES = {
    "convert": "convert_verdict",
    "flag": "flag_verdict",
    "bandpass": "bandpass_verdict",
    "gains": "gains_verdict",
    "calibrated": "calibrated_verdict",
    "tile": "tile_verdict",
    "mosaic": "mosaic_verdict",
    "mosaic_qa": "mosaic_qa",
    "photometry": "photometry_verdict",
    "variability": "variability_verdict",
}
_TIME = re.compile(r"\d{8}T\d{6}")


def verdicts(
    config: "Config",
    stages: list[str] | None = None,
    start: Moment | None = None,
    end: Moment | None = None,
) -> list[dict[str, Any]]:
    """Verdicts that are there, in the order of the stages and of their items.

    Parameters
    ----------
    config : Config
    stages : list of str, optional
        Of `STAGES`; default: all.
    start, end : str, datetime or float, optional
        UTC: only tiles that start, and mosaics whose middle lies, between them. All epochs of a strip
        have no time and are left out where one is given.

    Returns
    -------
    list of dict
        stage, item (tile, group_id or strip), verdict, reason_code, detail, gates (list of dict), path.

    Raises
    ------
    ConfigError
        No such stage.
    """
    unknown = sorted(set(stages or []) - set(STAGES))
    if unknown:
        raise ConfigError(f"no stage {unknown[0]!r}: one of {', '.join(STAGES)}")
    first, last = (None if t is None else _stamp(t) for t in (start, end))
    rows = []
    for stage, key in STAGES.items():
        if stages and stage not in stages:
            continue
        for item, path in _items(Path(config.paths.results), PRODUCTS[key]):
            time = _TIME.search(item)
            stamp = time[0] if time else ""
            if (first and stamp < first) or (last and (stamp > last or not stamp)):
                continue
            verdict = Verdict.read(path)
            rows.append(
                {
                    "stage": stage,
                    "item": item,
                    "verdict": verdict.verdict,
                    "reason_code": verdict.reason_code,
                    "detail": verdict.detail,
                    "gates": [vars(gate) for gate in verdict.gates],
                    "path": str(path),
                }
            )
    return rows


def _stamp(moment: Moment) -> str:
    """Time in the form of tile ids, which sort as times do."""
    return re.sub(r"[-:Z]", "", utc_text(mjd_of(moment)))


def _items(results: Path, template: str) -> list[tuple[str, Path]]:
    """Items of a product, sorted, with its path."""
    (wildcard,) = re.findall(r"{(\w+)}", template)
    before, after = template.split("{" + wildcard + "}")
    pattern = re.compile(re.escape(before) + f"({WILDCARD_PATTERNS[wildcard]})" + re.escape(after))
    found = []
    for path in results.glob(f"{before}*{after}"):
        match = pattern.fullmatch(str(path.relative_to(results)))
        if match:
            found.append((match[1], path))
    return sorted(found)


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Counts of each stage's verdicts, and of the reasons of its rejections."""
    result = []
    for stage in STAGES:
        mine = [row for row in rows if row["stage"] == stage]
        counts = Counter(row["verdict"] for row in mine)
        reasons = Counter(row["reason_code"] for row in mine if row["verdict"] == "reject")
        result.append(
            {
                "stage": stage,
                "pass": counts["pass"],
                "warn": counts["warn"],
                "reject": counts["reject"],
                "reasons": dict(reasons.most_common()),
            }
        )
    return result
