"""The whole collector over real sockets: what goes in comes out, whatever happens between."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from consumer import Consumer
from loopback import untrusting
from nats_server import Server
from patience import PATIENCE
from ports import free_port
from rig import Rig, configured, running

from marketprism import simulator
from marketprism.app import Collector
from marketprism.settings.nats import EmbeddedConfig
from marketprism.settings.supervision import FreshnessConfig
from marketprism.simulator import Exchange, Market, player, record
from marketprism.simulator.faults import Garbage
from marketprism.sinks import stream_age

RECORDINGS = {
    "binance_spot/capture_2021-04-04_btcusdt_ethusdt_dotusdt.jsonl": (
        "BTC-USDT",
        "ETH-USDT",
        "DOT-USDT",
    ),
    "binance_spot/capture_2021-10-12_4sym_with_bookTicker.jsonl": (
        "NKN-USDT",
        "BLZ-ETH",
        "LRC-BTC",
        "RUNE-EUR",
    ),
}
SYMBOLS = ("BTC-USDT", "ETH-USDT")


def own_capture(seconds: float = 6) -> list[str]:
    """A capture of our own making: a seeded market's."""
    market = Market(7, ["BTCUSDT", "ETHUSDT"], trades_per_second=40, quotes_per_second=200)
    return record(market, seconds)


def trades_of(lines: list[str]) -> dict[str, list[int]]:
    """Every aggregate trade of a capture, by native symbol."""
    numbers: dict[str, list[int]] = {}
    for line in map(json.loads, lines):
        if line["kind"] != "recv":
            continue
        data = json.loads(line["raw"])["data"]
        if data.get("e") == "aggTrade":
            numbers.setdefault(data["s"], []).append(data["a"])
    return numbers


async def true_books(exchange: Exchange) -> dict[str, tuple[int, dict[str, str], dict[str, str]]]:
    """The exchange's own books at the end of its capture."""
    books = {}
    for symbol in exchange.symbols:
        snapshot = await exchange.source.snapshot(symbol, 100_000)
        assert snapshot is not None
        books[symbol] = (snapshot.last_id, dict(snapshot.bids), dict(snapshot.asks))
    return books


async def played(rig: Rig) -> Consumer:
    """Play to the end, let everything settle, stop, and read the stream back."""
    await rig.exchange.finished.wait()
    await rig.drained()
    await rig.settled()
    await rig.stop()
    return await rig.consumed()


