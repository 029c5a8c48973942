"""Measure a simulated run against its truth: the figures of docs/validation.md.

    python benchmarks/validate.py [RESULTS] [--json]

RESULTS is the results folder of a run on simulated nights (default: the demo's). Call it from the
folder in which the workflow ran, since publications are named relative to it.
"""

import argparse
import json
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from astropy.io import fits
from astropy.wcs import WCS

DEMO = Path("demo/results")
BRIGHT_SNR, POSITION_SNR = 10.0, 30.0


def robust_width(values):
    """1.4826 times the median absolute deviation."""
    values = np.asarray(values)
    return float(1.4826 * np.median(np.abs(values - np.median(values))))


def measured_and_true(results: Path) -> pd.DataFrame:
    """Primary photometry rows of simulated sources, each beside the true flux of its night."""
    truth = results / "simulated"
    nights = pd.read_parquet(truth / "tiles.parquet").groupby("epoch")["mid_mjd"].mean()
    rows = pd.concat(map(pd.read_parquet, sorted(results.glob("photometry/*.parquet"))))
    rows = rows[rows["primary"]].copy()
    away = np.abs(rows["mjd"].to_numpy()[:, None] - nights.to_numpy())
    rows["night"] = nights.index.to_numpy()[away.argmin(axis=1)]
    fluxes = pd.read_parquet(truth / "fluxes.parquet").rename(columns={"epoch": "night"})
    kinds = pd.read_parquet(truth / "sources.parquet")[["source_id", "kind"]]
    columns = ["source_id", "night", "band_flux_jy"]
    return rows.merge(fluxes[columns], on=["source_id", "night"]).merge(kinds, on="source_id")


def flux_scale(rows: pd.DataFrame) -> dict:
    """Median ratio of measured to true flux above 10 sigma, and the error that it should have."""
    bright = rows[(rows["snr"] > BRIGHT_SNR) & rows["isolated"]]
    ratio = bright["flux_jy"] / bright["band_flux_jy"]
    nights = bright.groupby("night")
    statistical = 1.253 * robust_width(ratio) / np.sqrt(len(ratio))
    # the scale is measured anew each night; its absolute error is common to all
    scale = nights["scale_err"].mean().mean() / np.sqrt(len(nights))
    absolute = bright["abs_err_frac"].mean()
    by_night = ratio.groupby(bright["night"]).median()
    return {
        "flux_ratio": float(ratio.median()),
        "flux_ratio_statistical_err": float(statistical),
        "flux_ratio_stated_err": float(np.sqrt(statistical**2 + scale**2 + absolute**2)),
        "flux_ratio_lowest_night": float(by_night.min()),
        "flux_ratio_highest_night": float(by_night.max()),
        "bright_measurements": len(bright),
        "nights": len(nights),
    }


def pulls(rows: pd.DataFrame) -> dict:
    """Robust width of the pulls, each night's scale (its bright sources' median ratio) divided out."""
    bright = rows[(rows["snr"] > BRIGHT_SNR) & rows["isolated"]]
    scale = (bright["flux_jy"] / bright["band_flux_jy"]).groupby(bright["night"]).median()
    alone = rows[rows["isolated"]]
    model = alone["band_flux_jy"] * alone["night"].map(scale)
    pull = (alone["flux_jy"] - model) / alone["flux_err_jy"]
    strong = alone["snr"] > BRIGHT_SNR
    by_source = pull.groupby(alone["source_id"])
    n = by_source.transform("size")
    # errors of image reconstruction repeat from night to night; noise does not
    change = ((pull - by_source.transform("mean")) * np.sqrt(n / (n - 1)))[n > 1]
    return {
        "pull_median": float(pull.median()),
        "pull_width": robust_width(pull),
        "pull_width_faint": robust_width(pull[~strong]),
        "pull_width_bright": robust_width(pull[strong]),
        "pull_width_between_nights": robust_width(change) if len(change) else None,
        "pulls": len(pull),
    }


def centroid(image, x, y, reach):
    """Peak of the Gaussian through the highest 3 x 3 pixels near (x, y); NaN where there is none."""
    row, column = round(float(y)), round(float(x))
    box = image[row - reach : row + reach + 1, column - reach : column + reach + 1]
    if box.shape != (2 * reach + 1,) * 2 or not np.isfinite(box).all():
        return np.nan, np.nan
    down, right = np.unravel_index(np.argmax(box), box.shape)
    row, column = row + down - reach, column + right - reach
    cut = image[row - 1 : row + 2, column - 1 : column + 2].astype(float)
    if cut.shape != (3, 3) or not cut.min() > 0:
        return np.nan, np.nan
    v, u = np.mgrid[-1:2, -1:2].reshape(2, -1)
    design = np.stack([np.ones(9), u, v, u * u, u * v, v * v], axis=1)
    _, cu, cv, cuu, cuv, cvv = np.linalg.lstsq(design, np.log(cut.ravel()), rcond=None)[0]
    step = -np.linalg.solve([[2 * cuu, cuv], [cuv, 2 * cvv]], [cu, cv])
    return column + step[0], row + step[1]


