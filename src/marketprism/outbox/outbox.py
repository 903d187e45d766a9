"""The outbox: what was accepted and is not yet acknowledged, in order, in memory and on disk."""

from collections.abc import Callable, Sequence

import trio
from trio.lowlevel import ParkingLot, checkpoint

from marketprism.board.board import Board
from marketprism.board.rows import QueueRow
from marketprism.clock import Timestamp
from marketprism.gaps.ids import GapStarts
from marketprism.outbox.block import Numbered
from marketprism.outbox.disk import Disk, Worker
from marketprism.outbox.log import Log
from marketprism.outbox.spool import Spool
from marketprism.outbox.spooler import Spooler
from marketprism.wire import Message

SPILLED_SHARE = 1 / 8
"""The part of its capacity that is used where memory is short."""

__all__ = ["Numbered", "Outbox"]


def _no_time() -> Timestamp:
    return Timestamp(0, 0)


class Outbox:
    """An ordered log of messages from the channel to their acknowledgement.

    A message waits, is taken, and is acknowledged; `rewind` makes those that were taken in vain
    wait again, ahead of the others, under the numbers they had. It holds `max_messages` and
    `max_bytes` of payload in memory, and what one `append` may bring beyond. `row` shows how full
    it is.

    With a spool, what there is beyond three quarters of that waits on disk. When the disk has no
    room or fails, it is full as it is without one: nothing that was accepted is thrown away.

    One task appends and one takes; only `room` and `available` wait. `run` is a third.
    """

    def __init__(
        self,
        max_messages: int,
        max_bytes: int,
        row: QueueRow,
        *,
        board: Board | None = None,
        spool: Spool | None = None,
        now: Callable[[], Timestamp] = _no_time,
        worker: Worker | None = None,
    ) -> None:
        board = board or Board()
        self.now = now
        self.starts = GapStarts()
        """When the gaps of each stream began, whoever made them."""
        self.log = Log(row, board, self.starts)
        row.capacity, row.capacity_bytes = self._most = max_messages, max_bytes
        self._crowded = False
        """Somebody waits for room."""
        self._freed = ParkingLot()
        self._filled = ParkingLot()
        self._stirred = ParkingLot()
        self.spooler: Spooler | None = None
        """What moves messages to the disk and back; None: there is no disk."""
        if spool is not None:
            spool.starts = self.starts
            self.spooler = Spooler(self.log, Disk(spool, board, now, worker), board)

    @property
    def full(self) -> bool:
        """Nothing more should be appended now."""
        return self.log.window.full

    @property
    def closed(self) -> bool:
        """Nothing more will be appended."""
        return self.log.closed

    @property
    def spent(self) -> bool:
        """It is closed, and there is nothing to take unless it is rewound."""
        return self.log.spent

    @property
    def drained(self) -> bool:
        """It is closed, and all that was in it is acknowledged."""
        return self.log.drained

    @property
    def safe(self) -> bool:
        """There is a disk that takes what is left at the end."""
        return self.spooler is not None and self.spooler.usable

    def append(self, messages: Sequence[Message]) -> None:
        """Accept messages, in order."""
        self.log.append(messages)
        if self._filled and self.log.takeable:
            self._filled.unpark_all()
        if self._stirred and self.log.window.pressed:
            self._stirred.unpark_all()

    def take(self, most: int) -> list[Numbered]:
        """The next messages that wait, `most` of them at most."""
        return self.log.take(most)

    def acknowledge(self, number: int) -> Message | None:
        """Forget a message that is safe, and return it; None for one that is not out."""
        message = self.log.acknowledge(number)
        if self._crowded:
            self._moved()
        return message

    def replace(
        self, number: int, instead_of: Callable[[Message], Message | None]
    ) -> Message | None:
        """Put what `instead_of` makes of a message that is out in its place, under its number, and
        return it; None: forget the message.
        """
        message = self.log.replace(number, instead_of)
        self._moved()
        return message

    def spill(self, early: bool) -> None:
        """Hold less in memory, since it is short, or as much as before. What is held stays, or
        goes to disk.
        """
        share = SPILLED_SHARE if early else 1
        row = self.log.window.row
        row.capacity, row.capacity_bytes = (max(1, int(most * share)) for most in self._most)
        self._moved()
        self._stirred.unpark_all()

    async def room(self) -> None:
        """Return when it is not full."""
        while self.log.window.full:
            self._crowded = True
            self._stirred.unpark_all()
            await self._freed.park()
        self._crowded = False

    async def available(self) -> None:
        """Return when there is something to take, or there will be nothing more."""
        if not self.log.takeable:
            self._stirred.unpark_all()
        while not self.log.takeable and not self.log.spent:
            await self._filled.park()

    def rewind(self) -> None:
        """Let what was taken and not acknowledged wait again, ahead of the rest, in order."""
        self.log.rewind()
        self._moved()

    def in_doubt(self) -> list[str]:
        """The subjects of messages that may be in the stream although nobody told us: those that
        were taken in vain, by us or by a former process.
        """
        return self.log.doubts.subjects

    def skip(self, subject: str, msg_id: str) -> None:
        """The next message of this subject is stored already if it has this id: it is on disk, and
        is left out when it comes. Of a subject of which nothing was taken yet.
        """
        self.log.doubts.skip(subject, msg_id)

    @property
    def skips(self) -> bool:
        """Something that is stored already is still to be left out, which no disk remembers."""
        return self.log.doubts.skips

    async def forget_stored(self, subject: str, msg_id: str | None) -> int:
        """Forget what is held of a subject up to and including `msg_id`, its last message in the
        stream (None: there is none); how many that is, 0 where that message is not held. They
        count as published, which the caller sees to.

        The subject is in doubt no longer.
        """
        await checkpoint()
        stored = self.log.forget_stored(subject, msg_id)
        self._moved()
        return stored

    def close(self) -> None:
        """Nothing more will be appended."""
        self.log.close(self.now().wall)
        self._filled.unpark_all()
        self._stirred.unpark_all()

    def _moved(self) -> None:
        """Something is elsewhere than before: whoever waits may go on."""
        if self.log.takeable or self.log.spent:
            self._filled.unpark_all()
        if not self.log.window.full:
            self._freed.unpark_all()

    async def open(self) -> None:
        """Take over what a former process left on disk; it comes first.

        Raises StartFailed when another process has that disk's spool.
        """
        if self.spooler is not None:
            await self.spooler.open()

    def abandon(self) -> None:
        """Let an `open` that takes long end soon; `leave` follows."""
        if self.spooler is not None:
            self.spooler.abandon()

    async def leave(self) -> None:
        """Let go of what was taken over, as it is on disk; nothing was added to it."""
        self.log.window.row.held = self.log.window.row.held_bytes = 0
        if self.spooler is not None:
            await self.spooler.leave()

    async def recovered(self) -> dict[str, Message]:
        """The last message of each subject that a former process left."""
        return {} if self.spooler is None else self.spooler.recovered

    def gap_pending(self) -> list[Message]:
        """The first of each subject that a former process left so; they are told once."""
        return [] if self.spooler is None else self.spooler.gap_pending()

    async def place(self) -> None:
        """None of the messages that it holds is `gap_pending` any more: the gaps ahead of those are
        stored. The disk remembers that, too.
        """
        if self.spooler is not None:
            await self.spooler.place()

    async def run(self) -> None:
        """Carry messages to the disk and back as is needed, for ever."""
        if self.spooler is None:
            return
        while True:
            wait = await self.spooler.turn()
            self._moved()
            with trio.move_on_after(wait):
                await self._stirred.park()

    async def store(self) -> int:
        """The end: put what is not acknowledged on disk; how many are there. What is still held
        in memory after that could not be. Neither `run` nor a sink may be at work.
        """
        return 0 if self.spooler is None else await self.spooler.store()
