"""Writing a mosaic: FITS images with complete headers, and the table of its tiles."""

import os
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dsaflow.fileio import atomic_file
from dsaflow.geometry import separation_rad
from dsaflow.mosaic.local import PLANES, LocalProperties
from dsaflow.mosaic.resample import STEP
from dsaflow.mosaic.tiles import Tile

if TYPE_CHECKING:
    from dsaflow.mosaic.coadd import Sums

TILE_COLUMNS = {
    "tile": "string",
    "used": "bool",
    "reason": "string",
    "ra_deg": "deg",
    "dec_deg": "deg",
    "offset_deg": "deg",
    "mjd": "d",
    "weight_share": "",
    "noise_jy": "Jy / beam",
    "scale": "",
    "scale_err": "",
    "scale_sys": "",
    "bmaj_deg": "deg",
    "bmin_deg": "deg",
    "bpa_deg": "deg",
    "freq_hz": "Hz",
}


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
    _write_tiles(outputs["tiles"], tiles, centre)


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


def _row(tile: Tile, total: float, centre: tuple[float, float]) -> list[Any]:
    ra, dec = tile.card("CRVAL1"), tile.card("CRVAL2")
    return [
        tile.name, tile.used, tile.reason, ra, dec,
        float(np.degrees(separation_rad(ra, dec, *centre))), tile.card("MJD-AVG"),
        tile.weight / total, tile.noise_jy, tile.card("SCALE"), tile.card("SCALEERR"),
        tile.card("SCALESYS"), tile.card("BMAJ"), tile.card("BMIN"), tile.card("BPA"),
        tile.card("FREQ"),
    ]  # fmt: skip


def _cell(value: Any) -> str:
    if isinstance(value, str):
        text = " ".join(value.split()).replace('"', '""')
        return f'"{text}"'
    return repr(value)


def _write_tiles(path: str | os.PathLike, tiles: list[Tile], centre: tuple[float, float]) -> None:
    """Write the table of tiles as ECSV (Astropy APE 6), one row a tile offered."""
    total = sum(tile.weight for tile in tiles)
    lines = ["# %ECSV 1.0", "# ---", "# datatype:"]
    for name, unit in TILE_COLUMNS.items():
        kind = unit if unit in ("string", "bool") else "float64"
        suffix = f", unit: {unit}" if unit and kind == "float64" else ""
        lines.append(f"# - {{name: {name}, datatype: {kind}{suffix}}}")
    lines.append(" ".join(TILE_COLUMNS))
    for tile in tiles:
        lines.append(" ".join(_cell(value) for value in _row(tile, total, centre)))
    with atomic_file(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n")
