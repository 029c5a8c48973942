"""Planning on folders of header-only UVH5 files whose every quirk is known."""

import itertools
import os
import time
from datetime import UTC, datetime, timedelta

import h5py
import numpy as np
import pytest

from dsaflow.config import Config
from dsaflow.errors import ConfigError, EnvironmentProblem
from dsaflow.geometry import meridian_icrs
from dsaflow.instrument import INTEGRATION_S, TILE_S
from dsaflow.names import raw_name
from dsaflow.planning import CalibratorList, Plan, describe_plan, frozen_plan, make_plan
from dsaflow.transit import nearest_transit_mjd, transit_number

DEC_DEG = 16.1
NOW_S = 2_000_000_000.0
OLD_S = NOW_S - 10_000.0
EPOCH = datetime(1858, 11, 17, tzinfo=UTC)
CENTRE_RA_DEG, CENTRE_DEC_DEG = 80.2911918, 16.6394587
TRANSIT_MJD = nearest_transit_mjd(CENTRE_RA_DEG, CENTRE_DEC_DEG, 61050.0)
CALIBRATORS = CalibratorList(
    ["3C138", "faint"],
    np.array([CENTRE_RA_DEG, CENTRE_RA_DEG + 1.3]),
    np.array([CENTRE_DEC_DEG, CENTRE_DEC_DEG]),
    np.array([8.5, 1.2]),
    np.array([True, False]),
)


def to_datetime(mjd):
    return EPOCH + timedelta(days=mjd)


def write_file(folder, start_mjd, subband, dec_deg=DEC_DEG, name_offset_s=0.0, mtime_s=OLD_S):
    name = raw_name(to_datetime(start_mjd + name_offset_s / 86400.0), subband)
    with h5py.File(folder / name, "w") as file:
        header = file.create_group("Header")
        times = start_mjd + 2400000.5 + (np.arange(24) + 0.5) * INTEGRATION_S / 86400.0
        header["time_array"] = np.repeat(times, 3)
        header["integration_time"] = np.full(72, INTEGRATION_S)
        header["freq_array"] = np.linspace(1.4e9, 1.39e9, 4) - subband * 11.7e6
        header["Ntimes"], header["Nfreqs"], header["Nants_data"] = 24, 4, 96
        header["extra_keywords/phase_center_dec"] = np.radians(dec_deg)
    os.utime(folder / name, (mtime_s, mtime_s))
    return folder / name


def write_tile(folder, start_mjd, subbands=range(16), **options):
    """One group; names jitter by up to 2 s, headers do not."""
    jitter = [0.0, 1.0, 2.0, 1.0] * 4
    return [
        write_file(folder, start_mjd, sb, name_offset_s=jitter[sb], **options) for sb in subbands
    ]


def run_starts(n_tiles, transit_mjd=TRANSIT_MJD):
    """Starts of a run of tiles whose middle lies at the transit."""
    return transit_mjd + (np.arange(n_tiles) - n_tiles / 2) * TILE_S / 86400.0


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "incoming").mkdir()
    return tmp_path / "incoming"


def config_for(folder, **plan):
    config = Config()
    config.paths.incoming = str(folder)
    config.paths.results = str(folder.parent / "results")
    for key, value in {"mosaic_tiles": 3, **plan}.items():
        setattr(config.plan, key, value)
    return config


def planned(folder, now_s=NOW_S, **plan):
    return make_plan(config_for(folder, **plan), CALIBRATORS, now_s)


def test_a_night_gives_tiles_on_the_meridian_and_a_centred_mosaic(folder):
    for start in run_starts(3):
        write_tile(folder, start)
    plan = planned(folder)
    assert [t.n_subbands for t in plan.tiles] == [16, 16, 16]
    assert all(len(t.files) == 16 and t.reason == "" for t in plan.tiles)
    assert [t.n_channels for t in plan.tiles] == [64, 64, 64]
    middle = plan.tiles[1]
    assert middle.mid_mjd == pytest.approx(TRANSIT_MJD, abs=1e-4 / 86400)
    ra_deg, dec_deg = meridian_icrs(middle.mid_mjd, DEC_DEG)
    assert (middle.ra_deg, middle.dec_deg) == (float(ra_deg), float(dec_deg))
    assert middle.ra_deg == pytest.approx(CENTRE_RA_DEG, abs=0.01)
    assert middle.strip == "dec+16.1"
    (mosaic,) = plan.mosaics
    assert mosaic.tiles == [t.tile for t in plan.tiles]
    assert mosaic.centre == "3C138"
    assert mosaic.group_id.startswith("3C138_")
    assert mosaic.mid_mjd == pytest.approx(TRANSIT_MJD, abs=0.1 / 86400)
    assert plan.transit_tiles == {middle.tile: ["3C138"], plan.tiles[2].tile: ["faint"]}
    assert plan.gaps == []
    assert plan.skipped == []


