"""Search for dips: likelihood of an event against noise, and against everything else that dips."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import Any

import numba
import numpy as np

from dsaflow.config.sections import Variability
from dsaflow.variability import detail
from dsaflow.variability.assess import assess_block, prepare
from dsaflow.variability.evidence import noise_prior
from dsaflow.variability.noise import TAU_DAYS, decay_table
from dsaflow.variability.packs import Rack, Sampling
from dsaflow.variability.rivals import FLARE, RISE
from dsaflow.variability.templates import TemplateBank, cadence_days

VETOES = ("", "few_epochs", "single_epoch", "not_a_dip", "no_recovery")
# What the best explanation of a source is: an event that begins and ends within the data, a fall
# without a return, a return without a fall.
CLASSES = ("", "event", "no_recovery", "no_onset")

_BLOCK = 64
_DAYS_A_YEAR = 365.25


@dataclass(frozen=True)
class SearchRules:
    """What an event must rest on, and what noise may do.

    Attributes
    ----------
    min_epochs : int
        Epochs in the dip that each favour the event.
    max_single : float
        Largest fraction of the improvement that one epoch may contribute.
    margin_epochs : int
        Measured epochs in the flank on either side.
    min_side : float
        Recovery on either side over the depth: a step or a decline into a gap has no second side.
    min_balance : float
        Share of the improvement that either half of the event must give.
    max_gap : float
        Longest time without a measurement in the event and at its edges, in durations: what
        happened in a longer one is not known.
    min_rest : float
        Improvement in chi-squared that the dip must give without its three best epochs: two or three
        bad epochs of one source come near one another by chance.
    bad_epochs_odds : float
        Ln LR from which it is enough that the other epochs do not speak against the event by as much:
        three bad ones that look so like one are too rare.
    min_from_dip, dip_alone : float
        Share of the improvement that must come from inside the dip, unless that part is this large
        by itself: a strong lens has rises at its edges that outweigh its dip.
    drift_per_year : float
        Standard deviation of the baseline's slope [1/yr].
    red_penalty, white_penalty : float
        What correlated and white excess noise must gain in ln likelihood to be believed: most
        sources are quiet.
    rival_penalty : float
        The same for a step, a decline or a flare.
    variable_rms, variable_spread_dex : float
        Typical amplitude of a variable source's random walk, and the scatter of its logarithm:
        compact sources at this frequency vary by some per cent (refractive scintillation).
    """

    min_epochs: int = 3
    max_single: float = 0.6
    margin_epochs: int = 2
    min_side: float = 0.5
    min_balance: float = 0.1
    max_gap: float = 0.4
    min_rest: float = 5.0
    bad_epochs_odds: float = 15.0
    min_from_dip: float = 0.3
    dip_alone: float = 60.0
    drift_per_year: float = 0.1
    red_penalty: float = 3.0
    white_penalty: float = 1.0
    rival_penalty: float = 10.0
    variable_rms: float = 0.05
    variable_spread_dex: float = 0.1

    @classmethod
    def of(cls, options: Variability) -> "SearchRules":
        """Take from the configuration what it sets."""
        return cls(
            min_epochs=options.min_event_epochs,
            max_single=options.max_single_contribution,
            drift_per_year=options.baseline_drift_per_year,
            red_penalty=options.variable_log_odds,
            rival_penalty=options.rival_log_odds,
            variable_rms=options.variable_rms,
            variable_spread_dex=options.variable_spread_dex,
        )


@dataclass
class Events:
    """Best event of each source; arrays of shape (n_source,).

    `template` (of the bank, the nearest) is -1 where no template fits the source's epochs or none
    is worth assessing; then `log_likelihood_ratio` is 0 or that of an edge. `veto` indexes
    `VETOES`, `cls` `CLASSES`. `depth` is relative to `baseline`, the level beneath the event.
    `excess` is the variance added to every epoch's: `red` of a damped random walk with
    `tau_days`, the rest white. `shape_index`, `mid_mjd` and `duration_days` are those of the event
    off the bank's grid. `snr` is the matched filter's S/N for this noise; `log_likelihood_ratio`
    is the event against the best noise model without one, or against the best rival (a step, a
    decline, a flare) if that is better; where that is negative it is 0, and `raw_ratio` alone tells
    it (-inf: no event, or a vetoed one). `edge_log_likelihood_ratio` and `edge_mjd` tell of that
    rival.
    """

    template: np.ndarray
    log_likelihood_ratio: np.ndarray
    depth: np.ndarray
    depth_err: np.ndarray
    baseline: np.ndarray
    excess: np.ndarray
    n_epochs: np.ndarray
    largest_single: np.ndarray
    veto: np.ndarray
    worst_epoch: np.ndarray
    cls: np.ndarray
    shape_index: np.ndarray
    mid_mjd: np.ndarray
    duration_days: np.ndarray
    snr: np.ndarray
    red: np.ndarray
    tau_days: np.ndarray
    edge_log_likelihood_ratio: np.ndarray
    edge_mjd: np.ndarray
    raw_ratio: np.ndarray

    @classmethod
    def none(cls, n_source: int) -> "Events":
        """No event for any source."""
        whole = {
            "n_epochs": 0,
            "veto": 0,
            "cls": 0,
            "template": -1,
            "worst_epoch": -1,
            "shape_index": -1,
        }
        zero: tuple[str, ...] = ("log_likelihood_ratio", "edge_log_likelihood_ratio")
        zero += ("excess", "largest_single", "snr", "red")
        value = dict.fromkeys(zero, 0.0) | {"raw_ratio": -np.inf}
        return cls(
            **{
                f.name: np.full(n_source, whole[f.name])
                if f.name in whole
                else np.full(n_source, value.get(f.name, np.nan))
                for f in fields(cls)
            }
        )

    def put(self, index: np.ndarray, other: "Events", which: Any) -> None:
        """Set the sources `index` to entries `which` of `other`."""
        for f in fields(self):
            getattr(self, f.name)[index] = getattr(other, f.name)[which]


def search(
    curve: np.ndarray,
    variance: np.ndarray,
    bank: TemplateBank,
    rules: SearchRules,
    threads: int | None = None,
) -> Events:
    """Best dip of every source.

    Parameters
    ----------
    curve : ndarray, shape (n_source, n_epoch)
        Normalised flux (about 1), NaN where not measured.
    variance : ndarray, shape (n_source, n_epoch)
        Of `curve`: measurement and epoch scale.
    bank : TemplateBank
    threads : int, optional
        As many as numba may use. Sources are independent, the kernels release the lock.

    Notes
    -----
    The statistic is the logarithm of a ratio of evidences, event over no event: likelihoods averaged
    over the noise (white excess and a damped random walk, with a prior that most sources are quiet)
    and, for the event, over depth, mid time, duration and shape (`evidence`); the baseline, a level
    and a slope with a prior, is maximised. Where a rival explains the curve better than noise alone,
    the event is held against the rival.
    """
    n_source = len(curve)
    if n_source == 0 or curve.shape[1] < 2:
        return Events.none(n_source)
    # in one memory layout: another would have every kernel compiled once more
    curve, variance = np.ascontiguousarray(curve), np.ascontiguousarray(variance)
    mask = np.isfinite(curve) & np.isfinite(variance) & (variance > 0)
    mjd = bank.mjd
    half_span = 0.5 * (mjd[-1] - mjd[0])
    time = (mjd - mjd[0]) / half_span - 1
    slope_precision = (rules.drift_per_year * half_span / _DAYS_A_YEAR) ** -2
    step = cadence_days(mjd)
    shortest = bank.min_epochs * step
    slot = np.floor(np.log2(np.maximum(bank.duration_days / shortest, 1.0))).astype(np.int64)
    limits = np.array([shortest, max(bank.longest_days, shortest)])
    out = np.empty((n_source, detail.N_COLUMN))
    spread = rules.variable_spread_dex * np.log(10)
    prior = np.array(
        [rules.red_penalty, rules.white_penalty, np.log(rules.variable_rms), spread**-2]
    )

    models = noise_prior(2 * half_span, np.exp(-rules.red_penalty), rules.variable_rms, spread)
    sampling = Sampling(mjd, time, decay_table(mjd, TAU_DAYS), step, slope_precision, prior, models)
    rack = Rack(
        bank.values, bank.first, bank.offset, bank.bounds, slot, int(slot.max(initial=0)) + 1,
        bank.shape_index, bank.mid_mjd, bank.duration_days, bank.table, bank.outer_phase,
        bank.reach_phase, limits, rules.min_epochs, rules.margin_epochs,
    )  # fmt: skip

    def work(start: int) -> None:
        part = slice(start, start + _BLOCK)
        y = np.where(mask[part], curve[part], 1.0)
        v = np.where(mask[part], variance[part], 1.0)
        assess_block(y, v, mask[part], sampling, rack, out[part])

    starts = range(0, n_source, _BLOCK)
    threads = threads or numba.get_num_threads()
    if threads > 1 and len(starts) > 1:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(work, starts))
    else:
        for start in starts:
            work(start)
    return judge(out, mjd, rules)


def clip_lone(curve: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Clip lone excursions of one source as the search does; NaN stays, shape (n_epoch,)."""
    mask = np.isfinite(curve) & np.isfinite(variance) & (variance > 0)
    source = prepare(np.where(mask, curve, 1.0), np.where(mask, variance, 1.0), mask)
    return np.where(mask, source.base[0] + source.mean, np.nan)


