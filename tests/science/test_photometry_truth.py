"""Forced photometry on synthetic images with known sources and correlated noise."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

from dsaflow.catalog import Catalog, write_catalog
from dsaflow.config import load_config
from dsaflow.photometry.blank import measure_blank
from dsaflow.photometry.measure import measure_mosaic, source_epochs
from dsaflow.photometry.sources import plain_local
from dsaflow.photometry.table import mark_primary
from dsaflow.transit import nearest_transit_mjd, transit_number
from dsaflow.verdict import Verdict

PIXEL_DEG = 8 / 3600
BEAM = (68 / 3600, 37 / 3600, 20.0)
FREQS_HZ = np.array([1.33e9, 1.38e9, 1.43e9, 1.48e9])
NOISE_JY = 2e-4
ALPHA = -0.7


def sky_header(n, centre=(150.0, 16.1)):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "RA---SIN", "DEC--SIN"
    wcs.wcs.crval = centre
    wcs.wcs.crpix = n // 2 + 1, n // 2 + 1
    wcs.wcs.cdelt = -PIXEL_DEG, PIXEL_DEG
    header = wcs.to_header()
    header.update(BMAJ=BEAM[0], BMIN=BEAM[1], BPA=BEAM[2], FREQ=1.405e9)
    return header


def quadratic_form(bmaj_deg, bmin_deg, bpa_deg):
    """Coefficients of -ln(beam) in pixels (x to the west, y to the north)."""
    angle = np.radians(bpa_deg)
    along, across = 4 * np.log(2) / (np.array([bmaj_deg, bmin_deg]) / PIXEL_DEG) ** 2
    # the major axis points to (-sin, cos) where x grows to the west
    a = along * np.sin(angle) ** 2 + across * np.cos(angle) ** 2
    c = along * np.cos(angle) ** 2 + across * np.sin(angle) ** 2
    b = (across - along) * np.sin(angle) * np.cos(angle)
    return a, b, c


def paint(image, x, y, flux, form):
    n = image.shape[0]
    for xs, ys, f in zip(x, y, flux, strict=True):
        j0, j1 = max(int(ys) - 25, 0), min(int(ys) + 26, n)
        i0, i1 = max(int(xs) - 25, 0), min(int(xs) + 26, n)
        yy, xx = np.mgrid[j0:j1, i0:i1]
        dx, dy = xx - xs, yy - ys
        a, b, c = form
        image[j0:j1, i0:i1] += f * np.exp(-(a * dx**2 + 2 * b * dx * dy + c * dy**2))


def correlated_noise(rng, n, sigma_jy, form, kind):
    """Noise correlated as a Gaussian beam, or as a dirty beam without short baselines."""
    k = 2 * np.pi * np.fft.fftfreq(n)
    ky, kx = np.meshgrid(k, k, indexing="ij")
    a, b, c = form
    det = a * c - b * b
    gaussian = np.exp(-(c * kx**2 - 2 * b * kx * ky + a * ky**2) / (4 * det))
    power = gaussian if kind == "gaussian" else gaussian * (1 - np.exp(-(kx**2 + ky**2) / 0.005))
    spectrum = np.fft.fft2(rng.normal(size=(n, n))) * np.sqrt(power)
    noise = np.fft.ifft2(spectrum).real
    return sigma_jy * noise / np.sqrt(power.mean())


class Field:
    """A synthetic mosaic on disk, its catalogue, and the table that photometry makes of it."""

    def __init__(self, folder, x, y, flux, n, rng, *, kind="gaussian", shift=(0, 0), **options):
        header = sky_header(n)
        form = quadratic_form(*BEAM)
        self.flux = np.asarray(flux, float)
        planes = []
        freqs_hz = FREQS_HZ[: options.get("bands", 1)]
        if options.get("turned"):
            form = quadratic_form(BEAM[0], BEAM[1], -BEAM[2])
        for freq in (1.405e9, *freqs_hz):
            sigma = NOISE_JY * (1 if freq == 1.405e9 else 2)
            image = correlated_noise(rng, n, sigma, form, kind) * options.get("noise", 1)
            paint(image, x + shift[0], y + shift[1], self.flux * (freq / 1.405e9) ** ALPHA, form)
            planes.append(image * options.get("scale", 1))
        cube, sigmas = np.array(planes[1:]), np.full((len(freqs_hz), n, n), 2 * NOISE_JY)
        freqs = fits.BinTableHDU(
            Table({"freq_hz": freqs_hz, "bandwidth_hz": np.full(len(freqs_hz), 46.875e6)}),
            name="FREQS",
        )
        local = fits.ImageHDU(plain_local((n, n), header, 0.5).astype("f4"), name="LOCAL")
        local.header["MJD0"] = 61000.0
        hdus = {
            "image": [fits.PrimaryHDU(planes[0].astype("f4"), header)],
            "noise": [fits.PrimaryHDU(np.full((n, n), NOISE_JY, "f4"), header), local],
            "coverage": [fits.PrimaryHDU(np.ones((n, n), "i2"), header)],
            "subbands": [
                fits.PrimaryHDU(cube.astype("f4"), header),
                fits.ImageHDU(sigmas.astype("f4"), name="NOISE"),
                freqs,
            ],
        }
        folder.mkdir(parents=True, exist_ok=True)
        self.paths = {key: str(folder / f"{key}.fits") for key in hdus}
        for key, value in hdus.items():
            fits.HDUList(value).writeto(self.paths[key], overwrite=True)
        self.paths["qa"] = str(folder / "qa.json")
        Verdict(options.get("qa", "pass")).write(self.paths["qa"])
        ra, dec = WCS(header).wcs_pix2world(x, y, 0)
        names = np.array([f"S{k:05d}" for k in range(len(x))])
        self.catalog = Catalog(
            names, ra, dec, np.maximum(self.flux, 0.003), 0.05 * np.abs(self.flux) + 1e-4,
            np.full(len(x), np.nan), np.ones(len(x), bool), 1.4e9,
        )  # fmt: skip
        write_catalog(folder / "catalog.parquet", self.catalog)
        self.out = folder / "photometry.parquet"
        config = load_config({"photometry": options.get("config", {})})
        self.verdict = measure_mosaic(
            self.paths, folder / "catalog.parquet", self.out, config, 7, "dec+16.1", "g", 61000.5
        )
        table = pq.read_table(self.out)
        self.schema = table.schema
        self.table = {name: table[name].to_numpy() for name in table.column_names}
        self.row = {name: k for k, name in enumerate(self.table["source_id"])}

    def __getitem__(self, key):
        """Column in the order of the sources given; all of them must be there."""
        index = [self.row[f"S{k:05d}"] for k in range(len(self.flux))]
        return self.table[key][index]


def scattered(rng, per_side, spacing_pix):
    step = np.arange(per_side) * spacing_pix + spacing_pix
    x, y = (v.ravel().astype(float) for v in np.meshgrid(step, step))
    return (
        x + rng.uniform(-0.5, 0.5, x.size),
        y + rng.uniform(-0.5, 0.5, x.size),
        (per_side + 1) * spacing_pix,
    )


def pull_width(pulls):
    """Robust-free width: outliers count, since the errors must hold for all."""
    return float(np.sqrt((pulls**2).mean()))


@pytest.mark.parametrize("kind", ["gaussian", pytest.param("dirty", marks=pytest.mark.slow)])
def test_pulls_of_isolated_sources_have_unit_width(tmp_path, kind):
    """2025 sources: the width's own error is 1.6 %, and errors wrong by 10 % are seen."""
    rng = np.random.default_rng(21)
    x, y, n = scattered(rng, 45, 34.0)
    flux = NOISE_JY * 10 ** rng.uniform(0.5, 2.5, x.size)
    field = Field(tmp_path, x, y, flux, int(n), rng, kind=kind, config={"fit_offset": False})
    pulls = (field["flux_jy"] - flux) / field["flux_err_jy"]
    assert pull_width(pulls) == pytest.approx(1, abs=0.05)
    assert abs(pulls.mean()) < 0.1
    truth = flux * (FREQS_HZ[0] / 1.405e9) ** ALPHA
    pulls = (field["flux_b0_jy"] - truth) / field["flux_err_b0_jy"]
    assert pull_width(pulls) == pytest.approx(1, abs=0.05)
    assert field["isolated"].all()
    assert (field["n_blend"] == 1).all()
    assert field.verdict.verdict == "pass"
    assert field.verdict.numbers["noise_over_map"] == pytest.approx(1, abs=0.03)
    bright = flux > 50 * NOISE_JY
    ratio = field["flux_jy"][bright] / flux[bright]
    # a scale wrong by 2 % would be seen at 20 sigma
    assert np.median(ratio) == pytest.approx(1, abs=0.003)


