"""Logs as server-sent events: one event a line, its id the byte offset at which to go on."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Annotated

from anyio import to_thread
from fastapi import Depends, Header
from fastapi.responses import StreamingResponse
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event

from dsaflow.api.errors import ApiError

CHUNK_BYTES = 1 << 18
POLL_S = 0.5
KEEP_ALIVE_S = 15.0
_MAX_OFFSET = 1 << 62

LastEventId = Annotated[
    str | None,
    Header(
        alias="Last-Event-ID",
        max_length=80,
        description="id of the last event received: the stream goes on after it",
    ),
]


class EventStream(StreamingResponse):
    """Response of server-sent events that no cache keeps and no proxy buffers.

    FastAPI's own class makes FastAPI iterate, which logs a traceback for every client that goes away
    (0.165); its encoding is used.
    """

    media_type = "text/event-stream"

    def init_headers(self, headers: Mapping[str, str] | None = None) -> None:
        """Set the headers that every stream has."""
        fixed = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        super().init_headers(fixed | dict(headers or {}))


def parse_offset(last_event_id: str | None, log: str = "") -> int:
    """Byte offset at which a stream goes on.

    Parameters
    ----------
    last_event_id : str or None
        ``<offset>``, or ``<log>:<offset>`` of a stream whose log may change.
    log : str
        Name of the log that is streamed now; an id of another one starts at its beginning.

    Raises
    ------
    ApiError
        422, it is neither.
    """
    if not last_event_id:
        return 0
    name, _, number = last_event_id.rpartition(":")
    if not (number.isascii() and number.isdigit()) or int(number) > _MAX_OFFSET:
        raise ApiError(422, "INVALID", "Last-Event-ID: a byte offset is expected, e.g. 1024")
    return int(number) if name in ("", log) else 0


async def _offset(last_event_id: LastEventId = None) -> int:
    return parse_offset(last_event_id)


# a dependency, since a stream that has begun cannot answer 422 any more
Offset = Annotated[int, Depends(_offset)]


def read_lines(path: Path, offset: int, whole: bool) -> tuple[list[tuple[str, int]], int]:
    """Lines of a log from an offset on.

    Parameters
    ----------
    path : Path
        May be absent: a run that has not started has no log.
    offset : int
        Bytes; beyond the end the log was begun anew, and is read from its beginning.
    whole : bool
        Nobody writes any more: a last line without its end counts as one.

    Returns
    -------
    lines : list of (text, offset after it)
        At most 256 KiB of them.
    offset : int
        Where to go on.
    """
    try:
        stream = open(path, "rb")  # noqa: SIM115
    except FileNotFoundError:
        return [], 0
    with stream:
        if os.fstat(stream.fileno()).st_size < offset:
            offset = 0
        stream.seek(offset)
        chunk = stream.read(CHUNK_BYTES)
    whole = whole and len(chunk) < CHUNK_BYTES
    lines = []
    for line in _split(chunk):
        ended = line.endswith(b"\n")
        # a line longer than a chunk is given in parts, rather than never
        if ended or whole or len(line) == CHUNK_BYTES:
            offset += len(line)
            lines.append((line.rstrip(b"\r\n").decode("utf-8", "replace"), offset))
    return lines, offset


def _split(chunk: bytes) -> list[bytes]:
    """Split after line feeds only: `splitlines` would also do so at carriage returns."""
    parts = [part + b"\n" for part in chunk.split(b"\n")]
    parts[-1] = parts[-1][:-1]
    return [part for part in parts if part]


async def follow(
    path: Path, offset: int, state: Callable[[], tuple[bool, str]], log: str = ""
) -> AsyncIterator[bytes]:
    """Follow a log to the end of what writes it.

    Parameters
    ----------
    path : Path
    offset : int
        Bytes that the client has already.
    state : callable
        Whether the writer is finished, and its state; called in a thread.
    log : str
        Name put before the offset in the ids, where the log of a stream may change.

    Yields
    ------
    bytes
        Events, one a line of the log; then ``end`` with the final state, once the writer is finished
        and the log is drained. Comments keep a quiet connection open.

    Notes
    -----
    The state is read before the log: what was written before the end is then in the log already.
    """
    prefix = f"{log}:" if log else ""
    quiet_s = 0.0
    while True:
        finished, name = await to_thread.run_sync(state)
        lines, offset = await to_thread.run_sync(read_lines, path, offset, finished)
        if lines:
            quiet_s = 0.0
            yield b"".join(
                format_sse_event(data_str=text, id=f"{prefix}{position}")
                for text, position in lines
            )
        elif finished:
            final = json.dumps({"state": name})
            yield format_sse_event(data_str=final, event="end", id=f"{prefix}{offset}")
            return
        elif quiet_s >= KEEP_ALIVE_S:
            quiet_s = 0.0
            yield KEEPALIVE_COMMENT
        else:
            await asyncio.sleep(POLL_S)
            quiet_s += POLL_S
