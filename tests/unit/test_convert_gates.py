"""Every reason for which a group of files is rejected, with the file that shows it."""

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from dsaflow.config import load_config
from dsaflow.errors import DataRejected, ReasonCode
from dsaflow.instrument import read_stations
from dsaflow.simulate import night
from dsaflow.simulate.settings import Effects, SimulateSettings
from dsaflow.visibilities.convert import convert_tile
from dsaflow.visibilities.group import station_number
from dsaflow.visibilities.ms import read_ms


@pytest.fixture(scope="module")
def clean(tmp_path_factory, repository):
    """Sixteen good files: 4 stations, 4 integrations, one channel each."""
    folder = tmp_path_factory.mktemp("clean")
    quiet = Effects(**dict.fromkeys(Effects.model_fields, False) | {"noise": True})
    settings = SimulateSettings(
        n_tiles=1, stations=4, integrations=4, channels_per_subband=1, max_sources=3, effects=quiet
    )
    night.simulate_night(settings, 0, folder, repository / "config/antennas.csv")
    return folder


@pytest.fixture
def incoming(clean, tmp_path):
    folder = tmp_path / "incoming"
    shutil.copytree(clean, folder)
    return sorted(folder.glob("*.hdf5"), key=lambda p: p.name[-7:])


@pytest.fixture
def run(tmp_path, repository):
    stations = read_stations(repository / "config/antennas.csv")

    def convert(files, **options):
        config = load_config({"convert": options})
        verdict = convert_tile([str(f) for f in files], tmp_path / "tile.ms", config, stations)
        return verdict, read_ms(tmp_path / "tile.ms")

    return convert


def rejection(run, files, **options) -> DataRejected:
    with pytest.raises(DataRejected) as caught:
        run(files, **options)
    assert not list(Path(files[0]).parent.parent.glob("tile*.ms")), "a rejected tile leaves no MS"
    return caught.value


def edit(path, change):
    with h5py.File(path, "r+") as file:
        change(file)


def test_good_group_passes(incoming, run):
    verdict, vis = run(incoming)
    assert verdict.verdict == "pass"
    assert vis.data.shape == (4, 6, 16, 2)
    assert not vis.flags.any()
    assert (np.diff(vis.freq_hz) > 0).all()
    assert vis.telescope == "DSA_110"
    assert verdict.numbers["n_subbands"] == 16


def test_files_in_any_order(incoming, run):
    _, first = run(incoming)
    _, second = run(incoming[::-1])
    assert np.array_equal(first.data, second.data)


def zero_byte(path):
    path.write_bytes(b"")


