"""Real visibilities written by others through the stages themselves, from UVH5 to sky."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from dsaflow.calibration.stages import apply_calibration, solve_bandpass, solve_gains
from dsaflow.catalog import Catalog, write_catalog
from dsaflow.config import load_config
from dsaflow.errors import DataRejected, ReasonCode
from dsaflow.geometry import Site, projected_baselines
from dsaflow.imaging.frame import ApparentFrame
from dsaflow.imaging.gridding import Gridder
from dsaflow.imaging.products import TileImages, tile_header
from dsaflow.imaging.restore import RestoringBeam
from dsaflow.imaging.tile import image_tile
from dsaflow.imaging.weighting import briggs_weights, stokes_i
from dsaflow.instrument import read_stations
from dsaflow.planning import make_plan
from dsaflow.visibilities.convert import convert_tile, rotate
from dsaflow.visibilities.flag import flag_tile
from dsaflow.visibilities.flagfile import read_flags
from dsaflow.visibilities.ms import read_ms

pytestmark = pytest.mark.shared_data
HERA = "visibilities/zen.2458432.34569.uvh5"
ATCA = "visibilities/atca_1934_2015-02-27_1311-1498MHz.uvh5"
KEYS = ("image", "residual", "psf", "beam", "noise", "subbands")
# log10 S[Jy] in powers of log10 nu[MHz] (Reynolds 1994), and the position of PKS 1934-638 (ICRF)
REYNOLDS = np.polynomial.Polynomial((-30.7667, 26.4908, -7.0977, 0.605334))
PKS_1934_DEG = (294.854275, -63.712674)
PIXEL_ARCSEC = 1.0


def reynolds_jy(freq_hz):
    return 10 ** REYNOLDS(np.log10(freq_hz / 1e6))


@pytest.fixture(scope="module")
def front(repository):
    """Conversion and flagging by their stage functions."""

    def run(path, folder, config):
        stations = read_stations(repository / "config/antennas.csv")
        made = convert_tile([str(path)], folder / "data.ms", config, stations)
        assert made.verdict == "pass"
        return flag_tile(folder / "data.ms", folder / "flags.h5", config)

    return run


@pytest.fixture(scope="module")
def atca(tmp_path_factory, shared_file, repository, front):
    """PKS 1934-638 as its own primary calibrator, among all the others of the table."""
    folder, config = tmp_path_factory.mktemp("atca"), load_config({})
    flagged = front(shared_file(ATCA), folder, config)
    in_ghz = REYNOLDS(np.polynomial.Polynomial([3, 1])).coef
    table = (repository / "config/calibrators.csv").read_text()
    row = "{},{},{},14.9,0,1,{},".format(
        "PKS1934-638", *PKS_1934_DEG, " ".join(f"{a:.9f}" for a in in_ghz)
    )
    calibrators, catalog = folder / "calibrators.csv", folder / "catalog.parquet"
    calibrators.write_text(f"{table.rstrip()}\n{row}\n")
    place = [np.array([value]) for value in PKS_1934_DEG]
    write_catalog(
        catalog,
        Catalog(
            np.array(["one"]), *place, np.array([14.9]), np.array([0.5]), np.array([-0.2]),
            np.array([True]),
        ),
    )  # fmt: skip
    inputs = folder / "data.ms", folder / "flags.h5"
    bandpass = solve_bandpass(*inputs, catalog, calibrators, folder / "bandpass.h5", config)
    solutions = [folder / "bandpass.h5"]
    gains = solve_gains(*inputs, solutions, catalog, folder / "gains.h5", config)
    applied = apply_calibration(
        *inputs, solutions, [folder / "gains.h5"], folder / "calibrated.ms", config
    )
    return SimpleNamespace(
        folder=folder, flagged=flagged, bandpass=bandpass, gains=gains, applied=applied,
        vis=read_ms(folder / "calibrated.ms"),
    )  # fmt: skip


def test_a_tracking_array_s_own_calibrator_is_found_and_solved(atca):
    numbers = atca.bandpass.numbers
    assert atca.bandpass.verdict == "pass"
    # brighter primaries of the table are elsewhere in the sky
    assert (numbers["calibrator"], numbers["source"]) == ("PKS1934-638", "primary")
    assert numbers["n_receptor_solved"] == 12
    assert atca.flagged.numbers["flagged_fraction"] == pytest.approx(0.171, abs=0.01)
    # one source is no flux scale of its own: the bandpass's stands, and the doubt is stated
    assert atca.gains.verdict == "warn"
    assert atca.gains.numbers["scale"] == 1.0
    assert atca.applied.numbers["scale_anchor"] == "bandpass"
    assert atca.applied.numbers["rung"] == "same-date/primary/PKS1934-638+own"


def test_corrected_spectrum_is_reynolds(atca):
    vis = atca.vis
    good = ~vis.flags
    for part in np.array_split(np.arange(vis.freq_hz.size), 4):
        used = good[:, :, part]
        flux = vis.data[:, :, part][used].real.mean()
        expected = np.broadcast_to(reynolds_jy(vis.freq_hz[part])[:, None], used.shape)[used].mean()
        assert flux == pytest.approx(expected, rel=0.01)


def on_centre(vis, ra_deg, dec_deg):
    """The same visibilities phased to another centre."""
    uvw = [
        projected_baselines(vis.antenna_itrf_m, vis.time_mjd, *centre, Site(*vis.site_deg_m))
        for centre in ((vis.phase_ra_deg, vis.phase_dec_deg), (ra_deg, dec_deg))
    ]
    data = vis.data.copy()
    rotate(data, uvw[1][..., 2] - uvw[0][..., 2], vis.freq_hz, vis.antenna1, vis.antenna2)
    return replace(
        vis, data=data, uvw_m=uvw[1][:, vis.antenna1] - uvw[1][:, vis.antenna2],
        phase_ra_deg=ra_deg, phase_dec_deg=dec_deg,
    )  # fmt: skip


@pytest.mark.parametrize("offset_arcsec", [(0.0, 0.0), (14.0, -37.0), (-14.0, 37.0)])
def test_calibrator_stands_in_the_image_at_its_place_with_its_flux(atca, offset_arcsec):
    """Dirty image about a centre off the source; its fan beam is narrow along (14, -37)."""
    from astropy.wcs import WCS

    ra, dec = PKS_1934_DEG
    north = dec - offset_arcsec[1] / 3600
    east = ra - offset_arcsec[0] / 3600 / np.cos(np.radians(dec))
    vis = on_centre(atca.vis, east, north)
    size, pixel_rad = 256, np.radians(PIXEL_ARCSEC / 3600)
    stokes = stokes_i(vis)
    weights = briggs_weights(stokes.hands, vis.uvw_m, vis.freq_hz, size, pixel_rad, 0.5)
    image = Gridder(vis.uvw_m, vis.freq_hz, size, pixel_rad).image(stokes.data, weights)
    frame = ApparentFrame.at(vis.mid_mjd, vis.phase_ra_deg, vis.phase_dec_deg, vis.site_deg_m)
    made = TileImages(
        image, image, image, image, image, [], RestoringBeam(3.0, 3.0, 0.0), frame, pixel_rad,
        vis.freq_hz.mean(), vis.channel_width_hz,
    )  # fmt: skip
    wcs = WCS(tile_header(made, vis, {}))
    x, y = (float(v) for v in wcs.wcs_world2pix(ra, dec, 0))
    channel = weights.sum(axis=(0, 1))
    expected = np.average(reynolds_jy(vis.freq_hz), weights=channel)
    assert expected == pytest.approx(14.9, abs=0.1)
    # the profile across the fan, through the source's place
    along = np.array([-14.0, -37.0]) / np.hypot(14, 37)  # columns run west
    step = np.arange(-30, 30.5, 0.5)
    profile = sample(image, x + step * along[0], y + step * along[1])
    assert profile.max() == pytest.approx(expected, rel=0.02)
    # an eighth of the fan's width of 8 arcsec
    assert abs(step[profile.argmax()]) * PIXEL_ARCSEC <= 1.0
    assert sample(image, np.array([x]), np.array([y]))[0] == pytest.approx(expected, rel=0.03)


def sample(image, x, y):
    from scipy.ndimage import map_coordinates

    return map_coordinates(image.astype(float), [y, x], order=3)


def test_a_fan_beam_is_refused_with_its_reason(atca, tmp_path):
    """One integration of an east-west array has no beam to restore with."""
    config = load_config(
        {
            "image": {"size": 256, "pixel_arcsec": 2.0},
            "instrument": {"beam": {"effective_diameter_m": 400.0}},
        }
    )
    with pytest.raises(DataRejected, match="PSF") as refused:
        image_tile(
            atca.folder / "calibrated.ms",
            {k: str(tmp_path / f"{k}.fits") for k in KEYS},
            config,
            {},
        )
    assert refused.value.code is ReasonCode.NO_DATA


@pytest.mark.filterwarnings("ignore")  # pyuvdata warns about the file's own age
def test_hera_drift_scan_goes_through_to_the_image(tmp_path, shared_file, front):
    """HERA at its own size: its dirty image is the Fourier sum of pyuvdata's phased data."""
    from astropy.io import fits
    from pyuvdata import UVData

    config = load_config(
        {
            "image": {"size": 128, "pixel_arcsec": 1200.0, "beam_terms": 2, "robust": 0.0},
            "instrument": {"beam": {"effective_diameter_m": 14.0}},
        }
    )
    verdict = front(shared_file(HERA), tmp_path, config)
    assert verdict.verdict == "pass"
    assert 0 < verdict.numbers["newly_flagged_fraction"] < 0.3
    vis = read_ms(tmp_path / "data.ms")
    vis = replace(vis, flags=vis.flags | read_flags(tmp_path / "flags.h5"))
    outputs = {k: str(tmp_path / f"{k}.fits") for k in KEYS}
    made = image_tile(tmp_path / "data.ms", outputs, config, {"tile": "hera"})
    # uncalibrated data are far from the radiometer's noise, and the verdict says so
    assert made.reason_code == ReasonCode.NOISE_OUT_OF_RANGE
    assert fits.getheader(outputs["image"])["TELESCOP"] == "HERA"
    oracle = UVData.from_file(shared_file(HERA))
    oracle.select(ant_str="cross")
    oracle.select(polarizations=[-5, -6])
    oracle.phase(
        lon=np.radians(vis.phase_ra_deg), lat=np.radians(vis.phase_dec_deg),
        cat_name="meridian", phase_frame="icrs",
    )  # fmt: skip
    uvw_m = oracle.uvw_array.reshape(*vis.data.shape[:2], 3)
    data = oracle.data_array.reshape(vis.data.shape)
    swap = (oracle.ant_1_array > oracle.ant_2_array)[: vis.data.shape[1]]
    data[:, swap], uvw_m[:, swap] = data[:, swap].conj(), -uvw_m[:, swap]
    stokes = stokes_i(vis)
    pixel_rad = np.radians(1200.0 / 3600)
    gridder = Gridder(vis.uvw_m, vis.freq_hz, 128, pixel_rad, 1e-6)
    image = gridder.image(stokes.data, stokes.hands)
    both = np.where(vis.flags, 0, data).sum(axis=-1) / np.maximum((~vis.flags).sum(axis=-1), 1)
    for row, column in ((64, 64), (64, 90), (30, 64), (80, 20), (100, 101)):
        l, m = gridder.l[column], gridder.m[row]  # noqa: E741
        n = np.sqrt(1 - l**2 - m**2)
        path = uvw_m @ np.array([l, m, n - 1])
        turns = path[..., None] * (vis.freq_hz / 299792458.0)
        # in UVH5, too, a source is exp(+2 pi i (ul + vm + w(n - 1)))
        direct = (both * np.exp(-2j * np.pi * turns) * stokes.hands).real.sum() / stokes.hands.sum()
        assert image[row, column] == pytest.approx(direct, abs=1e-4 * float(np.abs(image).max()))


@pytest.mark.parametrize("renamed", [False, True])
def test_planning_lists_real_files_and_goes_on(tmp_path, shared_file, renamed):
    """Files of other telescopes in the incoming folder, under their names or the correlator's."""
    incoming = tmp_path / "incoming"
    incoming.mkdir()
    for number, name in enumerate((HERA, ATCA)):
        source = shared_file(name)
        target = f"2015-02-27T0{number}:00:00_sb00.hdf5" if renamed else source.name
        (incoming / target).symlink_to(source)
    config = load_config(
        {"paths": {"incoming": str(incoming), "results": str(tmp_path / "results")}}
    )
    plan = make_plan(config)
    assert plan.mosaics == []
    assert len(plan.skipped) + len(plan.tiles) == 2
    assert all(item.reason for item in plan.skipped)
    reasons = " ".join(item.reason for item in plan.skipped)
    assert ("UNREADABLE" if renamed else "not named") in reasons
