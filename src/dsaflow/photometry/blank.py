"""Forced fits where there is no source: the measured rate of false ones."""

import os
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dsaflow.catalog import Catalog, read_catalog
from dsaflow.config import Config
from dsaflow.photometry.fit import mask_sources
from dsaflow.photometry.measure import measure
from dsaflow.photometry.sources import Mosaic, locate, read_mosaic


def blank_positions(
    mosaic: Mosaic, catalog: Catalog, number: int, seed: int, min_beams: float = 2.0
) -> Catalog:
    """Draw random positions inside the mosaic and off all catalogue sources.

    Parameters
    ----------
    mosaic : Mosaic
    catalog : Catalog
        All sources to stay clear of.
    number : int
        Positions wanted; fewer come back where the mosaic is too crowded.
    seed : int
    min_beams : float
        Distance to keep from every source, in beams.

    Returns
    -------
    Catalog
        Rows "blank00000", ... of zero flux, not compact.
    """
    here = locate(mosaic, catalog, 1.0)
    masked = mask_sources(mosaic.image.shape, here.x, here.y, here.precision, min_beams)
    row, column = np.nonzero(np.isfinite(mosaic.image) & (mosaic.coverage > 0) & ~masked)
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(row.size)[:number]
    jitter = rng.uniform(-0.5, 0.5, (2, chosen.size))
    ra, dec = mosaic.grid.pixel_to_world(column[chosen] + jitter[0], row[chosen] + jitter[1])
    zero = np.zeros(chosen.size)
    names = np.array([f"blank{k:05d}" for k in range(chosen.size)], dtype=str)
    return replace(
        catalog, source_id=names, ra_deg=ra, dec_deg=dec, flux_jy=zero, flux_err_jy=zero,
        spectral_index=np.full(chosen.size, np.nan), compact=zero.astype(bool),
    )  # fmt: skip


def measure_blank(
    mosaic: dict[str, str], catalog_path: str | os.PathLike, config: Config, number: int, seed: int
) -> dict[str, NDArray]:
    """Forced fits at blank positions, next to those of the catalogue: what no source looks like.

    Returns
    -------
    dict of ndarray
        Columns as `measure` gives them, rows of the blank positions only.
    """
    planes = read_mosaic(mosaic)
    catalog = read_catalog(catalog_path)
    catalog = catalog.select(catalog.flux_jy >= config.photometry.min_flux_jy)
    blank = blank_positions(planes, catalog, number, seed)

    def joined(name: str) -> NDArray:
        return np.concatenate([getattr(catalog, name), getattr(blank, name)])

    both = replace(
        catalog, source_id=joined("source_id"), ra_deg=joined("ra_deg"), dec_deg=joined("dec_deg"),
        flux_jy=joined("flux_jy"), flux_err_jy=joined("flux_err_jy"),
        spectral_index=joined("spectral_index"), compact=joined("compact"),
    )  # fmt: skip
    columns, _, _ = measure(planes, locate(planes, both, config.photometry.blend_beams), config)
    own = np.char.startswith(columns["source_id"].astype(str), "blank")
    return {name: values[own] for name, values in columns.items()}
