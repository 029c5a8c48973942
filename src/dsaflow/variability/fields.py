"""A long strip in fields of right ascension, each with a flux scale of its own."""

import numpy as np

from dsaflow.variability.scale import EpochScale


def split_fields(ra_deg: np.ndarray, width_deg: float) -> np.ndarray:
    """Field of each source: equal parts of right ascension, none wider than `width_deg`.

    The first field begins after the widest gap, so that a strip across 0 h is not cut there.

    Returns
    -------
    ndarray of int, shape (n_source,)
    """
    if len(ra_deg) == 0:
        return np.zeros(0, int)
    ra = np.sort(np.mod(ra_deg, 360))
    gap = np.diff(np.append(ra, ra[0] + 360))
    first = ra[(int(gap.argmax()) + 1) % len(ra)]
    span = 360 - float(gap.max())
    number = max(1, int(np.ceil(span / width_deg)))
    east = np.mod(ra_deg - first, 360)
    return np.minimum((east / max(span, 1e-9) * number).astype(int), number - 1)


def join_fields(parts: list[EpochScale], field: np.ndarray) -> EpochScale:
    """One scale of a strip from those of its fields; `field` as from `split_fields`.

    An epoch's own values are means (the scale, its coefficients, chi-squared), sums (references)
    or the largest (excess, rejected, degree) of the fields measured; an epoch is measured where
    at least half of the fields are. The parts give up their `source_scale` and its error.
    """
    if len(parts) == 1:
        return parts[0]
    n_epoch = len(parts[0].scale)

    def grid(name: str) -> np.ndarray:
        values = np.empty((len(field), n_epoch))
        for k, part in enumerate(parts):
            values[field == k] = getattr(part, name)
            setattr(part, name, np.zeros((0, n_epoch)))  # once is enough: this is a large one
        return values

    def of_source(name: str) -> np.ndarray:
        values = [getattr(part, name) for part in parts]
        result = np.empty(len(field), values[0].dtype)
        for k, value in enumerate(values):
            result[field == k] = value
        return result

    def stack(name: str) -> np.ndarray:
        return np.array([getattr(part, name) for part in parts])

    here = stack("measured")
    measured = 2 * here.sum(axis=0) >= len(parts)
    count = np.maximum(here.sum(axis=0), 1)

    def mean(values: np.ndarray) -> np.ndarray:
        return np.where(here, np.nan_to_num(values), 0.0).sum(axis=0) / count

    unmeasured = np.fmax.reduce(stack("scale_err"), axis=0)
    error = np.sqrt(mean(np.square(stack("scale_err"))) / count)
    level = np.where(measured, mean(np.log(stack("scale"))), 0.0)
    return EpochScale(
        scale=np.exp(level),
        scale_err=np.where(measured, error, unmeasured),
        source_scale=grid("source_scale"),
        source_scale_err=grid("source_scale_err"),
        excess=stack("excess").max(axis=0),
        source_excess=of_source("source_excess"),
        n_references=stack("n_references").sum(axis=0),
        reduced_chi2=np.where(measured, mean(stack("reduced_chi2")), np.nan),
        is_reference=of_source("is_reference"),
        measured=measured,
        rejected=np.where(here, stack("rejected"), 0.0).max(axis=0),
        order=stack("order").max(axis=0),
        theta=level[:, None],
        covariance=np.square(error)[:, None, None],
        basis=np.ones((len(field), 1)),
        parts=parts,
        field=field,
    )
