"""A tile's amplitude against the transit of a primary calibrator, by the sources that both tiles saw."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsaflow.calibration.scale import (
    Scale,
    SourceFactors,
    biweight,
    capped,
    excess_scatter,
)

_MIN_SNR = 3.0


@dataclass(frozen=True)
class FactorTable:
    """Measured over catalogued flux of the compact sources of one tile, arrays of shape (n,).

    Attributes
    ----------
    source_id : ndarray of str
    factor, error : ndarray
        Ratio and its 1-sigma error from noise.
    """

    source_id: NDArray
    factor: NDArray
    error: NDArray

    @classmethod
    def of(cls, factors: SourceFactors) -> "FactorTable":
        """Keep compact sources with an expected S/N of 3: never chosen on their measured flux."""
        use = factors.compact & (factors.expected_snr >= _MIN_SNR)
        return cls(factors.source_id[use], factors.factor[use], factors.noise_err[use])

    @classmethod
    def empty(cls) -> "FactorTable":
        """No source."""
        return cls(np.empty(0, dtype=str), np.empty(0), np.empty(0))

    def select(self, source_id: NDArray) -> "FactorTable":
        """Rows of these sources, in their order; all of them must be there."""
        order = np.argsort(self.source_id)
        rows = order[np.searchsorted(self.source_id, source_id, sorter=order)]
        return FactorTable(self.source_id[rows], self.factor[rows], self.error[rows])


def between(tables: Sequence[FactorTable], weights: Sequence[float]) -> FactorTable:
    """Factors at a time between two transits, of the sources that both saw."""
    common = tables[0].source_id
    for table in tables[1:]:
        common = np.intersect1d(common, table.source_id)
    rows = [table.select(common) for table in tables]
    factor = sum(w * r.factor for w, r in zip(weights, rows, strict=True))
    variance = sum((w * r.error) ** 2 for w, r in zip(weights, rows, strict=True))
    return FactorTable(common, np.asarray(factor), np.sqrt(variance))


def common_scale(tile: FactorTable, transit: FactorTable, max_weight: float) -> Scale:
    """Amplitude of a tile over the transit's, from the sources that both saw.

    The catalogue's errors cancel, source by source; what is left is noise, and the scatter of
    sources that vary between the two.

    Parameters
    ----------
    tile, transit : FactorTable
    max_weight : float
        Largest share of one source.

    Returns
    -------
    Scale
        `catalog_err` is zero. NaN value with no source in common.

    Notes
    -----
    Ratio of weighted sums, not mean of ratios: the mean of a ratio with a noisy denominator is
    biased high by 1 / (S/N)^2.
    """
    names = np.intersect1d(tile.source_id, transit.source_id)
    if not names.size:
        return Scale(np.nan, np.nan, np.nan, 0, np.nan, np.nan)
    here, there = tile.select(names), transit.select(names)
    value = float(np.median(here.factor) / np.median(there.factor))
    scatter, weight = 0.0, np.ones(names.size)
    for _ in range(50):
        noise = np.hypot(here.error, value * there.error)
        variance = noise**2 + (value * scatter) ** 2
        difference = here.factor - value * there.factor
        weight = capped(
            capped(1.0 / variance, max_weight) * biweight(difference / np.sqrt(variance)),
            max_weight,
        )
        new = float((weight * here.factor).sum() / (weight * there.factor).sum())
        scatter = excess_scatter(difference / value, noise / value)
        moved, value = abs(new - value), new
        if moved < 1e-7 * abs(value):
            break
    # a biweight mean's variance is 1 / 0.95 of the mean's at the normal distribution
    share = weight / (weight * there.factor).sum()
    error = float(np.sqrt((share**2 * variance).sum() / 0.95) / value)
    return Scale(
        value, error, 0.0, int((weight > 0).sum()), float(weight.max()), scatter
    )  # fmt: skip


def tie_scale(
    scale: Scale, tile: FactorTable, known: dict[str, Any], transit: FactorTable, own: bool, options
) -> dict[str, Any]:
    """The tile's amplitude scalar on the flux scale, and its errors.

    A primary calibrator's bandpass is on the flux scale at its transit, so a tile is tied to it by
    the ratio of the sources that both saw. Where too few are common to both, by the ratio of the
    two fields' scales: the catalogue's errors then enter twice, and are stated. Without a primary
    calibrator the catalogue is the flux scale.

    Parameters
    ----------
    scale : Scale
        The tile's amplitude over the catalogue's.
    tile : FactorTable
    known : dict
        Numbers of the bandpass.
    transit : FactorTable
        Of the bandpass's own tile.
    own : bool
        Whether the bandpass was solved on this very tile: then the noise is common, too.
    options : Calibrate
    """
    primary = known["source"] == "primary"
    numbers: dict[str, Any] = {
        "n_scale_source": scale.n_source,
        "scale_max_weight": scale.max_weight,
        "scale_scatter": scale.scatter,
        "scale_err_catalog": scale.catalog_err,
    }
    if scale.n_source < options.scale_min_sources:
        return numbers | {
            "scale": 1.0,
            "scale_err_relative": options.unmeasured_scale_err,
            "scale_err_catalog": 0.0,
            "scale_systematic": options.systematic_primary
            if primary
            else options.unmeasured_scale_err,
            "scale_anchor": "bandpass",
        }
    anchored = primary and np.isfinite(known.get("catalog_scale", np.nan))
    if not anchored or known["n_scale_source"] < options.scale_min_sources:
        return numbers | {
            "scale": scale.value,
            "scale_err_relative": scale.noise_err,
            "scale_systematic": options.systematic_catalog,
            "scale_anchor": "catalogue",
        }
    common = common_scale(tile, transit, options.scale_max_weight)
    # fewer could not all stay below the largest weight
    if common.n_source >= math.ceil(1 / options.scale_max_weight):
        return numbers | {
            "scale": common.value,
            "scale_err_relative": math.hypot(
                0.0 if own else common.noise_err, known["calibrator_err_relative"]
            ),
            "scale_err_catalog": 0.0,
            "scale_systematic": options.systematic_primary,
            "scale_anchor": "primary",
            "n_scale_source": common.n_source,
            "scale_max_weight": common.max_weight,
            "scale_scatter": common.scatter,
        }
    catalog_err = math.hypot(scale.catalog_err, known["catalog_scale_err_catalog"])
    return numbers | {
        "scale": scale.value / known["catalog_scale"],
        "scale_err_relative": math.hypot(
            scale.noise_err, known["catalog_scale_err_relative"], known["calibrator_err_relative"]
        ),
        "scale_err_catalog": catalog_err,
        "scale_systematic": math.hypot(options.systematic_primary, catalog_err),
        "scale_anchor": "primary through the catalogue",
    }
