"""What may go and what may not; nothing is lost that could not be made again."""

import json
import os
import shutil
import threading
import time

import pytest

from dsaflow.config import load_config
from dsaflow.runs import clean as cleaning
from dsaflow.runs.clean import FolderInUse, above_high_water, clean, plan_clean
from dsaflow.runs.locks import WorkdirLock
from dsaflow.runs.record import Record
from dsaflow.runs.states import State

DAY_S = 86400.0


class Site:
    """Three tiles and their mosaic, published 20 days ago."""

    def __init__(self, folder, raw_tiles):
        self.folder = folder
        self.results, self.published = folder / "results", folder / "published"
        self.raw = raw_tiles(folder / "incoming")
        self.files = {self.raw.tile(n): self.raw.write(n) for n in (-1, 0, 1)}
        self.tiles = sorted(self.files)
        for tile in self.tiles:
            place = self.results / "tiles" / tile
            for name in ("visibilities", "calibrated"):
                (place / f"{name}.ms" / "ANTENNA").mkdir(parents=True)
                (place / f"{name}.ms" / "table.dat").write_bytes(bytes(100_000))
                (place / f"{name}_ms.json").write_text("{}")
            names = [path.name for path in self.files[tile]]
            (place / "convert.json").write_text(json.dumps({"provenance": {"files": names}}))
            for name in ("calibrated.json", "image.json", "image.fits", "flags.h5"):
                (place / name).write_text("{}")
        (mosaic,) = self.planned().mosaics
        self.group_id = mosaic.group_id
        self.publication = self.results / "mosaics" / self.group_id / "publication.json"
        self.publication.parent.mkdir(parents=True)
        self.publication.write_text("{}")
        self.age(20)
        self.record = Record.open(self.config())

    def age(self, days):
        for path in self.results.rglob("*"):
            os.utime(path, (time.time() - days * DAY_S,) * 2)

    def config(self, **options):
        paths = {k: str(self.folder / k) for k in ("incoming", "results", "published")}
        plan = {"mosaic_tiles": 3}
        return load_config({"paths": paths, "plan": plan, "clean": options})

    def planned(self):
        from dsaflow.planning import make_plan

        return make_plan(self.config())

    def snapshot(self):
        """Every file but the record's and the plan's, with its content."""
        return {
            str(p.relative_to(self.folder)): p.read_bytes()
            for p in self.folder.rglob("*")
            if p.is_file() and not {"runs", "plan", ".snakemake"} & set(p.parts)
        }


@pytest.fixture
def site(tmp_path, raw_tiles):
    site = Site(tmp_path, raw_tiles)
    yield site
    site.record.close()


def test_plan_changes_nothing(site):
    before = site.snapshot()
    plan = plan_clean(site.config())
    assert site.snapshot() == before
    assert len(plan.items) == 6
    assert plan.kept == {}
    assert plan.size >= 6 * 100_000
    assert all(19.9 < item.age_days < 20.1 for item in plan.items)


def test_sets_go_with_their_manifests_and_nothing_else(site):
    before = site.snapshot()
    done = clean(site.config(), site.record, site.folder)
    assert len(done.items) == 6
    after = site.snapshot()
    gone = set(before) - set(after)
    assert {name.rsplit("/", 1)[1] for name in gone} == {
        "table.dat",
        "visibilities_ms.json",
        "calibrated_ms.json",
    }
    assert not list(site.results.glob("tiles/*/*.ms"))
    assert {name: before[name] for name in after} == after
    assert len([name for name in after if name.startswith("incoming/")]) == 48
    assert plan_clean(site.config()).items == []
    events = (site.record.folder / "operations.jsonl").read_text()
    assert site.tiles[0] in events


def test_kept_until_the_days_after_publication_have_passed(site):
    os.utime(site.publication, (time.time() - 3 * DAY_S,) * 2)
    plan = plan_clean(site.config())
    assert plan.items == []
    assert plan.kept == dict.fromkeys(site.tiles, "3.0 d of clean.keep_days = 14 have passed")
    assert len(plan_clean(site.config(keep_days=2.5)).items) == 6


def test_a_tile_made_again_counts_anew(site):
    os.utime(site.results / "tiles" / site.tiles[1] / "image.json")
    plan = plan_clean(site.config())
    assert list(plan.kept) == [site.tiles[1]]
    assert len(plan.items) == 4


def test_kept_while_a_mosaic_waits(site):
    site.publication.unlink()
    plan = plan_clean(site.config())
    assert plan.items == []
    assert set(plan.kept) == set(site.tiles)
    assert plan.kept[site.tiles[0]] == f"mosaic {site.group_id} is not made yet"


