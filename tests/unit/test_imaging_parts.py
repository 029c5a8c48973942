"""Known answers for the parts of imaging: weights, beams, restoring, noise maps, gates, headers."""

import numpy as np
import pytest

from dsaflow.config.sections import Image
from dsaflow.errors import ConfigError, DataRejected
from dsaflow.imaging.beam import DriftBeam, check_field, sine_separation
from dsaflow.imaging.clean import largest_sidelobe
from dsaflow.imaging.frame import ApparentFrame, offset_matrix, sine_projection
from dsaflow.imaging.gridding import Gridder
from dsaflow.imaging.restore import (
    Restorer,
    RestoringBeam,
    clipped_rms,
    fit_beam,
    grow,
    noise_map,
)
from dsaflow.imaging.skymodel import effective_frequency_hz, frequency_blocks
from dsaflow.imaging.weighting import briggs_weights, parallel_hands, thermal_noise_jy
from dsaflow.instrument import CHANNEL_WIDTH_HZ, PrimaryBeam, radiometer_noise_jy

SITE = (-118.283, 37.2334051, 1188.05)
BEAM = PrimaryBeam(4.65)


@pytest.mark.parametrize("mjd", [60310.2, 60400.7, 60500.4, 60600.9])
@pytest.mark.parametrize("dec_deg", [16.1, 54.6])
def test_aberration_is_a_scale_without_turn(mjd, dec_deg):
    ra_deg = 130.0
    matrix = offset_matrix(mjd, ra_deg, dec_deg, SITE)
    scale = ApparentFrame.at(mjd, ra_deg, dec_deg, SITE).scale
    assert abs(scale - 1) < 1.05e-4
    # what is left of the offset of a source at 2 deg: less than 0.02 arcsec
    left = np.abs(matrix - scale * np.eye(2)).max() * 2 * 3600
    assert left < 0.02
    # the scale follows the Earth's velocity along the line of sight: it must not be 1 all year
    others = [ApparentFrame.at(m, ra_deg, dec_deg, SITE).scale for m in (60310.2, 60500.4)]
    assert np.ptp(others) > 3e-5


