"""Light curves of the simulated sources: flux over quiet flux, by night and frequency."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from dsaflow.simulate.settings import SimulateSettings


def lens_factor(place: NDArray, strength: float, source_width: float) -> NDArray:
    """Flux factor behind a Gaussian plasma lens (Clegg, Fey & Lazio 1998, eq. 10-14).

    Parameters
    ----------
    place : ndarray
        Observer's transverse position, in lens half-widths (1/e).
    strength : float
        Their alpha, proportional to wavelength squared; > 0 diverges.
    source_width : float
        Sigma of the source's Gaussian brightness on the lens plane, in lens half-widths.

    Notes
    -----
    Rays shot on a fine grid: u' = u (1 + alpha exp(-u^2)); the density of arrivals is the gain, so
    that images are summed and flux is conserved; the source's extent smooths it.
    """
    reach = max(8.0, float(np.max(np.abs(place))) + 6 * source_width + 1.0)
    cell = max(source_width / 8, 0.005)
    rays = np.linspace(-reach, reach, int(2 * reach / cell) * 40 + 1)
    arrival = rays * (1 + strength * np.exp(-np.square(rays)))
    edges = np.arange(-reach, reach + cell, cell)
    density = np.histogram(arrival, edges)[0] * (rays[1] - rays[0]) / cell
    middle = 0.5 * (edges[1:] + edges[:-1])
    kernel = np.exp(
        -0.5 * np.square(np.arange(-5 * source_width, 5 * source_width + cell, cell) / source_width)
    )
    smooth = 1 + np.convolve(density - 1, kernel / kernel.sum(), "same")
    return np.interp(place, middle, smooth)


def lens_strength(depth: float, source_width: float) -> float:
    """Strength whose dip on the axis is `depth` deep."""
    at = np.zeros(1)
    return float(
        brentq(lambda a: 1 - lens_factor(at, a, source_width)[0] - depth, 1e-3, 60.0, xtol=1e-3)
    )


def light_curve(
    kind: str, settings: SimulateSettings, rng: np.random.Generator, freq_ratio: NDArray
) -> NDArray:
    """Flux over quiet flux, shape (n_epochs, n_freq); `freq_ratio` is relative to 1.4 GHz."""
    nights = np.arange(settings.n_epochs, dtype=float)
    flat = np.ones(freq_ratio.size)
    event = settings.event
    phase = (nights - event.peak_epoch) / event.duration_epochs
    if kind == "gaussian_dip":
        dip = event.depth * np.exp(-4 * np.log(2) * np.square(phase))
        return 1 - dip[:, None] * flat
    if kind == "plasma_lens":
        return _lens_curve(phase, event.depth, freq_ratio)
    if kind == "flare":
        rise = (nights - rng.uniform(0, settings.n_epochs)) / rng.uniform(1, 3)
        shape = np.where(rise < 0, np.exp(rise), np.exp(-rise / 3))
        return 1 + rng.uniform(0.2, 0.5) * shape[:, None] * flat
    if kind == "slow":
        period = rng.uniform(60, 200)
        return 1 + 0.08 * np.sin(2 * np.pi * (nights / period + rng.random()))[:, None] * flat
    walk = np.empty(nights.size)
    tau, rms = rng.uniform(1, 10), 0.04
    walk[0] = rng.standard_normal()
    for night in range(1, nights.size):
        keep = np.exp(-1 / tau)
        walk[night] = keep * walk[night - 1] + np.sqrt(1 - keep**2) * rng.standard_normal()
    return 1 + rms * walk[:, None] * flat


def _lens_curve(phase: NDArray, depth: float, freq_ratio: NDArray) -> NDArray:
    width = 0.15
    strength = lens_strength(depth, width)
    # place of the half-depth point, so that the duration is what the settings say
    grid = np.linspace(0, 8, 4001)
    profile = lens_factor(grid, strength, width)
    half = grid[np.flatnonzero(profile < 1 - 0.5 * depth)[-1]]
    return np.stack(
        [lens_factor(2 * half * phase, strength / ratio**2, width) for ratio in freq_ratio], axis=1
    )
