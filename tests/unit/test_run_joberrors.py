"""Why a job failed: from its log, and from what Snakemake or SLURM says."""

import logging
import os
import subprocess
import sys

import pytest

from dsaflow.runs.handler import keep_logs
from dsaflow.runs.joberrors import exception_line, job_error, logged_error

CHAINED = """2026-01-20 05:17:23,001 INFO dsaflow: reading
Traceback (most recent call last):
  File "a.py", line 1, in <module>
    first()
KeyError: 'tile'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "a.py", line 3, in <module>
    second()
dsaflow.errors.EnvironmentProblem: no plan at plan.json: is paths.results
on a shared disk?
"""
KILLED = "RuleException:\nCalledProcessError in file Snakefile:\nCommand 'x' died with <Signals.SIGKILL: 9>."
EXITED = "RuleException:\nCalledProcessError in file Snakefile:\nCommand 'x' returned non-zero exit status 1."
MEMORY = (
    "SLURM-job '17' failed, SLURM status is: 'OUT_OF_MEMORY'. Detailed failure reason unavailable."
)


def test_the_last_traceback_names_the_exception():
    line = "dsaflow.errors.EnvironmentProblem: no plan at plan.json: is paths.results"
    assert exception_line(CHAINED) == line
    assert exception_line("Traceback (most recent call last):\n  File\nConfigError:\nno key\n") == (
        "ConfigError: no key"
    )
    assert exception_line("all went well\n") == ""
    assert exception_line("Traceback (most recent call last):\n  File") == ""


def test_the_last_error_of_a_log_without_traceback():
    text = (
        "2026-01-20 05:17:23,001 ERROR dsaflow: one\n2026-01-20 05:17:24,001 ERROR x.y: two\nend\n"
    )
    assert logged_error(text) == "two"
    assert logged_error("2026-01-20 05:17:23,001 INFO dsaflow: fine\n") == ""


@pytest.mark.parametrize(
    ("log", "said", "innocent", "message"),
    [
        (CHAINED, EXITED, False, exception_line(CHAINED)),
        (CHAINED, MEMORY, False, f"{exception_line(CHAINED)} (SLURM status is: 'OUT_OF_MEMORY')"),
        ("half way\n", KILLED, False, "died with <Signals.SIGKILL: 9>"),
        ("half way\n", MEMORY, False, "SLURM status is: 'OUT_OF_MEMORY'"),
        ("cat: x: No such file or directory\n", EXITED, False, "cat: x: No such file or directory"),
        (None, EXITED, False, "Command 'x' returned non-zero exit status 1."),
        ("half way\n", "", True, ""),
        (CHAINED, "", True, exception_line(CHAINED)),
    ],
)
def test_message_of_a_failed_job(tmp_path, log, said, innocent, message):
    path = tmp_path / "rule.log"
    if log is not None:
        path.write_text(log)
    found, tail = job_error([str(path)], said, 0.0, innocent=innocent)
    assert found == message
    assert tail == (log or "")


def test_a_job_that_was_killed_on_a_node_says_so(tmp_path):
    own, batch = tmp_path / "rule.log", tmp_path / "slurm.log"
    own.write_text("half way\n")
    batch.write_text(f"Select jobs to execute...\n{KILLED}\n")
    said = MEMORY.replace("OUT_OF_MEMORY", "FAILED")
    message, tail = job_error([str(own), str(batch)], said, 0.0)
    assert message == "died with <Signals.SIGKILL: 9> SLURM status is: 'FAILED'"
    assert tail == "half way\n"


def test_the_log_of_an_earlier_execution_says_nothing_of_this_one(tmp_path):
    old, new = tmp_path / "old.log", tmp_path / "new.log"
    old.write_text(CHAINED)
    os.utime(old, (1000.0, 1000.0))
    new.write_text("Traceback (most recent call last):\n  File\nValueError: of the node\n")
    message, tail = job_error([str(old), str(new)], "", 2000.0)
    assert message == "ValueError: of the node"
    assert tail == new.read_text()


def test_an_uncaught_exception_is_in_the_rule_log(tmp_path):
    log = tmp_path / "rule.log"
    script = f"from dsaflow.stage import start_log; start_log({str(log)!r}); raise OSError(5, 'x')"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "OSError: [Errno 5] x" in done.stderr  # the terminal still shows it
    assert job_error([str(log)], "", 0.0)[0] == "OSError: [Errno 5] x"
    assert logging.getLevelName(50) in log.read_text()


def test_the_reason_is_kept_when_the_job_is_tried_again_at_once(tmp_path):
    log = tmp_path / "job.log"
    log.write_text("Traceback (most recent call last):\nOSError: [Errno 5] x\n")
    message = logging.makeLogRecord({"event": "job_error", "log": [str(log)]})
    assert keep_logs(message)
    log.unlink()  # as Snakemake does before the next execution
    assert job_error([str(log)], "", 0.0, kept=message.log_ends)[0] == "OSError: [Errno 5] x"
    log.write_text("Traceback (most recent call last):\nKeyError: 'next'\n")
    assert job_error([str(log)], "", 0.0, kept=message.log_ends)[0] == "OSError: [Errno 5] x"
    assert job_error([str(log)], "", 0.0)[0] == "KeyError: 'next'"
