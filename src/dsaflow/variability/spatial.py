"""Low-order polynomials over the mosaic: the spatial part of the epochs' flux scale."""

import numpy as np


def n_terms(order: int) -> int:
    """Terms of a 2-D polynomial of total degree `order`."""
    return (order + 1) * (order + 2) // 2


def highest_order(n_points: int, per_term: int) -> int:
    """Highest order with `per_term` points a term; 0 where there are too few."""
    order = 0
    while n_points >= per_term * n_terms(order + 1):
        order += 1
    return order


def local_offsets(ra_deg: np.ndarray, dec_deg: np.ndarray) -> np.ndarray:
    """East and north offsets from the centre of the sources [deg], shape (n_source, 2).

    The right ascension's centre is the middle of the shortest arc that holds every source, so
    that a field across 0 h is whole.
    """
    if len(ra_deg) == 0:
        return np.zeros((0, 2))
    ra = np.sort(np.mod(ra_deg, 360))
    gap = np.diff(np.append(ra, ra[0] + 360))
    first = ra[(int(gap.argmax()) + 1) % len(ra)]
    east = np.mod(ra_deg - first, 360)
    middle = 0.5 * (dec_deg.min() + dec_deg.max())
    return np.column_stack(
        [(east - 0.5 * east.max()) * np.cos(np.radians(middle)), dec_deg - middle]
    )


def polynomials(offset_deg: np.ndarray, reference: np.ndarray, order: int) -> np.ndarray:
    """Polynomials of total degree <= `order`, orthonormal over the references.

    Parameters
    ----------
    offset_deg : ndarray, shape (n_source, 2)
    reference : ndarray of bool, shape (n_source,)

    Returns
    -------
    ndarray, shape (n_source, n_term)
        The first column is 1; the mean product of two columns over the references is 0, of one
        with itself 1. A term that the references cannot tell from lower ones is left out.
    """
    ones = np.ones((len(offset_deg), 1))
    if order == 0 or not reference.any():
        return ones
    span = np.maximum(np.abs(offset_deg[reference]).max(axis=0), 1e-9)
    x, y = (offset_deg / span).T
    columns = [x ** (d - k) * y**k for d in range(order + 1) for k in range(d + 1)]
    basis: list[np.ndarray] = []
    for column in columns:
        rest = column
        for _ in range(2):  # twice: Gram-Schmidt once loses digits
            for done in basis:
                rest = rest - done * np.mean(rest[reference] * done[reference])
        norm = np.sqrt(np.mean(np.square(rest[reference])))
        if norm > 1e-6:
            basis.append(rest / norm)
    return np.column_stack(basis)
