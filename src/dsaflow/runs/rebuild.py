"""The SQLite record made anew from what is true: the events, then the products."""

from typing import TYPE_CHECKING

from dsaflow.runs import scan
from dsaflow.runs.record import Record
from dsaflow.runs.search import index_logs

if TYPE_CHECKING:
    from dsaflow.config import Config


def rebuild(config: "Config") -> dict[str, int]:
    """Replace the SQLite file, whatever state it is in; runs that are live go on.

    Returns
    -------
    dict
        Rows by table (runs, jobs, mosaic_groups, products, quarantine, alerts, stage_timings,
        reviews), `events` applied, `skipped` (contradict the ones before), and log lines indexed.
    """
    record = Record.open(config)
    counts = record.remake()
    skipped = counts.pop("skipped", 0)
    result = {"events": sum(counts.values()), "skipped": skipped}
    scan.sync(record, config)
    result["log_lines"] = index_logs(record, config)
    for table in (
        "runs", "jobs", "mosaic_groups", "products", "quarantine", "alerts", "stage_timings",
        "reviews",
    ):  # fmt: skip
        result[table] = record.select(f"SELECT count(*) AS n FROM {table}")[0]["n"]
    record.close()
    return result
