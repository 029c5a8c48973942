"""Commands that read: on the record of real (toy) runs, and on products as the workflow writes them."""

import json
import sys
import threading
from pathlib import Path
from socket import gethostname

import numpy as np
import pytest
from astropy.io import fits
from typer.testing import CliRunner

from dsaflow.cli import app
from dsaflow.errors import (
    ConfigError,
    DataRejected,
    DsaflowError,
    EnvironmentProblem,
    ReasonCode,
)
from dsaflow.names import product
from dsaflow.publish import publish_mosaic, retract
from dsaflow.runs.scan import sync
from dsaflow.runs.states import State
from dsaflow.verdict import Gate, Verdict

REPOSITORY = Path(__file__).resolve().parents[2]
GROUP = "3C138_20260110T055700_0123abcd"
TILE = "20260110T055400"


@pytest.fixture
def call(monkeypatch):
    """Call the command in a folder; returns what it printed, or the JSON of it."""

    def run(site, *words, code=0, parse=False):
        monkeypatch.chdir(site.path)
        done = CliRunner().invoke(app, [*words, *(["--json"] if parse else [])])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == code, done.output
        return json.loads(done.stdout) if parse else done.stdout

    return run


@pytest.fixture
def busy(site):
    """Site after a run that worked and one that failed for good; one for elsewhere is queued."""
    done = site.start("quick")
    site.wait(done)
    failed = site.start("broken")
    site.wait(failed)
    queued = site.record.create_run("run", site.path / "elsewhere", targets=["flaky"])
    return site, done, failed, queued


def test_what_is_recorded(busy, call):
    check_lists(busy, call)
    check_status_of_a_run(busy, call)
    check_logs(busy, call)


def check_lists(busy, call):
    site, done, failed, queued = busy
    overall = call(site, "status", parse=True)
    assert overall["runs"] == {"COMPLETE": 1, "EXECUTOR_ERROR": 1, "QUEUED": 1}
    assert [r["run_id"] for r in overall["finished"]] == [failed, done]
    assert [r["run_id"] for r in overall["queued"]] == [queued]
    assert 0 < overall["disk_used"] < 1
    text = call(site, "status")
    assert done in text
    assert "no such column: flux_jy" in text

    runs = call(site, "runs", parse=True)
    assert [r["run_id"] for r in runs] == [queued, failed, done]
    assert call(site, "runs", "--state", "complete", parse=True) == [runs[2]]
    assert call(site, "runs", "--limit", "1", parse=True) == [runs[0]]
    assert call(site, "runs", "--kind", "batch", parse=True) == []

    jobs = call(site, "jobs", parse=True)
    assert [(j["rule"], j["state"]) for j in jobs] == [
        ("broken", "EXECUTOR_ERROR"),
        ("quick", "COMPLETE"),
    ]
    assert call(site, "jobs", "--run", done, parse=True) == [jobs[1]]
    assert call(site, "jobs", "--rule", "broken", "--state", "executor_error", parse=True) == [
        jobs[0]
    ]
    assert jobs[0]["job_id"] in call(site, "jobs")


def check_status_of_a_run(busy, call):
    site, _, failed, _ = busy
    content = call(site, "status", failed, parse=True)
    assert content["run"]["error_class"] == "permanent"
    assert [j["rule"] for j in content["failed_jobs"]] == ["broken"]
    text = call(site, "status", failed)
    assert "permanent error: " in text
    assert "Failed jobs" in text
    with pytest.raises(ConfigError, match="neither a run nor a mosaic"):
        call(site, "status", "20200101T000000-00000000")


