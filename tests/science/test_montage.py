"""Our mosaic against Montage's of the same tile images: another resampling, another coaddition."""

import importlib.util
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from scipy.ndimage import maximum_filter, minimum_filter

from dsaflow.config import load_config

pytestmark = pytest.mark.slow
CENTRE = (80.0, 16.1)
SCALES, NOISES_JY = (1.0, 1.1, 0.93), (1e-4, 2e-4, 1.5e-4)


def _synthetic():
    """The tiles of test_mosaic_truth.py, which no package holds."""
    path = Path(__file__).with_name("test_mosaic_truth.py")
    spec = importlib.util.spec_from_file_location("mosaic_truth", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def disagree(tiles):
    """Give each tile a flux scale and a noise of its own: only right weights then give one answer."""
    for tile, scale, noise in zip(tiles, SCALES, NOISES_JY, strict=True):
        for key, factor in (("image", scale), ("noise", noise / 1e-4)):
            with fits.open(tile[key], mode="update") as hdus:
                hdus[0].data *= factor


def montage(program, *arguments):
    done = subprocess.run(
        [program, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'stat="OK"' in done.stdout, done.stdout + done.stderr


def mosaic_by_montage(folder, tiles, header, cut):
    """Flux and weight maps: tiles divided by their beams, weighted by (beam / noise)^2."""
    projected = folder / "projected"
    projected.mkdir()
    template = folder / "template.hdr"
    grid = fits.Header(
        {
            "SIMPLE": True,
            "BITPIX": -64,
            "NAXIS": 2,
            "NAXIS1": header["NAXIS1"],
            "NAXIS2": header["NAXIS2"],
        }
    )
    for key in ("CTYPE", "CRVAL", "CRPIX", "CDELT"):
        for axis in "12":
            grid[key + axis] = header[key + axis]
    # it takes no line of 80 characters and its end
    lines = [card.image.rstrip() for card in grid.cards]
    template.write_text("\n".join([*lines, "END", ""]))
    for number, tile in enumerate(tiles):
        image, frame = fits.getdata(tile["image"], header=True)
        beam, noise = (fits.getdata(tile[key]).astype(float) for key in ("beam", "noise"))
        inside = beam >= cut
        planes = {
            "flux": np.where(inside, image / beam, np.nan),
            "weight": np.where(inside, (1e-3 * beam / noise) ** 2, 0.0),
        }
        for name, plane in planes.items():
            fits.PrimaryHDU(plane, WCS(frame).to_header()).writeto(folder / f"{name}.fits")
        out = projected / f"tile{number}.fits"
        montage("mProjectPP", "-w", folder / "weight.fits", folder / "flux.fits", out, template)
        for name in planes:
            (folder / f"{name}.fits").unlink()
    montage("mImgtbl", projected, folder / "images.tbl")
    out = folder / "mosaic.fits"
    montage("mAdd", "-e", "-p", projected, folder / "images.tbl", template, out)
    # Montage's areas are in steradian
    pixel_sr = np.radians(abs(header["CDELT1"])) * np.radians(header["CDELT2"])
    weight = fits.getdata(folder / "mosaic_area.fits") / pixel_sr * 1e6
    return fits.getdata(out), weight


def moments(image, x, y, reach=9):
    """Sum over a box of pixels about a source, and its centroid."""
    j, i = round(float(y)), round(float(x))
    cut = image[j - reach : j + reach + 1, i - reach : i + reach + 1].astype(float)
    v, u = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    total = cut.sum()
    return total, i + (u * cut).sum() / total, j + (v * cut).sum() / total


def test_same_mosaic_as_montage(tmp_path):
    """Sums and centroids of sources, which no linear resampling changes, and the weights.

    Montage shares a pixel's flux among those it overlaps, which on pixels of one size is linear
    interpolation: peaks fall by up to 0.125 (f'' / f) = 0.7 / FWHM^2 per axis, 5 % here, sums and
    centroids do not. Noise-weighted means of tiles that disagree by 10 % change over a source, and
    bend its profile: by the curvature of the shares (a few per FWHM^2 of the primary beam) times
    the variance of linear interpolation (at most 1/4 pixel^2), 1e-5 of 5e-4 allowed; a centroid by
    0.1 times the gradient of the shares (3 / FWHM) times the source's variance, 3e-3 pixel.
    """
    if shutil.which("mProjectPP") is None:
        pytest.skip("mProjectPP is not on PATH (Debian package montage)")
    truth = _synthetic()
    sources = truth.grid_sources(CENTRE, 0.1, spacing_deg=0.4, half=(1.8, 0.9))
    kept = []

    def change(tiles):
        disagree(tiles)
        kept.extend(tiles)

    outputs, _ = truth.build(tmp_path, sources, CENTRE, change=change)
    ours, header = fits.getdata(outputs["image"], header=True)
    our_weight = fits.getdata(outputs["weight"]).astype(float)
    coverage = fits.getdata(outputs["coverage"])
    folder = tmp_path / "montage"
    folder.mkdir()
    theirs, weight = mosaic_by_montage(folder, kept, header, load_config().mosaic.beam_cut)
    wcs = WCS(header)
    rows, places = [], []
    for ra, dec, _ in sources:
        x, y = wcs.wcs_world2pix(ra, dec, 0)
        a, b = moments(ours, x, y), moments(theirs, x, y)
        i, j = round(float(x)), round(float(y))
        # where a tile ends, a pixel that it overlaps in part is in one mosaic and not in the other
        if np.ptp(coverage[j - 11 : j + 12, i - 11 : i + 12]) == 0:
            rows.append(b[0] / a[0] - 1)
            places.append((b[1] - a[1], b[2] - a[2]))
    rows, places = np.array(rows), np.array(places)
    # our kernel is some pixels wider: a tile ends earlier
    inner = np.isfinite(ours) & (minimum_filter(coverage, 15) == maximum_filter(coverage, 15))
    ratio = weight[inner] / our_weight[inner]
    print(
        f"{len(rows)} of {len(sources)} sources: flux {np.median(rows):.2e}, largest {np.abs(rows).max():.2e};"
        f" centroid {np.abs(places).max():.2e} pixel; weight {np.median(ratio):.6f},"
        f" within {np.abs(ratio - 1).max():.2e}"
    )
    assert len(rows) > 0.4 * len(sources)
    assert np.abs(rows).max() < 5e-4
    assert np.abs(places).max() < 1e-2
    assert np.abs(ratio - 1).max() < 5e-4
