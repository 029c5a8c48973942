"""Alerts: what to tell whom and when, from the record and the files. Nothing here ever harms a run."""

import fcntl
import logging
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from dsaflow.runs import conditions
from dsaflow.runs.channels import Delivery, deliver
from dsaflow.runs.conditions import Finding
from dsaflow.runs.events import Event
from dsaflow.runs.record import Record
from dsaflow.runs.states import State

if TYPE_CHECKING:
    from dsaflow.config import Config
    from dsaflow.config.service_sections import AlertRule

LOG = logging.getLogger(__name__)
_Item = TypeVar("_Item")

SENT, FAILED, DEDUPLICATED = "sent", "failed", "deduplicated"
SILENCED, DRY_RUN = "silenced", "dry-run"
# after every channel failed, the same alert is tried again this much later
_AGAIN_S = 600.0
# runs and mosaics that ended within this are looked at by `check`
_RECENT_S = 86400.0


def after_run(record: Record, config: "Config", run_id: str) -> list[Event]:
    """Tell what a run's end calls for: its failure, mosaics withheld, new candidates.

    Never raises: what goes wrong is logged, and recorded where the record can be written.
    """
    return _guarded(_after_run, record, config, run_id)


def check(record: Record, config: "Config") -> list[Event]:
    """Tell what the state of the site calls for; called every minute or so.

    Returns
    -------
    list of Event
        Alerts recorded now. Never raises.
    """
    return _guarded(_check, record, config)


def unready(
    record: Record, config: "Config", problems: list[str], who: str = "service"
) -> list[Event]:
    """Tell that the service (or the watcher) is not ready; `problems` say why. Never raises."""
    message = f"the {who} is not ready: {'; '.join(problems)}"
    return _guarded(_tell_all, record, config, [Finding("service_unready", who, message)])


def high_water(record: Record, config: "Config") -> list[Event]:
    """Tell that no new work starts, since the results disk is too full. Never raises."""
    return _guarded(_high_water, record, config)


def send_test(config: "Config") -> list[Delivery]:
    """Send a test message to every channel, also while alerts are silenced."""
    return deliver(
        config.alerts.channels, "dsaflow: test", "This is a test of the alert channels.", "info",
        config.alerts.timeout_s,
    )  # fmt: skip


def _guarded(work: Callable[..., list[_Item]], *arguments: Any) -> list[_Item]:
    try:
        return work(*arguments)
    except Exception:  # a run must never fail for an alert, nor one alert for another
        LOG.exception("alerts: %s", work.__name__)
        return []


def _after_run(record: Record, config: "Config", run_id: str) -> list[Event]:
    run = record.run(run_id)
    if run is None or run["state"] == State.CANCELED:
        return []
    since_s = run["started_s"] or run["created_s"]
    found = conditions.run_failed(run, _names(config))
    found += _guarded(conditions.withheld, config, since_s)
    found += _guarded(conditions.candidates, record, config, since_s)
    return _tell_all(record, config, [replace(finding, run_id=run_id) for finding in found])


def _check(record: Record, config: "Config") -> list[Event]:
    since_s = time.time() - _RECENT_S
    found = _guarded(_untold_failures, record, config, since_s)
    found += [f for f in _guarded(conditions.withheld, config, since_s) if not _known(record, f)]
    found += _guarded(conditions.candidates, record, config)
    found += _guarded(conditions.no_data, config)
    found += _guarded(conditions.disk_low, config)
    found += _guarded(conditions.service_gone, record, config)
    events = _tell_all(record, config, found)
    if conditions.used_fraction(config) > config.clean.high_water:
        events += high_water(record, config)
    return events


def _untold_failures(record: Record, config: "Config", since_s: float) -> list[Finding]:
    """Failures that nobody told of: a supervisor may have died before it could."""
    runs = record.select(
        "SELECT * FROM runs WHERE state IN ('EXECUTOR_ERROR', 'SYSTEM_ERROR') AND ended_s > ? "
        "AND NOT EXISTS (SELECT 1 FROM alerts WHERE subject = runs.run_id "
        "AND alerts.time_s >= runs.ended_s)",
        (since_s,),
    )
    names = _names(config)
    return [finding for run in runs for finding in conditions.run_failed(run, names)]