def open_mosaics(results: Path):
    """Image, noise, coverage and WCS of each mosaic that was made."""
    for path in sorted(results.glob("mosaics/*/mosaic.fits")):
        header = fits.getheader(path)
        if header.get("NAXIS") == 2:
            planes = [fits.getdata(path.with_name(f"{n}.fits")) for n in ("noise", "coverage")]
            yield path.parent.name, fits.getdata(path), *planes, WCS(header), header


def positions(results: Path, rows: pd.DataFrame) -> dict:
    """Offsets [arcsec] of bright sources' peaks in the mosaics from the true places."""
    true = pd.read_parquet(results / "simulated" / "sources.parquet").set_index("source_id")
    east, north, expected = [], [], []
    for group_id, image, _, _, wcs, header in open_mosaics(results):
        pixel = 3600 * abs(header["CDELT2"])
        chosen = rows[(rows["group_id"] == group_id) & (rows["snr"] > POSITION_SNR)]
        chosen = chosen[chosen["isolated"]]
        places = true.loc[chosen["source_id"]]
        x, y = wcs.all_world2pix(places["ra_deg"], places["dec_deg"], 0)
        reach = int(np.ceil(3600 * header["BMAJ"] / pixel / 2))
        found = np.array([centroid(image, *place, reach) for place in zip(x, y, strict=True)])
        east.append(-pixel * (found[:, 0] - x))
        north.append(pixel * (found[:, 1] - y))
        expected.append(0.6 * 3600 * header["BMAJ"] / chosen["snr"].to_numpy())
    east, north = np.concatenate(east), np.concatenate(north)
    return {
        "offset_east_arcsec": float(np.nanmedian(east)),
        "offset_north_arcsec": float(np.nanmedian(north)),
        "offset_distance_arcsec": float(np.nanmedian(np.hypot(east, north))),
        "offset_expected_arcsec": float(np.median(np.concatenate(expected))),
        "positions": int(np.isfinite(east).sum()),
    }


def tile_noise(results: Path) -> dict:
    """Noise of the tiles' images over the radiometer value of their weights and flags."""
    verdicts = [json.loads(p.read_text()) for p in sorted(results.glob("tiles/*/image.json"))]
    made = [v["numbers"] for v in verdicts if "noise_jy" in v["numbers"]]
    ratio = np.array([n["noise_jy"] / n["radiometer_jy"] for n in made])
    return {
        "tile_noise_jy": float(np.median([n["noise_jy"] for n in made])),
        "tile_noise_ratio": float(np.median(ratio)),
        "tile_noise_ratio_highest": float(ratio.max()),
        "tile_noise_ratio_lowest": float(ratio.min()),
        "tiles": len(ratio),
        "tiles_rejected": len(verdicts) - len(made),
    }


def mosaic_noise(results: Path) -> dict:
    """Scatter of source-free pixels by the number of tiles on them, and what the weights say."""
    true = pd.read_parquet(results / "simulated" / "sources.parquet")
    measured: dict[int, list] = {}
    for _, image, noise, coverage, wcs, header in open_mosaics(results):
        clear = np.isfinite(image) & (noise > 0)
        x, y = wcs.all_world2pix(true["ra_deg"], true["dec_deg"], 0)
        reach = int(np.ceil(1.5 * header["BMAJ"] / abs(header["CDELT2"])))
        for row, column in zip(np.rint(y).astype(int), np.rint(x).astype(int), strict=True):
            if row > -reach and column > -reach:
                clear[
                    max(row - reach, 0) : row + reach + 1,
                    max(column - reach, 0) : column + reach + 1,
                ] = False
        for count in range(1, int(np.nanmax(coverage)) + 1):
            where = clear & (coverage == count)
            if where.sum() > 2000:
                pair = robust_width(image[where]), float(np.median(noise[where]))
                pull = robust_width(image[where] / noise[where])
                measured.setdefault(count, []).append((*pair, pull))
    means = {count: np.mean(values, axis=0) for count, values in sorted(measured.items())}
    return {
        "coverage": list(means),
        "mosaic_scatter_jy": [float(m[0]) for m in means.values()],
        "mosaic_noise_jy": [float(m[1]) for m in means.values()],
        "mosaic_scatter_over_noise": [float(m[2]) for m in means.values()],
    }


