"""Markets that are listed later, halted, settled or missing from a list, in virtual time."""

import json
from typing import Any

import facts
import pytest
import trio
from box import SETTLED, Box, boxed
from forms import some
from structlog.testing import capture_logs
from trio.testing import MockClock
from truth import Truthful
from universe import EPOCH

from marketprism.board.stream_row import StreamRow
from marketprism.observe.health import judge

pytestmark = pytest.mark.once

LISTED = {
    "binance_spot": "ETHUSDT",
    "binance_derivatives": "ETHUSDT",
    "okx_spot": "ETH-USDT",
    "okx_derivatives": "BTC-USD-SWAP",
}
"""One of the two markets of each venue."""
RETRY = 20.0
"""Seconds between two readings of a list of which something is missing."""
NOTICED = 45.0
"""Seconds until a halt is known: a book is silent for thirty, and is renewed; the list is read."""
HALT = 150.0


def streams(box: Box, native_id: str) -> list[StreamRow]:
    """All of that market, or of all others."""
    rows = box.collector.board.stream_rows()
    return [row for row in rows if row.instrument.native_id == native_id]


def others(box: Box, native_id: str) -> list[StreamRow]:
    """All of the other markets."""
    rows = box.collector.board.stream_rows()
    return [row for row in rows if row.instrument.native_id != native_id]


def alive(rows: list[StreamRow]) -> bool:
    """Whether there are any, and all have something to say, or may be silent."""
    return bool(rows) and all(
        row.state == "live" or (row.state == "acknowledged" and row.limit is None) for row in rows
    )


def stored(box: Box, symbol: str) -> list[dict[str, Any]]:
    """What is stored of that symbol, in order."""
    found = [json.loads(message.payload) for message in box.broker.stream]
    return [fields for fields in found if fields["symbol"] == symbol]


def gaps(box: Box, symbol: str) -> list[dict[str, Any]]:
    """The gaps among those."""
    return [fields for fields in stored(box, symbol) if fields["data_type"] == "gap"]


def events(logs: Any, name: str) -> list[tuple[str, str, str]]:
    """The lines of that event."""
    return [
        (line["venue"], line["symbol"], line["status"]) for line in logs if line["event"] == name
    ]


@pytest.mark.parametrize("venue", some(LISTED, "binance_spot", "okx_derivatives"))
async def test_a_market_that_is_listed_later_is_collected_beside_the_others(
    venue: str, autojump_clock: MockClock
) -> None:
    """Within a reading of its listing, on the connections that there are: nobody else notices."""
    native_id = LISTED[venue]
    with capture_logs() as logs:
        async with boxed(
            venue, before=lambda exchange: exchange.faults.unlist(native_id, 60.0)
        ) as box:
            board = box.collector.board
            await box.until(lambda: alive(others(box, native_id)), 30)
            assert streams(box, native_id) == []
            (symbol,) = board.venues[venue].unmatched
            assert f"{venue} does not have {symbol}" in health(box)["venues"]["detail"]
            polled = 60.0 if venue.endswith("derivatives") else 0.0
            await box.until(lambda: alive(streams(box, native_id)), 60 + RETRY + 5 + polled)
            assert board.venues[venue].unmatched == []
            assert {row.connects for row in box.rows.values()} == {1}
            await trio.sleep(2 * polled + 10)
            assert await box.breaches() == []
    assert not board.gaps
    assert events(logs, "market.listed") == [(venue, symbol, status_of(venue))]


def status_of(venue: str) -> str:
    """What each exchange calls a market that trades."""
    return "TRADING" if venue.startswith("binance") else "live"


def health(box: Box) -> Any:
    """The checks of /health."""
    return judge(box.collector.board, box.collector.now()).body["checks"]


@pytest.mark.parametrize("venue", ["binance_spot", "okx_derivatives"])
async def test_an_empty_list_at_the_start_is_asked_for_again(
    venue: str, autojump_clock: MockClock
) -> None:
    """It holds all that is wanted the next time, half a minute later."""

    def nothing(exchange: Truthful) -> None:
        for symbol in exchange.watched.symbols:
            exchange.faults.unlist(symbol, 5.0)

    async with boxed(venue, before=nothing) as box:
        await trio.sleep(SETTLED)
        row = box.collector.board.venues[venue]
        assert (row.state, row.instruments) == ("refused", 0)
        await box.until(lambda: row.state == "running", 30)
        await box.until(lambda: alive(others(box, "")), 60)
        await trio.sleep(60)
        assert row.reason is None
        assert await box.breaches(100) == []


