"""The whole system on loopback: a simulated exchange, the collector, a real NATS server."""

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Any

import attrs
import loopback
import trio
from consumer import Consumer
from nats_server import Server
from patience import PATIENCE

from marketprism.app import Collector
from marketprism.feeds import OFFERS
from marketprism.records import DataType
from marketprism.settings.exchanges import Api, Limits, OrderbookOptions, TradeOptions, VenueConfig
from marketprism.settings.nats import NatsConfig
from marketprism.settings.settings import (
    Config,
    HttpConfig,
    MetricsConfig,
    OutboxConfig,
    SpoolConfig,
)
from marketprism.settings.supervision import BackoffConfig, SupervisionConfig
from marketprism.simulator import Address, Exchange, serve


@attrs.define(eq=False)
class Rig:
    """What a test sees of the running system."""

    exchange: Exchange
    collector: Collector
    server: Server
    nursery: trio.Nursery

    async def until(self, condition: Any, seconds: float = PATIENCE) -> None:
        """Wait for a condition of the real world; there is no event to wait for."""
        with trio.fail_after(seconds):
            while not condition():  # noqa: ASYNC110 (other processes and sockets tell no event)
                await trio.sleep(0.02)

    async def settled(self) -> None:
        """All that was read is acknowledged, and every book lives."""
        board = self.collector.board
        await self.until(
            lambda: (
                board.channel.held + board.outbox.held == 0
                and all(
                    row.state == "live"
                    for row in board.streams.values()
                    if row.data_type is DataType.ORDERBOOK
                )
            )
        )

    async def drained(self) -> None:
        """The exchange has said all it has to say, and it is read: nothing came for a while."""
        board, frames = self.collector.board, -1
        while True:
            before, frames = frames, sum(row.frames for row in board.connections.values())
            if before == frames:
                return
            await trio.sleep(0.4)

    async def consumed(self) -> Consumer:
        """What an independent consumer makes of the stream."""
        consumer = Consumer()
        for payload in await self.server.stored():
            consumer.take(payload)
        return consumer

    async def get(self, path: str) -> tuple[int, dict[str, Any]]:
        """A page of the health server."""
        port = self.collector.ports["health"]
        async with loopback.client() as client:
            answer = await client.get(f"http://127.0.0.1:{port}{path}")
        return answer.status_code, answer.json()

    async def stop(self, seconds: float = PATIENCE) -> None:
        """Stop in order, and wait for it."""
        self.collector.stopping.set()
        with trio.fail_after(seconds):
            await self.collector.ended.wait()


def configured(
    address: Address,
    server: Server,
    symbols: tuple[str, ...],
    *,
    venue: str = "binance_spot",
    depth: int = 5000,
    snapshot_interval: float = 0,
    kind: str = "aggregated",
    data_types: Collection[DataType] = tuple(DataType),
    limits: Mapping[str, Any] | None = None,
    outbox: OutboxConfig | None = None,
) -> Config:
    """A configuration of one venue on loopback, on free ports."""
    settings = VenueConfig(
        venue,
        Api(address.base_url, address.ws_url),
        symbols,
        tuple(each for each in DataType if each in OFFERS[venue] and each in data_types),
        trade=TradeOptions("raw" if kind == "raw" else "aggregated"),
        orderbook=OrderbookOptions(depth=depth, snapshot_interval=snapshot_interval),
        limits=Limits(**(limits or {})),
    )
    return Config(
        {venue: settings},
        nats=NatsConfig((server.url,)),
        outbox=outbox or OutboxConfig(spool=SpoolConfig(enabled=False)),
        http=HttpConfig(port=0),
        metrics=MetricsConfig(port=0),
        supervision=SupervisionConfig(BackoffConfig(first=0.2, cap=1.0)),
    )


@asynccontextmanager
async def running(
    exchange: Exchange, server: Server, symbols: tuple[str, ...], **options: Any
) -> AsyncIterator[Rig]:
    """The system, up to date with nothing; everything of it ends with the context."""
    async with trio.open_nursery() as nursery:
        address = await nursery.start(serve, exchange)
        collector = Collector(
            configured(address, server, symbols, **options), tls=loopback.untrusting
        )
        nursery.start_soon(collector.run)
        await collector.started.wait()
        yield Rig(exchange, collector, server, nursery)
        nursery.cancel_scope.cancel()
