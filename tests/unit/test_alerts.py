"""Alerts: told once, to whoever can be reached, and never at the expense of a run."""

import json
import os
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pandas as pd
import pytest

from dsaflow.config import load_config
from dsaflow.errors import ConfigError
from dsaflow.runs import alerts, conditions
from dsaflow.runs.channels import deliver
from dsaflow.runs.processes import start_ticks
from dsaflow.runs.record import Record
from dsaflow.runs.states import State

GROUP = "3C138_20260121T051328_77bbbd90"


class Site:
    """A results folder with its record, and the lines that the file channel was given."""

    def __init__(self, folder):
        self.folder = folder
        self.lines_path = folder / "alerts.log"
        for name in ("results", "incoming"):
            (folder / name).mkdir()
        self.record = Record.open(self.config())

    def config(self, rules=None, **options):
        options = {"channels": [f"file://{self.lines_path}"], "timeout_s": 5.0, **options}
        if rules is not None:
            options["rules"] = rules
        paths = {key: str(self.folder / key) for key in ("incoming", "results", "published")}
        return load_config({"paths": paths, "alerts": options})

    def lines(self):
        return self.lines_path.read_text().splitlines() if self.lines_path.exists() else []

    def states(self):
        return [r["state"] for r in self.record.select("SELECT * FROM alerts ORDER BY time_s")]

    def failed_run(self, attempt=1, error_class="permanent", message="KeyError: 'x'"):
        run_id = self.record.create_run("mosaic", self.folder, group_ids=[GROUP])
        self.record.transition(run_id, State.INITIALIZING, attempt=attempt)
        self.record.transition(
            run_id, State.EXECUTOR_ERROR, error_class=error_class, error_message=message
        )
        return run_id


@pytest.fixture
def site(tmp_path):
    site = Site(tmp_path)
    yield site
    site.record.close()


@pytest.fixture
def server():
    """HTTP server that keeps what was posted and answers with `status` and `body`."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.server.posted.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.answer()

        def do_GET(self):
            self.answer()

        def answer(self):
            self.send_response(self.server.status)
            self.end_headers()
            self.wfile.write(self.server.body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.posted, server.status, server.body = [], 200, b"{}"
    server.url = f"127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_failed_run_is_told_once(site):
    run_id = site.failed_run()
    config = site.config()
    (event,) = alerts.after_run(site.record, config, run_id)
    assert (event["state"], event["rule"], event["severity"]) == ("sent", "run_failed", "failure")
    (line,) = site.lines()
    for part in (run_id, GROUP, "permanent", "KeyError: 'x'", "failure"):
        assert part in line
    # the second time is recorded, further ones are not: `check` looks every minute
    for _ in range(3):
        alerts.after_run(site.record, config, run_id)
    assert site.states() == ["sent", "deduplicated"]
    assert len(site.lines()) == 1
    assert len(list((site.folder / "results/runs" / run_id).glob("events.jsonl"))) == 1


def test_told_again_after_the_repeat_time(site):
    config = site.config(rules=[{"rule": "run_failed", "repeat_hours": 1e-5}])
    run_id = site.failed_run()
    alerts.after_run(site.record, config, run_id)
    time.sleep(0.1)
    alerts.after_run(site.record, config, run_id)
    assert site.states() == ["sent", "sent"]


def test_retry_limit_is_told_instead_of_the_failure(site):
    alerts.after_run(site.record, site.config(), site.failed_run(4, "transient", "OSError: [28]"))
    (line,) = site.lines()
    assert "retry_limit" in line
    assert "after 4 tries" in line
    only_failures = site.config(rules=[{"rule": "run_failed"}])
    alerts.after_run(site.record, only_failures, site.failed_run(4, "transient", "OSError"))
    assert "run_failed" in site.lines()[-1]


def test_good_and_cancelled_runs_are_not_told(site):
    run_id = site.record.create_run("run", site.folder)
    site.record.transition(run_id, State.CANCELED)
    other = site.record.create_run("run", site.folder)
    site.record.transition(other, State.INITIALIZING)
    site.record.transition(other, State.COMPLETE)
    for each in (run_id, other, "no-such-run"):
        assert alerts.after_run(site.record, site.config(), each) == []
    assert site.states() == []


def test_silenced_until_a_time(site):
    run_id = site.failed_run()
    config = site.config(silence_until="2999-01-01T00:00:00Z")
    for _ in range(2):
        alerts.after_run(site.record, config, run_id)
    assert site.states() == ["silenced"]
    assert site.lines() == []
    alerts.after_run(site.record, site.config(silence_until="2026-01-01"), run_id)
    assert site.states() == ["silenced", "sent"]
    with pytest.raises(ConfigError, match=r"silence_until: 'tomorrow' is no time"):
        site.config(silence_until="tomorrow")


@pytest.mark.parametrize("options", [{"dry_run": True}, {"channels": []}])
def test_dry_run_records_and_sends_nothing(site, options):
    alerts.after_run(site.record, site.config(**options), site.failed_run())
    assert site.states() == ["dry-run"]
    assert site.lines() == []


# A program of its own: the channel that hangs must not keep it from its end.
HARM = """
    import sys, time
    import warnings
    warnings.simplefilter("ignore")
    from apprise.decorators import notify
    from dsaflow.config import load_config
    from dsaflow.runs import alerts
    from dsaflow.runs.record import Record

    @notify(on="hangs")
    def hang(body, title, notify_type, meta, *args, **kwargs):
        time.sleep(3600)

    @notify(on="raises")
    def fail(body, title, notify_type, meta, *args, **kwargs):
        raise RuntimeError("no")

    config = load_config(sys.argv[1])
    record = Record.open(config)
    for _ in range(2):
        alerts.after_run(record, config, sys.argv[2])
    print([r["state"] for r in record.select("SELECT state FROM alerts ORDER BY time_s")])
    print(record.one("SELECT error FROM alerts ORDER BY time_s")["error"])
