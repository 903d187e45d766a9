"""How the outbox uses its disk.

From the moment something is on disk, everything that is not acknowledged is: a message may be
taken only once it is written, and the disk is emptied before anything else is taken from memory.
So what a crash costs is always the end of the log, never a piece of its middle; and whatever a
former process may have delivered of what it left stands at its beginning, up to a mark.
"""

import math
from itertools import chain

import structlog
import trio

from marketprism.board.board import Board
from marketprism.errors import SpoolDamaged, SpoolFull, SpoolLost, StartFailed
from marketprism.outbox.backlog import STEP, Backlog, payload_bytes
from marketprism.outbox.disk import Disk
from marketprism.outbox.spooler_steps import PARTS, TRIM, SpoolerSteps

TICK = 0.02
"""Seconds that messages gather before they are written."""
RETRY = 2.0
"""Seconds until a disk that failed is tried again."""

log = structlog.get_logger()


class Spooler(SpoolerSteps):
    """When messages of an outbox go to its disk and back, and what to do when that fails."""

    def __init__(self, outbox: Backlog, disk: Disk, board: Board) -> None:
        super().__init__(outbox, disk, board)
        self._retry_at = 0.0
        """When it may be written again, after it failed; the same where it was full, for reading,
        and for looking whether it can be read:"""
        self._put_at = 0.0
        self._read_at = 0.0
        self._look_at = 0.0

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
        except (SpoolLost, SpoolFull) as failure:
            await self._disk.close()
            if not self._disk.spool.abandoned:
                self._failed(failure)
        if outbox.tail is not None:
            self._disk.say("spooling")
            log.info("spool.recovered", messages=outbox.row.held + outbox.away, path=self._row.path)

    def abandon(self) -> None:
        """See `Outbox.abandon`."""
        self._disk.spool.abandon()

    async def leave(self) -> None:
        """See `Outbox.leave`."""
        await self._disk.close()

    async def place(self) -> None:
        """See `Outbox.place`."""
        outbox = self._outbox
        if outbox.tail is None:
            return
        self._placed = outbox.latest
        try:
            await self._disk.mark(placed=self._placed)
        except (SpoolLost, SpoolFull) as failure:
            # The next process may tell a gap again, which is better than none.
            log.warning("spool.unmarked", reason=str(failure))

    async def turn(self) -> float:
        """One round of what there is to do; the seconds until the next, unless there is a stir."""
        outbox = self._outbox
        try:
            if outbox.tail is not None:
                await self._move()
            elif outbox.pressed and trio.current_time() >= self._retry_at:
                await self._begin()
        except SpoolDamaged as damage:
            await self._mend(str(damage))
        except SpoolLost as failure:
            self._failed(failure)
        if outbox.full and outbox.away and self._row.state == "failed":
            await self._look()
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
        outbox.held_back, begun = True, False
        try:
            outbox.losses.forget(outbox.floor)
            await self._write(head, head[-1][0] if head else 0, outbox.losses.saved())
            begun = True
        except SpoolFull as full:
            raise SpoolLost(str(full)) from full
        finally:
            outbox.held_back = False
            if not begun:  # for whatever reason; a cancellation is one
                outbox.join()
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
            await self._put_in_turn()
        if self._trim_due:
            await self._trim()
        if self._trouble is not None:
            raise self._trouble
        if self._row.state == "failed":
            self._disk.say("spooling")

    async def _put_in_turn(self) -> None:
        """Where the disk is full, what is not on it waits in memory until something is deleted."""
        if trio.current_time() < self._put_at:
            return
        try:
            await self._put()
        except SpoolFull as full:
            self._put_at = trio.current_time() + TRIM
            self._disk.say("full", str(full))

    async def _end(self) -> None:
        """All that was on disk is acknowledged: from now on it is memory again."""
        try:
            await self._clear()
        except SpoolLost as failure:
            await self._give_up(str(failure))
            return
        self._outbox.join()
        self._outbox.losses.forget(self._written + 1)
        self._outbox.losses.changed = False
        self._written = self._loaded = self._trimmed = 0
        self._disk.say("idle")

    async def _clear(self) -> None:
        """Nothing in it is held: where a full disk does not let it be emptied, it is deleted."""
        try:
            await self._disk.clear()
        except SpoolLost as failure:
            await self._disk.remove()
            log.warning("spool.removed", path=self._row.path, reason=str(failure))

    async def _look(self) -> None:
        """The disk does not work, and memory is full. What can be read of it goes on as soon as
        there is room; where it cannot be read either, nothing would go on any more: it is given up.
        """
        if trio.current_time() < self._look_at:
            return
        self._look_at = trio.current_time() + RETRY
        try:
            await self._next()
        except SpoolDamaged as damage:
            await self._mend(str(damage))
        except SpoolLost as failure:
            await self._give_up(str(failure))

    async def _mend(self, why: str) -> None:
        """What is on disk is damaged: go on with the rest of it, or without it."""
        if self._outbox.tail is None:
            await self._give_up(why)
            return
        try:
            await self._salvage(why)
            self._read_at = 0.0
        except (SpoolLost, SpoolFull, SpoolDamaged, StartFailed) as failure:
            await self._give_up(f"{why}; {failure}")

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
            self._unread.lose(outbox.losses, self._loaded + 1, self._written)
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
        except SpoolDamaged as damage:
            await self._mend(str(damage))
            await self._store_rest()
        except SpoolLost as failure:
            self._failed(failure)
        finally:
            left = list(outbox.unwritten(self._written))
            total = sum(1 for _ in outbox.unwritten(0)) + outbox.away
            self._row.held = total - len(left)
            outbox.row.held, outbox.row.held_bytes = len(left), payload_bytes(left)
        await self._disk.close()
        return self._row.held

    async def _store_rest(self) -> None:
        try:
            await self._store()
        except (SpoolLost, SpoolDamaged) as failure:
            self._failed(failure)

    async def _store(self) -> None:
        outbox = self._outbox
        self._trouble = None
        if outbox.tail is None:
            await self._begin()
        try:
            await self._put_all()
        except SpoolFull as full:
            self._disk.say("full", str(full))
        if outbox.row.held or outbox.away or outbox.losses:
            await self._trim()
        else:
            await self._clear()

    async def _put_all(self) -> None:
        trimmed = False
        while self._outbox.tail:
            try:
                await self._put()
            except SpoolFull:
                if trimmed:
                    raise
                trimmed = True
                await self._trim()

    def _failed(self, failure: Exception) -> None:
        self._retry_at = trio.current_time() + RETRY
        self._disk.say("failed", str(failure))
