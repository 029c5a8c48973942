"""Which mosaic a request means: the tiles nearest to the transit, and one id for one request."""

import os
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsaflow.config import Config
from dsaflow.errors import ConfigError, EnvironmentProblem
from dsaflow.geometry import meridian_icrs
from dsaflow.instrument import INTEGRATION_S, TILE_S
from dsaflow.names import parse_group_id, product, raw_name, tile_id
from dsaflow.planning import Plan, PlannedTile, frozen_plan, make_plan
from dsaflow.planning.requests import (
    NoTransit,
    TooFewTiles,
    Window,
    add_request,
    make_request,
    read_requests,
    tiles_in,
)
from dsaflow.runs import mosaics
from dsaflow.runs.mosaics import resolve
from dsaflow.runs.transits import find_calibrator, position, transits
from dsaflow.transit import nearest_transit_mjd

REPOSITORY = Path(__file__).resolve().parents[2]
DEC_DEG = 16.1
TILE_D = TILE_S / 86400.0
SIDEREAL_D = 86164.0905 / 86400.0
EPOCH = datetime(1858, 11, 17, tzinfo=UTC)
RA_3C138, DEC_3C138 = 80.2911918, 16.6394587
TRANSIT_MJD = nearest_transit_mjd(RA_3C138, DEC_3C138, 61050.0)
OLD_S = 1_700_000_000.0


def to_datetime(mjd):
    return EPOCH + timedelta(days=mjd)


def write_tile(folder, start_mjd, mtime_s=OLD_S, dec_deg=DEC_DEG):
    """Two subbands of a group, header only."""
    for subband in (0, 15):
        path = folder / raw_name(to_datetime(start_mjd), subband)
        with h5py.File(path, "w") as file:
            header = file.create_group("Header")
            header["time_array"] = (
                start_mjd + 2400000.5 + (np.arange(24) + 0.5) * INTEGRATION_S / 86400.0
            )
            header["integration_time"] = np.full(24, INTEGRATION_S)
            header["freq_array"] = np.linspace(1.4e9, 1.39e9, 4) - subband * 11.7e6
            header["Ntimes"], header["Nfreqs"], header["Nants_data"] = 24, 4, 96
            header["extra_keywords/phase_center_dec"] = np.radians(dec_deg)
        os.utime(path, (mtime_s, mtime_s))


def starts(before, after, transit_mjd=TRANSIT_MJD):
    """Starts of tiles about one whose middle is at the transit."""
    return transit_mjd + (np.arange(-before, after + 1) - 0.5) * TILE_D


@pytest.fixture
def config(tmp_path):
    (tmp_path / "incoming").mkdir()
    config = Config()
    config.paths.incoming = str(tmp_path / "incoming")
    config.paths.results = str(tmp_path / "results")
    config.paths.published = str(tmp_path / "published")
    config.paths.calibrators = str(REPOSITORY / "config" / "calibrators.csv")
    config.plan.mosaic_tiles = 5
    return config


def observe(config, *nights, **options):
    for night in nights:
        for start in night:
            write_tile(Path(config.paths.incoming), start, **options)


def keep(config, mosaic):
    """Persist a request as `mosaics.create` does."""
    return add_request(config, mosaics._window_of(mosaic))


# selection


