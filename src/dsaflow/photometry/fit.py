"""Forced fits of the restoring beam: kernels.

Positions and shapes are fixed, fluxes are linear. Each group of near sources is one weighted
least-squares fit on the pixels within `radius` of any member; its covariance is the sandwich
U^T C U with U = W A (A^T W A)^-1 and C_ij = s_i s_j rho(i - j), since neighbouring pixels' noise is
correlated over a beam (Condon 1997; White 1980 for the estimator).
"""

import numpy as np
from numba import njit

from dsaflow.photometry.covariance import sandwich, with_absorbed_noise

FOUR_LN2_TWICE = 8 * np.log(2)  # squared width of one beam in units of sigma^2


@njit(cache=True, inline="always")
def _distance2(i, j, x, y, p):
    dx, dy = i - x, j - y
    return p[0] * dx * dx + 2 * p[1] * dx * dy + p[2] * dy * dy


@njit(cache=True)
def group_sources(x, y, precision, link_beams):
    """Label sources linked by less than `link_beams` beams (friends of friends).

    Parameters
    ----------
    x, y : ndarray, shape (n,)
        Pixels.
    precision : ndarray, shape (n, 3)
        Inverse second moments of the beam (xx, xy, yy) [pixel^-2].
    link_beams : float
        In full widths at half maximum along the line between the two.

    Returns
    -------
    ndarray of int64, shape (n,)
        Index of the group's first member (in order of y).
    """
    n = x.size
    parent = np.arange(n)
    order = np.argsort(y)
    limit = link_beams * link_beams * FOUR_LN2_TWICE
    for a in range(n):
        i = order[a]
        det = precision[i, 0] * precision[i, 2] - precision[i, 1] ** 2
        reach = np.sqrt(limit * precision[i, 0] / det)
        for b in range(a + 1, n):
            j = order[b]
            dy, dx = y[j] - y[i], x[j] - x[i]
            if dy > reach:
                break
            p = precision[i]
            if p[0] * dx * dx + 2 * p[1] * dx * dy + p[2] * dy * dy < limit:
                ri, rj = i, j
                while parent[ri] != ri:
                    ri = parent[ri]
                while parent[rj] != rj:
                    rj = parent[rj]
                parent[max(ri, rj)] = min(ri, rj)
    for i in range(n):
        root = i
        while parent[root] != root:
            root = parent[root]
        parent[i] = root
    return parent


@njit(cache=True)
def has_neighbour(x, y, flux, precision, beams, fraction):
    """Whether another source above `fraction` of a source's flux lies within `beams` of it.

    Arguments as for `group_sources`; returns ndarray of bool, shape (n,).
    """
    n = x.size
    out = np.zeros(n, np.bool_)
    limit = beams * beams * FOUR_LN2_TWICE
    order = np.argsort(y)
    for a in range(n):
        i = order[a]
        p = precision[i]
        reach = np.sqrt(limit * p[0] / (p[0] * p[2] - p[1] * p[1]))
        for step in (-1, 1):
            b = a + step
            while 0 <= b < n and abs(y[order[b]] - y[i]) <= reach:
                j = order[b]
                if flux[j] > fraction * flux[i] and _distance2(x[j], y[j], x[i], y[i], p) < limit:
                    out[i] = True
                b += step
    return out


@njit(cache=True, inline="always")
def _box(x, y, p, q, shape):
    """Half-open pixel box (y0, y1, x0, x1) of the ellipse q about (x, y), inside the image."""
    det = p[0] * p[2] - p[1] * p[1]
    half_x, half_y = np.sqrt(q * p[2] / det), np.sqrt(q * p[0] / det)
    return (
        max(int(np.ceil(y - half_y)), 0),
        min(int(np.floor(y + half_y)) + 1, shape[0]),
        max(int(np.ceil(x - half_x)), 0),
        min(int(np.floor(x + half_x)) + 1, shape[1]),
    )


@njit(cache=True)
def add_model(image, x, y, precision, flux, radius_beams):
    """Add `flux` times the beam to `image` at each position, in place, out to `radius_beams`."""
    q_max = radius_beams * radius_beams * FOUR_LN2_TWICE
    for k in range(x.size):
        if not np.isfinite(flux[k]):
            continue
        p = precision[k]
        y0, y1, x0, x1 = _box(x[k], y[k], p, q_max, image.shape)
        for j in range(y0, y1):
            for i in range(x0, x1):
                q = _distance2(i, j, x[k], y[k], p)
                if q <= q_max:
                    image[j, i] += flux[k] * np.exp(-0.5 * q)


