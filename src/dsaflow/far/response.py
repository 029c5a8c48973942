"""How fast a sidelobe's response can change: smooth functions of time and frequency to fit it with.

The power pattern of a dish of diameter D holds no angular frequency above D / lambda: along the drift
and, since it depends on angle x frequency alone, over the band as well. It is taken as a Gaussian
process of that bandwidth, expanded into its eigenfunctions: few, and the smoothest first.
"""

import numpy as np
from numpy.typing import NDArray

from dsaflow.instrument import SPEED_OF_LIGHT_M_S

SIDEREAL_RAD_S = 7.2921150e-5
# Correlation length in units of lambda / D: a lobe's cosine of period lambda / D, the fastest there
# is, keeps exp(-2 pi^2 0.09) = 0.17 of the power of the slowest.
_LENGTH = 0.3
# What a feed, struts and leakage do to the spectrum of a sidelobe beside its scaling.
_LONGEST_HZ = 150e6
# Eigenfunctions are kept to 3e-5 of the amplitude.
_LEAST_POWER = 1e-9


def time_basis(time_s: NDArray, freq_hz: float, diameter_m: float, dec_rad: float) -> NDArray:
    """Functions of time for a pointing at this declination, shape (n_time, n_function)."""
    length_rad = _LENGTH * SPEED_OF_LIGHT_M_S / (freq_hz * diameter_m)
    speed = SIDEREAL_RAD_S * max(np.cos(dec_rad), 0.05)
    return _functions(time_s, time_s, length_rad / speed)


def frequency_basis(
    node_hz: NDArray, freq_hz: NDArray, diameter_m: float, distance_rad: float
) -> tuple[NDArray, NDArray]:
    """Functions of frequency, at the nodes (n_node, n_function) and at `freq_hz`."""
    sine = max(np.sin(min(distance_rad, 0.5 * np.pi)), 1e-3)
    length_hz = min(_LENGTH * SPEED_OF_LIGHT_M_S / (diameter_m * sine), _LONGEST_HZ)
    return (
        _functions(node_hz, node_hz, length_hz),
        _functions(node_hz, freq_hz, length_hz),
    )


def _functions(node: NDArray, at: NDArray, length: float) -> NDArray:
    """Eigenfunctions of a squared-exponential kernel on the nodes, times sqrt(eigenvalue), at `at`."""
    kernel = np.exp(-0.5 * np.square((node[:, None] - node) / length))
    power, vectors = np.linalg.eigh(kernel)
    keep = power > _LEAST_POWER * power[-1]
    power, vectors = power[keep][::-1], vectors[:, keep][:, ::-1]
    across = np.exp(-0.5 * np.square((at[:, None] - node) / length))
    return across @ (vectors / np.sqrt(power))
