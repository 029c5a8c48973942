"""The reference catalogue (NVSS or another in the same form) and the calibrators."""

from dsaflow.catalog.calibrators import Calibrators, perley_butler_jy, read_calibrators
from dsaflow.catalog.fetch import fetch_catalog, nvss_rows, ra_pieces, read_nvss_fits
from dsaflow.catalog.table import Catalog, read_catalog, write_catalog

__all__ = [
    "Calibrators",
    "Catalog",
    "fetch_catalog",
    "nvss_rows",
    "perley_butler_jy",
    "ra_pieces",
    "read_calibrators",
    "read_catalog",
    "read_nvss_fits",
    "write_catalog",
]
