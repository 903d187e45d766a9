"""How messages get from the log to its disk and back: the single steps. See `spooler`."""

import contextlib
from collections.abc import Sequence

import attrs
import structlog
import trio

from marketprism.board.board import Board
from marketprism.errors import SpoolDamaged, SpoolFull, SpoolLost
from marketprism.outbox.block import Numbered
from marketprism.outbox.disk import Disk
from marketprism.outbox.log import Log
from marketprism.outbox.peek import gap_start
from marketprism.outbox.unread import Unread
from marketprism.records import Gap
from marketprism.wire import Message

HEAD = 8192
"""Messages that are kept in memory when the rest goes to disk, at most; and read at once."""
PARTS = 8
"""What is kept then, and what is read at once, is no more than such a part of the memory."""
TRIM = 0.5
"""Seconds between two deletions of what was acknowledged."""

log = structlog.get_logger()


class Transfer:
    """What of a log is where, and the steps that change it. What they raise is what `Disk` does."""

    def __init__(self, log: Log, disk: Disk, board: Board) -> None:
        self.recovered: dict[str, Message] = {}
        """The last of each subject that a former process left."""
        self.gap_pending: dict[str, Message] = {}
        """The first of each subject that a former process left so."""
        self.trouble: SpoolLost | None = None
        """Why the disk can only be read."""
        self._log = log
        self._disk = disk
        self._row = board.spool
        self._board = board
        self._unread = Unread()
        disk.spool.block = min(disk.spool.block, max(1, self._few))
        disk.spool.block_bytes = min(disk.spool.block_bytes, self._part)
        self._placed = 0
        """See `Progress`."""
        self._trimmed_at = 0.0
        self._trimmed = 0

    @property
    def _few(self) -> int:
        return max(1, min(HEAD, self._log.window.row.capacity // PARTS))

    @property
    def _part(self) -> int:
        return self._log.window.row.capacity_bytes // PARTS

    @property
    def short(self) -> bool:
        """There are few messages in memory that may be taken, and room for more: a sink that takes
        all there is must not fill it, since what comes has to pass through it to the disk.
        """
        window = self._log.window
        tail, waiting = (sum(map(len, queue)) for queue in (window.tail, window.waiting))
        head = window.row.held - tail
        return waiting * 2 < self._few and head * 4 < window.row.capacity * 3

    def take_over(self) -> None:
        """What a former process left: what it may have delivered goes to memory at once. Blocking,
        as the disk is; nobody else has the log then.
        """
        held, spool = self._log, self._disk.spool
        progress = spool.progress
        loaded = spool.reach(progress.handed_out)
        spool.mark(loaded)
        held.take_over(progress.handed_out, loaded)
        held.continue_after(max(attrs.astuple(progress)))
        self._placed = progress.placed
        for block in spool.blocks():
            messages = self._as_placed(block.messages())
            for _, message in messages:
                self.recovered[message.subject] = message
                if message.gap_pending:
                    self.gap_pending.setdefault(message.subject, message)
                if message.data_type == Gap.data_type:
                    spool.starts.note(*gap_start(message))
            if not held.found(messages):
                self._leave(messages)
        held.taken_over()

    def count_damage(self) -> None:
        """What it cost that what a former process left was damaged."""
        damage = self._disk.spool.damage
        if damage is not None:
            handed_out = self._disk.spool.progress.handed_out
            stored = [each for each in damage.dropped if each[0] <= handed_out]
            self._log.doubts.add(stored)
            self._log.doubts.remember(stored, 0)
            self._log.mended(damage, self._log.away)

    async def begin(self) -> None:
        """From now on everything goes by the disk, what is in memory first. Raises SpoolLost where
        that cannot be: then nothing does.
        """
        held, begun = self._log, False
        await self._disk.reopen()
        held.begin_spooling(self._few, self._part)
        head = held.window.but_tail()
        try:
            await self._disk.write(head, head[-1][0] if head else 0)
            held.begun(head)
            begun = True
        except SpoolFull as full:
            raise SpoolLost(str(full)) from full
        finally:
            if not begun:  # for whatever reason; a cancellation is one
                held.end_spooling()

    async def put(self) -> None:
        """Write the oldest of the tail. Where nothing else is on disk alone, and there are few in
        memory, they stay there too. Raises SpoolFull where there is no room: the tail stays.
        """
        held = self._log
        batch = held.window.oldest_of_tail(self._disk.spool.most_at_once)
        stays = not held.away and self.short and not held.window.pressed
        await self._disk.write(batch, batch[-1][0] if stays else 0)
        held.wrote(batch, stays=stays)
        if self._row.state == "full" and not self._disk.crowded:
            self._disk.say("spooling")
        if not stays:
            self._leave(batch)

    async def fetch(self) -> None:
        """Read the oldest that are on disk alone. Nothing is handed out before that is on record; a
        disk that is full takes the record, one that takes nothing at all is not waited for.
        """
        batch = await self.next()
        try:
            await self._disk.mark(batch[-1][0], self._log.floor)
        except SpoolFull as full:
            raise SpoolLost(str(full)) from full
        except SpoolLost as failure:
            self.trouble = failure  # what can be read is delivered all the same
        self._log.fetched(batch)
        self._row.held -= len(batch)
        self._row.held_bytes -= payload_bytes(batch)
        self._unread.remove(batch)

    async def next(self) -> list[Numbered]:
        """The oldest that are on disk alone."""
        after = self._log.watermarks.loaded
        batch = self._as_placed(await self._disk.read(after, self._few, self._part))
        if not batch:
            raise SpoolDamaged(f"{self._row.path}: messages are missing")
        return batch

    async def salvage(self, why: str) -> None:
        """The file is damaged: write what memory has of it anew, and go on with what can be read of
        the rest.
        """
        held = self._log
        damage, left = await self._disk.salvage(why, held.window.but_tail(), held.watermarks.loaded)
        self._unread.replace(left)
        self._row.held = sum(content.count or 0 for content in left.values())
        self._row.held_bytes = sum(content.size for content in left.values())
        held.mended(damage, self._row.held)
        self._trimmed = 0

    async def end(self) -> None:
        """All that was on disk is acknowledged: where a full disk does not let the file be emptied,
        it is deleted.
        """
        await self.clear()
        self._log.end_spooling()
        self._trimmed = 0

    async def clear(self) -> None:
        """Nothing in the file is held."""
        try:
            await self._disk.clear()
        except SpoolLost as failure:
            await self._disk.remove()
            log.warning("spool.removed", path=self._row.path, reason=str(failure))

    def give_up(self) -> None:
        """What is on disk cannot be had."""
        self._row.held = self._row.held_bytes = 0
        self._log.end_spooling(self._unread.lose())
        self._trimmed = 0

    async def place(self) -> None:
        """No message that is held is `gap_pending` any more."""
        self._placed = self._log.watermarks.next
        await self._disk.mark(placed=self._placed)

    @property
    def trim_due(self) -> bool:
        """Something on disk is acknowledged, and not deleted for a while."""
        moved = self._log.floor > self._trimmed
        return moved and trio.current_time() >= self._trimmed_at + TRIM

    async def trim(self) -> None:
        """Delete what is acknowledged."""
        floor = self._log.floor
        self._trimmed_at = trio.current_time()
        with contextlib.suppress(SpoolFull, SpoolLost):  # what follows says it
            await self._disk.mark(self._log.watermarks.loaded, floor)
        try:
            await self._disk.trim(floor)
        except SpoolLost as failure:
            self.trouble = failure
            return
        self._trimmed = floor

    def _as_placed(self, batch: list[Numbered]) -> list[Numbered]:
        """As they are by now."""
        for number, message in batch:
            message.gap_pending = message.gap_pending and number > self._placed
        return batch

    def _leave(self, batch: Sequence[Numbered]) -> None:
        """These are on disk and not in memory."""
        self._row.held += len(batch)
        self._row.held_bytes += payload_bytes(batch)
        self._unread.add(batch)


def payload_bytes(batch: Sequence[Numbered]) -> int:
    """Of all of them together."""
    return sum(len(message.payload) for _, message in batch)
