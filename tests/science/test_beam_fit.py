"""The measured beam against a beam of the test's own: scipy's Airy pattern on apparent places by hand."""

from functools import cache

import numpy as np
import pytest
from scipy.special import j1
from scipy.stats import chi2

from dsaflow.config import Config
from dsaflow.geometry import hour_angle_declination, meridian_icrs
from dsaflow.instrument import PrimaryBeam
from dsaflow.qa.beamfit import Sightings, TilePointing, beam_gates, beam_of, fit_beam, flux_change

POINTING_DEG, START_MJD, TILE_D = 16.1, 61060.2, 309.24 / 86400
FREQ_HZ = 1.405e9
ASSUMED = PrimaryBeam(4.65)
RESPONSE_CUT = 0.1


def true_response(tile, ra_deg, dec_deg, diameter_m, east_deg, north_deg):
    """Mean over drift and band of the Airy pattern at (HA -east / cos dec, dec + north) of date."""
    times = START_MJD + TILE_D * (tile + (np.arange(24) + 0.5) / 24)
    ha, dec = hour_angle_declination(times[:, None], ra_deg, dec_deg)
    dec0 = np.radians(POINTING_DEG + north_deg)
    ha0 = -np.radians(east_deg) / np.cos(np.radians(POINTING_DEG))
    cosine = np.sin(dec) * np.sin(dec0) + np.cos(dec) * np.cos(dec0) * np.cos(ha - ha0)
    sine = np.sqrt(1 - np.minimum(cosine, 1.0) ** 2)
    freq_hz = np.linspace(1.32e9, 1.49e9, 7)[:, None, None]
    x = np.pi * diameter_m * freq_hz / 299792458.0 * np.maximum(sine, 1e-9)
    return ((2 * j1(x) / x) ** 2).mean(axis=(0, 1))


def night(seed, n_source=60, n_tile=3, noise_jy=0.004, **beam):
    """Sightings of one night with a spoilt catalogue, as the pipeline would hand them to the fit."""
    rng = np.random.default_rng(seed)
    tiles = [
        TilePointing(START_MJD + k * TILE_D, START_MJD + (k + 1) * TILE_D, POINTING_DEG, FREQ_HZ)
        for k in range(n_tile)
    ]
    ra0, dec0 = (
        float(np.ravel(v)[0]) for v in meridian_icrs(START_MJD + n_tile / 2 * TILE_D, POINTING_DEG)
    )
    dec = dec0 + rng.uniform(-1.6, 1.6, n_source)
    ra = ra0 + rng.uniform(-2.2, 2.2, n_source) / np.cos(np.radians(dec))
    flux = 0.1 * rng.uniform(0.05, 1, n_source) ** (-1 / 1.2)
    catalog = flux * (1 + 0.05 * rng.normal(size=n_source))
    catalog[rng.random(n_source) < 0.03] *= 1.3
    scale = 1 + 0.02 * rng.normal(size=n_tile)
    rows = []
    for k, tile in enumerate(tiles):
        seen = true_response(k, ra, dec, **beam) * flux * scale[k]
        assumed = tile.mean_power(ASSUMED, ra, dec)
        measured = seen + noise_jy * rng.normal(size=n_source)
        # chosen on the catalogue, as the pipeline does
        for i in np.flatnonzero((assumed > RESPONSE_CUT) & (catalog * assumed > 15 * noise_jy)):
            rows.append((i, k, measured[i], noise_jy, assumed[i]))
    rows = np.array(rows)
    kept, source = np.unique(rows[:, 0].astype(int), return_inverse=True)
    return (
        Sightings(source, rows[:, 1].astype(int), *rows[:, 2:].T), tiles, ra[kept], dec[kept],
        catalog[kept], np.full(kept.size, 0.1), ASSUMED,
    )  # fmt: skip


TRUE = {"diameter_m": 4.65, "east_deg": 0.0, "north_deg": 0.0}
WRONG = {"diameter_m": 4.2, "east_deg": 0.07, "north_deg": 0.07}
BEAMS = {"right": TRUE, "wrong": WRONG}


@cache
def fitted(name, seed):
    """Fit to one night under the right or the wrong beam."""
    return fit_beam(*night(seed, **BEAMS[name]))


@pytest.mark.parametrize("name", ["right", "wrong"], ids=["right beam", "wrong beam"])
def test_diameter_and_pointing_are_recovered_within_their_errors(name):
    """Over 12 nights: pulls of mean 0 and width 1, up to 3.3 standard errors of 12 draws (1e-3)."""
    beam = BEAMS[name]
    truth = np.array([beam["diameter_m"], beam["east_deg"], beam["north_deg"]])
    fits = [fitted(name, seed) for seed in range(12)]
    pulls = np.array([(f.value - truth) / f.err for f in fits])
    assert (np.abs(pulls.mean(axis=0)) < 3.3 / np.sqrt(12)).all()
    # the errors include the catalogue's allowance of 10 %, twice its scatter here: narrow is right
    assert (np.sqrt((pulls**2).mean(axis=0)) < 1.5).all()
    value = np.mean([f.value for f in fits], axis=0)
    assert np.abs(value[0] - truth[0]) < 0.02
    assert (np.abs(value[1:] - truth[1:]) < 0.01).all()


def test_gate_rejects_the_wrong_beam_and_passes_the_right_one():
    config = Config()
    verdicts = {}
    for name in BEAMS:
        gates = [
            beam_gates(fitted(name, seed), ASSUMED, FREQ_HZ, config)[0][0] for seed in range(6)
        ]
        verdicts[name] = [g.verdict for g in gates]
    assert verdicts == {"right": ["pass"] * 6, "wrong": ["reject"] * 6}


def test_fitted_beam_makes_the_fluxes_agree():
    """With the fitted beam in place of the assumed one nothing is left to fit."""
    seen, tiles, ra, dec, catalog, err, assumed = night(3, **WRONG)
    fit = fitted("wrong", 3)
    better = beam_of(assumed, fit.value)
    response = np.stack([t.mean_power(better, ra, dec) for t in tiles])[seen.tile, seen.source]
    seen = Sightings(seen.source, seen.tile, seen.flux_jy, seen.err_jy, response)
    again = fit_beam(seen, tiles, ra, dec, catalog, err, better)
    assert (np.abs(again.value - fit.value) < 0.05 * fit.err).all()
    off = fit.value - [WRONG["diameter_m"], WRONG["east_deg"], WRONG["north_deg"]]
    assert off @ np.linalg.solve(fit.covariance, off) < chi2.isf(1e-3, 3)
    # relative fluxes within response 0.3, to the error that the fit states for them
    truth = np.stack([true_response(k, ra, dec, **WRONG) for k in range(3)])[seen.tile, seen.source]
    ratio = (response / truth)[truth > 0.3]
    _, flux_err = flux_change(fit, assumed, FREQ_HZ)
    assert np.abs(ratio / np.median(ratio) - 1).max() < 3.3 * flux_err
    uncorrected = (seen_response(tiles, ra, dec, seen) / truth)[truth > 0.3]
    assert np.abs(uncorrected / np.median(uncorrected) - 1).max() > 0.1


def seen_response(tiles, ra, dec, seen):
    return np.stack([t.mean_power(ASSUMED, ra, dec) for t in tiles])[seen.tile, seen.source]
