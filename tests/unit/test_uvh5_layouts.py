"""The same visibilities in every layout that UVH5 has had read the same."""

import h5py
import numpy as np
import pytest

from dsaflow.simulate import night
from dsaflow.simulate.settings import Effects, SimulateSettings
from dsaflow.visibilities.uvh5 import read_header, read_visibilities


@pytest.fixture(scope="module")
def original(tmp_path_factory, repository):
    folder = tmp_path_factory.mktemp("layout")
    quiet = Effects(**dict.fromkeys(Effects.model_fields, False) | {"noise": True})
    settings = SimulateSettings(
        n_tiles=1, stations=4, integrations=3, channels_per_subband=4, max_sources=3, effects=quiet
    )
    night.simulate_night(settings, 0, folder, repository / "config/antennas.csv")
    return sorted(folder.glob("*_sb05.hdf5"))[0]


def replace(group, name, values):
    del group[name]
    group[name] = values


def spectral_window_axis(file):
    header, data = file["Header"], file["Data"]
    replace(header, "freq_array", header["freq_array"][()][None])
    replace(header, "channel_width", float(header["channel_width"][0]))
    for name in ("visdata", "flags", "nsamples"):
        replace(data, name, data[name][()][:, None])


def integer_pairs(file):
    values = file["Data/visdata"][()]
    pairs = np.empty(values.shape, [("r", "<f4"), ("i", "<f4")])
    pairs["r"], pairs["i"] = values.real, values.imag
    replace(file["Data"], "visdata", pairs)


def baseline_major(file):
    n_time = file["Header/Ntimes"][()]
    header, data = file["Header"], file["Data"]
    n_blt = header["time_array"].size
    order = np.arange(n_blt).reshape(n_time, -1).T.ravel()
    for name in ("time_array", "lst_array", "ant_1_array", "ant_2_array", "uvw_array"):
        replace(header, name, header[name][()][order])
    for name in ("visdata", "flags", "nsamples"):
        replace(data, name, data[name][()][order])


def polarisations_exchanged(file):
    replace(file["Header"], "polarization_array", np.array([-6, -5]))
    for name in ("visdata", "flags", "nsamples"):
        replace(file["Data"], name, file["Data"][name][()][..., ::-1])


def text_keywords(file):
    keywords = file["Header/extra_keywords"]
    replace(keywords, "phase_center_epoch", "HADEC")


@pytest.mark.parametrize(
    "change",
    [
        spectral_window_axis,
        integer_pairs,
        baseline_major,
        polarisations_exchanged,
        text_keywords,
    ],
)
def test_layouts(original, tmp_path, change):
    path = tmp_path / "changed.hdf5"
    path.write_bytes(original.read_bytes())
    with h5py.File(path, "r+") as file:
        change(file)
    first, second = read_header(original), read_header(path)
    assert np.array_equal(first.freq_hz, second.freq_hz)
    assert first.channel_width_hz == second.channel_width_hz > 0
    assert np.array_equal(first.antenna1, second.antenna1)
    assert np.array_equal(first.time_mjd, second.time_mjd)
    for a, b in zip(read_visibilities(first), read_visibilities(second), strict=True):
        assert np.array_equal(a, b)


def test_autocorrelations_are_dropped(original):
    header = read_header(original)
    assert header.rows.shape == (3, 6)
    assert (header.antenna1 != header.antenna2).all()


def test_phase_centre_is_the_headers(original):
    centre = read_header(original).phase_centre
    assert centre.kind == "hadec"
    assert centre.hour_angle_rad == 0.0
    assert np.degrees(centre.declination_rad) == pytest.approx(16.1)


def test_old_drift_header_without_catalogue(original, tmp_path):
    path = tmp_path / "old.hdf5"
    path.write_bytes(original.read_bytes())
    with h5py.File(path, "r+") as file:
        del file["Header/phase_center_catalog"]
        del file["Header/extra_keywords"]
        file["Header/phase_type"] = np.bytes_("drift")
    centre = read_header(path).phase_centre
    assert centre.kind == "unprojected"
    assert np.degrees(centre.declination_rad) == pytest.approx(37.2334051)