@njit(cache=True)
def mask_sources(shape, x, y, precision, radius_beams):
    """Pixels within `radius_beams` of any source, shape `shape`, bool."""
    masked = np.zeros(shape, np.bool_)
    q_max = radius_beams * radius_beams * FOUR_LN2_TWICE
    for k in range(x.size):
        y0, y1, x0, x1 = _box(x[k], y[k], precision[k], q_max, shape)
        for j in range(y0, y1):
            for i in range(x0, x1):
                if _distance2(i, j, x[k], y[k], precision[k]) <= q_max:
                    masked[j, i] = True
    return masked


@njit(cache=True)
def local_background(image, masked, x, y, precision, inner_beams, outer_beams):
    """Clipped mean and rms of the unmasked pixels in an elliptical ring about each position.

    Returns
    -------
    mean, rms : ndarray, shape (n,)
        [Jy/beam]; NaN with fewer than 30 pixels.
    count : ndarray, shape (n,)
        Pixels used.
    """
    n = x.size
    mean, rms, count = np.full(n, np.nan), np.full(n, np.nan), np.zeros(n)
    low, high = inner_beams**2 * FOUR_LN2_TWICE, outer_beams**2 * FOUR_LN2_TWICE
    for k in range(n):
        p = precision[k]
        y0, y1, x0, x1 = _box(x[k], y[k], p, high, image.shape)
        values = np.empty(max((y1 - y0) * (x1 - x0), 0))
        size = 0
        for j in range(y0, y1):
            for i in range(x0, x1):
                value = image[j, i]
                if masked[j, i] or not np.isfinite(value):
                    continue
                if low <= _distance2(i, j, x[k], y[k], p) <= high:
                    values[size] = value
                    size += 1
        centre, limit = 0.0, np.inf
        for _ in range(3):
            total, square, used = 0.0, 0.0, 0
            for value in values[:size]:
                offset = value - centre
                if abs(offset) <= limit:
                    total += offset
                    square += offset * offset
                    used += 1
            if used < 30:
                break
            step = total / used
            centre += step
            rms[k] = np.sqrt(max(square / used - step * step, 0.0))
            mean[k], count[k], limit = centre, used, 3.5 * rms[k]
    return mean, rms, count


@njit(cache=True)
def _invert(matrix):
    """Inverse of a small symmetric positive matrix (Gauss-Jordan); NaN where it is singular."""
    n = matrix.shape[0]
    work, out = matrix.copy(), np.eye(n)
    scale = 0.0
    for k in range(n):
        scale = max(scale, abs(matrix[k, k]))
    for k in range(n):
        pivot = work[k, k]
        if not pivot > 1e-12 * scale:
            return np.full((n, n), np.nan)
        work[k] /= pivot
        out[k] /= pivot
        for r in range(n):
            if r != k:
                factor = work[r, k]
                work[r] -= factor * work[k]
                out[r] -= factor * out[k]
    return out


@njit(cache=True)
def _stamp(image, noise, x, y, precision, members, q_max):
    """Pixels (j, i) within q_max of any member that have data; and how many have not."""
    y0, y1, x0, x1 = image.shape[0], 0, image.shape[1], 0
    for k in members:
        b = _box(x[k], y[k], precision[k], q_max, image.shape)
        y0, y1, x0, x1 = min(y0, b[0]), max(y1, b[1]), min(x0, b[2]), max(x1, b[3])
    pixels = np.empty((max(y1 - y0, 0) * max(x1 - x0, 0), 2), np.int64)
    size, missing = 0, 0
    for j in range(y0, y1):
        for i in range(x0, x1):
            for k in members:
                if _distance2(i, j, x[k], y[k], precision[k]) <= q_max:
                    if np.isfinite(image[j, i]) and noise[j, i] > 0:
                        pixels[size, 0], pixels[size, 1] = j, i
                        size += 1
                    else:
                        missing += 1
                    break
    return pixels[:size], missing


