"""What went wrong in a job, from its log and from what Snakemake or SLURM said of it."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType

from dsaflow.runs.classify import last_error, read_tail

TAIL_CHARS = 4000
MESSAGE_CHARS = 500
_TRACEBACK = "Traceback (most recent call last):"
_LEVEL = re.compile(r"^\S+ \S+ (?:ERROR|CRITICAL) \S+: (.+)$")
# What a job cannot say of itself.
_OUTSIDE = re.compile(r"SLURM status is: '[^']*'|died with <Signals\.\w+[^>]*>")
# a log written before the job began is an earlier execution's
_CLOCK_S = 2.0


def exception_line(text: str) -> str:
    """Line of the last traceback that names the exception; empty if there is no traceback."""
    _, found, after = text.rpartition(_TRACEBACK)
    if not found:
        return ""
    lines = [line.rstrip() for line in after.splitlines()]
    for number, line in enumerate(lines):
        if line and not line[0].isspace():
            # "ConfigError:" and the like go on in the next line
            return " ".join(lines[number : number + (2 if line.endswith(":") else 1)])
    return ""


def logged_error(text: str) -> str:
    """Message of the last line that the rule's own log gives as an error."""
    matches = [_LEVEL.match(line) for line in text.splitlines()]
    return next((match[1] for match in reversed(matches) if match), "")


def log_ends(paths: Iterable[str]) -> dict[str, tuple[float, str]]:
    """Time of writing (Unix seconds) and end of each of these files that exists."""
    ends = {}
    for path in paths:
        with suppress(OSError):
            ends[path] = (os.stat(path).st_mtime, read_tail(Path(path), limit=TAIL_CHARS))
    return ends


def job_error(
    logs: Sequence[str],
    said: str,
    since_s: float,
    innocent: bool = False,
    kept: Mapping[str, tuple[float, str]] = MappingProxyType({}),
) -> tuple[str, str]:
    """Say in a sentence why a job failed.

    Parameters
    ----------
    logs : sequence of str
        Its log files, the rule's own first.
    said : str
        What Snakemake or SLURM said of the failure.
    since_s : float
        Unix time at which the job began; logs older than that are not its own.
    innocent : bool
        One of several jobs that fail together, perhaps without an error of its own.
    kept : mapping of str to (float, str)
        `log_ends` as they were when the job failed, for logs that may be gone by now.

    Returns
    -------
    message : str
        The exception's line, else the last error in its log, else what was said; empty where
        nothing is known.
    tail : str
        End of the log that the message is from, else of the first.
    """
    ends = {**log_ends(path for path in logs if path not in kept), **kept}
    texts = [ends[p][1] for p in logs if p in ends and ends[p][0] >= since_s - _CLOCK_S]
    # a job on a node is killed where only the batch system's log of it can tell
    outside = " ".join(dict.fromkeys(_OUTSIDE.findall("\n".join([*texts[1:], said]))))
    for find in (exception_line, logged_error):
        for text in texts:
            if line := find(text):
                message = f"{line} ({outside})" if outside else line
                return message[:MESSAGE_CHARS], text
    tail = texts[0] if texts else ""
    if innocent:
        return "", tail
    message = outside or last_error(tail) or last_error(said)
    return message[:MESSAGE_CHARS], tail
