"""Figures of a tile: flagging, bandpass and gains, image and residual."""

import os

import numpy as np

from dsaflow.report.style import BLUE, ORANGE, figure, note
from dsaflow.verdict import Verdict


def draw_tile(products: dict[str, str], bandpasses: list[str], out: dict[str, str]) -> None:
    """Draw all figures of one tile.

    Parameters
    ----------
    products : dict
        Paths: flag, gains, verdict (JSON); image, residual, beam (FITS).
    bandpasses : list of str
        Usable bandpasses (h5parm), nearest first.
    out : dict
        Paths of the figures: flagging, bandpass, tile.
    """
    _flagging(Verdict.read(products["flag"]), out["flagging"])
    _bandpass(bandpasses, out["bandpass"])
    _tile(products, out["tile"])


def _flagging(verdict: Verdict, path: str | os.PathLike) -> None:
    with figure(path, 10, 3) as fig:
        if "fraction_by_antenna" not in verdict.numbers:
            note(fig, f"{verdict.reason_code}: {verdict.detail}")
            return
        by_antenna = verdict.numbers["fraction_by_antenna"]
        first, second, third = fig.subplots(1, 3, sharey=True)
        first.bar(np.arange(len(by_antenna)), list(by_antenna.values()), color=BLUE, width=1.0)
        step = max(1, len(by_antenna) // 12)
        first.set_xticks(np.arange(len(by_antenna))[::step], list(by_antenna)[::step], fontsize=7)
        first.set_xlabel("antenna")
        first.set_ylabel("flagged fraction")
        second.step(
            np.arange(len(verdict.numbers["fraction_by_channel"])),
            verdict.numbers["fraction_by_channel"],
            color=BLUE,
        )
        second.set_xlabel("channel")
        by_time = verdict.numbers["fraction_by_time"]
        third.step(np.arange(len(by_time)), by_time, color=BLUE)
        third.set_xlabel("integration")
        first.set_ylim(0, 1.02)


def _bandpass(bandpasses: list[str], path: str | os.PathLike) -> None:
    import h5py

    with figure(path, 9, 5) as fig:
        if not bandpasses:
            note(fig, "no usable bandpass")
            return
        with h5py.File(bandpasses[0]) as file:
            solset = file["sol000"]
            amplitude, phase = solset["amplitude000/val"][0], solset["phase000/val"][0]
            freq_mhz = solset["amplitude000/freq"][:] / 1e6
        upper, lower = fig.subplots(2, 1, sharex=True)
        level = np.nanmedian(amplitude)
        for pol, colour, name in ((0, BLUE, "XX"), (1, ORANGE, "YY")):
            lines = upper.plot(freq_mhz, amplitude[..., pol] / level, color=colour, lw=0.4)
            lines[0].set_label(name)
            phasor = np.exp(1j * phase[..., pol])
            # the mean on the circle; an antenna without solutions stays NaN and is not drawn
            turned = np.angle(phasor * np.conj(np.nansum(phasor, axis=0)))
            lower.plot(freq_mhz, np.degrees(turned), color=colour, lw=0.4)
        upper.legend(fontsize=8)
        upper.set_ylabel("amplitude / median")
        lower.set_ylabel("phase - mean [deg]")
        lower.set_xlabel("frequency [MHz]")


def _tile(products: dict[str, str], path: str | os.PathLike) -> None:
    from astropy.io import fits

    verdict = Verdict.read(products["verdict"])
    with figure(path, 11, 5) as fig:
        if not verdict.usable:
            note(fig, f"{verdict.reason_code}: {verdict.detail}")
            return
        image, residual = fits.getdata(products["image"]), fits.getdata(products["residual"])
        beam = fits.getdata(products["beam"])
        rms_mjy = 1e3 * 1.4826 * np.median(np.abs(residual - np.median(residual)))
        for ax, data, name, scale in zip(
            fig.subplots(1, 2), (image, residual), ("image", "residual"), (12, 5), strict=True
        ):
            shown = ax.imshow(data * 1e3, cmap="gray_r", vmin=-5 * rms_mjy, vmax=scale * rms_mjy)
            ax.contour(beam, (0.2, 0.5, 0.8), colors=ORANGE, linewidths=0.6)
            ax.set_xticks([])
            ax.set_yticks([])
            ax.set_title(f"{name}, residual rms {rms_mjy:.2f} mJy/beam", fontsize=9, loc="left")
            fig.colorbar(shown, ax=ax, label="mJy/beam", shrink=0.8)
