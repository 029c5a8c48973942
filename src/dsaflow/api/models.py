"""Models of runs, jobs, mosaics and products as the API gives them; times are Unix seconds (UTC)."""

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from dsaflow.runs.states import State

if TYPE_CHECKING:
    from dsaflow.api.settings import Paging

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)


class Answer(BaseModel):
    """What responses are made of: columns that a model does not name are left out."""

    model_config = ConfigDict(extra="ignore")


class Request(BaseModel):
    """What bodies are made of: unknown keys are refused, so that a misspelt one is no default."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Page(Answer, Generic[T]):
    """One page of a list."""

    items: list[T]
    total: int = Field(description="number of all items that match")
    limit: int
    offset: int


def page_of(kind: type[M], rows: list[dict[str, Any]], total: int, part: "Paging") -> Page[M]:
    """Page with the rows as models."""
    items = [kind.model_validate(row) for row in rows]
    return Page(items=items, total=total, limit=part.limit, offset=part.offset)


def run_links(run_id: str) -> dict[str, str]:
    """Where to go on from a run."""
    base = f"/api/runs/{run_id}"
    links = {"self": base, "progress": f"{base}/progress", "logs": f"{base}/logs"}
    return links | {"jobs": f"/api/jobs?run_id={run_id}"}


class Run(Answer):
    """One run: the start of a workflow, with all its tries."""

    run_id: str
    kind: str = Field(description="run, mosaic, batch, watch, snakemake")
    state: State
    priority: int
    requested_by: str
    profile: str
    targets: list[str]
    group_ids: list[str]
    options: dict[str, Any]
    created_s: float
    started_s: float | None
    ended_s: float | None
    attempt: int = Field(description="starts of Snakemake so far")
    retry_count: int
    next_retry_s: float | None = Field(description="when it is tried again, while PAUSED")
    exit_code: int | None
    error_class: str | None = Field(description="transient, permanent")
    error_message: str | None
    jobs_done: int
    jobs_total: int
    links: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _link(self) -> "Run":
        self.links = run_links(self.run_id)
        return self


class Job(Answer):
    """One execution of one rule for one item."""

    job_id: str
    run_id: str
    attempt: int
    execution: int = Field(description="of this rule and item in the run, from 1")
    rule: str
    item: str = Field(description="tile, group_id or strip")
    wildcards: dict[str, Any]
    state: State
    reason: str
    threads: int | None
    resources: dict[str, Any]
    inputs: list[str]
    outputs: list[str]
    slurm_job_id: int | None
    started_s: float | None
    ended_s: float | None
    error_class: str | None
    error_message: str | None
    links: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _link(self) -> "Job":
        base = f"/api/jobs/{self.job_id}"
        self.links = {"self": base, "logs": f"{base}/logs", "run": f"/api/runs/{self.run_id}"}
        return self


def mosaic_links(group_id: str, run_id: str | None = None) -> dict[str, str]:
    """Where to go on from a mosaic."""
    base = f"/api/mosaics/{group_id}"
    links = {"self": base}
    links |= {name: f"{base}/{name}" for name in ("status", "logs", "fits", "preview.png")}
    links["lineage"] = f"/api/data/{group_id}/lineage"
    return links | ({"run": f"/api/runs/{run_id}"} if run_id else {})


class Mosaic(Answer):
    """One mosaic that was asked for, is made, or is published."""

    group_id: str
    run_id: str | None
    centre: str
    calibrator: str | None
    transit_mjd: float | None
    start_mjd: float | None
    end_mjd: float | None
    strip: str
    stage: str = Field(description="rule that started last")
    state: State
    tiles: list[str]
    tiles_used: int | None
    tiles_rejected: int | None
    outcome: str = Field(description="published, withheld, retracted, or empty")
    published_path: str
    error_message: str | None
    error_class: str | None
    retry_count: int
    next_retry_s: float | None
    created_s: float
    updated_s: float
    links: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _link(self) -> "Mosaic":
        self.links = mosaic_links(self.group_id, self.run_id)
        return self


class Stage(Answer):
    """How far one rule is."""

    rule: str
    done: int
    total: int
    running: int
    failed: int
    seconds: float | None = Field(description="sum over its jobs so far")
    expected_s: float | None = Field(description="that sum at the end, from history")


class Progress(Answer):
    """How far a run, or one mosaic of it, is."""

    stage: str = Field(description="rule that runs now, or ran last")
    done: int
    total: int
    seconds: float | None = Field(description="since the start")
    expected_s: float | None = Field(description="for all of it, from history")
    stages: list[Stage]


class Tiles(Answer):
    """Tiles of a mosaic."""

    planned: int
    used: int | None
    rejected: int | None
    names: list[str]


class Failure(Answer):
    """Why something does not go on."""

    message: str
    error_class: str | None = Field(description="transient: it is tried again; permanent: not")


class Times(Answer):
    """When a run was asked for, started, ended, goes on."""

    created_s: float
    updated_s: float | None
    started_s: float | None
    ended_s: float | None
    next_retry_s: float | None


class MosaicStatus(Answer):
    """Everything that somebody who waits for a mosaic wants to know."""

    group_id: str
    run_id: str | None
    state: State
    stage: str
    outcome: str
    progress: Progress
    tiles: Tiles
    error: Failure | None
    attempt: int
    retry_count: int
    times: Times
    links: dict[str, str]


class Product(Answer):
    """One product of a mosaic: staged, published, withheld or retracted."""

    product_id: str
    group_id: str
    kind: str
    state: str
    path: str
    version: int
    checksum: str
    reason: str
    run_id: str | None
    updated_s: float
    links: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _link(self) -> "Product":
        base = f"/api/data/{self.product_id}"
        self.links = {
            "self": base,
            "lineage": f"{base}/lineage",
            "mosaic": f"/api/mosaics/{self.group_id}",
        }
        return self


class Publication(Answer):
    """What publishing left."""

    group_id: str
    state: str
    path: str
    version: int
    reason: str = ""
    checksums: dict[str, str]


class MosaicCreated(Answer):
    """Answer to a request for a mosaic."""

    group_id: str
    run_id: str | None
    state: State = Field(description="QUEUED, or COMPLETE where it was published already")
    tiles: list[str]
    publication: Publication | None
    links: dict[str, str]


class Accepted(Answer):
    """A run that was queued, taken up again, or is being cancelled."""

    run_id: str
    state: State
    links: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _link(self) -> "Accepted":
        self.links = run_links(self.run_id)
        return self


class Retraction(Request):
    """Why a mosaic is taken back."""

    reason: str = Field(min_length=1, max_length=500, pattern=r"\S")


class Tombstone(Answer):
    """What a retraction leaves."""

    group_id: str
    state: str
    reason: str
    retracted_utc: str
    versions: list[int]


class QuarantineItem(Answer):
    """An input or product that a stage rejected."""

    item: str
    stage: str
    reason_code: str
    detail: str
    path: str
    state: str = Field(description="open, retrying, resolved")
    note: str
    times_seen: int
    first_seen_s: float
    last_seen_s: float
    links: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _link(self) -> "QuarantineItem":
        base = f"/api/quarantine/{self.item}"
        self.links = {name: f"{base}/{name}" for name in ("retry", "resolve")} | {"self": base}
        return self


class Resolution(Request):
    """What was done about a rejected input."""

    note: str = Field("", max_length=500)


class Alert(Answer):
    """An alert, sent or not."""

    alert_id: str
    rule: str
    subject: str
    severity: str
    message: str
    run_id: str | None
    state: str = Field(description="sent, failed, deduplicated, silenced, dry-run")
    error: str
    time_s: float
