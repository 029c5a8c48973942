"""Every product's path and id, built and parsed in one place.

Path templates are relative to the results folder and hold Snakemake wildcards in braces:
``{tile}`` is one group of 16 files, ``{group_id}`` one mosaic, ``{strip}`` one declination strip.
"""

import re
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath

from dsaflow.errors import ConfigError

PRODUCTS: dict[str, str] = {
    "plan": "plan/plan.json",
    "requests": "plan/requests.json",
    "catalog": "catalog/{strip}.parquet",
    "catalog_verdict": "catalog/{strip}.json",
    # tile products
    "measurement_set": "tiles/{tile}/visibilities.ms",
    "ms_manifest": "tiles/{tile}/visibilities_ms.json",
    "convert_verdict": "tiles/{tile}/convert.json",
    "flags": "tiles/{tile}/flags.h5",
    "flag_verdict": "tiles/{tile}/flag.json",
    "bandpass": "calibration/{tile}/bandpass.h5",
    "bandpass_verdict": "calibration/{tile}/bandpass.json",
    "gains": "tiles/{tile}/gains.h5",
    "gains_verdict": "tiles/{tile}/gains.json",
    "calibrated_ms": "tiles/{tile}/calibrated.ms",
    "calibrated_manifest": "tiles/{tile}/calibrated_ms.json",
    "calibrated_verdict": "tiles/{tile}/calibrated.json",
    "tile_image": "tiles/{tile}/image.fits",
    "tile_residual": "tiles/{tile}/residual.fits",
    "tile_psf": "tiles/{tile}/psf.fits",
    "tile_beam": "tiles/{tile}/beam.fits",
    "tile_noise": "tiles/{tile}/noise.fits",
    "tile_subbands": "tiles/{tile}/subbands.fits",
    "tile_verdict": "tiles/{tile}/image.json",
    # mosaic products
    "mosaic_image": "mosaics/{group_id}/mosaic.fits",
    "mosaic_noise": "mosaics/{group_id}/noise.fits",
    "mosaic_weight": "mosaics/{group_id}/weight.fits",
    "mosaic_coverage": "mosaics/{group_id}/coverage.fits",
    "mosaic_subbands": "mosaics/{group_id}/subbands.fits",
    "mosaic_tiles": "mosaics/{group_id}/tiles.ecsv",
    "mosaic_verdict": "mosaics/{group_id}/mosaic.json",
    "beam_fit": "mosaics/{group_id}/beam_fit.json",
    "mosaic_qa": "mosaics/{group_id}/qa.json",
    "publication": "mosaics/{group_id}/publication.json",
    "photometry": "photometry/{group_id}.parquet",
    "photometry_verdict": "photometry/{group_id}.json",
    # figures of the report
    "figure_flagging": "figures/{tile}/flagging.png",
    "figure_bandpass": "figures/{tile}/bandpass.png",
    "figure_tile": "figures/{tile}/image.png",
    "figure_mosaic": "figures/{group_id}/mosaic.png",
    "figure_fluxes": "figures/{group_id}/fluxes.png",
    "figure_gates": "figures/{group_id}/gates.png",
    "figure_beam": "figures/{group_id}/beam.png",
    "figure_noise": "figures/{group_id}/noise.png",
    "figure_astrometry": "figures/{group_id}/astrometry.png",
    "figure_light_curves": "figures/{strip}/light_curves.png",
    # all epochs of a strip
    "light_curves": "variability/{strip}/light_curves.parquet",
    "epoch_scale": "variability/{strip}/epoch_scale.parquet",
    "metrics": "variability/{strip}/metrics.parquet",
    "ese_candidates": "variability/{strip}/ese_candidates.parquet",
    "ese_candidates_ecsv": "variability/{strip}/ese_candidates.ecsv",
    "ese_candidates_votable": "variability/{strip}/ese_candidates.vot",
    "candidate_plots": "variability/{strip}/candidates",
    "variability_verdict": "variability/{strip}/variability.json",
    "ese_characterisation": "variability/{strip}/ese/ese.json",
    "ese_bounds": "variability/{strip}/ese/bounds.ecsv",
    "figure_ese_false_alarms": "variability/{strip}/ese/false_alarms.png",
    "figure_ese_recovery": "variability/{strip}/ese/recovery.png",
    "figure_ese_scintillators": "variability/{strip}/ese/scintillators.png",
}

