"""When a poll asks: real REST over a transport that answers, in virtual time."""

import httpx
import msgspec
import pytest
import trio
from loopback import UNTRUSTING

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

    board = Board()
    hosts, proxies, tls = Hosts(board), Proxies(ProxyConfig()), UNTRUSTING
    want = Want(DataType.LSR_ALL_ACCOUNT, SWAP)
    (poll,) = ratio_polls("http://rest.test", "okx_derivatives", [want])
    api = Api("http://rest.test", "ws://stream.test")
    venue = OkxDerivatives(VenueConfig("okx_derivatives", api, ("*",), (want.data_type,)))
    async with Rest(hosts, proxies, now, tls, httpx.MockTransport(answer)) as rest:
        world = World(Outlet(100, board), rest, hosts, proxies, board, now, tls, chance=lambda: 0.0)
        with trio.move_on_after(2 * ROW + 60):
            await run_poll(poll, venue, world, SupervisionConfig())
    assert asked == expected
    assert board.streams["okx_derivatives", want.stream].records == 3
