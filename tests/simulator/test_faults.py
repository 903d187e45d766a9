"""Everything that can be made to go wrong, seen by a client on real sockets."""

import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import httpx
import loopback
import msgspec
import pytest
import trio
from patience import PATIENCE
from trio_websocket import ConnectionClosed, WebSocketConnection

from marketprism.simulator import Exchange, market, player, record
from marketprism.simulator.capture import read
from marketprism.simulator.market import Market

from .conftest import Connect, Handshake, Receive, Serving

CAPTURE = record(Market(1, ["BTCUSDT"]), 3)
TRADES = "/ws/btcusdt@trade"
BOOK = "/ws/btcusdt@depth@100ms"


def busy() -> Exchange:
    """A market in which much happens."""
    return market("binance_spot", seed=1, trades_per_second=100, quotes_per_second=200)


def recorded(stream: str) -> list[Any]:
    """The recorded payloads of a stream."""
    messages = [msgspec.json.decode(line.raw) for line in read(CAPTURE) if line.kind == "recv"]
    return [message["data"] for message in messages if message["stream"] == stream]


async def closing(websocket: WebSocketConnection) -> int:
    """Read to the end of a connection; its close code, 1006 where there was no close frame."""
    with trio.fail_after(PATIENCE):
        while websocket.closed is None:
            with suppress(ConnectionClosed):
                await websocket.get_message()
    return int(websocket.closed.code)


async def silence(websocket: WebSocketConnection, seconds: float) -> bool:
    """Whether nothing comes for so long."""
    with trio.move_on_after(seconds):
        await websocket.get_message()
        return False
    return True


# Connections


async def test_a_cut_ends_all_connections_without_a_close_frame(
    serving: Serving, connect: Connect
) -> None:
    """The clients see an abnormal closure, and may connect again at once."""
    exchange = busy()
    url = (await serving(exchange)).ws_url + TRADES
    async with connect(url) as one, connect(url) as other:
        assert exchange.faults.cut() == 2
        assert await closing(one) == await closing(other) == 1006
    async with connect(url) as again:
        await again.get_message()


async def test_a_cut_of_one_connection_spares_the_other(
    serving: Serving, connect: Connect, receive: Receive
) -> None:
    """Connections are numbered from one in the order of their coming."""
    exchange = busy()
    url = (await serving(exchange)).ws_url + TRADES
    async with connect(url) as one, connect(url) as other:
        assert exchange.faults.cut(connection=1) == 1
        assert await closing(one) == 1006
        await receive(other)
        assert list(exchange.connections) == [2]


async def test_a_cut_with_a_code_is_a_websocket_close(serving: Serving, connect: Connect) -> None:
    """The client reads the code in a close frame."""
    exchange = busy()
    url = (await serving(exchange)).ws_url + TRADES
    async with connect(url) as websocket:
        exchange.faults.cut(code=1012)
        assert await closing(websocket) == 1012
    with trio.fail_after(PATIENCE):
        await exchange.until(lambda: not exchange.connections)


async def test_new_connections_are_refused_for_a_while(
    serving: Serving, connect: Connect, handshake: Handshake
) -> None:
    """By an abort, or by a status; then they are welcome again, and old ones never noticed."""
    exchange = busy()
    url = (await serving(exchange)).ws_url + TRADES
    async with connect(url) as old:
        exchange.faults.refuse(30)
        with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
            await handshake(url)
        exchange.faults.refuse(30, status=403)
        assert await handshake(url) == 403
        exchange.faults.refuse(0)
        async with connect(url) as new:
            await new.get_message()
        await old.get_message()


async def test_a_muted_connection_loses_messages_but_answers_pings(
    serving: Serving, connect: Connect, receive: Receive
) -> None:
    """What is not sent during the mute never comes; a new connection hears everything."""
    exchange = busy()
    url = (await serving(exchange)).ws_url + TRADES
    async with connect(url) as websocket:
        await receive(websocket)
        exchange.faults.mute(2.0)
        known = 0
        with trio.move_on_after(0.2):
            while True:
                known = (await receive(websocket))["t"]
        with trio.fail_after(PATIENCE):
            await websocket.ping()
        async with connect(url) as new:
            assert await silence(websocket, 0.1)
            await receive(new)
        assert (await receive(websocket))["t"] > known + 5


async def test_a_deaf_connection_answers_no_pings_either(
    serving: Serving, connect: Connect
) -> None:
    """A half-open connection: nothing comes back at all, then it goes on; and it can be cut."""
    exchange = busy()
    # Nothing is subscribed: this client stops reading pongs while messages wait to be fetched.
    async with connect((await serving(exchange)).ws_url + "/ws") as websocket:
        exchange.faults.mute(0.4, deaf=True)
        with trio.move_on_after(0.2) as waiting:
            await websocket.ping()
        assert waiting.cancelled_caught
        with trio.fail_after(PATIENCE):
            await websocket.ping()
        exchange.faults.mute(30, deaf=True)
        exchange.faults.cut()
        assert await closing(websocket) == 1006


