"""How true the normalised errors are: pulls of constant sources in simulated surveys, by S/N.

    python benchmarks/epoch_scale.py [--surveys N] [--figures docs/images]

prints the scatter of constant sources before and after the epoch's flux scale, and the width of
their pulls. The simulation shares no code with the package.
"""

import argparse
import itertools
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dsaflow.config.sections import Variability
from dsaflow.variability.curves import build
from dsaflow.variability.normalise import normalise

SNR_EDGES = np.array([5.0, 10, 20, 50, 100, 200, 500])


@dataclass
class Survey:
    """One strip: counts as flux^-1, S/N 5-500, gains that differ over the mosaic and in time.

    A tenth of the sources scintillate by 5 % (damped random walk), one in 50 flares. Gains have an
    error of 2-10 % an epoch, a slope (from the centre to an edge) and, on request, a ripple.
    """

    rng: np.random.Generator
    n_source: int = 300
    n_epoch: int = 40
    gradient: float = 0.03
    ripple: float = 0.0
    missing: float = 0.08
    constant: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        rng, n, e = self.rng, self.n_source, self.n_epoch
        self.snr = 1 / rng.uniform(1 / 500, 1 / 5, n)
        self.mjd = 60000.3 + 0.99727 * np.sort(rng.choice(2 * e, e, replace=False))
        self.x, self.y = rng.uniform(-1, 1, (2, n))
        common = np.exp(rng.uniform(0.02, 0.10, e) * rng.standard_normal(e))
        east, north = self.gradient * rng.standard_normal((2, e))
        self.gain = common * (1 + np.outer(self.x, east) + np.outer(self.y, north))
        if self.ripple:  # what no polynomial of low degree follows
            phase = np.outer(self.x, rng.uniform(8, 16, e)) + rng.uniform(0, 2 * np.pi, e)
            self.gain *= 1 + self.ripple * np.sqrt(2) * np.sin(phase)
        kind = rng.random(n)
        self.constant = kind > 0.12
        self.shape = np.ones((n, e))
        for k in np.flatnonzero(kind <= 0.10):
            self.shape[k] = 1 + 0.05 * damped_walk(rng, self.mjd, 10 ** rng.uniform(0, 1.5))
        for k in np.flatnonzero((kind > 0.10) & ~self.constant):
            since = self.mjd - rng.choice(self.mjd)
            flare = np.where(since >= 0, np.exp(-np.maximum(since, 0) / 3), 0.0)
            self.shape[k] += rng.uniform(0.2, 2) * flare

    def rows(self) -> dict[str, np.ndarray]:
        """Photometry rows: flux with noise, and the errors without any scale term."""
        rng, n, e = self.rng, self.n_source, self.n_epoch
        noise = 1e-3
        error = noise * rng.uniform(0.9, 1.1, (n, 1)) * np.exp(0.2 * rng.standard_normal(e))
        flux = noise * self.snr[:, None] * self.shape * self.gain
        flux = flux + error * rng.standard_normal((n, e))
        source, epoch = np.nonzero(rng.random((n, e)) >= self.missing)
        number = len(source)
        seen = (source, epoch)
        return {
            "source_id": np.array([f"S{k:05d}" for k in range(n)])[source],
            "ra_deg": (0.5 + 6.5 * self.x[source]) % 360,
            "dec_deg": 16.1 + 1.5 * self.y[source],
            "strip": np.full(number, "dec+16.1"),
            "epoch": 9000 + epoch,
            "mjd": self.mjd[epoch],
            "group_id": np.array([f"c_{k}" for k in range(e)])[epoch],
            "weight": 1 / error[seen] ** 2,
            "flux_jy": flux[seen],
            "flux_err_jy": error[seen],
            "scale_err": np.full(number, 0.05),
            "is_limit": flux[seen] < 3 * error[seen],
            "upper_limit_jy": np.maximum(flux[seen], 0) + 3 * error[seen],
            "isolated": np.ones(number, bool),
            "compact": np.ones(number, bool),
            "qa": np.full(number, "pass"),
        }


def damped_walk(rng: np.random.Generator, mjd: np.ndarray, time: float) -> np.ndarray:
    """Damped random walk of unit variance at irregular times."""
    value = rng.standard_normal(len(mjd))
    for k in range(1, len(mjd)):
        memory = np.exp(-(mjd[k] - mjd[k - 1]) / time)
        value[k] = memory * value[k - 1] + np.sqrt(1 - memory**2) * value[k]
    return value


