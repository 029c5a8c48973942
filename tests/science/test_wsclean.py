"""WSClean as the other back-end, and as the judge of the forward model's places.

The first gives the same products as our own engine. As a judge it images by itself, also a Measurement
Set that pyuvdata phased and wrote, so that no line of the pipeline stands between simulator and image.
"""

import importlib.util
import os
import shutil
import subprocess
import warnings
from pathlib import Path

import numpy as np
import pytest

from dsaflow.config import load_config
from dsaflow.errors import EnvironmentProblem
from dsaflow.imaging.tile import image_visibilities
from dsaflow.instrument import read_stations
from dsaflow.simulate import night
from dsaflow.simulate.array import C_M_S, airy, meridian_icrs_deg, source_enu
from dsaflow.simulate.schedule import tile_jd
from dsaflow.simulate.settings import Effects, SimulateSettings
from dsaflow.visibilities.convert import convert_tile
from dsaflow.visibilities.ms import write_ms

FIELD_ARCSEC = 15360
ARCSEC = np.radians(1 / 3600)


def _truth():
    """The synthetic sky of test_imaging_truth.py, which no package holds."""
    path = Path(__file__).with_name("test_imaging_truth.py")
    spec = importlib.util.spec_from_file_location("imaging_truth", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def needs_wsclean():
    if shutil.which("wsclean") is None:
        pytest.skip("wsclean is not on PATH (Debian package wsclean)")


@pytest.mark.slow
@pytest.mark.wsclean
def test_both_engines_agree_with_the_sky(repository, tmp_path):
    needs_wsclean()
    truth = _truth()
    sky = truth.scattered(9, np.geomspace(0.2, 2, 8), reach_deg=1.5)
    vis = truth.observe(repository, sky, noise=0.5)
    write_ms(tmp_path / "tile.ms", vis)
    before = sorted(p.name for p in tmp_path.iterdir())
    found = {}
    coarse = {"size": 660, "pixel_arcsec": 26.0}  # both engines share the pixels: four times faster
    for engine in ("dsaflow", "wsclean"):
        options = truth.OPTIONS.model_copy(update={"engine": engine, **coarse})
        images = image_visibilities(
            vis, options, truth.BEAM, truth.SEFD_JY, ms_path=tmp_path / "tile.ms"
        )
        found[engine] = truth.measure(images, vis, sky)
        assert len(images.subbands) == 4
        assert images.psf[330, 330] == pytest.approx(1, abs=1e-3)
        planes = [np.median(truth.measure(images, vis, sky, k)[:, 0]) for k in range(4)]
        assert np.abs(np.array(planes) - 1).max() < 0.03, engine
    assert sorted(p.name for p in tmp_path.iterdir()) == before
    assert np.abs(np.median(found["wsclean"][:, 0]) - 1) < 0.02
    assert np.abs(found["wsclean"][:, 1:3] - found["dsaflow"][:, 1:3]).max() < 0.1
    assert np.abs(found["wsclean"][:, 0] / found["dsaflow"][:, 0] - 1).max() < 0.06


def test_without_the_program_the_error_says_what_to_install(repository, monkeypatch):
    truth = _truth()
    monkeypatch.setenv("PATH", "")
    vis = truth.observe(repository, [], noise=1.0)
    options = truth.OPTIONS.model_copy(update={"engine": "wsclean"})
    with pytest.raises(EnvironmentProblem, match="install it"):
        image_visibilities(vis, options, truth.BEAM, truth.SEFD_JY, ms_path="any.ms")


class Field:
    """Twelve sources of 1 Jy apparent on a spiral, 0.1 to 2 deg from a tile's centre, as UVH5 files.

    Every effect is off: a beam that moves would leave each source a PSF of its own, which CLEAN does not know.
    """

    def __init__(
        self, folder, repository, declination_deg=16.1, start="2026-01-25T00:00:00", **more
    ):
        self.folder, self.repository = folder, repository
        table = folder / "sky.csv"
        settings = SimulateSettings(
            n_tiles=1, stations=48, channels_per_subband=1, calibrator="", correlator_unit=1.0,
            source_table=str(table), event={"kind": "none"}, variable_fraction=0.0, start=start,
            declination_deg=declination_deg, centre_ra_deg=80.0,
            effects=Effects(**dict.fromkeys(Effects.model_fields, False)), **more,
        )  # fmt: skip
        table.write_text("ra_deg,dec_deg,flux_jy,spectral_index\n80.0,16.1,1.0,0.0\n")
        self.mid_jd = tile_jd(settings, 0, 0).mean(keepdims=True)
        centre = meridian_icrs_deg(self.mid_jd, declination_deg)
        self.centre_deg = float(centre[0][0]), float(centre[1][0])
        angle, away = np.radians(137.5 * np.arange(12)), np.radians(np.linspace(0.1, 2.0, 12))
        self.ra_deg, self.dec_deg = self.at(angle, away)
        flux_jy = 1 / airy(np.sin(away), 1.405e9, settings.true_diameter_m)
        rows = zip(self.ra_deg.tolist(), self.dec_deg.tolist(), flux_jy.tolist(), strict=True)
        lines = [f"{ra!r},{dec!r},{flux!r},0.0" for ra, dec, flux in rows]
        table.write_text("\n".join(["ra_deg,dec_deg,flux_jy,spectral_index", *lines]))
        night.simulate_night(settings, 0, folder / "in", repository / "config/antennas.csv")
        self.files = sorted((folder / "in").glob("*.hdf5"), key=lambda f: f.name[-7:], reverse=True)

    def at(self, angle, away):
        """ICRS places [deg] at a position angle and distance from the centre."""
        from astropy import units as u
        from astropy.coordinates import SkyCoord

        centre = SkyCoord(*self.centre_deg, unit="deg")
        place = centre.directional_offset_by(angle * u.rad, away * u.rad)
        return place.ra.deg, place.dec.deg

    def aberration_scale(self):
        """Apparent over true offsets near the centre, 1 - v.s/c, with the Earth's velocity."""
        from astropy.coordinates import SkyCoord, get_body_barycentric_posvel
        from astropy.time import Time

        _, velocity = get_body_barycentric_posvel("earth", Time(self.mid_jd[0], format="jd"))
        toward = SkyCoord(*self.centre_deg, unit="deg").cartesian.xyz.value
        return 1 - velocity.xyz.to_value("m/s") @ toward / C_M_S

    def measurement_set_of_the_pipeline(self):
        path = self.folder / "pipeline.ms"
        stations = read_stations(self.repository / "config/antennas.csv")
        convert_tile([str(f) for f in self.files], path, load_config(), stations)
        return path

    def measurement_set_of_pyuvdata(self):
        """The correlator's fringe-stopping undone, then pyuvdata's apparent places, uvw and writer."""
        from pyuvdata import UVData
        from pyuvdata.utils import phasing

        parts = []
        for file in self.files:
            part = UVData()
            part.read_uvh5(file, run_check=False)
            part.channel_width = np.abs(part.channel_width)
            part.set_uvws_from_antenna_positions()
            turn = part.extra_keywords["phase_center_dec"] - part.telescope.location.lat.rad
            meridian_m = part.uvw_array @ [0.0, np.sin(turn), np.cos(turn)]
            cycles = meridian_m[:, None] * part.freq_array / C_M_S
            part.data_array *= np.exp(2j * np.pi * cycles)[..., None]
            parts.append(part)
        data = parts[0].fast_concat(parts[1:], axis="freq", run_check=False)
        data.select(ant_str="cross", run_check=False)
        # it takes north from an arc of 1 deg at whose end, not middle, it measures the angle: 32 arcsec off
        # at declination 71.6, and nothing on a short arc
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(phasing.calc_frame_pos_angle.__kwdefaults__, "offset_pos", 1e-5)
            data.phase(
                lon=np.radians(self.centre_deg[0]), lat=np.radians(self.centre_deg[1]),
                cat_name="centre", cat_type="sidereal", phase_frame="icrs",
            )  # fmt: skip
        data.vis_units = "Jy"
        data.reorder_freqs(channel_order="freq", run_check=False)
        data.telescope.set_feeds_from_x_orientation("east", feeds=["x", "y"])
        path = self.folder / "pyuvdata.ms"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its own call of numpy's power
            data.write_ms(str(path), run_check=False)
        return path


def clean(ms_path, pixel_arcsec):
    """WSClean's restored image and its header."""
    from astropy.io import fits

    size = str(round(FIELD_ARCSEC / pixel_arcsec))
    command = [
        "wsclean", "-name", "field", "-size", size, size,
        "-scale", f"{pixel_arcsec}asec", "-pol", "i", "-weight", "briggs", "0.5", "-use-wgridder",
        "-no-update-model-required", "-no-dirty", "-niter", "5000", "-mgain", "0.8",
        "-threshold", "0.01", "-j", "1", str(ms_path),
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=ms_path.parent, env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    with fits.open(ms_path.parent / "field-image.fits") as hdus:
        return hdus[0].data[0, 0].astype(float), hdus[0].header.copy()


def summit(image, x, y):
    """Summit of the Gaussian nearest (x, y): a parabola through the logarithm of its top."""
    column, row, half = round(x), round(y), 8
    cut = image[row - half : row + half + 1, column - half : column + half + 1]
    assert cut.max() > 0.8, "no source where one is"
    north, east = np.mgrid[-half : half + 1, -half : half + 1]
    top = cut > 0.6 * cut.max()
    x, y, value = east[top], north[top], cut[top]
    terms = np.stack([np.ones(x.size), x, y, x * x, x * y, y * y], axis=1)
    p = np.linalg.lstsq(terms * value[:, None], np.log(value) * value, rcond=None)[0]
    shift = np.linalg.solve([[2 * p[3], p[4]], [p[4], 2 * p[5]]], -p[1:3])
    return column + shift[0], row + shift[1]


def offsets(field, image, header):
    """Measured and true direction cosines about the image's centre, each of shape (n, 2).

    A pixel is an *apparent* direction: the differential aberration is put on the true ones.
    """
    ra, dec = np.radians([field.ra_deg - header["CRVAL1"], field.dec_deg])
    dec0 = np.radians(header["CRVAL2"])
    north = np.sin(dec) * np.cos(dec0) - np.cos(dec) * np.sin(dec0) * np.cos(ra)
    true = field.aberration_scale() * np.stack([np.cos(dec) * np.sin(ra), north], axis=1)
    step = np.radians([header["CDELT1"], header["CDELT2"]])
    zero = np.array([header["CRPIX1"], header["CRPIX2"]]) - 1
    places = np.array([summit(image, *p) for p in (true / step + zero).tolist()])
    return (places - zero) * step, true


def assert_places(field, ms_path, pixel_arcsec=8.0):
    """Positions of an image by WSClean alone against the truth table.

    Without noise, CLEAN is what is left. It stops at 1 % of a source; where the other sources' sidelobes change
    by so much over a beam of 96 x 48 arcsec, they move a summit by 0.01 / (8 ln 2) of its width, 0.17 and
    0.09 arcsec. Its components sit on pixels. Measured: 0.04 rms, so 0.01 in the mean of 12, to which the
    header's digits add 0.01, and 1e-5 in scale and turn over 2 deg. Bounds are some three times these.
    """
    image, header = clean(ms_path, pixel_arcsec)
    measured, true = offsets(field, image, header)
    error = (measured - true) / ARCSEC
    shift, rms = error.mean(axis=0), np.sqrt(np.mean(error**2, axis=0))
    centred = true - true.mean(axis=0)
    size = np.sum(centred**2)
    scale = np.sum(centred * error) * ARCSEC / size
    turn = np.sum(centred[:, 0] * error[:, 1] - centred[:, 1] * error[:, 0]) * ARCSEC / size
    print(f"offset {shift}, scatter {rms}, largest {np.abs(error).max()} arcsec; {scale=}, {turn=}")
    assert np.abs(shift).max() < 0.1, f"offset {shift} arcsec"
    assert rms.max() < 0.15, f"scatter {rms} arcsec"
    assert np.abs(error).max() < 0.4, f"largest error {np.abs(error).max()} arcsec"
    assert max(abs(scale), abs(turn)) < 1.5e-5, f"scale off by {scale}, north by {turn} rad"


STRIPS = [(16.1, "2026-01-25T00:00:00"), (71.6, "2025-07-02T00:00:00")]


@pytest.fixture(scope="module", params=STRIPS, ids=lambda p: f"dec {p[0]}")
def field(request, tmp_path_factory, repository):
    needs_wsclean()
    return Field(tmp_path_factory.mktemp("field"), repository, *request.param)


@pytest.mark.wsclean
def test_places_in_an_image_by_wsclean_are_the_truth_tables(field):
    assert_places(field, field.measurement_set_of_the_pipeline())


@pytest.mark.wsclean
def test_places_without_any_of_the_pipeline(field):
    pytest.importorskip("pyuvdata")
    assert_places(field, field.measurement_set_of_pyuvdata())


def one_arcsec_east(jd, ra_deg, dec_deg):
    return source_enu(jd, ra_deg + 1 / 3600 / np.cos(np.radians(dec_deg)), dec_deg)


def one_arcsec_north(jd, ra_deg, dec_deg):
    return source_enu(jd, ra_deg, dec_deg + 1 / 3600)


def seen_as(frame, jd, ra_deg, dec_deg):
    """Directions of sources whose places are taken to be in another frame than ICRS."""
    from astropy.coordinates import SkyCoord

    place = SkyCoord(ra_deg, dec_deg, unit="deg", frame=frame).icrs
    return source_enu(jd, place.ra.deg, place.dec.deg)


def no_aberration(jd, ra_deg, dec_deg):
    from astropy.coordinates import GCRS
    from astropy.time import Time

    return seen_as(GCRS(obstime=Time(jd.mean(), format="jd")), jd, ra_deg, dec_deg)


def places_of_date(jd, ra_deg, dec_deg):
    from astropy.coordinates import TETE
    from astropy.time import Time

    return seen_as(TETE(obstime=Time(jd.mean(), format="jd")), jd, ra_deg, dec_deg)


@pytest.mark.wsclean
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (one_arcsec_east, "offset"),
        (one_arcsec_north, "offset"),
        (no_aberration, "offset"),
        (places_of_date, "no source"),
    ],
)
def test_an_error_of_the_forward_models_places_is_seen(
    tmp_path, repository, monkeypatch, wrong, message
):
    needs_wsclean()
    pytest.importorskip("pyuvdata")
    monkeypatch.setattr(night, "source_enu", wrong)
    field = Field(tmp_path, repository, integrations=8)
    with pytest.raises(AssertionError, match=message):
        assert_places(field, field.measurement_set_of_pyuvdata(), pixel_arcsec=12.0)
