"""Earth orientation for astropy, read quickly and never extrapolated."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsaflow.errors import ConfigError

_CHUNK_D = 400
_MARGIN_D = 40


@contextmanager
def earth_orientation(jd_utc: NDArray) -> Iterator[None]:
    """Let astropy use the installed IERS table around these times, without network.

    Raises
    ------
    ConfigError
        A time beyond the table's predictions: astropy would go on with UT1 = UTC, up to 15 arcsec
        wrong, after a warning.
    """
    from astropy.utils import iers

    mjd = np.atleast_1d(jd_utc) - 2400000.5
    table = _table(int(mjd.min() // _CHUNK_D))
    first, last = float(table["MJD"][0].value), float(table["MJD"][-1].value)
    if mjd.min() < first or mjd.max() > last:
        raise ConfigError(
            f"simulate.start: Earth orientation is known to MJD {last:.0f}, not at "
            f"{mjd.max():.1f}; choose an earlier start or install a newer astropy-iers-data"
        )
    with iers.conf.set_temp("auto_download", False), iers.earth_orientation_table.set(table):
        yield


@lru_cache(maxsize=4)
def _table(chunk: int) -> Any:
    """Some 480 days of the table: astropy's own reader takes seconds over its 50 years."""
    from astropy import units as u
    from astropy.utils import iers

    low, high = chunk * _CHUNK_D - _MARGIN_D, (chunk + 1) * _CHUNK_D + _MARGIN_D
    rows = []
    for line in Path(iers.IERS_A_FILE).read_text().splitlines():
        if low <= float(line[7:15]) <= high and line[58:68].strip():
            # final values (Bulletin B) where there are any, as astropy does
            final = line[154:165].strip() and line[134:144].strip()
            columns = (
                ((134, 144), (144, 154), (154, 165)) if final else ((18, 27), (37, 46), (58, 68))
            )
            rows.append([float(line[7:15]), *(float(line[slice(*c)]) for c in columns)])
    if not rows:
        raise ConfigError(
            f"simulate.start: Earth orientation is not known between MJD {low} and {high}; "
            "choose another start or install a newer astropy-iers-data"
        )
    mjd, pole_x, pole_y, ut1_utc = np.array(rows).T
    return iers.IERS(
        {
            "MJD": mjd * u.d,
            "PM_x": pole_x * u.arcsec,
            "PM_y": pole_y * u.arcsec,
            "UT1_UTC": ut1_utc * u.s,
        }
    )
