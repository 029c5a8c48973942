"""One tile of bright sources from raw files to its image, scored by bounds tight enough to show a wrong beam."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from astropy.wcs import WCS
from numpy.typing import NDArray

# modules, not their functions: mutations replace what these hold
import dsaflow.imaging.tile
import dsaflow.visibilities.convert
from dsaflow.calibration.stages import apply_calibration, solve_bandpass, solve_gains
from dsaflow.config import Config
from dsaflow.imaging.products import TileImages, tile_header
from dsaflow.imaging.restore import RestoringBeam
from dsaflow.instrument import PrimaryBeam, read_stations
from dsaflow.simulate.night import simulate_night
from dsaflow.simulate.settings import SimulateSettings
from dsaflow.simulate.truth import truth_tables, write_reference_catalog
from dsaflow.visibilities.container import Visibilities
from dsaflow.visibilities.flagfile import write_flags
from dsaflow.visibilities.ms import read_ms

ANTENNAS, CALIBRATORS = "config/antennas.csv", "config/calibrators.csv"
CENTRE_DEG = 80.2912, 16.07
CALIBRATOR_NORTH_DEG = 0.57
SPECTRAL_INDEX = -0.7
N_SOURCE, REACH_DEG, APART_DEG, OUTER_DEG = 40, 1.7, 0.2, 1.35
# Amplitude of the Y gains over the X gains.
RECEPTOR_RATIO = 1.2
CONFIG = Config.model_validate(
    {
        "image": {
            "size": 660,
            "pixel_arcsec": 28.0,
            "gridding_accuracy": 1e-3,
            "channel_blocks": 1,
            "beam_terms": 3,
            "major_iterations": 6,
        }
    }
)
STAGES = ("convert", "solve", "apply", "image")


@dataclass(frozen=True)
class Check:
    """One bound: `value` <= `bound` holds; a value that is no number does not."""

    name: str
    value: float
    bound: float

    @property
    def holds(self) -> bool:
        """Whether the bound holds."""
        return bool(self.value <= self.bound)


def write_sources(path: Path, seed: int = 7) -> Path:
    """Bright sources of 0.4 to 1.2 Jy anywhere in the beam, none near the calibrator."""
    rng = np.random.default_rng(seed)
    places = [(0.0, CALIBRATOR_NORTH_DEG)]
    while len(places) <= N_SOURCE:
        east, north = rng.uniform(-REACH_DEG, REACH_DEG, 2)
        # the calibrator's own sidelobes lie along its meridian
        clear = np.hypot(east, north) < REACH_DEG and abs(east) > 0.2
        if clear and min(np.hypot(east - e, north - n) for e, n in places) > APART_DEG:
            places.append((east, north))
    rows = ["ra_deg,dec_deg,flux_jy,spectral_index"]
    for (east, north), flux in zip(places[1:], rng.uniform(0.4, 1.2, N_SOURCE), strict=True):
        dec = CENTRE_DEG[1] + north
        ra = CENTRE_DEG[0] + east / np.cos(np.radians(dec))
        rows.append(f"{ra:.6f},{dec:.6f},{flux:.4f},{SPECTRAL_INDEX}")
    path.write_text("\n".join(rows) + "\n")
    return path


class OneTile:
    """One tile from UVH5 to image; any stage can be run again into another folder.

    The forward model shares no beam, delay or time with the pipeline, so an error of either does
    not cancel. The catalogue is unspoilt; noise, bandpass, drifting gains, beam motion and smearing
    are on, and the Y receptors' gains are 20 % above the X receptors'.

    Parameters
    ----------
    place : Path
        Folder for raw data and products; made where it is absent.
    seed : int
        Of noise and gains.
    sky_seed : int
        Of the sources' places and fluxes.
    """

    def __init__(self, place: Path, seed: int = 3, sky_seed: int = 7) -> None:
        place.mkdir(parents=True, exist_ok=True)
        self.place = place
        table = write_sources(place / "sky.csv", sky_seed)
        settings = SimulateSettings.model_validate(
            {
                "seed": seed, "stations": 40, "channels_per_subband": 1, "n_tiles": 1, "n_epochs": 1,
                "variable_fraction": 0.0, "event": {"kind": "none"}, "source_table": str(table),
                "effects": {"rfi": False, "dead_antennas": False, "spoilt_catalog": False},
            }
        )  # fmt: skip
        simulate_night(settings, 0, place / "incoming", ANTENNAS)
        write_reference_catalog(settings, place / "catalog.parquet")
        self.files = sorted(str(f) for f in (place / "incoming").iterdir())
        for file in self.files:
            _raise_second_receptor(file)
        self.sources = truth_tables(settings)["sources"]
        self.base = self.run("convert", place / "base")

    def run(self, first: str, folder: Path) -> list[Check]:
        """Run the stages from `first` on; earlier products are those of the unbroken chain.

        Parameters
        ----------
        first : str
            One of `STAGES`.
        folder : Path
            For what is made anew.

        Raises
        ------
        DataRejected, ConfigError
            As the stages do.
        """
        folder.mkdir()
        fresh = STAGES[STAGES.index(first) :]
        at = {s: (folder if s in fresh else self.place / "base") for s in STAGES}
        ms, flags = at["convert"] / "data.ms", at["convert"] / "flags.h5"
        bandpass, gains = at["solve"] / "bandpass.h5", at["solve"] / "gains.h5"
        catalog, corrected = self.place / "catalog.parquet", at["apply"] / "calibrated.ms"
        if "convert" in fresh:
            convert = dsaflow.visibilities.convert.convert_tile
            convert(self.files, ms, CONFIG, read_stations(ANTENNAS))
            write_flags(flags, read_ms(ms).flags)
        if "solve" in fresh:
            solve_bandpass(ms, flags, catalog, CALIBRATORS, bandpass, CONFIG)
            solve_gains(ms, flags, [bandpass], catalog, gains, CONFIG)
        if "apply" in fresh:
            apply_calibration(ms, flags, [bandpass], [gains], corrected, CONFIG)
        vis = read_ms(corrected)
        beam = PrimaryBeam.from_config(CONFIG.instrument.beam)
        images = dsaflow.imaging.tile.image_visibilities(
            vis, CONFIG.image, beam, CONFIG.instrument.sefd_jy
        )
        return self.checks(images, vis)

    def checks(self, images: TileImages, vis: Visibilities) -> list[Check]:
        """Measure the image against the truth.

        Notes
        -----
        Sources far out are chosen by their true places, not by the pipeline's beam. The error of a
        median is 1.25 times that of a mean; that of a centroid 0.6 beams / (S/N) over both axes.
        """
        ratio, error, offset, outer = self._compare(images, vis)
        found = []
        for name, chosen in (("all", np.ones_like(outer)), ("outer", outer)):
            statistical = 1.25 * np.sqrt((error[chosen] ** 2).sum()) / chosen.sum()
            off = abs(float(np.median(ratio[chosen])) - 1)
            found.append(Check(f"flux scale, {name}", off, 0.004 + 3 * statistical))
        centroid = 0.6 * images.numbers["beam_major_arcsec"] * float(np.median(error))
        found.append(Check('offset ["]', float(np.median(offset)), min(2.0, 0.3 + 2 * centroid)))
        noise = images.numbers["noise_jy"] / images.numbers["radiometer_jy"]
        found.append(Check("noise over radiometer", float(noise), 1.3))
        return found

    def _compare(self, images: TileImages, vis: Visibilities) -> tuple[NDArray, ...]:
        """Flux ratio, its error, offset [arcsec] of each source, and whether it is far out."""
        world = WCS(tile_header(images, vis, {}))
        population = self.sources["kind"] == "constant"
        ra, dec, flux_1400 = (
            np.asarray(self.sources[name][population], float)
            for name in ("ra_deg", "dec_deg", "flux_jy")
        )
        flux_jy = flux_1400 * (images.freq_hz / 1.4e9) ** SPECTRAL_INDEX
        east = (ra - CENTRE_DEG[0]) * np.cos(np.radians(dec))
        rows: list[Any] = []
        for x, y, flux in zip(*world.all_world2pix(ra, dec, 0), flux_jy, strict=True):
            response = images.beam[round(float(y)), round(float(x))]
            ratio = flux_at(images.image, x, y, images.restoring) / (response * flux)
            offset = np.hypot(*(np.array(peak_near(images.image, x, y)) - (x, y)))
            error = images.numbers["noise_jy"] / (response * flux)
            rows.append((ratio, error, offset * images.pixel_arcsec))
        return *np.array(rows).T, np.hypot(east, dec - CENTRE_DEG[1]) > OUTER_DEG


def _raise_second_receptor(file: str) -> None:
    with h5py.File(file, "r+") as raw:
        data = raw["Data/visdata"]
        values = data[()]
        values[..., 1] *= RECEPTOR_RATIO**2
        data[...] = values


def flux_at(image: NDArray, x: float, y: float, beam: RestoringBeam, reach: int = 3) -> float:
    """Amplitude of the restoring beam, held at (x, y), that fits the image best."""
    column, row = round(float(x)), round(float(y))
    cut = image[row - reach : row + reach + 1, column - reach : column + reach + 1]
    north, west = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    north, west = north - (y - row), west - (x - column)
    angle = np.radians(beam.angle_deg)
    major = north * np.cos(angle) - west * np.sin(angle)
    minor = north * np.sin(angle) + west * np.cos(angle)
    scaled = (major / beam.major_pixel) ** 2 + (minor / beam.minor_pixel) ** 2
    shape = np.exp(-4 * np.log(2) * scaled)
    return float((shape * cut).sum() / (shape**2).sum())


def peak_near(image: NDArray, x: float, y: float, reach: int = 2) -> tuple[float, float]:
    """Summit of the Gaussian through the highest 3 x 3 pixels within `reach` of (x, y).

    The logarithm of a Gaussian is a parabola, so a quadratic through it is exact.
    """
    column, row = round(float(x)), round(float(y))
    box = image[row - reach : row + reach + 1, column - reach : column + reach + 1]
    down, right = (int(i) for i in np.unravel_index(np.argmax(box), box.shape))
    row, column = row + down - reach, column + right - reach
    cut = image[row - 1 : row + 2, column - 1 : column + 2].astype(float)
    if cut.min() <= 0:
        return float(column), float(row)
    v, u = np.mgrid[-1:2, -1:2].reshape(2, -1)
    design = np.stack([np.ones(9), u, v, u * u, u * v, v * v], axis=1)
    _, cu, cv, cuu, cuv, cvv = np.linalg.lstsq(design, np.log(cut.ravel()), rcond=None)[0]
    step = -np.linalg.solve([[2 * cuu, cuv], [cuv, 2 * cvv]], [cu, cv])
    return column + float(step[0]), row + float(step[1])