def test_names_propose_and_headers_decide(folder):
    starts = run_starts(2)
    write_tile(folder, starts[0])
    write_tile(folder, starts[1], range(1, 16))
    # subband 0 of the second tile carries a name in the middle of the first one
    write_file(folder, starts[1], 0, name_offset_s=-TILE_S + 20.0)
    plan = planned(folder)
    assert [len(t.files) for t in plan.tiles] == [16, 16]
    assert [t.reason for t in plan.tiles] == ["", ""]


def test_tile_id_is_the_headers_start_and_does_not_change_when_a_file_comes_late(folder):
    start = run_starts(1)[0]
    paths = write_tile(folder, start, range(3, 16))
    early = planned(folder)
    write_file(folder, start, 0, name_offset_s=-2.0)
    late = planned(folder)
    assert [t.tile for t in early.tiles] == [t.tile for t in late.tiles]
    expected = to_datetime(start + 0.5 / 86400.0)
    assert late.tiles[0].tile == f"{expected:%Y%m%dT%H%M%S}"
    assert len(late.tiles[0].files) == len(paths) + 1


def test_duplicate_subbands_stay_in_one_group(folder):
    start = run_starts(1)[0]
    write_tile(folder, start)
    write_file(folder, start, 4, name_offset_s=9.0)
    (tile,) = planned(folder).tiles
    assert len(tile.files) == 17
    assert tile.n_subbands == 16
    assert "DUPLICATE_SUBBAND" in tile.reason


