"""Figures of a mosaic: the image with the catalogue, flux ratio, astrometry, noise."""

import os

import numpy as np

from dsaflow.report.style import BLUE, GREY, ORANGE, RED, figure, note
from dsaflow.verdict import Verdict


def draw_mosaic(products: dict[str, str], photometry_path: str, out: dict[str, str]) -> None:
    """Draw all figures of one mosaic.

    Parameters
    ----------
    products : dict
        Paths: image, noise, coverage, qa.
    photometry_path : str
        Forced photometry of the same mosaic.
    out : dict
        Paths of the figures: mosaic, fluxes, astrometry, gates, noise.
    """
    import pandas as pd

    qa = Verdict.read(products["qa"])
    table = pd.read_parquet(photometry_path)
    if len(table) == 0:
        for path in out.values():
            with figure(path, 7, 3) as fig:
                note(fig, f"no mosaic: {qa.reason_code} {qa.detail}")
        return
    _image(products, table, out["mosaic"])
    _fluxes(table, out["fluxes"])
    _astrometry(qa, out["astrometry"])
    _gates(qa, out["gates"])
    _noise(products, out["noise"])


def _image(products: dict[str, str], table, path: str | os.PathLike) -> None:
    from astropy.io import fits
    from astropy.wcs import WCS

    with fits.open(products["image"]) as hdus:
        data, header = hdus[0].data, hdus[0].header
    noise_jy = np.nanmedian(fits.getdata(products["noise"]))
    with figure(path, 10, 7) as fig:
        ax = fig.add_subplot(projection=WCS(header).celestial)
        shown = ax.imshow(data * 1e3, cmap="gray_r", vmin=-3e3 * noise_jy, vmax=15e3 * noise_jy)
        bright = table[table["snr"] > 5]
        ax.scatter(
            bright["ra_deg"], bright["dec_deg"], transform=ax.get_transform("icrs"),
            s=60, facecolor="none", edgecolor=BLUE, linewidth=0.7, label="catalogue, S/N > 5",
        )  # fmt: skip
        ax.legend(loc="upper right", fontsize=8)
        ax.set_xlabel("RA (ICRS)")
        ax.set_ylabel("Dec (ICRS)")
        ax.set_title(header.get("GROUPID", ""), fontsize=9)
        fig.colorbar(shown, ax=ax, label="mJy/beam", shrink=0.8)


def _fluxes(table, path: str | os.PathLike) -> None:
    good = table[(table["snr"] > 10) & table["isolated"]]
    ratio = good["flux_jy"] / good["catalog_flux_jy"]
    error = good["flux_err_jy"] / good["catalog_flux_jy"]
    with figure(path, 9, 3.6) as fig:
        left, right = fig.subplots(1, 2, sharey=True)
        left.errorbar(good["catalog_flux_jy"] * 1e3, ratio, error, fmt=".", color=BLUE, lw=0.7)
        left.set_xscale("log")
        left.set_xlabel("catalogue flux [mJy]")
        left.set_ylabel("measured / catalogue")
        right.errorbar(good["beam_response"], ratio, error, fmt=".", color=BLUE, lw=0.7)
        right.set_xlabel("beam response")
        for ax in (left, right):
            ax.axhline(1, color=GREY, lw=0.8)
            ax.axhline(np.median(ratio), color=ORANGE, lw=0.8)
            ax.set_ylim(0.5, 1.5)
        left.set_title(
            f"{len(good)} isolated sources above 10 sigma, median {np.median(ratio):.3f}",
            fontsize=9,
            loc="left",
        )


def _astrometry(qa: Verdict, path: str | os.PathLike) -> None:
    with figure(path, 4.6, 4.4) as fig:
        offsets = np.array(qa.numbers.get("offsets_arcsec", [])).reshape(-1, 2)
        if not len(offsets):
            note(fig, "too few compact isolated sources")
            return
        ax = fig.add_subplot()
        ax.plot(*offsets.T, ".", color=BLUE)
        east, north = qa.numbers["offset_east_arcsec"], qa.numbers["offset_north_arcsec"]
        error = qa.numbers["offset_err_arcsec"]
        ax.errorbar(east, north, error, error, fmt="o", color=ORANGE)
        ax.axhline(0, color=GREY, lw=0.8)
        ax.axvline(0, color=GREY, lw=0.8)
        reach = 1.15 * np.abs(offsets).max()
        ax.set(xlim=(reach, -reach), ylim=(-reach, reach), aspect="equal")
        ax.set_xlabel("offset to the east [arcsec]")
        ax.set_ylabel("offset to the north [arcsec]")
        ax.set_title(
            f"mean {east:+.2f}, {north:+.2f} +- {error:.2f} arcsec", fontsize=9, loc="left"
        )


def _gates(qa: Verdict, path: str | os.PathLike) -> None:
    rows = [
        (
            g.name,
            f"{g.value:.4g}",
            f"{g.low:.4g} .. {g.high:.4g}".replace("nan", ""),
            g.unit,
            g.verdict,
        )
        for g in qa.gates
    ]
    with figure(path, 8, 0.28 * len(rows) + 0.8) as fig:
        ax = fig.add_subplot()
        ax.axis("off")
        shown = ax.table(
            rows, colLabels=("gate", "value", "limits", "unit", "verdict"), loc="center",
            cellLoc="left", colWidths=(0.34, 0.16, 0.24, 0.12, 0.12),
        )  # fmt: skip
        shown.auto_set_font_size(False)
        shown.set_fontsize(8)
        for (row, column), cell in shown.get_celld().items():
            cell.set_linewidth(0.3)
            if row and column == 4 and rows[row - 1][4] != "pass":
                cell.set_text_props(color=RED)


def _noise(products: dict[str, str], path: str | os.PathLike) -> None:
    from astropy.io import fits

    noise = fits.getdata(products["noise"]) * 1e3
    coverage = fits.getdata(products["coverage"])
    image = fits.getdata(products["image"]) * 1e3
    with figure(path, 10, 3.4) as fig:
        first, second, third = fig.subplots(1, 3)
        low = np.nanmin(noise)
        shown = first.imshow(noise, vmin=low, vmax=4 * low, cmap="viridis")
        fig.colorbar(shown, ax=first, label="noise [mJy/beam]", shrink=0.8)
        shown = second.imshow(coverage, cmap="cividis")
        fig.colorbar(shown, ax=second, label="tiles", shrink=0.8)
        for ax in (first, second):
            ax.set_xticks([])
            ax.set_yticks([])
        pull = (image / noise)[np.isfinite(image) & np.isfinite(noise)]
        bins = np.linspace(-8, 8, 81)
        third.hist(pull, bins, color=BLUE, histtype="step")
        centres = 0.5 * (bins[1:] + bins[:-1])
        gauss = np.exp(-0.5 * centres**2) * pull.size * (bins[1] - bins[0]) / np.sqrt(2 * np.pi)
        third.plot(centres, gauss, color=GREY, lw=0.8)
        third.set_yscale("log")
        third.set_ylim(0.7, None)
        third.set_xlabel("pixel / noise")
