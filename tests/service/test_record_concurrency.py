"""Eight processes write one record at once; its SQLite file is deleted under them."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from dsaflow.runs.events import read_events
from dsaflow.runs.record import Record

PROCESSES = 8
ROUNDS = 40

WRITER = """
import sys, time
from pathlib import Path
from dsaflow.runs.record import Record
from dsaflow.runs.states import State

folder, number, rounds = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
record = Record(folder / "runs", folder / "runs" / "record.sqlite")
run_id = record.create_run("run", folder / number, run_id=f"run-{number}", state=State.RUNNING)
while not (folder / "go").exists():
    time.sleep(0.005)
for index in range(rounds):
    record.emit("job.started", run_id, jobid=index, rule="convert", wildcards={"tile": str(index)})
    record.emit("quarantine.seen", "", item="convert/all", stage="convert", reason_code="NO_DATA")
    assert len(record.jobs_of(run_id)) == index + 1
    record.emit("job.finished", run_id, jobid=index)
assert record.transition(run_id, State.COMPLETE, exit_code=0)
"""


class Writers:
    """Processes that write as soon as all of them are ready."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes = [
            subprocess.Popen(
                [sys.executable, "-W", "error", "-c", WRITER, folder, str(number), str(ROUNDS)],
                stderr=subprocess.PIPE, text=True,
            )
            for number in range(PROCESSES)
        ]  # fmt: skip

    def start(self) -> None:
        end = time.monotonic() + 60
        while len(list(self.folder.glob("runs/run-*/events.jsonl"))) < PROCESSES:
            assert time.monotonic() < end, "a writer did not come up"
            time.sleep(0.05)
        (self.folder / "go").touch()

    @property
    def running(self) -> bool:
        return any(process.poll() is None for process in self.processes)

    def outcome(self) -> list[str]:
        errors = [process.communicate(timeout=120)[1] for process in self.processes]
        return [error for process, error in zip(self.processes, errors, strict=True)
                if process.returncode != 0 or error]  # fmt: skip


@pytest.fixture
def writers(tmp_path):
    made = Writers(tmp_path)
    yield made
    for process in made.processes:
        process.kill()
        process.communicate()


def check_nothing_is_lost(folder: Path) -> None:
    record = Record(folder / "runs", folder / "runs" / "record.sqlite")
    for live in (True, False):
        states = [row["state"] for row in record.select("SELECT state FROM runs")]
        assert states == ["COMPLETE"] * PROCESSES
        jobs = record.select("SELECT state, count(*) AS n FROM jobs GROUP BY state")
        assert jobs == [{"state": "COMPLETE", "n": PROCESSES * ROUNDS}]
        (seen,) = record.select("SELECT times_seen FROM quarantine")
        assert seen["times_seen"] == PROCESSES * ROUNDS
        if live:
            assert "skipped" not in record.remake()
    files = [record.folder / "operations.jsonl", *record.folder.glob("*/events.jsonl")]
    numbers = [event["seq"] for path in files for event in read_events(path)]
    # one created, one ended, three a round, each with a number of its own
    assert sorted(numbers) == list(range(1, PROCESSES * (2 + 3 * ROUNDS) + 1))
    record.close()


def test_eight_writers_lose_nothing_and_are_never_locked_out(writers, tmp_path):
    writers.start()
    assert writers.outcome() == []
    check_nothing_is_lost(tmp_path)


def test_deleting_sqlite_again_and_again_under_eight_writers_loses_nothing(writers, tmp_path):
    writers.start()
    deleted = 0
    while writers.running and deleted < 20:
        for path in sorted((tmp_path / "runs").glob("record.sqlite*")):
            path.unlink(missing_ok=True)
        deleted += 1
        time.sleep(0.2)
    assert deleted > 2
    assert writers.outcome() == []
    check_nothing_is_lost(tmp_path)
