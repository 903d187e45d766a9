"""How far the spool's messages were handed out: in a file of its own, of a size that never changes.

What is not on record here may not be handed out, or the next process would store it twice. So this
is written over itself: a full disk, which takes no more of the spool, takes this.
"""

import errno
import os
import struct
import zlib
from pathlib import Path

import attrs

from marketprism.errors import SpoolFull, SpoolLost

_SHAPE = struct.Struct(">QQQI")
_APART = 4096
"""Bytes between the two copies: a write that is torn spoils one of them."""
_COPIES = (0, _APART)
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@attrs.frozen
class Progress:
    """What is on record of a log. Numbers of messages; they only grow."""

    handed_out: int = 0
    """Up to this one messages may have been given to a sink."""
    floor: int = 0
    """Nothing below this one is held."""
    placed: int = 0
    """Up to this one there is a gap ahead of each message that needs one."""

    def joined(self, other: "Progress") -> "Progress":
        """As far as either of them."""
        return Progress(*map(max, attrs.astuple(self), attrs.astuple(other)))

    def pack(self) -> bytes:
        numbers = attrs.astuple(self)
        return _SHAPE.pack(*numbers, zlib.crc32(repr(numbers).encode()))

    @classmethod
    def unpack(cls, packed: bytes) -> "Progress | None":
        """None when it is not what was packed."""
        if len(packed) != _SHAPE.size:
            return None
        found = cls(*_SHAPE.unpack(packed)[:-1])
        return found if found.pack() == packed else None


class ProgressFile:
    """The file. All of it blocks."""

    def __init__(self, path: Path) -> None:
        """Open it, or make one in its full size. Raises SpoolFull or SpoolLost."""
        self.known: Progress | None = None
        """What stands in it; None where that cannot be told."""
        self._path = path
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise SpoolLost(f"{path}: {error.strerror}") from error
        try:
            copies = [
                Progress.unpack(os.pread(self._descriptor, _SHAPE.size, at)) for at in _COPIES
            ]
        except OSError as error:
            self.close()
            raise SpoolLost(f"{path}: {error.strerror}") from error
        for each in filter(None, copies):
            self.known = each.joined(self.known or Progress())

    def write(self, progress: Progress) -> None:
        """Put it in the place of what stood there. Raises SpoolFull or SpoolLost."""
        packed = progress.pack()
        try:
            for at in _COPIES:
                os.pwrite(self._descriptor, packed, at)
        except OSError as error:
            words = f"{self._path}: {error.strerror}"
            raise (SpoolFull if error.errno in _NO_ROOM else SpoolLost)(words) from error
        self.known = progress

    def close(self) -> None:
        """Let go of it."""
        os.close(self._descriptor)
