"""The published events, re-created from their parameters and observed as DSA-110 would.

No measured light curve of any of them is in this project. What is published is a fact with its
source; what had to be assumed to draw a curve at 1.4 GHz is marked as such.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from dsaflow.characterise.tasks import generator
from dsaflow.config.sections import Variability
from dsaflow.simulate.seasons import SeasonPlan, Strip, epochs, observe
from dsaflow.simulate.variation import lens_factor
from dsaflow.variability.candidates import SearchResult, find_candidates
from dsaflow.variability.curves import LightCurves, build
from dsaflow.variability.normalise import normalise, normalise_bands

CENTRE_HZ = 1405e6
# Centres of four equal parts of 1311.25 to 1498.75 MHz.
BAND_HZ = np.array([1334.6875e6, 1381.5625e6, 1428.4375e6, 1475.3125e6])
AU_KM = 1.495978707e8
# Assumed: speed of the line of sight across the lens, which with a lens's size gives days.
SPEED_KM_S = 50.0
# Errors of 1 % an epoch, what bright sources have after the epoch scale.
_SNR = 100.0


@dataclass(frozen=True)
class PublishedEvent:
    """A published event.

    Attributes
    ----------
    name, source : str
        With the reference of what is published.
    strength : float
        alpha of a Gaussian plasma lens at 1405 MHz (Clegg, Fey & Lazio 1998).
    crossing_days : float
        Time in which the line of sight moves by one lens half-width.
    achromatic : bool
        The same shape at every frequency: no plasma lens.
    assumed : str
        What is not published, or not known here.
    """

    name: str
    source: str
    strength: float
    crossing_days: float
    achromatic: bool = False
    assumed: str = ""


def crossing_days(half_width_au: float) -> float:
    """Days in which the line of sight crosses a lens's half-width at the assumed speed."""
    return half_width_au * AU_KM / SPEED_KM_S / 86400


def lens_of(depth: float, freq_hz: float) -> float:
    """Alpha at 1405 MHz of a lens whose axis is dimmed by `depth` at a frequency.

    The axis is dimmed to 1 / (1 + alpha), alpha goes as wavelength squared.
    """
    return depth / (1 - depth) * (freq_hz / CENTRE_HZ) ** 2


def with_width(full_days: float, strength: float) -> float:
    """Crossing time that makes a lens's dip `full_days` wide at half its depth."""
    grid = np.linspace(0, 12, 6001)
    gain = lens_factor(grid, strength)
    half = grid[np.flatnonzero(1 - gain > 0.5 * (1 - gain[0]))[-1]]
    return full_days / (2 * half)


_DEPTH = "depth 30 % at 1.4 GHz"
_SPEED = f"{SPEED_KM_S:g} km/s"
_STRENGTH_0954 = lens_of(0.5, 2.7e9)
_STRENGTH_30 = lens_of(0.3, CENTRE_HZ)
EVENTS = (
    PublishedEvent(
        "0954+658 (1981)",
        "50 % at 2.7 GHz (Fiedler et al. 1987); lens of 0.38 AU (Clegg et al. 1998)",
        _STRENGTH_0954, crossing_days(0.38), assumed=_SPEED,
    ),
    PublishedEvent(
        "1741-038", "lens of 0.065 AU (Clegg et al. 1998)",
        lens_of(0.5, CENTRE_HZ), crossing_days(0.065), assumed=f"depth 50 % at 1.4 GHz, {_SPEED}",
    ),
    PublishedEvent(
        "PKS 1939-315 (2014)", "diverging lens, seen while it lasted (Bannister et al. 2016)",
        _STRENGTH_30, with_width(175.0, _STRENGTH_30),
        assumed=f"{_DEPTH}; 175 d, the mean event (Fiedler et al. 1994)",
    ),
    *(
        PublishedEvent(
            f"2005+403 ({year})", "4 to 5 months (Koryukova et al. 2025)",
            _STRENGTH_30, with_width(days, _STRENGTH_30), assumed=_DEPTH,
        )
        for year, days in ((2011, 120.0), (2015, 135.0), (2020, 150.0))
    ),
    PublishedEvent(
        "1413+135", "symmetric U shapes, achromatic: no plasma lens (Vedantham et al. 2017)",
        _STRENGTH_0954, with_width(200.0, _STRENGTH_0954), achromatic=True,
        assumed="200 d, shape of a strong lens at 1405 MHz",
    ),
)  # fmt: skip


def gains(event: PublishedEvent, mjd: np.ndarray, mid_mjd: float) -> np.ndarray:
    """Flux over quiet flux in the four sub-bands, shape (n_band, n_epoch)."""
    place = (mjd - mid_mjd) / event.crossing_days
    ratios = np.ones(len(BAND_HZ)) if event.achromatic else BAND_HZ / CENTRE_HZ
    return np.array([lens_factor(place, event.strength / r**2) for r in ratios])


