"""Metrics in Prometheus' text format, computed from the record at each scrape."""

import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from fastapi import APIRouter
from fastapi.responses import Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from dsaflow.api.health import problems, runs_by_state
from dsaflow.api.settings import Here

if TYPE_CHECKING:
    from dsaflow.api.settings import Service

router = APIRouter(tags=["monitoring"])
# Stage statistics are those of the last week: a change shows, a quiet night does not empty them.
RECENT_S = 7 * 86400.0


def _gauge(name: str, text: str, label: str, values: Iterable[tuple[str, float]]) -> Metric:
    family = GaugeMetricFamily(f"dsaflow_{name}", text, labels=[label])
    for value, number in values:
        family.add_metric([value], number)
    return family


class ServiceCollector(Collector):
    """What Prometheus sees of a service.

    Parameters
    ----------
    service : Service
    """

    def __init__(self, service: "Service") -> None:
        self.service = service

    def collect(self) -> Iterator[Metric]:
        """Yield every family once."""
        service, now = self.service, time.time()
        record = service.record
        yield _gauge("runs", "runs by state", "state", runs_by_state(service).items())
        rows = record.db.execute("SELECT state, count(*) FROM quarantine GROUP BY state")
        yield _gauge("quarantine_items", "rejected items by state", "state", rows.fetchall())
        rows = record.db.execute("SELECT state, count(*) FROM products GROUP BY state")
        yield _gauge("products", "products by state", "state", rows.fetchall())
        yield from self._stages(now)
        yield from self._disks()
        yield from self._ages(now)
        yield GaugeMetricFamily(
            "dsaflow_ready", "1 where new work can be taken", value=float(not problems(service))
        )
        behind = service.background.facts.get("tiles_behind")
        if behind is not None:
            yield GaugeMetricFamily(
                "dsaflow_tiles_behind", "tiles observed but not yet imaged", value=behind
            )

    def _stages(self, now: float) -> Iterator[Metric]:
        from dsaflow.runs import progress

        rows = progress.stage_statistics(self.service.record, now - RECENT_S)
        seconds = GaugeMetricFamily(
            "dsaflow_stage_seconds", "time of a rule's jobs, last 7 d", labels=["rule", "quantile"]
        )
        for row in rows:
            for quantile, key in (("0.5", "p50_s"), ("0.95", "p95_s")):
                if row[key] is not None:
                    seconds.add_metric([row["rule"], quantile], row[key])
        yield seconds
        for name, text, key in (
            (
                "stage_success_ratio",
                "share of a rule's jobs that succeeded, last 7 d",
                "success_rate",
            ),
            ("stage_jobs", "jobs of a rule that ended, last 7 d", "count"),
        ):
            known = ((row["rule"], row[key]) for row in rows if row[key] is not None)
            yield _gauge(name, text, "rule", known)

    def _disks(self) -> Iterator[Metric]:
        from dsaflow.api.facts import disks

        found = disks(self.service.config)
        for key in ("free_bytes", "total_bytes"):
            values = ((disk["setting"], disk[key]) for disk in found)
            yield _gauge(f"disk_{key}", key.replace("_", " "), "setting", values)

    def _ages(self, now: float) -> Iterator[Metric]:
        """Times since the last data and the last success; absent where there was none."""
        (success_s,) = self.service.record.db.execute(
            "SELECT max(ended_s) FROM runs WHERE state = 'COMPLETE'"
        ).fetchone()
        times = {
            "last_success": ("since a run ended well", success_s),
            "last_data": (
                "since a raw file arrived",
                self.service.background.facts.get("last_data_s"),
            ),
        }
        for name, (text, time_s) in times.items():
            if time_s is not None:
                yield GaugeMetricFamily(
                    f"dsaflow_{name}_age_seconds", f"seconds {text}", value=now - time_s
                )


class PrometheusText(Response):
    """A scrape's answer."""

    media_type = CONTENT_TYPE_LATEST


@router.get("/metrics", response_class=PrometheusText)
def scrape(here: Here) -> PrometheusText:
    """Runs by state, stage seconds and success, tiles behind, disks, ages, readiness."""
    registry = CollectorRegistry()
    registry.register(ServiceCollector(here))
    return PrometheusText(generate_latest(registry))