def test_kept_where_raw_files_are_gone(site):
    site.files[site.tiles[0]][3].unlink()
    for path in site.files[site.tiles[2]]:
        path.unlink()
    # without its raw files the third tile is in no mosaic, and two are too few for one
    plan = plan_clean(site.config())
    assert {item.path.split("/")[-2] for item in plan.items} == {site.tiles[1]}
    assert plan.kept[site.tiles[0]].startswith("1 of its raw files are gone, e.g. ")
    assert "could not be made again" in plan.kept[site.tiles[2]]


def test_leftovers_of_killed_processes(site):
    place = site.results / "tiles" / site.tiles[0]
    old_folder = place / "visibilities.tmp-0123456789ab.ms"
    new_folder = place / "calibrated.tmp-0123456789ac.ms"
    old_file = place / "image.tmp-0123456789ad.fits"
    half = site.published / "dec+16.1" / site.group_id / ".building-1-abcdef01-host"
    for folder in (old_folder, new_folder, half):
        folder.mkdir(parents=True)
        (folder / "part").write_bytes(bytes(10_000))
    old_file.write_bytes(b"half")
    for path in (old_folder / "part", old_folder, old_file, half / "part", half):
        os.utime(path, (time.time() - 3 * DAY_S,) * 2)
    plan = plan_clean(site.config(keep_days=100))
    assert {item.path for item in plan.items} == {str(p) for p in (old_folder, old_file, half)}
    clean(site.config(keep_days=100), site.record, site.folder)
    assert not old_folder.exists()
    assert not old_file.exists()
    assert not half.exists()
    assert (new_folder / "part").exists()


def test_a_kill_leaves_no_half_of_a_set_and_the_next_call_finishes(site, monkeypatch):
    plan = plan_clean(site.config())

    def killed(path):
        (path / "table.dat").unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            clean(site.config(), site.record, site.folder)
    (half,) = site.results.glob("tiles/*/*.tmp-*.ms")
    name = plan.items[0].path
    assert not os.path.exists(name)
    assert not os.path.exists(plan.items[0].manifest)
    again = plan_clean(site.config(scratch_days=0))
    assert str(half) in {item.path for item in again.items}
    clean(site.config(scratch_days=0), site.record, site.folder)
    assert not half.exists()
    assert not list(site.results.glob("tiles/*/*.ms"))


def test_not_beside_a_run(site):
    config = site.config()
    before = site.snapshot()

    # its supervisor was killed, which freed the lock; Snakemake may live
    run_id = site.record.create_run("run", site.folder)
    site.record.transition(run_id, State.INITIALIZING)
    site.record.transition(run_id, State.RUNNING, snakemake_pid=1)
    with pytest.raises(FolderInUse, match=rf"run {run_id} is RUNNING"):
        clean(config, site.record, site.folder)
    site.record.transition(run_id, State.COMPLETE)

    lock = WorkdirLock(site.folder)
    assert lock.acquire({"run_id": "another"})
    with pytest.raises(FolderInUse, match="a run is live"):
        clean(config, site.record, site.folder)
    lock.release()

    (site.folder / ".snakemake" / "locks").mkdir()
    (site.folder / ".snakemake" / "locks" / "0.input.lock").write_text("x")
    with pytest.raises(FolderInUse, match="dsaflow recover"):
        clean(config, site.record, site.folder)
    assert site.snapshot() == before

    shutil.rmtree(site.folder / ".snakemake" / "locks")
    # a run that waits for the lock starts when this is done
    waiting = site.record.create_run("run", site.folder)
    site.record.transition(waiting, State.INITIALIZING)
    assert len(clean(config, site.record, site.folder).items) == 6
    assert WorkdirLock(site.folder).acquire({})


def test_waits_for_a_gap_between_runs(site):
    lock = WorkdirLock(site.folder)
    assert lock.acquire({"run_id": "another"})
    threading.Timer(0.5, lock.release).start()
    assert len(clean(site.config(), site.record, site.folder, wait_s=30).items) == 6


def test_high_water_mark(site, monkeypatch):
    monkeypatch.setattr(cleaning.conditions, "used_fraction", lambda config: 0.85)
    assert above_high_water(site.config(high_water=0.84))
    assert not above_high_water(site.config(high_water=0.85))
    monkeypatch.undo()
    assert above_high_water(site.config(high_water=0.0))
    assert not above_high_water(site.config(high_water=1.0))
