"""What the products say comes into the record, once, and again only when it changes."""

import os

import numpy as np
import pytest

from dsaflow.config import load_config
from dsaflow.errors import DataRejected, ReasonCode
from dsaflow.names import product
from dsaflow.planning import Plan, PlannedMosaic, PlannedTile, Skipped
from dsaflow.publish import publish_mosaic, retract
from dsaflow.runs import scan
from dsaflow.runs.events import read_events
from dsaflow.runs.rebuild import rebuild
from dsaflow.runs.record import Record
from dsaflow.runs.states import State
from dsaflow.verdict import Verdict

TILES = ["20260120T051449", "20260120T051959"]
GROUP = "3C138_20260120T051723_6aab7074"
STRIP = "dec+16.1"


def planned_tile(tile: str, start_mjd: float) -> PlannedTile:
    return PlannedTile(
        tile=tile, strip=STRIP, night=1, start_mjd=start_mjd, mid_mjd=start_mjd + 0.25,
        declination_deg=16.1, ra_deg=80.0, dec_deg=16.1, files=[], n_subbands=16, n_channels=16,
        status="admitted", reason="",
    )  # fmt: skip


class Site:
    """A results folder with two tiles and one mosaic of them."""

    def __init__(self, folder) -> None:
        paths = {"results": str(folder / "results"), "published": str(folder / "published")}
        self.config = load_config({"paths": paths})
        self.record = Record.open(self.config)
        self.plan = Plan(
            tiles=[planned_tile(TILES[0], 100.0), planned_tile(TILES[1], 100.5)],
            mosaics=[
                PlannedMosaic(
                    GROUP, "centred", "3C138", 80.0, 16.1, 100.4, STRIP, 1, list(TILES)
                )
            ],
        )  # fmt: skip
        self.plan.write(self.path("plan"))

    def path(self, key: str, **wildcards: str) -> str:
        path = product(key, self.config.paths.results, **wildcards)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return path

    def judge(self, key: str, verdict: Verdict, age_s: float = 0.0, **wildcards: str) -> None:
        path = self.path(key, **wildcards)
        verdict.write(path)
        if age_s:
            then = os.stat(path).st_mtime + age_s
            os.utime(path, (then, then))

    def make_mosaic(self, seed: int = 0) -> None:
        from astropy.io import fits

        image = np.random.default_rng(seed).normal(size=(40, 60)).astype("f4")
        path = self.path("mosaic_image", group_id=GROUP)
        fits.writeto(path, image, fits.Header({"CRVAL2": 16.1}), overwrite=True)
        self.judge(
            "mosaic_verdict", Verdict(numbers={"tiles_used": 1, "tiles_offered": 2}), group_id=GROUP
        )

    def publish(self, verdict: Verdict) -> None:
        self.judge("mosaic_qa", verdict, group_id=GROUP)
        publish_mosaic(
            {"image": self.path("mosaic_image", group_id=GROUP)},
            self.path("mosaic_qa", group_id=GROUP),
            GROUP, self.config, self.config.paths.published,
            self.path("publication", group_id=GROUP), STRIP,
        )  # fmt: skip

    def sync(self, **more) -> int:
        """Read the products; the number of events that this gave."""
        before = self.record.one("SELECT last FROM sequence")["last"]
        scan.sync(self.record, self.config, **more)
        return self.record.one("SELECT last FROM sequence")["last"] - before

    def rows(self, table: str) -> list[dict]:
        return self.record.select(f"SELECT * FROM {table} ORDER BY 1")


@pytest.fixture
def site(tmp_path):
    made = Site(tmp_path)
    yield made
    made.record.close()


def rejected(code: ReasonCode, detail: str) -> Verdict:
    return Verdict.rejected(DataRejected(code, detail))


def test_an_empty_folder_says_nothing(site):
    assert site.sync() == 0


