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


def describe(run: "Row", progress: dict[str, Any]) -> str:
    """One line on where a run stands, without its counts."""
    state = State(run["state"])
    if state is State.QUEUED:
        return "queued: another run is live"
    if state is State.PAUSED:
        reason = (run["error_message"] or "").splitlines()[:1]
        again = unix_text(run["next_retry_s"]) or "soon"
        return f"tried {run['attempt']} times, next at {again}: {''.join(reason)}"
    if state is State.RUNNING and progress.get("stage"):
        return str(progress["stage"])
    return state.lower()


class Follower:
    """Shows how the run of a mosaic gets on; call `update` at each look at it.

    Parameters
    ----------
    record : Record
    group_id : str
    """

    def __init__(self, record: "Record", group_id: str) -> None:
        self.record = record
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
        from dsaflow.runs.progress import group_progress

        progress = group_progress(self.record, self.group_id)
        text = describe(run, progress)
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
