"""What a version before left in a spool beside its blocks: what was lost, and not told yet.

It kept that in two tables, and told it when the messages behind came. Now a gap stands in the log
in the place of what is lost, so that nothing is left to be remembered.
"""

import contextlib
import math
import sqlite3
import zlib
from collections.abc import Callable, Iterator
from functools import partial

import msgspec

from marketprism.errors import SpoolDamaged
from marketprism.outbox.contents import Content, LostBlock
from marketprism.outbox.spool_errors import concluded, told_apart

FORMAT = 1

_LOST = """
    SELECT first, last, checksum, body FROM lost
    WHERE NOT EXISTS (SELECT 1 FROM blocks WHERE first BETWEEN lost.first AND lost.last)
"""
"""One that memory still had was written again."""
_LOSSES = "SELECT CAST(stream AS BLOB), body, checksum FROM losses WHERE stream <> 'starts'"


class _LostStretch(msgspec.Struct):
    """What was lost of one stream: all its messages from number `since` up to `upto`."""

    instrument: tuple[str, str, str, str]
    affected: str
    started_at: int
    since: int
    upto: int
    end: int = 0
    """The number of the message ahead of which it was told; 0: it is not."""
    first_id: int | None = None
    last_id: int | None = None
    count: int = 0
    countable: bool = True


def convert(connection: sqlite3.Connection) -> None:
    """Make the file one of today's format. Raises SpoolDamaged where something of it is untold."""
    connection.execute("CREATE TABLE IF NOT EXISTS lost (first, last, checksum, body)")
    for read, row in _rows(connection):
        if read(*row) is not None:
            raise SpoolDamaged("a version before lost something of it, and did not tell that")
    for table in ("lost", "losses"):
        connection.execute(f"DROP TABLE IF EXISTS {table}")


def untold(damaged: sqlite3.Connection) -> list[LostBlock]:
    """What was lost and not told, as far as it can be read; nothing in a file of today."""
    found: dict[int, LostBlock] = {}
    for table in (_LOST, _LOSSES):
        with contextlib.suppress(SpoolDamaged), concluded():
            for read, row in _rows(damaged, table):
                with contextlib.suppress(SpoolDamaged):
                    if (block := read(*row)) is not None:
                        found[block.first] = _joined(found.get(block.first), block)
    return list(found.values())


def _joined(other: LostBlock | None, block: LostBlock) -> LostBlock:
    if other is None:
        return block
    last = max(other.last, block.last)
    return LostBlock(block.first, last, (*other.contents, *block.contents))


_Read = Callable[..., LostBlock | None]
"""What a row says; raises SpoolDamaged where it is not what was written."""


def _rows(
    connection: sqlite3.Connection, *tables: str
) -> Iterator[tuple[_Read, tuple[object, ...]]]:
    (lowest,) = connection.execute("SELECT min(first) FROM blocks").fetchone()
    for table in tables or (_LOST, _LOSSES):
        read = _lost if table is _LOST else partial(_loss, lowest or math.inf)
        for row in connection.execute(table):
            yield read, row


def _lost(first: int, last: int, checksum: int, packed: bytes) -> LostBlock:
    return LostBlock(*told_apart(first, last, checksum, packed))


def _loss(lowest: float, stream: bytes, body: bytes, checksum: int) -> LostBlock | None:
    """None: it is told, and what it was told ahead of is stored."""
    try:
        if zlib.crc32(body, zlib.crc32(stream)) == checksum:
            loss = _read(body)
            return None if 0 < loss.end < lowest else _as_block(loss)
    except (msgspec.MsgspecError, TypeError) as error:
        raise SpoolDamaged(f"what was lost of a stream: {error}") from error
    raise SpoolDamaged("what was lost of a stream is not what was written")


def _as_block(loss: _LostStretch) -> LostBlock:
    count = loss.count if loss.countable else None
    content = Content(
        loss.affected,
        loss.affected,
        loss.instrument,
        count,
        0,
        loss.started_at,
        loss.started_at,
        loss.first_id,
        loss.last_id,
    )
    # What is told of it gets a number that no message ever had.
    return LostBlock(loss.since + 1, max(loss.since + 1, loss.upto), (content,))


_read = msgspec.json.Decoder(_LostStretch).decode
