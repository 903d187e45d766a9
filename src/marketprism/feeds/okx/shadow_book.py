"""What the new one of two connections hears of a book that is the old one's still. Pure.

It is kept as one chain without a hole, perhaps from a snapshot on. The number that the old one
published last, found in the chain, is where the new one goes on. Whether two connections number
alike is unknown: numbers that look alike are believed only of books that are alike.
"""

from collections.abc import Sequence
from decimal import Decimal

import attrs

from marketprism.feeds.okx.chain import MAX_BUFFERED, Heard, Snapshot
from marketprism.feeds.okx.checksum import LEVELS, checksum
from marketprism.orderbook import OrderBook


@attrs.define(eq=False)
class ShadowBook:
    """The chain of one book."""

    updates: list[Heard] = attrs.field(factory=list)
    last: int | None = None
    """The number it has come to."""
    snapshot: Snapshot | None = None
    """A book within the chain, or where it begins."""
    foreign: bool = False
    """Its numbers look like the old one's, and are not."""
    _behind: int = 0
    """So many updates were heard before the snapshot."""
    _places: dict[int, int] = attrs.field(factory=dict)
    """By the number that an update follows, its place."""
    _latest: int = 0
    _doubted: int | None = None

    def add(self, heard: Heard) -> bool:
        """Whether it is news. One that does not follow begins the chain anew; of a time to come,
        only where another follows it.
        """
        doubted, self._doubted = self._doubted, None
        if self.last is not None and heard.previous != self.last:
            if heard.ahead and heard.previous != doubted:
                self._doubted = heard.sequence
                return False
            if heard.sequence <= self.last and heard.event_time <= self._latest:
                return False
            self._clear()
        elif len(self.updates) >= MAX_BUFFERED:
            self._clear()
        self.last = heard.sequence
        self._latest = max(heard.time_after(None) or 0, self._latest)
        if not heard.idle:
            self._places[heard.previous] = len(self.updates)
            self.updates.append(heard)
        return True

    def replace(self, snapshot: Snapshot) -> None:
        """A snapshot of the channel: at the last number it changes nothing, else all begins."""
        if snapshot.native.seqId != self.last:
            self._clear()
        self.snapshot, self._behind = snapshot, len(self.updates)
        self.last = snapshot.native.seqId
        self._latest = max(snapshot.event_time or 0, self._latest)

    def beyond(self, known: int | None, event_time: int | None) -> Sequence[Heard] | None:
        """The updates that go on from what is known; None when it is not in the chain."""
        if known is None or self.foreign:
            return None
        if known == self.last:
            return []
        if (place := self._places.get(known)) is None:
            return None
        updates = self.updates[place:]
        earlier = event_time is not None and updates[0].event_time < event_time
        return None if earlier else updates

    def whole(self) -> OrderBook | None:
        """The book at the end of the chain, where a snapshot is in it."""
        if self.snapshot is None:
            return None
        said = self.snapshot.native
        book = OrderBook(said.bids, said.asks, said.seqId, self.snapshot.event_time)
        for update in self.updates[self._behind :]:
            said = update.native
            update.applied(book)
        return book if said.checksum in (0, checksum(book)) else None

    def agrees(self, old: OrderBook, beyond: Sequence[Heard]) -> bool:
        """Whether the old one's book with these updates is the book of the chain, where there is
        one: its best levels, as many as the exchange's own measure takes. Either connection may
        write their prices in digits of its own.
        """
        if (whole := self.whole()) is None:
            return True
        book = OrderBook(list(old.bids.items()), list(old.asks.items()), old.last_id)
        for update in beyond:
            update.applied(book)
        self.foreign = _numbers(book) != _numbers(whole)
        return not self.foreign

    def _clear(self) -> None:
        self.updates, self._places = [], {}
        self.snapshot, self._behind, self.last = None, 0, None


def _numbers(book: OrderBook) -> list[list[tuple[Decimal, Decimal]]]:
    """The best levels of both sides."""
    return [[(Decimal(price), Decimal(size)) for price, size in side] for side in book.top(LEVELS)]
