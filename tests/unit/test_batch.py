"""Batches: which files a stage over a window or a list means, and the one run that makes them."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from dsaflow.config import Config
from dsaflow.errors import ConfigError
from dsaflow.names import PRODUCTS
from dsaflow.planning import make_plan
from dsaflow.runs import batch
from dsaflow.runs.record import Record
from dsaflow.runs.times import mjd_of, utc_text

REPOSITORY = Path(__file__).resolve().parents[2]
TILES = range(-2, 3)


@pytest.fixture
def night(tmp_path, raw_tiles):
    """Five tiles, a mosaic of the middle three about 3C138; and a folder in which a run might start."""
    config = Config()
    config.paths.results = str(tmp_path / "results")
    config.paths.incoming = str(tmp_path / "incoming")
    config.paths.calibrators = str(REPOSITORY / "config" / "calibrators.csv")
    config.plan.mosaic_tiles = 3
    config.plan.calibrators = ["3C138"]
    writer = raw_tiles(Path(config.paths.incoming))
    for number in TILES:
        writer.write(number, subbands=(0, 15))
    (tmp_path / "Snakefile").write_text("")
    (tmp_path / "profile").mkdir()
    (tmp_path / "profile" / "config.yaml").write_text("cores: 1\n")
    return config


@pytest.fixture
def plan(night):
    plan = make_plan(night)
    assert len(plan.mosaics) == 1
    assert len(plan.tiles) == 5
    return plan


def path_of(config, key, **item):
    ((name, value),) = item.items()
    return f"{config.paths.results}/{PRODUCTS[key].replace('{' + name + '}', value)}"


@pytest.mark.parametrize(
    ("stage", "key"),
    [
        ("convert", "convert_verdict"),
        ("calibrate", "calibrated_verdict"),
        ("image", "tile_verdict"),
    ],
)
def test_stages_of_tiles(night, plan, stage, key):
    tiles = [t.tile for t in plan.tiles]
    middle = datetime.fromisoformat(utc_text(plan.tiles[2].mid_mjd))
    aside = timedelta(seconds=60)
    found = batch.targets(night, plan, stage, start=middle - aside, end=middle + aside)
    assert found == [path_of(night, key, tile=tiles[2])]
    after = batch.targets(night, plan, stage, start=(middle + aside).isoformat())
    assert after == [path_of(night, key, tile=t) for t in tiles[3:]]
    # the plan's order, each once, whatever the list's
    listed = batch.targets(night, plan, stage, tiles=[tiles[3], tiles[0], tiles[3]])
    assert listed == [path_of(night, key, tile=t) for t in (tiles[0], tiles[3])]
    group = plan.mosaics[0]
    of_group = batch.targets(night, plan, stage, group_ids=[group.group_id])
    assert of_group == [path_of(night, key, tile=t) for t in group.tiles]


@pytest.mark.parametrize(
    ("stage", "key"),
    [
        ("mosaic", "mosaic_qa"),
        ("photometry", "photometry_verdict"),
        ("publish", "publication"),
        ("ese-detect", "variability_verdict"),
    ],
)
def test_stages_of_mosaics(night, plan, stage, key):
    (group,) = plan.mosaics
    wanted = (
        path_of(night, key, strip="dec+16.1")
        if stage == "ese-detect"
        else path_of(night, key, group_id=group.group_id)
    )
    for options in (
        {"group_ids": [group.group_id]},
        {"tiles": [group.tiles[0]]},
        {"start": group.mid_mjd - 0.001, "end": group.mid_mjd + 0.001},
    ):
        assert batch.targets(night, plan, stage, **options) == [wanted]
    with pytest.raises(batch.NothingSelected, match="after 2026-01-"):
        batch.targets(night, plan, stage, start=group.mid_mjd + 0.001)
    outside = next(t.tile for t in plan.tiles if t.tile not in group.tiles)
    with pytest.raises(batch.NothingSelected, match="no mosaic of the plan is in the lists"):
        batch.targets(night, plan, stage, tiles=[outside])


def test_what_makes_no_sense_is_refused_with_the_reason(night, plan, monkeypatch):
    for options, reason in (
        ({}, "say what to process"),
        ({"tiles": ["20200101T000000"]}, "20200101T000000 is not in the incoming folder"),
        ({"group_ids": ["3C1_20200101T000000_00000000"]}, "no mosaic 3C1"),
        ({"start": "2026-02-01", "end": "2026-01-01"}, "the end lies before the start"),
        ({"start": "monday"}, "no ISO time"),
    ):
        with pytest.raises(ConfigError, match=reason):
            batch.targets(night, plan, "image", **options)
    with pytest.raises(ConfigError, match="one of convert, calibrate"):
        batch.targets(night, plan, "imagine", start="2026-01-01")
    with pytest.raises(batch.NothingSelected, match="no tile of the plan before 2020-01-01"):
        batch.targets(night, plan, "image", end="2020-01-01")
    monkeypatch.setattr(batch, "MOST_TARGETS", 4)
    with pytest.raises(ConfigError, match="5 targets; one run should make 4 at most"):
        batch.targets(night, plan, "image", start="2020-01-01")


def test_a_tile_that_is_still_arriving_is_refused(night, raw_tiles):
    writer = raw_tiles(Path(night.paths.incoming))
    writer.write(3, subbands=(0,), age_s=1)
    with pytest.raises(ConfigError, match="is still arriving"):
        batch.targets(night, make_plan(night), "convert", tiles=[writer.tile(3)])


def test_a_batch_is_one_run_with_its_targets_and_mosaics(night, plan, tmp_path):
    record = Record.open(night)
    common = {"profile": "profile", "workdir": tmp_path}
    group = plan.mosaics[0].group_id
    run_id = batch.create(
        record, night, "image", tiles=[plan.tiles[0].tile], requested_by="me", **common
    )
    row = record.run(run_id)
    assert (row["kind"], row["state"], row["requested_by"]) == ("batch", "QUEUED", "me")
    assert row["targets"] == batch.targets(night, plan, "image", tiles=[plan.tiles[0].tile])
    assert row["options"] == {"stage": "image", "n_targets": 1, "tiles": [plan.tiles[0].tile]}
    assert row["group_ids"] == []
    for stage in ("publish", "ese-detect"):
        run_id = batch.create(
            record, night, stage, start="2026-01-01", end=mjd_of("2027-01-01"), **common
        )
        row = record.run(run_id)
        assert row["group_ids"] == [group]
        assert row["options"]["end"] == "2027-01-01T00:00:00Z"
    assert record.group(group)["run_id"] == run_id
    record.close()
