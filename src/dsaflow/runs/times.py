"""Times as requests and people write them: ISO, UTC."""

from datetime import UTC, datetime

from dsaflow.errors import ConfigError
from dsaflow.names import mjd_to_datetime

Moment = str | float | datetime
_EPOCH = datetime(1858, 11, 17, tzinfo=UTC)


def mjd_of(moment: Moment) -> float:
    """UTC MJD of an ISO text, a datetime (UTC where it names no zone), or an MJD.

    Raises
    ------
    ConfigError
        A text that is no ISO time.
    """
    if isinstance(moment, str):
        try:
            moment = datetime.fromisoformat(moment)
        except ValueError:
            raise ConfigError(
                f"{moment!r} is no ISO time, e.g. 2026-01-25T22:26:05 (UTC)"
            ) from None
    if isinstance(moment, datetime):
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return (moment - _EPOCH).total_seconds() / 86400.0
    return float(moment)


def utc_text(mjd: float) -> str:
    """ISO text to the second, e.g. ``2026-01-25T22:26:05Z``."""
    return f"{mjd_to_datetime(mjd + 0.5 / 86400.0):%Y-%m-%dT%H:%M:%SZ}"


def unix_text(seconds: float | None) -> str:
    """ISO text of Unix seconds; empty for None."""
    return "" if seconds is None else f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"
