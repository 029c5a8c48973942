"""The record: what events change, and that the events alone give it back."""

import json
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsaflow.errors import EnvironmentProblem
from dsaflow.runs import database
from dsaflow.runs.events import append_event, make_event, read_events
from dsaflow.runs.record import Busy, Record
from dsaflow.runs.states import State

TABLES = {
    "runs": "run_id",
    "run_plans": "run_id",
    "jobs": "job_id",
    "mosaic_groups": "group_id",
    "products": "product_id",
    "quarantine": "item",
    "alerts": "alert_id",
    "stage_timings": "job_id",
    "reviews": "rowid",
    "sequence": "last",
}
GROUPS = ["3C286_20260120T051723_6aab7074", "3C138_20260121T051328_6aab7074"]
TILES = ["20260120T050940", "20260120T051449"]


def open_record(folder: Path) -> Record:
    return Record(folder / "runs", folder / "runs" / "record.sqlite")


@pytest.fixture
def record(tmp_path):
    made = open_record(tmp_path)
    yield made
    made.close()


def dump(record: Record) -> dict[str, list]:
    """Content of every table."""
    return {
        table: [tuple(row) for row in record.db.execute(f"SELECT * FROM {table} ORDER BY {key}")]
        for table, key in TABLES.items()
    }


def remove_sqlite(record: Record) -> None:
    for path in record.database.parent.glob("record.sqlite*"):
        path.unlink()


def start_job(record: Record, run_id: str, jobid: int, rule: str, item: str, attempt: int = 1):
    kind = "group_id" if item in GROUPS else "tile"
    record.emit(
        "job.started", run_id, jobid=jobid, rule=rule, wildcards={kind: item}, attempt=attempt
    )


# Random histories: rebuilding equals living


ITEMS = st.sampled_from([*TILES, *GROUPS])
# As in Snakemake, a number stands for one rule and item in one attempt.
JOBS = [("convert", TILES[0]), ("image_tile", TILES[1]), ("make_mosaic", GROUPS[0])]
MESSAGES = st.one_of(st.none(), st.text(max_size=8))
RUN = st.integers(0, 2)
JOB = st.fixed_dictionaries({"run": RUN, "jobid": st.integers(0, 2), "attempt": st.integers(1, 2)})
STEPS = st.one_of(
    st.tuples(st.just("create"), st.lists(st.sampled_from(GROUPS), max_size=2, unique=True)),
    st.tuples(st.just("state"), RUN, st.sampled_from(list(State)), MESSAGES),
    st.tuples(st.just("started"), JOB),
    st.tuples(st.just("finished"), JOB),
    st.tuples(st.just("error"), JOB, MESSAGES),
    st.tuples(st.just("slurm"), JOB, st.integers(1, 9999)),
    st.tuples(st.just("planned"), RUN, st.lists(ITEMS, max_size=3)),
    st.tuples(st.just("progress"), RUN, st.integers(0, 9)),
    st.tuples(st.just("updated"), RUN, st.integers(1, 3)),
    st.tuples(st.just("group"), st.sampled_from(GROUPS), st.integers(0, 10)),
    st.tuples(
        st.just("product"), st.sampled_from(GROUPS), st.sampled_from(["staged", "published"])
    ),
    st.tuples(st.just("seen"), ITEMS, st.text(max_size=5)),
    st.tuples(st.just("resolved"), ITEMS),
    st.tuples(st.just("alert"), st.text(max_size=5)),
    st.tuples(st.just("review"), st.text(max_size=5)),
)


