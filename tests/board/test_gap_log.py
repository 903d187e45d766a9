"""What the log says of gaps: everything of one, and one line for those of one cut."""

import random
from typing import Any

import attrs
import pytest
import trio
from broker import Broker
from chaos import Clock
from stage import staged
from structlog.testing import capture_logs
from trio.testing import MockClock
from truth import Truthful
from universe import EPOCH, Plan, configured
from web import Net

from marketprism.board.board import Board
from marketprism.board.gap_log import PATIENCE, GapLog
from marketprism.board.rows import ConnectionRow
from marketprism.instruments import Instrument
from marketprism.records import DataType, Gap, GapReason
from marketprism.simulator.skin import Rates
from marketprism.streams.cursor import Cursor, OpenGap
from marketprism.streams.subscription import Subscription

SECOND = 1_000_000_000
AT = 1_764_000_000 * SECOND
FEED = "binance_spot/0"


def gap(
    symbol: str = "BTC-USDT",
    reason: GapReason = "disconnect",
    *,
    since: int = 0,
    until: int = 5,
    missing: tuple[int, int] | None = (7, 9),
    connection: str = FEED,
    detail: str | None = None,
) -> Gap:
    """A gap of trades, some seconds after `AT`."""
    first, last = missing or (None, None)
    return Gap(
        Instrument("binance", "spot", symbol, symbol.replace("-", "")),
        AT + until * SECOND,
        AT + until * SECOND,
        affected=DataType.TRADE,
        reason=reason,
        started_at=AT + since * SECOND,
        ended_at=AT + until * SECOND,
        first_missing_id=first,
        last_missing_id=last,
        lost=missing and missing[1] - missing[0] + 1,
        connection=connection,
        detail=detail,
    )


def none_open(_connection: str) -> int:
    """All streams go on."""
    return 0


def settled(log: GapLog) -> None:
    """As many looks as a group that is complete takes."""
    for _ in range(2):
        log.log_complete(none_open)


def test_a_gap_is_logged_with_its_times_ids_and_cause() -> None:
    """All that the record says, and why the connection was lost."""
    log = GapLog()
    with capture_logs() as lines:
        log.tell(gap(detail="closed: 1006"))
        settled(log)
        settled(log)
    assert lines == [
        {
            "log_level": "warning",
            "event": "stream.gap",
            "connection": FEED,
            "symbol": "BTC-USDT",
            "data_type": "trade",
            "reason": "disconnect",
            "detail": "closed: 1006",
            "started_at": "2025-11-24T16:00:00.000Z",
            "ended_at": "2025-11-24T16:00:05.000Z",
            "seconds": 5.0,
            "first_missing_id": 7,
            "last_missing_id": 9,
            "lost": 3,
        }
    ]


def test_what_is_of_one_stream_is_logged_at_once() -> None:
    """A hole in its ids."""
    log = GapLog()
    with capture_logs() as lines:
        log.tell(gap(reason="sequence"))
    assert [(line["log_level"], line["reason"]) for line in lines] == [("warning", "sequence")]


def test_the_gaps_of_a_cut_are_one_line_and_each_at_debug() -> None:
    """With how many there are, from the first to the last, and what is known to be lost."""
    log = GapLog()
    with capture_logs() as lines:
        for number in range(200):
            log.tell(
                gap(f"A{number}-USDT", since=number % 3, until=5 + number % 7,
                    missing=None if number % 2 else (1, 2),
                    detail="no answer to a ping for 10 s"),
            )  # fmt: skip
            if number % 60 == 0:
                log.log_complete(none_open)
        settled(log)
    told = [line for line in lines if line["log_level"] != "debug"]
    assert told == [
        {
            "log_level": "warning",
            "event": "stream.gaps",
            "connection": FEED,
            "streams": 200,
            "reason": "disconnect",
            "detail": "no answer to a ping for 10 s",
            "started_at": "2025-11-24T16:00:00.000Z",
            "ended_at": "2025-11-24T16:00:11.000Z",
            "seconds": 11.0,
            "lost": 200,
            "uncounted": 100,
        }
    ]
    each = [line for line in lines if line["log_level"] == "debug"]
    assert [line["symbol"] for line in each] == [f"A{number}-USDT" for number in range(200)]


def test_a_cut_is_told_when_its_last_stream_goes_on_or_after_a_while() -> None:
    """Some streams say something once an hour."""
    log, waits = GapLog(), 3
    with capture_logs() as lines:
        log.tell(gap("A-USDT"))
        for _ in range(4):
            log.log_complete(lambda _connection: waits)
        log.tell(gap("B-USDT"))
        waits = 0
        log.log_complete(lambda _connection: waits)
        assert [line for line in lines if line["log_level"] != "debug"] == []
        log.log_complete(lambda _connection: waits)
        assert [line["streams"] for line in lines if line["event"] == "stream.gaps"] == [2]
        del lines[:]
        log.tell(gap("C-USDT"))
        for _ in range(PATIENCE):
            assert lines == []
            log.log_complete(lambda _connection: 1)
    assert [(line["event"], line["symbol"]) for line in lines] == [("stream.gap", "C-USDT")]


