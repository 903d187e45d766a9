"""The board in Prometheus' words: computed at each scrape, so that collecting costs nothing."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    Metric,
)

from marketprism.board.board import Board
from marketprism.clock import Timestamp
from marketprism.observe import log
from marketprism.observe.families import MARKET, ORIGIN, counter, gauge, gauges, histogram
from marketprism.observe.host_metrics import breakers, hosts
from marketprism.observe.pages import Answer, Pages
from marketprism.observe.rates import resident_memory
from marketprism.observe.sink_metrics import sink
from marketprism.observe.stream_metrics import streams

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""The text format that every Prometheus reads."""


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
        yield gauge("memory_usage_bytes", "Memory this process holds.", self._memory())
        yield from self._bounds()
        yield from self._records()
        yield from self._connections()
        yield from streams(self._board, self._now())
        yield from self._latencies()
        yield from sink(self._board, self._now())
        yield from hosts(self._board)
        yield from breakers(self._board, self._now())
        yield counter(
            "survived_faults",
            "Errors that were survived in servers and libraries.",
            ["kind"],
            {(kind,): count for kind, count in self._board.faults.items()},
        )
        yield counter(
            "log_lines_lost",
            "Lines of the log that could not be written, or did not fit while nobody took them.",
            ["to"],
            {(where,): lines for where, lines in log.lost_lines().items()},
        )

    def _bounds(self) -> Iterator[Metric]:
        row = self._board.memory
        bounds = {("limit",): row.limit, ("soft",): row.soft, ("hard",): row.hard}
        yield gauges(
            "memory_bound_bytes",
            "What holds for this process's memory: the container's limit, and what we allow it.",
            ["bound"],
            {key: bytes_ for key, bytes_ in bounds.items() if bytes_ is not None},
        )
        yield gauges(
            "memory_shed",
            "1 for each burden that is given up to save memory.",
            ["burden"],
            {(burden,): 1 for burden in row.shed},
        )

    def _records(self) -> Iterator[Metric]:
        board = self._board
        yield counter(
            "messages_published",
            "Messages that the sink acknowledged.",
            ORIGIN,
            board.published,
        )
        yield counter(
            "records_received", "Records accepted from exchanges.", ORIGIN, board.received
        )
        yield counter(
            "records_lost",
            "Records that were read and could not be kept; each lies in a published gap.",
            ORIGIN,
            board.lost,
        )
        yield counter(
            "books_conflated",
            "Records of books that gave way to others; a snapshot stands for them, after a gap.",
            MARKET,
            _by_market(board.conflated),
        )
        yield counter(
            "frames_rejected",
            "Frames from exchanges that could not be used.",
            ["venue", "reason"],
            board.rejected,
        )
        yield counter(
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
        yield gauges("websocket_connections", "Connections that stand now.", MARKET, connected)
        yield counter(
            "websocket_reconnects", "Times that a connection came back.", MARKET, reconnects
        )
        yield counter(
            "rotations",
            "Times that a new connection took over from an old one, or could not.",
            (*MARKET, "outcome"),
            rotations,
        )
        yield counter("frames_received", "Frames of data from exchanges.", MARKET, frames)

    def _latencies(self) -> Iterator[Metric]:
        board = self._board
        yield histogram(
            "data_processing_duration",
            "Seconds from reading a frame to its messages being ready to publish.",
            (),
            {(): board.processing},
        )
        yield histogram(
            "publish_latency_seconds",
            "From handing a message to the sink to its acknowledgement.",
            (),
            {(): board.acknowledgement},
        )
        yield histogram(
            "exchange_latency_seconds",
            "From the exchange's own time stamp to reading the frame, clocks permitting.",
            ["exchange"],
            {(exchange,): tally for exchange, tally in board.transit.items()},
        )
        yield gauges(
            "exchange_clock_offset_seconds",
            "By how much an exchange's stamps are ahead of our clock: the median; absent at first.",
            ["exchange"],
            {
                (exchange,): clock.offset / 1e9
                for exchange, clock in board.clocks.items()
                if clock.offset is not None
            },
        )


def _by_market(counts: Mapping[tuple[str, str, str], int]) -> Mapping[tuple[str, ...], int]:
    sums: Counter[tuple[str, ...]] = Counter()
    for (exchange, market_type, _), count in counts.items():
        sums[exchange, market_type] += count
    return sums
