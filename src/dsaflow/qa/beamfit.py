"""The primary beam measured on the data: effective diameter and pointing from sources in several tiles.

A source that drifts from tile to tile is seen at different places in the beam, so that ratios of its
apparent fluxes measure the beam's slope whatever its flux is. The catalogue's fluxes add the slope
along declination, where a source keeps its place, with their own errors.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dsaflow.geometry import meridian_icrs, separation_rad
from dsaflow.instrument import INTEGRATIONS, PrimaryBeam
from dsaflow.verdict import Gate

if TYPE_CHECKING:
    from dsaflow.config import Config

PARAMETERS = ("effective_diameter_m", "pointing_east_deg", "pointing_north_deg")
# relative; what deconvolution and neighbours leave on a bright source (CLEAN residuals)
FLOOR = 0.01
# of ln flux: the tiles' amplitude scalars were found with the beam that is judged here
SCALE_PRIOR = 0.2
STEP = np.array([0.02, 0.005, 0.005])  # of the numerical derivatives [m, deg, deg]
LIMIT = np.array([0.5, 0.1, 0.1])  # largest change an iteration
MIN_RESPONSE = 0.1
# equal weights reproduce mean and variance of a flat 187.5 MHz at 1.4 GHz: 0.1338 / sqrt(8) either side
BAND_NODES = np.array([-0.0473, 0.0, 0.0473])


@dataclass(frozen=True)
class Sightings:
    """Apparent fluxes of catalogue sources in tiles; arrays of shape (n,), one entry a sighting.

    Attributes
    ----------
    source, tile : ndarray of int
        Indices into the sources and the tiles.
    flux_jy, err_jy : ndarray
        Apparent, as imaged.
    response : ndarray
        Beam that the tile's image was made with, at the source.
    """

    source: NDArray
    tile: NDArray
    flux_jy: NDArray
    err_jy: NDArray
    response: NDArray


@dataclass(frozen=True)
class TilePointing:
    """When and where a tile looked: enough to average a beam over its drift."""

    start_mjd: float
    end_mjd: float
    pointing_dec_deg: float
    freq_hz: float

    @cached_property
    def meridian(self) -> tuple[NDArray, NDArray]:
        """ICRS track of (meridian, pointing declination), a position an integration."""
        edges = np.linspace(self.start_mjd, self.end_mjd, INTEGRATIONS + 1)
        return meridian_icrs(0.5 * (edges[1:] + edges[:-1]), self.pointing_dec_deg)

    def mean_power(self, beam: PrimaryBeam, ra_deg: NDArray, dec_deg: NDArray) -> NDArray:
        """Beam toward ICRS positions, averaged over the drift and the band, shape (n,)."""
        centre = beam.shifted(*self.meridian)
        angle = separation_rad(centre[0][:, None], centre[1][:, None], ra_deg, dec_deg)
        return beam.power(angle[..., None], self.freq_hz * (1 + BAND_NODES)).mean(axis=(0, 2))


@dataclass
class BeamFit:
    """Effective diameter and pointing, with their covariance; `value` and `err` as in `PARAMETERS`."""

    value: NDArray
    covariance: NDArray
    sources: int
    sightings: int
    chi2_reduced: float
    scale: NDArray = field(default_factory=lambda: np.empty(0))
    log_flux: NDArray = field(default_factory=lambda: np.empty(0))

    @property
    def err(self) -> NDArray:
        """1-sigma errors."""
        return np.sqrt(np.diag(self.covariance))


def beam_of(assumed: PrimaryBeam, value: NDArray) -> PrimaryBeam:
    """Return the assumed beam with another diameter (a table scaled as a whole) and pointing."""
    ratio = value[0] / assumed.diameter_m
    table = None if assumed.table_diameter_m is None else assumed.table_diameter_m * ratio
    return PrimaryBeam(
        float(value[0]), assumed.table_freq_hz, table, (float(value[1]), float(value[2]))
    )


def fit_beam(
    seen: Sightings,
    tiles: list[TilePointing],
    ra_deg: NDArray,
    dec_deg: NDArray,
    catalog_jy: NDArray,
    catalog_err: NDArray,
    assumed: PrimaryBeam,
    iterations: int = 12,
) -> BeamFit:
    """Fit the beam, every source's flux and every tile's scale together.

    Parameters
    ----------
    seen : Sightings
    tiles : list of TilePointing
    ra_deg, dec_deg : ndarray, shape (n_source,)
        ICRS.
    catalog_jy : ndarray, shape (n_source,)
        Catalogue flux at the tiles' frequency.
    catalog_err : ndarray, shape (n_source,)
        Relative error of it, variability included.
    assumed : PrimaryBeam
        With which calibration and imaging were made.
    iterations : int

    Returns
    -------
    BeamFit

    Notes
    -----
    Gauss-Newton in ln flux: ln(seen / response) = ln S + ln(B / B_assumed) + ln scale, rows weighted
    by Huber's function (k = 1.345) of their pull, so that variables and the catalogue's outliers do
    not pull. The covariance is scaled by the reduced chi-squared where that exceeds 1.
    """
    n_source, n_tile = len(ra_deg), len(tiles)
    reference = _responses(tiles, assumed, ra_deg, dec_deg)
    log_seen = np.log(seen.flux_jy / seen.response)
    # below S/N 15 a logarithm would be biased: such sightings are not handed in
    sigma = np.hypot(seen.err_jy / seen.flux_jy, FLOOR)
    rows = np.arange(seen.flux_jy.size)
    linear = np.zeros((rows.size, 3 + n_source + n_tile))
    linear[rows, 3 + seen.source] = 1.0
    linear[rows, 3 + n_source + seen.tile] = 1.0
    prior = np.zeros((n_source + n_tile, linear.shape[1]))
    prior[:, 3:] = np.eye(n_source + n_tile)
    all_sigma = np.concatenate([sigma, catalog_err, np.full(n_tile, SCALE_PRIOR)])
    unknown = np.concatenate([np.log(catalog_jy), np.zeros(n_tile)])
    expected = np.concatenate([np.log(catalog_jy), np.zeros(n_tile)])
    value = np.array([assumed.diameter_m, *assumed.offset_deg])
    for _ in range(iterations):
        here = _log_ratio(seen, tiles, assumed, value, ra_deg, dec_deg, reference)
        for k in range(3):
            shift = np.where(np.arange(3) == k, STEP, 0.0)
            up = _log_ratio(seen, tiles, assumed, value + shift, ra_deg, dec_deg, reference)
            down = _log_ratio(seen, tiles, assumed, value - shift, ra_deg, dec_deg, reference)
            linear[:, k] = (up - down) / (2 * STEP[k])
        model = here + unknown[seen.source] + unknown[n_source + seen.tile]
        pull = np.concatenate([log_seen - model, expected - unknown]) / all_sigma
        weight = np.minimum(1.0, 1.345 / np.maximum(np.abs(pull), 1e-12))
        scaled = np.concatenate([linear, prior]) * (np.sqrt(weight) / all_sigma)[:, None]
        normal = scaled.T @ scaled
        step = np.linalg.solve(normal, scaled.T @ (np.sqrt(weight) * pull))
        change = np.clip(step[:3], -LIMIT, LIMIT)
        value, unknown = value + change, unknown + step[3:]
        if np.all(np.abs(change) < 1e-3 * STEP):
            break
    freedom = max(rows.size + n_source - 3 - n_source - n_tile, 1)
    chi2 = float(np.sum(weight * pull**2) / freedom)
    covariance = np.linalg.inv(normal)[:3, :3] * max(chi2, 1.0)
    return BeamFit(
        value, covariance, n_source, rows.size, chi2,
        np.exp(unknown[n_source:]), unknown[:n_source],
    )  # fmt: skip


def _responses(
    tiles: list[TilePointing], beam: PrimaryBeam, ra_deg: NDArray, dec_deg: NDArray
) -> NDArray:
    """Mean power of each source in each tile, shape (n_tile, n_source)."""
    return np.stack([tile.mean_power(beam, ra_deg, dec_deg) for tile in tiles])


def _log_ratio(
    seen: Sightings,
    tiles: list[TilePointing],
    assumed: PrimaryBeam,
    value: NDArray,
    ra_deg: NDArray,
    dec_deg: NDArray,
    reference: NDArray,
) -> NDArray:
    """Logarithm of the trial beam over the assumed one for each sighting; both averaged alike."""
    trial = _responses(tiles, beam_of(assumed, value), ra_deg, dec_deg)
    return np.log(np.maximum(trial, 1e-4) / np.maximum(reference, 1e-4))[seen.tile, seen.source]


def flux_change(fit: BeamFit, assumed: PrimaryBeam, freq_hz: float) -> tuple[float, float]:
    """Largest relative error of a flux within response 0.3 that the assumed beam makes, and its error.

    Along east, west, north and south, against the beam's middle: a common factor is calibration's.
    """
    reach = np.linspace(0.0, 1.0, 60)
    half_rad = 0.5 * assumed.fwhm_rad(freq_hz)
    off = 1.4 * half_rad * reach  # the Airy pattern falls to 0.3 at 1.31 half widths
    inside = assumed.power(off, freq_hz) >= 0.3
    direction = np.array([[1, 0], [-1, 0], [0, 1], [0, -1]]).T[:, :, None]

    def ratio(value: NDArray) -> NDArray:
        beam = beam_of(assumed, value)
        shift = np.radians(value[1:] - np.array(assumed.offset_deg))[:, None, None]
        away = np.hypot(*(direction * off[inside] - shift))
        middle = beam.power(np.hypot(*shift[:, 0, 0]), freq_hz)
        return (beam.power(away, freq_hz) / middle / assumed.power(off[inside], freq_hz)).ravel()

    best = ratio(fit.value)
    worst = int(np.argmax(np.abs(best - 1)))
    slope = np.array(
        [
            (ratio(fit.value + d)[worst] - ratio(fit.value - d)[worst]) / (2 * STEP[k])
            for k, d in enumerate(np.diag(STEP))
        ]
    )
    return float(abs(best[worst] - 1)), float(np.sqrt(slope @ fit.covariance @ slope))


def beam_gates(
    fit: BeamFit, assumed: PrimaryBeam, freq_hz: float, config: "Config"
) -> tuple[list[Gate], dict[str, Any]]:
    """Gate on the error that the assumed beam makes in a flux; chance is allowed for."""
    change, change_err = flux_change(fit, assumed, freq_hz)
    margin = config.qa.false_alarm_sigma * change_err
    numbers: dict[str, Any] = {"beam_flux_change": change, "beam_flux_change_err": change_err}
    for k, name in enumerate(PARAMETERS):
        numbers[name] = float(fit.value[k])
        numbers[f"{name}_err"] = float(fit.err[k])
    numbers |= {
        "beam_sources": fit.sources,
        "beam_sightings": fit.sightings,
        "beam_chi2_reduced": fit.chi2_reduced,
        "beam_tile_scales": [float(s) for s in fit.scale],
    }
    gate = Gate.measure("beam_flux_change", change, high=config.qa.beam_flux_change + margin)
    return [gate], numbers
