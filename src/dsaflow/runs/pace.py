"""Snakemake's limit on job starts, lifted where nobody asked for it."""

from typing import Any

# `--max-jobs-per-timespan` without the option: jobs, seconds.
_DEFAULT = (100, 1)


def lift_rate_limit(workflow: Any) -> None:
    """Take Snakemake's default rate limit off; called by ``onstart``.

    As long as there is a limit, each round of the scheduler starts a timer that wakes it for another
    round a timespan later, which starts a timer (Snakemake 9.14 to 9.27, ``JobScheduler.schedule``).
    Every job that ends adds one such chain: after 400 jobs the scheduler runs 400 times a second, in as
    many threads, beside the jobs. A limit of the operator's own is kept.

    Parameters
    ----------
    workflow : snakemake.workflow.Workflow
        Whose scheduler is made; one without a limiter is left as it is.
    """
    scheduler = getattr(workflow, "scheduler", None)
    limiter = getattr(scheduler, "job_rate_limiter", None)
    if limiter is None:
        return
    if (getattr(limiter, "max_jobs", None), getattr(limiter, "timespan", None)) == _DEFAULT:
        scheduler.job_rate_limiter = None  # type: ignore[union-attr]
