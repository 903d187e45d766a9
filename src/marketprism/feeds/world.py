"""What every connection and every poll of a process shares."""

import ssl
from collections.abc import Callable, Sequence

import attrs
import structlog

from marketprism.feeds import dialing
from marketprism.feeds.hosts import Hosts
from marketprism.feeds.proxies import Proxies
from marketprism.feeds.rest import Rest
from marketprism.feeds.venue import Moment, Reject, Session
from marketprism.outlet import Outlet
from marketprism.records import Gap, Record
from marketprism.status import Board
from marketprism.supervise import uniform

SAMPLES_PER_REASON = 3
"""Rejects of each kind that are logged with a sample, a feed; all are counted."""

log = structlog.get_logger()


@attrs.frozen
class World:
    """The far ends of the feeds, and what they say of themselves."""

    outlet: Outlet
    rest: Rest
    hosts: Hosts
    proxies: Proxies
    board: Board
    now: Callable[[], Moment]
    tls: ssl.SSLContext
    dial: dialing.Dial = dialing.dial
    """How a host is reached by websocket."""
    chance: Callable[[], float] = uniform
    """Uniform in [0, 1): what waits are jittered by."""
    sessions: set[Session] = attrs.field(factory=set)
    """Those whose connection is being made or stands."""

    def publish(self, records: list[Record], read_at: int, connection: str) -> None:
        """Count records and hand them on; it never waits."""
        board = self.board
        for record in records:
            instrument = record.instrument
            exchange, market_type = instrument.exchange, instrument.market_type
            if not isinstance(record, Gap):
                board.received[exchange, market_type, record.data_type] += 1
                continue
            affected = str(record.affected)
            board.gaps[exchange, market_type, affected, record.reason] += 1
            log.warning(
                "stream.gap",
                connection=connection,
                symbol=instrument.symbol,
                data_type=affected,
                reason=record.reason,
                lost=record.lost,
            )
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

    def confess(self, gaps: Sequence[Gap], connection: str) -> None:
        """Publish gaps that the stop leaves open: nobody will see their end any more."""
        if gaps:
            self.publish(list(gaps), self.now().monotonic, connection)
