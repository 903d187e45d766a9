"""What of a venue is collected: its feeds and its polls, kept at the markets that trade."""

from collections.abc import Iterable, Iterator, Sequence, Set

import trio

from marketprism.clock import SECOND
from marketprism.feeds.feed import Feed
from marketprism.feeds.markets import Market, Standing
from marketprism.feeds.metadata import Doubt, doubt
from marketprism.feeds.polling import run_poll
from marketprism.feeds.services import World
from marketprism.feeds.venue import Poll, Venue
from marketprism.records import DataType
from marketprism.settings.settings import SupervisionConfig
from marketprism.streams.cursor import Cursor
from marketprism.streams.subscription import Stream, Want

SPEAKING = 15 * SECOND
"""What said something in so long a time is alive, whatever the list says of its market."""


class Collection:
    """The feeds and polls of one venue, which run in `nursery`."""

    def __init__(
        self,
        venue: Venue,
        data_types: Sequence[DataType],
        world: World,
        policy: SupervisionConfig,
        nursery: trio.Nursery,
    ) -> None:
        self._venue = venue
        self._data_types = data_types
        self._world = world
        self._policy = policy
        self._nursery = nursery
        self._cursors: dict[Stream, Cursor] = {}
        """Of all streams that there ever were: a market that comes back goes on from there."""
        self._collected: dict[Stream, Want] = {}
        self._lingering: list[Want] = []
        """Those of them that speak, though their markets do not trade."""
        self._feeds: dict[str, Feed] = {}
        """By the ids of their shards, in their order."""
        self._polls: dict[Stream, tuple[trio.CancelScope, trio.Event]] = {}
        """How each is ended, and whether it has."""

    def doubts(self) -> Iterator[Doubt]:
        """What streams say against the list of markets."""
        for stream in self._collected:
            row = self._world.board.streams.get((self._venue.name, stream))
            if row is not None and (why := doubt(row)) is not None:
                yield stream, why

    @property
    def speaking(self) -> set[str]:
        """The native ids of the markets of which something was heard lately."""
        return {want.stream[1] for want in self._collected.values() if self._speaks(want)}

    @property
    def stale(self) -> bool:
        """Something is collected of a market that does not trade, and speaks no more."""
        return any(not self._speaks(want) for want in self._lingering)

    async def arrange(self, markets: Iterable[Market]) -> None:
        """Collect what trades and leave what does not, each on the connections that there are;
        returns when it is so.
        """
        every = [
            (Want(data_type, market.instrument), market)
            for market in markets
            for data_type in self._data_types
        ]
        await self._place([want for want, _ in every])
        alive = {want.stream: want for want, market in every if self._is_alive(want, market)}
        for want, market in every:
            if want.stream in alive and want.stream not in self._collected:
                self._resume(self._cursors[want.stream], market)
        self._collected = alive
        self._lingering = [
            want
            for want, market in every
            if want.stream in alive and market.standing is not Standing.TRADING
        ]
        await self._change_polls()
        await self._change_feeds()
        self._forget({want.stream for want, _ in every})
        for want, market in every:
            if want.stream not in alive:
                self._stand(want, market)

    async def _place(self, wants: Sequence[Want]) -> None:
        """Find out where those stand that there were none of before."""
        world = self._world
        new = [want for want in wants if want.stream not in self._cursors]
        if new and world.positions is not None:
            await world.positions.read(new)
        for want in new:
            self._cursors[want.stream] = world.cursor(want)

    def _is_alive(self, want: Want, market: Market) -> bool:
        if market.standing is Standing.TRADING:
            return True
        return want.stream in self._collected and self._speaks(want)

    def _speaks(self, want: Want) -> bool:
        row = self._world.board.streams.get((self._venue.name, want.stream))
        if row is None or row.last_seen is None or row.alarm is not None:
            # What only answers our renewals does not speak.
            return False
        return self._world.now().monotonic - row.last_seen < SPEAKING

    def _resume(self, cursor: Cursor, market: Market) -> None:
        """It trades again, since some time after the exchange last said that it did not: what is
        missing of that time is a gap.
        """
        if market.idle_until and cursor.received is not None and cursor.gap is None:
            cursor.received = max(cursor.received, market.idle_until)
            cursor.lose("metadata", "the exchange said that it did not trade")

    def _forget(self, left: Set[Stream]) -> None:
        """Only these are left: another market has taken the symbol of the rest."""
        rows, venue = self._world.board.streams, self._venue.name
        for key in [key for key in rows if key[0] == venue and key[1] not in left]:
            del rows[key]

    def _stand(self, want: Want, market: Market) -> None:
        """Its market has nothing to tell. What was lost of it before, by a former process too,
        is a gap that ends here.
        """
        board, venue, now = self._world.board, self._venue, self._world.now()
        row = board.streams.get((venue.name, want.stream))
        if row is None:
            limit = venue.offers[want.data_type].quiet_limit
            row = board.stream(venue.name, want, venue.name, limit, now.monotonic)
        row.detach()
        row.standing, row.market_status = str(market.standing), market.status
        cursor = row.cursor = self._cursors[want.stream]
        gap = cursor.close(want.instrument, want.data_type, now.wall, row.connection)
        self._world.confess([] if gap is None else [gap], row.connection)

    async def _change_polls(self) -> None:
        for stream in self._polls.keys() - self._collected.keys():
            scope, ended = self._polls.pop(stream)
            scope.cancel()
            await ended.wait()
        for poll in self._venue.polls(list(self._collected.values())):
            stream = poll.want.stream
            if stream not in self._polls:
                self._polls[stream] = trio.CancelScope(), trio.Event()
                self._nursery.start_soon(self._poll, poll, *self._polls[stream])

    async def _poll(self, poll: Poll, scope: trio.CancelScope, ended: trio.Event) -> None:
        cursor = self._cursors[poll.want.stream]
        try:
            with scope:
                await run_poll(poll, self._venue, self._world, self._policy, cursor)
        finally:
            ended.set()

    async def _change_feeds(self) -> None:
        venue, wants = self._venue, list(self._collected.values())
        if not wants and not self._feeds:
            return
        current = [feed.shard for feed in self._feeds.values()]
        async with trio.open_nursery() as changes:
            for shard in venue.plan(wants, current):
                feed = self._feeds.get(shard.id)
                if feed is None:
                    feed = Feed(shard, venue, self._world, self._policy, self._cursors)
                    self._feeds[shard.id] = feed
                    self._nursery.start_soon(feed.run)
                elif set(feed.shard.wants) != set(shard.wants):
                    changes.start_soon(feed.change, shard)
