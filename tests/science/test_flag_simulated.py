"""Flagging of the forward model's own interference: the same night with and without it gives the truth."""

from dataclasses import dataclass

import numpy as np
import pytest

from dsaflow.config import load_config
from dsaflow.instrument import read_stations
from dsaflow.simulate import effects
from dsaflow.simulate.array import read_array
from dsaflow.simulate.night import simulate_night
from dsaflow.simulate.settings import SimulateSettings
from dsaflow.visibilities.container import Visibilities
from dsaflow.visibilities.convert import convert_tile
from dsaflow.visibilities.flag import flag_visibilities
from dsaflow.visibilities.ms import read_ms

ANTENNAS = "config/antennas.csv"
DECLINATION_DEG = {"3C138": 16.1, "3C147": 49.9, "": 54.6}


@dataclass
class Tile:
    """Visibilities with interference, those without, and the noise's sigma, all in correlator units."""

    spoilt: Visibilities
    clean: np.ndarray
    sigma: np.ndarray
    alive: np.ndarray
    dead: list

    def measures(self, strength=1.0):
        """Found above 3 sigma, lost of the clean, growth of an image's noise; interference scaled."""
        ours = self.spoilt.data
        self.spoilt.data = self.clean + np.float32(strength) * (ours - self.clean)
        flags, numbers = flag_visibilities(self.spoilt, load_config().flag)
        self.spoilt.data = ours
        assert numbers["dead_antennas"] == {"XX": self.dead, "YY": self.dead}
        snr = (strength * np.abs(ours - self.clean) / self.sigma)[:, self.alive]
        flagged = flags[:, self.alive]
        left = np.where(flagged, 0, snr)
        # as if what stays on a baseline added in phase: an upper bound
        power = np.sum(left.sum(axis=(0, 2, 3)) ** 2)
        growth = np.sqrt(1 + power / (2 * np.count_nonzero(~flagged))) - 1
        return flagged[snr > 3].mean(), flagged[snr == 0].mean(), growth


@pytest.fixture
def make_tile(tmp_path):
    def make(seed, calibrator, channels, far_sources=False):
        visibilities = []
        for rfi in (True, False):
            settings = SimulateSettings(
                seed=seed, stations=40, channels_per_subband=channels, n_tiles=1, n_epochs=1,
                max_sources=100, event={"kind": "none"}, calibrator=calibrator,
                declination_deg=DECLINATION_DEG[calibrator], dead_antennas=["12", "81"],
                effects={"rfi": rfi, "far_sources": far_sources},
            )  # fmt: skip
            incoming, ms = tmp_path / f"incoming_{rfi}", tmp_path / f"{rfi}.ms"
            simulate_night(settings, 0, incoming, ANTENNAS)
            files = sorted(str(path) for path in incoming.iterdir())
            convert_tile(files, ms, load_config(), read_stations(ANTENNAS))
            visibilities.append(read_ms(ms))
        spoilt, clean = visibilities
        return Tile(spoilt, clean.data, *receivers(settings, spoilt))

    return make


def receivers(settings, vis):
    """Sigma of one component of each visibility; live baselines; dead antennas."""
    array = read_array(ANTENNAS, settings.stations)
    slot = [list(array.name).index(name) for name in vis.antenna_name]
    drift = effects.gains(settings, 0, 0, len(array.name), vis.time_mjd + 2400000.5)[:, slot]
    shape = effects.bandpass(settings, len(array.name), vis.freq_hz)[slot]
    gain = np.abs(drift[:, None] * shape.transpose(2, 0, 1))
    radiometer_jy = settings.sefd_jy / np.sqrt(2 * vis.channel_width_hz * vis.integration_s)
    sigma = gain[:, :, vis.antenna1] * gain[:, :, vis.antenna2] * radiometer_jy
    dead = np.isin(vis.antenna_name, settings.dead_antennas)
    return (
        sigma.transpose(0, 2, 1, 3) * settings.correlator_unit,
        ~(dead[vis.antenna1] | dead[vis.antenna2]),
        [name for name, d in zip(vis.antenna_name, dead, strict=True) if d],
    )


@pytest.mark.parametrize(
    ("seed", "calibrator", "channels"),
    [(31, "3C138", 1), (32, "3C138", 1), (33, "", 1), (34, "", 8), (35, "3C147", 12)],
)
def test_interference_of_the_forward_model(make_tile, seed, calibrator, channels):
    tile = make_tile(seed, calibrator, channels)
    assert len(tile.dead) == 2
    # as simulated, 8 to 77 times the noise; and a tenth of it, at the noise's own size
    for strength in (1.0, 0.1):
        found, lost, growth = tile.measures(strength)
        assert found >= 0.95
        assert 0 < lost < 0.03
        assert growth < 0.05


def test_a_source_as_bright_as_cas_a_in_a_sidelobe_is_no_interference(make_tile):
    found, lost, growth = make_tile(36, "", 2, far_sources=True).measures()
    assert found >= 0.95
    assert 0 < lost < 0.03
    assert growth < 0.05
