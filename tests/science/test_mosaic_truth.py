"""Mosaics of synthetic tiles with known sources, beams and noise, made with astropy and scipy."""

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from scipy.ndimage import gaussian_filter

from dsaflow.config import load_config
from dsaflow.errors import DataRejected, ReasonCode
from dsaflow.mosaic.coadd import make_mosaic
from dsaflow.verdict import Verdict

PIXEL_DEG = 30 / 3600
FWHM_PIX = (5.0, 3.6)  # north-south, east-west
FREQS_HZ = np.array([1.33e9, 1.38e9, 1.43e9, 1.48e9])
ALPHA = -0.7


def wcs_header(ra_deg, dec_deg, n):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "RA---SIN", "DEC--SIN"
    wcs.wcs.crval = ra_deg, dec_deg
    wcs.wcs.crpix = n // 2 + 1, n // 2 + 1
    wcs.wcs.cdelt = -PIXEL_DEG, PIXEL_DEG
    return wcs


def beam_at(x, y, n, freq_hz):
    """A beam wider than high, as the drift makes it; any smooth function would do."""
    fwhm = 2.7 / PIXEL_DEG * 1.405e9 / freq_hz
    dx, dy = x - n // 2 - 3, y - n // 2
    return np.exp(-4 * np.log(2) * ((dx / 1.1) ** 2 + dy**2) / fwhm**2)


def correlated_noise(rng, shape, sigma_jy):
    """Unit-variance noise smoothed to about the beam, times sigma."""
    noise = gaussian_filter(
        rng.normal(size=shape), [f / 2.355 / 1.2 for f in FWHM_PIX], mode="wrap"
    )
    return sigma_jy * noise / noise.std()


def write_tile(folder, name, centre, sources, *, noise_jy=0.0, n=400, rng=None, bad=None):
    """Write one tile; `sources` are (ra_deg, dec_deg, flux_jy at 1.405 GHz)."""
    folder = Path(folder) / name
    folder.mkdir(parents=True)
    y, x = np.mgrid[:n, :n]
    wcs = wcs_header(*centre, n)
    planes = {}
    for key, freq in {"full": 1.405e9, **dict(enumerate(FREQS_HZ))}.items():
        image = np.zeros((n, n))
        for ra, dec, flux in sources:
            sx, sy = wcs.wcs_world2pix(ra, dec, 0)
            if 0 < sx < n and 0 < sy < n:
                apparent = flux * (freq / 1.405e9) ** ALPHA * beam_at(sx, sy, n, freq)
                image += apparent * np.exp(
                    -4 * np.log(2)
                    * (((y - sy) / FWHM_PIX[0]) ** 2 + ((x - sx) / FWHM_PIX[1]) ** 2)
                )  # fmt: skip
        factor = 1 if key == "full" else 2
        if rng is not None:
            image += correlated_noise(rng, (n, n), factor * noise_jy)
        sigma = np.full((n, n), factor * (noise_jy or 1e-4), np.float32)
        planes[key] = (image.astype(np.float32), beam_at(x, y, n, freq).astype(np.float32), sigma)
    if bad is not None:
        planes["full"][0][bad] = np.nan
    mjd = 61000 + int(name[-2:]) * 0.003579
    header = wcs.to_header()
    header.update(
        BMAJ=FWHM_PIX[0] * PIXEL_DEG, BMIN=FWHM_PIX[1] * PIXEL_DEG, BPA=0.0, BUNIT="JY/BEAM",
        FREQ=1.405e9, RESTFRQ=1.405e9, BNDWID=187.5e6, TILE=name, TELESCOP="DSA_110",
        SCALEERR=0.01, SCALESYS=0.03,
    )  # fmt: skip
    header["MJD-OBS"], header["MJD-AVG"] = mjd - 0.00179, mjd
    paths = {"tile": name}
    for number, key in enumerate(("image", "beam", "noise")):
        paths[key] = str(folder / f"{key}.fits")
        fits.PrimaryHDU(planes["full"][number], header).writeto(paths[key])
    cubes = [np.array([planes[band][k] for band in range(4)]) for k in range(3)]
    freqs = Table({"freq_hz": FREQS_HZ, "bandwidth_hz": np.full(4, 46.875e6)})
    paths["subbands"] = str(folder / "subbands.fits")
    fits.HDUList(
        [
            fits.PrimaryHDU(cubes[0], header),
            fits.ImageHDU(cubes[1], header, name="BEAM"),
            fits.ImageHDU(cubes[2], header, name="NOISE"),
            fits.BinTableHDU(freqs, name="FREQS"),
        ]
    ).writeto(paths["subbands"])
    paths["verdict"] = str(folder / "image.json")
    Verdict().write(paths["verdict"])
    return paths


