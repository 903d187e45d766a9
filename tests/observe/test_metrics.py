"""What Prometheus reads: the contract's names, and a format that a strict reader takes."""

import math
import re
from collections.abc import Iterable

import loopback
import pytest
import trio
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from marketprism.board.board import Board
from marketprism.board.rows import ConnectionRow, HostRow
from marketprism.board.stream_row import StreamRow
from marketprism.clock import Timestamp
from marketprism.errors import SinkState
from marketprism.instruments import Instrument
from marketprism.observe import log
from marketprism.observe.metrics import Metrics
from marketprism.observe.serving import serve
from marketprism.records import DataType
from marketprism.streams.cursor import Cursor
from marketprism.streams.exchange_clock import ExchangeClock
from marketprism.streams.state import Phase, StreamState

SECOND = 1_000_000_000
NOW = Timestamp(1_764_000_000 * SECOND, 1_100 * SECOND)
SPOT = {"exchange": "binance", "market_type": "spot"}
TRADES = {**SPOT, "data_type": "trade"}


def board() -> Board:
    """A board with something in every row and counter."""
    board = Board(started=1_000 * SECOND)
    origin = ("binance", "spot", "trade")
    board.received[origin], board.published[origin], board.lost[origin] = 12, 10, 2
    board.gaps[*origin, "overflow"] = 1
    board.rejected["binance_spot", "not JSON"] = 3
    board.faults["http: LocalProtocolError"] = 4
    for seconds in (0.00005, 0.003, 0.003, 99.0):
        board.processing.add(seconds)
        board.acknowledgement.add(seconds, 2)
        board.transit_of("binance").add(seconds)
    board.sink.connected, board.sink.connects, board.sink.in_flight = True, 2, 5
    board.sink.state = SinkState.STREAM_FULL
    board.outbox.held, board.channel.held = 6, 7
    board.conflated["binance", "spot", "orderbook"] = 8
    board.memory.limit, board.memory.soft, board.memory.shed = 1000, 700, ["books"]
    board.spool.held, board.spool.file_bytes, board.spool.dropped = 8, 9, 10
    board.hosts["api.binance.com"] = HostRow("api.binance.com", True, used_weight=20)
    board.hosts["new"] = HostRow("new")
    board.clocks = {"binance": ExchangeClock(1_500_000_000), "okx": ExchangeClock()}
    for number, state in enumerate(("connected", "connected", "waiting")):
        feed = f"binance_spot/{number}"
        board.connections[feed] = ConnectionRow(
            feed, "binance_spot", "binance", "spot", "wss://host", state, connects=2, frames=100
        )
        board.connections[feed].rotations.update(ok=number, failed=1)
    board.connections["okx_spot/0"] = ConnectionRow(
        "okx_spot/0", "okx_spot", "okx", "spot", "wss://host"
    )
    for symbol, audits in (("BTC-USDT", {"agreed": 3}), ("ETH-USDT", {"agreed": 1, "diverged": 1})):
        instrument = Instrument("binance", "spot", symbol, symbol)
        row = StreamRow("binance_spot", instrument, DataType.ORDERBOOK, "binance_spot/0")
        for times in (audits, audits):
            session = StreamState(instrument, DataType.ORDERBOOK, Cursor(), Phase.LIVE)
            session.audits.update(times)
            row.attach(session)
        board.streams["binance_spot", (DataType.ORDERBOOK, symbol)] = row
    for symbol, last in (("BTC-USDT", 1_098 * SECOND), ('ODD"\\\n-USDT', None)):
        instrument = Instrument("binance", "spot", symbol, symbol)
        row = StreamRow("binance_spot", instrument, DataType.TRADE, "binance_spot/0")
        cursor = Cursor()
        cursor.ahead.count = 2
        row.attach(
            StreamState(
                instrument,
                DataType.TRADE,
                cursor,
                Phase.LIVE,
                None,
                last,
                9,
                duplicates=1,
                resyncs=2,
            )
        )
        board.streams["binance_spot", (DataType.TRADE, symbol)] = row
    return board


def registry_of(source: Board) -> CollectorRegistry:
    """A registry of its own, with that board in it."""
    registry = CollectorRegistry()
    Metrics(source, lambda: NOW, registry, memory=lambda: 4096)
    return registry


