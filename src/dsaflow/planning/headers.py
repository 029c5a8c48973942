"""The few header values that planning needs, and their cache keyed by path, size and mtime."""

import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from dsaflow.errors import ReasonCode
from dsaflow.fileio import read_json, write_json

_CACHE_VERSION = 1
_JD_MJD = 2400000.5


@dataclass(frozen=True)
class FileHeader:
    """Header values of one UVH5 file; the first time is the correlator's own number, unchanged."""

    first_time_jd: float
    last_time_jd: float
    n_times: int
    integration_s: float
    declination_deg: float
    n_channels: int
    first_freq_hz: float
    last_freq_hz: float
    n_antennas: int

    @property
    def start_mjd(self) -> float:
        """UTC start of the first integration (UVH5 times are mid-integration)."""
        return self.first_time_jd - _JD_MJD - 0.5 * self.integration_s / 86400.0

    @property
    def mid_mjd(self) -> float:
        """UTC middle of the file."""
        return 0.5 * (self.first_time_jd + self.last_time_jd) - _JD_MJD


@dataclass(frozen=True)
class RawFile:
    """One raw file: what its name, its size and its header say."""

    path: str
    name_mjd: float
    subband: int
    size: int
    mtime_s: float
    header: FileHeader | None
    reason: str = ""


def read_header(path: str | os.PathLike, size: int) -> tuple[FileHeader | None, str, bool]:
    """Read one file's header.

    Returns
    -------
    header : FileHeader or None
        None where the file cannot be read.
    reason : str
        Reason code and detail where it cannot be read.
    lasting : bool
        Whether the answer belongs to the file's content (and may be cached), not to the moment.
    """
    import h5py

    if size == 0:
        return None, f"{ReasonCode.ZERO_BYTE}: empty file", True
    try:
        with h5py.File(path, "r") as file:
            header = _extract(file["Header"])
    except OSError as error:
        text = str(error)
        if "truncated file" in text:
            return None, f"{ReasonCode.TRUNCATED_HDF5}: {text}", True
        return None, f"{ReasonCode.UNREADABLE}: {text}", "signature not found" in text
    except (KeyError, ValueError, TypeError, IndexError, RuntimeError) as error:
        return None, f"{ReasonCode.UNREADABLE}: header incomplete: {error}", True
    problem = _implausible(header)
    if problem:
        return None, f"{ReasonCode.HEADER_MISMATCH}: {problem}", True
    return header, "", True


def _extract(header) -> FileHeader:
    times = header["time_array"]
    # a thousand numbers at most, read whole: indexing two of them costs more; older UVH5 has a
    # spectral-window axis before the channels
    freq = header["freq_array"][...].ravel()
    return FileHeader(
        first_time_jd=float(times[0]),
        last_time_jd=float(times[-1]),
        n_times=int(header["Ntimes"][()]),
        integration_s=float(header["integration_time"][0]),
        declination_deg=math.degrees(float(header["extra_keywords/phase_center_dec"][()])),
        n_channels=int(header["Nfreqs"][()]),
        first_freq_hz=float(freq[0]),
        last_freq_hz=float(freq[-1]),
        n_antennas=int(header["Nants_data"][()]),
    )


def _implausible(header: FileHeader) -> str:
    values = asdict(header)
    if not all(math.isfinite(v) for v in values.values()):
        return "not a number among " + ", ".join(
            f"{k}={v}" for k, v in values.items() if not math.isfinite(v)
        )
    if not -90.0 <= header.declination_deg <= 90.0:
        return f"declination {header.declination_deg:.2f} deg"
    if header.integration_s <= 0 or header.last_time_jd < header.first_time_jd:
        return "times do not ascend"
    return ""


class HeaderCache:
    """Headers already read, by file name; an entry counts only while size and mtime are the same.

    Parameters
    ----------
    path : str or path
        JSON file; one that cannot be read is started anew, since it only saves time.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path)
        self._entries: dict[str, list] = {}
        self._seen: dict[str, list] = {}
        self.n_read = 0
        try:
            content = read_json(self.path)
            if content["version"] == _CACHE_VERSION:
                self._entries = content["files"]
        except (OSError, ValueError, KeyError, TypeError):
            self._entries = {}

    def get(self, path: str, size: int, mtime_ns: int) -> tuple[FileHeader | None, str]:
        """Header of a file, from the cache where the file is unchanged."""
        entry = self._entries.get(path)
        if entry is not None and entry[0] == size and entry[1] == mtime_ns:
            self._seen[path] = entry
            return (FileHeader(*entry[2]) if entry[2] else None), entry[3]
        header, reason, lasting = read_header(path, size)
        self.n_read += 1
        if lasting:
            values = list(asdict(header).values()) if header else None
            self._seen[path] = [size, mtime_ns, values, reason]
        return header, reason

    def save(self) -> None:
        """Write what was seen in this scan, atomically; files that are gone are forgotten."""
        if self._seen != self._entries:
            write_json(self.path, {"version": _CACHE_VERSION, "files": self._seen})
            self._entries = dict(self._seen)
