"""Two books of different moments, compared exactly. Pure.

A snapshot is of another moment than the book. So what the book takes from shortly before the
request on is remembered, and the snapshot is led along the updates that are past it, until both
stand at one id. That is exact even where it lies inside an update: an update says what its levels
are, not by how much they changed. What both know must then agree.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Final, NamedTuple

import attrs

from marketprism.clock import Timestamp
from marketprism.orderbook import OrderBook
from marketprism.records import Level

REMEMBERED: Final = 30_000_000_000
"""Nanoseconds: how far back, while an answer is awaited. Requests wait for room in the budget
before they go out, and are answered within ten seconds then."""
MOST_REMEMBERED: Final = 3_000
ABSENT: Final = Decimal(0)


class Change(NamedTuple):
    """An update that the book has taken."""

    last_id: int
    bids: Sequence[Level]
    asks: Sequence[Level]
    event_time: int | None
    read_at: Timestamp


class Proof(NamedTuple):
    """Where a book was known to be the exchange's."""

    last_id: int
    wall: int


class Verdict(NamedTuple):
    """What a comparison found."""

    fresh: OrderBook
    """The exchange's book, at the id where the other one is."""
    wrong: Mapping[str, str]
    """The levels that differ: `bid 100.5`, and how."""
    inside: bool
    """The snapshot lay inside an update."""
    proof: Proof
    """Of the snapshot: the updates that led it on are in both, and prove nothing."""


@attrs.define(eq=False)
class Trail:
    """A comparison under way."""

    attempt: int
    start: Proof
    """Before the first change that is remembered."""
    ask_at: int | None
    urgent: bool
    changes: deque[Change] = attrs.field(factory=deque)
    fresh: OrderBook | None = None
    """The snapshot, once it came."""
    give_up_at: int = 0

    def forget(self, count: int) -> None:
        """The first so many changes are not needed any more."""
        for _ in range(count):
            change = self.changes.popleft()
            self.start = Proof(change.last_id, change.read_at.wall)

    def remember(self, change: Change) -> None:
        """The book has taken it."""
        changes = self.changes
        changes.append(change)
        old = changes[0].read_at.monotonic < change.read_at.monotonic - REMEMBERED
        self.forget(old or len(changes) > MOST_REMEMBERED)

    def lead(self, fresh: OrderBook, book: OrderBook, window: int | None) -> Verdict | None:
        """Lead a snapshot from where it is, which is not before the start, to where the book is,
        and compare. None: the market has left what the snapshot knows.
        """
        self.forget(sum(change.last_id <= fresh.last_id for change in self.changes))
        inside = bool(self.changes) and self.start.last_id != fresh.last_id
        for change in self.changes:
            fresh.apply(change.bids, change.asks, change.last_id, change.event_time)
        fresh.last_id, fresh.event_time = book.last_id, book.event_time
        if fresh.exhausted:
            return None
        return Verdict(fresh, differences(book, fresh, window), inside, self.start)


def differences(book: OrderBook, fresh: OrderBook, window: int | None) -> dict[str, str]:
    """Where two books of one id differ in what both of them know: which level, and how. Of the
    first perhaps only a `window` of so many best levels is told.
    """
    found: dict[str, str] = {}
    ends = book.ends(window), fresh.ends()
    sides = zip(("bid", "ask"), book.within(*ends), fresh.within(*ends), strict=True)
    for name, ours, theirs in sides:
        if ours == theirs:
            continue
        here, there = _numbers(ours), _numbers(theirs)
        for price in sorted(here.keys() | there.keys()):
            mine, right = here.get(price, ABSENT), there.get(price, ABSENT)
            if mine != right:
                found[f"{name} {price:f}"] = f"{mine:f} here, {right:f} there"
    return found


def _numbers(side: dict[str, str]) -> dict[Decimal, Decimal]:
    return {Decimal(price): Decimal(quantity) for price, quantity in side.items()}
