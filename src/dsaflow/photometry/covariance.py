"""Variance of fluxes that are linear in an image of correlated noise: kernels."""

import numpy as np
from numba import njit


@njit(cache=True)
def sandwich(u, pixels, noise, rho):
    """Diagonal of U^T C U with C_ij = s_i s_j rho(i - j)."""
    n_lag = rho.shape[0] // 2
    size, m = u.shape
    variance = np.zeros(m)
    scaled = u.T.copy()
    for a in range(size):
        scaled[:, a] *= noise[pixels[a, 0], pixels[a, 1]]
    near = np.zeros(size)
    for a in range(size):
        # row a of C, its upper half left out and the lower doubled
        for b in range(a):
            dj, di = pixels[a, 0] - pixels[b, 0], pixels[a, 1] - pixels[b, 1]
            inside = dj <= n_lag and -n_lag <= di <= n_lag
            near[b] = 2 * rho[n_lag + dj, n_lag + di] if inside else 0.0
        near[a] = 1.0
        for k in range(m):
            total = 0.0
            for b in range(a + 1):
                total += near[b] * scaled[k, b]
            variance[k] += scaled[k, a] * total
    return variance


@njit(cache=True)
def with_absorbed_noise(u, pixels, x, y, group, rho):
    """Weights of a flux whose source was deconvolved: u + (1 - r) at the source's pixel.

    What CLEAN takes off a source is its flux and the noise at its place, n0 times the dirty beam;
    the restored image has n0 times the restoring beam instead. A fit that finds the fraction r of
    a dirty beam thus gains (1 - r) n0. r is found with the noise's correlation as the dirty beam.
    """
    n_lag = rho.shape[0] // 2
    changed = u.copy()
    for c in range(group.size):
        i, j = int(np.rint(x[group[c]])), int(np.rint(y[group[c]]))
        response, at = 0.0, -1
        for a in range(pixels.shape[0]):
            dj, di = pixels[a, 0] - j, pixels[a, 1] - i
            if dj == 0 and di == 0:
                at = a
            if abs(dj) <= n_lag and abs(di) <= n_lag:
                response += u[a, c] * rho[n_lag + dj, n_lag + di]
        if at >= 0:
            changed[at, c] += 1 - response
    return changed
