"""Rule logs, run logs and events as entries that can be searched."""

import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from dsaflow.runs.events import Event

LEVELS = ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
ENTRY_CHARS = 8000

_LOGGED = re.compile(
    r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),(\d{3}) (DEBUG|INFO|WARNING|ERROR|CRITICAL) "
)
_STAMP = re.compile(r"^\[(\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4})\]$")
_BAD = re.compile(r"^\s*(?:Error in |\w*(?:Error|Exception)\b|Exiting because|message: )")
_DULL = frozenset(["run.progress", "run.planned", "job.slurm"])
_TOLD = (
    "rule", "item", "group_id", "state", "reason_code", "outcome", "path", "subject", "candidate_id",
    "verdict", "reason", "detail", "message", "note", "error", "error_message", "log_tail",
)  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One message of a log, or one event."""

    text: str
    level: str = "INFO"
    time_s: float = 0.0
    run_id: str = ""
    rule: str = ""
    item: str = ""


def rule_log_entries(lines: Iterable[str], base: Entry) -> Iterator[Entry]:
    """Messages of a rule's log, each with the lines that belong to it (a traceback).

    Parameters
    ----------
    lines : iterable of str
    base : Entry
        Run, rule, item, and the time of lines that say none.
    """
    entry: Entry | None = None
    for line in lines:
        match = _LOGGED.match(line)
        if match is None and entry is not None:
            # a message goes on, as long as it is not out of hand
            entry = replace(entry, text=f"{entry.text}\n{line}"[:ENTRY_CHARS])
            continue
        if entry is not None:
            yield entry
        if match is None:
            yield replace(base, text=line[:ENTRY_CHARS])
            entry = None
        else:
            when = datetime.fromisoformat(match[1]).timestamp() + int(match[2]) / 1000
            text = line[match.end() :][:ENTRY_CHARS]
            entry = replace(base, text=text, level=match[3], time_s=when)
    if entry is not None:
        yield entry


def run_log_entries(lines: Iterable[str], base: Entry) -> Iterator[Entry]:
    """Lines of Snakemake's output, at the time that stands above them."""
    for line in lines:
        stamp = _STAMP.match(line)
        if stamp:
            base = replace(base, time_s=time.mktime(time.strptime(stamp[1])))
        elif line.strip():
            level = "ERROR" if _BAD.match(line) else "INFO"
            yield replace(base, text=line[:ENTRY_CHARS], level=level)


def event_entry(event: Event, rule: str = "", item: str = "") -> Entry | None:
    """Entry of an event that tells a person something, of the job that it speaks of."""
    kind = str(event["kind"])
    if kind in _DULL:
        return None
    said: dict[str, Any] = {"rule": rule, "item": item, **event}
    text = " ".join([kind, *(str(said[key]) for key in _TOLD if said.get(key))])
    return Entry(
        text[:ENTRY_CHARS], _event_level(event), float(event["time_s"]), event.get("run_id", ""),
        str(said["rule"]), str(said["item"]),
    )  # fmt: skip


def _event_level(event: Event) -> str:
    kind, state = event["kind"], event.get("state")
    if kind == "job.error" or (kind == "run.state" and str(state).endswith("_ERROR")):
        return "ERROR"
    if kind == "alert":
        return {"failure": "ERROR", "info": "INFO"}.get(str(event.get("severity")), "WARNING")
    return "WARNING" if kind == "quarantine.seen" or state == "PAUSED" else "INFO"
