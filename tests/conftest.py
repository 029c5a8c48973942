"""What every test shares: one thread a process, no display, and the real data where they are."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

# Read when numpy and numba are first imported, which happens after this file: two test processes
# on two cores get one thread each.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[_name] = "1"
os.environ["MPLBACKEND"] = "Agg"

REPOSITORY = Path(__file__).resolve().parents[1]


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