def families(registry: CollectorRegistry) -> dict[str, Metric]:
    """What a scrape gives, read back."""
    read = list(text_string_to_metric_families(generate_latest(registry).decode()))
    assert len({family.name for family in read}) == len(read)
    return {family.name: family for family in read}


def test_the_contracts_four_are_named_and_labelled_as_promised() -> None:
    """Other people's dashboards rest on these."""
    registry = registry_of(board())
    value = registry.get_sample_value
    assert value("marketprism_messages_published_total", TRADES) == 10
    assert value("marketprism_websocket_connections", SPOT) == 2
    assert (
        value("marketprism_websocket_connections", {"exchange": "okx", "market_type": "spot"}) == 0
    )
    assert value("marketprism_data_processing_duration_count") == 4
    assert value("marketprism_data_processing_duration_sum") == 99.00605
    assert value("marketprism_memory_usage_bytes") == 4096


def test_the_board_is_told() -> None:
    """Each row and counter has its metric."""
    value = registry_of(board()).get_sample_value
    assert value("marketprism_records_received_total", TRADES) == 12
    assert value("marketprism_records_lost_total", TRADES) == 2
    assert value("marketprism_gaps_total", {**TRADES, "reason": "overflow"}) == 1
    rejected = {"venue": "binance_spot", "reason": "not JSON"}
    assert value("marketprism_frames_rejected_total", rejected) == 3
    assert value("marketprism_frames_received_total", SPOT) == 300
    assert value("marketprism_websocket_reconnects_total", SPOT) == 3
    assert value("marketprism_rotations_total", {**SPOT, "outcome": "ok"}) == 3
    assert value("marketprism_rotations_total", {**SPOT, "outcome": "failed"}) == 3
    assert value("marketprism_resyncs_total", TRADES) == 4
    assert value("marketprism_duplicate_records_total", TRADES) == 2
    assert value("marketprism_stamps_ahead_total", TRADES) == 4
    offset = "marketprism_exchange_clock_offset_seconds"
    assert value(offset, {"exchange": "binance"}) == 1.5
    assert value(offset, {"exchange": "okx"}) is None
    assert value("marketprism_book_audits_total", {**SPOT, "outcome": "agreed"}) == 8
    assert value("marketprism_book_audits_total", {**SPOT, "outcome": "diverged"}) == 2
    assert value("marketprism_streams", {**TRADES, "state": "live"}) == 2
    kind = {"kind": "http: LocalProtocolError"}
    assert value("marketprism_survived_faults_total", kind) == 4
    assert value("marketprism_sink_connected", {"kind": "nats"}) == 1
    assert value("marketprism_sink_state", {"kind": "nats", "state": "stream_full"}) == 1
    assert value("marketprism_sink_state", {"kind": "nats", "state": "connected"}) == 0
    assert value("marketprism_sink_in_flight_messages") == 5
    assert value("marketprism_outbox_messages") == 6
    assert value("marketprism_channel_records") == 7
    assert value("marketprism_books_conflated_total", SPOT) == 8
    assert value("marketprism_memory_bound_bytes", {"bound": "limit"}) == 1000
    assert value("marketprism_memory_bound_bytes", {"bound": "hard"}) is None
    assert value("marketprism_memory_shed", {"burden": "books"}) == 1
    assert value("marketprism_spool_messages") == 8
    assert value("marketprism_spool_bytes") == 9
    assert value("marketprism_spool_failed") == 0
    assert value("marketprism_outbox_dropped_messages_total") == 10
    assert value("marketprism_rest_weight_used", {"host": "api.binance.com"}) == 20
    assert value("marketprism_host_reachable", {"host": "api.binance.com"}) == 1
    assert value("marketprism_host_reachable", {"host": "new"}) is None


def test_a_streams_age_counts_from_the_start_while_it_has_said_nothing() -> None:
    """A stream that never spoke must not be missing from an alert."""
    value = registry_of(board()).get_sample_value
    name = "marketprism_stream_age_seconds"
    assert value(name, {**TRADES, "symbol": "BTC-USDT"}) == 2
    assert value(name, {**TRADES, "symbol": 'ODD"\\\n-USDT'}) == 100


def _buckets(family: Metric) -> Iterable[tuple[dict[str, str], list[tuple[float, float]], float]]:
    """Of each series: its labels, its buckets in order, its count."""
    for total in (sample for sample in family.samples if sample.name.endswith("_count")):
        buckets = [
            (float(sample.labels["le"]), sample.value)
            for sample in family.samples
            if sample.name.endswith("_bucket") and total.labels.items() <= sample.labels.items()
        ]
        yield total.labels, buckets, total.value


