"""What the board means in words, and the pages that say it."""

import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import loopback
import msgspec
import pytest
import trio

from marketprism.board.board import Board
from marketprism.board.rows import ConnectionRow, HostRow, MemoryRow, VenueRow
from marketprism.board.stream_row import StreamRow
from marketprism.clock import Timestamp
from marketprism.errors import SinkState
from marketprism.instruments import Instrument
from marketprism.observe.health import Health, judge
from marketprism.observe.rates import Rates
from marketprism.observe.serving import serve
from marketprism.records import DataType
from marketprism.streams.cursor import Cursor, OpenGap
from marketprism.streams.exchange_clock import ExchangeClock
from marketprism.streams.state import Phase, StreamState
from marketprism.supervise import CircuitBreaker

SECOND = 1_000_000_000
START = 1_000 * SECOND
WALL = 1_764_000_000 * SECOND
CANARY = "canary-5f1d"
BTC = Instrument("binance", "spot", "BTC-USDT", "BTCUSDT")
FEED = "binance_spot/0"

Change = Callable[[Board], object]


def after(seconds: float) -> Timestamp:
    """That long after the start."""
    elapsed = round(seconds * SECOND)
    return Timestamp(WALL + elapsed, START + elapsed)


def working(now: Timestamp) -> Board:
    """A board on which all is well at that moment."""
    board = Board(started=START)
    board.sink.connected, board.sink.connects = True, 1
    board.sink.target = "nats://127.0.0.1:4222"
    board.venues["binance_spot"] = VenueRow("binance_spot", "binance", "spot", "running")
    state = StreamState(BTC, DataType.TRADE, Cursor(), Phase.LIVE, None, now.monotonic, records=7)
    connection = ConnectionRow(
        FEED, "binance_spot", "binance", "spot", "wss://host/stream", "connected"
    )
    connection.connected_since = START + SECOND
    connection.last_message = now.monotonic
    connection.connects = 3
    connection.streams = {(DataType.TRADE, "BTCUSDT"): state}
    board.connections[FEED] = connection
    stream = StreamRow("binance_spot", BTC, DataType.TRADE, FEED, quiet_limit=30.0)
    stream.attach(state)
    board.streams["binance_spot", (DataType.TRADE, "BTCUSDT")] = stream
    board.hosts["api.binance.com"] = HostRow("api.binance.com", True, troubled_at=START)
    return board


def the_stream(board: Board) -> StreamState:
    """The session's state of the only stream."""
    (row,) = board.streams.values()
    assert row.live is not None
    return row.live


def drop(board: Board, state: str = "waiting") -> None:
    """The connection is lost."""
    board.connections[FEED].state = state
    board.connections[FEED].reason = "closed: 1006"
    board.connections[FEED].down_since = after(30).monotonic
    next(board.stream_rows()).detach()


def unreachable(board: Board) -> None:
    """Nothing was ever reached."""
    drop(board)
    board.connections[FEED].last_message = next(board.stream_rows()).last_record = None


def test_all_well_is_healthy() -> None:
    """Every check says so, in words, and the age and version are told."""
    verdict = judge(working(after(100)), after(100))
    assert verdict.status_code == 200
    assert verdict.body["status"] == "healthy"
    assert {check["status"] for check in verdict.body["checks"].values()} == {"healthy"}
    assert all(check["detail"] for check in verdict.body["checks"].values())
    assert verdict.body["uptime_seconds"] == 100
    assert verdict.body["version"]


def test_an_empty_board_is_starting_for_a_minute_then_unhealthy() -> None:
    """What is not there yet may still be coming, for sixty seconds."""
    board = Board(started=START)
    assert judge(board, after(0)).body["status"] == "starting"
    assert judge(board, after(59)).body["status"] == "starting"
    late = judge(board, after(61))
    assert (late.body["status"], late.status_code) == ("unhealthy", 503)


