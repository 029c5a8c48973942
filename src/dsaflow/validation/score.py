"""Measured fluxes and positions against the truth: ratios, pulls in bins of S/N."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

SNR_BINS = ((5.0, 10.0), (10.0, 30.0), (30.0, 100.0), (100.0, np.inf))
SCALE_SNR = 20.0  # sources above this carry a night's scale


def robust_width(values: np.ndarray) -> float:
    """Half the central 68.27 % of the values: 1 for a unit Gaussian, about their median."""
    if len(values) < 4:
        return float("nan")
    low, high = np.percentile(values, [15.865, 84.135])
    return float(0.5 * (high - low))


def join_truth(photometry: list[Path], truth: Path) -> pd.DataFrame:
    """Primary rows of simulated, isolated sources beside the true flux of their night.

    Parameters
    ----------
    photometry : list of Path
        A table a night, or many.
    truth : Path
        Folder of `dsaflow.simulate.truth.write_truth`.

    Returns
    -------
    DataFrame
        Columns of the photometry and ``night``, ``true_jy`` (mean over the band), ``true_snr``
        (true flux over stated error) and ``pull`` after the night's scale is divided out.
    """
    nights = pd.read_parquet(truth / "tiles.parquet").groupby("epoch")["mid_mjd"].mean()
    rows = pd.concat(map(pd.read_parquet, photometry), ignore_index=True)
    away = np.abs(rows["mjd"].to_numpy()[:, None] - nights.to_numpy())
    rows["night"] = nights.index.to_numpy()[away.argmin(axis=1)]
    fluxes = pd.read_parquet(truth / "fluxes.parquet").rename(
        columns={"epoch": "night", "band_flux_jy": "true_jy"}
    )
    wanted = ["source_id", "night", "true_jy", *(f"flux_b{b}_jy" for b in range(4))]
    fluxes = fluxes[wanted].rename(columns={f"flux_b{b}_jy": f"true_b{b}_jy" for b in range(4)})
    rows = rows[rows["primary"] & rows["isolated"] & np.isfinite(rows["flux_jy"])]
    rows = rows.merge(fluxes, on=["source_id", "night"])
    # bins by the truth: by the measured S/N a bin would select upward noise
    rows["true_snr"] = rows["true_jy"] / rows["flux_err_jy"]
    bright = rows[rows["true_snr"] > SCALE_SNR]
    scale = (bright["flux_jy"] / bright["true_jy"]).groupby(bright["night"]).median()
    rows["scale"] = rows["night"].map(scale)
    rows["pull"] = (rows["flux_jy"] / rows["scale"] - rows["true_jy"]) / rows["flux_err_jy"]
    return rows


def score(rows: pd.DataFrame) -> dict[str, Any]:
    """Flux ratio above 10 sigma, and pulls in `SNR_BINS`."""
    bright = rows[rows["true_snr"] > 10]
    ratio = (bright["flux_jy"] / bright["true_jy"]).to_numpy()
    result: dict[str, Any] = {
        "flux_ratio": float(np.median(ratio)),
        "flux_ratio_err": float(1.2533 * robust_width(ratio) / np.sqrt(len(ratio))),
        "sources": len(rows),
        "bins": [],
    }
    for low, high in SNR_BINS:
        inside = rows[(rows["true_snr"] >= low) & (rows["true_snr"] < high)]
        pull = inside["pull"].to_numpy()
        relative = (inside["flux_jy"] / inside["scale"] / inside["true_jy"]).to_numpy()
        result["bins"].append(
            {
                "low": low,
                "high": high,
                "sources": len(pull),
                "ratio": float(np.median(relative)) if len(pull) else float("nan"),
                "pull_mean": float(np.mean(np.clip(pull, -5, 5))) if len(pull) else float("nan"),
                "pull_width": robust_width(pull),
            }
        )
    return result
