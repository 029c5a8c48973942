"""Which far sources a tile may see: the catalogue's bright rows around it, the A-team, the Sun by day."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsaflow.catalog import Catalog
from dsaflow.catalog.ateam import a_team
from dsaflow.far.tile import Tile, site_of
from dsaflow.geometry import (
    hour_angle_declination,
    local_apparent_sidereal_time,
    separation_rad,
)

AU_M = 1.495978707e11
LIGHT_TIME_S = 499.004784  # of one astronomical unit
# Quiet Sun at 1.4 GHz: 50 solar flux units at least, and a radio disc 10 % wider than the visible one
# (Kundu 1965, Solar Radio Astronomy).
SUN_JY = 5e5
SUN_DISC_RAD = np.radians(35.0 / 60)
# Rows of a survey this near a member of the A-team are parts of it.
_SAME_RAD = np.radians(5.0 / 60)


@dataclass(frozen=True)
class FarSources:
    """Candidates; arrays over sources, brightest first.

    Attributes
    ----------
    name : list of str
    flux_jy : ndarray
        At the tile's mid frequency, without the beam.
    hour_angle_rad, declination_rad : ndarray, shape (n_time, n_source)
        Apparent place in each integration.
    width_rad : ndarray
        FWHM of a Gaussian, or the diameter of a uniform disc.
    disc : bool ndarray
    distance_rad : ndarray
        From the phase centre, at mid-tile.
    """

    name: list[str]
    flux_jy: NDArray
    hour_angle_rad: NDArray
    declination_rad: NDArray
    width_rad: NDArray
    disc: NDArray
    distance_rad: NDArray

    def __len__(self) -> int:
        return len(self.name)


def candidates(
    tile: Tile,
    catalog: Catalog | None,
    inside: NDArray | None,
    min_jy: float,
    radius_deg: float,
    default_index: float = -0.7,
) -> FarSources:
    """Far sources above the horizon that may be in a tile's visibilities.

    Parameters
    ----------
    tile : Tile
    catalog : Catalog or None
        Reference catalogue; rows of at least `min_jy` within `radius_deg` count.
    inside : bool ndarray, shape (n_catalog,) or None
        Rows that the tile's image holds: those are CLEAN's.
    min_jy : float
    radius_deg : float
        From the phase centre. The A-team and the Sun count at any distance outside the image.
    default_index : float
        Spectral index of rows without one.
    """
    team, width = a_team()
    mid_hz = 0.5 * (tile.freq_hz[0] + tile.freq_hz[-1])
    parts = [(team, width)]
    if catalog is not None:
        near = separation_rad(
            tile.phase_ra_deg, tile.phase_dec_deg, catalog.ra_deg, catalog.dec_deg
        )
        far = (catalog.flux_jy >= min_jy) & (near <= np.radians(radius_deg))
        if inside is not None:
            far &= ~inside
        bright = catalog.select(far)
        apart = separation_rad(
            bright.ra_deg[:, None], bright.dec_deg[:, None], team.ra_deg, team.dec_deg
        )
        bright = bright.select((apart > np.maximum(_SAME_RAD, 2 * width)).all(axis=1))
        parts.append((bright, np.zeros(len(bright))))
    names = np.concatenate([c.source_id for c, _ in parts])
    flux = np.concatenate([_flux_at(c, mid_hz, default_index) for c, _ in parts])
    ra, dec = (np.concatenate([getattr(c, k) for c, _ in parts]) for k in ("ra_deg", "dec_deg"))
    hour_angle, declination = places(tile, ra, dec)
    sun = sun_place(tile)
    hour_angle = np.concatenate([hour_angle, sun[0][:, None]], axis=1)
    declination = np.concatenate([declination, sun[1][:, None]], axis=1)
    every = FarSources(
        [*(str(n) for n in names), "Sun"],
        np.append(flux, SUN_JY),
        hour_angle,
        declination,
        np.concatenate([*(w for _, w in parts), [SUN_DISC_RAD]]),
        np.append(np.zeros(len(names), bool), True),
        _distance(tile, hour_angle, declination),
    )
    up = _altitude_sine(tile, hour_angle, declination).min(axis=0) > 0
    return select(every, np.flatnonzero(up)[np.argsort(-every.flux_jy[up], kind="stable")])


def select(sources: FarSources, keep: NDArray) -> FarSources:
    """Sources by index."""
    return FarSources(
        [sources.name[i] for i in keep],
        sources.flux_jy[keep],
        sources.hour_angle_rad[:, keep],
        sources.declination_rad[:, keep],
        sources.width_rad[keep],
        sources.disc[keep],
        sources.distance_rad[keep],
    )


def directions(tile: Tile, ra_deg: NDArray, dec_deg: NDArray) -> FarSources:
    """Point sources of unknown flux at ICRS positions."""
    n = len(ra_deg)
    hour_angle, declination = places(tile, ra_deg, dec_deg)
    return FarSources(
        [f"{r:.3f}{d:+.3f}" for r, d in zip(ra_deg, dec_deg, strict=True)],
        np.zeros(n),
        hour_angle,
        declination,
        np.zeros(n),
        np.zeros(n, bool),
        _distance(tile, hour_angle, declination),
    )


def _flux_at(catalog: Catalog, freq_hz: float, default_index: float) -> NDArray:
    index = np.where(np.isnan(catalog.spectral_index), default_index, catalog.spectral_index)
    return catalog.flux_jy * (freq_hz / catalog.frequency_hz) ** index


def places(tile: Tile, ra_deg: NDArray, dec_deg: NDArray) -> tuple[NDArray, NDArray]:
    """Apparent hour angle and declination [rad] in each integration, shape (n_time, n_source).

    From the first, middle and last integration and a parabola: exact to 1e-6 arcsec over a tile.
    """
    n_time, site = len(tile.time_mjd), site_of(tile)
    if n_time < 4:
        return hour_angle_declination(tile.time_mjd[:, None], ra_deg, dec_deg, site)
    at = np.array([0, n_time // 2, n_time - 1])
    nodes = tile.time_mjd[at]
    place = np.stack(hour_angle_declination(nodes[:, None], ra_deg, dec_deg, site))
    place[0] = np.unwrap(place[0], axis=0)
    powers = np.vander(nodes - nodes[1], 3)
    weights = np.vander(tile.time_mjd - nodes[1], 3) @ np.linalg.inv(powers)
    hour_angle, declination = np.einsum("tn,pns->pts", weights, place)
    return hour_angle, declination


def sun_place(tile: Tile) -> tuple[NDArray, NDArray]:
    """Apparent hour angle and declination of the Sun in each integration [rad], shape (n_time,).

    Notes
    -----
    ERFA ``epv00``, which is astropy's built-in ephemeris (a few km). The Sun is taken where it was
    when its light left it; annual aberration is that of every other place. The observer's distance
    from the Earth's centre is taken off (8.8 arcsec), with the Earth's turn but without precession.
    """
    import erfa

    site = site_of(tile)
    day, fraction = erfa.taitt(*erfa.utctai(2400000.5, tile.time_mjd))
    _, earth = erfa.epv00(day, fraction)
    heliocentric, barycentric = erfa.epv00(day, fraction - LIGHT_TIME_S / 86400)
    sun_m = (barycentric["p"] - heliocentric["p"] - earth["p"]) * AU_M
    x, y, z = erfa.gd2gc(1, 0.0, site.latitude_rad, site.height_m)
    turn = local_apparent_sidereal_time(tile.time_mjd, site)
    observer = np.stack(
        [x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn), turn * 0 + z],
        axis=1,
    )
    ra, dec = erfa.c2s(sun_m - observer)
    return hour_angle_declination(tile.time_mjd, np.degrees(ra) % 360, np.degrees(dec), site)


def _altitude_sine(tile: Tile, hour_angle: NDArray, declination: NDArray) -> NDArray:
    latitude = site_of(tile).latitude_rad
    return np.sin(latitude) * np.sin(declination) + np.cos(latitude) * np.cos(declination) * np.cos(
        hour_angle
    )


def _distance(tile: Tile, hour_angle: NDArray, declination: NDArray) -> NDArray:
    """Distance from the phase centre at mid-tile [rad]."""
    middle = len(tile.time_mjd) // 2
    ha, dec = hour_angle_declination(
        tile.time_mjd[middle], tile.phase_ra_deg, tile.phase_dec_deg, site_of(tile)
    )
    return separation_rad(
        np.degrees(hour_angle[middle]), np.degrees(declination[middle]),
        np.degrees(ha), np.degrees(dec),
    )  # fmt: skip
