"""Asking for a mosaic: one run however many ask, none where it is published, none if retracted."""

import threading
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from dsaflow.config import Config
from dsaflow.fileio import DamagedFile, write_json
from dsaflow.names import product
from dsaflow.planning.requests import read_requests, withdraw_request
from dsaflow.publish import PublicationError, publish_mosaic, retract
from dsaflow.runs import launch, mosaics
from dsaflow.runs.record import Record
from dsaflow.runs.states import State
from dsaflow.verdict import Gate, Verdict

REPOSITORY = Path(__file__).resolve().parents[2]


class Site:
    """A folder in which a run might start, with a night of five tiles; nothing is started here."""

    def __init__(self, path, raw_tiles):
        self.path = path
        self.config = config = Config()
        config.paths.results = str(path / "results")
        config.paths.incoming = str(path / "incoming")
        config.paths.published = str(path / "published")
        config.paths.calibrators = str(REPOSITORY / "config" / "calibrators.csv")
        config.plan.mosaic_tiles = 3
        writer = raw_tiles(Path(config.paths.incoming))
        for number in range(-2, 3):
            writer.write(number, subbands=(0, 15))
        (path / "Snakefile").write_text("")
        (path / "profile").mkdir()
        (path / "profile" / "config.yaml").write_text("cores: 1\n")
        self.record = Record.open(config)

    def resolve(self, **options):
        return mosaics.resolve(self.config, calibrator="3C138", **options)

    def create(self, mosaic, **options):
        return mosaics.create(
            self.record, self.config, mosaic, profile="profile", workdir=self.path, **options
        )

    def runs(self):
        return self.record.select("SELECT * FROM runs")

    def judge(self, group_id, verdict, photometry=True):
        """Write what a run would have made: images, the verdict of the gates, the publication."""
        results = self.config.paths.results
        images = {}
        for key in ("image", "noise", "weight"):
            path = Path(product(f"mosaic_{key}", results, group_id=group_id))
            path.parent.mkdir(parents=True, exist_ok=True)
            header = fits.Header({"STRIP": "dec+16.1"})
            fits.PrimaryHDU(np.ones((8, 8), np.float32), header).writeto(path, overwrite=True)
            images[key] = str(path)
        judged = product("mosaic_qa", results, group_id=group_id)
        verdict.write(judged)
        out = product("publication", results, group_id=group_id)
        published = self.config.paths.published
        publish_mosaic(images, judged, group_id, self.config, published, out)
        if photometry:
            write_json(product("photometry_verdict", results, group_id=group_id), {})


@pytest.fixture
def site(tmp_path, raw_tiles):
    site = Site(tmp_path, raw_tiles)
    yield site
    site.record.close()


