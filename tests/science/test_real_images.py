"""One real HIPASS field at 1.42 GHz in two projections, with 51 components (Aegean's test data)."""

import numpy as np
import pytest
from astropy.io import fits

from dsaflow.catalog import Catalog
from dsaflow.config import load_config
from dsaflow.mosaic.local import PLANES
from dsaflow.mosaic.resample import STEP, WEIGHTS, node_map, resample_plane
from dsaflow.photometry.measure import fit_plane, measure_offset
from dsaflow.photometry.sources import Mosaic, isolated, locate, plain_local
from dsaflow.projection import beam_covariance, grid_of

RMS_JY = 0.061  # of the continuum map, from its header


def read(shared_file, projection):
    with fits.open(shared_file(f"images/1904-66_{projection}.fits")) as hdus:
        return np.squeeze(hdus[0].data).astype(float), hdus[0].header


@pytest.fixture(scope="module")
def components(shared_file):
    table = fits.getdata(shared_file("images/1904-66_components.fits"), 1)
    assert len(table) == 51
    names = ("ra", "dec", "peak_flux", "err_peak_flux", "background", "a", "b")
    return {name: np.array(table[name], float) for name in names}


def round_on_the_sky(local, header):
    """Extension LOCAL with a single dish's beam: constant on the sky, not in an image's pixels.

    24 deg from its reference point a pixel of this SIN image is 263" along the meridian, 240" across.
    """
    grid = grid_of(header)
    y, x = np.mgrid[: local.shape[1], : local.shape[2]] * float(STEP)
    jacobian = np.empty((*x.shape, 2, 2))
    for column, (dx, dy) in enumerate(((0.5, 0.0), (0.0, 0.5))):
        (ra1, dec1), (ra0, dec0) = (
            grid.pixel_to_world(x + sign * dx, y + sign * dy) for sign in (1, -1)
        )
        east = ((ra1 - ra0 + 180) % 360 - 180) * np.cos(np.radians(0.5 * (dec1 + dec0)))
        jacobian[..., 0, column], jacobian[..., 1, column] = east, dec1 - dec0
    inverse = np.linalg.inv(jacobian)
    beam = beam_covariance(header["BMAJ"], header["BMIN"], header["BPA"])
    psf = inverse @ beam @ np.swapaxes(inverse, -1, -2)
    out = local.copy()
    for name, place in (("PSF_XX", (0, 0)), ("PSF_XY", (0, 1)), ("PSF_YY", (1, 1))):
        out[PLANES.index(name)] = psf[..., *place]
    return out


def resampled(shared_file, source, target):
    image, header = read(shared_file, source)
    _, target_header = read(shared_file, target)
    grid, own = grid_of(target_header), grid_of(header)
    ny, nx = grid.shape
    map_x, map_y = node_map(grid, own, (0, ny, 0, nx), step=1)
    return resample_plane(image, map_x, map_y, grid.shape, 1, WEIGHTS), grid


def peaks_at(images, grid, components):
    """Largest value within 2 pixels of each component, shape (n, n_image); NaN near the border."""
    x, y = grid.world_to_pixel(components["ra"], components["dec"])
    out = np.full((x.size, len(images)), np.nan)
    for k, (i, j) in enumerate(zip(np.rint(x).astype(int), np.rint(y).astype(int), strict=True)):
        if 2 < i < grid.shape[1] - 3 and 2 < j < grid.shape[0] - 3:
            cut = np.s_[j - 2 : j + 3, i - 2 : i + 3]
            out[k] = [image[cut].max() for image in images]
    return out[np.isfinite(out).all(axis=1)]


def test_reprojection_agrees_with_the_archive_s_own_gridding(shared_file, components):
    """AIT onto SIN: the archive gridded the same scans twice, so peaks agree to their gridding."""
    made, grid = resampled(shared_file, "AIT", "SIN")
    theirs, _ = read(shared_file, "SIN")
    ours, archive = peaks_at([made, theirs], grid, components).T
    good = archive > 10 * RMS_JY
    ratio = ours[good] / archive[good]
    print(f"{good.sum()} peaks, median ratio {np.median(ratio):.4f}, scatter {ratio.std():.4f}")
    assert good.sum() >= 10
    assert np.median(ratio) == pytest.approx(1, abs=0.01)
    assert ratio.std() < 0.03