def pairs(rng, per_side, spacing_pix, low, high):
    x, y, n = scattered(rng, per_side, spacing_pix)
    angle = rng.uniform(0, 2 * np.pi, x.size)
    distance = rng.uniform(low, high, x.size) * 50 / 3600 / PIXEL_DEG
    x = np.concatenate([x, x + distance * np.cos(angle)])
    y = np.concatenate([y, y + distance * np.sin(angle)])
    return x, y, n


def test_pulls_of_blended_sources_have_unit_width(tmp_path):
    """Pairs 0.6 to 1.4 mean beams apart, fluxes a decade apart: 882 sources, width to 2.5 %."""
    rng = np.random.default_rng(5)
    x, y, n = pairs(rng, 21, 60.0, 0.6, 1.4)
    flux = NOISE_JY * 10 ** rng.uniform(1, 2.5, x.size)
    field = Field(tmp_path, x, y, flux, int(n), rng, config={"fit_offset": False})
    assert (field["n_blend"] == 2).mean() > 0.8
    assert field["isolated"].mean() < 0.5
    pulls = (field["flux_jy"] - flux) / field["flux_err_jy"]
    assert pull_width(pulls) == pytest.approx(1, abs=0.08)
    assert abs(pulls.mean()) < 0.12


def test_a_bright_source_beyond_the_blending_distance_leaks_nothing(tmp_path):
    rng = np.random.default_rng(6)
    x, y, n = pairs(rng, 8, 80.0, 2.2, 2.6)
    flux = np.concatenate([np.full(64, 2000 * NOISE_JY), np.full(64, 20 * NOISE_JY)])
    field = Field(tmp_path, x, y, flux, int(n), rng, config={"fit_offset": False})
    pulls = ((field["flux_jy"] - flux) / field["flux_err_jy"])[64:]
    assert abs(pulls.mean()) < 0.4
    assert pull_width(pulls) < 1.3


