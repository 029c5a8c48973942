"""Reference catalogue, calibrators and flux scale."""

from dataclasses import replace

import numpy as np
import pytest

from dsaflow.catalog import (
    Catalog,
    fetch_catalog,
    nvss_rows,
    perley_butler_jy,
    ra_pieces,
    read_calibrators,
    read_catalog,
    write_catalog,
)
from dsaflow.config import load_config
from dsaflow.errors import ConfigError, EnvironmentProblem


def some_catalog(n=40, dec_deg=16.0):
    rng = np.random.default_rng(1)
    flux = rng.uniform(0.003, 0.5, n)
    return Catalog(
        np.array([f"J{i:04d}" for i in range(n)]), rng.uniform(0, 360, n),
        dec_deg + rng.uniform(-5, 5, n), flux, 0.03 * flux, np.full(n, np.nan),
        rng.random(n) < 0.8, 1.4e9, "made up", "2",
    )  # fmt: skip


def test_round_trip(tmp_path):
    catalog = some_catalog()
    write_catalog(tmp_path / "c.parquet", catalog)
    read = read_catalog(tmp_path / "c.parquet")
    for name in ("source_id", "ra_deg", "dec_deg", "flux_jy", "flux_err_jy", "compact"):
        np.testing.assert_array_equal(getattr(read, name), getattr(catalog, name))
    assert np.isnan(read.spectral_index).all()
    assert (read.frequency_hz, read.origin, read.version) == (1.4e9, "made up", "2")


@pytest.mark.parametrize(
    ("column", "value"), [("flux_jy", -1.0), ("ra_deg", 361.0), ("dec_deg", np.nan)]
)
def test_senseless_rows_are_refused(tmp_path, column, value):
    catalog = some_catalog()
    spoilt = getattr(catalog, column).copy()
    spoilt[3] = value
    write_catalog(tmp_path / "c.parquet", replace(catalog, **{column: spoilt}))
    with pytest.raises(ConfigError, match=column):
        read_catalog(tmp_path / "c.parquet")


def test_missing_columns_are_named(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"source_id": ["a"], "ra_deg": [1.0]}), tmp_path / "c.parquet")
    with pytest.raises(ConfigError, match="dec_deg, flux_jy"):
        read_catalog(tmp_path / "c.parquet")


def test_fetch_takes_the_configured_catalogue_and_cuts_the_strip(tmp_path):
    catalog = some_catalog()
    write_catalog(tmp_path / "all.parquet", catalog)
    config = load_config({"paths": {"reference_catalog": str(tmp_path / "all.parquet")}})
    verdict = fetch_catalog(16.1, (350.0, 200.0), config, tmp_path / "strip.parquet")
    strip = read_catalog(tmp_path / "strip.parquet")
    inside = (np.abs(catalog.dec_deg - 16.1) <= 4) & (
        (catalog.ra_deg >= 350) | (catalog.ra_deg <= 200)
    )
    assert set(strip.source_id) == set(catalog.source_id[inside])
    assert verdict.numbers["n_source"] == inside.sum()
    with pytest.raises(ConfigError, match="no source within"):
        fetch_catalog(54.6, (0.0, 360.0), config, tmp_path / "other.parquet")


def test_a_missing_local_catalogue_says_what_to_put_where(tmp_path):
    config = load_config({"paths": {"reference_catalog": str(tmp_path / "nvss.parquet")}})
    with pytest.raises(EnvironmentProblem, match=r"nvss\.parquet.*Parquet.*frequency_hz"):
        fetch_catalog(16.1, (0.0, 360.0), config, tmp_path / "out.parquet")


def test_without_network_the_error_says_which_file_to_put_where(tmp_path, monkeypatch):
    pytest.importorskip("astroquery")
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # astroquery's own, at import
        from astroquery.vizier import VizierClass

    def unreachable(*args, **kwargs):
        raise ConnectionError("no route")

    monkeypatch.setattr(VizierClass, "query_constraints", unreachable)
    with pytest.raises(EnvironmentProblem, match=r"strip\.parquet.*VIII/65/nvss.*12\.1 to 20\.1"):
        fetch_catalog(16.1, (0.0, 30.0), load_config(), tmp_path / "strip.parquet")


def test_vizier_rows_become_a_catalogue(tmp_path, monkeypatch):
    import warnings

    from astropy.table import Table

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # astroquery's own, at import
        from astroquery.vizier import VizierClass
    asked = []
    rows = Table({
        "_RAJ2000": [10.0, 10.5, 11.0], "_DEJ2000": [16.0, 17.0, 15.0],
        "NVSS": ["a", "b", "c"], "S1.4": [12.5, 300.0, np.nan], "e_S1.4": [0.6, 9.0, 1.0],
        "l_MajAxis": ["<", "", "<"], "MajAxis": [20.0, 60.0, 20.0],
    })  # fmt: skip

    def answer(self, **constraints):
        asked.append(constraints)
        return [rows]

    monkeypatch.setattr(VizierClass, "query_constraints", answer)
    verdict = fetch_catalog(16.1, (355.0, 20.0), load_config(), tmp_path / "strip.parquet")
    catalog = read_catalog(tmp_path / "strip.parquet")
    np.testing.assert_allclose(np.sort(catalog.flux_jy), [0.0125, 0.3])
    assert catalog.compact[catalog.flux_jy < 0.1].all()
    assert "VIII/65/nvss fetched" in verdict.provenance["edition"]
    assert asked[0]["RAJ2000"] == "355.0000..360.0000"
    assert asked[-1]["S1.4"] == ">=1000"
    assert asked[-1]["DEJ2000"] == "5.6000..26.6000"


