"""Linear mosaic: flux = sum(I B / s^2) / sum(B^2 / s^2) on one common grid.

Cornwell (1988); Sault, Staveley-Smith & Brouw (1996). Tiles are added one after the other to
running sums, each only to the part of the grid that it covers.
"""

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsaflow import __version__
from dsaflow.config import Config
from dsaflow.errors import DataRejected, ReasonCode
from dsaflow.fileio import digest
from dsaflow.mosaic.local import LocalProperties
from dsaflow.mosaic.products import write_products
from dsaflow.mosaic.resample import (
    STEP,
    WEIGHTS,
    add_plane,
    interpolation_loss,
    node_map,
)
from dsaflow.mosaic.tiles import Tile, check_strip, open_tile
from dsaflow.names import mjd_to_datetime
from dsaflow.projection import SinGrid, beam_of_covariance
from dsaflow.verdict import Gate, Verdict

LOG = logging.getLogger(__name__)


@dataclass
class Sums:
    """Running sums of one plane over the mosaic's grid."""

    numerator: NDArray
    denominator: NDArray
    coverage: NDArray

    @classmethod
    def zeros(cls, shape: tuple[int, int]) -> "Sums":
        """Start empty."""
        return cls(np.zeros(shape), np.zeros(shape), np.zeros(shape, np.int16))

    def image(self) -> NDArray:
        """Flux [Jy/beam], NaN outside."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(self.coverage > 0, self.numerator / self.denominator, np.nan)

    def noise(self) -> NDArray:
        """Propagated noise [Jy/beam], NaN outside: tiles are independent observations."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(self.coverage > 0, 1 / np.sqrt(self.denominator), np.nan)


def common_grid(tiles: list[Tile], centre: tuple[float, float]) -> SinGrid:
    """SIN grid about `centre` (ra_deg, dec_deg) that holds every tile's region above the cut.

    Pixels are the tiles' (mean of their increments, which aberration changes by 1e-4).
    """
    cdelt = np.array([[tile.card("CDELT1"), tile.card("CDELT2")] for tile in tiles])
    dx, dy = -np.abs(cdelt[:, 0]).mean(), np.abs(cdelt[:, 1]).mean()
    frame = SinGrid(centre[0], centre[1], 0.0, 0.0, dx, dy, (1, 1))
    edges = []
    for tile in tiles:
        assert tile.grid is not None
        ra, dec = tile.grid.pixel_to_world(*tile.outline.T)
        edges.append(np.stack(frame.world_to_pixel(ra, dec)))
    x, y = np.concatenate(edges, axis=1)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise DataRejected(
            ReasonCode.HEADER_MISMATCH, "a tile reaches 90 deg and more from the mosaic's centre"
        )
    x_low, y_low = int(np.floor(x.min())) - 2, int(np.floor(y.min())) - 2
    shape = (int(np.ceil(y.max())) - y_low + 3, int(np.ceil(x.max())) - x_low + 3)
    return SinGrid(centre[0], centre[1], float(-x_low), float(-y_low), dx, dy, shape)


