"""What is due: which files a run should make now, by the plan and the times of files.

A tile is converted and flagged as soon as it is there, phased when its mosaic's calibrator has transited, and
imaged when no further solutions for it are to be expected (those of its two later neighbours), so that each
is done once; what is left is part of its mosaic's run. A published mosaic is due again only after new raw data
of its own tiles.
"""

import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from dsaflow.errors import ConfigError
from dsaflow.fileio import read_json
from dsaflow.instrument import TILE_S
from dsaflow.names import mjd_to_datetime, parse_group_id, product
from dsaflow.planning import load_calibrators
from dsaflow.planning.make import reachable
from dsaflow.planning.mosaics import window_tiles
from dsaflow.planning.plan import Plan, PlannedMosaic, PlannedTile
from dsaflow.planning.requests import read_requests, window_id
from dsaflow.transit import transit_times_mjd

if TYPE_CHECKING:
    from dsaflow.config import Config

_TILE_D = TILE_S / 86400.0
# a tile's gains may come from this many tiles after it (Plan.gain_tiles)
_NEIGHBOURS = 2
# what arrived longer before a product than this was seen by the run that made it
_LONGEST_RUN_S = 6 * 3600.0
_EPOCH = mjd_to_datetime(0.0)


@dataclass(frozen=True)
class Target:
    """Files to make for one tile, mosaic or strip.

    Attributes
    ----------
    paths : tuple of str
    time_mjd : float
        UTC of the newest data in it.
    cost : int
        Tiles that still have to be imaged for it.
    raw_s : float
        Unix time of its newest raw file.
    input_s : float
        Unix time of the newest file, raw or made, that it is made from.
    group_id : str
        Of a mosaic; else empty.
    """

    paths: tuple[str, ...]
    time_mjd: float
    cost: int
    raw_s: float
    input_s: float
    group_id: str = ""


@dataclass(frozen=True)
class Window:
    """A mosaic that is not due yet."""

    mid_mjd: float
    n_tiles: int
    on_calibrator: bool


class Look:
    """The plan and the files of one moment; each file is asked for once.

    Parameters
    ----------
    config : Config
    plan : Plan
    """

    def __init__(self, config: "Config", plan: Plan) -> None:
        self.config, self.plan = config, plan
        self._stamps: dict[str, float] = {}

    def stamp(self, path: str) -> float:
        """Time of last change of a file (Unix), or -inf where it is absent."""
        if path not in self._stamps:
            try:
                self._stamps[path] = os.stat(path).st_mtime
            except FileNotFoundError:
                self._stamps[path] = -math.inf
        return self._stamps[path]

    def path(self, key: str, **wildcards: str) -> str:
        """Path of a product."""
        return product(key, self.config.paths.results, **wildcards)

    def made_s(self, key: str, **wildcards: str) -> float:
        """Time of last change of a product, or -inf where it is absent."""
        return self.stamp(self.path(key, **wildcards))

    def raw_s(self, tile: str) -> float:
        """Time of last change of a tile's raw files."""
        return max(self.stamp(file) for file in self.plan.tile(tile).files)

    def mosaics(self) -> Iterator[Target]:
        """Mosaics to be made, made again or measured."""
        photometry = self.config.watch.photometry
        for mosaic in self.plan.mosaics:
            group_id = mosaic.group_id
            raw_s = max(self.raw_s(tile) for tile in mosaic.tiles)
            images = [self.made_s("tile_verdict", tile=tile) for tile in mosaic.tiles]
            keys = []
            if self.made_s("publication", group_id=group_id) < raw_s or self._missed(mosaic, raw_s):
                keys = ["publication"]
            made_s = self.made_s("mosaic_verdict", group_id=group_id)
            measured_s = self.made_s("photometry_verdict", group_id=group_id)
            if photometry and (keys or measured_s < max(made_s, raw_s)):
                keys.append("photometry_verdict")
            if keys:
                yield Target(
                    tuple(self.path(key, group_id=group_id) for key in keys),
                    max(self.plan.tile(tile).mid_mjd for tile in mosaic.tiles),
                    sum(image < raw_s for image in images),
                    raw_s,
                    max(raw_s, *images),
                    group_id,
                )

    def _missed(self, mosaic: PlannedMosaic, raw_s: float) -> bool:
        """Whether data arrived while the mosaic was being made, too late for its plan."""
        made_s = self.made_s("mosaic_verdict", group_id=mosaic.group_id)
        if made_s == -math.inf or made_s - raw_s > _LONGEST_RUN_S:
            return False
        told = read_json(self.path("mosaic_verdict", group_id=mosaic.group_id))["numbers"]
        # a mosaic that was rejected for want of tiles may not tell how many it was offered
        if told.get("tiles_offered", len(mosaic.tiles)) != len(mosaic.tiles):
            return True
        return any(self._missed_files(tile) for tile in mosaic.tiles)

    def _missed_files(self, tile: str) -> bool:
        path = self.path("convert_verdict", tile=tile)
        if self.stamp(path) == -math.inf:
            return False
        told = read_json(path)["numbers"]
        if "n_subbands" not in told:  # rejected
            return False
        return told["n_subbands"] + len(told["files_not_used"]) != len(self.plan.tile(tile).files)

    def tiles(self) -> Iterator[Target]:
        """Tiles of mosaics that are still to come."""
        windows = [*self.waiting_windows(), *self.coming_windows()]
        found: dict[str, list[Window]] = {}
        for strip in sorted({tile.strip for tile in self.plan.tiles}):
            tiles = [tile for tile in self.plan.tiles if tile.strip == strip]
            for window in windows:
                for tile in window_tiles(tiles, window.mid_mjd, window.n_tiles):
                    if tile.status == "admitted":
                        found.setdefault(tile.tile, []).append(window)
        for name, those in sorted(found.items()):
            tile = self.plan.tile(name)
            if not any(self._calibrated(tile, window) for window in those):
                yield from self._make("flag_verdict", tile, [])
            elif self._settled(tile):
                yield from self._image(tile)
            else:
                bandpasses = self.plan.bandpass_tiles(name)
                yield from self._make("gains_verdict", tile, map(self._bandpass_s, bandpasses))

    def _make(self, key: str, tile: PlannedTile, inputs_s: Iterable[float]) -> Iterator[Target]:
        """A tile's product, where one of its inputs is newer."""
        raw_s = self.raw_s(tile.tile)
        newest_s = max([raw_s, *inputs_s])
        if self.made_s(key, tile=tile.tile) < newest_s:
            yield Target((self.path(key, tile=tile.tile),), tile.mid_mjd, 1, raw_s, newest_s)

    def _image(self, tile: PlannedTile) -> Iterator[Target]:
        inputs = []
        for other in self.plan.gain_tiles(tile.tile):
            inputs.append(max(self.raw_s(other), self.made_s("gains_verdict", tile=other)))
        inputs += map(self._bandpass_s, self.plan.bandpass_tiles(tile.tile))
        yield from self._make("tile_verdict", tile, inputs)

    def _bandpass_s(self, tile: str) -> float:
        return max(self.raw_s(tile), self.made_s("bandpass_verdict", tile=tile))

    def _settled(self, tile: PlannedTile) -> bool:
        """Whether no further tile can give it gains."""
        if self.plan.more_after_mjd == math.inf:
            return True
        later = [t for t in self.plan.strip_tiles(tile.strip) if t.mid_mjd > tile.mid_mjd]
        newest_mjd = max((t.mid_mjd for t in later), default=tile.mid_mjd)
        away = newest_mjd - tile.mid_mjd > (_NEIGHBOURS + 0.5) * _TILE_D
        return away or len(later) >= _NEIGHBOURS

    def _calibrated(self, tile: PlannedTile, window: Window) -> bool:
        """Whether the tile has the bandpass of the window's own calibrator, or cannot wait for it."""
        if not self.plan.bandpass_tiles(tile.tile):
            return False
        newest_mjd = max(t.mid_mjd for t in self.plan.strip_tiles(tile.strip))
        return not window.on_calibrator or newest_mjd >= window.mid_mjd - 0.5 * _TILE_D

    def waiting_windows(self) -> Iterator[Window]:
        """Mosaics that the plan lets wait for tiles."""
        asked = {window_id(self.config, w): w.n_tiles for w in read_requests(self.config)}
        calibrators = {name for known in self.plan.calibrator_jy.values() for name in known}
        for skipped in self.plan.skipped:
            if not skipped.reason.startswith("waiting"):
                continue
            try:
                centre, middle, _ = parse_group_id(skipped.what)
            except ConfigError:  # a file or a tile
                continue
            mid_mjd = (middle - _EPOCH).total_seconds() / 86400.0
            n_tiles = asked.get(skipped.what, self.config.plan.mosaic_tiles)
            yield Window(mid_mjd, n_tiles, centre in calibrators)

    def coming_windows(self) -> Iterator[Window]:
        """Mosaics about transits that follow the newest tile, while observing goes on."""
        options = self.config.plan
        if self.plan.more_after_mjd == math.inf or not options.centred:
            return
        newest = max(self.plan.tiles, key=lambda t: t.mid_mjd)
        tiles = [t for t in self.plan.tiles if t.strip == newest.strip]
        brightest_jy = self._brightest_so_far(newest)
        first = newest.mid_mjd + 0.5 * _TILE_D
        last = newest.mid_mjd + 0.5 * options.mosaic_tiles * _TILE_D
        for known in reachable(tiles, self.config, self._calibrators):
            # the plan makes the mosaics of those named, or of each night's brightest
            named = known.name in options.calibrators
            if named or (not options.calibrators and known.apparent_jy > brightest_jy):
                for time in transit_times_mjd(known.ra_deg, known.dec_deg, first, last):
                    yield Window(float(time), options.mosaic_tiles, True)

    @cached_property
    def _calibrators(self):
        return load_calibrators(self.config.paths.calibrators)

    def _brightest_so_far(self, newest: PlannedTile) -> float:
        """Apparent flux [Jy] of the brightest calibrator that has transited in the last half day."""
        known = self.plan.calibrator_jy.get(newest.strip, {})
        recent = [
            t for t in self.plan.strip_tiles(newest.strip) if newest.mid_mjd - t.mid_mjd < 0.5
        ]
        names = {name for t in recent for name in self.plan.transits.get(t.tile, [])}
        return max((known.get(name, 0.0) for name in names), default=0.0)

    def variability(self) -> Iterator[Target]:
        """Strips with photometry that is newer than the light curves, and none missing."""
        for strip in self.plan.strips:
            mosaics = self.plan.strip_mosaics(strip)
            stamps = [self.made_s("photometry_verdict", group_id=m.group_id) for m in mosaics]
            if not stamps or min(stamps) == -math.inf:
                continue
            if self.made_s("variability_verdict", strip=strip) < max(stamps):
                path = self.path("variability_verdict", strip=strip)
                newest_mjd = max(m.mid_mjd for m in mosaics)
                yield Target((path,), newest_mjd, 0, -math.inf, max(stamps))


def choose(targets: list[Target], max_tiles: int) -> list[Target]:
    """Take the newest first, until `max_tiles` tiles have to be imaged; at least one target."""
    chosen: list[Target] = []
    tiles = 0
    for target in sorted(targets, key=lambda t: (-t.time_mjd, not t.group_id, t.paths)):
        if chosen and tiles + target.cost > max_tiles:
            break
        chosen.append(target)
        tiles += target.cost
    return chosen
