"""The spool's file: blocks of messages in SQLite, and what was dropped of each stream; beside it
how far they were handed out (`marks`).

All of it blocks: it is called from one thread at a time, never from the event loop's. It knows no
Trio. What the disk does to us is one of three conclusions: `SpoolFull`, `SpoolLost`,
`SpoolDamaged`.
"""

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Generator, Iterable, Iterator, Sequence
from itertools import count
from pathlib import Path

import attrs

from marketprism.errors import SpoolDamaged, SpoolFull, SpoolLost, StartFailed
from marketprism.outbox.blocks import MOST_BYTES, MOST_MESSAGES, Block, Numbered, cut
from marketprism.outbox.contents import Content, Kind, LostBlock, contents, joined, pack
from marketprism.outbox.contents import checksum as checksum_apart
from marketprism.outbox.salvage import look, readable_blocks
from marketprism.outbox.spool_errors import (
    BLOCKS,
    CONTENTS,
    LOSSES,
    LOST,
    checked,
    checksum,
    concluded,
    told_apart,
)
from marketprism.outbox.watermarks import Watermarks, WatermarksFile

NAME = "spool.sqlite3"
WATERMARKS = "spool.marks"
_FORMAT = 1
_PAGE = 16 * 1024
_LOGS = ("-wal", "-shm", "")
"""What SQLite appends to a file's name, the file itself last."""
_LOG_PAGES = 1024
"""Pages after which SQLite moves its log of changes into the file: then it syncs, once."""
_SCHEMA = f"""
PRAGMA user_version = {_FORMAT};
CREATE TABLE blocks (
    first INTEGER PRIMARY KEY, last INTEGER NOT NULL, checksum INTEGER NOT NULL, body BLOB NOT NULL
);
CREATE TABLE losses (stream TEXT PRIMARY KEY, body BLOB NOT NULL, checksum INTEGER NOT NULL);
"""
_BESIDE = [
    f"CREATE TABLE IF NOT EXISTS {name} (first INTEGER PRIMARY KEY, last INTEGER NOT NULL,"
    " checksum INTEGER NOT NULL, body BLOB NOT NULL)"
    for name in ("contents", "lost")
]
"""What is in each block, and the blocks that cannot be read, until the outbox has told it. A file
that was written before there were these gets them.
"""
_DOUBTFUL_BLOCKS = 16
"""Where the mark cannot be read: what is acknowledged is deleted twice a second, so what was handed
out and is still there stands in the first blocks."""

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
    abandoned: bool = False
    """It will not be used, and what takes long should end."""
    _connection: sqlite3.Connection | None = None
    _watermarks: WatermarksFile | None = None
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
        it; the blocks that can be read are kept, and `lost` says what was in the others.

        Raises:
            StartFailed: another process has it.
            SpoolLost: the disk will not have it.
        """
        self.close()
        try:
            self._open()
            self.losses()
            self.lost()
            with contextlib.closing(self.blocks()) as blocks:
                for block in blocks:
                    block.check()
        except SpoolDamaged as damage:
            self.salvage(now, str(damage))
        if self._open_watermarks().known is None:
            self._mark_doubtful()
        with contextlib.suppress(SpoolLost), self._changing() as connection:
            # Where a full disk let nobody delete it.
            self._delete(connection, "last < ?", self.marked.floor)

    def _open(self) -> None:
        try:
            with concluded():
                self._connect()
        except BaseException:
            self.close()
            raise

    def _mark_doubtful(self) -> None:
        with concluded():
            row = (
                self._open_connection()
                .execute(
                    "SELECT max(last) FROM (SELECT last FROM blocks ORDER BY first LIMIT ?)",
                    (_DOUBTFUL_BLOCKS,),
                )
                .fetchone()
            )
        self.mark(row[0] or 0)

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
            if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_READONLY and self._writable:
                raise SpoolDamaged(f"{self.path}: {error}") from error
            raise
        self._watermarks = WatermarksFile(self.directory / WATERMARKS)
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if not version and not tables:
            for statement in _SCHEMA.strip().split(";\n"):
                connection.execute(statement)
            self.mark(0)
        elif version != _FORMAT:
            raise SpoolDamaged(f"{self.path} is not a spool of this version")
        for statement in _BESIDE:
            connection.execute(statement)
        connection.execute("COMMIT")
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise SpoolDamaged(f"{self.path}: {found}")
        self._measure()

    @property
    def _writable(self) -> bool:
        """Nothing but what stands in the file says that it may only be read."""
        return os.access(self.path, os.W_OK) and os.access(self.directory, os.W_OK)

    def salvage(self, now: str, why: str) -> None:
        """Set a damaged file aside, and go on in a new one with the blocks that can be read, and
        with what was dropped as far as it is what was written.

        Raises SpoolLost, SpoolFull or SpoolDamaged where that cannot be.
        """
        aside = self.put_aside("damaged", now, why)
        self._open()
        with contextlib.closing(sqlite3.connect(aside)) as old:
            old.execute("PRAGMA writable_schema = ON")  # else it reads nothing of a truncated file
            found = look(old, self.marked.floor)
            with self._changing() as connection:
                self._save(connection, found.losses)
                for each in found.lost:
                    self._add_apart(connection, "lost", each.first, each.last, pack(each.contents))
            for block in readable_blocks(old, found.keys):
                with self._changing() as connection:
                    self._add(connection, [block])

    def abandon(self) -> None:
        """Let an `open` that takes long end with SpoolLost; called from another thread."""
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
        if self._watermarks is not None:
            self._watermarks.close()
            self._watermarks = None

    def put_aside(self, kind: str, now: str, why: str) -> Path:
        """Give it up under another name, with its log of changes; the new one begins empty, and
        goes on from its mark: a salvaged beginning of it has the same numbers.

        Raises SpoolLost when it cannot be renamed.
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

    def blocks(self) -> Generator[Block, None, None]:
        """All that is held, in order. Raises SpoolLost or SpoolDamaged on the way."""
        held = f"{BLOCKS} WHERE last >= ? ORDER BY first"
        with self._found(held, self.marked.floor) as rows:
            for row in rows:
                if self.abandoned:
                    raise SpoolLost(f"{self.path} is not needed any more")
                yield Block(*row)

    def lost(self) -> list[LostBlock]:
        """The blocks that cannot be read, since what was dropped was saved last. Raises
        SpoolDamaged.
        """
        # One that memory still had is there again.
        beside = "NOT EXISTS (SELECT 1 FROM blocks WHERE first BETWEEN lost.first AND lost.last)"
        with self._found(f"{LOST} WHERE {beside} ORDER BY first") as rows:
            return [LostBlock(*told_apart(*row)) for row in rows]

    def contents(self, after: int) -> dict[Kind, Content]:
        """Of all blocks beyond a number. Raises SpoolDamaged."""
        with self._found(f"{CONTENTS} WHERE first > ? ORDER BY first", after) as rows:
            return joined(content for row in rows for content in told_apart(*row)[-1])

    def lowest(self) -> int | None:
        """The first number in it; None when there is no message."""
        return self._number("SELECT min(first) FROM blocks WHERE last >= ?", self.marked.floor)

    def reach(self, number: int) -> int:
        """The last number of the blocks that begin up to this one; 0 when there are none."""
        found = self._number("SELECT max(last) FROM blocks WHERE first <= ?", number)
        return found or 0

    def _number(self, question: str, about: int) -> int | None:
        with concluded():
            (number,) = self._open_connection().execute(question, (about,)).fetchone()
        return None if number is None else int(number)

    @property
    def marked(self) -> Watermarks:
        """How far it is on record."""
        return self._open_watermarks().known or Watermarks()

    def losses(self) -> Saved:
        """What was saved of them last. Raises SpoolDamaged when it is not what was written."""
        with self._found(LOSSES) as rows:
            return [checked(*row) for row in rows]

    @contextlib.contextmanager
    def _found(self, question: str, *about: int) -> Iterator[sqlite3.Cursor]:
        """The rows of an answer. While an answer is not read to its end or closed, the file is
        locked, even under another name.
        """
        with (
            concluded(),
            contextlib.closing(self._open_connection().execute(question, about)) as rows,
        ):
            yield rows

    def write(self, batch: Sequence[Numbered], handed: int, losses: Saved | None = None) -> None:
        """Add messages behind all that are there, and save what was dropped: all or nothing.

        Raises:
            SpoolFull: there would be too much, of it or of the disk.
            SpoolLost, SpoolDamaged: as they say.
        """
        blocks = list(cut(batch, self.block, min(self.block_bytes, self.max_bytes // 16)))
        size = sum(len(block.body) + len(block.contents or b"") + 256 for block in blocks)
        if self.used + size > self.max_bytes:
            raise SpoolFull(f"{self.path} may not hold more than {self.max_bytes:,} bytes")
        try:
            free = shutil.disk_usage(self.directory).free
        except OSError as error:
            raise SpoolLost(f"{self.directory}: {error.strerror}") from error
        if size > self._spare and free - size < self.min_free:
            raise SpoolFull(f"{self.directory} has only {free:,} bytes left")
        if handed:
            self.mark(handed)
        with self._changing() as connection:
            self._add(connection, blocks)
            if losses is not None:
                self._save(connection, losses)

    def read(self, after: int, most: int, most_bytes: int) -> list[Numbered]:
        """The next messages beyond a number: whole blocks, until there are so many."""
        found: list[Numbered] = []
        size = 0
        with self._found(f"{BLOCKS} WHERE first > ? ORDER BY first", after) as rows:
            for row in rows:
                found += Block(*row).messages()
                size += len(row[-1])
                if len(found) >= most or size >= most_bytes:
                    break
        return found

    def mark(self, handed: int = 0, floor: int = 0, placed: int = 0) -> None:
        """From now on messages up to `handed` may be given to a sink, nothing below `floor` is
        held, and up to `placed` no message is unplaced any more. It needs no room on the disk.

        Raises SpoolFull or SpoolLost.
        """
        marks, mark = self._open_watermarks(), Watermarks(handed, floor, placed)
        if (joined := mark.joined(marks.known or Watermarks())) != marks.known:
            marks.write(joined)

    def begin_anew(self) -> None:
        """Nothing in it is held: whoever fills it has numbers of his own."""
        self.clear()
        self._open_watermarks().write(Watermarks())

    def trim(self, floor: int, losses: Saved) -> int:
        """Delete the blocks of which nothing is held any more, since nothing below `floor` is, and
        save what was lost. The lowest number that is left.
        """
        with self._changing() as connection:
            self._delete(connection, "last < ?", floor)
            self._save(connection, losses)
        lowest = self.lowest()
        return floor if lowest is None else lowest

    def _add(self, connection: sqlite3.Connection, blocks: Iterable[Block]) -> None:
        for each in blocks:
            connection.execute(
                "INSERT INTO blocks VALUES (?, ?, ?, ?)",
                (each.first, each.last, each.checksum, each.body),
            )
            packed = each.contents
            if packed is None:
                packed = pack(contents(message for _, message in each.messages()))
            self._add_apart(connection, "contents", each.first, each.last, packed)

    @staticmethod
    def _add_apart(
        connection: sqlite3.Connection, table: str, first: int, last: int, packed: bytes
    ) -> None:
        row = (first, last, checksum_apart(first, last, packed), packed)
        connection.execute(f"INSERT OR REPLACE INTO {table} VALUES (?, ?, ?, ?)", row)

    @staticmethod
    def _delete(connection: sqlite3.Connection, condition: str, *numbers: int) -> None:
        for table in ("blocks", "contents"):
            connection.execute(f"DELETE FROM {table} WHERE {condition}", numbers)

    @staticmethod
    def _save(connection: sqlite3.Connection, losses: Saved) -> None:
        connection.execute("DELETE FROM lost")  # what was in it is among these by now
        connection.execute("DELETE FROM losses")
        connection.executemany(
            "INSERT INTO losses VALUES (?, ?, ?)",
            [(stream, body, checksum(stream, body)) for stream, body in losses],
        )

    def clear(self) -> None:
        """Nothing in it is held any more: give its place on the disk back."""
        with self._changing() as connection:
            for table in ("blocks", "contents", "losses", "lost"):
                connection.execute(f"DELETE FROM {table}")
        with concluded():
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._measure()

    def remove(self) -> None:
        """Nothing in it is held any more, and it cannot be changed: delete it, which needs no room,
        and begin with an empty one where there is some. Raises SpoolLost.
        """
        self.close()
        try:
            for suffix in _LOGS:
                self.path.with_name(f"{NAME}{suffix}").unlink(missing_ok=True)
        except OSError as error:
            raise SpoolLost(f"{self.path}: {error.strerror}") from error
        self.used = self._spare = 0
        with contextlib.suppress(SpoolLost, SpoolFull, SpoolDamaged, StartFailed):
            self._open()

    @contextlib.contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        """One transaction: all of it or nothing."""
        connection = self._open_connection()
        with concluded():
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

    def _open_watermarks(self) -> WatermarksFile:
        if self._watermarks is None:
            raise SpoolLost(f"{self.path} is not open")
        return self._watermarks
