"""Who may do what: reads are open on loopback, everything else needs the bearer token."""

import hmac
import ipaddress
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anyio import to_thread
from starlette.datastructures import Headers

from dsaflow.api.errors import ApiError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from dsaflow.config import Config

TOKEN_VARIABLE = "DSAFLOW_API_TOKEN"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
# What a load balancer asks without a token.
OPEN_PATHS = frozenset({"/api/health/live", "/api/health/ready"})
MAX_BODY_BYTES = 1 << 20


def take_token() -> str:
    """Token of the environment, taken out of it: the runs that the service starts inherit the rest."""
    return os.environ.pop(TOKEN_VARIABLE, "").strip()


def configured_token(config: "Config", of_environment: str) -> str:
    """Token that changes need: first line of ``api.token_file``, else that of the environment.

    Returns
    -------
    str
        Empty where none is configured, or the named file is absent or empty.
    """
    if config.api.token_file:
        try:
            lines = Path(config.api.token_file).read_text().splitlines()
        except (OSError, UnicodeDecodeError):
            return ""
        return lines[0].strip() if lines else ""
    return of_environment


def _refusal(token: str, method: str, headers: Headers) -> ApiError | None:
    if not token:
        return ApiError(
            403,
            "NO_TOKEN_CONFIGURED",
            f"{method} is refused: no token is configured; put one into the file that "
            f"api.token_file names, or into the environment variable {TOKEN_VARIABLE} of the service",
        )
    scheme, _, given = headers.get("authorization", "").partition(" ")
    sent = given.strip().encode("latin-1")  # the bytes as they came
    if scheme.lower() == "bearer" and hmac.compare_digest(sent, token.encode()):
        return None
    return ApiError(
        401,
        "UNAUTHORIZED",
        "send the token as the header 'Authorization: Bearer <token>'",
        headers={"WWW-Authenticate": "Bearer"},
    )


def is_loopback(scope: "Scope") -> bool:
    """Whether a request comes from this machine (a proxy on it counts as such)."""
    client = scope.get("client")
    if client is None:  # a Unix socket
        return True
    try:
        address = ipaddress.ip_address(client[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


class Guard:
    """Middleware in front of every route, so that a new one cannot forget it.

    Parameters
    ----------
    app : ASGI application
    config : Config
    token : str
        Of the environment, where ``api.token_file`` names none.

    Notes
    -----
    The token file is read at each change: it can be exchanged without a restart. Bodies above 1 MiB are
    refused before anything parses them.
    """

    def __init__(self, app: "ASGIApp", config: "Config", token: str) -> None:
        self.app = app
        self.config = config
        self.token = token

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Pass the request on, or answer it here."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        method, headers = scope["method"], Headers(scope=scope)
        is_open = is_loopback(scope) or scope["path"] in OPEN_PATHS
        refused = None
        if method not in SAFE_METHODS or not is_open:
            token = await to_thread.run_sync(configured_token, self.config, self.token)
            refused = _refusal(token, method, headers)
        if refused is not None:
            await refused.response()(scope, receive, send)
            return
        if method in SAFE_METHODS:
            await self.app(scope, receive, send)
            return
        body = await _read_body(receive)
        if body is None:
            too_large = ApiError(413, "TOO_LARGE", f"a body has at most {MAX_BODY_BYTES} bytes")
            await too_large.response()(scope, receive, send)
            return
        await self.app(scope, _replay(body, receive), send)


async def _read_body(receive: "Receive") -> bytes | None:
    """Whole body, or None where it is too large."""
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] != "http.request":  # the client went away
            return b""
        part = message.get("body", b"")
        parts.append(part)
        size += len(part)
        if size > MAX_BODY_BYTES:
            return None
        if not message.get("more_body", False):
            return b"".join(parts)


def _replay(body: bytes, receive: "Receive") -> Any:
    """Give the body once, then what the server still has to say (a disconnect)."""
    sent = False

    async def replayed() -> "Message":
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed
