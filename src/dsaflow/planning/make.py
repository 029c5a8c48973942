"""Make the plan: called once when the workflow is parsed; remote jobs read what it wrote."""

import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dsaflow.errors import ConfigError, EnvironmentProblem
from dsaflow.instrument import TILE_S, PrimaryBeam
from dsaflow.names import product
from dsaflow.planning.groups import group_files, other_data, scan_incoming
from dsaflow.planning.headers import HeaderCache
from dsaflow.planning.mosaics import (
    centred_windows,
    plan_mosaics,
    sliding_windows,
    transits_with_data,
    window_tiles,
)
from dsaflow.planning.plan import Plan, PlannedTile, Skipped
from dsaflow.planning.requests import add_requested
from dsaflow.planning.strips import find_gaps, place_tiles
from dsaflow.transit import ReachableCalibrator, calibrators_in_reach

if TYPE_CHECKING:
    from dsaflow.config import Config
    from dsaflow.config.sections import Plan as PlanOptions


_VLA_NAME = re.compile(r"\bVLA (\d{4}[+-]\d{3})\b")


@dataclass(frozen=True)
class CalibratorList:
    """What planning needs of the calibrators' table (fluxes near 1.4 GHz).

    `vla_name` holds the names in the VLA's list of those that have another one, else "".
    """

    name: list[str]
    ra_deg: NDArray
    dec_deg: NDArray
    flux_jy: NDArray
    primary: NDArray
    vla_name: list[str] = field(default_factory=list)


def load_calibrators(path: str) -> CalibratorList:
    """Names, positions and fluxes from the calibrators' table.

    Raises
    ------
    EnvironmentProblem
        There is no such file.
    """
    import csv

    if not Path(path).is_file():
        raise EnvironmentProblem(
            f"paths.calibrators: no file {path}; start in the folder of the workflow, or name the table"
        )
    with open(path, newline="") as stream:
        rows = list(csv.DictReader(line for line in stream if not line.startswith("#")))
    return CalibratorList(
        [row["name"] for row in rows],
        np.array([float(row["ra_deg"]) for row in rows]),
        np.array([float(row["dec_deg"]) for row in rows]),
        np.array([float(row["flux_jy"]) for row in rows]),
        np.array([row["primary"] == "1" for row in rows]),
        [(_VLA_NAME.search(row["note"]) or ["", ""])[1] for row in rows],
    )


def make_plan(
    config: "Config",
    calibrators: CalibratorList | None = None,
    now_s: float | None = None,
) -> Plan:
    """Scan the incoming folder and plan tiles and mosaics.

    Parameters
    ----------
    config : Config
    calibrators : CalibratorList, optional
        Default: the table at ``paths.calibrators``.
    now_s : float, optional
        Unix time against which files are judged as settled; default: now.

    Returns
    -------
    Plan
        The same for the same files, configuration and state of settling.

    Raises
    ------
    ConfigError
        ``plan.calibrators`` names one that is not in the table.
    """
    options = config.plan
    now_s = time.time() if now_s is None else now_s
    calibrators = calibrators or load_calibrators(config.paths.calibrators)
    unknown = sorted(set(options.calibrators) - set(calibrators.name))
    if unknown:
        raise ConfigError(
            f"plan.calibrators: {', '.join(unknown)} not in {config.paths.calibrators}; "
            f"known are {', '.join(calibrators.name)}"
        )
    cache = HeaderCache(Path(config.paths.results) / "plan" / "headers.json")
    if not Path(config.paths.incoming).is_dir():
        # not an error: a simulation has yet to fill it
        reason = "paths.incoming: no such folder; create it or point it to the UVH5 files"
        return Plan(skipped=[Skipped(config.paths.incoming, reason)])
    files = scan_incoming(config.paths.incoming, cache)
    cache.save()
    groups = group_files(files, options.group_tolerance_s)
    tiles, skipped = place_tiles(groups, options.strip_tolerance_deg, options.settle_s, now_s)
    skipped += [
        Skipped(name, "not named YYYY-MM-DDTHH:MM:SS_sbNN.hdf5 as the correlator's files are")
        for name in other_data(config.paths.incoming)
    ]
    plan = Plan(
        tiles=tiles,
        skipped=skipped,
        gaps=find_gaps(tiles, options.group_tolerance_s),
        bandpass_validity_h=config.calibrate.bandpass_validity_hours,
        bandpass_fallback_d=options.bandpass_fallback_days,
        gain_validity_h=config.calibrate.gain_validity_hours,
        n_each_side=options.bandpass_candidates,
    )
    if files:
        newest_s = max(f.mtime_s for f in files)
        observing = now_s - newest_s < options.settle_s + TILE_S and options.settle_s > 0
        if observing and tiles:
            plan.more_after_mjd = max(t.mid_mjd for t in tiles)
        for strip in sorted({t.strip for t in tiles}):
            _plan_strip(plan, [t for t in tiles if t.strip == strip], config, calibrators)
        add_requested(plan, config)
    plan.mosaics.sort(key=lambda m: (m.mid_mjd, m.group_id))
    return plan


