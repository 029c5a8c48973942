"""Bright sources between pixels: drawn band-limited, measured and placed."""

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from dsaflow.imaging.bright import (
    HALF_WIDTH,
    Points,
    _bilinear,
    finish_known,
    lonely,
    place_bright,
    point,
)
from dsaflow.imaging.known import KnownSources

SIZE = 128


def fringe(x, y, size=SIZE):
    """Visibilities of a point on the FFT's grid, up to 0.8 of the Nyquist frequency."""
    k = np.fft.fftfreq(size)
    v, u = np.meshgrid(k, k, indexing="ij")
    used = (np.abs(u) < 0.4) & (np.abs(v) < 0.4)
    return np.where(used, np.exp(-2j * np.pi * (u * x + v * y)), 0), used


@pytest.mark.parametrize(("x", "y"), [(64.0, 64.0), (60.5, 70.25), (61.73, 55.49)])
def test_a_point_between_pixels_has_the_fringes_of_its_place(x, y):
    points, model = Points(np.array([x]), np.array([y])), np.zeros((SIZE, SIZE))
    points.add(model, np.array([2.0]))
    expected, used = fringe(x, y)
    error = np.abs(np.where(used, np.fft.fft2(model), 0) - 2 * expected)
    assert error.max() < 2 * 0.003
    nearest = np.zeros((SIZE, SIZE))
    nearest[round(y), round(x)] = 2.0
    rough = np.abs(np.where(used, np.fft.fft2(nearest), 0) - 2 * expected)
    assert rough.max() > 1 or (x, y) == (64.0, 64.0)


def test_a_band_limited_image_is_read_between_pixels():
    image = sum(
        flux * np.fft.ifft2(fringe(x, y)[0]).real
        for flux, x, y in [(3.0, 50.3, 61.8), (1.0, 80.1, 40)]
    )
    peak = np.fft.ifft2(fringe(0, 0)[0]).real[0, 0]
    points = Points(np.array([50.3]), np.array([61.8]))
    other = np.fft.ifft2(fringe(80.1 - 50.3, 40 - 61.8)[0]).real[0, 0]
    assert points.measure(image)[0] == pytest.approx(3.0 * peak + other, rel=0.003)


def test_samples_sum_to_one_and_stay_in_reach():
    first, samples = point(40.4)
    assert (first, samples.size) == (40 - HALF_WIDTH, 2 * HALF_WIDTH + 1)
    assert samples.sum() == pytest.approx(1)


def test_of_a_pair_only_the_brighter_is_placed():
    x, y, flux = (
        np.array([10.0, 12.0, 40.0]),
        np.array([10.0, 10.0, 10.0]),
        np.array([1.0, 2.0, 3.0]),
    )
    assert lonely(x, y, flux, 5.0).tolist() == [False, True, True]
    assert lonely(x, y, flux, 1.0).all()


def sky(sources, rng):
    """A dirty image of natural weights with strong sidelobes, and its regridding."""
    used = fringe(0, 0)[1] & (rng.random((SIZE, SIZE)) < 0.3)
    used |= np.roll(used[::-1, ::-1], (1, 1), (0, 1))
    noise = np.fft.fft2(0.01 * rng.normal(size=(SIZE, SIZE))) * used
    data = noise + sum(flux * used * fringe(x, y)[0] for flux, x, y in sources)
    scale = SIZE**2 / np.count_nonzero(used)

    def image(model):
        return (np.fft.ifft2(data - used * np.fft.fft2(model)).real * scale).astype(np.float32)

    psf = np.fft.fftshift(np.fft.ifft2(used).real * scale).astype(np.float32)
    return image, psf


@pytest.mark.parametrize("seed", range(4))
def test_fluxes_come_from_the_data_and_sidelobes_of_each_other_are_undone(seed):
    rng = np.random.default_rng(seed)
    truth = [(5.0, 40.37, 70.81), (3.0, 80.5, 30.1), (0.0, 100.2, 100.6)]
    image, psf = sky(truth, rng)
    model = np.zeros((SIZE, SIZE), np.float32)
    residual = image(model)
    x, y = np.array([s[1] for s in truth]), np.array([s[2] for s in truth])
    known = KnownSources(x, y, np.array([1.0, 9.0, 9.0]))  # the catalogue's fluxes are wrong

    def regrid():
        residual[:] = image(model)

    added = place_bright(residual, model, known, 5.0, 3.0, psf, regrid)
    assert np.array_equal(added, model)
    rms = residual.std()
    assert np.abs(residual).max() < 6 * rms
    found = [
        model[round(b) - 12 : round(b) + 13, round(a) - 12 : round(a) + 13].sum()
        for a, b in zip(x, y, strict=True)
    ]
    # the third is not there, and is not drawn: only the windows' tails of others
    assert found == pytest.approx([5.0, 3.0, 0.0], abs=5 * float(rms))


def test_sources_at_the_edge_are_left_to_clean():
    model = np.zeros((SIZE, SIZE), np.float32)
    residual = np.zeros_like(model)
    residual[5, 5] = 100.0
    known = KnownSources(np.array([5.0]), np.array([5.0]), np.array([100.0]))
    added = place_bright(residual, model, known, 5.0, 3.0, residual, lambda: None)
    assert not added.any()


@pytest.mark.parametrize("seed", range(4))
def test_nothing_is_left_of_catalogue_sources_below_the_threshold(seed):
    rng = np.random.default_rng(seed)
    truth = [(0.06, 40.37, 70.81), (0.03, 48.2, 64.9), (-0.02, 80.5, 30.1)]
    image, psf = sky(truth, rng)
    model = np.zeros((SIZE, SIZE), np.float32)
    residual = image(model)
    rms = float(residual.std())
    x, y = np.array([s[1] for s in truth]), np.array([s[2] for s in truth])
    points = Points(x, y)
    before = points.measure(residual)

    def regrid():
        residual[:] = image(model)

    # the catalogue knows the last one not at all
    known = KnownSources(x, y, np.array([1.0, 1.0, 0.0]))
    finish_known(residual, model, known, 0.5, psf, 3.0, regrid)
    after = points.measure(residual)
    # bilinear between the PSF's pixels: a few per cent of a sidelobe of the other
    assert np.abs(after[:2]).max() < 0.03 * np.abs(before[:2]).max()
    assert np.abs(before[:2]).max() > 0.5 * rms
    assert model[round(y[2]), round(x[2])] == pytest.approx(0, abs=0.01 * rms)


def test_between_pixels_as_scipy_has_it():
    rng = np.random.default_rng(0)
    plane = rng.standard_normal((30, 30)).astype(np.float32)
    row, column = rng.uniform(0, 29, (2, 20, 20))
    expected = map_coordinates(plane.astype(float), [row, column], order=1)
    assert np.abs(_bilinear(plane, row, column) - expected).max() < 1e-12
    assert (_bilinear(plane, row + 40, column) == 0).all()