@pytest.mark.parametrize(
    ("change", "check", "status", "words"),
    [
        (lambda b: setattr(b.sink, "connected", False), "sink", "unhealthy", "not connected: lost"),
        (
            lambda b: vars_of(b.sink, state=SinkState.STREAM_FULL, reason="maximum bytes exceeded"),
            "sink",
            "unhealthy",
            "nats: stream full: maximum bytes exceeded",
        ),
        (
            lambda b: vars_of(
                b.sink, connected=False, state=SinkState.NO_JETSTREAM, reason="nats://n has none"
            ),
            "sink",
            "unhealthy",
            "nats: not connected: no jetstream: nats://n has none",
        ),
        (
            lambda b: vars_of(b.venues["binance_spot"], state="failing", reason="no instruments"),
            "venues",
            "unhealthy",
            "binance_spot is failing: no instruments",
        ),
        (
            lambda b: vars_of(
                b.venues["binance_spot"],
                unmatched=["FOO-USDT"],
                nearest={"FOO-USDT": ["FIO-USDT"]},
            ),
            "venues",
            "degraded",
            'binance_spot does not have FOO-USDT (did you mean "FIO-USDT"?)',
        ),
        (
            lambda b: b.venues["binance_spot"].unknown.append("how often it is funded"),
            "venues",
            "degraded",
            "binance_spot could not say yet how often it is funded",
        ),
        (
            lambda b: b.sink.give_up("orderbook", 20480, after(48).monotonic),
            "sink",
            "degraded",
            "connected to nats://127.0.0.1:4222; 1 messages of orderbook were too large and are "
            "not stored, the last 2 s ago: up to 20,480 bytes, and 921,600 are taken; raise "
            "max_payload of the NATS server and max_msg_size of the stream, or lower depth",
        ),
        (
            lambda b: b.venues.update(
                okx_spot=VenueRow("okx_spot", "okx", "spot", "refused", "451")
            ),
            "venues",
            "degraded",
            "okx_spot is refused: 451",
        ),
        (
            drop,
            "connections",
            "degraded",
            "0 of 1 connected; binance_spot/0 is waiting for 20 s: closed",
        ),
        (drop, "venues", "degraded", "binance_spot is down since 2025-11-24T16:00:30.000Z: closed"),
        (drop, "streams", "degraded", "binance_spot trade BTC-USDT is disconnected"),
        (unreachable, "data", "unhealthy", "nothing yet"),
        (
            lambda b: vars_of(the_stream(b), phase=Phase.PARKED, detail="no such symbol"),
            "streams",
            "degraded",
            "0 of 1 live; binance_spot trade BTC-USDT is refused: no such symbol",
        ),
        (
            lambda b: vars_of(b.hosts["api.binance.com"], reachable=False, reason="no name"),
            "hosts",
            "degraded",
            "api.binance.com cannot be reached: no name; check the network, DNS and firewall, "
            "or set HTTPS_PROXY",
        ),
        (
            lambda b: vars_of(b.venues["binance_spot"], collisions=["A-B is AB: A is refused"]),
            "venues",
            "degraded",
            "binance_spot: A-B is AB: A is refused",
        ),
        (
            lambda b: vars_of(b.hosts["api.binance.com"], reason="451: refused"),
            "hosts",
            "degraded",
            "api.binance.com: 451: refused",
        ),
        (
            lambda b: vars_of(
                b.hosts["api.binance.com"], blocked_until=START + 70 * SECOND, reason="status 429"
            ),
            "hosts",
            "degraded",
            "api.binance.com told us to stop for another 20 s: status 429",
        ),
        (lambda b: vars_of(b.outbox, held=81, capacity=100), "queues", "degraded", "81% full"),
        (
            lambda b: vars_of(b.spool, state="spooling", held=12345, since=b.started),
            "queues",
            "degraded",
            "spooling: 12,345 messages on disk, the sink behind for",
        ),
        (
            lambda b: vars_of(b.spool, state="full", dropped=7, reason="no room"),
            "queues",
            "degraded",
            "the spool is full, and takes no more in: no room",
        ),
        (
            lambda b: vars_of(b.spool, state="failed", reason="read-only"),
            "queues",
            "degraded",
            "the spool cannot be used: read-only",
        ),
        (
            lambda b: vars_of(b.spool, state="idle", set_aside="file.damaged: not a database"),
            "queues",
            "degraded",
            "was set aside: file.damaged: not a database",
        ),
        (
            lambda b: vars_of(b.channel, held_bytes=9, capacity_bytes=10),
            "queues",
            "degraded",
            "the channel is 90% full",
        ),
        (
            lambda b: vars_of(b.sink, displaced="4222 is another NATS server"),
            "embedded",
            "degraded",
            "4222 is another NATS server",
        ),
        (
            lambda b: vars_of(b.channel, conflating=True),
            "queues",
            "degraded",
            "order books give way to the rest: their updates are withheld for now",
        ),
        (
            lambda b: vars_of(
                b.memory, used=2**30, soft=2**29, holders={"outbox": {"bytes": 2**29}}
            ),
            "memory",
            "degraded",
            "memory is high: 1024 MiB, above 512 MiB; the outbox about 512 MiB",
        ),
        (
            lambda b: vars_of(b.memory, used=5, soft=6, shed=["books", "buffers"]),
            "memory",
            "degraded",
            "given up to save memory: books, buffers",
        ),
    ],
)
def test_a_known_failure_counts_at_once(
    change: Change, check: str, status: str, words: str
) -> None:
    """Within the first minute already, and the words say what it is."""
    now = after(50)
    board = working(now)
    change(board)
    verdict = judge(board, now)
    assert verdict.body["checks"][check]["status"] == status
    assert words in verdict.body["checks"][check]["detail"]
    assert verdict.body["status"] == (
        "unhealthy" if "unhealthy" in str(verdict.body["checks"]) else "degraded"
    )
    assert verdict.status_code == (503 if verdict.body["status"] == "unhealthy" else 200)


