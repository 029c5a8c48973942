"""When each tile is observed, and the sky that is above."""

import os
from datetime import UTC, datetime
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from dsaflow.simulate.array import INTEGRATION_S, meridian_icrs_deg, transit_jd
from dsaflow.simulate.settings import SimulateSettings
from dsaflow.simulate.sky import CALIBRATORS, Sky, make_sky

_SIDEREAL_DAY_D = 86164.0905 / 86400.0
_JD_UNIX = 2440587.5


def tile_jd(settings: SimulateSettings, epoch: int, tile: int) -> NDArray:
    """UTC JD of the middle of each integration of a tile.

    Night k is k sidereal days after night 0, whose tiles are centred on the centre's transit.
    """
    middle = _first_transit(settings.model_dump_json()) + epoch * _SIDEREAL_DAY_D
    length_d = settings.integrations * INTEGRATION_S / 86400
    start = middle + (tile - 0.5 * settings.n_tiles) * length_d
    return start + (np.arange(settings.integrations) + 0.5) * INTEGRATION_S / 86400


def nights(settings: SimulateSettings) -> list[int]:
    """Nights with data."""
    return [n for n in range(settings.n_epochs) if n not in settings.missing_epochs]


@lru_cache(maxsize=4)
def _first_transit(settings_json: str) -> float:
    settings = SimulateSettings.model_validate_json(settings_json)
    begin = datetime.fromisoformat(settings.start).replace(tzinfo=UTC)
    jd = begin.timestamp() / 86400 + _JD_UNIX
    if settings.calibrator:
        ra_deg, dec_deg, _ = CALIBRATORS[settings.calibrator]
    else:
        ra_deg, dec_deg = settings.centre_ra_deg, settings.declination_deg
    return transit_jd(ra_deg, dec_deg, jd)


def pointing_track(settings: SimulateSettings) -> tuple[NDArray, NDArray]:
    """ICRS position [deg] of the pointing at the start and the end of every tile of night 0."""
    jd = np.concatenate([tile_jd(settings, 0, tile)[[0, -1]] for tile in range(settings.n_tiles)])
    return meridian_icrs_deg(jd, settings.declination_deg)


@lru_cache(maxsize=4)
def _sky(settings_json: str, _table_state: tuple[int, ...]) -> Sky:
    settings = SimulateSettings.model_validate_json(settings_json)
    return make_sky(settings, pointing_track(settings))


def true_sky(settings: SimulateSettings) -> Sky:
    """The sky of these settings, the same in every night but for `night_factors`."""
    table = settings.source_table
    state = (os.stat(table).st_mtime_ns, os.stat(table).st_size) if table else ()
    return _sky(settings.model_dump_json(), state)
