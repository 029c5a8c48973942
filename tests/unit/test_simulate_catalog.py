"""The population, and the spoiling of the catalogue."""

import numpy as np
import pytest

from dsaflow.errors import ConfigError
from dsaflow.simulate.settings import SimulateSettings
from dsaflow.simulate.sky import (
    CALIBRATORS,
    draw_fluxes_jy,
    integral_counts_per_deg2,
    make_sky,
    reference_catalog,
)

TRACK = (np.array([79.0, 80.0, 81.0]), np.full(3, 16.6))


def sky_and_catalog(seed=1, **changes):
    settings = SimulateSettings(
        seed=seed, max_sources=20000, field_radius_deg=8.0, **{"min_flux_jy": 0.001, **changes}
    )
    sky = make_sky(settings, TRACK)
    return settings, sky, reference_catalog(settings, sky)


def test_counts_are_nvss_like():
    assert integral_counts_per_deg2(np.array(2.5e-3)) == pytest.approx(50, rel=0.1)
    assert integral_counts_per_deg2(np.array(10e-3)) == pytest.approx(16, rel=0.1)
    # 1.9 per square degree above 0.1 Jy and 0.06 above 1 Jy, to the slopes' uncertainty
    assert integral_counts_per_deg2(np.array(0.1)) == pytest.approx(1.9, rel=0.25)
    assert integral_counts_per_deg2(np.array(1.0)) == pytest.approx(0.06, rel=0.4)


def test_drawn_fluxes_follow_the_counts():
    rng = np.random.default_rng(5)
    flux_jy = draw_fluxes_jy(rng, 500.0, 2e-3, 3.0)
    for level in (2.5e-3, 1e-2, 5e-2, 0.2):
        expected = 500 * (
            integral_counts_per_deg2(np.array(level)) - integral_counts_per_deg2(np.array(3.0))
        )
        assert abs(np.sum(flux_jy > level) - expected) < 5 * np.sqrt(expected)


def test_spectral_indices_and_kinds():
    _, sky, _ = sky_and_catalog()
    index = sky.spectral_index[:-2]
    n = index.size
    assert index.mean() == pytest.approx(-0.7, abs=5 * 0.2 / np.sqrt(n))
    assert index.std() == pytest.approx(0.2, abs=5 * 0.2 / np.sqrt(2 * n))
    varying = np.mean([kind != "constant" for kind in sky.kind[:-2]])
    assert varying == pytest.approx(0.06, abs=5 * np.sqrt(0.06 / n))
    assert sky.kind[-2:] == ["plasma_lens", "calibrator"]
    assert len(set(sky.source_id)) == len(sky.source_id)


def test_calibrator_has_its_published_spectrum_and_place():
    """Perley & Butler (2017): 8.547 Jy at 1405 MHz for 3C138."""
    _, sky, table = sky_and_catalog()
    assert sky.spectrum_jy(np.array([1.405e9]))[-1] == pytest.approx(8.547, abs=0.001)
    place = CALIBRATORS["3C138"][:2]
    assert place == pytest.approx((80.2911917, 16.6394583), abs=1e-6)
    row = table["source_id"] == sky.source_id[-1]
    assert (table["ra_deg"][row].item(), table["dec_deg"][row].item()) == pytest.approx(place)
    assert table["flux_jy"][row] == pytest.approx(sky.flux_jy[-1])


def test_no_other_source_beside_the_event():
    _, sky, _ = sky_and_catalog()
    for special in (-1, -2):
        away = np.hypot(
            (sky.ra_deg - sky.ra_deg[special]) * np.cos(np.radians(16.6)),
            sky.dec_deg - sky.dec_deg[special],
        )
        assert np.sort(away)[1] > 4 / 60