def vars_of(row: object, **values: object) -> None:
    """Set several of a row's fields."""
    for name, value in values.items():
        setattr(row, name, value)


@pytest.mark.parametrize("phase", [Phase.WANTED, Phase.ACKNOWLEDGED])
def test_a_stream_that_is_not_live_in_time_is_late(phase: Phase) -> None:
    """It is starting in the first minute, and degraded after it."""
    for seconds, status in ((30, "starting"), (90, "degraded")):
        board = working(after(seconds))
        vars_of(the_stream(board), phase=phase, detail="waits for its snapshot")
        check = judge(board, after(seconds)).body["checks"]["streams"]
        assert check["status"] == status
        assert "waits for its snapshot" in check["detail"]


def test_a_silent_stream_is_late_after_its_own_limit() -> None:
    """The venue says how long it may be silent; without a limit it may be for ever."""
    board = working(after(100))
    assert judge(board, after(129)).body["status"] == "healthy"
    late = judge(board, after(131)).body
    assert late["status"] == "degraded"
    assert "has been silent for 31 s" in late["checks"]["streams"]["detail"]
    next(board.stream_rows()).quiet_limit = None
    assert judge(board, after(131)).body["status"] == "healthy"


def test_nothing_arriving_is_unhealthy_after_a_minute() -> None:
    """Connections may stand: without data this process is of no use."""
    board = working(after(100))
    assert judge(board, after(159)).status_code == 200
    verdict = judge(board, after(161))
    assert verdict.status_code == 503
    assert "nothing is arriving" in verdict.body["checks"]["data"]["detail"]


def test_a_short_disconnection_is_not_unhealthy() -> None:
    """Exchanges close connections every day: as long as data came lately, probes are at peace."""
    board = working(after(100))
    drop(board)
    assert judge(board, after(130)).body["status"] == "degraded"
    assert judge(board, after(170)).body["status"] == "unhealthy"


def test_rare_data_may_be_silent_while_connected() -> None:
    """Who collects liquidations only is not told that nothing arrives on a quiet day."""
    board = working(after(100))
    (row,) = board.streams.values()
    vars_of(row, data_type=DataType.LIQUIDATION, quiet_limit=None)
    assert judge(board, after(100_000)).body["status"] == "healthy"
    drop(board)
    assert judge(board, after(100_000)).status_code == 503


