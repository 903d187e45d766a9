"""The board in Prometheus' words: computed at each scrape, so that collecting costs nothing."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import TypeVar

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.utils import floatToGoString

from marketprism.board.board import Board
from marketprism.board.tally import Tally
from marketprism.clock import Timestamp
from marketprism.errors import SinkState
from marketprism.observe import log
from marketprism.observe.pages import Answer, Pages
from marketprism.observe.rates import resident_memory
from marketprism.observe.report import age, wall_age
from marketprism.supervise import BreakerState

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""The text format that every Prometheus reads."""

Key = TypeVar("Key", bound=tuple[str, ...])
"""The values of a family's labels."""

MARKET = ("exchange", "market_type")
ORIGIN = (*MARKET, "data_type")
_OPENNESS = {BreakerState.CLOSED: 0.0, BreakerState.HALF_OPEN: 0.5, BreakerState.OPEN: 1.0}


class Metrics(Pages):
    """A collector over the board, and the ASGI application of its one page, /metrics."""

    def __init__(
        self,
        board: Board,
        now: Callable[[], Timestamp],
        registry: CollectorRegistry,
        memory: Callable[[], int] = resident_memory,
    ) -> None:
        self._board = board
        self._now = now
        self._memory = memory
        registry.register(self)
        super().__init__(
            {"/metrics": lambda: Answer(generate_latest(registry), content_type=CONTENT_TYPE)}
        )

    def describe(self) -> list[Metric]:
        """Nothing: names are checked in the tests, not by a scrape at registration."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All families, as of now."""
        yield _gauge("memory_usage_bytes", "Memory this process holds.", self._memory())
        yield from self._bounds()
        yield from self._records()
        yield from self._connections()
        yield from self._streams(self._now())
        yield from self._latencies()
        yield from self._sink(self._now())
        yield from self._hosts()
        yield from self._breakers(self._now())
        yield _counter(
            "survived_faults",
            "Errors that were survived in servers and libraries.",
            ["kind"],
            {(kind,): count for kind, count in self._board.faults.items()},
        )
        yield _counter(
            "log_lines_lost",
            "Lines of the log that could not be written, or did not fit while nobody took them.",
            ["to"],
            {(where,): lines for where, lines in log.lost_lines().items()},
        )

    def _bounds(self) -> Iterator[Metric]:
        row = self._board.memory
        bounds = {("limit",): row.limit, ("soft",): row.soft, ("hard",): row.hard}
        yield _gauges(
            "memory_bound_bytes",
            "What holds for this process's memory: the container's limit, and what we allow it.",
            ["bound"],
            {key: bytes_ for key, bytes_ in bounds.items() if bytes_ is not None},
        )
        yield _gauges(
            "memory_shed",
            "1 for each burden that is given up to save memory.",
            ["burden"],
            {(burden,): 1 for burden in row.shed},
        )

    def _records(self) -> Iterator[Metric]:
        board = self._board
        yield _counter(
            "messages_published",
            "Messages that the sink acknowledged.",
            ORIGIN,
            board.published,
        )
        yield _counter(
            "records_received", "Records accepted from exchanges.", ORIGIN, board.received
        )
        yield _counter(
            "records_lost",
            "Records that were read and could not be kept; each lies in a published gap.",
            ORIGIN,
            board.lost,
        )
        yield _counter(
            "books_conflated",
            "Records of books that gave way to others; a snapshot stands for them, after a gap.",
            MARKET,
            _by_market(board.conflated),
        )
        yield _counter(
            "frames_rejected",
            "Frames from exchanges that could not be used.",
            ["venue", "reason"],
            board.rejected,
        )
        yield _counter(
            "gaps",
            "Published gaps, by the data type that they affect.",
            (*ORIGIN, "reason"),
            board.gaps,
        )

    def _connections(self) -> Iterator[Metric]:
        connected: Counter[tuple[str, ...]] = Counter()
        reconnects: Counter[tuple[str, ...]] = Counter()
        frames: Counter[tuple[str, ...]] = Counter()
        rotations: Counter[tuple[str, ...]] = Counter()
        for row in self._board.connections.values():
            market = (row.exchange, row.market_type)
            connected[market] += row.state == "connected"
            reconnects[market] += row.reconnects
            frames[market] += row.frames
            for outcome in ("ok", "failed"):
                rotations[*market, outcome] += row.rotations[outcome]
        yield _gauges("websocket_connections", "Connections that stand now.", MARKET, connected)
        yield _counter(
            "websocket_reconnects", "Times that a connection came back.", MARKET, reconnects
        )
        yield _counter(
            "rotations",
            "Times that a new connection took over from an old one, or could not.",
            (*MARKET, "outcome"),
            rotations,
        )
        yield _counter("frames_received", "Frames of data from exchanges.", MARKET, frames)

    def _streams(self, now: Timestamp) -> Iterator[Metric]:
        ages: dict[tuple[str, ...], float] = {}
        states: Counter[tuple[str, ...]] = Counter()
        resyncs: Counter[tuple[str, ...]] = Counter()
        duplicates: Counter[tuple[str, ...]] = Counter()
        ahead: Counter[tuple[str, ...]] = Counter()
        audits: Counter[tuple[str, ...]] = Counter()
        for row in self._board.stream_rows():
            instrument = row.instrument
            origin = (instrument.exchange, instrument.market_type, str(row.data_type))
            states[*origin, row.state] += 1
            resyncs[origin] += row.resyncs
            duplicates[origin] += row.duplicates
            ahead[origin] += row.stamps_ahead
            for outcome, times in row.audits.items():
                audits[*origin[:2], outcome] += times
            if row.standing is not None:
                continue  # it has nothing to say
            silent = age(row.heard or self._board.started, now) or 0.0
            # Two instruments may bear one symbol; the same labels must not come twice.
            series = (*origin, instrument.symbol)
            ages[series] = max(silent, ages.get(series, 0.0))
        yield _gauges(
            "stream_age_seconds",
            "Time since a stream's last record; since the start where there was none.",
            (*ORIGIN, "symbol"),
            ages,
        )
        yield _gauges("streams", "Streams, by what state they are in.", (*ORIGIN, "state"), states)
        yield _counter("resyncs", "Times that a stream was synchronised again.", ORIGIN, resyncs)
        yield _counter(
            "duplicate_records",
            "Records that an exchange told again, dropped here.",
            ORIGIN,
            duplicates,
        )
        yield _counter(
            "stamps_ahead",
            "Events whose time was still to come: told once, and no progress.",
            ORIGIN,
            ahead,
        )
        yield _counter(
            "book_audits",
            "Comparisons of books with fresh snapshots, by what came of them.",
            (*MARKET, "outcome"),
            audits,
        )

    def _latencies(self) -> Iterator[Metric]:
        board = self._board
        yield _histogram(
            "data_processing_duration",
            "Seconds from reading a frame to its messages being ready to publish.",
            (),
            {(): board.processing},
        )
        yield _histogram(
            "publish_latency_seconds",
            "From handing a message to the sink to its acknowledgement.",
            (),
            {(): board.acknowledgement},
        )
        yield _histogram(
            "exchange_latency_seconds",
            "From the exchange's own time stamp to reading the frame, clocks permitting.",
            ["exchange"],
            {(exchange,): tally for exchange, tally in board.transit.items()},
        )
        yield _gauges(
            "exchange_clock_offset_seconds",
            "By how much an exchange's stamps are ahead of our clock: the median; absent at first.",
            ["exchange"],
            {
                (exchange,): clock.offset / 1e9
                for exchange, clock in board.clocks.items()
                if clock.offset is not None
            },
        )

    def _sink(self, now: Timestamp) -> Iterator[Metric]:
        board, row = self._board, self._board.sink
        oldest = wall_age(row.oldest_message, now)
        yield _gauges(
            "sink_oldest_message_age_seconds",
            "Time since the oldest message of the stream was stored; absent until it is known.",
            ["kind"],
            {} if oldest is None else {(row.kind,): oldest},
        )
        yield _gauges(
            "sink_connected",
            "1 while the sink is connected.",
            ["kind"],
            {(row.kind,): row.connected},
        )
        yield _gauges(
            "sink_state",
            "1 for the state that the sink is in, 0 for all others.",
            ["kind", "state"],
            {(row.kind, str(state)): state is row.state for state in SinkState},
        )
        yield _counter(
            "sink_connects",
            "Times that the sink was connected.",
            ["kind"],
            {(row.kind,): row.connects},
        )
        yield _counter(
            "sink_duplicate_messages",
            "Messages that the sink's stream had already.",
            ["kind"],
            {(row.kind,): row.duplicates},
        )
        yield _counter(
            "oversize_messages",
            "Messages too large to publish.",
            ["kind"],
            {(row.kind,): row.oversize},
        )
        yield _gauge(
            "sink_in_flight_messages", "Messages sent and not yet acknowledged.", row.in_flight
        )
        yield _gauge("outbox_messages", "Messages held until acknowledged.", board.outbox.held)
        yield _gauge(
            "outbox_capacity_messages", "Messages the outbox can hold.", board.outbox.capacity
        )
        yield _gauge("outbox_bytes", "Bytes of payload held.", board.outbox.held_bytes)
        yield _gauge(
            "outbox_capacity_bytes",
            "Bytes of payload the outbox can hold.",
            board.outbox.capacity_bytes,
        )
        yield from self._spool()
        yield _gauge(
            "channel_records", "Records between the feeds and the outbox.", board.channel.held
        )
        yield _gauge(
            "channel_capacity_records", "Records the channel can hold.", board.channel.capacity
        )

    def _spool(self) -> Iterator[Metric]:
        row = self._board.spool
        yield _gauge("spool_messages", "Messages that are on disk and not in memory.", row.held)
        yield _gauge("spool_bytes", "Bytes that the spool's file uses.", row.file_bytes)
        yield _gauge("spool_capacity_bytes", "Bytes that its file may use.", row.capacity_bytes)
        yield _gauge(
            "spool_failed", "1 while the spool's disk cannot be used.", row.state == "failed"
        )
        yield _counter(
            "outbox_dropped_messages",
            "Accepted messages that a damaged disk lost; each lies in a published gap.",
            (),
            {(): row.dropped},
        )

    def _breakers(self, now: Timestamp) -> Iterator[Metric]:
        states = {
            key: breaker.state(now.monotonic) for key, breaker in self._board.breakers.items()
        }
        yield _gauges(
            "breaker_open",
            "Whether a host is left alone: 1 open, 0.5 half-open, 0 closed.",
            ("kind", "host"),
            {key: _OPENNESS[state] for key, state in states.items()},
        )
        yield _counter(
            "stream_silences",
            "Silences of streams that were answered, by what was done.",
            ("venue", "data_type", "answer"),
            self._board.silences,
        )

    def _hosts(self) -> Iterator[Metric]:
        rows = self._board.hosts.values()
        yield _gauges(
            "rest_weight_used",
            "Request weight used of a host's budget in its current window.",
            ["host"],
            {(row.host,): row.used_weight for row in rows},
        )
        yield _gauges(
            "rest_weight_limit",
            "Request weight that we allow ourselves at a host in a window; 0: not known.",
            ["host"],
            {(row.host,): row.weight_limit for row in rows},
        )
        yield _gauges(
            "rest_waiting_requests",
            "Requests that wait for room in a host's budget.",
            ["host"],
            {(row.host,): row.waiting for row in rows},
        )
        yield _gauges(
            "host_reachable",
            "1 while a host can be reached; absent until it was tried.",
            ["host"],
            {(row.host,): row.reachable for row in rows if row.reachable is not None},
        )


