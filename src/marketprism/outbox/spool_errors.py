"""What is not as it was written in a spool's file: how that shows.

Each row has a checksum of its own, for SQLite has none. Blocking, as the spool is.
"""

import contextlib
import sqlite3
from collections.abc import Iterator

from marketprism.errors import SpoolDamaged, SpoolLost
from marketprism.outbox.contents import Content, unpack
from marketprism.outbox.contents import checksum as checksum_apart

BLOCKS = "SELECT first, last, checksum, body FROM blocks"
CONTENTS = "SELECT first, last, checksum, body FROM contents"

_WORDS = 200
_DAMAGE = {
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_SCHEMA,
    sqlite3.SQLITE_ERROR,  # a table that is not there, or not as we made it
    0,  # Python's own: text that is none
    sqlite3.SQLITE_CONSTRAINT,
    sqlite3.SQLITE_TOOBIG,
}
"""What only a file that is not as we wrote it is the reason of."""


@contextlib.contextmanager
def concluded() -> Iterator[None]:
    """What SQLite's errors mean to us: SpoolDamaged or SpoolLost. The one table of them."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        words = f"the spool's file: {str(error)[:_WORDS]}"  # it may quote what it could not read
        if code in _DAMAGE or not isinstance(error, sqlite3.DatabaseError):
            raise SpoolDamaged(words) from error
        raise SpoolLost(words) from error
    except UnicodeDecodeError as error:  # what the database says of itself is garbled
        raise SpoolDamaged(f"the spool's file: {error}") from error


def told_apart(
    first: int, last: int, expected: int, packed: bytes
) -> tuple[int, int, tuple[Content, ...]]:
    """What a block holds. Raises SpoolDamaged when it is not what was written."""
    with contextlib.suppress(TypeError):  # of what a garbled database says that it is
        if checksum_apart(first, last, packed) == expected:
            return first, last, unpack(packed)
    raise SpoolDamaged(f"what block {first} holds is not what was written")
