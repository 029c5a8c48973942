"""Far sources of the forward model through the beam's sidelobes: found, fitted, subtracted; noise and fluxes after it.

The forward model sums them with its own delays, smearing, beam, Sun and disc.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

import dsaflow.calibration.solve_bandpass
import dsaflow.far.fringes
from dsaflow.calibration.stages import solve_bandpass
from dsaflow.catalog import Catalog, read_catalog, write_catalog
from dsaflow.config import Config
from dsaflow.far import FarOptions, subtract_far
from dsaflow.far.sources import sun_place
from dsaflow.imaging.products import TileImages
from dsaflow.imaging.tile import image_visibilities
from dsaflow.instrument import PrimaryBeam, read_stations
from dsaflow.simulate.night import simulate_night, write_reference_catalog
from dsaflow.simulate.settings import SimulateSettings
from dsaflow.simulate.sun import sun_enu
from dsaflow.visibilities.container import Visibilities
from dsaflow.visibilities.convert import convert_tile
from dsaflow.visibilities.flagfile import write_flags
from dsaflow.visibilities.ms import read_ms

ANTENNAS = "config/antennas.csv"
BEAM = PrimaryBeam(4.65)
OPTIONS = FarOptions(min_jy=1.0, radius_deg=10.0, sigma=5.0)
SEFD_JY = 6500.0
CONFIG = Config.model_validate(
    {
        "image": {
            "size": 640,
            "pixel_arcsec": 27.0,
            "gridding_accuracy": 1e-3,
            "channel_blocks": 1,
            "beam_terms": 3,
        }
    }
)
# 3C138 transits at noon
SUMMER = "2026-06-10T00:00:00"
EAST = "ra_deg,dec_deg,flux_jy,spectral_index\n"


@dataclass
class Observed:
    """A simulated tile without gains, and its catalogue."""

    ms: Path
    catalog: Catalog

    def read(self) -> Visibilities:
        return read_ms(self.ms)

    def image(self, subtract: bool) -> TileImages:
        options = CONFIG.image.model_copy(update={"far_sources": subtract})
        return image_visibilities(self.read(), options, BEAM, SEFD_JY, catalog=self.catalog)


def observe(folder: Path, effects: dict | None = None, **settings) -> Observed:
    """One tile in Jy: noise, moving beam and smearing, and the effects asked for."""
    off = dict.fromkeys(("bandpass", "gain_drift", "rfi", "dead_antennas"), False)
    chosen = SimulateSettings.model_validate(
        {
            "stations": 48, "channels_per_subband": 1, "n_tiles": 1, "n_epochs": 1,
            "correlator_unit": 1.0, "epoch_gain_rms": 0.0, "common_gain_rms": 0.0,
            "variable_fraction": 0.0, "event": {"kind": "none"}, "max_sources": 100,
            "effects": off | (effects or {}), **settings,
        }
    )  # fmt: skip
    simulate_night(chosen, 0, folder / "incoming", ANTENNAS)
    write_reference_catalog(chosen, folder / "catalog.parquet")
    files = sorted(str(f) for f in (folder / "incoming").iterdir())
    convert_tile(files, folder / "data.ms", CONFIG, read_stations(ANTENNAS))
    return Observed(folder / "data.ms", read_catalog(folder / "catalog.parquet"))


def power_over_noise(vis: Visibilities) -> float:
    """Mean power of the visibilities over the radiometer's."""
    noise = SEFD_JY**2 / (vis.channel_width_hz * vis.integration_s)
    return float(np.mean(np.abs(vis.data[~vis.flags]) ** 2) / noise)


def without(observed: Observed):
    vis = observed.read()
    inside = np.zeros(len(observed.catalog), bool)
    fit = subtract_far(vis, [0, 1], observed.catalog, inside, BEAM, OPTIONS)
    return vis, fit


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """Nothing but three far sources and the Sun: 26, 0.5, 330 and 1850 Jy apparent.

    The third is brighter than any in the sky, so that its smearing shows on 400 m.
    """
    folder = tmp_path_factory.mktemp("bare")
    rows = "83.15,19.28,1700,-0.7\n72.2,12.5,900,-0.7\n80.6,8.2,200000,-0.7\n"
    (folder / "sky.csv").write_text(EAST + rows)
    return observe(
        folder,
        {"far_sources": True, "sun": True, "spoilt_catalog": False},
        start=SUMMER, source_table=str(folder / "sky.csv"), calibrator="", centre_ra_deg=80.3,
    )  # fmt: skip


def test_nothing_of_far_sources_and_sun_is_left(bare):
    """Radiometer's power to 0.5 %: 1e-3 of the Sun's amplitude would leave as much."""
    before = power_over_noise(bare.read())
    vis, fit = without(bare)
    assert "Sun" in fit.sources.name
    assert len(fit.sources) == 4
    assert before > 1000
    # 9e5 visibilities: 0.1 % of the power
    assert power_over_noise(vis) == pytest.approx(1, abs=0.005)
    assert fit.n_parameters < 1e-3 * vis.data.size