def test_natural_weights_give_the_radiometer_equation():
    n_antenna, n_time, n_channel = 20, 3, 4
    hands = np.ones((n_time, n_antenna * (n_antenna - 1) // 2, n_channel), np.float32)
    noise_jy = thermal_noise_jy(hands, hands, 2, 6500.0, CHANNEL_WIDTH_HZ, 12.9)
    expected = radiometer_noise_jy(6500, n_antenna, n_channel * CHANNEL_WIDTH_HZ, n_time * 12.9)
    assert noise_jy == pytest.approx(expected, rel=1e-6)
    one = np.full_like(hands, 0.5)
    assert thermal_noise_jy(one, one, 2, 6500.0, CHANNEL_WIDTH_HZ, 12.9) == pytest.approx(
        expected * np.sqrt(2), rel=1e-6
    )


def test_briggs_runs_from_uniform_to_natural():
    rng = np.random.default_rng(1)
    uvw = rng.normal(0, 40, (2, 300, 3))
    natural = np.ones((2, 300, 1), np.float32)
    freq_hz = np.array([1.4e9])
    pixel_rad = np.radians(30 / 3600)

    def weights(robust):
        return briggs_weights(natural, uvw, freq_hz, 64, pixel_rad, robust)

    assert np.ptp(weights(2.0)) < 0.2 * weights(2.0).max()
    uniform = weights(-2.0)
    cell = 1 / (64 * pixel_rad)
    where = np.rint(uvw[..., :2] * 1.4e9 / 299792458.0 / cell).astype(int)
    where[where[..., 1] < 0] *= -1
    _, inverse, count = np.unique(
        where.reshape(-1, 2), axis=0, return_inverse=True, return_counts=True
    )
    density = np.bincount(inverse.ravel(), uniform.ravel())
    lonely = uniform.ravel()[count[inverse.ravel()] == 1].mean()
    assert np.median(density[count > 3]) == pytest.approx(lonely, rel=0.1)


def test_visibilities_beyond_the_grid_get_no_weight():
    uvw = np.array([[[100.0, 0, 0], [900.0, 0, 0]]])
    weights = briggs_weights(
        np.ones((1, 2, 1), np.float32), uvw, np.array([1.4e9]), 64, np.radians(60 / 3600), 0.5
    )
    assert weights[0, 0, 0] > 0
    assert weights[0, 1, 0] == 0
    with pytest.raises(DataRejected, match="NO_DATA"):
        briggs_weights(np.zeros((1, 2, 1), np.float32), uvw, np.array([1.4e9]), 64, 3e-4, 0.5)


def test_parallel_hands_only():
    assert parallel_hands(("XX", "XY", "YX", "YY")) == [0, 3]
    assert parallel_hands(("YY",)) == [0]
    with pytest.raises(DataRejected):
        parallel_hands(("XY",))


def test_gridder_puts_east_left_and_predicts_what_it_images():
    rng = np.random.default_rng(2)
    uvw = rng.normal(0, 150, (4, 200, 3))
    freq_hz = np.array([1.35e9, 1.45e9])
    pixel_rad = np.radians(40 / 3600)
    gridder = Gridder(uvw, freq_hz, 256, pixel_rad, 1e-5)
    model = np.zeros((256, 256), np.float32)
    model[200, 60] = 2.0
    l, m = (128 - 60) * pixel_rad, (200 - 128) * pixel_rad  # noqa: E741
    n1 = np.sqrt(1 - l**2 - m**2) - 1
    path = uvw @ np.array([l, m, n1])
    truth = 2 * np.exp(2j * np.pi / 299792458.0 * path[..., None] * freq_hz)
    assert np.abs(gridder.visibilities(model) - truth).max() < 1e-3
    image = gridder.image(truth.astype(np.complex64), np.ones(truth.shape, np.float32))
    assert image[200, 60] == pytest.approx(2, abs=1e-3)


def test_mean_beam_and_its_expansion_against_brute_force():
    rng = np.random.default_rng(3)
    centres = np.stack([np.linspace(-0.011, 0.011, 12), np.linspace(-1e-5, 4e-5, 12)], 1)
    freq_hz = np.linspace(1.3113e9, 1.4986e9, 9)
    axis = (np.arange(80) - 40) * 1e-3
    drift = DriftBeam(BEAM, centres, freq_hz, -axis, axis)
    weights = rng.random((12, 9)) * (rng.random((12, 9)) > 0.3)
    sines = sine_separation(-axis[None, :], axis[:, None], centres)
    cube = BEAM.power(np.arcsin(sines)[:, None], freq_hz[None, :, None, None])
    truth = np.einsum("tc,tcyx->yx", weights, cube) / weights.sum()
    assert np.abs(drift.mean(weights) - truth).max() < 2e-6
    assert np.abs(drift.mean(np.roll(weights, 1, axis=0)) - truth).max() > 1e-3
    with pytest.raises(ValueError, match="sum to zero"):
        drift.mean(np.zeros_like(weights))
    inside = cube.mean(axis=(0, 1)) > 0.1
    for terms, limit in ((1, 0.5), (4, 0.05), (8, 2e-3)):
        coefficient, pattern = drift.expand(terms)
        error = np.einsum("ktc,kyx->tcyx", coefficient, pattern) - cube
        assert np.abs(error[..., inside]).max() < limit


def test_a_beam_that_stands_still_needs_no_second_time_term():
    freq_hz = np.array([1.4e9])
    axis = np.linspace(-0.03, 0.03, 20)
    drift = DriftBeam(BEAM, np.zeros((5, 2)), freq_hz, axis, axis)
    coefficient, pattern = drift.expand(8)
    assert len(pattern) == 1
    assert np.allclose(coefficient[0] * pattern[0, 10, 10], drift.mean(np.ones((5, 1)))[10, 10])


def test_image_must_hold_the_beam():
    freq_hz = np.array([1.312e9, 1.498e9])
    centres = np.zeros((3, 2))
    check_field(BEAM, centres, freq_hz, Image(size=640, pixel_arcsec=26))
    with pytest.raises(ConfigError, match=r"image\.size to at least (\d+)") as caught:
        check_field(BEAM, centres, freq_hz, Image(size=400, pixel_arcsec=26))
    enough = int(str(caught.value).split("image.size to at least ")[1].split(",")[0])
    check_field(BEAM, centres, freq_hz, Image(size=enough, pixel_arcsec=26))
    assert 4.2 < enough * 26 / 3600 < 4.6


@pytest.mark.parametrize("angle_deg", [-70.0, 0.0, 35.0, 90.0])
def test_restoring_beam_is_recovered(angle_deg):
    beam = RestoringBeam(8.0, 4.5, angle_deg)
    found = fit_beam(beam.kernel(128))
    assert found.major_pixel == pytest.approx(8, rel=1e-3)
    assert found.minor_pixel == pytest.approx(4.5, rel=1e-3)
    assert abs((found.angle_deg - angle_deg + 90) % 180 - 90) < 0.05
    assert beam.kernel(128).sum() == pytest.approx(beam.area_pixel, rel=1e-3)
    # position angle from north (up) through east (left)
    if angle_deg == 35.0:
        kernel = beam.kernel(128)
        assert kernel[64 + 3, 64 - 2] > kernel[64 + 3, 64 + 2]


def test_restored_component_has_its_peak_where_it_is():
    model = np.zeros((64, 64), np.float32)
    model[20, 40] = 3.0
    restored = Restorer(RestoringBeam(5, 4, 20), 64)(model)
    assert np.unravel_index(restored.argmax(), restored.shape) == (20, 40)
    assert restored[20, 40] == pytest.approx(3, rel=1e-5)


def test_clipped_rms_is_two_sided_and_unbiased():
    values = np.random.default_rng(4).normal(0, 2, 200_000)
    assert clipped_rms(values) == pytest.approx(2, rel=0.005)
    values[::50] = -400
    values[1::50] = 400
    assert clipped_rms(values) == pytest.approx(2, rel=0.03)


def test_noise_map_follows_the_noise_and_is_never_zero():
    residual = np.random.default_rng(5).normal(0, 1, (400, 400)).astype(np.float32)
    residual[:, 200:] *= 3
    noise = noise_map(residual, 60)
    assert np.abs(np.median(noise[:, :150]) - 1) < 0.03
    assert np.abs(np.median(noise[:, 250:]) - 3) < 0.1
    assert noise.min() > 0
    residual[100:300, 100:300] = 0
    with pytest.raises(DataRejected, match="BAD_DATA_ZERO"):
        noise_map(residual, 60)


def test_grow_adds_the_eight_neighbours():
    mask = np.zeros((5, 5), bool)
    mask[2, 2] = True
    assert grow(mask).sum() == 9
    assert grow(mask, diagonal=False).sum() == 5


def test_largest_sidelobe_leaves_out_the_main_lobe():
    psf = RestoringBeam(5, 4, 0).kernel(128)
    psf[100, 30] = -0.3
    assert largest_sidelobe(psf) == pytest.approx(0.3, rel=1e-6)


def test_frequency_blocks_belong_to_the_instrument():
    freq_hz = 1311.25e6 + (np.arange(768) + 0.5) * CHANNEL_WIDTH_HZ
    whole = frequency_blocks(freq_hz, 4)
    assert [b.stop - b.start for b in whole] == [192] * 4
    # without the lowest four subbands the first block is empty and the others are where they were
    cut = freq_hz[192:]
    blocks = frequency_blocks(cut, 4)
    assert [b.stop - b.start for b in blocks] == [0, 192, 192, 192]
    assert cut[blocks[1]][0] == freq_hz[whole[1]][0]
    other = frequency_blocks(np.linspace(0.9e9, 1.0e9, 10), 2)
    assert [b.stop - b.start for b in other] == [5, 5]


def test_effective_frequency_makes_the_power_law_its_mean():
    freq_hz, weights = np.linspace(1.31e9, 1.5e9, 30), np.linspace(0.2, 1, 30)
    for index in (-0.7, 0.0, 2.0):
        nu = effective_frequency_hz(freq_hz, weights, index)
        assert np.average(freq_hz**index, weights=weights) == pytest.approx(nu**index, rel=1e-12)


def test_sine_projection_is_that_of_the_header():
    from astropy.io.fits import Header
    from astropy.wcs import WCS

    header = Header()
    for axis, kind, value in ((1, "RA---SIN", 359.9), (2, "DEC--SIN", 33.0)):
        header[f"CTYPE{axis}"], header[f"CRVAL{axis}"], header[f"CRPIX{axis}"] = kind, value, 1.0
        header[f"CDELT{axis}"] = np.degrees(1e-3) * (-1 if axis == 1 else 1)
    x, y = WCS(header).all_world2pix(1.2, 34.1, 0)
    l, m = sine_projection(1.2, 34.1, 359.9, 33.0)  # noqa: E741
    assert (-l * 1e3, m * 1e3) == (pytest.approx(float(x)), pytest.approx(float(y)))
