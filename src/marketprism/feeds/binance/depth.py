"""Binance's depth updates as they were heard, and those that wait for a snapshot. Pure."""

from collections.abc import Sequence
from typing import Final, NamedTuple

import attrs

from marketprism.clock import MILLISECOND
from marketprism.decimals import NotANumber
from marketprism.feeds.binance.market import DepthRule
from marketprism.feeds.binance.messages import DepthUpdate
from marketprism.feeds.published_book import Sides
from marketprism.orderbook import OrderBook
from marketprism.streams.state import StreamState

MAX_BUFFERED: Final = 3_000
"""Updates that wait for a snapshot: five minutes of a book at its full pace."""


def event_time(update: DepthUpdate) -> int:
    """Nanoseconds. Raises NotANumber."""
    told_at = update.E if update.T is None else update.T
    if told_at is None:
        raise NotANumber("it has no time")
    return told_at * MILLISECOND


class Heard(NamedTuple):
    """One update."""

    update: DepthUpdate
    wall: int
    """When it was read."""
    event_time: int
    """Nanoseconds."""
    ahead: bool
    """Its time is one to come."""

    def applied(self, book: OrderBook | None) -> Sides:
        """Its levels as they are to be published: written as in the book, which takes them."""
        update = self.update
        if book is None:
            return update.b, update.a
        time = book.event_time if self.ahead else self.event_time
        return book.apply(update.b, update.a, update.u, time)


@attrs.define(eq=False)
class Buffer:
    """What waits for a snapshot; always one chain without a hole."""

    state: StreamState
    rule: DepthRule
    updates: list[Heard] = attrs.field(factory=list)

    def add(self, heard: Heard, before: Sequence[Heard]) -> None:
        """Step 2. `before`: what it names as the one that it continues, where that was in doubt."""
        updates, update = self.updates, heard.update
        if updates and update.u <= updates[-1].update.u:
            self.state.duplicates += 1
            return
        if not updates or not self.rule.continues(update, updates[-1].update.u):
            # What went before can only join a snapshot that is newer than all of it.
            updates[:] = before
        if len(updates) >= MAX_BUFFERED:
            # The snapshot that is awaited will be newer, or is asked for again.
            self.state.resyncs += 1
            updates.clear()
        updates.append(heard)

    def split(self, snapshot_id: int) -> tuple[list[Heard], list[Heard]]:
        """Step 5: the updates that are in the snapshot, and those past it."""
        within = [heard for heard in self.updates if heard.update.u <= snapshot_id]
        return within, self.updates[len(within) :]

    def continues(self, snapshot_id: int) -> bool:
        """Step 4: whether they continue a snapshot."""
        _, beyond = self.split(snapshot_id)
        return not beyond or self.rule.joins(beyond[0].update, snapshot_id)

    def bridges(self, known: int, snapshot_id: int) -> bool:
        """Whether what was published last and the snapshot join without a missing id."""
        if snapshot_id < known:
            return False
        _, tail = self.split(known)
        if not tail:
            return snapshot_id == known
        reaches = snapshot_id == known or tail[-1].update.u >= snapshot_id
        return reaches and self.rule.joins(tail[0].update, known)