def frozen_plan(config: "Config", remake: bool) -> Plan:
    """Plan of this run: made and written by the main process, only read by every other.

    Parameters
    ----------
    config : Config
    remake : bool
        Whether this process is the one that plans.

    Raises
    ------
    EnvironmentProblem
        A process that may not plan finds no plan.
    """
    path = Path(product("plan", config.paths.results))
    if remake:
        plan = make_plan(config)
        plan.write(path)
        return plan
    if not path.exists():
        raise EnvironmentProblem(
            f"no plan at {path}: the main process writes it; is paths.results on a shared disk?"
        )
    return Plan.read(path)


def _plan_strip(
    plan: Plan,
    tiles: list[PlannedTile],
    config: "Config",
    calibrators: CalibratorList,
) -> None:
    """Add one strip's calibrator transits and mosaics to the plan."""
    options, beam = config.plan, PrimaryBeam.from_config(config.instrument.beam)
    reach = reachable(tiles, config, calibrators)
    strip = tiles[0].strip
    plan.calibrator_jy[strip] = {c.name: round(c.apparent_jy, 4) for c in reach}
    admitted = [t for t in tiles if t.status == "admitted"]
    if admitted:
        bright = [c for c in reach if c.apparent_jy >= config.calibrate.min_calibrator_jy]
        plan.transits.update(transits_with_data(admitted, bright)[0])
    windows: list[tuple[str, list[tuple[float, str, float]]]] = []
    if options.centred:
        _, transits = transits_with_data(tiles, reach)
        if not options.calibrators:
            # the night's brightest may transit at the edge of the data: prefer one with a mosaic
            full = [t for t in transits if _n_tiles(tiles, t[0], options) >= options.min_tiles]
            transits = full or transits
        windows.append(("centred", centred_windows(transits, options.calibrators)))
    if options.sliding:
        grid = sliding_windows(tiles, options.mosaic_tiles, beam, config.mosaic.beam_cut)
        windows.append(("sliding", grid))
    for kind, found in windows:
        mosaics, skipped = plan_mosaics(
            found, kind, tiles, options.mosaic_tiles, options.min_tiles,
            config.science_hash(), plan.more_after_mjd,
        )  # fmt: skip
        plan.mosaics += mosaics
        plan.skipped += skipped


def _n_tiles(tiles: list[PlannedTile], centre_mjd: float, options: "PlanOptions") -> int:
    return len(window_tiles(tiles, centre_mjd, options.mosaic_tiles))


def reachable(
    tiles: list[PlannedTile],
    config: "Config",
    calibrators: CalibratorList,
    min_response: float | None = None,
) -> list[ReachableCalibrator]:
    """Calibrators that cross a strip's beam, brightest (apparent) first.

    Parameters
    ----------
    tiles : list of PlannedTile
        Of one strip, not empty.
    config : Config
    calibrators : CalibratorList
    min_response : float, optional
        Least response at transit; default: ``plan.calibrator_min_response``.
    """
    return calibrators_in_reach(
        calibrators.name,
        calibrators.ra_deg,
        calibrators.dec_deg,
        calibrators.flux_jy,
        float(np.median([t.declination_deg for t in tiles])),
        tiles[0].mid_mjd,
        PrimaryBeam.from_config(config.instrument.beam),
        config.plan.calibrator_min_response if min_response is None else min_response,
        calibrators.primary,
    )