def candidates(results: Path) -> dict:
    """Candidates by the kind of their source, and the injected event's rank."""
    truth = json.loads((results / "simulated/truth.json").read_text())["ese"]
    kinds = pd.read_parquet(results / "simulated/sources.parquet").set_index("source_id")["kind"]
    tables = [
        pd.read_parquet(p) for p in sorted(results.glob("variability/*/ese_candidates.parquet"))
    ]
    table = pd.concat(tables, ignore_index=True)
    injected = table[table["source_id"] == (truth or {}).get("source_id")]
    kind = table["source_id"].map(kinds)
    verdicts = [
        json.loads(p.read_text()) for p in sorted(results.glob("variability/*/variability.json"))
    ]
    return {
        "candidates": len(table),
        "constant_candidates": int((kind == "constant").sum()),
        "unknown_candidates": int(kind.isna().sum()),
        "injected_rank": int(injected["rank"].min()) if len(injected) else None,
        "injected_significance": float(injected["significance"].max()) if len(injected) else None,
        "sources_searched": sum(v["numbers"].get("n_searched", 0) for v in verdicts),
    }


def publications(results: Path) -> dict:
    """Recompute the checksums of everything published."""
    from dsaflow.publish import verify

    told = [json.loads(p.read_text()) for p in sorted(results.glob("mosaics/*/publication.json"))]
    published = [one for one in told if one["state"] == "published"]
    for one in published:
        verify(one)
    return {"mosaics": len(told), "published_verified": len(published)}


def evaluate(results: Path) -> dict:
    """Every figure, by name."""
    rows = measured_and_true(results)
    return {
        **flux_scale(rows), **pulls(rows), **positions(results, rows), **tile_noise(results),
        **mosaic_noise(results), **candidates(results), **publications(results),
    }  # fmt: skip


def table(n: dict) -> str:
    """The figures as the table of docs/validation.md."""
    noise = "; ".join(
        f"{count} tiles: {1e3 * scatter:.2f} mJy, weights say {1e3 * said:.2f}, ratio {pull:.2f}"
        for count, scatter, said, pull in zip(
            n["coverage"], n["mosaic_scatter_jy"], n["mosaic_noise_jy"],
            n["mosaic_scatter_over_noise"], strict=True,
        )
    )  # fmt: skip
    rank = n["injected_rank"]
    between = n["pull_width_between_nights"] or np.nan
    found = (
        f"rank {rank}, significance {n['injected_significance']:.1f}" if rank else "no candidate"
    )
    lines = [
        ("median flux ratio above 10 sigma", "within 5 %",
         f"{n['flux_ratio']:.4f} ± {n['flux_ratio_statistical_err']:.4f} (statistical), "
         f"{n['flux_ratio_stated_err']:.4f} stated in all; {n['bright_measurements']} measurements; "
         f"single nights {n['flux_ratio_lowest_night']:.3f} to {n['flux_ratio_highest_night']:.3f}"),
        ("positions", 'within 2"',
         f'median offset {n["offset_east_arcsec"]:+.2f}" east, {n["offset_north_arcsec"]:+.2f}" north; '
         f'median distance {n["offset_distance_arcsec"]:.2f}" (noise alone '
         f'{n["offset_expected_arcsec"]:.2f}"); {n["positions"]} peaks above {POSITION_SNR:.0f} sigma'),
        ("tile noise over radiometer", "<= 1.5",
         f"median {n['tile_noise_ratio']:.2f}, {n['tile_noise_ratio_lowest']:.2f} to "
         f"{n['tile_noise_ratio_highest']:.2f} over {n['tiles']} tiles; "
         f"{n['tiles_rejected']} tiles rejected"),
        ("mosaic noise by coverage", "falls as the weights say", noise),
        ("pulls of a source between nights", "robust width 0.8 to 1.25", f"{between:.2f}"),
        ("pulls against the true flux", "robust width 0.8 to 1.25",
         f"{n['pull_width_bright']:.2f} above 10 sigma, {n['pull_width_faint']:.2f} below, "
         f"{n['pull_width']:.2f} of all {n['pulls']}; median {n['pull_median']:+.2f}"),
        ("injected event", "rank 1", found),
        ("other candidates", "no constant source",
         f"{n['constant_candidates']} constant of {n['candidates']} candidates, "
         f"{n['sources_searched']} sources searched"),
        ("published mosaics", "checksums hold", f"{n['published_verified']} of {n['mosaics']}"),
    ]  # fmt: skip
    rows = ["| what | asked | measured |", "|---|---|---|"]
    return "\n".join(rows + [f"| {a} | {b} | {c} |" for a, b, c in lines])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", nargs="?", type=Path)
    parser.add_argument("--json", action="store_true", help="all figures, not the table")
    arguments = parser.parse_args()
    results = arguments.results or DEMO
    if not list(results.glob("variability/*/variability.json")):
        print(f"{results} holds no finished run: `make demo` makes one; or name another folder")
        return 0 if arguments.results is None else 1
    # the cards of the headers' fixed epoch are restated by astropy
    warnings.simplefilter("ignore", category=Warning)
    figures = evaluate(results)
    print(json.dumps(figures, indent=1) if arguments.json else table(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
