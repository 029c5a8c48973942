"""Forced fluxes on a mosaic of our own making against photutils' PSF photometry of the same pixels."""

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
from dsaflow.photometry.measure import measure_mosaic
from dsaflow.verdict import Verdict

pytestmark = pytest.mark.slow
CENTRE = (80.0, 16.1)
NOISE_JY = 1e-3


def _synthetic():
    """The tiles of test_mosaic_truth.py, which no package holds."""
    path = Path(__file__).with_name("test_mosaic_truth.py")
    spec = importlib.util.spec_from_file_location("mosaic_truth", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def fluxes_by_photutils(truth, outputs, places):
    """Peak of the mosaic's beam [Jy/beam], held at each place, weighted by the noise map."""
    from photutils.psf import GaussianPSF, PSFPhotometry

    image, noise = (fits.getdata(outputs[key]).astype(float) for key in ("image", "noise"))
    outside = ~np.isfinite(image)
    north, east = truth.FWHM_PIX
    psf = GaussianPSF(x_fwhm=east, y_fwhm=north)
    psf.x_0.fixed = psf.y_0.fixed = True
    found = PSFPhotometry(psf, (9, 9))(
        np.where(outside, 0, image), error=np.where(outside, 1, noise), mask=outside,
        init_params=Table({"x": places[0], "y": places[1], "flux": np.ones(len(places[0]))}),
    )  # fmt: skip
    return np.array(found["flux_fit"]) * 4 * np.log(2) / np.pi / (north * east)


def test_same_fluxes_as_photutils_on_a_mosaic(tmp_path):
    """Two unbiased least-squares fits, one on an ellipse and one on a box of pixels.

    Both weight the core of the beam most, so their errors are correlated by 0.95 and more: they
    differ by sqrt(2 (1 - 0.95)) = 0.3 sigma rms at most, and by 0.03 in the mean of 98 (bound: three
    times that).
    """
    truth = _synthetic()
    rng = np.random.default_rng(21)
    sources = truth.grid_sources(CENTRE, 0.04, spacing_deg=0.3)
    outputs, _ = truth.build(tmp_path, sources, CENTRE, noise_jy=NOISE_JY, rng=rng)
    ra, dec, flux = (np.array(v) for v in zip(*sources, strict=True))
    names = np.array([f"S{k:03d}" for k in range(len(ra))])
    catalog = Catalog(
        names, ra, dec, flux, 0.05 * flux, np.full(len(ra), np.nan), np.ones(len(ra), bool), 1.4e9
    )
    write_catalog(tmp_path / "catalog.parquet", catalog)
    Verdict().write(tmp_path / "qa.json")
    table = tmp_path / "photometry.parquet"
    config = load_config({"photometry": {"fit_offset": False}})
    measure_mosaic(
        outputs | {"qa": str(tmp_path / "qa.json")}, tmp_path / "catalog.parquet", table, config, 7,
        "dec+16.1", "g", 61000.5,
    )  # fmt: skip
    rows = pq.read_table(table).to_pandas().set_index("source_id").loc[names]
    places = WCS(fits.getheader(outputs["image"])).wcs_world2pix(ra, dec, 0)
    theirs = fluxes_by_photutils(truth, outputs, places)
    seen = (
        np.isfinite(rows["flux_jy"]) & (rows["snr"] > 10) & (rows["edge_distance_deg"] > 0.1)
    ).to_numpy()
    ours, err = rows["flux_jy"].to_numpy()[seen], rows["flux_err_jy"].to_numpy()[seen]
    apart = (theirs[seen] - ours) / err
    ratio = theirs[seen] / ours
    print(
        f"{seen.sum()} of {len(ra)} sources: ratio {np.median(ratio):.5f}, difference in sigma"
        f" {apart.mean():+.3f} in the mean, {apart.std():.3f} rms, {np.abs(apart).max():.2f} at most"
    )
    assert seen.sum() > 50
    assert abs(apart.mean()) < 0.1
    assert np.sqrt((apart**2).mean()) < 0.3
    assert abs(np.median(ratio) - 1) < 1e-3
