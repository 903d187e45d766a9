"""How the outbox uses its disk.

From the moment something is on disk, everything that is not acknowledged is: a message may be
taken only once it is written, and the disk is emptied before anything else is taken from memory.
So what a crash costs is always the end of the log, never a piece of its middle; and whatever a
former process may have delivered of what it left stands at its beginning, up to a mark.
"""

import math

import structlog
import trio

from marketprism.board.board import Board
from marketprism.errors import SpoolDamaged, SpoolFull, SpoolLost, StartFailed
from marketprism.outbox.disk import Disk
from marketprism.outbox.log import Log
from marketprism.outbox.transfer import TRIM, Transfer, payload_bytes
from marketprism.wire import Message

TICK = 0.02
"""Seconds that messages gather before they are written."""
RETRY = 2.0
"""Seconds until a disk that failed is tried again."""

log = structlog.get_logger()


class Spooler:
    """When messages of a log go to its disk and back, and what to do when that fails."""

    def __init__(self, outbox: Log, disk: Disk, board: Board) -> None:
        self._log = outbox
        self._disk = disk
        self._row = board.spool
        self._transfer = Transfer(outbox, disk, board)
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

    @property
    def recovered(self) -> dict[str, Message]:
        """See `Outbox.recovered`."""
        return self._transfer.recovered

    def gap_pending(self) -> list[Message]:
        """See `Outbox.gap_pending`."""
        found, self._transfer.gap_pending = self._transfer.gap_pending, {}
        return list(found.values())

    async def open(self) -> None:
        """See `Outbox.open`."""
        try:
            await self._disk.open(self._transfer.take_over)
            self._transfer.count_damage()
        except SpoolDamaged as damage:
            await self._give_up(str(damage))
        except (SpoolLost, SpoolFull) as failure:
            await self._disk.close()
            if not self._disk.spool.file.abandoned:
                self._failed(failure)
        if self._log.on_disk:
            self._disk.say("spooling")
            held = self._log.window.row.held + self._log.away
            log.info("spool.recovered", messages=held, path=self._row.path)

    def abandon(self) -> None:
        """See `Outbox.abandon`."""
        self._disk.spool.abandon()

    async def leave(self) -> None:
        """See `Outbox.leave`."""
        await self._disk.close()

    async def place(self) -> None:
        """See `Outbox.place`."""
        if not self._log.on_disk:
            return
        try:
            await self._transfer.place()
        except (SpoolLost, SpoolFull) as failure:
            # The next process may tell a gap again, which is better than none.
            log.warning("spool.unmarked", reason=str(failure))

    async def turn(self) -> float:
        """One round of what there is to do; the seconds until the next, unless there is a stir."""
        held = self._log
        try:
            if held.on_disk:
                await self._move()
            elif held.window.pressed and trio.current_time() >= self._retry_at:
                await self._begin()
        except SpoolDamaged as damage:
            await self._mend(str(damage))
        except SpoolLost as failure:
            self._failed(failure)
        if held.window.full and held.away and self._row.state == "failed":
            await self._look()
        if held.on_disk:
            return TICK
        return RETRY if held.window.pressed else math.inf

    async def _begin(self) -> None:
        await self._transfer.begin()
        self._disk.say("spooling")

    async def _move(self) -> None:
        """Delete, read and write, as is due."""
        held, transfer = self._log, self._transfer
        if held.idle:
            await self._end()
            return
        if held.away and transfer.short and trio.current_time() >= self._read_at:
            self._read_at = trio.current_time() + RETRY
            await transfer.fetch()
            self._read_at = 0.0
        if trio.current_time() < self._retry_at:
            return
        transfer.trouble = None
        # The last ones are not written any more: once the disk is empty they need not be.
        if held.window.tail and (held.away or held.takeable or held.window.pressed):
            await self._put_in_turn()
        if transfer.trim_due:
            await transfer.trim()
        if transfer.trouble is not None:
            raise transfer.trouble
        if self._row.state == "failed":
            self._disk.say("spooling")

    async def _put_in_turn(self) -> None:
        """Where the disk is full, what is not on it waits in memory until something is deleted."""
        if trio.current_time() < self._put_at:
            return
        try:
            await self._transfer.put()
        except SpoolFull as full:
            self._put_at = trio.current_time() + TRIM
            self._disk.say("full", str(full))

    async def _end(self) -> None:
        """All that was on disk is acknowledged: from now on it is memory again."""
        try:
            await self._transfer.end()
        except SpoolLost as failure:
            await self._give_up(str(failure))
            return
        self._disk.say("idle")

    async def _look(self) -> None:
        """The disk does not work, and memory is full. What can be read of it goes on as soon as
        there is room; where it cannot be read either, nothing would go on any more: it is given up.
        """
        if trio.current_time() < self._look_at:
            return
        self._look_at = trio.current_time() + RETRY
        try:
            await self._transfer.next()
        except SpoolDamaged as damage:
            await self._mend(str(damage))
        except SpoolLost as failure:
            await self._give_up(str(failure))

    async def _mend(self, why: str) -> None:
        """What is on disk is damaged: go on with the rest of it, or without it."""
        if not self._log.on_disk:
            await self._give_up(why)
            return
        try:
            await self._transfer.salvage(why)
            self._read_at = 0.0
        except (SpoolLost, SpoolFull, SpoolDamaged, StartFailed) as failure:
            await self._give_up(f"{why}; {failure}")

    async def _give_up(self, why: str) -> None:
        """What is on disk cannot be had, or not be deleted: go on without it, and begin anew when
        the disk works again.
        """
        try:
            await self._disk.put_aside("damaged", why)
        except SpoolLost as failure:
            why = f"{why}; {failure}"
        self._transfer.give_up()
        self._failed(SpoolLost(why))

    async def store(self) -> int:
        """See `Outbox.store`."""
        held = self._log
        try:
            if held.window.row.held or held.on_disk:
                await self._store()
        except SpoolDamaged as damage:
            await self._mend(str(damage))
            await self._store_rest()
        except SpoolLost as failure:
            self._failed(failure)
        finally:
            left = held.beyond(held.watermarks.written)
            total = len(held.beyond(0)) + held.away
            self._row.held = total - len(left)
            held.window.row.held, held.window.row.held_bytes = len(left), payload_bytes(left)
        await self._disk.close()
        return self._row.held

    async def _store_rest(self) -> None:
        try:
            await self._store()
        except (SpoolLost, SpoolDamaged) as failure:
            self._failed(failure)

    async def _store(self) -> None:
        held = self._log
        self._transfer.trouble = None
        if not held.on_disk:
            await self._begin()
        try:
            await self._put_all()
        except SpoolFull as full:
            self._disk.say("full", str(full))
        if held.window.row.held or held.away:
            await self._transfer.trim()
        else:
            await self._transfer.clear()

    async def _put_all(self) -> None:
        trimmed = False
        while self._log.window.tail:
            try:
                await self._transfer.put()
            except SpoolFull:
                if trimmed:
                    raise
                trimmed = True
                await self._transfer.trim()

    def _failed(self, failure: Exception) -> None:
        self._retry_at = trio.current_time() + RETRY
        self._disk.say("failed", str(failure))