async def test_the_first_look_at_status_has_rates_and_the_age_of_the_stream(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody needs to ask twice."""
    monkeypatch.setattr(stream_age, "SOON", 0.1)
    monkeypatch.setattr(stream_age, "EVERY", 0.1)
    async with running(simulator.market("binance_spot"), server, SYMBOLS) as rig:
        row = rig.collector.board.sink
        await rig.until(lambda: row.oldest_message is not None)
        await rig.until(lambda: len(rig.collector.rates.samples) > 3)
        _, page = await rig.get("/status")
        recent = page["records_per_second"]["recent"]
        assert recent["received"] > 0
        assert recent["over_seconds"] > 1
        assert 0 <= page["sink"]["oldest_message_age_seconds"] < 60
        await rig.stop()


async def test_a_server_of_our_own_that_had_to_move_degrades_health(
    server: Server, tmp_path: Path
) -> None:
    """Others look for it where it was asked to be; its words say what to do."""
    exchange = simulator.market("binance_spot")
    embedded = EmbeddedConfig(port=server.port, monitor_port=0, store_dir=tmp_path / "nats")
    async with trio.open_nursery() as nursery:
        address = await nursery.start(simulator.serve, exchange)
        config = configured(address, server, SYMBOLS)
        nats = attrs.evolve(config.nats, servers=(), embedded=embedded)
        collector = Collector(attrs.evolve(config, nats=nats), tls=untrusting)
        nursery.start_soon(collector.run)
        await collector.started.wait()
        rig = Rig(exchange, collector, server, nursery)
        await rig.until(lambda: collector.board.published.total() > 10)
        code, page = await rig.get("/health")
        assert (code, page["status"]) == (200, "degraded")
        assert page["checks"]["embedded"]["detail"].startswith(
            f"{server.port} is another NATS server: set NATS_URL to use it, or nats.embedded.port"
        )
        _, whole = await rig.get("/status")
        assert whole["sink"]["displaced"] == page["checks"]["embedded"]["detail"]
        assert whole["sink"]["target"] == whole["sink"]["embedded"]
        await rig.stop()
        nursery.cancel_scope.cancel()
    assert "error" in await server.manage("STREAM.INFO.MARKET_DATA"), "the other got our data"


def native(symbol: str) -> str:
    """Binance's own name of a symbol."""
    return symbol.replace("-", "")


@pytest.mark.parametrize("name", RECORDINGS, ids=["2021-04-04", "2021-10-12"])
@pytest.mark.once
async def test_a_recording_rebuilds_its_books_and_has_every_trade_once(
    name: str, captures: Path, server: Server
) -> None:
    """Books to the last level, trades to the last id, no gap, no update that does not chain."""
    expected = json.loads((captures / "expected_final_books.json").read_text())[name]
    exchange = player(captures / name, speed=40, start_delay=3)
    async with running(exchange, server, RECORDINGS[name]) as rig:
        consumer = await played(rig)
    assert consumer.faults == []
    assert consumer.gaps == []
    for symbol, book in consumer.books.items():
        truth = expected["final_books"][native(symbol)]
        (bid, bid_quantity), (ask, ask_quantity) = book.best()
        assert {
            "applied_through_u": book.last_id,
            "best_bid": bid,
            "best_bid_qty": bid_quantity,
            "best_ask": ask,
            "best_ask_qty": ask_quantity,
            "n_bids": len(book.bids),
            "n_asks": len(book.asks),
        } == truth
    assert len(consumer.books) == len(expected["final_books"])
    assert sum(book.updates for book in consumer.books.values()) == expected["summary"]["applied"]
    lines = (captures / name).read_text().splitlines()
    assert {native(s): numbers for s, numbers in consumer.trades.items()} == trades_of(lines)


@pytest.mark.once
async def test_the_default_depth_gives_the_same_top(captures: Path, server: Server) -> None:
    """Fewer levels are known; the best ones and the id are the exchange's."""
    name = next(iter(RECORDINGS))
    expected = json.loads((captures / "expected_final_books.json").read_text())[name]
    exchange = player(captures / name, speed=40, start_delay=3)
    async with running(exchange, server, RECORDINGS[name], depth=400, snapshot_interval=1) as rig:
        consumer = await played(rig)
    assert consumer.faults == []
    for symbol, book in consumer.books.items():
        truth = expected["final_books"][native(symbol)]
        assert book.last_id == truth["applied_through_u"]
        assert book.best() == (
            (truth["best_bid"], truth["best_bid_qty"]),
            (truth["best_ask"], truth["best_ask_qty"]),
        )
        assert book.snapshots > 2


@pytest.mark.once
async def test_a_capture_of_our_own_rebuilds_its_books(server: Server) -> None:
    """The same where there are no recordings: every level, every trade."""
    lines = own_capture()
    exchange = player(lines, speed=4, start_delay=3)
    async with running(exchange, server, SYMBOLS) as rig:
        consumer = await played(rig)
        truth = await true_books(exchange)
    assert (consumer.faults, consumer.gaps) == ([], [])
    assert {
        native(symbol): (book.last_id, book.bids, book.asks)
        for symbol, book in consumer.books.items()
    } == truth
    assert {native(s): numbers for s, numbers in consumer.trades.items()} == trades_of(lines)


@pytest.mark.once
async def test_each_loss_is_one_gap_and_the_books_end_true(server: Server) -> None:
    """A cut, a skipped update, a late snapshot: one gap for each loss, none for anything else."""
    lines = own_capture(10)
    exchange = player(lines, speed=2, start_delay=3)
    async with running(exchange, server, SYMBOLS) as rig:
        board = rig.collector.board
        await rig.until(lambda: sum(board.received.values()) > 100)
        await rig.settled()
        exchange.faults.late(0.7, symbol="ETHUSDT")
        exchange.faults.cut()
        await rig.until(lambda: board.connections["binance_spot/0"].reconnects == 1)
        await rig.settled()
        cut = sum(board.gaps.values())
        exchange.faults.skip(1, symbol="BTCUSDT", kind="orderbook")
        await rig.until(lambda: sum(board.gaps.values()) > cut)
        consumer = await played(rig)
        truth = await true_books(exchange)
    assert consumer.faults == []
    assert {
        native(symbol): (book.last_id, book.bids, book.asks)
        for symbol, book in consumer.books.items()
    } == truth
    found = [(gap["symbol"], gap["affected"], gap["reason"]) for gap in consumer.gaps]
    assert sorted(set(found)) == sorted(found)
    assert ("BTC-USDT", "orderbook", "sequence") in found
    assert {reason for *_, reason in found} == {"disconnect", "sequence"}
    for symbol, numbers in trades_of(lines).items():
        (have,) = (ids for name, ids in consumer.trades.items() if native(name) == symbol)
        missing = [
            number
            for gap in consumer.gaps
            if gap["affected"] == "trade" and native(gap["symbol"]) == symbol
            for number in range(int(gap["first_missing_id"]), int(gap["last_missing_id"]) + 1)
        ]
        assert sorted(have + missing) == numbers


async def test_garbage_is_counted_and_disturbs_nothing(server: Server) -> None:
    """Malformed, unknown, negative, not a number: rejected by name, everything else arrives."""
    lines = own_capture()
    exchange = player(lines, speed=3, start_delay=3)
    async with running(exchange, server, SYMBOLS) as rig:
        board = rig.collector.board
        await rig.until(lambda: board.received["binance", "spot", "trade"] > 20)
        flaws: tuple[Garbage, ...]
        flaws = ("malformed", "truncated", "unknown_event", "negative_price", "text_price")
        for flaw in flaws:
            assert exchange.faults.garbage(flaw) == 1
        consumer = await played(rig)
    assert (consumer.faults, consumer.gaps) == ([], [])
    assert board.rejected == {
        ("binance_spot", "not JSON"): 2,
        ("binance_spot", "unknown event"): 1,
        ("binance_spot", "bad number"): 2,
    }
    assert {native(s): numbers for s, numbers in consumer.trades.items()} == trades_of(lines)
    assert board.connections["binance_spot/0"].reconnects == 0


@pytest.mark.once
async def test_an_oversize_message_ends_that_connection_in_a_gap(server: Server) -> None:
    """It is closed, said so, opened again; what was missed meanwhile is a gap."""
    exchange = player(own_capture(10), speed=2, start_delay=3)
    limits = {"max_message_bytes": 200_000}
    async with running(exchange, server, SYMBOLS, limits=limits) as rig:
        row = await connected(rig)
        await rig.settled()
        exchange.faults.oversize(300_000)
        await rig.until(lambda: row.reconnects == 1)
        consumer = await played(rig)
    assert consumer.faults == []
    assert {gap["reason"] for gap in consumer.gaps} == {"disconnect"}


async def connected(rig: Rig) -> Any:
    """The row of the one connection, once it stands and has records."""
    board = rig.collector.board
    await rig.until(lambda: sum(board.received.values()) > 50)
    return board.connections["binance_spot/0"]


@pytest.mark.once
async def test_nats_may_be_away_at_the_start_and_die_on_the_way(absent_server: Server) -> None:
    """The collector reads on, /health says 503 and why; when NATS is back everything that was
    read meanwhile is stored, once and in order.
    """
    lines = own_capture(12)
    exchange = player(lines, speed=2, start_delay=3)
    async with running(exchange, absent_server, SYMBOLS) as rig:
        board = rig.collector.board
        await rig.until(lambda: sum(board.received.values()) > 50)
        status, page = await rig.get("/health")
        assert status == 503
        assert absent_server.url in page["checks"]["sink"]["detail"]
        await trio.to_thread.run_sync(absent_server.start)
        await rig.until(lambda: board.sink.connected)
        await rig.until(lambda: sum(board.published.values()) > 100)
        absent_server.kill()
        await rig.until(lambda: not board.sink.connected, 3.5)
        before = sum(board.received.values())
        await rig.until(lambda: sum(board.received.values()) > before + 50)
        assert (await rig.get("/health"))[0] == 503
        await trio.to_thread.run_sync(absent_server.start)
        consumer = await played(rig)
        truth = await true_books(exchange)
    assert (consumer.faults, consumer.gaps) == ([], [])
    assert {native(s): numbers for s, numbers in consumer.trades.items()} == trades_of(lines)
    assert {
        native(symbol): (book.last_id, book.bids, book.asks)
        for symbol, book in consumer.books.items()
    } == truth


@pytest.mark.parametrize(
    ("status", "state", "words"),
    [
        (451, "refused", "status 451"),
        (403, "refused", "status 403"),
        (429, "failing", "ask too much"),
        (418, "failing", "ask too much"),
        (500, "failing", "status 500"),
    ],
)
async def test_an_exchange_that_will_not_have_us_is_said_in_words(
    status: int, state: str, words: str, server: Server
) -> None:
    """The collector stands, its pages say who refuses what, and it tries again by itself."""
    exchange = simulator.market("binance_spot")
    exchange.faults.fail(status, count=3 if status == 500 else 1, retry_after=1)
    async with running(exchange, server, SYMBOLS) as rig:
        rows = rig.collector.board.venues
        await rig.until(lambda: rows and rows["binance_spot"].state == state)
        _, page = await rig.get("/health")
        assert words in page["checks"]["venues"]["detail"]
        if state == "failing":
            await rig.until(lambda: rows["binance_spot"].state == "running")


@pytest.mark.parametrize("trouble", ["nobody listens", 451, 403, 429, 418])
async def test_a_venue_in_trouble_disturbs_no_other(
    trouble: int | str, server: Server, nursery: trio.Nursery
) -> None:
    """One host refuses connections or us; the other venue's stream has no gap, and flows."""
    good = simulator.market("binance_spot", seed=1, trades_per_second=50)
    bad = simulator.market("okx_spot", seed=1)
    good_address = await nursery.start(simulator.serve, good)
    bad_address = await nursery.start(simulator.serve, bad)
    if isinstance(trouble, int):
        bad.faults.fail(trouble, count=1000)
        bad.faults.refuse(1000, status=trouble)
    else:
        closed = f"127.0.0.1:{free_port()}"
        bad_address = simulator.Address(f"ws://{closed}", f"http://{closed}")
    config = configured(good_address, server, SYMBOLS, kind="raw")
    other = configured(bad_address, server, SYMBOLS, venue="okx_spot")
    both = attrs.evolve(config, exchanges={**config.exchanges, **other.exchanges})
    collector = Collector(both, tls=untrusting)
    nursery.start_soon(collector.run)
    rig = Rig(good, collector, server, nursery)
    board = collector.board
    await rig.until(lambda: "okx_spot" in board.venues)
    await rig.until(lambda: board.venues["okx_spot"].state in ("failing", "refused"))
    before = sum(board.published.values())
    await rig.until(lambda: sum(board.published.values()) > before + 100)
    _, page = await rig.get("/health")
    assert page["checks"]["sink"]["status"] == "healthy"
    assert board.venues["binance_spot"].state == "running"
    await rig.stop()
    consumer = await rig.consumed()
    assert (consumer.faults, consumer.gaps) == ([], [])
    assert {exchange for exchange, _, _ in board.received} == {"binance"}
    nursery.cancel_scope.cancel()


async def stored_at_least(count: int, server: Server) -> None:
    """Wait until the stream is there, and has so many messages."""
    with trio.fail_after(PATIENCE):
        while True:
            info = await server.manage("STREAM.INFO.MARKET_DATA")
            if info.get("state", {}).get("messages", 0) >= count:
                return
            await trio.sleep(0.1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.once
async def test_a_signal_under_load_stores_everything_that_was_read(
    number: signal.Signals, server: Server, tmp_path: Path
) -> None:
    """Exit 0 within its grace; what the log says was received is in the stream, or on disk where
    the machine is too busy for that.
    """
    exchange = simulator.market(
        "binance_spot", seed=3, trades_per_second=1000, quotes_per_second=1500
    )
    async with trio.open_nursery() as trading:
        address = await trading.start(simulator.serve, exchange)
        config = {
            "exchanges": {
                "binance_spot": {
                    "api": {"base_url": address.base_url, "ws_url": address.ws_url},
                    "symbols": ["BTC-USDT", "ETH-USDT"],
                }
            },
            "nats": {"servers": [server.url]},
            "http": {"port": free_port()},
            "metrics": {"port": free_port()},
        }
        path = tmp_path / "collector.yaml"
        path.write_text(json.dumps(config))
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "marketprism", "--config", str(path)],
            cwd=tmp_path,
            stderr=subprocess.PIPE,
        )
        await stored_at_least(2000, server)
        process.send_signal(number)
        with trio.fail_after(PATIENCE):
            assert await process.wait() == 0
        trading.cancel_scope.cancel()
    assert process.stderr is not None
    log = [json.loads(line) for line in (await process.stderr.receive_some(1 << 20)).splitlines()]
    (stopped,) = (line for line in log if line["event"] == "collector.stopped")
    consumer = Consumer()
    stored = await server.stored()
    for payload in stored:
        consumer.take(payload)
    assert consumer.faults == []
    spooled = sum(line["messages"] for line in log if line["event"] == "collector.spooled")
    assert stopped["stored"] == len(stored)
    left = stopped["received"] + stopped["gaps"] - stopped["lost"] - stopped["conflated"]
    assert stopped["stored"] + spooled == left
    assert stopped["received"] > 2000


