"""Seasons of light curves of one strip: epochs, gains, noise, quiet sources and variable ones."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dsaflow.simulate import transients
from dsaflow.simulate.transients import SCINTILLATION_DAYS

SIDEREAL_DAY = 0.9972696
_SCINTILLATION = tuple(f"scintillation_{days:g}d" for days in SCINTILLATION_DAYS)
KINDS = (
    "quiet",
    *_SCINTILLATION,
    "flare",
    "bad_epochs",
    "bad_night",
    "step",
    "gap_edge",
    "unrecovered",
    "heavy_noise",
)
# Shares of the strip's own sources; the rest is quiet. A bad night is the whole strip's.
STRIP_SHARES = dict.fromkeys(_SCINTILLATION, 0.025) | {
    "flare": 0.01,
    "bad_epochs": 0.01,
    "step": 0.005,
    "gap_edge": 0.005,
    "unrecovered": 0.005,
}
# Degrees of freedom of the heavy-tailed noise, scaled to the stated error.
HEAVY_TAIL = 5.0


@dataclass(frozen=True)
class SeasonPlan:
    """How a strip is observed.

    Attributes
    ----------
    n_epoch : int
        Planned epochs, one every `step_nights` sidereal days.
    lost, missing : float
        Fractions of the epochs lost for all, and of the measurements lost one by one.
    gap_steps : int
        Planned epochs that one gap in the season's middle half takes.
    gain_rms, gradient_rms : float
        Of the epoch's common flux scale (natural log), and of its slope over half the strip.
    scintillation_rms : float
    n_reference : int
        Compact sources that the strip's flux scale rests on.
    reference_snr : pair of float
        Least and largest S/N an epoch of these (uniform in the log).
    noise_jy : float
        Typical error of an epoch [Jy].
    """

    n_epoch: int = 120
    step_nights: int = 1
    lost: float = 0.05
    missing: float = 0.03
    gap_steps: int = 6
    gain_rms: float = 0.03
    gradient_rms: float = 0.0
    scintillation_rms: float = 0.05
    n_reference: int = 100
    reference_snr: tuple[float, float] = (10.0, 200.0)
    noise_jy: float = 0.001


@dataclass
class Strip:
    """What the telescope measured of a strip, and the truth.

    Attributes
    ----------
    mjd : ndarray, shape (n_epoch,)
    ra_deg, dec_deg, snr : ndarray, shape (n_source,)
        `snr` of an epoch outside any variation.
    kind : ndarray of str, shape (n_source,)
        Of `KINDS`.
    reference : ndarray of bool, shape (n_source,)
        The strip's own sources; the others are too extended to bear the flux scale.
    flux_jy, flux_err_jy : ndarray, shape (n_source, n_epoch)
        Measured [Jy]; NaN where missing.
    truth : ndarray, shape (n_source, n_epoch)
        Flux over quiet flux, without gains and noise.
    """

    mjd: NDArray
    ra_deg: NDArray
    dec_deg: NDArray
    snr: NDArray
    kind: NDArray
    reference: NDArray
    flux_jy: NDArray
    flux_err_jy: NDArray
    truth: NDArray = field(repr=False)


def epochs(plan: SeasonPlan, rng: np.random.Generator) -> NDArray:
    """Times of the epochs that are not lost [d], with the season's gap."""
    kept = rng.random(plan.n_epoch) >= plan.lost
    if plan.gap_steps:
        first = int(rng.uniform(0.25, 0.75) * (plan.n_epoch - plan.gap_steps))
        kept[first : first + plan.gap_steps] = False
    kept[[0, -1]] = True
    return 60000.0 + SIDEREAL_DAY * plan.step_nights * np.flatnonzero(kept)


