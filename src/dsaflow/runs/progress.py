"""How far a run or a mosaic is, and how long stages take."""

import math
import statistics
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dsaflow.runs.states import FINISHED, State

if TYPE_CHECKING:
    from dsaflow.runs.record import Record, Row

# newest executions that a median is of: the machine and the configuration change
HISTORY = 200


@dataclass
class Stage:
    """Jobs of one rule."""

    rule: str
    planned: set[str] = field(default_factory=set)
    counted: int = 0  # planned without their names, and done before that
    done: set[str] = field(default_factory=set)
    running: dict[str, float] = field(default_factory=dict)  # item -> seconds so far
    failed: set[str] = field(default_factory=set)
    seconds: float = 0.0
    first_s: float | None = None

    @property
    def total(self) -> int:
        """Jobs to do, the ones of earlier attempts included."""
        known = self.planned | self.done | set(self.running) | self.failed
        return max(len(known), self.counted)


def run_progress(record: "Record", run_id: str) -> dict[str, Any]:
    """How far a run is.

    Returns
    -------
    dict
        stage : str
            Rule that started last of those that run, else the last that ran.
        done, total : int
            Jobs, over all attempts.
        seconds : float or None
            Since the start of the run, until its end or now.
        expected_s : float or None
            What `seconds` is expected to be at the end: from the median of each rule's past
            executions and the jobs that ran side by side so far. None without such history.
        stages : list of dict
            rule, done, total, running, failed; `seconds`: sum over its executions so far;
            `expected_s`: what this sum is expected to be at the end, or None.

        Empty stage and zeros where nothing has started, or the run is not known.
    """
    run = record.run(run_id)
    return _progress(record, run, None) if run else _nothing()


def group_progress(record: "Record", group_id: str) -> dict[str, Any]:
    """How far a mosaic is: of its run, the jobs of its tiles and its own; see `run_progress`."""
    group = record.group(group_id)
    run = record.run(group["run_id"]) if group and group["run_id"] else None
    if group is None or run is None:
        return _nothing()
    return _progress(record, run, {group_id, *group["tiles"]})


def _nothing() -> dict[str, Any]:
    return {
        "stage": "", "done": 0, "total": 0, "seconds": None, "expected_s": None, "stages": []
    }  # fmt: skip


def _progress(record: "Record", run: "Row", items: set[str] | None) -> dict[str, Any]:
    now = time.time()
    jobs = _jobs(record, run["run_id"], items)
    stages = _stages(record, run, jobs, items, now)
    ended = run["ended_s"] if run["state"] in FINISHED else None
    sums = [
        (stage, stage.seconds if ended else _expected_sum_s(stage, median_s(record, stage.rule)))
        for stage in stages
    ]
    started = (
        run["started_s"] if items is None else min((j["started_s"] for j in jobs), default=None)
    )
    seconds = None if started is None else (ended or now) - started
    active = [job for job in jobs if job["state"] == State.RUNNING] or jobs
    return {
        "stage": max(active, key=lambda job: job["started_s"])["rule"] if active else "",
        "done": sum(len(stage.done) for stage in stages),
        "total": sum(stage.total for stage in stages),
        "seconds": seconds,
        "expected_s": seconds if ended else _expected_s(sums, seconds),
        "stages": [
            {
                "rule": stage.rule, "done": len(stage.done), "total": stage.total,
                "running": len(stage.running), "failed": len(stage.failed),
                "seconds": stage.seconds, "expected_s": expected,
            }
            for stage, expected in sums
        ],
    }  # fmt: skip


def _jobs(record: "Record", run_id: str, items: set[str] | None) -> "list[Row]":
    columns = "rule, item, attempt, state, started_s, ended_s"
    rows = record.db.execute(
        f"SELECT {columns} FROM jobs WHERE run_id = ? ORDER BY started_s, job_id", (run_id,)
    )
    return [dict(row) for row in rows if items is None or row["item"] in items]