def check_logs(busy, call):
    site, done, failed, queued = busy
    text = call(site, "logs", done)
    assert text.splitlines() == site.log(done).splitlines()
    last = call(site, "logs", done, "--tail", "2", parse=True)
    assert last["lines"] == site.log(done).splitlines()[-2:]
    (job,) = site.record.jobs_of(failed)
    (site.path / job["log_path"]).write_text("one\ntwo\n")
    assert call(site, "logs", job["job_id"], parse=True)["lines"] == ["one", "two"]
    with pytest.raises(Exception, match="no log at"):
        call(site, "logs", queued)
    with pytest.raises(ConfigError, match="neither a run, a mosaic nor a job"):
        call(site, "logs", "nothing")


def test_a_run_whose_processes_are_gone_is_named(site, call):
    gone = {"supervisor_pid": 2**22 - 1, "supervisor_start": "1", "host": gethostname()}
    run_id = site.record.create_run("run", site.path, state=State.RUNNING, **gone)
    (found,) = call(site, "status", parse=True)["orphaned"]
    assert found["run_id"] == run_id
    assert f"{run_id} {found['condition']}" in call(site, "status")
    assert "`dsaflow recover`" in call(site, "status")


def test_logs_are_followed_to_their_end(site, call):
    run_id = site.start("waiting")
    site.writer("waiting.txt")
    threading.Timer(1.5, (site.path / "go-waiting").touch).start()
    text = call(site, "logs", run_id, "--follow")
    assert text.splitlines() == site.log(run_id).splitlines()
    assert "1 of 1 steps (100%) done" in text
    lines = [json.loads(x)["line"] for x in call(site, "logs", run_id, "-f", "--json").splitlines()]
    assert lines == site.log(run_id).splitlines()


def write_products(site):
    """A published mosaic of which one tile was rejected, as the stages write them."""
    results, published = str(site.results), site.config.paths.published
    error = DataRejected(ReasonCode.TRUNCATED_HDF5, "sb03 is cut short")
    Verdict.rejected(error).write(product("convert_verdict", results, tile=TILE))
    gates = [Gate.measure("noise", 1.2, 0.7, 3.0)]
    Verdict(gates=gates).write(product("mosaic_qa", results, group_id=GROUP))
    Verdict("warn", detail="few sources").write(
        product("photometry_verdict", results, group_id=GROUP)
    )
    Verdict().write(product("variability_verdict", results, strip="dec+16.1"))
    Verdict(numbers={"n_tiles": 2, "n_used": 1}).write(
        product("mosaic_verdict", results, group_id=GROUP)
    )
    images = {}
    for key in ("image", "noise"):
        images[key] = product(f"mosaic_{key}", results, group_id=GROUP)
        header = fits.Header({"STRIP": "dec+16.1"})
        fits.PrimaryHDU(np.ones((8, 8), np.float32), header).writeto(images[key])
    judged = product("mosaic_qa", results, group_id=GROUP)
    out = product("publication", results, group_id=GROUP)
    return publish_mosaic(images, judged, GROUP, site.config, published, out)


def test_qa_is_one_report_over_all_stages(site, call):
    write_products(site)
    content = call(site, "qa", parse=True)
    counts = {c["stage"]: (c["pass"], c["warn"], c["reject"]) for c in content["stages"]}
    assert counts["convert"] == (0, 0, 1)
    assert counts["mosaic_qa"] == counts["variability"] == (1, 0, 0)
    assert counts["photometry"] == (0, 1, 0)
    assert counts["tile"] == (0, 0, 0)
    told = [(v["stage"], v["item"], v["verdict"], v["reason_code"]) for v in content["verdicts"]]
    assert told == [
        ("convert", TILE, "reject", "TRUNCATED_HDF5"),
        ("photometry", GROUP, "warn", None),
    ]
    text = call(site, "qa")
    assert "1 TRUNCATED_HDF5" in text
    assert "sb03 is cut short" in text

    everything = call(site, "qa", "--all", parse=True)["verdicts"]
    assert len(everything) == 5
    (judged,) = call(site, "qa", "--all", "--stage", "mosaic_qa", parse=True)["verdicts"]
    assert judged["gates"][0]["name"] == "noise"
    after = call(site, "qa", "--all", "--start", "2026-01-10T05:55:00", parse=True)["verdicts"]
    assert {v["item"] for v in after} == {GROUP}
    before = call(site, "qa", "--all", "--end", "2026-01-10T05:55:00", parse=True)["verdicts"]
    assert [v["item"] for v in before] == [TILE]
    with pytest.raises(ConfigError, match="no stage 'imaging'"):
        call(site, "qa", "--stage", "imaging")


