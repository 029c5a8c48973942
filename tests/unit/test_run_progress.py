"""Progress of runs and mosaics, with what history lets expect."""

import pytest

from dsaflow.runs.progress import group_progress, median_s, run_progress, stage_statistics
from dsaflow.runs.record import Record
from dsaflow.runs.states import State

TILES = ["20260120T050940", "20260120T051449"]
OTHER = "20260121T051514"
GROUP = "3C286_20260120T051723_6aab7074"
START_S = 1000.0


@pytest.fixture
def record(tmp_path):
    made = Record(tmp_path / "runs", tmp_path / "record.sqlite")
    yield made
    made.close()


@pytest.fixture
def clock(monkeypatch):
    """Set the time that progress is told at."""
    import dsaflow.runs.progress as module

    return lambda now: monkeypatch.setattr(module.time, "time", lambda: now)


class Run:
    """A run whose jobs start and end at given times."""

    def __init__(self, record: Record, **fields) -> None:
        self.record, self.numbers = record, {}
        self.run_id = record.create_run(
            "run", f"dir{len(record.select('SELECT 1 FROM runs'))}", state=State.RUNNING,
            time_s=START_S, **fields,
        )  # fmt: skip

    def emit(self, kind: str, at_s: float, **payload) -> None:
        self.record.emit(kind, self.run_id, time_s=at_s, **payload)

    def start(self, rule: str, item: str, at_s: float) -> None:
        number = self.numbers.setdefault((rule, item), len(self.numbers))
        wildcards = {"group_id" if item == GROUP else "tile": item}
        self.emit("job.started", at_s, jobid=number, rule=rule, wildcards=wildcards)

    def end(self, rule: str, item: str, at_s: float, kind: str = "job.finished") -> None:
        self.emit(kind, at_s, jobid=self.numbers[rule, item])


def history(record: Record, **seconds: list[float]) -> None:
    """Earlier executions of rules, and that they took."""
    run = Run(record)
    for rule, values in seconds.items():
        for index, value in enumerate(values):
            run.start(rule, str(index), START_S)
            run.end(rule, str(index), START_S + value)
    record.transition(run.run_id, State.COMPLETE)


def by_rule(progress: dict) -> dict[str, dict]:
    return {stage["rule"]: stage for stage in progress["stages"]}


def test_nothing_is_said_of_what_has_not_begun(record):
    nothing = {
        "stage": "", "done": 0, "total": 0, "seconds": None, "expected_s": None, "stages": [],
    }  # fmt: skip
    assert run_progress(record, "no-such-run") == nothing
    assert group_progress(record, GROUP) == nothing
    assert run_progress(record, record.create_run("run", "dir")) == nothing


def test_progress_in_the_middle(record, clock):
    history(record, convert=[10.0, 20.0, 1000.0], image=[40.0])
    run = Run(record)
    run.emit("run.planned", START_S, planned={"convert": [*TILES, OTHER], "image": [*TILES, OTHER]})
    run.start("convert", TILES[0], START_S)
    run.start("convert", TILES[1], START_S)
    run.end("convert", TILES[0], START_S + 12)
    run.start("image", TILES[0], START_S + 12)
    clock(START_S + 15)
    progress = run_progress(record, run.run_id)
    assert (progress["stage"], progress["done"], progress["total"]) == ("image", 1, 6)
    assert progress["seconds"] == 15
    # 12 s are done, one runs for 15 s, one has not begun; the median, of 12 s too, is 16 s
    convert = {"rule": "convert", "done": 1, "total": 3, "running": 1, "failed": 0}
    assert by_rule(progress)["convert"] == convert | {"seconds": 27, "expected_s": 12 + 16 + 16}
    image = {"rule": "image", "done": 0, "total": 3, "running": 1, "failed": 0}
    assert by_rule(progress)["image"] == image | {"seconds": 3, "expected_s": 120}
    # 134 s of work are left, at the two side by side that there were
    assert progress["expected_s"] == pytest.approx(15 + (44 - 27 + 120 - 3) / 2)


