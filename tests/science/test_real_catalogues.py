"""Real catalogues: NVSS rows, spectra of calibrators, VLBI positions, the VLA manual."""

import csv

import numpy as np
import pytest

from dsaflow.catalog import read_calibrators, read_catalog, read_nvss_fits, write_catalog
from dsaflow.geometry import separation_rad


@pytest.fixture(scope="module")
def folder(shared_data):
    place = shared_data / "catalogues"
    if not place.is_dir():
        pytest.skip("real data not here: no catalogues folder")
    return place


@pytest.fixture(scope="module")
def calibrators():
    return read_calibrators("config/calibrators.csv")


def test_nvss_rows_from_vizier(folder, tmp_path):
    catalog = read_nvss_fits(folder / "nvss_ra90-105_dec-32.fits")
    assert len(catalog) == 639
    first = list(catalog.source_id).index("NVSS J060002-314014")
    assert catalog.flux_jy[first] == pytest.approx(0.0146)
    assert catalog.flux_err_jy[first] == pytest.approx(0.0007)
    assert catalog.compact[first]
    assert not catalog.compact[list(catalog.source_id).index("NVSS J060002-310237")]
    assert 0.0020 < catalog.flux_jy.min() < 0.0035  # the survey's limit
    write_catalog(tmp_path / "nvss.parquet", catalog)
    assert len(read_catalog(tmp_path / "nvss.parquet")) == 639


def test_primary_polynomials_agree_with_the_manual(folder, calibrators):
    """L-band fluxes of the VLA manual (20 cm, an older scale) lie within 3 %."""
    manual = {"3C286": 15.0, "3C48": 16.5, "3C147": 22.5, "3C138": 8.47, "3C295": 22.8}
    text = (folder / "vlacalibrators.txt").read_text()
    for name, flux_jy in manual.items():
        assert name in text
        row = list(calibrators.name).index(name)
        assert calibrators.flux_at(row, 1.4e9) == pytest.approx(flux_jy, rel=0.03)


def test_calibrator_fluxes_against_observed_spectra(folder, calibrators):
    """NVSS fluxes of Helmboldt et al. (2008): the manual's are right to 10 % in the median."""
    with open(folder / "helmboldt2008_sed_points.csv", newline="") as stream:
        rows = [r for r in csv.DictReader(stream) if float(r["freq_mhz"]) == 1400.0]
    ra, dec, flux = (
        np.array([float(r[k]) for r in rows]) for k in ("ra_deg", "dec_deg", "flux_jy")
    )
    ratios, primary = [], []
    for i in range(len(calibrators)):
        away = separation_rad(calibrators.ra_deg[i], calibrators.dec_deg[i], ra, dec)
        if away.min() < np.radians(60 / 3600):
            ratio = flux[away.argmin()] / float(calibrators.flux_at(i, 1.4e9))
            (primary if calibrators.primary[i] else ratios).append(ratio)
    assert len(ratios) >= 15
    assert np.median(ratios) == pytest.approx(1.0, abs=0.1)
    assert len(primary) >= 2
    assert primary == pytest.approx([1.0] * len(primary), abs=0.06)


def test_calibrator_positions_against_vlbi(folder, calibrators):
    """Positions of the Radio Fundamental Catalogue (2022b), to 0.3 arcsec in the median."""
    ra, dec = [], []
    for line in (folder / "rfc_2022b_cat.txt").read_text().splitlines():
        if line.startswith("#") or not line.strip():
            continue
        h, m, s, d, dm, ds = line[24:].split()[:6]
        sign = -1 if d.startswith("-") else 1
        ra.append(15 * (int(h) + int(m) / 60 + float(s) / 3600))
        dec.append(sign * (abs(int(d)) + int(dm) / 60 + float(ds) / 3600))
    away = np.array(
        [
            separation_rad(r, d, np.array(ra), np.array(dec)).min()
            for r, d in zip(calibrators.ra_deg, calibrators.dec_deg, strict=True)
        ]
    )
    arcsec = np.degrees(away) * 3600
    matched = arcsec[arcsec < 5]
    assert len(matched) > 80
    assert np.median(matched) < 0.05
    assert np.percentile(matched, 90) < 1.0
