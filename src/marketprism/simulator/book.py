"""The player's own book: a plain dictionary a side, shared with no other part of the project."""

from collections.abc import Iterable
from decimal import Decimal

from .events import Level, Snapshot, Update


class Book:
    """One symbol's book, made of a recorded snapshot and the updates after it."""

    def __init__(self, snapshot: Snapshot, updates: Iterable[Update] = ()) -> None:
        """`updates` are those already sent; the ones the snapshot contains are passed over."""
        self.symbol = snapshot.symbol
        self.last_id = snapshot.last_id
        self.time = snapshot.time
        self.whole = True
        """False once an update was missing: the book is then no longer the exchange's."""
        self._own_limit = snapshot.limit
        self._bids = {Decimal(price): (price, quantity) for price, quantity in snapshot.bids}
        self._asks = {Decimal(price): (price, quantity) for price, quantity in snapshot.asks}
        for update in updates:
            self.apply(update)

    def apply(self, update: Update) -> None:
        """Take an update in, unless the book contains it already."""
        if update.last_id <= self.last_id:
            return
        if update.first_id > self.last_id + 1:
            self.whole = False
        for side, levels in ((self._bids, update.bids), (self._asks, update.asks)):
            for price, quantity in levels:
                if Decimal(quantity):
                    side[Decimal(price)] = (price, quantity)
                else:
                    side.pop(Decimal(price), None)
        self.last_id = update.last_id
        self.time = update.time

    def snapshot(self, limit: int | None) -> Snapshot:
        """The book now, cut to `limit` levels a side; with None all of it.

        At the limit of the recorded snapshot or above it nothing is cut: the book then holds all
        that is known, and a deeper request would get no more.
        """
        own = self._own_limit
        kept = None if limit is None or (own is not None and limit >= own) else limit
        bids: list[Level] = [self._bids[key] for key in sorted(self._bids, reverse=True)[:kept]]
        asks: list[Level] = [self._asks[key] for key in sorted(self._asks)[:kept]]
        return Snapshot(self.symbol, self.last_id, bids, asks, limit, self.time)