def test_a_mosaic_on_its_way_to_publication_and_retraction(site):
    site.make_mosaic()
    assert site.sync() == 1  # nobody is known to work on it: the file, not the mosaic
    assert [row["state"] for row in site.rows("products")] == ["staged"]

    site.publish(Verdict())
    assert site.sync() == 2
    (group,) = site.rows("mosaic_groups")
    assert (group["state"], group["outcome"]) == ("COMPLETE", "published")
    assert (group["calibrator"], group["strip"], group["tiles"]) == ("3C138", STRIP, TILES)
    assert (group["start_mjd"], group["transit_mjd"], group["end_mjd"]) == (100.0, 100.4, 101.0)
    assert (group["tiles_used"], group["tiles_rejected"]) == (1, 1)
    (row,) = site.rows("products")
    assert (row["product_id"], row["state"], row["version"]) == (f"{GROUP}.v1", "published", 1)
    assert row["path"] == group["published_path"]
    assert len(row["checksum"]) == 64
    assert site.sync() == 0

    site.make_mosaic(seed=1)
    site.publish(Verdict())
    site.sync()
    assert [row["product_id"] for row in site.rows("products")] == [f"{GROUP}.v1", f"{GROUP}.v2"]

    retract(GROUP, "wrong beam", site.config.paths.published)
    assert site.sync(group_ids=[GROUP]) == 3
    assert {(row["state"], row["reason"]) for row in site.rows("products")} == {
        ("retracted", "wrong beam")
    }
    assert site.rows("mosaic_groups")[0]["outcome"] == "retracted"
    assert site.sync() == 0


def test_a_withheld_mosaic_says_which_gate(site):
    site.make_mosaic()
    site.publish(rejected(ReasonCode.QA_REJECTED, "noise_over_thermal = 9"))
    site.sync()
    (group,) = site.rows("mosaic_groups")
    assert (group["outcome"], group["error_class"]) == ("withheld", "permanent")
    assert group["error_message"] == "QA_REJECTED: noise_over_thermal = 9"
    (row,) = site.rows("products")
    assert (row["product_id"], row["state"]) == (GROUP, "withheld")
    assert [row["item"] for row in site.rows("quarantine")] == [f"mosaic_qa/{GROUP}"]


def test_first_causes_are_quarantined_and_consequences_are_not(site):
    truncated = rejected(ReasonCode.TRUNCATED_HDF5, "sb03 has 16 bytes")
    site.judge("convert_verdict", truncated, tile=TILES[0])
    consequence = rejected(ReasonCode.UPSTREAM_REJECTED, "TRUNCATED_HDF5: sb03 has 16 bytes")
    site.judge("flag_verdict", consequence, tile=TILES[0])
    site.judge("convert_verdict", Verdict(), tile=TILES[1])
    assert site.sync() == 1
    (row,) = site.rows("quarantine")
    assert (row["item"], row["stage"]) == (f"convert/{TILES[0]}", "convert")
    assert (row["reason_code"], row["detail"]) == ("TRUNCATED_HDF5", "sb03 has 16 bytes")
    assert (row["state"], row["times_seen"]) == ("open", 1)
    assert row["path"] == site.path("convert_verdict", tile=TILES[0])


def test_resolved_by_a_person_until_it_is_rejected_anew(site):
    truncated = rejected(ReasonCode.TRUNCATED_HDF5, "short")
    site.judge("convert_verdict", truncated, tile=TILES[0])
    site.sync()
    item = f"convert/{TILES[0]}"
    site.record.emit("quarantine.state", "", item=item, state="resolved", note="cable")
    site.record.scanned.clear()  # as another process sees it
    assert site.sync() == 0
    site.judge("convert_verdict", truncated, tile=TILES[0], age_s=60.0)
    assert site.sync() == 1
    (row,) = site.rows("quarantine")
    assert (row["state"], row["times_seen"]) == ("open", 2)


def test_what_passes_at_last_is_resolved(site):
    site.judge("convert_verdict", rejected(ReasonCode.TRUNCATED_HDF5, "short"), tile=TILES[0])
    site.sync()
    site.judge("convert_verdict", Verdict(), tile=TILES[0], age_s=60.0)
    assert site.sync() == 1
    assert site.rows("quarantine")[0]["state"] == "resolved"


