"""Checks on the files of one tile: what belongs together, what is missing, what rejects it."""

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dsaflow import instrument
from dsaflow.config.sections import Convert
from dsaflow.errors import DataRejected, ReasonCode
from dsaflow.visibilities.uvh5 import Header, read_header

DSA110_NAMES = frozenset({"DSA_110", "DSA-110", "DSA110", "OVRO_MMA"})
_TIME_TOLERANCE_S = 0.01
# When two reasons are equally frequent, the one that says most about what happened comes first.
_TELLING = (
    ReasonCode.TRUNCATED_HDF5,
    ReasonCode.ZERO_BYTE,
    ReasonCode.UNREADABLE,
    ReasonCode.BAD_DATA_NAN,
    ReasonCode.BAD_DATA_ZERO,
)


@dataclass
class Group:
    """The usable files of one tile, by ascending frequency, and why the others are not usable.

    Attributes
    ----------
    headers : list of Header
    failures : list of DataRejected
        One a file that could not be used.
    freq_hz : ndarray, shape (n_channel,)
        Ascending channel centres of the tile, channels of missing subbands included.
    channels : list of int ndarray
        For each header, the tile's channel of each of the file's channels.
    """

    headers: list[Header]
    failures: list[DataRejected] = field(default_factory=list)
    freq_hz: NDArray = field(default_factory=lambda: np.empty(0))
    channels: list[NDArray] = field(default_factory=list)

    @property
    def is_dsa110(self) -> bool:
        """Whether the files are DSA-110's own, so that its band, subbands and survey apply."""
        return self.headers[0].telescope in DSA110_NAMES


def read_group(files: list[str], options: Convert) -> Group:
    """Read all headers of a tile and check them against one another and the instrument.

    Raises
    ------
    DataRejected
        With the first reason that applies to the group as a whole.
    """
    group = Group([])
    for path in files:
        try:
            group.headers.append(read_header(path))
        except DataRejected as error:
            group.failures.append(error)
    if not group.headers:
        raise too_few(group, options)
    group.headers.sort(key=lambda header: header.freq_hz.min())
    _check_same_observation(group.headers, options)
    if group.is_dsa110:
        group.freq_hz, group.channels = _subband_grid(group.headers)
        if len(group.headers) < options.min_subbands:
            raise too_few(group, options)
    elif group.failures:
        raise group.failures[0]
    else:
        group.freq_hz, group.channels = _plain_grid(group.headers)
    return group


def too_few(group: Group, options: Convert) -> DataRejected:
    """Rejection of a group with too few usable subbands, with the reason that tells most."""
    counts = Counter(failure.code for failure in group.failures)
    code = ReasonCode.SUBBANDS_MISSING
    if counts:
        rank = {code: -place for place, code in enumerate(_TELLING)}
        code = max(counts, key=lambda c: (counts[c], rank.get(c, -len(_TELLING))))
    why = "; ".join(failure.detail for failure in group.failures) or "the other files are absent"
    return DataRejected(
        code,
        f"{len(group.headers)} usable subbands, {options.min_subbands} needed: {why}",
    )


def _check_same_observation(headers: list[Header], options: Convert) -> None:
    first = headers[0]

    def reject(code: ReasonCode, other: Header, what: str) -> DataRejected:
        return DataRejected(code, f"{first.path.name} and {other.path.name}: {what}")

    for other in headers[1:]:
        if other.time_mjd.shape != first.time_mjd.shape:
            raise reject(ReasonCode.TIME_MISMATCH, other, "different numbers of integrations")
        apart_s = np.abs(other.time_mjd - first.time_mjd).max() * 86400.0
        if apart_s > _TIME_TOLERANCE_S:
            raise reject(ReasonCode.TIME_MISMATCH, other, f"times differ by up to {apart_s:.3f} s")
        if other.telescope != first.telescope or other.antenna_name != first.antenna_name:
            raise reject(ReasonCode.HEADER_MISMATCH, other, "different telescopes or antennas")
        if not (
            np.array_equal(other.antenna1, first.antenna1)
            and np.array_equal(other.antenna2, first.antenna2)
        ):
            raise reject(ReasonCode.HEADER_MISMATCH, other, "different baselines")
        moved_m = np.linalg.norm(other.antenna_itrf_m - first.antenna_itrf_m, axis=1).max()
        if moved_m > options.max_position_error_m:
            what = f"antenna positions differ by up to {moved_m:.2f} m"
            raise reject(ReasonCode.ANTENNA_POSITIONS, other, what)
        _check_same_centre(first, other, options, reject)
        if not np.isclose(other.channel_width_hz, first.channel_width_hz, rtol=1e-6):
            raise reject(ReasonCode.HEADER_MISMATCH, other, "different channel widths")


def _check_same_centre(first: Header, other: Header, options: Convert, reject) -> None:
    a, b = first.phase_centre, other.phase_centre
    if a.kind != b.kind:
        raise reject(ReasonCode.HEADER_MISMATCH, other, f"phased as {a.kind} and {b.kind}")
    if a.kind == "sidereal":
        if (a.ra_deg, a.dec_deg) != (b.ra_deg, b.dec_deg):
            raise reject(ReasonCode.HEADER_MISMATCH, other, "different phase centres")
        return
    change_deg = abs(np.degrees(a.declination_rad - b.declination_rad))
    if not change_deg <= options.max_declination_change_deg:
        what = f"declinations differ by {change_deg:.4f} deg"
        raise reject(ReasonCode.DECLINATION_CHANGED, other, what)


