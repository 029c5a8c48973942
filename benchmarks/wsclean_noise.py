"""Noise of our images beside WSClean's: same Measurement Set, weights, pixels and CLEAN thresholds.

    python benchmarks/wsclean_noise.py [--empty] [--seed N] [--no-catalog] [--set KEY=VALUE ...]

The sky is that of config/reference_sky.yaml; `--seed` takes another draw of it, `--make-table` writes
config/reference_sky.csv anew, `--set` changes an option of section `image` for both engines. Noise is
1.4826 times the median absolute value of the residual at the same pixels in both: where the reference
beam is at least 0.2, and more than two beams from each of the 300 sources (on the empty sky, too).
"""

import argparse
import csv
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import yaml

from dsaflow.catalog import read_catalog
from dsaflow.config import Config, load_config
from dsaflow.imaging.known import known_sources
from dsaflow.imaging.tile import image_visibilities
from dsaflow.instrument import PrimaryBeam, read_stations
from dsaflow.simulate.array import read_array
from dsaflow.simulate.night import pointing_track, simulate_tile
from dsaflow.simulate.schedule import true_sky
from dsaflow.simulate.settings import SimulateSettings
from dsaflow.simulate.sky import make_sky
from dsaflow.simulate.truth import write_reference_catalog
from dsaflow.visibilities.convert import convert_tile
from dsaflow.visibilities.ms import read_ms

CONFIG = Path("config/reference_sky.yaml")
ANTENNAS = "config/antennas.csv"
BRIGHTEST_JY = 3.0
RESPONSE, CLEAR_BEAMS = 0.2, 2.0
FIELDS = ("ra_deg", "dec_deg", "flux_jy", "spectral_index")


def reference_config(**image) -> Config:
    """The reference sky's configuration, with some options of section `image` changed."""
    content = yaml.safe_load(CONFIG.read_text())
    return load_config(content | {"image": content["image"] | image})


def draw_sources(settings: SimulateSettings) -> list[dict[str, float]]:
    """Rows of the source table: the forward model's population, its brightest (apparent) at 3 Jy."""
    drawn = settings.model_copy(update={"source_table": ""})
    track = pointing_track(drawn)
    sky = make_sky(drawn, track)
    east = (sky.ra_deg - np.mean(track[0])) * np.cos(np.radians(sky.dec_deg))
    away = np.hypot(east, sky.dec_deg - np.mean(track[1]))
    # a Gaussian of the beam's width is enough to rank by apparent brightness
    apparent = sky.flux_jy * np.exp(-np.log(2) * (away / 1.35) ** 2)
    flux = sky.flux_jy.copy()
    flux[np.argmax(apparent)] = BRIGHTEST_JY
    columns = (sky.ra_deg, sky.dec_deg, flux, sky.spectral_index)
    rows = np.round(np.stack(columns, axis=1), 6).tolist()
    return [dict(zip(FIELDS, row, strict=True)) for row in rows]


