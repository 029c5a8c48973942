"""Quality control on mosaics whose scale, positions, noise and beam are known or spoilt."""

import numpy as np
import pytest

from dsaflow.catalog import Catalog, write_catalog
from dsaflow.config import Config
from dsaflow.errors import DataRejected
from dsaflow.instrument import PrimaryBeam
from dsaflow.qa.catalogue import robust_mean
from dsaflow.qa.mosaic import gate_table, qa_mosaic
from dsaflow.qa.noise import confusion_jy, drift_beam
from dsaflow.qa.sky import moon_position_deg, sun_position_deg
from dsaflow.qa.tile import judge_tile
from dsaflow.verdict import Verdict

CENTRE = (0.3, 16.2)  # the mosaic lies across RA = 0
TILE_RA_DEG = (359.0, 0.3, 1.6)
PIXEL_DEG = 12.0 / 3600
SHAPE = (700, 1000)
BEAM_DEG = (68.0 / 3600, 40.0 / 3600, 25.0)
THERMAL_JY = 2.0e-4
FREQ_HZ = 1.405e9
MJD = 61050.25
BEAM = PrimaryBeam(4.65)


def wcs():
    from astropy.wcs import WCS

    w = WCS(naxis=2)
    w.wcs.ctype = ["RA---SIN", "DEC--SIN"]
    w.wcs.crval = CENTRE
    w.wcs.crpix = [SHAPE[1] / 2, SHAPE[0] / 2]
    w.wcs.cdelt = [-PIXEL_DEG, PIXEL_DEG]
    w.wcs.radesys = "ICRS"
    return w


def true_noise():
    """Thermal noise of three tiles at each pixel, by the formula written out again."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    ra, dec = wcs().wcs_pix2world(x.ravel(), y.ravel(), 0)
    weight = np.zeros(ra.size)
    for tile in TILE_RA_DEG:
        response = np.zeros(ra.size)
        for step in np.linspace(-0.6, 0.6, 13):
            east = ((ra - tile - step + 180) % 360 - 180) * np.cos(np.radians(dec))
            away = np.radians(np.hypot(east, dec - CENTRE[1]))
            response += BEAM.power(away, FREQ_HZ) / 13
        weight += np.where(response > 0.2, (response / THERMAL_JY) ** 2, 0)
    with np.errstate(divide="ignore"):
        noise = 1 / np.sqrt(weight)
    return np.where(weight > 0, noise, np.nan).reshape(SHAPE)


NOISE = true_noise()


def gaussian(x, y, x0, y0):
    """Restoring beam, peak 1, from position angle east of north by its definition."""
    east, north = -(x - x0) * PIXEL_DEG, (y - y0) * PIXEL_DEG
    angle = np.radians(BEAM_DEG[2])
    along = east * np.sin(angle) + north * np.cos(angle)
    across = east * np.cos(angle) - north * np.sin(angle)
    return np.exp(-4 * np.log(2) * ((along / BEAM_DEG[0]) ** 2 + (across / BEAM_DEG[1]) ** 2))


def correlated_noise(rng):
    """Noise of unit rms with the beam's correlation."""
    from scipy.signal import fftconvolve

    y, x = np.mgrid[-12:13, -12:13]
    kernel = gaussian(x, y, 0, 0)
    # the dirty beam's own correlation: white noise through a beam / sqrt(2) wide
    white = rng.normal(size=SHAPE)
    noise = fftconvolve(white, kernel**2, mode="same")
    return noise / noise.std()


