"""Logs as server-sent events: whatever happens to the connection, every line comes once."""

import random
import threading
import time
from pathlib import Path

import httpx
import pytest

from dsaflow.api.errors import ApiError
from dsaflow.api.sse import CHUNK_BYTES, parse_offset, read_lines
from dsaflow.runs.states import State

DROPS = 50
LINES = 4000


@pytest.fixture(scope="module")
def events(helpers):
    return helpers.events


@pytest.fixture
def waiting(filled, tmp_path):
    """A queued run of another working directory: this service neither starts nor settles it."""
    run_id = filled.record.create_run("run", tmp_path, targets=["x"])
    yield run_id, Path(filled.record.run(run_id)["log_path"])
    filled.record.transition(run_id, State.CANCELED)


def texts() -> list[str]:
    random.seed(4)
    lines = [f"{n} " + "x" * random.choice((0, 3, 80, 3000)) for n in range(LINES)]
    return [
        *lines,
        "",
        "with a ü and a tab\t",
        "  indented",
        "data: like a field",
        ": and a comment",
    ]


def write_slowly(path: Path, lines: list[str], record, run_id: str) -> None:
    """Append in pieces that do not end where lines end, the last line unfinished; then end the run."""
    content = "\n".join(lines).encode()
    position = 0
    while position < len(content):
        size = random.choice((1, 50, 5000, 200_000))
        with open(path, "ab") as stream:
            stream.write(content[position : position + size])
        position += size
        time.sleep(0.01)
    record.transition(run_id, State.CANCELED)


