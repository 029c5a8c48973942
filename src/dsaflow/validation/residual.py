"""What is left of a mosaic without its sources: false sources and the noise by coverage."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter
from scipy.stats import norm

from dsaflow.catalog import Catalog
from dsaflow.config.sections import Photometry
from dsaflow.photometry.fit import add_model, mask_sources
from dsaflow.photometry.measure import MODEL_BEAMS, fit_plane
from dsaflow.photometry.sources import Mosaic, Targets, locate

FALSE_SIGMA, TAIL_SIGMA = 5.5, 4.0
MIN_PIXELS = 2000
# A source this strong is judged by its flux: 2 % of it would be a peak of its own within its beam.
STRONG_SIGMA = 200.0
# Of a source beyond the mosaic's edge the beam's wing lies inside, and cannot be fitted.
BEYOND_BEAMS = 1.5


def true_sources(truth: Path) -> Catalog:
    """Every simulated source at its true place, also those that the catalogue handed out lacks."""
    import pandas as pd

    table = pd.read_parquet(truth / "sources.parquet")
    flux_jy = table["flux_jy"].to_numpy(float)
    return Catalog(
        table["source_id"].to_numpy(str), table["ra_deg"].to_numpy(float) % 360,
        table["dec_deg"].to_numpy(float), flux_jy, np.zeros(flux_jy.size),
        table["spectral_index"].to_numpy(float), table["compact"].to_numpy(bool),
    )  # fmt: skip


def residual_statistics(mosaic: Mosaic, catalog: Catalog, options: Photometry) -> dict[str, Any]:
    """Take the true sources off a mosaic and look at what is left.

    Parameters
    ----------
    mosaic : Mosaic
    catalog : Catalog
        Every source of the sky at its true place (`true_sources`).
    options : Photometry

    Returns
    -------
    dict
        ``beams``: independent beams in the mosaic. ``false_positive``, ``false_negative``: peaks
        beyond 5.5 times the noise map. ``tail_positive``, ``tail_negative``: pixels beyond 4 times,
        in beams; ``tail_expected``: of Gaussian noise. ``coverage``: for each number of tiles the
        scatter of the pixels over the noise map.

    Notes
    -----
    Each source is fitted at its true place, with the beam of that place: a source's own noise is
    taken off with it, what deconvolution leaves about it is not. Pixels within a beam of a source
    above 200 sigma, and within 1.5 of one that lies just outside the mosaic, are left out.
    """
    targets = locate(mosaic, catalog, options.blend_beams)
    fit = fit_plane(mosaic.image, mosaic.noise, targets, options)
    left = mosaic.image.astype(np.float64)
    flux = np.where(np.isfinite(fit.flux), fit.flux, 0.0)
    add_model(left, targets.x, targets.y, targets.precision, -flux, MODEL_BEAMS)
    with np.errstate(invalid="ignore"):
        scaled = left / mosaic.noise
    strong = fit.flux > STRONG_SIGMA * fit.flux_err
    own = mask_sources(
        left.shape, targets.x[strong], targets.y[strong], targets.precision[strong], 1.0
    )
    valid = np.isfinite(scaled) & ~own & ~_beyond(mosaic, catalog, targets)
    scaled = np.where(valid, scaled, 0.0)
    determinant = targets.precision[:, 0] * targets.precision[:, 2] - targets.precision[:, 1] ** 2
    # of correlated noise: the beam's squared profile is what neighbouring pixels share
    beam_pix = float(np.median(np.pi / np.sqrt(determinant)))
    beams = np.count_nonzero(valid) / beam_pix
    reach = int(np.ceil(np.sqrt(beam_pix)))
    return {
        "beams": float(beams),
        "false_positive": _peaks(scaled, reach),
        "false_negative": _peaks(-scaled, reach),
        "tail_positive": float(np.count_nonzero(scaled > TAIL_SIGMA) / beam_pix),
        "tail_negative": float(np.count_nonzero(scaled < -TAIL_SIGMA) / beam_pix),
        "tail_expected": float(beams * norm.sf(TAIL_SIGMA)),
        "coverage": _by_coverage(mosaic, scaled, valid),
    }


def _beyond(mosaic: Mosaic, catalog: Catalog, targets: Targets) -> NDArray:
    """Pixels within `BEYOND_BEAMS` of a source that has no pixel of its own, bool of the image's shape."""
    outside = ~np.isin(catalog.source_id, targets.catalog.source_id)
    x, y = mosaic.grid.world_to_pixel(catalog.ra_deg[outside], catalog.dec_deg[outside])
    seen = np.isfinite(x) & np.isfinite(y)
    precision = np.tile(np.median(targets.precision, axis=0), (int(seen.sum()), 1))
    return mask_sources(mosaic.image.shape, x[seen], y[seen], precision, BEYOND_BEAMS)


def _peaks(scaled: NDArray, reach: int) -> int:
    highest = maximum_filter(scaled, size=2 * reach + 1) == scaled
    return int(np.count_nonzero(highest & (scaled > FALSE_SIGMA)))


def _by_coverage(mosaic: Mosaic, scaled: NDArray, valid: NDArray) -> dict[int, float]:
    found = {}
    for count in range(1, int(mosaic.coverage.max()) + 1):
        values = scaled[valid & (mosaic.coverage == count)]
        if values.size > MIN_PIXELS:
            low, high = np.percentile(values, [15.865, 84.135])
            found[count] = float(0.5 * (high - low))
    return found
