"""Joint least squares of the far sources' complex responses, source by source found significant."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from dsaflow.far.fringes import Fringes
from dsaflow.far.response import frequency_basis, time_basis
from dsaflow.far.sources import FarSources, directions, select
from dsaflow.far.tile import Tile
from dsaflow.instrument import SUBBAND_WIDTH_HZ

# The fit sees this many channels: far fewer parameters than data, and a source that is missed for it
# is below the noise of the image.
FIT_CHANNELS = 96
# Empty places whose amplitudes measure the noise with all that is in the field.
_EMPTY = 8
_ROUNDS = 12
_EM_STEPS = 5


@dataclass
class Cells:
    """Normal equations by integration and group of channels.

    Attributes
    ----------
    channels : list of int ndarray
        Channels of each group, within a subband.
    gram : complex64 ndarray, shape (n_time, n_group, n_source, n_source)
        Sums of conj(E_k) E_l over the visibilities used.
    cross : complex64 ndarray, shape (n_time, n_group, n_source, n_hand)
        Sums of conj(E_k) V.
    variance : float
        Of one visibility of one hand, real and imaginary part together [Jy^2].
    """

    channels: list[NDArray]
    gram: NDArray
    cross: NDArray
    variance: float


def _noise_power(data: NDArray) -> NDArray:
    """Squared moduli of noise, shape (n_sample,): the hands' difference, free of the sky, over sqrt(2).

    One hand alone has its sky in it: only the brightest sources are then significant.
    """
    if data.shape[1] < 2:
        return np.abs(data[:, 0]) ** 2
    return np.abs(data[:, 0] - data[:, 1]) ** 2 / 2


@dataclass
class FarFit:
    """Responses of the significant sources.

    Attributes
    ----------
    sources : FarSources
        The significant ones.
    amplitude_jy : complex64 ndarray, shape (n_time, n_channel, n_source, n_hand)
        Apparent flux.
    snr : ndarray, shape (n_source,)
        Of the mean apparent flux, with the other sources taken off.
    n_candidates : int
    hands : list of int
        The hands of the amplitudes.
    n_parameters : float
        Effective number of real parameters.
    excess : float
        Noise at empty places over that of the visibilities, with the field's sidelobes.
    """

    sources: FarSources
    amplitude_jy: NDArray
    snr: NDArray
    n_candidates: int
    hands: list[int]
    n_parameters: float = 0.0
    excess: float = 1.0

    @property
    def apparent_jy(self) -> NDArray:
        """Mean apparent flux of each source, shape (n_source,)."""
        if not len(self.sources):
            return np.zeros(0)
        return self.amplitude_jy.real.mean(axis=(0, 1, 3), dtype=float)


def fit_channels(freq_hz: NDArray) -> list[NDArray]:
    """Channels of the fit in groups no wider than a subband, thinned evenly."""
    n = len(freq_hz)
    keep = np.unique(np.linspace(0, n - 1, min(n, FIT_CHANNELS)).round().astype(int))
    return [keep[part] for part in groups(freq_hz[keep])]


def groups(freq_hz: NDArray) -> list[NDArray]:
    """Indices of ascending channels, in groups no wider than a subband."""
    number = ((freq_hz - freq_hz[0]) / SUBBAND_WIDTH_HZ + 1e-6).astype(int)
    edges = np.flatnonzero(np.diff(number, prepend=-1, append=number[-1] + 1))
    return [np.arange(a, b) for a, b in pairwise(edges)]


def empty_places(tile: Tile, sources: FarSources) -> FarSources:
    """Directions beside every source, at the distances that far sources have."""
    angle = 2 * np.pi * (np.arange(_EMPTY) + 0.5) / _EMPTY
    radius_deg = np.where(np.arange(_EMPTY) % 2, 5.0, 8.0)
    dec = np.clip(tile.phase_dec_deg + radius_deg * np.cos(angle), -89, 89)
    ra = tile.phase_ra_deg + radius_deg * np.sin(angle) / np.cos(np.radians(dec))
    return directions(tile, ra % 360, dec)


def accumulate(tile: Tile, hands: list[int], fringes: Fringes, field_jy: NDArray | None) -> Cells:
    """Normal equations of every cell; samples flagged in either live hand are left out.

    Parameters
    ----------
    tile : Tile
    hands : list of int
        Hands with data.
    fringes : Fringes
    field_jy : complex64 ndarray, shape (n_time, n_baseline, n_fit_channel) or None
        Model of the field on the channels of the fit, to be taken off first.
    """
    channels = fit_channels(tile.freq_hz)
    gram: list[list[NDArray]] = []
    cross: list[list[NDArray]] = []
    power: list[NDArray] = []
    for time in range(len(tile.time_mjd)):
        gram.append([])
        cross.append([])
        first = 0
        for group in channels:
            data = tile.data[time][:, group][..., hands].transpose(1, 0, 2)
            good = ~tile.flags[time][:, group][..., hands].transpose(1, 0, 2)
            use = (good & np.isfinite(data)).all(axis=2)
            if field_jy is not None:
                data = data - field_jy[time, :, first : first + len(group)].T[..., None]
            data = np.where(use[..., None], data, np.complex64(0))
            rows = fringes.rows(time, group)
            rows[~use] = 0
            rows = rows.reshape(-1, rows.shape[-1])
            adjoint = rows.conj().T
            gram[-1].append(adjoint @ rows)
            cross[-1].append(adjoint @ data.reshape(-1, len(hands)))
            power.append(_noise_power(data[use]))
            first += len(group)
    # the median of an exponential distribution is ln 2 of its mean; a part of the samples will do
    every = np.concatenate(power)
    every = every[:: max(1, len(every) // 100_000)]
    variance = float(np.median(every)) / np.log(2) if every.size else 0.0
    return Cells(channels, np.array(gram), np.array(cross), variance)


def fit_far(
    tile: Tile,
    hands: list[int],
    sources: FarSources,
    diameter_m: float,
    sigma: float,
    field_jy: NDArray | None = None,
) -> FarFit:
    """Find the sources whose mean apparent flux is significant, and fit their responses jointly.

    Parameters
    ----------
    tile : Tile
    hands : list of int
        Parallel hands; each has its own responses.
    sources : FarSources
    diameter_m : float
        Of the dishes: how fast a sidelobe can change.
    sigma : float
        Least significance of the mean of both hands, all integrations and the band, against
        amplitudes at empty places: those hold the sidelobes of the field.
    field_jy : ndarray, optional
        See `accumulate`.
    """
    n = len(sources)
    live = [p for p in hands if not tile.flags[..., p].all()]
    none = FarFit(select(sources, np.zeros(0, int)), np.zeros(0), np.zeros(0), n, live)
    if not n or not live:
        return none
    together = _joined(sources, empty_places(tile, sources))
    cells = accumulate(tile, live, Fringes(tile, together), field_jy)
    if not cells.variance > 0:
        return none
    found: list[int] = []
    model = _Model(tile, sources, cells, diameter_m)
    cross, excess = cells.cross, 1.0
    for _ in range(_ROUNDS):
        ratio = _ratios(cells, cross)
        excess = max(1.0, float(np.sqrt(np.mean(np.abs(ratio[n:]) ** 2) / 2)))
        left = ratio[:n].real / excess
        left[found] = 0
        new = np.flatnonzero(left > max(sigma, 0.5 * left.max()))
        if not new.size:
            break
        found += [int(i) for i in new]
        model.solve(found)
        cross = cells.cross - cells.gram[..., found] @ model.at_cells()
    if not found:
        none.excess = excess
        return none
    cells.cross[:, :, found] = cross[:, :, found] + _diagonal(cells.gram, found) * model.at_cells()
    snr = _ratios(cells, cells.cross)[: len(sources)].real / excess
    return FarFit(
        select(sources, np.array(found)), model.at_channels(), snr[found], n, live,
        model.parameters, excess,
    )  # fmt: skip


def _ratios(cells: Cells, cross: NDArray) -> NDArray:
    """Constant amplitude of each source alone, over its error in one component; complex."""
    weight = np.einsum("tgss->s", cells.gram).real.astype(float)
    total = cross.sum(axis=(0, 1), dtype=complex).sum(axis=1)
    n_hand = cross.shape[-1]
    return total / np.sqrt(np.maximum(weight, 1e-30) * n_hand * cells.variance / 2)


def _diagonal(gram: NDArray, found: list[int]) -> NDArray:
    """Weight of each source found, shape (n_time, n_group, n_found, 1)."""
    return np.stack([gram[..., s, s] for s in found], axis=-1)[..., None]


class _Model:
    """Responses on smooth functions of time and frequency; coefficients of unit prior variance.

    The prior power of each source is found from the data (expectation maximisation): a bright source
    takes as many functions as it needs, a faint one few.
    """

    def __init__(self, tile: Tile, sources: FarSources, cells: Cells, diameter_m: float) -> None:
        self._cells = cells
        freq_hz = tile.freq_hz
        node_hz = np.array([freq_hz[group].mean() for group in cells.channels])
        middle_hz = float(node_hz.mean())
        time_s = (tile.time_mjd - tile.time_mjd[0]) * 86400
        pointing = tile.pointing_dec_deg
        dec = np.radians(pointing if np.isfinite(pointing) else tile.phase_dec_deg)
        in_time = time_basis(time_s, middle_hz, diameter_m, float(dec))
        self._bases = []
        for distance in sources.distance_rad:
            at_nodes, at_channels = frequency_basis(node_hz, freq_hz, diameter_m, float(distance))
            self._bases.append((in_time, at_nodes, at_channels))
        self.parameters = 0.0
        self._found: list[int] = []
        self._coefficients: list[NDArray] = []

    def _functions(self, source: int) -> NDArray:
        """Products of the functions at the cells, shape (n_time, n_group, n_function)."""
        in_time, at_nodes, _ = self._bases[source]
        return np.einsum("ti,gj->tgij", in_time, at_nodes).reshape(len(in_time), len(at_nodes), -1)

    def solve(self, found: list[int]) -> None:
        """Fit the sources `found` jointly."""
        cells, n_hand = self._cells, self._cells.cross.shape[-1]
        functions = [self._functions(s) for s in found]
        ends = np.cumsum([0, *(f.shape[-1] for f in functions)])
        parts = [slice(a, b) for a, b in pairwise(ends)]
        normal = np.zeros((ends[-1], ends[-1]), complex)
        right = np.zeros((ends[-1], n_hand), complex)
        flat = [f.reshape(-1, f.shape[-1]) for f in functions]
        for k, source in enumerate(found):
            cross = cells.cross[:, :, source].reshape(-1, n_hand)
            right[parts[k]] = flat[k].T @ cross / cells.variance
            for m in range(k, len(found)):
                gram = cells.gram[:, :, source, found[m]].reshape(-1, 1)
                block = flat[k].T @ (gram * flat[m]) / cells.variance
                normal[parts[k], parts[m]] = block
                normal[parts[m], parts[k]] = block.conj().T
        power = np.array([self._first_power(s) for s in found])
        for _ in range(_EM_STEPS):
            prior = np.concatenate(
                [np.full(p.stop - p.start, 1 / q) for p, q in zip(parts, power, strict=True)]
            )
            covariance = np.linalg.inv(normal + np.diag(prior))
            solution = covariance @ right
            spread = np.diag(covariance).real
            power = np.array([
                (np.abs(solution[p]) ** 2).sum(axis=0).mean() / (p.stop - p.start)
                + spread[p].mean()
                for p in parts
            ])  # fmt: skip
        self.parameters = 2.0 * n_hand * float(ends[-1] - (prior * spread).sum())
        self._found, self._coefficients = list(found), [solution[p] for p in parts]

    def _first_power(self, source: int) -> float:
        """Square of the mean amplitude, as of the source alone."""
        weight = float(np.einsum("tg->", self._cells.gram[:, :, source, source].real))
        total = self._cells.cross[:, :, source].sum(axis=(0, 1), dtype=complex)
        return max(float(np.mean(np.abs(total / max(weight, 1e-30)) ** 2)), 1e-20)

    def at_cells(self) -> NDArray:
        """Amplitudes, shape (n_time, n_group, n_found, n_hand)."""
        pairs = zip(self._found, self._coefficients, strict=True)
        return np.stack([self._functions(s) @ c for s, c in pairs], axis=2).astype(np.complex64)

    def at_channels(self) -> NDArray:
        """Amplitudes, shape (n_time, n_channel, n_found, n_hand)."""
        out = []
        for source, c in zip(self._found, self._coefficients, strict=True):
            in_time, at_nodes, at_channels = self._bases[source]
            grid = c.reshape(in_time.shape[1], at_nodes.shape[1], -1)
            out.append(np.einsum("ti,cj,ijp->tcp", in_time, at_channels, grid, optimize=True))
        return np.stack(out, axis=2).astype(np.complex64)


def _joined(one: FarSources, two: FarSources) -> FarSources:
    def both(name: str, axis: int = -1) -> NDArray:
        return np.concatenate([getattr(one, name), getattr(two, name)], axis=axis)

    return FarSources(
        one.name + two.name,
        *(
            both(key)
            for key in (
                "flux_jy", "hour_angle_rad", "declination_rad", "width_rad", "disc", "distance_rad",
            )
        ),
    )  # fmt: skip
