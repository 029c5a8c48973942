"""Transient or permanent, and the sentence that says why: from what Snakemake and rules really write."""

import pytest

from dsaflow.runs.classify import classify, classify_text, failed_parts, last_error
from dsaflow.runs.states import ErrorClass

T, P = ErrorClass.TRANSIENT, ErrorClass.PERMANENT

# Output of Snakemake 9.27.1, shortened: two jobs at once, so that their lines mix.
TWO_FAILED = """\
[Tue Nov 24 05:59:16 2026]
localrule sh1:
    output: a
    log: logs/sh1.log
    jobid: 1
    resources: tmpdir=TMP
[Tue Nov 24 05:59:16 2026]
localrule scr:
    output: c
    jobid: 3
cp: cannot stat 'x': No such file or directory
RuleException:
CalledProcessError in file "Snakefile", line 6:
Command 'set -euo pipefail;  cp x y' returned non-zero exit status 1.
[Tue Nov 24 05:59:16 2026]
Error in rule sh1:
    message: None
    jobid: 1
    output: a
    log: logs/sh1.log (check log file(s) for error details)
    shell:
        cp x y
        (command exited with non-zero exit code)
Logfile logs/sh1.log not found.
Select jobs to execute...
Traceback (most recent call last):
  File "tmp5byu5re5.scr.py", line 4, in <module>
    write()
OSError: [Errno 28] No space left on device: 'x'
RuleException:
CalledProcessError in file "Snakefile", line 14:
Command 'set -euo pipefail;  python tmp5byu5re5.scr.py' returned non-zero exit status 1.
[Tue Nov 24 05:59:16 2026]
Error in rule scr:
    message: None
    jobid: 3
    output: c
Exiting because a job execution failed. Look above for error messages
WorkflowError:
At least one job did not complete successfully.
"""

TEXTS = [
    ("OSError: [Errno 5] Input/output error: 'results/x.fits'", T),
    ("OSError: [Errno 116] Stale file handle", T),
    ("OSError: [Errno 28] No space left on device", T),
    ("OSError: [Errno 122] Disk quota exceeded", T),
    ("BlockingIOError: [Errno 11] Unable to lock file (unable to lock file, errno = 11)", T),
    ("sqlite3.OperationalError: database is locked", T),
    ("MemoryError", T),
    ("numpy._core._exceptions._ArrayMemoryError: Unable to allocate 9.3 GiB", T),
    ("Command 'python x.py' died with <Signals.SIGKILL: 9>.", T),
    ("slurmstepd: error: Detected 1 oom_kill event in StepId=12.batch", T),
    ("SLURM-job '12' failed, SLURM status is: 'OUT_OF_MEMORY'. ", T),
    ("SLURM-job '12' failed due to a node failure, SLURM status is: 'NODE_FAIL'", T),
    ("SLURM-job '12' failed, SLURM status is: 'TIMEOUT'. ", T),
    ("requests.exceptions.ReadTimeout: HTTPSConnectionPool: Read timed out.", T),
    ("Error: Directory cannot be locked. Please make sure that no other process", T),
    ("ValueError: operands could not be broadcast together", P),
    ("dsaflow.errors.ConfigError: image.sizee: unknown key; did you mean 'size'?", P),
    ("MissingInputException in rule all in file Snakefile, line 1:", P),
    ('SyntaxError in file "Snakefile", line 3:', P),
    ("FileNotFoundError: [Errno 2] No such file or directory: 'config/antennas.csv'", P),
    ("SLURM-job '12' failed, SLURM status is: 'FAILED'. \nKeyError: 'flux_jy'", P),
    # a segmentation fault comes again
    ("Command 'python x.py' died with <Signals.SIGSEGV: 11>.", None),
    ("all is well", None),
    # words that only look like a class of failure
    ("INFO flagged 137 rows, exit strategy, memory 12 MB", None),
]


@pytest.mark.parametrize(("text", "expected"), TEXTS, ids=[t[:40] for t, _ in TEXTS])
def test_class_of_what_a_log_says(text, expected):
    assert classify_text(f"12:00:01 INFO dsaflow: starting\n{text}\n") == expected


def test_a_missing_file_is_late_only_where_jobs_run_on_nodes():
    missing = "MissingOutputException in rule flag: This might be due to filesystem latency."
    assert classify_text(missing) == P
    assert classify_text(f"Job 3 has been submitted with SLURM jobid 7\n{missing}") == T


def test_each_failed_rule_gets_its_own_error():
    parts = dict(failed_parts(TWO_FAILED))
    assert last_error(parts["sh1"]) == "cp: cannot stat 'x': No such file or directory"
    assert last_error(parts["scr"]) == "OSError: [Errno 28] No space left on device: 'x'"


def test_a_run_is_transient_if_any_part_of_it_is():
    failure = classify(1, TWO_FAILED)
    assert failure.error_class is T
    assert failure.message == (
        "sh1: cp: cannot stat 'x': No such file or directory; "
        "scr: OSError: [Errno 28] No space left on device: 'x'"
    )
    permanent = TWO_FAILED.replace("OSError: [Errno 28] No space left on device", "KeyError")
    assert classify(1, permanent).error_class is P


def test_the_jobs_own_logs_count_where_snakemake_is_quiet():
    quiet = "Exiting because a job execution failed. Look above for error messages\n"
    assert classify(1, quiet).error_class is P
    failure = classify(
        1, quiet, [("flag 20260125T222605", "x\nOSError: [Errno 5] Input/output error")]
    )
    assert failure.error_class is T
    assert failure.message == "flag 20260125T222605: OSError: [Errno 5] Input/output error"


def test_configuration_errors_are_told_with_what_follows_them():
    log = (
        'Using profile x\nConfigError in file "rules/common.smk", line 8:\n'
        "image.sizee: unknown key; did you mean 'size'?\n  File \"rules/common.smk\", line 8\n"
    )
    failure = classify(1, log)
    assert failure.error_class is P
    assert failure.message.endswith("image.sizee: unknown key; did you mean 'size'?")


@pytest.mark.parametrize(("code", "word"), [(137, "SIGKILL"), (143, "SIGTERM"), (135, "SIGBUS")])
def test_signals_from_outside_are_transient(code, word):
    failure = classify(code, "ValueError: x")
    assert failure.error_class is T
    assert word in failure.message


def test_what_nobody_recognises_is_not_tried_again():
    assert classify(1, "").error_class is P
    assert classify(1, "").message == "Snakemake ended with exit code 1"
    assert classify(139, "").error_class is P
    assert classify(None, "").error_class is T