def test_a_stream_that_may_be_silent_and_is_confirmed_is_live() -> None:
    """A market in which nobody is liquidated for a day is no trouble; unconfirmed it is one."""
    board = working(after(100))
    (row,) = board.streams.values()
    vars_of(row, data_type=DataType.LIQUIDATION, quiet_limit=None)
    vars_of(the_stream(board), phase=Phase.ACKNOWLEDGED, last_record=None, records=0)
    checks = judge(board, after(100_000)).body["checks"]
    assert checks["streams"] == {"status": "healthy", "detail": "all 1 live"}
    assert checks["data"]["status"] == "healthy"
    assert "may be silent for long" in checks["data"]["detail"]
    vars_of(the_stream(board), phase=Phase.WANTED)
    assert judge(board, after(100_000)).body["checks"]["streams"]["status"] == "degraded"


@pytest.mark.parametrize("frames", ["pongs", "acknowledgements"])
def test_what_is_no_record_is_no_data(frames: str) -> None:
    """A connection on which something comes, and no record, is of no use after a minute."""
    board = working(after(100))
    for seconds in range(100, 400, 10):
        moment = after(seconds).monotonic
        row = board.connections[FEED]
        row.last_alive, row.frames = moment, row.frames + 1
        if frames == "acknowledgements":
            row.last_message = moment
    verdict = judge(board, after(400))
    assert verdict.status_code == 503
    assert verdict.body["checks"]["data"]["detail"] == (
        "nothing is arriving: the last came 300.0 s ago"
    )
    assert verdict.body["checks"]["venues"] == {
        "status": "degraded",
        "detail": "binance_spot has been silent for 300 s, since 2025-11-24T16:01:40.000Z",
    }


def test_a_venue_that_is_silent_beside_another_is_degraded() -> None:
    """Data arrives, but not from there: its name, and since when."""
    board = working(after(400))
    index = Instrument("deribit", "options", "BTC", "btc_usd")
    board.venues["deribit_derivatives"] = VenueRow(
        "deribit_derivatives", "deribit", "options", "running"
    )
    row = StreamRow(
        "deribit_derivatives", index, DataType.VOLATILITY_INDEX, "deribit/0", quiet_limit=60.0
    )
    row.attach(
        StreamState(
            index, DataType.VOLATILITY_INDEX, Cursor(), Phase.LIVE, None, after(308).monotonic
        )
    )
    board.streams["deribit_derivatives", (DataType.VOLATILITY_INDEX, "btc_usd")] = row
    verdict = judge(board, after(400))
    assert (verdict.status_code, verdict.body["status"]) == (200, "degraded")
    assert verdict.body["checks"]["data"]["status"] == "healthy"
    assert verdict.body["checks"]["venues"]["detail"] == (
        "deribit_derivatives has been silent for 92 s, since 2025-11-24T16:05:08.000Z"
    )


@pytest.mark.parametrize(
    ("standing", "status", "words"),
    [("paused", "BREAK", "is paused (BREAK)"), ("ended", "CLOSE", "has ended (CLOSE)")],
)
def test_a_market_that_does_not_trade_is_named_and_no_trouble(
    standing: str, status: str, words: str
) -> None:
    """However long; nor is a collector unhealthy of which all markets rest."""
    board = working(after(100_000))
    luna = Instrument("binance", "spot", "LUNA-USDT", "LUNAUSDT")
    for data_type in (DataType.TRADE, DataType.ORDERBOOK):
        row = StreamRow("binance_spot", luna, data_type, FEED, quiet_limit=60.0)
        row.standing, row.market_status = standing, status
        board.streams["binance_spot", (data_type, "LUNAUSDT")] = row
    checks = judge(board, after(100_000)).body["checks"]
    assert checks["streams"] == {
        "status": "healthy",
        "detail": f"all 1 live; binance_spot LUNA-USDT {words}",
    }
    del board.streams["binance_spot", (DataType.TRADE, "BTCUSDT")]
    verdict = judge(board, after(200_000))
    assert verdict.body["status"] == "healthy"
    assert verdict.body["checks"]["streams"]["detail"] == f"binance_spot LUNA-USDT {words}"
    assert "no market of those collected trades now" in verdict.body["checks"]["data"]["detail"]