async def test_one_stream_can_fall_silent(serving: Serving, connect: Connect) -> None:
    """The other streams of the same connection go on."""
    exchange = busy()
    address = await serving(exchange)
    exchange.faults.mute(30, stream="btcusdt@trade")
    async with connect(f"{address.ws_url}/ws/btcusdt@trade/ethusdt@trade") as websocket:
        with trio.fail_after(PATIENCE):
            heard = [msgspec.json.decode(await websocket.get_message())["s"] for _ in range(50)]
        assert set(heard) == {"ETHUSDT"}


async def test_a_shutdown_is_announced_bare_and_enveloped(
    serving: Serving, connect: Connect, receive: Receive
) -> None:
    """Each connection reads the notice in its own manner, and stays open for a while."""
    exchange = busy()
    address = await serving(exchange)
    async with connect(f"{address.ws_url}/ws") as bare, connect(f"{address.ws_url}/stream") as full:
        assert exchange.faults.server_shutdown() == 2
        assert (await receive(bare))["e"] == "serverShutdown"
        notice = await receive(full)
        assert notice["stream"] == "!serverShutdown"
        assert notice["data"]["e"] == "serverShutdown"
        assert exchange.accepted == len(exchange.connections) == 2


async def test_an_announced_shutdown_comes(
    serving: Serving, connect: Connect, receive: Receive
) -> None:
    """The connection that was told ends in the time that was given; one that came later does not,
    nor does what is said until then suffer.
    """
    exchange = busy()
    url = (await serving(exchange)).ws_url + "/ws/btcusdt@trade"
    async with connect(url) as told, connect(url) as other:
        await receive(told)
        assert exchange.faults.server_shutdown(0.5, connection=1) == 1
        began, heard = trio.current_time(), 0
        with pytest.raises(ConnectionClosed) as closed:  # noqa: PT012 (it is told by any of them)
            while True:
                heard += (await receive(told))["e"] == "trade"
        assert closed.value.reason is not None
        assert closed.value.reason.code == 1001
        assert 0.4 <= trio.current_time() - began <= 10
        assert heard > 1
        assert (await receive(other))["e"] == "trade"


@pytest.mark.parametrize("during_cut", ["run", "pause"])
async def test_playback_runs_on_or_rests_during_a_cut(
    serving: Serving, connect: Connect, receive: Receive, during_cut: Any
) -> None:
    """Resting, a client that comes back missed what was on its way at most; running, more."""
    exchange = player(CAPTURE, speed=4, start_delay=0, during_cut=during_cut)
    url = (await serving(exchange)).ws_url + BOOK
    expected = recorded("btcusdt@depth@100ms")
    async with connect(url) as websocket:
        heard = [await receive(websocket) for _ in range(10)]
        exchange.faults.cut()
        with suppress(ConnectionClosed):
            while True:
                heard.append(await receive(websocket))
    await trio.sleep(0.3)
    async with connect(url) as websocket:
        heard.append(await receive(websocket))
        while heard[-1] != expected[-1]:
            heard.append(await receive(websocket))
    if during_cut == "pause":
        assert len(expected) - len(heard) <= 1
    else:
        assert len(expected) - len(heard) > 5


# Messages


async def test_skipped_updates_are_in_the_book_all_the_same(
    serving: Serving, connect: Connect, receive: Receive
) -> None:
    """The client misses them; the exchange's book is the one of a client that missed nothing."""
    exchange = player(CAPTURE, speed=math.inf, start_delay=0)
    address = await serving(exchange)
    exchange.faults.skip(3, symbol="BTCUSDT", kind="orderbook")
    async with connect(address.ws_url + BOOK) as websocket:
        expected = recorded("btcusdt@depth@100ms")
        assert [await receive(websocket) for _ in expected[3:]] == expected[3:]
        whole = player(CAPTURE, speed=math.inf, start_delay=0)
        other = await serving(whole)
        async with connect(other.ws_url + BOOK):
            await whole.finished.wait()
    path = "/api/v3/depth?symbol=BTCUSDT&limit=1000"
    async with loopback.client() as client:
        answers = [await client.get(each.base_url + path) for each in (address, other)]
    assert answers[0].json() == answers[1].json()


async def test_skips_and_duplicates_touch_only_what_they_name(
    serving: Serving, connect: Connect, receive: Receive
) -> None:
    """Two trades go missing, the next comes twice, and aggregates are whole."""
    exchange = player(CAPTURE, speed=math.inf, start_delay=0)
    address = await serving(exchange)
    exchange.faults.skip(2, stream="btcusdt@trade")
    exchange.faults.duplicate(1, stream="btcusdt@trade")
    trades, aggregates = recorded("btcusdt@trade"), recorded("btcusdt@aggTrade")
    async with connect(f"{address.ws_url}/ws/btcusdt@trade/btcusdt@aggTrade") as websocket:
        heard = [await receive(websocket) for _ in range(len(trades) + len(aggregates) - 1)]
    assert [each for each in heard if each["e"] == "trade"] == [trades[2], *trades[2:]]
    assert [each for each in heard if each["e"] == "aggTrade"] == aggregates


