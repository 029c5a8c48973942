"""What of a tile's visibilities is needed here: see `dsaflow.visibilities.container.Visibilities`."""

from typing import Protocol

from numpy.typing import NDArray

from dsaflow.geometry import Site


class Tile(Protocol):
    """Calibrated visibilities on one phase centre; every attribute as in `Visibilities`."""

    data: NDArray
    flags: NDArray
    antenna1: NDArray
    antenna2: NDArray
    time_mjd: NDArray
    integration_s: float
    freq_hz: NDArray
    channel_width_hz: float
    antenna_itrf_m: NDArray
    phase_ra_deg: float
    phase_dec_deg: float
    pointing_dec_deg: float
    site_deg_m: tuple[float, float, float]


def site_of(tile: Tile) -> Site:
    """Site for the tile's geometry."""
    return Site(*tile.site_deg_m)
