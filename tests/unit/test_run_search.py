"""Search in rule logs, run logs and events: found, filtered, incremental, and safe to type anything."""

import time
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dsaflow.errors import ConfigError
from dsaflow.runs import search
from dsaflow.runs.record import Record
from dsaflow.runs.search import index_logs, match_expression, search_logs
from dsaflow.runs.states import State

TILE = "20260120T051449"
TRACEBACK = """2026-01-20 05:17:23,250 INFO dsaflow: reading 16 files
2026-01-20 05:17:24,500 WARNING py.warnings: sb03 is short
2026-01-20 05:17:25,750 CRITICAL dsaflow: failed: [Errno 28] No space left on device
Traceback (most recent call last):
  File "convert.py", line 8, in <module>
OSError: [Errno 28] No space left on device
"""


class Site:
    def __init__(self, folder) -> None:
        paths = SimpleNamespace(results=str(folder / "results"))
        self.config = SimpleNamespace(paths=paths)
        self.results = folder / "results"
        self.record = Record(self.results / "runs", self.results / "runs" / "record.sqlite")
        self.run_id = self.record.create_run("run", folder, state=State.RUNNING)
        self.start_job()

    def start_job(self) -> None:
        self.record.emit(
            "job.started", self.run_id, jobid=1, rule="convert", wildcards={"tile": TILE},
            log_path=str(self.log),
        )  # fmt: skip

    @property
    def log(self):
        path = self.results / "logs" / "convert" / f"{TILE}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def index(self) -> int:
        return index_logs(self.record, self.config)

    def find(self, query: str, **more) -> list[str]:
        return [row["text"] for row in search_logs(self.record, query, **more)]


@pytest.fixture
def site(tmp_path):
    made = Site(tmp_path)
    yield made
    made.record.close()


def test_a_rule_log_is_found_by_word_with_its_traceback(site):
    site.log.write_text(TRACEBACK)
    site.index()
    (row,) = search_logs(site.record, "space device")
    assert row["text"].startswith("dsaflow: failed")
    assert row["text"].endswith("OSError: [Errno 28] No space left on device")
    assert (row["run_id"], row["rule"], row["item"]) == (site.run_id, "convert", TILE)
    assert (row["level"], row["source"]) == ("CRITICAL", str(site.log))
    assert (
        row["time_s"]
        == time.mktime(time.strptime("2026-01-20 05:17:25", "%Y-%m-%d %H:%M:%S")) + 0.75
    )


def test_filters_and_pages(site):
    site.log.write_text(TRACEBACK)
    site.index()
    texts = [text for text in site.find("", rule="convert") if not text.startswith("job.")]
    assert [text.split(":")[0] for text in texts] == ["dsaflow", "py.warnings", "dsaflow"]
    assert len(site.find("", level="WARNING", rule="convert")) == 2
    assert len(site.find("", level="CRITICAL", rule="convert")) == 1
    (short,) = search_logs(site.record, "short")
    assert site.find("sb03", since_s=short["time_s"], until_s=short["time_s"]) == [short["text"]]
    assert site.find("sb03", since_s=short["time_s"] + 1) == []
    assert site.find("sb03", until_s=short["time_s"] - 1) == []
    assert site.find("sb03", run_id="another") == site.find("sb03", rule="flag") == []
    assert site.find("", limit=1) + site.find("", limit=1, offset=1) == site.find("", limit=2)
    with pytest.raises(ConfigError, match="use one of DEBUG"):
        site.find("", level="LOUD")


def test_events_are_found_with_the_job_that_they_speak_of(site):
    site.record.emit("job.error", site.run_id, jobid=1, error_message="ValueError: odd channel")
    site.record.emit(
        "quarantine.seen", "", item="convert/x", stage="convert", reason_code="TRUNCATED_HDF5"
    )
    site.index()
    (row,) = search_logs(site.record, "odd channel")
    assert (row["rule"], row["item"], row["level"]) == ("convert", TILE, "ERROR")
    assert row["text"].startswith(f"job.error convert {TILE}")
    (row,) = search_logs(site.record, "TRUNCATED_HDF5")
    assert (row["level"], row["run_id"]) == ("WARNING", "")


def test_the_log_of_a_run_is_found_at_its_times(site):
    (site.record.folder / site.run_id / "run.log").write_text(
        "Building DAG\n[Tue Jan 20 05:17:23 2026]\nError in rule convert:\n    jobid: 1\n"
    )
    site.index()
    (row,) = search_logs(site.record, '"Error in rule"', level="ERROR")
    assert row["run_id"] == site.run_id
    assert row["time_s"] == time.mktime((2026, 1, 20, 5, 17, 23, 0, 0, -1))


def test_only_what_is_new_is_indexed_and_only_whole_lines(site):
    site.log.write_text(TRACEBACK)
    first = site.index()
    assert first >= 3
    assert site.index() == 0
    with site.log.open("a") as stream:
        stream.write("2026-01-20 05:17:26,000 INFO dsaflow: more to co")
    assert site.index() == 0
    with site.log.open("a") as stream:
        stream.write("me\n")
    assert site.index() == 1
    assert site.find('"more to come"') == ["dsaflow: more to come"]
    assert len(site.find("reading")) == 1


def test_a_log_written_anew_is_indexed_anew_and_the_old_one_stays(site):
    site.log.write_text(TRACEBACK)
    site.index()
    site.log.write_text(
        TRACEBACK.replace("05:17", "06:18").replace("No space left", "Nothing left")
    )
    assert site.index() == 3
    assert len(site.find("reading")) == 2
    assert len(site.find('"no space left"')) == len(site.find('"nothing left"')) == 1


def test_large_logs_go_in_chunk_by_chunk(site, monkeypatch):
    monkeypatch.setattr(search, "CHUNK_BYTES", 1000)
    lines = [f"2026-01-20 05:17:23,001 INFO dsaflow: step{n}\n" for n in range(200)]
    site.log.write_text(
        "".join(lines) + "2026-01-20 05:17:23,001 INFO dsaflow: " + "long" * 900 + "\n"
    )
    site.index()
    assert {len(site.find(f"step{n}")) for n in range(200)} == {1}
    assert site.index() == 0


def test_a_deleted_index_is_made_again(site):
    site.log.write_text(TRACEBACK)
    added = site.index()
    for path in site.record.database.parent.glob("record.sqlite*"):
        path.unlink()
    assert site.find("reading") == []
    assert site.index() == added


@pytest.mark.parametrize(
    ("query", "expression"),
    [
        ("disk full", '"disk" "full"'),
        ('"disk full" now', '"disk full" "now"'),
        ("trunc*", '"trunc"*'),
        ("a OR b", '"a" "OR" "b"'),
        ("rule:x NEAR(y)", '"rule:x" "NEAR(y)"'),
        ('un"closed', '"un" "closed"'),
        ("--", ""),
        ("", ""),
    ],
)
def test_words_are_words(query, expression):
    assert match_expression(query) == expression


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    made = Site(tmp_path_factory.mktemp("search"))
    made.log.write_text(TRACEBACK)
    made.index()
    yield made
    made.record.close()


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=30))
@example('") OR 1=1 --')
@example("^ {text source} : a + b")
@example("\0")
@example("*")
@example('"*')
@example('a*b* "c*"')
def test_nothing_that_is_typed_is_an_error(searched, query):
    assert len(search_logs(searched.record, query)) <= 50
