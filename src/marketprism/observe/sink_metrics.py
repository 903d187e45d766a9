"""Metrics of the sink, the outbox and the spool."""

from collections.abc import Iterator

from prometheus_client.core import Metric

from marketprism.board.board import Board
from marketprism.clock import Timestamp
from marketprism.errors import SinkState
from marketprism.observe.families import counter, gauge, gauges
from marketprism.observe.report import wall_age


def sink(board: Board, now: Timestamp) -> Iterator[Metric]:
    """The sink, and what waits for it."""
    row = board.sink
    oldest = wall_age(row.oldest_message, now)
    yield gauges(
        "sink_oldest_message_age_seconds",
        "Time since the oldest message of the stream was stored; absent until it is known.",
        ["kind"],
        {} if oldest is None else {(row.kind,): oldest},
    )
    yield gauges(
        "sink_connected",
        "1 while the sink is connected.",
        ["kind"],
        {(row.kind,): row.connected},
    )
    yield gauges(
        "sink_state",
        "1 for the state that the sink is in, 0 for all others.",
        ["kind", "state"],
        {(row.kind, str(state)): state is row.state for state in SinkState},
    )
    yield counter(
        "sink_connects",
        "Times that the sink was connected.",
        ["kind"],
        {(row.kind,): row.connects},
    )
    yield counter(
        "sink_duplicate_messages",
        "Messages that the sink's stream had already.",
        ["kind"],
        {(row.kind,): row.duplicates},
    )
    yield counter(
        "oversize_messages",
        "Messages too large to publish.",
        ["kind"],
        {(row.kind,): row.oversize},
    )
    yield gauge("sink_in_flight_messages", "Messages sent and not yet acknowledged.", row.in_flight)
    yield gauge("outbox_messages", "Messages held until acknowledged.", board.outbox.held)
    yield gauge("outbox_capacity_messages", "Messages the outbox can hold.", board.outbox.capacity)
    yield gauge("outbox_bytes", "Bytes of payload held.", board.outbox.held_bytes)
    yield gauge(
        "outbox_capacity_bytes",
        "Bytes of payload the outbox can hold.",
        board.outbox.capacity_bytes,
    )
    yield from spool(board)
    yield gauge("channel_records", "Records between the feeds and the outbox.", board.channel.held)
    yield gauge("channel_capacity_records", "Records the channel can hold.", board.channel.capacity)


def spool(board: Board) -> Iterator[Metric]:
    """What waits on disk."""
    row = board.spool
    yield gauge("spool_messages", "Messages that are on disk and not in memory.", row.held)
    yield gauge("spool_bytes", "Bytes that the spool's file uses.", row.file_bytes)
    yield gauge("spool_capacity_bytes", "Bytes that its file may use.", row.capacity_bytes)
    yield gauge("spool_failed", "1 while the spool's disk cannot be used.", row.state == "failed")
    yield counter(
        "outbox_dropped_messages",
        "Accepted messages that a damaged disk lost; each lies in a published gap.",
        (),
        {(): row.dropped},
    )
