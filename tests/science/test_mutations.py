"""The physics broken on purpose in the pipeline, one error at a time: each must show against the truth.

The forward model shares no beam, delay or time with the pipeline, so an error made here does not
cancel. Bright sources and the unspoilt catalogue make the bounds tight; noise, bandpass, drifting
gains, beam motion and smearing are on.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.wcs import WCS

import dsaflow.calibration.apply
import dsaflow.calibration.skymodel
import dsaflow.geometry
import dsaflow.imaging.beam
import dsaflow.imaging.tile
import dsaflow.instrument
import dsaflow.transit
import dsaflow.visibilities.convert
import dsaflow.visibilities.group
from dsaflow.calibration.stages import apply_calibration, solve_bandpass, solve_gains
from dsaflow.config import Config
from dsaflow.errors import DataRejected
from dsaflow.imaging.products import tile_header
from dsaflow.instrument import PrimaryBeam, read_stations
from dsaflow.simulate.night import simulate_night, write_reference_catalog
from dsaflow.simulate.settings import SimulateSettings
from dsaflow.simulate.truth import truth_tables
from dsaflow.visibilities.flagfile import write_flags
from dsaflow.visibilities.ms import read_ms

ANTENNAS, CALIBRATORS = "config/antennas.csv", "config/calibrators.csv"
CENTRE_DEG = 80.2912, 16.07
SPECTRAL_INDEX = -0.7
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


def source_table(path, n_source=40, reach_deg=1.7, apart_deg=0.2):
    """Bright sources of 0.4 to 1.2 Jy anywhere in the beam, none near the calibrator."""
    rng = np.random.default_rng(7)
    places = [(0.0, 0.57)]
    while len(places) <= n_source:
        new = rng.uniform(-reach_deg, reach_deg, 2)
        # the calibrator's own sidelobes lie along its meridian
        clear = np.hypot(*new) < reach_deg and abs(new[0]) > 0.2
        if clear and min(np.hypot(*(new - p)) for p in places) > apart_deg:
            places.append(tuple(new))
    rows = ["ra_deg,dec_deg,flux_jy,spectral_index"]
    for (east, north), flux in zip(places[1:], rng.uniform(0.4, 1.2, n_source), strict=True):
        dec = CENTRE_DEG[1] + north
        ra = CENTRE_DEG[0] + east / np.cos(np.radians(dec))
        rows.append(f"{ra:.6f},{dec:.6f},{flux:.4f},{SPECTRAL_INDEX}")
    path.write_text("\n".join(rows) + "\n")
    return path


class Chain:
    """One tile from UVH5 to image; any stage can be run again into another folder."""

    def __init__(self, place: Path):
        self.place = place
        self.settings = SimulateSettings(
            seed=3, stations=40, channels_per_subband=1, n_tiles=1, n_epochs=1, variable_fraction=0.0,
            event={"kind": "none"}, source_table=str(source_table(place / "sky.csv")),
            effects={"rfi": False, "dead_antennas": False, "spoilt_catalog": False},
        )  # fmt: skip
        simulate_night(self.settings, 0, place / "incoming", ANTENNAS)
        write_reference_catalog(self.settings, place / "catalog.parquet")
        self.files = sorted(str(f) for f in (place / "incoming").iterdir())
        self.sources = truth_tables(self.settings)["sources"]
        self.base = self.run("convert", place / "base")

    def run(self, first: str, folder: Path):
        """Run the stages from `first` on; earlier products are those of the unbroken chain."""
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
        return self.measure(images, vis)

    def measure(self, images, vis):
        """Flux ratio, error, offset [arcsec] and response of each source, and the tile's noise."""
        world = WCS(tile_header(images, vis, {}))
        population = self.sources["kind"] == "constant"
        ra, dec, flux_1400 = (
            self.sources[name][population] for name in ("ra_deg", "dec_deg", "flux_jy")
        )
        flux_jy = flux_1400 * (images.freq_hz / 1.4e9) ** SPECTRAL_INDEX
        rows = []
        for x, y, flux in zip(*world.all_world2pix(ra, dec, 0), flux_jy, strict=True):
            response = images.beam[round(float(y)), round(float(x))]
            ratio = flux_at(images.image, x, y, images.restoring) / (response * flux)
            offset = np.hypot(*(np.array(peak_near(images.image, x, y)) - (x, y)))
            error = images.numbers["noise_jy"] / (response * flux)
            rows.append((ratio, error, offset * images.pixel_arcsec, response))
        return np.array(rows), images.numbers


def flux_at(image, x, y, beam, reach=3):
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


def peak_near(image, x, y, reach=2):
    """Summit of the Gaussian through the highest 3 x 3 pixels within `reach` of (x, y).

    The logarithm of a Gaussian is a parabola, so a quadratic through it is exact.
    """
    column, row = round(float(x)), round(float(y))
    box = image[row - reach : row + reach + 1, column - reach : column + reach + 1]
    down, right = np.unravel_index(np.argmax(box), box.shape)
    row, column = row + down - reach, column + right - reach
    cut = image[row - 1 : row + 2, column - 1 : column + 2].astype(float)
    if cut.min() <= 0:
        return float(column), float(row)
    v, u = np.mgrid[-1:2, -1:2].reshape(2, -1)
    design = np.stack([np.ones(9), u, v, u * u, u * v, v * v], axis=1)
    _, cu, cv, cuu, cuv, cvv = np.linalg.lstsq(design, np.log(cut.ravel()), rcond=None)[0]
    step = -np.linalg.solve([[2 * cuu, cuv], [cuv, 2 * cvv]], [cu, cv])
    return column + step[0], row + step[1]


