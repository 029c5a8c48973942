"""The lock on a working directory: flock, which the kernel drops when its holder dies, however it dies."""

import fcntl
import json
import os
import time
from pathlib import Path
from typing import Any

POLL_S = 0.05


class WorkdirLock:
    """The right to run Snakemake in a working directory, held by one supervisor.

    The file says who holds, or held, it. Children do not inherit it, so that it is free as soon as the
    supervisor is dead.

    Parameters
    ----------
    workdir : path
    """

    def __init__(self, workdir: str | os.PathLike) -> None:
        self.path = Path(workdir) / ".snakemake" / "dsaflow.lock"
        self._descriptor: int | None = None

    def acquire(self, owner: dict[str, Any], wait_s: float = 1.0) -> bool:
        """Take it and write `owner` into it; False if another has it for longer than `wait_s` [s]."""
        deadline = time.monotonic() + wait_s
        while not self._try():
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_S)
        content = json.dumps(owner).encode()
        os.ftruncate(self._descriptor, 0)  # type: ignore[arg-type]
        os.pwrite(self._descriptor, content, 0)  # type: ignore[arg-type]
        return True

    def _try(self) -> bool:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # somebody may have removed the file between opening and locking it
            if os.path.samestat(os.fstat(descriptor), os.stat(self.path)):
                self._descriptor = descriptor
                return True
        except OSError:
            pass
        os.close(descriptor)
        return False

    def release(self) -> None:
        """Give it back."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def holder(self) -> dict[str, Any] | None:
        """What the present holder wrote into it; None if nobody has it."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return None
        except OSError:
            try:
                return json.loads(os.pread(descriptor, 65536, 0))
            except ValueError:  # held, and not yet written
                return {}
        finally:
            os.close(descriptor)