@pytest.mark.parametrize("venue", some(LISTED, "binance_derivatives", "okx_spot"))
async def test_a_halt_is_told_once_and_cuts_nobody(venue: str, autojump_clock: MockClock) -> None:
    """The halted market's streams are left and say so; what was open of them is told as ended
    then; it lives again soon after it trades, and what was missed till then is a gap.
    """
    native_id = LISTED[venue]
    with capture_logs() as logs:
        async with boxed(venue) as box:
            await trio.sleep(60.0)
            (symbol,) = {row.instrument.symbol for row in streams(box, native_id)}
            halted = trio.current_time()
            box.exchange.faults.halt(native_id, HALT, "HALT")
            await box.until(
                lambda: {row.state for row in streams(box, native_id)} == {"paused"}, NOTICED
            )
            learnt = trio.current_time()
            await trio.sleep(1.0)
            assert {row.detail for row in streams(box, native_id)} == {"HALT"}
            assert not any(row.cursor and row.cursor.gap for row in streams(box, native_id))
            told = gaps(box, symbol)
            await trio.sleep(halted + HALT - 5 - trio.current_time())
            assert gaps(box, symbol) == told  # nothing is missed of what does not happen
            assert alive(others(box, native_id))
            assert f"{venue} {symbol} is paused (HALT)" in health(box)["streams"]["detail"]
            assert health(box)["streams"]["status"] == "healthy"
            polled = 60.0 if venue.endswith("derivatives") else 0.0
            await box.until(lambda: alive(streams(box, native_id)), 5 + RETRY + 5 + polled)
            await trio.sleep(30)
            assert {row.connects for row in box.rows.values()} == {1}
            assert all(row.reconnects == 0 for row in box.rows.values())
            await box.stop()
    assert events(logs, "market.paused") == [(venue, symbol, "HALT")]
    assert events(logs, "market.resumed") == [(venue, symbol, status_of(venue))]
    assert {fields["symbol"] for fields in map(json.loads, payloads(box, "gap"))} == {symbol}
    for gap in told:
        assert gap["reason"] in ("stale", "disconnect")
        assert halted <= at(gap["ended_at"]) <= learnt
    resumed = [gap for gap in gaps(box, symbol) if gap not in told]
    assert {gap["reason"] for gap in resumed} <= {"metadata", "sequence"}
    assert "orderbook" in {gap["affected"] for gap in resumed}
    for gap in resumed:
        # From when it was last said to be halted; that is a reading before it was known to trade.
        assert halted + HALT - RETRY - 1 <= at(gap["started_at"]) <= halted + HALT + 1


def payloads(box: Box, data_type: str) -> list[bytes]:
    """Of the messages of that type."""
    return [
        message.payload
        for message in box.broker.stream
        if json.loads(message.payload)["data_type"] == data_type
    ]


def at(text: str) -> float:
    """A time of the stream as virtual seconds."""
    return facts.milliseconds(text) / 1000 - EPOCH


async def test_a_settled_contract_has_ended_and_is_left_alone(autojump_clock: MockClock) -> None:
    """Not asked for any more, not degraded for ever, not reconnected for; nothing is missed."""
    venue, native_id = "binance_derivatives", "ETHUSDT"
    with capture_logs() as logs:
        async with boxed(venue) as box:
            await trio.sleep(60.0)
            box.exchange.faults.halt(native_id, None, "SETTLING")
            await box.until(
                lambda: {row.state for row in streams(box, native_id)} == {"ended"}, NOTICED
            )
            await trio.sleep(60.0)
            told, asked = gaps(box, "ETH-USDT"), dict(box.exchange.paths)
            await trio.sleep(300.0)
            assert gaps(box, "ETH-USDT") == told
            assert alive(others(box, native_id))
            assert {row.connects for row in box.rows.values()} == {1}
            checks = health(box)
            assert {check["status"] for check in checks.values()} == {"healthy"}
            assert f"{venue} ETH-USDT has ended (SETTLING)" in checks["streams"]["detail"]
            lists = box.exchange.paths["/fapi/v1/exchangeInfo"] - asked["/fapi/v1/exchangeInfo"]
            assert 300 / RETRY - 1 <= lists <= 300 / (0.9 * RETRY) + 1
            assert not any("ethusdt" in stream for stream in box.exchange.streams)
            await box.stop()
            assert gaps(box, "ETH-USDT") == told
    assert events(logs, "market.ended") == [(venue, "ETH-USDT", "SETTLING")]
    assert events(logs, "market.paused") == []