def test_the_format_holds_for_a_strict_reader() -> None:
    """Every family has HELP and TYPE, names and units follow the rules, no series comes twice,
    histograms are cumulative up to +Inf, with a count and a sum.
    """
    for registry in (registry_of(board()), registry_of(Board())):
        for name, family in families(registry).items():
            assert re.fullmatch(r"marketprism_[a-z]+(_[a-z]+)*", name)
            assert family.documentation.endswith(".")
            assert family.type in {"counter", "gauge", "histogram"}
            assert not name.endswith(("_count", "_sum", "_bucket", "_ms", "_milliseconds"))
            series = [(s.name, tuple(sorted(s.labels.items()))) for s in family.samples]
            assert len(set(series)) == len(series)
            for sample in family.samples:
                assert math.isfinite(sample.value)
                assert all(re.fullmatch(r"[a-z_]+", label) for label in sample.labels)
                if family.type == "counter":
                    assert sample.name == f"{name}_total"
            for _, buckets, count in _buckets(family):
                assert buckets == sorted(buckets)
                assert [number for _, number in buckets] == sorted(number for _, number in buckets)
                assert buckets[-1] == (math.inf, count)


def test_a_histogram_puts_each_observation_where_it_belongs() -> None:
    """A bucket holds what is at most its bound."""
    value = registry_of(board()).get_sample_value
    name = "marketprism_exchange_latency_seconds_bucket"

    def upto(bound: str) -> float | None:
        return value(name, {"exchange": "binance", "le": bound})

    assert (upto("0.0001"), upto("0.0025"), upto("0.005")) == (1, 1, 3)
    assert (upto("30.0"), upto("+Inf")) == (3, 4)


def test_two_instruments_of_one_symbol_are_one_series() -> None:
    """Of which the older age is told: Prometheus refuses a series that comes twice."""
    source = board()
    for native, last in (("a", 1_090), ("b", 1_099)):
        instrument = Instrument("okx", "perpetual", "X-USD", native)
        row = StreamRow("okx_derivatives", instrument, DataType.TRADE, "okx_derivatives/0")
        row.last_record = last * SECOND
        source.streams["okx_derivatives", (DataType.TRADE, native)] = row
    labels = {
        "exchange": "okx",
        "market_type": "perpetual",
        "data_type": "trade",
        "symbol": "X-USD",
    }
    assert registry_of(source).get_sample_value("marketprism_stream_age_seconds", labels) == 10


def test_the_process_own_memory_is_measured() -> None:
    """Without a stand-in it is this process, which is larger than a megabyte."""
    registry = CollectorRegistry()
    Metrics(Board(), lambda: NOW, registry)
    assert (registry.get_sample_value("marketprism_memory_usage_bytes") or 0) > 2**20


async def test_metrics_are_served() -> None:
    """GET /metrics is Prometheus' text; other paths and methods are errors in JSON."""
    source = board()
    app = Metrics(source, lambda: NOW, CollectorRegistry())
    async with trio.open_nursery() as nursery:

        async def run(task_status: trio.TaskStatus[int]) -> None:
            await serve(app, "127.0.0.1", 0, board=source, task_status=task_status)

        port = await nursery.start(run)
        base = f"http://127.0.0.1:{port}"
        async with loopback.client(base_url=base) as client:
            answer = await client.get("/metrics")
            assert answer.status_code == 200
            assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
            assert len(list(text_string_to_metric_families(answer.text))) > 20
            assert (await client.get("/")).json() == {"error": "Not Found"}
            assert (await client.post("/metrics")).json() == {"error": "Method Not Allowed"}
        nursery.cancel_scope.cancel()


def test_lines_of_the_log_that_were_lost_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """By where they should have gone."""
    monkeypatch.setattr(log, "lost_lines", lambda: {"stderr": 7, "file": 0})
    registry = CollectorRegistry()
    Metrics(board(), lambda: NOW, registry)
    text = generate_latest(registry).decode()
    assert 'marketprism_log_lines_lost_total{to="stderr"} 7.0\n' in text
    assert 'marketprism_log_lines_lost_total{to="file"} 0.0\n' in text