def test_where_nothing_can_be_counted_nothing_is() -> None:
    """Zero would be a promise."""
    log = GapLog()
    with capture_logs() as lines:
        for symbol in ("A-USDT", "B-USDT"):
            log.tell(gap(symbol, missing=None))
        log.close()
    (line,) = (line for line in lines if line["event"] == "stream.gaps")
    assert (line["lost"], line["uncounted"]) == (None, 2)


def test_cuts_of_two_connections_and_two_reasons_are_told_apart() -> None:
    """Nothing is put together that has not one cause; at the end all is told."""
    log = GapLog()
    with capture_logs() as lines:
        for connection in (FEED, "okx_spot/0"):
            for reason in ("disconnect", "restart"):
                for symbol in ("A-USDT", "B-USDT"):
                    log.tell(gap(symbol, reason, connection=connection))
        log.close()
        log.close()
    told = [
        (line["connection"], line["reason"], line["streams"])
        for line in lines
        if line["event"] == "stream.gaps"
    ]
    assert sorted(told) == [
        (FEED, "disconnect", 2),
        (FEED, "restart", 2),
        ("okx_spot/0", "disconnect", 2),
        ("okx_spot/0", "restart", 2),
    ]


def test_the_board_counts_what_it_has_logged() -> None:
    """By origin and reason; it knows what is still open."""
    board = Board()
    row = ConnectionRow(FEED, "binance_spot", "binance", "spot", "wss://host")
    board.connections[FEED] = row
    cursor = Cursor(gap=OpenGap("disconnect", AT))
    btc = gap().instrument
    stream = board.stream("binance_spot", Subscription(DataType.TRADE, btc), FEED, None, 0)
    stream.cursor = cursor
    assert (board.open_gaps(FEED), board.open_gaps("okx_spot/0")) == (1, 0)
    with capture_logs() as lines:
        board.tell_gap(gap(detail="closed: 1006"))
        board.tell_gap(gap(reason="sequence"))
        board.tell_gap(attrs.evolve(gap(reason="overflow"), quiet=True))
        board.gap_log.close()
    assert board.gaps.total() == stream.gaps == 3
    assert board.gaps["binance", "spot", "trade", "disconnect"] == 1
    assert {line["reason"]: (line["log_level"], line["detail"]) for line in lines} == {
        "sequence": ("warning", None),
        "overflow": ("debug", None),
        "disconnect": ("warning", "closed: 1006"),
    }


STREAMS = 200


@pytest.mark.once
async def test_a_connection_with_two_hundred_streams_that_is_cut_is_a_few_lines(
    autojump_clock: MockClock,
) -> None:
    """It was lost, it is back after so long, and what that cost: in a whole collector."""
    symbols = [f"A{number:03}USDT" for number in range(STREAMS)]
    clock, chance = Clock(EPOCH * SECOND), random.Random(1)
    exchange = Truthful(
        "binance_spot",
        1,
        Rates(0.5, 0.01, step=1.0),
        lambda: EPOCH * 1000 + round(trio.current_time() * 1000),
        symbols=symbols,
    )
    plan = attrs.evolve(Plan.of(1), venues=("binance_spot",), life=0.0, trade_kind="raw")
    config = configured(plan)
    venue = attrs.evolve(
        config.exchanges["binance_spot"], symbols=("*",), data_types=(DataType.TRADE,)
    )
    config = attrs.evolve(config, exchanges={"binance_spot": venue})
    async with trio.open_nursery() as nursery:
        net = Net({"binance_spot": exchange}, chance, nursery)
        nursery.start_soon(exchange.run)
        collector = staged(config, clock, chance, net, Broker(config.nats, chance))
        nursery.start_soon(collector.run)
        board = collector.board
        with trio.fail_after(60):
            while (  # noqa: ASYNC110 (in virtual time)
                [row.state for row in board.streams.values()] != ["live"] * STREAMS
            ):
                await trio.sleep(1)
        with capture_logs() as lines:
            exchange.faults.cut()
            await trio.sleep(PATIENCE + 30)
        nursery.cancel_scope.cancel()
    told: list[dict[str, Any]] = [
        dict(line) for line in lines if line["log_level"] in ("info", "warning")
    ]
    told = [line for line in told if line["event"] != "collector.summarised"]
    assert [line["event"] for line in told] == [
        "feed.disconnected", "feed.connected", "stream.gaps",
    ]  # fmt: skip
    lost, back, gaps = told
    assert lost["streams"] == back["streams"] == STREAMS
    assert 0 < back["after"] < 10
    assert gaps["detail"] == lost["reason"]
    assert gaps["lost"] > 0
    each = [line for line in lines if line["event"] == "stream.gap"]
    # The ids of the others go on where they stood.
    assert STREAMS // 10 < len(each) < STREAMS
    assert [line["log_level"] for line in each] == ["debug"] * gaps["streams"]
