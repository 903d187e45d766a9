"""Everything that may befall a NATS server and the way to it, while messages flow (R3)."""

import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio
from forms import form
from nats_server import Server
from wiretap import Relay, relaying

from marketprism.settings.nats import NatsConfig, StreamConfig
from marketprism.sinks.nats import NatsSink
from marketprism.wire import Message

pytestmark = pytest.mark.once

TOTAL = form(6_000, 100_000)
FROZEN = form(3.0, 30.0)
"""Seconds of a SIGSTOP."""
PACE = 2_000
"""Messages a second while something is wrong."""


def numbers(payloads: list[bytes]) -> list[int]:
    """What the payloads begin with."""
    return [int(payload.split()[0]) for payload in payloads]


@attrs.define(eq=False)
class Stream:
    """Messages that keep coming, and what becomes of them."""

    delivery: Any
    server: Server
    make_message: Callable[..., Message]
    appended: int = 0

    async def flow(self, messages: int, pace: float) -> None:
        """So many more, at that many a second."""
        batch = 50
        for _ in range(0, messages, batch):
            more = [self.make_message(self.appended + n) for n in range(batch)]
            self.appended += batch
            self.delivery.outbox.append(more)
            await trio.sleep(batch / pace)

    async def acknowledged(self, count: int, seconds: float) -> None:
        """Wait until so many are safe."""
        with trio.fail_after(seconds):
            while self.delivery.board.sink.acknowledged < count:  # noqa: ASYNC110 (another process)
                await trio.sleep(0.02)

    async def noticed(self, failures: int, seconds: float) -> None:
        """Wait until the sink has failed more often."""
        with trio.fail_after(seconds):
            while len(self.delivery.failures) <= failures:  # noqa: ASYNC110 (another process)
                await trio.sleep(0.02)


@asynccontextmanager
async def flowing(stream: Stream, url: str) -> AsyncIterator[None]:
    """A sink at work; at the end all is stored once, in order."""
    delivery = stream.delivery
    async with trio.open_nursery() as nursery:
        nursery.start_soon(delivery.keep_running, NatsSink(delivery.config, [url], delivery.board))
        await stream.flow(500, PACE)
        await stream.acknowledged(500, 10)
        yield
        delivery.outbox.close()
    assert numbers(await stream.server.stored()) == list(range(stream.appended))
    assert delivery.board.sink.acknowledged == stream.appended
    assert not delivery.board.faults


@pytest.fixture
def stream(server: Any, delivery: Any, make_message: Callable[..., Message]) -> Stream:
    """See `Stream`."""
    return Stream(delivery, server, make_message)


async def test_three_kills_lose_double_and_reorder_nothing(stream: Stream) -> None:
    """SIGKILL in mid-stream, thrice."""
    server = stream.server
    async with flowing(stream, server.url):
        for _ in range(3):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stream.flow, TOTAL // 3, form(20_000, 40_000))
                await stream.acknowledged(stream.appended + TOTAL // 8, 30)
                await trio.to_thread.run_sync(server.kill)
                await trio.sleep(0.3)
                await trio.to_thread.run_sync(server.start)
    assert stream.delivery.board.sink.connects == 4


async def test_a_frozen_server_is_noticed_and_flows_again(stream: Stream) -> None:
    """SIGSTOP: noticed within three seconds, flowing within ten of its end."""
    server = stream.server
    async with flowing(stream, server.url):
        server.signal(signal.SIGSTOP)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.flow, round(FROZEN * PACE), PACE)
            await stream.noticed(0, 3)
            await trio.sleep(FROZEN - 2)
            server.signal(signal.SIGCONT)
            frozen = stream.delivery.board.sink.acknowledged
            await stream.acknowledged(frozen + 1_000, 10)


async def _hole(relay: Relay) -> None:
    relay.hold()


async def _reset(relay: Relay) -> None:
    relay.reset()


async def _stall(relay: Relay) -> None:
    """Now and then a little gets through."""
    relay.hold()
    for _ in range(20):
        await trio.sleep(0.1)
        relay.go_on()
        await trio.sleep(0.002)
        relay.hold()


@pytest.mark.parametrize("fault", [_hole, _stall, _reset], ids=["hole", "stall", "reset"])
async def test_a_broken_way_loses_doubles_and_reorders_nothing(
    fault: Callable[[Relay], Awaitable[None]], stream: Stream
) -> None:
    """Whatever was on its way, and whichever acknowledgement was lost with it."""
    stream.delivery.config = NatsConfig(stream=StreamConfig(duplicate_window=30))
    async with (
        relaying(stream.server.port) as relay,
        flowing(stream, f"nats://127.0.0.1:{relay.port}"),
    ):
        for _ in range(form(2, 6)):
            before = stream.delivery.board.sink.acknowledged
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stream.flow, 3 * PACE, PACE)
                await stream.acknowledged(before + PACE // 2, 10)
                await fault(relay)
                await trio.sleep(1)
                if relay.held:
                    # What hung in the dead connections does not come late: they are gone.
                    relay.reset()
                    relay.go_on()
            await stream.acknowledged(stream.appended, 20)
