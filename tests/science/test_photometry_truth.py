"""Forced photometry on synthetic images with known sources and correlated noise."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

from dsaflow.catalog import Catalog, write_catalog
from dsaflow.config import load_config
from dsaflow.mosaic.local import PLANES
from dsaflow.photometry.measure import measure_mosaic
from dsaflow.photometry.sources import plain_local

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
    """Noise with the correlation of a Gaussian beam, or of a dirty beam with a hole in its middle."""
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
        for freq in (1.405e9, *FREQS_HZ):
            sigma = NOISE_JY * (1 if freq == 1.405e9 else 2)
            image = correlated_noise(rng, n, sigma, form, kind) * options.get("noise", 1)
            paint(image, x + shift[0], y + shift[1], self.flux * (freq / 1.405e9) ** ALPHA, form)
            planes.append(image * options.get("scale", 1))
        cube, sigmas = np.array(planes[1:]), np.full((4, n, n), 2 * NOISE_JY)
        freqs = fits.BinTableHDU(
            Table({"freq_hz": FREQS_HZ, "bandwidth_hz": np.full(4, 46.875e6)}), name="FREQS"
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


@pytest.mark.parametrize("kind", ["gaussian", "dirty"])
def test_pulls_of_isolated_sources_have_unit_width(tmp_path, kind):
    """2025 sources: the width's own error is 1.6 %, and a wrong error by 5 % is seen."""
    rng = np.random.default_rng(21)
    x, y, n = scattered(rng, 45, 34.0)
    flux = NOISE_JY * 10 ** rng.uniform(0.5, 2.5, x.size)
    field = Field(tmp_path, x, y, flux, int(n), rng, kind=kind, config={"fit_offset": False})
    pulls = (field["flux_jy"] - flux) / field["flux_err_jy"]
    print(kind, "width", pull_width(pulls), "mean", pulls.mean(), field.verdict.numbers)
    assert pull_width(pulls) == pytest.approx(1, abs=0.05)
    assert abs(pulls.mean()) < 0.1
    for band, freq in enumerate(FREQS_HZ):
        truth = flux * (freq / 1.405e9) ** ALPHA
        pulls = (field[f"flux_b{band}_jy"] - truth) / field[f"flux_err_b{band}_jy"]
        assert pull_width(pulls) == pytest.approx(1, abs=0.06)
    assert field["isolated"].all()
    assert (field["n_blend"] == 1).all()
