"""Runs of every kind: list, show, progress, log, cancel, try again."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query

from dsaflow.api.errors import ApiError, documented, not_found
from dsaflow.api.models import Accepted, Page, Progress, Run, page_of
from dsaflow.api.settings import (
    GROUP_PATTERN,
    Here,
    Pages,
    Paging,
    RunInPath,
    Service,
    Since,
    Until,
    select_page,
)
from dsaflow.api.sse import EventStream, Offset, follow
from dsaflow.runs.record import Row
from dsaflow.runs.states import FINISHED, State

router = APIRouter(prefix="/api/runs", tags=["runs"], responses=documented(422))
StateInQuery = Annotated[State | None, Query(description="GA4GH WES 1.1")]
GroupInQuery = Annotated[str | None, Query(pattern=GROUP_PATTERN, max_length=120)]


def get_run(service: Service, run_id: str, kind: str | None = None) -> Row:
    """One run, or the answer 404."""
    run = service.record.run(run_id)
    if run is None or (kind is not None and run["kind"] != kind):
        raise not_found(kind or "run", run_id)
    return run


def list_page(service: Service, paging: Paging, filters: list[tuple[str, Any]]) -> Page[Run]:
    """One page of runs, newest first."""
    order = "created_s DESC, run_id DESC"
    rows, total = select_page(service.record, "runs", filters, order, paging)
    return page_of(Run, rows, total, paging)


def run_state(service: Service, run_id: str) -> Callable[[], tuple[bool, str]]:
    """Whether a run is finished, and its state, as `follow` asks for it."""

    def state() -> tuple[bool, str]:
        run = service.record.run(run_id)
        if run is None:  # the record was deleted: nobody can say more
            return True, "UNKNOWN"
        return run["state"] in FINISHED, run["state"]

    return state


def accepted(service: Service, run_id: str) -> Accepted:
    """Answer about a run that was just changed."""
    return Accepted(run_id=run_id, state=get_run(service, run_id)["state"])


def cancel_run(service: Service, run: Row) -> Accepted:
    """Cancel a run; one that is over cannot be."""
    from dsaflow.runs import launch

    if run["state"] in FINISHED:
        raise ApiError(
            409, "FINISHED", f"run {run['run_id']} is over: {run['state']}",
            {"run": f"/api/runs/{run['run_id']}"},
        )  # fmt: skip
    launch.cancel(service.record, service.config, run["run_id"])
    return accepted(service, run["run_id"])


def retry_run(service: Service, run: Row) -> Accepted:
    """Queue a finished run again; it resumes from the last complete file."""
    from dsaflow.runs import launch

    if not launch.retry(service.record, service.config, run["run_id"]):
        state = get_run(service, run["run_id"])["state"]
        raise ApiError(
            409, "NOT_RETRIABLE",
            f"run {run['run_id']} is {state}: only one that failed or was cancelled is tried again",
            {"run": f"/api/runs/{run['run_id']}"},
        )  # fmt: skip
    return accepted(service, run["run_id"])


@router.get("")
def list_runs(
    here: Here,
    paging: Pages,
    kind: Annotated[str | None, Query(pattern="^[a-z]+$", max_length=20)] = None,
    state: StateInQuery = None,
    group_id: GroupInQuery = None,
    since_s: Since = None,
    until_s: Until = None,
) -> Page[Run]:
    """Runs, newest first."""
    filters = [
        ("kind = ?", kind),
        ("state = ?", state),
        ("EXISTS (SELECT 1 FROM json_each(group_ids) WHERE value = ?)", group_id),
        ("created_s >= ?", since_s),
        ("created_s < ?", until_s),
    ]
    return list_page(here, paging, filters)


@router.get("/{run_id}", responses=documented(404))
def show_run(here: Here, run_id: RunInPath) -> Run:
    """One run."""
    return Run.model_validate(get_run(here, run_id))


@router.get("/{run_id}/progress", responses=documented(404))
def show_progress(here: Here, run_id: RunInPath) -> Progress:
    """How far a run is, rule by rule."""
    from dsaflow.runs import progress

    get_run(here, run_id)
    return Progress.model_validate(progress.run_progress(here.record, run_id))


def _run_in_path(here: Here, run_id: RunInPath) -> Row:
    return get_run(here, run_id)


@router.get("/{run_id}/logs", response_class=EventStream, responses=documented(404))
async def stream_run_log(
    here: Here, run: Annotated[Row, Depends(_run_in_path)], offset: Offset
) -> EventStream:
    """Log of a run as server-sent events, followed to its end.

    Ids are byte offsets: `Last-Event-ID` resumes without loss or duplicate. The last event is
    `end`, with the final state.
    """
    return EventStream(follow(Path(run["log_path"]), offset, run_state(here, run["run_id"])))


@router.post("/{run_id}/cancel", status_code=202, responses=documented(404, 409))
def cancel(here: Here, run_id: RunInPath) -> Accepted:
    """Cancel a run: CANCELING at once, CANCELED when no process of it is left."""
    return cancel_run(here, get_run(here, run_id))


@router.post("/{run_id}/retry", status_code=202, responses=documented(404, 409, 429))
def retry(here: Here, run_id: RunInPath) -> Accepted:
    """Queue a run again that failed or was cancelled."""
    return retry_run(here, get_run(here, run_id))
