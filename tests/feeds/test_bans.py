"""Being told to stop: nobody calls that host before the end of it, and then one. Virtual time."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import attrs
import httpx
import pytest
import trio
import web
from box import Box, boxed
from loopback import UNTRUSTING
from peers import LOCAL, a_world, answer, serving, until_blank
from trio.testing import MockClock, wait_all_tasks_blocked
from universe import EPOCH

from marketprism.board.board import Board
from marketprism.clock import Timestamp
from marketprism.feeds import rest as rest_module
from marketprism.feeds.actions import Fetch, Fetched, FetchFailed
from marketprism.feeds.binance.answers import interpret as binance
from marketprism.feeds.deribit.answers import interpret as deribit
from marketprism.feeds.dialing import connect
from marketprism.feeds.hosts import Hosts
from marketprism.feeds.http_answers import Interpret, usual
from marketprism.feeds.okx.answers import interpret as okx
from marketprism.feeds.proxies import Proxies
from marketprism.feeds.rest import Rest
from marketprism.observe.report import connections
from marketprism.settings.settings import ProxyConfig
from marketprism.simulator.skin import Answer, Client, Rates, Reply
from marketprism.times import time_text

pytestmark = pytest.mark.once

ROOT = "http://rest.test"
BEGAN = 1_780_000_000
"""Seconds: Thu, 28 May 2026 20:26:40 GMT."""
SOON = "Thu, 28 May 2026 20:28:10 GMT"
WORDS = '{{"code":-1003,"msg":"Way too many requests; IP(1.2.3.4) banned until {}."}}'

Answers = Callable[[int], httpx.Response]
"""By how many requests there were before."""


def now() -> Timestamp:
    """Trio's time."""
    nanoseconds = round(trio.current_time() * 1e9)
    return Timestamp(BEGAN * 10**9 + nanoseconds, nanoseconds)


@attrs.define(eq=False)
class Peer:
    """A host of the test, which is asked over REST."""

    rest: Rest
    board: Board
    times: list[float]

    async def ask(self, count: int = 1, weight: int = 0) -> list[Fetched | FetchFailed]:
        """So many at once; their answers, in the order in which they came."""
        answers: list[Fetched | FetchFailed] = []

        async def one() -> None:
            answers.append(await self.rest.fetch(Fetch(f"{ROOT}/x", weight=weight)))

        async with trio.open_nursery() as nursery:
            for _ in range(count):
                nursery.start_soon(one)
        return answers


@asynccontextmanager
async def hosted(answers: Answers, interpret: Interpret = usual) -> AsyncIterator[Peer]:
    """A host that answers so, each time after a tenth of a second."""
    times: list[float] = []

    async def respond(_request: httpx.Request) -> httpx.Response:
        times.append(trio.current_time())
        before = len(times) - 1
        await trio.sleep(0.1)
        return answers(before)

    board = Board()
    hosts = Hosts(board)
    hosts.learn(ROOT, interpret)
    proxies, transport = Proxies(ProxyConfig()), httpx.MockTransport(respond)
    async with Rest(hosts, proxies, now, UNTRUSTING, transport) as rest:
        yield Peer(rest, board, times)


def after(*bad: httpx.Response) -> Answers:
    """These, then good ones."""
    return lambda before: bad[before] if before < len(bad) else httpx.Response(200)


