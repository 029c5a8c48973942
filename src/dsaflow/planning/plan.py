"""The plan: tiles, mosaics and what was left out, frozen as JSON for one run."""

import json
import math
import os
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal

from dsaflow.fileio import read_json, to_plain, write_json

_FORMAT = 1
_CATALOG_MARGIN_DEG = 5.0


@dataclass(frozen=True)
class PlannedTile:
    """One group of raw files.

    `declination_deg` is apparent, `ra_deg` and `dec_deg` the ICRS meridian at mid-tile; `night` is
    the sidereal-day number of that meridian (see `dsaflow.transit.transit_number`); `n_channels`
    counts the readable files' channels.
    """

    tile: str
    strip: str
    night: int
    start_mjd: float
    mid_mjd: float
    declination_deg: float
    ra_deg: float
    dec_deg: float
    files: list[str]
    n_subbands: int
    n_channels: int
    status: Literal["admitted", "waiting"]
    reason: str


@dataclass(frozen=True)
class PlannedMosaic:
    """One mosaic: `mid_mjd` is its centre's transit, `epoch` that transit's sidereal-day number."""

    group_id: str
    kind: Literal["centred", "sliding", "window"]
    centre: str
    ra_deg: float
    dec_deg: float
    mid_mjd: float
    strip: str
    epoch: int
    tiles: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Plain content."""
        return asdict(self)


@dataclass(frozen=True)
class Skipped:
    """A group or mosaic that is not planned, and why."""

    what: str
    reason: str


@dataclass(frozen=True)
class Gap:
    """Time without data between two consecutive tiles of a strip."""

    strip: str
    after: str
    before: str
    minutes: float
    kind: Literal["gap", "between runs"]


@dataclass
class Plan:
    """What to make from which files.

    Attributes
    ----------
    tiles, mosaics : list
        Ascending in time.
    skipped : list of Skipped
    gaps : list of Gap
    transits : dict
        Admitted tile -> names of the calibrators that transit in it, brightest (apparent) first.
    calibrator_jy : dict
        Strip -> calibrator -> apparent flux at transit [Jy].
    bandpass_validity_h, gain_validity_h, bandpass_fallback_d : float
        How far from a tile a solution may come.
    n_each_side : int
        Bandpass candidates in either direction.
    more_after_mjd : float
        While observing goes on, the time from which data are still to come; else infinite.
    """

    tiles: list[PlannedTile] = field(default_factory=list)
    mosaics: list[PlannedMosaic] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    transits: dict[str, list[str]] = field(default_factory=dict)
    calibrator_jy: dict[str, dict[str, float]] = field(default_factory=dict)
    bandpass_validity_h: float = 24.0
    bandpass_fallback_d: float = 30.0
    gain_validity_h: float = 1.0
    n_each_side: int = 3
    more_after_mjd: float = math.inf

    @cached_property
    def _by_tile(self) -> dict[str, PlannedTile]:
        return {t.tile: t for t in self.tiles}

    @cached_property
    def _by_group(self) -> dict[str, PlannedMosaic]:
        return {m.group_id: m for m in self.mosaics}

    @cached_property
    def _admitted(self) -> dict[str, list[PlannedTile]]:
        strips: dict[str, list[PlannedTile]] = defaultdict(list)
        for tile in self.tiles:
            if tile.status == "admitted":
                strips[tile.strip].append(tile)
        return dict(strips)

    @property
    def strips(self) -> list[str]:
        """Strips with admitted tiles, sorted."""
        return sorted(self._admitted)

    @property
    def admitted(self) -> list[PlannedTile]:
        """Tiles to be processed."""
        return [t for t in self.tiles if t.status == "admitted"]

    @property
    def transit_tiles(self) -> dict[str, list[str]]:
        """Tile -> names of the calibrators that transit in it."""
        return self.transits

    def tile(self, tile: str) -> PlannedTile:
        """Tile by id; KeyError if it is not planned."""
        return self._by_tile[tile]

    def mosaic(self, group_id: str) -> PlannedMosaic:
        """Mosaic by id; KeyError if it is not planned."""
        return self._by_group[group_id]

    def strip_tiles(self, strip: str) -> list[PlannedTile]:
        """Admitted tiles of a strip, ascending in time."""
        return self._admitted.get(strip, [])

    def strip_mosaics(self, strip: str) -> list[PlannedMosaic]:
        """Mosaics of a strip, ascending in time."""
        return [m for m in self.mosaics if m.strip == strip]

    @property
    def needed_tiles(self) -> list[str]:
        """Tiles that some mosaic uses, with the transit tiles that they need, ascending in time."""
        used = {t for m in self.mosaics for t in m.tiles}
        used |= {b for t in list(used) for b in self.bandpass_tiles(t)}
        return sorted(used)

    def bandpass_tiles(self, tile: str) -> list[str]:
        """Transit tiles whose bandpass may serve a tile, nearest first.

        Those of the same strip within the validity, at most `n_each_side` before and after; where
        there is none, the same within the fall-back (the ladder's "nearest validated date").
        """
        target = self._by_tile[tile]
        near = self._both_directions(
            target,
            [t for t in self.strip_tiles(target.strip) if t.tile in self.transits],
            self.bandpass_validity_h / 24.0,
            self.n_each_side,
        )
        return near or self._both_directions(
            target,
            [t for t in self.strip_tiles(target.strip) if t.tile in self.transits],
            self.bandpass_fallback_d,
            self.n_each_side,
        )

    def gain_tiles(self, tile: str) -> list[str]:
        """Tiles whose gains may serve a tile: itself, then at most two each side, nearest first."""
        target = self._by_tile[tile]
        others = [t for t in self.strip_tiles(target.strip) if t.tile != tile]
        return [tile, *self._both_directions(target, others, self.gain_validity_h / 24.0, 2)]

    @staticmethod
    def _both_directions(
        target: PlannedTile, candidates: list[PlannedTile], reach_d: float, each_side: int
    ) -> list[str]:
        def distance(other: PlannedTile) -> tuple[float, str]:
            return abs(other.mid_mjd - target.mid_mjd), other.tile

        near = sorted((c for c in candidates if distance(c)[0] <= reach_d), key=distance)
        before = [c for c in near if c.mid_mjd < target.mid_mjd][:each_side]
        after = [c for c in near if c.mid_mjd >= target.mid_mjd][:each_side]
        return [c.tile for c in sorted(before + after, key=distance)]

    def strip_region(self, strip: str) -> dict[str, Any]:
        """Patch of sky that a strip's admitted tiles see, for the reference catalogue.

        Returns
        -------
        dict
            ``dec_deg``: the strip's declination; ``ra_range_deg``: west and east end, ICRS, through
            0 h where the second is the smaller, (0, 360) for all. The ends are 5 deg on the sky
            beyond the outermost tile centres and rounded outward to 15 deg, so that one more tile
            seldom asks for a new catalogue.
        """
        tiles = self.strip_tiles(strip)
        ra = sorted({t.ra_deg for t in tiles})
        # the complement of the largest empty arc: safe across RA = 0
        arcs = [(b - a) % 360.0 or 360.0 for a, b in zip(ra, ra[1:] + ra[:1], strict=True)]
        widest = arcs.index(max(arcs))
        first = ra[(widest + 1) % len(ra)]
        declination_deg = float(strip.removeprefix("dec"))
        margin = _CATALOG_MARGIN_DEG / math.cos(math.radians(declination_deg))
        low = math.floor((first - margin) / 15.0) * 15.0
        high = math.ceil((first + 360.0 - arcs[widest] + margin) / 15.0) * 15.0
        whole = high - low >= 360.0
        return {
            "dec_deg": declination_deg,
            "ra_range_deg": [0.0, 360.0] if whole else [low % 360.0, high % 360.0],
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain content, as written."""
        return {"format": _FORMAT, **to_plain(asdict(self))}

    def to_json(self) -> str:
        """Content as indented JSON."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False)

    def write(self, path: str | os.PathLike) -> None:
        """Write as JSON, atomically; an equal plan leaves the file (and its mtime) alone."""
        content = self.to_dict()
        try:
            equal = read_json(path) == content
        except (FileNotFoundError, ValueError):  # a damaged one is made anew
            equal = False
        if not equal:
            write_json(path, content)

    @classmethod
    def read(cls, path: str | os.PathLike) -> "Plan":
        """Read back what `write` wrote."""
        content = dict(read_json(path))
        content.pop("format")
        if content.get("more_after_mjd") is None:  # JSON has no infinity
            content["more_after_mjd"] = math.inf
        kinds = {"tiles": PlannedTile, "mosaics": PlannedMosaic, "skipped": Skipped, "gaps": Gap}
        for key, kind in kinds.items():
            content[key] = [kind(**item) for item in content[key]]
        return cls(**content)


def describe_plan(plan: Plan) -> str:
    """Table for a person: strips, mosaics, gaps, incomplete and skipped groups."""
    lines = []
    for strip in plan.strips:
        tiles, mosaics = plan.strip_tiles(strip), plan.strip_mosaics(strip)
        nights = len({t.night for t in tiles})
        lines.append(
            f"{strip}: {len(tiles)} tiles in {nights} nights, {len(mosaics)} mosaics, "
            f"{sum(t.tile in plan.transits for t in tiles)} calibrator transits"
        )
        lines += [f"  mosaic {m.group_id}: {len(m.tiles)} tiles ({m.kind})" for m in mosaics]
    lines += [
        f"{g.kind} {g.strip}: {g.minutes:.1f} min between {g.after} and {g.before}"
        for g in plan.gaps
    ]
    lines += [f"{t.status} {t.tile} ({t.strip}): {t.reason}" for t in plan.tiles if t.reason]
    lines += [f"skipped {s.what}: {s.reason}" for s in plan.skipped]
    return "\n".join(lines) or "nothing to do: no raw files"