class History:
    """Applies random steps through the record's own interface."""

    def __init__(self, record: Record) -> None:
        self.record, self.runs = record, []

    def step(self, name: str, *given) -> None:
        getattr(self, name)(*given)

    def run(self, index: int) -> str | None:
        return self.runs[index] if index < len(self.runs) else None

    def create(self, groups) -> None:
        self.runs.append(
            self.record.create_run("run", f"dir{len(self.runs) % 2}", group_ids=groups)
        )

    def state(self, index, state, message) -> None:
        if run_id := self.run(index):
            fields = {} if message is None else {"error_message": message}
            try:
                self.record.transition(run_id, state, **fields)
            except Busy:
                assert self.record.live_run(f"dir{index % 2}")["run_id"] != run_id

    def job(self, kind, job, **payload) -> None:
        if run_id := self.run(job["run"]):
            self.record.emit(kind, run_id, jobid=job["jobid"], attempt=job["attempt"], **payload)

    def started(self, job) -> None:
        rule, item = JOBS[job["jobid"]]
        wildcards = {"group_id" if item in GROUPS else "tile": item}
        self.job("job.started", job, rule=rule, wildcards=wildcards)

    def finished(self, job) -> None:
        self.job("job.finished", job)

    def error(self, job, message) -> None:
        self.job("job.error", job, error_message=message)

    def slurm(self, job, number) -> None:
        self.job("job.slurm", job, slurm_job_id=number)

    def planned(self, index, items) -> None:
        if run_id := self.run(index):
            groups = [item for item in items if item in GROUPS]
            planned = {"make_mosaic": groups, "convert": len(items)}
            self.record.emit("run.planned", run_id, planned=planned, group_ids=groups)

    def progress(self, index, done) -> None:
        if run_id := self.run(index):
            self.record.emit("run.progress", run_id, done=done, total=9)

    def updated(self, index, attempt) -> None:
        if run_id := self.run(index):
            self.record.emit("run.updated", run_id, attempt=attempt)

    def group(self, group_id, used) -> None:
        self.record.emit("group", "", group_id=group_id, tiles=TILES, tiles_used=used)

    def product(self, group_id, state) -> None:
        suffix = ".v1" if state == "published" else ""
        self.record.emit(
            "product", "", product_id=group_id + suffix, group_id=group_id, state=state, path="p"
        )

    def seen(self, item, detail) -> None:
        self.record.emit(
            "quarantine.seen", "", item=f"convert/{item}", stage="convert",
            reason_code="TRUNCATED_HDF5", detail=detail,
        )  # fmt: skip

    def resolved(self, item) -> None:
        self.record.emit("quarantine.state", "", item=f"convert/{item}", state="resolved")

    def alert(self, text) -> None:
        self.record.emit(
            "alert", "", alert_id=text, rule="disk_low", subject="disk", severity="warning",
            message=text, state="sent",
        )  # fmt: skip

    def review(self, text) -> None:
        self.record.emit("review", "", candidate_id="c", verdict="real", note=text)


@settings(max_examples=40, deadline=None)
@given(st.lists(STEPS, min_size=5, max_size=40))
def test_events_alone_give_the_record_back(tmp_path_factory, steps):
    record = open_record(tmp_path_factory.mktemp("record"))
    history = History(record)
    for name, *given_ in [("create", GROUPS[:1]), *steps]:
        history.step(name, *given_)
    before = dump(record)
    counts = record.remake()
    assert counts.pop("skipped", 0) == 0
    assert dump(record) == before
    remove_sqlite(record)
    assert dump(record) == before
    record.close()


# What events change


def test_retries_count_executions_less_one_and_keep_every_message(record):
    run_id = record.create_run("mosaic", "dir", group_ids=GROUPS[:1])
    record.emit("group", "", group_id=GROUPS[0], tiles=TILES)
    record.transition(run_id, State.INITIALIZING, attempt=1)
    for attempt in (1, 2):
        start_job(record, run_id, 7, "image_tile", TILES[0], attempt)
        record.emit("job.error", run_id, jobid=7, attempt=attempt, error_message=f"disk {attempt}")
        record.transition(
            run_id, State.PAUSED, error_message="disk", error_class="transient", next_retry_s=1e9
        )
        group = record.group(GROUPS[0])
        assert group["state"] == "PAUSED"
        assert group["error_message"] == f"image_tile {TILES[0]}: disk {attempt}"
        assert (group["error_class"], group["next_retry_s"]) == ("transient", 1e9)
        record.transition(run_id, State.INITIALIZING, attempt=attempt + 1)
    start_job(record, run_id, 3, "image_tile", TILES[0], 3)
    record.emit("job.finished", run_id, jobid=3, attempt=3)
    assert record.run(run_id)["retry_count"] == record.group(GROUPS[0])["retry_count"] == 2
    jobs = record.jobs_of(run_id)
    assert [job["execution"] for job in jobs] == [1, 2, 3]
    assert [job["error_message"] for job in jobs] == ["disk 1", "disk 2", None]


def test_a_mosaic_is_complete_when_its_own_jobs_are(record):
    run_id = record.create_run("run", "dir", group_ids=GROUPS)
    record.transition(run_id, State.INITIALIZING)
    record.transition(run_id, State.RUNNING)
    record.emit(
        "run.planned", run_id, planned={"make_mosaic": GROUPS, "publish_mosaic": GROUPS},
        group_ids=GROUPS,
    )  # fmt: skip
    for jobid, rule in enumerate(("make_mosaic", "publish_mosaic"), 1):
        assert record.group(GROUPS[0])["state"] == "RUNNING"
        start_job(record, run_id, jobid, rule, GROUPS[0])
        assert record.group(GROUPS[0])["stage"] == rule
        record.emit("job.finished", run_id, jobid=jobid)
    assert [record.group(g)["state"] for g in GROUPS] == ["COMPLETE", "RUNNING"]
    record.transition(run_id, State.EXECUTOR_ERROR, error_message="no tile")
    assert [record.group(g)["state"] for g in GROUPS] == ["COMPLETE", "EXECUTOR_ERROR"]
    assert [record.group(g)["error_message"] for g in GROUPS] == [None, "no tile"]
    record.transition(run_id, State.QUEUED)
    assert [record.group(g)["state"] for g in GROUPS] == ["QUEUED", "QUEUED"]