def reject_tile(paths):
    """Turn a written tile into what a rejected one looks like."""
    Verdict.rejected(DataRejected(ReasonCode.TRUNCATED_HDF5, "sb03 ends early")).write(
        paths["verdict"]
    )
    for key in ("image", "beam", "noise", "subbands"):
        header = fits.Header({"VERDICT": "reject", "REASON": "TRUNCATED_HDF5"})
        fits.PrimaryHDU(header=header).writeto(paths[key], overwrite=True)


def outputs_in(folder):
    names = {"image": "mosaic.fits", "tiles": "tiles.ecsv"}
    keys = ("image", "noise", "weight", "coverage", "subbands", "tiles")
    return {key: str(Path(folder) / names.get(key, f"{key}.fits")) for key in keys}


def tile_centres(ra_deg, dec_deg, number):
    return [((ra_deg + 1.29 * (k - (number - 1) / 2)) % 360, dec_deg) for k in range(number)]


def build(tmp_path, sources, centre=(0.3, 16.1), number=3, change=None, **options):
    tiles = [
        write_tile(tmp_path, f"20251121T0000{k:02d}", c, sources, **options)
        for k, c in enumerate(tile_centres(*centre, number))
    ]
    if change is not None:
        change(tiles)
    outputs = outputs_in(tmp_path / "mosaic")
    config = load_config({"plan": {"min_tiles": 2}})
    cards = {"GROUPID": "test", "CFGHASH": "00000000", "VERSION": "0", "INHASH": "0"}
    verdict = make_mosaic(tiles, centre, outputs, config, cards)
    return outputs, verdict


def fit_peak(data, x, y):
    """Flux and position of an elliptical Gaussian by scipy: no code of the pipeline."""
    from scipy.optimize import least_squares

    j, i = round(float(y)), round(float(x))
    yy, xx = np.mgrid[j - 5 : j + 6, i - 5 : i + 6]
    cut = data[j - 5 : j + 6, i - 5 : i + 6].astype(float)

    def model(p):
        a, b, c = p[3:]
        dx, dy = xx - p[1], yy - p[2]
        return p[0] * np.exp(-0.5 * (a * dx**2 + 2 * b * dx * dy + c * dy**2))

    start = [cut.max(), x, y, (2.355 / FWHM_PIX[1]) ** 2, 0.0, (2.355 / FWHM_PIX[0]) ** 2]
    return least_squares(lambda p: (model(p) - cut).ravel(), start, x_scale=[0.1, 1, 1, 1, 1, 1]).x


def grid_sources(centre, flux_jy, spacing_deg=0.33, half=(2.0, 1.0)):
    rng = np.random.default_rng(5)
    dec = np.arange(-half[1], half[1] + 0.01, spacing_deg)
    ra = np.arange(-half[0], half[0] + 0.01, spacing_deg)
    places = np.array([(a, d) for a in ra for d in dec])
    places += rng.uniform(-0.02, 0.02, places.shape)
    fluxes = flux_jy * rng.uniform(0.5, 2, len(places))
    cosine = np.cos(np.radians(centre[1]))
    return [
        ((centre[0] + a / cosine) % 360, centre[1] + d, f)
        for (a, d), f in zip(places, fluxes, strict=True)
    ]