def test_damaged_files_go_on_with_their_group_and_a_reason(folder):
    paths = write_tile(folder, run_starts(1)[0])
    paths[2].write_bytes(b"")
    content = paths[5].read_bytes()
    paths[5].write_bytes(content[: len(content) // 2])
    for path in (paths[2], paths[5]):
        os.utime(path, (OLD_S, OLD_S))
    (tile,) = planned(folder).tiles
    assert (len(tile.files), tile.n_subbands, tile.status) == (16, 14, "admitted")
    assert "1 file ZERO_BYTE" in tile.reason
    assert "1 file TRUNCATED_HDF5" in tile.reason


def test_a_tile_without_any_readable_file_is_planned_beside_its_neighbours(folder):
    starts = run_starts(3)
    for start in starts[:2]:
        write_tile(folder, start)
    for path in write_tile(folder, starts[2]):
        path.write_bytes(path.read_bytes()[:3000])
        os.utime(path, (OLD_S, OLD_S))
    plan = planned(folder)
    bad = plan.tiles[2]
    assert (bad.strip, bad.declination_deg, bad.n_subbands) == ("dec+16.1", DEC_DEG, 0)
    assert "TRUNCATED_HDF5" in bad.reason
    assert plan.mosaics[0].tiles[-1] == bad.tile
    assert bad.mid_mjd == pytest.approx(starts[2] + TILE_S / 2 / 86400, abs=3 / 86400)


def test_data_files_by_other_names_are_listed(folder):
    for start in run_starts(3):
        write_tile(folder, start)
    (folder / "zen.2458432.34569.uvh5").write_bytes(b"x")
    (folder / "notes.txt").write_text("no data")
    plan = planned(folder)
    assert len(plan.mosaics) == 1
    assert [item.what for item in plan.skipped] == ["zen.2458432.34569.uvh5"]
    assert "not named" in plan.skipped[0].reason


def test_an_unreadable_tile_alone_is_skipped_with_its_reason(folder):
    for path in write_tile(folder, run_starts(1)[0]):
        path.write_bytes(b"")
        os.utime(path, (OLD_S, OLD_S))
    plan = planned(folder)
    assert plan.tiles == []
    assert "ZERO_BYTE" in plan.skipped[0].reason


def test_incomplete_groups_wait_until_they_settle(folder):
    start = run_starts(1)[0]
    write_tile(folder, start, range(12), mtime_s=NOW_S - 100.0)
    waiting = planned(folder)
    assert waiting.tiles[0].status == "waiting"
    assert "4 of 16 subbands missing: sb12 sb13 sb14 sb15" in waiting.tiles[0].reason
    assert waiting.admitted == []
    assert waiting.transits == {}
    settled = planned(folder, now_s=NOW_S + 600.0)
    assert settled.tiles[0].status == "admitted"
    assert "4 of 16 subbands missing" in settled.tiles[0].reason


def test_complete_groups_are_taken_once_they_stop_growing(folder):
    paths = write_tile(folder, run_starts(1)[0], mtime_s=NOW_S - 30.0)
    assert planned(folder).tiles[0].status == "admitted"
    os.utime(paths[3], (NOW_S - 2.0, NOW_S - 2.0))
    assert planned(folder).tiles[0].status == "waiting"
    assert planned(folder, settle_s=0).tiles[0].status == "admitted"


def test_a_mosaic_waits_for_its_last_tiles_while_observing_goes_on(folder):
    for start in run_starts(5)[:4]:
        write_tile(folder, start, mtime_s=NOW_S - 60.0)
    live = planned(folder, mosaic_tiles=5)
    assert live.mosaics == []
    assert "observing goes on" in live.skipped[0].reason
    assert len(planned(folder, now_s=NOW_S + 2000, mosaic_tiles=5).mosaics[0].tiles) == 4


def test_strips_are_never_mixed(folder):
    starts = run_starts(6)
    for start, dec in zip(starts, [16.1, 16.1, 16.1, 33.2, 33.2, 33.2], strict=True):
        write_tile(folder, start, dec_deg=dec)
    plan = planned(folder, mosaic_tiles=6, min_tiles=1)
    assert plan.strips == ["dec+16.1", "dec+33.2"]
    for mosaic in plan.mosaics:
        assert {plan.tile(t).strip for t in mosaic.tiles} == {mosaic.strip}
    for tile in plan.tiles:
        assert {plan.tile(t).strip for t in plan.gain_tiles(tile.tile)} == {tile.strip}


def test_a_declination_between_two_strips_is_listed_and_not_used(folder):
    decs = [16.1, 16.1, 16.1, 16.19, 16.27]
    for start, dec in zip(run_starts(5), decs, strict=True):
        write_tile(folder, start, dec_deg=dec)
    plan = planned(folder)
    assert {t.strip for t in plan.tiles} == {"dec+16.1"}
    assert len(plan.tiles) == 4
    assert "STRIPS_MIXED" in plan.skipped[0].reason


def test_gaps_are_listed_in_minutes(folder):
    starts = run_starts(4)
    for start in (starts[0], starts[1], starts[3], starts[3] + 0.5):
        write_tile(folder, start)
    gaps = planned(folder).gaps
    assert [g.kind for g in gaps] == ["gap", "between runs"]
    assert gaps[0].minutes == pytest.approx(TILE_S / 60, abs=0.02)
    assert gaps[1].minutes == pytest.approx(720 - TILE_S / 60, abs=0.02)


def test_epochs_count_transits_over_midnight_and_missing_nights(folder):
    sidereal = 86164.0905 / 86400.0
    for night in (0, 1, 2, 5):
        for start in run_starts(3, TRANSIT_MJD + night * sidereal):
            write_tile(folder, start)
    plan = planned(folder)
    epochs = [m.epoch for m in plan.mosaics]
    assert np.diff(epochs).tolist() == [1, 1, 3]
    assert all(plan.tile(t).night == m.epoch for m in plan.mosaics for t in m.tiles)


def test_a_run_through_zero_right_ascension_is_one_mosaic_with_one_epoch(folder):
    transit = nearest_transit_mjd(0.2, 16.1, 61050.0)
    for start in run_starts(3, transit):
        write_tile(folder, start)
    calibrators = CalibratorList(
        ["zero"], np.array([0.2]), np.array([16.1]), np.array([5.0]), np.array([False])
    )
    plan = make_plan(config_for(folder), calibrators, NOW_S)
    (mosaic,) = plan.mosaics
    assert len(mosaic.tiles) == 3
    assert mosaic.epoch == transit_number(transit, 0.2)[0]
    # 1.5 deg of tile centres and 5 deg of beam on either side, rounded outward to 15 deg
    assert plan.strip_region("dec+16.1") == {"dec_deg": 16.1, "ra_range_deg": [345.0, 15.0]}


def test_sliding_windows_overlap_by_the_beam_and_are_the_same_every_night(folder):
    sidereal = 86164.0905 / 86400.0
    for night in (0, 1):
        for start in run_starts(24, TRANSIT_MJD + night * sidereal):
            write_tile(folder, start, (0, 15))
    plan = planned(folder, mosaic_tiles=10, sliding=True, centred=False)
    nights = {}
    for mosaic in plan.mosaics:
        nights.setdefault(plan.tile(mosaic.tiles[0]).night, []).append(mosaic)
    first, second = nights.values()
    assert [m.centre for m in first] == [m.centre for m in second]
    full = [m for m in first if len(m.tiles) == 10]
    assert len(full) >= 2
    for one, two in itertools.pairwise(full):
        assert len(set(one.tiles) & set(two.tiles)) >= 5
    used = {t for m in plan.mosaics for t in m.tiles}
    assert used == {t.tile for t in plan.tiles}
    for mosaic in plan.mosaics:
        assert plan.tile(mosaic.tiles[0]).night <= mosaic.epoch <= plan.tile(mosaic.tiles[-1]).night


@pytest.mark.parametrize(("dec_deg", "overlap"), [(16.1, 5), (54.6, 7)])
def test_overlap_is_the_issues(dec_deg, overlap):
    from dsaflow.instrument import PrimaryBeam
    from dsaflow.planning.mosaics import sliding_overlap

    assert sliding_overlap(dec_deg, PrimaryBeam(4.65), 0.2) == overlap


def test_window_takes_the_nearest_tiles_and_none_beyond_its_length(folder):
    starts = run_starts(14)
    for index in (*range(6), *range(8, 14)):
        write_tile(folder, starts[index], (0, 15))
    options = {"mosaic_tiles": 8, "calibrators": ["3C138"]}
    # tiles 6 and 7, around the transit, are missing: the calibrator has no data
    assert planned(folder, **options).mosaics == []
    write_tile(folder, starts[7], (0, 15))
    plan = planned(folder, **options)
    mids = np.array([plan.tile(t).mid_mjd for t in plan.mosaics[0].tiles])
    assert len(mids) == 7
    assert np.abs(mids - TRANSIT_MJD).max() * 86400 <= 4 * TILE_S + 20


def test_solutions_come_from_both_directions_nearest_first_within_validity(folder):
    sidereal = 86164.0905 / 86400.0
    for night in (0, 1, 3):
        for start in run_starts(7, TRANSIT_MJD + night * sidereal):
            write_tile(folder, start, (0, 15))
    plan = planned(folder)
    tiles = [t.tile for t in plan.tiles]
    # the middle tile of each night, and perhaps the next for the second calibrator
    assert {tiles[i] for i in (3, 10, 17)} <= set(plan.transit_tiles)
    assert plan.bandpass_tiles(tiles[0])[0] == tiles[3]
    assert tiles[10] in plan.bandpass_tiles(tiles[3])
    assert tiles[10] not in plan.bandpass_tiles(tiles[17])
    mids = {t.tile: t.mid_mjd for t in plan.tiles}
    for tile in tiles:
        chosen = plan.bandpass_tiles(tile)
        distances = [abs(mids[c] - mids[tile]) for c in chosen]
        assert distances == sorted(distances)
        assert max(distances) <= 1.0
    assert plan.gain_tiles(tiles[3])[0] == tiles[3]
    assert set(plan.gain_tiles(tiles[3])[1:]) == {tiles[i] for i in (1, 2, 4, 5)}
    assert plan.gain_tiles(tiles[0]) == [tiles[0], tiles[1], tiles[2]]


def test_a_night_without_transit_falls_back_on_another_date(folder):
    for start in run_starts(3):
        write_tile(folder, start)
    for start in run_starts(3, TRANSIT_MJD + 5.4):
        write_tile(folder, start)
    plan = planned(folder)
    last = plan.tiles[-1].tile
    assert last not in plan.transit_tiles
    assert plan.bandpass_tiles(last)[0] in plan.transit_tiles


def test_plan_is_deterministic_frozen_and_round_trips(folder, tmp_path):
    for start in run_starts(3):
        write_tile(folder, start)
    plan = planned(folder)
    path = tmp_path / "plan.json"
    plan.write(path)
    written = path.stat().st_mtime_ns
    planned(folder).write(path)
    assert path.stat().st_mtime_ns == written
    path.write_text("{")
    with pytest.raises(EnvironmentProblem, match=r"plan\.json is damaged"):
        Plan.read(path)
    plan.write(path)
    assert Plan.read(path).to_dict() == plan.to_dict()
    assert plan.mosaics[0].group_id in describe_plan(Plan.read(path))


def test_only_the_main_process_plans(folder):
    config = config_for(folder)
    config.paths.calibrators = str(folder / "calibrators.csv")
    (folder / "calibrators.csv").write_text(
        "# comment\nname,ra_deg,dec_deg,flux_jy,spectral_index,primary,coefficients,note\n"
        f"3C138,{CENTRE_RA_DEG},{CENTRE_DEC_DEG},8.5,-0.5,1,1 2,\n"
    )
    with pytest.raises(EnvironmentProblem, match="no plan"):
        frozen_plan(config, remake=False)
    for start in run_starts(3):
        write_tile(folder, start)
    made = frozen_plan(config, remake=True)
    write_tile(folder, run_starts(3)[2] + TILE_S / 86400)
    assert frozen_plan(config, remake=False).to_dict() == made.to_dict()


def test_headers_are_read_once_and_again_only_when_a_file_changes(folder):
    from dsaflow.planning.groups import scan_incoming
    from dsaflow.planning.headers import HeaderCache

    paths = write_tile(folder, run_starts(1)[0])
    cache_path = folder.parent / "headers.json"
    counts = []
    for _ in range(2):
        cache = HeaderCache(cache_path)
        first = scan_incoming(str(folder), cache)
        cache.save()
        counts.append(cache.n_read)
    assert counts == [16, 0]
    os.utime(paths[0], (OLD_S + 1, OLD_S + 1))
    cache = HeaderCache(cache_path)
    again = scan_incoming(str(folder), cache)
    assert cache.n_read == 1
    assert [f.header for f in again] == [f.header for f in first]
    cache_path.write_text("{ damaged")
    assert len(scan_incoming(str(folder), HeaderCache(cache_path))) == 16


def test_an_impossible_time_does_not_stop_the_plan(folder):
    for start in run_starts(3):
        write_tile(folder, start)
    write_file(folder, 88000.0, 0)
    plan = planned(folder)
    assert len(plan.tiles) == 3
    assert "HEADER_MISMATCH" in plan.skipped[0].reason


def test_unknown_calibrators_and_missing_folders_are_named(folder):
    write_tile(folder, run_starts(1)[0])
    with pytest.raises(ConfigError, match="3C999"):
        planned(folder, calibrators=["3C999"])
    empty = make_plan(config_for(folder.parent / "nowhere"), CALIBRATORS, NOW_S)
    assert "no such folder" in describe_plan(empty)
    config = config_for(folder)
    config.paths.calibrators = "nowhere.csv"
    with pytest.raises(EnvironmentProblem, match=r"paths\.calibrators: no file nowhere\.csv"):
        make_plan(config)


def test_sixteen_thousand_known_files_are_planned_in_seconds(tmp_path):
    from dsaflow.planning.groups import group_files
    from dsaflow.planning.headers import FileHeader, RawFile
    from dsaflow.planning.strips import place_tiles

    files = []
    for tile in range(1000):
        start = 61000.0 + tile * TILE_S / 86400.0
        jd = start + 2400000.5 + 0.5 * INTEGRATION_S / 86400.0
        header = FileHeader(
            jd, jd + 23 * INTEGRATION_S / 86400, 24, INTEGRATION_S, DEC_DEG, 48, 1.5e9, 1.49e9, 96
        )
        files += [
            RawFile(f"{tile:04d}_{sb:02d}", start, sb, 1, OLD_S, header if sb else None, "X: y")
            for sb in range(16)
        ]
    began = time.perf_counter()
    tiles, _ = place_tiles(group_files(files, 60.0), 0.1, 600.0, NOW_S)
    assert time.perf_counter() - began < 5.0
    assert len(tiles) == 1000
    assert all(len(t.files) == 16 for t in tiles)
