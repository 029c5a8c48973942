"""Time of the status queries with 100 000 runs in the record, against its bound; time of an event."""

import argparse
import random
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from bench_stages import machine

from dsaflow.runs.database import transaction
from dsaflow.runs.progress import group_progress, run_progress, stage_statistics
from dsaflow.runs.record import Record
from dsaflow.runs.states import State

BOUND_MS = 50.0  # 99th percentile of one status
RULES = ("convert", "make_mosaic", "publish_mosaic")
LIVE_RULES = ("convert", "flag", "solve_gains", "apply_calibration", "image_tile")
LIVE_TILES = [f"20260120T05{minute:02d}00" for minute in range(10, 60, 5)]
LIVE_GROUP = "3C286_20260120T051723_6aab7074"
START_S = 1.7e9
INTERVAL_S = 3000.0  # between mosaics


def past(number: int) -> tuple[str, str, float]:
    """Run, mosaic and time of one run of the past."""
    return (
        f"run-{number:06d}",
        f"3C{number}_20260120T051723_6aab7074",
        START_S + number * INTERVAL_S,
    )


def fill(db: sqlite3.Connection, n_runs: int) -> None:
    """Insert runs that have ended, each of one mosaic and three jobs."""

    def jobs() -> Iterator[tuple]:
        for number in range(n_runs):
            run_id, group, at_s = past(number)
            for index, rule in enumerate(RULES):
                yield (
                    f"{run_id}.1.{index}.1", run_id, index, rule, group,
                    at_s + 10 * index, at_s + 10 * index + random.lognormvariate(2, 0.5),
                )  # fmt: skip

    runs = [past(number) for number in range(n_runs)]
    with transaction(db):
        db.executemany(
            "INSERT INTO runs (run_id, kind, state, workdir, created_s, started_s, ended_s, attempt, "
            "exit_code, jobs_done, jobs_total) VALUES (?, 'mosaic', ?, 'd', ?, ?, ?, 1, 0, 3, 3)",
            [(r, random.choice([State.COMPLETE] * 9 + [State.EXECUTOR_ERROR]), t, t, t + 60)
             for r, _, t in runs],
        )  # fmt: skip
        db.executemany(
            "INSERT INTO mosaic_groups (group_id, run_id, state, tiles, created_s, updated_s) "
            "VALUES (?, ?, 'COMPLETE', '[]', ?, ?)",
            [(g, r, t, t + 60) for r, g, t in runs],
        )
        db.executemany(
            "INSERT INTO jobs (job_id, run_id, attempt, snakemake_jobid, execution, rule, item, state, "
            "started_s, ended_s) VALUES (?, ?, 1, ?, 1, ?, ?, 'COMPLETE', ?, ?)",
            jobs(),
        )
        db.execute(
            "INSERT INTO stage_timings SELECT job_id, rule, ended_s - started_s, 1, ended_s FROM jobs"
        )


def start_live(record: Record) -> str:
    """Start a run of one mosaic of ten tiles, half done."""
    run_id = record.create_run("mosaic", "live", state=State.RUNNING, group_ids=[LIVE_GROUP])
    planned = dict.fromkeys(LIVE_RULES, LIVE_TILES) | {"make_mosaic": [LIVE_GROUP]}
    record.emit("run.planned", run_id, planned=planned, group_ids=[LIVE_GROUP])
    record.emit("group", run_id, group_id=LIVE_GROUP, tiles=LIVE_TILES)
    jobs = [(rule, tile) for tile in LIVE_TILES[:6] for rule in LIVE_RULES]
    for jobid, (rule, tile) in enumerate(jobs):
        record.emit("job.started", run_id, jobid=jobid, rule=rule, wildcards={"tile": tile})
        if jobid < len(jobs) - 2:
            record.emit("job.finished", run_id, jobid=jobid)
    return run_id


def timed(call: Callable[[], object], n: int) -> np.ndarray:
    """Wall time of `n` calls [ms]."""
    times = []
    for _ in range(n):
        started = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - started))
    return np.array(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=300)
    options = parser.parse_args()
    random.seed(1)
    with tempfile.TemporaryDirectory() as scratch:
        record = Record(Path(scratch) / "runs", Path(scratch) / "record.sqlite")
        started = time.perf_counter()
        fill(record.db, options.runs)
        live = start_live(record)
        filled_s = time.perf_counter() - started
        size_mb = sum(p.stat().st_size for p in Path(scratch).glob("record.sqlite*")) / 1e6

        def status(group_id: str) -> None:
            group = record.group(group_id)
            assert group is not None
            assert record.run(group["run_id"]) is not None
            assert group_progress(record, group_id)["stages"]

        calls: dict[str, tuple[Callable[[], object], bool]] = {
            "status of a live mosaic": (lambda: status(LIVE_GROUP), True),
            "status of a past mosaic": (
                lambda: status(past(random.randrange(options.runs))[1]), True,
            ),
            "progress of the live run": (lambda: run_progress(record, live), True),
            "live run and queue": (lambda: (record.live_run("live"), record.queued()), True),
            "newest 50 runs": (
                lambda: record.select("SELECT * FROM runs ORDER BY created_s DESC LIMIT 50"), True,
            ),
            "runs by state": (
                lambda: record.select("SELECT state, count(*) AS n FROM runs GROUP BY state"), True,
            ),
            "statistics of a day's stages": (
                lambda: stage_statistics(record, START_S + options.runs * INTERVAL_S - 86400), False,
            ),
            "one event": (lambda: record.emit("run.progress", live, done=1, total=2), False),
        }  # fmt: skip
        print(machine())
        print(
            f"{options.runs} runs, {3 * options.runs} jobs, {size_mb:.0f} MB, made in {filled_s:.0f} s"
        )
        print(f"{'':30} {'p50':>8} {'p99':>8}  ms over {options.queries}")
        late = []
        for name, (call, bounded) in calls.items():
            p50, p99 = np.percentile(timed(call, options.queries), [50, 99])
            bound = f"bound {BOUND_MS:.0f}" if bounded else ""
            print(f"{name:30} {p50:8.2f} {p99:8.2f}  {bound}")
            late += [name] if bounded and p99 > BOUND_MS else []
        record.close()
    if late:
        raise SystemExit(f"beyond the bound: {', '.join(late)}")


if __name__ == "__main__":
    main()
