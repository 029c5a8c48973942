"""Examination of what ties the data to the sky: clock, leap seconds, Earth rotation, calibrators."""

import ctypes
import re
import struct
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np

from dsaflow.geometry import earth_orientation
from dsaflow.names import mjd_to_datetime
from dsaflow.runs import conditions
from dsaflow.runs.diagnosis import Finding, fail, ok, warn

if TYPE_CHECKING:
    from dsaflow.config import Config
    from dsaflow.planning import Plan

_UPDATE = "install a newer astropy-iers-data (nothing is downloaded by itself)"
_UNIX_MJD = 40587.0
# struct timex of 64-bit Linux: maximum error [us], status; its bit STA_UNSYNC
_MAXERROR, _STATUS, _UNSYNC = 24, 40, 0x40
_AHEAD_S = 60.0
_SOON_D = 30.0
# UT1 predicted half a year ahead is off by about 10 ms, 0.15 arcsec
_OLD_D = 180.0
_LONGEST_D = 1000.0


def clock(config: "Config") -> Iterator[Finding]:
    """Whether the kernel's clock is kept by a time server, and does not lag behind the data."""
    buffer = ctypes.create_string_buffer(512)
    library = ctypes.CDLL(None, use_errno=True)
    if library.adjtimex(buffer) < 0:
        yield warn("clock", "the kernel does not say whether its clock is synchronised")
    elif struct.unpack_from("i", buffer, _STATUS)[0] & _UNSYNC:
        yield warn("clock", "not synchronised: start chrony or systemd-timesyncd")
    else:
        (error_us,) = struct.unpack_from("q", buffer, _MAXERROR)
        yield ok("clock", f"synchronised to {error_us / 1000:.0f} ms")
    newest = conditions.newest_data(config.paths.incoming)
    if newest is not None and newest[1] > time.time() + _AHEAD_S:
        yield fail("clock", f"behind the data: {newest[0]} was written in the future")


def leap_seconds() -> Iterator[Finding]:
    """Whether ERFA knows every leap second that the IERS has announced."""
    import erfa
    from astropy_iers_data import IERS_LEAP_SECOND_FILE

    with open(IERS_LEAP_SECOND_FILE) as stream:
        text = stream.read()
    rows = [line.split() for line in text.splitlines() if line.strip() and line[0] != "#"]
    announced = max((float(r[0]), float(r[4])) for r in rows)
    known = erfa.leap_seconds.get()[-1]
    if float(known["tai_utc"]) != announced[1]:
        yield fail(
            "leap seconds",
            f"TAI-UTC is {announced[1]:.0f} s since {mjd_to_datetime(announced[0]):%Y-%m-%d}, ERFA "
            f"knows {float(known['tai_utc']):.0f} s: install a newer pyerfa",
        )
        return
    found = re.search(r"expires on (\d+ \w+ \d+)", text)
    if found is None:
        yield warn("leap seconds", "the IERS list does not say when it expires")
        return
    expires = datetime.strptime(found[1], "%d %B %Y").replace(tzinfo=UTC)
    left = expires - datetime.now(UTC)
    text = f"TAI-UTC = {announced[1]:.0f} s, list valid until {expires:%Y-%m-%d}"
    if left < timedelta(0):
        yield warn("leap seconds", f"{text}: {_UPDATE}")
    else:
        yield ok("leap seconds", text)


def last_known_mjd(now_mjd: float) -> float:
    """Last day [MJD] for which UT1 is predicted; -inf where it is before `now_mjd`."""
    if not _known(now_mjd):
        return -np.inf
    low, high = now_mjd, now_mjd + _LONGEST_D
    while high - low > 0.5:
        middle = 0.5 * (low + high)
        low, high = (middle, high) if _known(middle) else (low, middle)
    return low


def _known(time_mjd: float) -> bool:
    try:
        earth_orientation(time_mjd)
    except ValueError:
        return False
    return True


def measured_until_mjd() -> float:
    """Last day [MJD] of which the IERS has measured UT1; later ones are predictions."""
    from astropy_iers_data import IERS_A_FILE

    with open(IERS_A_FILE) as stream:
        return max(float(line[7:15]) for line in stream if line[57:58] == "I")


def earth_rotation(now_mjd: float) -> Iterator[Finding]:
    """Age of the Earth-rotation table, and whether its predictions reach today."""
    name = "earth rotation"
    package = f"astropy-iers-data {version('astropy-iers-data')}"
    age_d = now_mjd - measured_until_mjd()
    last_mjd = last_known_mjd(now_mjd)
    if last_mjd == -np.inf:
        yield fail(name, f"{package}: predictions end before today: {_UPDATE}")
        return
    text = (
        f"{package}: measured until {age_d:.0f} d ago, predicted until "
        f"{mjd_to_datetime(last_mjd):%Y-%m-%d}"
    )
    if last_mjd - now_mjd < _SOON_D or age_d > _OLD_D:
        yield warn(name, f"{text}: {_UPDATE}")
    else:
        yield ok(name, text)


def sky(config: "Config") -> Iterator[Finding]:
    """Earth rotation for today and the data, and calibrators that the strips with data can see."""
    from dsaflow.planning import make_plan

    yield from earth_rotation(time.time() / 86400.0 + _UNIX_MJD)
    plan = make_plan(config)
    beyond = [s.what for s in plan.skipped if "UT1-UTC is known for" in s.reason]
    if beyond:
        yield fail(
            "earth rotation",
            f"{len(beyond)} groups are beyond the table, e.g. {beyond[0]}: {_UPDATE}",
        )
    if not plan.tiles:
        yield ok("calibrators", f"no data in {config.paths.incoming} yet, so no strip to judge")
    for strip in plan.strips:
        yield _calibrators(config, plan, strip)


def _calibrators(config: "Config", plan: "Plan", strip: str) -> Finding:
    limit_jy = config.calibrate.min_calibrator_jy
    bright = {n: jy for n, jy in plan.calibrator_jy.get(strip, {}).items() if jy >= limit_jy}
    transits = sum(tile.tile in plan.transits for tile in plan.strip_tiles(strip))
    if not bright:
        return fail(
            "calibrators",
            f"{strip}: none of {config.paths.calibrators} is above {limit_jy:g} Jy (apparent) where "
            f"the strip sees it: add one, or lower plan.calibrator_min_response "
            f"({config.plan.calibrator_min_response:g})",
        )
    names = ", ".join(f"{n} {jy:.1f} Jy" for n, jy in list(bright.items())[:3])
    text = f"{strip}: {len(bright)} in reach ({names}), {transits} tiles with a transit"
    if transits == 0:
        return warn("calibrators", f"{text}: no bandpass can be solved from these data")
    return ok("calibrators", text)
