"""Conversion of one tile's UVH5 files to a Measurement Set on one ICRS phase centre."""

import logging
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsaflow import geometry, instrument
from dsaflow.config import Config
from dsaflow.errors import DataRejected, ReasonCode
from dsaflow.verdict import Gate, Verdict
from dsaflow.visibilities.container import Visibilities
from dsaflow.visibilities.group import (
    Group,
    file_names,
    header_uvw_error_m,
    position_errors_m,
    read_group,
    station_number,
    too_few,
)
from dsaflow.visibilities.ms import write_ms
from dsaflow.visibilities.phasecentre import old_w_m
from dsaflow.visibilities.uvh5 import Header, read_visibilities

LOG = logging.getLogger(__name__)


def convert_tile(
    files: list[str],
    ms_path: str | os.PathLike,
    config: Config,
    stations: instrument.Stations,
) -> Verdict:
    """Read a tile's subbands, phase them to its meridian centre at mid-time and write one MS.

    Parameters
    ----------
    files : list of str
        The tile's UVH5 files, in any order.
    ms_path : path
        Measurement Set to write, atomically.
    config : Config
    stations : Stations
        Surveyed positions, to which DSA-110's own files are held.

    Returns
    -------
    Verdict

    Raises
    ------
    DataRejected
        The group cannot be used.
    """
    group = read_group(files, config.convert)
    gates, numbers = _check_positions(group, stations, config)
    vis, nan_fraction = load_tile(group, config)
    gates.append(Gate.measure("nan_fraction", nan_fraction, high=config.convert.max_nan_fraction))
    # a gate of its own: which reason a rejection carries depends on the gate
    if gates[-1].verdict == "reject":
        raise DataRejected(ReasonCode.BAD_DATA_NAN, f"{nan_fraction:.1%} of the visibilities")
    write_ms(ms_path, vis)
    verdict = Verdict(gates=gates, numbers=numbers | _numbers(group, vis, nan_fraction))
    verdict.provenance["files"] = file_names(group.headers)
    verdict.apply_gates(ReasonCode.HEADER_MISMATCH)
    if group.failures:
        verdict.verdict = "warn" if verdict.verdict == "pass" else verdict.verdict
        verdict.detail = "; ".join([*filter(None, [verdict.detail]), *map(str, group.failures)])
    return verdict


def _numbers(group: Group, vis: Visibilities, nan_fraction: float) -> dict[str, Any]:
    return {
        "n_subbands": len(group.headers),
        "n_channels": vis.freq_hz.size,
        "n_baselines": vis.antenna1.size,
        "n_antennas": vis.n_antenna,
        "n_integrations": vis.time_mjd.size,
        "start_mjd": vis.time_mjd[0] - 0.5 * vis.integration_s / 86400.0,
        "mid_mjd": vis.mid_mjd,
        "integration_s": vis.integration_s,
        "phase_ra_deg": vis.phase_ra_deg,
        "phase_dec_deg": vis.phase_dec_deg,
        "pointing_dec_deg": vis.pointing_dec_deg,
        "freq_low_hz": vis.freq_hz[0],
        "freq_high_hz": vis.freq_hz[-1],
        "channel_width_hz": vis.channel_width_hz,
        "flagged_fraction": 1.0 - vis.unflagged_fraction(),
        "nan_fraction": nan_fraction,
        "files_not_used": [str(failure) for failure in group.failures],
    }


def _check_positions(
    group: Group, stations: instrument.Stations, config: Config
) -> tuple[list[Gate], dict[str, Any]]:
    options = config.convert
    uvw_error_m = max(header_uvw_error_m(header) for header in group.headers)
    gates = [Gate.measure("header_uvw_error", uvw_error_m, high=options.max_uvw_error_m, unit="m")]
    if gates[0].verdict == "reject":
        raise DataRejected(
            ReasonCode.HEADER_MISMATCH,
            f"the files' uvw differ from their antenna positions by up to {uvw_error_m:.2f} m: "
            "the direction of their baselines is in doubt",
        )
    numbers: dict[str, Any] = {"header_uvw_error_m": uvw_error_m}
    if not group.is_dsa110:
        return gates, numbers
    worst_m, common_m = position_errors_m(group.headers[0], stations)
    limit_m = options.max_position_error_m
    gates.append(Gate.measure("antenna_position_error", worst_m, high=limit_m, unit="m"))
    gates.append(Gate.measure("common_position_offset", common_m, high=limit_m, unit="m"))
    if max(worst_m, common_m) > limit_m:
        raise DataRejected(
            ReasonCode.ANTENNA_POSITIONS,
            f"positions are off the station table by up to {worst_m:.3f} m relative to one "
            f"another and by {common_m:.3f} m in common",
        )
    return gates, numbers | {"antenna_position_error_m": worst_m}