def test_twenty_who_ask_at_once_get_one_run(site):
    mosaic = site.resolve(timespan_minutes=25)
    assert not mosaic.planned
    created = []

    def ask():
        created.append(site.create(mosaic))
        site.record.close()

    threads = [threading.Thread(target=ask) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(c.status for c in created) == {"queued": 1, "live": 19}
    assert len({c.run_id for c in created}) == 1
    (run,) = site.runs()
    assert run["group_ids"] == [mosaic.group_id]
    assert run["targets"] == mosaics.targets(site.config, mosaic.group_id)
    assert [Path(t).name for t in run["targets"]] == ["publication.json", f"{mosaic.group_id}.json"]
    assert len(read_requests(site.config)) == 1
    # so that the run's own plan has it
    assert site.resolve(timespan_minutes=25).planned


def test_the_record_says_what_was_asked_for(site):
    mosaic = site.resolve()
    site.create(mosaic, photometry=False, requested_by="me")
    (run,) = site.runs()
    assert [Path(t).name for t in run["targets"]] == ["publication.json"]
    group = site.record.group(mosaic.group_id)
    assert group["run_id"] == run["run_id"]
    assert (group["calibrator"], group["strip"], group["state"]) == ("3C138", "dec+16.1", "QUEUED")
    assert group["tiles"] == mosaic.tiles
    assert group["start_mjd"] < mosaic.mid_mjd == group["transit_mjd"] < group["end_mjd"]
    # the plan's own mosaic needs no request to be kept
    assert read_requests(site.config) == []


def test_a_published_mosaic_is_found_and_no_run_made(site):
    mosaic = site.resolve()
    site.judge(mosaic.group_id, Verdict())
    created = site.create(mosaic)
    assert (created.status, created.run_id) == ("published", None)
    assert created.publication["version"] == 1
    assert (Path(created.publication["path"]) / "mosaic.fits").exists()
    assert site.runs() == []


def test_photometry_that_is_not_there_yet_is_made(site):
    mosaic = site.resolve()
    site.judge(mosaic.group_id, Verdict(), photometry=False)
    assert site.create(mosaic, photometry=False).status == "published"
    assert site.create(mosaic).status == "queued"


def test_a_damaged_publication_is_not_taken_for_published(site):
    mosaic = site.resolve()
    site.judge(mosaic.group_id, Verdict())
    folder = Path(mosaics.published(site.config, mosaic.group_id)["path"])
    (folder / "noise.fits").unlink()
    for look in (
        lambda: mosaics.published(site.config, mosaic.group_id),
        lambda: mosaics.outcome(site.config, mosaic.group_id),
        lambda: site.create(mosaic),
    ):
        with pytest.raises(PublicationError, match=r"noise\.fits is missing"):
            look()
    assert site.runs() == []


@pytest.mark.parametrize("content", ["{}", "[]", '{"state": "published"}'])
def test_a_publication_without_its_fields_is_told_as_damaged(site, content):
    mosaic = site.resolve()
    site.judge(mosaic.group_id, Verdict())
    path = Path(product("publication", site.config.paths.results, group_id=mosaic.group_id))
    path.write_text(content)
    for look in (mosaics.published, mosaics.outcome):
        with pytest.raises(DamagedFile, match=r"publication\.json is damaged, it lacks"):
            look(site.config, mosaic.group_id)


def test_a_rejected_mosaic_is_tried_again_and_its_gates_are_told(site):
    mosaic = site.resolve()
    gates = [Gate.measure("noise", 9.0, 1.0, 2.0, "mJy"), Gate.measure("offset", 0.1, high=1.0)]
    site.judge(mosaic.group_id, Verdict(gates=gates).apply_gates("QA_REJECTED"))
    assert mosaics.published(site.config, mosaic.group_id) is None
    result = mosaics.outcome(site.config, mosaic.group_id)
    assert result["state"] == "withheld"
    assert result["reason"].startswith("QA_REJECTED: noise = 9 mJy outside [1, 2]")
    assert [g["name"] for g in result["gates"]] == ["noise"]
    assert site.create(mosaic).status == "queued"


def test_a_retracted_mosaic_is_not_made_again(site):
    mosaic = site.resolve()
    site.judge(mosaic.group_id, Verdict())
    retract(mosaic.group_id, "wrong flux scale", site.config.paths.published)
    with pytest.raises(mosaics.Retracted, match="wrong flux scale"):
        site.create(mosaic)
    assert site.runs() == []
    assert mosaics.published(site.config, mosaic.group_id) is None
    assert mosaics.outcome(site.config, mosaic.group_id)["state"] == "retracted"


def test_a_run_that_has_ended_does_not_stand_in_the_way(site):
    mosaic = site.resolve()
    first = site.create(mosaic)
    assert site.create(mosaic) == mosaics.Created(mosaic.group_id, first.run_id, "live")
    assert site.record.transition(first.run_id, State.CANCELED)
    second = site.create(mosaic)
    assert second.status == "queued"
    assert second.run_id != first.run_id


def test_a_batch_that_makes_the_mosaic_counts_as_its_run(site):
    mosaic = site.resolve()
    from dsaflow.runs import batch

    run_id = batch.create(
        site.record, site.config, "publish", group_ids=[mosaic.group_id], profile="profile",
        workdir=site.path,
    )  # fmt: skip
    assert site.create(mosaic) == mosaics.Created(mosaic.group_id, run_id, "live")


def test_a_full_queue_refuses(site):
    site.config.runs.queue_limit = 1
    site.create(site.resolve())
    with pytest.raises(launch.QueueFull):
        site.create(site.resolve(timespan_minutes=25))
    assert len(site.runs()) == 1
    assert read_requests(site.config) == []  # nothing that a later run would make unasked


def test_a_request_can_be_forgotten(site):
    wide, middle = site.resolve(timespan_minutes=25), site.resolve()
    site.create(wide)
    assert not withdraw_request(site.config, middle.group_id)
    assert withdraw_request(site.config, wide.group_id)
    assert not site.resolve(timespan_minutes=25).planned
    assert site.resolve().planned
