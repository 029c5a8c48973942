"""The pipeline's own normalisation and search, applied to simulated strips as to real ones."""

from dataclasses import dataclass, replace

import numpy as np

from dsaflow.config.sections import Variability
from dsaflow.simulate.seasons import Strip
from dsaflow.variability.curves import LightCurves, empty
from dsaflow.variability.falsealarm import FalseAlarms, calibrate_threshold
from dsaflow.variability.normalise import Normalised, normalise
from dsaflow.variability.search import SearchRules, search
from dsaflow.variability.templates import survey_bank

# Relative error of the scale where an epoch has too few references.
_CALIBRATION_ERR = 0.05


@dataclass
class Found:
    """What the search says of each curve; arrays of shape (n_source,).

    Attributes
    ----------
    ratio : ndarray
        ln LR of the best event; 0 where nothing was worth refining.
    allowed : ndarray of bool
        No rule vetoes it.
    snr : ndarray
        Of the search's matched filter for the noise that it fits; 0 without an event.
    start_mjd, duration_days, depth, depth_err : ndarray
        NaN without an event.
    """

    ratio: np.ndarray
    allowed: np.ndarray
    snr: np.ndarray
    start_mjd: np.ndarray
    duration_days: np.ndarray
    depth: np.ndarray
    depth_err: np.ndarray

    @property
    def announced(self) -> np.ndarray:
        """Ln LR where no rule vetoes the event, else 0."""
        return np.where(self.allowed, self.ratio, 0.0)


class Detector:
    """Template bank and rules for one set of epochs, as `variability.candidates` makes them."""

    def __init__(self, mjd: np.ndarray, options: Variability) -> None:
        self.mjd = mjd
        self.options = options
        self.bank = survey_bank(mjd, options)
        self.rules = SearchRules.of(options)

    def find(self, curve: np.ndarray, variance: np.ndarray) -> Found:
        """Search normalised curves, shape (n_source, n_epoch), NaN where not measured."""
        # One thread: the work is shared out among processes.
        events = search(curve, variance, self.bank, self.rules, threads=1)
        some = events.template >= 0
        return Found(
            ratio=np.where(some, events.log_likelihood_ratio, 0.0),
            allowed=some & (np.asarray(events.veto) == 0),
            snr=np.where(some, events.snr, 0.0),
            start_mjd=np.where(some, events.mid_mjd - 0.5 * events.duration_days, np.nan),
            duration_days=np.where(some, events.duration_days, np.nan),
            depth=np.where(some, events.depth, np.nan),
            depth_err=np.where(some, events.depth_err, np.nan),
        )

    def threshold(self, curve: np.ndarray, variance: np.ndarray, seed: int) -> FalseAlarms:
        """Calibrate on the curves themselves, as the variability stage does."""
        events = search(curve, variance, self.bank, self.rules)
        options = self.options
        return calibrate_threshold(
            curve,
            variance,
            self.bank,
            self.rules,
            events,
            options.false_alarms_per_survey,
            options.permutations,
            options.block_epochs,
            seed,
        )


def light_curves(strip: Strip) -> LightCurves:
    """Measured fluxes of a simulated strip as the variability stage holds them."""
    n_source, n_epoch = strip.flux_jy.shape
    used = np.isfinite(strip.flux_jy)
    return replace(
        empty(),
        source_id=np.array([f"S{k:05d}" for k in range(n_source)]),
        ra_deg=strip.ra_deg,
        dec_deg=strip.dec_deg,
        compact=strip.reference.copy(),
        isolated=np.ones(n_source, bool),
        epoch=np.arange(n_epoch),
        mjd=strip.mjd,
        used=used,
        flux_jy=strip.flux_jy,
        flux_err_jy=strip.flux_err_jy,
        scale_err=np.where(used, _CALIBRATION_ERR, np.nan),
        band_flux_jy=np.zeros((0, n_source, n_epoch)),
        band_flux_err_jy=np.zeros((0, n_source, n_epoch)),
        row=np.full((n_source, n_epoch), -1),
        strip="dec+16.1",
    )


def normalised(strip: Strip, options: Variability) -> Normalised:
    """The pipeline's epoch scale on a simulated strip."""
    return normalise(light_curves(strip), options)


def sigma_dev(curve: np.ndarray) -> np.ndarray:
    """max|f - mean| / std, the trigger used so far; 0 with fewer than three epochs."""
    seen = np.isfinite(curve)
    count = seen.sum(axis=1)
    y = np.where(seen, curve, 0.0)
    deviation = np.where(seen, y - (y.sum(axis=1) / np.maximum(count, 1))[:, None], 0.0)
    spread = np.sqrt(np.square(deviation).sum(axis=1) / np.maximum(count - 1, 1))
    good = (count >= 3) & (spread > 0)
    return np.where(good, np.abs(deviation).max(axis=1) / np.where(good, spread, 1.0), 0.0)