def recreate(options: Variability, threshold: float, seed: int) -> list[dict[str, Any]]:
    """Observe each event for three years in a strip, run the stage's search, and say what it found.

    Parameters
    ----------
    threshold : float
        ln LR that a candidate must exceed besides the analytic threshold of the strip.

    Returns
    -------
    list of dict
        One an event.
    """
    plan = SeasonPlan(n_epoch=1095, n_reference=60)
    rng = generator(seed, "published", 0)
    mjd = epochs(plan, rng)
    middle = rng.uniform(mjd[0] + 350, mjd[-1] - 350, len(EVENTS))
    bands = np.array([gains(e, mjd, m) for e, m in zip(EVENTS, middle, strict=True)])
    whole = bands.mean(axis=1)
    number = len(EVENTS)
    quiet = np.full(number, "quiet", dtype="U20")
    strip = observe(plan, mjd, quiet, np.full(number, _SNR), rng, whole)
    ratio = np.ones((len(BAND_HZ), len(strip.snr), len(mjd)))
    ratio[:, plan.n_reference :] = np.moveaxis(bands / whole[:, None], 1, 0)
    curves = measured(strip, ratio, rng)
    normal = normalise(curves, options)
    quick = options.model_copy(update={"permutations": 0, "max_plots": 0})
    result = find_candidates(curves, normal, normalise_bands(curves, normal, quick), quick)
    return [
        _row(event, whole[k], middle[k], f"S{plan.n_reference + k:04d}", mjd, result, threshold)
        for k, event in enumerate(EVENTS)
    ]


def measured(strip: Strip, ratio: np.ndarray, rng: np.random.Generator) -> LightCurves:
    """Photometry rows of a strip with four sub-bands, read as the stage reads them.

    Parameters
    ----------
    ratio : ndarray, shape (n_band, n_source, n_epoch)
        True flux in each sub-band over that in the whole band.
    """
    n_band = len(ratio)
    draws = rng.standard_normal(ratio.shape)
    # A sub-band's noise is twice the whole band's, and the sub-bands' mean has the whole band's.
    own = np.sqrt(n_band) * strip.flux_err_jy * (draws - draws.mean(axis=0))
    source, epoch = np.nonzero(np.isfinite(strip.flux_jy))
    flux, error = strip.flux_jy[source, epoch], strip.flux_err_jy[source, epoch]
    number = len(source)
    rows: dict[str, np.ndarray] = {
        "source_id": np.array([f"S{k:04d}" for k in range(len(strip.snr))])[source],
        "ra_deg": strip.ra_deg[source],
        "dec_deg": strip.dec_deg[source],
        "strip": np.full(number, "dec+16.1"),
        "epoch": epoch,
        "mjd": strip.mjd[epoch],
        "group_id": np.array([f"simulated_{k}" for k in range(len(strip.mjd))])[epoch],
        "weight": 1 / np.square(error),
        "flux_jy": flux,
        "flux_err_jy": error,
        "scale_err": np.full(number, 0.05),
        "is_limit": flux < 5 * error,
        "upper_limit_jy": np.where(flux < 5 * error, 5 * error, np.nan),
        "isolated": np.ones(number, bool),
        "compact": np.ones(number, bool),
        "qa": np.full(number, "pass"),
    }
    for k in range(n_band):
        band = strip.flux_jy * ratio[k] + own[k]
        rows[f"flux_b{k}_jy"] = band[source, epoch]
        rows[f"flux_err_b{k}_jy"] = np.sqrt(n_band) * error
    return build(rows, BAND_HZ)


def _row(
    event: PublishedEvent,
    curve: np.ndarray,
    middle: float,
    source_id: str,
    mjd: np.ndarray,
    result: SearchResult,
    threshold: float,
) -> dict[str, Any]:
    found = [c for c in result.candidates if c["source_id"] == source_id]
    best = found[0] if found else {}
    ratio = float(best.get("log_likelihood_ratio", 0.0))
    inside = mjd[1 - curve > 0.5 * (1 - curve.min())]
    start = float(best.get("start_mjd", np.nan))
    end = start + float(best.get("duration_days", np.nan))
    return {
        "event": event.name,
        "published": event.source,
        "assumed": event.assumed,
        "achromatic": event.achromatic,
        "depth": float(1 - curve.min()),
        "duration_days": float(inside[-1] - inside[0]) if len(inside) else 0.0,
        "found": bool(ratio > threshold and start <= middle <= end),
        "ln_lr": ratio,
        "found_depth": float(best.get("depth", np.nan)),
        "found_duration_days": float(best.get("duration_days", np.nan)),
        "chromatic_log_ratio": float(best.get("chromatic_log_ratio", np.nan)),
        "chromatic_label": str(best.get("chromatic_label", "")),
    }