def _subband_grid(headers: list[Header]) -> tuple[NDArray, list[NDArray]]:
    """Channels of all 16 subbands, of missing files too, and each file's place in them."""
    width_hz, low_hz = instrument.SUBBAND_WIDTH_HZ, instrument.BAND_LOW_HZ
    offsets_hz: NDArray | None = None
    taken: dict[int, Header] = {}
    channels = []
    for header in headers:
        subband = np.floor((header.freq_hz - low_hz) / width_hz).astype(int)
        place = int(subband[0])
        offset_hz = np.sort(header.freq_hz) - low_hz - place * width_hz
        wide = abs(header.channel_width_hz / instrument.CHANNEL_WIDTH_HZ - 1) > 1e-4
        if wide or (subband != place).any() or not 0 <= place < instrument.SUBBANDS:
            raise DataRejected(
                ReasonCode.WRONG_BAND,
                f"{header.path.name}: {header.freq_hz.min() / 1e6:.3f} to "
                f"{header.freq_hz.max() / 1e6:.3f} MHz in channels of "
                f"{header.channel_width_hz / 1e3:.3f} kHz is no subband of DSA-110",
            )
        if place in taken:
            raise DataRejected(
                ReasonCode.DUPLICATE_SUBBAND,
                f"{taken[place].path.name} and {header.path.name} hold the same subband",
            )
        if offsets_hz is None:
            offsets_hz = offset_hz
        elif offsets_hz.size != offset_hz.size or np.abs(offsets_hz - offset_hz).max() > 1e3:
            raise DataRejected(
                ReasonCode.HEADER_MISMATCH,
                f"{header.path.name}: other channels of its subband than {headers[0].path.name}",
            )
        taken[place] = header
        channels.append(place * offset_hz.size + np.argsort(np.argsort(header.freq_hz)))
    if offsets_hz is None:
        raise ValueError("no headers")
    edges_hz = low_hz + width_hz * np.arange(instrument.SUBBANDS)
    freq_hz = (edges_hz[:, None] + offsets_hz).ravel()
    for header, where in zip(headers, channels, strict=True):
        freq_hz[where] = header.freq_hz
    return freq_hz, channels


def _plain_grid(headers: list[Header]) -> tuple[NDArray, list[NDArray]]:
    """Channels of the files at hand, ascending, for telescopes without known subbands."""
    every_hz = np.concatenate([header.freq_hz for header in headers])
    order = np.argsort(every_hz)
    if (np.diff(every_hz[order]) < 1.0).any():
        raise DataRejected(ReasonCode.DUPLICATE_SUBBAND, "two files hold the same channels")
    place = np.argsort(order)
    ends = np.cumsum([header.freq_hz.size for header in headers])
    return every_hz[order], np.split(place, ends[:-1])


def position_errors_m(header: Header, stations: instrument.Stations) -> tuple[float, float]:
    """Largest error of the antennas' relative positions, and their common offset [m].

    Raises
    ------
    DataRejected
        ANTENNA_POSITIONS where an antenna is not in the survey.
    """
    known = {str(n): xyz for n, xyz in zip(stations.number, stations.itrf_m(), strict=True)}
    names = [station_number(name) for name in header.antenna_name]
    if unknown := [name for name in names if name not in known]:
        raise DataRejected(ReasonCode.ANTENNA_POSITIONS, f"not in the station table: {unknown}")
    offset_m = header.antenna_itrf_m - np.array([known[name] for name in names])
    common_m = np.median(offset_m, axis=0)
    worst_m = np.linalg.norm(offset_m - common_m, axis=1).max()
    return float(worst_m), float(np.linalg.norm(common_m))


def station_number(name: str) -> str:
    """Station number from an antenna's name: ``DSA-007``, ``pad7``, ``007`` and ``7`` are 7."""
    match = re.fullmatch(r"(?:DSA-?|pad)?(\d+)", name, re.IGNORECASE)
    return str(int(match[1])) if match else name


def header_uvw_error_m(header: Header) -> float:
    """Disagreement of the file's uvw with its antenna positions that no phase centre explains.

    The length of a baseline is the same in every frame, and toward any place on the meridian u is
    the baseline's eastward part: a baseline written the other way round shows in its sign.
    """
    separation_m = (
        header.antenna_relative_m[header.antenna2] - header.antenna_relative_m[header.antenna1]
    )
    length_m = np.linalg.norm(separation_m, axis=1)
    error_m = np.abs(np.linalg.norm(header.uvw_m, axis=-1) - length_m).max()
    if header.phase_centre.kind != "sidereal":
        longitude_rad = np.radians(header.site_deg_m[0])
        east = np.array([-np.sin(longitude_rad), np.cos(longitude_rad), 0.0])
        error_m = max(error_m, np.abs(header.uvw_m[..., 0] - separation_m @ east).max())
    return float(error_m)


def file_names(headers: list[Header]) -> list[str]:
    """Names of the files, without folders."""
    return [Path(header.path).name for header in headers]
