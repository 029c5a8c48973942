"""Searching the logs: rule logs, run logs and events, in SQLite's full-text index."""

import hashlib
import json
import os
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsaflow.errors import ConfigError
from dsaflow.runs.logtext import LEVELS, Entry, event_entry, rule_log_entries, run_log_entries

if TYPE_CHECKING:
    from dsaflow.config import Config
    from dsaflow.runs.record import Record

CHUNK_BYTES = 4_000_000
_HEAD_BYTES = 1024
# Runs that ended this long before the newest indexed log are not looked at again.
_LATE_S = 3600.0
Parse = Callable[[Iterable[str], Entry], Iterable[Entry]]


@dataclass(frozen=True)
class Source:
    """One file with text, and whose it is."""

    path: Path
    parse: Parse
    run_id: str = ""
    rule: str = ""
    item: str = ""


def index_logs(record: "Record", config: "Config") -> int:
    """Take new text of all logs and events into the index.

    Parameters
    ----------
    record : Record
    config : Config

    Returns
    -------
    int
        Entries added: messages of rule logs, lines of run logs, events.

    Notes
    -----
    A rule's log is written anew by each execution; what was indexed of the earlier ones stays.
    """
    known = {
        row["path"]: (row["size"], row["mtime_ns"])
        for row in record.db.execute("SELECT path, size, mtime_ns FROM indexed_logs")
    }
    added = 0
    for source in _sources(record, config):
        try:
            status = source.path.stat()
        except FileNotFoundError:
            continue
        if known.get(str(source.path)) != (status.st_size, status.st_mtime_ns):
            added += _index(record, source)
    return added


def _sources(record: "Record", config: "Config") -> Iterator[Source]:
    logs = Path(config.paths.results).resolve() / "logs"
    for folder in sorted(logs.iterdir()) if logs.is_dir() else ():
        if folder.is_dir() and folder.name != "benchmarks":
            for path in sorted(folder.glob("*.log")):
                yield Source(path, rule_log_entries, rule=folder.name, item=path.stem)
    parse_events = _event_parser(record)
    yield Source(record.folder / "operations.jsonl", parse_events)
    newest = "(SELECT coalesce(max(mtime_ns), 0) / 1e9 FROM indexed_logs)"
    for run in record.select(
        f"SELECT run_id FROM runs WHERE ended_s IS NULL OR ended_s > {newest} - ?", (_LATE_S,)
    ):
        folder = record.folder / run["run_id"]
        yield Source(folder / "events.jsonl", parse_events, run["run_id"])
        yield Source(folder / "run.log", run_log_entries, run["run_id"])


def _event_parser(record: "Record") -> Parse:
    def parse(lines: Iterable[str], base: Entry) -> Iterator[Entry]:
        for line in lines:
            try:
                event = json.loads(line)
            except ValueError:
                continue
            job = _job_of(record, event) if "jobid" in event and "rule" not in event else None
            entry = event_entry(event, *(job or ("", "")))
            if entry is not None:
                yield entry

    return parse


def _job_of(record: "Record", event: dict[str, Any]) -> tuple[str, str] | None:
    return record.db.execute(
        "SELECT rule, item FROM jobs WHERE run_id = ? AND attempt = ? AND snakemake_jobid = ? LIMIT 1",
        (event["run_id"], event.get("attempt", 1), event["jobid"]),
    ).fetchone()


@dataclass(frozen=True)
class Chunk:
    """Whole lines of a file that are not indexed yet, and how the file is once they are."""

    text: bytes
    end: int
    mtime_ns: int
    head: str
    more: bool


def _index(record: "Record", source: Source) -> int:
    """Index what a file has gained, a chunk a transaction: writers of events get their turn."""
    added = 0
    while True:
        row = record.db.execute(
            "SELECT size, head FROM indexed_logs WHERE path = ?", (str(source.path),)
        ).fetchone()
        before = (row["size"], row["head"]) if row else (0, "")
        try:
            chunk = _next_chunk(source.path, *before)
        except FileNotFoundError:
            return added
        entries = _entries(record, source, chunk)
        if not record.write(_storing(source, before, chunk, entries)):
            return added  # another process indexes this file
        added += len(entries)
        if not chunk.more:
            return added


def _next_chunk(path: Path, size: int, head: str) -> Chunk:
    with open(path, "rb") as stream:
        status = os.fstat(stream.fileno())
        if size > status.st_size or _digest(stream.read(min(size, _HEAD_BYTES))) != head:
            size = 0  # written anew
        stream.seek(size)
        text = stream.read(CHUNK_BYTES)
        # a line that is being written comes whole, later
        text = text[: text.rfind(b"\n") + 1] or (text if len(text) == CHUNK_BYTES else b"")
        end = size + len(text)
        stream.seek(0)
        digest = _digest(stream.read(min(end, _HEAD_BYTES)))
    return Chunk(text, end, status.st_mtime_ns, digest, bool(text) and end < status.st_size)


