"""The true sky of a strip, its changes from night to night, and the spoilt catalogue of it."""

import csv
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsaflow.errors import ConfigError
from dsaflow.simulate.settings import SimulateSettings
from dsaflow.simulate.streams import random
from dsaflow.simulate.variation import light_curve

REFERENCE_HZ = 1.4e9
# Positions from the VLA calibrator manual; Perley & Butler (2017), log10 S[Jy] in log10 GHz.
CALIBRATORS = {
    "3C138": (80.291192, 16.639458, (1.0088, -0.4981, -0.1552, -0.0102, 0.0223)),
    "3C286": (202.784533, 30.509155, (1.2481, -0.4507, -0.1798, 0.0357)),
    "3C48": (24.422081, 33.159759, (1.3253, -0.7553, -0.1914, 0.0498)),
    "3C147": (85.650575, 49.852009, (1.4516, -0.6961, -0.2007, 0.0640, -0.0464, 0.0289)),
}


@dataclass(frozen=True)
class Sky:
    """Sources; `flux_jy` is at 1.4 GHz outside any event, `coefficients` hold a calibrator's own spectrum."""

    source_id: list[str]
    ra_deg: NDArray
    dec_deg: NDArray
    flux_jy: NDArray
    spectral_index: NDArray
    compact: NDArray
    kind: list[str]
    coefficients: dict[int, tuple[float, ...]]

    def spectrum_jy(self, freq_hz: NDArray) -> NDArray:
        """Quiet flux, shape (n_source, n_freq)."""
        power = self.spectral_index[:, None] * np.log(freq_hz[None, :] / REFERENCE_HZ)
        flux = self.flux_jy[:, None] * np.exp(power)
        for index, terms in self.coefficients.items():
            flux[index] = 10 ** np.polynomial.polynomial.polyval(np.log10(freq_hz / 1e9), terms)
        return flux


def integral_counts_per_deg2(flux_jy: NDArray) -> NDArray:
    """Sources per square degree above a flux at 1.4 GHz: 52 above 2.5 mJy, 17 above 10 mJy (NVSS-like)."""
    low = 52.0 * (flux_jy / 2.5e-3) ** -0.80
    high = 52.0 * 24.0**-0.80 * (flux_jy / 0.06) ** -1.45
    return np.where(flux_jy < 0.06, low, high)


def draw_fluxes_jy(
    rng: np.random.Generator, area_deg2: float, low_jy: float, high_jy: float
) -> NDArray:
    """Poisson sample of the counts between two fluxes."""
    grid = np.geomspace(low_jy, high_jy, 400)
    above = integral_counts_per_deg2(grid)
    number = rng.poisson(area_deg2 * (above[0] - above[-1]))
    level = above[-1] + (above[0] - above[-1]) * rng.random(number)
    return np.exp(np.interp(-level, -above, np.log(grid)))


def make_sky(settings: SimulateSettings, track: tuple[NDArray, NDArray]) -> Sky:
    """Draw the strip's sources around the pointing's track (ICRS deg) over the night.

    The event's source and the calibrator come last, with no other source within 4 arcmin of them.
    """
    track = (_unwrapped(track[0]), track[1])
    special = _special_sources(settings, float(np.mean(track[0])), float(np.mean(track[1])))
    ra, dec, flux, index = _population(settings, random(settings, "sky"), track)
    if not settings.source_table:
        apart = np.ones(ra.size, dtype=bool)
        for one in special:
            east = ((ra - one[0] + 180) % 360 - 180) * np.cos(np.radians(dec))
            apart &= np.hypot(east, dec - one[1]) > 4 / 60
        ra, dec, flux, index = ra[apart], dec[apart], flux[apart], index[apart]
    rng = random(settings, "kinds")
    compact = rng.random(flux.size) < 0.5
    varies = rng.random(flux.size) < settings.variable_fraction
    drawn = rng.choice(["flare", "slow", "scintillation"], flux.size)
    kinds = [str(kind) if v else "constant" for kind, v in zip(drawn, varies, strict=True)]
    coefficients: dict[int, tuple[float, ...]] = {}
    for one in special:
        if one[4] == "calibrator":
            coefficients[len(kinds)] = CALIBRATORS[settings.calibrator][2]
        kinds.append(one[4])
    columns = [
        np.append(column, [one[i] for one in special])
        for i, column in enumerate((ra, dec, flux, index))
    ]
    ra, dec = columns[0] % 360, columns[1]
    compact = np.append(compact, np.ones(len(special), dtype=bool))
    names = [f"S{r:08.4f}{d:+08.4f}".replace(".", "") for r, d in zip(ra, dec, strict=True)]
    return Sky(names, ra, dec, columns[2], columns[3], compact, kinds, coefficients)


