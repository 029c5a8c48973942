"""Why a run failed, and whether trying again can help.

Transient is what the machine did: disks, nodes, memory, signals from outside. Permanent is what will
be the same next time: configuration, code, missing rules and files. Two choices need a reason.
A full disk is transient: `dsaflow clean` or an operator frees it while the run waits, and a permanent
failure would block the run after the cause is gone. What nothing here recognises is permanent: a loop
of tries that nobody asked for costs more than one `dsaflow retry`.
"""

import re
import signal
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dsaflow.runs.states import ErrorClass

TAIL_BYTES = 200_000
MESSAGE_CHARS = 2000
MESSAGE_JOBS = 5
# Sent from outside: by a person, the kernel's memory killer, a batch system, a failing disk (SIGBUS).
_OUTSIDE = ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP", "SIGBUS", "SIGXCPU")
_OUTSIDE_CODES = {128 + signal.Signals[name] for name in _OUTSIDE}

_TRANSIENT = re.compile(
    "|".join(
        [
            rf"died with <Signals\.({'|'.join(_OUTSIDE)})",
            rf"(?:exit status|exit code|ExitCode)\W+({'|'.join(map(str, _OUTSIDE_CODES))})\b",
            # disks
            r"Input/output error",
            r"Stale (?:NFS )?file handle",
            r"No space left on device",
            r"Disk quota exceeded",
            r"Read-only file system",
            r"Transport endpoint is not connected",
            r"Remote I/O error",
            r"unable to lock file",
            r"database is locked",
            r"database table is locked",
            # memory and other limits of the machine
            r"Cannot allocate memory",
            r"^(?:numpy\S*|builtins\.)?\w*MemoryError\b",
            r"std::bad_alloc",
            r"[Oo]ut[ -][Oo]f[ -][Mm]emory",
            r"OUT_OF_MEMORY",
            r"oom[-_]kill",
            r"Too many open files",
            r"Resource temporarily unavailable",
            r"can't start new thread",
            # network
            r"Connection (?:reset|refused|aborted|timed out)",
            r"Temporary failure in name resolution",
            r"Network is unreachable",
            r"No route to host",
            r"(?:Read|Connect|Connection)Timeout\b",
            r"TimeoutError\b",
            # SLURM
            r"NODE_FAIL",
            r"BOOT_FAIL",
            r"PREEMPTED",
            r"DUE TO (?:TIME LIMIT|NODE FAILURE|PREEMPTION)",
            r"slurm_load_\w+ error",
            r"Unable to contact slurm controller",
            r"Socket timed out on send/recv",
            r"SLURM status is: '?(?:TIMEOUT|CANCELLED|DEADLINE|SUSPENDED|UNKNOWN)",
            # another Snakemake in the directory, for as long as it is there
            r"Directory cannot be locked",
        ]
    ),
    re.MULTILINE,
)
# With jobs on nodes, a file that is not seen may only be late.
_LATE = re.compile(r"MissingOutputException|might be due to filesystem latency")
_REMOTE = re.compile(r"submitted with SLURM jobid")

_EXCEPTION = re.compile(r"^(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Rejected|Problem)\b.*$")
# Snakemake's own lines around a failure say that there was one, not which.
_UNTOLD = re.compile(
    r"^(?:RuleException:?|WorkflowError:?|CalledProcessError in file .*|"
    r"Exiting because .*|Complete log.*|At least one job did not .*|Elapsed time:.*|"
    r"Shutting down, .*|Removing output files of .*|=*|Logfile .*|Select jobs .*|Execute \d+ jobs.*|"
    r"(?:local)?(?:rule|checkpoint) \w+:|Error in (?:rule|group) .*|\[.*\d{4}\]|Finished jobid.*|"
    r"\d+ of \d+ steps .*|\(command exited with non-zero exit code\)|Waiting at most .*|"
    r"(?:input|output|log|jobid|reason|resources|wildcards|threads|benchmark|priority|group|message|"
    r"shell|jobs|conda-env|Shell command): ?.*)$"
)
_COMMAND = re.compile(r"^Command '.*' returned non-zero exit status \d+\.?$")
_FAILED = re.compile(r"^Error in (?:rule|group) ([\w.-]+)", re.MULTILINE)
_FAILED_ENDS = re.compile(r"^(?:\[|Select jobs|Exiting because|Shutting down)", re.MULTILINE)
# What a job wrote itself, and Snakemake's exception, stand this close before the error.
_LINES_BEFORE = 40