@pytest.mark.parametrize(
    ("end", "left"),
    [
        (State.COMPLETE, "COMPLETE"),
        (State.SYSTEM_ERROR, "SYSTEM_ERROR"),
        (State.CANCELED, "CANCELED"),
        (State.PAUSED, "SYSTEM_ERROR"),
    ],
)
def test_no_job_runs_when_its_run_has_ended(record, end, left):
    run_id = record.create_run("run", "dir", state=State.RUNNING)
    start_job(record, run_id, 1, "convert", TILES[0])
    if end is State.CANCELED:
        record.transition(run_id, State.CANCELING)
    assert record.transition(run_id, end)
    (job,) = record.jobs_of(run_id)
    assert job["state"] == left
    assert job["ended_s"] is not None


def test_a_rejected_input_seen_again_is_open_again(record):
    seen = {"item": "convert/x", "stage": "convert", "reason_code": "TRUNCATED_HDF5"}
    record.emit("quarantine.seen", "", **seen)
    record.emit("quarantine.state", "", item="convert/x", state="resolved", note="copied anew")
    record.emit("quarantine.seen", "", **seen)
    (row,) = record.select("SELECT * FROM quarantine")
    assert (row["state"], row["times_seen"], row["note"]) == ("open", 2, "copied anew")


def test_one_idempotency_key_one_run(record):
    record.create_run("run", "dir", idempotency_key="k")
    with pytest.raises(sqlite3.IntegrityError, match="idempotency_key"):
        record.create_run("run", "dir", idempotency_key="k")
    assert len(record.queued()) == 1
    assert len(list(record.folder.glob("*/events.jsonl"))) == 1  # the refused one left no event


def test_queue_is_by_priority_then_first_come(record):
    first, second = (record.create_run("run", "dir", priority=0) for _ in range(2))
    urgent = record.create_run("run", "dir", priority=10)
    assert [row["run_id"] for row in record.queued()] == [urgent, first, second]


# Files that are lost, torn or foreign


def test_events_that_go_on_after_sqlite_was_deleted_are_all_there(record, tmp_path):
    run_id = record.create_run("run", "dir", state=State.RUNNING)
    start_job(record, run_id, 1, "convert", TILES[0])
    other = open_record(tmp_path)
    assert other.run(run_id)["state"] == "RUNNING"
    remove_sqlite(record)
    record.emit("job.finished", run_id, jobid=1)
    assert [job["state"] for job in other.jobs_of(run_id)] == ["COMPLETE"]
    remove_sqlite(record)
    assert other.transition(run_id, State.COMPLETE, exit_code=0)
    assert record.run(run_id)["exit_code"] == 0
    other.close()


def test_events_written_without_sqlite_are_in_the_next_one(record):
    run_id = record.create_run("run", "dir", state=State.RUNNING)
    path = record.events_path(run_id)
    append_event(path, make_event("job.started", run_id, jobid=1, rule="convert", wildcards={}))
    append_event(path, make_event("job.finished", run_id, jobid=1))
    # a second live run, which SQLite would have refused
    twin = make_event("run.created", "twin", run_kind="snakemake", state="RUNNING", workdir=str(
        Path("dir").resolve()
    ))  # fmt: skip
    append_event(record.events_path("twin"), twin)
    record.remake()
    assert [job["state"] for job in record.jobs_of(run_id)] == ["COMPLETE"]
    assert record.run(run_id)["state"] == "RUNNING"
    assert record.run("twin")["state"] == "SYSTEM_ERROR"


def test_an_event_that_contradicts_is_counted_and_left_out(record):
    run_id = record.create_run("run", "dir")
    append_event(record.events_path("ghost"), make_event("job.started", "ghost", jobid=1, rule="r"))
    append_event(record.events_path(run_id), make_event("run.state", run_id, state="NO_STATE"))
    append_event(record.events_path(run_id), make_event("of.the.future", run_id, anything=1))
    counts = record.remake()
    assert counts["skipped"] == 2
    assert counts["of.the.future"] == 1
    assert record.run(run_id)["state"] == "QUEUED"


