"""Light curves of the simulated sources: flux over quiet flux, by night and frequency."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from dsaflow.simulate.settings import SimulateSettings

SOURCE_WIDTH = 0.15
_CELL = 0.01
_REACH = 12.0


@lru_cache(maxsize=2048)
def _lens_profile(strength: float, source_width: float) -> tuple[NDArray, NDArray]:
    """Observer's positions and the smoothed gain there."""
    rays = np.linspace(-_REACH, _REACH, 48001)
    arrival = rays * (1 + strength * np.exp(-np.square(rays)))
    edges = np.linspace(-_REACH, _REACH, round(2 * _REACH / _CELL) + 1)
    cell = edges[1] - edges[0]
    # the map has up to three monotonic branches, one an image: each is inverted and its rays counted
    folds = np.flatnonzero(np.diff(np.sign(np.diff(arrival)))) + 1
    density = np.zeros(edges.size - 1)
    for branch in np.split(np.arange(rays.size), folds):
        # neighbouring branches share the ray at the fold, else a cell's worth of flux is lost
        path = np.append(branch, min(branch[-1] + 1, rays.size - 1))
        order = np.argsort(arrival[path], kind="stable")
        density += np.abs(np.diff(np.interp(edges, arrival[path][order], rays[path][order]))) / cell
    middle = 0.5 * (edges[1:] + edges[:-1])
    reach = int(np.ceil(5 * source_width / cell))
    kernel = np.exp(-0.5 * np.square(np.arange(-reach, reach + 1) * cell / source_width))
    return middle, 1 + np.convolve(density - 1, kernel / kernel.sum(), "same")


def lens_factor(
    place: float | NDArray, strength: float, source_width: float = SOURCE_WIDTH
) -> NDArray:
    """Flux factor behind a Gaussian plasma lens (Clegg, Fey & Lazio 1998).

    Parameters
    ----------
    place : ndarray
        Observer's transverse position, in lens half-widths (1/e of the column density).
    strength : float
        Their alpha, proportional to wavelength squared; > 0 diverges.
    source_width : float
        Sigma of the source's Gaussian brightness, projected, in lens half-widths; > 0.

    Notes
    -----
    The refraction map is u' = u (1 + alpha exp(-u^2)). The rays that arrive in each cell of u' are
    counted along every branch of the map, so that images are summed and flux is conserved. A
    strength above 20 would send rays beyond the grid.
    """
    middle, gain = _lens_profile(float(strength), source_width)
    return np.interp(np.asarray(place, dtype=float), middle, gain, left=1.0, right=1.0)


@lru_cache(maxsize=16)
def lens_strength(depth: float, source_width: float = SOURCE_WIDTH) -> float:
    """Strength whose dip on the axis is `depth` deep, by bisection (the dip deepens monotonically).

    Raises
    ------
    ValueError
        `depth` is beyond what strengths up to 20 reach.
    """
    low, high = 0.0, 20.0
    if 1 - lens_factor(0.0, high, source_width) < depth:
        raise ValueError(f"no lens is {depth} deep with a source of {source_width} half-widths")
    for _ in range(24):
        half = 0.5 * (low + high)
        if 1 - lens_factor(0.0, half, source_width) < depth:
            low = half
        else:
            high = half
    return 0.5 * (low + high)


def light_curve(
    kind: str, settings: SimulateSettings, rng: np.random.Generator, freq_ratio: NDArray
) -> NDArray:
    """Flux over quiet flux, shape (n_epochs, n_freq); `freq_ratio` is relative to 1.4 GHz.

    Kinds: plasma_lens and gaussian_dip (the event of the settings), flare, slow (intrinsic) and
    scintillation (refractive: a damped random walk, the same at all frequencies of this band).
    """
    nights = np.arange(settings.n_epochs, dtype=float)
    flat = np.ones(freq_ratio.size)
    event = settings.event
    phase = (nights - event.peak_epoch) / event.duration_epochs
    if kind == "plasma_lens":
        return _lens_curve(phase, event.depth, freq_ratio)
    if kind == "gaussian_dip":
        change = -event.depth * np.exp(-4 * np.log(2) * np.square(phase))
    elif kind == "flare":
        rise = (nights - rng.uniform(0, settings.n_epochs)) / rng.uniform(1, 3)
        change = rng.uniform(0.2, 0.5) * np.where(rise < 0, np.exp(rise), np.exp(-rise / 3))
    elif kind == "slow":
        period = rng.uniform(60, 200)
        change = 0.08 * np.sin(2 * np.pi * (nights / period + rng.random()))
    elif kind == "scintillation":
        change = 0.04 * damped_walk(rng, nights.size, rng.uniform(1, 10))
    else:
        raise ValueError(f"unknown kind of light curve {kind!r}")
    return 1 + change[:, None] * flat


def damped_walk(rng: np.random.Generator, n_night: int, timescale: float) -> NDArray:
    """Unit-variance damped random walk sampled every night; `timescale` in nights."""
    steps = rng.standard_normal(n_night)
    keep = np.exp(-1 / timescale)
    walk = np.empty(n_night)
    walk[0] = steps[0]
    for night in range(1, n_night):
        walk[night] = keep * walk[night - 1] + np.sqrt(1 - keep**2) * steps[night]
    return walk


def _lens_curve(phase: NDArray, depth: float, freq_ratio: NDArray) -> NDArray:
    strength = lens_strength(depth)
    # place of the half-depth point, so that the duration is what the settings say
    grid = np.linspace(0, 8, 4001)
    half = grid[np.flatnonzero(lens_factor(grid, strength) < 1 - 0.5 * depth)[-1]]
    # the gain is smooth in frequency: a few of them hold the whole band
    knots = (
        np.linspace(freq_ratio.min(), freq_ratio.max(), 9) if freq_ratio.size > 9 else freq_ratio
    )
    curves = np.stack([lens_factor(2 * half * phase, strength / r**2) for r in knots], axis=1)
    if freq_ratio.size <= 9:
        return curves
    return np.stack([np.interp(freq_ratio, knots, curve) for curve in curves])
