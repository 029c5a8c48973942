"""The most significant pair of epochs of every light curve: kernel."""

import numpy as np
from numba import njit


@njit(cache=True)
def best_pairs(flux, flux_err):
    """Pair of epochs with the largest |f1 - f2| / sqrt(e1^2 + e2^2) of each source.

    Sorted by error, only an epoch brighter (fainter) than all of smaller error can be in the best
    pair: replacing any other by one that is as extreme and has no larger error cannot lower the
    ratio. Of n epochs about ln n are left on either side, so the cost is that of the sort and the
    memory linear; where fluxes grow with their errors all pairs are tried.

    Parameters
    ----------
    flux, flux_err : ndarray of float64, shape (n_source, n_epoch)
        NaN where not measured.

    Returns
    -------
    first, second : ndarray of int64, shape (n_source,)
        The earlier and the later epoch, -1 with fewer than two epochs.
    """
    n_source, n_epoch = flux.shape
    first, second = np.full(n_source, -1), np.full(n_source, -1)
    bright, faint = np.empty(n_epoch, np.int64), np.empty(n_epoch, np.int64)
    for s in range(n_source):
        f, e = flux[s], flux_err[s]
        seen = np.flatnonzero(np.isfinite(f) & np.isfinite(e) & (e > 0))
        if seen.size < 2:
            continue
        order = seen[np.argsort(e[seen], kind="mergesort")]
        n_bright = n_faint = 0
        for i in order:
            if n_bright == 0 or f[i] > f[bright[n_bright - 1]]:
                bright[n_bright] = i
                n_bright += 1
            if n_faint == 0 or f[i] < f[faint[n_faint - 1]]:
                faint[n_faint] = i
                n_faint += 1
        best, a, b = 0.0, seen[0], seen[1]  # all fluxes equal: any pair
        for j in range(n_bright):
            for k in range(n_faint):
                one, two = bright[j], faint[k]
                difference = f[one] - f[two]
                ratio = difference * difference / (e[one] * e[one] + e[two] * e[two])
                if difference > 0 and ratio > best:
                    best, a, b = ratio, one, two
        first[s], second[s] = min(a, b), max(a, b)
    return first, second