@pytest.mark.parametrize(
    ("said", "interpret", "seconds"),
    [
        (httpx.Response(429, headers={"Retry-After": "90"}), usual, 90),
        (httpx.Response(429, headers={"Retry-After": SOON}), usual, 90),
        (httpx.Response(418), usual, 120),
        (httpx.Response(418, text=WORDS.format((BEGAN + 90) * 1000)), binance, 90),
        (httpx.Response(403, text=WORDS.format((BEGAN + 90) * 1000)), binance, 90),
        (httpx.Response(418, text=WORDS.format(253_402_300_799_999)), binance, 120),
        (httpx.Response(418, text=WORDS.format(1)), binance, 120),
        (httpx.Response(400, text='{"code":-1003,"msg":"Too many requests."}'), binance, 10),
        (httpx.Response(200, text='{"code":"50011","msg":"Too many","data":[]}'), okx, 2),
        (httpx.Response(400, text='{"error":{"code":10028,"message":""}}'), deribit, 10),
    ],
)
async def test_a_host_that_says_stop_in_whatever_way_is_not_asked_before_its_end(
    said: httpx.Response, interpret: Interpret, seconds: float, autojump_clock: MockClock
) -> None:
    """Those who wait and those who come; the board says until when, the answer how long to wait."""
    async with hosted(after(said), interpret) as peer:
        (got,) = await peer.ask()
        assert isinstance(got, FetchFailed)
        assert got.retry_after == pytest.approx(seconds, abs=1)
        (row,) = peer.board.hosts.values()
        assert row.blocked_until / 1e9 == pytest.approx(seconds, abs=1)
        assert "rate limit: " in str(row.reason)
        answers = await peer.ask(3)
        assert all(isinstance(each, Fetched) for each in answers)
        assert peer.times[1] >= row.blocked_until / 1e9
        assert len(peer.times) == 4


async def test_a_ban_that_lasts_hears_of_us_once_each_time(autojump_clock: MockClock) -> None:
    """Sixty wait for its end. Those that were under way when it came are the only others."""
    ban = httpx.Response(418, headers={"Retry-After": "600"})
    async with hosted(lambda before: ban if before < 20 else httpx.Response(200)) as peer:
        answers = await peer.ask(60)
        at_once = sum(at < 600 for at in peer.times)
        assert at_once == rest_module.LANES
        # Each time one asks; with the first good answer all others do.
        assert all(b - a >= 600 for a, b in pairwise(peer.times[at_once - 1 : 21]))
        assert peer.times[21] - peer.times[20] >= 0.099
        assert sum(isinstance(each, Fetched) for each in answers) == 40
        assert peer.times[-1] - peer.times[20] < 10


async def test_a_call_without_an_answer_leaves_it_to_the_next(autojump_clock: MockClock) -> None:
    """Whether the stop is over is known only when the host has said something else."""

    def answers(before: int) -> httpx.Response:
        if before == 1:
            raise httpx.ReadError("reset")
        return after(httpx.Response(429, headers={"Retry-After": "5"}))(before)

    async with hosted(answers) as peer:
        await peer.ask()
        answered = await peer.ask(10)
        assert [type(each) for each in answered].count(FetchFailed) == 1
        assert peer.times[2] > peer.times[1]
        assert peer.times[3] - peer.times[2] >= 0.099


async def test_what_was_granted_before_is_granted_anew(autojump_clock: MockClock) -> None:
    """The end of a stop is no minute in which the host is asked for twice what it allows."""
    ban = httpx.Response(429, headers={"Retry-After": "300"})
    async with hosted(after(*[ban] * rest_module.LANES)) as peer:
        peer.rest.allow(ROOT, 100, 60.0)
        await peer.ask(200, weight=1)
        calm = [at for at in peer.times if at >= 300]
        assert len(calm) == 200 - rest_module.LANES
        for start in calm:
            assert sum(start <= at < start + 60 for at in calm) <= 100


async def test_a_request_that_is_still_connecting_does_not_go_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It was granted before the host said stop, and is asked when it may be."""
    told = trio.Event()
    waits = iter([False])

    async def slow(host: str, port: int, proxy: str | None) -> trio.SocketStream:
        if next(waits, True):
            await told.wait()
        return await connect(host, port, proxy)

    asked: list[float] = []

    async def handler(stream: trio.abc.Stream) -> None:
        while await until_blank(stream):
            asked.append(trio.current_time())
            status = 429 if len(asked) == 1 else 200
            await stream.send_all(answer(status, b"{}", Retry_After="1"))

    monkeypatch.setattr(rest_module, "connect", slow)
    async with serving(handler) as port, a_world() as services:
        url = f"http://{LOCAL}:{port}"
        got: list[Fetched | FetchFailed] = []

        async def ask() -> None:
            got.append(await services.rest.fetch(Fetch(f"{url}/x")))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            nursery.start_soon(ask)
            while not got:
                await wait_all_tasks_blocked(0.01)
            told.set()
        assert [type(each) for each in got] == [FetchFailed, Fetched]
        assert asked[1] - asked[0] >= 1


# The whole collector; in the box an exchange has one host for requests and websockets


CALM = Rates(1.0, 2.0, step=0.5)
SETTLED = 20.0


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When hosts were called, in whatever way."""
    times: list[float] = []

    def noted(name: str) -> None:
        does = getattr(web.Net, name)

        async def noting(*arguments: Any) -> Any:
            times.append(trio.current_time())
            return await does(*arguments)

        monkeypatch.setattr(web.Net, name, noting)

    noted("dial")
    noted("handle_async_request")
    return times