def violations(measured):
    """Bounds from theory that a measurement breaks."""
    rows, numbers = measured
    ratio, error, offset, response = rows.T
    found = []

    def hold(name, value, bound):
        if not value <= bound:
            found.append(f"{name} = {value:.4g} > {bound:.4g}")

    for name, chosen in (("all", response > 0), ("outer", response < 0.45)):
        statistical = 1.25 * np.sqrt((error[chosen] ** 2).sum()) / chosen.sum()
        hold(f"flux scale, {name}", abs(np.median(ratio[chosen]) - 1), 0.004 + 3 * statistical)
    # centroid: sigma = 0.6 beam / (S/N), over both coordinates
    centroid = 0.6 * numbers["beam_major_arcsec"] * np.median(error)
    hold("offset", np.median(offset), min(2.0, 0.3 + 2 * centroid))
    hold("noise over radiometer", numbers["noise_jy"] / numbers["radiometer_jy"], 1.5)
    return found


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    return Chain(tmp_path_factory.mktemp("mutations"))


def test_the_unbroken_chain_holds_every_bound(chain):
    rows, _ = chain.base
    assert len(rows) == 40
    assert violations(chain.base) == []


def squared_beam(patch):
    true = dsaflow.instrument.airy_power
    patch.setattr(dsaflow.instrument, "airy_power", lambda *a: true(*a) ** 2)


def sidereal_time_for_right_ascension(patch):
    def of_date(time_mjd, apparent_dec_deg, site=dsaflow.geometry.DSA110):
        lst = dsaflow.geometry.local_apparent_sidereal_time(time_mjd, site)
        ra = np.degrees(lst).reshape(np.shape(time_mjd))
        return ra, np.broadcast_to(apparent_dec_deg, ra.shape)

    patch.setattr(dsaflow.transit, "meridian_icrs", of_date)


def catalogue_places_taken_as_of_date(patch):
    def of_date(time_mjd, ra_deg, dec_deg, site=dsaflow.geometry.DSA110):
        time_mjd, ra, dec = np.broadcast_arrays(time_mjd, np.radians(ra_deg), np.radians(dec_deg))
        lst = dsaflow.geometry.local_apparent_sidereal_time(np.ravel(time_mjd), site)
        return (lst.reshape(ra.shape) - ra + np.pi) % (2 * np.pi) - np.pi, dec

    patch.setattr(dsaflow.geometry, "hour_angle_declination", of_date)


def sign_of_w_in_phasing(patch):
    true = dsaflow.geometry.projected_baselines
    patch.setattr(
        dsaflow.geometry, "projected_baselines", lambda *a, **k: true(*a, **k) * [1, 1, -1]
    )


def sign_of_w_in_imaging(patch):
    true = dsaflow.imaging.tile.Gridder

    def flipped(uvw_m, *arguments, **options):
        return true(uvw_m * [1, 1, -1], *arguments, **options)

    patch.setattr(dsaflow.imaging.tile, "Gridder", flipped)


def receptors_swapped_before_application(patch):
    true = dsaflow.calibration.apply.divide_gains
    patch.setattr(
        dsaflow.calibration.apply,
        "divide_gains",
        lambda data, flags, gain, vis: true(data, flags, gain[..., ::-1], vis),
    )


def two_percent_of_flux(patch):
    true = dsaflow.calibration.apply.divide_gains
    patch.setattr(
        dsaflow.calibration.apply,
        "divide_gains",
        lambda data, flags, gain, vis: true(data, flags, gain * np.sqrt(1.02), vis),
    )


def subbands_in_the_order_of_their_names(patch):
    true = dsaflow.visibilities.group._subband_grid

    def by_name(headers):
        freq_hz, channels = true(headers)
        return freq_hz, channels[::-1]

    patch.setattr(dsaflow.visibilities.group, "_subband_grid", by_name)


def one_pixel(patch):
    true = dsaflow.imaging.tile.image_visibilities

    def shifted(*arguments, **options):
        images = true(*arguments, **options)
        planes = {name: np.roll(getattr(images, name), 1, axis=1) for name in ("image", "residual")}
        return replace(images, **planes)

    patch.setattr(dsaflow.imaging.tile, "image_visibilities", shifted)


MUTATIONS = {
    squared_beam: "solve",
    sidereal_time_for_right_ascension: "solve",
    catalogue_places_taken_as_of_date: "convert",
    sign_of_w_in_phasing: "convert",
    sign_of_w_in_imaging: "image",
    receptors_swapped_before_application: "apply",
    two_percent_of_flux: "apply",
    subbands_in_the_order_of_their_names: "convert",
    one_pixel: "image",
}


@pytest.mark.parametrize("mutate", MUTATIONS, ids=lambda function: function.__name__)
def test_an_error_shows(chain, mutate, monkeypatch, tmp_path):
    mutate(monkeypatch)
    try:
        measured = chain.run(MUTATIONS[mutate], tmp_path / "broken")
    except DataRejected:
        return  # refused before any image was made
    assert violations(measured) != []
