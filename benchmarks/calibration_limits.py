"""What a wrong catalogue does to gains and flux scale, and what better phases could bring to an image.

    python benchmarks/calibration_limits.py [--seed N ...] [--only NAME]              # the catalogue's errors
    python benchmarks/calibration_limits.py --phases [--seed N ...] [--only NAME]     # self-calibration's limit

A transit tile of 3C138 and the tile after it (48 stations, 16 channels, 250 sources; noise, bandpass, drifting
gains, moving beam, smearing, two dead antennas). The bandpass is solved on the first, gains on the second. Both
print tables for docs/calibration.md.

First: every catalogue flux (3C138's, too) is multiplied by 1 + error x a Gaussian draw, or a part of the sources
varies; the stated errors of the catalogue stay 3 %. Amplitudes and phases are those of bandpass times gains
against the injected ones, rms over antennas, channels and times, the tile's own scalar left out; "moved" is
against the solution with the exact catalogue on the same noise. Flux scale: measured over true flux, less one.

Second: one image with the solved gains, one with their phases replaced by the injected ones (what phase
self-calibration would find at best, without noise of its own), one with the injected gains.
"""

import argparse
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from dsaflow.calibration.choose import choose_bandpass, choose_gains
from dsaflow.calibration.solve_bandpass import read_flagged
from dsaflow.calibration.stages import solve_bandpass, solve_gains
from dsaflow.calibration.tile import divide_gains
from dsaflow.catalog import read_catalog, write_catalog
from dsaflow.config import load_config
from dsaflow.imaging.known import known_sources
from dsaflow.imaging.tile import image_visibilities
from dsaflow.instrument import PrimaryBeam, read_stations
from dsaflow.simulate import effects
from dsaflow.simulate.array import read_array
from dsaflow.simulate.night import simulate_tile
from dsaflow.simulate.schedule import true_sky
from dsaflow.simulate.settings import SimulateSettings
from dsaflow.simulate.truth import truth_tables, write_reference_catalog
from dsaflow.validation.onetile import flux_at
from dsaflow.visibilities.convert import convert_tile
from dsaflow.visibilities.flagfile import write_flags
from dsaflow.visibilities.ms import read_ms

ANTENNAS, CALIBRATORS = "config/antennas.csv", "config/calibrators.csv"
TRANSIT, NEXT = 1, 2
IMAGE = {"size": 1080, "pixel_arcsec": 16.0, "beam_terms": 5, "gridding_accuracy": 1e-3}
CONFIG = load_config({"image": IMAGE, "simulate": {"channels_per_subband": 1}})


@dataclass(frozen=True)
class Case:
    """What is wrong: relative catalogue error, share of variable sources, drift of the phases."""

    name: str
    error: float = 0.0
    variables: float = 0.0
    drift_deg: float = 20.0
    handed_out: bool = False


CATALOGUES = (
    Case("exact"), Case("5 %", 0.05), Case("10 %", 0.1), Case("20 %", 0.2),
    Case("exact, 10 % of the sources variable", variables=0.1),
    Case("exact, 30 % variable", variables=0.3),
    Case("as the forward model spoils it, 6 % variable", variables=0.06, handed_out=True),
)  # fmt: skip
PHASES = (
    Case("exact"),
    Case("as the forward model spoils it, 6 % variable", variables=0.06, handed_out=True),
    Case("20 %", 0.2),
    Case("20 %, phases drift by 100 deg rms in 6 h", 0.2, drift_deg=100.0),
)


class Night:
    """The two tiles, their truth and their catalogue, simulated once for all that shares them."""

    def __init__(self, folder: Path, seed: int, case: Case) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.settings = SimulateSettings.model_validate(
            {
                "seed": seed, "n_epochs": 1, "channels_per_subband": 1, "max_sources": 250,
                "variable_fraction": case.variables, "event": {"kind": "none"},
                "phase_drift_deg": case.drift_deg,
                "effects": {"rfi": False, "spoilt_catalog": case.handed_out},
            }
        )  # fmt: skip
        write_reference_catalog(self.settings, folder / "catalog.parquet")
        sky, array = true_sky(self.settings), read_array(ANTENNAS, self.settings.stations)
        for tile in (TRANSIT, NEXT):
            simulate_tile(self.settings, sky, array, 0, tile, folder / f"raw{tile}")
            raw = sorted(str(f) for f in (folder / f"raw{tile}").iterdir())
            convert_tile(raw, self.ms(tile), CONFIG, read_stations(ANTENNAS))
            vis = read_ms(self.ms(tile))
            dead = np.isin(vis.antenna_name, self.settings.dead_antennas)
            vis.flags[:, dead[vis.antenna1] | dead[vis.antenna2]] = True
            write_flags(self.flags(tile), vis.flags)

    def ms(self, tile: int) -> Path:
        return self.folder / f"tile{tile}.ms"

    def flags(self, tile: int) -> Path:
        return self.folder / f"flags{tile}.h5"

    def injected(self, vis, tile: int) -> np.ndarray:
        """Gains in the Measurement Set's convention, shape (n_time, n_channel, n_antenna, 2)."""
        names = list(read_array(ANTENNAS, self.settings.stations).name)
        slot = [names.index(n) for n in vis.antenna_name]
        drift = effects.gains(self.settings, 0, tile, len(names), vis.time_mjd + 2400000.5)
        shape = effects.bandpass(self.settings, len(names), vis.freq_hz)[slot]
        total = drift[:, slot][:, None] * shape.transpose(2, 0, 1)[None]
        return total.conj() * np.sqrt(self.settings.correlator_unit)


