"""Candidates for extreme scattering events: list, show, light curve, plot, review."""

from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from fastapi import Path as InPath
from fastapi.responses import FileResponse

from dsaflow.api import files, tables
from dsaflow.api.errors import documented, not_found
from dsaflow.api.models import page_of
from dsaflow.api.models_science import (
    Candidate,
    CandidatePage,
    EventSearch,
    LightCurve,
    Review,
    ReviewRequest,
)
from dsaflow.api.settings import Here, Pages, Service, StripInQuery
from dsaflow.api.sources import light_curves
from dsaflow.fileio import to_plain
from dsaflow.names import candidate_id, product
from dsaflow.variability.efficiency import EfficiencyTable

router = APIRouter(prefix="/api/ese/candidates", tags=["science"], responses=documented(422))


def _reviews(here: Service, name: str) -> list[dict[str, Any]]:
    return here.record.select(
        "SELECT * FROM reviews WHERE candidate_id = ? ORDER BY time_s DESC", (name,)
    )


def _with_review(here: Service, row: dict[str, Any]) -> dict[str, Any]:
    name = candidate_id(row["strip"], row["source_id"])
    if row.get("efficiency") is None:
        row = row | _efficiency(here, row)
    return row | {"candidate_id": name, "reviews": _reviews(here, name)}


def _product(here: Service, key: str, strip: str) -> Path:
    return Path(product(key, str(here.results), strip=strip))


def _efficiency(here: Service, row: dict[str, Any]) -> dict[str, float | None]:
    """Efficiency for events like a candidate from its strip's own characterisation, if it is made."""
    table = _product(here, "ese_characterisation", row["strip"]).with_name("efficiency.parquet")
    search = _numbers(here, row["strip"])
    like = [row.get(name) for name in ("depth", "duration_days", "median_snr")]
    season = [search.get(name) for name in ("span_days", "step_days")]
    if not table.exists() or not all((*like, *season)):
        return {}
    found = EfficiencyTable.read(table).of(*like, *season)  # type: ignore[arg-type]
    return to_plain(
        {
            "efficiency": found.value,
            "efficiency_low": found.low,
            "efficiency_high": found.high,
        }
    )


def _numbers(here: Service, strip: str) -> dict[str, Any]:
    """Numbers of the newest search of a strip."""
    verdict = files.read_if_there(_product(here, "variability_verdict", strip))
    return (verdict or {}).get("numbers", {})


def _candidate_in_path(
    here: Here,
    name: Annotated[
        str, InPath(alias="candidate_id", max_length=160, pattern="^[A-Za-z0-9+_.-]+$")
    ],
) -> dict[str, Any]:
    for row in tables.candidates(here.results, None):
        if candidate_id(row["strip"], row["source_id"]) == name:
            return _with_review(here, row)
    raise not_found("candidate", name)


CandidateHere = Annotated[dict[str, Any], Depends(_candidate_in_path)]


@router.get("")
def list_candidates(
    here: Here,
    paging: Pages,
    strip: StripInQuery = None,
    min_significance: Annotated[float, Query(ge=0, le=1e6, allow_inf_nan=False)] = 0.0,
    reviewed: Annotated[bool | None, Query(description="with a review, or without")] = None,
) -> CandidatePage:
    """Candidates of the newest search of each strip, most significant first.

    `searches` says what each list is worth: its threshold, and the false alarms expected above it.
    """
    rows = [
        _with_review(here, row)
        for row in tables.candidates(here.results, strip)
        if (row["significance"] or 0.0) >= min_significance
    ]
    if reviewed is not None:
        rows = [row for row in rows if bool(row["reviews"]) is reviewed]
    part = rows[paging.offset : paging.offset + paging.limit]
    page = page_of(Candidate, part, len(rows), paging)
    return CandidatePage(**dict(page), searches=_searches(here, strip))


def _searches(here: Service, strip: str | None) -> list[EventSearch]:
    """The newest search of each strip, from its verdict."""
    found = []
    for name in tables.strips(here.results, strip):
        numbers = _numbers(here, name)
        if "threshold_ln_lr" in numbers:
            made = files.read_if_there(_product(here, "ese_characterisation", name))
            found.append(
                EventSearch.model_validate(numbers | {"strip": name, "characterisation": made})
            )
    return found


@router.get("/{candidate_id}", responses=documented(404))
def show_candidate(candidate: CandidateHere) -> Candidate:
    """One candidate with its reviews."""
    return Candidate.model_validate(candidate)


@router.get("/{candidate_id}/lightcurve", responses=documented(404))
def show_light_curve(here: Here, candidate: CandidateHere) -> LightCurve:
    """Light curve of a candidate in the strip of its event."""
    curves = light_curves(here, candidate["source_id"], candidate["strip"])
    if not curves:
        raise not_found("light curve of", candidate["source_id"])
    return curves[0]


@router.get(
    "/{candidate_id}/plot.png",
    response_class=FileResponse,
    responses=documented(404)
    | {200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}}},
)
def show_plot(here: Here, candidate: CandidateHere) -> FileResponse:
    """Plot of a candidate: the whole curve, the event, the sub-bands, the neighbours."""
    folder = Path(product("candidate_plots", str(here.results), strip=candidate["strip"]))
    index = files.read_if_there(folder / "index.json") or {"plots": []}
    for entry in index["plots"]:
        if entry["source_id"] == candidate["source_id"]:
            name = f"{candidate['candidate_id']}.png"
            return files.download(folder, folder / entry["file"], "image/png", name)
    raise not_found("plot of", candidate["candidate_id"])


@router.post("/{candidate_id}/review", status_code=201, responses=documented(404))
def review(here: Here, candidate: CandidateHere, body: ReviewRequest) -> Review:
    """Add a review to a candidate."""
    event = here.record.emit("review", candidate_id=candidate["candidate_id"], **body.model_dump())
    return Review.model_validate(event)
