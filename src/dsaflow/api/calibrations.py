"""Calibration solutions, how long each is valid, and when there is none."""

from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import Field

from dsaflow.api.errors import documented
from dsaflow.api.files import read_if_there
from dsaflow.api.models import Answer, Page, page_of
from dsaflow.api.settings import Here, Pages, Service, StripInQuery
from dsaflow.fileio import to_plain
from dsaflow.names import product
from dsaflow.planning.plan import Plan, PlannedTile

router = APIRouter(prefix="/api/calibrations", tags=["data"], responses=documented(422))
Kind = Literal["bandpass", "gains"]
Mjd = Annotated[float | None, Query(ge=0, le=200000, allow_inf_nan=False, description="UTC")]


class Calibration(Answer):
    """One set of solutions: of a calibrator's transit tile, or of a tile's own field."""

    kind: Kind
    tile: str
    strip: str
    calibrator: str | None
    mid_mjd: float
    valid_from_mjd: float
    valid_to_mjd: float
    verdict: str
    reason_code: str | None
    detail: str
    numbers: dict[str, Any]
    path: str


class Span(Answer):
    """A stretch of time with at least one valid solution."""

    start_mjd: float
    end_mjd: float
    solutions: list[str] = Field(description="tiles that were solved, ascending in time")


class Timeline(Answer):
    """When a kind of solution is valid in a strip, and which tiles have none."""

    kind: Kind
    strip: str
    spans: list[Span]
    uncovered: list[str] = Field(description="admitted tiles outside every span")


class Timelines(Answer):
    """Timelines of every strip."""

    items: list[Timeline]


def _plan(here: Service) -> Plan:
    path = Path(product("plan", str(here.results)))
    return Plan.read(path) if path.exists() else Plan()


def _solutions(here: Service, plan: Plan, kind: Kind, strip: str | None) -> list[dict[str, Any]]:
    """Solutions of one kind, ascending in time."""
    options = here.config.calibrate
    hours = options.bandpass_validity_hours if kind == "bandpass" else options.gain_validity_hours
    found = []
    for tile in plan.admitted:
        if strip is not None and tile.strip != strip:
            continue
        content = read_if_there(product(f"{kind}_verdict", str(here.results), tile=tile.tile))
        if content is not None:
            found.append(_row(here, kind, tile, content, hours / 24.0))
    return found


def _row(
    here: Service, kind: Kind, tile: PlannedTile, content: dict[str, Any], reach_d: float
) -> dict[str, Any]:
    return {
        "kind": kind,
        "tile": tile.tile,
        "strip": tile.strip,
        "calibrator": content["numbers"].get("calibrator"),
        "mid_mjd": tile.mid_mjd,
        "valid_from_mjd": tile.mid_mjd - reach_d,
        "valid_to_mjd": tile.mid_mjd + reach_d,
        **{name: content[name] for name in ("verdict", "reason_code", "detail", "numbers")},
        "path": product(kind, str(here.results), tile=tile.tile),
    }


def spans(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Merge the validities of usable solutions, ascending in time, where they touch."""
    merged: list[dict[str, Any]] = []
    for row in rows:
        if row["verdict"] == "reject":
            continue
        if merged and row["valid_from_mjd"] <= merged[-1]["end_mjd"]:
            merged[-1]["end_mjd"] = max(merged[-1]["end_mjd"], row["valid_to_mjd"])
            merged[-1]["solutions"].append(row["tile"])
        else:
            merged.append(
                {
                    "start_mjd": row["valid_from_mjd"],
                    "end_mjd": row["valid_to_mjd"],
                    "solutions": [row["tile"]],
                }
            )
    return merged


@router.get("")
def list_calibrations(
    here: Here,
    paging: Pages,
    kind: Kind = "bandpass",
    strip: StripInQuery = None,
    at_mjd: Mjd = None,
    usable: Annotated[bool | None, Query(description="accepted ones only, or rejected")] = None,
) -> Page[Calibration]:
    """Solutions of the plan's tiles, ascending in time; `at_mjd`: those valid then."""
    rows = _solutions(here, _plan(here), kind, strip)
    if at_mjd is not None:
        rows = [r for r in rows if r["valid_from_mjd"] <= at_mjd <= r["valid_to_mjd"]]
    if usable is not None:
        rows = [r for r in rows if (r["verdict"] != "reject") is usable]
    part = to_plain(rows[paging.offset : paging.offset + paging.limit])
    return page_of(Calibration, part, len(rows), paging)


@router.get("/timeline")
def show_timeline(here: Here, kind: Kind = "bandpass", strip: StripInQuery = None) -> Timelines:
    """When each strip has a valid solution, and its tiles that have none.

    Beyond its validity a bandpass still serves as the nearest validated date, with a larger error.
    """
    plan = _plan(here)
    items = []
    for name in plan.strips:
        if strip is not None and name != strip:
            continue
        merged = spans(_solutions(here, plan, kind, name))
        uncovered = [
            tile.tile
            for tile in plan.strip_tiles(name)
            if not any(s["start_mjd"] <= tile.mid_mjd <= s["end_mjd"] for s in merged)
        ]
        items.append({"kind": kind, "strip": name, "spans": merged, "uncovered": uncovered})
    return Timelines.model_validate({"items": items})
