"""Bodies of requests that start runs."""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from dsaflow.api.models import Request
from dsaflow.api.settings import Declination, Degrees, Group, Name, Tile

_FIRST, _LAST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)


def _in_range(moment: datetime) -> datetime:
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    if not _FIRST <= moment < _LAST:
        raise ValueError("a time between 2000 and 2100 is expected (UTC where no zone is named)")
    return moment


Moment = Annotated[datetime, AfterValidator(_in_range)]


class MosaicRequest(Request):
    """Which mosaic: a calibrator's transit, a centre's transit, or a stretch of time.

    One of `calibrator`, `ra_deg` with `dec_deg`, `start` with `end`.
    """

    calibrator: Annotated[
        str | None,
        Field(pattern="^[A-Za-z0-9+.-]+$", max_length=40, description="name in the table"),
    ] = None
    ra_deg: Degrees | None = Field(None, description="ICRS")
    dec_deg: Declination | None = Field(None, description="ICRS")
    start: Moment | None = Field(None, description="ISO time, UTC where it names no zone")
    end: Moment | None = None
    timespan_minutes: float | None = Field(
        None, gt=0, le=1440, description="length about a transit; default: plan.mosaic_tiles"
    )
    transit: Annotated[
        str,
        Field(
            pattern="^(latest|earliest|20[0-9]{2}-[0-9]{2}-[0-9]{2}([T ][0-9:.]{4,15}Z?)?)$",
            description="latest or earliest with enough tiles, a date, or an ISO time near it",
        ),
    ] = "latest"
    profile: str | None = Field(
        None, max_length=200, description="one of api.profiles; default: the service's"
    )
    photometry: bool = Field(True, description="measure it, and update the light curves' input")

    @model_validator(mode="after")
    def _one_kind(self) -> "MosaicRequest":
        if (self.ra_deg is None) != (self.dec_deg is None):
            raise ValueError("a centre needs both ra_deg and dec_deg")
        if (self.start is None) != (self.end is None):
            raise ValueError("a stretch of time needs both start and end")
        if sum(v is not None for v in (self.calibrator, self.ra_deg, self.start)) != 1:
            raise ValueError(
                "name one of: calibrator; ra_deg and dec_deg (its transit); start and end"
            )
        if self.start is not None and self.end is not None:
            if self.end <= self.start:
                raise ValueError("end must be after start")
            if self.timespan_minutes is not None or self.transit != "latest":
                raise ValueError("start and end leave no room for timespan_minutes or transit")
        return self


class BatchRequest(Request):
    """What one stage is to be run on: tiles, mosaics, or everything in a stretch of time."""

    tiles: list[Tile] | None = Field(None, min_length=1, max_length=1000)
    group_ids: list[Group] | None = Field(None, min_length=1, max_length=1000)
    start: Moment | None = Field(None, description="ISO time, UTC where it names no zone")
    end: Moment | None = None
    profile: str | None = Field(
        None, max_length=200, description="one of api.profiles; default: the service's"
    )

    @model_validator(mode="after")
    def _something(self) -> "BatchRequest":
        if not (self.tiles or self.group_ids or self.start or self.end):
            raise ValueError("name tiles, group_ids, or a start or end")
        if self.start is not None and self.end is not None and self.end <= self.start:
            raise ValueError("end must be after start")
        return self


class Position(Request):
    """A position to measure."""

    name: Name | None = Field(None, description="comes back in the rows; default: its number")
    ra_deg: Degrees = Field(description="ICRS")
    dec_deg: Declination = Field(description="ICRS")


class PhotometryRequest(Request):
    """Forced fits at positions on mosaics."""

    positions: list[Position] = Field(min_length=1, max_length=500)
    group_ids: list[Group] = Field(min_length=1, max_length=50)

    @model_validator(mode="after")
    def _names_differ(self) -> "PhotometryRequest":
        for number, position in enumerate(self.positions):
            position.name = position.name or str(number)
        names = [p.name for p in self.positions]
        if len(set(names)) != len(names):
            raise ValueError("two positions have one name")
        if len(set(self.group_ids)) != len(self.group_ids):
            raise ValueError("a mosaic is named twice")
        return self
