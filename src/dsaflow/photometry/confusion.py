"""Confusion: what sources too faint for the catalogue add to a forced flux, the same in every epoch.

Unlisted sources at random places are noise whose power is the counts' second moment and whose
correlation is the beam's with itself (Scheuer 1957; Condon 1974, ApJ 188, 279). A fit's error from it
is thus the sandwich of `dsaflow.photometry.fit` with another covariance, blends and background included.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsaflow.config import Config
from dsaflow.config.sections import Photometry
from dsaflow.photometry.fit import fit_groups
from dsaflow.photometry.noise import beam_correlation, central, ring_variance
from dsaflow.photometry.sources import Mosaic, Targets

DECADE = 10.0  # counts are fitted to sources up to this many times their lower limit


@dataclass(frozen=True)
class Counts:
    """Differential counts n(S) = k S^-slope below the brightest fluxes.

    Attributes
    ----------
    per_deg2 : float
        Sources above `limit_jy` on a square degree; NaN where none was there to count.
    limit_jy : float
        Lower end of the counted range [Jy].
    slope : float
        Between 1 and 3: below, most sources, above, most of their squared fluxes are at zero.
    sources : int
        Counted.
    """

    per_deg2: float
    limit_jy: float
    slope: float
    sources: int

    def squared_jy2_deg2(self, below_jy: float) -> float:
        """Sum of the squared fluxes of the sources fainter than `below_jy` on a square degree.

        The integral of S^2 n(S): (slope - 1) / (3 - slope) N(> s) s^2, N ~ s^(1 - slope).
        """
        here = self.per_deg2 * (below_jy / self.limit_jy) ** (1 - self.slope)
        return float((self.slope - 1) / (3 - self.slope) * here * below_jy**2)


def count_sources(flux_jy: NDArray, area_deg2: float, limit_jy: float, slope: float) -> Counts:
    """Counts of given slope through the number of sources between the limit and ten times that.

    Parameters
    ----------
    flux_jy : ndarray, shape (n,)
        Catalogue sources on the area [Jy].
    area_deg2 : float
    limit_jy : float
        The catalogue is complete above it.
    slope : float

    Notes
    -----
    Only the amplitude comes from the catalogue, with 5 % of error from 400 sources; half of that goes
    into the confusion. The slope below its limit is not the catalogue's to tell.
    """
    inside = (flux_jy >= limit_jy) & (flux_jy < DECADE * limit_jy)
    number = int(np.count_nonzero(inside))
    share = 1 - DECADE ** (1 - slope)
    density = number / share / area_deg2 if number else np.nan
    return Counts(float(density), limit_jy, slope, number)


def confusion_rms_jy(counts: Counts, below_jy: float, beam_power_deg2: float) -> float:
    """Rms of a pixel [Jy/beam] from the sources fainter than `below_jy`.

    Parameters
    ----------
    counts : Counts
    below_jy : float
        Brighter ones are listed [Jy].
    beam_power_deg2 : float
        Integral of the squared beam (peak 1), pi / (8 ln 2) times its axes for a Gaussian [deg^2].

    Notes
    -----
    sigma^2 = integral of x^2 R(x) dx = integral of S^2 n(S) dS times integral of B^2 dOmega: Condon's
    (1974) equation for the second moment of the deflections R(x).
    """
    return float(np.sqrt(counts.squared_jy2_deg2(below_jy) * beam_power_deg2))


def unlisted_sources(mosaic: Mosaic, targets: Targets, config: Config) -> tuple[float, Counts]:
    """Rms of a pixel [Jy/beam] from sources that are not measured, and the counts it comes from.

    The amplitude is that of the catalogue inside this mosaic; NaN where it has no source to count.
    """
    options, catalog = config.photometry, targets.catalog
    area_deg2 = float(np.count_nonzero(mosaic.coverage > 0)) * mosaic.pixel_deg**2
    limit_jy = max(options.min_flux_jy, options.counts_limit_jy)
    counts = count_sources(catalog.flux_jy, area_deg2, limit_jy, options.counts_slope)
    xx, xy, yy = np.median(targets.precision, axis=0)
    beam_power_deg2 = float(np.pi / np.sqrt(xx * yy - xy**2)) * mosaic.pixel_deg**2
    rms_jy = confusion_rms_jy(counts, options.min_flux_jy, beam_power_deg2)
    alpha = config.calibrate.default_spectral_index
    return float(rms_jy * (mosaic.freq_hz / catalog.frequency_hz) ** alpha), counts


def confusion_errors(
    image: NDArray, targets: Targets, rms_jy: float, options: Photometry
) -> NDArray:
    """Error of each forced flux from confusion of a given rms.

    Parameters
    ----------
    image : ndarray, shape (ny, nx)
        For its pixels without data.
    targets : Targets
    rms_jy : float
        Of a pixel [Jy/beam].
    options : Photometry
        For the radius of the fit and the ring of the background.

    Returns
    -------
    ndarray, shape (n,)
        [Jy]; NaN where the fit is singular.

    Notes
    -----
    Weights are taken to be constant over a beam. A Gaussian beam exp(-q / 2) has the autocorrelation
    exp(-q / 4).
    """
    x, y, precision = targets.x, targets.y, targets.precision
    typical = np.median(precision, axis=0)
    width = np.sqrt(8 * np.log(2) / np.linalg.eigvalsh(typical[[[0, 1], [1, 2]]])[0])
    n_lag = int(np.ceil(2 * options.background_beams[1] * width))
    rho = beam_correlation(typical / 2, n_lag)
    ring_var, ring_cov, _ = ring_variance(rho, typical, *options.background_beams)
    added = np.full(x.size, ring_var - 2 * ring_cov)
    radius, none = options.fit_radius_beams, np.zeros(x.size)
    _, variance, _ = fit_groups(
        image, np.full(image.shape, rms_jy), x, y, precision, targets.start, targets.members,
        none, added, radius, central(rho, int(np.ceil(2 * radius * width))),
    )  # fmt: skip
    with np.errstate(invalid="ignore"):
        return np.where(variance > 0, np.sqrt(variance), np.nan)