def test_what_was_too_large_long_ago_is_no_trouble_any_more() -> None:
    """Ten minutes after the last one."""
    board = working(after(1000))
    board.sink.most_bytes = 8192
    board.sink.give_up("orderbook", 20480, after(390).monotonic)
    assert judge(board, after(1000)).body["checks"]["sink"]["status"] == "healthy"
    board.sink.give_up("orderbook", 10240, after(990).monotonic)
    detail = judge(board, after(1000)).body["checks"]["sink"]["detail"]
    assert "2 messages of orderbook" in detail
    assert "up to 20,480 bytes, and 8,192 are taken" in detail


def test_memory_that_is_kept_to_be_used_again_is_not_high() -> None:
    """It is resident, and said apart."""
    board = working(after(100))
    assert judge(board, after(100)).body["checks"]["memory"]["detail"] == (
        "0 MiB; no limit is known or configured"
    )
    vars_of(board.memory, used=130 * 2**20, slack=70 * 2**20, soft=100 * 2**20)
    assert judge(board, after(100)).body["checks"]["memory"] == {
        "status": "healthy",
        "detail": "60 MiB and 70 MiB to use again, below 100 MiB",
    }


def test_many_troubles_are_counted_not_listed() -> None:
    """Five are named."""
    board = working(after(100))
    for number in range(9):
        name = f"host-{number}"
        board.hosts[str(number)] = HostRow(name, False, "no answer", troubled_at=START)
    detail = judge(board, after(100)).body["checks"]["hosts"]["detail"]
    assert "host-4" in detail
    assert "host-5" not in detail
    assert detail.endswith("and 4 more")


def test_the_trouble_of_a_host_that_nobody_calls_any_more_is_forgotten() -> None:
    """Ten minutes later nobody knows; a ban holds for as long as it was said."""
    board = working(after(100))
    vars_of(board.hosts["api.binance.com"], reachable=False, reason="no answer")
    breaker = board.breakers["rest", "api.binance.com"] = CircuitBreaker(5, 10.0)
    for _ in range(5):
        breaker.failed(START)
    assert judge(board, after(9)).body["checks"]["hosts"]["status"] == "degraded"
    assert judge(board, after(599)).body["checks"]["hosts"]["status"] == "degraded"
    assert judge(board, after(601)).body["checks"]["hosts"]["status"] == "healthy"
    board.hosts["api.binance.com"].blocked_until = after(3600).monotonic
    assert "for another 2000 s" in judge(board, after(1600)).body["checks"]["hosts"]["detail"]


