"""The station table of config/antennas.csv."""

import subprocess
import sys

import numpy as np

from dsaflow.instrument import read_stations


def test_stations_are_those_of_the_table(repository):
    stations = read_stations(repository / "config" / "antennas.csv")
    assert stations.number.tolist() == list(range(1, 118))
    assert stations.active.sum() == 96
    inactive = [10, 21, 22, 23, *range(52, 68), 117]
    assert stations.number[~stations.active].tolist() == inactive
    # DSA-103; a copy in circulation has it 233 m too far north
    assert stations.latitude_deg[102] == 37.2300025
    # the array stands within 3 km of the reference position, at the height of the valley
    itrf = stations.itrf_m()
    assert np.linalg.norm(itrf - np.median(itrf, axis=0), axis=1).max() < 3000
    assert np.abs(stations.height_m - 1182.6).max() < 30


def test_reading_stations_imports_no_pandas(repository):
    code = (
        "import sys; from dsaflow.instrument import read_stations; "
        "read_stations('config/antennas.csv'); assert 'pandas' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=repository, check=True)
