"""What of a venue is collected: its feeds and its polls, kept at the markets that trade."""

from collections.abc import Iterable, Iterator, Sequence, Set

import trio

from marketprism.clock import SECOND
from marketprism.feeds.feed import Feed
from marketprism.feeds.markets import Market, Standing
from marketprism.feeds.metadata import Doubt, doubt
from marketprism.feeds.polling import run_poll
from marketprism.feeds.services import Services
from marketprism.feeds.venue import Poll, Venue
from marketprism.records import DataType
from marketprism.settings.supervision import SupervisionConfig
from marketprism.streams.cursor import Cursor
from marketprism.streams.subscription import Stream, Subscription

SPEAKING = 15 * SECOND
"""What said something in so long a time is alive, whatever the list says of its market."""


class Collection:
    """The feeds and polls of one venue, which run in `nursery`."""

    def __init__(
        self,
        venue: Venue,
        data_types: Sequence[DataType],
        services: Services,
        policy: SupervisionConfig,
        nursery: trio.Nursery,
    ) -> None:
        self._venue = venue
        self._data_types = data_types
        self._services = services
        self._policy = policy
        self._nursery = nursery
        self._cursors: dict[Stream, Cursor] = {}
        """Of all streams that there ever were: a market that comes back goes on from there."""
        self._collected: dict[Stream, Subscription] = {}
        self._lingering: list[Subscription] = []
        """Those of them that speak, though their markets do not trade."""
        self._feeds: dict[str, Feed] = {}
        """By the ids of their shards, in their order."""
        self._polls: dict[Stream, tuple[trio.CancelScope, trio.Event]] = {}
        """How each is ended, and whether it has."""

    def doubts(self) -> Iterator[Doubt]:
        """What streams say against the list of markets."""
        for stream in self._collected:
            row = self._services.board.streams.get((self._venue.name, stream))
            if row is not None and (why := doubt(row)) is not None:
                yield stream, why

    @property
    def speaking(self) -> set[str]:
        """The native ids of the markets of which something was heard lately."""
        return {
            subscription.stream[1]
            for subscription in self._collected.values()
            if self._speaks(subscription)
        }

    @property
    def stale(self) -> bool:
        """Something is collected of a market that does not trade, and speaks no more."""
        return any(not self._speaks(subscription) for subscription in self._lingering)

    async def arrange(self, markets: Iterable[Market]) -> None:
        """Collect what trades and leave what does not, each on the connections that there are;
        returns when it is so.
        """
        every = [
            (Subscription(data_type, market.instrument), market)
            for market in markets
            for data_type in self._data_types
        ]
        await self._place([subscription for subscription, _ in every])
        alive = {
            subscription.stream: subscription
            for subscription, market in every
            if self._is_alive(subscription, market)
        }
        for subscription, market in every:
            if subscription.stream in alive and subscription.stream not in self._collected:
                self._resume(self._cursors[subscription.stream], market)
        self._collected = alive
        self._lingering = [
            subscription
            for subscription, market in every
            if subscription.stream in alive and market.standing is not Standing.TRADING
        ]
        await self._change_polls()
        await self._change_feeds()
        self._forget({subscription.stream for subscription, _ in every})
        for subscription, market in every:
            if subscription.stream not in alive:
                self._stand(subscription, market)

    async def _place(self, subscriptions: Sequence[Subscription]) -> None:
        """Find out where those stand that there were none of before."""
        services = self._services
        new = [
            subscription
            for subscription in subscriptions
            if subscription.stream not in self._cursors
        ]
        if new and services.positions is not None:
            await services.positions.read(new)
        for subscription in new:
            self._cursors[subscription.stream] = services.cursor(subscription)

    def _is_alive(self, subscription: Subscription, market: Market) -> bool:
        if market.standing is Standing.TRADING:
            return True
        return subscription.stream in self._collected and self._speaks(subscription)

    def _speaks(self, subscription: Subscription) -> bool:
        row = self._services.board.streams.get((self._venue.name, subscription.stream))
        if row is None or row.last_seen is None or row.alarm is not None:
            # What only answers our renewals does not speak.
            return False
        return self._services.now().monotonic - row.last_seen < SPEAKING

    def _resume(self, cursor: Cursor, market: Market) -> None:
        """It trades again, since some time after the exchange last said that it did not: what is
        missing of that time is a gap.
        """
        if market.idle_until and cursor.received is not None and cursor.gap is None:
            cursor.received = max(cursor.received, market.idle_until)
            cursor.lose("metadata", "the exchange said that it did not trade")

    def _forget(self, left: Set[Stream]) -> None:
        """Only these are left: another market has taken the symbol of the rest."""
        rows, venue = self._services.board.streams, self._venue.name
        for key in [key for key in rows if key[0] == venue and key[1] not in left]:
            del rows[key]

    def _stand(self, subscription: Subscription, market: Market) -> None:
        """Its market has nothing to tell. What was lost of it before, by a former process too,
        is a gap that ends here.
        """
        board, venue, now = self._services.board, self._venue, self._services.now()
        row = board.streams.get((venue.name, subscription.stream))
        if row is None:
            limit = venue.offers[subscription.data_type].quiet_limit
            row = board.stream(venue.name, subscription, venue.name, limit, now.monotonic)
        row.detach()
        row.standing, row.market_status = str(market.standing), market.status
        cursor = row.cursor = self._cursors[subscription.stream]
        gap = cursor.close(
            subscription.instrument, subscription.data_type, now.wall, row.connection
        )
        self._services.tell_gaps([] if gap is None else [gap], row.connection)

    async def _change_polls(self) -> None:
        for stream in self._polls.keys() - self._collected.keys():
            scope, ended = self._polls.pop(stream)
            scope.cancel()
            await ended.wait()
        for poll in self._venue.polls(list(self._collected.values())):
            stream = poll.subscription.stream
            if stream not in self._polls:
                self._polls[stream] = trio.CancelScope(), trio.Event()
                self._nursery.start_soon(self._poll, poll, *self._polls[stream])

    async def _poll(self, poll: Poll, scope: trio.CancelScope, ended: trio.Event) -> None:
        cursor = self._cursors[poll.subscription.stream]
        try:
            with scope:
                await run_poll(poll, self._venue, self._services, self._policy, cursor)
        finally:
            ended.set()

    async def _change_feeds(self) -> None:
        venue, subscriptions = self._venue, list(self._collected.values())
        if not subscriptions and not self._feeds:
            return
        current = [feed.shard for feed in self._feeds.values()]
        async with trio.open_nursery() as changes:
            for shard in venue.plan(subscriptions, current):
                feed = self._feeds.get(shard.id)
                if feed is None:
                    feed = Feed(shard, venue, self._services, self._policy, self._cursors)
                    self._feeds[shard.id] = feed
                    self._nursery.start_soon(feed.run)
                elif set(feed.shard.subscriptions) != set(shard.subscriptions):
                    changes.start_soon(feed.change, shard)
