"""Commands of operation: alerts, cleaning, publishing and retracting, with real runs of toy rules."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dsaflow.cli import app
from dsaflow.cli.mosaic import Exit
from dsaflow.errors import ConfigError
from dsaflow.planning import make_plan

REPOSITORY = Path(__file__).resolve().parents[2]
GROUP = "3C138_20260110T055700_0123abcd"

PUBLISHING = """
rule publish_mosaic:
    output: f"{RESULTS}/mosaics/{{group_id}}/publication.json"
    log: f"{RESULTS}/logs/publish_mosaic/{{group_id}}.log"
    shell:
        "if [ -e broken ]; then echo 'KeyError: broken'; exit 1; fi; "
        "echo '{{\\"state\\": \\"withheld\\", \\"group_id\\": \\"{wildcards.group_id}\\", "
        "\\"path\\": \\"\\", \\"reason\\": \\"QA_REJECTED: noise\\", \\"checksums\\": {{}}}}' > {output}"
"""


@pytest.fixture
def call(monkeypatch):
    def run(site, *words, code=0, parse=False):
        monkeypatch.chdir(site.path)
        words = [*words, "--profile", "profiles/toy", *(["--json"] if parse else [])]
        done = CliRunner().invoke(app, words)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == code, done.output
        return json.loads(done.stdout) if parse else done.output

    return run


def test_alerts_are_listed_and_channels_tried(make_site, call, tmp_path):
    file = tmp_path / "alerts.log"
    site = make_site(alerts={"channels": [f"file://{file}"]})
    assert call(site, "alerts", "test", parse=True) == [{"channel": f"file://{file}", "error": ""}]
    assert "test of the alert channels" in file.read_text()

    # the supervisor of a run that fails for good tells it
    run_id = site.start("broken")
    site.wait(run_id)
    deadline = time.monotonic() + 60
    while not (rows := call(site, "alerts", "list", parse=True)):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    (row,) = rows
    assert (row["rule"], row["subject"], row["state"]) == ("run_failed", run_id, "sent")
    assert "no such column: flux_jy" in row["message"]
    assert run_id in file.read_text()
    assert run_id in call(site, "alerts", "list")

    other = make_site("other", alerts={"channels": ["file:///nonexistent/folder/x"]})
    assert "No such file" in call(other, "alerts", "test", code=1)
    none = make_site("none")
    assert "nobody would be told" in call(none, "alerts", "test", code=1)


HANG = """
import time
from apprise.decorators import notify

@notify(on="hang")
def hang(body, title, notify_type, meta, *args, **kwargs):
    time.sleep(3600)

@notify(on="fail")
def fail(body, title, notify_type, meta, *args, **kwargs):
    raise RuntimeError("refused")
"""


def test_a_run_ends_and_the_next_one_starts_whatever_channels_do(make_site, monkeypatch, tmp_path):
    """A plugin that hangs is loaded into every process that is started, the supervisors too."""
    place = tmp_path / "plugins"
    place.mkdir()
    (place / "sitecustomize.py").write_text(
        "import warnings\nwarnings.simplefilter('ignore')\n" + HANG
    )
    monkeypatch.setenv("PYTHONPATH", str(place))
    site = make_site(
        alerts={"channels": ["hang://x", "fail://x"], "timeout_s": 1.0},
        runs={"tries": 1},
    )
    failing = site.submit("broken")
    following = site.submit("quick")
    site.dispatch()
    assert site.wait(failing)["state"] == "EXECUTOR_ERROR"
    assert site.wait(following)["state"] == "COMPLETE"
    deadline = time.monotonic() + 60
    while not (rows := site.record.select("SELECT * FROM alerts")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert [row["state"] for row in rows] == ["failed"]
    assert "hang://: no answer within 1 s" in rows[0]["error"]


@pytest.fixture
def night(make_site, raw_tiles, tmp_path):
    """Three raw tiles, and rules that withhold their mosaic."""
    folders = {name: str(tmp_path / "site" / name) for name in ("incoming", "results", "published")}
    tables = {name: str(REPOSITORY / f"config/{name}.csv") for name in ("antennas", "calibrators")}
    site = make_site(paths=folders | tables, plan={"mosaic_tiles": 3})
    with open(site.path / "Snakefile", "a") as file:
        file.write(PUBLISHING)
    raw = raw_tiles(site.path / "incoming")
    for number in (-1, 0, 1):
        raw.write(number)
    (mosaic,) = make_plan(site.config).mosaics
    return site, mosaic.group_id


def test_publish_says_what_came_of_it(night, call):
    site, group_id = night
    with pytest.raises(ConfigError, match="no mosaic"):
        call(site, "publish", GROUP)
    (site.path / "broken").touch()
    assert "EXECUTOR_ERROR" in call(site, "publish", group_id, code=Exit.RUN_FAILED)
    (site.path / "broken").unlink()
    (site.record.folder / "failed").rename(site.path / "markers")  # as after a change of code
    told = call(site, "publish", group_id, code=Exit.WITHHELD)
    assert f"{group_id} is withheld: QA_REJECTED: noise" in told


def test_retraction_is_recorded_and_publishing_says_so(night, call):
    site, group_id = night
    with pytest.raises(ConfigError, match="nothing published as"):
        call(site, "retract", group_id, "--reason", "wrong beam")
    version = site.path / "published" / "dec+16.1" / group_id / "v1"
    version.mkdir(parents=True)
    (version / "manifest.json").write_text('{"checksums": {}, "version": 1, "content": "x"}')
    told = call(site, "retract", group_id, "--reason", "wrong beam", parse=True)
    assert (told["state"], told["versions"]) == ("retracted", [1])
    told = call(site, "publish", group_id, code=Exit.WITHHELD)
    assert f"{group_id} is retracted: wrong beam; remove its retracted.json" in told


def test_one_look(night, call):
    site, _ = night
    assert call(site, "watch", "--once").startswith("run ")
    (run,) = site.record.select("SELECT * FROM runs")
    assert run["kind"] == "watch"
    site.wait(run["run_id"])
    assert call(site, "watch", "--once").startswith("nothing")


def test_clean_shows_before_it_removes(night, call):
    site, _ = night
    leftover = site.results / "tiles" / "20260110T055400" / "image.tmp-0123456789ab.fits"
    leftover.parent.mkdir(parents=True)
    leftover.write_bytes(bytes(1000))
    os.utime(leftover, (time.time() - 10 * 86400,) * 2)
    shown = call(site, "clean", parse=True)
    assert [item["path"] for item in shown["items"]] == [str(leftover)]
    assert shown["removed"] is False
    assert "nothing was removed" in call(site, "clean")
    assert leftover.exists()
    assert "1 items" in call(site, "clean", "--yes")
    assert not leftover.exists()


def test_clean_refuses_beside_a_run(night):
    site, _ = night
    run_id = site.start("waiting")
    site.until_state(run_id, "RUNNING")
    done = subprocess.run(
        [Path(sys.executable).with_name("dsaflow"), "clean", "--yes", "--profile", "profiles/toy"],
        cwd=site.path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "a run is live here" in done.stderr
    assert "Traceback" not in done.stderr
