"""What pulls would be if every error were exactly as stated: how well a bin knows its mean and width."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dsaflow.validation.score import SCALE_SNR, SNR_BINS, robust_width, tile_scale_error

if TYPE_CHECKING:
    import pandas as pd

DRAWS = 300


def drawn_pulls(rows: "pd.DataFrame", draws: int = DRAWS, seed: int = 0) -> NDArray:
    """Pulls of the same sources with Gaussian errors of the stated size, shape (draws, n).

    Parameters
    ----------
    rows : DataFrame
        Of `dsaflow.validation.score.join_truth`, of several skies told apart by ``seed``.
    draws, seed : int
        Number of draws, and that of the generator.

    Notes
    -----
    Errors of bright sources are not their own: sources in the same tiles share the tiles' scale, and all
    of a night the scale that is divided out, the median of some thirty ratios. Their mean pull is
    therefore known less well than to ``1 / sqrt(n)``. Sources of one stated scale error are taken for sources
    of the same tiles.
    """
    rng = np.random.default_rng(seed)
    pulls = np.full((draws, len(rows)), np.nan)
    names = [name for name in ("seed", "night") if name in rows]
    for places in rows.groupby(names).indices.values():
        night = rows.iloc[places]
        noise = (night["flux_err_jy"] / night["true_jy"]).to_numpy()
        scale_err = tile_scale_error(night)
        tiles = np.unique(np.round(scale_err, 6), return_inverse=True)[1]
        off = scale_err * rng.normal(size=(draws, tiles.max() + 1))[:, tiles]
        ratio = 1 + off + noise * rng.normal(size=(draws, len(night)))
        bright = (night["true_snr"] > SCALE_SNR).to_numpy()
        scale = np.median(ratio[:, bright], axis=1, keepdims=True) if bright.any() else 1.0
        pulls[:, places] = (ratio / scale - 1) / np.hypot(noise, scale_err)
    return pulls


def pull_errors(rows: "pd.DataFrame", draws: int = DRAWS) -> list[tuple[float, float]]:
    """Standard errors of a bin's mean pull and of its width, for each of `SNR_BINS`."""
    pulls, snr = drawn_pulls(rows, draws), rows["true_snr"].to_numpy()
    found = []
    for low, high in SNR_BINS:
        inside = pulls[:, (snr >= low) & (snr < high)]
        if inside.shape[1] == 0:
            found.append((float("nan"), float("nan")))
            continue
        means = np.clip(inside, -5, 5).mean(axis=1)
        widths = [robust_width(one) for one in inside]
        found.append((float(np.std(means)), float(np.std(widths))))
    return found
