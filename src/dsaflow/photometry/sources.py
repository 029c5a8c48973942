"""What is measured: catalogue positions on a mosaic, their beams, groups and surroundings."""

import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsaflow.catalog import Catalog
from dsaflow.errors import DataRejected, ReasonCode
from dsaflow.mosaic.local import PLANES, read_local
from dsaflow.photometry.fit import group_sources, has_neighbour
from dsaflow.projection import Grid, beam_covariance, grid_of


@dataclass
class Mosaic:
    """A mosaic in memory.

    Attributes
    ----------
    image, noise : ndarray, shape (ny, nx)
        [Jy/beam]; NaN outside.
    coverage : ndarray of int, shape (ny, nx)
    bands, band_noise : ndarray, shape (n_band, ny, nx)
    band_freq_hz : ndarray, shape (n_band,)
    local : ndarray
        Slowly varying properties (`dsaflow.mosaic.local`).
    mjd0 : float
        Zero of the plane MJD.
    grid : Grid
    centre_ra_deg : float
        Right ascension of the reference point, which is the planned centre.
    freq_hz : float
    pixel_deg : float
    """

    image: NDArray
    noise: NDArray
    coverage: NDArray
    bands: NDArray
    band_noise: NDArray
    band_freq_hz: NDArray
    local: NDArray
    mjd0: float
    grid: Grid
    centre_ra_deg: float
    freq_hz: float
    pixel_deg: float


def _native(data: NDArray | None, path: str | os.PathLike) -> NDArray:
    if data is None:
        raise DataRejected(ReasonCode.NO_DATA, f"{path} holds no image")
    return np.ascontiguousarray(data, dtype=data.dtype.newbyteorder("="))


def read_mosaic(paths: dict[str, str]) -> Mosaic:
    """Read the files that `dsaflow.mosaic.coadd.make_mosaic` wrote.

    Parameters
    ----------
    paths : dict
        image, noise, coverage, subbands.

    Raises
    ------
    DataRejected
        NO_DATA where a file is header-only.
    """
    from astropy.io import fits

    with fits.open(paths["image"]) as hdus:
        header = hdus[0].header
        image = _native(hdus[0].data, paths["image"])
    with fits.open(paths["noise"]) as hdus:
        noise = _native(hdus[0].data, paths["noise"])
        local = _native(hdus["LOCAL"].data, paths["noise"])
        mjd0 = float(hdus["LOCAL"].header["MJD0"])
    with fits.open(paths["coverage"]) as hdus:
        coverage = _native(hdus[0].data, paths["coverage"])
    with fits.open(paths["subbands"]) as hdus:
        bands = _native(hdus[0].data, paths["subbands"])
        band_noise = _native(hdus["NOISE"].data, paths["subbands"])
        band_freq_hz = np.array(hdus["FREQS"].data["freq_hz"], float)
    pixel_deg = float(np.sqrt(abs(header["CDELT1"] * header["CDELT2"])))
    return Mosaic(
        image, noise, coverage, bands, band_noise, band_freq_hz, local, mjd0,
        grid_of(header), float(header["CRVAL1"]), float(header["FREQ"]), pixel_deg,
    )  # fmt: skip


def plain_local(shape: tuple[int, int], header, mjd: float) -> NDArray:
    """Extension LOCAL of a single image with one beam, for images that are no mosaics of ours.

    Scale errors are zero and the response is one: such an image has no primary beam to correct.
    """
    scale = np.diag([1 / header["CDELT1"], 1 / header["CDELT2"]])
    beam = beam_covariance(header["BMAJ"], header["BMIN"], header["BPA"])
    psf = scale @ beam @ scale
    values = dict.fromkeys(PLANES, 0.0) | {"WEIGHT": 1.0, "MJD": mjd, "BEAM": 1.0}
    values |= {"PSF_XX": psf[0, 0], "PSF_XY": psf[0, 1], "PSF_YY": psf[1, 1]}
    nodes = [-(-(n - 1) // 16) + 1 for n in shape]
    return np.array([np.full(nodes, values[name]) for name in PLANES])


@dataclass
class Targets:
    """Sources on a mosaic, arrays of shape (n,).

    Attributes
    ----------
    catalog : Catalog
        Rows in the order of the arrays.
    x, y : ndarray
        0-based pixels.
    precision : ndarray, shape (n, 3)
        Inverse second moments of the effective beam [pixel^-2].
    local : dict of ndarray
        Properties at the positions.
    start, members : ndarray of int
        Groups that are fitted together.
    """

    catalog: Catalog
    x: NDArray
    y: NDArray
    precision: NDArray
    local: dict[str, NDArray]
    start: NDArray
    members: NDArray

    def group_size(self) -> NDArray:
        """Number of sources fitted together with each, itself included."""
        size = np.empty(self.x.size, np.int64)
        size[self.members] = np.repeat(np.diff(self.start), np.diff(self.start))
        return size


def locate(mosaic: Mosaic, catalog: Catalog, link_beams: float) -> Targets:
    """Find the catalogue sources that lie inside the mosaic."""
    x, y = mosaic.grid.world_to_pixel(catalog.ra_deg, catalog.dec_deg)
    ny, nx = mosaic.image.shape
    with np.errstate(invalid="ignore"):
        inside = (x > -0.5) & (y > -0.5) & (x < nx - 0.5) & (y < ny - 0.5)
    column = np.where(inside, np.rint(np.where(inside, x, 0)), 0).astype(int)
    row = np.where(inside, np.rint(np.where(inside, y, 0)), 0).astype(int)
    inside &= mosaic.coverage[row, column] > 0
    inside &= np.isfinite(mosaic.image[row, column])
    x, y = np.asarray(x[inside], float), np.asarray(y[inside], float)
    local = read_local(mosaic.local, x, y)
    xx, xy, yy = (local[f"PSF_{name}"] for name in ("XX", "XY", "YY"))
    determinant = xx * yy - xy**2
    precision = np.stack([yy / determinant, -xy / determinant, xx / determinant], axis=1)
    label = group_sources(x, y, precision, link_beams)
    members = np.argsort(label, kind="stable")
    start = np.flatnonzero(np.diff(label[members], prepend=-1, append=-1))
    return Targets(catalog.select(inside), x, y, precision, local, start, members)


def isolated(targets: Targets, beams: float = 2.0, fraction: float = 0.2) -> NDArray:
    """Whether no catalogue source above `fraction` of a source's flux lies within `beams`."""
    flux = targets.catalog.flux_jy
    return ~has_neighbour(targets.x, targets.y, flux, targets.precision, beams, fraction)
