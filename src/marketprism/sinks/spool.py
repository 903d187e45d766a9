"""The spool's file: blocks of messages in SQLite, and what was dropped of each stream.

All of it blocks: it is called from one thread at a time, never from the event loop's. It knows no
Trio. What the disk does to us is one of three conclusions: `SpoolFull`, `SpoolLost`,
`SpoolDamaged`.
"""

import contextlib
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs

from marketprism.errors import SpoolDamaged, SpoolFull, SpoolLost, StartFailed
from marketprism.sinks.blocks import MOST_BYTES, MOST_MESSAGES, Block, Numbered, cut

NAME = "spool.sqlite3"
_FORMAT = 1
_PAGE = 16 * 1024
_LOG_PAGES = 1024
"""Pages after which SQLite moves its log of changes into the file: then it syncs, once."""
_SCHEMA = f"""
PRAGMA user_version = {_FORMAT};
CREATE TABLE blocks (
    first INTEGER PRIMARY KEY, last INTEGER NOT NULL, checksum INTEGER NOT NULL, body BLOB NOT NULL
);
CREATE TABLE losses (stream TEXT PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE handed (id INTEGER PRIMARY KEY CHECK (id = 0), number INTEGER NOT NULL);
INSERT INTO handed VALUES (0, 0);
"""

Saved = Sequence[tuple[str, bytes]]
"""What was dropped of each stream, as the outbox words it."""