def matched(sky, table):
    true = {name: i for i, name in enumerate(sky.source_id)}
    found = np.array([name in true for name in table["source_id"]])
    return found, np.array([true[name] for name in table["source_id"][found]])


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_catalogue_is_spoilt_as_stated(seed):
    settings, sky, table = sky_and_catalog(seed)
    found, true = matched(sky, table)
    assert table["flux_jy"].min() >= 2.5e-3
    assert np.isnan(table["spectral_index"]).all()
    assert (table["flux_err_jy"] > 0).all()
    assert np.sum(~found) == pytest.approx(0.01 * found.sum(), abs=1)
    bright = sky.flux_jy[true] > 0.03
    ratio = (table["flux_jy"][found] / sky.flux_jy[true])[bright]
    n = ratio.size
    assert np.median(ratio) == pytest.approx(1, abs=5 * 1.25 * 0.052 / np.sqrt(n))
    # 5 % and 0.45 mJy give 5.1 %; 68 % of sources with 3 % of them elsewhere
    width = 0.5 * np.ptp(np.percentile(ratio, [15.87, 84.13]))
    assert width == pytest.approx(0.0525, rel=5 * 1.2 / np.sqrt(n))
    outliers = np.mean(np.abs(ratio - 1) > 0.22)
    assert outliers == pytest.approx(0.03 * 0.93, abs=5 * np.sqrt(0.03 / n))
    faint = sky.flux_jy[true] < 4e-3
    error_arcsec = (table["dec_deg"][found] - sky.dec_deg[true])[faint] * 3600
    assert error_arcsec.std() == pytest.approx(0.8, abs=0.15)
    assert (table["dec_deg"][found] - sky.dec_deg[true])[
        sky.flux_jy[true] > 0.5
    ].std() * 3600 < 0.02
    assert settings.effects.spoilt_catalog


def test_an_unspoilt_catalogue_is_the_truth():
    settings, sky, _ = sky_and_catalog()
    settings.effects.spoilt_catalog = False
    table = reference_catalog(settings, sky)
    found, true = matched(sky, table)
    assert found.all()
    assert (table["flux_jy"] == sky.flux_jy[true]).all()
    assert (table["ra_deg"] == sky.ra_deg[true]).all()


def test_far_sources():
    near = make_sky(SimulateSettings(max_sources=50), TRACK)
    settings = SimulateSettings(max_sources=50)
    settings.effects.far_sources = True
    sky = make_sky(settings, TRACK)
    brightest = sky.flux_jy.argmax()
    assert sky.flux_jy[brightest] > 1000
    away = np.hypot(
        (sky.ra_deg[brightest] - 80.0) * np.cos(np.radians(sky.dec_deg[brightest])),
        sky.dec_deg[brightest] - 16.6,
    )
    assert away == pytest.approx(4.2, abs=0.1)
    assert near.flux_jy.max() < 10
    # switched on, nothing else changes
    assert set(near.source_id) < set(sky.source_id)


@pytest.mark.parametrize("centre_deg", [0.3, 359.8])
def test_population_surrounds_a_track_through_the_origin_of_right_ascension(centre_deg):
    track = ((centre_deg + np.array([-1.0, 0.0, 1.0])) % 360, np.full(3, 33.0))
    settings = SimulateSettings(calibrator="", max_sources=400)
    sky = make_sky(settings, track)
    away = (sky.ra_deg - centre_deg + 180) % 360 - 180
    assert np.abs(away).max() < 6
    assert (away > 0.5).any()
    assert (away < -0.5).any()
    assert ((sky.ra_deg >= 0) & (sky.ra_deg < 360)).all()


def test_a_source_table_is_taken_as_it_is_or_refused(tmp_path):
    table = tmp_path / "sky.csv"
    table.write_text("ra_deg,dec_deg,flux_jy,spectral_index\n80.0,16.0,0.5,-1.0\n")
    settings = SimulateSettings(source_table=str(table), calibrator="", event={"kind": "none"})
    sky = make_sky(settings, TRACK)
    assert (sky.ra_deg.item(), sky.dec_deg.item()) == (80.0, 16.0)
    assert sky.spectrum_jy(np.array([2.8e9])).item() == pytest.approx(0.25)
    table.write_text("ra_deg,dec_deg,flux_jy\n80.0,16.0,0.5\n")
    with pytest.raises(ConfigError, match="spectral_index"):
        make_sky(settings, TRACK)