def spoil(night: Night, error: float, seed: int) -> Path:
    """The night's catalogue with flux errors."""
    catalog = read_catalog(night.folder / "catalog.parquet")
    rng = np.random.default_rng([seed, 77])
    factor = np.maximum(1 + error * rng.standard_normal(len(catalog)), 0.1)
    path = night.folder / f"catalog-{error}.parquet"
    write_catalog(path, replace(catalog, flux_jy=catalog.flux_jy * factor))
    return path


def without_primary(folder: Path) -> Path:
    """The table of calibrators without 3C138."""
    path = folder / "calibrators.csv"
    lines = Path(CALIBRATORS).read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if not line.startswith("3C138")))
    return path


def calibrate(night: Night, catalog: Path, calibrators: str | Path, tile: int = NEXT):
    """Bandpass from the transit tile, gains of a tile; the product on the tile's grid, and numbers."""
    options = CONFIG.calibrate
    bandpass, gains = night.folder / "bandpass.h5", night.folder / "gains.h5"
    inputs = night.ms(TRANSIT), night.flags(TRANSIT)
    solve_bandpass(*inputs, catalog, calibrators, bandpass, CONFIG)
    inputs = night.ms(tile), night.flags(tile)
    verdict = solve_gains(*inputs, [bandpass], catalog, gains, CONFIG)
    vis = read_flagged(*inputs)
    band = choose_bandpass(
        [bandpass], vis, options.bandpass_validity_hours, options.bandpass_fallback_days
    )
    product = band.gain * choose_gains([gains], vis, options.gain_validity_hours).gain
    return vis, product, verdict.numbers


def ratio_to(product, truth) -> np.ndarray:
    """Solved over true gains of the antennas solved, one phase in common taken out, (t, c, a, 2)."""
    with np.errstate(invalid="ignore"):
        ratio = product / truth
    solved = np.isfinite(ratio).all(axis=(0, 1, 3))
    ratio = ratio[:, :, solved]
    common = ratio.mean(axis=2, keepdims=True)
    return ratio * common.conj() / np.abs(common)


def errors_of(ratio) -> tuple[float, float]:
    """Rms of amplitudes about their mean [%] and of phases [deg]."""
    size = np.abs(ratio)
    amplitude = 100 * np.sqrt(np.mean((size / size.mean() - 1) ** 2))
    return float(amplitude), float(np.degrees(np.sqrt(np.mean(np.angle(ratio) ** 2))))


def limits(seeds: list[int], scratch: Path, only: str) -> list[str]:
    """Table of the catalogue's errors."""
    rows = [
        "| catalogue | amplitude, phase | moved | flux scale | stated: relative, catalogue, systematic | "
        "without a primary: flux scale | stated |",
        "|---|---|---|---|---|---|---|",
    ]
    exact: dict[tuple, np.ndarray] = {}
    for case in [c for c in CATALOGUES if only in c.name or c.name == CATALOGUES[0].name]:
        found = []
        for seed in seeds:
            place = scratch / f"{seed}-{case.variables}-{case.handed_out}"
            key = seed, case.variables, case.handed_out
            if key not in NIGHTS:
                NIGHTS[key] = Night(place, seed, case)
            night = NIGHTS[key]
            catalog = spoil(night, case.error, seed)
            one = SimpleNamespace()
            vis, product, one.primary = calibrate(night, catalog, CALIBRATORS)
            ratio = ratio_to(product, night.injected(vis, NEXT))
            exact.setdefault((seed, "gain"), product)
            one.error, one.moved = (
                errors_of(ratio),
                errors_of(ratio_to(product, exact[seed, "gain"])),
            )
            one.scale = 1 / np.mean(np.abs(ratio)) ** 2 - 1
            _, product, one.field = calibrate(night, catalog, without_primary(night.folder))
            alone = ratio_to(product, night.injected(vis, NEXT))
            one.field_scale = 1 / np.mean(np.abs(alone)) ** 2 - 1
            found.append(one)
        rows.append(_row(case, found))
        print(rows[-1], flush=True)
    return rows


NIGHTS: dict[tuple, Night] = {}


