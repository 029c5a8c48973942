"""Neighbours that dip with the candidate: a gain error, not an event."""

import numpy as np

from dsaflow.variability.search import ratio_error


def separation_deg(
    ra_deg: np.ndarray, dec_deg: np.ndarray, ra0_deg: float, dec0_deg: float
) -> np.ndarray:
    """Angular distance [deg] (haversine: exact at small angles, safe across RA 0)."""
    ra, dec = np.radians(ra_deg), np.radians(dec_deg)
    ra0, dec0 = np.radians(ra0_deg), np.radians(dec0_deg)
    half = np.sin((dec - dec0) / 2) ** 2 + np.cos(dec) * np.cos(dec0) * np.sin((ra - ra0) / 2) ** 2
    return np.degrees(2 * np.arcsin(np.sqrt(np.minimum(half, 1))))


def fit_depths(
    curve: np.ndarray, variance: np.ndarray, dip: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Relative depth and error of one template in many curves, baseline fitted jointly.

    Parameters
    ----------
    curve, variance : ndarray, shape (n_source, n_epoch)
        NaN where not measured.
    dip : ndarray, shape (n_epoch,) or (n_source, n_epoch)

    Returns
    -------
    depth, depth_err : ndarray, shape (n_source,)
        NaN where the epochs cannot tell, or the baseline is not positive.
    """
    mask = np.isfinite(curve) & np.isfinite(variance) & (variance > 0)
    y = np.where(mask, curve, 0.0)
    weight = np.where(mask, 1 / np.where(mask, variance, 1.0), 0.0)
    norm = np.maximum(weight.sum(axis=1), 1e-300)
    level, centre = (weight * y).sum(axis=1) / norm, (weight * dip).sum(axis=1) / norm
    shifted = np.broadcast_to(dip, y.shape) - centre[:, None]
    information = (weight * np.square(shifted)).sum(axis=1)
    known = information > 1e-9 * norm
    information = np.where(known, information, 1.0)
    amplitude = -(weight * (y - level[:, None]) * shifted).sum(axis=1) / information
    baseline = level + amplitude * centre
    known &= baseline > 0
    safe = np.where(known, baseline, np.nan)
    error = ratio_error(amplitude, safe, centre, information, norm)
    return amplitude / safe, error / safe


def neighbour_depth(
    target: int,
    dip: np.ndarray,
    depth: float,
    curve: np.ndarray,
    variance: np.ndarray,
    excess: np.ndarray,
    ra_deg: np.ndarray,
    dec_deg: np.ndarray,
    radius_deg: float,
    number: int,
) -> tuple[float, float, int, np.ndarray]:
    """Mean depth of the same event in the nearest neighbours that could show it.

    A neighbour can show it where its own depth error is below a third of the candidate's depth.
    No neighbour weighs more than an error of a tenth of the depth would give it, so that one
    bright source cannot outvote the rest.

    Returns
    -------
    mean, error : float
        NaN without neighbours.
    n_dipping : int
        Neighbours that by themselves dip by half of the candidate's depth or more, at 4 sigma.
    index : ndarray of int
        The neighbours used, nearest first.
    """
    distance = separation_deg(ra_deg, dec_deg, ra_deg[target], dec_deg[target])
    near = np.flatnonzero((distance <= radius_deg) & (np.arange(len(curve)) != target))
    depths, errors = fit_depths(curve[near], variance[near] + excess[near, None], dip)
    able = np.isfinite(depths) & (errors < depth / 3)
    near, depths, errors = near[able], depths[able], errors[able]
    order = np.argsort(distance[near], kind="stable")[:number]
    near, depths, errors = near[order], depths[order], errors[order]
    if len(near) == 0:
        return np.nan, np.nan, 0, near
    weight = 1 / np.square(np.maximum(errors, 0.1 * depth))
    mean = float((weight * depths).sum() / weight.sum())
    spread = float((weight * np.square(depths - mean)).sum() / weight.sum())
    error = np.sqrt(max(1 / weight.sum(), spread / max(len(near) - 1, 1)))
    dipping = (depths > 0.5 * depth) & (depths > 4 * errors)
    return mean, float(error), int(dipping.sum()), near
