"""The process that looks after one run: ``python -m dsaflow.runs.supervisor RUN_ID ...``.

It holds the lock of the working directory while the run is live, then starts the next queued run there,
and tells whom it concerns. It survives whoever started it.
"""

import argparse
import logging
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from dsaflow.config import Config, load_config
from dsaflow.errors import ConfigError
from dsaflow.runs.locks import WorkdirLock
from dsaflow.runs.processes import Identity
from dsaflow.runs.record import Record, Row
from dsaflow.runs.spawn import config_file
from dsaflow.runs.states import LIVE, State
from dsaflow.runs.supervision import Supervisor

LOG = logging.getLogger("dsaflow.supervisor")
LOCK_POLL_S = 1.0


def configuration(row: Row) -> tuple[Config, str]:
    """Configuration of a run, and what is wrong with it (then it is the default one)."""
    try:
        return load_config(config_file(row)), ""
    except (ConfigError, OSError) as error:
        return Config(), f"the configuration stored with the run cannot be used: {error}"


def lock_workdir(record: Record, row: Row) -> WorkdirLock | None:
    """Lock of the run's directory; None where the run has another supervisor, or has ended."""
    lock = WorkdirLock(row["workdir"])
    me = Identity.of(os.getpid())
    assert me is not None
    owner = {"run_id": row["run_id"], "pid": me.pid, "start": me.start, "host": me.host}
    while not lock.acquire(owner):
        # a run of another record may have the directory
        holder = lock.holder()
        state = State((record.run(row["run_id"]) or row)["state"])
        if (holder is not None and holder.get("run_id") == row["run_id"]) or state not in LIVE:
            return None
        if state is State.CANCELING and not row["attempt"]:
            record.transition(row["run_id"], State.CANCELED)
            return None
        time.sleep(LOCK_POLL_S)
    return lock


def supervise(record: Record, run_id: str, resume: bool) -> None:
    """Look after a run until it has ended, then start the next one in its directory."""
    row = record.run(run_id)
    if row is None or row["state"] not in LIVE:
        return
    lock = lock_workdir(record, row)
    if lock is None:
        return
    config, problem = configuration(row)
    try:
        supervisor = Supervisor(record, config, run_id, resume and not problem, problem)
        if supervisor.state not in LIVE:  # another supervisor has ended it meanwhile
            return
        supervisor.run()
    except Exception as error:
        # the run stays live in the record, so that nobody starts beside what it left: the service,
        # or `dsaflow recover`, finds it without a supervisor
        LOG.exception("the supervisor of %s failed", run_id)
        message = f"its supervisor failed: {error!r} (see supervisor.log in {row['folder']})"
        record.emit("run.updated", run_id, error_message=message)
        raise
    finally:
        lock.release()
    _afterwards(lambda: _next(record, config, row))
    _afterwards(lambda: _tell(record, config, run_id))


def _next(record: Record, config: Config, row: Row) -> None:
    from dsaflow.runs.launch import dispatch

    dispatch(record, config, row["workdir"])


def _tell(record: Record, config: Config, run_id: str) -> None:
    from dsaflow.runs.alerts import after_run

    after_run(record, config, run_id)


def _afterwards(work: Callable[[], None]) -> None:
    try:
        work()
    except Exception:  # the run has ended well or badly: nothing after it changes that
        LOG.exception("after the run")


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run_id")
    parser.add_argument("--folder", type=Path, required=True, help="folder of the record")
    parser.add_argument("--database", type=Path, required=True, help="its SQLite file")
    parser.add_argument("--no-resume", action="store_true", help="only end what is left")
    given = parser.parse_args(arguments)
    # started from a shell's background, SIGINT would be ignored here and so in Snakemake
    signal.signal(signal.SIGINT, signal.default_int_handler)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    record = Record(given.folder, given.database)
    try:
        supervise(record, given.run_id, not given.no_resume)
    finally:
        record.close()


if __name__ == "__main__":
    main()
