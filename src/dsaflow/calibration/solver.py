"""Diagonal antenna gains by alternating least squares, on time- and channel-summed normal equations.

Model and data meet only in three sums for each baseline (Mitchell et al. 2008; Salvini & Wijnholds
2014), so that many channels, receptors and intervals are solved at once and the data are read once:

    R = sum w V conj(M),   Q = sum w |M|^2,   P = sum w |V|^2,   V = g_1 conj(g_2) M + noise.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass
class NormalEquations:
    """Sums over visibilities; arrays of shape (n_problem, n_baseline).

    A problem is one solution interval of one receptor and channel block; the leading axes may be
    several (any shape) as long as they agree.

    Attributes
    ----------
    cross : complex ndarray
        R [Jy^2].
    model : ndarray
        Q [Jy^2].
    power : ndarray
        P [Jy^2].
    count : ndarray
        Number of unflagged visibilities.
    """

    cross: NDArray
    model: NDArray
    power: NDArray
    count: NDArray

    def select(self, index) -> "NormalEquations":
        """Problems by index of the leading axes."""
        return NormalEquations(
            self.cross[index], self.model[index], self.power[index], self.count[index]
        )

    def total(self, axis: int) -> "NormalEquations":
        """Sum over one of the leading axes."""
        return NormalEquations(*(a.sum(axis=axis) for a in self._arrays()))

    def turned(self, phase: NDArray) -> "NormalEquations":
        """Multiply the data by a unit phasor for each problem and baseline."""
        return NormalEquations(self.cross * phase, self.model, self.power, self.count)

    def _arrays(self) -> tuple[NDArray, NDArray, NDArray, NDArray]:
        return self.cross, self.model, self.power, self.count


def accumulate(data: NDArray, flags: NDArray, model: NDArray) -> NormalEquations:
    """Sum over time the products of one interval.

    Parameters
    ----------
    data : complex64 ndarray, shape (n_time, n_baseline, n_channel, n_pol)
    flags : bool ndarray, same shape
    model : complex64 ndarray, shape (n_time, n_baseline, n_channel)

    Returns
    -------
    NormalEquations
        Leading axes (n_channel, n_pol); single precision (few integrations are summed).
    """
    good = ~flags
    used = np.where(good, data, np.complex64(0))
    cross = (used * model.conj()[..., None]).sum(axis=0)
    power = (used.real**2 + used.imag**2).sum(axis=0)
    squared = (good * (model.real**2 + model.imag**2)[..., None]).sum(axis=0)
    sums = cross, squared, power, good.sum(axis=0, dtype=np.float32)
    return NormalEquations(*(np.ascontiguousarray(a.transpose(1, 2, 0)) for a in sums))


@dataclass
class Gains:
    """Solutions of many problems at once; arrays of shape (..., n_antenna).

    Attributes
    ----------
    gain : complex ndarray
        NaN where an antenna is unsolved.
    error : ndarray
        1-sigma error of real or imaginary part, from the residual [same unit as gain].
    snr : ndarray
        |gain| / error.
    reduced_noise_jy : ndarray, shape (...)
        RMS residual of one visibility (real or imaginary part).
    iterations : int
    converged : ndarray of bool, shape (...)
    """

    gain: NDArray
    error: NDArray
    snr: NDArray
    reduced_noise_jy: NDArray
    iterations: int
    converged: NDArray


def _square(values: NDArray, antenna1: NDArray, antenna2: NDArray, n: int) -> NDArray:
    """Put per-baseline sums into Hermitian (or symmetric) matrices, shape (..., n, n)."""
    out = np.zeros((*values.shape[:-1], n, n), dtype=values.dtype)
    out[..., antenna1, antenna2] = values
    out[..., antenna2, antenna1] = np.conj(values)
    return out


def solve(
    equations: NormalEquations,
    antenna1: NDArray,
    antenna2: NDArray,
    n_antenna: int,
    phase_only: bool = False,
    start: NDArray | None = None,
    tolerance: float = 1e-6,
    max_iterations: int = 300,
) -> Gains:
    """Solve V = g_1 conj(g_2) M for every problem by alternating least squares (StefCal).

    Parameters
    ----------
    equations : NormalEquations
        Leading axes of any shape.
    antenna1, antenna2 : int ndarray, shape (n_baseline,)
    n_antenna : int
    phase_only : bool
        Keep |g| = 1.
    start : complex ndarray, shape (..., n_antenna), optional
        First guess; by default the antennas' phases against the best-connected antenna.
    tolerance : float
        Largest relative change of the gain vector at which a problem counts as converged.
    max_iterations : int

    Returns
    -------
    Gains

    Notes
    -----
    Salvini & Wijnholds 2014, A&A 571, A97, algorithm 1: every second iterate is averaged with the
    one before, without which the iteration flips between two points.
    """
    cross = _square(equations.cross, antenna1, antenna2, n_antenna)
    model = _square(equations.model, antenna1, antenna2, n_antenna)
    connected = model.sum(axis=-1) > 0
    gain = _first_guess(cross, model) if start is None else start.astype(complex).copy()
    gain[~connected] = 0
    n_problem = gain[..., 0].size
    flat = gain.reshape(n_problem, n_antenna)
    cross = cross.reshape(n_problem, n_antenna, n_antenna)
    model = model.reshape(n_problem, n_antenna, n_antenna)
    active = np.arange(n_problem)
    converged = np.zeros(n_problem, dtype=bool)
    iteration = 0
    while active.size and iteration < max_iterations:
        old = flat[active]
        new = _update(cross[active], model[active], old, phase_only)
        if iteration % 2:
            new = 0.5 * (new + old)
            if phase_only:
                new = _unit(new)
        change = np.linalg.norm(new - old, axis=1)
        size = np.linalg.norm(new, axis=1)
        flat[active] = new
        iteration += 1
        done = (change <= tolerance * size) if iteration % 2 == 0 else np.zeros(len(active), bool)
        converged[active[done]] = True
        active = active[~done]
    gain = flat.reshape(gain.shape)
    return _with_errors(equations, gain, connected, antenna1, antenna2, iteration, converged)


def _update(cross: NDArray, model: NDArray, gain: NDArray, phase_only: bool) -> NDArray:
    # antenna p: sum_q R_pq g_q / sum_q Q_pq |g_q|^2, with R Hermitian
    numerator = (cross @ gain[..., None])[..., 0]
    if phase_only:
        return _unit(numerator)
    denominator = (model @ (np.abs(gain) ** 2)[..., None])[..., 0]
    return np.where(denominator > 0, numerator / np.where(denominator > 0, denominator, 1), 0)


def _unit(value: NDArray) -> NDArray:
    size = np.abs(value)
    return np.where(size > 0, value / np.where(size > 0, size, 1), 0)


def _first_guess(cross: NDArray, model: NDArray) -> NDArray:
    """Phase against the antenna with the largest correlated power, amplitude from the mean ratio."""
    weight = np.abs(cross).sum(axis=-1)
    reference = weight.argmax(axis=-1)
    column = np.take_along_axis(cross, reference[..., None, None], axis=-1)[..., 0]
    phase = _unit(column)
    np.put_along_axis(phase, reference[..., None], 1.0, axis=-1)
    total = model.sum(axis=(-1, -2))
    scale = np.abs(cross).sum(axis=(-1, -2)) / np.where(total > 0, total, 1)
    return phase * np.sqrt(scale)[..., None]


def _with_errors(
    equations: NormalEquations,
    gain: NDArray,
    connected: NDArray,
    antenna1: NDArray,
    antenna2: NDArray,
    iteration: int,
    converged: NDArray,
) -> Gains:
    product = gain[..., antenna1] * np.conj(gain[..., antenna2])
    residual = (
        equations.power
        - 2 * (np.conj(product) * equations.cross).real
        + np.abs(product) ** 2 * equations.model
    ).sum(axis=-1)
    freedom = 2 * equations.count.sum(axis=-1) - 2 * connected.sum(axis=-1)
    noise = np.sqrt(
        np.where(freedom > 0, np.maximum(residual, 0) / np.where(freedom > 0, freedom, 1), np.nan)
    )
    model = _square(equations.model, antenna1, antenna2, gain.shape[-1])
    information = (model @ (np.abs(gain) ** 2)[..., None])[..., 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        error = noise[..., None] / np.sqrt(information)
        snr = np.abs(gain) / error
    solved = connected & (np.abs(gain) > 0) & np.isfinite(error)
    return Gains(
        np.where(solved, gain, np.nan),
        np.where(solved, error, np.nan),
        np.where(solved, snr, 0.0),
        noise,
        iteration,
        converged.reshape(gain.shape[:-1]),
    )
