"""The forward model against pyuvdata's reading, sidereal time, uvw and phasing of one file."""

import numpy as np
import pytest

from dsaflow.simulate import night
from dsaflow.simulate.array import C_M_S
from dsaflow.simulate.settings import Effects, SimulateSettings

SOURCE = (81.1, 15.2)


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """One source 0.9 deg off the strip, all effects off but the beam's motion, all stations."""
    table = tmp_path_factory.mktemp("sky") / "sky.csv"
    table.write_text(f"ra_deg,dec_deg,flux_jy,spectral_index\n{SOURCE[0]},{SOURCE[1]},2.0,-0.7\n")
    quiet = Effects(**{name: name == "beam_motion" for name in Effects.model_fields})
    return SimulateSettings(
        effects=quiet, source_table=str(table), calibrator="", centre_ra_deg=80.3, n_tiles=1,
        channels_per_subband=3, stations=96, integrations=4, event={"kind": "none"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def uvdata(settings, tmp_path_factory, repository):
    pyuvdata = pytest.importorskip("pyuvdata")
    folder = tmp_path_factory.mktemp("incoming")
    night.simulate_night(settings, 0, folder, repository / "config/antennas.csv")
    data = pyuvdata.UVData()
    data.read_uvh5(next(folder.glob("*_sb05.hdf5")), run_check=False)
    return data


def test_pyuvdata_reads_what_the_telescope_writes(uvdata):
    assert uvdata.Nants_data == 96
    assert uvdata.telescope.Nants == 117
    assert uvdata.Nbls == 96 * 97 // 2
    assert uvdata.polarization_array.tolist() == [-5, -6]
    assert (uvdata.channel_width == -244140.625).all()
    assert (np.diff(uvdata.freq_array) < 0).all()
    assert uvdata.extra_keywords["phase_center_epoch"] == "HADEC"
    assert uvdata.telescope.location.lat.deg == pytest.approx(37.2334051, abs=1e-7)
    assert uvdata.telescope.location.lon.deg == pytest.approx(-118.2830000, abs=2e-6)


def test_sidereal_time_is_pyuvdatas(uvdata):
    stated = uvdata.lst_array.copy()
    uvdata.set_lsts_from_time_array()
    assert np.abs(stated - uvdata.lst_array).max() < 1e-8


def test_w_is_that_of_the_meridian(uvdata):
    data = uvdata.copy()
    stated = data.uvw_array.astype(float)
    data.set_uvws_from_antenna_positions()
    turn = data.extra_keywords["phase_center_dec"] - data.telescope.location.lat.rad
    east, north, up = data.uvw_array.T
    assert stated[:, 0] == pytest.approx(east, abs=2e-4)
    assert stated[:, 1] == pytest.approx(north * np.cos(turn) - up * np.sin(turn), abs=2e-4)
    assert stated[:, 2] == pytest.approx(north * np.sin(turn) + up * np.cos(turn), abs=2e-4)


def test_phasing_by_pyuvdata_closes_on_the_source(uvdata):
    """Fringe-stopping undone, then pyuvdata's own apparent place, uvw and sign: phase 0 everywhere."""
    data = uvdata.copy()
    data.set_uvws_from_antenna_positions()
    turn = data.extra_keywords["phase_center_dec"] - data.telescope.location.lat.rad
    meridian_w_m = data.uvw_array[:, 1] * np.sin(turn) + data.uvw_array[:, 2] * np.cos(turn)
    cycles = meridian_w_m[:, None] * data.freq_array[None] / C_M_S
    data.data_array *= np.exp(2j * np.pi * cycles)[..., None]
    data.phase(
        lon=np.radians(SOURCE[0]), lat=np.radians(SOURCE[1]), cat_name="source",
        cat_type="sidereal", phase_frame="icrs",
    )  # fmt: skip
    cross = data.ant_1_array != data.ant_2_array
    assert np.abs(data.uvw_array[cross]).max() > 2000
    # float32 visibilities; an error of 0.0001 arcsec would give 3e-5 rad
    assert np.abs(np.angle(data.data_array[cross])).max() < 1e-5


def test_amplitude_is_flux_times_beam(uvdata, settings):
    """Against the source's distance from (sidereal time, declination) in pyuvdata's frame."""
    from astropy import units as u
    from astropy.coordinates import angular_separation

    data = uvdata.copy()
    data.phase(
        lon=np.radians(SOURCE[0]), lat=np.radians(SOURCE[1]), cat_name="source",
        cat_type="sidereal", phase_frame="icrs",
    )  # fmt: skip
    away = angular_separation(
        data.phase_center_app_ra * u.rad, data.phase_center_app_dec * u.rad,
        data.lst_array * u.rad, np.radians(settings.declination_deg) * u.rad,
    ).to_value(u.rad)  # fmt: skip
    from scipy.special import j1

    x = np.pi * 4.65 * data.freq_array[None] / C_M_S * np.sin(away)[:, None]
    flux_jy = 2.0 * (data.freq_array / 1.4e9) ** -0.7
    expected = settings.correlator_unit * flux_jy * (2 * j1(x) / x) ** 2
    cross = data.ant_1_array != data.ant_2_array
    measured = np.abs(data.data_array[cross])
    assert measured == pytest.approx(np.repeat(expected[cross][..., None], 2, axis=-1), rel=1e-5)
    assert 0.2 < expected.max() / settings.correlator_unit / 2 < 0.9
