"""What an alert may be about: each function looks at the record or the files and says what it found."""

import json
import os
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from dsaflow.names import candidate_id, parse_raw_name
from dsaflow.publish import read_publication
from dsaflow.runs.processes import start_ticks
from dsaflow.runs.record import Record
from dsaflow.runs.states import ErrorClass, State

if TYPE_CHECKING:
    from dsaflow.config import Config

GIB = 2.0**30
SERVICE_FILE = "service.json"
_HEALTH_TIMEOUT_S = 5.0
# names sort by time and subband: the newest group is among this many of the last
_LAST_FILES = 32
# candidates by table, so that a table is read again only when it has changed
_TABLES: dict[str, tuple[int, list[dict[str, Any]]]] = {}


@dataclass(frozen=True)
class Finding:
    """Something to be told.

    Attributes
    ----------
    rule : str
        Kind of alert, as in ``alerts.rules``.
    subject : str
        What it is about: two findings of one rule and subject are one alert.
    message : str
    run_id : str
    limit : float or None
        Limit of the rule that found it, where rules of one name differ in it.
    since_s : float
        Unix time since which it is so, where known.
    """

    rule: str
    subject: str
    message: str
    run_id: str = ""
    limit: float | None = None
    since_s: float = 0.0


def run_failed(run: dict[str, Any], rules: set[str]) -> list[Finding]:
    """Failure of a run for good: one finding, of `retry_limit` where all tries were used up."""
    if run["state"] not in (State.EXECUTOR_ERROR, State.SYSTEM_ERROR):
        return []
    exhausted = run["error_class"] == ErrorClass.TRANSIENT and run["attempt"] > 1
    rule = "retry_limit" if exhausted and "retry_limit" in rules else "run_failed"
    what = " ".join(run["group_ids"] or run["targets"][:3]) or "everything"
    tries = f" after {run['attempt']} tries" if exhausted else ""
    message = (
        f"{run['kind']} run {run['run_id']} of {what} failed for good{tries} "
        f"({run['error_class'] or 'unclassified'}): {run['error_message'] or 'no message'} "
        f"See `dsaflow logs {run['run_id']}`; again: `dsaflow retry {run['run_id']}`."
    )
    return [Finding(rule, run["run_id"], message, run["run_id"], since_s=run["ended_s"] or 0.0)]


def withheld(config: "Config", since_s: float) -> list[Finding]:
    """Mosaics that were withheld since a time: rejected by their gates."""
    found = []
    for path in Path(config.paths.results).glob("mosaics/*/publication.json"):
        changed_s = path.stat().st_mtime
        if changed_s < since_s:
            continue
        try:
            publication = read_publication(path)
        except ValueError:  # whoever asks for this mosaic is told; it must not hide the others
            continue
        if publication["state"] == "withheld":
            group_id, reason = publication["group_id"], publication["reason"]
            message = (
                f"mosaic {group_id} was not published: {reason} See {path.with_name('qa.json')}."
            )
            found.append(Finding("qa_rejected", group_id, message, since_s=changed_s))
    return found


def candidates(record: Record, config: "Config", since_s: float = 0.0) -> list[Finding]:
    """ESE candidates above a rule's significance that nobody has reviewed yet."""
    limits = _limits(config, "ese_candidate")
    if not limits:
        return []
    found = []
    for path in Path(config.paths.results).glob("variability/*/ese_candidates.parquet"):
        status = path.stat()
        if status.st_mtime < since_s:
            continue
        for row in _candidate_rows(path, status.st_mtime_ns):
            name = candidate_id(path.parent.name, row["source_id"])
            for limit in limits:
                if row["significance"] > limit and not _reviewed(record, name):
                    message = (
                        f"ESE candidate {row['source_id']} in {path.parent.name}: significance "
                        f"{row['significance']:.1f}, depth {100 * row['depth']:.0f} %, "
                        f"{row['duration_days']:.0f} d, mid MJD {row['mid_mjd']:.1f}. "
                        f"Until it is reviewed this is repeated."
                    )
                    found.append(Finding("ese_candidate", name, message, limit=limit))
    return found


def _candidate_rows(path: Path, mtime_ns: int) -> list[dict[str, Any]]:
    import pandas as pd

    if _TABLES.get(str(path), (None,))[0] != mtime_ns:
        columns = ["source_id", "significance", "depth", "duration_days", "mid_mjd"]
        table = pd.read_parquet(path, columns=columns)
        rows = [{str(k): v for k, v in row.items()} for row in table.to_dict("records")]
        _TABLES[str(path)] = (mtime_ns, rows)
    return _TABLES[str(path)][1]


