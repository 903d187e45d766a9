"""Updates of a book as they were heard, each naming the one it follows. Pure."""

from collections.abc import Sequence
from typing import Final, NamedTuple

import attrs

from marketprism import decimals
from marketprism.clock import SECOND, Timestamp
from marketprism.feeds.contracts import base_quantity
from marketprism.feeds.okx.messages import Book, nanoseconds
from marketprism.instruments import Instrument
from marketprism.orderbook import OrderBook
from marketprism.records import Level
from marketprism.streams.exchange_clock import ExchangeClock

CLOCKS_APART: Final = 5 * SECOND
"""How far the times of a fetched snapshot and of updates within it may differ."""
MAX_BUFFERED: Final = 3_000
"""Updates that wait for a snapshot: five minutes of a book at its full pace."""


class Heard(NamedTuple):
    """One update."""

    sequence: int
    previous: int
    event_time: int
    """Nanoseconds."""
    wall: int
    """When it was read."""
    native: Book
    """As the exchange said it, contracts and all."""
    bids: Sequence[Level]
    asks: Sequence[Level]
    ahead: bool = False
    """Its time is one to come."""

    @property
    def idle(self) -> bool:
        """Whether it only says that nothing changed."""
        return self.sequence == self.previous and not self.bids and not self.asks

    def follows(self, book: OrderBook, *, joining: bool) -> bool:
        """Whether it continues a book; `joining`: one that no update has joined since it was
        fetched.
        """
        if self.previous == book.last_id:
            return self.sequence != self.previous
        return joining and self.previous <= book.last_id < self.sequence

    def passed(self, book: OrderBook, *, joining: bool) -> bool:
        """In the book already. An older number at a later time is a doubt, not a repetition."""
        latest = (book.event_time or 0) + (CLOCKS_APART if joining else 0)
        return self.sequence <= book.last_id and (self.ahead or self.event_time <= latest)

    def time_after(self, before: int | None) -> int | None:
        """The time of a book with this in it, that was at another before."""
        return before if self.ahead else self.event_time

    def applied(self, book: OrderBook) -> "Heard":
        """The same as it is to be published: written as in the book, which takes it."""
        native, time = self.native, self.time_after(book.event_time)
        bids, asks = book.apply(native.bids, native.asks, self.sequence, time)
        if bids is native.bids and asks is native.asks:
            return self
        return self._replace(bids=_written(self.bids, bids), asks=_written(self.asks, asks))


class Snapshot(NamedTuple):
    """A whole book, as the channel tells it."""

    event_time: int | None
    """Nanoseconds; None where it says a time to come."""
    native: Book


def _written(levels: Sequence[Level], as_these: Sequence[Level]) -> list[Level]:
    return [(price[0], level[1]) for level, price in zip(levels, as_these, strict=True)]


def read(
    instrument: Instrument, action: str | None, said: Book, clock: ExchangeClock, now: Timestamp
) -> Heard | Snapshot:
    """An element of the channel. Raises NotANumber."""
    said.bids, said.asks = decimals.levels(said.bids, said.asks)
    bids, asks = published(instrument, said.bids), published(instrument, said.asks)
    event_time = nanoseconds(said.ts)
    ahead = clock.is_ahead(event_time, now)
    if action == "snapshot":
        return Snapshot(None if ahead else event_time, said)
    if said.prevSeqId is None or action != "update":
        raise decimals.NotANumber(f"nothing tells what this follows: {action!r}")
    return Heard(said.seqId, said.prevSeqId, event_time, now.wall, said, bids, asks, ahead)


def published(instrument: Instrument, levels: Sequence[Level]) -> list[Level]:
    """Native levels as they are published: in the base asset, price and quantity alone."""
    if instrument.contract_size is None:
        return [(level[0], level[1]) for level in levels]
    return [(level[0], base_quantity(instrument, level[1], level[0])) for level in levels]


@attrs.define
class Backlog:
    """What waits for a snapshot; always one chain without a hole."""

    updates: list[Heard] = attrs.field(factory=list)
    doubted: Heard | None = None
    """One of a time to come that follows nothing. It is an update if another follows it."""

    def add(self, heard: Heard) -> bool:
        """Whether it is news; a keep-alive counts for some, and is not kept."""
        updates, doubted = self.updates, self.doubted
        if heard.sequence == heard.previous:
            return True
        last = updates[-1] if updates else None
        before = [doubted] if doubted is not None and doubted.sequence == heard.previous else []
        follows = last is not None and heard.previous == last.sequence
        joins = follows or bool(before)
        passed = not joins and last is not None and heard.sequence <= last.sequence
        # One that is of a time to come may have a wrong number as well.
        if passed and (heard.ahead or not (last is not None and last.ahead)):
            return False
        if heard.ahead and not joins:
            self.doubted = heard
            return True
        self.doubted = None
        if not follows:
            # What went before can only join a snapshot that is newer than all of it.
            updates.clear()
        if heard.sequence < heard.previous or len(updates) >= MAX_BUFFERED:
            # Numbers that start over cannot be compared with those before.
            updates.clear()
        elif not updates:
            updates += before
        updates.append(heard)
        return True

    def reaches(self, sequence: int, event_time: int) -> bool:
        """Whether nothing is missing between a snapshot and these.

        Before numbers start over they are higher than after it: a snapshot that by its number holds
        what was heard, and by its time cannot, is from before.
        """
        first = self.updates[0] if self.updates else None
        if (
            first is None
            or first.previous == sequence
            or first.previous < sequence < first.sequence
        ):
            return True
        return sequence >= first.sequence and (first.ahead or event_time >= first.event_time)

    def beyond(self, sequence: int) -> Sequence[Heard]:
        """Those that a snapshot at `sequence` does not hold."""
        after = continued(self.updates, sequence)
        newer = [update for update in self.updates if update.sequence > sequence]
        return newer if after is None else after


def continued(updates: Sequence[Heard], known: int | None) -> Sequence[Heard] | None:
    """Those that go on from `known`, or None when none does."""
    if updates and updates[-1].sequence == known:
        return []
    for number, update in enumerate(updates):
        if update.previous == known:
            return updates[number:]
    return None