def test_published_versions_and_their_checksums(site, call):
    folder = Path(write_products(site)["path"])
    (row,) = call(site, "published", "--check", parse=True)
    assert (row["group_id"], row["version"], row["state"]) == (GROUP, 1, "published")
    assert row["intact"] == "yes"
    (folder / "noise.fits").unlink()
    assert "noise.fits is missing" in call(site, "published", "--check", code=1)
    assert call(site, "published", parse=True)[0]["path"] == str(folder)
    retract(GROUP, "wrong beam", site.config.paths.published)
    (row,) = call(site, "published", parse=True)
    assert (row["state"], row["reason"]) == ("retracted", "wrong beam")


def test_status_of_a_mosaic(site, call):
    write_products(site)
    sync(site.record, site.config)
    content = call(site, "status", GROUP, parse=True)
    assert content["mosaic"]["outcome"] == "published"
    assert content["files"]["state"] == "published"
    assert content["run"] is None
    assert "published" in call(site, "status", GROUP)
    assert GROUP in call(site, "status")
    with pytest.raises(Exception, match=r"no run of .* is recorded"):
        call(site, "logs", GROUP)


def test_quarantine_and_database(site, call):
    write_products(site)
    rebuilt = call(site, "db", "rebuild", parse=True)
    assert rebuilt["quarantine"] == 1
    (row,) = call(site, "quarantine", "list", parse=True)
    assert (row["item"], row["reason_code"]) == (f"convert/{TILE}", "TRUNCATED_HDF5")
    assert call(site, "quarantine", "show", row["item"], parse=True) == row
    again = ("--profile", "profiles/toy")
    run_id = call(site, "quarantine", "retry", row["item"], *again, parse=True)["run_id"]
    assert not Path(row["path"]).exists()
    assert call(site, "quarantine", "show", row["item"], parse=True)["state"] == "retrying"
    assert row["path"] in call(site, "status", run_id, parse=True)["run"]["targets"]
    site.wait(run_id)
    with pytest.raises(DsaflowError, match="nothing rejected as convert/nothing"):
        call(site, "quarantine", "show", "convert/nothing")
    done = call(site, "quarantine", "resolve", row["item"], "--note", "disk was full", parse=True)
    assert (done["state"], done["note"]) == ("resolved", "disk was full")
    assert call(site, "quarantine", "list", "--state", "open", parse=True) == []
    assert "TRUNCATED_HDF5" in call(site, "quarantine", "list")

    database = Path(call(site, "db", "path", parse=True)["path"])
    assert database == site.results / "runs" / "record.sqlite"
    checked = call(site, "db", "check", parse=True)
    assert checked["problems"] == []
    assert checked["rows"]["quarantine"] == 1
    with open(database, "r+b") as file:
        file.truncate(5000)
    site.record.close()
    assert "malformed" in call(site, "db", "check", code=1)
    call(site, "db", "rebuild")
    assert call(site, "db", "check", parse=True)["rows"] == checked["rows"]
    assert call(site, "quarantine", "list", parse=True)[0]["note"] == "disk was full"