def _window(grid: SinGrid, tile: Tile) -> tuple[int, int, int, int]:
    """Window of the mosaic that a tile may touch, aligned to the nodes."""
    assert tile.grid is not None
    x, y = grid.world_to_pixel(*tile.grid.pixel_to_world(*tile.outline.T))
    ny, nx = grid.shape
    y0, x0 = (max(int(v.min()) - 2, 0) // STEP * STEP for v in (y, x))
    return y0, min(int(y.max()) + 3, ny), x0, min(int(x.max()) + 3, nx)


def add_tile(
    tile: Tile, grid: SinGrid, full: Sums, bands: list[Sums], local: LocalProperties, cut: float
) -> None:
    """Add one tile's planes to the running sums."""
    assert tile.grid is not None
    window = _window(grid, tile)
    y0, y1, x0, x1 = window
    map_x, map_y = node_map(grid, tile.grid, window)
    map_x -= tile.region[2]
    map_y -= tile.region[0]
    cut_out = np.s_[y0:y1, x0:x1]

    def add(image: NDArray, beam: NDArray, noise: NDArray, sums: Sums) -> float:
        return add_plane(
            image, beam, noise, map_x, map_y, cut, STEP, WEIGHTS,
            sums.numerator[cut_out], sums.denominator[cut_out], sums.coverage[cut_out],
        )  # fmt: skip

    beam, noise = tile.plane("beam"), tile.plane("noise")
    tile.weight = add(tile.plane("image"), beam, noise, full)
    local.add(tile, beam, noise, map_x, map_y, (y0 // STEP, x0 // STEP), cut)
    for band, sums in enumerate(bands):
        add(
            tile.plane("subbands", band),
            tile.plane("subbands", band, "BEAM"),
            tile.plane("subbands", band, "NOISE"),
            sums,
        )


def band_table(tiles: list[Tile]) -> tuple[NDArray, NDArray]:
    """Frequencies and bandwidths of the sub-bands [Hz], shape (n_tile, n_band) each.

    Raises
    ------
    DataRejected
        HEADER_MISMATCH where the tiles have different numbers of sub-bands.
    """
    from astropy.io import fits

    rows = []
    for tile in tiles:
        with fits.open(tile.paths["subbands"]) as hdus:
            table = hdus["FREQS"].data
            rows.append((np.array(table["freq_hz"], float), np.array(table["bandwidth_hz"], float)))
    if len({row[0].size for row in rows}) != 1:
        raise DataRejected(
            ReasonCode.HEADER_MISMATCH, "the tiles have different numbers of sub-bands"
        )
    return np.array([row[0] for row in rows]), np.array([row[1] for row in rows])


def _band_mean(share: NDArray, values: NDArray) -> NDArray:
    """Weighted mean over the tiles that have the sub-band, NaN where none has; shape (n_band,)."""
    have = np.isfinite(values)
    weight = share[:, None] * have
    with np.errstate(invalid="ignore"):
        return (weight * np.where(have, values, 0.0)).sum(axis=0) / weight.sum(axis=0)


def make_mosaic(
    tiles: list[dict[str, str]],
    centre: tuple[float, float],
    outputs: dict[str, str],
    config: Config,
    cards: dict[str, Any],
) -> Verdict:
    """Add tiles to a mosaic of true flux density.

    Parameters
    ----------
    tiles : list of dict
        Paths of each tile: tile (its id), image, beam, noise, subbands, verdict.
    centre : (ra_deg, dec_deg)
        ICRS position of the mosaic's reference point.
    outputs : dict
        Paths to write: image, noise, weight, coverage, subbands, tiles.
    config : Config
    cards : dict
        FITS cards of provenance: GROUPID, CFGHASH, VERSION, INHASH, TELESCOP and more.

    Returns
    -------
    Verdict
        With the gates on beam agreement and sampling.

    Raises
    ------
    DataRejected
        TOO_FEW_TILES, STRIPS_MIXED, HEADER_MISMATCH.
    """
    cut = config.mosaic.beam_cut
    offered = [open_tile(paths, cut) for paths in tiles]
    used = [tile for tile in offered if tile.used]
    for tile in offered:
        if not tile.used:
            LOG.warning("tile %s left out: %s", tile.name, tile.reason)
    if len(used) < config.plan.min_tiles:
        reasons = "; ".join(f"{t.name} {t.reason}" for t in offered if not t.used)
        raise DataRejected(
            ReasonCode.TOO_FEW_TILES,
            f"{len(used)} of {len(offered)} tiles usable, "
            f"{config.plan.min_tiles} needed: {reasons}",
        )
    spread_deg = check_strip(used, config.plan.strip_tolerance_deg)
    freq_hz, width_hz = band_table(used)
    grid = common_grid(used, centre)
    full = Sums.zeros(grid.shape)
    bands = [Sums.zeros(grid.shape) for _ in range(freq_hz.shape[1])]
    local = LocalProperties.zeros(grid)
    for tile in used:
        add_tile(tile, grid, full, bands, local, cut)
    share = np.array([tile.weight for tile in used])
    if not share.sum() > 0:
        raise DataRejected(ReasonCode.NO_DATA, "no tile has a valid pixel above the beam cut")
    share /= share.sum()
    header = _header(used, share, grid, cards, len(offered))
    means = (_band_mean(share, freq_hz), _band_mean(share, width_hz))
    write_products(outputs, header, full, bands, local, offered, means, centre)
    verdict = _judge(used, share, grid, full, config, spread_deg, len(offered))
    if len(used) < len(offered) and verdict.verdict == "pass":
        left = "; ".join(f"{t.name} {t.reason}" for t in offered if not t.used)
        verdict.detail = f"{len(used)} of {len(offered)} tiles: {left}"
    return verdict


def _header(
    used: list[Tile], share: NDArray, grid: SinGrid, cards: dict[str, Any], n_offered: int
) -> dict[str, Any]:
    """Cards common to all of the mosaic's images."""

    def mean(key: str) -> float:
        return float(share @ np.array([tile.card(key) for tile in used]))

    first = min(used, key=lambda tile: tile.card("MJD-OBS"))
    covariance = np.einsum("t,tij->ij", share, np.array([t.covariance_deg2() for t in used]))
    bmaj, bmin, bpa = beam_of_covariance(covariance)
    header = {
        **grid.cards(),
        "BUNIT": "Jy/beam",
        "BMAJ": bmaj,
        "BMIN": bmin,
        "BPA": bpa,
        "FREQ": mean("FREQ"),
        "RESTFRQ": mean("FREQ"),
        "BNDWID": mean("BNDWID"),
        "MJD-OBS": first.card("MJD-OBS"),
        "MJD-AVG": mean("MJD-AVG"),
        "NTILES": len(used),
        "NOFFERED": n_offered,
        "SCALESYS": mean("SCALESYS"),
        "TIMESYS": "UTC",
    }
    header["DATE-OBS"] = mjd_to_datetime(header["MJD-OBS"]).strftime("%Y-%m-%dT%H:%M:%S.%f")
    header["DATE-AVG"] = mjd_to_datetime(header["MJD-AVG"]).strftime("%Y-%m-%dT%H:%M:%S.%f")
    if "TELESCOP" in first.header:
        header["TELESCOP"] = first.header["TELESCOP"]
    header["VERSION"] = __version__
    header["INHASH"] = digest([[tile.name, tile.header.get("INHASH", "")] for tile in used])
    return header | cards


def _judge(
    used: list[Tile],
    share: NDArray,
    grid: SinGrid,
    full: Sums,
    config: Config,
    spread_deg: float,
    n_offered: int,
) -> Verdict:
    """Gates and numbers of a finished mosaic."""
    beams = np.array([[tile.card("BMAJ"), tile.card("BMIN")] for tile in used])
    mean = share @ beams
    deviation = float(np.abs(beams / mean - 1).max())
    minor_pix = float(mean[1] / abs(grid.dy_deg))
    freq_hz = np.array([tile.card("FREQ") for tile in used])
    inside = full.coverage > 0
    noise_jy = 1 / np.sqrt(full.denominator[inside])
    verdict = Verdict(
        gates=[
            Gate.measure(
                "beam_deviation", deviation, high=config.mosaic.max_beam_deviation, failing="warn"
            ),
            Gate.measure("beam_minor_axis", minor_pix, low=3.0, unit="pixel", failing="warn"),
            Gate.measure(
                "frequency_spread", float(np.ptp(freq_hz) / freq_hz.mean()), high=0.01,
                failing="warn",
            ),
        ],
        numbers={
            "tiles_used": len(used),
            "tiles_offered": n_offered,
            "declination_spread_deg": spread_deg,
            "area_deg2": float(inside.sum() * abs(grid.dx_deg * grid.dy_deg)),
            "noise_min_jy": float(noise_jy.min()),
            "noise_median_jy": float(np.median(noise_jy)),
            "coverage_max": int(full.coverage.max()),
            "interpolation_error_max": interpolation_loss(minor_pix),
            "bmaj_deg": float(mean[0]),
            "bmin_deg": float(mean[1]),
            "freq_hz": float(share @ freq_hz),
        },
    )  # fmt: skip
    return verdict.apply_gates(ReasonCode.HEADER_MISMATCH)
