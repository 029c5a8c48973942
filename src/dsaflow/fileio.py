"""Atomic writing: no half-written product is ever visible (write beside, fsync, rename)."""

import fcntl
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from dsaflow.errors import EnvironmentProblem


def attempt_name(path: Path) -> Path:
    """Name beside `path`, unique to this attempt, under which to build the product.

    The suffixes are kept (``x.fits`` -> ``x.tmp-<id>.fits``): some writers choose a format by them.
    """
    return path.with_name(f"{path.stem}.tmp-{uuid.uuid4().hex[:12]}{path.suffix}")


def fsync_path(path: Path) -> None:
    """Flush one file or directory to disk."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def atomic_file(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary name beside `path`; on success fsync and rename it into place.

    On an exception the temporary file is removed and `path` is left as it was.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = attempt_name(target)
    try:
        yield temporary
        fsync_path(temporary)
        os.replace(temporary, target)
        fsync_path(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_directory(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary directory name beside `path`; on success it replaces `path`.

    The old target is removed first: rename cannot replace a full directory. A directory product is
    therefore only valid together with its manifest file, which is written last.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = attempt_name(target)
    try:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                fsync_path(file)
        if target.exists():
            shutil.rmtree(target)
        os.replace(temporary, target)
        fsync_path(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def exclusive(path: str | os.PathLike) -> Iterator[None]:
    """Hold an exclusive lock on a file (made where absent), between threads and processes alike."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def to_plain(value: Any) -> Any:
    """Convert numpy scalars and arrays, paths, and NaN (to None) for strict JSON."""
    if isinstance(value, dict):
        return {str(k): to_plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [to_plain(v) for v in value]
    if isinstance(value, np.ndarray):
        return to_plain(value.tolist())
    if isinstance(value, np.generic):
        return to_plain(value.item())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    if isinstance(value, Path):
        return str(value)
    return value


def write_json(path: str | os.PathLike, content: Any) -> None:
    """Write strict JSON (NaN as null), indented, atomically."""
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(to_plain(content), indent=1, allow_nan=False) + "\n")


class DamagedFile(EnvironmentProblem, ValueError):
    """A file holds something else than what was written."""


def read_json(path: str | os.PathLike) -> Any:
    """Read a JSON file.

    Raises
    ------
    DamagedFile
        It holds no JSON (all of ours are written atomically: the disk, or a person, did that).
    """
    try:
        return json.loads(Path(path).read_text())
    except ValueError as error:
        raise DamagedFile(f"{path} is damaged, it holds no JSON: {error}") from error


def sha256(path: str | os.PathLike) -> str:
    """SHA-256 of one file, as 64 hexadecimal digits."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest(content: Any, length: int = 8) -> str:
    """Short stable hash of a JSON-serialisable value (for configuration hashes and group ids)."""
    text = json.dumps(to_plain(content), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:length]
