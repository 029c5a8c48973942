"""Projection, resampling and effective beams against astropy, reproject and closed forms."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from scipy.ndimage import map_coordinates

from dsaflow.errors import DataRejected
from dsaflow.mosaic.local import beam_in_target_pixels
from dsaflow.mosaic.resample import (
    STEP,
    WEIGHTS,
    interpolation_loss,
    kernel_weights,
    node_map,
    resample_plane,
)
from dsaflow.mosaic.tiles import Tile
from dsaflow.projection import (
    SinGrid,
    WcsGrid,
    beam_covariance,
    beam_of_covariance,
    grid_of,
    is_sin,
)

PIXEL_DEG = 8 / 3600


def grid(ra_deg, dec_deg, n=600, pixel_deg=PIXEL_DEG, slant=(0.0, 0.0)):
    return SinGrid(ra_deg, dec_deg, n / 2, n / 2, -pixel_deg, pixel_deg, (n, n), slant)


def header_of(sin):
    header = fits.Header({"NAXIS": 2, "NAXIS1": sin.shape[1], "NAXIS2": sin.shape[0]})
    header.update(sin.cards())
    return header


@pytest.mark.parametrize("centre", [(0.1, 16.1), (359.9, 54.6), (123.4, -5.0), (200.0, 89.0)])
@pytest.mark.parametrize("slant", [(0.0, 0.0), (0.003, 0.385), (-0.02, -1.5)])
def test_sin_grid_is_astropy_s(centre, slant):
    sin = grid(*centre, n=4000, slant=slant)
    header = header_of(sin)
    assert is_sin(header)
    wcs = WCS(header)
    rng = np.random.default_rng(0)
    x, y = rng.uniform(0, 4000, (2, 500))
    ra, dec = sin.pixel_to_world(x, y)
    their_ra, their_dec = wcs.wcs_pix2world(x, y, 0)
    assert ((ra >= 0) & (ra < 360)).all()
    turned = (ra - their_ra + 180) % 360 - 180
    assert np.abs(turned * np.cos(np.radians(dec))).max() < 1e-10
    assert np.abs(dec - their_dec).max() < 1e-10
    back = sin.world_to_pixel(ra, dec)
    assert np.allclose(back, [x, y], rtol=0, atol=1e-6)
    assert np.allclose(wcs.wcs_world2pix(ra, dec, 0), back, rtol=0, atol=1e-6)


def test_far_side_of_the_sky_has_no_pixel():
    x, y = grid(10.0, 20.0).world_to_pixel([190.0, 10.0], [-20.0, 20.0])
    assert np.isnan(x[0])
    assert np.isnan(y[0])
    assert (x[1], y[1]) == pytest.approx((300, 300))


def test_other_projections_go_through_astropy():
    header = header_of(grid(10.0, 20.0))
    header["CTYPE1"], header["CTYPE2"] = "RA---TAN", "DEC--TAN"
    tan = grid_of(header)
    assert isinstance(tan, WcsGrid)
    ra, dec = tan.pixel_to_world([0.0, 300.0], [0.0, 300.0])
    assert np.allclose(tan.world_to_pixel(ra, dec), [[0, 300], [0, 300]], atol=1e-6)
    with pytest.raises(DataRejected, match="HEADER_MISMATCH"):
        grid_of(fits.Header({"NAXIS": 2, "CTYPE1": "FREQ"}))


@pytest.mark.parametrize(("dec_deg", "shift_deg"), [(16.1, 6.0), (54.6, 9.0)])
def test_map_between_nodes_is_exact_to_a_thousandth_of_a_pixel(dec_deg, shift_deg):
    """Also at the ends of a mosaic, where the grids are turned against each other by degrees."""
    target, source = grid(100.0, dec_deg, 8000), grid(100.0 + shift_deg, dec_deg, 2000)
    x, y = target.world_to_pixel(100.0 + shift_deg, dec_deg)
    y0, x0 = int(y) // STEP * STEP - 4 * STEP, int(x) // STEP * STEP - 4 * STEP
    window = (y0, y0 + 129, x0, x0 + 129)
    rough, exact = node_map(target, source, window), node_map(target, source, window, step=1)
    nodes = np.arange(129) / STEP
    for coarse, truth in zip(rough, exact, strict=True):
        between = map_coordinates(coarse, np.meshgrid(nodes, nodes, indexing="ij"), order=1)
        assert np.abs(between - truth).max() < 1e-3


def test_kernel_keeps_constants_and_gaussians():
    weights = kernel_weights(np.linspace(0, 1, 33))
    assert np.allclose(weights.sum(axis=1), 1)
    assert weights[0, 3] == pytest.approx(1)
    assert interpolation_loss(3.0) < 0.003
    assert interpolation_loss(4.0) < 0.0005
    assert interpolation_loss(1.5) > 0.05


def test_resampling_agrees_with_reproject():
    from reproject import reproject_interp

    source, target = grid(0.3, 54.6, 200), grid(359.9, 54.5, 220)
    y, x = np.mgrid[:200, :200]
    rng = np.random.default_rng(4)
    image = np.zeros((200, 200))
    for px, py, flux in zip(*rng.uniform(20, 180, (2, 30)), rng.uniform(0.1, 1, 30), strict=True):
        image += flux * np.exp(-4 * np.log(2) * (((x - px) / 4.6) ** 2 + ((y - py) / 8) ** 2))
    made = resample_plane(
        image, *node_map(target, source, (0, 220, 0, 220)), (220, 220), STEP, WEIGHTS
    )
    theirs, _ = reproject_interp(
        (image, WCS(header_of(source))), WCS(header_of(target)), (220, 220),
        order="bicubic", roundtrip_coords=False,
    )  # fmt: skip
    both = np.isfinite(made) & np.isfinite(theirs)
    assert both.mean() > 0.3
    # the bicubic spline itself is good to 0.08 % at 4.6 pixels
    assert np.abs(made - theirs)[both].max() < 0.002


def test_one_missing_pixel_spoils_only_its_neighbourhood():
    image = np.ones((60, 60))
    image[30, 30] = np.nan
    sin = grid(10.0, 20.0, 60)
    shifted = SinGrid(10.0, 20.0, 30.5, 30.5, -PIXEL_DEG, PIXEL_DEG, (60, 60))
    made = resample_plane(image, *node_map(shifted, sin, (0, 60, 0, 60)), (60, 60), STEP, WEIGHTS)
    inner = made[8:-8, 8:-8]
    assert np.isnan(inner).sum() == 64
    assert np.allclose(inner[np.isfinite(inner)], 1)


@pytest.mark.parametrize("beam", [(0.02, 0.01, 30.0), (0.02, 0.01, -75.0), (0.02, 0.019, 0.0)])
def test_beam_covariance_round_trip(beam):
    assert beam_of_covariance(beam_covariance(*beam)) == pytest.approx(beam)
    east_west = beam_covariance(0.02, 0.01, 90.0)
    assert east_west[0, 0] > east_west[1, 1]


def test_beam_turns_with_the_grid():
    """A tile 9 deg of RA east at dec +54.6 is turned by 9 sin(dec) on the mosaic."""
    target, source = grid(100.0, 54.6, 8000), grid(109.0, 54.6, 400)
    header = fits.Header({**source.cards(), "BMAJ": 0.02, "BMIN": 0.01, "BPA": 0.0})
    tile = Tile("t", {}, header=header)
    x, y = (int(v) // STEP * STEP for v in target.world_to_pixel(109.0, 54.6))
    maps = node_map(target, source, (y - STEP, y + STEP + 1, x - STEP, x + STEP + 1))
    xx, xy, yy = beam_in_target_pixels(tile, *maps)[:, 1, 1] * PIXEL_DEG**2
    covariance = np.array([[xx, -xy], [-xy, yy]])  # x counts to the west
    bmaj, bmin, bpa = beam_of_covariance(covariance)
    # north at the tile leans to the mosaic's meridian: its local position angle is -9 sin(dec)
    assert abs(bpa) == pytest.approx(9 * np.sin(np.radians(54.6)), abs=0.3)
    assert bpa < 0
    assert bmaj == pytest.approx(0.02, rel=0.01)
    assert bmin == pytest.approx(0.01, rel=0.01)