@attrs.define(eq=False)
class Spool:
    """One file in a directory, ours alone while it is open.

    It uses at most `max_bytes`, and leaves `min_free` of the disk to others.
    """

    directory: Path
    max_bytes: int
    min_free: int
    block: int = MOST_MESSAGES
    """Messages that are read and deleted together, at most; and bytes of their payload:"""
    block_bytes: int = MOST_BYTES
    used: int = 0
    """Bytes of the file that hold something."""
    set_aside: str | None = None
    """Where a file is that could not be used, and why."""
    _connection: sqlite3.Connection | None = None
    _spare: int = 0

    @property
    def path(self) -> Path:
        return self.directory / NAME

    @property
    def is_open(self) -> bool:
        return self._connection is not None

    @property
    def most_at_once(self) -> int:
        """Bytes of payload that should be written at once, at most."""
        return min(4 * MOST_BYTES, max(1, self.max_bytes // 8))

    def open(self, now: str) -> None:
        """Open the file or make one. One that is damaged is set aside under a name with `now` in
        it; what can be read of it, from its beginning on, is kept.

        Raises:
            StartFailed: another process has it.
            SpoolLost: the disk will not have it.
        """
        self.close()
        try:
            self._open()
            for block in self.blocks():
                block.check()
        except SpoolDamaged as damage:
            aside = self.put_aside("damaged", now, str(damage))
            self._open()
            self._salvage(aside)

    def _open(self) -> None:
        try:
            with _concluded():
                self._connect()
        except BaseException:
            self.close()
            raise

    def _connect(self) -> None:
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SpoolLost(f"{self.directory}: {error.strerror}") from error
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
            raise
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if not version and not tables:
            for statement in _SCHEMA.strip().split(";\n"):
                connection.execute(statement)
        elif version != _FORMAT:
            raise SpoolDamaged(f"{self.path} is not a spool of this version")
        connection.execute("COMMIT")
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise SpoolDamaged(f"{self.path}: {found}")
        self._measure()

    def _salvage(self, aside: Path) -> None:
        """Take over what can be read of a damaged file, up to where it cannot."""
        with contextlib.closing(sqlite3.connect(aside)) as old, contextlib.suppress(SpoolDamaged):
            with _concluded():
                (handed,) = old.execute("SELECT number FROM handed").fetchone() or (0,)
                losses = old.execute("SELECT stream, body FROM losses").fetchall()
            with self._changing() as connection:
                connection.execute("UPDATE handed SET number = ?", (handed,))
                connection.executemany("INSERT INTO losses VALUES (?, ?)", losses)
            with _concluded():
                rows = old.execute("SELECT first, last, checksum, body FROM blocks ORDER BY first")
                for row in rows:
                    Block(*row).check()
                    with self._changing() as connection:
                        connection.execute("INSERT INTO blocks VALUES (?, ?, ?, ?)", row)

    def close(self) -> None:
        """Let go of it; another process may have it now."""
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):  # what was committed is there all the same
                self._connection.close()
            self._connection = None

    def put_aside(self, kind: str, now: str, why: str) -> Path:
        """Give it up under another name, with its log of changes; the new one begins empty.

        Raises SpoolLost when it cannot be renamed.
        """
        self.close()
        aside = self.path.with_name(f"{NAME}.{kind}-{now}")
        try:
            for suffix in ("-wal", "-shm", ""):
                old = self.path.with_name(f"{NAME}{suffix}")
                if old.exists():
                    old.rename(aside.with_name(f"{aside.name}{suffix}"))
        except OSError as error:
            raise SpoolLost(f"{self.path}: {error.strerror}") from error
        self.set_aside = f"{aside}: {why}"
        return aside

    def blocks(self) -> Iterator[Block]:
        """All of it, in order. Raises SpoolLost or SpoolDamaged on the way."""
        with _concluded():
            for row in self._open_connection().execute(
                "SELECT first, last, checksum, body FROM blocks ORDER BY first"
            ):
                yield Block(*row)

    def lowest(self) -> int | None:
        """The first number in it; None when there is no message."""
        with _concluded():
            (first,) = self._open_connection().execute("SELECT min(first) FROM blocks").fetchone()
        return None if first is None else int(first)

    def handed(self) -> int:
        """Up to which number messages may have been given to a sink."""
        with _concluded():
            (number,) = self._open_connection().execute("SELECT number FROM handed").fetchone()
        return int(number)

    def losses(self) -> Saved:
        """What was saved of them last."""
        with _concluded():
            return self._open_connection().execute("SELECT stream, body FROM losses").fetchall()

    def write(self, batch: Sequence[Numbered], handed: int, losses: Saved | None = None) -> None:
        """Add messages behind all that are there, and save what was dropped: all or nothing.

        Raises:
            SpoolFull: there would be too much, of it or of the disk.
            SpoolLost, SpoolDamaged: as they say.
        """
        blocks = list(cut(batch, self.block, min(self.block_bytes, self.max_bytes // 16)))
        size = sum(len(block.body) + 128 for block in blocks)
        if self.used + size > self.max_bytes:
            raise SpoolFull(f"{self.path} may not hold more than {self.max_bytes:,} bytes")
        try:
            free = shutil.disk_usage(self.directory).free
        except OSError as error:
            raise SpoolLost(f"{self.directory}: {error.strerror}") from error
        if size > self._spare and free - size < self.min_free:
            raise SpoolFull(f"{self.directory} has only {free:,} bytes left")
        with self._changing() as connection:
            connection.executemany(
                "INSERT INTO blocks VALUES (?, ?, ?, ?)",
                [(each.first, each.last, each.checksum, each.body) for each in blocks],
            )
            connection.execute("UPDATE handed SET number = max(number, ?)", (handed,))
            if losses is not None:
                self._save(connection, losses)

    def read(self, after: int, most: int, most_bytes: int) -> list[Numbered]:
        """The next messages beyond a number: whole blocks, until there are so many."""
        found: list[Numbered] = []
        size = 0
        with _concluded():
            for row in self._open_connection().execute(
                "SELECT first, last, checksum, body FROM blocks WHERE first > ? ORDER BY first",
                (after,),
            ):
                found += Block(*row).messages()
                size += len(row[-1])
                if len(found) >= most or size >= most_bytes:
                    break
        return found

    def mark(self, handed: int) -> None:
        """From now on messages up to this number may be given to a sink."""
        with self._changing() as connection:
            connection.execute("UPDATE handed SET number = max(number, ?)", (handed,))

    def trim(self, floor: int, handed: int, beyond: int, losses: Saved) -> int:
        """Delete the blocks of which nothing is held any more, and save what was dropped: nothing
        below `floor` is held, and nothing above `handed` and below `beyond`. The lowest number
        that is left.
        """
        with self._changing() as connection:
            connection.execute(
                "DELETE FROM blocks WHERE last < ? OR (first > ? AND last < ?)",
                (floor, handed, beyond),
            )
            self._save(connection, losses)
        lowest = self.lowest()
        return floor if lowest is None else lowest

    @staticmethod
    def _save(connection: sqlite3.Connection, losses: Saved) -> None:
        connection.execute("DELETE FROM losses")
        connection.executemany("INSERT INTO losses VALUES (?, ?)", losses)

    def clear(self) -> None:
        """Nothing in it is held any more: give its place on the disk back."""
        with self._changing() as connection:
            connection.execute("DELETE FROM blocks")
            connection.execute("DELETE FROM losses")
            connection.execute("UPDATE handed SET number = 0")
        with _concluded():
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._measure()

    @contextlib.contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        """One transaction: all of it or nothing."""
        connection = self._open_connection()
        with _concluded():
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
            self._measure()

    def _measure(self) -> None:
        connection = self._open_connection()
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        (spare,) = connection.execute("PRAGMA freelist_count").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
        self.used, self._spare = (pages - spare) * size, spare * size

    def _open_connection(self) -> sqlite3.Connection:
        if self._connection is None:
            raise SpoolLost(f"{self.path} is not open")
        return self._connection


@contextlib.contextmanager
def _concluded() -> Iterator[None]:
    """What SQLite's errors mean to us: the one table of them."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        words = f"the spool's file: {error}"
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_SCHEMA):
            raise SpoolDamaged(words) from error
        if code == sqlite3.SQLITE_ERROR or not isinstance(error, sqlite3.DatabaseError):
            # A table that is not there, or not as we made it.
            raise SpoolDamaged(words) from error
        raise SpoolLost(words) from error
