"""One tile as the mosaic sees it: read, checked, cut to the region above the beam cut."""

import logging
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsaflow.errors import DataRejected, ReasonCode
from dsaflow.mosaic.resample import TAPS
from dsaflow.projection import Grid, beam_covariance, grid_of
from dsaflow.verdict import Verdict

LOG = logging.getLogger(__name__)
REQUIRED = ("BMAJ", "BMIN", "BPA", "FREQ", "BNDWID", "MJD-OBS", "MJD-AVG", "SCALEERR", "SCALESYS")


@dataclass
class Tile:
    """A tile offered to a mosaic; `reason` is empty where it is used.

    Attributes
    ----------
    name : str
        Tile id.
    paths : dict
        image, beam, noise, subbands, verdict.
    reason : str
        Why it is left out.
    header : mapping
        FITS header of the image.
    grid : Grid
        Of the whole tile.
    region : (y0, y1, x0, x1)
        Part with response above the beam cut, with the margin that interpolation needs.
    noise_jy : float
        Smallest noise in the region [Jy/beam].
    weight : float
        Sum of beam^2 / noise^2 over the mosaic's pixels, once it is added.
    """

    name: str
    paths: dict[str, str]
    reason: str = ""
    header: Any = None
    grid: Grid | None = None
    region: tuple[int, int, int, int] = (0, 0, 0, 0)
    noise_jy: float = np.nan
    weight: float = 0.0
    outline: NDArray = field(default_factory=lambda: np.empty((0, 2)))

    @property
    def used(self) -> bool:
        """Whether it goes into the mosaic."""
        return not self.reason

    def card(self, name: str) -> float:
        """Numeric header card; NaN where the tile has none (a tile that is left out)."""
        value = None if self.header is None else self.header.get(name)
        return np.nan if value is None else float(value)

    def covariance_deg2(self) -> NDArray:
        """Second moments of the restoring beam in the tile's (east, north), shape (2, 2)."""
        return beam_covariance(self.card("BMAJ"), self.card("BMIN"), self.card("BPA"))

    def plane(self, key: str, band: int | None = None, extension: str | int = 0) -> NDArray:
        """Cut-out of one plane of a product of this tile, in native byte order."""
        from astropy.io import fits

        y0, y1, x0, x1 = self.region
        with fits.open(self.paths[key], memmap=True) as hdus:
            data = hdus[extension].data
            if data is None:
                raise DataRejected(ReasonCode.NO_DATA, f"{self.paths[key]} has no {extension}")
            data = data if band is None else data[band]
            return np.ascontiguousarray(data[y0:y1, x0:x1], dtype=np.float32)


def open_tile(paths: dict[str, str], beam_cut: float) -> Tile:
    """Read a tile's headers and the region that it covers.

    A tile that cannot be used comes back with its `reason`; only machine problems raise.

    Parameters
    ----------
    paths : dict
        tile (its id), image, beam, noise, subbands, verdict.
    beam_cut : float
        Response below which pixels are left out.
    """
    from astropy.io import fits

    tile = Tile(paths["tile"], paths)
    verdict = Verdict.read(paths["verdict"])
    if not verdict.usable:
        tile.reason = f"{verdict.reason_code}: {verdict.detail}"
        return tile
    tile.header = fits.getheader(paths["image"])
    if tile.header["NAXIS"] < 2:
        tile.reason = f"{tile.header.get('REASON', ReasonCode.NO_DATA)}: header-only image"
        return tile
    missing = [key for key in REQUIRED if key not in tile.header]
    if missing:
        tile.reason = f"{ReasonCode.HEADER_MISMATCH}: no card {', '.join(missing)}"
        return tile
    tile.grid = grid_of(tile.header)
    _measure_region(tile, beam_cut)
    return tile


def _measure_region(tile: Tile, beam_cut: float) -> None:
    """Find the region above the beam cut, its outline and its noise."""
    assert tile.grid is not None
    ny, nx = tile.grid.shape
    tile.region = (0, ny, 0, nx)
    beam, noise = tile.plane("beam"), tile.plane("noise")
    if beam.shape != (ny, nx) or noise.shape != (ny, nx):
        tile.reason = f"{ReasonCode.HEADER_MISMATCH}: beam or noise differ from the image in shape"
        return
    with np.errstate(invalid="ignore"):
        inside = (beam >= beam_cut) & (noise > 0)
    rows = np.flatnonzero(inside.any(axis=1))
    if rows.size == 0:
        tile.reason = f"{ReasonCode.NO_DATA}: no pixel with response above {beam_cut}"
        return
    first = inside[rows].argmax(axis=1)
    last = nx - 1 - inside[rows][:, ::-1].argmax(axis=1)
    tile.outline = np.concatenate([np.c_[first, rows], np.c_[last, rows]]).astype(float)
    tile.noise_jy = float(noise[inside].min())
    margin = TAPS
    tile.region = (
        max(int(rows[0]) - margin, 0),
        min(int(rows[-1]) + margin + 1, ny),
        max(int(first.min()) - margin, 0),
        min(int(last.max()) + margin + 1, nx),
    )


def check_strip(tiles: list[Tile], tolerance_deg: float) -> float:
    """Spread of the tiles' apparent declinations [deg].

    The ICRS declination of a strip's meridian wanders with right ascension (precession), so the
    comparison is made in declination of date: card PNTDEC, or the tile's centre by ERFA ``atci13``.

    Raises
    ------
    DataRejected
        STRIPS_MIXED where two tiles differ by more than `tolerance_deg`.
    """
    import erfa

    ra, dec, mjd = (
        np.array([tile.card(k) for tile in tiles]) for k in ("CRVAL1", "CRVAL2", "MJD-AVG")
    )
    _, apparent, _ = erfa.atci13(
        np.radians(ra), np.radians(dec), 0.0, 0.0, 0.0, 0.0, 2400000.5, mjd
    )
    pointing = np.array([tile.card("PNTDEC") for tile in tiles])
    apparent = np.where(np.isfinite(pointing), pointing, np.degrees(apparent))
    low, high = apparent.min(), apparent.max()
    if high - low > tolerance_deg:
        raise DataRejected(
            ReasonCode.STRIPS_MIXED,
            f"apparent declinations from {low:.3f} to {high:.3f} deg in one mosaic "
            f"(tolerance {tolerance_deg} deg)",
        )
    return float(high - low)
