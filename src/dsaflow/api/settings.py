"""What every endpoint of a service shares, and the types of what requests may name."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, Query, Request
from fastapi import Path as InPath
from pydantic import Field, StringConstraints

from dsaflow.api.background import Background
from dsaflow.api.errors import ApiError
from dsaflow.config import Config
from dsaflow.names import WILDCARD_PATTERNS
from dsaflow.runs.record import Record, Row


@dataclass
class Service:
    """One service: a configuration, its run record, and where runs start.

    Attributes
    ----------
    config : Config
    record : Record
    workdir : Path
        Folder of the Snakefile, in which runs start.
    profile : str
        Of runs whose request names none.
    configfiles : list of str
        Configuration files of the service, given to each run.
    token : str
        Of the environment (see `dsaflow.api.auth.take_token`).
    background : Background
        Tasks beside the requests, and what they last found.
    started_s : float
        Unix time.
    """

    config: Config
    record: Record
    workdir: Path
    profile: str
    configfiles: list[str]
    token: str = ""
    background: Background = field(default_factory=Background)
    started_s: float = field(default_factory=time.time)

    @property
    def results(self) -> Path:
        """Folder of the products."""
        return Path(self.config.paths.results)

    @property
    def published(self) -> Path:
        """Folder of the published mosaics."""
        return Path(self.config.paths.published)

    def chosen_profile(self, name: str | None) -> str:
        """Profile of a run: the one that a request names, if the configuration allows it."""
        if name is None:
            return self.profile
        if name not in self.config.api.profiles:
            raise ApiError(
                422,
                "UNKNOWN_PROFILE",
                f"profile: {name!r} is not among api.profiles: "
                f"{', '.join(self.config.api.profiles)}",
            )
        return name


# async, here and below, so that a request does not go through the pool of threads for it
async def _service(request: Request) -> Service:
    return request.app.state.service


Here = Annotated[Service, Depends(_service)]


# ASCII digits only, and times that exist (but for a 30 February, which nothing has)
_SECOND = "(19|20)[0-9]{2}(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3])([0-5][0-9]){2}"


def _exact(pattern: str) -> str:
    """Pattern of a whole text, from one of `WILDCARD_PATTERNS`."""
    second = WILDCARD_PATTERNS["tile"]
    return "^" + pattern.replace(second, _SECOND).replace(r"\d", "[0-9]") + "$"


GROUP_PATTERN = _exact(WILDCARD_PATTERNS["group_id"])
TILE_PATTERN = _exact(WILDCARD_PATTERNS["tile"])
STRIP_PATTERN = _exact(WILDCARD_PATTERNS["strip"])
RUN_PATTERN = "^[0-9]{8}T[0-9]{6}-[0-9a-f]{8}$"
JOB_PATTERN = "^[0-9]{8}T[0-9]{6}-[0-9a-f]{8}([.][0-9]{1,9}){3}$"
NAME_PATTERN = "^[A-Za-z0-9+_.:-]+$"

Group = Annotated[str, StringConstraints(pattern=GROUP_PATTERN, max_length=120)]
Tile = Annotated[str, StringConstraints(pattern=TILE_PATTERN)]
Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN, max_length=120)]
GroupInPath = Annotated[str, InPath(pattern=GROUP_PATTERN, max_length=120)]
RunInPath = Annotated[str, InPath(pattern=RUN_PATTERN)]
StripInQuery = Annotated[str | None, Query(pattern=STRIP_PATTERN)]
NameInQuery = Annotated[str | None, Query(pattern=NAME_PATTERN, max_length=120)]
Since = Annotated[
    float | None, Query(ge=0, le=1e11, allow_inf_nan=False, description="Unix time, at or after")
]
Until = Annotated[
    float | None, Query(ge=0, le=1e11, allow_inf_nan=False, description="Unix time, before")
]
Degrees = Annotated[float, Field(ge=0, lt=360, allow_inf_nan=False)]
Declination = Annotated[float, Field(ge=-90, le=90, allow_inf_nan=False)]


@dataclass(frozen=True)
class Paging:
    """Which part of a list is wanted."""

    limit: int
    offset: int


async def _paging(
    limit: Annotated[int, Query(ge=1, le=1000, description="items of a page")] = 100,
    offset: Annotated[int, Query(ge=0, le=10**9, description="items before it")] = 0,
) -> Paging:
    return Paging(limit, offset)


Pages = Annotated[Paging, Depends(_paging)]


def select_page(
    record: Record,
    table: str,
    filters: Iterable[tuple[str, Any]],
    order: str,
    paging: Paging,
) -> tuple[list[Row], int]:
    """Rows of one page and the number of all.

    Parameters
    ----------
    record : Record
    table, order : str
        Literals of the caller, never from a request.
    filters : iterable of (condition, value)
        Conditions with one ``?`` each; those whose value is None do not count.
    paging : Paging
    """
    used = [(condition, value) for condition, value in filters if value is not None]
    where = " AND ".join(f"({condition})" for condition, _ in used) or "1"
    values = [value for _, value in used]
    total = record.db.execute(f"SELECT count(*) FROM {table} WHERE {where}", values).fetchone()[0]
    rows = record.select(
        f"SELECT * FROM {table} WHERE {where} ORDER BY {order} LIMIT ? OFFSET ?",
        (*values, paging.limit, paging.offset),
    )
    return rows, int(total)
