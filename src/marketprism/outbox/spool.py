"""The spool: blocks of messages in a file, and beside it how far they were handed out.

All of it blocks: it is called from one thread at a time, never from the event loop's. It knows no
Trio. What the disk does to us is one of three conclusions: `SpoolFull`, `SpoolLost`,
`SpoolDamaged`.
"""

import contextlib
import shutil
import sqlite3
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path

import attrs

from marketprism.errors import SpoolDamaged, SpoolFull, SpoolLost
from marketprism.gaps.ids import GapStarts
from marketprism.outbox.block import Numbered
from marketprism.outbox.contents import Content, Kind, checksum, contents, joined, pack
from marketprism.outbox.damage import Damage
from marketprism.outbox.mending import mended
from marketprism.outbox.progress import Progress, ProgressFile
from marketprism.outbox.salvage import look
from marketprism.outbox.spool_errors import BLOCKS, CONTENTS, told_apart
from marketprism.outbox.spool_file import NAME, TABLES, SpoolFile
from marketprism.outbox.stored_blocks import MOST_BYTES, MOST_MESSAGES, StoredBlock, cut

__all__ = ["NAME", "PROGRESS", "Spool"]

PROGRESS = "spool.marks"
_DOUBTFUL_BLOCKS = 16
"""Where the progress cannot be read: what is acknowledged is deleted twice a second, so what was
handed out and is still there stands in the first blocks."""


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
    starts: GapStarts = attrs.field(factory=GapStarts)
    """When the gaps of each stream began; this tells some, too."""
    damage: Damage | None = None
    """What it cost that the file was damaged when it was opened."""
    file: SpoolFile = attrs.field(init=False)
    _progress: ProgressFile | None = None

    def __attrs_post_init__(self) -> None:
        self.file = SpoolFile(self.directory)

    @property
    def path(self) -> Path:
        """Of the file."""
        return self.file.path

    @property
    def most_at_once(self) -> int:
        """Bytes of payload that should be written at once, at most."""
        return min(4 * MOST_BYTES, max(1, self.max_bytes // 8))

    @property
    def progress(self) -> Progress:
        """How far it is on record."""
        return self._progress_file.known or Progress()

    @property
    def _progress_file(self) -> ProgressFile:
        if self._progress is None:
            raise SpoolLost(f"{self.path} is not open")
        return self._progress

    def open(self, now: str) -> None:
        """Open the file or make one. One that is damaged is set aside under a name with `now` in
        it; the blocks that can be read are kept, with gaps for the others: see `damage`.

        Raises:
            StartFailed: another process has it.
            SpoolLost: the disk will not have it.
        """
        self.close()
        self.damage = None
        try:
            self._open()
            with contextlib.closing(self.blocks()) as blocks:
                for block in blocks:
                    block.check()
        except SpoolDamaged as damage:
            self.damage = self.salvage(now, str(damage))
        if self._progress_file.known is None:
            self._mark_doubtful()
        with contextlib.suppress(SpoolLost), self.file.changing() as connection:
            # Where a full disk let nobody delete it.
            self._delete_below(connection, self.progress.floor)

    def _open(self) -> None:
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SpoolLost(f"{self.directory}: {error.strerror}") from error
        is_new = self.file.open()
        try:
            self._progress = self._progress or ProgressFile(self.directory / PROGRESS)
            if is_new:
                self.mark(0)
        except BaseException:
            self.close()
            raise

    def _mark_doubtful(self) -> None:
        first = "SELECT last FROM blocks ORDER BY first LIMIT ?"
        self.mark(self.file.number(f"SELECT max(last) FROM ({first})", _DOUBTFUL_BLOCKS) or 0)

    def salvage(self, now: str, why: str, held: Sequence[Numbered] = (), after: int = 0) -> Damage:
        """Set a damaged file aside, and go on in a new one with what is `held`, in which nothing
        lies beyond `after`, and behind that with the blocks that can be read; there are gaps in the
        place of the others. What that cost.

        Raises SpoolLost, SpoolFull or SpoolDamaged where that cannot be.
        """
        aside = self.file.put_aside("damaged", now, why)
        self._open()
        damage, progress = Damage(self.starts), self.progress
        with contextlib.closing(sqlite3.connect(aside)) as old:
            old.execute("PRAGMA writable_schema = ON")  # else it reads nothing of a truncated file
            found = look(old, max(progress.floor, after + 1))
            self._add(cut(held, self.block, self.block_bytes))
            for block in mended(old, found, damage, progress.handed_out):
                self._add([block])
        return damage

    def abandon(self) -> None:
        """Let an `open` that takes long end with SpoolLost; called from another thread."""
        self.file.abandon()

    def close(self) -> None:
        """Let go of it; another process may have it now."""
        self.file.close()
        if self._progress is not None:
            self._progress.close()
            self._progress = None

    def put_aside(self, kind: str, now: str, why: str) -> None:
        """Give it up under another name. Raises SpoolLost when it cannot be renamed."""
        self.close()
        self.file.put_aside(kind, now, why)

    def blocks(self) -> Generator[StoredBlock, None, None]:
        """All that is held, in order. Raises SpoolLost or SpoolDamaged on the way."""
        held = f"{BLOCKS} WHERE last >= ? ORDER BY first"
        with self.file.found(held, self.progress.floor) as rows:
            for row in rows:
                if self.file.abandoned:
                    raise SpoolLost(f"{self.path} is not needed any more")
                yield StoredBlock(*row)

    def contents(self, after: int) -> dict[Kind, Content]:
        """Of all blocks beyond a number. Raises SpoolDamaged."""
        with self.file.found(f"{CONTENTS} WHERE first > ? ORDER BY first", after) as rows:
            return joined(content for row in rows for content in told_apart(*row)[-1])

    def lowest(self) -> int | None:
        """The first number in it; None when there is no message."""
        return self.file.number(
            "SELECT min(first) FROM blocks WHERE last >= ?", self.progress.floor
        )

    def reach(self, number: int) -> int:
        """The last number of the blocks that begin up to this one; 0 when there are none."""
        return self.file.number("SELECT max(last) FROM blocks WHERE first <= ?", number) or 0

    def write(self, batch: Sequence[Numbered], handed_out: int) -> None:
        """Add messages behind all that are there: all or nothing.

        Raises:
            SpoolFull: there would be too much, of it or of the disk.
            SpoolLost, SpoolDamaged: as they say.
        """
        blocks = list(cut(batch, self.block, min(self.block_bytes, self.max_bytes // 16)))
        size = sum(len(block.body) + len(block.contents or b"") + 256 for block in blocks)
        if self.file.used + size > self.max_bytes:
            raise SpoolFull(f"{self.path} may not hold more than {self.max_bytes:,} bytes")
        try:
            free = shutil.disk_usage(self.directory).free
        except OSError as error:
            raise SpoolLost(f"{self.directory}: {error.strerror}") from error
        if size > self.file.spare and free - size < self.min_free:
            raise SpoolFull(f"{self.directory} has only {free:,} bytes left")
        if handed_out:
            self.mark(handed_out)
        self._add(blocks)

    def read(self, after: int, most: int, most_bytes: int) -> list[Numbered]:
        """The next messages beyond a number: whole blocks, until there are so many."""
        found: list[Numbered] = []
        size = 0
        with self.file.found(f"{BLOCKS} WHERE first > ? ORDER BY first", after) as rows:
            for row in rows:
                found += StoredBlock(*row).messages()
                size += len(row[-1])
                if len(found) >= most or size >= most_bytes:
                    break
        return found

    def mark(self, handed_out: int = 0, floor: int = 0, placed: int = 0) -> None:
        """From now on messages up to `handed_out` may be given to a sink, nothing below `floor` is
        held, and up to `placed` no message is `gap_pending` any more. It needs no room on the disk.

        Raises SpoolFull or SpoolLost.
        """
        file, progress = self._progress_file, Progress(handed_out, floor, placed)
        if (joined := progress.joined(file.known or Progress())) != file.known:
            file.write(joined)

    def begin_anew(self) -> None:
        """Nothing in it is held: whoever fills it has numbers of his own."""
        self.file.empty()
        self._progress_file.write(Progress())

    def trim(self, floor: int) -> None:
        """Delete the blocks of which nothing is held any more, since nothing below `floor` is."""
        with self.file.changing() as connection:
            self._delete_below(connection, floor)

    def _add(self, blocks: Iterable[StoredBlock]) -> None:
        with self.file.changing() as connection:
            for each in blocks:
                packed = each.contents
                if packed is None:
                    packed = pack(contents(message for _, message in each.messages()))
                apart = checksum(each.first, each.last, packed)
                for table, *rest in (
                    ("blocks", each.checksum, each.body),
                    ("contents", apart, packed),
                ):
                    row = (each.first, each.last, *rest)
                    connection.execute(f"INSERT INTO {table} VALUES (?, ?, ?, ?)", row)

    @staticmethod
    def _delete_below(connection: sqlite3.Connection, floor: int) -> None:
        for table in TABLES:
            connection.execute(f"DELETE FROM {table} WHERE last < ?", (floor,))
