"""Efficiency that no search for dips can exceed: the ratio of evidences with all priors known.

By Neyman and Pearson's lemma no test at the same false-alarm rate finds more events than the ratio of the
likelihoods. Here it is computed exactly (dense covariances) for Gaussian dips in quiet sources against
sources that scintillate, with the true noise known, the depth (log-uniform, 2 to 60 %), the duration
(log-uniform, 4 to 64 d) and the mid time not. The share of event-free seasons above x needs no event-free
season: it is the mean of 1 / ratio over seasons *with* events drawn from the same prior, where the ratio
exceeds x. Shares no code with the search.
"""

import argparse

import numpy as np

STEP_DAYS, N_PLANNED = 0.9973, 120
DURATIONS = np.geomspace(4, 64, 17)
DEPTHS = np.geomspace(0.02, 0.6, 24)
TAU_DAYS = (1.0, 3.0, 10.0, 30.0)
# 1e-4 a source-year in seasons of 107 measured epochs; ten times that for a tenth of the sources.
ALLOWED = (2.9e-4, 2.9e-5)


def season(rng):
    """Times of the measured epochs of one source [d]: lost epochs, a gap of six, missing ones."""
    kept = rng.random(N_PLANNED) >= 0.05
    first = int(rng.uniform(0.25, 0.75) * (N_PLANNED - 6))
    kept[first : first + 6] = False
    kept &= rng.random(N_PLANNED) >= 0.03
    return STEP_DAYS * np.flatnonzero(kept)


def dip(mjd, mid, duration):
    return np.exp(-4 * np.log(2) * np.square((mjd - mid) / duration))


def drawn(rng, sigma, depth, duration):
    """One season of a quiet source with an event: times and relative fluxes."""
    mjd = season(rng)
    clear = min(0.75 * duration, 0.5 * N_PLANNED * STEP_DAYS)
    mid = rng.uniform(clear, max(N_PLANNED * STEP_DAYS - clear, clear + 1e-6))
    return mjd, 1 - depth * dip(mjd, mid, duration) + sigma * rng.standard_normal(len(mjd))


def log_marginal(curve, covariance):
    """Ln likelihood with a constant level integrated out."""
    root = np.linalg.cholesky(covariance)
    y, one = np.linalg.solve(root, np.stack([curve, np.ones(len(curve))], axis=1)).T
    level = one @ one
    return (
        -0.5 * (y @ y - (one @ y) ** 2 / level) - np.log(np.diag(root)).sum() - 0.5 * np.log(level)
    )


def log_ratio(mjd, curve, sigma, walks):
    """Ln of the evidence of an event in a quiet source over that of no event.

    `walks`: (share, rms, tau in days) of each kind of source without an event.
    """
    without = []
    for share, rms, tau in walks:
        covariance = sigma**2 * np.eye(len(mjd))
        if rms > 0:
            covariance += rms**2 * np.exp(-np.abs(mjd[:, None] - mjd) / tau)
        without.append(np.log(share) + log_marginal(curve, covariance))
    quiet = log_marginal(curve, sigma**2 * np.eye(len(mjd)))
    y = curve - curve.mean()
    mean = []
    for duration in DURATIONS:
        clear = min(0.6 * duration, 59.0)
        mid = np.linspace(
            clear, max(120 - clear, 61.0), max(8, int(3 * (120 - 2 * clear) / duration))
        )
        template = dip(mjd, mid[:, None], duration)
        template -= template.mean(axis=1, keepdims=True)
        projection = -(template @ y) / sigma**2
        information = np.square(template).sum(axis=1) / sigma**2
        gain = projection[:, None] * DEPTHS - 0.5 * information[:, None] * np.square(DEPTHS)
        mean.append(np.logaddexp.reduce(gain.ravel()) - np.log(gain.size))
    with_event = quiet + np.logaddexp.reduce(mean) - np.log(len(DURATIONS))
    return with_event - np.logaddexp.reduce(without)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seasons", type=int, default=1000, help="with events of the prior")
    parser.add_argument("--events", type=int, default=300, help="of each target")
    parser.add_argument("--seed", type=int, default=5)
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    natural = [(0.9, 0.0, 1.0), *((0.025, 0.05, tau) for tau in TAU_DAYS)]
    kinds = {"natural shares": natural, "quiet": [(1.0, 0.0, 1.0)]}
    kinds |= {f"walk of {tau:g} d": [(1.0, 0.05, tau)] for tau in TAU_DAYS}
    for name, sigma, depth in (("S/N 50, 5 %", 0.02, 0.05), ("S/N 10, 30 %", 0.1, 0.3)):
        for kind, walks in kinds.items():
            prior = [
                log_ratio(
                    *drawn(rng, sigma, np.exp(rng.uniform(*np.log([0.02, 0.6]))),
                           np.exp(rng.uniform(*np.log([4, 64])))),
                    sigma, walks,
                )
                for _ in range(arguments.seasons)
            ]  # fmt: skip
            target = np.array(
                [
                    log_ratio(*drawn(rng, sigma, depth, rng.uniform(20, 60)), sigma, walks)
                    for _ in range(arguments.events)
                ]
            )
            prior = np.sort(prior)[::-1]
            share = np.cumsum(np.exp(-prior)) / len(prior)
            text = [f"median ln ratio {np.median(target):5.1f}"]
            for allowed in ALLOWED:
                level = prior[min(np.searchsorted(share, allowed), len(prior) - 1)]
                text.append(f"{allowed:.1e} a season: {np.mean(target > level):.3f}")
            print(f"{name:13s} {kind:15s} {'; '.join(text)}", flush=True)


if __name__ == "__main__":
    main()
