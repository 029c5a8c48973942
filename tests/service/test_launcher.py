"""Launching real Snakemake runs of toy rules: tries, backoff, lasting failures, the queue."""

import time

import pytest

from dsaflow.runs import launch
from dsaflow.runs.states import State
from dsaflow.runs.supervision import Supervisor

PAUSED, STARTING, RUNNING = State.PAUSED, State.INITIALIZING, State.RUNNING


def test_a_run_that_fails_twice_for_a_transient_reason_is_tried_again(site):
    run_id = site.start("after_flaky")
    row = site.wait(run_id)
    assert row["state"] == State.COMPLETE, site.log(run_id)
    assert (site.results / "after.txt").read_text() == "done\ndone\n"
    assert row["attempt"] == 3
    assert row["retry_count"] == 2
    assert row["exit_code"] == 0
    assert site.states(run_id) == [
        STARTING, RUNNING, PAUSED, STARTING, RUNNING, PAUSED, STARTING, RUNNING, State.COMPLETE,
    ]  # fmt: skip

    # each failure keeps its own message, and the waits double
    pauses = [e for e in site.events(run_id, "run.state") if e["state"] == PAUSED]
    assert [e["error_class"] for e in pauses] == ["transient"] * 2
    for number, event in enumerate(pauses, 1):
        assert f"OSError: [Errno 5] Input/output error: 'disk {number}'" in event["error_message"]
        assert "flaky" in event["error_message"]
        assert event["exit_code"] == 1
        longest = 0.5 * 2 ** (number - 1)
        assert 0.8 * longest - 0.05 <= event["next_retry_s"] - event["time_s"] <= longest + 0.05
    starts = [e["time_s"] for e in site.events(run_id, "run.state") if e["state"] == STARTING]
    for event, start in zip(pauses, starts[1:], strict=True):
        assert start >= event["next_retry_s"]

    # resumption: what was complete was not made again
    executions = [job["rule"] for job in site.record.jobs_of(run_id)]
    assert executions.count("quick") == 1
    assert executions.count("flaky") == 3
    assert [site.row(run_id)["folder"]] == [str(site.record.folder / run_id)]
    codes = [(site.record.folder / run_id / f"attempt-{n}.exit").read_text() for n in (1, 2, 3)]
    assert codes == ["1\n", "1\n", "0\n"]


@pytest.mark.slow
def test_tries_end_at_their_limit(make_site):
    site = make_site(runs={"tries": 2, "backoff_base_s": 0.2, "backoff_cap_s": 0.2})
    row = site.wait(site.start("flaky"))
    assert row["state"] == State.SYSTEM_ERROR
    assert row["error_class"] == "transient"
    assert "disk 2" in row["error_message"]
    assert row["attempt"] == 2
    # an explicit retry has its own tries, and the third execution works
    assert launch.retry(site.record, site.config, row["run_id"])
    row = site.wait(row["run_id"])
    assert row["state"] == State.COMPLETE
    assert row["attempt"] == 3


def test_a_lasting_error_is_not_tried_again_and_stops_the_next_run_at_once(site):
    run_id = site.start("broken")
    row = site.wait(run_id)
    assert row["state"] == State.EXECUTOR_ERROR
    assert row["error_class"] == "permanent"
    assert "KeyError: 'no such column: flux_jy'" in row["error_message"]
    assert row["attempt"] == 1
    assert PAUSED not in site.states(run_id)
    executions = site.path / "executions"
    assert executions.read_text() == "x"

    # the same run again: stopped within a second, without Snakemake
    again = site.submit("broken")
    started = time.monotonic()
    assert site.dispatch() is None
    assert time.monotonic() - started < 1
    row = site.wait(again)  # the first run's supervisor may be the one that stops it
    assert row["state"] == State.EXECUTOR_ERROR
    assert "no such column" in row["error_message"]
    assert run_id in row["error_message"]
    assert row["attempt"] == 0
    # other targets are another run
    other = site.wait(site.start("quick"))
    assert other["state"] == State.COMPLETE

    # an explicit retry of it, and a forced one, do run
    assert launch.retry(site.record, site.config, again)
    assert site.wait(again)["attempt"] == 1
    assert executions.read_text() == "xx"
    forced = site.start("broken", force=True)
    assert site.wait(forced)["attempt"] == 1
    assert executions.read_text() == "xxx"


@pytest.mark.slow
def test_a_workflow_that_cannot_be_parsed_says_why(site):
    (site.path / "Snakefile").write_text("rule all:\n    input: nobody_knows\n")
    row = site.wait(site.start())
    assert row["state"] == State.EXECUTOR_ERROR
    assert "NameError" in row["error_message"]
    assert "nobody_knows" in row["error_message"]


@pytest.mark.slow
def test_larger_priority_first_then_first_come(site):
    low = site.submit("quick", priority=0)
    first, second = site.submit("quick"), site.submit("quick")
    assert [row["run_id"] for row in site.record.queued()] == [first, second, low]
    site.dispatch()
    # each supervisor starts the next one
    ends = [site.wait(run_id) for run_id in (first, second, low)]
    assert [row["state"] for row in ends] == [State.COMPLETE] * 3
    assert ends[0]["ended_s"] <= ends[1]["started_s"]
    assert ends[1]["ended_s"] <= ends[2]["started_s"]


def test_a_snakemake_that_cannot_be_started_is_tried_again(site, monkeypatch):
    def start(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dsaflow.runs.attempt.Attempt.start", start)
    run_id = site.submit("quick")
    (site.record.folder / run_id / "run.log").symlink_to("/dev/full")  # takes no line
    monkeypatch.setattr("dsaflow.runs.slurm.run_ids", lambda folder: [])  # nor ends when read
    site.record.transition(run_id, State.INITIALIZING)
    Supervisor(site.record, site.config, run_id)._start()
    row = site.row(run_id)
    assert (row["state"], row["error_class"]) == (State.PAUSED, "transient")
    assert "could not be started: [Errno 28]" in row["error_message"]


def test_a_full_queue_refuses_and_a_repeated_key_is_one_run(make_site):
    site = make_site(runs={"queue_limit": 2})
    first = site.submit("quick", idempotency_key="k1")
    site.submit("quick")
    assert site.submit("quick", idempotency_key="k1") == first
    with pytest.raises(launch.QueueFull, match="2 runs wait"):
        site.submit("quick")
    assert launch.cancel(site.record, site.config, first) is State.CANCELED
    site.submit("quick")


def test_nothing_starts_above_the_high_water_mark(make_site):
    site = make_site(clean={"high_water": 1e-9})
    run_id = site.submit("quick")
    assert site.dispatch() is None
    assert site.row(run_id)["state"] == State.QUEUED


def test_two_working_directories_run_at_the_same_time(make_site, tmp_path):
    first = make_site("one", results=tmp_path / "shared-results")
    second = make_site("two", results=tmp_path / "more-results")
    runs = [(s, s.start("waiting")) for s in (first, second)]
    for each, run_id in runs:
        each.writer("waiting.txt")
        assert each.row(run_id)["state"] == State.RUNNING
    for each, run_id in runs:
        (each.path / "go-waiting").touch()
        assert each.wait(run_id)["state"] == State.COMPLETE
