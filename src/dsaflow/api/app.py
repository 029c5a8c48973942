"""The application: routers, middleware, documentation that works offline, background tasks."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.middleware.cors import CORSMiddleware

from dsaflow import __version__
from dsaflow.api import (
    batch,
    calibrations,
    data,
    errors,
    ese,
    health,
    jobs,
    metrics,
    mosaics,
    quarantine,
    runs,
    sources,
)
from dsaflow.api.auth import Guard
from dsaflow.api.background import run_all
from dsaflow.api.settings import Service

LOG = logging.getLogger("dsaflow.api")
ROUTERS = (
    mosaics, runs, jobs, batch, sources, ese, data, calibrations, quarantine, health, metrics,
)  # fmt: skip
_CHANGES = ("post", "put", "patch", "delete")

_DESCRIPTION = """Mosaics, light curves and candidates of the DSA-110 drift-scan pipeline.

Reads are open on loopback. Whatever changes something needs `Authorization: Bearer <token>`.
Every error has the form `{code, message, links?}`. Times are Unix seconds (UTC), angles degrees,
flux densities Jy."""


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    settled = asyncio.Event()
    tasks = asyncio.create_task(run_all(app.state.service, settled))
    await settled.wait()
    yield
    tasks.cancel()
    with suppress(asyncio.CancelledError):
        await tasks


def create_app(service: Service) -> FastAPI:
    """Build the application of a service."""
    app: FastAPI = FastAPIOffline(
        title="dsaflow",
        version=__version__,
        description=_DESCRIPTION,
        lifespan=_lifespan,
        # else the page shows the specification to a validator on the internet
        swagger_ui_parameters={"validatorUrl": None},
    )
    app.state.service = service
    errors.install(app)
    for module in ROUTERS:
        app.include_router(module.router)
    app.add_middleware(Guard, config=service.config, token=service.token)
    # outermost, so that a refusal too has the headers without which a browser hides it
    app.add_middleware(
        CORSMiddleware,
        allow_origins=service.config.api.allowed_origins,
        allow_methods=["GET", "POST"],
        allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID"],
    )
    _document_token(app)
    return app


def _document_token(app: FastAPI) -> None:
    """Say in the OpenAPI which operations need the token: all that are no reads, as `Guard` has it."""
    build = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema:
            return app.openapi_schema
        schema = build()
        components = schema.setdefault("components", {})
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        refusals = errors.documented_plain(401, 403, 413)
        for path in schema["paths"].values():
            for method, operation in path.items():
                _correct_streams(operation["responses"])
                if method in _CHANGES:
                    operation["security"] = [{"token": []}]
                    operation["responses"] |= refusals
        app.openapi_schema = schema
        return schema

    app.openapi = openapi  # type: ignore[method-assign]


_EVENT = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "description": "give it as Last-Event-ID to go on after this"},
        "event": {"type": "string", "description": "end, at the end"},
        "data": {"type": "string", "description": 'a line of the log; at the end {"state": ...}'},
    },
    "required": ["id", "data"],
}


def _correct_streams(responses: dict[str, Any]) -> None:
    """Describe a stream by its events, and its errors as what they are: JSON."""
    for status, response in responses.items():
        content = response.get("content", {})
        if "text/event-stream" in content:
            described = content.pop("text/event-stream")
            if status < "400":
                content["text/event-stream"] = {"itemSchema": _EVENT}
            else:
                content["application/json"] = described
