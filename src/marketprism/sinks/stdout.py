"""A sink for people and pipes: JSON lines, the payload of a message each."""

import os
import signal
import sys
from collections.abc import Callable, Sequence

import trio

from marketprism.board.board import Board
from marketprism.errors import SinkState
from marketprism.outbox.outbox import Numbered, Outbox
from marketprism.sinks.delivered import count_published

BATCH = 256


def _ask_to_stop() -> None:
    signal.raise_signal(signal.SIGTERM)


class StdoutSink:
    """Writes to a file descriptor; what is written counts as acknowledged.

    When whoever reads it has gone (`| head`), there is no failure to recover from: `reader_gone`
    is called once, by default the same as a SIGTERM, and what is left is thrown away until the
    outbox is closed.
    """

    def __init__(
        self,
        board: Board,
        descriptor: int | None = None,
        reader_gone: Callable[[], object] = _ask_to_stop,
    ) -> None:
        self._board = board
        self._descriptor = sys.stdout.fileno() if descriptor is None else descriptor
        self._reader_gone = reader_gone
        board.sink.kind = board.sink.target = "stdout"

    async def run(self, outbox: Outbox) -> None:
        """Write everything until the outbox is drained. Raises nothing of its own."""
        row = self._board.sink
        row.connected, row.reason, row.state = True, None, SinkState.CONNECTED
        row.connects += 1
        outbox.rewind()
        try:
            while not outbox.drained:
                await outbox.available()
                batch = outbox.take(BATCH)
                if row.connected and not await self._write(batch):
                    row.connected, row.reason = False, "nobody reads our output any more"
                    row.state = SinkState.UNREACHABLE
                    self._reader_gone()
                if row.connected:
                    count_published(self._board, (message for _, message in batch))
                for sequence, _ in batch:
                    outbox.acknowledge(sequence)
        finally:
            row.connected = False

    async def _write(self, batch: Sequence[Numbered]) -> bool:
        """Whether somebody could read it."""
        # A payload is JSON in one line: there are no line breaks in it but escaped ones.
        text = b"".join(b"%b\n" % message.payload for _, message in batch)
        started = trio.current_time()
        try:
            # A pipe may be full for as long as its reader likes: shutdown does not wait for it.
            await trio.to_thread.run_sync(
                _write_all, self._descriptor, text, abandon_on_cancel=True
            )
        except BrokenPipeError:
            return False
        self._board.acknowledgement.add(trio.current_time() - started, len(batch))
        return True


def _write_all(descriptor: int, text: bytes) -> None:
    # Not through sys.stdout: what its buffer still held would fail again at exit.
    rest = memoryview(text)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