@pytest.mark.parametrize("centre", [(0.3, 16.1), (150.0, 54.6)])
def test_fluxes_and_positions_are_the_injected_ones(tmp_path, centre):
    sources = grid_sources(centre, 0.1, spacing_deg=0.5)
    outputs, verdict = build(tmp_path, sources, centre)
    assert verdict.verdict == "pass", verdict.detail
    with fits.open(outputs["image"]) as hdus:
        data, header = hdus[0].data, hdus[0].header
    with fits.open(outputs["subbands"]) as hdus:
        bands = hdus[0].data
        assert np.allclose(hdus["FREQS"].data["freq_hz"], FREQS_HZ)
    wcs = WCS(header)
    assert wcs.wcs.crval == pytest.approx(centre)
    for ra, dec, flux in sources:
        x, y = wcs.wcs_world2pix(ra, dec, 0)
        fitted = fit_peak(data, x, y)
        assert fitted[0] == pytest.approx(flux, rel=0.005)
        # dividing by the beam pixel by pixel moves a peak by sigma^2 grad ln B: <= 0.045 pixel here
        assert np.hypot(fitted[1] - x, fitted[2] - y) < 0.05
    ra, dec, flux = sources[len(sources) // 2]
    x, y = wcs.wcs_world2pix(ra, dec, 0)
    for band, freq in enumerate(FREQS_HZ):
        expected = flux * (freq / 1.405e9) ** ALPHA
        assert fit_peak(bands[band], x, y)[0] == pytest.approx(expected, rel=0.005)


def test_noise_is_as_the_weights_predict_and_falls_with_coverage(tmp_path):
    rng = np.random.default_rng(11)
    outputs, _ = build(tmp_path, [], noise_jy=1e-3, rng=rng)
    data, noise = fits.getdata(outputs["image"]), fits.getdata(outputs["noise"])
    coverage = fits.getdata(outputs["coverage"])
    weight = fits.getdata(outputs["weight"])
    for number in (1, 2, 3):
        pulls = data[coverage == number] / noise[coverage == number]
        assert np.sqrt((pulls**2).mean()) == pytest.approx(1, abs=0.1)
    inside = coverage > 0
    assert np.allclose(noise[inside] ** -2.0, weight[inside], rtol=1e-4)
    assert np.isnan(data[~inside]).all()
    assert (weight[~inside] == 0).all()
    assert noise[coverage == 3].min() < 0.85 * 1e-3
    pulls = fits.getdata(outputs["subbands"])[1] / fits.getdata(outputs["subbands"], "NOISE")[1]
    assert np.nanstd(pulls) == pytest.approx(1, abs=0.1)


def test_missing_pixels_spoil_nothing_else(tmp_path):
    sources = [(0.3, 16.1, 0.2), (0.5, 16.3, 0.1)]
    wcs = wcs_header(0.3, 16.1, 400)
    x, y = wcs.wcs_world2pix(0.5, 16.3, 0)

    def spoil(tiles):
        with fits.open(tiles[1]["image"], mode="update") as hdus:
            hdus[0].data[round(float(y)) + 7, round(float(x))] = np.nan

    outputs, _ = build(tmp_path, sources, number=3, change=spoil)
    data, header = fits.getdata(outputs["image"], header=True)
    x, y = WCS(header).wcs_world2pix(0.5, 16.3, 0)
    assert fit_peak(data, x, y)[0] == pytest.approx(0.1, rel=0.005)
    coverage = fits.getdata(outputs["coverage"])
    assert np.isfinite(data[coverage > 0]).all()
    assert coverage[round(float(y)) + 7, round(float(x))] == 2


def test_rejected_tile_is_left_out_with_its_reason(tmp_path):
    sources = [(0.3, 16.1, 0.2)]
    outputs, verdict = build(tmp_path, sources, change=lambda tiles: reject_tile(tiles[2]))
    table = Table.read(outputs["tiles"], format="ascii.ecsv")
    assert list(table["used"]) == [True, True, False]
    assert "TRUNCATED_HDF5" in table["reason"][2]
    assert table["weight_share"].sum() == pytest.approx(1)
    assert table["offset_deg"].unit == "deg"
    assert "2 of 3 tiles" in verdict.detail
    header = fits.getheader(outputs["image"])
    assert (header["NTILES"], header["NOFFERED"]) == (2, 3)
    for key in ("BMAJ", "FREQ", "BNDWID", "MJD-AVG", "TELESCOP", "GROUPID", "CFGHASH", "INHASH"):
        assert key in header
    data = fits.getdata(outputs["image"])
    x, y = WCS(header).wcs_world2pix(0.3, 16.1, 0)
    assert fit_peak(data, x, y)[0] == pytest.approx(0.2, rel=0.005)


def test_too_few_tiles(tmp_path):
    def reject_two(tiles):
        for tile in tiles[:2]:
            reject_tile(tile)

    with pytest.raises(DataRejected, match=r"TOO_FEW_TILES.*TRUNCATED_HDF5"):
        build(tmp_path, [], change=reject_two)


def test_strips_are_not_mixed(tmp_path):
    def move(tiles):
        tiles[2].update(write_tile(tmp_path, "20251121T000009", (1.6, 16.4), []))

    with pytest.raises(DataRejected, match="STRIPS_MIXED"):
        build(tmp_path, [], change=move)


def test_beams_that_differ_give_a_warning(tmp_path):
    def blur(tiles):
        with fits.open(tiles[0]["image"], mode="update") as hdus:
            hdus[0].header["BMAJ"] *= 1.2

    _, verdict = build(tmp_path, [], change=blur)
    assert verdict.verdict == "warn"
    assert "beam_deviation" in verdict.detail


@pytest.mark.parametrize("key", ["beam_squared", "shifted", "scaled"])
def test_mutations_are_seen(tmp_path, key):
    """What the bounds above are worth: each of these spoils one of them."""

    def mutate(tiles):
        for tile in tiles:
            with fits.open(tile["beam" if key != "shifted" else "image"], mode="update") as hdus:
                if key == "beam_squared":
                    hdus[0].data **= 2
                elif key == "scaled":
                    hdus[0].data *= 1.02
                else:
                    hdus[0].header["CRPIX1"] += 1

    sources = [(0.3, 16.6, 0.2)]
    outputs, _ = build(tmp_path, sources, change=mutate)
    data, header = fits.getdata(outputs["image"], header=True)
    x, y = WCS(header).wcs_world2pix(*sources[0][:2], 0)
    fitted = fit_peak(data, x, y)
    flux_right = abs(fitted[0] / 0.2 - 1) < 0.005
    place_right = np.hypot(fitted[1] - x, fitted[2] - y) < 0.1
    assert not (flux_right and place_right)
