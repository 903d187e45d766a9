"""The spool as the event loop sees it: what blocks runs elsewhere, and the board says what is."""

import datetime
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeVar

import structlog
import trio

from marketprism.board.board import Board
from marketprism.board.rows import lasted
from marketprism.clock import Timestamp
from marketprism.errors import SpoolDamaged, SpoolFull, SpoolLost, StartFailed
from marketprism.outbox.block import Numbered
from marketprism.outbox.contents import Content, Kind
from marketprism.outbox.damage import Damage
from marketprism.outbox.spool import Spool

T = TypeVar("T")

log = structlog.get_logger()


class Worker(Protocol):
    """Runs what blocks where it may."""

    async def __call__(self, function: Callable[..., T], *arguments: object) -> T: ...


def in_thread() -> Worker:
    """A thread, one call at a time."""
    limiter = trio.CapacityLimiter(1)

    async def run(function: Callable[..., T], *arguments: object) -> T:
        return await trio.to_thread.run_sync(function, *arguments, limiter=limiter)

    return run


class Disk:
    """A spool, where it runs, and its row. What its methods raise is what `Spool`'s do."""

    def __init__(
        self, spool: Spool, board: Board, now: Callable[[], Timestamp], worker: Worker | None
    ) -> None:
        self.spool = spool
        self._row = row = board.spool
        self._outbox = board.outbox
        self._now = now
        self._do = worker or in_thread()
        row.state, row.path, row.capacity_bytes = "idle", str(spool.path), spool.max_bytes

    @property
    def usable(self) -> bool:
        """As far as is known."""
        return self._row.state != "failed"

    @property
    def crowded(self) -> bool:
        """More than seven eighths of what it may hold are used."""
        return self.spool.file.used * 8 > self.spool.max_bytes * 7

    async def open(self, take_over: Callable[[], None]) -> None:
        """Open it, and call `take_over` where it may read it."""
        await self._do(self.spool.open, self._stamp())
        await self._do(take_over)
        if self.spool.file.set_aside is not None:
            self._row.set_aside = self.spool.file.set_aside
            log.error("spool.damaged", aside=self.spool.file.set_aside)

    async def reopen(self) -> None:
        """Another attempt, where it is not open. What is found in it now is too old to be
        delivered in order.
        """
        if self.spool.file.is_open:
            return
        try:
            if not await self._do(self._open_or_late):
                self._row.set_aside = self.spool.file.set_aside
                log.error("spool.late", aside=self.spool.file.set_aside)
        except (StartFailed, SpoolDamaged, SpoolFull) as failure:
            raise SpoolLost(str(failure)) from failure

    def _open_or_late(self) -> bool:
        """Open it; whether it was empty."""
        self.spool.open(self._stamp())
        if self.spool.lowest() is None:
            self.spool.begin_anew()
            return True
        self.spool.put_aside("late", self._stamp(), "it was found too late")
        self.spool.open(self._stamp())
        self.spool.begin_anew()
        return False

    async def salvage(
        self, why: str, held: Sequence[Numbered], after: int
    ) -> tuple[Damage, Mapping[Kind, Content]]:
        """Set the file, which is damaged, aside, and go on with what is held of it, up to a number,
        and with what can be read of it behind that: what it cost, and what lies there.
        """
        found = await self._do(self._salvage, why, held, after)
        self._row.set_aside = self.spool.file.set_aside
        self._row.file_bytes = self.spool.file.used
        log.error("spool.damaged", aside=self.spool.file.set_aside)
        return found

    def _salvage(
        self, why: str, held: Sequence[Numbered], after: int
    ) -> tuple[Damage, Mapping[Kind, Content]]:
        damage = self.spool.salvage(self._stamp(), why, held, after)
        return damage, self.spool.contents(after)

    async def put_aside(self, kind: str, why: str) -> None:
        """Give the file up under another name."""
        await self._do(self.spool.put_aside, kind, self._stamp(), why)
        self._row.set_aside = self.spool.file.set_aside
        log.error(f"spool.{kind}", aside=self.spool.file.set_aside)

    # What follows is `Spool`'s.

    async def write(self, batch: Sequence[Numbered], handed_out: int) -> None:
        await self._do(self.spool.write, batch, handed_out)
        self._row.file_bytes = self.spool.file.used

    async def read(self, after: int, most: int, most_bytes: int) -> list[Numbered]:
        return await self._do(self.spool.read, after, most, most_bytes)

    async def mark(self, handed_out: int = 0, floor: int = 0, placed: int = 0) -> None:
        await self._do(self.spool.mark, handed_out, floor, placed)

    async def trim(self, floor: int) -> None:
        await self._do(self.spool.trim, floor)
        self._row.file_bytes = self.spool.file.used

    async def clear(self) -> None:
        await self._do(self.spool.file.empty)
        self._row.file_bytes = self.spool.file.used

    async def remove(self) -> None:
        await self._do(self.spool.file.remove)
        self._row.file_bytes = self.spool.file.used

    async def close(self) -> None:
        await self._do(self.spool.close)

    def say(self, state: str, reason: str | None = None) -> None:
        """On the board; and in the log when the state is another."""
        row, now = self._row, self._now().monotonic
        since, row.since = row.since, None if state == "idle" else row.since or now
        if row.state != state:
            tell = {"idle": log.info, "failed": log.error}.get(state, log.warning)
            held: dict[str, float | None] = {"held": self._outbox.held, "spooled": row.held}
            if state == "idle" and since is not None:
                held["after"] = lasted(since, now)
            tell(f"spool.{state}", reason=reason, **held)
        row.state, row.reason = state, reason

    def _stamp(self) -> str:
        at = datetime.datetime.fromtimestamp(self._now().wall // 1_000_000_000, datetime.UTC)
        return at.strftime("%Y%m%dT%H%M%SZ")
