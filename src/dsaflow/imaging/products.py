"""A tile's images, and their FITS files with complete headers."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dsaflow import __version__
from dsaflow.fileio import atomic_file
from dsaflow.imaging.frame import ApparentFrame
from dsaflow.imaging.restore import RestoringBeam
from dsaflow.names import mjd_to_datetime
from dsaflow.visibilities.container import Visibilities

if TYPE_CHECKING:
    from astropy.io.fits import Header

DAY_S = 86400.0
# header card of each provenance key, with its comment
PROVENANCE_CARDS = {
    "tile": ("TILE", "group of 16 subband files"),
    "input_hash": ("INHASH", "of the inputs"),
    "config_hash": ("CFGHASH", "of the configuration's science sections"),
    "version": ("VERSION", "of dsaflow"),
    "rung": ("CALRUNG", "rung of the calibration ladder"),
    "scale": ("CALSCALE", "flux scale applied to the tile"),
    "scale_err_relative": ("SCALEERR", "relative error of the tile's flux scale"),
    "scale_systematic": ("SCALESYS", "absolute systematic error of the flux scale"),
}


@dataclass
class SubBand:
    """One frequency block, float32 (size, size): restored image, beam, noise; frequencies in Hz.

    A block without data is NaN.
    """

    image: NDArray
    beam: NDArray
    noise: NDArray
    freq_hz: float
    bandwidth_hz: float


@dataclass
class TileImages:
    """The images of a tile, float32 (size, size), apparent Jy/beam.

    Attributes
    ----------
    image, residual, psf : ndarray
    beam : ndarray
        Reference primary beam B_ref: true flux = image / beam.
    noise : ndarray
        Local rms of the residual.
    subbands : list of SubBand
        Each restored with the Gaussian of the whole band; the residual in it keeps the PSF of its
        own band, a few per cent wider or narrower: flux that was not cleaned has that difference.
    restoring : RestoringBeam
    frame : ApparentFrame
    pixel_rad : float
        Pixel in apparent direction cosine.
    freq_hz, bandwidth_hz : float
        Effective frequency, and the sum of the channels with weight.
    numbers : dict
        Measured quantities for the verdict.
    """

    image: NDArray
    residual: NDArray
    psf: NDArray
    beam: NDArray
    noise: NDArray
    subbands: list[SubBand]
    restoring: RestoringBeam
    frame: ApparentFrame
    pixel_rad: float
    freq_hz: float
    bandwidth_hz: float
    numbers: dict[str, Any] = field(default_factory=dict)

    @property
    def pixel_deg(self) -> float:
        """Pixel in ICRS: the apparent one over the frame's scale."""
        return float(np.degrees(self.pixel_rad) / self.frame.scale)

    @property
    def pixel_arcsec(self) -> float:
        """Pixel in ICRS."""
        return 3600.0 * self.pixel_deg


