"""Sections for what runs the workflow: runs and retries, service, alerts, watching, cleaning."""

from datetime import datetime
from typing import Literal

from pydantic import Field, field_validator

from dsaflow.config.section import Fraction, Positive, Section


class Runs(Section):
    """Record of runs, retries, cancelling."""

    database: str = Field(
        "",
        description="SQLite file of the run record, on a disk of this machine (never NFS); empty: runs/record.sqlite in paths.results",
    )
    tries: int = Field(
        4, ge=1, description="starts of Snakemake for a run that fails for a transient reason"
    )
    backoff_base_s: Positive = Field(
        30.0, description="s; wait before the second try, doubled for each further one"
    )
    backoff_cap_s: Positive = Field(1800.0, description="s; longest wait between tries")
    backoff_jitter: Fraction = Field(
        0.2, description="relative; random part of a wait, so that runs do not start together"
    )
    interrupt_s: Positive = Field(
        30.0, description="s; from SIGINT to SIGTERM when a run is cancelled"
    )
    terminate_s: Positive = Field(
        10.0, description="s; from SIGTERM to SIGKILL when a run is cancelled"
    )
    queue_limit: int = Field(
        50, ge=1, description="queued runs; more are refused (HTTP 429) until some have started"
    )


class Api(Section):
    """HTTP service (`dsaflow serve`)."""

    host: str = Field("127.0.0.1", description="address to listen on; loopback by default")
    port: int = Field(8110, ge=1, le=65535, description="TCP port")
    token_file: str = Field(
        "",
        description="file with the token that changes need; empty: the environment's DSAFLOW_API_TOKEN; neither: changes are refused",
    )
    allowed_origins: list[str] = Field(
        default_factory=list, description="origins of the observatory's dashboards (CORS)"
    )
    profile: str = Field(
        "profiles/workstation", description="Snakemake profile of runs that name none"
    )
    profiles: list[str] = Field(
        default_factory=lambda: ["profiles/workstation", "profiles/slurm"],
        description="profiles that a request may name",
    )


class AlertRule(Section):
    """When to tell whom."""

    rule: Literal[
        "run_failed",
        "retry_limit",
        "qa_rejected",
        "no_data",
        "disk_low",
        "ese_candidate",
        "service_unready",
    ] = Field(description="what to watch")
    limit: float = Field(
        0.0,
        description="minutes without data (no_data), free fraction (disk_low), significance (ese_candidate); others: unused",
    )
    severity: Literal["info", "warning", "failure"] = Field(
        "warning", description="as the channels show it"
    )
    repeat_hours: Positive = Field(
        24.0, description="h; the same alert about the same thing is sent once in this time"
    )


class Alerts(Section):
    """Alerts by mail, chat, webhook or file (apprise)."""

    channels: list[str] = Field(
        default_factory=list,
        description="apprise URLs, e.g. mailto://, slack://, json://host/path, file:///path for lines in a file; ${NAME} is taken from the environment, so that no secret stands here",
    )
    rules: list[AlertRule] = Field(
        default_factory=lambda: [
            AlertRule(rule="run_failed", severity="failure"),
            AlertRule(rule="retry_limit", severity="failure"),
            AlertRule(rule="qa_rejected"),
            AlertRule(rule="no_data", limit=60.0),
            AlertRule(rule="disk_low", limit=0.1, severity="failure"),
            AlertRule(rule="ese_candidate", limit=8.0, severity="info"),
            AlertRule(rule="service_unready", severity="failure"),
        ],
        description="when to send; limit: minutes (no_data), free fraction of the disk (disk_low), significance (ese_candidate)",
    )
    silence_until: str = Field(
        "", description="UTC time (ISO) until which nothing is sent; alerts are still recorded"
    )
    dry_run: bool = Field(False, description="record alerts, send none")
    timeout_s: Positive = Field(20.0, description="s; longest that one channel may take")

    @field_validator("silence_until")
    @classmethod
    def _a_time(cls, text: str) -> str:
        try:
            datetime.fromisoformat(text or "2000-01-01")
        except ValueError:
            raise ValueError(
                f"alerts.silence_until: {text!r} is no time; write 2026-01-25T22:00:00Z"
            ) from None
        return text


class Watch(Section):
    """`dsaflow watch`: new groups become tiles and mosaics as they arrive."""

    interval_s: Positive = Field(20.0, description="s; between looks at the incoming folder")
    photometry: bool = Field(True, description="measure each mosaic and update the light curves")
    max_tiles: int = Field(
        24,
        ge=1,
        description="tiles in one run, newest first: a backlog neither holds up what arrives nor requests over HTTP for long",
    )


class Clean(Section):
    """`dsaflow clean`: what may go, and when new work stops. Raw files are never deleted."""

    keep_days: float = Field(
        14.0, ge=0, description="d after publication; then the tile's Measurement Sets may go"
    )
    scratch_days: float = Field(
        2.0, ge=0, description="d; leftovers of killed jobs older than this may go"
    )
    high_water: Fraction = Field(
        0.9, description="used fraction of the results disk; above it no new run starts"
    )