async def test_what_a_list_lacks_and_speaks_is_alive(autojump_clock: MockClock) -> None:
    """Though the list lacks it for many readings; nor does a list without any end anything."""
    with capture_logs() as logs:
        async with boxed("okx_spot") as box:
            await trio.sleep(60.0)
            box.exchange.faults.unlist("ETH-USDT", 300.0, trading=True)
            box.exchange.faults.halt("BTC-USDT", 150.0)
            await box.until(
                lambda: {row.state for row in streams(box, "BTC-USDT")} == {"paused"}, NOTICED
            )
            before = box.exchange.paths["/api/v5/public/instruments"]
            await trio.sleep(90.0)
            assert box.exchange.paths["/api/v5/public/instruments"] - before >= 4
            assert alive(streams(box, "ETH-USDT"))
            await box.until(lambda: alive(streams(box, "BTC-USDT")), 100)
            await trio.sleep(30.0)
            await box.stop()
    assert {line["symbol"] for line in logs if line["event"].startswith("market.")} == {"BTC-USDT"}
    assert gaps(box, "ETH-USDT") == []


async def test_a_delisted_market_has_ended_when_two_lists_lack_it(
    autojump_clock: MockClock,
) -> None:
    """And it is silent; should it be listed again, it is collected again."""
    with capture_logs() as logs:
        async with boxed("binance_spot") as box:
            await trio.sleep(60.0)
            box.exchange.faults.unlist("ETHUSDT", 200.0)
            await box.until(
                lambda: {row.state for row in streams(box, "ETHUSDT")} == {"ended"}, NOTICED + 30
            )
            assert {row.detail for row in streams(box, "ETHUSDT")} == {"not listed any more"}
            assert box.collector.board.venues["binance_spot"].unmatched == []
            await trio.sleep(60.0)
            assert health(box)["streams"]["status"] == health(box)["venues"]["status"] == "healthy"
            await box.until(lambda: alive(streams(box, "ETHUSDT")), 300)
            assert {row.connects for row in box.rows.values()} == {1}
    assert events(logs, "market.ended") == [("binance_spot", "ETH-USDT", "not listed any more")]
    assert events(logs, "market.resumed") == [("binance_spot", "ETH-USDT", "TRADING")]


async def test_a_market_that_does_not_trade_at_the_start_waits_for_it(
    autojump_clock: MockClock,
) -> None:
    """Named in full it is on the board with the exchange's word, and lives when it trades."""
    async with boxed(
        "okx_derivatives",
        before=lambda exchange: exchange.faults.halt("BTC-USD-SWAP", 60.0, "preopen"),
    ) as box:
        await box.until(lambda: alive(others(box, "BTC-USD-SWAP")), 30)
        rows = streams(box, "BTC-USD-SWAP")
        assert {(row.state, row.detail) for row in rows} == {("paused", "preopen")}
        assert len(rows) == 7
        checks = health(box)
        assert "okx_derivatives BTC-USD is paused (preopen)" in checks["streams"]["detail"]
        assert checks["venues"]["status"] == "healthy"
        await box.until(lambda: alive(streams(box, "BTC-USD-SWAP")), 180)
        assert {row.connects for row in box.rows.values()} == {1}
        await trio.sleep(60)
        assert await box.breaches() == []
    assert not box.collector.board.gaps


async def test_all_markets_of_a_venue_may_rest(autojump_clock: MockClock) -> None:
    """From the start on, or later: nothing is amiss, and all live when they trade."""

    def rest(exchange: Truthful) -> None:
        for symbol in exchange.watched.symbols:
            exchange.faults.halt(symbol, 100.0)

    async with boxed("binance_spot", before=rest) as box:
        await trio.sleep(90.0)
        checks = health(box)
        assert box.rows == {}
        assert checks["data"]["status"] == checks["streams"]["status"] == "healthy"
        assert checks["venues"]["status"] == "healthy"
        await box.until(lambda: alive(others(box, "")), 50 + RETRY + 10)
        await trio.sleep(60.0)
        rest(box.exchange)
        await box.until(lambda: {row.state for row in others(box, "")} == {"paused"}, 240)
        await trio.sleep(30.0)
        assert health(box)["data"]["status"] == "healthy"
        await box.until(lambda: alive(others(box, "")), 100)