def truncated(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def unreadable(path):
    path.write_text("not HDF5")


def no_header(path):
    def change(file):
        del file["Header/freq_array"]

    edit(path, change)


def all_nan(path):
    def change(file):
        file["Data/visdata"][...] = np.nan

    edit(path, change)


def all_zero(path):
    def change(file):
        file["Data/visdata"][...] = 0

    edit(path, change)


DAMAGE = [
    (zero_byte, ReasonCode.ZERO_BYTE),
    (truncated, ReasonCode.TRUNCATED_HDF5),
    (unreadable, ReasonCode.UNREADABLE),
    (no_header, ReasonCode.UNREADABLE),
    (all_nan, ReasonCode.BAD_DATA_NAN),
    (all_zero, ReasonCode.BAD_DATA_ZERO),
]


@pytest.mark.parametrize(("damage", "code"), DAMAGE)
def test_one_bad_file_is_a_missing_subband(incoming, run, damage, code):
    damage(incoming[3])  # sb03, the fourth from the top of the band
    verdict, vis = run(incoming)
    assert verdict.verdict == "warn"
    assert code in verdict.detail
    assert verdict.numbers["n_subbands"] == 15
    assert vis.freq_hz.size == 16
    assert np.allclose(np.diff(vis.freq_hz), 187.5e6 / 16)
    assert vis.flags[:, :, 12].all()
    assert (vis.data[:, :, 12] == 0).all()
    assert not np.delete(vis.flags, 12, axis=2).any()


@pytest.mark.parametrize(("damage", "code"), DAMAGE)
def test_too_few_left_is_rejected_with_the_cause(incoming, run, damage, code):
    for path in incoming[:5]:
        damage(path)
    assert rejection(run, incoming).code == code


def test_missing_subbands(incoming, run):
    verdict, _ = run(incoming[:12])
    assert verdict.numbers["n_subbands"] == 12
    Path(incoming[0].parent.parent / "tile.ms").rename(incoming[0].parent / "kept")
    assert rejection(run, incoming[:11]).code == ReasonCode.SUBBANDS_MISSING
    assert rejection(run, incoming[:15], min_subbands=16).code == ReasonCode.SUBBANDS_MISSING


def test_times_that_disagree(incoming, run):
    def change(file):
        file["Header/time_array"][...] += 12.884902 / 86400

    edit(incoming[5], change)
    error = rejection(run, incoming)
    assert error.code == ReasonCode.TIME_MISMATCH
    assert incoming[5].name in error.detail


def test_duplicate_subband(incoming, run):
    copy = incoming[2].with_name(incoming[2].name.replace("sb02", "sb09"))
    files = [*incoming[:9], copy, *incoming[10:]]
    incoming[9].unlink(missing_ok=True)
    shutil.copy(incoming[2], copy)
    assert rejection(run, files).code == ReasonCode.DUPLICATE_SUBBAND


def test_too_many_nan(incoming, run):
    def change(file):
        data = file["Data/visdata"][...]
        data[: int(0.7 * len(data))] = np.nan
        file["Data/visdata"][...] = data

    for path in incoming:
        edit(path, change)
    assert rejection(run, incoming).code == ReasonCode.BAD_DATA_NAN
    verdict, vis = run(incoming, max_nan_fraction=0.9)
    assert 0.6 < verdict.numbers["nan_fraction"] < 0.8
    assert np.isfinite(vis.data).all()
    assert vis.flags.mean() == pytest.approx(verdict.numbers["nan_fraction"])


@pytest.mark.parametrize(("offset_m", "fails"), [(0.03, False), (0.08, True)])
def test_antenna_positions(incoming, run, repository, offset_m, fails):
    def change(file):
        number = file["Header/ant_1_array"][0]
        positions = file["Header/antenna_positions"][...]
        positions[number, 2] += offset_m
        file["Header/antenna_positions"][...] = positions

    for path in incoming:
        edit(path, change)
    if fails:
        assert rejection(run, incoming).code == ReasonCode.ANTENNA_POSITIONS
    else:
        assert run(incoming)[0].verdict == "pass"


def test_declination_changed(incoming, run):
    def change(file):
        file["Header/extra_keywords/phase_center_dec"][...] += np.radians(0.5)

    edit(incoming[8], change)
    assert rejection(run, incoming).code == ReasonCode.DECLINATION_CHANGED


@pytest.mark.parametrize("shift_hz", [200e6, 6e6])
def test_wrong_band(incoming, run, shift_hz):
    def change(file):
        file["Header/freq_array"][...] += shift_hz

    edit(incoming[0], change)
    # 6 MHz may leave the file within the subband, among channels that are not the others'
    expected = {200e6: [ReasonCode.WRONG_BAND]}.get(
        shift_hz, [ReasonCode.WRONG_BAND, ReasonCode.HEADER_MISMATCH]
    )
    assert rejection(run, incoming).code in expected


def test_wrong_channel_width(incoming, run):
    def change(file):
        file["Header/channel_width"][...] = 1e6

    for path in incoming:
        edit(path, change)
    assert rejection(run, incoming).code == ReasonCode.WRONG_BAND


def test_baselines_written_the_other_way_round(incoming, run):
    """A file whose uvw contradict its antenna order would be imaged upside down."""

    def change(file):
        file["Header/uvw_array"][...] *= -1

    for path in incoming:
        edit(path, change)
    assert rejection(run, incoming).code == ReasonCode.HEADER_MISMATCH


def test_polarisations_missing(incoming, run):
    def change(file):
        file["Header/polarization_array"][...] = [-1, -2]

    for path in incoming:
        edit(path, change)
    assert rejection(run, incoming).code == ReasonCode.HEADER_MISMATCH


def test_a_missing_file_is_a_failure_of_the_machine(incoming, run):
    incoming[0].unlink()
    with pytest.raises(FileNotFoundError):
        run(incoming)


@pytest.mark.parametrize(
    ("name", "number"), [("7", "7"), ("007", "7"), ("DSA-103", "103"), ("pad12", "12"), ("x", "x")]
)
def test_station_number(name, number):
    assert station_number(name) == number
