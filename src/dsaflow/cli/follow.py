"""Watching a run from the command line: a progress bar on a terminal, else a line a stage."""

import time
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from dsaflow.cli.common import console
from dsaflow.runs.states import State
from dsaflow.runs.times import unix_text

if TYPE_CHECKING:
    from dsaflow.config import Config
    from dsaflow.runs.record import Record, Row


def duration(seconds: float | None) -> str:
    """Seconds as a person says them; empty for None."""
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def describe(run: "Row", progress: dict[str, Any], waits_for: str = "") -> str:
    """One line on where a run stands, without its counts."""
    state = State(run["state"])
    if state is State.QUEUED:
        return f"queued: {waits_for}" if waits_for else "queued"
    if state is State.PAUSED:
        reason = (run["error_message"] or "").splitlines()[:1]
        again = unix_text(run["next_retry_s"]) or "soon"
        return f"tried {run['attempt']} times, next at {again}: {''.join(reason)}"
    if state is State.RUNNING and progress.get("stage"):
        return str(progress["stage"])
    return state.lower()


def why_queued(record: "Record", config: "Config", run: "Row") -> str:
    """Why a run that is queued does not start; empty where it is about to, or runs."""
    from dsaflow.runs.clean import above_high_water

    if run["state"] != State.QUEUED:
        return ""
    live = record.live_run(run["workdir"])
    if live is not None:
        return f"behind run {live['run_id']} ({live['state']})"
    if above_high_water(config):
        return "the results disk is fuller than clean.high_water (see `dsaflow clean`)"
    return ""


class Follower:
    """Shows how a run gets on; call `update` at each look at it.

    Parameters
    ----------
    record : Record
    config : Config
    group_id : str
        The mosaic whose jobs count; empty: all of the run's.
    """

    def __init__(self, record: "Record", config: "Config", group_id: str = "") -> None:
        self.record = record
        self.config = config
        self.group_id = group_id
        self.console = console()
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._said = ""
        self._began_s = time.monotonic()

    def __enter__(self) -> "Follower":
        if self.console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
                TimeElapsedColumn(), TextColumn("{task.fields[left]}"), console=self.console,
            )  # fmt: skip
            self._task = self._bar.add_task("", total=None, left="")
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, run: "Row") -> None:
        """Show the run's present state."""
        from dsaflow.runs.progress import group_progress, run_progress

        if self.group_id:
            progress = group_progress(self.record, self.group_id)
        else:
            progress = run_progress(self.record, run["run_id"])
        text = describe(run, progress, why_queued(self.record, self.config, run))
        done, total = progress.get("done") or 0, progress.get("total") or None
        if self._bar is not None and self._task is not None:
            expected_s = progress.get("expected_s")
            left = f"about {duration(expected_s)} in all" if expected_s else ""
            self._bar.update(self._task, description=text, completed=done, total=total, left=left)
        elif text != self._said:
            # a log or a mail: a line where something has changed, not one a look
            count = f" ({done} of {total} jobs done)" if total else ""
            spent = duration(time.monotonic() - self._began_s)
            self.console.print(f"{spent:>12}  {text}{count}", highlight=False, soft_wrap=True)
            self._said = text