@settings(deadline=None, max_examples=150)
@given(
    missing=st.sets(st.integers(-15, 15), max_size=12) | st.sets(st.integers(-15, 15), max_size=30),
    phase=st.sampled_from([-0.5, 0.0, 0.5]) | st.floats(-0.5, 0.5),
    jitter_s=st.lists(st.floats(-8, 8), min_size=31, max_size=31),
    n_tiles=st.integers(1, 14),
)
def test_a_request_takes_the_tiles_nearest_to_its_transit(missing, phase, jitter_s, n_tiles):
    slots = set(range(-15, 16)) - missing
    mids = sorted(TRANSIT_MJD + (k + phase) * TILE_D + jitter_s[k + 15] / 86400.0 for k in slots)
    tiles = [planned_tile(mid) for mid in mids]
    config = Config()
    config.plan.min_tiles = 1
    window = Window("3C138", "centred", RA_3C138, TRANSIT_MJD, n_tiles, "dec+16.1")
    mosaic, reason = make_request(Plan(tiles=tiles), config, window)
    distance_d = {t.tile: abs(t.mid_mjd - TRANSIT_MJD) for t in tiles}
    half_d = 0.5 * n_tiles * TILE_D
    if mosaic is None:
        assert "TOO_FEW_TILES" in reason
        assert min(distance_d.values()) > half_d
        return
    chosen = set(mosaic.tiles)
    left = set(distance_d) - chosen
    assert len(chosen) <= n_tiles
    assert mosaic.tiles == sorted(chosen)
    assert all(distance_d[t] <= half_d + 20.5 / 86400 for t in chosen)
    # whatever lies inside was left only because the window was full of nearer ones
    for tile in left:
        if distance_d[tile] < half_d + 19.5 / 86400:
            assert len(chosen) == n_tiles
            assert distance_d[tile] >= max(distance_d[t] for t in chosen)
    # a tile whose middle is on the edge may have its place on either side
    assert 0 <= len(mosaic.missing_min) <= n_tiles - len(chosen)
    assert n_tiles - len(chosen) - len(mosaic.missing_min) <= 1
    assert np.allclose(
        np.abs(mosaic.offset_min), [1440 * distance_d[t] for t in mosaic.tiles], atol=0.006
    )


def planned_tile(mid_mjd):
    return PlannedTile(
        tile_id(to_datetime(mid_mjd - 0.5 * TILE_D)), "dec+16.1", 0, mid_mjd - 0.5 * TILE_D,
        mid_mjd, DEC_DEG, 80.0, DEC_DEG, [], 16, 64, "admitted", "",
    )  # fmt: skip


def test_the_first_tiles_of_a_night_are_not_taken_for_the_nearest(config):
    observe(config, starts(9, 3))
    mosaic = resolve(config, calibrator="3C138")
    assert mosaic.offset_min == pytest.approx([k * TILE_S / 60 for k in range(-2, 3)], abs=0.01)
    assert mosaic.missing_min == []
    assert mosaic.notes == []


def test_missing_tiles_are_named_by_their_distance(config):
    night = starts(4, 4)
    observe(config, [*night[:2], *night[3:6]])
    mosaic = resolve(config, calibrator="3C138")
    minutes = TILE_S / 60
    assert mosaic.missing_min == pytest.approx([-2 * minutes, 2 * minutes], abs=0.01)
    assert mosaic.offset_min == pytest.approx([-minutes, 0, minutes], abs=0.01)


# one request, one id


def test_window_lengths_have_ids_of_their_own_and_one_request_always_the_same(config):
    observe(config, starts(6, 6))
    minutes = [TILE_S / 60 * n for n in (3, 5, 7, 9)]
    ids = [resolve(config, calibrator="3C138", timespan_minutes=m).group_id for m in minutes]
    assert len(set(ids)) == 4
    again = [resolve(config, calibrator="3C138", timespan_minutes=m).group_id for m in minutes]
    assert again == ids
    assert ids[1] == resolve(config, calibrator="3C138").group_id
    assert parse_group_id(ids[1])[2] == config.science_hash()
    # the same whether or not the request is kept, and whatever comes in later
    keep(config, resolve(config, calibrator="3C138", timespan_minutes=minutes[3]))
    observe(config, starts(8, 8))
    kept = resolve(config, calibrator="3C138", timespan_minutes=minutes[3])
    assert kept.group_id == ids[3]
    assert kept.planned


def test_a_mosaic_that_the_plan_makes_is_not_doubled(config):
    observe(config, starts(3, 3))
    (own,) = make_plan(config).mosaics
    mosaic = resolve(config, calibrator="0521+166")  # 3C138's name in the VLA's list
    assert mosaic.planned
    assert mosaic.group_id == own.group_id
    keep(config, mosaic)
    assert make_plan(config).mosaics == [own]


