"""Sources: cone search, light curves, variability; forced photometry anywhere."""

import threading
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi import Path as InPath

from dsaflow.api import forced, tables
from dsaflow.api.errors import ApiError, documented, not_found
from dsaflow.api.models import Page, page_of
from dsaflow.api.models_science import Epoch, LightCurve, LightCurves, Measured, Source
from dsaflow.api.requests import PhotometryRequest
from dsaflow.api.settings import Here, Pages, Service, StripInQuery

router = APIRouter(tags=["science"], responses=documented(422))
SourceInPath = Annotated[str, InPath(min_length=1, max_length=120, pattern="^[^/\\x00]+$")]
# One measurement at a time: each takes a core and the memory of a mosaic.
_measuring = threading.Lock()
WAIT_S = 60.0


@router.post("/api/photometry/measure", responses=documented(404, 409, 429, 503))
def measure(here: Here, body: PhotometryRequest) -> Measured:
    """Forced fits at given positions on given mosaics (published, else staged), with errors.

    The catalogue's sources are fitted along, so that a neighbour's flux does not count as the
    position's own.
    """
    planes = {group_id: forced.find(here, group_id) for group_id in body.group_ids}
    if not _measuring.acquire(timeout=WAIT_S):
        raise ApiError(
            429, "BUSY", "another measurement is running: try again later",
            headers={"Retry-After": str(int(WAIT_S))},
        )  # fmt: skip
    try:
        return Measured.model_validate(forced.run(here, planes, body.positions))
    finally:
        _measuring.release()


@router.get("/api/sources")
def list_sources(
    here: Here,
    paging: Pages,
    ra_deg: Annotated[float | None, Query(ge=0, lt=360, allow_inf_nan=False)] = None,
    dec_deg: Annotated[float | None, Query(ge=-90, le=90, allow_inf_nan=False)] = None,
    radius_deg: Annotated[float, Query(gt=0, le=180, allow_inf_nan=False)] = 0.1,
    min_flux_jy: Annotated[float, Query(ge=0, le=1e6, allow_inf_nan=False)] = 0.0,
    strip: StripInQuery = None,
) -> Page[Source]:
    """Sources in a cone, nearest first; without a centre all of them, brightest first."""
    if (ra_deg is None) != (dec_deg is None):
        raise ApiError(422, "INVALID", "a cone needs both ra_deg and dec_deg")
    cone = None
    if ra_deg is not None and dec_deg is not None:
        cone = tables.Cone(ra_deg, dec_deg, radius_deg)
    rows = tables.sources(here.results, strip, cone, min_flux_jy)
    part = rows[paging.offset : paging.offset + paging.limit]
    return page_of(Source, part, len(rows), paging)


def light_curves(here: Service, source_id: str, strip: str | None) -> list[LightCurve]:
    """Light curves of a source, one a strip."""
    curves: dict[str, LightCurve] = {}
    for row in tables.of_source(here.results, "light_curves", source_id, strip):
        curve = curves.get(row["strip"])
        if curve is None:
            curve = curves[row["strip"]] = LightCurve.model_validate(row | {"epochs": []})
        curve.epochs.append(Epoch.model_validate(row))
    for curve in curves.values():
        curve.epochs.sort(key=lambda e: e.epoch)
    return list(curves.values())


@router.get("/api/sources/{source_id}/lightcurve", responses=documented(404))
def show_light_curve(
    here: Here, source_id: SourceInPath, strip: StripInQuery = None
) -> LightCurves:
    """Light curve of a source in each strip that sees it."""
    curves = light_curves(here, source_id, strip)
    if not curves:
        raise not_found("light curve of", source_id)
    return LightCurves(curves=curves)


@router.get("/api/sources/{source_id}/variability", responses=documented(404))
def show_variability(
    here: Here, source_id: SourceInPath, strip: StripInQuery = None
) -> list[Source]:
    """Variability metrics of a source in each strip that sees it."""
    rows = tables.of_source(here.results, "metrics", source_id, strip)
    if not rows:
        raise not_found("source", source_id)
    return [Source.model_validate(row) for row in rows]
