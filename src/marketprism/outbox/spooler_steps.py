"""How messages get from memory to the disk and back: the single steps. See `spooler`."""

import contextlib
import math
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import chain

import attrs
import trio

from marketprism.board.board import Board
from marketprism.errors import SpoolDamaged, SpoolFull, SpoolLost
from marketprism.outbox.backlog import STEP, Backlog, payload_bytes
from marketprism.outbox.blocks import Numbered
from marketprism.outbox.disk import Disk
from marketprism.outbox.peek import gap_start
from marketprism.outbox.spool import Saved
from marketprism.outbox.unread import Unread
from marketprism.records import Gap
from marketprism.wire import Message

HEAD = 8192
"""Messages that are kept in memory when the rest goes to disk, at most; and read at once."""
PARTS = 8
"""What is kept then, and what is read at once, is no more than such a part of the memory."""
TRIM = 0.5
"""Seconds between two deletions of what was acknowledged."""


class SpoolerSteps:
    """What of an outbox is where, and the steps that change it."""

    def __init__(self, outbox: Backlog, disk: Disk, board: Board) -> None:
        self.recovered: dict[str, Message] = {}
        self.gap_pending: dict[str, Message] = {}
        """The first of each subject that a former process left so."""
        self._outbox = outbox
        self._disk = disk
        self._row = board.spool
        self._unread = Unread()
        disk.spool.block = min(disk.spool.block, max(1, self._few))
        disk.spool.block_bytes = min(disk.spool.block_bytes, outbox.row.capacity_bytes // PARTS)
        self._written = 0
        """Everything up to this number that is not acknowledged is on disk."""
        self._loaded = 0
        """Everything up to this number that is on disk is in memory too."""
        self._trouble: SpoolLost | None = None
        """Why it can only be read."""
        self._placed = 0
        """See `Watermarks`."""
        self._trimmed_at = 0.0
        self._trimmed = 0

    def _take_over(self) -> None:
        """What a former process left: what it may have delivered goes to memory at once."""
        outbox, spool = self._outbox, self._disk.spool
        mark = spool.marked
        loaded = spool.reach(mark.handed)
        spool.mark(loaded)
        outbox.handed = mark.handed
        lost = spool.lost()
        lowest = min([spool.lowest() or math.inf, *(each.first for each in lost)])
        dropped = outbox.losses.restore(spool.losses(), lowest)
        for each in lost:
            outbox.losses.drop_block(each, handed=mark.handed)
            dropped = max(dropped, each.last)
        outbox.continue_after(max(dropped, *attrs.astuple(mark)))
        self._placed = mark.placed
        for block in spool.blocks():
            messages = self._read(block.messages())
            outbox.continue_after(block.last)
            self._written = block.last
            for _, message in messages:
                self.recovered[message.subject] = message
                if message.gap_pending:
                    self.gap_pending.setdefault(message.subject, message)
                if message.data_type == Gap.data_type:
                    outbox.losses.starts.note(*gap_start(message))
            if block.last <= loaded:
                self._loaded = block.last
                outbox.waiting.extend(messages)
                outbox.recount(messages, 1)
                outbox.doubt((each.subject, n) for n, each in messages if n <= outbox.handed)
            else:
                self._leave(messages)
        outbox.doubt((subject, outbox.handed) for subject in outbox.losses.subjects)
        if self._written or outbox.losses:
            outbox.tail = deque()

    async def _put(self) -> None:
        """Write the oldest of the tail. Where nothing else is on disk alone, and there are few in
        memory, they stay there too. Raises SpoolFull where there is no room: the tail stays.
        """
        outbox = self._outbox
        assert outbox.tail is not None
        batch = self._at_once(outbox.tail)
        stay = not outbox.away and self._short and not outbox.pressed
        await self._write(batch, batch[-1][0] if stay else 0)
        for _ in batch:
            outbox.tail.popleft()
        if self._row.state == "full" and not self._disk.crowded:
            self._disk.say("spooling")
        if stay:
            outbox.waiting.extend(batch)
            self._loaded = self._written
        else:
            outbox.recount(batch, -1)
            self._leave(batch)

    async def _fetch(self) -> None:
        """Read the oldest that are on disk alone. Nothing is handed out before that is on record; a
        disk that is full takes the record, one that takes nothing at all is not waited for.
        """
        outbox = self._outbox
        batch = await self._next()
        try:
            await self._mark(batch[-1][0])
        except SpoolFull as full:
            raise SpoolLost(str(full)) from full
        except SpoolLost as failure:
            self._trouble = failure  # what can be read is delivered all the same
        self._returned(batch)
        outbox.waiting.extend(batch)
        outbox.recount(batch, 1)

    async def _mark(self, handed: int) -> None:
        """Put on record what may be given to a sink. What was dropped, and is not saved yet, must
        be found on the disk again by a process that begins before it is.
        """
        floor = 0 if self._outbox.losses.changed else self._floor
        await self._disk.mark(handed, floor)

    async def _salvage(self, why: str) -> None:
        """The file is damaged: go on with what can be read of it. What memory still has of a block
        that is lost is written again; the rest lies in a gap.
        """
        outbox = self._outbox
        lost, left = await self._disk.salvage(why, self._loaded)
        for block in lost:
            held = chain(outbox.taken.items(), outbox.waiting)
            again = [each for each in held if block.first <= each[0] <= block.last]
            if again := [each for each in again if not each[0] % STEP]:
                await self._disk.write(again, 0)
            if block.last > self._loaded:
                outbox.losses.drop_block(block, after=self._loaded)
        self._unread.replace(left)
        self._row.held = outbox.away = sum(content.count or 0 for content in left.values())
        self._row.held_bytes = sum(content.size for content in left.values())
        self._trimmed = 0

    async def _next(self) -> list[Numbered]:
        part = self._outbox.row.capacity_bytes // PARTS
        batch = self._read(await self._disk.read(self._loaded, self._few, part))
        if not batch:
            raise SpoolDamaged(f"{self._row.path}: messages are missing")
        return batch

    def _returned(self, batch: Sequence[Numbered]) -> None:
        """These are no longer on disk alone."""
        self._loaded = batch[-1][0]
        self._outbox.away -= len(batch)
        self._row.held -= len(batch)
        self._row.held_bytes -= payload_bytes(batch)
        self._unread.remove(batch)

    def _read(self, batch: list[Numbered]) -> list[Numbered]:
        """As they are by now."""
        for number, message in batch:
            message.gap_pending = message.gap_pending and number > self._placed
        return batch

    def _leave(self, batch: Sequence[Numbered]) -> None:
        """These are on disk and not in memory."""
        self._outbox.away += len(batch)
        self._row.held += len(batch)
        self._row.held_bytes += payload_bytes(batch)
        self._unread.add(batch)

    async def _write(
        self, batch: Sequence[Numbered], handed: int, losses: Saved | None = None
    ) -> None:
        await self._disk.write(batch, handed, losses)
        self._written = batch[-1][0] if batch else self._outbox.handed

    @property
    def _few(self) -> int:
        return max(1, min(HEAD, self._outbox.row.capacity // PARTS))

    @property
    def _short(self) -> bool:
        """There are few messages in memory that may be taken, and room for more: a sink that takes
        all there is must not fill it, since what comes has to pass through it to the disk.
        """
        outbox = self._outbox
        head = outbox.row.held - len(outbox.tail or ())
        return len(outbox.waiting) * 2 < self._few and head * 4 < outbox.row.capacity * 3

    @property
    def _floor(self) -> int:
        """The lowest number that is held."""
        outbox = self._outbox
        return min(outbox.floor, self._loaded + 1) if outbox.away else outbox.floor

    @property
    def _trim_due(self) -> bool:
        moved = self._floor > self._trimmed or self._outbox.losses.changed
        return moved and trio.current_time() >= self._trimmed_at + TRIM

    async def _trim(self) -> None:
        outbox, floor = self._outbox, self._floor
        self._trimmed_at = trio.current_time()
        with contextlib.suppress(SpoolFull, SpoolLost):  # what follows says it
            await self._mark(self._loaded)
        saved, changed = outbox.losses.saved(), outbox.losses.changed
        outbox.losses.changed = False
        try:
            left = await self._disk.trim(floor, saved)
        except SpoolLost as failure:
            self._trouble = failure
            outbox.losses.changed = outbox.losses.changed or changed
            return
        self._trimmed = floor
        outbox.losses.forget(left)

    def _at_once(self, messages: Iterable[Numbered]) -> list[Numbered]:
        """As many of them as are written together."""
        batch: list[Numbered] = []
        size = 0
        for each in messages:
            size += len(each[1].payload)
            if batch and size > self._disk.spool.most_at_once:
                break
            batch.append(each)
        return batch