def test_a_kept_request_is_in_every_later_plan(config):
    observe(config, starts(5, 5))
    wide = resolve(config, calibrator="3C138", timespan_minutes=9 * TILE_S / 60)
    assert not wide.planned
    assert wide.group_id not in [m.group_id for m in make_plan(config).mosaics]
    assert keep(config, wide)
    assert not keep(config, wide)
    plan = frozen_plan(config, remake=True)
    assert plan.mosaic(wide.group_id).tiles == wide.tiles
    assert len(plan.mosaics) == 2
    assert frozen_plan(config, remake=False).to_dict() == plan.to_dict()
    # another science configuration makes it anew, under another id
    config.image.clean_sigma += 1
    anew = [m for m in make_plan(config).mosaics if len(m.tiles) == 9]
    assert len(anew) == 1
    assert anew[0].group_id != wide.group_id


def test_a_kept_request_whose_data_have_gone_is_listed_as_skipped(config):
    observe(config, starts(5, 5), starts(2, 2, TRANSIT_MJD + 3 * SIDEREAL_D))
    wide = resolve(config, calibrator="3C138", timespan_minutes=9 * TILE_S / 60, transit="earliest")
    keep(config, wide)
    for path in Path(config.paths.incoming).glob(f"{to_datetime(TRANSIT_MJD):%Y-%m-%d}*"):
        path.unlink()
    plan = make_plan(config)
    assert wide.group_id not in [m.group_id for m in plan.mosaics]
    assert [s.reason for s in plan.skipped if s.what == wide.group_id] == [
        "TOO_FEW_TILES: 0, at least 3 needed"
    ]


