"""How the outbox uses its disk.

From the moment something is on disk, everything that is not acknowledged is: a message may be
taken only once it is written, and the disk is emptied before anything else is taken from memory.
So what a crash costs is always the end of the log, never a piece of its middle; and whatever a
former process may have delivered of what it left stands at its beginning, up to a mark.
"""

import math
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING

import structlog
import trio

from marketprism.errors import SpoolDamaged, SpoolFull, SpoolLost
from marketprism.records import Gap
from marketprism.sinks.absent import Absent
from marketprism.sinks.backlog import STEP, payload_bytes
from marketprism.sinks.blocks import Numbered
from marketprism.sinks.disk import Disk
from marketprism.sinks.identity import gap_start
from marketprism.sinks.spool import Saved
from marketprism.status import Board
from marketprism.wire import Message

if TYPE_CHECKING:
    from marketprism.sinks.outbox import Outbox

HEAD = 8192
"""Messages that are kept in memory when the rest goes to disk, at most; and read at once."""
PARTS = 8
"""What is kept then, and what is read at once, is no more than such a part of the memory."""
TICK = 0.02
"""Seconds that messages gather before they are written."""
TRIM = 0.5
"""Seconds between two deletions of what was acknowledged."""
RETRY = 2.0
"""Seconds until a disk that failed is tried again."""

log = structlog.get_logger()


