"""What every test shares: one thread a process, no display, real data where they are, raw files."""

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

# Read when numpy and numba are first imported, which happens after this file: two test processes
# on two cores get one thread each.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[_name] = "1"
os.environ["MPLBACKEND"] = "Agg"

_EPOCH = datetime(1858, 11, 17, tzinfo=UTC)
REPOSITORY = Path(__file__).resolve().parents[1]


# The files that take longer than half a minute, of the fast and of the slow tests, longest first.
LONGEST = (
    "test_demo", "test_chain", "test_truth_table", "test_faults", "test_wsclean_noise",
    "test_create_mosaic", "test_operate", "test_variability_survey", "test_beam_end_to_end",
    "test_api_night", "test_chromaticity", "test_imaging_truth", "test_launcher_crash",
    "test_handler", "test_mutations", "test_far_sources", "test_watch", "test_api_schema",
    "test_characterise", "test_epoch_scale", "test_recovery", "test_launcher",
    "test_cli_operate", "test_wsclean", "test_calibration_chain", "test_api_runs",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the files that take longest, so that the last process does not work alone."""
    rank = {f"{name}.py": k for k, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.name, len(rank)))


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the repository."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real data (docs/real-data.md); the test skips where it is absent."""
    place = os.environ.get("DSAFLOW_TEST_DATA")
    folder = Path(place) if place else REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        if place:
            pytest.fail(f"DSAFLOW_TEST_DATA={place} is no folder")
        pytest.skip("real data not here: ../shared/data is absent and DSAFLOW_TEST_DATA not set")
    return folder


@pytest.fixture(scope="session")
def shared_file(shared_data: Path) -> Callable[[str], Path]:
    """Look up one file of the real data, e.g. ``shared_file("catalogues/vlacalibrators.txt")``."""

    def lookup(relative: str) -> Path:
        path = shared_data / relative
        if not path.exists():
            pytest.skip(f"real data incomplete: no {relative}")
        return path

    return lookup


class RawTiles:
    """Writer of raw files of which only the header is there: enough for planning.

    Consecutive tiles of the strip on which 3C138 (in config/calibrators.csv) transits.

    Parameters
    ----------
    folder : Path
        Incoming folder; made where it is absent.
    middle_mjd : float
        Middle of the tile with number 0.
    """

    def __init__(self, folder: Path, middle_mjd: float, dec_deg: float = 16.1) -> None:
        from dsaflow.instrument import TILE_S

        self.folder, self.middle_mjd, self.dec_deg = folder, middle_mjd, dec_deg
        self.step_d = TILE_S / 86400.0
        folder.mkdir(exist_ok=True)

    def start_mjd(self, number: int) -> float:
        return self.middle_mjd + (number - 0.5) * self.step_d

    def tile(self, number: int) -> str:
        from dsaflow.names import tile_id

        return tile_id(_EPOCH + timedelta(days=self.start_mjd(number) + 0.5 / 86400.0))

    def write(self, number: int, subbands=range(16), age_s: float = 1e6) -> list[Path]:
        """Write (again) some subbands of a tile, last changed `age_s` ago."""
        import h5py
        import numpy as np

        from dsaflow.instrument import INTEGRATION_S
        from dsaflow.names import raw_name

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
