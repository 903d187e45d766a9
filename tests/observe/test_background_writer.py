"""Lines for whoever may not take them now: nobody waits, order holds, what is lost is counted."""

import io
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import pytest
from patience import PATIENCE

from marketprism.observe import background_writer
from marketprism.observe.background_writer import (
    BackgroundText,
    BackgroundWriter,
    Descriptor,
    Destination,
)


class Stuck:
    """A destination that takes something only when it is let, and fails when it is told to."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.asked = threading.Semaphore(0)
        """Once for each time that it was given something."""
        self.let = threading.Event()
        self.failure: OSError | None = None

    def write(self, lines: list[bytes]) -> bool:
        self.asked.release()
        assert self.let.wait(PATIENCE)
        if self.failure is not None:
            raise self.failure
        self.taken += lines
        return True

    def close(self) -> None:
        """Nothing to do."""


@contextmanager
def running(
    make: Callable[[], Destination],
    failed: Callable[[OSError], object] = lambda _: None,
    recovered: Callable[[int], object] = lambda _: None,
) -> Iterator[BackgroundWriter]:
    """A writer that is started, and ended."""
    writer = BackgroundWriter(make, failed, recovered)
    writer.start()
    yield writer
    writer.close(PATIENCE)


def numbered(count: int) -> list[bytes]:
    """So many lines."""
    return [b"%d\n" % number for number in range(count)]


def test_nobody_waits_for_a_destination_that_is_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    """What fits is written in order, once that is possible; then, and not before, it is told how
    many were lost, once.
    """
    monkeypatch.setattr(background_writer, "MOST_LINES", 100)
    stuck = Stuck()
    lost: list[int] = []
    with running(lambda: stuck, recovered=lost.append) as writer:
        writer.put(b"first\n")
        stuck.asked.acquire(timeout=PATIENCE)
        for line in numbered(150):
            writer.put(line)
        assert (writer.lost, stuck.taken, lost) == (50, [], [])
        stuck.let.set()
        writer.flush(PATIENCE)
        assert stuck.taken == [b"first\n", *numbered(100)]
        assert lost == [50]
        writer.put(b"last\n")
    assert stuck.taken[-1] == b"last\n"
    assert lost == [50]


def test_what_waits_is_bounded_in_bytes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tracebacks are long."""
    monkeypatch.setattr(background_writer, "MOST_BYTES", 1000)
    stuck = Stuck()
    with running(lambda: stuck) as writer:
        writer.put(b"first\n")
        stuck.asked.acquire(timeout=PATIENCE)
        for _ in range(20):
            writer.put(b"x" * 100)
        assert writer.lost == 10
        stuck.let.set()


def test_the_end_does_not_wait_for_ever() -> None:
    """To close one that is stuck returns after the time it was given; what comes later is lost."""
    stuck = Stuck()
    writer = BackgroundWriter(lambda: stuck)
    writer.start()
    writer.put(b"first\n")
    stuck.asked.acquire(timeout=PATIENCE)
    writer.flush(0.01)
    writer.close(0.01)
    assert stuck.taken == []
    writer.put(b"late\n")
    assert writer.lost == 1
    stuck.let.set()
    writer.close(PATIENCE)
    assert stuck.taken == [b"first\n"]


def test_what_fails_again_and_again_is_told_once() -> None:
    """And once more when it fails after it had worked; each line is tried."""
    stuck = Stuck()
    failures: list[OSError] = []
    lost: list[int] = []
    stuck.let.set()
    with running(lambda: stuck, failures.append, lost.append) as writer:
        for failure in (OSError(28, "full"), OSError(28, "full"), None, OSError(5, "broken"), None):
            stuck.failure = failure
            writer.put(b"line\n")
            writer.flush(PATIENCE)
            assert writer.failure is failure
        assert [failure.strerror for failure in failures] == ["full", "broken"]
        assert (lost, writer.lost, len(stuck.taken)) == ([2, 1], 3, 2)


def test_what_cannot_be_opened_is_tried_again() -> None:
    """The first line after it can be had is written."""
    stuck = Stuck()
    failures: list[OSError] = []
    stuck.let.set()
    there = False

    def make() -> Stuck:
        if not there:
            raise OSError(2, "absent")
        return stuck

    with running(make, failures.append) as writer:
        writer.opened(PATIENCE)
        assert len(failures) == 1
        writer.put(b"lost\n")
        writer.flush(PATIENCE)
        there = True
        writer.put(b"written\n")
    assert stuck.taken == [b"written\n"]
    assert len(failures) == 1


@pytest.mark.parametrize("blocking", [True, False])
def test_a_pipe_gets_every_byte(blocking: bool) -> None:
    """However slowly it is read, also where somebody who shares it wants it not to block."""
    reading, writing = os.pipe()
    os.set_blocking(writing, blocking)
    lines = numbered(30_000)
    got = b""
    with os.fdopen(writing, "w") as stream, running(partial(Descriptor, stream)) as writer:
        for at in range(0, len(lines), 5000):
            for line in lines[at : at + 5000]:
                writer.put(line)
            while len(got) < sum(map(len, lines[: at + 5000])):
                got += os.read(reading, 1000)
    os.close(reading)
    assert got == b"".join(lines)
    assert writer.lost == 0


def test_the_descriptor_is_its_own() -> None:
    """A stream that is closed, and whose number another file gets, costs that file nothing."""
    reading, writing = os.pipe()
    stream = os.fdopen(writing, "w")
    with running(partial(Descriptor, stream)) as writer:
        writer.opened(PATIENCE)
        stream.close()
        other_reading, other_writing = os.pipe()
        assert writing in (other_reading, other_writing)
        writer.put(b"line\n")
        assert os.read(reading, 100) == b"line\n"
    for descriptor in (reading, other_reading, other_writing):
        os.close(descriptor)


@pytest.mark.parametrize("breaks", [True, False])
def test_to_print_never_waits_and_says_whether_somebody_reads(breaks: bool) -> None:
    """In the place of standard output or error: a reader that has gone is told once it is known,
    to those who want to know.
    """
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stream, running(partial(Descriptor, stream)) as writer:
        text = BackgroundText(writer, stream, breaks=breaks)
        print("line", file=text, flush=True)
        assert os.read(reading, 100) == b"line\n"
        os.close(reading)
        print("nobody reads it", file=text)
        writer.flush(PATIENCE)
        if breaks:
            with pytest.raises(BrokenPipeError):
                print("line", file=text)
        else:
            print("line", file=text)


def test_a_stream_without_a_descriptor_is_written_to() -> None:
    """As tests put one in the place of standard error."""
    stream = io.StringIO()
    with running(partial(Descriptor, stream)) as writer:
        writer.put("ä\n".encode())
        writer.flush(PATIENCE)
        assert stream.getvalue() == "ä\n"
        stream.close()
        writer.put(b"late\n")
        writer.flush(PATIENCE)
        assert writer.lost == 1
