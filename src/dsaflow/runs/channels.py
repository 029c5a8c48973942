"""Alert channels: apprise's, and lines in a file. None may hold up or harm what sends."""

import logging
import os
import re
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

from dsaflow.errors import ConfigError

_VARIABLE = re.compile(r"\$\{(\w+)\}")
_LOADING = threading.Lock()
# a channel that hung is not asked again while it hangs: threads would pile up in a service
_BUSY: dict[str, threading.Thread] = {}


@dataclass
class Delivery:
    """What became of one message in one channel; `channel` shows no secret, `error` is empty on success."""

    channel: str
    error: str = ""


def expand(url: str) -> str:
    """Put the environment's values for ``${NAME}`` into a channel's URL.

    Raises
    ------
    ConfigError
        A variable is not set.
    """

    def value(match: re.Match) -> str:
        name = match[1]
        if name not in os.environ:
            raise ConfigError(
                f"alerts.channels: the environment has no {name}: set it, or remove it"
            )
        return os.environ[name]

    return _VARIABLE.sub(value, url)


def deliver(
    urls: list[str], title: str, body: str, severity: str, timeout_s: float
) -> list[Delivery]:
    """Send one message to every channel at once.

    Parameters
    ----------
    urls : list of str
        As in ``alerts.channels``.
    title, body : str
    severity : {"info", "warning", "failure"}
    timeout_s : float
        Whoever has not answered by then has failed.

    Returns
    -------
    list of Delivery
        One a channel, in order; nothing is raised, whatever a channel does.
    """
    deadline = time.monotonic() + timeout_s
    threads, deliveries = [], []
    for url in urls:
        delivery = Delivery(_scheme(url), "hangs since an earlier alert")
        deliveries.append(delivery)
        if url in _BUSY and _BUSY[url].is_alive():
            continue
        delivery.error = f"no answer within {timeout_s:g} s"
        # daemons: a channel that hangs does not keep a process from its end
        thread = threading.Thread(
            target=_send, args=(url, title, body, severity, delivery), daemon=True
        )
        _BUSY[url] = thread
        thread.start()
        threads.append(thread)
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    # copies: a late answer must not change what has been recorded
    return [Delivery(delivery.channel, delivery.error) for delivery in deliveries]


def _scheme(url: str) -> str:
    return url.split("://", maxsplit=1)[0] + "://"


def _send(url: str, title: str, body: str, severity: str, delivery: Delivery) -> None:
    try:
        channel = _channel(expand(url))
        delivery.channel = _shown(channel, url)
        with _apprise_warnings() as told:
            sent = channel.notify(body=body, title=title, notify_type=severity)
        delivery.error = "" if sent else _masked("; ".join(told) or "refused", url)
    except Exception as error:  # a channel's fault ends here
        delivery.error = _masked(f"{type(error).__name__}: {error}", url)


def _masked(text: str, url: str) -> str:
    """Text without what the environment gave to the URL: errors are recorded and shown."""
    for name in _VARIABLE.findall(url):
        if os.environ.get(name):
            text = text.replace(os.environ[name], f"${{{name}}}")
    return text


def _channel(url: str) -> Any:
    """Apprise's object of a URL.

    Raises
    ------
    ConfigError
        No such channel, or its URL lacks something.
    """
    import apprise

    _register_file(apprise)
    if url.startswith("file://") and not url.startswith("file:///"):
        raise ConfigError("alerts.channels: a file needs an absolute path, file:///path")
    channel = apprise.Apprise.instantiate(url)
    if not channel:
        # apprise's own words would show the URL
        raise ConfigError(f"alerts.channels: {_scheme(url)} unknown to apprise, or incomplete")
    return channel


def check_channel(url: str) -> str:
    """What is wrong with a channel's URL; empty if nothing is. Nothing is sent."""
    try:
        _channel(expand(url))
    except ConfigError as error:
        return str(error)
    return ""


def _shown(channel: Any, url: str) -> str:
    """Name of a channel for records: without secrets and options."""
    return url if url.startswith("file://") else channel.url(privacy=True).split("?")[0]


@contextmanager
def _apprise_warnings() -> Iterator[list[str]]:
    """Messages that apprise logs in this thread instead of raising."""
    told: list[str] = []
    mine = threading.get_ident()

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.thread == mine:
                told.append(record.getMessage())

    handler = Collect(logging.WARNING)
    logger = logging.getLogger("apprise")
    logger.addHandler(handler)
    try:
        yield told
    finally:
        logger.removeHandler(handler)


def _register_file(apprise: Any) -> None:
    """Teach apprise ``file:///path``: one line an alert, appended."""
    with _LOADING, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of modules that its plugins import
        if "file" not in apprise.manager_plugins.NotificationManager():
            apprise.decorators.notify(on="file", name="File")(append_line)


def append_line(
    body: str, title: str, notify_type: str, meta: dict[str, Any], *_: Any, **__: Any
) -> bool:
    """Append an alert to the file that the URL names."""
    # apprise takes the first folder of an absolute path for a host
    path = "/" + unquote(meta["host"] + (meta.get("fullpath") or ""))
    text = " ".join(f"{title}: {body}".split())
    line = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {notify_type} {text}\n"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        logging.getLogger("apprise").warning("%s", error)
        return False
    return True