def test_reprojection_there_and_back_conserves_peaks(shared_file, components):
    """SIN -> AIT -> SIN: two interpolations, at 3.6 pixels a beam, lose nothing of the peaks."""
    image, header = read(shared_file, "SIN")
    there, ait = resampled(shared_file, "SIN", "AIT")
    sin = grid_of(header)
    ny, nx = sin.shape
    map_x, map_y = node_map(sin, ait, (0, ny, 0, nx), step=1)
    back = resample_plane(there, map_x, map_y, sin.shape, 1, WEIGHTS)
    before, after = peaks_at([image, back], sin, components).T
    ratio = (after / before)[before > 5 * RMS_JY]
    print(f"{ratio.size} peaks: median {np.median(ratio):.5f}, scatter {ratio.std():.5f}")
    assert ratio.size > 30
    assert np.median(ratio) == pytest.approx(1, abs=0.003)
    assert ratio.std() < 0.02


def test_reprojection_agrees_with_reproject(shared_file):
    """The reproject package, bicubic, as the oracle: same pixels within the kernels' difference."""
    from astropy.wcs import WCS
    from reproject import reproject_interp

    image, header = read(shared_file, "AIT")
    _, target = read(shared_file, "SIN")
    made, grid = resampled(shared_file, "AIT", "SIN")
    # reproject's bicubic spline spreads one NaN over the whole plane
    theirs, _ = reproject_interp(
        (np.nan_to_num(image), WCS(header, naxis=2)), WCS(target, naxis=2), grid.shape,
        order="bicubic", roundtrip_coords=False,
    )  # fmt: skip
    both = np.isfinite(made) & np.isfinite(theirs)
    assert both.mean() > 0.4
    difference = (made - theirs)[both]
    assert np.sqrt((difference**2).mean()) < 0.03 * RMS_JY
    assert np.abs(difference).max() < 0.01 * np.nanmax(image)


def test_forced_photometry_gives_the_components_peaks(shared_file, components):
    """At the 51 components' places; theirs are free Gaussians, ours the beam of fixed shape."""
    image, header = read(shared_file, "SIN")
    shape = image.shape
    noise = np.where(np.isfinite(image), RMS_JY, np.nan)
    mosaic = Mosaic(
        image, noise, np.isfinite(image).astype("i2"), np.empty((0, *shape)),
        np.empty((0, *shape)), np.empty(0),
        round_on_the_sky(plain_local(shape, header, 0.5), header), 50000.0,
        grid_of(header), header["CRVAL1"], 1.42e9, abs(header["CDELT1"]),
    )  # fmt: skip
    number = np.arange(51)
    catalog = Catalog(
        number.astype(str), components["ra"], components["dec"], components["peak_flux"],
        components["err_peak_flux"], np.full(51, np.nan), np.ones(51, bool),
    )  # fmt: skip
    options = load_config({}).photometry
    targets = locate(mosaic, catalog, options.blend_beams)
    # three components lie on pixels that the archive's image has blanked
    assert targets.x.size == 48
    kept = targets.catalog.source_id.astype(int)
    components = {name: values[kept] for name, values in components.items()}
    offset = measure_offset(mosaic, targets, isolated(targets), options)
    assert np.hypot(offset.dx, offset.dy) < 0.2
    fit = fit_plane(image, noise, targets, options)
    # a fixed beam of 864" (FWHM) fitted to a free Gaussian of a x b gives this much of its peak
    wide = [2 * components[axis] ** 2 / (components[axis] ** 2 + 864.0**2) for axis in "ab"]
    expected = components["peak_flux"] * np.sqrt(wide[0] * wide[1])
    compact = components["a"] * components["b"] < (1.5 * 864) ** 2
    # some published errors are -1 or NaN
    good = isolated(targets) & compact & (components["err_peak_flux"] > 0)
    ratio = (fit.flux / expected)[good]
    pulls = ((fit.flux - expected) / np.hypot(fit.flux_err, components["err_peak_flux"]))[good]
    print(f"{good.sum()} components: median {np.median(ratio):.4f}, scatter {ratio.std():.4f}")
    assert good.sum() >= 20
    # both fit the same pixels, so noise is shared and the methods' difference is what scatters
    scatter = 1.4826 * np.median(np.abs(ratio - np.median(ratio)))
    error = 1.2533 * scatter / np.sqrt(ratio.size)
    assert error < 0.01
    assert abs(np.median(ratio) - 1) < 3 * error
    strong = expected[good] > 15 * RMS_JY
    assert strong.sum() >= 10
    assert np.median(ratio[strong]) == pytest.approx(1, abs=0.01)
    assert np.median(np.abs(pulls)) < 0.67
    # the noise measured off the components is the one that the archive states
    assert fit.noise.ratio == pytest.approx(1, abs=0.05)
