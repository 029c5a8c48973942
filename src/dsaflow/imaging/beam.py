"""The primary beam of a tile: its mean over the integrations and channels in the image."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dsaflow.errors import ConfigError
from dsaflow.geometry import Site
from dsaflow.imaging.frame import ApparentFrame
from dsaflow.instrument import PrimaryBeam
from dsaflow.transit import beam_centre_icrs
from dsaflow.visibilities.container import Visibilities

if TYPE_CHECKING:
    from dsaflow.config.sections import Image


def beam_centres_lm(
    vis: Visibilities, frame: ApparentFrame, beam: PrimaryBeam, time_mjd: NDArray
) -> NDArray:
    """Direction cosines of the beam's centre at each time, shape (n_time, 2).

    The beam sits at (apparent sidereal time, pointing declination) but for its offset; an instrument that tracks
    (pointing NaN) keeps it at the phase centre.
    """
    if not np.isfinite(vis.pointing_dec_deg):
        return np.zeros((time_mjd.size, 2))
    site = Site(*vis.site_deg_m)
    ra, dec = beam_centre_icrs(beam, time_mjd, vis.pointing_dec_deg, site)
    return frame.cosines(ra, dec)


def _chebyshev(count: int, low: float, high: float, at: NDArray) -> tuple[NDArray, NDArray]:
    """Chebyshev nodes on [low, high] and the matrix that takes values there to values `at`."""
    angle = np.pi * (np.arange(count) + 0.5) / count
    if high <= low:
        return np.full(1, low), np.ones((at.size, 1))
    scaled = np.clip((2 * at - low - high) / (high - low), -1.0, 1.0)
    basis_nodes = np.cos(np.outer(angle, np.arange(count)))
    basis_at = np.cos(np.outer(np.arccos(scaled), np.arange(count)))
    inverse = basis_nodes.T * (2.0 / count)
    inverse[0] *= 0.5
    return 0.5 * (low + high + (high - low) * np.cos(angle)), basis_at @ inverse


class DriftBeam:
    """Weighted means over time and frequency of a beam that drifts through an image.

    Parameters
    ----------
    beam : PrimaryBeam
    centre_lm : ndarray, shape (n_time, 2)
        Direction cosines of the beam's centre.
    freq_hz : ndarray, shape (n_channel,)
    l, m : ndarray, shapes (n_x,), (n_y,)
        Direction cosines of the image's columns and rows.
    directions : callable, optional
        From the image's cosines to true ones, `ApparentFrame.directions`.
    nodes : int
        Chebyshev nodes an axis.

    Notes
    -----
    The response depends on the separation only: one table over sin(separation) and channel serves
    all means. It is evaluated on Chebyshev nodes and interpolated to the pixels: an Airy pattern is
    entire, so the error falls exponentially (40 nodes: < 1e-6 over 6 deg).
    """

    TABLE = 4096

    def __init__(
        self,
        beam: PrimaryBeam,
        centre_lm: NDArray,
        freq_hz: NDArray,
        l: NDArray,  # noqa: E741
        m: NDArray,
        directions: Callable[[NDArray, NDArray], tuple[NDArray, NDArray]] | None = None,
        nodes: int = 40,
    ) -> None:
        x_nodes, self._to_x = _chebyshev(nodes, l.min(), l.max(), l)
        y_nodes, self._to_y = _chebyshev(nodes, m.min(), m.max(), m)
        grid = x_nodes[None, :], y_nodes[:, None]
        self._node_sines = sine_separation(*(directions(*grid) if directions else grid), centre_lm)
        self._sine = np.linspace(0.0, min(self._node_sines.max() * 1.001, 1.0), self.TABLE)
        self._beam, self._freq_hz = beam, freq_hz
        self._power = beam.power(np.arcsin(self._sine)[:, None], freq_hz[None, :])

    def expand(self, terms: int, least_response: float = 0.1) -> tuple[NDArray, NDArray]:
        """Best expansion of the beam into products of (time, channel) and image terms.

        Parameters
        ----------
        terms : int
            Terms beyond the beam's numerical rank are left out.
        least_response : float
            The fit is to where the mean beam exceeds this.

        Returns
        -------
        coefficient : ndarray, shape (n_terms, n_time, n_channel)
        pattern : ndarray, shape (n_terms, n_y, n_x)
            B(t, c) is nearly sum_k coefficient[k, t, c] pattern[k].
        """
        nodes_hz, to_channels = _chebyshev(12, self._freq_hz[0], self._freq_hz[-1], self._freq_hz)
        power = self._beam.power(np.arcsin(self._sine)[:, None], nodes_hz[None, :])
        n_time = len(self._node_sines)
        field = np.empty((n_time, nodes_hz.size, self._node_sines[0].size))
        for t, sines in enumerate(self._node_sines):
            for k in range(nodes_hz.size):
                field[t, k] = np.interp(sines.ravel(), self._sine, power[:, k])
        rows = field.reshape(n_time * nodes_hz.size, -1)
        inside = rows.mean(axis=0) > least_response
        # eigenvectors of the Gram matrix are the left singular vectors, at a tenth of the cost
        power_of, left = np.linalg.eigh(rows[:, inside] @ rows[:, inside].T)
        rank = int(np.count_nonzero(power_of > 1e-12 * power_of[-1]))
        kept = left[:, ::-1][:, : min(terms, rank)]
        values = (kept.T @ rows).reshape(kept.shape[1], *self._node_sines.shape[1:])
        coefficient = np.einsum("tfk,cf->ktc", kept.reshape(n_time, nodes_hz.size, -1), to_channels)
        return coefficient, self._to_y @ values @ self._to_x.T

    def mean(self, weights: NDArray) -> NDArray:
        """Mean response for weights of shape (n_time, n_channel); returns float64 (n_y, n_x).

        Raises
        ------
        ValueError
            The weights sum to zero.
        """
        total = weights.sum(dtype=float)
        if not total > 0:
            raise ValueError("beam average over weights that sum to zero")
        tables = self._power @ (weights.T.astype(float) / total)
        values = np.zeros(self._node_sines.shape[1:])
        for t in np.flatnonzero(weights.sum(axis=1)):
            values += np.interp(self._node_sines[t], self._sine, tables[:, t])
        return self._to_y @ values @ self._to_x.T


def sine_separation(l: NDArray, m: NDArray, centre_lm: NDArray) -> NDArray:  # noqa: E741
    """Sine of the angle between directions (l, m) and each centre; shape (n_time, *broadcast).

    From the chord, which keeps its digits at small angles.
    """
    centre = centre_lm.reshape(-1, 2, *([1] * np.broadcast(l, m).ndim))
    n0 = np.sqrt(1 - (centre_lm**2).sum(axis=1)).reshape(centre[:, 0].shape)
    n = np.sqrt(1 - l**2 - m**2)
    chord2 = (l - centre[:, 0]) ** 2 + (m - centre[:, 1]) ** 2 + (n - n0) ** 2
    return np.sqrt(chord2 * (1 - chord2 / 4))


def check_field(beam: PrimaryBeam, centre_lm: NDArray, freq_hz: NDArray, options: "Image") -> None:
    """Refuse an image that does not hold the drift-averaged beam down to `field_response`.

    All integrations count alike: flags of one tile do not make a configuration wrong. The beam is
    taken at the lowest channel, where it is widest.

    Raises
    ------
    ConfigError
        Naming the size and the pixel that would do.
    """
    lowest_hz = float(freq_hz[0])
    half_width_rad = field_half_width_rad(beam, centre_lm, lowest_hz, options.field_response)
    width_arcsec = 2 * np.degrees(half_width_rad) * 3600
    if options.size * options.pixel_arcsec < width_arcsec:
        size = 2 * int(np.ceil(width_arcsec / options.pixel_arcsec / 2))
        raise ConfigError(
            f"image.size = {options.size} at image.pixel_arcsec = {options.pixel_arcsec:g} is "
            f"narrower than the beam's {options.field_response:.0%} response at "
            f"{lowest_hz / 1e6:.0f} MHz ({width_arcsec / 3600:.2f} deg): set image.size to at "
            f"least {size}, or image.pixel_arcsec to at least "
            f"{np.ceil(100 * width_arcsec / options.size) / 100:.2f}"
        )


def field_half_width_rad(
    beam: PrimaryBeam, centre_lm: NDArray, freq_hz: float, response: float
) -> float:
    """Furthest offset along l or m at which the drift-averaged beam is `response` [rad]."""
    reach = np.linspace(0.0, 0.25, 5001)
    furthest = 0.0
    for axis, sign in ((0, 1), (0, -1), (1, 1), (1, -1)):
        along = np.zeros((2, reach.size))
        along[axis] = sign * reach
        sines = sine_separation(along[0], along[1], centre_lm)
        power = beam.power(np.arcsin(np.minimum(sines, 1.0)), freq_hz)
        inside = power.mean(axis=0) >= response
        # the main lobe only: sidelobes of a response of 1 % would otherwise count
        edge = reach.size if inside.all() else int(np.argmin(inside))
        furthest = max(furthest, float(reach[min(edge, reach.size - 1)]))
    return furthest
