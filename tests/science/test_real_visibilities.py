"""Real visibilities written by others: HERA drifting, ATCA tracking, a DSA-110 header."""

import numpy as np
import pytest

from dsaflow.config import load_config
from dsaflow.instrument import read_stations
from dsaflow.visibilities.convert import convert_tile
from dsaflow.visibilities.flag import flag_visibilities
from dsaflow.visibilities.ms import read_ms

pytestmark = pytest.mark.shared_data
HERA = "visibilities/zen.2458432.34569.uvh5"
ATCA = "visibilities/atca_1934_2015-02-27_1311-1498MHz.uvh5"


@pytest.fixture
def converted(tmp_path, repository, shared_file):
    def convert(name):
        stations = read_stations(repository / "config/antennas.csv")
        verdict = convert_tile(
            [str(shared_file(name))], tmp_path / "real.ms", load_config(), stations
        )
        assert verdict.verdict == "pass"
        return read_ms(tmp_path / "real.ms")

    return convert


@pytest.mark.filterwarnings("ignore")  # pyuvdata warns about the files' own age
def test_hera_drift_scan_is_phased_as_pyuvdata_does(converted, shared_file):
    from pyuvdata import UVData

    vis = converted(HERA)
    oracle = UVData.from_file(shared_file(HERA))
    oracle.select(ant_str="cross")
    oracle.select(polarizations=[-5, -6])
    oracle.phase(
        lon=np.radians(vis.phase_ra_deg), lat=np.radians(vis.phase_dec_deg),
        cat_name="meridian", phase_frame="icrs",
    )  # fmt: skip
    n_time, n_baseline = vis.data.shape[:2]
    # the Measurement Set's sign, and every baseline from its lower-numbered antenna
    data = oracle.data_array.reshape(vis.data.shape).conj()
    uvw_m = -oracle.uvw_array.reshape(n_time, n_baseline, 3)
    swap = (oracle.ant_1_array > oracle.ant_2_array)[:n_baseline]
    data[:, swap], uvw_m[:, swap] = data[:, swap].conj(), -uvw_m[:, swap]
    assert np.abs(data - vis.data).max() < 1e-5 * np.abs(data).max()
    # v along ICRS north to 0.3 arcsec on 60 m
    assert np.abs(uvw_m - vis.uvw_m).max() < 1e-5 * np.abs(uvw_m).max()


def test_hera_is_flagged_and_not_all(converted):
    vis = converted(HERA)
    flags, numbers = flag_visibilities(vis, load_config().flag)
    assert 0 < flags.mean() < 0.6
    assert set(numbers["fraction_by_antenna"]) == set(vis.antenna_name)


def test_atca_keeps_its_centre_and_its_flags(converted, shared_file):
    import h5py

    vis = converted(ATCA)
    with h5py.File(shared_file(ATCA)) as file:
        stored = file["Data/flags"][..., :2][:, np.argsort(file["Header/freq_array"][()])]
        uvw_m = file["Header/uvw_array"][()]
        entry = file["Header/phase_center_catalog/0"]
        fk5_deg = np.degrees([entry["cat_lon"][()], entry["cat_lat"][()]])
    assert vis.flags.mean() == pytest.approx(0.171, abs=0.002)
    assert vis.flags[0][stored].all()
    flags, _ = flag_visibilities(vis, load_config().flag)
    assert flags[vis.flags].all()
    assert flags.mean() < 0.6
    # FK5 J2000 and ICRS agree to 30 mas
    assert [vis.phase_ra_deg, vis.phase_dec_deg] == pytest.approx(fk5_deg, abs=2e-5)
    # the file's uvw are of 22 s before the time they carry: 1.6 mrad
    assert np.abs(vis.uvw_m[0] + uvw_m).max() < 2.5e-3 * np.abs(uvw_m).max()


def test_atca_calibrator_closes_as_a_point_source(converted):
    """PKS 1934-638 at the phase centre: antenna gains alone leave 0.14 deg and 0.4 %."""
    vis = converted(ATCA)
    closure_deg, closure_percent = [], []
    n = vis.n_antenna
    for pol in range(2):
        for channel in range(vis.freq_hz.size):
            good = ~vis.flags[0, :, channel, pol]
            if not good.all():
                continue
            values = vis.data[0, :, channel, pol].astype(complex)
            ratio = values / solve(values, vis.antenna1, vis.antenna2, n)
            closure_deg.append(np.degrees(np.angle(ratio)))
            closure_percent.append(100 * (np.abs(ratio) - 1))
    assert len(closure_deg) > 200
    assert np.sqrt(np.mean(np.square(np.mean(closure_deg, axis=0)))) < 0.14
    assert np.sqrt(np.mean(np.square(np.mean(closure_percent, axis=0)))) < 0.4


def solve(values, antenna1, antenna2, n_antenna):
    """Products of antenna gains that fit a unit point source best (alternating least squares)."""
    matrix = np.zeros((n_antenna, n_antenna), complex)
    matrix[antenna1, antenna2] = values
    matrix[antenna2, antenna1] = values.conj()
    gain = np.full(n_antenna, np.sqrt(np.abs(values).mean()), complex)
    for _ in range(200):
        power = np.sum(np.abs(gain) ** 2) - np.abs(gain) ** 2
        gain = 0.5 * (gain + matrix @ gain / power)
    return gain[antenna1] * gain[antenna2].conj()


def test_dsa110_header_is_what_the_reader_takes(shared_file):
    import pandas as pd

    from dsaflow import geometry, instrument

    row = pd.read_parquet(shared_file("header/dsa110_header_2025-10-03.parquet")).iloc[0]
    assert row["channel_width_hz"] == -instrument.CHANNEL_WIDTH_HZ
    assert row["integration_time_sec"] == pytest.approx(instrument.INTEGRATION_S)
    assert row["nbls"] == 96 * 97 // 2
    assert row["polarization_array"].tolist() == [-5, -6]
    freq_hz = row["freq_array_hz"]
    assert (np.diff(freq_hz) < 0).all()
    # the grid of 768, each channel 1/16 of a channel above its nominal place in this file
    place = (freq_hz - instrument.BAND_LOW_HZ) / instrument.CHANNEL_WIDTH_HZ - 0.5
    assert np.abs(place - np.rint(place) - 0.0625).max() < 1e-3
    jd, lst = row["time_array_mjd"], row["lst_array_rad"]
    ours = geometry.local_apparent_sidereal_time(jd - 2400000.5)
    # 0.1 s of sidereal time is 7e-6 rad
    assert np.abs(np.angle(np.exp(1j * (ours - lst)))).max() < 1.5e-5
