"""Writing a mosaic: FITS images with complete headers, and the table of its tiles."""

import os
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dsaflow.fileio import atomic_file
from dsaflow.mosaic.local import PLANES, LocalProperties
from dsaflow.mosaic.resample import STEP
from dsaflow.mosaic.tables import write_tiles
from dsaflow.mosaic.tiles import Tile

if TYPE_CHECKING:
    from dsaflow.mosaic.coadd import Sums


def write_products(
    outputs: dict[str, str],
    header: dict[str, Any],
    full: "Sums",
    bands: list["Sums"],
    local: LocalProperties,
    tiles: list[Tile],
    freqs_hz: tuple[NDArray, NDArray],
    centre: tuple[float, float],
) -> None:
    """Write image, noise, weight, coverage, subbands and tiles (`outputs` holds their paths)."""
    from astropy.io import fits

    def primary(data: NDArray, unit: str) -> Any:
        return _image_hdu(fits.PrimaryHDU, data, header | {"BUNIT": unit})

    _write(outputs["image"], [primary(full.image(), "Jy/beam")])
    planes = fits.ImageHDU(local.planes().astype(np.float32), name="LOCAL")
    planes.header["STEP"] = (STEP, "pixels of the image between nodes")
    planes.header["MJD0"] = (local.mjd0, "zero of plane MJD")
    for number, name in enumerate(PLANES, 1):
        planes.header[f"PLANE{number}"] = name
    _write(outputs["noise"], [primary(full.noise(), "Jy/beam"), planes])
    _write(outputs["weight"], [primary(full.denominator, "Jy-2")])
    _write(outputs["coverage"], [_image_hdu(fits.PrimaryHDU, full.coverage, header, "")])
    cube = primary(np.array([sums.image().astype(np.float32) for sums in bands]), "Jy/beam")
    noise = _image_hdu(
        fits.ImageHDU, np.array([sums.noise().astype(np.float32) for sums in bands]), header
    )
    noise.name = "NOISE"
    freqs = fits.BinTableHDU.from_columns(
        [
            fits.Column("freq_hz", "D", unit="Hz", array=freqs_hz[0]),
            fits.Column("bandwidth_hz", "D", unit="Hz", array=freqs_hz[1]),
        ],
        name="FREQS",
    )
    _write(outputs["subbands"], [cube, noise, freqs])
    write_tiles(outputs["tiles"], tiles, centre)


def _image_hdu(kind: Any, data: NDArray, header: dict[str, Any], unit: str | None = None) -> Any:
    data = data if data.dtype == np.int16 else data.astype(np.float32, copy=False)
    hdu = kind(data)
    for key, value in header.items():
        hdu.header[key] = value
    if unit is not None:
        hdu.header["BUNIT"] = unit
    return hdu


def _write(path: str | os.PathLike, hdus: list[Any]) -> None:
    from astropy.io import fits

    with atomic_file(path) as temporary:
        fits.HDUList(hdus).writeto(temporary)
