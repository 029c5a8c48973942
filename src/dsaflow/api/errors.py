"""One shape for every error: code, message, and links where there is somewhere to go."""

import logging
import sqlite3
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from dsaflow.errors import ConfigError, DataRejected, DsaflowError, EnvironmentProblem
from dsaflow.runs.record import Busy

LOG = logging.getLogger("dsaflow.api")


class Error(BaseModel):
    """What every response but the successful ones holds."""

    code: str = Field(description="for programs, e.g. NOT_FOUND")
    message: str = Field(description="one sentence for a person")
    links: dict[str, str] | None = Field(None, description="where to go on")


class ApiError(Exception):
    """An answer other than success.

    Parameters
    ----------
    status : int
        HTTP status.
    code, message : str
    links : mapping, optional
    headers : mapping, optional
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        links: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.links = dict(links) if links else None
        self.headers = dict(headers) if headers else None

    def response(self) -> JSONResponse:
        """Response in the one shape."""
        content: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.links:
            content["links"] = self.links
        return JSONResponse(content, self.status, headers=self.headers)


def not_found(what: str, name: str) -> ApiError:
    """Build the answer to a name that nothing has."""
    return ApiError(404, "NOT_FOUND", f"no {what} {name}")


_MEANINGS = {
    401: "the token is missing or wrong",
    403: "changes are refused: no token is configured",
    404: "no such thing, or no data",
    409: "contradicts what is there now",
    410: "taken back, or overwritten",
    413: "the body is too large",
    422: "the request is invalid",
    429: "too much is waiting already",
    503: "the service cannot do this now",
}


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Entries of an operation's `responses` for the errors that it may give."""
    return {s: {"model": Error, "description": _MEANINGS[s]} for s in statuses}


def documented_plain(*statuses: int) -> dict[str, dict[str, Any]]:
    """The same for a finished OpenAPI document."""
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {str(s): {"description": _MEANINGS[s], "content": content} for s in statuses}


def from_domain(error: Exception) -> ApiError:
    """Answer to an error of the package."""
    from dsaflow.publish import PublicationError
    from dsaflow.runs import batch, launch, mosaics, quarantine

    transits, runs = {"transits": "/api/transits"}, {"runs": "/api/runs"}
    answers: list[tuple[type[Exception], int, str, dict[str, str] | None]] = [
        (launch.QueueFull, 429, "QUEUE_FULL", runs),
        (launch.UnknownRun, 404, "NOT_FOUND", None),
        (mosaics.NoTransit, 404, "NO_DATA", transits),
        (mosaics.TooFewTiles, 404, "TOO_FEW_TILES", transits),
        (mosaics.Retracted, 409, "RETRACTED", None),
        (batch.NothingSelected, 404, "NO_DATA", transits),
        (quarantine.UnknownItem, 404, "NOT_FOUND", None),
        (quarantine.NothingToRetry, 409, "NOTHING_TO_RETRY", None),
        (PublicationError, 409, "PUBLICATION_DAMAGED", None),
        (Busy, 409, "BUSY", runs),
        (ConfigError, 422, "INVALID", None),
        (EnvironmentProblem, 503, "NOT_READY", None),
    ]
    if isinstance(error, DataRejected):
        return ApiError(409, str(error.code), error.detail)
    for kind, status, code, links in answers:
        if isinstance(error, kind):
            headers = {"Retry-After": "60"} if status == 429 else None
            return ApiError(status, code, str(error), links, headers)
    return ApiError(409, "REFUSED", str(error))


def explain(error: RequestValidationError) -> str:
    """Name each wrong field and what is wrong with it."""
    parts = []
    for item in error.errors():
        place = ".".join(str(p) for p in item["loc"] if p not in ("body", "query", "path"))
        text = str(item["msg"]).removeprefix("Value error, ")
        parts.append(f"{place}: {text}" if place else text)
    return "; ".join(parts)


def install(app: FastAPI) -> None:
    """Give every error of the application the one shape."""

    @app.exception_handler(ApiError)
    def _api(_: Request, error: ApiError) -> JSONResponse:
        return error.response()

    @app.exception_handler(DsaflowError)
    @app.exception_handler(Busy)
    def _domain(_: Request, error: Exception) -> JSONResponse:
        return from_domain(error).response()

    @app.exception_handler(RequestValidationError)
    def _invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return ApiError(422, "INVALID", explain(error)).response()

    @app.exception_handler(HTTPException)
    def _http(_: Request, error: HTTPException) -> JSONResponse:
        codes = {404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED", 422: "INVALID"}
        # what cannot be parsed is as invalid as what does not fit
        status = 422 if error.status_code == 400 else error.status_code
        code = codes.get(status, "REFUSED")
        return ApiError(status, code, str(error.detail), headers=error.headers).response()

    @app.exception_handler(sqlite3.Error)
    def _database(_: Request, error: sqlite3.Error) -> JSONResponse:
        LOG.exception("run record", exc_info=error)
        return ApiError(503, "RECORD_UNAVAILABLE", f"the run record: {error}").response()

    @app.exception_handler(Exception)
    def _other(request: Request, error: Exception) -> JSONResponse:
        LOG.exception("%s %s", request.method, request.url.path, exc_info=error)
        return ApiError(
            500, "INTERNAL", "an error of the service; its log has the traceback"
        ).response()
