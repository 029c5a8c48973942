"""What the compiled kernels of the search take: the epochs, the bank, one source."""

from typing import NamedTuple

import numpy as np


class Sampling(NamedTuple):
    """The epochs of a strip and what is assumed of its sources.

    `time` is -1 at the first epoch and 1 at the last; `decay` the correlation with the epoch
    before, shape (n_epoch, n_tau); `step` the typical cadence [d]; `slope_precision` the inverse
    variance of the baseline's slope per unit of `time`; `prior` as in `noise.log_prior`, `models` as
    in `evidence.noise_prior`.
    """

    mjd: np.ndarray
    time: np.ndarray
    decay: np.ndarray
    step: float
    slope_precision: float
    prior: np.ndarray
    models: np.ndarray


class Rack(NamedTuple):
    """The bank of templates as plain arrays (see `templates.TemplateBank`).

    `slot` numbers the octave of each template's duration; of each octave the best template is
    assessed. `limits` are the shortest and the longest duration [d].
    """

    values: np.ndarray
    first: np.ndarray
    offset: np.ndarray
    bounds: np.ndarray
    slot: np.ndarray
    n_slot: int
    shape_index: np.ndarray
    mid: np.ndarray
    duration: np.ndarray
    table: np.ndarray
    outer: np.ndarray
    reach: np.ndarray
    limits: np.ndarray
    min_epochs: int
    margin: int


class Source(NamedTuple):
    """One source, its lone excursions clipped and its mean taken off.

    `seen` counts the measured epochs before each; `base` has the curve, a constant and the time;
    `rough` is the white excess seen in neighbouring differences, `typical` the mean of the errors'
    variances, `scatter` the curve's own variance.
    """

    variance: np.ndarray
    mask: np.ndarray
    seen: np.ndarray
    base: np.ndarray
    mean: float
    rough: float
    typical: float
    scatter: float
