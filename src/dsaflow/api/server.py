"""Starting the service: one process a run record, which says where it listens."""

import fcntl
import logging
import os
import signal
import sys
from pathlib import Path
from typing import IO

import uvicorn

from dsaflow.api.app import create_app
from dsaflow.api.auth import TOKEN_VARIABLE, configured_token
from dsaflow.api.settings import Service
from dsaflow.config import Config
from dsaflow.errors import ConfigError, EnvironmentProblem
from dsaflow.fileio import write_json
from dsaflow.runs.conditions import SERVICE_FILE
from dsaflow.runs.processes import start_ticks
from dsaflow.runs.record import Record

LOG = logging.getLogger("dsaflow.api")
# Streams are cut after this long; their clients go on where they were at the next service.
GRACE_S = 3


def hold_alone(record: Record) -> IO[bytes]:
    """Take the lock of the record's one service; the kernel drops it when the process dies.

    Raises
    ------
    EnvironmentProblem
        Another service has it.
    """
    record.folder.mkdir(parents=True, exist_ok=True)
    lock = open(record.folder / "service.lock", "ab")  # noqa: SIM115
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise EnvironmentProblem(
            f"a service runs already on {record.folder} (see {record.folder / SERVICE_FILE}): one "
            "process serves; several would dispatch and alert twice"
        ) from None
    return lock


def say_who_may_change(config: Config, token: str) -> str:
    """Sentence for the log on the token that changes need.

    Raises
    ------
    ConfigError
        ``api.token_file`` is named, and others on this machine could read it, or it is absent.
    """
    if not config.api.token_file:
        if token:
            return f"changes need the token that was in {TOKEN_VARIABLE}"
        return f"changes are refused: neither api.token_file nor {TOKEN_VARIABLE} is set"
    path = Path(config.api.token_file)
    if not path.is_file():
        raise ConfigError(f"api.token_file: no such file: {path}")
    if path.stat().st_mode & 0o077:
        raise ConfigError(f"api.token_file: others may read {path}: chmod 600 {path}")
    if not configured_token(config, token):
        raise ConfigError(f"api.token_file: {path} is empty")
    return f"changes need the token in {path}"


def serve(service: Service, host: str, port: int, access_log: bool = False) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises
    ------
    EnvironmentProblem
        A service runs already on this record.
    """
    lock = hold_alone(service.record)
    try:
        LOG.info(say_who_may_change(service.config, service.token))
        service.record.select(
            "SELECT last FROM sequence"
        )  # a record that cannot be opened says so now
        where = f"[{host}]" if ":" in host else host
        told = service.record.folder / SERVICE_FILE
        content = {
            "pid": os.getpid(),
            "start": start_ticks(os.getpid()),
            "url": f"http://{where}:{port}",
        }
        write_json(told, content)
        config = uvicorn.Config(
            create_app(service),
            host=host,
            port=port,
            log_level="info",
            access_log=access_log,
            server_header=False,
            # a proxy on this machine counts as this machine: it answers for whom it lets in
            proxy_headers=False,
            timeout_graceful_shutdown=GRACE_S,
        )
        # uvicorn shuts down and then raises the signal again: that would kill this process before
        # it takes back its notice
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        try:
            uvicorn.Server(config).run()
        finally:
            told.unlink(missing_ok=True)
    finally:
        lock.close()