def tile_header(images: TileImages, vis: Visibilities, provenance: dict[str, Any]) -> "Header":
    """FITS header of a tile's image: WCS (SIN, ICRS), beam, frequency, times, origin.

    Notes
    -----
    CDELT is the apparent pixel over the scale of aberration, so that ICRS positions are right.
    """
    from astropy.io.fits import Header

    header = Header()
    centre = images.image.shape[0] // 2 + 1
    beam, pixel_deg = images.restoring, images.pixel_deg
    start_mjd = float(vis.time_mjd[0]) - 0.5 * vis.integration_s / DAY_S
    end_mjd = float(vis.time_mjd[-1]) + 0.5 * vis.integration_s / DAY_S
    cards: list[tuple[str, Any, str]] = [
        ("CTYPE1", "RA---SIN", ""), ("CRPIX1", float(centre), ""), ("CUNIT1", "deg", ""),
        ("CRVAL1", vis.phase_ra_deg % 360.0, "phase centre"),
        ("CDELT1", -pixel_deg, "with differential aberration taken out"),
        ("CTYPE2", "DEC--SIN", ""), ("CRPIX2", float(centre), ""), ("CUNIT2", "deg", ""),
        ("CRVAL2", vis.phase_dec_deg, "phase centre"), ("CDELT2", pixel_deg, ""),
        ("RADESYS", "ICRS", ""), ("EQUINOX", 2000.0, ""), ("LONPOLE", 180.0, ""),
        ("BTYPE", "Intensity", "Stokes I = (XX + YY) / 2"),
        ("BUNIT", "Jy/beam", "apparent: divide by the beam for true flux"),
        ("BMAJ", beam.major_pixel * pixel_deg, "[deg] restoring beam"),
        ("BMIN", beam.minor_pixel * pixel_deg, "[deg]"),
        ("BPA", beam.angle_deg, "[deg] north through east"),
        ("FREQ", images.freq_hz, "[Hz] effective"), ("RESTFRQ", images.freq_hz, "[Hz]"),
        ("BNDWID", images.bandwidth_hz, "[Hz] sum of the channels used"),
        ("TELESCOP", vis.telescope, ""), ("TIMESYS", "UTC", ""),
        ("DATE-OBS", _iso(start_mjd), "start"), ("DATE-END", _iso(end_mjd), "end"),
        ("MJD-OBS", start_mjd, "start"), ("DATE-AVG", _iso(vis.mid_mjd), "middle"), ("MJD-AVG", vis.mid_mjd, "middle"),
        ("MJD-END", end_mjd, "end"),
        ("PNTDEC", vis.pointing_dec_deg, "[deg] apparent declination of the pointing"),
        ("ABERSCAL", images.frame.scale, "apparent over ICRS offsets"),
        ("ORIGIN", f"dsaflow {__version__}", ""),
    ]  # fmt: skip
    for key, value, comment in cards:
        if not (isinstance(value, float) and not np.isfinite(value)):
            header[key] = (value, comment)
    for key, value in images.frame.slant_cards().items():
        header[key] = (value, "slant of the array's plane")
    for key, (card, comment) in PROVENANCE_CARDS.items():
        if isinstance(provenance.get(key), (str, int, float)):
            header[card] = (provenance[key], comment)
    return header


def _iso(mjd: float) -> str:
    return mjd_to_datetime(mjd).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]


def write_images(
    images: TileImages, vis: Visibilities, outputs: dict[str, str], provenance: dict[str, Any]
) -> None:
    """Write image, residual, psf, beam, noise and subbands, each atomically."""
    from astropy.io import fits

    header = tile_header(images, vis, provenance)
    for key in ("image", "residual", "psf", "beam", "noise"):
        own = header.copy()
        if key in ("psf", "beam"):
            own["BUNIT"] = ("", "peak 1" if key == "psf" else "primary beam response")
        hdu = fits.PrimaryHDU(getattr(images, key).astype(np.float32, copy=False), own)
        with atomic_file(outputs[key]) as path:
            hdu.writeto(path)
    bands = images.subbands
    cubes = [
        np.stack([getattr(band, part) for band in bands]) for part in ("image", "beam", "noise")
    ]
    plain = header.copy()
    plain["BUNIT"] = ("", "primary beam response")
    table = fits.BinTableHDU.from_columns(
        [
            fits.Column("freq_hz", "D", "Hz", array=[band.freq_hz for band in bands]),
            fits.Column("bandwidth_hz", "D", "Hz", array=[band.bandwidth_hz for band in bands]),
        ],
        name="FREQS",
    )
    with atomic_file(outputs["subbands"]) as path:
        fits.HDUList(
            [
                fits.PrimaryHDU(cubes[0], header),
                fits.ImageHDU(cubes[1], plain, "BEAM"),
                fits.ImageHDU(cubes[2], header, "NOISE"),
                table,
            ]
        ).writeto(path)
