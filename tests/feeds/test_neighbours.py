"""What befalls one stream, and what its neighbours on the connection notice: in virtual time."""

import json
from datetime import datetime
from typing import Any

import pytest
import trio
import universe
import web
from box import Box, boxed
from forms import LONG
from trio.testing import MockClock
from universe import EPOCH

from marketprism.simulator.faults import Faults
from marketprism.simulator.skin import Rates

pytestmark = pytest.mark.once

SETTLED = 70.0
"""Seconds after which all is live and every first limit has faded."""
CALM = Rates(1.0, 2.0, step=0.5)
FLOOR = 30.0
"""Seconds of silence that are borne of any stream."""


def gaps(box: Box) -> list[dict[str, Any]]:
    """All that are stored."""
    found = [json.loads(message.payload) for message in box.broker.stream]
    return [fields for fields in found if fields["data_type"] == "gap"]


def states(box: Box) -> dict[tuple[str, str], str]:
    """Where each stream stands."""
    rows = box.collector.board.streams
    return {(str(kind), native): row.state for (_, (kind, native)), row in rows.items()}


@pytest.mark.parametrize(("status", "after"), [(418, 300), (503, None)])
async def test_a_book_that_waits_for_its_host_waits_alone(
    status: int, after: int | None, autojump_clock: MockClock
) -> None:
    """However long it is: no other stream is disturbed, it is asked for once at a time, and it is
    back when the host is.
    """
    async with boxed("binance_spot", rates=CALM) as box:
        await trio.sleep(SETTLED)
        faults, board = box.exchange.faults, box.collector.board
        faults.fail(status, 10**6, retry_after=after)
        faults.skip(1, "BTCUSDT", "orderbook")
        for _ in range(28):
            await trio.sleep(10)
            assert board.hosts["binance_spot"].waiting <= 1
        others = {key: state for key, state in states(box).items() if key[1] != "BTCUSDT"}
        assert set(others.values()) == {"live"}
        assert states(box)["orderbook", "BTCUSDT"] == "acknowledged"
        assert states(box)["trade", "BTCUSDT"] == "live"
        assert box.rows["binance_spot/0"].connects == 1
        box.exchange.faults = Faults(box.exchange)
        await box.until(lambda: states(box)["orderbook", "BTCUSDT"] == "live")
        await trio.sleep(1)
        assert {(gap["symbol"], gap["affected"]) for gap in gaps(box)} == {
            ("BTC-USDT", "orderbook")
        }


@pytest.mark.skipif(not LONG, reason="a long silence: nox -s faults")
async def test_a_stream_that_stays_silent_costs_its_neighbours_nothing(
    autojump_clock: MockClock,
) -> None:
    """Another connection takes over from its own: the others go over without a gap."""
    async with boxed("binance_spot", rates=CALM) as box:
        await trio.sleep(5 * SETTLED)
        box.exchange.faults.mute(20 * FLOOR, stream="btcusdt@trade")
        await box.until(lambda: box.count(), 10 * FLOOR)
        row, board = box.rows["binance_spot/0"], box.collector.board
        assert row.reconnects == 0
        assert board.silences["binance_spot", "trade", "renew"] == 1
        assert board.silences["binance_spot", "trade", "reconnect"] == 1
        await trio.sleep(20 * FLOOR)
        await box.until(lambda: set(states(box).values()) == {"live"}, 20 * FLOOR)
        assert {(gap["symbol"], gap["affected"], gap["reason"]) for gap in gaps(box)} == {
            ("BTC-USDT", "trade", "stale")
        }
        assert await box.breaches(calm_from=trio.current_time()) == []


async def test_a_connection_on_which_nothing_comes_is_given_up(autojump_clock: MockClock) -> None:
    """Though it answers pings: none of its streams has anything to lose."""
    async with boxed("binance_spot", rates=CALM) as box:
        await trio.sleep(SETTLED)
        (ident,) = box.exchange.connections
        box.exchange.faults.mute(1e9, connection=ident)
        await box.until(lambda: box.rows["binance_spot/0"].connects == 2, 10 * FLOOR)
        assert box.count() == 0
        await box.until(lambda: set(states(box).values()) == {"live"})


@pytest.mark.parametrize("venue", ["binance_spot", "okx_spot"])
async def test_the_gap_of_a_dead_connection_begins_when_it_died(
    venue: str, autojump_clock: MockClock
) -> None:
    """What we tell again of a book that we have is no sign of its life."""
    async with boxed(venue, rates=CALM) as box:
        await trio.sleep(SETTLED + 4.0)
        (link,) = box.net.links
        died = trio.current_time()
        link.swallow()
        await trio.sleep(60.0)
        found = [gap for gap in gaps(box) if gap["affected"] == "orderbook"]
        assert len(found) == 2
        for gap in found:
            assert _seconds(gap["started_at"]) <= died + 0.5


def _seconds(text: str) -> float:
    """Virtual ones, of a time in a payload."""
    return datetime.fromisoformat(text).timestamp() - EPOCH


@pytest.fixture
def frames(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When each frame of ours was sent, pings and pongs too."""
    sent: list[float] = []
    dial = web.Net.dial

    async def tapped(net: web.Net, *arguments: Any) -> trio.abc.Stream:
        stream = await dial(net, *arguments)
        send_all, said = stream.send_all, iter([False])

        async def noted(data: bytes) -> None:
            if next(said, True) and data:
                sent.append(trio.current_time())
            await send_all(data)

        monkeypatch.setattr(stream, "send_all", noted)
        return stream

    monkeypatch.setattr(web.Net, "dial", tapped)
    return sent


async def test_an_exchange_that_counts_pings_is_never_told_too_much(
    frames: list[float], monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """Binance allows five messages a second, and a hundred books are a hundred commands."""
    names = [f"Z{number:02d}" for number in range(98)]
    monkeypatch.setitem(universe.SYMBOLS, "binance_spot", tuple(f"{n}-USDT" for n in names))
    monkeypatch.setitem(universe.NATIVE, "binance_spot", tuple(f"{n}USDT" for n in names))
    async with boxed("binance_spot", rates=CALM):
        await trio.sleep(45)
    assert len(frames) > 98
    for first, sixth in zip(frames, frames[5:], strict=False):
        assert sixth - first > 1.0
