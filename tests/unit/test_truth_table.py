"""The truth table's lines: they hold on Gaussian draws and tell each fault."""

import numpy as np
import pandas as pd
import pytest
from astropy.wcs import WCS
from scipy.ndimage import gaussian_filter

from dsaflow.catalog import Catalog
from dsaflow.config import load_config
from dsaflow.photometry.sources import Mosaic, plain_local
from dsaflow.projection import grid_of
from dsaflow.validation.draws import drawn_pulls, pull_errors
from dsaflow.validation.residual import residual_statistics
from dsaflow.validation.table import (
    _false_lines,
    _flux_lines,
    _index_line,
    _place_lines,
    _pull_lines,
    _trend_lines,
    describe_table,
)

FREQ_HZ = np.array([1.334, 1.379, 1.428, 1.476]) * 1e9


def draw(seed=1, n=4000, **fault):
    """Rows of perfect photometry, but for the fault."""
    rng = np.random.default_rng(seed)
    snr = np.exp(rng.uniform(np.log(5), np.log(400), n))
    true, err = 0.004 * snr, np.full(n, 0.004)
    flux = true + fault.get("width", 1.0) * err * rng.normal(size=n)
    response = rng.uniform(0.3, 1.0, n)
    flux *= fault.get("scale", 1.0) * (1 + fault.get("trend", 0.0) * (response - 0.65))
    place = {f"{axis}_err_arcsec": 40 / snr for axis in ("east", "north")}
    place |= {
        f"{axis}_arcsec": fault.get("offset", 0.0) + 40 / snr * rng.normal(size=n)
        for axis in ("east", "north")
    }
    bands = {}
    for b, freq in enumerate(FREQ_HZ):
        band = true * (freq / 1.4e9) ** -0.7
        bands |= {f"true_b{b}_jy": band, f"flux_err_b{b}_jy": 2 * err, f"freq_b{b}_hz": freq}
        slope = (freq / 1.4e9) ** fault.get("index", 0.0)
        bands[f"flux_b{b}_jy"] = band * slope + 2 * err * rng.normal(size=n)
    return pd.DataFrame(
        {"flux_jy": flux, "flux_err_jy": err, "true_jy": true, "true_snr": snr, "scale": 1.0,
         "pull": (flux - true) / err, "seed": np.arange(n) % 5, "night": 0, "scale_err": 0.001,
         "abs_err_frac": 0.001, "beam_response": response, "kind": "constant", **place, **bands}
    )  # fmt: skip


def holds(rows):
    return {
        "flux": [x.holds for x in _flux_lines(rows)], "pull": [x.holds for x in _pull_lines(rows)],
        "place": [x.holds for x in _place_lines(rows)], "trend": [x.holds for x in _trend_lines(rows)],
        "index": [_index_line(rows).holds],
    }  # fmt: skip


def test_perfect_photometry_holds_every_bound():
    assert all(all(lines) for lines in holds(draw()).values())


@pytest.mark.parametrize(
    ("fault", "line"),
    [({"scale": 1.03}, "flux"), ({"width": 1.3}, "pull"), ({"offset": 0.6}, "place"),
     ({"trend": 0.2}, "trend"), ({"index": 0.5}, "index")],
)  # fmt: skip
def test_each_fault_breaks_its_line(fault, line):
    assert not all(holds(draw(**fault))[line])


def test_errors_of_independent_pulls_are_those_of_gaussian_draws():
    """1 / sqrt(n) of a mean, 1.36 / sqrt(2 n) of a width; 300 draws know them to 4 %, tolerance 4 times that."""
    rows = draw(n=2000)
    (mean_err, width_err), *_ = pull_errors(rows)
    count = np.count_nonzero((rows["true_snr"] >= 5) & (rows["true_snr"] < 10))
    assert mean_err == pytest.approx(1 / np.sqrt(count), rel=0.17)
    assert width_err == pytest.approx(1.36 / np.sqrt(2 * count), rel=0.17)