def test_a_torn_line_takes_no_other_with_it(tmp_path):
    path = tmp_path / "events.jsonl"
    append_event(path, make_event("a"))
    with path.open("ab") as stream:
        stream.write(b'{"kind": "b", "torn')
    append_event(path, make_event("c"))
    assert [event["kind"] for event in read_events(path)] == ["a", "c"]
    assert path.read_bytes().endswith(b"\n")


FILLING = """
import resource, sys
from pathlib import Path
from dsaflow.runs.record import Record

folder = Path(sys.argv[1])
record = Record(folder / "runs", folder / "runs" / "record.sqlite")
run_id = record.create_run("run", folder)
path = record.events_path(run_id)
size = path.stat().st_size
limit = resource.getrlimit(resource.RLIMIT_FSIZE)
# less than the event needs, more than nothing: the system writes its beginning
record.db  # SQLite's files have their size already
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, limit[1]))
try:
    record.emit("run.updated", run_id, error_message="x" * 200)
except Exception as error:
    print(type(error).__name__)
resource.setrlimit(resource.RLIMIT_FSIZE, limit)
assert path.stat().st_size == size
assert record.run(run_id)["error_message"] is None
record.emit("run.updated", run_id, error_message="after")
assert record.run(run_id)["error_message"] == "after"
record.remake()
assert record.run(run_id)["error_message"] == "after"
"""


def test_a_full_disk_takes_an_event_neither_half_nor_to_one_place_only(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", FILLING, tmp_path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "OSError"


def test_a_damaged_sqlite_file_is_told_and_made_anew(record, tmp_path):
    run_id = record.create_run("run", "dir")
    record.close()
    record.database.write_bytes(b"no SQLite at all" * 300)
    with pytest.raises(EnvironmentProblem, match="delete it"):
        record.run(run_id)
    record.remake()
    assert record.run(run_id)["state"] == "QUEUED"


def test_network_file_systems_are_refused(tmp_path, monkeypatch):
    database.refuse_network(tmp_path / "record.sqlite")
    for kind in ("nfs4", "lustre", "fuse.sshfs"):
        with pytest.raises(EnvironmentProblem, match=r"runs\.database"):
            database.refuse_network(tmp_path / "record.sqlite", kind)
    monkeypatch.setattr(database, "file_system", lambda path: "nfs4")
    with pytest.raises(EnvironmentProblem, match="network file system"):
        open_record(tmp_path).queued()


def test_file_system_is_that_of_the_nearest_mount():
    import psutil

    mounts = {part.mountpoint: part.fstype for part in psutil.disk_partitions(all=True)}
    assert database.file_system(Path("/proc/self/no/such")) == mounts["/proc"] == "proc"


def test_a_newer_schema_is_refused(record):
    record.create_run("run", "dir")
    record.db.execute("PRAGMA user_version = 99")
    record.close()
    with pytest.raises(EnvironmentProblem, match="schema 99"):
        record.queued()


def test_an_older_schema_is_brought_up_without_loss(tmp_path, monkeypatch):
    first = database.migrations()
    path = tmp_path / "record.sqlite"
    with database.connect(path) as connection:
        connection.execute("INSERT INTO reviews VALUES ('c', 'real', '', '', 1.0)")
    connection.close()
    added = "ALTER TABLE reviews ADD COLUMN seen TEXT NOT NULL DEFAULT 'no';\n"
    monkeypatch.setattr(database, "migrations", lambda: [*first, (len(first) + 1, added)])
    connection = database.connect(path)
    assert connection.execute("SELECT seen FROM reviews").fetchall()[0][0] == "no"
    assert connection.execute("PRAGMA user_version").fetchone()[0] == len(first) + 1
    connection.close()


def test_a_migration_that_fails_changes_nothing(tmp_path, monkeypatch):
    first = database.migrations()
    path = tmp_path / "record.sqlite"
    database.connect(path).close()
    broken = "CREATE TABLE extra (x);\nCREATE TABLE runs (twice);\n"
    monkeypatch.setattr(database, "migrations", lambda: [*first, (len(first) + 1, broken)])
    with pytest.raises(sqlite3.OperationalError, match="runs"):
        database.connect(path)
    monkeypatch.undo()
    connection = database.connect(path)
    tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
    assert "runs" in tables
    assert "extra" not in tables
    connection.close()


def test_events_are_strict_json_with_their_time(record):
    before = time.time()
    run_id = record.create_run("run", "dir", options={"value": float("nan")})
    (line,) = record.events_path(run_id).read_text().splitlines()
    event = json.loads(line, parse_constant=lambda name: pytest.fail(name))
    assert before <= event["time_s"] <= time.time()
    assert (event["kind"], event["run_id"], event["seq"]) == ("run.created", run_id, 1)
    assert record.run(run_id)["options"] == {"value": None}