@pytest.mark.once
async def test_a_stream_that_falls_silent_is_renewed_then_reconnected(server: Server) -> None:
    """Acknowledged, pings answered, no data: found by its own rhythm, step by step, and live again
    once the exchange speaks.
    """
    exchange = simulator.market("binance_spot", seed=2, trades_per_second=60)
    quick = FreshnessConfig(first_record=1.5, first_trade=1.5, floor=1.5, ceiling=3, factor=2)
    async with trio.open_nursery() as nursery:
        address = await nursery.start(simulator.serve, exchange)
        config = configured(address, server, SYMBOLS, kind="raw")
        supervision = attrs.evolve(config.supervision, freshness=quick)
        collector = Collector(attrs.evolve(config, supervision=supervision), tls=untrusting)
        nursery.start_soon(collector.run)
        rig = Rig(exchange, collector, server, nursery)
        board = collector.board
        await rig.until(lambda: board.received["binance", "spot", "trade"] > 100)
        exchange.faults.mute(8, stream="btcusdt@trade")
        await rig.until(lambda: board.silences["binance_spot", "trade", "renew"] > 0)
        (row,) = (
            row
            for row in board.streams.values()
            if row.instrument.symbol == "BTC-USDT" and row.data_type == "trade"
        )
        assert row.alarm == "renew"
        await rig.until(lambda: board.silences["binance_spot", "trade", "reconnect"] > 0)

        def speaks() -> bool:
            return row.alarm is None and row.live is not None

        await rig.until(speaks)
        await rig.settled()
        await rig.stop()
        consumer = await rig.consumed()
        nursery.cancel_scope.cancel()
    assert consumer.faults == []
    silent = [gap for gap in consumer.gaps if gap["affected"] == "trade"]
    assert [(gap["symbol"], gap["reason"]) for gap in silent if gap["reason"] == "stale"] == [
        ("BTC-USDT", "stale")
    ]
