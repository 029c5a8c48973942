"""Light curves behind diverging plasma lenses (Clegg, Fey & Lazio 1998)."""

import functools

import numpy as np

_RAY_STEP = 0.0005
_BIN = 0.02
_PLANE_STEP = 0.05


def plasma_lens_gain(
    offset: np.ndarray, strength: float, source_size: float, half_range: float = 30.0
) -> np.ndarray:
    """Gain of a Gaussian plasma lens at the observer's offset from its axis.

    A ray that crosses the lens at u (in units of the lens's 1/e half width a) reaches the
    observer's plane at u' = u (1 + alpha exp(-u^2)) (their eq. 11). Uniform rays are followed and
    binned in u', which conserves flux and sums multiple images; the finite source smooths the
    result.

    Parameters
    ----------
    offset : ndarray
        u', dimensionless.
    strength : float
        alpha >= 0, dimensionless; proportional to wavelength squared. Caustics form above
        e^(3/2) / 2 = 2.24; on the axis a point source is dimmed to 1 / (1 + alpha).
    source_size : float
        Standard deviation of the Gaussian source in units of a, > 0 (bins of 0.02 resolve it).
    half_range : float
        Rays are followed to |u'| of this; beyond it the gain is 1.

    Returns
    -------
    ndarray
        Flux over unlensed flux, shape of `offset`.
    """
    u = np.arange(-half_range, half_range, _RAY_STEP) + 0.5 * _RAY_STEP
    arrival = u * (1 + strength * np.exp(-np.square(u)))
    edges = np.arange(-half_range, half_range + 0.5 * _BIN, _BIN)
    counts, _ = np.histogram(arrival, edges)
    gain = counts * (_RAY_STEP / _BIN)
    centres = 0.5 * (edges[1:] + edges[:-1])
    reach = int(np.ceil(5 * source_size / _BIN))
    kernel = np.exp(-0.5 * np.square(np.arange(-reach, reach + 1) * _BIN / source_size))
    smooth = 1 + np.convolve(gain - 1, kernel / kernel.sum(), mode="same")
    return np.interp(offset, centres, smooth, left=1.0, right=1.0)


def round_lens_gain(
    offset: np.ndarray, strength: float, source_size: float, impact: float
) -> np.ndarray:
    """Gain of a round Gaussian lens along a track that passes its centre at a distance.

    The same refraction in the radius: r' = r (1 + alpha exp(-r^2)). A track far from the centre
    gives a shallow dip, or only the brightening at the lens's rim; the one-dimensional lens has
    no such parameter.

    Parameters
    ----------
    offset : ndarray
        Place along the track from its closest approach, in lens radii a.
    strength : float
        alpha >= 0; on the axis a point source is dimmed to 1 / (1 + alpha)^2.
    source_size : float
        Standard deviation of the round Gaussian source in units of a, > 0.
    impact : float
        Closest approach of the track to the centre, in units of a, >= 0.

    Returns
    -------
    ndarray
        Flux over unlensed flux, shape of `offset`.
    """
    axis, plane = _round_lens_plane(strength, source_size)
    along = np.array([np.interp(impact, axis, row) for row in plane])
    return np.interp(np.abs(offset), axis, along, right=1.0)


@functools.lru_cache(maxsize=32)
def _round_lens_plane(strength: float, source_size: float) -> tuple[np.ndarray, np.ndarray]:
    """One quadrant of the observer's plane, smoothed by the source."""
    from scipy.ndimage import gaussian_filter

    reach = 4 + 0.45 * strength + 5 * source_size
    edge = np.linspace(0, reach + 2, 40 * round(1000 * (reach + 2) / 20) + 1)
    arrival = edge * (1 + strength * np.exp(-np.square(edge)))
    # Each thin ring of rays lands on a ring; the flux of a bin is the rays' area in it.
    area = np.diff(np.square(edge))
    bins = np.arange(0, reach + _BIN, _BIN)
    landed, _ = np.histogram(0.5 * (arrival[1:] + arrival[:-1]), bins, weights=area)
    radial = landed / np.diff(np.square(bins))
    axis = np.arange(0, reach, _PLANE_STEP)
    full = np.r_[-axis[:0:-1], axis]
    radius = np.hypot(axis[:, None], full)
    # The quadrant is smoothed with its mirror images beside it.
    rows = np.concatenate([radius[:0:-1], radius])
    plane = np.interp(rows, 0.5 * (bins[1:] + bins[:-1]), radial, right=1.0)
    plane = gaussian_filter(plane, source_size / _PLANE_STEP, mode="nearest")
    return axis, plane[len(axis) - 1 :, len(axis) - 1 :]