async def test_a_halt_that_another_process_meets_is_told_at_once(
    autojump_clock: MockClock,
) -> None:
    """What the former one did not see is a gap that ends where the exchange says that it rests."""
    async with boxed("okx_spot") as box:
        await trio.sleep(60.0)
        box.exchange.faults.halt("ETH-USDT", 100.0)
        await box.stop()
        await trio.sleep(20.0)
        await box.restart()
        await box.until(lambda: {row.state for row in streams(box, "ETH-USDT")} == {"paused"}, 30)
        learnt = trio.current_time()
        await trio.sleep(5.0)
        found = {gap["affected"]: gap for gap in gaps(box, "ETH-USDT")}
        assert set(found) == {"orderbook", "trade"}
        for gap in found.values():
            assert gap["reason"] == "restart"
            assert at(gap["ended_at"]) == pytest.approx(learnt, abs=1.0)
        await box.until(lambda: alive(streams(box, "ETH-USDT")), 300)
        await trio.sleep(10.0)
        later = [gap for gap in gaps(box, "ETH-USDT") if gap not in found.values()]
        assert {gap["reason"] for gap in later} == {"metadata"}


async def test_funding_intervals_are_null_until_they_are_known(autojump_clock: MockClock) -> None:
    """Not eight hours by assumption; asked for again, and used from then on."""
    path = "/fapi/v1/fundingInfo"
    async with boxed(
        "binance_derivatives", before=lambda exchange: exchange.faults.fail(503, 2, path=path)
    ) as box:
        await trio.sleep(SETTLED)
        assert "how often its perpetuals are funded" in health(box)["venues"]["detail"]
        intervals = {fields["funding_interval"] for fields in funding(box, "ETH-USDT")}
        assert intervals == {None}
        assert {fields["next_funding_time"] for fields in funding(box, "ETH-USDT")} == {None}
        await trio.sleep(95.0)
        assert funding(box, "ETH-USDT")[-1]["funding_interval"] == "4h"
        assert funding(box, "BTC-USDT")[-1]["funding_interval"] == "8h"
        assert health(box)["venues"]["status"] == "healthy"
        assert box.exchange.paths[path] == 3
        await trio.sleep(60.0)
        assert box.exchange.paths[path] == 3


def funding(box: Box, symbol: str) -> list[dict[str, Any]]:
    """The funding rates of that symbol."""
    return [fields for fields in stored(box, symbol) if fields["data_type"] == "funding_rate"]


async def test_a_market_that_trades_while_a_connection_is_away_is_there_when_it_is_back(
    autojump_clock: MockClock,
) -> None:
    """The next connection carries it from the start."""
    async with boxed(
        "okx_spot", before=lambda exchange: exchange.faults.halt("ETH-USDT", 45.0)
    ) as box:
        await trio.sleep(40.0)
        box.exchange.faults.refuse(60.0)
        box.exchange.faults.cut()
        row = box.rows["okx_spot/0"]
        await box.until(lambda: {each.state for each in streams(box, "ETH-USDT")} != {"paused"}, 50)
        assert row.state != "connected"
        assert row.down_since == pytest.approx(40e9, abs=1e9)
        await box.until(lambda: alive(others(box, "")), 60)
        assert row.connects == 2
        assert gaps(box, "ETH-USDT") == []
        await trio.sleep(20.0)
        assert await box.breaches(120) == []


async def test_markets_come_and_go_beside_rotations(autojump_clock: MockClock) -> None:
    """A change waits for a rotation to be over, and the next connection goes on with what is left:
    of the others nobody misses anything.
    """
    async with boxed("okx_spot", "binance_spot", life=20.0) as box:

        def carried() -> set[int]:
            """By how many streams; in the midst of a rotation some are with either."""
            return {len(row.streams) for row in box.rows.values() if not row.next}

        await trio.sleep(50.0)
        box.exchanges["okx_spot"].faults.halt("ETH-USDT", 90.0)
        box.exchanges["binance_spot"].faults.halt("ETHUSDT", 90.0)
        halted = [*streams(box, "ETH-USDT"), *streams(box, "ETHUSDT")]
        await box.until(lambda: {row.state for row in halted} == {"paused"}, 80)
        before = box.count()
        await trio.sleep(45.0)
        assert box.count() >= before + 2
        await box.until(lambda: carried() == {2}, 20)
        await box.until(lambda: alive(halted), 100)
        await trio.sleep(45.0)
        await box.until(lambda: carried() == {4}, 20)
        assert box.count("failed") == 0
        assert {row.connects for row in box.rows.values()} == {1}
        await box.stop()
    assert gaps(box, "BTC-USDT") == []