def test_rates_say_over_how_long_they_were_taken() -> None:
    """From the totals at earlier calls: about ten seconds back, or as far as there is one."""
    rates = Rates()
    assert rates.sample(0, {"a": 0}) == {"over_seconds": None, "a": None}
    assert rates.sample(2 * SECOND, {"a": 10}) == {"over_seconds": 2, "a": 5}
    assert rates.sample(12 * SECOND, {"a": 10}) == {"over_seconds": 10, "a": 0}
    assert rates.sample(72 * SECOND, {"a": 70}) == {"over_seconds": 60, "a": 1}
    for number in range(1000):
        rates.sample(72 * SECOND + number * SECOND // 100, {"a": 70})
    assert len(rates.samples) < 15


@asynccontextmanager
async def served(board: Board) -> AsyncIterator[httpx.AsyncClient]:
    """The pages over a real socket, a hundred seconds after the start."""
    app = Health(board, lambda: after(100), memory=lambda: 123_456)
    async with trio.open_nursery() as nursery:

        async def run(task_status: trio.TaskStatus[int]) -> None:
            await serve(app, "127.0.0.1", 0, board=board, task_status=task_status)

        port = await nursery.start(run)
        base = f"http://127.0.0.1:{port}"
        async with loopback.client(base_url=base) as client:
            yield client
        nursery.cancel_scope.cancel()


async def read(client: httpx.AsyncClient, path: str, status: int = 200) -> Any:
    """The JSON of a page."""
    answer = await client.get(path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    return answer.json()


async def test_health_answers_with_the_verdict() -> None:
    """200 while it is of use, 503 when not."""
    board = working(after(100))
    async with served(board) as client:
        assert await read(client, "/health") == judge(board, after(100)).body
        board.sink.connected = False
        assert (await read(client, "/health", 503))["status"] == "unhealthy"


async def test_other_paths_and_methods_are_errors() -> None:
    """404 and 405, in JSON."""
    async with served(Board()) as client:
        assert "error" in await read(client, "/nothing", 404)
        refused = await client.put("/health", content=b"{}")
        assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")
        assert "error" in refused.json()
        assert (await client.head("/status")).content == b""


async def test_connections_are_rows_of_the_contract() -> None:
    """Exactly those keys, ages in seconds, times in RFC 3339."""
    board = working(after(98))
    async with served(board) as client:
        page = await read(client, "/connections")
        assert page == {
            "connections": [
                {
                    "id": FEED,
                    "venue": "binance_spot",
                    "url": "wss://host/stream",
                    "state": "connected",
                    "reason": None,
                    "connected_since": "2025-11-24T16:00:01.000Z",
                    "last_message_age_seconds": 2.0,
                    "reconnects": 2,
                    "breaker": "closed",
                    "blocked_until": None,
                    "rest_blocked_until": None,
                    "rotation_due_seconds": None,
                    "rotations": {"ok": 0, "failed": 0},
                    "streams": [{"data_type": "trade", "symbol": "BTC-USDT", "state": "live"}],
                }
            ]
        }
        drop(board)
        (row,) = (await read(client, "/connections"))["connections"]
        assert row["streams"][0]["state"] == "disconnected"
        assert row["reason"] == "closed: 1006"


async def test_a_host_that_told_us_to_stop_is_shown_with_the_time_when_it_is_over() -> None:
    """At each connection that calls it, by websocket or for its snapshots, and at the host."""
    board = working(after(98))
    board.venues["binance_spot"].rest_host = "api.binance.com"
    board.hosts["host"] = HostRow("host", blocked_until=after(160).monotonic)
    board.hosts["api.binance.com"].blocked_until = after(7300).monotonic
    async with served(board) as client:
        (row,) = (await read(client, "/connections"))["connections"]
        hosts = (await read(client, "/status"))["hosts"]
        assert row["blocked_until"] == "2025-11-24T16:02:40.000Z"
        assert row["rest_blocked_until"] == "2025-11-24T18:01:40.000Z"
        assert {host["host"]: host["blocked_until"] for host in hosts} == {
            "host": "2025-11-24T16:02:40.000Z",
            "api.binance.com": "2025-11-24T18:01:40.000Z",
        }
        board.hosts["host"].blocked_until = after(99).monotonic
        (row,) = (await read(client, "/connections"))["connections"]
        assert row["blocked_until"] is None


async def test_a_connection_that_is_about_to_take_over_is_shown_and_not_missed() -> None:
    """Under a name of its own; the one before says when it is due."""
    board = working(after(98))
    board.connections[FEED].rotation_due = after(130).monotonic
    younger = ConnectionRow(FEED, "binance_spot", "binance", "spot", "wss://host/stream")
    younger.next = True
    board.connections[younger.name] = younger
    assert judge(board, after(100)).body["status"] == "healthy"
    async with served(board) as client:
        rows = (await read(client, "/connections"))["connections"]
    assert [(row["id"], row["state"]) for row in rows] == [
        (FEED, "connected"),
        (f"{FEED} (next)", "dialling"),
    ]
    assert [row["rotation_due_seconds"] for row in rows] == [30.0, None]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.9, None),
        (-0.9, None),
        (3.25, "the stamps of binance are 3.2 s ahead of our clock: check that NTP sets it"),
        (-61, "the stamps of binance are 61.0 s behind our clock: check that NTP sets it"),
    ],
)
def test_a_clock_that_is_not_the_exchanges_is_degraded(seconds: float, words: str | None) -> None:
    """By more than a second, either way; before it is known nothing is said."""
    board = working(after(100))
    board.clocks["okx"] = ExchangeClock()
    clock = board.clocks["binance"] = ExchangeClock()
    for number in range(20):
        now = after(number)
        clock.learn(now.wall + round(seconds * SECOND), now)
    check = judge(board, after(100)).body["checks"]["clock"]
    assert check["status"] == ("degraded" if words else "healthy")
    assert check["detail"] == (words or "no exchange's is more than a second from ours")


