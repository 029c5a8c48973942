"""Batches: one run of the workflow with many targets of one stage."""

from typing import Literal

from fastapi import APIRouter

from dsaflow.api.errors import documented
from dsaflow.api.models import Accepted, Page, Run
from dsaflow.api.mosaics import REQUESTED_BY, IdempotencyKey, earlier_run
from dsaflow.api.requests import BatchRequest
from dsaflow.api.runs import StateInQuery, accepted, cancel_run, get_run, list_page
from dsaflow.api.settings import Here, Pages, RunInPath, Since, Until

router = APIRouter(prefix="/api/batch", tags=["batch"], responses=documented(422))
StageName = Literal[
    "convert", "calibrate", "image", "mosaic", "photometry", "ese-detect", "publish"
]


@router.post("/{stage}", status_code=202, responses=documented(404, 409, 429, 503))
def create_batch(
    here: Here, stage: StageName, body: BatchRequest, idempotency_key: IdempotencyKey = None
) -> Accepted:
    """Queue one stage for tiles, mosaics, or everything in a stretch of time."""
    from dsaflow.runs import batch

    profile = here.chosen_profile(body.profile)
    if idempotency_key is not None:
        asked = batch.asked_for(
            stage, tiles=body.tiles, group_ids=body.group_ids, start=body.start, end=body.end
        )
        earlier = earlier_run(
            here, idempotency_key,
            lambda run: run["kind"] == "batch" and asked == {
                k: v for k, v in run["options"].items() if k != "n_targets"
            },
        )  # fmt: skip
        if earlier is not None:
            return accepted(here, earlier["run_id"])
    run_id = batch.create(
        here.record,
        here.config,
        stage,
        tiles=body.tiles,
        group_ids=body.group_ids,
        start=body.start,
        end=body.end,
        profile=profile,
        configfiles=here.configfiles,
        workdir=here.workdir,
        requested_by=REQUESTED_BY,
        idempotency_key=idempotency_key,
    )
    return accepted(here, run_id)


@router.get("")
def list_batches(
    here: Here,
    paging: Pages,
    state: StateInQuery = None,
    since_s: Since = None,
    until_s: Until = None,
) -> Page[Run]:
    """Batches, newest first."""
    filters = [
        ("kind = ?", "batch"),
        ("state = ?", state),
        ("created_s >= ?", since_s),
        ("created_s < ?", until_s),
    ]
    return list_page(here, paging, filters)


@router.get("/{run_id}", responses=documented(404))
def show_batch(here: Here, run_id: RunInPath) -> Run:
    """One batch; its progress and log are those of its run (`links`)."""
    return Run.model_validate(get_run(here, run_id, "batch"))


@router.post("/{run_id}/cancel", status_code=202, responses=documented(404, 409))
def cancel_batch(here: Here, run_id: RunInPath) -> Accepted:
    """Cancel a batch."""
    return cancel_run(here, get_run(here, run_id, "batch"))