def test_many_ask_at_once_and_no_request_is_lost(config):
    windows = [
        Window(f"c{i}", "centred", RA_3C138, TRANSIT_MJD + i, 5, "dec+16.1") for i in range(24)
    ]
    threads = [
        threading.Thread(target=lambda mine: [add_request(config, w) for w in mine], args=[some])
        for some in (windows[i::8] for i in range(8))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(read_requests(config), key=lambda w: w.mid_mjd) == windows


# which transit


def test_latest_and_earliest_pass_over_transits_with_too_few_tiles(config):
    nights = [TRANSIT_MJD + n * SIDEREAL_D for n in range(4)]
    observe(config, starts(0, 1, nights[0]), starts(2, 2, nights[1]), starts(2, 2, nights[2]))
    observe(config, starts(1, 0, nights[3]))
    latest, earliest = (
        resolve(config, calibrator="3C138", transit=t) for t in ("latest", "earliest")
    )
    assert latest.mid_mjd == pytest.approx(nights[2], abs=0.1)
    assert earliest.mid_mjd == pytest.approx(nights[1], abs=0.1)
    assert len(latest.notes) == 1
    assert "TOO_FEW_TILES: 2, at least 3 needed" in latest.notes[0]
    with pytest.raises(TooFewTiles, match="2, at least 3 needed"):
        resolve(config, calibrator="3C138", transit=f"{to_datetime(nights[3]):%Y-%m-%dT%H:%M}")


def test_a_transit_is_found_by_its_time_or_its_date(config):
    second = TRANSIT_MJD + 2 * SIDEREAL_D
    observe(config, starts(2, 2), starts(2, 2, second))
    near = to_datetime(TRANSIT_MJD + 0.02)
    for text in (
        f"{near:%Y-%m-%dT%H:%M:%S}",
        f"{near:%Y-%m-%dT%H:%M:%S+00:00}",
        f"{near:%Y-%m-%d}",
    ):
        found = resolve(config, calibrator="3C138", transit=text)
        assert found.mid_mjd == pytest.approx(TRANSIT_MJD, abs=1e-5)
    for away in (TRANSIT_MJD + SIDEREAL_D, TRANSIT_MJD + 0.06):
        with pytest.raises(NoTransit, match="the nearest is at"):
            resolve(config, calibrator="3C138", transit=f"{to_datetime(away):%Y-%m-%dT%H:%M:%S}")
    with pytest.raises(ConfigError, match="no ISO time"):
        resolve(config, calibrator="3C138", transit="yesterday")


def test_a_transit_at_midnight_is_one_window(config):
    midnight = 61060.0
    ra_deg, dec_deg = (float(v) for v in meridian_icrs(midnight + 20 / 86400, DEC_DEG))
    observe(config, starts(3, 3, midnight))
    mosaic = resolve(config, ra_deg=ra_deg, dec_deg=dec_deg)
    assert len(mosaic.tiles) == 5
    assert {t[:8] for t in mosaic.tiles} == {"20260119", "20260120"}
    assert parse_group_id(mosaic.group_id)[1].date().isoformat() == "2026-01-20"
    assert resolve(config, ra_deg=ra_deg, dec_deg=dec_deg, transit="2026-01-20") == mosaic
    with pytest.raises(NoTransit):
        resolve(config, ra_deg=ra_deg, dec_deg=dec_deg, transit="2026-01-19")


def test_a_centre_of_ones_own_uses_the_transit_of_that_position(config):
    observe(config, starts(6, 6))
    later_deg = RA_3C138 + 360 * 2 * TILE_S / 86164.0905
    mosaic = resolve(config, ra_deg=later_deg, dec_deg=DEC_3C138)
    assert mosaic.mid_mjd == pytest.approx(TRANSIT_MJD + 2 * TILE_D, abs=2e-5)
    assert mosaic.centre == f"ra{later_deg:07.3f}{DEC_3C138:+07.3f}"
    assert resolve(config, ra_deg=later_deg - 360, dec_deg=DEC_3C138) == mosaic
    assert mosaic.offset_min == pytest.approx([k * TILE_S / 60 for k in range(-2, 3)], abs=0.05)
    with pytest.raises(NoTransit, match=r"out of the beam's reach of the strips.*dec\+16\.1"):
        resolve(config, ra_deg=later_deg, dec_deg=40.0)
    with pytest.raises(NoTransit, match="falls into the time of the data"):
        resolve(config, ra_deg=later_deg + 90, dec_deg=DEC_3C138)
    with pytest.raises(ConfigError, match="dec in"):
        resolve(config, ra_deg=later_deg, dec_deg=95.0)


def test_one_place_has_one_name():
    for ra_deg, dec_deg in ((0.0, 0.0), (359.99999, -0.0001), (-360.0, -0.0)):
        assert position(ra_deg, dec_deg).name == ["ra000.000+00.000"]


def test_a_start_and_an_end_mean_the_tiles_about_their_middle(config):
    night = starts(6, 6)
    observe(config, night)
    first, last = to_datetime(night[7]), to_datetime(night[11] + TILE_D)
    mosaic = resolve(config, start=first, end=last)
    assert mosaic.kind == "window"
    tiles = [t.tile for t in make_plan(config).tiles]
    assert mosaic.tiles == tiles[7:12]
    # as text without a zone, in UTC; and kept as any other
    text = [t.replace(tzinfo=None).isoformat() for t in (first, last)]
    assert resolve(config, start=text[0], end=text[1]) == mosaic
    keep(config, mosaic)
    assert make_plan(config).mosaic(mosaic.group_id).tiles == mosaic.tiles
    with pytest.raises(NoTransit, match="no data between"):
        resolve(config, start=first + timedelta(hours=5), end=last + timedelta(hours=5))


def test_a_window_takes_the_strip_that_was_observed(config):
    night = starts(6, 6)
    observe(config, night[:6])
    observe(config, night[6:], dec_deg=54.6)
    mosaic = resolve(config, start=to_datetime(night[5]), end=to_datetime(night[12] + TILE_D))
    assert mosaic.strip == "dec+54.6"
    tiles = {t.tile: t.strip for t in make_plan(config).tiles}
    assert {tiles[t] for t in mosaic.tiles} == {"dec+54.6"}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"calibrator": "3C138", "ra_deg": 80.0, "dec_deg": 16.0},
        {"ra_deg": 80.0},
        {"start": "2026-01-20T00:00:00"},
        {"start": "2026-01-20T00:00:00", "end": "2026-01-20T01:00:00", "timespan_minutes": 50},
        {"start": "2026-01-20T01:00:00", "end": "2026-01-20T00:00:00"},
        {"start": "2026-01-20", "end": "2026-01-30"},
        {"calibrator": "3C138", "timespan_minutes": 0},
        {"calibrator": "3C138", "timespan_minutes": float("nan")},
    ],
)
def test_requests_that_make_no_sense_are_refused(config, options):
    observe(config, starts(2, 2))
    with pytest.raises(ConfigError):
        resolve(config, **options)