def _special_sources(
    settings: SimulateSettings, centre_ra_deg: float, centre_dec_deg: float
) -> list[tuple[float, float, float, float, str]]:
    """RA, Dec [deg], flux at 1.4 GHz [Jy], spectral index and kind of the sources placed on purpose."""
    special: list[tuple[float, float, float, float, str]] = []
    if settings.event.kind != "none":
        east, north = settings.event.offset_deg
        ra_deg = centre_ra_deg + east / np.cos(np.radians(centre_dec_deg))
        place = (ra_deg, centre_dec_deg + north)
        special.append((*place, settings.event.flux_jy, -0.3, settings.event.kind))
    if settings.calibrator:
        ra_deg, dec_deg, terms = CALIBRATORS[settings.calibrator]
        flux_jy = 10 ** np.polynomial.polynomial.polyval(np.log10(REFERENCE_HZ / 1e9), terms)
        special.append((ra_deg, dec_deg, float(flux_jy), -0.7, "calibrator"))
    return special


def _population(
    settings: SimulateSettings, rng: np.random.Generator, track: tuple[NDArray, NDArray]
) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    if settings.source_table:
        with open(settings.source_table, newline="") as stream:
            rows = list(csv.DictReader(stream))
        keys = ("ra_deg", "dec_deg", "flux_jy", "spectral_index")
        try:
            columns = [np.array([float(row[k]) for row in rows]) for k in keys]
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(
                f"simulate.source_table: {settings.source_table} needs numbers in the columns "
                f"{', '.join(keys)} ({error!r})"
            ) from None
        return columns[0], columns[1], columns[2], columns[3]
    radius = settings.field_radius_deg
    middle_ra, middle_dec = float(np.mean(track[0])), float(np.mean(track[1]))
    half_ra = 0.5 * float(np.ptp(track[0])) + radius / np.cos(np.radians(abs(middle_dec) + radius))
    low, high = np.sin(np.radians([middle_dec - radius, middle_dec + radius]))
    area = np.radians(2 * half_ra) * (high - low) * (180 / np.pi) ** 2
    flux = draw_fluxes_jy(rng, area, settings.min_flux_jy, settings.max_flux_jy)
    ra = middle_ra + half_ra * (2 * rng.random(flux.size) - 1)
    dec = np.degrees(np.arcsin(low + (high - low) * rng.random(flux.size)))
    index = rng.normal(-0.7, 0.2, flux.size)
    east = ((ra[:, None] - track[0] + 180) % 360 - 180) * np.cos(np.radians(dec))[:, None]
    offset = np.min(np.hypot(east, dec[:, None] - track[1]), axis=1)
    # a Gaussian of the beam's width is enough to rank by apparent brightness
    apparent = np.where(offset < radius, flux * np.exp(-np.log(2) * np.square(offset / 1.35)), 0)
    number = min(settings.max_sources, int(np.sum(offset < radius)))
    keep = np.sort(np.argsort(-apparent, kind="stable")[:number])
    ra, dec, flux, index = ra[keep], dec[keep], flux[keep], index[keep]
    if settings.effects.far_sources:
        far = _far_sources(random(settings, "far"), radius, middle_ra, middle_dec)
        ra, dec = np.append(ra, far[0]), np.append(dec, far[1])
        flux, index = np.append(flux, far[2]), np.append(index, far[3])
    return ra, dec, flux, index


def _unwrapped(ra_deg: NDArray) -> NDArray:
    """Right ascensions without the jump at 360 deg."""
    return ra_deg[0] + (ra_deg - ra_deg[0] + 180) % 360 - 180