async def test_status_is_the_whole_board() -> None:
    """Streams with their ages, counts and open gaps; sink, queues, memory, rates, latencies."""
    board = working(after(98))
    the_stream(board).cursor.gap = OpenGap("sequence", WALL, "its checksum does not agree")
    board.received["binance", "spot", "trade"] = 700
    board.processing.add(0.0002, 9)
    board.transit_of("binance").add(math.inf)
    board.conflated["binance", "spot", "orderbook"] = 4
    board.clocks["binance"] = ExchangeClock(offset=-1_234_567_890)
    the_stream(board).cursor.ahead.count = 3
    board.memory = MemoryRow(0, 0, 2**30, 700 * 2**20, None, "configured", ["books"])
    board.memory.holders = {"rest": {"bytes": 123_456}}
    board.sink.oldest_message = after(70).wall
    async with served(board) as client:
        page = await read(client, "/status")
        again = await read(client, "/status")
    assert page["status"] == "degraded"
    assert page["started_at"] == "2025-11-24T16:00:00.000Z"
    assert page["memory"] == {
        "rss_bytes": 123_456,
        "limit_bytes": 2**30,
        "soft_bytes": 700 * 2**20,
        "hard_bytes": None,
        "source": "configured",
        "shed": ["books"],
        "holders": {"rest": {"bytes": 123_456}},
    }
    (stream,) = page["streams"]
    assert stream["last_record_age_seconds"] == 2
    assert stream["records"] == 7
    assert stream["stamps_ahead"] == 3
    assert page["exchange_clocks"] == [{"exchange": "binance", "offset_seconds": -1.235}]
    assert stream["open_gap"] == {
        "since": "2025-11-24T16:00:00.000Z",
        "reason": "sequence",
        "detail": "its checksum does not agree",
    }
    assert page["totals"]["received"] == 700
    assert page["totals"]["conflated"] == 4
    assert page["queues"]["channel"]["conflating"] is False
    assert page["records_per_second"]["since_start"]["received"] == 7
    assert page["records_per_second"]["recent"]["received"] is None
    assert page["sink"]["oldest_message_age_seconds"] == 30
    assert again["totals"] == page["totals"]
    assert page["latency_seconds"]["processing"] == {
        "count": 9,
        "p50": 0.00025,
        "p90": 0.00025,
        "p99": 0.00025,
    }
    assert page["sink"]["connected"] is True
    assert page["sink"]["spooled"] == page["queues"]["spool"]["held"] == 0
    assert page["tasks"] > 1
    assert set(page["queues"]) == {"channel", "outbox", "spool"}
    assert [row["name"] for row in page["venues"]] == ["binance_spot"]
    assert [row["host"] for row in page["hosts"]] == ["api.binance.com"]


async def test_an_empty_board_is_served_too() -> None:
    """Before anything has begun all pages answer."""
    async with served(Board(started=START)) as client:
        assert (await read(client, "/connections")) == {"connections": []}
        assert (await read(client, "/status"))["streams"] == []


async def test_no_secret_is_on_any_page() -> None:
    """Users and passwords of URLs, wherever they stand, are not served."""
    url = f"wss://user:{CANARY}@host/stream"
    board = working(after(100))
    board.sink.target = f"nats://user:{CANARY}@host:4222"
    board.sink.reason = f"nats://user:{CANARY}@host:4222 is away"
    vars_of(board.connections[FEED], url=url, reason=f"{url}: lost", state="waiting")
    vars_of(board.venues["binance_spot"], state="failing", reason=f"{url} failed")
    vars_of(board.hosts["api.binance.com"], reachable=False, reason=f"proxy {url}")
    vars_of(the_stream(board), phase=Phase.PARKED, detail=f"{url} says no")
    async with served(board) as client:
        for connected in (True, False):
            board.sink.connected = connected
            for path in ("/health", "/status", "/connections"):
                answer = await client.get(path)
                assert CANARY not in answer.text
                assert "user" not in answer.text
                assert msgspec.json.decode(answer.content)