def _reviewed(record: Record, name: str) -> bool:
    return record.one("SELECT 1 FROM reviews WHERE candidate_id = ?", (name,)) is not None


def newest_data(incoming: str) -> tuple[str, float] | None:
    """Name and arrival (Unix time) of the newest raw file, or None where there is none."""
    folder = Path(incoming)
    if not folder.is_dir():
        return None
    names = sorted(n for n in (p.name for p in folder.iterdir()) if parse_raw_name(n))
    arrivals = []
    for name in names[-_LAST_FILES:]:
        try:
            arrivals.append(((folder / name).stat().st_mtime, name))
        except FileNotFoundError:  # archived between listing and looking
            continue
    if not arrivals:
        return None
    arrived_s, name = max(arrivals)
    return name, arrived_s


def no_data(config: "Config") -> list[Finding]:
    """No raw file has arrived for longer than a rule's minutes."""
    limits = _limits(config, "no_data")
    if not limits:
        return []
    newest = newest_data(config.paths.incoming)
    if newest is None:
        message = f"there is no raw file in {config.paths.incoming} (paths.incoming)"
        return [Finding("no_data", config.paths.incoming, message, limit=min(limits))]
    name, arrived_s = newest
    minutes = (time.time() - arrived_s) / 60.0
    message = f"no raw file has arrived for {minutes:.0f} min; the last was {name}"
    # a pause begins with its last file: the next pause is another alert
    return [
        Finding("no_data", f"since {name}, {limit:g} min", message, limit=limit, since_s=arrived_s)
        for limit in limits
        if minutes > limit
    ]


def disks(config: "Config") -> dict[str, Path]:
    """Disks in use: the setting that names each first -> the nearest folder that exists."""
    found: dict[str, Path] = {}
    devices = set()
    for key in ("results", "published", "incoming"):
        place = Path(getattr(config.paths, key)).resolve()
        while not place.exists():
            place = place.parent
        device = place.stat().st_dev
        if device not in devices:
            devices.add(device)
            found[f"paths.{key}"] = place
    return found


def disk_low(config: "Config") -> list[Finding]:
    """Disks with less free than a rule's fraction."""
    found = []
    for key, place in disks(config).items():
        usage = psutil.disk_usage(str(place))
        free = usage.free / usage.total
        for limit in _limits(config, "disk_low"):
            if free < limit:
                message = (
                    f"{100 * free:.1f} % ({usage.free / GIB:.1f} GiB) free on the disk of {key} "
                    f"({place}); see `dsaflow clean`"
                )
                subject = f"{key} below {limit:g}"
                found.append(Finding("disk_low", subject, message, limit=limit))
    return found


def used_fraction(config: "Config") -> float:
    """Used fraction of the results disk, of what is not reserved for root."""
    return psutil.disk_usage(str(disks(config)["paths.results"])).percent / 100.0


def high_water(config: "Config") -> Finding:
    """New work has stopped, since the results disk is above ``clean.high_water``."""
    message = (
        f"{100 * used_fraction(config):.1f} % of the results disk is used, more than "
        f"clean.high_water = {config.clean.high_water:g}: no new run starts until there is room; "
        "see `dsaflow clean`"
    )
    return Finding("disk_low", "high-water mark", message)


def service_gone(record: Record, config: "Config") -> list[Finding]:
    """A service that was started and not stopped has vanished, or does not answer."""
    path = record.folder / SERVICE_FILE
    if not _limits(config, "service_unready"):
        return []
    try:
        service = json.loads(path.read_text())
    except FileNotFoundError:  # none was started, or it was stopped
        return []
    if service["pid"] == os.getpid():
        return []  # it reports itself
    # ticks since boot: a time of day would differ once the clock has been set
    if start_ticks(service["pid"]) != service["start"]:
        message = f"the service (process {service['pid']}) is gone: start it again"
        return [Finding("service_unready", f"process {service['pid']} gone", message)]
    problem = _ask_ready(f"{service['url']}/api/health/ready")
    if not problem:
        return []
    return [Finding("service_unready", "service", f"the service is not ready: {problem}")]


def _ask_ready(url: str) -> str:
    """Why the service is not ready; empty when it is."""
    try:
        with urllib.request.urlopen(url, timeout=_HEALTH_TIMEOUT_S):
            return ""
    except urllib.error.HTTPError as error:
        return error.read(500).decode(errors="replace") or str(error)
    except OSError as error:
        return f"{url}: {error}"


def _limits(config: "Config", name: str) -> list[float]:
    return sorted({rule.limit for rule in config.alerts.rules if rule.rule == name})


def silence_end_s(text: str) -> float:
    """Unix time of ``alerts.silence_until``; without a zone it is UTC."""
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