def test_limits_bands_table_and_offset(tmp_path):
    """400 sources, half of them absent; the image is shifted by a third of a pixel."""
    rng = np.random.default_rng(8)
    x, y, n = scattered(rng, 20, 34.0)
    flux = np.where(rng.random(x.size) < 0.5, 0.0, NOISE_JY * 10 ** rng.uniform(1.2, 2.3, x.size))
    shift = (0.33, -0.2)
    field = Field(tmp_path, x, y, flux, int(n), rng, shift=shift, bands=4)
    numbers = field.verdict.numbers
    arcsec = 3600 * PIXEL_DEG
    assert numbers["offset_x_arcsec"] == pytest.approx(shift[0] * arcsec, abs=0.02 * arcsec)
    assert numbers["offset_y_arcsec"] == pytest.approx(shift[1] * arcsec, abs=0.02 * arcsec)
    pulls = (field["flux_jy"] - flux) / field["flux_err_jy"]
    assert pull_width(pulls) == pytest.approx(1, abs=0.12)
    absent = flux == 0
    assert field["is_limit"][absent].mean() > 0.98
    assert not field["is_limit"][~absent].any()
    limit = np.maximum(field["flux_jy"], 0) + 3 * field["flux_err_jy"]
    assert np.allclose(field["upper_limit_jy"], limit)
    # above max(flux, 0) + 3 sigma lies no truth but by a 3 sigma chance
    assert (field["upper_limit_jy"] > flux).mean() > 0.99
    for band, freq in enumerate(FREQS_HZ):
        truth = flux * (freq / 1.405e9) ** ALPHA
        pulls = (field[f"flux_b{band}_jy"] - truth) / field[f"flux_err_b{band}_jy"]
        assert pull_width(pulls) == pytest.approx(1, abs=0.12)
        bright = flux > 50 * NOISE_JY
        ratio = field[f"flux_b{band}_jy"][bright] / truth[bright]
        assert np.median(ratio) == pytest.approx(1, abs=0.01)
    assert field.schema.field("flux_jy").metadata[b"unit"] == b"Jy"
    assert field.schema.metadata[b"band_freq_hz"].startswith(b"[1330000000.0")
    assert np.allclose(field["mjd"], 61000.5)
    assert (field["n_tiles"] == 1).all()
    assert field["edge_distance_deg"].min() > 25 * PIXEL_DEG
    before = field.out.read_bytes()
    measure_mosaic(
        field.paths, tmp_path / "catalog.parquet", field.out, load_config({}), 7, "dec+16.1", "g",
        61000.5,
    )  # fmt: skip
    assert field.out.read_bytes() == before
    blank = measure_blank(field.paths, tmp_path / "catalog.parquet", load_config({}), 500, seed=3)
    assert len(blank["snr"]) == 500
    assert pull_width(blank["snr"]) == pytest.approx(1, abs=0.12)