def _far_sources(
    rng: np.random.Generator, radius: float, ra0: float, dec0: float
) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Sources above 1 Jy from `radius` to 10 deg away, and one as bright as Cas A, 4.2 deg away."""
    counts = integral_counts_per_deg2(np.array([1.0, 20.0]))
    ring_deg2 = np.pi * (10**2 - radius**2)
    number = rng.poisson(ring_deg2 * (counts[0] - counts[1]))
    flux = np.append(draw_fluxes_jy(rng, 1e5, 1.0, 20.0)[:number], 1700.0)
    distance = np.append(np.sqrt(rng.uniform(radius**2, 10**2, number)), 4.2)
    angle = np.append(rng.uniform(0, 2 * np.pi, number), 0.7)
    dec = dec0 + distance * np.cos(angle)
    ra = ra0 + distance * np.sin(angle) / np.cos(np.radians(dec))
    return ra, dec, flux, np.full(flux.size, -0.75)


def night_factors(settings: SimulateSettings, sky: Sky, epoch: int, freq_hz: NDArray) -> NDArray:
    """Flux of each source in a night over its quiet flux, shape (n_source, n_freq)."""
    factors = np.ones((len(sky.source_id), freq_hz.size))
    for index, kind in enumerate(sky.kind):
        if kind not in ("constant", "calibrator"):
            rng = random(settings, "curve", index)
            curve = light_curve(kind, settings, rng, freq_hz / REFERENCE_HZ)
            factors[index] = curve[epoch]
    return factors


def reference_catalog(settings: SimulateSettings, sky: Sky) -> dict[str, NDArray]:
    """The catalogue handed to the pipeline: the truth, spoilt as a survey would spoil it."""
    rng = random(settings, "catalog")
    n = len(sky.source_id)
    flux, ra, dec = sky.flux_jy.copy(), sky.ra_deg.copy(), sky.dec_deg.copy()
    noise_jy = 0.45e-3
    if settings.effects.spoilt_catalog:
        free = np.array([kind != "calibrator" for kind in sky.kind])
        flux = np.where(free, flux * (1 + 0.05 * rng.standard_normal(n)), flux)
        varied = free & (rng.random(n) < 0.03)
        flux = np.where(varied, flux * np.where(rng.random(n) < 0.5, 0.7, 1.3), flux)
        flux = np.where(free, flux + noise_jy * rng.standard_normal(n), flux)
        error_deg = np.where(free, np.minimum(1.0, 2.5e-3 / sky.flux_jy) / 3600, 0.0)
        dec = dec + error_deg * rng.standard_normal(n)
        ra = ra + error_deg * rng.standard_normal(n) / np.cos(np.radians(dec))
    keep = np.flatnonzero(flux >= 2.5e-3)
    columns = {
        "source_id": np.array(sky.source_id)[keep],
        "ra_deg": ra[keep] % 360,
        "dec_deg": dec[keep],
        "flux_jy": flux[keep],
        "compact": sky.compact[keep],
    }
    if settings.effects.spoilt_catalog:
        columns = _with_spurious(rng, columns)
    columns["flux_err_jy"] = np.hypot(0.03 * columns["flux_jy"], noise_jy)
    columns["spectral_index"] = np.full(columns["flux_jy"].size, np.nan)
    return columns


def _with_spurious(rng: np.random.Generator, columns: dict[str, NDArray]) -> dict[str, NDArray]:
    number = max(1, round(0.01 * columns["flux_jy"].size))
    there = _unwrapped(columns["ra_deg"])
    ra = rng.uniform(there.min(), there.max(), number) % 360
    dec = rng.uniform(columns["dec_deg"].min(), columns["dec_deg"].max(), number)
    extra = {
        "source_id": np.array(
            [f"X{r:08.4f}{d:+08.4f}".replace(".", "") for r, d in zip(ra, dec, strict=True)]
        ),
        "ra_deg": ra,
        "dec_deg": dec,
        "flux_jy": 2.5e-3 * rng.random(number) ** -0.8,
        "compact": np.zeros(number, dtype=bool),
    }
    return {key: np.concatenate([columns[key], extra[key]]) for key in columns}