def test_what_planning_leaves_out_is_quarantined_but_not_what_it_waits_for(site):
    site.plan.skipped += [
        Skipped("incoming/2026-01-20T05:14:49_sb03.hdf5", "TRUNCATED_HDF5: 16 bytes"),
        Skipped(GROUP, "waiting for 20260120T051959"),
        Skipped(GROUP, "TOO_FEW_TILES: 1, at least 2 needed"),
        Skipped("notes.hdf5", "not named as the correlator's files are"),
    ]
    site.plan.write(site.path("plan"))
    assert site.sync() == 1
    (row,) = site.rows("quarantine")
    assert row["item"] == "plan/2026-01-20T05:14:49_sb03.hdf5"
    assert row["path"] == "incoming/2026-01-20T05:14:49_sb03.hdf5"
    assert site.sync() == 0


def test_of_a_run_only_what_its_jobs_wrote_is_read(site):
    site.judge("convert_verdict", rejected(ReasonCode.NO_DATA, "empty"), tile=TILES[0])
    site.judge("convert_verdict", rejected(ReasonCode.NO_DATA, "empty"), tile=TILES[1])
    site.make_mosaic()
    run_id = site.record.create_run("run", "dir", state=State.RUNNING)
    outputs = [site.path("convert_verdict", tile=TILES[1])]
    site.record.emit("job.started", run_id, jobid=1, rule="convert", wildcards={}, outputs=outputs)
    outputs = [
        site.path("mosaic_image", group_id=GROUP),
        site.path("mosaic_verdict", group_id=GROUP),
    ]
    site.record.emit("job.started", run_id, jobid=2, rule="mosaic", wildcards={}, outputs=outputs)
    site.sync(run_id=run_id)
    assert [row["item"] for row in site.rows("quarantine")] == [f"convert/{TILES[1]}"]
    (group,) = site.rows("mosaic_groups")
    assert (group["run_id"], group["state"], group["tiles_used"]) == (run_id, "RUNNING", 1)
    assert site.rows("products")[0]["run_id"] == run_id
    kinds = [event["kind"] for event in read_events(site.record.events_path(run_id))]
    assert {"group", "product", "quarantine.seen"} <= set(kinds)


def test_a_group_or_a_file_of_another_kind_is_left_alone(site, tmp_path):
    scanner = scan.Scanner(site.record, site.config.paths.results, site.config.paths.published)
    (tmp_path / "elsewhere.json").write_text('{"verdict": "reject", "reason_code": "NO_DATA"}')
    scanner.outputs([str(tmp_path / "elsewhere.json"), site.path("plan"), "no/such/file.json"])
    torn = site.path("convert_verdict", tile=TILES[0])
    with open(torn, "w") as stream:
        stream.write('{"verdict": "rej')
    scanner.outputs([torn])
    assert site.rows("quarantine") == site.rows("mosaic_groups") == []


def test_rebuild_brings_back_runs_from_events_and_products_from_files(site):
    site.make_mosaic()
    site.publish(Verdict())
    site.judge("convert_verdict", rejected(ReasonCode.NO_DATA, "empty"), tile=TILES[0])
    run_id = site.record.create_run("mosaic", "dir", group_ids=[GROUP])
    site.sync()
    tables = ("runs", "mosaic_groups", "products", "quarantine")
    before = {table: site.rows(table) for table in tables}
    site.record.database.write_bytes(b"damaged")
    counts = rebuild(site.config)
    assert {table: site.rows(table) for table in tables} == before
    assert (counts["runs"], counts["products"], counts["skipped"]) == (1, 1, 0)

    # without any events the products are still there, and the runs are history that is lost
    for path in [site.record.events_path(""), site.record.events_path(run_id)]:
        path.unlink()
    counts = rebuild(site.config)
    assert (counts["runs"], counts["mosaic_groups"], counts["products"]) == (0, 1, 1)
    assert site.rows("mosaic_groups")[0]["outcome"] == "published"
