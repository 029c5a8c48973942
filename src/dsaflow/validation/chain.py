"""One simulated night from raw files to photometry, in this process; stages may be left out."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dsaflow.calibration.stages import apply_calibration, solve_bandpass, solve_gains
from dsaflow.config import Config
from dsaflow.imaging.tile import image_tile
from dsaflow.instrument import read_stations
from dsaflow.mosaic.coadd import make_mosaic
from dsaflow.photometry.measure import measure_mosaic
from dsaflow.planning import make_plan
from dsaflow.planning.plan import Plan, PlannedMosaic
from dsaflow.simulate.night import simulate_night
from dsaflow.simulate.truth import write_reference_catalog, write_truth
from dsaflow.verdict import Verdict
from dsaflow.visibilities.convert import convert_tile
from dsaflow.visibilities.flag import flag_tile
from dsaflow.visibilities.flagfile import write_flags
from dsaflow.visibilities.ms import KEYWORD, read_ms

IMAGES = ("image", "residual", "psf", "beam", "noise", "subbands")
MAPS = ("image", "noise", "weight", "coverage", "subbands")


@dataclass
class Night:
    """Where the products of one night lie."""

    folder: Path
    mosaic: dict[str, str]
    photometry: Path
    tiles: list[dict[str, str]]


@dataclass(frozen=True)
class Steps:
    """Which stages are real: without flagging nothing is flagged, without calibration data are Jy.

    With `track` the pipeline is told that the mount tracks, so that its beam stands still: for data
    simulated without beam motion, and only without calibration, which would leave the beam out.
    """

    flag: bool = True
    calibrate: bool = True
    track: bool = False


def simulate(config: Config, nights: int) -> None:
    """Write the truth, the catalogue and the raw files of some nights, as the rules would."""
    truth = Path(config.paths.results) / "simulated"
    write_truth(config.simulate, truth, config.paths.antennas)
    write_reference_catalog(config.simulate, truth / "catalog.parquet")
    for night in range(nights):
        simulate_night(config.simulate, night, config.paths.incoming, config.paths.antennas)


def run_nights(config: Config, steps: Steps, keep: bool = True) -> list[Night]:
    """Run every planned mosaic of a configuration.

    Parameters
    ----------
    config : Config
        With ``paths`` of its own and ``paths.reference_catalog`` set.
    steps : Steps
    keep : bool
        Keep Measurement Sets.

    Returns
    -------
    list of Night
        In order of time.
    """
    plan = make_plan(config)
    return [_run(config, plan, mosaic, steps, keep) for mosaic in plan.mosaics]


def _run(config: Config, plan: Plan, mosaic: PlannedMosaic, steps: Steps, keep: bool) -> Night:
    folder = Path(config.paths.results) / "chain" / mosaic.group_id
    stations = read_stations(config.paths.antennas)
    catalog = config.paths.reference_catalog
    place = {tile: folder / tile for tile in mosaic.tiles}
    for tile, at in place.items():
        at.mkdir(parents=True, exist_ok=True)
        convert_tile(plan.tile(tile).files, at / "data.ms", config, stations)
        if steps.track:
            _say_that_it_tracks(at / "data.ms")
        if steps.flag:
            flag_tile(at / "data.ms", at / "flags.h5", config)
        else:
            write_flags(at / "flags.h5", read_ms(at / "data.ms").flags)
    tiles = []
    for tile, at in place.items():
        ms, provenance = at / "data.ms", {"tile": tile}
        if steps.calibrate:
            ms, provenance = _calibrated(config, plan, tile, place, catalog)
        tiles.append(_image(config, ms, at, provenance))
    if not keep:
        for at in place.values():
            shutil.rmtree(at / "data.ms")
            shutil.rmtree(at / "calibrated.ms", ignore_errors=True)
    return _coadd(config, mosaic, folder, tiles)


def _say_that_it_tracks(ms: Path) -> None:
    """Take the pointing's declination out of a converted tile: its beam is then the phase centre's."""
    from casacore import tables

    with tables.table(str(ms), readonly=False, ack=False) as table:
        record = table.getkeyword(KEYWORD)
        table.putkeyword(KEYWORD, record | {"pointing_dec_deg": float("nan")})


def _calibrated(
    config: Config, plan: Plan, tile: str, place: dict[str, Path], catalog: str
) -> tuple[Path, dict[str, Any]]:
    """Solve a tile (and first the transit tile's bandpass) and apply; as rules/calibrate.smk does."""
    at = place[tile]
    bandpasses = []
    for transit in plan.bandpass_tiles(tile):
        if transit in place:
            near = place[transit]
            if not (near / "bandpass.h5").exists():
                solve_bandpass(
                    near / "data.ms", near / "flags.h5", catalog, config.paths.calibrators,
                    near / "bandpass.h5", config,
                )  # fmt: skip
            bandpasses.append(near / "bandpass.h5")
    inputs = at / "data.ms", at / "flags.h5", bandpasses
    solve_gains(*inputs, catalog, at / "gains.h5", config)
    applied = apply_calibration(*inputs, [at / "gains.h5"], at / "calibrated.ms", config)
    numbers = {k: v for k, v in applied.numbers.items() if k.startswith(("scale", "rung"))}
    return at / "calibrated.ms", {"tile": tile, **numbers}


def _image(config: Config, ms: Path, at: Path, provenance: dict[str, Any]) -> dict[str, str]:
    outputs = {key: str(at / f"{key}.fits") for key in IMAGES}
    known = {"input_hash": "", "config_hash": config.science_hash(), "rung": "none"}
    exact = {"scale": 1.0, "scale_err_relative": 0.0, "scale_systematic": 0.0}
    verdict = image_tile(
        ms, outputs, config, known | exact | provenance,
        catalog_path=config.paths.reference_catalog,
    )  # fmt: skip
    verdict.write(at / "image.json")
    kept = {key: outputs[key] for key in ("image", "beam", "noise", "subbands")}
    return {"tile": provenance["tile"], **kept, "verdict": str(at / "image.json")}


def _coadd(
    config: Config, mosaic: PlannedMosaic, folder: Path, tiles: list[dict[str, str]]
) -> Night:
    maps = {key: str(folder / f"{key}.fits") for key in MAPS}
    maps["tiles"] = str(folder / "tiles.ecsv")
    centre = (mosaic.ra_deg, mosaic.dec_deg)
    make_mosaic(tiles, centre, maps, config, {"GROUPID": mosaic.group_id})
    # photometry asks for the gates' verdict; here the score against the truth takes its place
    Verdict().write(folder / "qa.json")
    photometry = folder / "photometry.parquet"
    measure_mosaic(
        maps | {"qa": str(folder / "qa.json")}, config.paths.reference_catalog, photometry,
        config, mosaic.epoch, mosaic.strip, mosaic.group_id, mosaic.mid_mjd,
    )  # fmt: skip
    return Night(folder, maps, photometry, tiles)


def tile_noise_ratios(night: Night) -> np.ndarray:
    """Noise over radiometer value of each tile of a night."""
    return np.array(
        [Verdict.read(t["verdict"]).numbers["noise_over_radiometer"] for t in night.tiles]
    )
