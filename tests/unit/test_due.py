"""What is due as tiles arrive one after another, and what is not made a second time."""

import json
import os
import time
from pathlib import Path

import pytest

from dsaflow.config import load_config
from dsaflow.names import product
from dsaflow.planning import make_plan
from dsaflow.runs.due import Look, Target, choose
from dsaflow.runs.record import Record
from dsaflow.runs.states import State
from dsaflow.runs.watch import Watcher

TILE_KEYS = ("convert_verdict", "flag_verdict", "gains_verdict", "tile_verdict")
MOSAIC_KEYS = ("mosaic_verdict", "publication", "photometry_verdict")


class Sky:
    """Raw tiles about a transit of 3C138 (tile 0); mosaics of five tiles."""

    def __init__(self, folder, raw_tiles, **plan):
        self.raw = raw_tiles(folder / "incoming")
        paths = {key: str(folder / key) for key in ("incoming", "results", "published")}
        plan = {"mosaic_tiles": 5, "min_tiles": 3, **plan}
        self.config = load_config({"paths": paths, "plan": plan})
        self.folder = folder

    def arrive(self, *numbers, age_s=60.0, **options):
        for number in numbers:
            self.raw.write(number, age_s=age_s, **options)

    def plan(self):
        return make_plan(self.config)

    def make(self, *keys, content="{}", age_s=0.0, **item):
        for key in keys:
            path = Path(product(key, self.config.paths.results, **item))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
            os.utime(path, (time.time() - age_s,) * 2)

    def due(self):
        """Product of each target and which tile, mosaic or strip it is of."""
        look = Look(self.config, self.plan())
        return {
            self.name(path) for target in [*look.mosaics(), *look.tiles()] for path in target.paths
        }

    def name(self, path):
        parts = Path(path).parts[-2:]
        numbers = {self.raw.tile(n): n for n in range(-9, 10)}
        if parts[0] in numbers:
            return parts[1].removesuffix(".json"), numbers[parts[0]]
        return parts[1].removesuffix(".json") if parts[0] != "photometry" else "photometry"


@pytest.fixture
def sky(tmp_path, raw_tiles):
    return Sky(tmp_path, raw_tiles)


def test_each_tile_as_it_arrives(sky):
    sky.arrive(-2)
    # its mosaic's calibrator has yet to transit: no bandpass of the night, so no gains yet
    assert sky.due() == {("flag", -2)}
    sky.make("convert_verdict", "flag_verdict", tile=sky.raw.tile(-2))
    assert sky.due() == set()

    sky.arrive(-1, 0)
    # with the transit there are solutions; an image waits for those of two later tiles
    assert sky.due() == {("image", -2), ("gains", -1), ("gains", 0)}
    sky.make("bandpass_verdict", tile=sky.raw.tile(0), age_s=2)
    for number in (-2, -1, 0):
        sky.make(*TILE_KEYS[:3], tile=sky.raw.tile(number), age_s=1)
    sky.make("tile_verdict", tile=sky.raw.tile(-2))
    assert sky.due() == set()

    sky.arrive(1)
    assert sky.due() == {("image", -1), ("gains", 1)}
    sky.arrive(2)
    # the window is full: what is left is in the mosaic's own run
    assert sky.due() == {"publication", "photometry"}
    (target,) = Look(sky.config, sky.plan()).mosaics()
    assert target.cost == 4
    assert target.time_mjd == pytest.approx(sky.raw.start_mjd(2.5), abs=1e-4)


def test_nothing_while_a_tile_arrives(sky):
    sky.arrive(0, age_s=3.0)
    assert sky.due() == set()


def test_incomplete_tile_after_the_settle_time(sky):
    sky.arrive(0, subbands=range(14), age_s=300)
    assert sky.due() == set()
    sky.arrive(0, subbands=range(14), age_s=700)
    assert sky.due() == {("gains", 0)}


def test_old_data_are_made_at_once(sky):
    sky.arrive(-1, 0, 1, age_s=1e5)
    assert sky.due() == {"publication", "photometry"}
    sky.config.watch.photometry = False
    assert sky.due() == {"publication"}


def test_old_data_too_far_from_any_mosaic_are_left_alone(sky):
    sky.arrive(5, 6, age_s=1e5)
    assert sky.due() == set()


def published(sky, **numbers):
    sky.arrive(-2, -1, 0, 1, 2)
    (mosaic,) = sky.plan().mosaics
    sky.make("bandpass_verdict", tile=sky.raw.tile(0), age_s=9)
    told = {"numbers": {"n_subbands": 16, "files_not_used": []}}
    for tile in mosaic.tiles:
        sky.make(*TILE_KEYS[:3], tile=tile, age_s=8.5, content=json.dumps(told))
    for tile in mosaic.tiles:
        sky.make("tile_verdict", tile=tile, age_s=8)
    told = {"numbers": {"tiles_offered": 5, **numbers}}
    sky.make(*MOSAIC_KEYS, group_id=mosaic.group_id, age_s=7, content=json.dumps(told))
    return mosaic


def test_published_is_done_even_if_later_tiles_could_calibrate_it_again(sky):
    published(sky)
    assert sky.due() == set()
    sky.arrive(3, 4)
    assert sky.due() == set()


def test_photometry_is_made_up_for(sky):
    mosaic = published(sky)
    os.unlink(product("photometry_verdict", sky.config.paths.results, group_id=mosaic.group_id))
    assert sky.due() == {"photometry"}


def test_new_raw_data_of_its_tiles_make_a_mosaic_due(sky):
    published(sky)
    sky.arrive(1, subbands=[15], age_s=0)  # copied again, and still settling
    assert sky.due() == set()
    published(sky)
    sky.arrive(1, subbands=[15], age_s=12)
    sky.make(*MOSAIC_KEYS, group_id=sky.plan().mosaics[0].group_id, age_s=30)
    assert sky.due() == {"publication", "photometry"}


