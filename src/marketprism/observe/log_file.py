"""The log file: lines are appended, and at its size it is set aside under a number."""

import contextlib
import os
import stat
from pathlib import Path

from marketprism.settings.settings import LogFile


class RotatingFile:
    """A file of at most `max_bytes`, unless one line is longer; beside it `backups` older ones,
    `.1` the newest. All of it blocks.
    """

    def __init__(self, path: Path, settings: LogFile) -> None:
        """Open it, or make it and its directory. Raises OSError."""
        self._path, self._settings = path, settings
        path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = self._open()

    def write(self, lines: list[bytes]) -> bool:
        """All of them, each whole or not at all; True. Raises OSError."""
        for line in lines:
            if self._size and self._size + len(line) > self._settings.max_bytes:
                self._rotate()
            try:
                rest = memoryview(line)
                while rest:
                    rest = rest[os.write(self._descriptor, rest) :]
            except OSError:
                if self._regular:  # half of a line would spoil the next one
                    with contextlib.suppress(OSError):
                        os.ftruncate(self._descriptor, self._size)
                raise
            self._size += len(line) * self._regular
        return True

    def close(self) -> None:
        """Nothing more will be written."""
        os.close(self._descriptor)

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(self._path, flags, 0o666)
        found = os.fstat(descriptor)
        self._regular = stat.S_ISREG(found.st_mode)
        self._size = found.st_size if self._regular else 0
        return descriptor

    def _rotate(self) -> None:
        """Every file gets the next number; the oldest goes. Raises OSError, and goes on with the
        file that there is.
        """
        names = [self._path, *map(self._numbered, range(1, self._settings.backups + 1))]
        names[-1].unlink(missing_ok=True)
        for older, new in zip(names[:0:-1], names[-2::-1], strict=True):
            with contextlib.suppress(FileNotFoundError):
                new.rename(older)
        replaced = self._descriptor
        self._descriptor = self._open()
        os.close(replaced)

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")
