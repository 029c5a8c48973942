"""Event-free seasons: what the search announces in them, by kind of source."""

from dataclasses import dataclass, fields

import numpy as np

from dsaflow.characterise.detector import normalised, sigma_dev
from dsaflow.characterise.tasks import detector_for, generator, season_epochs
from dsaflow.config.sections import Variability
from dsaflow.simulate.seasons import KINDS, SeasonPlan, observe, own_kinds

TARGET_KINDS = tuple(kind for kind in KINDS if kind != "bad_night")
# One strip in this many has a bad night, so that every kind gets the same number of seasons.
_BAD_NIGHT_EVERY = len(KINDS)
# S/N an epoch of the faintest targets of equal shares.
_FAINTEST_SNR = 5.5


@dataclass
class BlankSeasons:
    """One entry a season of a source.

    Attributes
    ----------
    kind : ndarray of int
        Index into `simulate.seasons.KINDS`.
    own : ndarray of bool
        One of a strip's own sources or a target drawn like them (kinds in natural shares); else a
        target of the equal shares.
    strip : ndarray of int
        Which strip, for what sources of one strip have in common.
    announced, ratio, sigma_dev : ndarray
        ln LR of the best event that no rule vetoes; of the best event; the old trigger.
    years : ndarray
        Observed time: measured epochs times the step between epochs.
    """

    kind: np.ndarray
    own: np.ndarray
    strip: np.ndarray
    announced: np.ndarray
    ratio: np.ndarray
    sigma_dev: np.ndarray
    years: np.ndarray

    @classmethod
    def join(cls, parts: "list[BlankSeasons]") -> "BlankSeasons":
        """All parts one after the other."""
        names = [f.name for f in fields(cls)]
        return cls(**{n: np.concatenate([getattr(p, n) for p in parts]) for n in names})

    def __len__(self) -> int:
        return len(self.kind)


@dataclass(frozen=True)
class BlankTask:
    """One strip without events.

    Attributes
    ----------
    plan : SeasonPlan
    options : Variability
    seed, number : int
    n_target : int
        Sources beside the strip's own.
    natural : bool
        Whether their kinds have the shares of the strip's own; else all kinds the same share.
    """

    plan: SeasonPlan
    options: Variability
    seed: int
    number: int
    n_target: int
    natural: bool = False


def blank_strip(task: BlankTask) -> BlankSeasons:
    """Simulate, normalise and search one strip without events."""
    rng = generator(task.seed, "natural" if task.natural else "blank", task.number)
    bad_night = task.number % _BAD_NIGHT_EVERY == 0
    if task.natural:
        kind = own_kinds(task.n_target, rng)
    elif bad_night:
        kind = np.full(task.n_target, "quiet", dtype="U20")
    else:
        kind = np.resize(np.array(TARGET_KINDS, dtype="U20"), task.n_target)
    faintest = task.plan.reference_snr[0] if task.natural else _FAINTEST_SNR
    snr = np.exp(rng.uniform(np.log(faintest), np.log(200.0), task.n_target))
    mjd = season_epochs(task.plan, task.seed, task.number)
    strip = observe(task.plan, mjd, kind, snr, rng, bad_night=bad_night)
    normal = normalised(strip, task.options)
    found = detector_for(task.plan, task.options, task.seed, task.number).find(
        normal.flux, normal.variance
    )
    days = np.isfinite(normal.flux).sum(axis=1) * np.median(np.diff(mjd))
    return BlankSeasons(
        kind=np.array([KINDS.index(k) for k in strip.kind], np.int8),
        own=strip.reference | task.natural,
        strip=np.full(len(strip.kind), task.number, np.int32),
        announced=found.announced.astype(np.float32),
        ratio=found.ratio.astype(np.float32),
        sigma_dev=sigma_dev(normal.flux).astype(np.float32),
        years=(days / 365.25).astype(np.float32),
    )