async def test_a_corruption_is_of_one_level_and_of_the_wire_alone(
    serving: Serving, connect: Connect, receive: Receive
) -> None:
    """Ids chain as before, and the exchange's own book knows nothing of it."""
    exchange = player(CAPTURE, speed=math.inf, start_delay=0)
    address = await serving(exchange)
    exchange.faults.corrupt(2, symbol="BTCUSDT")
    expected = recorded("btcusdt@depth@100ms")
    async with connect(address.ws_url + BOOK) as websocket:
        heard = [await receive(websocket) for _ in expected]
    for number, (one, other) in enumerate(zip(heard, expected, strict=True)):
        assert [one["U"], one["u"]] == [other["U"], other["u"]]
        levels = [{tuple(level) for level in each["b"] + each["a"]} for each in (one, other)]
        differing = {price for price, _ in levels[0] ^ levels[1]}
        assert len(differing) == (number < 2)
    path = "/api/v3/depth?symbol=BTCUSDT&limit=1000"
    whole = await serving(player(CAPTURE, speed=math.inf, start_delay=0))
    async with connect(whole.ws_url + BOOK) as websocket, loopback.client() as client:
        for _ in expected:
            await receive(websocket)
        answers = [await client.get(each.base_url + path) for each in (address, whole)]
    assert answers[0].json() == answers[1].json()


async def test_a_time_to_come_is_of_the_next_messages_alone(
    serving: Serving, connect: Connect, receive: Receive
) -> None:
    """With the numbers that it asks for; all else is as it was."""
    exchange = player(CAPTURE, speed=math.inf, start_delay=0)
    address = await serving(exchange)
    exchange.faults.ahead(86_400, count=2, jump=1_000, symbol="BTCUSDT", kind="trade")
    expected = recorded("btcusdt@trade")
    async with connect(address.ws_url + TRADES) as websocket:
        heard = [await receive(websocket) for _ in expected]
    for number, (one, other) in enumerate(zip(heard, expected, strict=True)):
        later, jump = (86_400_000, 1_000) if number < 2 else (0, 0)
        moved = {"E": other["E"] + later, "T": other["T"] + later, "t": other["t"] + jump}
        assert one == other | moved


def is_not_json(message: str | bytes) -> bool:
    """Whether a message cannot be decoded."""
    try:
        msgspec.json.decode(message)
    except msgspec.DecodeError:
        return True
    return False


def trade_with(price: str) -> Callable[[str | bytes], bool]:
    """Whether a message is a trade with such a price."""

    def check(message: str | bytes) -> bool:
        payload = msgspec.json.decode(message)
        return bool(payload["e"] == "trade" and payload["p"].startswith(price))

    return check


@pytest.mark.parametrize(
    ("flaw", "check"),
    [
        ("malformed", is_not_json),
        ("truncated", is_not_json),
        ("binary", lambda message: isinstance(message, bytes)),
        ("unknown_event", lambda message: msgspec.json.decode(message)["e"] == "unheardOf"),
        ("negative_price", trade_with("-")),
        ("text_price", trade_with("abc")),
    ],
)
async def test_garbage_is_sent_at_once(
    serving: Serving, connect: Connect, flaw: Any, check: Callable[[str | bytes], bool]
) -> None:
    """Each kind of garbage arrives as itself, and the connection lives on."""
    exchange = market("binance_spot", trades_per_second=0, quotes_per_second=0)
    address = await serving(exchange)
    async with connect(address.ws_url + TRADES) as websocket:
        with trio.fail_after(PATIENCE):
            assert exchange.faults.garbage(flaw) == 1
            assert check(await websocket.get_message())
            exchange.faults.garbage(text="as given")
            assert await websocket.get_message() == "as given"


async def test_a_flawed_trade_looks_like_the_last_one(
    serving: Serving, connect: Connect, receive: Receive
) -> None:
    """It has the id of the last real trade, in the envelope of its stream."""
    exchange = player(CAPTURE, speed=math.inf, start_delay=0)
    address = await serving(exchange)
    trades = recorded("btcusdt@trade")
    async with connect(f"{address.ws_url}/stream?streams=btcusdt@trade") as websocket:
        for _ in trades:
            await receive(websocket)
        await exchange.finished.wait()
        exchange.faults.garbage("negative_price", symbol="BTCUSDT")
        flawed = await receive(websocket)
    assert flawed["stream"] in ("btcusdt@trade", "btcusdt@aggTrade")
    assert flawed["data"]["p"] == "-1.00000000"
    assert flawed["data"]["T"] == trades[-1]["T"]


@pytest.mark.parametrize("size", [100, 126, 1_000, 1 << 16, 3_000_000])
async def test_a_message_of_any_size_can_be_sent(
    serving: Serving, connect: Connect, size: int
) -> None:
    """One message of exactly so many bytes, in one frame, which is JSON."""
    exchange = market("binance_spot", trades_per_second=0, quotes_per_second=0)
    address = await serving(exchange)
    async with connect(address.ws_url + TRADES) as websocket:
        with trio.fail_after(PATIENCE):
            exchange.faults.oversize(size)
            message = await websocket.get_message()
    assert len(message) == size
    assert msgspec.json.decode(message)["e"] == "oversize"
