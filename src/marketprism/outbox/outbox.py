"""The outbox: what was accepted and is not yet acknowledged, in order, in memory and on disk."""

from collections.abc import Callable, Iterable

import trio
from trio.lowlevel import ParkingLot, checkpoint

from marketprism.board.board import Board
from marketprism.board.rows import QueueRow
from marketprism.clock import Timestamp
from marketprism.gaps.ids import GapStarts
from marketprism.outbox.backlog import Backlog
from marketprism.outbox.blocks import Numbered
from marketprism.outbox.disk import Disk, Worker
from marketprism.outbox.lost_stretches import LostStretches
from marketprism.outbox.spool import Spool
from marketprism.outbox.spooler import Spooler
from marketprism.wire import Message

SPILLED_SHARE = 1 / 8
"""The part of its capacity that is used where memory is short."""

__all__ = ["Numbered", "Outbox"]


def _no_time() -> Timestamp:
    return Timestamp(0, 0)


class Outbox(Backlog):
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
        losses = LostStretches(board, now)
        super().__init__(max_messages, max_bytes, row, board, losses)
        self._most = max_messages, max_bytes
        self._freed = ParkingLot()
        self._filled = ParkingLot()
        self._stirred = ParkingLot()
        self.spooler: Spooler | None = None
        """What moves messages to the disk and back; None: there is no disk."""
        if spool is not None:
            self.spooler = Spooler(self, Disk(spool, board, now, worker), board)

    @property
    def starts(self) -> GapStarts:
        """When the gaps of each stream began, whoever made them."""
        return self.losses.starts

    @property
    def safe(self) -> bool:
        """There is a disk that takes what is left at the end."""
        return self.spooler is not None and self.spooler.usable

    def append(self, messages: Iterable[Message]) -> None:
        """Accept messages, in order."""
        super().append(messages)
        if self.waiting:
            self._filled.unpark_all()
        if self._stirred and self.pressed:
            self._stirred.unpark_all()

    def spill(self, early: bool) -> None:
        """Hold less in memory, since it is short, or as much as before. What is held stays, or
        goes to disk.
        """
        share = SPILLED_SHARE if early else 1
        row = self.row
        row.capacity, row.capacity_bytes = (max(1, int(most * share)) for most in self._most)
        if not self.full:
            self._freed.unpark_all()
        self._stirred.unpark_all()

    async def room(self) -> None:
        """Return when it is not full."""
        while self.full:
            self.crowded = True
            self._stirred.unpark_all()
            await self._freed.park()
        self.crowded = False

    async def available(self) -> None:
        """Return when there is something to take, or there will be nothing more."""
        if not self.takeable:
            self._stirred.unpark_all()
        while not self.takeable and not self.spent:
            await self._filled.park()

    def rewind(self) -> None:
        """Let what was taken and not acknowledged wait again, ahead of the rest, in order."""
        super().rewind()
        if self.waiting:
            self._filled.unpark_all()

    async def forget_stored(self, subject: str, msg_id: str | None) -> int:
        """Forget what is held of a subject up to and including `msg_id`, its last message in the
        stream (None: there is none); how many that is, 0 where that message is not held. They
        count as published, which the caller sees to.

        The subject is in doubt no longer.
        """
        await checkpoint()
        settled = self._settled(subject, msg_id)
        self.moved()
        return settled

    def close(self) -> None:
        """Nothing more will be appended."""
        self.closed = True
        self._filled.unpark_all()
        self._stirred.unpark_all()

    def moved(self) -> None:
        """See `Backlog.moved`."""
        if self.takeable or self.spent:
            self._filled.unpark_all()
        if not self.full:
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
        self.row.held = self.row.held_bytes = 0
        if self.spooler is not None:
            await self.spooler.leave()

    async def recovered(self) -> dict[str, Message]:
        """The last message of each subject that a former process left."""
        return {} if self.spooler is None else self.spooler.recovered

    def gap_pending(self) -> list[Message]:
        """The first of each subject that a former process left so; they are told once."""
        if self.spooler is None:
            return []
        found, self.spooler.gap_pending = self.spooler.gap_pending, {}
        return list(found.values())

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
            with trio.move_on_after(wait):
                await self._stirred.park()

    async def store(self) -> int:
        """The end: put what is not acknowledged on disk; how many are there. What is still held
        in memory after that could not be. Neither `run` nor a sink may be at work.
        """
        return 0 if self.spooler is None else await self.spooler.store()