@dataclass(frozen=True)
class Failure:
    """What a run failed of.

    Attributes
    ----------
    error_class : ErrorClass
    message : str
        For a person: the rules that failed and the error that each gave.
    """

    error_class: ErrorClass
    message: str


def classify_text(text: str) -> ErrorClass | None:
    """Class of the failure that a log tells of; None if it tells of nothing that is known."""
    if _TRANSIENT.search(text) or (_LATE.search(text) and _REMOTE.search(text)):
        return ErrorClass.TRANSIENT
    if _LATE.search(text) or any(_EXCEPTION.match(line) for line in text.splitlines()):
        return ErrorClass.PERMANENT
    return None


def last_error(text: str) -> str:
    """Return the line of a log that says best what went wrong, or an empty string."""
    told = [line for line in map(str.strip, text.splitlines()) if not _UNTOLD.match(line)]
    for wanted in (_TRANSIENT.search, _EXCEPTION.match):
        for number in reversed(range(len(told))):
            if wanted(told[number]):
                # "ConfigError in file ..., line 8:" is followed by the error itself
                more = told[number + 1 : number + 3] if told[number].endswith(":") else []
                more = [line for line in more if not line.startswith('File "')]
                return " ".join([told[number], *more])[:MESSAGE_CHARS]
    plain = [line for line in told if not _COMMAND.match(line)] or told
    return plain[-1][:MESSAGE_CHARS] if plain else ""


def read_tail(path: Path, start: int = 0, limit: int = TAIL_BYTES) -> str:
    """Last `limit` bytes of a file from byte `start` on; empty if there is no such file."""
    try:
        with open(path, "rb") as stream:
            size = stream.seek(0, 2)
            stream.seek(max(start, size - limit))
            return stream.read().decode(errors="replace")
    except OSError:
        return ""


def failed_parts(log: str) -> list[tuple[str, str]]:
    """Rule (or group) of each failed job in Snakemake's output, and the text around its error."""
    parts = []
    done = 0
    for match in _FAILED.finditer(log):
        before = log[done : match.start()].splitlines()[-_LINES_BEFORE:]
        after = log[match.start() :]
        stop = _FAILED_ENDS.search(after)
        after = after[: stop.start()] if stop else after
        done = match.start() + len(after)
        parts.append((match[1], "\n".join([after, *before])))
    return parts


def classify(exit_code: int | None, log: str, jobs: Iterable[tuple[str, str]] = ()) -> Failure:
    """Class and message of a failed start of Snakemake.

    Parameters
    ----------
    exit_code : int or None
        Of Snakemake (128 + n if it was ended by signal n); None: it vanished without one.
    log : str
        What this start wrote.
    jobs : iterable of (str, str)
        Rule (and item) of each job that failed, and what is known of its error.

    Returns
    -------
    Failure
        Transient if any part of it is: what is permanent fails again and is then alone.
    """
    if exit_code is None:
        return Failure(
            ErrorClass.TRANSIENT,
            "Snakemake vanished without an exit code: killed, or the machine went down",
        )
    if exit_code in _OUTSIDE_CODES:
        name = signal.Signals(exit_code - 128).name
        reason = " (out of memory, or by hand)" if name == "SIGKILL" else ""
        return Failure(ErrorClass.TRANSIENT, f"Snakemake was ended by {name}{reason}")
    texts = dict(jobs)
    for rule, text in failed_parts(log):
        # the job's own output may be in Snakemake's log only
        names = [name for name in texts if name.split()[0] == rule] or [rule]
        texts |= {name: f"{text}\n{texts.get(name, '')}" for name in names}
    classes = [classify_text(text) or classify_text(log) for text in texts.values()]
    transient = ErrorClass.TRANSIENT in (classes or [classify_text(log)])
    chosen = ErrorClass.TRANSIENT if transient else ErrorClass.PERMANENT
    return Failure(chosen, _message(exit_code, log, texts))


def _message(exit_code: int, log: str, texts: dict[str, str]) -> str:
    told = list(
        dict.fromkeys(f"{name}: {last_error(text) or 'no message'}" for name, text in texts.items())
    )
    if len(told) > MESSAGE_JOBS:
        told = [*told[:MESSAGE_JOBS], f"and {len(told) - MESSAGE_JOBS} more"]
    message = "; ".join(told) or last_error(log)
    return message[:MESSAGE_CHARS] or f"Snakemake ended with exit code {exit_code}"
