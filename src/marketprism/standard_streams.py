"""Standard input, output and error, in whatever state we are given them."""

import contextlib
import os
import select
import sys
from collections.abc import Iterable, Iterator
from functools import partial

from marketprism.observe.background_writer import BackgroundText, BackgroundWriter, Descriptor


def occupied() -> None:
    """Have none of the three closed: the next file or socket that is opened would take its number,
    and get what is meant for people.
    """
    with contextlib.suppress(OSError):
        while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
            os.set_inheritable(descriptor, True)
        os.close(descriptor)
    if sys.stderr is None:
        # Where there is none, `print` would take standard output.
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (until the end)


@contextlib.contextmanager
def printing_in_background(within: float = 1.0) -> Iterator[None]:
    """What is printed never waits for whoever reads it; at the end so many seconds."""
    if (stream := sys.stdout) is None:
        yield
        return
    writer = BackgroundWriter(partial(Descriptor, stream))
    writer.start()
    sys.stdout = BackgroundText(writer, stream, breaks=True)
    try:
        yield
    finally:
        sys.stdout = stream
        writer.close(within)


def unread(errors: Iterable[BaseException]) -> bool:
    """Whether these mean that whoever read our output has gone (`| head`), which is no failure."""
    return all(isinstance(error, BrokenPipeError) for error in errors) and _reader_gone()


def _reader_gone() -> bool:
    poll = select.poll()
    poll.register(1, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def flushed() -> str | None:
    """Have what was printed written; in words, why that is not possible. Then it is thrown away,
    or the interpreter would try again at its end. That nobody reads it is no failure.
    """
    if sys.stdout is None:
        return None
    try:
        sys.stdout.flush()
    except OSError as error:
        trouble = None if unread([error]) else f"standard output: {error.strerror}"
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.close(nowhere)
        return trouble
    return None