WILDCARD_PATTERNS = {
    "tile": r"\d{8}T\d{6}",
    "group_id": r"[A-Za-z0-9+.-]+_\d{8}T\d{6}_[0-9a-f]{8}",
    "strip": r"dec[+-]\d{2}\.\d",
}

_RAW_NAME = re.compile(r"^(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2})_sb(\d{2})\.hdf5$")


def product(key: str, results: str, **wildcards: str) -> str:
    """Path of a product below `results`; wildcards not given stay in braces for Snakemake.

    Raises
    ------
    KeyError
        `key` is no product.
    ConfigError
        A wildcard's value does not have the form of its kind of id.
    """
    path = PRODUCTS[key]
    for name, value in wildcards.items():
        if not re.fullmatch(WILDCARD_PATTERNS[name], value):
            raise ConfigError(f"{value!r} is not a valid {name}")
        path = path.replace("{" + name + "}", value)
    return str(PurePosixPath(results) / path)


def parse_raw_name(filename: str) -> tuple[datetime, int] | None:
    """Split ``2026-01-25T22:26:05_sb03.hdf5`` into UTC start and subband number; None if it is not such a name."""
    match = _RAW_NAME.match(PurePosixPath(filename).name)
    if match is None:
        return None
    return datetime.fromisoformat(match[1]).replace(tzinfo=UTC), int(match[2])


def raw_name(start: datetime, subband: int) -> str:
    """Name of a raw file, as the correlator writes it."""
    return f"{start:%Y-%m-%dT%H:%M:%S}_sb{subband:02d}.hdf5"


def tile_id(start: datetime) -> str:
    """Tile id of a group that starts at `start` (UTC), e.g. ``20260125T222605``."""
    return f"{start:%Y%m%dT%H%M%S}"


def parse_tile_id(tile: str) -> datetime:
    """UTC start of a tile, to the second."""
    return datetime.strptime(tile, "%Y%m%dT%H%M%S").replace(tzinfo=UTC)


def mjd_to_datetime(mjd: float) -> datetime:
    """UTC datetime of a UTC MJD (leap seconds inside a day ignored: for names only)."""
    return datetime(1858, 11, 17, tzinfo=UTC) + timedelta(days=mjd)


def group_id(centre: str, mid_mjd: float, config_hash: str) -> str:
    """Mosaic id ``<calibrator or centre>_<mid UTC>_<configuration hash>``."""
    return f"{centre}_{tile_id(mjd_to_datetime(mid_mjd))}_{config_hash}"


def parse_group_id(identifier: str) -> tuple[str, datetime, str]:
    """Split a group_id into centre, mid time (UTC) and configuration hash.

    Raises
    ------
    ConfigError
        `identifier` has not the form of a group_id.
    """
    if not re.fullmatch(WILDCARD_PATTERNS["group_id"], identifier):
        raise ConfigError(f"{identifier!r} is not a group_id")
    centre, mid, config_hash = identifier.rsplit("_", 2)
    try:
        return centre, parse_tile_id(mid), config_hash
    except ValueError:
        raise ConfigError(f"{identifier!r} names a time that does not exist") from None


def strip_name(declination_deg: float) -> str:
    """Id of a declination strip from its apparent declination, e.g. ``dec+16.1``."""
    return f"dec{declination_deg:+05.1f}"


def candidate_id(strip: str, source_id: str) -> str:
    """Id of the ESE candidate of a source, for URLs and reviews, e.g. ``dec+16.1.S0805529+164238``.

    A search gives at most one candidate a source; ranks change with every epoch, this does not.
    """
    return f"{strip}.{re.sub(r'[^A-Za-z0-9+.-]', '_', source_id)}"
