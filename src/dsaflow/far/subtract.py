"""Far sources taken off a tile's calibrated visibilities."""

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsaflow.catalog import Catalog
from dsaflow.far.field import field_visibilities
from dsaflow.far.fit import FarFit, fit_channels, fit_far, groups
from dsaflow.far.fringes import Fringes
from dsaflow.far.sources import candidates
from dsaflow.far.tile import Tile
from dsaflow.instrument import PrimaryBeam

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class FarOptions:
    """What counts as a far source: see the configuration's ``image.far_*``."""

    min_jy: float
    radius_deg: float
    sigma: float
    default_index: float = -0.7


def subtract_far(
    tile: Tile,
    hands: list[int],
    catalog: Catalog | None,
    inside: NDArray | None,
    beam: PrimaryBeam,
    options: FarOptions,
) -> FarFit:
    """Fit far sources and subtract those that are significant from ``tile.data``, in place.

    Parameters
    ----------
    tile : Tile
        Calibrated, in Jy.
    hands : list of int
        Its parallel hands.
    catalog : Catalog or None
    inside : bool ndarray, shape (n_catalog,) or None
        Rows within the image.
    beam : PrimaryBeam
    options : FarOptions

    Returns
    -------
    FarFit
    """
    sources = candidates(
        tile, catalog, inside, options.min_jy, options.radius_deg, options.default_index
    )
    field_jy = None
    if catalog is not None and len(sources):
        far = np.isin(catalog.source_id, sources.name)
        field_jy = field_visibilities(
            tile, catalog, beam, fit_channels(tile.freq_hz), options.default_index, far
        )
    fit = fit_far(tile, hands, sources, beam.diameter_m, options.sigma, field_jy)
    if len(fit.sources):
        subtract_model(tile, fit)
    for row in describe(fit):
        LOG.info("far source subtracted: %s", row)
    LOG.info(
        "far sources: %d of %d subtracted, %.3f Jy apparent, %.0f parameters",
        len(fit.sources), fit.n_candidates, fit.apparent_jy.sum(), fit.n_parameters,
    )  # fmt: skip
    return fit


def subtract_model(tile: Tile, fit: FarFit) -> None:
    """Take the fitted model off ``tile.data``, in place."""
    fringes = Fringes(tile, fit.sources)
    for time in range(len(tile.time_mjd)):
        for group in groups(tile.freq_hz):
            model = fringes.rows(time, group) @ fit.amplitude_jy[time, group]
            block = slice(group[0], group[-1] + 1)
            for k, hand in enumerate(fit.hands):
                tile.data[time, :, block, hand] -= model[..., k].T


def describe(fit: FarFit) -> list[str]:
    """One line a source: name, apparent flux, response, distance, significance."""
    rows = zip(
        fit.sources.name, fit.apparent_jy, fit.sources.flux_jy, fit.sources.distance_rad, fit.snr,
        strict=True,
    )  # fmt: skip
    return [
        f"{name}: {apparent:.4f} Jy apparent, {apparent / flux:.1e} of {flux:.1f} Jy, "
        f"{np.degrees(distance):.1f} deg away, {snr:.0f} sigma"
        for name, apparent, flux, distance, snr in rows
    ]


def far_numbers(fit: FarFit) -> dict[str, Any]:
    """What of the fit goes into a verdict."""
    return {
        "far_candidates": fit.n_candidates,
        "far_subtracted": len(fit.sources),
        "far_apparent_jy": float(fit.apparent_jy.sum()),
        "far_names": fit.sources.name,
        "far_each_jy": [float(v) for v in fit.apparent_jy],
        "far_snr": [float(v) for v in fit.snr],
        "far_parameters": fit.n_parameters,
    }
