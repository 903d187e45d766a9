"""The board: what each task last said of itself. Pure; read by health, metrics and people.

Tasks write their own row and nobody else's. All durations here come from monotonic nanoseconds.
"""

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

import attrs

from marketprism.board.gap_log import GapLog
from marketprism.board.rows import (
    ConnectionRow,
    HostRow,
    MemoryRow,
    QueueRow,
    SinkRow,
    SpoolRow,
    VenueRow,
)
from marketprism.board.stream_row import StreamRow
from marketprism.board.tally import Tally, latency
from marketprism.records import Gap

if TYPE_CHECKING:
    from marketprism.streams.exchange_clock import ExchangeClock
    from marketprism.streams.subscription import Stream, Subscription
    from marketprism.supervise import CircuitBreaker

Origin = tuple[str, str, str]
"""Exchange, market type, data type: the labels of the counters."""


@attrs.define(eq=False)
class Board:
    """All rows and counters of one process: whoever tells of it needs to know this alone."""

    started: int = 0
    """Monotonic nanoseconds."""
    venues: dict[str, VenueRow] = attrs.field(factory=dict)
    connections: dict[str, ConnectionRow] = attrs.field(factory=dict)
    streams: dict[tuple[str, "Stream"], StreamRow] = attrs.field(factory=dict)
    hosts: dict[str, HostRow] = attrs.field(factory=dict)
    breakers: dict[tuple[str, str], "CircuitBreaker"] = attrs.field(factory=dict)
    """By `rest` or `websocket`, and host."""
    sink: SinkRow = attrs.field(factory=SinkRow)
    channel: QueueRow = attrs.field(factory=QueueRow)
    outbox: QueueRow = attrs.field(factory=QueueRow)
    memory: MemoryRow = attrs.field(factory=MemoryRow)
    spool: SpoolRow = attrs.field(factory=SpoolRow)
    received: Counter[Origin] = attrs.field(factory=Counter)
    """Records accepted from exchanges."""
    published: Counter[Origin] = attrs.field(factory=Counter)
    """Messages that the sink acknowledged."""
    lost: Counter[Origin] = attrs.field(factory=Counter)
    """Records that we read and could not keep: each lies inside a published gap."""
    conflated: Counter[Origin] = attrs.field(factory=Counter)
    """Records of books that gave way to others: a snapshot stands for them, after a gap."""
    gaps: Counter[tuple[str, str, str, str]] = attrs.field(factory=Counter)
    """Gap records by origin of what they affect, and reason."""
    rejected: Counter[tuple[str, str]] = attrs.field(factory=Counter)
    """Frames that could not be used, by venue and reason."""
    processing: Tally = attrs.field(factory=latency)
    """Frame read → message ready, a record."""
    acknowledgement: Tally = attrs.field(factory=latency)
    """Message handed to the sink → acknowledged."""
    transit: dict[str, Tally] = attrs.field(factory=dict)
    """The exchange's own stamp → frame read, by exchange; clocks permitting."""
    clocks: dict[str, "ExchangeClock"] = attrs.field(factory=dict)
    """What each exchange's stamps are measured by."""
    silences: Counter[tuple[str, str, str]] = attrs.field(factory=Counter)
    """Silences that were answered, by venue, data type, and what was done."""
    faults: Counter[str] = attrs.field(factory=Counter)
    """Errors that were survived in servers and libraries, by kind."""
    gap_log: GapLog = attrs.field(factory=GapLog)
    """Gaps on their way into the log."""
    _rows: dict[tuple[str, str, str, str], StreamRow] = attrs.field(factory=dict)
    """`streams`, by what a record says: exchange, market, type and native id."""

    def tell_gap(self, gap: Gap) -> None:
        """Count a gap that is to be published, and have it logged."""
        instrument = gap.instrument
        origin = instrument.exchange, instrument.market_type, str(gap.affected)
        self.gaps[*origin, gap.reason] += 1
        if (row := self._rows.get((*origin, instrument.native_id))) is not None:
            row.gaps += 1
        self.gap_log.tell(gap)

    def open_gaps(self, connection: str) -> int:
        """Of how many streams of a connection sight is lost."""
        return sum(
            row.connection == connection and row.cursor is not None and row.cursor.gap is not None
            for row in self.streams.values()
        )

    def stream(
        self,
        venue: str,
        subscription: "Subscription",
        connection: str,
        quiet_limit: float | None,
        begun: int,
    ) -> StreamRow:
        """The row of a stream that is asked for from now on: its counts go on."""
        row = self.streams.get((venue, subscription.stream))
        if row is None:
            row = StreamRow(venue, subscription.instrument, subscription.data_type, connection)
            self.streams[venue, subscription.stream] = row
            market = subscription.instrument.exchange, subscription.instrument.market_type
            self._rows[*market, str(subscription.data_type), subscription.instrument.native_id] = (
                row
            )
        row.connection, row.quiet_limit, row.begun = connection, quiet_limit, begun
        row.standing = None
        return row

    def stream_rows(self) -> Iterator[StreamRow]:
        return iter(self.streams.values())

    def transit_of(self, exchange: str) -> Tally:
        """That exchange's tally, made when first asked for."""
        return self.transit.setdefault(exchange, latency())