def test_same_fluxes_as_photutils(tmp_path):
    """photutils' PSF photometry of the same image, at the same places, no noise."""
    from photutils.psf import GaussianPSF, PSFPhotometry

    rng = np.random.default_rng(2)
    x, y, n = scattered(rng, 6, 40.0)
    flux = rng.uniform(0.01, 0.1, x.size)
    field = Field(tmp_path, x, y, flux, int(n), rng, noise=1e-3, config={"fit_offset": False})
    fwhm = np.array(BEAM[:2]) / PIXEL_DEG
    psf = GaussianPSF(x_fwhm=fwhm[1], y_fwhm=fwhm[0], theta=BEAM[2])
    psf.x_0.fixed = psf.y_0.fixed = True
    places = Table({"x": x, "y": y, "flux": flux * 50})
    image = fits.getdata(field.paths["image"]).astype(float)
    found = PSFPhotometry(psf, (11, 11))(image, init_params=places)
    peak = found["flux_fit"] * 4 * np.log(2) / np.pi / fwhm.prod()
    assert np.allclose(field["flux_jy"], peak, rtol=2e-4)
    assert np.allclose(field["flux_jy"], flux, rtol=2e-4)


@pytest.mark.parametrize("change", ["scale", "shift", "beam"])
def test_mutations_are_seen(tmp_path, change):
    """A scale of 1.02, a shift of a pixel, a beam turned the wrong way: each fails the flux test."""
    rng = np.random.default_rng(3)
    x, y, n = scattered(rng, 6, 40.0)
    flux = np.full(x.size, 200 * NOISE_JY)
    options = {"scale": {"scale": 1.02}, "shift": {"shift": (1, 0)}, "beam": {}}[change]
    if change == "beam":
        options = {"turned": True}
    field = Field(tmp_path, x, y, flux, int(n), rng, config={"fit_offset": False}, **options)
    pulls = (field["flux_jy"] - flux) / field["flux_err_jy"]
    assert pull_width(pulls) > 2


def test_a_rejected_mosaic_leaves_no_usable_row(tmp_path):
    """Variability leaves "reject" rows out; a mosaic's warning leaves the rows as they are."""
    rng = np.random.default_rng(4)
    x, y, n = scattered(rng, 4, 40.0)
    flux = np.full(x.size, 50 * NOISE_JY)
    for outcome, expected in (("reject", {"reject"}), ("warn", {"pass"})):
        field = Field(tmp_path / outcome, x, y, flux, int(n), rng, qa=outcome)
        assert set(field["qa"]) == expected
        assert np.isfinite(field["flux_jy"]).all()
        assert field.verdict.numbers["mosaic_qa"] == outcome


@pytest.mark.parametrize("centre_deg", [359.97, 0.03, 0.0, 150.0])
def test_epoch_is_the_transit_number_of_each_source(centre_deg):
    """Mosaics centred on either side of RA = 0 agree about a source that lies in both."""
    ra_deg = (centre_deg + np.linspace(-6, 6, 13)) % 360
    time = nearest_transit_mjd(centre_deg, 16.1, 61000.0)
    epoch = int(transit_number(time, centre_deg)[0])
    expected = transit_number(np.full(13, time), ra_deg)
    assert source_epochs(epoch, centre_deg, ra_deg).tolist() == expected.tolist()
    assert len(set(expected.tolist())) == (1 if centre_deg == 150.0 else 2)


def test_primary_is_the_usable_row_of_most_weight():
    import pyarrow as pa

    def table(group, weights, qa):
        return pa.table(
            {
                "source_id": ["a", "b", "c"], "strip": ["s"] * 3, "epoch": [1] * 3, "qa": qa,
                "weight": weights, "group_id": [group] * 3, "primary": [True] * 3,
            }
        )  # fmt: skip

    first = table("g1", [1.0, 2.0, 3.0], ["pass", "reject", "pass"])
    second = table("g2", [2.0, 1.0, 3.0], ["pass", "pass", "pass"])
    marked = mark_primary([first, second])
    assert marked[0]["primary"].to_pylist() == [False, False, True]
    assert marked[1]["primary"].to_pylist() == [True, True, False]
