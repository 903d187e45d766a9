"""The streams of one shard, whatever happens to its connections: how far each is known, where sight
of it was lost, and its row on the board.
"""

from collections.abc import Iterable, Mapping

from marketprism.board.rows import ConnectionRow
from marketprism.feeds.freshness import Freshness
from marketprism.feeds.services import Services
from marketprism.feeds.venue import Session, Shard, Venue
from marketprism.records import DataType
from marketprism.redaction import redact
from marketprism.settings.supervision import FreshnessConfig
from marketprism.streams.cursor import Cursor
from marketprism.streams.subscription import Stream, Subscription


class ShardStreams:
    """What a feed carries."""

    def __init__(
        self,
        shard: Shard,
        venue: Venue,
        services: Services,
        freshness: FreshnessConfig,
        cursors: Mapping[Stream, Cursor],
    ) -> None:
        """`cursors`: of all its streams, those that come later too."""
        self.shard = shard
        self.cursors: dict[Stream, Cursor] = {}
        self.freshness = Freshness(venue.offers, freshness)
        self._venue = venue
        self._services = services
        self._all_cursors = cursors
        for subscription in shard.subscriptions:
            self._take_up(subscription)

    def change(self, shard: Shard) -> tuple[list[Subscription], list[Subscription]]:
        """Go over to what that one carries: what is new, and what is gone."""
        before = {subscription.stream: subscription for subscription in self.shard.subscriptions}
        after = {subscription.stream: subscription for subscription in shard.subscriptions}
        gone = [subscription for stream, subscription in before.items() if stream not in after]
        new = [subscription for stream, subscription in after.items() if stream not in before]
        self.shard = shard
        for subscription in gone:
            self._leave(subscription)
        for subscription in new:
            self._take_up(subscription)
        return new, gone

    def _take_up(self, subscription: Subscription) -> None:
        services, venue = self._services, self._venue
        self.cursors[subscription.stream] = self._all_cursors[subscription.stream]
        limit = venue.offers[subscription.data_type].quiet_limit
        now = services.now().monotonic
        row = services.board.stream(venue.name, subscription, self.shard.id, limit, now)
        row.freshness = self.freshness

    def _leave(self, subscription: Subscription) -> None:
        """Nothing more will be heard of it: what it lost before is told."""
        services, now, ident = self._services, self._services.now(), self.shard.id
        services.board.streams[self._venue.name, subscription.stream].detach()
        self.freshness.leave(subscription.stream)
        cursor = self.cursors.pop(subscription.stream)
        gap = cursor.close(subscription.instrument, subscription.data_type, now.wall, ident)
        services.tell_gaps([] if gap is None else [gap], ident)
        services.outlet.leave(ident, subscription.stream, now.wall, now.monotonic)

    def attach(self, stream: Stream, session: Session) -> None:
        """That session has it from now on."""
        row = self._services.board.streams[self._venue.name, stream]
        row.attach(session.streams[stream])

    def disconnected(self, row: ConnectionRow, reason: str) -> None:
        """No session has any of them: their only connection ended."""
        self.see_to_the_end(row, self.cursors)
        for stream, cursor in self.cursors.items():
            cursor.lose("disconnect", redact(reason))
            self._services.board.streams[self._venue.name, stream].detach()

    def lose(self, row: ConnectionRow, streams: Iterable[Stream]) -> None:
        """A connection ends in whose sight those streams were, and no other's."""
        streams, why = list(streams), "its connection ended, and the other does not hear it"
        self.see_to_the_end(row, streams)
        for stream in streams:
            self.cursors[stream].lose("disconnect", why)

    def see_to_the_end(self, row: ConnectionRow, streams: Iterable[Stream]) -> None:
        """What a stream did not say while its connection was alive did not happen: sight was lost
        when the connection last gave a sign of life, not at the stream's last record.
        """
        if row.last_alive is None:
            return
        now = self._services.now()
        alive = now.wall - (now.monotonic - row.last_alive)
        for cursor in (self.cursors[stream] for stream in streams):
            if cursor.received is not None and cursor.gap is None:
                cursor.received = max(cursor.received, alive)

    def close(self) -> None:
        """Publish the gaps left open."""
        services, ident = self._services, self.shard.id
        wall = services.now().wall
        # Of an instrument's gaps the next process asks for the last: where its book stood.
        subscriptions = sorted(
            self.shard.subscriptions,
            key=lambda subscription: subscription.data_type is DataType.ORDERBOOK,
        )
        open_gaps = (
            self.cursors[subscription.stream].close(
                subscription.instrument, subscription.data_type, wall, ident
            )
            for subscription in subscriptions
        )
        services.tell_gaps([gap for gap in open_gaps if gap is not None], ident)
