"""What events of mosaics, products, quarantine, alerts and reviews change in the SQLite record."""

import json
import sqlite3
from typing import Any

from dsaflow.runs.events import Event
from dsaflow.runs.states import State


def text(value: Any) -> Any:
    """As a column holds it: lists and mappings are JSON."""
    return json.dumps(value) if isinstance(value, (dict, list)) else value


def update(db: sqlite3.Connection, table: str, key: str, value: Any, fields: dict) -> None:
    """Set columns of the row whose `key` is `value`."""
    if fields:
        assignments = ", ".join(f"{name} = ?" for name in fields)
        values = [text(v) for v in fields.values()]
        db.execute(f"UPDATE {table} SET {assignments} WHERE {key} = ?", (*values, value))


_GROUP_COLUMNS = frozenset(
    [
        "run_id",
        "centre",
        "calibrator",
        "transit_mjd",
        "start_mjd",
        "end_mjd",
        "strip",
        "stage",
        "state",
        "tiles",
        "tiles_used",
        "tiles_rejected",
        "outcome",
        "published_path",
        "error_message",
        "error_class",
        "next_retry_s",
    ]
)


def group(db: sqlite3.Connection, event: Event) -> None:
    """Insert a mosaic or set what the event names of it."""
    group_id, now = event["group_id"], event["time_s"]
    fields = {k: v for k, v in event.items() if k in _GROUP_COLUMNS and (k != "run_id" or v)}
    db.execute(
        "INSERT OR IGNORE INTO mosaic_groups (group_id, state, created_s, updated_s) VALUES (?,?,?,?)",
        (group_id, fields.get("state", State.QUEUED), now, now),
    )
    update(db, "mosaic_groups", "group_id", group_id, fields | {"updated_s": now})


def product(db: sqlite3.Connection, event: Event) -> None:
    """Insert a product or replace what is known of it; a published one was staged until now."""
    if event["state"] == "published":
        db.execute("DELETE FROM products WHERE product_id = ?", (event["group_id"],))
    columns = [
        "product_id",
        "group_id",
        "kind",
        "state",
        "path",
        "version",
        "checksum",
        "reason",
        "run_id",
    ]
    given = {"version": 0} | event | {"kind": event.get("product_kind", "mosaic")}
    values = [given.get(name, "") for name in columns]
    db.execute(
        f"INSERT OR REPLACE INTO products ({', '.join(columns)}, updated_s) "
        f"VALUES ({', '.join('?' for _ in columns)}, ?)",
        (*values, event["time_s"]),
    )


def quarantine_seen(db: sqlite3.Connection, event: Event) -> None:
    """Note a rejected input; seen again after it was resolved, it is open again."""
    db.execute(
        "INSERT INTO quarantine (item, stage, reason_code, detail, path, state, first_seen_s, "
        "last_seen_s) VALUES (:item, :stage, :reason_code, :detail, :path, 'open', :t, :t) "
        "ON CONFLICT (item) DO UPDATE SET reason_code = :reason_code, detail = :detail, "
        "path = :path, state = 'open', times_seen = times_seen + 1, last_seen_s = :t",
        {
            "item": event["item"], "stage": event["stage"], "reason_code": event["reason_code"],
            "detail": event.get("detail", ""), "path": event.get("path", ""), "t": event["time_s"],
        },
    )  # fmt: skip


def quarantine_state(db: sqlite3.Connection, event: Event) -> None:
    """Note what was decided about a rejected input."""
    fields = {"state": event["state"], "note": event.get("note", "")}
    update(db, "quarantine", "item", event["item"], fields)


def alert(db: sqlite3.Connection, event: Event) -> None:
    """Insert an alert or replace it."""
    columns = ["alert_id", "rule", "subject", "severity", "message", "run_id", "state", "error"]
    db.execute(
        f"INSERT OR REPLACE INTO alerts ({', '.join(columns)}, time_s) "
        f"VALUES ({', '.join('?' for _ in columns)}, ?)",
        (*(event.get(name, "") for name in columns), event["time_s"]),
    )


def review(db: sqlite3.Connection, event: Event) -> None:
    """Add a person's verdict on an ESE candidate; the newest counts, all are kept."""
    db.execute(
        "INSERT INTO reviews (candidate_id, verdict, reviewer, note, time_s) VALUES (?,?,?,?,?)",
        (
            event["candidate_id"], event["verdict"], event.get("reviewer", ""),
            event.get("note", ""), event["time_s"],
        ),
    )  # fmt: skip