def _row(case: Case, found: list[SimpleNamespace]) -> str:
    def mean(values) -> np.ndarray:
        return np.mean(np.array(list(values)), axis=0)

    def percent(values) -> str:
        return ", ".join(f"{100 * v:+.1f}" for v in values)

    amplitude, phase = mean(f.error for f in found)
    moved, turned = mean(f.moved for f in found)
    keys = ("scale_err_relative", "scale_err_catalog", "scale_systematic")
    stated = 100 * mean([f.primary[k] for k in keys] for f in found)
    alone = 100 * mean([f.field[k] for k in keys] for f in found)
    anchors = {f.primary["scale_anchor"] for f in found}
    return (
        f"| {case.name} | {amplitude:.2f} %, {phase:.2f}° | {moved:.2f} %, {turned:.2f}° | "
        f"{percent(f.scale for f in found)} % | "
        f"{stated[0]:.1f}, {stated[1]:.1f}, {stated[2]:.1f} % ({', '.join(sorted(anchors))}) | "
        f"{percent(f.field_scale for f in found)} % | {alone[0]:.1f}, {alone[1]:.1f}, {alone[2]:.1f} % |"
    )


def phase_limit(seeds: list[int], scratch: Path, only: str) -> list[str]:
    """Table of images with solved gains, true phases and true gains."""
    rows = [
        "| catalogue | seed, tile | phase error | noise, solved gains | true phases | true gains | "
        "flux ratio, solved | true phases | true gains |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for number, case in enumerate(PHASES):
        if only not in case.name:
            continue
        for seed in seeds:
            night = Night(scratch / f"phases-{number}-{seed}", seed, case)
            catalog = spoil(night, case.error, seed)
            for tile in (NEXT, TRANSIT):
                vis, product, _ = calibrate(night, catalog, CALIBRATORS, tile)
                truth = night.injected(vis, tile)
                phase = errors_of(ratio_to(product, truth))[1]
                missing = np.where(np.isfinite(product), 1, np.nan)
                turned = np.abs(product) * truth / np.abs(truth)
                made = [
                    _image(night, tile, gain, catalog)
                    for gain in (product, turned, truth * missing)
                ]
                noise, ratio = zip(*made, strict=True)
                # a scale that is off moves noise and fluxes alike: what counts is their ratio
                relative = [n / median for n, (median, _) in made]
                rows.append(
                    f"| {case.name} | {seed}, {'transit' if tile == TRANSIT else 'next'} | "
                    f"{phase:.2f}° | {1e3 * noise[0]:.3f} mJy | "
                    + " | ".join(f"{100 * (r / relative[0] - 1):+.2f} %" for r in relative[1:])
                    + " | "
                    + " | ".join(f"{m:.4f}, {s:.4f}" for m, s in ratio)
                    + " |"
                )
                print(rows[-1], flush=True)
    return rows


def _image(night: Night, tile: int, gain, catalog: Path):
    """Noise of the image with these gains; median and scatter of flux over truth above 20 sigma."""
    vis = read_flagged(night.ms(tile), night.flags(tile))
    divide_gains(vis.data, vis.flags, gain, vis)
    vis.data[vis.flags] = 0
    beam = PrimaryBeam.from_config(CONFIG.instrument.beam)
    images = image_visibilities(
        vis, CONFIG.image, beam, CONFIG.instrument.sefd_jy, 1, None, read_catalog(catalog)
    )
    tables = truth_tables(night.settings)
    exact = read_catalog(night.folder / "catalog.parquet")
    band = dict(zip(tables["fluxes"]["source_id"], tables["fluxes"]["band_flux_jy"], strict=True))
    inside = np.array([name in band for name in exact.source_id])
    exact = exact.select(inside)
    place = known_sources(exact, images.frame, images.beam, images.pixel_rad, images.freq_hz, -0.7)
    exact = replace(exact, flux_jy=np.array([band[name] for name in exact.source_id]))
    true = known_sources(
        exact, images.frame, images.beam, images.pixel_rad, exact.frequency_hz, -0.7
    )
    bright = np.flatnonzero(true.apparent_jy > 20 * images.numbers["noise_jy"])
    ratio = [
        flux_at(images.image, place.x[k], place.y[k], images.restoring) / true.apparent_jy[k]
        for k in bright
    ]
    scatter = 1.4826 * np.median(np.abs(ratio - np.median(ratio)))
    return images.numbers["noise_jy"], (float(np.median(ratio)), float(scatter))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, action="append", help="skies; default 1, 2, 3")
    parser.add_argument("--phases", action="store_true", help="the limit of self-calibration")
    parser.add_argument("--only", default="", help="rows with this in their name, and the first")
    chosen = parser.parse_args()
    seeds = chosen.seed or [1, 2, 3]
    with tempfile.TemporaryDirectory() as name:
        made = (phase_limit if chosen.phases else limits)(seeds, Path(name), chosen.only)
    print("\n".join(made))


if __name__ == "__main__":
    main()
