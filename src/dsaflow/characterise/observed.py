"""Events injected into the normalised light curves of real epochs."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from dsaflow.characterise.detector import Detector, sigma_dev
from dsaflow.characterise.grid import DEPTHS, DURATIONS_DAYS, LONGEST
from dsaflow.characterise.inject import overlaps
from dsaflow.characterise.rates import efficiency_interval
from dsaflow.characterise.tasks import generator
from dsaflow.config.sections import Variability
from dsaflow.simulate.transients import DIP_SHAPES, dips

# Classes of S/N an epoch that efficiencies are given for.
_SNR_EDGES = (5.0, 10.0, 20.0, 50.0, np.inf)


def read_curves(
    path: Path, options: Variability
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Normalised curves of the sources that the stage searches, from ``light_curves.parquet``.

    Returns
    -------
    mjd : ndarray, shape (n_epoch,)
    curve, variance : ndarray, shape (n_source, n_epoch)
        NaN where not measured.
    snr : ndarray, shape (n_source,)
        Median flux over median error.
    """
    import pyarrow.parquet as pq

    table = pq.read_table(
        path, columns=["source_id", "epoch", "mjd", "norm_flux", "norm_err", "flux_jy",
                       "flux_err_jy", "used"],
    ).to_pandas()  # fmt: skip
    table = table[table["used"]]
    if table.empty:
        nothing = np.zeros((0, 0))
        return np.zeros(0), nothing, nothing, np.zeros(0)
    grids = {
        name: table.pivot_table(index="source_id", columns="epoch", values=name, aggfunc="first")
        for name in ("norm_flux", "norm_err", "flux_jy", "flux_err_jy")
    }
    mjd = table.groupby("epoch")["mjd"].median().sort_index()
    columns = mjd.index
    rows = grids["flux_jy"].index
    arrays = {
        name: grid.reindex(index=rows, columns=columns).to_numpy(float)
        for name, grid in grids.items()
    }
    snr = np.nanmedian(arrays["flux_jy"], axis=1) / np.nanmedian(arrays["flux_err_jy"], axis=1)
    measured = np.isfinite(arrays["norm_flux"]).sum(axis=1)
    kept = (measured >= options.min_epochs) & (snr > options.search_min_snr)
    return (
        mjd.to_numpy(),
        arrays["norm_flux"][kept],
        np.square(arrays["norm_err"][kept]),
        snr[kept],
    )


def inject_observed(
    path: Path, options: Variability, threshold: float, per_cell: int, seed: int
) -> list[dict[str, Any]]:
    """Efficiency in real residuals, over depth, duration and S/N.

    The dip takes its share of each source's own baseline, so noise, missing epochs, variability
    and what the scale left stay as they were observed. Sources that are candidates as they are
    take no part.

    Returns
    -------
    list of dict
        One a cell that had sources; empty where the data hold nothing that can be searched.
    """
    mjd, curve, variance, snr = read_curves(path, options)
    if len(curve) == 0 or len(mjd) < options.min_epochs:
        return []
    detector = Detector(mjd, options)
    quiet = detector.find(curve, variance).announced <= threshold
    curve, variance, snr = curve[quiet], variance[quiet], snr[quiet]
    rng = generator(seed, "observed", 0)
    rows = []
    span = mjd[-1] - mjd[0]
    for duration in (d for d in DURATIONS_DAYS if d <= LONGEST * span):
        for low, high in pairwise(_SNR_EDGES):
            able = np.flatnonzero((snr >= low) & (snr < high))
            if len(able) == 0:
                continue
            for depth in DEPTHS:
                source = rng.choice(able, per_cell)
                mid = rng.uniform(mjd[0] + 0.75 * duration, mjd[-1] - 0.75 * duration, per_cell)
                width = np.full(per_cell, duration)
                shape = rng.choice(np.array(DIP_SHAPES), per_cell)
                event = dips(mjd, mid, width, np.full(per_cell, depth), shape)
                lensed = curve[source] + event - 1
                found = detector.find(lensed, variance[source])
                good = overlaps(found, mid - 0.5 * width, width) & (found.announced > threshold)
                ends = efficiency_interval(np.array([good.sum()]), np.array([per_cell]))
                rows.append(
                    {
                        "depth": depth,
                        "duration_days": duration,
                        "snr_low": low,
                        "snr_high": high,
                        "n_sources": len(able),
                        "n_injected": per_cell,
                        "n_detected": int(good.sum()),
                        "efficiency": float(good.mean()),
                        "efficiency_low": float(ends[0][0]),
                        "efficiency_high": float(ends[1][0]),
                        "sigma_dev_efficiency": float((sigma_dev(lensed) >= 5).mean()),
                    }
                )
    return rows
