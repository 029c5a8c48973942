"""The files of a tile: what other stages read from them."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from dsaflow.config import load_config
from dsaflow.geometry import meridian_icrs, projected_baselines
from dsaflow.imaging.tile import image_tile
from dsaflow.instrument import read_stations
from dsaflow.visibilities.container import Visibilities
from dsaflow.visibilities.ms import write_ms

MJD, INTEGRATION_S, WIDTH_HZ = 60700.3, 12.884902, 244140.625
KEYS = ("image", "residual", "psf", "beam", "noise", "subbands")
OPTIONS = {"image": {"size": 512, "pixel_arcsec": 33, "beam_terms": 2, "gridding_accuracy": 1e-3}}


@pytest.fixture
def noisy_ms(repository, tmp_path):
    """Eight integrations of noise as a Measurement Set, with the lowest quarter of the band missing."""
    stations = read_stations(repository / "config" / "antennas.csv")
    chosen = np.flatnonzero(stations.active & (stations.number <= 102))[::4]
    xyz = stations.itrf_m()[chosen]
    time_mjd = MJD + (np.arange(8) - 3.5) * INTEGRATION_S / 86400
    ra_deg, dec_deg = (float(np.ravel(v)[0]) for v in meridian_icrs(MJD, 16.1))
    first, second = np.triu_indices(chosen.size, 1)
    uvw = projected_baselines(xyz, time_mjd, ra_deg, dec_deg)
    freq_hz = 1311.25e6 + (np.arange(4, 16) + 0.5) * 187.5e6 / 16
    shape = (8, first.size, freq_hz.size, 2)
    sigma = 6500.0 / np.sqrt(2 * WIDTH_HZ * INTEGRATION_S)
    noise = np.random.default_rng(1).normal(0, sigma, (*shape, 2)).view(complex)[..., 0]
    vis = Visibilities(
        noise.astype(np.complex64), np.zeros(shape, bool), uvw[:, first] - uvw[:, second],
        first, second, time_mjd, INTEGRATION_S, freq_hz, WIDTH_HZ, ("XX", "YY"),
        [str(n) for n in stations.number[chosen]], xyz, ra_deg, dec_deg, 16.1,
        (-118.2830, 37.2334051, 1188.05),
    )  # fmt: skip
    path = tmp_path / "tile.ms"
    write_ms(path, vis)
    return path, vis


def test_files_headers_and_verdict(noisy_ms, tmp_path):
    path, vis = noisy_ms
    outputs = {key: str(tmp_path / f"{key}.fits") for key in KEYS}
    provenance = {
        "tile": "20250125T071000", "input_hash": "abc", "config_hash": "def", "version": "0",
        "rung": "same-date", "scale_err_relative": 0.004, "scale_systematic": 0.03,
    }  # fmt: skip
    verdict = image_tile(path, outputs, load_config(OPTIONS), provenance)
    assert verdict.usable
    assert 0.9 < verdict.numbers["noise_over_radiometer"] < 1.1
    assert verdict.provenance["rung"] == "same-date"
    data = {}
    for key in KEYS[:5]:
        with fits.open(outputs[key]) as hdus:
            data[key], header = hdus[0].data, hdus[0].header
        assert data[key].dtype == np.dtype(">f4")
        assert data[key].shape == (512, 512)
        for card in ("BMAJ", "BMIN", "BPA", "FREQ", "RESTFRQ", "BNDWID", "DATE-OBS", "MJD-OBS",
                     "MJD-AVG", "TELESCOP", "EQUINOX", "RADESYS", "BUNIT", "TILE", "INHASH",
                     "CFGHASH", "VERSION", "CALRUNG", "SCALEERR", "SCALESYS"):  # fmt: skip
            assert card in header, (key, card)
    assert data["psf"][256, 256] == pytest.approx(1, abs=2e-3)
    assert data["psf"].max() == data["psf"][256, 256]
    assert data["beam"].max() == pytest.approx(0.997, abs=0.004)
    assert data["noise"].min() > 0
    assert np.std(data["residual"]) == pytest.approx(np.median(data["noise"]), rel=0.1)
    world = WCS(header).all_pix2world(256, 256, 0)
    assert world == pytest.approx([vis.phase_ra_deg, vis.phase_dec_deg], abs=1e-9)
    assert header["MJD-OBS"] == pytest.approx(vis.time_mjd[0] - 0.5 * INTEGRATION_S / 86400)
    assert header["BNDWID"] == pytest.approx(12 * WIDTH_HZ)


def test_sub_band_without_data_is_nan(noisy_ms, tmp_path):
    path, _ = noisy_ms
    outputs = {key: str(tmp_path / f"{key}.fits") for key in KEYS}
    image_tile(path, outputs, load_config(OPTIONS), {})
    with fits.open(outputs["subbands"]) as hdus:
        cube, beam, noise = hdus[0].data, hdus["BEAM"].data, hdus["NOISE"].data
        freqs = hdus["FREQS"].data
        assert cube.shape == beam.shape == noise.shape == (4, 512, 512)
        assert np.isnan(cube[0]).all()
        assert np.isnan(freqs["freq_hz"][0])
        assert freqs["bandwidth_hz"] == pytest.approx([0, *[4 * WIDTH_HZ] * 3])
        assert np.isfinite(cube[1:]).all()
        # the beam narrows with frequency
        assert beam[1, 256, 340] > beam[2, 256, 340] > beam[3, 256, 340]
        assert np.all(np.diff(freqs["freq_hz"][1:]) > 40e6)


def test_noise_far_below_the_radiometer_is_rejected(noisy_ms, tmp_path):
    _, vis = noisy_ms
    vis.data *= 0.3
    quiet = tmp_path / "quiet.ms"
    write_ms(quiet, vis)
    outputs = {key: str(tmp_path / f"{key}.fits") for key in KEYS}
    verdict = image_tile(quiet, outputs, load_config(OPTIONS), {})
    assert verdict.verdict == "reject"
    assert verdict.reason_code == "NOISE_OUT_OF_RANGE"