def _digest(head: bytes) -> str:
    return hashlib.sha256(head).hexdigest()[:16] if head else ""


def _entries(record: "Record", source: Source, chunk: Chunk) -> list[Entry]:
    run_id = source.run_id
    if source.rule:
        row = record.db.execute(
            "SELECT run_id FROM jobs WHERE item = ? AND rule = ? ORDER BY started_s DESC LIMIT 1",
            (source.item, source.rule),
        ).fetchone()
        run_id = row["run_id"] if row else ""
    base = Entry("", "INFO", chunk.mtime_ns / 1e9, run_id, source.rule, source.item)
    lines = chunk.text.decode(errors="replace").replace("\0", "").splitlines()
    return list(source.parse(lines, base))


def _storing(
    source: Source, before: tuple[int, str], chunk: Chunk, entries: list[Entry]
) -> Callable[[sqlite3.Connection], bool]:
    """Transaction that stores entries, unless somebody else has indexed the file since `before`."""
    path = str(source.path)

    def store(db: sqlite3.Connection) -> bool:
        row = db.execute("SELECT size, head FROM indexed_logs WHERE path = ?", (path,)).fetchone()
        if ((row["size"], row["head"]) if row else (0, "")) != before:
            return False
        db.executemany(
            "INSERT INTO log_lines (text, source, run_id, rule, item, level, time_s) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            [(e.text, path, e.run_id, e.rule, e.item, e.level, e.time_s) for e in entries],
        )
        db.execute(
            "INSERT OR REPLACE INTO indexed_logs (path, run_id, size, mtime_ns, head) "
            "VALUES (?, ?, ?, ?, ?)",
            (path, source.run_id, chunk.end, chunk.mtime_ns, chunk.head),
        )
        return True

    return store


def search_logs(
    record: "Record",
    query: str,
    run_id: str | None = None,
    rule: str | None = None,
    level: str | None = None,
    since_s: float | None = None,
    until_s: float | None = None,
    limit: int = 50,
    offset: int = 0,
) -> list[dict[str, Any]]:
    """Entries that hold all words of a query, newest first.

    Parameters
    ----------
    record : Record
    query : str
        Words, and phrases in double quotes; a word that ends in ``*`` is a beginning. Nothing else
        in it has a meaning. Empty: all entries.
    run_id, rule : str, optional
        Only of this run, of this rule.
    level : {"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"}, optional
        Only of this level or a worse one.
    since_s, until_s : float, optional
        Unix times.
    limit, offset : int
        Page.

    Returns
    -------
    list of dict
        text, source (path of the log), run_id, rule, item, level, time_s.

    Raises
    ------
    ConfigError
        No such level.
    """
    conditions: list[str] = []
    values: list[Any] = []

    def require(condition: str, *given: Any) -> None:
        conditions.append(condition)
        values.extend(given)

    if match := match_expression(query):
        require("log_lines MATCH ?", match)
    elif query.strip():
        return []  # nothing in it that an index could hold
    if run_id is not None:
        require("run_id = ?", run_id)
    if rule is not None:
        require("rule = ?", rule)
    if level is not None:
        worse = _levels_from(level)
        require(f"level IN ({', '.join('?' for _ in worse)})", *worse)
    if since_s is not None:
        require("time_s >= ?", since_s)
    if until_s is not None:
        require("time_s <= ?", until_s)
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    return record.select(
        f"SELECT text, source, run_id, rule, item, level, time_s FROM log_lines {where} "
        "ORDER BY time_s DESC, rowid DESC LIMIT ? OFFSET ?",
        (*values, limit, offset),
    )


def match_expression(query: str) -> str:
    """FTS5 expression for a person's words: each is quoted, so that none is an operator."""
    terms = []
    for phrase, word in re.findall(r'"([^"]*)"|([^\s"]+)', query.replace("\0", " ")):
        text = phrase or word
        if re.search(r"\w", text):
            terms.append('"' + text.rstrip("*") + '"' + ("*" if word.endswith("*") else ""))
    return " ".join(terms)


def _levels_from(level: str) -> list[str]:
    if level not in LEVELS:
        raise ConfigError(f"no level {level!r}: use one of {', '.join(LEVELS)}")
    return LEVELS[LEVELS.index(level) :]