@pytest.mark.parametrize("name", ["_sinc", "extent"])
def test_smearing_and_the_suns_disc_are_needed(bare, monkeypatch, name):
    monkeypatch.setattr(dsaflow.far.fringes, name, lambda x, *_: np.ones_like(x, np.float32))
    vis, _ = without(bare)
    assert power_over_noise(vis) > 1.005


def test_nothing_is_subtracted_from_noise(tmp_path):
    (tmp_path / "sky.csv").write_text(EAST + "80.0,16.0,1e-6,-0.7\n75.0,12.0,1e-6,-0.7\n")
    dark = observe(
        tmp_path, {"spoilt_catalog": False}, source_table=str(tmp_path / "sky.csv"),
        calibrator="", centre_ra_deg=80.3,
    )  # fmt: skip
    before = dark.read()
    vis, fit = without(dark)
    # the A-team is above, and out of the forward model's sky
    assert fit.n_candidates >= 4
    assert len(fit.sources) == 0
    np.testing.assert_array_equal(vis.data, before.data)


def test_the_suns_place_is_astropys(bare):
    """Aberration, light time, the observer's place: each off by more would show (20, 20, 9 arcsec)."""
    vis = bare.read()
    hour_angle, dec = sun_place(vis)
    lat = np.radians(vis.site_deg_m[1])
    east = -np.cos(dec) * np.sin(hour_angle)
    north = np.cos(lat) * np.sin(dec) - np.sin(lat) * np.cos(dec) * np.cos(hour_angle)
    up = np.sin(lat) * np.sin(dec) + np.cos(lat) * np.cos(dec) * np.cos(hour_angle)
    truth = sun_enu(vis.time_mjd + 2400000.5)
    off = np.linalg.norm(np.stack([east, north, up], axis=1) - truth, axis=1)
    assert np.degrees(off.max()) * 3600 < 0.2


def compared(tmp_path: Path, seed: int, effects: dict, **settings):
    """Images of the sky without far sources, with them, and with them subtracted."""
    field = {
        "calibrator": "",
        "centre_ra_deg": 80.3,
        "max_sources": 60,
        "max_flux_jy": 0.9,
        "seed": seed,
    }
    none = observe(tmp_path / "none", **field, **settings)
    with_far = observe(tmp_path / "far", effects, **field, **settings)
    return none.image(True), with_far.image(False), with_far.image(True)


def check_gain(none: TileImages, spoilt: TileImages, cured: TileImages, loss: float) -> None:
    base = none.numbers["noise_jy"]
    assert none.numbers["far_subtracted"] == 0
    assert spoilt.numbers["noise_jy"] > loss * base
    assert cured.numbers["noise_jy"] == pytest.approx(base, rel=0.03)
    # the same noise is in both: what differs is what subtracting did
    strong = none.image > 20 * base
    ratio = cured.image[strong] / none.image[strong]
    assert strong.sum() > 20
    assert np.median(ratio) == pytest.approx(1, abs=0.005)
    assert np.std(cured.image - none.image) < 0.5 * base


def test_noise_and_fluxes_are_those_of_a_sky_without_far_sources(tmp_path):
    none, spoilt, cured = compared(tmp_path, 1, {"far_sources": True})
    assert cured.numbers["far_each_jy"][0] == pytest.approx(26.2, rel=0.02)
    check_gain(none, spoilt, cured, loss=5)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [2, 3])
def test_noise_and_fluxes_in_other_skies(tmp_path, seed):
    check_gain(*compared(tmp_path, seed, {"far_sources": True}), loss=5)


@pytest.mark.slow
def test_the_sun_by_day(tmp_path):
    images = compared(tmp_path, 2, {"sun": True}, start=SUMMER)
    check_gain(*images, loss=1.5)
    assert images[2].numbers["far_names"] == ["Sun"]


@pytest.mark.slow
def test_a_bandpass_beside_a_sidelobe_that_nobody_knows(tmp_path, monkeypatch):
    """26 Jy in a sidelobe, modelled 30 % too faint: the calibrator's 6 Jy are found again, or it is refused."""
    observed = observe(
        tmp_path, {"far_sources": True, "bandpass": True, "gain_drift": True}, seed=1
    )
    faint = np.where(observed.catalog.flux_jy > 1000, 0.7, 1.0) * observed.catalog.flux_jy
    write_catalog(tmp_path / "faint.parquet", replace(observed.catalog, flux_jy=faint))
    write_flags(tmp_path / "flags.h5", observed.read().flags)

    def solve():
        return solve_bandpass(
            observed.ms, tmp_path / "flags.h5", tmp_path / "faint.parquet",
            "config/calibrators.csv", tmp_path / "bandpass.h5", CONFIG,
        )  # fmt: skip

    solved = solve()
    assert solved.usable
    assert solved.numbers["calibrator_factor"] == pytest.approx(1, abs=0.02)
    monkeypatch.setattr(dsaflow.calibration.solve_bandpass, "_SIDELOBE_ROUNDS", 0)
    refused = solve()
    assert not refused.usable
    assert "calibrator_factor" in refused.detail
