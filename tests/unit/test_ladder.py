"""The ladder of effects: its rungs, and its scores on tables whose answer is known."""

import itertools

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits

from dsaflow.config import Config
from dsaflow.simulate.settings import Effects
from dsaflow.validation.ladder import RUNGS, describe, draw, rung_config, wide
from dsaflow.validation.score import SNR_BINS, measure_places, score


def test_each_rung_adds_to_the_one_below():
    for below, rung in itertools.pairwise(RUNGS):
        new = set(rung.effects) - set(below.effects)
        assert set(below.effects) <= set(rung.effects)
        assert len(new) == 1 or (not new and rung.steps != below.steps)
    # the beam's error has a test of its own, and the strip is observed by night
    assert set(RUNGS[-1].effects) == set(Effects.model_fields) - {"beam_error", "sun"}
    assert RUNGS[-1].steps.flag
    assert RUNGS[-1].steps.calibrate


def test_a_rung_has_its_effects_only_and_a_folder_of_its_own(tmp_path):
    config = rung_config(Config(), RUNGS[1], tmp_path, nights=2, seed=5)
    on = {name for name, value in config.simulate.effects.model_dump().items() if value}
    assert on == {"noise", "beam_motion"}
    assert config.simulate.seed == 5
    # what is not calibrated has to be in Jy
    assert config.simulate.correlator_unit == 1.0
    assert config.paths.reference_catalog.startswith(str(tmp_path))


def table(rng, scale=1.0, widths=(1.0, 1.0, 1.0, 1.0), n=2000):
    """Rows of `n` sources a bin with pulls of given widths, one night."""
    parts = []
    for (low, high), width in zip(SNR_BINS, widths, strict=True):
        snr = rng.uniform(low, min(high, 300.0), n)
        err = np.full(n, 0.003)
        true = snr * err
        flux = scale * (true + width * err * rng.normal(size=n))
        parts.append(
            pd.DataFrame(
                {"flux_jy": flux, "flux_err_jy": err, "true_jy": true, "true_snr": snr, "night": 0,
                 "scale_err": 0.004, "abs_err_frac": 0.01, "scale": scale, "seed": 1,
                 "pull": (flux / scale - true) / err, "east_arcsec": np.nan,
                 "north_arcsec": np.nan, "east_err_arcsec": np.nan, "north_err_arcsec": np.nan}
            )
        )  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def test_scores_find_scale_and_widths_that_were_put_in():
    """Tolerances: four standard errors, 1.36 / sqrt(2 n) of a width and 1 / sqrt(n) of a mean."""
    widths = (1.0, 1.0, 1.5, 1.0)
    found = score(table(np.random.default_rng(1), 1.03, widths))
    assert found["flux_ratio"] == pytest.approx(1.03, abs=4 * found["flux_ratio_err"])
    # pulls of width 1 at S/N 10 to 300: far below 1 % with 6000 sources
    assert found["flux_ratio_err"] < 0.002
    stated = np.sqrt(found["flux_ratio_err"] ** 2 + 0.004**2 + 0.01**2)
    assert found["flux_ratio_stated_err"] == pytest.approx(stated)
    for part, width in zip(found["bins"], widths, strict=True):
        assert part["sources"] == 2000
        assert part["pull_width"] == pytest.approx(width, rel=4 * 1.36 / np.sqrt(4000))
        assert part["pull_mean"] == pytest.approx(0, abs=4 * width / np.sqrt(2000))


def test_places_are_measured_east_and_north(tmp_path):
    """A Gaussian moved by known arcseconds; without noise the fit is exact to 0.1"."""
    header = fits.Header(
        {"CTYPE1": "RA---SIN", "CTYPE2": "DEC--SIN", "CRPIX1": 33.0, "CRPIX2": 33.0,
         "CRVAL1": 80.0, "CRVAL2": 16.0, "CDELT1": -0.005, "CDELT2": 0.005, "CUNIT1": "deg",
         "CUNIT2": "deg", "BMAJ": 0.02, "BMIN": 0.015, "BPA": 30.0, "FREQ": 1.4e9}
    )  # fmt: skip
    east_arcsec, north_arcsec = 1.5, -0.9
    row, column = np.mgrid[:64, :64] - 32.0
    east = -0.005 * column - east_arcsec / 3600
    north = 0.005 * row - north_arcsec / 3600
    angle = np.radians(30.0)
    major = north * np.cos(angle) + east * np.sin(angle)
    minor = -north * np.sin(angle) + east * np.cos(angle)
    shape = np.exp(-4 * np.log(2) * ((major / 0.02) ** 2 + (minor / 0.015) ** 2))
    fits.writeto(tmp_path / "image.fits", 0.5 * shape, header)
    pd.DataFrame({"source_id": ["A"], "ra_deg": [80.0], "dec_deg": [16.0]}).to_parquet(
        tmp_path / "sources.parquet"
    )
    rows = pd.DataFrame({"source_id": ["A", "A"], "group_id": ["g", "g"], "true_snr": [100.0, 8.0]})
    found = measure_places(rows, {"g": str(tmp_path / "image.fits")}, tmp_path)
    assert found["east_arcsec"][0] == pytest.approx(east_arcsec, abs=0.1)
    assert found["north_arcsec"][0] == pytest.approx(north_arcsec, abs=0.1)
    # of the ellipse 30 degrees from north toward east
    east, north = np.hypot(0.01, 0.015 * np.cos(angle)), np.hypot(0.02 * np.cos(angle), 0.0075)
    assert found["east_err_arcsec"][0] == pytest.approx(18 * east, rel=1e-6)
    assert found["north_err_arcsec"][0] == pytest.approx(18 * north, rel=1e-6)
    # too faint for a place
    assert np.isnan(found["east_arcsec"][1])


@pytest.fixture(scope="module")
def results():
    rng = np.random.default_rng(2)
    rungs = {"noise alone": (1.0,) * 4, "+ gains": (1.0, 1.0, 1.0, 1.4), "+ all": (1.0, 1, 1.3, 2)}
    noise = {"calibrator_ratio": 1.0, "noise_ratio_median": 1.0, "noise_ratio_worst": 1.1}
    return [{"name": name, **score(table(rng, widths=w)), **noise} for name, w in rungs.items()]


def test_the_first_rung_with_wide_pulls_is_named(results):
    lines = wide(results)
    assert len(lines) == 2
    assert lines[0].startswith("30-100 sigma")
    assert lines[0].endswith("from '+ all' on")
    assert lines[1].startswith("> 100 sigma")
    assert lines[1].endswith("from '+ gains' on")


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_figure_and_table(results, tmp_path, suffix):
    draw(results, tmp_path / f"ladder.{suffix}")
    start = (tmp_path / f"ladder.{suffix}").read_bytes()[:200]
    assert (
        start.startswith(b"\x89PNG") if suffix == "png" else b"<svg" in start or b"<?xml" in start
    )
    lines = describe(results).splitlines()
    assert len(lines) == 5
    assert len({line.count("|") for line in lines}) == 1