def judge(found: np.ndarray, mjd: np.ndarray, rules: SearchRules) -> Events:
    """Apply the rules to what was measured (columns of `detail`)."""
    events = Events.none(len(found))
    some = found[:, detail.TEMPLATE] >= 0
    rival = found[:, detail.RIVAL] - rules.rival_penalty
    kind, sign = found[:, detail.RIVAL_KIND], found[:, detail.RIVAL_SIGN]
    edge = (kind >= 0) & (kind < FLARE)
    whole = found[:, [detail.TEMPLATE, detail.FAVOURING, detail.WORST]].astype(int)
    events.template, events.n_epochs, events.worst_epoch = whole.T.copy()
    events.shape_index = np.where(some, np.nan_to_num(found[:, detail.SHAPE], nan=-1), -1).astype(
        int
    )
    for name, column in (
        ("depth", detail.DEPTH),
        ("depth_err", detail.DEPTH_ERR),
        ("baseline", detail.BASELINE),
        ("mid_mjd", detail.MID),
        ("duration_days", detail.DURATION),
        ("largest_single", detail.LARGEST),
        ("red", detail.RED),
    ):
        setattr(events, name, found[:, column].copy())
    events.snr = np.nan_to_num(found[:, detail.SNR])
    events.excess = found[:, detail.RED] + found[:, detail.WHITE]
    tau = np.nan_to_num(found[:, detail.TAU]).astype(int)
    events.tau_days = np.where(events.red > 0, TAU_DAYS[tau], np.nan)
    ratio = found[:, detail.RATIO] - np.maximum(rival, 0)
    veto = np.zeros(len(found), int)
    with np.errstate(invalid="ignore"):
        for name, broken in (
            (
                "no_recovery",
                ~(found[:, detail.SIDE] >= rules.min_side)
                | ~(found[:, detail.BALANCE] >= rules.min_balance)
                | (found[:, detail.GAP] > rules.max_gap),
            ),
            (
                "not_a_dip",
                ~(found[:, detail.DEPTH] > 0)
                | (
                    (found[:, detail.FROM_DIP] < rules.min_from_dip)
                    & (found[:, detail.INSIDE] < rules.dip_alone)
                ),
            ),
            (
                "few_epochs",
                (found[:, detail.FAVOURING] < rules.min_epochs)
                | (found[:, detail.REST] < -rules.min_rest)
                | (
                    (found[:, detail.REST] < rules.min_rest)
                    & (found[:, detail.RATIO] < rules.bad_epochs_odds)
                ),
            ),
            ("single_epoch", found[:, detail.LARGEST] > rules.max_single),
        ):
            veto[some & broken] = VETOES.index(name)
    beaten = rival > np.maximum(found[:, detail.RATIO], 0)
    veto[beaten] = VETOES.index("not_a_dip")
    veto[beaten & edge] = VETOES.index("no_recovery")
    # An edge without its other side has a ratio of its own: against noise.
    events.log_likelihood_ratio = np.maximum(np.where(beaten & edge, rival, ratio), 0.0)
    events.veto = veto
    events.raw_ratio = np.where(some & (veto == 0), ratio, -np.inf)
    events.cls[some & (veto == 0) & (ratio > 0)] = CLASSES.index("event")
    lost = beaten & edge
    onset = (kind != RISE) & (sign < 0)
    events.cls[lost & onset] = CLASSES.index("no_recovery")
    events.cls[lost & ~onset] = CLASSES.index("no_onset")
    events.cls[(veto == VETOES.index("no_recovery")) & ~beaten] = CLASSES.index("no_recovery")
    events.edge_log_likelihood_ratio = np.where(edge, np.maximum(rival, 0.0), 0.0)
    epoch = np.clip(found[:, detail.RIVAL_EPOCH].astype(int), 0, len(mjd) - 1)
    events.edge_mjd = np.where(edge, mjd[epoch], np.nan)
    return events


def ratio_error(
    amplitude: np.ndarray,
    baseline: np.ndarray,
    centre: np.ndarray,
    information: np.ndarray,
    norm: np.ndarray,
) -> np.ndarray:
    """Error of amplitude / baseline times the baseline, with their covariance.

    The baseline is level + amplitude x centre, where level (information `norm`) and amplitude
    (`information`) are independent.
    """
    depth = amplitude / np.where(baseline > 0, baseline, np.nan)
    return np.sqrt(
        np.square(1 - depth * centre) / information
        + np.square(depth) / np.where(norm > 0, norm, np.inf)
    )