class Sky:
    """A catalogue, a mosaic of it, and where they are written."""

    def __init__(self, folder, seed=1):
        rng = np.random.default_rng(seed)
        self.folder = folder
        n = 220
        x, y = rng.uniform(20, SHAPE[1] - 20, n), rng.uniform(20, SHAPE[0] - 20, n)
        ra, dec = wcs().wcs_pix2world(x, y, 0)
        self.flux = 2.5e-3 * rng.uniform(size=n) ** (-1 / 1.1)
        self.x, self.y = x, y
        stated = self.flux * (1 + 0.05 * rng.normal(size=n))
        self.catalog = Catalog(
            np.array([f"S{i}" for i in range(n)]), ra, dec, stated, 0.05 * self.flux,
            np.full(n, np.nan), np.ones(n, bool), 1.4e9, "test", "1",
        )  # fmt: skip
        self.noise_map = NOISE.copy()
        self.added = correlated_noise(rng) * NOISE

    def image(self, scale=1.0, shift=(0.0, 0.0), noise=1.0, response=None, width=1.0):
        image = self.added * noise
        factor = np.ones(len(self.flux)) if response is None else response
        for flux, x, y, extra in zip(self.flux, self.x, self.y, factor, strict=True):
            i, j = round(x), round(y)
            box = np.s_[
                max(j - 14, 0) : min(j + 15, SHAPE[0]), max(i - 14, 0) : min(i + 15, SHAPE[1])
            ]
            yy, xx = np.mgrid[box]
            shape = gaussian(xx, yy, x + shift[0], y + shift[1]) ** (1 / width**2)
            image[box] += flux * (FREQ_HZ / 1.4e9) ** -0.7 * scale * extra * shape
        return image

    def write(self, image, noise_map=None, used=(True, True, True)):
        from astropy.io import fits

        header = wcs().to_header()
        header["FREQ"] = FREQ_HZ
        header["BMAJ"], header["BMIN"], header["BPA"] = BEAM_DEG
        noise_map = self.noise_map if noise_map is None else noise_map
        products = {k: str(self.folder / f"{k}.fits") for k in ("image", "noise")}
        image = np.where(np.isfinite(NOISE), image, np.nan)
        fits.writeto(products["image"], image.astype("f4"), header, overwrite=True)
        fits.writeto(products["noise"], noise_map.astype("f4"), header, overwrite=True)
        products["tiles"] = str(self.folder / "tiles.ecsv")
        rows = ["# %ECSV 1.0", "tile used reason ra_deg dec_deg"]
        names = [f"20260110T0{k}0000" for k in range(3)]
        for name, ra, ok in zip(names, TILE_RA_DEG, used, strict=True):
            reason = "" if ok else "TRUNCATED_HDF5: half a file"
            rows.append(f'{name} {ok} "{reason}" {ra} {CENTRE[1]}')
        (self.folder / "tiles.ecsv").write_text("\n".join(rows) + "\n")
        verdicts = []
        for name in names:
            (self.folder / name).mkdir(exist_ok=True)
            for stage, numbers in (
                ("image", {"radiometer_jy": THERMAL_JY}),
                ("flag", {"flagged_fraction": 0.05}),
            ):
                path = self.folder / name / f"{stage}.json"
                Verdict(numbers=numbers).write(path)
                verdicts.append(str(path))
        write_catalog(self.folder / "catalog.parquet", self.catalog)
        return products, verdicts

    def judge(self, image, noise_map=None, used=(True, True, True)):
        products, verdicts = self.write(image, noise_map, used)
        config = Config()
        # this sky has no sources below the catalogue's
        config.qa.confusion_jy_per_arcmin2 = 0.0
        return qa_mosaic(products, verdicts, self.folder / "catalog.parquet", config, MJD, CENTRE)


@pytest.fixture(scope="module")
def sky(tmp_path_factory):
    return Sky(tmp_path_factory.mktemp("qa"))


def failing(verdict, outcome="reject"):
    return {g.name for g in verdict.gates if g.verdict == outcome}


def by_name(verdict):
    return {g.name: g for g in verdict.gates}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_good_mosaic_passes_every_gate_with_the_right_values(tmp_path, seed):
    sky = Sky(tmp_path, seed)
    verdict = sky.judge(sky.image())
    assert verdict.verdict == "pass", gate_table(verdict)
    gates, numbers = by_name(verdict), verdict.numbers
    err = numbers["flux_scale_err"]
    # 5 % catalogue errors on some 200 sources
    assert 0.002 < err < 0.01
    assert abs(gates["flux_scale"].value - 1) < 4 * err
    assert gates["noise_over_thermal"].value == pytest.approx(1, abs=0.1)
    assert gates["noise_over_map"].value == pytest.approx(1, abs=0.1)
    assert gates["astrometric_offset"].value < 0.5
    assert gates["source_shape"].value == pytest.approx(1, abs=0.03)
    assert gates["completeness"].value > 0.98
    assert numbers["noise_thermal_jy"] == pytest.approx(np.nanmedian(NOISE), rel=0.5)


def test_a_flux_scale_30_percent_off_is_rejected(sky):
    for scale in (0.7, 1.3):
        verdict = sky.judge(sky.image(scale=scale))
        assert verdict.reason_code == "QA_REJECTED"
        assert "flux_scale" in failing(verdict)
        assert by_name(verdict)["flux_scale"].value == pytest.approx(scale, rel=0.03)


def test_a_flux_scale_8_percent_off_is_a_warning(sky):
    verdict = sky.judge(sky.image(scale=1.09))
    assert verdict.verdict == "warn"
    assert "flux_scale_warning" in failing(verdict, "warn")


@pytest.mark.parametrize("shift", [(1.0, 0.0), (0.0, -1.0)])
def test_a_shift_by_one_pixel_is_rejected_with_its_direction(sky, shift):
    verdict = sky.judge(sky.image(shift=shift))
    assert "astrometric_offset" in failing(verdict)
    assert verdict.numbers["offset_east_arcsec"] == pytest.approx(-12 * shift[0], abs=0.5)
    assert verdict.numbers["offset_north_arcsec"] == pytest.approx(12 * shift[1], abs=0.5)