def _high_water(record: Record, config: "Config") -> list[Event]:
    from dsaflow.config.service_sections import AlertRule

    rules = _rules(config, "disk_low") or [AlertRule(rule="disk_low", severity="failure")]
    found = conditions.high_water(config)
    return _tell(record, config, rules[0], found) if found else []


def _rules(config: "Config", name: str) -> list["AlertRule"]:
    return [rule for rule in config.alerts.rules if rule.rule == name]


def _names(config: "Config") -> set[str]:
    return {rule.rule for rule in config.alerts.rules}


def _known(record: Record, finding: Finding) -> bool:
    """Whether an alert of this about the same state of things has been recorded."""
    return (
        record.one(
            "SELECT 1 FROM alerts WHERE rule = ? AND subject = ? AND time_s >= ?",
            (finding.rule, finding.subject, finding.since_s),
        )
        is not None
    )


def _tell_all(record: Record, config: "Config", found: list[Finding]) -> list[Event]:
    events = []
    for finding in found:
        # rules of one name differ in their limit: a finding belongs to the rule it was found with
        rules = [
            rule
            for rule in _rules(config, finding.rule)
            if finding.limit is None or finding.limit == rule.limit
        ]
        if rules:
            events += _tell(record, config, rules[0], finding)
    return events


def _tell(record: Record, config: "Config", rule: "AlertRule", finding: Finding) -> list[Event]:
    """Send one alert, unless it has been told; record what became of it."""
    with _one_at_a_time(record, config.alerts.timeout_s):
        now_s = time.time()
        earlier = record.select(
            "SELECT state, time_s FROM alerts WHERE rule = ? AND subject = ? AND time_s > ? "
            "ORDER BY time_s DESC",
            (finding.rule, finding.subject, now_s - 3600.0 * rule.repeat_hours),
        )
        state, errors = _outcome(config, rule, finding, earlier, now_s)
        if not state:
            return []
        event = record.emit(
            "alert", finding.run_id, alert_id=uuid.uuid4().hex[:16], rule=finding.rule,
            subject=finding.subject, severity=rule.severity, message=finding.message, state=state,
            error=errors,
        )  # fmt: skip
    LOG.info("alert %s %s %s: %s", state, finding.rule, finding.subject, finding.message)
    return [event]


def _outcome(
    config: "Config", rule: "AlertRule", finding: Finding, earlier: list[dict], now_s: float
) -> tuple[str, str]:
    """State of an alert and the channels' errors, after sending it if it is to be sent.

    An empty state means that nothing new is to be recorded: what lasts is looked at every minute.
    """
    options = config.alerts
    last: dict[str, Any] = earlier[0] if earlier else {"state": "", "time_s": 0.0}
    if any(row["state"] in (SENT, DRY_RUN) for row in earlier):
        return ("" if last["state"] == DEDUPLICATED else DEDUPLICATED), ""
    if options.silence_until and now_s < conditions.silence_end_s(options.silence_until):
        return ("" if last["state"] == SILENCED else SILENCED), ""
    if options.dry_run or not options.channels:
        return DRY_RUN, "" if options.dry_run else "alerts.channels is empty"
    if last["state"] == FAILED and now_s - last["time_s"] < _AGAIN_S:
        return "", ""
    title = f"dsaflow {rule.severity}: {finding.rule} {finding.subject}"
    deliveries = deliver(options.channels, title, finding.message, rule.severity, options.timeout_s)
    errors = "; ".join(f"{d.channel}: {d.error}" for d in deliveries if d.error)
    reached = any(not d.error for d in deliveries)
    return (SENT if reached else FAILED), errors


@contextmanager
def _one_at_a_time(record: Record, wait_s: float) -> Iterator[None]:
    """Keep two processes from sending the same alert; whoever waits too long goes on without."""
    record.folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(record.folder / "alerts.lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        deadline = time.monotonic() + wait_s + 1.0
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    break
                time.sleep(0.05)
        yield
    finally:
        os.close(descriptor)
