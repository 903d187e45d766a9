"""When a poll asks: real REST over a transport that answers, in virtual time."""

from collections.abc import Callable, Coroutine
from typing import Any

import httpx
import msgspec
import pytest
import trio
from loopback import UNTRUSTING
from structlog.testing import capture_logs

from marketprism.feeds.hosts import Hosts
from marketprism.feeds.okx.ratios import ratio_polls
from marketprism.feeds.okx.venues import OkxDerivatives
from marketprism.feeds.polling import run_poll
from marketprism.feeds.proxies import Proxies
from marketprism.feeds.rest import Rest
from marketprism.feeds.venue import Moment, Want
from marketprism.feeds.world import World
from marketprism.instruments import Instrument
from marketprism.outlet import Outlet
from marketprism.records import DataType
from marketprism.settings import Api, ProxyConfig, SupervisionConfig, VenueConfig
from marketprism.status import Board

ROW = 300
BEGAN = 1_780_000_300
"""Seconds; 100 after a row's time."""
SWAP = Instrument("okx", "perpetual", "BTC-USDT", "BTC-USDT-SWAP")
WANT = Want(DataType.LSR_ALL_ACCOUNT, SWAP)


@pytest.mark.parametrize(
    ("ahead", "late", "expected"),
    [
        (0.0, 0.0, [0, 205, 505]),
        (7.0, 0.0, [0, 198, 218, 498, 518]),
        (0.0, 50.0, [0, 205, 225, 265, 505, 525, 565]),
    ],
)
async def test_a_row_that_is_not_there_yet_is_asked_for_again_soon(
    ahead: float, late: float, expected: list[int], autojump_clock: trio.testing.MockClock
) -> None:
    """Whether our clock is ahead of the exchange's or the exchange is late: not a period later."""
    asked: list[int] = []

    async def answer(_request: httpx.Request) -> httpx.Response:
        asked.append(round(trio.current_time()))
        row = int(BEGAN + trio.current_time() - late) // ROW * ROW
        body = {"code": "0", "data": [[str(row * 1000), "1.5"]], "msg": ""}
        return httpx.Response(200, content=msgspec.json.encode(body))

    def now() -> Moment:
        nanoseconds = round(trio.current_time() * 1e9)
        return Moment(BEGAN * 10**9 + round(ahead * 1e9) + nanoseconds, nanoseconds)

    board = await polled(answer, now, 2 * ROW + 60)
    assert asked == expected
    assert board.streams["okx_derivatives", WANT.stream].records == 3


async def polled(
    answer: Callable[[httpx.Request], Coroutine[Any, Any, httpx.Response]],
    now: Callable[[], Moment],
    seconds: float,
) -> Board:
    """One poll for so long; what is on the board then."""
    board = Board()
    hosts, proxies, tls = Hosts(board), Proxies(ProxyConfig()), UNTRUSTING
    (poll,) = ratio_polls("http://rest.test", "okx_derivatives", [WANT])
    api = Api("http://rest.test", "ws://stream.test")
    venue = OkxDerivatives(VenueConfig("okx_derivatives", api, ("*",), (WANT.data_type,)))
    async with Rest(hosts, proxies, now, tls, httpx.MockTransport(answer)) as rest:
        world = World(Outlet(100, board), rest, hosts, proxies, board, now, tls, chance=lambda: 0.0)
        with trio.move_on_after(seconds):
            await run_poll(poll, venue, world, SupervisionConfig())
    return board


@pytest.mark.parametrize(
    ("known", "levels"), [(False, ("warning", "info")), (True, ("debug",) * 2)]
)
async def test_a_poll_that_fails_is_told_once_and_its_return_with_after_how_long(
    known: bool, levels: tuple[str, str], autojump_clock: trio.testing.MockClock
) -> None:
    """At DEBUG where its host is in trouble, which is told once and not for each of its polls."""

    async def answer(_request: httpx.Request) -> httpx.Response:
        if trio.current_time() < 60:
            if known:
                raise httpx.ConnectError("refused")
            return httpx.Response(500)
        row = int(BEGAN + trio.current_time()) // ROW * ROW
        body = {"code": "0", "data": [[str(row * 1000), "1.5"]], "msg": ""}
        return httpx.Response(200, content=msgspec.json.encode(body))

    def now() -> Moment:
        nanoseconds = round(trio.current_time() * 1e9)
        return Moment(BEGAN * 10**9 + nanoseconds, nanoseconds)

    with capture_logs() as logs:
        await polled(answer, now, 100)
    told = [line for line in logs if line["event"].startswith("poll.")]
    assert [line["event"] for line in told] == ["poll.failed", "poll.recovered"]
    assert tuple(line["log_level"] for line in told) == levels
    assert 60 <= told[1]["after"] < 90