def test_doubled_noise_is_noticed_on_either_side(sky):
    loud = sky.judge(sky.image(noise=2.0))
    assert "noise_warning" in failing(loud, "warn")
    assert "noise_over_map" in failing(loud)
    honest = sky.judge(sky.image(noise=2.0), 2 * NOISE)
    assert honest.verdict == "warn"
    louder = sky.judge(sky.image(noise=4.0), 4 * NOISE)
    assert "noise_over_expected" in failing(louder)
    quiet = sky.judge(sky.image(noise=0.4), 0.4 * NOISE)
    assert "noise_over_thermal" in failing(quiet)


def test_the_beam_squared_is_rejected(sky):
    """Fluxes divided by the beam once too little or too often change with distance."""
    ra, dec = wcs().wcs_pix2world(sky.x, sky.y, 0)
    response = np.max(
        [drift_beam(BEAM, ra, dec, (t, CENTRE[1]), FREQ_HZ) for t in TILE_RA_DEG], axis=0
    )
    response = response.clip(0.05)
    for extra in (response, 1 / response):
        verdict = sky.judge(sky.image(response=extra / np.median(extra)))
        assert "flux_ratio_outer_over_inner" in failing(verdict), gate_table(verdict)


def test_missing_sources_are_missed(sky):
    gone = np.where(np.arange(len(sky.flux)) % 4 == 0, 0.0, 1.0)
    verdict = sky.judge(sky.image(response=gone))
    assert "completeness" in failing(verdict)
    assert by_name(verdict)["completeness"].value == pytest.approx(0.75, abs=0.12)


def test_smeared_sources_are_noticed(sky):
    verdict = sky.judge(sky.image(width=1.3))
    assert "source_shape" in failing(verdict, "warn")


def test_a_deep_negative_is_an_artefact(sky):
    image = sky.image()
    image[300:304, 500:504] -= 0.1
    assert "negative_peak" in failing(sky.judge(image), "warn")


def test_rejected_tiles_are_named_and_their_weight_not_counted(sky):
    verdict = sky.judge(sky.image(), used=(True, False, True))
    assert verdict.detail.startswith("2 of 3 tiles, 1 rejected: TRUNCATED_HDF5")
    # the noise theory is that of two tiles, and the image's is lower
    whole = sky.judge(sky.image())
    assert verdict.numbers["noise_thermal_jy"] > 1.1 * whole.numbers["noise_thermal_jy"]


def test_an_empty_mosaic_is_no_data(sky):
    from astropy.io import fits

    products, verdicts = sky.write(sky.image())
    fits.PrimaryHDU().writeto(products["image"], overwrite=True)
    with pytest.raises(DataRejected, match="NO_DATA"):
        qa_mosaic(products, verdicts, sky.folder / "catalog.parquet", Config(), MJD, CENTRE)


def test_confusion_is_condons():
    class Field:
        beam_deg = (68 / 3600, 37 / 3600, 0.0)
        freq_hz = 1.4e9

    # 0.2 mJy (nu/GHz)^-0.7 (theta_maj theta_min / arcmin^2)
    assert confusion_jy(Field, 2e-4) == pytest.approx(2e-4 * 1.4**-0.7 * 68 * 37 / 3600, rel=1e-6)
    assert confusion_jy(Field, 2e-4) == pytest.approx(1.1e-4, rel=0.05)


def test_robust_mean_has_the_error_of_its_scatter():
    rng = np.random.default_rng(5)
    pulls = []
    for _ in range(300):
        value = 1 + 0.1 * rng.normal(size=60)
        value[:2] += 3.0
        mean, err = robust_mean(value, np.full(60, 0.02))
        pulls.append((mean - 1) / err)
    assert np.mean(pulls) == pytest.approx(0, abs=0.6)
    assert np.std(pulls) == pytest.approx(1, abs=0.15)


def test_sun_and_moon_stand_where_astropy_has_them():
    from astropy.coordinates import get_body
    from astropy.time import Time

    for mjd in (61050.25, 61130.9):
        time = Time(mjd, format="mjd", scale="utc")
        for position, name in ((sun_position_deg(mjd), "sun"), (moon_position_deg(mjd), "moon")):
            body = get_body(name, time)
            assert position[0] == pytest.approx(body.ra.deg, abs=0.1)
            assert position[1] == pytest.approx(body.dec.deg, abs=0.1)


def test_tile_noise_is_two_sided():
    config = Config()

    def outcome(ratio):
        gates = judge_tile({"noise_jy": ratio * 2e-4, "radiometer_jy": 2e-4}, config)
        return [g.verdict for g in gates]

    assert outcome(1.2) == ["pass", "pass"]
    assert outcome(2.0) == ["pass", "warn"]
    assert outcome(3.5)[0] == "reject"
    assert outcome(0.5)[0] == "reject"
    zero = judge_tile({"noise_jy": 2e-4, "radiometer_jy": 2e-4, "flagged_fraction": 0.0}, config)
    assert zero[-1].verdict == "warn"