def _by_market(counts: Mapping[tuple[str, str, str], int]) -> Mapping[tuple[str, ...], int]:
    sums: Counter[tuple[str, ...]] = Counter()
    for (exchange, market_type, _), count in counts.items():
        sums[exchange, market_type] += count
    return sums


def _gauge(name: str, help_text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"marketprism_{name}", help_text, value=value)


def _gauges(
    name: str,
    help_text: str,
    labels: Sequence[str],
    values: Mapping[Key, float],
) -> Metric:
    family = GaugeMetricFamily(f"marketprism_{name}", help_text, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def _counter(
    name: str,
    help_text: str,
    labels: Sequence[str],
    counts: Mapping[Key, int],
) -> Metric:
    family = CounterMetricFamily(f"marketprism_{name}", help_text, labels=labels)
    for key, count in counts.items():
        family.add_metric(key, count)
    return family


def _histogram(
    name: str, help_text: str, labels: Sequence[str], tallies: Mapping[Key, Tally]
) -> Metric:
    family = HistogramMetricFamily(f"marketprism_{name}", help_text, labels=labels)
    for key, tally in tallies.items():
        bounds = [*map(floatToGoString, tally.bounds), "+Inf"]
        buckets = list(zip(bounds, accumulate(tally.counts), strict=True))
        family.add_metric(key, buckets, tally.sum)
    return family
