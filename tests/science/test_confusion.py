"""Confusion in absolute fluxes: synthetic mosaics full of sources that no catalogue lists."""

import importlib.util
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

from dsaflow.catalog import Catalog, write_catalog
from dsaflow.config import load_config
from dsaflow.photometry.confusion import Counts, confusion_rms_jy, count_sources
from dsaflow.photometry.measure import measure_mosaic
from dsaflow.photometry.sources import plain_local
from dsaflow.verdict import Verdict

LISTED_JY, FAINTEST_JY, BRIGHTEST_JY = 1e-3, 1e-5, 1.0
PER_DEG2, SLOPE = 108.0, 1.8  # above LISTED_JY: 52 above 2.5 mJy
SIZE, NOISE_JY = 1500, 1e-4


def _photometry_truth():
    """The synthetic noise of test_photometry_truth.py, which no package holds."""
    path = Path(__file__).with_name("test_photometry_truth.py")
    spec = importlib.util.spec_from_file_location("photometry_truth", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TRUTH = _photometry_truth()
DEG2 = (SIZE * TRUTH.PIXEL_DEG) ** 2


def draw_jy(rng, low, high):
    """Poisson sample of the counts between two fluxes on the mosaic."""
    above = PER_DEG2 * DEG2 * (np.array([low, high]) / LISTED_JY) ** (1 - SLOPE)
    level = rng.uniform(above[1], above[0], rng.poisson(above[0] - above[1]))
    return LISTED_JY * (level / (PER_DEG2 * DEG2)) ** (1 / (1 - SLOPE))


def crowd(rng, form):
    """Unlisted sources at random pixels, seen by the beam."""
    flux = draw_jy(rng, FAINTEST_JY, LISTED_JY)
    points = np.zeros((SIZE, SIZE))
    np.add.at(points, tuple(rng.integers(0, SIZE, (2, flux.size))), flux)
    lag = SIZE * np.fft.fftfreq(SIZE)
    dy, dx = np.meshgrid(lag, lag, indexing="ij")
    a, b, c = form
    beam = np.exp(-(a * dx**2 + 2 * b * dx * dy + c * dy**2))
    return np.fft.irfft2(np.fft.rfft2(points) * np.fft.rfft2(beam), (SIZE, SIZE))


def write_mosaic(folder, image, catalog):
    """Paths of a mosaic as `measure_mosaic` reads it; the noise map knows no confusion."""
    folder.mkdir()
    header = TRUTH.sky_header(SIZE)
    local = fits.ImageHDU(plain_local(image.shape, header, 0.5).astype("f4"), name="LOCAL")
    local.header["MJD0"] = 61000.0
    freqs = Table({"freq_hz": [1.405e9], "bandwidth_hz": [187.5e6]})
    noise = np.full(image.shape, NOISE_JY, "f4")
    hdus = {
        "image": [fits.PrimaryHDU(image.astype("f4"), header)],
        "noise": [fits.PrimaryHDU(noise, header), local],
        "coverage": [fits.PrimaryHDU(np.ones(image.shape, "i2"), header)],
        "subbands": [
            fits.PrimaryHDU(image[None].astype("f4"), header),
            fits.ImageHDU(noise[None], name="NOISE"),
            fits.BinTableHDU(freqs, name="FREQS"),
        ],
    }
    paths = {key: str(folder / f"{key}.fits") for key in hdus}
    for key, value in hdus.items():
        fits.HDUList(value).writeto(paths[key])
    paths["qa"] = str(folder / "qa.json")
    Verdict().write(paths["qa"])
    write_catalog(folder / "catalog.parquet", catalog)
    return paths


def measured(folder, seed):
    """Photometry rows beside their true fluxes, and the verdict, of one sky at 1.405 GHz."""
    rng = np.random.default_rng(seed)
    form = TRUTH.quadratic_form(*TRUTH.BEAM)
    flux = draw_jy(rng, LISTED_JY, BRIGHTEST_JY)
    x, y = rng.uniform(0, SIZE - 1, (2, flux.size))
    image = TRUTH.correlated_noise(rng, SIZE, NOISE_JY, form, "gaussian") + crowd(rng, form)
    TRUTH.paint(image, x, y, flux, form)
    ra, dec = WCS(TRUTH.sky_header(SIZE)).wcs_pix2world(x, y, 0)
    names = np.array([f"S{k:05d}" for k in range(flux.size)])
    catalog = Catalog(
        names, ra, dec, flux, 0.03 * flux, np.full(flux.size, np.nan),
        np.ones(flux.size, bool), 1.405e9,
    )  # fmt: skip
    paths = write_mosaic(folder, image, catalog)
    options = {"min_flux_jy": LISTED_JY, "counts_limit_jy": LISTED_JY, "fit_offset": False}
    config = load_config({"photometry": options})
    out = folder / "photometry.parquet"
    verdict = measure_mosaic(
        paths, folder / "catalog.parquet", out, config, 7, "dec+16.1", "g", 61000.5
    )
    rows = pq.read_table(out)
    table = {name: rows[name].to_numpy() for name in rows.column_names}
    true = dict(zip(names, flux, strict=True))
    table["true_jy"] = np.array([true[name] for name in table["source_id"]])
    return table, verdict, rows.schema


def test_absolute_pulls_have_unit_width_with_the_confusion_and_not_without(tmp_path):
    """Two skies, 1900 isolated sources: chance moves the width of the pulls by 3 %.

    Confusion has a tail: the excess kurtosis of these skies without noise is 12, with it 4, and the standard
    deviation of n draws errs by sqrt((2 + 4) / (4 n)).
    """
    pulls, plain = [], []
    for seed in (1, 2):
        table, verdict, schema = measured(tmp_path / str(seed), seed)
        use = table["isolated"] & (table["n_blend"] == 1) & (table["qa"] != "reject")
        off = (table["flux_jy"] - table["true_jy"])[use]
        noise, confusion = table["flux_err_jy"][use], table["confusion_err_jy"][use]
        pulls.append(off / np.hypot(noise, confusion))
        plain.append(off / noise)
        counted = verdict.numbers["counts_sources"]
        off_by = verdict.numbers["counts_per_deg2"] / PER_DEG2 - 1
        assert abs(off_by) < 4 / np.sqrt(counted)
    assert schema.field("confusion_err_jy").metadata == {b"unit": b"Jy"}
    pull, without = np.concatenate(pulls), np.concatenate(plain)
    print(pull.size, pull.std(), without.std(), pull.mean(), np.median(confusion))
    assert pull.size > 1500
    assert pull.std() == pytest.approx(1, abs=0.1)
    # what theory says they have without: confusion over noise, in quadrature
    expected = np.sqrt(1 + np.median(confusion) ** 2 / np.median(noise) ** 2)
    assert expected > 1.3
    assert without.std() == pytest.approx(expected, rel=0.1)
    # the local background takes the mean of the crowd off, all but what its clipping leaves
    assert abs(pull.mean()) < 0.25


def test_rms_is_that_of_condon(tmp_path):
    """A pixel of the painted crowd: closed form against the image; the sum of squares against a sum."""
    rng = np.random.default_rng(4)
    counts = Counts(PER_DEG2, LISTED_JY, SLOPE, 1)
    power_deg2 = np.pi / (8 * np.log(2)) * TRUTH.BEAM[0] * TRUTH.BEAM[1]
    theory = confusion_rms_jy(counts, LISTED_JY, power_deg2)
    skies = [crowd(rng, TRUTH.quadratic_form(*TRUTH.BEAM)) for _ in range(4)]
    # 1.5e5 beams of excess kurtosis 24: 0.7 % of chance
    assert np.mean([sky.var() for sky in skies]) ** 0.5 == pytest.approx(theory, rel=0.03)
    # half the limit: N grows by 2^0.8, its square fluxes fall by 2^1.2
    half = confusion_rms_jy(counts, LISTED_JY / 2, power_deg2)
    assert half / theory == pytest.approx(2**-0.6, rel=1e-12)
    # NVSS's limit: between Condon's (2002) 0.11 mJy, whose tail is cut at 5 sigma, and twice that
    nvss = confusion_rms_jy(Counts(52.0, 2.5e-3, SLOPE, 1), 2.5e-3, power_deg2)
    assert 1.1e-4 < nvss < 2.2e-4


def test_counts_without_sources_are_unknown_not_zero():
    empty = count_sources(np.array([1e-4, 5.0]), 10.0, 2.5e-3, SLOPE)
    assert empty.sources == 0
    assert np.isnan(confusion_rms_jy(empty, 2.5e-3, 1e-4))
    found = count_sources(np.geomspace(2.5e-3, 2.49e-2, 84), 10.0, 2.5e-3, SLOPE)
    assert found.per_deg2 == pytest.approx(84 / (1 - 10**-0.8) / 10.0)