def load_tile(group: Group, config: Config) -> tuple[Visibilities, float]:
    """Read the data of a checked group and phase them to one ICRS centre.

    Returns
    -------
    Visibilities
        In the Measurement Set's convention. A subband that is missing, all NaN or all zero is
        present in frequency, zero and flagged, so that the channels stay regular.
    nan_fraction : float
        Of the visibilities in the files read.

    Raises
    ------
    DataRejected
        Too few subbands hold data.
    """
    first = group.headers[0]
    site = geometry.DSA110 if group.is_dsa110 else geometry.Site(*first.site_deg_m)
    ra_deg, dec_deg, pointing_dec_deg = _centre(first, site)
    antenna_uvw = geometry.projected_baselines(
        first.antenna_relative_m, first.time_mjd, ra_deg, dec_deg, site
    )
    # every baseline goes from its lower-numbered antenna to the higher
    swap = first.antenna1 > first.antenna2
    antenna1 = np.where(swap, first.antenna2, first.antenna1)
    antenna2 = np.where(swap, first.antenna1, first.antenna2)
    shape = (first.time_mjd.size, antenna1.size, group.freq_hz.size, 2)
    vis = Visibilities(
        data=np.zeros(shape, np.complex64),
        flags=np.ones(shape, bool),
        uvw_m=antenna_uvw[:, antenna1] - antenna_uvw[:, antenna2],
        antenna1=antenna1,
        antenna2=antenna2,
        time_mjd=first.time_mjd,
        integration_s=first.integration_s,
        freq_hz=group.freq_hz,
        channel_width_hz=first.channel_width_hz,
        polarization=("XX", "YY"),
        antenna_name=[station_number(n) if group.is_dsa110 else n for n in first.antenna_name],
        antenna_itrf_m=first.antenna_itrf_m,
        phase_ra_deg=ra_deg,
        phase_dec_deg=dec_deg,
        pointing_dec_deg=pointing_dec_deg,
        site_deg_m=_site_deg_m(site),
        telescope=instrument.TELESCOPE if group.is_dsa110 else first.telescope,
    )
    n_nan = 0
    used = []
    for header, channels in zip(group.headers, group.channels, strict=True):
        try:
            n_nan += _load_subband(header, channels, vis, antenna_uvw[..., 2], swap, site)
            used.append(header)
        except DataRejected as error:
            group.failures.append(error)
    n_files = len(group.headers)
    group.headers = used
    if len(used) < (config.convert.min_subbands if group.is_dsa110 else n_files):
        raise too_few(group, config.convert)
    return vis, n_nan / (vis.data.size / group.freq_hz.size * sum(h.freq_hz.size for h in used))


def _site_deg_m(site: geometry.Site) -> tuple[float, float, float]:
    return (
        float(np.degrees(site.longitude_rad)),
        float(np.degrees(site.latitude_rad)),
        float(site.height_m),
    )


def _centre(header: Header, site: geometry.Site) -> tuple[float, float, float]:
    """ICRS phase centre [deg] of the tile and apparent declination [deg] of the pointing."""
    centre = header.phase_centre
    if centre.kind == "sidereal":
        return centre.ra_deg, centre.dec_deg, float("nan")
    pointing_dec_deg = float(np.degrees(centre.declination_rad))
    mid_mjd = 0.5 * (header.time_mjd[0] + header.time_mjd[-1])
    ra_deg, dec_deg = geometry.icrs_at(mid_mjd, centre.hour_angle_rad, centre.declination_rad, site)
    return float(ra_deg), float(dec_deg), pointing_dec_deg


def _load_subband(
    header: Header,
    channels: NDArray,
    vis: Visibilities,
    new_w_m: NDArray,
    swap: NDArray,
    site: geometry.Site,
) -> int:
    """Fill one file's channels of `vis`; returns the number of NaN visibilities."""
    data, flags = read_visibilities(header)
    np.conjugate(data, out=data)
    data[:, swap] = data[:, swap].conj()
    bad = ~np.isfinite(data)
    n_nan = int(np.count_nonzero(bad))
    if n_nan == data.size:
        raise DataRejected(ReasonCode.BAD_DATA_NAN, f"{header.path.name}: every visibility is NaN")
    data[bad] = 0
    # an exact zero is a correlator's blank, never a measurement
    bad |= data == 0
    if bad.all():
        code = ReasonCode.BAD_DATA_NAN if n_nan else ReasonCode.BAD_DATA_ZERO
        raise DataRejected(code, f"{header.path.name}: no visibility is other than zero or NaN")
    if header.phase_centre.kind != "sidereal":
        old = old_w_m(header.phase_centre, header.antenna_relative_m, len(vis.time_mjd), site)
        rotate(data, new_w_m - old, header.freq_hz, vis.antenna1, vis.antenna2)
    flags |= bad
    vis.data[:, :, channels] = data
    vis.flags[:, :, channels] = flags
    return n_nan


def rotate(
    data: NDArray, delay_m: NDArray, freq_hz: NDArray, antenna1: NDArray, antenna2: NDArray
) -> None:
    """Take exp(+2 pi i nu/c delay) of each baseline out of the data, in place.

    Parameters
    ----------
    data : complex64 ndarray, shape (n_time, n_baseline, n_channel, n_pol)
        In the Measurement Set's sign.
    delay_m : float64 ndarray, shape (n_time, n_antenna)
        Path of each antenna; a baseline's is that of antenna 1 minus that of antenna 2.
    freq_hz : ndarray, shape (n_channel,)

    Notes
    -----
    One phasor an antenna, in double precision, and a product of two a baseline: the exponentials
    are 47 times fewer than baselines', and the error stays at complex64's.
    """
    turns = delay_m[:, :, None] * (freq_hz / instrument.SPEED_OF_LIGHT_M_S)
    phasor = np.exp(-2j * np.pi * (turns - np.rint(turns))).astype(np.complex64)
    for time in range(data.shape[0]):
        data[time] *= (phasor[time, antenna1] * phasor[time, antenna2].conj())[..., None]
