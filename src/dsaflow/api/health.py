"""Whether the service works, what it sees, its logs and its alerts."""

import os
import time
from pathlib import Path
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response
from pydantic import Field

from dsaflow import __version__
from dsaflow.api.errors import documented
from dsaflow.api.models import Alert, Answer, Page, page_of
from dsaflow.api.settings import (
    RUN_PATTERN,
    Here,
    NameInQuery,
    Pages,
    Service,
    Since,
    Until,
    select_page,
)
from dsaflow.fileio import to_plain
from dsaflow.runs.states import LIVE, State

router = APIRouter(tags=["monitoring"], responses=documented(422))


class Live(Answer):
    """The process answers."""

    status: Literal["alive"] = "alive"


class Ready(Answer):
    """Whether new work can be taken, and if not, why."""

    ready: bool
    problems: list[str]


class Disk(Answer):
    """A disk that the pipeline uses."""

    setting: str = Field(description="the first of the paths that lies on it")
    total_bytes: int
    free_bytes: int
    used_fraction: float


class Database(Answer):
    """The SQLite file of the run record."""

    path: str
    size_bytes: int
    runs: int


class Health(Answer):
    """What an operator looks at first."""

    version: str
    uptime_s: float
    ready: bool
    problems: list[str]
    disks: list[Disk]
    database: Database
    queued: int
    live_run: str | None
    runs_by_state: dict[State, int]
    quarantine_open: int
    last_data_s: float | None = Field(description="when the newest raw file arrived")
    last_success_s: float | None = Field(description="when a run last ended well")
    last_failure_s: float | None
    tiles_behind: int | None = Field(description="observed, not yet imaged; null: no plan yet")


class StageStatistics(Answer):
    """How long a rule takes, and how often it works."""

    rule: str
    count: int
    p50_s: float | None
    p95_s: float | None
    success_rate: float | None


class StageMetrics(Answer):
    """Statistics of every rule."""

    items: list[StageStatistics]


class LogLine(Answer):
    """A line of a rule's log, or an event, that a search found."""

    text: str
    source: str
    run_id: str | None
    rule: str | None
    item: str | None
    level: str | None
    time_s: float | None


class LogLines(Answer):
    """What a search found, newest first."""

    items: list[LogLine]
    limit: int
    offset: int


def problems(service: Service) -> list[str]:
    """Why new work cannot be taken now; empty where it can."""
    from dsaflow.runs import clean

    found = []
    try:
        service.record.select("SELECT last FROM sequence")
        if not os.access(service.record.database, os.W_OK):
            found.append(f"{service.record.database} cannot be written")
    except Exception as error:
        found.append(f"the run record: {error}")
    for name, folder in (("results", service.results), ("published", service.published)):
        if not _writable(folder):
            found.append(f"paths.{name} ({folder}) cannot be written")
    if not (service.workdir / "Snakefile").is_file():
        found.append(f"{service.workdir} holds no Snakefile")
    if clean.above_high_water(service.config):
        found.append("the results disk is above clean.high_water: no new run starts")
    return found + service.background.problems()


def _writable(folder: Path) -> bool:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return os.access(folder, os.W_OK | os.X_OK)


def runs_by_state(service: Service) -> dict[str, int]:
    """Number of runs in each state, zeros included."""
    rows = service.record.db.execute("SELECT state, count(*) FROM runs GROUP BY state").fetchall()
    counts = {str(state): 0 for state in State}
    return counts | {str(state): int(number) for state, number in rows}


@router.get("/api/health/live")
def live() -> Live:
    """Answer, if the process can."""
    return Live()


@router.get("/api/health/ready", responses={503: {"model": Ready, "description": "not ready"}})
def ready(here: Here, response: Response) -> Ready:
    """Whether new work can be taken (200), or why not (503)."""
    found = problems(here)
    if found:
        response.status_code = 503
    return Ready(ready=not found, problems=found)


@router.get("/api/health")
def summary(here: Here) -> Health:
    """Disks, record, queue, data and runs at a glance."""
    from dsaflow.api.facts import disks

    found, states = problems(here), runs_by_state(here)
    last = here.record.one(
        "SELECT max(CASE WHEN state = 'COMPLETE' THEN ended_s END) AS good, "
        "max(CASE WHEN state IN ('EXECUTOR_ERROR', 'SYSTEM_ERROR') THEN ended_s END) AS bad FROM runs"
    )
    assert last is not None
    marks = ", ".join("?" for _ in LIVE)
    running = here.record.one(f"SELECT run_id FROM runs WHERE state IN ({marks})", sorted(LIVE))
    rejected = here.record.db.execute("SELECT count(*) FROM quarantine WHERE state = 'open'")
    facts = here.background.facts
    behind = facts.get("tiles_behind")
    return Health(
        version=__version__,
        uptime_s=time.time() - here.started_s,
        ready=not found,
        problems=found,
        disks=[Disk.model_validate(disk) for disk in disks(here.config)],
        database=Database(
            path=str(here.record.database),
            size_bytes=here.record.database.stat().st_size,
            runs=sum(states.values()),
        ),
        queued=states[State.QUEUED],
        live_run=running["run_id"] if running else None,
        runs_by_state={State(name): number for name, number in states.items()},
        quarantine_open=rejected.fetchone()[0],
        last_data_s=facts.get("last_data_s"),
        last_success_s=last["good"],
        last_failure_s=last["bad"],
        tiles_behind=None if behind is None else int(behind),
    )


@router.get("/api/metrics/stages")
def stage_metrics(here: Here, since_s: Since = None) -> StageMetrics:
    """Median, 95th percentile and success rate of each rule's jobs."""
    from dsaflow.runs import progress

    rows = progress.stage_statistics(here.record, since_s)
    return StageMetrics.model_validate({"items": to_plain(rows)})


@router.get("/api/logs/search")
def search_logs(
    here: Here,
    paging: Pages,
    q: Annotated[str, Query(min_length=1, max_length=200, description="words, or SQLite FTS5")],
    run_id: Annotated[str | None, Query(pattern=RUN_PATTERN)] = None,
    rule: NameInQuery = None,
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] | None = None,
    since_s: Since = None,
    until_s: Until = None,
) -> LogLines:
    """Search the rules' logs and the events."""
    from dsaflow.runs import search

    search.index_logs(here.record, here.config)
    rows = search.search_logs(
        here.record, q, run_id=run_id, rule=rule, level=level, since_s=since_s, until_s=until_s,
        limit=paging.limit, offset=paging.offset,
    )  # fmt: skip
    return LogLines.model_validate(
        {"items": to_plain(rows), "limit": paging.limit, "offset": paging.offset}
    )


@router.get("/api/alerts")
def list_alerts(
    here: Here,
    paging: Pages,
    rule: NameInQuery = None,
    state: Literal["sent", "failed", "deduplicated", "silenced", "dry-run"] | None = None,
    severity: Literal["info", "warning", "failure"] | None = None,
    since_s: Since = None,
    until_s: Until = None,
) -> Page[Alert]:
    """Alerts, newest first."""
    filters = [
        ("rule = ?", rule),
        ("state = ?", state),
        ("severity = ?", severity),
        ("time_s >= ?", since_s),
        ("time_s < ?", until_s),
    ]
    rows, total = select_page(here.record, "alerts", filters, "time_s DESC, alert_id", paging)
    return page_of(Alert, rows, total, paging)