def test_fifty_minutes_are_ten_tiles_as_is_the_default():
    assert tiles_in(50) == 10 == Config().plan.mosaic_tiles


def test_unknown_calibrators_are_refused_with_a_near_name(config):
    with pytest.raises(ConfigError, match=r"did you mean .*0834\+555"):
        find_calibrator(config.paths.calibrators, "0834+556")
    assert find_calibrator(config.paths.calibrators, "j0834+555").name == ["0834+555"]
    assert find_calibrator(config.paths.calibrators, "3c138").name == ["3C138"]


# no data, not enough, not yet


def test_no_transit_has_data(config):
    with pytest.raises(NoTransit, match="no raw files"):
        resolve(config, calibrator="3C138")
    night = starts(6, 6)
    observe(config, [*night[:6], *night[7:]])  # the transit's own tile is missing
    with pytest.raises(NoTransit, match=r"no transit of 3C138 has data; its last .* 2026-01-"):
        resolve(config, calibrator="3C138")
    with pytest.raises(NoTransit, match=r"3C48 at dec \+33.16 deg is out of the beam's reach"):
        resolve(config, calibrator="3C48")


def test_too_few_tiles(config):
    observe(config, starts(1, 0))
    with pytest.raises(TooFewTiles, match="2, at least 3 needed"):
        resolve(config, calibrator="3C138")


def test_tiles_that_are_still_arriving_are_waited_for(config):
    night = starts(2, 2)
    now_s = datetime.now(UTC).timestamp()
    observe(config, night[:4])
    observe(config, night[4:], mtime_s=now_s - 5)
    with pytest.raises(TooFewTiles, match="waiting for"):
        resolve(config, calibrator="3C138")
    assert [r["status"] for r in transits(config, "3C138")] == ["waiting", "coming"]


# the list of transits


def test_transits_are_listed_with_data_or_not_and_the_next_one(config):
    nights = [TRANSIT_MJD + n * SIDEREAL_D for n in range(4)]
    observe(config, starts(2, 2, nights[0]), starts(0, 1, nights[1]), starts(2, 2, nights[3]))
    now_s = (nights[3] - 40587.0 + 0.5) * 86400.0
    rows = transits(config, "3C138", now_s)
    assert [r["status"] for r in rows] == ["ready", "few", "no data", "ready", "coming"]
    assert [r["tiles"] for r in rows] == [5, 0, 0, 5, 0]
    times = [r["transit_mjd"] for r in rows]
    assert times == pytest.approx([*nights, nights[3] + SIDEREAL_D], abs=1e-5)
    assert rows[3]["group_id"] == resolve(config, calibrator="3C138").group_id
    damaged = Path(product("publication", config.paths.results, group_id=rows[0]["group_id"]))
    damaged.parent.mkdir(parents=True)
    damaged.write_text("{}")
    first, *others = transits(config, "3C138", now_s)
    assert (first["status"], first["state"]) == ("ready", "damaged")
    assert "it lacks state" in first["reason"]
    assert others == rows[1:]
    damaged.unlink()
    everyone = transits(config, now_s=now_s)
    assert {"3C138"} < {r["calibrator"] for r in everyone}
    assert [r for r in everyone if r["calibrator"] == "3C138"] == rows


def test_the_next_transit_needs_no_data(config):
    (row,) = transits(config, "3C48", (61050.0 - 40587.0) * 86400.0)
    assert row["status"] == "coming"
    assert row["transit_mjd"] == pytest.approx(
        nearest_transit_mjd(24.422081, 33.1597592, row["transit_mjd"]), abs=1e-6
    )
    with pytest.raises(EnvironmentProblem, match="cannot be computed"):
        transits(config, "3C48", (90000.0 - 40587.0) * 86400.0)