def test_fifty_dropped_connections_lose_and_double_no_line(filled_service, filled, waiting, events):
    run_id, path = waiting
    lines = texts()
    writer = threading.Thread(target=write_slowly, args=(path, lines, filled.record, run_id))
    writer.start()
    got, last, drops = [], None, 0
    chance = random.Random(5)
    with filled_service.client(None) as client:
        while True:
            headers = {"Last-Event-ID": last} if last else {}
            stop = chance.randrange(1, 2 * LINES // DROPS) if drops < DROPS else 10**9
            with client.stream("GET", f"/api/runs/{run_id}/logs", headers=headers) as answer:
                assert answer.headers["content-type"].startswith("text/event-stream")
                for number, (name, kind, data) in enumerate(events(answer)):
                    last = name
                    if kind == "end":
                        break
                    got.append(data)
                    if number == stop:
                        break
                else:
                    pytest.fail("the stream ended without an end event")
            if kind == "end":
                break
            drops += 1
    writer.join()
    assert drops >= DROPS
    assert got == lines
    assert data == '{"state": "CANCELED"}'
    assert int(last) == path.stat().st_size


def test_stream_of_a_finished_run_is_drained_and_ends(api, filled, events):
    url = f"/api/runs/{filled.groups['run']}/logs"
    with api.stream("GET", url) as answer:
        whole = list(events(answer))
    assert [data for _, _, data in whole[:-1]] == ["first line", "second line"]
    assert whole[-1][1:] == ("end", '{"state": "COMPLETE"}')
    with api.stream("GET", url, headers={"Last-Event-ID": whole[0][0]}) as answer:
        assert list(events(answer)) == whole[1:]
    with api.stream("GET", url, headers={"Last-Event-ID": whole[-1][0]}) as answer:
        assert [kind for _, kind, _ in events(answer)] == ["end"]


def test_stream_of_a_mosaic_names_its_run(api, filled, events):
    run_id = filled.groups["run"]
    url = f"/api/mosaics/{filled.groups['published']}/logs"
    with api.stream("GET", url) as answer:
        whole = list(events(answer))
    assert whole[0][0] == f"{run_id}:11"
    # an id of an earlier run starts at the beginning of this one's log
    for last, skipped in ((whole[0][0], 1), ("11", 1), ("20200101T000000-01234567:11", 0)):
        with api.stream("GET", url, headers={"Last-Event-ID": last}) as answer:
            assert list(events(answer)) == whole[skipped:]


def test_stream_of_a_job_and_of_an_overwritten_log(api, filled, events):
    job = api.get("/api/jobs", params={"run_id": filled.groups["run"]}).json()["items"][0]
    with api.stream("GET", job["links"]["logs"]) as answer:
        assert next(events(answer))[2].endswith("coadding 3 tiles")
    log, again = filled.results / "logs/again.log", filled.groups["run"]
    log.write_text("second\n")
    for number in (7, 8):
        filled.record.emit(
            "job.started", again, jobid=number, rule="again", wildcards={}, log_path=str(log)
        )
        filled.record.emit("job.error", again, jobid=number, error_message="x")
    jobs = api.get("/api/jobs", params={"rule": "again"}).json()["items"]
    newest, first = jobs
    answer = api.get(first["links"]["logs"])
    assert (answer.status_code, answer.json()["code"]) == (410, "LOG_OVERWRITTEN")
    assert answer.json()["links"]["later"] == newest["links"]["logs"]
    with api.stream("GET", newest["links"]["logs"]) as stream:
        assert next(data for _, _, data in events(stream)) == "second"


def test_streams_of_nothing_and_bad_offsets(api, filled):
    assert api.get("/api/runs/20200101T000000-01234567/logs").status_code == 404
    for bad in ("x", "-1", "1.5", "9" * 30, "\u0661"):
        headers = {"Last-Event-ID": bad.encode()}
        answer = api.get(f"/api/runs/{filled.groups['run']}/logs", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (422, "INVALID")


def test_the_loop_answers_while_streams_are_open(filled_service, waiting, events):
    run_id, path = waiting
    path.parent.mkdir(exist_ok=True)
    path.write_text("one\n")
    with filled_service.client(None) as client, filled_service.client(None) as other:
        streams = [client.build_request("GET", f"/api/runs/{run_id}/logs") for _ in range(60)]
        limits = httpx.Limits(max_connections=100)
        with httpx.Client(base_url=filled_service.url, limits=limits, timeout=60) as many:
            opened = [many.send(request, stream=True) for request in streams]
            for answer in opened:
                assert next(events(answer))[2] == "one"
            assert other.get("/api/health").status_code == 200
            for answer in opened:
                answer.close()


def test_lines_end_only_at_line_feeds(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(b"10%\r20%\r100%\r\nnext\x0bstill\npart")
    lines, offset = read_lines(path, 0, False)
    assert [text for text, _ in lines] == ["10%\r20%\r100%", "next\x0bstill"]
    assert path.read_bytes()[offset:] == b"part"
    assert read_lines(path, offset, False) == ([], offset)
    assert read_lines(path, offset, True) == ([("part", offset + 4)], offset + 4)
    assert read_lines(path, 1000, False)[0] == lines  # begun anew


def test_a_line_longer_than_a_chunk_comes_in_parts(tmp_path):
    path = tmp_path / "log"
    content = b"a" * (2 * CHUNK_BYTES + 5) + b"\nb\n"
    path.write_bytes(content)
    offset, parts = 0, []
    while True:
        lines, offset = read_lines(path, offset, False)
        if not lines:
            break
        parts += [text for text, _ in lines]
    assert "".join(parts).encode() == content.replace(b"\n", b"")
    assert parts[-1] == "b"


def test_a_long_log_is_not_torn_between_chunks(tmp_path):
    path = tmp_path / "log"
    expected = [f"{n} " + "y" * 700 for n in range(1500)]
    path.write_text("\n".join(expected))
    offset, got = 0, []
    while True:
        lines, offset = read_lines(path, offset, True)
        if not lines:
            break
        got += [text for text, _ in lines]
    assert got == expected


@pytest.mark.parametrize(
    ("given", "log", "offset"),
    [
        (None, "", 0),
        ("", "", 0),
        ("12", "", 12),
        ("12", "r", 12),
        ("r:12", "r", 12),
        ("q:12", "r", 0),
    ],
)
def test_offsets(given, log, offset):
    assert parse_offset(given, log) == offset


def test_an_id_of_a_named_log_is_no_plain_offset():
    with pytest.raises(ApiError):
        parse_offset("r:x", "r")


def test_a_stop_does_not_wait_for_open_streams_and_all_was_quiet(filled_service, waiting, events):
    run_id, path = waiting
    path.parent.mkdir(exist_ok=True)
    path.write_text("one\n")
    with filled_service.client(None) as client:
        request = client.build_request("GET", f"/api/runs/{run_id}/logs")
        answer = client.send(request, stream=True)
        assert next(events(answer))[2] == "one"
        assert filled_service.stop() == 0
    assert "Traceback" not in filled_service.log
