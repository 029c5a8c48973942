"""The SQLite file of the run record: opening it, its numbered migrations, where it may lie."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

import psutil

from dsaflow.errors import EnvironmentProblem

BUSY_TIMEOUT_S = 30.0
# Shared memory of WAL does not work across machines; these say that a disk is another's.
NETWORK_FILE_SYSTEMS = frozenset(
    [
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "lustre",
        "gpfs",
        "beegfs",
        "ceph",
        "glusterfs",
        "afs",
        "fuse.sshfs",
        "fuse.glusterfs",
        "fuse.ceph",
        "9p",
        "pvfs2",
        "orangefs",
        "panfs",
        "wekafs",
    ]
)


def file_system(path: Path) -> str:
    """Type of the file system that holds `path` (which need not exist yet), or an empty string."""
    place = path.resolve()
    mounts = {Path(p.mountpoint): p.fstype for p in psutil.disk_partitions(all=True)}
    for folder in (place, *place.parents):
        if folder in mounts:
            return mounts[folder]
    return ""


def refuse_network(path: Path, kind: str | None = None) -> None:
    """Refuse a network file system.

    Parameters
    ----------
    path : Path
        Of the SQLite file.
    kind : str, optional
        Type of its file system; default: looked up.

    Raises
    ------
    EnvironmentProblem
        The record would lie on a disk that other machines share.
    """
    kind = file_system(path) if kind is None else kind
    if kind in NETWORK_FILE_SYSTEMS:
        raise EnvironmentProblem(
            f"the run record {path} lies on {kind}, a network file system, where SQLite's "
            "write-ahead log corrupts: set runs.database to a path on a disk of this machine"
        )


class _Connection(sqlite3.Connection):
    """Closes itself when its thread has ended."""

    def __del__(self) -> None:
        self.close()


def connect(path: str | os.PathLike) -> sqlite3.Connection:
    """Open (or create) the record, bring it to the newest schema.

    Raises
    ------
    EnvironmentProblem
        On a network file system, or written by a newer dsaflow.
    """
    file = Path(path)
    refuse_network(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(
        file,
        timeout=BUSY_TIMEOUT_S,
        isolation_level=None,
        check_same_thread=False,
        factory=_Connection,
    )
    connection.row_factory = sqlite3.Row
    try:
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = NORMAL")
        # asked first: the switch needs the file for itself and does not wait for it
        if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            connection.execute("PRAGMA journal_mode = WAL")
        migrate(connection, file)
    except BaseException as error:
        connection.close()
        if type(error) is sqlite3.DatabaseError:
            raise EnvironmentProblem(
                f"{file} is no readable run record ({error}): delete it, and it is made anew "
                "from the events"
            ) from error
        raise
    return connection


def remove(path: Path) -> None:
    """Remove the record with its write-ahead log, which would spoil a new file of that name."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def migrations() -> list[tuple[int, str]]:
    """Numbered SQL scripts, ascending."""
    scripts = resources.files("dsaflow.runs") / "migrations"
    found = [
        (int(script.name.split("_")[0]), script.read_text())
        for script in scripts.iterdir()
        if script.name.endswith(".sql")
    ]
    return sorted(found)


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Apply the migrations that the file lacks, each with its number in one transaction."""
    known = migrations()
    if _version(connection) == known[-1][0]:
        return
    with transaction(connection):  # others wait here and then find nothing to do
        version = _version(connection)
        if version > known[-1][0]:
            raise EnvironmentProblem(
                f"{path} has schema {version}, this dsaflow knows {known[-1][0]}: "
                "use the newer dsaflow, or delete the file: it is made anew from the events"
            )
        for number, script in known:
            if number > version:
                for statement in _statements(script):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {number}")


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _statements(script: str) -> Iterator[str]:
    """Split a script: `executescript` would commit the transaction that it runs in."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """One write transaction, taken at once so that it never has to be upgraded."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # a full disk has rolled back already
            connection.execute("ROLLBACK")
        raise
