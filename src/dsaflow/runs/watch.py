"""`dsaflow watch`: look for new data, and start a run of what is due when nothing else is to be run.

The watcher keeps nothing: what is made lies in the files, what was tried in the record. It may be killed
and started again at any moment; the run that is live goes on without it.
"""

import fcntl
import logging
import math
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dsaflow.errors import DsaflowError
from dsaflow.fileio import digest
from dsaflow.runs import alerts, clean, launch, recover
from dsaflow.runs.command import code_version
from dsaflow.runs.due import Look, Target, choose
from dsaflow.runs.record import Record, Row
from dsaflow.runs.states import FINISHED, ErrorClass, State

if TYPE_CHECKING:
    from dsaflow.config import Config
    from dsaflow.planning import Plan

LOG = logging.getLogger(__name__)

# an unchanged folder is planned again after this, since files may grow in place
_PLAN_S = 600.0
_SETTLE_S = 30.0
_ALERTS_S = 60.0
# after so many looks that failed in a row somebody is told
_FAILED_LOOKS = 3
_LIGHT_CURVES = ("measure_variability", "draw_light_curves")


class AlreadyWatching(DsaflowError):
    """Another watcher has this record."""


class Watcher:
    """Looks at the incoming folder and starts what is due.

    Parameters
    ----------
    record : Record
    config : Config
    profile : str
        Snakemake profile of its runs.
    configfiles : sequence of str
    workdir : path
        Folder of the Snakefile.
    """

    def __init__(
        self,
        record: Record,
        config: "Config",
        profile: str,
        configfiles: list[str] | None = None,
        workdir: str | os.PathLike = ".",
    ) -> None:
        self.record, self.config, self.profile = record, config, profile
        self.configfiles = configfiles or []
        self.workdir = Path(workdir).resolve()
        # what failed for good is tried again with another configuration or other code
        self.version = digest([config.model_dump(mode="json"), code_version(self.workdir)])
        self._plan: Plan | None = None
        self._plan_key: tuple = ()
        self._planned_s = self._settled_s = self._alerted_s = -math.inf

    def run(self, stop: threading.Event) -> None:
        """Look again and again until `stop` is set; a look that fails is logged and told, not more.

        Raises
        ------
        AlreadyWatching
        """
        failed = 0
        if self.config.plan.settle_s == 0:
            LOG.warning(
                "plan.settle_s is 0: mosaics are made before their last tiles have arrived, and again"
            )
        with self._alone():
            while not stop.is_set():
                try:
                    self.look()
                    failed = 0
                except Exception as error:  # the next look may succeed: a watcher goes on
                    LOG.exception("this look failed")
                    failed += 1
                    if failed >= _FAILED_LOOKS:
                        problem = f"{failed} looks failed in a row, the last with {error}"
                        alerts.unready(self.record, self.config, [problem], who="watcher")
                stop.wait(self.config.watch.interval_s)

    def look(self) -> str | None:
        """One look; returns the id of the run that was started, if any."""
        now_s = time.monotonic()
        if now_s - self._settled_s >= _SETTLE_S:
            recover.settle(self.record, self.config, self.workdir)
            self._settled_s = now_s
        if now_s - self._alerted_s >= _ALERTS_S:
            alerts.check(self.record, self.config)
            self._alerted_s = now_s
        if self.record.live_run(self.workdir) is not None:
            return None
        if any(run["workdir"] == str(self.workdir) for run in self.record.queued()):
            return launch.dispatch(self.record, self.config, self.workdir)
        if clean.above_high_water(self.config):
            alerts.high_water(self.record, self.config)
            return None
        return self._start()

    def due(self) -> tuple[list[Target], tuple[str, ...]]:
        """Targets of the next run, and the rules to which it is restricted (none: all)."""
        look = Look(self.config, self.plan())
        found = self._untried([*look.mosaics(), *look.tiles()])
        if found:
            return choose(found, self.config.watch.max_tiles), ()
        # light curves last: they would hold up the tiles that arrive
        if self.config.watch.photometry:
            return self._untried(list(look.variability())), _LIGHT_CURVES
        return [], ()

    def _start(self) -> str | None:
        targets, rules = self.due()
        if not targets:
            return None
        group_ids = [target.group_id for target in targets if target.group_id]
        run_id = launch.submit(
            self.record,
            self.config,
            kind="watch",
            targets=[path for target in targets for path in target.paths],
            profile=self.profile,
            configfiles=self.configfiles,
            workdir=self.workdir,
            group_ids=group_ids,
            options={"version": self.version, "tiles": sum(t.cost for t in targets)},
            priority=0,
            rules=rules,
            force=True,
        )
        LOG.info(
            "run %s: %d tiles to image, mosaics: %s", run_id, sum(t.cost for t in targets),
            " ".join(group_ids) or "none",
        )  # fmt: skip
        launch.dispatch(self.record, self.config, self.workdir)
        return run_id

    def plan(self) -> "Plan":
        """Plan of now; the last one where nothing can have changed it."""
        from dsaflow.planning import make_plan

        key = tuple(_mtime_ns(path) for path in self._plan_inputs())
        changing = self._plan is None or (
            self._plan.more_after_mjd != math.inf
            or any(tile.status == "waiting" for tile in self._plan.tiles)
        )
        old = time.monotonic() - self._planned_s > _PLAN_S
        if self._plan is None or changing or old or key != self._plan_key:
            self._plan, self._plan_key = make_plan(self.config), key
            self._planned_s = time.monotonic()
        return self._plan

    def _plan_inputs(self) -> list[str]:
        from dsaflow.names import product

        paths = self.config.paths
        return [paths.incoming, paths.calibrators, product("requests", paths.results)]

    def _untried(self, targets: list[Target]) -> list[Target]:
        """Targets that no run has tried with the inputs of now."""
        if not targets:
            return []
        marks = ", ".join("?" for _ in FINISHED)
        runs = self.record.select(
            f"SELECT * FROM runs WHERE state IN ({marks}) AND ended_s > ? ORDER BY created_s",
            (*sorted(FINISHED), min(target.input_s for target in targets)),
        )
        last = {path: run for run in runs for path in run["targets"] if self._counts(run)}

        def tried(path: str, target: Target) -> bool:
            # products may be the run's own, raw files that came after its plan it has not seen
            return path in last and (
                last[path]["ended_s"] > target.input_s and last[path]["created_s"] > target.raw_s
            )

        return [t for t in targets if not all(tried(path, t) for path in t.paths)]

    def _counts(self, run: Row) -> bool:
        """Whether a finished run says that trying again is useless."""
        if run["options"].get("version", self.version) != self.version:
            return False
        if run["state"] == State.COMPLETE or run["state"] == State.CANCELED:
            return True
        if run["error_class"] != ErrorClass.TRANSIENT:
            return True
        return time.time() < (run["ended_s"] or 0.0) + self.config.runs.backoff_cap_s

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the watcher's lock, which says who has it.

        Raises
        ------
        AlreadyWatching
        """
        self.record.folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(watch_lock(self.record), os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise AlreadyWatching(
                    f"process {os.pread(descriptor, 100, 0).decode()} watches already for "
                    f"{self.record.folder}"
                ) from None
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
            yield
        finally:
            os.close(descriptor)


def watch_lock(record: Record) -> Path:
    """File that a living watcher has locked."""
    return record.folder / "watch.lock"


def _mtime_ns(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except FileNotFoundError:
        return 0