def test_transits_and_plan(make_site, call, raw_tiles):
    calibrators = str(REPOSITORY / "config" / "calibrators.csv")
    site = make_site()
    config = (site.path / "config/config.yaml").read_text()
    (site.path / "mine.yaml").write_text(
        f"paths: {{calibrators: {calibrators}}}\nplan: {{mosaic_tiles: 3}}\n"
    )
    assert "mosaic_tiles" not in config
    writer = raw_tiles(site.path / "incoming")
    for number in range(-1, 2):
        writer.write(number, subbands=(0, 15))
    with_mine = ("--configfile", "mine.yaml")
    rows = call(site, "transits", "--calibrator", "3C138", *with_mine, parse=True)
    assert [r["status"] for r in rows] == ["ready", "coming"]
    assert rows[0]["group_id"] in call(site, "transits", *with_mine)
    plan = call(site, "plan", *with_mine, parse=True)
    assert [m["group_id"] for m in plan["mosaics"]] == [rows[0]["group_id"]]
    listed = call(
        site,
        "batch",
        "create",
        "image",
        "--start",
        "2026-01-01",
        "--dry-run",
        *with_mine,
        parse=True,
    )
    assert len(listed) == 3
    assert all(Path(t).name == "image.json" for t in listed)


def test_a_batch_is_waited_for_and_listed(site, call, raw_tiles):
    writer = raw_tiles(site.path / "incoming")
    writer.write(0, subbands=(0, 15))
    (site.path / "mine.yaml").write_text(
        f"paths: {{calibrators: {REPOSITORY}/config/calibrators.csv}}\n"
    )
    words = ("batch", "create", "convert", "--tile", writer.tile(0), "--configfile", "mine.yaml")
    profile = ("--profile", "profiles/toy")
    # the toy rules cannot make it: the run fails, and the command says so
    run = call(site, *words, *profile, "--wait", code=1, parse=True)
    assert run["state"] == "EXECUTOR_ERROR"
    assert "MissingRuleException" in run["error_message"]
    (row,) = call(site, "batch", "list", parse=True)
    assert (row["run_id"], row["options"]["stage"]) == (run["run_id"], "convert")
    assert "convert" in call(site, "batch", "list")


def test_a_wrong_place_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for words in (["status"], ["runs"], ["quarantine", "list"]):
        done = CliRunner().invoke(app, words)
        assert isinstance(done.exception, EnvironmentProblem), done.output
        assert "no folder results" in str(done.exception)
    done = CliRunner().invoke(app, ["status", "--profile", "nowhere"])
    assert "there is no file nowhere/config.yaml" in str(done.exception)


def test_errors_are_one_line_and_exit_code_two(tmp_path, monkeypatch, capfd):
    from dsaflow.cli import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["dsaflow", "status"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert capfd.readouterr().err.startswith("error: no folder results")


@pytest.mark.parametrize(
    ("profile", "files", "expected"),
    [
        (None, [], "base"),
        ("profiles/one", [], "one"),
        ("profiles/two", [], "second"),
        ("profiles/one", ["mine.yaml"], "mine"),
    ],
)
def test_configuration_is_what_snakemake_would_take(
    tmp_path, monkeypatch, profile, files, expected
):
    from dsaflow.cli.common import load_setup

    monkeypatch.chdir(tmp_path)
    for name in ("config", "profiles/one", "profiles/two", "profiles/bad"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("config/config", "one", "first", "second", "mine"):
        told = Path(name).name.replace("config", "base")
        (tmp_path / f"{name}.yaml").write_text(f"paths: {{results: {told}}}\n")
    (tmp_path / "profiles/one/config.yaml").write_text("configfile: one.yaml\n")
    (tmp_path / "profiles/two/config.yaml").write_text("configfile: [first.yaml, second.yaml]\n")
    (tmp_path / "profiles/bad/config.yaml").write_text("config: [paths=x]\n")
    setup = load_setup([Path(f) for f in files], profile)
    assert setup.config.paths.results == expected
    assert setup.profile == (profile or "profiles/workstation")
    assert setup.configfiles == files
    with pytest.raises(ConfigError, match="'config' in a profile is not supported"):
        load_setup(None, "profiles/bad")