class Spooling:
    """Moves messages of an outbox to its disk and back."""

    def __init__(self, outbox: "Outbox", disk: Disk, board: Board) -> None:
        self.recovered: dict[str, Message] = {}
        self._outbox = outbox
        self._disk = disk
        self._row = board.spool
        self._absent = Absent()
        disk.spool.block = min(disk.spool.block, max(1, self._few))
        disk.spool.block_bytes = min(disk.spool.block_bytes, outbox.row.capacity_bytes // PARTS)
        self._written = 0
        """Everything up to this number that is not acknowledged is on disk."""
        self._loaded = 0
        """Everything up to this number that is on disk is in memory too."""
        self._trouble: SpoolLost | None = None
        """Why it can only be read."""
        self._retry_at = 0.0
        """When it may be written again, after it failed; the same for reading:"""
        self._read_at = 0.0
        self._trimmed_at = 0.0
        self._trimmed = 0

    @property
    def usable(self) -> bool:
        """There is a disk that can be written, as far as is known."""
        return self._disk.usable

    async def open(self) -> None:
        """See `Outbox.open`."""
        outbox = self._outbox
        try:
            await self._disk.open(self._take_over)
        except SpoolDamaged as damage:
            await self._give_up(str(damage))
        except SpoolLost as failure:
            await self._disk.close()
            self._failed(failure)
        if outbox.tail is not None:
            self._disk.say("spooling")
            log.info("spool.recovered", messages=outbox.row.held + outbox.away, path=self._row.path)

    def _take_over(self) -> None:
        """What a former process left: what it may have delivered goes to memory at once."""
        outbox, spool = self._outbox, self._disk.spool
        outbox.handed = spool.handed()
        dropped = outbox.losses.restore(spool.losses(), spool.lowest() or math.inf)
        outbox.continue_after(max(dropped, outbox.handed))
        for block in spool.blocks():
            messages = block.messages()
            outbox.continue_after(block.last)
            self._written = block.last
            for _, message in messages:
                self.recovered[message.subject] = message
                if message.data_type == Gap.data_type:
                    outbox.losses.starts.note(*gap_start(message))
            if block.first <= outbox.handed:
                self._loaded = block.last
                outbox.waiting.extend(messages)
                outbox.recount(messages, 1)
                outbox.doubt((each.subject, n) for n, each in messages if n <= outbox.handed)
            else:
                self._leave(messages)
        outbox.doubt((subject, outbox.handed) for subject in outbox.losses.subjects)
        if self._written or outbox.losses:
            outbox.tail = deque()
            spool.mark(self._loaded)

    async def turn(self) -> float:
        """One round of what there is to do; the seconds until the next, unless there is a stir."""
        outbox = self._outbox
        try:
            if outbox.tail is not None:
                await self._move()
            elif outbox.pressed and trio.current_time() >= self._retry_at:
                await self._begin()
        except SpoolDamaged as damage:
            await self._give_up(str(damage))
        except SpoolLost as failure:
            self._failed(failure)
        if outbox.full and self._row.state == "failed":
            await self._let_go()
        outbox.moved()
        if outbox.tail is not None:
            return TICK
        return RETRY if outbox.pressed else math.inf

    async def _begin(self) -> None:
        """From now on everything goes by the disk, what is in memory first."""
        outbox = self._outbox
        await self._disk.reopen()
        outbox.split(self._few, outbox.row.capacity_bytes // PARTS)
        held = chain(outbox.taken.items(), outbox.waiting)
        head = [each for each in held if not each[0] % STEP]
        outbox.held_back = True
        try:
            outbox.losses.forget(outbox.floor)
            await self._write(head, head[-1][0] if head else 0, outbox.losses.saved())
        except (SpoolFull, SpoolLost) as failure:
            outbox.join()
            raise SpoolLost(str(failure)) from failure
        finally:
            outbox.held_back = False
        self._loaded = self._written
        self._disk.say("spooling")

    async def _move(self) -> None:
        """Delete, read and write, as is due."""
        outbox = self._outbox
        if not (outbox.away or outbox.waiting or outbox.taken):
            await self._end()
            return
        if outbox.away and self._short and trio.current_time() >= self._read_at:
            self._read_at = trio.current_time() + RETRY
            await self._fetch()
            self._read_at = 0.0
        if trio.current_time() < self._retry_at:
            return
        self._trouble = None
        # The last ones are not written any more: once the disk is empty they need not be.
        if outbox.tail and (outbox.away or outbox.waiting or outbox.pressed):
            await self._put()
        if self._trim_due:
            await self._trim()
        if self._trouble is not None:
            raise self._trouble
        if self._row.state == "failed":
            self._disk.say("spooling")

    async def _put(self) -> None:
        """Write the oldest of the tail. Where nothing else is on disk alone, and there are few in
        memory, they stay there too.
        """
        outbox = self._outbox
        assert outbox.tail is not None
        batch = self._at_once(outbox.tail)
        stay = not outbox.away and self._short and not outbox.pressed
        try:
            await self._write(batch, batch[-1][0] if stay else 0)
        except SpoolFull as full:
            self._disk.say("full", str(full))
            if not await self._make_room(payload_bytes(batch)):
                raise SpoolLost(str(full)) from full
            return
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
        """Read the oldest that are on disk alone."""
        outbox = self._outbox
        part = outbox.row.capacity_bytes // PARTS
        batch = await self._disk.read(self._loaded, self._few, part)
        if not batch:
            raise SpoolDamaged(f"{self._row.path}: messages are missing")
        try:
            await self._disk.mark(batch[-1][0])
        except SpoolLost as failure:
            self._trouble = failure  # what can be read is delivered all the same
        self._loaded = batch[-1][0]
        outbox.waiting.extend(batch)
        outbox.recount(batch, 1)
        outbox.away -= len(batch)
        self._row.held -= len(batch)
        self._row.held_bytes -= payload_bytes(batch)
        self._absent.remove(batch)

    def _leave(self, batch: Sequence[Numbered]) -> None:
        """These are on disk and not in memory."""
        self._outbox.away += len(batch)
        self._row.held += len(batch)
        self._row.held_bytes += payload_bytes(batch)
        self._absent.add(batch)

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
        """There are few messages in memory that may be taken."""
        return len(self._outbox.waiting) * 2 < self._few

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
        beyond = min(outbox.beyond, self._loaded + 1) if outbox.away else outbox.beyond
        saved, outbox.losses.changed = outbox.losses.saved(), False
        self._trimmed_at = trio.current_time()
        try:
            left = await self._disk.trim(floor, outbox.handed, beyond, saved)
        except SpoolLost as failure:
            self._trouble, outbox.losses.changed = failure, True
            return
        self._trimmed = floor
        outbox.losses.forget(left)

    async def _make_room(self, size: int) -> bool:
        """Let the oldest go, so many bytes of payload; whether anything went."""
        outbox, gone = self._outbox, 0
        outbox.held_back = True
        try:
            while gone < size:
                went = outbox.drop(0, size - gone)
                gone += went
                if not went:
                    if not outbox.away:
                        break
                    await self._fetch()
            await self._trim()
        finally:
            outbox.held_back = False
        if self._trouble is not None:
            raise self._trouble  # else more and more would go, and make no room
        return gone > 0

    async def _end(self) -> None:
        """All that was on disk is acknowledged: from now on it is memory again."""
        try:
            await self._disk.clear()
        except SpoolLost as failure:
            await self._give_up(str(failure))
            return
        self._outbox.join()
        self._outbox.losses.forget(self._written + 1)
        self._outbox.losses.changed = False
        self._written = self._loaded = self._trimmed = 0
        self._disk.say("idle")

    async def _let_go(self) -> None:
        """The disk does not work and memory is full: the oldest go."""
        outbox = self._outbox
        row = outbox.row
        if outbox.tail is None:
            outbox.losses.forget(outbox.floor)
        messages = row.held - row.capacity * 7 // 8
        size = row.held_bytes - row.capacity_bytes * 7 // 8
        if outbox.drop(messages, size) or not outbox.away:
            return
        # What is older than all that could go is on the disk.
        await self._give_up(self._row.reason or "it cannot be read")

    async def _give_up(self, why: str) -> None:
        """What is on disk cannot be had, or not be deleted: go on without it, and begin anew when
        the disk works again.
        """
        outbox = self._outbox
        try:
            await self._disk.put_aside("damaged", why)
        except SpoolLost as failure:
            why = f"{why}; {failure}"
        if outbox.away:
            self._absent.lose(outbox.losses, self._loaded + 1, self._written)
        outbox.away = self._row.held = self._row.held_bytes = 0
        if outbox.tail is not None:
            outbox.join()
        self._written = self._loaded = self._trimmed = 0
        self._failed(SpoolLost(why))

    async def store(self) -> int:
        """See `Outbox.store`."""
        outbox = self._outbox
        try:
            if outbox.row.held or outbox.tail is not None or outbox.losses:
                await self._store()
        except (SpoolLost, SpoolDamaged) as failure:
            self._failed(failure)
        finally:
            left = list(outbox.unwritten(self._written))
            total = sum(1 for _ in outbox.unwritten(0)) + outbox.away
            self._row.held = total - len(left)
            outbox.row.held, outbox.row.held_bytes = len(left), payload_bytes(left)
        await self._disk.close()
        return self._row.held

    async def _store(self) -> None:
        outbox = self._outbox
        self._trouble = None
        if outbox.tail is None:
            await self._begin()
        while outbox.tail:
            await self._put()
        if outbox.row.held or outbox.away or outbox.losses:
            await self._trim()
        else:
            await self._disk.clear()

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

    def _failed(self, failure: Exception) -> None:
        self._retry_at = trio.current_time() + RETRY
        self._disk.say("failed", str(failure))