def variation(
    kind: str, mjd: NDArray, number: int, plan: SeasonPlan, rng: np.random.Generator
) -> NDArray:
    """Flux over quiet flux of `number` sources of one kind, shape (number, n_epoch)."""
    if kind in _SCINTILLATION:
        days = np.full(number, SCINTILLATION_DAYS[_SCINTILLATION.index(kind)])
        return 1 + plan.scintillation_rms * transients.damped_walks(rng, mjd, days)
    if kind == "flare":
        return transients.flares(rng, mjd, number)
    if kind == "bad_epochs":
        return transients.bad_epochs(rng, mjd, number)
    if kind == "step":
        return transients.steps(rng, mjd, number)
    if kind == "gap_edge":
        return transients.declines(rng, mjd, number, "gap")
    if kind == "unrecovered":
        return transients.declines(rng, mjd, number, "end")
    if kind in KINDS:
        return np.ones((number, len(mjd)))
    raise ValueError(f"unknown kind of source {kind!r}")


def observe(
    plan: SeasonPlan,
    mjd: NDArray,
    kind: NDArray,
    snr: NDArray,
    rng: np.random.Generator,
    event: NDArray | None = None,
    bad_night: bool = False,
) -> Strip:
    """Simulate a strip's own sources and the targets among them.

    Parameters
    ----------
    mjd : ndarray, shape (n_epoch,)
        As `epochs` draws them.
    kind, snr : ndarray, shape (n_target,)
        Of the targets, which follow the strip's own sources in every array.
    event : ndarray, shape (n_target, n_epoch), optional
        Multiplies the targets' fluxes.
    bad_night : bool
        Gains of one epoch are bad: each source keeps 40 to 100 % of its flux in it.
    """
    own = own_kinds(plan.n_reference, rng)
    low, high = np.log(plan.reference_snr)
    snr = np.concatenate([np.exp(rng.uniform(low, high, plan.n_reference)), snr])
    kind = np.concatenate([own, kind])
    n_source, n_epoch = len(kind), len(mjd)
    truth = np.ones((n_source, n_epoch))
    for name in np.unique(kind):
        rows = np.flatnonzero(kind == name)
        truth[rows] = variation(str(name), mjd, len(rows), plan, rng)
    if event is not None:
        truth[plan.n_reference :] *= event
    ra_deg, dec_deg = rng.uniform(10, 25, n_source), rng.uniform(14.8, 17.4, n_source)
    place = np.stack([(ra_deg - 17.5) / 7.5, (dec_deg - 16.1) / 1.3])
    gain = plan.gain_rms * rng.standard_normal(n_epoch)
    slope = plan.gradient_rms * rng.standard_normal((2, n_epoch))
    response = np.exp(gain + np.einsum("ks,ke->se", place, slope))
    if bad_night:
        night = int(rng.integers(1, n_epoch - 1))
        response[:, night] *= rng.uniform(0.4, 1.0, n_source)
        kind = np.where(kind == "quiet", "bad_night", kind)
    error = plan.noise_jy * np.exp(0.2 * rng.standard_normal(n_epoch)) * np.ones((n_source, 1))
    noise = rng.standard_normal((n_source, n_epoch))
    heavy = np.flatnonzero(kind == "heavy_noise")
    scale = np.sqrt((HEAVY_TAIL - 2) / HEAVY_TAIL)
    noise[heavy] = scale * rng.standard_t(HEAVY_TAIL, (len(heavy), n_epoch))
    flux = plan.noise_jy * snr[:, None] * response * truth + error * noise
    missing = rng.random((n_source, n_epoch)) < plan.missing
    return Strip(
        mjd=mjd,
        ra_deg=ra_deg,
        dec_deg=dec_deg,
        snr=snr,
        kind=kind,
        reference=np.arange(n_source) < plan.n_reference,
        flux_jy=np.where(missing, np.nan, flux),
        flux_err_jy=np.where(missing, np.nan, error),
        truth=truth,
    )


def own_kinds(number: int, rng: np.random.Generator) -> NDArray:
    """Kinds of a strip's own sources, in the shares of `STRIP_SHARES`."""
    names = ["quiet", *STRIP_SHARES]
    shares = [1 - sum(STRIP_SHARES.values()), *STRIP_SHARES.values()]
    return rng.choice(np.array(names, dtype="U20"), size=number, p=shares)
