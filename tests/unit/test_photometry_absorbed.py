"""Errors of forced fluxes whose sources were deconvolved: the noise that CLEAN took off with them."""

import numpy as np
import pytest

from dsaflow.photometry.fit import fit_groups
from dsaflow.photometry.noise import central, measure_noise

SIZE, WIDTH, STEP, SKIES = 256, 4.0, 16, 12


def dirty_beam():
    """Power of natural weights without short baselines: a main lobe in a bowl, of unit peak."""
    k = 2 * np.pi * np.fft.fftfreq(SIZE)
    ky, kx = np.meshgrid(k, k, indexing="ij")
    k2 = kx**2 + ky**2
    power = np.exp(-k2 * WIDTH**2 / (16 * np.log(2))) * (1 - np.exp(-k2 / 1.0))
    beam = np.fft.ifft2(power).real
    return power, np.fft.fftshift(beam) / beam[0, 0]


def restoring(beam):
    """Inverse second moment of the Gaussian with the dirty beam's width."""
    row = beam[SIZE // 2, SIZE // 2 :]
    half = np.interp(-0.5, -row[:8], np.arange(8))
    return np.array([1.0, 0.0, 1.0]) * 2 * np.log(2) / half**2


def forced(image, noise, x, y, precision, rho, deconvolved):
    one = np.arange(x.size + 1), np.arange(x.size)
    zero = np.zeros(x.size)
    flux, variance, _ = fit_groups(
        image, noise, x, y, np.tile(precision, (x.size, 1)), *one, zero, zero, 1.0, rho, deconvolved
    )
    return flux, np.sqrt(variance)


def test_errors_hold_the_noise_at_the_place_that_clean_took_off():
    power, beam = dirty_beam()
    precision = restoring(beam)
    noise = np.ones((SIZE, SIZE))
    grid = np.arange(2 * STEP, SIZE - 2 * STEP, STEP, dtype=float)
    x, y = (v.ravel() for v in np.meshgrid(grid, grid))
    middle = np.array([SIZE / 2])
    found, _ = forced(beam, noise, middle, middle, precision, np.ones((1, 1)), False)
    assert 0.5 < found[0] < 0.97  # of a dirty beam too little
    pulls, plain = [], []
    for seed in range(SKIES):
        white = np.random.default_rng(seed).normal(size=(SIZE, SIZE))
        image = np.fft.ifft2(np.fft.fft2(white) * np.sqrt(power)).real
        image /= np.sqrt(power.mean())
        model = measure_noise(image, noise, np.zeros(image.shape, bool), precision, 20)
        rho = central(model.rho, 10)
        flux, err = forced(image, noise, x, y, precision, rho, True)
        _, less = forced(image, noise, x, y, precision, rho, False)
        # deconvolved: noise at the place has the restoring beam in place of the dirty one
        flux += image[y.astype(int), x.astype(int)] * (1 - found[0])
        pulls.append(flux / err)
        plain.append(flux / less)
    pulls, plain = np.concatenate(pulls), np.concatenate(plain)
    width = np.sqrt(np.mean(pulls**2))
    # of n independent draws it errs by 1 / sqrt(2 n): three times that
    assert width == pytest.approx(1, abs=3 / np.sqrt(2 * pulls.size))
    assert np.sqrt(np.mean(plain**2)) > 1.02 * width