@njit(cache=True)
def fit_groups(
    image, noise, x, y, precision, start, members, background, background_var, radius_beams, rho,
    deconvolved=False,
):  # fmt: skip
    """Fit the fluxes of every group.

    Parameters
    ----------
    image : ndarray, shape (ny, nx)
        [Jy/beam].
    noise : ndarray, shape (ny, nx)
        [Jy/beam].
    x, y, precision : ndarray, shapes (n,), (n,), (n, 3)
        Pixels; inverse second moments of the beam.
    start, members : ndarray of int64
        Members of group g are ``members[start[g]:start[g + 1]]``.
    background, background_var : ndarray, shape (n,)
        Local background [Jy/beam], NaN counts as zero; what it adds to the variance, in units of
        the local noise squared (`dsaflow.photometry.noise.ring_variance`).
    radius_beams : float
        Pixels within this of a member enter.
    rho : ndarray
        Correlation of the noise against lag; shape (1, 1) where no errors are wanted.
    deconvolved : bool
        Whether the sources' dirty beams were replaced (`with_absorbed_noise`).

    Returns
    -------
    flux, flux_var : ndarray, shape (n,)
        [Jy], [Jy^2]; NaN where the fit is singular or has no data at its centre.
    missing : ndarray, shape (n,)
        Fraction of the group's pixels without data.
    """
    n = x.size
    flux, flux_var, missing = np.full(n, np.nan), np.full(n, np.nan), np.ones(n)
    q_max = radius_beams * radius_beams * FOUR_LN2_TWICE
    for g in range(start.size - 1):
        group = members[start[g] : start[g + 1]]
        m = group.size
        pixels, n_missing = _stamp(image, noise, x, y, precision, group, q_max)
        size = pixels.shape[0]
        if size <= m:
            continue
        design = np.empty((size, m))
        level, level_var = 0.0, 0.0
        for c in range(m):
            k = group[c]
            level += (background[k] if np.isfinite(background[k]) else 0.0) / m
            level_var += background_var[k] / m
            for a in range(size):
                q = _distance2(pixels[a, 1], pixels[a, 0], x[k], y[k], precision[k])
                design[a, c] = np.exp(-0.5 * q)
        normal = np.zeros((m, m))
        weighted = np.empty((size, m))
        for a in range(size):
            w = 1 / noise[pixels[a, 0], pixels[a, 1]] ** 2
            weighted[a] = w * design[a]
        normal = design.T.copy() @ weighted
        u = weighted @ _invert(normal)
        variance = np.zeros(m)
        if rho.size > 1:
            known = with_absorbed_noise(u, pixels, x, y, group, rho) if deconvolved else u
            variance = sandwich(known, pixels, noise, rho)
        for c in range(m):
            k = group[c]
            total, response = 0.0, 0.0
            for a in range(size):
                total += u[a, c] * (image[pixels[a, 0], pixels[a, 1]] - level)
                response += u[a, c]
            flux[k] = total
            sigma = noise[pixels[size // 2, 0], pixels[size // 2, 1]]
            flux_var[k] = variance[c] + response * response * level_var * sigma * sigma
            missing[k] = n_missing / (size + n_missing)
    return flux, flux_var, missing


@njit(cache=True)
def fit_offsets(image, noise, x, y, precision, radius_beams):
    """Offset (dx, dy) [pixel] of each source from its given position, by linearised fits.

    Fits flux, flux dx and flux dy together; good for offsets well below a beam. NaN where singular.
    """
    n = x.size
    out = np.full((n, 2), np.nan)
    q_max = radius_beams * radius_beams * FOUR_LN2_TWICE
    one = np.zeros(1, np.int64)
    for k in range(n):
        one[0] = k
        pixels, n_missing = _stamp(image, noise, x, y, precision, one, q_max)
        if n_missing > 0 or pixels.shape[0] < 6:
            continue
        p = precision[k]
        normal, right, row = np.zeros((3, 3)), np.zeros(3), np.zeros(3)
        for a in range(pixels.shape[0]):
            dx, dy = pixels[a, 1] - x[k], pixels[a, 0] - y[k]
            row[0] = np.exp(-0.5 * _distance2(pixels[a, 1], pixels[a, 0], x[k], y[k], p))
            row[1] = row[0] * (p[0] * dx + p[1] * dy)
            row[2] = row[0] * (p[1] * dx + p[2] * dy)
            for r in range(3):
                right[r] += row[r] * image[pixels[a, 0], pixels[a, 1]]
                for c in range(3):
                    normal[r, c] += row[r] * row[c]
        solution = _invert(normal) @ right
        out[k] = solution[1:] / solution[0]
    return out


@njit(cache=True)
def edge_distance(covered, x, y):
    """Distance [pixel] of each position to the nearest covered pixel that touches the outside."""
    ny, nx = covered.shape
    edge = np.empty((2 * (ny + nx) * 8, 2), np.int64)
    size = 0
    for j in range(ny):
        for i in range(nx):
            if covered[j, i] and (
                j == 0 or i == 0 or j == ny - 1 or i == nx - 1
                or not (covered[j - 1, i] and covered[j + 1, i]
                        and covered[j, i - 1] and covered[j, i + 1])
            ):  # fmt: skip
                if size == edge.shape[0]:
                    grown = np.empty((2 * size, 2), np.int64)
                    grown[:size] = edge
                    edge = grown
                edge[size, 0], edge[size, 1] = j, i
                size += 1
    out = np.full(x.size, np.inf)
    for k in range(x.size):
        for e in range(size):
            d = (edge[e, 0] - y[k]) ** 2 + (edge[e, 1] - x[k]) ** 2
            out[k] = min(out[k], d)
        out[k] = np.sqrt(out[k])
    return out