def test_bright_sources_are_kept_further_out(tmp_path):
    """Rows 6 and 9 deg from the strip's edges: kept above 1 Jy alone."""
    ra = np.array([100.0, 100.0, 88.0, 88.0, 60.0, 100.0])
    dec = np.array([22.1, 22.1, 16.0, 16.0, 16.0, 30.0])
    flux = np.array([2.0, 0.5, 2.0, 0.5, 2.0, 2.0])
    catalog = replace(some_catalog(6), ra_deg=ra, dec_deg=dec, flux_jy=flux)
    near = some_catalog(400).select(slice(0, 400))
    near = near.select((np.abs(near.dec_deg - 16) < 3) & (np.abs(near.ra_deg - 105) < 8))
    names = np.concatenate([catalog.source_id, np.array([f"N{i}" for i in range(len(near))])])
    columns = {
        key: np.concatenate([getattr(catalog, key), getattr(near, key)])
        for key in ("ra_deg", "dec_deg", "flux_jy", "flux_err_jy", "spectral_index", "compact")
    }
    write_catalog(tmp_path / "all.parquet", replace(catalog, source_id=names, **columns))
    config = load_config({"paths": {"reference_catalog": str(tmp_path / "all.parquet")}})
    verdict = fetch_catalog(16.1, (96.0, 114.0), config, tmp_path / "strip.parquet")
    kept = set(read_catalog(tmp_path / "strip.parquet").source_id)
    assert {"J0000", "J0002"} < kept
    assert not {"J0001", "J0003", "J0004", "J0005"} & kept
    assert verdict.numbers["n_bright_outside"] == 2


def test_pieces_cover_the_range_once():
    for west, east in ((0, 360), (350, 20), (10, 30), (340, 339)):
        pieces = ra_pieces((west, east))
        width = 360 if east - west >= 360 else (east - west) % 360
        assert sum(b - a for a, b in pieces) == pytest.approx(width)
        assert all(0 <= a < b <= 360 for a, b in pieces)


@pytest.mark.parametrize(
    ("name", "flux_jy"), [("3C286", 15.057), ("3C48", 16.209), ("3C147", 22.111), ("3C138", 8.547)]
)
def test_primary_calibrators_follow_perley_and_butler(name, flux_jy):
    calibrators = read_calibrators("config/calibrators.csv")
    row = list(calibrators.name).index(name)
    assert calibrators.primary[row]
    assert calibrators.flux_at(row, 1.405e9) == pytest.approx(flux_jy, abs=6e-4)


def test_calibrator_table_has_each_source_once_and_the_blazar_is_no_standard():
    calibrators = read_calibrators("config/calibrators.csv")
    ra, dec = np.radians(calibrators.ra_deg), np.radians(calibrators.dec_deg)
    unit = np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)])
    near = np.arccos(np.clip(unit.T @ unit, -1, 1)) < np.radians(30 / 3600)
    assert near.sum() == len(calibrators)
    assert calibrators.primary.sum() == 6
    blazar = list(calibrators.name).index("3C454.3")
    assert not calibrators.primary[blazar]
    assert "variable" in calibrators.note[blazar]
    assert "0834+555" in calibrators.name


def test_polynomial_and_power_law():
    assert perley_butler_jy((1.0, -1.0), 10e9) == pytest.approx(1.0)
    calibrators = read_calibrators("config/calibrators.csv")
    known = int(np.flatnonzero(np.isfinite(calibrators.spectral_index) & ~calibrators.primary)[0])
    unknown = int(np.flatnonzero(np.isnan(calibrators.spectral_index))[0])
    for row, alpha in ((known, calibrators.spectral_index[known]), (unknown, -1.0)):
        expected = calibrators.flux_jy[row] * 2.0**alpha
        assert calibrators.flux_at(row, 2.8e9, -1.0) == pytest.approx(expected)


def test_a_calibrator_named_twice_is_refused(tmp_path):
    text = "name,ra_deg,dec_deg,flux_jy,spectral_index,primary,coefficients,note\n" + 2 * (
        "a,1,2,3,,0,,\n"
    )
    (tmp_path / "c.csv").write_text(text)
    with pytest.raises(ConfigError, match="twice"):
        read_calibrators(tmp_path / "c.csv")


def test_nvss_rows_drop_duplicates():
    from astropy.table import Table

    rows = Table({
        "_RAJ2000": [10.0, 10.0], "_DEJ2000": [1.0, 1.0], "NVSS": ["a", "a"],
        "S1.4": [5.0, 5.0], "e_S1.4": [0.5, 0.5], "l_MajAxis": ["<", "<"],
    })  # fmt: skip
    assert len(nvss_rows(rows)) == 1