def test_a_job_that_takes_longer_than_ever_is_expected_to_end_now(record, clock):
    history(record, convert=[10.0])
    run = Run(record)
    run.emit("run.planned", START_S, planned={"convert": TILES[:1]})
    run.start("convert", TILES[0], START_S)
    clock(START_S + 50)
    progress = run_progress(record, run.run_id)
    assert progress["expected_s"] == progress["seconds"] == 50


def test_without_history_nothing_is_expected(record, clock):
    run = Run(record)
    run.emit("run.planned", START_S, planned={"convert": 2})
    run.start("convert", TILES[0], START_S)
    clock(START_S + 5)
    progress = run_progress(record, run.run_id)
    assert (progress["done"], progress["total"], progress["expected_s"]) == (0, 2, None)
    assert by_rule(progress)["convert"]["expected_s"] is None
    run.end("convert", TILES[0], START_S + 6)
    assert run_progress(record, run.run_id)["total"] == 2
    run.emit("run.planned", START_S + 7, planned={"convert": 1}, attempt=2)
    assert run_progress(record, run.run_id)["total"] == 2


def test_retries_are_not_jobs_of_their_own_and_later_attempts_go_on(record, clock):
    run = Run(record)
    run.emit("run.planned", START_S, planned={"convert": TILES})
    run.start("convert", TILES[0], START_S)
    run.end("convert", TILES[0], START_S + 5)
    run.start("convert", TILES[1], START_S)
    run.end("convert", TILES[1], START_S + 5, "job.error")
    clock(START_S + 6)
    assert by_rule(run_progress(record, run.run_id))["convert"]["failed"] == 1
    run.emit("run.planned", START_S + 7, planned={"convert": TILES[1:]}, attempt=2)
    run.start("convert", TILES[1], START_S + 8)
    clock(START_S + 9)
    stage = by_rule(run_progress(record, run.run_id))["convert"]
    assert [stage[key] for key in ("done", "total", "running", "failed")] == [1, 2, 1, 0]


def test_a_mosaic_counts_its_tiles_and_its_own_jobs_only(record, clock):
    run = Run(record)
    run.emit(
        "run.planned", START_S, group_ids=[GROUP],
        planned={"convert": [*TILES, OTHER], "make_mosaic": [GROUP], "all": [""]},
    )  # fmt: skip
    record.emit("group", run.run_id, group_id=GROUP, tiles=TILES)
    for item in (TILES[0], OTHER):
        run.start("convert", item, START_S + 10)
        run.end("convert", item, START_S + 20)
    clock(START_S + 30)
    progress = group_progress(record, GROUP)
    assert (progress["stage"], progress["done"], progress["total"]) == ("convert", 1, 3)
    assert progress["seconds"] == 20  # since its own first job
    assert run_progress(record, run.run_id)["total"] == 5


def test_a_run_that_has_ended_stands_still(record, clock):
    run = Run(record)
    run.start("convert", TILES[0], START_S)
    run.end("convert", TILES[0], START_S + 5)
    run.emit("run.state", START_S + 6, state=State.COMPLETE)
    clock(START_S + 1000)
    progress = run_progress(record, run.run_id)
    assert progress["seconds"] == progress["expected_s"] == 6
    assert by_rule(progress)["convert"]["expected_s"] == 5


def test_statistics_of_stages(record):
    history(record, convert=[float(n) for n in range(1, 101)])
    run = Run(record)
    for index in range(25):
        run.start("convert", f"bad{index}", START_S + 500)
        run.end("convert", f"bad{index}", START_S + 501, "job.error")
    (row,) = stage_statistics(record)
    assert row == {
        "rule": "convert", "count": 125, "p50_s": 50.5, "p95_s": 95.0, "success_rate": 0.8,
    }  # fmt: skip
    assert median_s(record, "convert") == 50.5
    (row,) = stage_statistics(record, since_s=START_S + 499)
    assert (row["count"], row["p50_s"], row["success_rate"]) == (25, None, 0.0)
    assert stage_statistics(record, since_s=START_S + 999) == []