def own_pulls(flux: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Deviations from each source's own weighted mean over what theory gives them.

    The mean is made of the same data: a deviation has the variance of the datum less the mean's.
    """
    weight = np.where(np.isfinite(flux), 1 / variance, 0.0)
    total = weight.sum(axis=1, keepdims=True)
    mean = (weight * np.nan_to_num(flux)).sum(axis=1, keepdims=True) / total
    return (flux - mean) / np.sqrt(variance - 1 / total)


@dataclass
class Measured:
    """Of all constant sources of some surveys: one row a source.

    Attributes
    ----------
    snr : ndarray
        True S/N of an epoch.
    square, count : ndarray
        Sum of squared pulls, and their number.
    before, after, expected : ndarray
        Relative scatter of the fluxes as measured and as normalised, and its expectation by the
        errors.
    survey : ndarray of int
    """

    snr: np.ndarray
    square: np.ndarray
    count: np.ndarray
    before: np.ndarray
    after: np.ndarray
    expected: np.ndarray
    survey: np.ndarray

    def bins(self) -> list[dict[str, float]]:
        """Pull width and scatter in bins of S/N; the width's error from survey to survey."""
        result = []
        for low, high in itertools.pairwise(SNR_EDGES):
            here = (self.snr >= low) & (self.snr < high)
            own = [here & (self.survey == k) for k in np.unique(self.survey[here])]
            square = np.array([self.square[k].sum() for k in own])
            count = np.array([self.count[k].sum() for k in own])
            mean = square.sum() / count.sum()
            spread = np.sqrt(np.square(square - mean * count).sum()) / count.sum()
            result.append(
                {
                    "low": low,
                    "high": high,
                    "n_source": int(here.sum()),
                    "width": float(np.sqrt(mean)),
                    "width_err": float(0.5 * spread / np.sqrt(mean)),
                    "before": float(np.median(self.before[here])),
                    "after": float(np.median(self.after[here])),
                    "expected": float(np.median(self.expected[here])),
                }
            )
        return result


def measure(seeds: range, options: Variability | None = None, **survey: float) -> Measured:
    """Normalise simulated surveys and collect their constant sources."""
    parts = []
    for seed in seeds:
        truth = Survey(np.random.default_rng(seed), **survey)
        curves = build(truth.rows(), np.zeros(0))
        normal = normalise(curves, options or Variability())
        steady = truth.constant
        pulls = own_pulls(normal.flux[steady], normal.variance[steady])
        raw = curves.flux_jy[steady]
        parts.append(
            [
                truth.snr[steady],
                np.nansum(np.square(pulls), axis=1),
                np.isfinite(pulls).sum(axis=1),
                np.nanstd(raw, axis=1) / np.nanmean(raw, axis=1),
                np.nanstd(normal.flux[steady], axis=1),
                np.sqrt(np.nanmean(normal.variance[steady], axis=1)),
                np.full(steady.sum(), seed),
            ]
        )
    return Measured(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def draw(found: Measured, folder: Path) -> None:
    """Scatter before and after, and the pull width, against S/N."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3), layout="constrained")
    left, right = figure.subplots(1, 2)
    few = slice(0, 3000)
    left.loglog(found.snr[few], found.before[few], ".", ms=2, color="0.7", label="as measured")
    left.loglog(found.snr[few], found.after[few], ".", ms=2, color="C0", label="normalised")
    order = np.argsort(found.snr)
    groups = np.array_split(order, 30)
    centre = [np.median(found.snr[g]) for g in groups]
    left.loglog(centre, [np.median(found.expected[g]) for g in groups], "k-", lw=1, label="errors")
    left.set(xlabel="S/N of an epoch", ylabel="scatter of constant sources")
    left.legend(frameon=False, fontsize=8)
    bins = found.bins()
    x = [np.sqrt(b["low"] * b["high"]) for b in bins]
    right.errorbar(x, [b["width"] for b in bins], [b["width_err"] for b in bins], fmt="o", ms=4)
    right.axhspan(0.95, 1.05, color="0.9")
    right.axhline(1, color="0.6", lw=0.8)
    right.set(xscale="log", ylim=(0.9, 1.1), xlabel="S/N of an epoch", ylabel="pull width")
    figure.savefig(folder / "epoch-scale.png", dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--surveys", type=int, default=300)
    parser.add_argument("--ripple", type=float, default=0.0)
    parser.add_argument("--figures", type=Path)
    options = parser.parse_args()
    found = measure(range(options.surveys), ripple=options.ripple)
    print(
        "| S/N | sources | scatter before | after | errors | pull width |\n|---|---|---|---|---|---|"
    )
    for b in found.bins():
        print(
            f"| {b['low']:.0f}-{b['high']:.0f} | {b['n_source']} | {100 * b['before']:.2f} % "
            f"| {100 * b['after']:.2f} % | {100 * b['expected']:.2f} % "
            f"| {b['width']:.3f} ± {b['width_err']:.3f} |"
        )
    if options.figures:
        draw(found, options.figures)


if __name__ == "__main__":
    main()