"""


@pytest.mark.parametrize("reachable", [True, False])
def test_channels_that_raise_or_hang_harm_nobody(site, tmp_path, reachable):
    channels = ["hangs://x", "raises://x", "nonsense://x"]
    if reachable:
        channels.append(f"file://{site.lines_path}")
    config = site.config(channels=channels, timeout_s=0.5)
    file = tmp_path / "config.yaml"
    file.write_text(config.model_dump_json())
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(HARM), str(file), site.failed_run()],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - started < 60
    states, errors = done.stdout.splitlines()
    assert states == ("['sent', 'deduplicated']" if reachable else "['failed']")
    assert "hangs://: no answer within 0.5 s" in errors
    assert "raises://: " in errors
    assert "nonsense://: " in errors
    assert len(site.lines()) == reachable


def test_a_channel_that_hangs_is_asked_once(monkeypatch):
    release, asked = threading.Event(), []

    class Channel:
        def notify(self, **_):
            asked.append(1)
            return release.wait(30)

        def url(self, privacy):
            return "hang://"

    monkeypatch.setattr("dsaflow.runs.channels._channel", lambda url: Channel())
    for _ in range(3):
        (delivery,) = deliver(["hang://once"], "t", "b", "info", 0.05)
        assert delivery.error
    assert "hangs since" in delivery.error
    release.set()
    assert asked == [1]


def test_webhook_gets_the_message_and_no_secret_is_recorded(site, server, monkeypatch):
    monkeypatch.setenv("ALERT_PASSWORD", "s3cret-word")
    url = f"json://observer:${{ALERT_PASSWORD}}@{server.url}/hook"
    alerts.after_run(site.record, site.config(channels=[url]), site.failed_run())
    (posted,) = server.posted
    assert "KeyError" in json.loads(posted)["message"]
    server.status = 500
    alerts.after_run(site.record, site.config(channels=[url]), site.failed_run())
    monkeypatch.delenv("ALERT_PASSWORD")
    alerts.after_run(site.record, site.config(channels=[url]), site.failed_run())
    rows = site.record.select("SELECT * FROM alerts ORDER BY time_s")
    assert [row["state"] for row in rows] == ["sent", "failed", "failed"]
    assert "error=500" in rows[1]["error"] or "500" in rows[1]["error"]
    assert "ALERT_PASSWORD" in rows[2]["error"]
    assert "s3cret-word" not in str(rows)


def test_failed_alert_is_tried_again_later(site, monkeypatch):
    run_id = site.failed_run()
    config = site.config(channels=[f"file://{site.folder}/absent/alerts.log"])
    for _ in range(2):
        alerts.after_run(site.record, config, run_id)
    assert site.states() == ["failed"]
    monkeypatch.setattr(alerts, "_AGAIN_S", 0.0)
    (site.folder / "absent").mkdir()
    alerts.after_run(site.record, config, run_id)
    assert site.states() == ["failed", "sent"]


def test_several_watchers_send_one(site):
    run_id = site.failed_run()
    config = site.config()

    def tell(_):
        record = Record.open(config)
        try:
            return alerts.after_run(record, config, run_id)
        finally:
            record.close()

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(tell, range(6)))
    assert len(site.lines()) == 1
    assert sorted(site.states()) == ["deduplicated", "sent"]


def write_publication(site, state, group_id=GROUP):
    folder = site.folder / "results/mosaics" / group_id
    folder.mkdir(parents=True, exist_ok=True)
    content = {"state": state, "group_id": group_id, "reason": "QA_REJECTED: noise = 3 outside"}
    content |= {"path": "", "checksums": {}}
    (folder / "publication.json").write_text(json.dumps(content))


def test_withheld_mosaic_is_told_with_its_gate(site):
    run_id = site.record.create_run("run", site.folder)
    site.record.transition(run_id, State.INITIALIZING)
    write_publication(site, "published", "3C138_20260120T051328_77bbbd90")
    write_publication(site, "withheld", "3C138_20260119T051328_77bbbd90")
    damaged = site.folder / "results/mosaics/3C138_20260119T051328_77bbbd90/publication.json"
    damaged.write_text("{")  # hides no other
    write_publication(site, "withheld")
    site.record.transition(run_id, State.COMPLETE)
    (event,) = alerts.after_run(site.record, site.config(), run_id)
    assert (event["rule"], event["subject"]) == ("qa_rejected", GROUP)
    assert "QA_REJECTED: noise = 3" in event["message"]
    rows = alerts.check(site.record, site.config(rules=[{"rule": "qa_rejected"}]))
    assert rows == []  # told


def write_candidates(site, significances):
    folder = site.folder / "results/variability/dec+16.1"
    folder.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(
        {
            "source_id": [f"S{i}" for i in range(len(significances))],
            "significance": significances,
            "depth": 0.4,
            "duration_days": 5.0,
            "mid_mjd": 61000.0,
        }
    ).to_parquet(folder / "ese_candidates.parquet")


def test_candidates_above_the_limit_until_they_are_reviewed(site):
    write_candidates(site, [12.5, 7.0])
    config = site.config(rules=[{"rule": "ese_candidate", "limit": 8.0, "repeat_hours": 1e-6}])
    (event,) = alerts.check(site.record, config)
    assert event["subject"] == "dec+16.1.S0"
    assert "significance 12.5" in event["message"]
    time.sleep(0.01)
    assert len(alerts.check(site.record, config)) == 1
    site.record.emit("review", candidate_id="dec+16.1.S0", verdict="false")
    time.sleep(0.01)
    assert alerts.check(site.record, config) == []
    time.sleep(0.01)
    write_candidates(site, [12.5, 9.0])  # a new table is read anew
    (event,) = alerts.check(site.record, config)
    assert event["subject"] == "dec+16.1.S1"


def arrive(site, name, age_s):
    path = site.folder / "incoming" / name
    path.write_bytes(b"x")
    os.utime(path, (time.time() - age_s,) * 2)


def test_no_data(site):
    config = site.config(rules=[{"rule": "no_data", "limit": 60.0}])
    (event,) = alerts.check(site.record, config)
    assert "no raw file in" in event["message"]
    arrive(site, "2026-01-25T22:26:05_sb00.hdf5", 7200)
    arrive(site, "2026-01-25T22:20:55_sb00.hdf5", 100)  # an old one, copied again
    assert alerts.check(site.record, config) == []
    arrive(site, "2026-01-25T22:20:55_sb00.hdf5", 7500)
    (event,) = alerts.check(site.record, config)
    assert "no raw file has arrived for 120 min" in event["message"]
    assert "22:26:05" in event["subject"]
    alerts.check(site.record, config)
    arrive(site, "2026-01-26T01:00:00_sb00.hdf5", 3700)
    (event,) = alerts.check(site.record, config)  # another pause is another alert
    assert event["state"] == "sent"
    assert "01:00:00" in event["subject"]


def test_disk_low_by_each_rule(site):
    rules = [
        {"rule": "disk_low", "limit": 1.0, "severity": "warning"},
        {"rule": "disk_low", "limit": 0.0, "severity": "failure"},
    ]
    (event,) = alerts.check(site.record, site.config(rules=rules))
    assert event["severity"] == "warning"
    assert event["subject"] == "paths.results below 1"
    assert "GiB) free" in event["message"]


def test_high_water_is_told_without_a_rule(site):
    config = site.config(rules=[])
    (event,) = alerts.high_water(site.record, config)
    assert event["severity"] == "failure"
    assert "clean.high_water = 0.9" in site.lines()[0]


def test_service_that_vanished_or_is_not_ready(site, server):
    config = site.config(rules=[{"rule": "service_unready", "severity": "failure"}])
    assert alerts.check(site.record, config) == []  # none was started
    file = site.record.folder / conditions.SERVICE_FILE
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    file.write_text(json.dumps({"pid": ended.pid, "start": 1.0, "url": f"http://{server.url}"}))
    (event,) = alerts.check(site.record, config)
    assert f"process {ended.pid}) is gone" in event["message"]

    service = {"pid": os.getppid(), "start": start_ticks(os.getppid())}
    service["url"] = f"http://{server.url}"
    file.write_text(json.dumps(service))
    assert alerts.check(site.record, config) == []
    server.status, server.body = 503, b'{"problems": ["database"]}'
    (event,) = alerts.check(site.record, config)
    assert "database" in event["message"]
    # the service's own report is the same alert
    (event,) = alerts.unready(site.record, config, ["database"])
    assert event["state"] == "deduplicated"


def test_check_tells_a_failure_that_its_supervisor_could_not(site):
    run_id = site.failed_run()
    config = site.config(rules=[{"rule": "run_failed"}])
    (event,) = alerts.check(site.record, config)
    assert event["subject"] == run_id
    assert alerts.check(site.record, config) == []
    assert site.states() == ["sent"]


def test_one_broken_file_hides_no_other_alert(site, caplog):
    write_candidates(site, [12.0])
    (site.folder / "results/variability/dec+16.1/ese_candidates.parquet").write_bytes(b"junk")
    run_id = site.failed_run()
    rules = [{"rule": "run_failed"}, {"rule": "ese_candidate", "limit": 8.0}]
    (event,) = alerts.check(site.record, site.config(rules=rules))
    assert event["subject"] == run_id
    assert "candidates" in caplog.text


def test_alerts_never_raise(site, tmp_path, caplog):
    (tmp_path / "file").write_text("")
    broken = Record(tmp_path / "file", tmp_path / "file" / "record.sqlite")
    assert alerts.after_run(broken, site.config(), "x") == []
    assert alerts.check(broken, site.config()) == []
    assert alerts.high_water(broken, site.config()) == []
    assert caplog.text.count("alerts: ") >= 3


def test_test_message_says_which_channel_failed(site):
    config = site.config(
        channels=[f"file://{site.lines_path}", "file://relative/path", f"file://{site.folder}"],
        silence_until="2999-01-01",
    )
    good, relative, folder = alerts.send_test(config)
    assert good.error == ""
    assert "absolute path" in relative.error
    assert "Is a directory" in folder.error
    assert "test of the alert channels" in site.lines()[0]
