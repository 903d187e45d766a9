"""What is said to people goes out in a thread: a terminal that was stopped (Ctrl-S), a full pipe or
a disk that hangs holds up nobody but that thread.

A queue of bounded size lies between. What does not fit, or cannot be written, is counted.
"""

import contextlib
import errno
import io
import os
import select
import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol, TextIO, TypeVar

T = TypeVar("T")

MOST_LINES = 10_000
"""That wait, at most."""
MOST_BYTES = 4 * 2**20
"""Of those."""
AT_ONCE = 64 * 1024
"""Bytes that are handed over in one piece; what a pipe holds."""


class Destination(Protocol):
    """Where lines go. Its methods may block; one thread calls them."""

    def write(self, lines: list[bytes]) -> bool:
        """All of them; True. Raises OSError."""

    def close(self) -> None:
        """Nothing more will be written."""


class Descriptor:
    """A stream's file descriptor; a stream that has none is written to itself."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._descriptor: int | None = None
        with contextlib.suppress(OSError, ValueError):  # what a test puts there may have none
            # Ours, so that its number is never another file's; and not through the stream's own
            # buffer: who waits inside that would hold up the end of the interpreter.
            self._descriptor = os.dup(stream.fileno())

    def write(self, lines: list[bytes]) -> bool:
        if self._descriptor is None:
            try:
                self._stream.write(b"".join(lines).decode(errors="replace"))
            except ValueError as error:
                raise OSError(errno.EBADF, str(error)) from error
            return True
        rest = memoryview(b"".join(lines))
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:  # somebody who shares it wants it so
                waiting = select.poll()
                waiting.register(self._descriptor, select.POLLOUT)
                waiting.poll()
        return True

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class BackgroundWriter:
    """Lines for one destination, in order. `put` never waits. All that changes is guarded by one
    lock, hence in one place.

    `make` is called in the thread, for to open a file may block too. `failed` is told of the first
    of several failures in a row; `recovered` of how many lines were lost, once all that waited are
    written. Both are called in the thread.
    """

    def __init__(
        self,
        make: Callable[[], Destination],
        failed: Callable[[OSError], object] = lambda _: None,
        recovered: Callable[[int], object] = lambda _: None,
    ) -> None:
        self.lost = 0
        """Lines that did not fit, or could not be written."""
        self.failure: OSError | None = None
        """Why nothing can be written now."""
        self._make, self._tell_failure, self._tell_lost = make, failed, recovered
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        self._idle = True
        """All that was put is written."""
        self._closed = False
        self._changed = threading.Condition()
        self._opened = threading.Event()
        self._thread = threading.Thread(target=self._run, name="background-writer", daemon=True)

    def start(self) -> None:
        """From now on what was put is written."""
        self._thread.start()

    def put(self, line: bytes) -> None:
        """Have a line written some time, if there is room."""
        with self._changed:
            crowded = len(self._waiting) >= MOST_LINES or self._bytes + len(line) > MOST_BYTES
            if self._closed or crowded:
                self.lost += 1
                return
            self._waiting.append(line)
            self._bytes += len(line)
            self._idle = False
            self._changed.notify_all()

    def opened(self, within: float) -> None:
        """Return when it is known whether the destination can be had, or after so many seconds."""
        self._opened.wait(within)

    def flush(self, within: float) -> None:
        """Return when all is written, or after so many seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self._idle, within)

    def close(self, within: float) -> None:
        """Take no more, and give what waits so many seconds. What is left then is lost."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(within)

    def _run(self) -> None:
        destination, told = self._tried(self._make), 0
        self._opened.set()
        while lines := self._next():
            destination = destination or self._tried(self._make)
            if destination is None or self._tried(destination.write, lines) is None:
                with self._changed:
                    self.lost += len(lines)
            elif self.lost > told and not self._waiting:
                self._tell_lost(self.lost - told)
                told = self.lost
        if destination is not None:
            destination.close()

    def _next(self) -> list[bytes]:
        """What is handed over together; nothing at the end."""
        lines: list[bytes] = []
        size = 0
        with self._changed:
            self._idle = not self._waiting
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._waiting or self._closed)
            while self._waiting and size < AT_ONCE:
                lines.append(line := self._waiting.popleft())
                size += len(line)
            self._bytes -= size
        return lines

    def _tried(self, function: Callable[..., T], *arguments: object) -> T | None:
        """What it returns, or None where that failed."""
        try:
            result = function(*arguments)
        except OSError as error:
            before, self.failure = self.failure, error
            if before is None:
                self._tell_failure(error)
            return None
        if arguments:
            self.failure = None
        return result


class BackgroundText(io.TextIOBase):
    """A text stream in the place of another, for whoever prints: it never waits."""

    def __init__(self, writer: BackgroundWriter, instead_of: TextIO, *, breaks: bool) -> None:
        """`breaks`: to print raises BrokenPipeError once whoever read it has gone."""
        self._writer, self._instead_of, self._breaks = writer, instead_of, breaks

    def write(self, text: str) -> int:
        if self._breaks and isinstance(self._writer.failure, BrokenPipeError):
            raise self._writer.failure
        self._writer.put(text.encode(errors="replace"))
        return len(text)

    def isatty(self) -> bool:
        return self._instead_of.isatty()

    def fileno(self) -> int:
        return self._instead_of.fileno()
