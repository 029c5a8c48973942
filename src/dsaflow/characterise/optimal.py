"""The optimal filter: what a search could reach that knew the event's shape and the noise."""

import numpy as np


def matched_snr(
    curve: np.ndarray,
    sigma: np.ndarray,
    dip: np.ndarray,
    mjd: np.ndarray,
    walk_days: np.ndarray,
    walk_rms: float,
) -> np.ndarray:
    """S/N of the known template in known noise, with a constant baseline fitted beside it.

    Generalised least squares (Aitken 1936): amplitude over its error, for the model level -
    amplitude x dip with covariance diag(sigma^2) plus that of a damped random walk. The level is
    free because no search knows it either.

    Parameters
    ----------
    curve, sigma : ndarray, shape (n_source, n_epoch)
        Relative flux and its true 1-sigma error; NaN where not measured.
    dip : ndarray, shape (n_source, n_epoch)
        1 less flux over quiet flux, without noise.
    mjd : ndarray, shape (n_epoch,)
    walk_days : ndarray, shape (n_source,)
        Correlation time of the source's own walk; 0: none.
    walk_rms : float
        Its relative rms.

    Returns
    -------
    ndarray, shape (n_source,)
        0 where the epochs show nothing of the event.
    """
    seen = np.isfinite(curve) & np.isfinite(sigma)
    weight = np.where(seen, 1 / np.square(np.where(seen, sigma, 1.0)), 0.0)
    y = np.where(seen, curve, 0.0)
    one = seen.astype(float)
    dip = np.where(seen, dip, 0.0)
    inverse = {name: weight * values for name, values in (("y", y), ("one", one), ("dip", dip))}
    for k in np.flatnonzero(walk_days > 0):
        good = np.flatnonzero(seen[k])
        lag = np.abs(mjd[good, None] - mjd[good])
        covariance = walk_rms**2 * np.exp(-lag / walk_days[k]) + np.diag(np.square(sigma[k, good]))
        columns = np.stack([y[k, good], one[k, good], dip[k, good]], axis=1)
        solved = np.linalg.solve(covariance, columns)
        for j, name in enumerate(("y", "one", "dip")):
            inverse[name][k, good] = solved[:, j]
    norm = (one * inverse["one"]).sum(axis=1)
    cross = (dip * inverse["one"]).sum(axis=1)
    level = (one * inverse["y"]).sum(axis=1)
    safe = np.where(norm > 0, norm, 1.0)
    information = (dip * inverse["dip"]).sum(axis=1) - np.square(cross) / safe
    projection = -((dip * inverse["y"]).sum(axis=1) - cross * level / safe)
    good = information > 1e-9
    return np.where(good, projection / np.sqrt(np.where(good, information, 1.0)), 0.0)
