"""Measured fluxes and positions against the truth: ratios, pulls in bins of S/N."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dsaflow.qa.field import MosaicField
from dsaflow.qa.sources import beam_precision, fit_source

SNR_BINS = ((5.0, 10.0), (10.0, 30.0), (30.0, 100.0), (100.0, np.inf))
SCALE_SNR = 20.0  # sources above this carry a night's scale
PLACE_SNR = 20.0  # sources above this are measured in position


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
        Columns of the photometry and ``night``, ``kind`` of the source, ``true_jy`` (mean over the
        band), ``true_snr`` (true flux over its stated noise) and ``pull`` after the night's scale is
        divided out, its error the noise and what `tile_scale_error` says.
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
    kinds = pd.read_parquet(truth / "sources.parquet").set_index("source_id")["kind"]
    rows["kind"] = rows["source_id"].map(kinds)
    # bins by the truth: by the measured S/N a bin would select upward noise
    rows["true_snr"] = rows["true_jy"] / rows["flux_err_jy"]
    bright = rows[rows["true_snr"] > SCALE_SNR]
    scale = (bright["flux_jy"] / bright["true_jy"]).groupby(bright["night"]).median()
    rows["scale"] = rows["night"].map(scale)
    error = np.hypot(rows["flux_err_jy"], tile_scale_error(rows) * rows["true_jy"])
    rows["pull"] = (rows["flux_jy"] / rows["scale"] - rows["true_jy"]) / error
    return rows


def tile_scale_error(rows: pd.DataFrame) -> NDArray:
    """Stated relative error of each flux's tiles beyond what is common to its night, shape (n,).

    A tile is tied to the flux scale by an error of its own and by that of the calibrator's transit, which
    all tiles of a night share. Dividing out one scale a night takes the second away; the transit's own
    tile has nothing else, so the smallest stated error is what is common.
    """
    stated = rows["scale_err"].to_numpy()
    common = rows.groupby("night")["scale_err"].transform("min").to_numpy()
    return np.sqrt(np.maximum(stated**2 - common**2, 0.0))


def measure_places(rows: pd.DataFrame, images: dict[str, str], truth: Path) -> pd.DataFrame:
    """Offsets of the mosaics' bright sources from their true places.

    Parameters
    ----------
    rows : DataFrame
        Of `join_truth`.
    images : dict
        Path of the image of each group_id.
    truth : Path

    Returns
    -------
    DataFrame
        `rows` with ``east_arcsec``, ``north_arcsec`` (NaN below `PLACE_SNR` and where no fit was made) and
        ``east_err_arcsec``, ``north_err_arcsec``: half the beam's width along that axis over the S/N,
        the error that noise makes.
    """
    places = pd.read_parquet(truth / "sources.parquet").set_index("source_id")
    columns = np.full((len(rows), 4), np.nan)
    for group_id, path in images.items():
        chosen = np.flatnonzero((rows["group_id"] == group_id) & (rows["true_snr"] > PLACE_SNR))
        true = places.loc[rows["source_id"].iloc[chosen]]
        offset, width_arcsec = _offsets(path, true["ra_deg"].to_numpy(), true["dec_deg"].to_numpy())
        columns[chosen, :2] = offset
        columns[chosen, 2:] = 0.5 * width_arcsec / rows["true_snr"].to_numpy()[chosen, None]
    names = ("east_arcsec", "north_arcsec", "east_err_arcsec", "north_err_arcsec")
    return rows.assign(**dict(zip(names, columns.T, strict=True)))


def _offsets(path: str, ra_deg: NDArray, dec_deg: NDArray) -> tuple[NDArray, NDArray]:
    """Fitted less true place, shape (n, 2) [arcsec, east and north], and the beam's widths [arcsec]."""
    from astropy.io import fits
    from astropy.wcs import WCS

    with fits.open(path) as hdus:
        image, header = np.asarray(hdus[0].data, np.float64), hdus[0].header
    empty = np.zeros_like(image)
    field = MosaicField(image, empty, empty > 0, header, WCS(header), [])
    major, minor, angle_deg = field.beam_deg
    sine, cosine = np.sin(np.radians(angle_deg)), np.cos(np.radians(angle_deg))
    width_deg = np.hypot([major * sine, major * cosine], [minor * cosine, minor * sine])
    precision = beam_precision(field)
    half = max(3, int(np.ceil(1.25 * field.beam_deg[0] / abs(field.pixel_deg[1]))))
    x, y = field.to_pixel(ra_deg, dec_deg)
    fits_xy = [fit_source(image, *place, precision, half)[1:3] for place in zip(x, y, strict=True)]
    pixels = np.array(fits_xy).reshape(-1, 2) - np.column_stack([x, y])
    return 3600 * pixels * np.array(field.pixel_deg), 3600 * width_deg


def score(rows: pd.DataFrame) -> dict[str, Any]:
    """Flux ratio above 10 sigma, positions, and pulls in `SNR_BINS`.

    Returns
    -------
    dict
        ``flux_ratio`` and its errors, ``flux_ratio_err`` from the scatter of the sources and
        ``flux_ratio_stated_err`` with the nights' stated scale errors and the absolute one;
        ``sources``; ``place`` (see `_score_places`; None without `measure_places`); ``bins``, each with
        ``low``, ``high``, ``sources``, ``ratio`` (the night's scale divided out), ``pull_mean``,
        ``pull_width`` and their errors.
    """
    bright = rows[rows["true_snr"] > 10]
    ratio = (bright["flux_jy"] / bright["true_jy"]).to_numpy()
    chance = float(1.2533 * robust_width(ratio) / np.sqrt(len(ratio)))
    nights = bright.groupby([name for name in ("seed", "night") if name in bright])["scale_err"]
    scale = float(nights.mean().mean() / np.sqrt(nights.ngroups))
    absolute = float(bright["abs_err_frac"].mean())
    result: dict[str, Any] = {
        "flux_ratio": float(np.median(ratio)),
        "flux_ratio_err": chance,
        "flux_ratio_stated_err": float(np.sqrt(chance**2 + scale**2 + absolute**2)),
        "sources": len(rows),
        "place": _score_places(rows) if "east_arcsec" in rows else None,
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
                # of Gaussian draws: half the distance of two percentiles errs 1.36 times as much as
                # a standard deviation
                "pull_mean_err": float(1 / np.sqrt(max(len(pull), 1))),
                "pull_width_err": 1.36 * robust_width(pull) / float(np.sqrt(2 * max(len(pull), 1))),
            }
        )
    return result


def _score_places(rows: pd.DataFrame) -> dict[str, Any]:
    """Systematic offset of each axis, and the scatter over half a beam axis / (S/N) + 0.3 arcsec."""
    found = rows[np.isfinite(rows["east_arcsec"])]
    place: dict[str, Any] = {"sources": len(found)}
    for axis in ("east", "north"):
        offset = found[f"{axis}_arcsec"].to_numpy()
        width = robust_width(offset)
        place[f"{axis}_arcsec"] = float(np.median(offset)) if len(offset) else float("nan")
        place[f"{axis}_err_arcsec"] = float(1.2533 * width / np.sqrt(max(len(offset), 1)))
        place[f"{axis}_scatter"] = robust_width(offset / (found[f"{axis}_err_arcsec"] + 0.3))
    return place
