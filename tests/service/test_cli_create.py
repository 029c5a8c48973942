"""Exit codes of the command that makes a mosaic, each reached by what it stands for."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from typer.testing import CliRunner

from dsaflow.cli import app
from dsaflow.cli.mosaic import Exit
from dsaflow.names import product
from dsaflow.planning.requests import read_requests
from dsaflow.publish import publish_mosaic, retract
from dsaflow.runs import launch, mosaics
from dsaflow.runs.states import FINISHED, State
from dsaflow.verdict import Verdict

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPT = REPOSITORY / "scripts" / "create_mosaic_centered.py"

# Withheld, as the real rule would write it, once the test lets it end.
PUBLICATION = """
rule publish_mosaic:
    output: f"{RESULTS}/mosaics/{{group_id}}/publication.json"
    log: f"{RESULTS}/logs/publish_mosaic/{{group_id}}.log"
    shell: "until [ -e go-on ]; do sleep 0.1; done; cp withheld.json {output}"
"""
WITHHELD = {
    "state": "withheld", "reason": "QA_REJECTED: noise = 9 outside [1, 2]", "group_id": "",
    "path": "", "version": 0, "checksums": {},
}  # fmt: skip


@pytest.fixture
def place(make_site, raw_tiles):
    """Toy site with five tiles about a transit of 3C138."""
    site = make_site(plan={"mosaic_tiles": 3}, runs={"queue_limit": 1, "interrupt_s": 2.0})
    shutil.copy(REPOSITORY / "config/calibrators.csv", site.path / "config/calibrators.csv")
    writer = raw_tiles(site.path / "incoming")
    for number in range(-2, 3):
        writer.write(number, subbands=(0, 15))
    (site.path / "withheld.json").write_text(json.dumps(WITHHELD))
    return site


@pytest.fixture
def create(place, monkeypatch):
    monkeypatch.chdir(place.path)

    def call(*words, calibrator="3C138"):
        named = ("--profile", "profiles/toy", "--poll-interval", "0.2", "--no-photometry")
        done = CliRunner().invoke(
            app, ["mosaic", "create", "--calibrator", calibrator, *named, *words]
        )
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return Exit(done.exit_code), done.stdout + done.stderr

    return call


def resolve(place, **options):
    return mosaics.resolve(place.config, calibrator="3C138", **options)


def publish(place, group_id):
    results, published = str(place.results), place.config.paths.published
    image = product("mosaic_image", results, group_id=group_id)
    judged = product("mosaic_qa", results, group_id=group_id)
    Verdict().write(judged)
    header = fits.Header({"STRIP": "dec+16.1"})
    fits.PrimaryHDU(np.ones((8, 8), np.float32), header).writeto(image)
    out = product("publication", results, group_id=group_id)
    return publish_mosaic({"image": image}, judged, group_id, place.config, published, out)


def test_what_needs_no_run(place, create):
    code, text = create(calibrator="3C48")
    assert code is Exit.NO_TRANSIT
    assert "out of the beam's reach" in text
    code, text = create("--timespan-minutes", "10")
    assert code is Exit.TOO_FEW_TILES
    assert "2, at least 3 needed" in text

    code, text = create("--dry-run")
    assert code is Exit.PUBLISHED
    group_id = resolve(place).group_id
    assert f"{group_id}: 3 of 3 tiles of dec+16.1" in text
    assert "-5.2" in text
    code, text = create("--dry-run", "--timespan-minutes", "36")
    assert "5 of 7 tiles" in text
    assert text.count("missing") == 2
    code, text = create("--transit", "list")
    assert code is Exit.PUBLISHED
    assert group_id in text

    publication = publish(place, group_id)
    image = Path(publication["path"]) / "mosaic.fits"
    assert create() == (Exit.PUBLISHED, create("--dry-run")[1] + f"Published mosaic: {image}\n")
    image.chmod(0o644)
    content = image.read_bytes()
    image.write_bytes(content[:-1] + b"x")
    code, text = create()
    assert code is Exit.DAMAGED
    assert "mosaic.fits has changed" in text
    assert "Published" not in text
    image.write_bytes(content)
    retract(group_id, "wrong beam", place.config.paths.published)
    code, text = create()
    assert code is Exit.WITHHELD
    assert "wrong beam" in text
    assert place.record.select("SELECT * FROM runs") == []
    assert read_requests(place.config) == []


def test_a_run_that_fails_is_told_with_its_error(place, create):
    # the toy rules cannot make a mosaic
    code, text = create()
    assert code is Exit.RUN_FAILED
    assert "MissingRuleException" in text
    # the same again is stopped at once, until it is forced
    code, text = create()
    assert code is Exit.RUN_FAILED
    assert "failed of this with the same targets" in text
    with open(place.path / "Snakefile", "a") as file:
        file.write(PUBLICATION)
    (place.path / "go-on").touch()
    code, text = create("--force")
    assert code is Exit.WITHHELD
    assert "QA_REJECTED: noise = 9 outside [1, 2]" in text


def test_waiting_in_vain_and_being_cancelled(place, create):
    with open(place.path / "Snakefile", "a") as file:
        file.write(PUBLICATION)
    first, second = resolve(place).group_id, resolve(place, timespan_minutes=25).group_id
    brief = ("--max-wait-hours", "0.0003")
    code, text = create(*brief)
    assert code is Exit.TIMED_OUT
    run = mosaics.live_run(place.record, first)
    assert f"run {run['run_id']} goes on" in text

    code, text = create("--timespan-minutes", "25", *brief)
    assert code is Exit.BUSY
    assert f"queued: behind run {run['run_id']}" in text
    waiting = mosaics.live_run(place.record, second)
    assert waiting["state"] == State.QUEUED
    code, text = create("--timespan-minutes", "20", *brief)
    assert code is Exit.BUSY
    assert "runs wait already" in text
    assert len(read_requests(place.config)) == 1

    # who asks for a mosaic that is being made waits for that run, and hears of its end
    words = ("--calibrator", "3C138", "--profile", "profiles/toy", "--poll-interval", "0.2")
    script = subprocess.Popen(
        [sys.executable, str(SCRIPT), *words, "--no-photometry"], cwd=place.path,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    lines = iter(script.stdout.readline, "")
    assert any(line == f"run {run['run_id']}\n" for line in lines)
    launch.cancel(place.record, place.config, run["run_id"])
    output, errors = script.communicate(timeout=120)
    assert script.returncode == Exit.CANCELED, output + errors
    assert f"run {run['run_id']} was canceled" in errors
    assert place.row(run["run_id"])["state"] == State.CANCELED

    # the one behind it is made now, and what was asked for without waiting as well
    (place.path / "go-on").touch()
    code, text = create("--no-wait")
    assert code is Exit.PUBLISHED
    assert place.wait(waiting["run_id"])["state"] == State.COMPLETE
    third = place.record.select("SELECT * FROM runs ORDER BY created_s")[-1]
    assert f"Run {third['run_id']}" in text
    row = launch.wait(place.record, place.config, third["run_id"], poll_s=0.2, timeout_s=120)
    assert row["state"] in FINISHED
    assert mosaics.outcome(place.config, first)["state"] == "withheld"


def test_a_request_can_be_forgotten(place, create):
    mosaic = resolve(place, timespan_minutes=25)
    mosaics.create(place.record, place.config, mosaic, profile="profiles/toy", workdir=place.path)
    assert len(read_requests(place.config)) == 1
    for code in (0, 1):
        done = CliRunner().invoke(app, ["mosaic", "forget", mosaic.group_id])
        assert done.exit_code == code, done.output
    assert "was not asked for" in str(done.exception)
    assert read_requests(place.config) == []


def test_codes_are_distinct_and_documented():
    assert len({int(code) for code in Exit}) == len(Exit)
    text = (REPOSITORY / "docs" / "create-mosaic.md").read_text()
    for code in Exit:
        assert f"| {int(code)} |" in text
