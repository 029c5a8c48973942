"""Tasks beside the requests: dispatching queued runs, settling dead ones, alerts, the log index."""

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dsaflow.api.settings import Service

LOG = logging.getLogger("dsaflow.api")
DISPATCH_S = 1.0
SETTLE_S = 30.0
ALERTS_S = 60.0
INDEX_S = 60.0
FACTS_S = 30.0
SYNC_S = 300.0
# A task that has not ended a round for so long is taken as stuck.
STUCK_S = 120.0


@dataclass
class Task:
    """One periodic task: when it last succeeded, and what its last failure was."""

    name: str
    period_s: float
    last_success_s: float | None = None
    error: str = ""


@dataclass
class Background:
    """The periodic tasks of a service, and the slow facts that they keep at hand.

    Attributes
    ----------
    tasks : dict of Task
    facts : dict
        What `dsaflow.api.facts.gather` found last.
    """

    tasks: dict[str, Task] = field(default_factory=dict)
    facts: dict[str, float | None] = field(default_factory=dict)

    def problems(self) -> list[str]:
        """One sentence for each task that fails or is stuck."""
        now = time.time()
        found = []
        for task in self.tasks.values():
            if task.error:
                found.append(f"{task.name} fails: {task.error}")
            elif task.last_success_s is not None:
                silent_s = now - task.last_success_s
                if silent_s > task.period_s + STUCK_S:
                    found.append(f"{task.name} has not ended for {silent_s:.0f} s")
        return found


async def once(task: Task, work: Callable[[], object], pool: Executor) -> None:
    """Call `work` in a thread; a failure is kept, and logged when it is a new one."""
    try:
        await asyncio.get_running_loop().run_in_executor(pool, work)
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        if text != task.error:
            LOG.exception("background task %s", task.name)
        task.error = text
    else:
        task.error, task.last_success_s = "", time.time()


async def repeat(task: Task, work: Callable[[], object], pool: Executor) -> None:
    """Call `work` for ever, with the task's period between the end and the next start."""
    while True:
        await once(task, work, pool)
        await asyncio.sleep(task.period_s)


def jobs(service: "Service") -> list[tuple[str, float, Callable[[], object]]]:
    """Name, period [s] and work of each task."""
    from dsaflow.api.facts import gather
    from dsaflow.api.health import problems
    from dsaflow.runs import alerts, launch, recover, scan, search

    record, config, workdir = service.record, service.config, str(service.workdir)

    def facts() -> None:
        service.background.facts = gather(config)

    def readiness() -> None:
        if found := problems(service):
            alerts.unready(record, config, found)

    return [
        ("settle", SETTLE_S, lambda: recover.settle(record, config, workdir)),
        ("dispatch", DISPATCH_S, lambda: launch.dispatch(record, config, workdir)),
        ("sync", SYNC_S, lambda: scan.sync(record, config)),
        ("facts", FACTS_S, facts),
        ("alerts", ALERTS_S, lambda: alerts.check(record, config)),
        ("readiness", ALERTS_S, readiness),
        ("index", INDEX_S, lambda: search.index_logs(record, config)),
    ]


async def run_all(service: "Service", settled: asyncio.Event) -> None:
    """Settle what an earlier service left, then run every task until cancelled."""
    background = service.background
    planned = jobs(service)
    background.tasks = {name: Task(name, period_s) for name, period_s, _ in planned}
    # threads of their own: a slow task must not keep requests waiting, nor one another
    with ThreadPoolExecutor(len(planned), "dsaflow-background") as pool:
        # dead runs first: a dispatcher would take the working directory for occupied
        await once(background.tasks["settle"], planned[0][2], pool)
        settled.set()
        async with asyncio.TaskGroup() as group:
            for name, _, work in planned:
                group.create_task(repeat(background.tasks[name], work, pool))
