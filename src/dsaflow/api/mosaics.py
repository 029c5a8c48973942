"""Mosaics: ask for one, watch it, read it, cancel, try again, publish, retract."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Query, Response
from fastapi.responses import FileResponse

from dsaflow.api import files
from dsaflow.api.errors import ApiError, documented, not_found
from dsaflow.api.models import (
    Accepted,
    Mosaic,
    MosaicCreated,
    MosaicStatus,
    Page,
    Retraction,
    Tombstone,
    mosaic_links,
    page_of,
)
from dsaflow.api.requests import MosaicRequest
from dsaflow.api.runs import (
    StateInQuery,
    accepted,
    cancel_run,
    get_run,
    retry_run,
    run_state,
)
from dsaflow.api.settings import (
    GroupInPath,
    Here,
    NameInQuery,
    Pages,
    Service,
    Since,
    StripInQuery,
    select_page,
)
from dsaflow.api.sse import EventStream, LastEventId, follow, parse_offset
from dsaflow.fileio import to_plain
from dsaflow.runs.record import Row
from dsaflow.runs.states import State

router = APIRouter(prefix="/api/mosaics", tags=["mosaics"], responses=documented(422))
REQUESTED_BY = "api"
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key", min_length=1, max_length=120, pattern="^[A-Za-z0-9._:-]+$",
        description="the same key again gives the first answer's run, and starts nothing",
    ),
]  # fmt: skip
# Looking up a key and using it must not be torn apart by a second request with the same key.
_creating = threading.Lock()


def _group_in_path(here: Here, group_id: GroupInPath) -> Row:
    group = here.record.group(group_id)
    if group is None:
        raise not_found("mosaic", group_id)
    return group


GroupHere = Annotated[Row, Depends(_group_in_path)]


@router.post(
    "/create",
    status_code=202,
    responses=documented(404, 409, 422, 429, 503)
    | {200: {"model": MosaicCreated, "description": "published already"}},
)
def create_mosaic(
    here: Here, body: MosaicRequest, response: Response, idempotency_key: IdempotencyKey = None
) -> MosaicCreated:
    """Ask for a mosaic: queued (202), published already (200), or being made already (409).

    Runs start in the order of asking, those that the watcher asks for after all others. Nothing
    waits here: follow `links.status` or `links.logs`.
    """
    from dsaflow.runs import mosaics

    profile = here.chosen_profile(body.profile)
    wanted = mosaics.resolve(
        here.config,
        calibrator=body.calibrator,
        ra_deg=body.ra_deg,
        dec_deg=body.dec_deg,
        start=body.start,
        end=body.end,
        timespan_minutes=body.timespan_minutes,
        transit=body.transit.replace(" ", "T"),
    )
    with _creating:
        if idempotency_key is not None:
            earlier = earlier_run(
                here, idempotency_key,
                lambda run: run["kind"] == "mosaic" and run["group_ids"] == [wanted.group_id]
                and run["options"].get("photometry") == body.photometry,
            )  # fmt: skip
            if earlier is not None:
                return _created(wanted.group_id, wanted.tiles, earlier)
        found = mosaics.create(
            here.record,
            here.config,
            wanted,
            profile=profile,
            configfiles=here.configfiles,
            workdir=here.workdir,
            photometry=body.photometry,
            requested_by=REQUESTED_BY,
            idempotency_key=idempotency_key,
        )
    if found.status == "live":
        raise ApiError(
            409, "ALREADY_LIVE", f"{found.group_id} is being made already by run {found.run_id}",
            mosaic_links(found.group_id, found.run_id),
        )  # fmt: skip
    if found.status == "published":
        response.status_code = 200
        return MosaicCreated(
            group_id=found.group_id,
            run_id=None,
            state=State.COMPLETE,
            tiles=wanted.tiles,
            publication=to_plain(found.publication),
            links=mosaic_links(found.group_id),
        )
    run = get_run(here, found.run_id or "")
    return _created(found.group_id, wanted.tiles, run)


def _created(group_id: str, tiles: list[str], run: Row) -> MosaicCreated:
    return MosaicCreated(
        group_id=group_id,
        run_id=run["run_id"],
        state=run["state"],
        tiles=tiles,
        publication=None,
        links=mosaic_links(group_id, run["run_id"]),
    )


def earlier_run(here: Service, key: str, is_same: Callable[[Row], bool]) -> Row | None:
    """Run of an earlier request with the same key; 422 where that asked for something else."""
    run = here.record.one("SELECT * FROM runs WHERE idempotency_key = ?", (key,))
    if run is not None and not is_same(run):
        raise ApiError(
            422, "IDEMPOTENCY_KEY_USED",
            f"Idempotency-Key: {key} was used for another request",
            {"run": f"/api/runs/{run['run_id']}"},
        )  # fmt: skip
    return run


@router.get("")
def list_mosaics(
    here: Here,
    paging: Pages,
    state: StateInQuery = None,
    outcome: Literal["published", "withheld", "retracted"] | None = None,
    strip: StripInQuery = None,
    calibrator: NameInQuery = None,
    since_s: Since = None,
) -> Page[Mosaic]:
    """Mosaics, those that changed last first; `since_s` is about that change."""
    filters = [
        ("state = ?", state),
        ("outcome = ?", outcome),
        ("strip = ?", strip),
        ("calibrator = ?", calibrator),
        ("updated_s >= ?", since_s),
    ]
    order = "updated_s DESC, group_id DESC"
    rows, total = select_page(here.record, "mosaic_groups", filters, order, paging)
    return page_of(Mosaic, rows, total, paging)


@router.get("/{group_id}", responses=documented(404))
def show_mosaic(group: GroupHere) -> Mosaic:
    """One mosaic."""
    return Mosaic.model_validate(group)


@router.get("/{group_id}/status", responses=documented(404))
def show_status(here: Here, group: GroupHere) -> MosaicStatus:
    """State, stage, progress, tiles, error, retries and times of a mosaic."""
    from dsaflow.runs import progress

    run = here.record.run(group["run_id"]) if group["run_id"] else None
    run = run or {}
    error = None
    if group["error_message"]:
        error = {"message": group["error_message"], "error_class": group["error_class"]}
    content: dict[str, Any] = {
        **{k: group[k] for k in ("group_id", "run_id", "state", "stage", "outcome", "retry_count")},
        "progress": progress.group_progress(here.record, group["group_id"]),
        "tiles": {
            "planned": len(group["tiles"]),
            "used": group["tiles_used"],
            "rejected": group["tiles_rejected"],
            "names": group["tiles"],
        },
        "error": error,
        "attempt": run.get("attempt", 0),
        "times": {
            "created_s": run.get("created_s", group["created_s"]),
            "updated_s": group["updated_s"],
            "started_s": run.get("started_s"),
            "ended_s": run.get("ended_s"),
            "next_retry_s": group["next_retry_s"],
        },
        "links": mosaic_links(group["group_id"], group["run_id"]),
    }
    return MosaicStatus.model_validate(to_plain(content))


def _run_of(here: Service, group: Row) -> Row:
    """Run that makes, or made, a mosaic."""
    run = here.record.run(group["run_id"]) if group["run_id"] else None
    if run is None:
        raise ApiError(404, "NO_RUN", f"the record knows no run of {group['group_id']}")
    return run


def _log_from(here: Here, group: GroupHere, last_event_id: LastEventId = None) -> tuple[Row, int]:
    run = _run_of(here, group)
    return run, parse_offset(last_event_id, run["run_id"])


@router.get("/{group_id}/logs", response_class=EventStream, responses=documented(404))
async def stream_mosaic_log(
    here: Here, log: Annotated[tuple[Row, int], Depends(_log_from)]
) -> EventStream:
    """Log of the run that makes a mosaic, as server-sent events, followed to its end.

    Ids are `<run_id>:<byte offset>`, since another run may make it the next time; `Last-Event-ID`
    takes such an id, or a plain byte offset. The last event is `end`, with the final state.
    """
    run, offset = log
    run_id, path = run["run_id"], Path(run["log_path"])
    return EventStream(follow(path, offset, run_state(here, run_id), run_id))


@router.get(
    "/{group_id}/fits",
    response_class=FileResponse,
    responses=documented(404, 410)
    | {200: {"content": {"application/fits": {"schema": {"type": "string", "format": "binary"}}}}},
)
def download_fits(
    here: Here,
    group_id: GroupInPath,
    plane: Literal["image", "noise", "weight", "coverage", "subbands"] = "image",
    version: Annotated[int | None, Query(ge=1, le=10**6, description="default: newest")] = None,
    staged: Annotated[bool, Query(description="what is made, whether published or not")] = False,
) -> FileResponse:
    """FITS file of a published mosaic (or, with `staged`, of one that is only made)."""
    name = files.MOSAIC_FILES[plane]
    root = here.results if staged else here.published
    folder = (
        files.staged_folder(here, group_id)
        if staged
        else files.published_folder(here, group_id, version)
    )
    return files.download(root, folder / name, "application/fits", f"{group_id}.{name}")


@router.get(
    "/{group_id}/preview.png",
    response_class=FileResponse,
    responses=documented(404, 410)
    | {200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}}},
)
def show_preview(here: Here, group_id: GroupInPath) -> FileResponse:
    """Quick look at a published mosaic."""
    from dsaflow.publish import PREVIEW

    folder = files.published_folder(here, group_id)
    return files.download(here.published, folder / PREVIEW, "image/png", f"{group_id}.png")


@router.post("/{group_id}/cancel", status_code=202, responses=documented(404, 409))
def cancel(here: Here, group: GroupHere) -> Accepted:
    """Cancel the run that makes a mosaic, with everything else that it makes."""
    return cancel_run(here, _run_of(here, group))


@router.post("/{group_id}/retry", status_code=202, responses=documented(404, 409, 429))
def retry(here: Here, group: GroupHere) -> Accepted:
    """Queue the run of a mosaic again, after a failure or a cancellation."""
    return retry_run(here, _run_of(here, group))


@router.post("/{group_id}/publish", status_code=202, responses=documented(404, 409, 429))
def publish(here: Here, group_id: GroupInPath) -> Accepted:
    """Run the workflow's publication of a mosaic: it judges and publishes, or withholds, it."""
    from dsaflow.publish import find_tombstone
    from dsaflow.runs import batch, mosaics

    tombstone = find_tombstone(here.published, group_id)
    if tombstone is not None:
        raise ApiError(
            409, "RETRACTED", f"{group_id} is retracted: {tombstone['reason']}; remove its "
            "retracted.json by hand to lift that",
        )  # fmt: skip
    with _creating:
        live = mosaics.live_run(here.record, group_id)
        if live is not None:
            raise ApiError(
                409, "ALREADY_LIVE", f"{group_id} is being made already by run {live['run_id']}",
                mosaic_links(group_id, live["run_id"]),
            )  # fmt: skip
        run_id = batch.create(
            here.record,
            here.config,
            "publish",
            group_ids=[group_id],
            profile=here.profile,
            configfiles=here.configfiles,
            workdir=here.workdir,
            requested_by=REQUESTED_BY,
        )
    return accepted(here, run_id)


@router.post("/{group_id}/retract", responses=documented(404))
def retract(here: Here, group_id: GroupInPath, body: Retraction) -> Tombstone:
    """Retract a published mosaic: the tombstone outlives any later run; no file is removed."""
    from dsaflow import publish as publishing
    from dsaflow.runs import scan

    if not publishing.group_folders(here.published, group_id):
        raise ApiError(404, "NOT_PUBLISHED", f"nothing is published as {group_id}")
    tombstone = publishing.retract(group_id, body.reason, here.published)
    scan.sync(here.record, here.config, group_ids=[group_id])
    return Tombstone.model_validate(tombstone)
