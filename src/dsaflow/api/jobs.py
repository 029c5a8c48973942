"""Jobs: executions of rules, and their logs."""

from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from fastapi import Path as InPath

from dsaflow.api.errors import ApiError, documented, not_found
from dsaflow.api.models import Job, Page, page_of
from dsaflow.api.runs import StateInQuery
from dsaflow.api.settings import (
    JOB_PATTERN,
    RUN_PATTERN,
    Here,
    NameInQuery,
    Pages,
    Service,
    Since,
    Until,
    select_page,
)
from dsaflow.api.sse import EventStream, Offset, follow
from dsaflow.runs.record import Row
from dsaflow.runs.states import State

router = APIRouter(prefix="/api/jobs", tags=["jobs"], responses=documented(422))
JobInPath = Annotated[str, InPath(pattern=JOB_PATTERN)]


def _job_in_path(here: Here, job_id: JobInPath) -> Row:
    job = here.record.job(job_id)
    if job is None:
        raise not_found("job", job_id)
    return job


JobHere = Annotated[Row, Depends(_job_in_path)]


@router.get("")
def list_jobs(
    here: Here,
    paging: Pages,
    run_id: Annotated[str | None, Query(pattern=RUN_PATTERN)] = None,
    rule: NameInQuery = None,
    item: NameInQuery = None,
    state: StateInQuery = None,
    since_s: Since = None,
    until_s: Until = None,
) -> Page[Job]:
    """Jobs, those that started last first; `item` is a tile, group_id or strip."""
    filters = [
        ("run_id = ?", run_id),
        ("rule = ?", rule),
        ("item = ?", item),
        ("state = ?", state),
        ("started_s >= ?", since_s),
        ("started_s < ?", until_s),
    ]
    # a job's row is made when it starts; sorting by the time itself would read all of them
    rows, total = select_page(here.record, "jobs", filters, "rowid DESC", paging)
    return page_of(Job, rows, total, paging)


@router.get("/{job_id}", responses=documented(404))
def show_job(job: JobHere) -> Job:
    """One execution of a job."""
    return Job.model_validate(job)


def _log_in_path(here: Here, job: JobHere) -> Path:
    """Log of a job, unless a later execution has overwritten it."""
    if not job["log_path"]:
        raise ApiError(404, "NO_LOG", f"job {job['job_id']} has no log")
    later = here.record.one(
        "SELECT job_id FROM jobs WHERE item = ? AND rule = ? AND log_path = ? AND started_s > ? "
        "ORDER BY started_s DESC LIMIT 1",
        (job["item"], job["rule"], job["log_path"], job["started_s"]),
    )
    if later is not None:
        raise ApiError(
            410, "LOG_OVERWRITTEN", "a later execution of this job has overwritten its log",
            {"later": f"/api/jobs/{later['job_id']}/logs"},
        )  # fmt: skip
    path = Path(job["log_path"])
    return path if path.is_absolute() else here.workdir / path


def _state(service: Service, job_id: str) -> tuple[bool, str]:
    job = service.record.job(job_id)
    if job is None:
        return True, "UNKNOWN"
    return job["state"] != State.RUNNING, job["state"]


@router.get("/{job_id}/logs", response_class=EventStream, responses=documented(404, 410))
async def stream_job_log(
    here: Here, job: JobHere, path: Annotated[Path, Depends(_log_in_path)], offset: Offset
) -> EventStream:
    """Log of a job as server-sent events; ids and the last event are as for runs."""
    return EventStream(follow(path, offset, lambda: _state(here, job["job_id"])))