def test_sources_of_one_tile_share_its_scale_error():
    """80 sources above 100 sigma in four tiles that are off by 5 %: their mean is known to 1 / sqrt(4) only."""
    tile = np.repeat(np.arange(5), [400, 20, 20, 20, 20])
    snr = np.where(tile == 0, 50.0, 1000.0)
    rows = pd.DataFrame(
        {"true_jy": 0.004 * snr, "flux_err_jy": 0.004, "true_snr": snr, "night": 0, "seed": 1,
         "scale_err": np.where(tile == 0, 0.0, 0.05 + 1e-4 * tile)}
    )  # fmt: skip
    mean_err, _ = pull_errors(rows)[3]
    # of 300 draws, and a tenth more: these sources take part in the median that is divided out
    assert mean_err == pytest.approx(0.5, rel=0.25)
    # the other 400: that median less their mean, sqrt(0.57 / 400), and moved by half of 20 sqrt(4) sources over
    # their density at its peak, 400 / sqrt(2 pi)
    expected = np.hypot(np.sqrt(0.57 / 400), 20 / (400 / np.sqrt(2 * np.pi)))
    assert pull_errors(rows)[2][0] == pytest.approx(expected, rel=0.2)
    assert drawn_pulls(rows).std() == pytest.approx(1, abs=0.1)


def test_the_table_says_what_is_not_met():
    text = describe_table(_flux_lines(draw(scale=1.03)))
    assert "| flux ratio, sources > 10 sigma, median | within 1.5 % | 1.03" in text
    assert "**not met**" in text


def test_false_sources_and_tails_are_counted_against_gaussian_noise():
    clean = {"beams": 1e5, "false_positive": 0, "false_negative": 0, "tail_positive": 4.0,
             "tail_negative": 2.0, "tail_expected": 3.2, "coverage": {}}  # fmt: skip
    assert all(line.holds for line in _false_lines([clean, clean]))
    assert not _false_lines([clean, clean | {"false_negative": 2}])[0].holds
    assert not _false_lines([clean, clean | {"tail_positive": 30.0}])[1].holds


def mosaic(image, sigma_jy, header):
    """A mosaic of one tile in memory."""
    noise = np.full(image.shape, sigma_jy)
    return Mosaic(
        image, noise, np.ones(image.shape, int), image[None], noise[None], np.array([1.4e9]),
        plain_local(image.shape, header, 0.0), 61000.0, grid_of(header), header["CRVAL1"], 1.4e9,
        header["CDELT2"],
    )  # fmt: skip


def test_what_no_source_explains_is_false():
    rng, n, sigma_jy = np.random.default_rng(3), 512, 2e-4
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "RA---SIN", "DEC--SIN"
    wcs.wcs.crval, wcs.wcs.crpix = (150.0, 16.0), (n / 2, n / 2)
    wcs.wcs.cdelt = -0.004, 0.004
    header = wcs.to_header()
    header.update(NAXIS1=n, NAXIS2=n, BMAJ=0.02, BMIN=0.016, BPA=0.0)
    xy = rng.uniform(20, n - 20, (40, 2))
    ra, dec = wcs.wcs_pix2world(xy, 0).T
    flux, nan = np.geomspace(5, 500, 40) * sigma_jy, np.full(40, np.nan)
    catalog = Catalog(
        np.arange(40).astype(str), ra, dec, flux, 0.1 * flux, nan, np.ones(40, bool), 1.4e9
    )
    image = gaussian_filter(rng.normal(size=(n, n)), (2.1, 1.7))
    image *= sigma_jy / image.std()
    row, column = np.mgrid[:n, :n]

    def add(x, y, flux_jy):
        away = ((column - x) / 4.0) ** 2 + ((row - y) / 5.0) ** 2
        image[:] += flux_jy * np.exp(-4 * np.log(2) * away)

    for (x, y), one in zip(xy, flux, strict=True):
        add(x, y, one)
    options = load_config().photometry
    found = residual_statistics(mosaic(image, sigma_jy, header), catalog, options)
    assert (found["false_positive"], found["false_negative"]) == (0, 0)
    assert found["coverage"][1] == pytest.approx(1, abs=0.05)
    assert found["tail_positive"] <= found["tail_expected"] + 4
    lonely = max(
        ((x, y) for x in range(20, 492, 8) for y in range(20, 492, 8)),
        key=lambda place: np.hypot(*(xy - place).T).min(),
    )
    add(*lonely, 9 * sigma_jy)
    found = residual_statistics(mosaic(image, sigma_jy, header), catalog, options)
    assert (found["false_positive"], found["false_negative"]) == (1, 0)

    # the mosaic ends beside the strongest source: its wing is no false source, though it has no flux
    x, y = xy[-1]
    cut = mosaic(image, sigma_jy, header)
    beyond = np.arange(n) <= x + 1 if x < n / 2 else np.arange(n) >= x - 1
    cut.image[:, beyond] = cut.noise[:, beyond] = np.nan
    cut.coverage[:, beyond] = 0
    kept = beyond[round(lonely[0])]
    found = residual_statistics(cut, catalog, options)
    assert (found["false_positive"], found["false_negative"]) == (0 if kept else 1, 0)
