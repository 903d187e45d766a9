"""What every connection and every poll of a process shares."""

import ssl
from collections.abc import Callable, Sequence

import attrs
import structlog

from marketprism.board.board import Board
from marketprism.clock import Timestamp
from marketprism.feeds import dialing
from marketprism.feeds.actions import Reject
from marketprism.feeds.hosts import Hosts
from marketprism.feeds.proxies import Proxies
from marketprism.feeds.rest import Rest
from marketprism.feeds.venue import Session
from marketprism.pipeline.outlet import Outlet
from marketprism.records import Gap, Record
from marketprism.resume.positions import Positions
from marketprism.streams.cursor import Cursor
from marketprism.streams.exchange_clock import ExchangeClock
from marketprism.streams.subscription import Subscription
from marketprism.supervise import uniform

SAMPLES_PER_REASON = 3
"""Rejects of each kind that are logged with a sample, a feed; all are counted."""

log = structlog.get_logger()


@attrs.define(eq=False)
class Turns:
    """Who may do what only one at a time may do; who is not admitted asks again."""

    holder: object = None

    def admit(self, who: object) -> bool:
        """Whether it is their turn, until they leave."""
        if self.holder is None:
            self.holder = who
        return self.holder is who

    def leave(self, who: object) -> None:
        """They are done; nothing happens where it was not their turn."""
        if self.holder is who:
            self.holder = None


@attrs.frozen
class Services:
    """The far ends of the feeds, and what they say of themselves: one thing to hand on, however
    many there are.
    """

    outlet: Outlet
    rest: Rest
    hosts: Hosts
    proxies: Proxies
    board: Board
    now: Callable[[], Timestamp]
    tls: ssl.SSLContext
    dial: dialing.Dial = dialing.dial
    """How a host is reached by websocket."""
    jitter: Callable[[], float] = uniform
    """Uniform in [0, 1): what waits are jittered by."""
    sessions: set[Session] = attrs.field(factory=set)
    """Those whose connection is being made or stands."""
    rotations: Turns = attrs.field(factory=Turns)
    """Planned ones take place one after the other."""
    positions: Positions | None = None
    """Where the streams stood when this process began; None: nobody can tell."""

    def cursor(self, subscription: Subscription) -> Cursor:
        """Where a stream that begins now goes on from."""
        cursor = Cursor() if self.positions is None else self.positions.cursor(subscription)
        cursor.clock = self.clock(subscription.instrument.exchange)
        return cursor

    def clock(self, exchange: str) -> ExchangeClock:
        """What an exchange's stamps are measured by, on all its markets."""
        return self.board.clocks.setdefault(exchange, ExchangeClock())

    def learn_times(self, exchange: str, records: list[Record], now: Timestamp) -> None:
        """One observation a batch: its first record stands for all."""
        if records and (happened := records[0].timestamp) is not None:
            if not isinstance(records[0], Gap):
                self.clock(exchange).learn(happened, now)
            transit = self.board.transit_of(exchange)
            transit.add(max(0.0, (now.wall - happened) / 1e9), len(records))

    def publish(self, records: list[Record], read_at: int, connection: str) -> None:
        """Count records and hand them on; it never waits."""
        received = self.board.received
        for record in records:
            if not isinstance(record, Gap):
                instrument = record.instrument
                received[instrument.exchange, instrument.market_type, record.data_type] += 1
        self.outlet.put(records, read_at, connection)

    def reject(self, venue: str, connection: str, reject: Reject, seen: dict[str, int]) -> None:
        """Count what could not be used, and log the first samples of its kind."""
        self.board.rejected[venue, reject.reason] += 1
        seen[reject.reason] = seen.get(reject.reason, 0) + 1
        if seen[reject.reason] <= SAMPLES_PER_REASON:
            log.warning(
                "frame.rejected",
                connection=connection,
                reason=reject.reason,
                detail=reject.detail,
                sample=reject.sample.decode(errors="replace"),
            )

    def tell_gaps(self, gaps: Sequence[Gap], connection: str) -> None:
        """Publish gaps that the stop leaves open: nobody will see their end any more."""
        if gaps:
            self.publish(list(gaps), self.now().monotonic, connection)
