"""The spool's file in SQLite: how it is opened, changed, set aside and removed.

All of it blocks. What the disk does to us is one of three conclusions: `SpoolFull`, `SpoolLost`,
`SpoolDamaged`.
"""

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import attrs

from marketprism.errors import SpoolDamaged, SpoolFull, SpoolLost, StartFailed
from marketprism.outbox import former_format
from marketprism.outbox.spool_errors import concluded

NAME = "spool.sqlite3"
_FORMAT = 2
_PAGE = 16 * 1024
_LOGS = ("-wal", "-shm", "")
"""What SQLite appends to a file's name, the file itself last."""
_LOG_PAGES = 1024
"""Pages after which SQLite moves its log of changes into the file: then it syncs, once."""
TABLES = ("blocks", "contents")
"""The messages, and what is in each block, told apart from it. A file that was written before there
was the latter gets it.
"""
_SCHEMA = [
    f"CREATE TABLE IF NOT EXISTS {name} (first INTEGER PRIMARY KEY, last INTEGER NOT NULL,"
    " checksum INTEGER NOT NULL, body BLOB NOT NULL)"
    for name in TABLES
]


@attrs.define(eq=False)
class SpoolFile:
    """One file in a directory, ours alone while it is open."""

    directory: Path
    used: int = 0
    """Bytes of it that hold something."""
    spare: int = 0
    """Bytes that can be filled again."""
    set_aside: str | None = None
    """Where a file is that could not be used, and why."""
    abandoned: bool = False
    """It will not be used, and what takes long should end."""
    _connection: sqlite3.Connection | None = None

    @property
    def path(self) -> Path:
        """Where it is."""
        return self.directory / NAME

    @property
    def is_open(self) -> bool:
        """It is ours."""
        return self._connection is not None

    @property
    def connection(self) -> sqlite3.Connection:
        """To the database. Raises SpoolLost where it is not open."""
        if self._connection is None:
            raise SpoolLost(f"{self.path} is not open")
        return self._connection

    def open(self) -> bool:
        """Open it, or make one; whether it is a new one.

        Raises:
            StartFailed: another process has it.
            SpoolDamaged: it is not one, or not one of ours.
            SpoolLost: the disk will not have it.
        """
        self.close()
        try:
            with concluded():
                return self._connect()
        except BaseException:
            self.close()
            raise

    def _connect(self) -> bool:
        connection = self._connection = sqlite3.connect(
            self.path, timeout=0.2, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute(f"PRAGMA page_size = {_PAGE}")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}")
            connection.execute(f"PRAGMA journal_size_limit = {_LOG_PAGES * _PAGE}")
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise StartFailed(f"the spool {self.path} is another process's now") from error
            if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_READONLY and self._writable:
                raise SpoolDamaged(f"{self.path}: {error}") from error
            raise
        is_new = self._formatted(connection)
        connection.execute("COMMIT")
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise SpoolDamaged(f"{self.path}: {found}")
        self._measure()
        return is_new

    def _formatted(self, connection: sqlite3.Connection) -> bool:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        is_new = not version and not tables
        if not is_new and version not in (_FORMAT, former_format.FORMAT):
            raise SpoolDamaged(f"{self.path} is not a spool of this version")
        for statement in _SCHEMA:
            connection.execute(statement)
        if version == former_format.FORMAT:
            former_format.convert(connection)
        if version != _FORMAT:
            connection.execute(f"PRAGMA user_version = {_FORMAT}")
        return is_new

    @property
    def _writable(self) -> bool:
        """Nothing but what stands in the file says that it may only be read."""
        return os.access(self.path, os.W_OK) and os.access(self.directory, os.W_OK)

    def abandon(self) -> None:
        """Let what takes long end with SpoolLost; called from another thread."""
        self.abandoned = True
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):  # it was closed in this moment
                self._connection.interrupt()

    def close(self) -> None:
        """Let go of it; another process may have it now."""
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):  # what was committed is there all the same
                self._connection.close()
            self._connection = None

    def put_aside(self, kind: str, now: str, why: str) -> Path:
        """Give it up under another name, with its log of changes. Raises SpoolLost when it cannot
        be renamed.
        """
        self.close()
        aside = self.path.with_name(f"{NAME}.{kind}-{now}")
        for number in count(2):
            if not aside.exists():
                break
            aside = self.path.with_name(f"{NAME}.{kind}-{now}.{number}")
        try:
            for suffix in _LOGS:
                old = self.path.with_name(f"{NAME}{suffix}")
                if old.exists():
                    old.rename(aside.with_name(f"{aside.name}{suffix}"))
        except OSError as error:
            raise SpoolLost(f"{self.path}: {error.strerror}") from error
        self.set_aside = f"{aside}: {why}"
        return aside

    def empty(self) -> None:
        """Delete all that is in it, and give its place on the disk back."""
        with self.changing() as connection:
            for table in TABLES:
                connection.execute(f"DELETE FROM {table}")
        with concluded():
            self.connection.execute("VACUUM")
            self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._measure()

    def remove(self) -> None:
        """Delete it, which needs no room, and begin with an empty one where there is some. Raises
        SpoolLost.
        """
        self.close()
        try:
            for suffix in _LOGS:
                self.path.with_name(f"{NAME}{suffix}").unlink(missing_ok=True)
        except OSError as error:
            raise SpoolLost(f"{self.path}: {error.strerror}") from error
        self.used = self.spare = 0
        with contextlib.suppress(SpoolLost, SpoolFull, SpoolDamaged, StartFailed):
            self.open()

    @contextlib.contextmanager
    def changing(self) -> Iterator[sqlite3.Connection]:
        """One transaction: all of it or nothing."""
        connection = self.connection
        with concluded():
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
            self._measure()

    @contextlib.contextmanager
    def found(self, question: str, *about: int) -> Iterator[sqlite3.Cursor]:
        """The rows of an answer. While an answer is not read to its end or closed, the file is
        locked, even under another name.
        """
        with concluded(), contextlib.closing(self.connection.execute(question, about)) as rows:
            yield rows

    def number(self, question: str, *about: int) -> int | None:
        """The one number that an answer is."""
        with self.found(question, *about) as rows:
            (number,) = rows.fetchone()
        return None if number is None else int(number)

    def _measure(self) -> None:
        connection = self.connection
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        (spare,) = connection.execute("PRAGMA freelist_count").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
        self.used, self.spare = (pages - spare) * size, spare * size
