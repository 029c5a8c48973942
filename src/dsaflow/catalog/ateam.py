"""The A-team: sources so bright that they are seen through any sidelobe, anywhere above the horizon.

Positions: NASA/IPAC Extragalactic Database; of Cas A the remnant's centre (Green 2019, J. Astrophys.
Astron. 40, 36), of Tau A the pulsar's. Fluxes and spectral indices at 1.4 GHz from the fits of Perley &
Butler (2017), which is where the sizes are from as well: a Gaussian whose FWHM is about half of the
largest angular size. Per A varies.
"""

import numpy as np
from numpy.typing import NDArray

from dsaflow.catalog.table import Catalog

# name, ICRS RA and declination [deg], flux at 1.4 GHz [Jy], spectral index, FWHM [arcmin]
_ROWS: tuple[tuple[str, float, float, float, float, float], ...] = (
    ("Cas A", 350.8500, 58.8150, 1770.0, -0.77, 2.7),
    ("Cyg A", 299.868153, 40.733916, 1580.0, -1.06, 0.6),
    ("Tau A", 83.633212, 22.014460, 830.0, -0.24, 2.7),
    ("Vir A", 187.705931, 12.391123, 212.0, -0.83, 1.0),
    ("For A", 50.673750, -37.208333, 132.0, -0.66, 18.0),
    ("Pic A", 79.957171, -45.778828, 67.0, -0.77, 2.7),
    ("Her A", 252.783946, 4.992589, 48.0, -1.05, 1.0),
    ("Hyd A", 139.523546, -12.095553, 44.0, -0.94, 0.3),
    ("Per A", 49.950667, 41.511695, 23.0, -0.30, 0.0),
)


def a_team() -> tuple[Catalog, NDArray]:
    """The A-team in the form of a catalogue, and the FWHM [rad] of each as a Gaussian."""
    name, ra_deg, dec_deg, flux_jy, index, fwhm_arcmin = (
        np.array(column) for column in zip(*_ROWS, strict=True)
    )
    catalog = Catalog(
        name, ra_deg, dec_deg, flux_jy, 0.05 * flux_jy, index, fwhm_arcmin == 0,
        origin="A-team", version="Perley & Butler 2017",
    )  # fmt: skip
    return catalog, np.radians(fwhm_arcmin / 60)
