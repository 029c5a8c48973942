"""One start of Snakemake: its own session, its part of the run's log, its exit code in a file."""

import os
import subprocess
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from dsaflow.runs.classify import TAIL_BYTES, read_tail

# Snakemake is its child in the foreground: signals to the session reach both, the shell outlives
# them (unlike an ignored signal, a trapped one is Snakemake's to handle) and writes the exit code, so
# that it is known even if nobody was there to wait for it.
_WRAPPER = """
trap : HUP INT TERM
exit_file=$1
shift
"$@"
code=$?
echo "$code" >"$exit_file.tmp" && mv "$exit_file.tmp" "$exit_file"
exit "$code"
"""


class Attempt:
    """A start of Snakemake for a run.

    Parameters
    ----------
    folder : Path
        Of the run.
    number : int
        From 1.
    """

    def __init__(self, folder: Path, number: int) -> None:
        self.number = number
        self.log = folder / "run.log"
        self.exit_file = folder / f"attempt-{number}.exit"
        self._title = f"== dsaflow: attempt {number}, "

    def start(
        self, command: list[str], workdir: Path, environment: dict[str, str]
    ) -> "subprocess.Popen[bytes]":
        """Start it; returns the shell that leads the session."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with open(self.log, "ab") as log:
            log.write(f"{self._title}{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}\n".encode())
            log.flush()
            return subprocess.Popen(
                ["/bin/sh", "-c", _WRAPPER, "dsaflow-attempt", str(self.exit_file), *command],
                cwd=workdir,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def exit_code(self) -> int | None:
        """Exit code that the shell wrote; None where it wrote none."""
        try:
            return int(self.exit_file.read_text())
        except (OSError, ValueError):
            return None

    def output(self) -> str:
        """What this start wrote to the log (of a long log its end)."""
        return read_tail(self.log, limit=4 * TAIL_BYTES).rpartition(self._title)[2][-TAIL_BYTES:]

    def say(self, text: str) -> None:
        """Add a line to the run's log, if its disk takes one: what happens does not depend on it."""
        with suppress(OSError), open(self.log, "a") as log:
            log.write(f"== dsaflow: {text}\n")
