"""From a folder of raw files to groups: names propose, headers decide."""

import os
import stat
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime

from dsaflow.instrument import SUBBANDS, TILE_S
from dsaflow.names import mjd_to_datetime, parse_raw_name, tile_id
from dsaflow.planning.headers import FileHeader, HeaderCache, RawFile

_MJD_EPOCH = datetime(1858, 11, 17, tzinfo=UTC)
# a file changed within this is taken as still growing, however complete it looks
_QUIET_S = 10.0
_DATA_SUFFIXES = (".hdf5", ".h5", ".uvh5")


@dataclass
class Group:
    """Files of one tile."""

    files: list[RawFile] = field(default_factory=list)

    @property
    def header(self) -> FileHeader | None:
        """Header of the time that most files give (the earliest of equals)."""
        headers = [f.header for f in self.files if f.header is not None]
        if not headers:
            return None
        counts = Counter(h.first_time_jd for h in headers)
        time = min(counts, key=lambda t: (-counts[t], t))
        return next(h for h in headers if h.first_time_jd == time)

    @property
    def start_mjd(self) -> float:
        """UTC start: the header's, or else the earliest name's."""
        header = self.header
        return header.start_mjd if header else min(f.name_mjd for f in self.files)

    @property
    def mid_mjd(self) -> float:
        """UTC middle; the nominal length where no header is readable."""
        header = self.header
        return header.mid_mjd if header else self.start_mjd + 0.5 * TILE_S / 86400.0

    @property
    def tile(self) -> str:
        """Tile id from the start rounded to a second: late files do not change it."""
        return tile_id(mjd_to_datetime(self.start_mjd + 0.5 / 86400.0))

    @property
    def subbands(self) -> set[int]:
        """Subband numbers of the names."""
        return {f.subband for f in self.files}


def scan_incoming(folder: str, cache: HeaderCache) -> list[RawFile]:
    """List the raw files of a folder with their headers; for other names see `other_data`."""
    files = []
    for entry in sorted(os.scandir(folder), key=lambda e: e.name):
        parsed = parse_raw_name(entry.name)
        if parsed is None:
            continue
        try:
            status = entry.stat()
        except FileNotFoundError:  # taken away between listing and reading
            continue
        if not stat.S_ISREG(status.st_mode):
            continue
        header, reason = cache.get(entry.path, status.st_size, status.st_mtime_ns)
        name_mjd = (parsed[0] - _MJD_EPOCH).total_seconds() / 86400.0
        files.append(
            RawFile(
                entry.path, name_mjd, parsed[1], status.st_size, status.st_mtime, header, reason
            )
        )
    return files


def other_data(folder: str) -> list[str]:
    """Names of the folder's HDF5 files that are no raw files by their name."""
    return sorted(
        entry.name
        for entry in os.scandir(folder)
        if os.path.splitext(entry.name)[1].lower() in _DATA_SUFFIXES
        and parse_raw_name(entry.name) is None
    )


def group_files(files: list[RawFile], tolerance_s: float) -> list[Group]:
    """Group files into tiles.

    Readable files are grouped on the header's start; unreadable ones join the group whose names are
    nearest, within the tolerance, or make groups of their own.

    Parameters
    ----------
    files : list of RawFile
    tolerance_s : float
        Names (or, for files whose headers disagree, starts) within this propose one group.

    Returns
    -------
    list of Group
        Ascending in time, the files of each in the order of subband and name.
    """
    readable = sorted((f for f in files if f.header is not None), key=lambda f: (_start(f), f.path))
    groups = _chain(readable, [_start(f) for f in readable], tolerance_s)
    by_name = sorted(((f.name_mjd, g) for g in groups for f in g.files), key=lambda item: item[0])
    orphans = []
    for file in sorted((f for f in files if f.header is None), key=lambda f: (f.name_mjd, f.path)):
        near = _nearest(by_name, file.name_mjd)
        if near is not None and abs(near[0] - file.name_mjd) * 86400.0 <= tolerance_s:
            near[1].files.append(file)
        else:
            orphans.append(file)
    groups += _chain(orphans, [f.name_mjd for f in orphans], tolerance_s)
    for group in groups:
        group.files.sort(key=lambda f: (f.subband, f.path))
    return sorted(groups, key=lambda g: g.start_mjd)


def _start(file: RawFile) -> float:
    assert file.header is not None
    return file.header.start_mjd


def _chain(files: list[RawFile], times_mjd: list[float], tolerance_s: float) -> list[Group]:
    """Cut a sorted list where a time is further than the tolerance from the first of its group."""
    groups: list[Group] = []
    first = 0.0
    for file, time in zip(files, times_mjd, strict=True):
        if not groups or (time - first) * 86400.0 > tolerance_s:
            groups.append(Group())
            first = time
        groups[-1].files.append(file)
    return groups


def _nearest(sorted_items: list[tuple[float, Group]], value: float) -> tuple[float, Group] | None:
    from bisect import bisect_left

    index = bisect_left(sorted_items, value, key=lambda item: item[0])
    candidates = sorted_items[max(index - 1, 0) : index + 1]
    return min(candidates, key=lambda item: abs(item[0] - value)) if candidates else None


def admission(group: Group, now_s: float, settle_s: float) -> tuple[str, str]:
    """Decide whether a group may be processed now.

    Parameters
    ----------
    group : Group
    now_s : float
        Unix time of the decision.
    settle_s : float
        Time without change after which a group is taken with what there is.

    Returns
    -------
    status : {"admitted", "waiting"}
    reason : str
        What is missing or unreadable; empty for a complete group.
    """
    age_s = now_s - max(f.mtime_s for f in group.files)
    missing = sorted(set(range(SUBBANDS)) - group.subbands)
    reasons = [f.reason for f in group.files if f.reason]
    notes = []
    if missing:
        notes.append(
            f"{len(missing)} of {SUBBANDS} subbands missing: "
            + " ".join(f"sb{n:02d}" for n in missing)
        )
    notes += [
        f"{count} files {code}" if count > 1 else f"1 file {code}"
        for code, count in sorted(Counter(r.split(":")[0] for r in reasons).items())
    ]
    if len(group.files) > len(group.subbands):
        notes.append("DUPLICATE_SUBBAND: more files than subbands")
    if len({f.header.first_time_jd for f in group.files if f.header}) > 1:
        notes.append("TIME_MISMATCH: headers give different starts")
    complete = not missing and not reasons
    needed_s = min(_QUIET_S, settle_s) if complete else settle_s
    if age_s < needed_s:
        notes.insert(0, f"newest file {age_s:.0f} s old, settles at {needed_s:.0f} s")
        return "waiting", "; ".join(notes)
    return "admitted", "; ".join(notes)