def _stages(
    record: "Record", run: "Row", jobs: "list[Row]", items: set[str] | None, now: float
) -> list[Stage]:
    """Stages in the order in which they began, then those that have not begun."""
    plan = record.one("SELECT attempt, planned FROM run_plans WHERE run_id = ?", (run["run_id"],))
    stages: dict[str, Stage] = {}
    for job in jobs:
        stage = stages.setdefault(job["rule"], Stage(job["rule"]))
        elapsed = (job["ended_s"] or now) - job["started_s"]
        stage.seconds += elapsed
        if job["state"] == State.COMPLETE:
            stage.done.add(job["item"])
        elif job["state"] == State.RUNNING:
            stage.running[job["item"]] = elapsed
        else:
            stage.failed.add(job["item"])
    plan = plan or {"attempt": 1, "planned": {}}
    for rule, planned in plan["planned"].items():
        if isinstance(planned, list):
            mine = {item for item in planned if items is None or item in items}
            if mine:
                stages.setdefault(rule, Stage(rule)).planned |= mine
        elif items is None:
            earlier = {
                job["item"] for job in jobs
                if job["rule"] == rule and job["state"] == State.COMPLETE
                and job["attempt"] < plan["attempt"]
            }  # fmt: skip
            stages.setdefault(rule, Stage(rule)).counted = planned + len(earlier)
    for stage in stages.values():
        stage.failed -= stage.done | set(stage.running)  # tried again since
    return list(stages.values())


def median_s(record: "Record", rule: str) -> float | None:
    """Median run time of the newest successful executions of a rule [s], or None."""
    seconds = _newest(record, rule)
    return statistics.median(seconds) if seconds else None


def _expected_sum_s(stage: Stage, median: float | None) -> float | None:
    """Sum of the run times of a stage's executions at its end."""
    left = stage.total - len(stage.done)
    if not left:
        return stage.seconds
    if median is None:
        return None
    # one that runs for longer than usual is expected to end now
    running = sum(max(0.0, median - elapsed) for elapsed in stage.running.values())
    return stage.seconds + running + median * (left - len(stage.running))


def _expected_s(sums: list[tuple[Stage, float | None]], seconds: float | None) -> float | None:
    """Duration at the end, with as many jobs side by side as there were so far."""
    if seconds is None or any(expected is None for _, expected in sums):
        return None
    spent = sum(stage.seconds for stage, _ in sums)
    left = sum(expected or 0.0 for _, expected in sums) - spent
    side_by_side = max(1.0, spent / seconds) if seconds > 0 else 1.0
    return seconds + left / side_by_side


def stage_statistics(record: "Record", since_s: float | None = None) -> list[dict[str, Any]]:
    """How long the executions of each rule take, and how many succeed.

    Parameters
    ----------
    record : Record
    since_s : float, optional
        Unix time; only what ended since then.

    Returns
    -------
    list of dict
        rule, count (executions that ended), p50_s, p95_s (of the newest successful ones, at most
        `HISTORY`; None without one), success_rate (0 to 1).
    """
    since_s = 0.0 if since_s is None else since_s
    counts = record.db.execute(
        # by default the order of rules is what SQLite picks the index for
        "SELECT rule, count(*), sum(succeeded) FROM stage_timings INDEXED BY timings_by_time "
        "WHERE ended_s >= ? GROUP BY rule ORDER BY rule",
        (since_s,),
    ).fetchall()
    result = []
    for rule, count, succeeded in counts:
        seconds = _newest(record, rule, since_s)
        result.append(
            {
                "rule": rule,
                "count": count,
                "p50_s": statistics.median(seconds) if seconds else None,
                "p95_s": _percentile(seconds, 0.95),
                "success_rate": succeeded / count,
            }
        )
    return result


def _newest(record: "Record", rule: str, since_s: float = 0.0) -> list[float]:
    rows = record.db.execute(
        "SELECT seconds FROM stage_timings WHERE rule = ? AND succeeded AND ended_s >= ? "
        "ORDER BY ended_s DESC LIMIT ?",
        (rule, since_s, HISTORY),
    )
    return [row[0] for row in rows]


def _percentile(values: list[float], fraction: float) -> float | None:
    """Smallest value that at least this fraction of all do not exceed."""
    if not values:
        return None
    return sorted(values)[max(0, math.ceil(fraction * len(values)) - 1)]
