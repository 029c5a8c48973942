"""The spectral index of a tile's model is measured, and a bright source leaves no rings."""

import numpy as np
import pytest

from dsaflow.catalog.table import Catalog
from dsaflow.config.sections import Image
from dsaflow.geometry import meridian_icrs, projected_baselines
from dsaflow.imaging.frame import ApparentFrame
from dsaflow.imaging.tile import image_visibilities
from dsaflow.instrument import PrimaryBeam, read_stations
from dsaflow.visibilities.container import Visibilities

LIGHT = 299792458.0
SITE = (-118.2830, 37.2334051, 1188.05)
DEC_DEG, MJD = 16.1, 60700.3
INTEGRATION_S, WIDTH_HZ, SEFD_JY = 12.884902, 244140.625, 6500.0
BEAM = PrimaryBeam(4.65)
FLUX_JY, INDEX = 60.0, 0.3
OPTIONS = Image(
    size=660, pixel_arcsec=26.0, beam_terms=5, gridding_accuracy=1e-4, far_sources=False
)


@pytest.fixture(scope="module")
def observed(repository):
    """One source of 60 Jy off the centre, between pixels, seen by a tracking array; its catalogue."""
    stations = read_stations(repository / "config" / "antennas.csv")
    core = np.flatnonzero(stations.active & (stations.number <= 102))
    chosen = core[np.linspace(0, core.size - 1, 40).round().astype(int)]
    xyz = stations.itrf_m()[chosen]
    time_mjd = MJD + (np.arange(6) - 2.5) * INTEGRATION_S / 86400
    ra0, dec0 = (float(np.ravel(v)[0]) for v in meridian_icrs(MJD, DEC_DEG))
    first, second = np.triu_indices(chosen.size, 1)
    uvw = projected_baselines(xyz, time_mjd, ra0, dec0)
    uvw = uvw[:, first] - uvw[:, second]
    freq_hz = 1311.25e6 + (np.arange(16) + 0.5) * 187.5e6 / 16
    ra, dec = ra0 + 0.31, dec0 - 0.37
    l, m = ApparentFrame.at(MJD, ra0, dec0, SITE).cosines(ra, dec)  # noqa: E741
    away = np.arcsin(np.hypot(l, m))
    seen = FLUX_JY * (freq_hz / 1405e6) ** INDEX * BEAM.power(np.array([away])[:, None], freq_hz)[0]
    delay = uvw @ np.array([l, m, np.sqrt(1 - l**2 - m**2) - 1]) / LIGHT
    data = seen * np.exp(2j * np.pi * delay[..., None] * freq_hz)
    rng = np.random.default_rng(2)
    data = np.repeat(data[..., None], 2, axis=3)
    sigma = SEFD_JY / np.sqrt(2 * WIDTH_HZ * INTEGRATION_S)
    data = data + sigma * (rng.normal(size=data.shape) + 1j * rng.normal(size=data.shape))
    vis = Visibilities(
        data.astype(np.complex64), np.zeros(data.shape, bool), uvw, first, second, time_mjd,
        INTEGRATION_S, freq_hz, WIDTH_HZ, ("XX", "YY"), [str(n) for n in chosen], xyz, ra0, dec0,
        float("nan"), SITE,
    )  # fmt: skip
    catalog = Catalog(
        np.array(["A"]), np.array([ra]), np.array([dec]), np.array([FLUX_JY]), np.array([0.1]),
        np.array([np.nan]), np.ones(1, bool), frequency_hz=1.405e9, origin="test", version="1",
    ).validate()  # fmt: skip
    return vis, catalog


def imaged(observed, **options):
    vis, catalog = observed
    return image_visibilities(
        vis, OPTIONS.model_copy(update=options), BEAM, SEFD_JY, catalog=catalog
    )


def highest_elsewhere(images):
    """Largest |image| over its noise beyond 40 pixels of the brightest pixel."""
    row, column = np.unravel_index(images.image.argmax(), images.image.shape)
    y, x = np.indices(images.image.shape)
    far = np.hypot(y - row, x - column) > 40
    return float(np.abs(images.image / images.noise)[far].max())


@pytest.mark.parametrize("slant", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_index_is_the_sources(observed, slant):
    images = imaged(observed, fit_index=True, slant=slant)
    # noise / (flux x rms of ln nu over the band, 0.039): 1e-3, and twice that by the blocks' PSFs
    error = images.numbers["noise_jy"] / (0.9 * FLUX_JY * 0.039)
    assert error < 0.02
    assert images.numbers["model_spectral_index"] == pytest.approx(INDEX, abs=0.01 + 4 * error)
    assert images.numbers["noise_jy"] < 1.1 * images.numbers["radiometer_jy"]
    # 17 000 beams of noise: 5.5 sigma in one of 1500 skies
    assert highest_elsewhere(images) < 5.5
    wrong = imaged(observed, slant=slant)
    assert wrong.numbers["model_spectral_index"] == -0.7
    assert highest_elsewhere(wrong) > 5.5


def test_without_a_bright_source_the_index_stays(observed):
    vis, catalog = observed
    faint = Visibilities(**{**vars(vis), "data": 0.0 * vis.data})
    rng = np.random.default_rng(5)
    sigma = SEFD_JY / np.sqrt(2 * WIDTH_HZ * INTEGRATION_S)
    noise = rng.normal(size=(2, *vis.data.shape))
    faint.data = (sigma * (noise[0] + 1j * noise[1])).astype(np.complex64)
    images = imaged((faint, catalog.select(np.zeros(1, bool))), fit_index=True)
    assert images.numbers["model_spectral_index"] == -0.7
