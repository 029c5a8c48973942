"""How often chance gives an event: calibrated on the data themselves, and what follows from it."""

import math
from dataclasses import dataclass, field

import numpy as np

from dsaflow.variability.curves import nan_median
from dsaflow.variability.search import Events, SearchRules, search
from dsaflow.variability.tail import Tail, fit_tail
from dsaflow.variability.templates import TemplateBank

# Events per source-year (Fiedler et al. 1994), and the depth up to which they are taken to be
# equally likely.
EVENT_RATE = 0.017
DEEPEST = 0.5
# Share of simulated event-free seasons with ln LR above x, times exp(x): an upper limit of what
# docs/ese.md tells.
CHANCE = 0.02
# A null must have this many correlation times in a block, and this share of the longest template.
_BLOCK_TIMES = 3
_BLOCK_TEMPLATE = 0.5
# Curves searched for a method, at most; in a large survey a part of the sources gives them.
_MOST_CURVES = 20000
_LEAST_PERMUTATIONS = 5
# A lag-1 correlation beyond this many of its errors makes a source correlated.
_CORRELATED_SIGMA = 3.0
_ROUNDS = 4
# Phases of the blocks worth trying for each of their orders.
_SHIFTS = 12


@dataclass
class FalseAlarms:
    """Expected number of event-free sources above a ln LR, per survey.

    Attributes
    ----------
    threshold : float
        Log likelihood ratio that a candidate must exceed: the largest of the estimates.
    analytic, permutation, flipped : float
        Thresholds of simulated seasons (`CHANCE`), of permuted epochs and of sign-flipped
        curves; NaN where an estimate could not be made.
    n_source, source_years : int, float
        Sources of the survey, and their observed time (0: not known).
    tails : list of Tail
        Of the methods that could be used.
    n_permutations, n_quiet : int
        Permutations made, and sources in them.
    n_candidates, n_vetoed, n_brightenings : int
        Sources taken out: candidates; events that a rule vetoes; in the sign-flipped curves, those
        above the threshold. Were all noise symmetric and no source to flare, as many candidates as
        brightenings would be false.
    block_epochs, correlation_epochs : int
        Length of the permuted blocks, and of the correlation it must cover.
    block_limited : bool
        The season is too short for blocks as long as they should be.
    off_source : str
        Blank positions calibrate noise below S/N 10 only; the photometry has none.
    """

    threshold: float
    analytic: float
    permutation: float = math.nan
    flipped: float = math.nan
    n_source: int = 0
    source_years: float = 0.0
    tails: list[Tail] = field(default_factory=list, repr=False)
    n_permutations: int = 0
    n_quiet: int = 0
    n_candidates: int = 0
    n_vetoed: int = 0
    n_brightenings: int = 0
    block_epochs: int = 0
    correlation_epochs: int = 0
    block_limited: bool = False
    off_source: str = "not available"

    @property
    def agree(self) -> bool:
        """The methods' rates at the threshold lie within a factor 2; False with fewer than two."""
        rates = [float(tail.expected(np.array(self.threshold))) for tail in self.tails]
        return len(rates) >= 2 and max(rates) <= 2 * min(rates)

    def expected(self, ratio: np.ndarray) -> np.ndarray:
        """False alarms per survey above a log likelihood ratio, the largest of the estimates."""
        ratio = np.asarray(ratio, float)
        estimates = [tail.expected(ratio) for tail in self.tails]
        return np.maximum.reduce([self.n_source * _chance(ratio), *estimates])

    def interval(self, ratio: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """5th and 95th percentile of `expected`: how well the largest estimate is known."""
        ratio = np.asarray(ratio, float)
        best = low = high = self.n_source * _chance(ratio)
        for tail in self.tails:
            value = tail.expected(ratio)
            ends = tail.interval(ratio)
            low = np.where(value > best, ends[0], low)
            high = np.where(value > best, ends[1], high)
            best = np.maximum(best, value)
        return low, high

    def per_source_year(self, ratio: np.ndarray) -> np.ndarray:
        """False alarms per source-year of observed time; NaN where that is not known."""
        years = self.source_years if self.source_years > 0 else math.nan
        return self.expected(ratio) / years

    def q_values(self, ratios: np.ndarray) -> np.ndarray:
        """Least false discovery rate at which each source is listed (Benjamini & Hochberg 1995).

        Parameters
        ----------
        ratios : ndarray, shape (n_source,)
            ln LR of every source searched, 0 for those without an event or with a vetoed one.
        """
        from scipy.stats import false_discovery_control

        ratios = np.asarray(ratios, float)
        if len(ratios) == 0:
            return np.zeros(0)
        p = -np.expm1(-self.expected(ratios) / max(self.n_source, 1))
        return false_discovery_control(np.where(ratios > 0, p, 1.0), method="bh")

    def probability_real(
        self,
        ratio: np.ndarray,
        snr: np.ndarray,
        depth_err: np.ndarray,
        event_rate: float = EVENT_RATE,
    ) -> np.ndarray:
        """Probability that a candidate is an event and no false alarm, given the rates of both.

        f / (f + b): f is the density of real events in ln LR at the candidate, for `event_rate`
        events per source-year with depths uniform up to 50 %; b that of false alarms. ln LR grows as
        half the square of the S/N, and the depth as S/N times `depth_err`, so that f = rate x years a
        source x depth_err / (DEEPEST x snr). Real here means a dip that the source or its line of
        sight has made: whether a lens did is for its colour to say.

        Parameters
        ----------
        ratio, snr, depth_err : ndarray, shape (n,)
            `snr` of the matched filter.
        """
        ratio, depth_err = np.asarray(ratio, float), np.asarray(depth_err, float)
        step = 0.05
        above = self.expected(ratio)
        # Not below the slope of Gaussian noise: a flat stretch of counted curves is no absence.
        slope = np.maximum((above - self.expected(ratio + step)) / step, above * 0.05)
        noise = slope / max(self.n_source, 1)
        years = self.source_years / max(self.n_source, 1)
        real = event_rate * years * depth_err / (DEEPEST * np.maximum(snr, 1e-9))
        return real / (real + noise)


def _chance(ratio: np.ndarray) -> np.ndarray:
    """Share of event-free sources above a ratio of evidences, if the priors describe their noise.

    The mean of such a ratio over curves without an event is 1, so exp(-ratio) bounds the share
    (Markov's inequality); simulated seasons stay below it by `CHANCE`.
    """
    return CHANCE * np.exp(-np.maximum(ratio, 0))


def analytic_threshold(n_source: int, false_alarms: float) -> float:
    """Ln LR that `false_alarms` of the sources exceed by chance if the priors describe their noise."""
    return max(math.log(CHANCE * max(n_source, 1) / false_alarms), 0.0)


def calibrate_threshold(
    curve: np.ndarray,
    variance: np.ndarray,
    bank: TemplateBank,
    rules: SearchRules,
    events: Events,
    false_alarms: float,
    permutations: int,
    block_epochs: int,
    seed: int,
    mjd: np.ndarray | None = None,
) -> FalseAlarms:
    """Threshold at which event-free sources give `false_alarms` candidates a survey.

    Epochs are permuted in blocks, jointly for all sources, so that a night of bad gains stays one
    night and correlated variations keep their length; the same is done with the curves turned
    about their medians, which no dip survives. Sources above the threshold are taken out: permuted,
    an event still looks like one. Of the estimates the largest counts.

    Parameters
    ----------
    curve, variance : ndarray, shape (n_source, n_epoch)
    events : Events
        What the search found in the true order.
    false_alarms : float
        Candidates per survey allowed by chance.
    permutations : int
        As many as make 1e4 curves, at least 5, at most ten times this; 0: none, the threshold is
        that of simulated seasons.
    block_epochs : int
        Least length of a block; at least three correlation times and half of the longest template
        are taken, as far as the season has two such blocks.
    mjd : ndarray, shape (n_epoch,), optional
        For the observed time, epochs times the step between them; default: the bank's.
    """
    n_source, n_epoch = curve.shape
    analytic = analytic_threshold(n_source, false_alarms)
    result = FalseAlarms(analytic, analytic, n_source=n_source)
    mjd = getattr(bank, "mjd", None) if mjd is None else mjd
    step = float(np.median(np.diff(mjd))) if mjd is not None and n_epoch > 1 else math.nan
    if math.isfinite(step):
        result.source_years = float(np.isfinite(curve).sum()) * step / 365.25
    present = np.fmax(
        events.log_likelihood_ratio, getattr(events, "edge_log_likelihood_ratio", -np.inf)
    )
    quiet = present <= analytic
    if n_epoch < 4 or len(bank) == 0 or permutations == 0 or not quiet.any():
        return result
    rng = np.random.default_rng(seed)
    _choose_blocks(result, curve[quiet], bank, step, block_epochs)
    number = int(min(10 * permutations, max(_LEAST_PERMUTATIONS, 1e4 // quiet.sum())))
    # Few blocks have few orders: more permutations would search the same curves again.
    number = min(number, _SHIFTS * math.factorial(min(n_epoch // result.block_epochs, 10)))
    part = np.arange(n_source)
    if n_source * number > _MOST_CURVES:
        part = np.sort(rng.choice(n_source, max(1, _MOST_CURVES // number), replace=False))
    orders = [block_permutation(n_epoch, result.block_epochs, rng) for _ in range(number)]
    survey = _Survey(curve[part], variance[part], bank, rules, orders, n_source, false_alarms, seed)
    turned = survey.searched(-1, np.arange(n_epoch), np.arange(len(part)))
    # Cut in two by a permutation, a dip leaves a rise between its halves and a flare a dip: neither
    # belongs in either method.
    signal = np.maximum(present[part], turned)
    permuted = survey.calibrate("permuted", 1, signal, analytic)
    flipped = survey.calibrate("sign-flipped", -1, signal, analytic)
    result.permutation, result.flipped = permuted.threshold, flipped.threshold
    result.threshold = float(np.fmax(analytic, np.fmax(result.permutation, result.flipped)))
    result.tails = [null.tail for null in (permuted, flipped) if null.tail is not None]
    result.n_permutations, result.n_quiet = number, permuted.n_used
    announced = np.where(events.veto == 0, events.log_likelihood_ratio, 0.0)
    result.n_candidates = int((announced > result.threshold).sum())
    result.n_vetoed = int((present > result.threshold).sum()) - result.n_candidates
    result.n_brightenings = int((turned > result.threshold).sum())
    return result


@dataclass
class _Calibrated:
    threshold: float
    tail: Tail | None
    n_used: int


@dataclass
class _Survey:
    """Curves from which event-free ones are made, and how they are searched."""

    curve: np.ndarray
    variance: np.ndarray
    bank: TemplateBank
    rules: SearchRules
    orders: list[np.ndarray]
    n_source: int
    false_alarms: float
    seed: int

    def searched(self, sign: int, order: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Ln LR of what the search would announce with the epochs in another order; -inf: nothing."""
        curve = self.curve[rows]
        if sign < 0:
            curve = 2 * nan_median(curve)[:, None] - curve
        found = search(curve[:, order], self.variance[rows][:, order], self.bank, self.rules)
        return found.raw_ratio

    def calibrate(self, method: str, sign: int, present: np.ndarray, least: float) -> _Calibrated:
        """Tail of the permuted curves; sources above the threshold that follows are left out.

        Parameters
        ----------
        present : ndarray, shape (n_source,)
            ln LR of what is in the curves as they are.
        least : float
            The threshold to begin with: what lies between it and the final one is put back.
        """
        values = np.full((len(self.orders), len(present)), -np.inf)
        used = np.zeros(len(present), bool)
        threshold, tail = least, None
        for _ in range(_ROUNDS):
            rows = np.flatnonzero((present <= threshold) & ~used)
            if len(rows) == 0:
                break
            for k, order in enumerate(self.orders):
                values[k, rows] = self.searched(sign, order, rows)
            used[rows] = True
            n_survey = len(self.orders) * used.sum() / self.n_source
            tail = fit_tail(method, values[:, used], n_survey, self.seed)
            if tail is None:
                break
            threshold = max(least, tail.threshold(self.false_alarms))
        own = tail.threshold(self.false_alarms) if tail is not None else math.nan
        return _Calibrated(own, tail, int(used.sum()))


def _choose_blocks(
    result: FalseAlarms, curve: np.ndarray, bank: TemplateBank, step: float, least: int
) -> None:
    """Set the length of the blocks from the correlation and the longest template."""
    n_epoch = curve.shape[1]
    result.correlation_epochs = correlation_epochs(curve)
    longest = float(np.max(bank.duration_days))
    if not math.isfinite(step):
        step = longest / n_epoch  # times unknown: the whole season
    wanted = max(
        least,
        _BLOCK_TIMES * result.correlation_epochs,
        math.ceil(_BLOCK_TEMPLATE * longest / step),
    )
    result.block_epochs = min(wanted, max(1, n_epoch // 2))
    result.block_limited = result.block_epochs < wanted


def correlation_epochs(curve: np.ndarray) -> int:
    """Epochs after which the correlated sources' autocorrelation has fallen to 1/e of that at lag 1.

    Parameters
    ----------
    curve : ndarray, shape (n_source, n_epoch)
        NaN where not measured.

    Returns
    -------
    int
        1 where no source is correlated from one epoch to the next.
    """
    z = curve - nan_median(curve)[:, None]
    seen = np.isfinite(z)
    z = np.where(seen, z, 0.0)
    power = np.square(z).sum(axis=1)
    z = z / np.sqrt(np.where(power > 0, power, 1.0))[:, None]
    n_epoch = z.shape[1]
    pairs = np.maximum((seen[:, 1:] & seen[:, :-1]).sum(axis=1), 1)
    first = (z[:, 1:] * z[:, :-1]).sum(axis=1)
    correlated = first > _CORRELATED_SIGMA / np.sqrt(pairs)
    if not correlated.any():
        return 1
    z, seen = z[correlated], seen[correlated]
    lags = np.arange(1, max(2, n_epoch // 2))
    shared = [(seen[:, k:] & seen[:, :-k]).sum() for k in lags]
    mean = np.array(
        [(z[:, k:] * z[:, :-k]).sum() / max(n, 1) for k, n in zip(lags, shared, strict=True)]
    )
    fallen = mean < mean[0] / math.e
    return int(lags[fallen.argmax()]) if fallen.any() else int(lags[-1])


def block_permutation(n_epoch: int, block: int, rng: np.random.Generator) -> np.ndarray:
    """Order of epochs with whole blocks exchanged; the blocks' phase is random too."""
    shift = int(rng.integers(n_epoch))
    blocks = np.array_split(np.roll(np.arange(n_epoch), shift), max(2, n_epoch // block))
    return np.concatenate([blocks[k] for k in rng.permutation(len(blocks))])