def shown(box: Box) -> tuple[str | None, str | None]:
    """Until when the first connection says that its hosts may not be called."""
    row, *_ = connections(box.collector.board, box.collector.now())
    return row["blocked_until"], row["rest_blocked_until"]


def states(box: Box) -> set[str]:
    """Where the streams stand."""
    return {row.state for row in box.collector.board.streams.values()}


async def test_a_ban_over_rest_holds_for_who_would_dial_that_host(
    calls: list[float], autojump_clock: MockClock
) -> None:
    """And once it is over, all is live within a minute."""
    async with boxed("binance_spot", rates=CALM) as box:
        await trio.sleep(SETTLED)
        until = EPOCH + trio.current_time() + 300
        body = WORDS.format(round(until * 1000)).encode()
        bans = iter([Answer(418, body)])
        vars(box.exchange.faults.waiting)["failure"] = lambda _path: next(bans, None)
        box.exchange.faults.skip(1, "BTCUSDT", "orderbook")
        await box.until(lambda: any(shown(box)))
        told = trio.current_time()
        box.exchange.faults.cut()
        await trio.sleep(10)
        assert shown(box) == (time_text(round(until * 1000) * 10**6),) * 2
        assert "live" not in states(box)
        assert box.rows["binance_spot/0"].state == "waiting"
        await trio.sleep(until - EPOCH - trio.current_time() - 0.5)
        assert [at for at in calls if at > told + 0.1] == []
        await box.until(lambda: states(box) == {"live"}, 60)
        assert shown(box) == (None, None)


async def test_too_many_requests_on_a_websocket_stop_requests_too(
    calls: list[float], autojump_clock: MockClock
) -> None:
    """Deribit says it with a code, and its REST is the same host."""
    async with boxed("deribit_derivatives", rates=CALM) as box:
        await trio.sleep(SETTLED)
        skin = box.exchange.skin
        command, refusals = skin.command, iter([10028])

        def refused(text: str, client: Client) -> Reply:
            if "subscribe" in text and next(refusals, None):
                return Reply((str(skin.too_many(client)),))
            return command(text, client)

        vars(skin)["command"] = refused
        box.exchange.faults.cut()
        await box.until(lambda: shown(box)[0])
        told = trio.current_time()
        assert shown(box)[0] == shown(box)[1]
        rest = box.collector.board.hosts["deribit_derivatives"]
        assert rest.blocked_until / 1e9 == pytest.approx(told + 30, abs=1)
        await trio.sleep(29)
        assert [at for at in calls if at > told + 0.1] == []
        await box.until(lambda: states(box) == {"live"}, 60)


@pytest.mark.parametrize("code", ["50011", "50013", "50026", "50001"])
async def test_a_code_that_passes_is_an_answer_for_later(
    code: str, calls: list[float], autojump_clock: MockClock
) -> None:
    """OKX says it under status 200. Books, ratios and instruments are asked for again."""
    async with boxed("okx_derivatives", rates=CALM) as box:
        body = json.dumps({"code": code, "data": [], "msg": "words"}).encode()
        until = 45.0
        vars(box.exchange.faults.waiting)["failure"] = lambda _path: (
            Answer(200, body) if trio.current_time() < until else None
        )
        box.exchange.faults.withhold(100)
        await trio.sleep(20)
        (venue,) = box.collector.board.venues.values()
        assert venue.state == "failing"
        assert code in str(venue.reason) or "too much" in str(venue.reason)
        await box.until(lambda: states(box) == {"live"}, until + 60)
        assert box.collector.board.rejected == {}
        if code == "50011":
            gone = [at for at in calls if at < until]
            assert len(gone) < 12