def write_sources(rows: list[dict[str, float]], path: Path) -> Path:
    """Write a source table."""
    with open(path, "w", newline="") as stream:
        writer = csv.DictWriter(stream, FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


class Tile:
    """One simulated tile of the reference sky as a Measurement Set, and the catalogue of it.

    Parameters
    ----------
    folder : Path
    config : Config
    empty : bool
        Noise alone: the sources' fluxes are 1 nJy.
    """

    def __init__(self, folder: Path, config: Config, empty: bool = False) -> None:
        settings = config.simulate
        write_reference_catalog(settings, folder / "catalog.parquet")
        exact = settings.effects.model_copy(update={"spoilt_catalog": False})
        truth = settings.model_copy(update={"effects": exact})
        write_reference_catalog(truth, folder / "truth.parquet")
        self.catalog = read_catalog(folder / "catalog.parquet")
        self.truth = read_catalog(folder / "truth.parquet")
        sky = true_sky(settings)
        if empty:
            sky = replace(sky, flux_jy=np.full_like(sky.flux_jy, 1e-9))
        array = read_array(ANTENNAS, settings.stations)
        simulate_tile(settings, sky, array, 0, 0, folder / "incoming")
        files = sorted(str(f) for f in (folder / "incoming").glob("*.hdf5"))
        self.ms = folder / "tile.ms"
        convert_tile(files, self.ms, config, read_stations(ANTENNAS))
        for file in files:
            Path(file).unlink()


def image(tile: Tile, config: Config, engine: str, catalog: bool = True):
    """Images of one engine, and the seconds that they took."""
    options = config.image.model_copy(update={"engine": engine})
    began = time.monotonic()
    images = image_visibilities(
        read_ms(tile.ms), options, PrimaryBeam.from_config(config.instrument.beam),
        config.simulate.sefd_jy, 1, tile.ms, tile.catalog if catalog else None,
    )  # fmt: skip
    return images, time.monotonic() - began


def clear_pixels(images, truth):
    """Pixels within the beam and away from every source of the reference sky, bool (size, size)."""
    places = known_sources(
        truth, images.frame, images.beam, images.pixel_rad, images.freq_hz, -0.7
    )  # fmt: skip
    reach = CLEAR_BEAMS * images.restoring.major_pixel
    row, column = np.indices(images.beam.shape, dtype=np.float32)
    clear = images.beam >= RESPONSE
    for x, y in zip(places.x, places.y, strict=True):
        near = slice(max(int(y - reach), 0), int(y + reach) + 2)
        west = slice(max(int(x - reach), 0), int(x + reach) + 2)
        clear[near, west] &= np.hypot(row[near, west] - y, column[near, west] - x) > reach
    return clear


def noise_jy(images, clear) -> tuple[float, float]:
    """Robust scatter about zero and plain rms of the residual at these pixels [Jy/beam]."""
    values = images.residual[clear].astype(float)
    return float(1.4826 * np.median(np.abs(values))), float(np.sqrt(np.mean(values**2)))


def compare(folder: Path, config: Config, empty: bool = False, catalog: bool = True) -> dict:
    """Noise of both engines on one tile.

    Returns
    -------
    dict
        ``ours_jy``, ``wsclean_jy``, ``ratio`` (robust scatter), ``ratio_rms``, ``radiometer_jy``, the
        share of the image's pixels that were used, and the seconds that each engine took.
    """
    tile = Tile(folder, config, empty)
    ours, ours_s = image(tile, config, "dsaflow", catalog)
    theirs, theirs_s = image(tile, config, "wsclean")
    clear = clear_pixels(ours, tile.truth)
    assert theirs.residual.shape == ours.residual.shape
    (own, own_rms), (other, other_rms) = noise_jy(ours, clear), noise_jy(theirs, clear)
    return {
        "ours_jy": own,
        "wsclean_jy": other,
        "ratio": own / other,
        "ratio_rms": own_rms / other_rms,
        "radiometer_jy": ours.numbers["radiometer_jy"],
        "pixels": float(clear.mean()),
        "beams_arcsec": [
            [round(w * i.pixel_arcsec, 2) for w in (i.restoring.major_pixel, i.restoring.minor_pixel)]
            for i in (ours, theirs)
        ],
        "seconds": [round(ours_s, 1), round(theirs_s, 1)],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--empty", action="store_true", help="noise alone")
    parser.add_argument("--seed", type=int, help="another draw of the sky and the noise")
    parser.add_argument("--make-table", action="store_true", help="write the source table anew")
    parser.add_argument("--no-catalog", action="store_true", help="our engine without a catalogue")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="options")
    chosen = parser.parse_args()
    changed = {k: yaml.safe_load(v) for k, v in (item.split("=", 1) for item in chosen.options)}
    config = reference_config(**changed)
    if chosen.make_table:
        write_sources(draw_sources(config.simulate), Path(config.simulate.source_table))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if chosen.seed is not None:
            drawn = config.simulate.model_copy(update={"seed": chosen.seed})
            table = write_sources(draw_sources(drawn), folder / "sky.csv")
            config.simulate = drawn.model_copy(update={"source_table": str(table)})
        found = compare(folder, config, chosen.empty, not chosen.no_catalog)
    print(json.dumps(found | {"seed": config.simulate.seed, "empty": chosen.empty} | changed))


if __name__ == "__main__":
    main()