def test_a_tile_or_file_that_came_during_the_run_makes_it_due(sky):
    published(sky, tiles_offered=4)
    assert sky.due() == {"publication", "photometry"}
    published(sky)
    told = {"numbers": {"n_subbands": 14, "files_not_used": ["TRUNCATED_HDF5: x"]}}
    sky.make("convert_verdict", tile=sky.raw.tile(1), age_s=8, content=json.dumps(told))
    assert sky.due() == {"publication", "photometry"}
    # a rejection does not count files
    sky.make("convert_verdict", tile=sky.raw.tile(1), age_s=8, content='{"numbers": {}}')
    assert sky.due() == set()


def test_sliding_mosaics_wait_for_no_calibrator(tmp_path, raw_tiles):
    sky = Sky(tmp_path, raw_tiles, sliding=True, centred=False, mosaic_tiles=7)
    sky.arrive(0, 1, 2, 3)
    due = sky.due()
    assert ("image", 0) in due
    assert ("gains", 3) in due


def test_light_curves_when_all_photometry_is_there(sky):
    mosaic = published(sky)

    def strips():
        return [target.paths for target in Look(sky.config, sky.plan()).variability()]

    ((path,),) = strips()
    assert path.endswith(f"variability/{mosaic.strip}/variability.json")
    sky.make("variability_verdict", strip=mosaic.strip)
    assert strips() == []
    sky.make("photometry_verdict", group_id=mosaic.group_id, age_s=-5)
    assert len(strips()) == 1
    os.unlink(product("photometry_verdict", sky.config.paths.results, group_id=mosaic.group_id))
    assert strips() == []


def target(name, time_mjd, cost=1, group_id="", input_s=0.0, raw_s=0.0):
    return Target((name,), time_mjd, cost, raw_s, input_s, group_id)


def test_newest_first_and_no_more_than_asked_for():
    tiles = [target(f"t{n}", float(n)) for n in range(6)]
    old, new = target("old", 2.0, 4, "g1"), target("new", 5.0, 3, "g2")
    names = [t.paths[0] for t in choose([*tiles, old, new], 5)]
    assert names == ["new", "t5", "t4"]
    # one too large for the limit is made alone
    assert choose([old], 2) == [old]
    assert [t.paths[0] for t in choose([old, *tiles], 100)] == [
        "t5", "t4", "t3", "old", "t2", "t1", "t0",
    ]  # fmt: skip
    assert choose([], 5) == []


@pytest.fixture
def watcher(sky):
    record = Record.open(sky.config)
    yield Watcher(record, sky.config, "profiles/demo", workdir=sky.folder)
    record.close()


def tried(watcher, path, state, error_class=None, **options):
    run_id = watcher.record.create_run("watch", "x", targets=[path], options=options)
    watcher.record.transition(run_id, State.INITIALIZING)
    if state == State.CANCELED:
        watcher.record.transition(run_id, State.CANCELING)
    watcher.record.transition(run_id, state, error_class=error_class)


@pytest.mark.parametrize(
    ("state", "error_class"),
    [
        (State.COMPLETE, None),
        (State.EXECUTOR_ERROR, "permanent"),
        (State.SYSTEM_ERROR, "transient"),
        (State.CANCELED, None),
    ],
)
def test_what_was_tried_is_not_tried_again_without_new_data(watcher, state, error_class):
    first = target("results/a.json", 1.0, input_s=time.time() - 5)
    other = target("results/b.json", 1.0, input_s=time.time() - 5)
    tried(watcher, first.paths[0], state, error_class)
    assert watcher._untried([first, other]) == [other]
    newer = target("results/a.json", 1.0, input_s=time.time() + 1)
    assert watcher._untried([newer]) == [newer]


def test_what_a_run_made_itself_is_no_news_but_what_arrived_meanwhile_is(watcher):
    path = "results/a.json"
    before_s = time.time()
    run_id = watcher.record.create_run("watch", "x", targets=[path])
    time.sleep(0.01)
    during_s = time.time()
    time.sleep(0.01)
    watcher.record.transition(run_id, State.INITIALIZING)
    watcher.record.transition(run_id, State.EXECUTOR_ERROR, error_class="permanent")
    own = target(path, 1.0, input_s=during_s, raw_s=before_s)
    arrived = target(path, 1.0, input_s=during_s, raw_s=during_s)
    assert watcher._untried([own, arrived]) == [arrived]


def test_a_transient_failure_is_tried_again_after_the_longest_backoff(watcher):
    one = target("results/a.json", 1.0, input_s=time.time() - 5)
    tried(watcher, one.paths[0], State.SYSTEM_ERROR, "transient")
    assert watcher._untried([one]) == []
    time.sleep(0.02)
    watcher.config.runs.backoff_cap_s = 0.01
    assert watcher._untried([one]) == [one]


def test_another_version_is_another_try(watcher):
    one = target("results/a.json", 1.0, input_s=time.time() - 5)
    tried(watcher, one.paths[0], State.EXECUTOR_ERROR, "permanent", version="old")
    assert watcher._untried([one]) == [one]
    tried(watcher, one.paths[0], State.EXECUTOR_ERROR, "permanent", version=watcher.version)
    assert watcher._untried([one]) == []


def test_a_target_is_untried_until_all_its_files_were_tried(watcher):
    both = Target(("results/a.json", "results/b.json"), 1.0, 1, 0.0, time.time() - 5, "g")
    tried(watcher, "results/a.json", State.COMPLETE)
    assert watcher._untried([both]) == [both]
    tried(watcher, "results/b.json", State.COMPLETE)
    assert watcher._untried([both]) == []
