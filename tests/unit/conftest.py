"""Raw files of which only the header is there: enough for planning."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import h5py
import numpy as np
import pytest

from dsaflow.instrument import INTEGRATION_S, TILE_S
from dsaflow.names import raw_name, tile_id

_EPOCH = datetime(1858, 11, 17, tzinfo=UTC)


class RawTiles:
    """Writer of consecutive tiles of the strip on which 3C138 (in config/calibrators.csv) transits.

    Parameters
    ----------
    folder : Path
        Incoming folder; made where it is absent.
    middle_mjd : float
        Middle of the tile with number 0.
    """

    def __init__(self, folder: Path, middle_mjd: float, dec_deg: float = 16.1) -> None:
        self.folder, self.middle_mjd, self.dec_deg = folder, middle_mjd, dec_deg
        folder.mkdir(exist_ok=True)

    def start_mjd(self, number: int) -> float:
        return self.middle_mjd + (number - 0.5) * TILE_S / 86400.0

    def tile(self, number: int) -> str:
        return tile_id(_EPOCH + timedelta(days=self.start_mjd(number) + 0.5 / 86400.0))

    def write(self, number: int, subbands=range(16), age_s: float = 1e6) -> list[Path]:
        """Write (again) some subbands of a tile, last changed `age_s` ago."""
        start_mjd = self.start_mjd(number)
        times = start_mjd + 2400000.5 + (np.arange(24) + 0.5) * INTEGRATION_S / 86400.0
        paths = []
        for subband in subbands:
            path = self.folder / raw_name(_EPOCH + timedelta(days=start_mjd), subband)
            with h5py.File(path, "w") as file:
                header = file.create_group("Header")
                header["time_array"] = np.repeat(times, 3)
                header["integration_time"] = np.full(72, INTEGRATION_S)
                header["freq_array"] = np.linspace(1.4e9, 1.39e9, 4) - subband * 11.7e6
                header["Ntimes"], header["Nfreqs"], header["Nants_data"] = 24, 4, 96
                header["extra_keywords/phase_center_dec"] = np.radians(self.dec_deg)
            when = datetime.now(UTC).timestamp() - age_s
            os.utime(path, (when, when))
            paths.append(path)
        return paths


@pytest.fixture(scope="session")
def raw_tiles():
    """Maker of a writer: ``raw_tiles(folder)``, tile 0 on a transit of 3C138."""
    from dsaflow.transit import nearest_transit_mjd

    middle_mjd = nearest_transit_mjd(80.2911918, 16.6394587, 61050.0)
    return lambda folder: RawTiles(folder, middle_mjd)
