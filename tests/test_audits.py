"""Audits over real sockets: the simulated exchange, the collector, a real NATS server."""

from decimal import Decimal
from functools import cached_property

import attrs
import pytest
import structlog
import trio
from consumer import Consumer
from forms import some
from loopback import untrusting
from nats_server import Server
from rig import Rig, configured

from marketprism import simulator
from marketprism.app import Collector
from marketprism.records import DataType
from marketprism.simulator import Exchange
from marketprism.simulator.events import Message, Update
from marketprism.simulator.live import Live

pytestmark = pytest.mark.once

VENUES = {
    "binance_spot": "BTCUSDT",
    "binance_derivatives": "BTCUSDT",
    "okx_spot": "BTC-USDT",
    "okx_derivatives": "BTC-USDT-SWAP",
}
NAMES = {
    "BTCUSDT": ("BTC-USDT",),
    "ETHUSDT": ("ETH-USDT",),
    "BTC-USDT": ("BTC-USDT",),
    "ETH-USDT": ("ETH-USDT",),
    "BTC-USDT-SWAP": ("BTC-USDT",),
    "ETH-USDT-SWAP": ("ETH-USDT",),
    "BTC-USD-SWAP": (),
}
UNITS = {"BTC-USDT-SWAP": Decimal("0.01"), "ETH-USDT-SWAP": Decimal("0.1")}
"""What a contract is worth."""
Sides = tuple[dict[str, Decimal], dict[str, Decimal]]
QUICK = 0.3
"""Seconds between two audits of a book."""


async def begun(nursery: trio.Nursery, exchange: Exchange, server: Server, venue: str) -> Rig:
    """The system, with audits at every turn."""
    address = await nursery.start(simulator.serve, exchange)
    config = configured(
        address,
        server,
        ("BTC-USDT", "ETH-USDT"),
        venue=venue,
        depth=400,
        snapshot_interval=2,
        data_types=[DataType.ORDERBOOK],
        limits={"rest_weight": 1_000_000},
    )
    settings = config.exchanges[venue]
    orderbook = attrs.evolve(settings.orderbook, audit_interval=QUICK)
    settings = attrs.evolve(settings, orderbook=orderbook)
    collector = Collector(attrs.evolve(config, exchanges={venue: settings}), tls=untrusting)
    nursery.start_soon(collector.run)
    await collector.started.wait()
    return Rig(exchange, collector, server, nursery)


def outcomes(rig: Rig) -> dict[str, int]:
    """Of all books together."""
    found: dict[str, int] = {}
    for row in rig.collector.board.stream_rows():
        for outcome, times in row.audits.items():
            found[str(outcome)] = found.get(str(outcome), 0) + times
    return found


class Remembering(Exchange):
    """An exchange that knows what it said of its books, whatever went over the wire."""

    @classmethod
    def of(cls, exchange: Exchange) -> "Remembering":
        """The same one."""
        return cls(exchange.skin, exchange.source)

    async def publish(self, message: Message) -> None:
        """Remember, and send."""
        if message.update is not None:
            self.said.setdefault(message.symbol, []).append(message.update)
        await super().publish(message)

    @cached_property
    def said(self) -> dict[str, list[Update]]:
        """The updates, by symbol."""
        return {}

    def book(self, symbol: str, last_id: int) -> Sides:
        """The book as of that update."""
        assert isinstance(self.source, Live)
        first = self.source._market.first_snapshot(symbol)
        bids, asks = dict(first.bids), dict(first.asks)
        for update in self.said[symbol]:
            if update.last_id <= last_id:
                for side, levels in ((bids, update.bids), (asks, update.asks)):
                    side.update(levels)
        return known(bids), known(asks)


def known(side: dict[str, str], unit: Decimal = Decimal(1)) -> dict[str, Decimal]:
    """A side's levels, in base units."""
    return {price: Decimal(q) * unit for price, q in side.items() if Decimal(q)}


def differing(exchange: Remembering, consumer: Consumer, venue: str) -> list[str]:
    """The symbols whose books a consumer has otherwise than the exchange."""
    units = {} if venue != "okx_derivatives" else UNITS
    found = []
    for symbol, book in consumer.books.items():
        native = next(each for each in exchange.symbols if symbol in NAMES[each])
        assert book.last_id is not None
        bids, asks = exchange.book(native, book.last_id)
        unit = units.get(native, Decimal(1))
        ours = known(book.bids), known(book.asks)
        theirs = (
            {price: quantity * unit for price, quantity in bids.items()},
            {price: quantity * unit for price, quantity in asks.items()},
        )
        found += [symbol] if ours != theirs else []
    return found


@pytest.mark.parametrize("venue", VENUES)
async def test_a_corrupted_book_is_found_said_and_healed(venue: str, server: Server) -> None:
    """Ids chain and nothing else tells: an audit does. A gap, a snapshot, and the book is the
    exchange's again.
    """
    exchange = Remembering.of(
        simulator.market(venue, seed=11, trades_per_second=0, quotes_per_second=8)
    )
    native = VENUES[venue]
    with structlog.testing.capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            rig = await begun(nursery, exchange, server, venue)
            await rig.until(lambda: outcomes(rig).get("agreed", 0) >= 2)
            exchange.faults.corrupt(symbol=native)
            await rig.until(lambda: outcomes(rig).get("diverged"))
            before = outcomes(rig)["agreed"]
            await rig.until(lambda: outcomes(rig)["agreed"] >= before + 4)
            await rig.settled()
            _, status = await rig.get("/status")
            await rig.stop()
            nursery.cancel_scope.cancel()
    consumer: Consumer = await rig.consumed()
    assert consumer.faults == []
    (gap,) = consumer.gaps
    assert (gap["affected"], gap["reason"], gap["lost"]) == ("orderbook", "sequence", None)
    assert gap["instrument_id"] == native
    assert int(gap["first_missing_id"]) <= int(gap["last_missing_id"])
    assert gap["detail"].startswith("an audit found 1 levels that differ: ")
    assert outcomes(rig)["diverged"] == 1
    (logged,) = [each for each in logs if each["event"] == "book.diverged"]
    assert (logged["instrument"], logged["levels"], logged["log_level"]) == (native, 1, "warning")
    assert differing(exchange, consumer, venue) == []
    rows = [row for row in status["streams"] if row["instrument_id"] == native]
    assert [row["audits"]["diverged"] for row in rows] == [1]


@pytest.mark.parametrize("venue", some(VENUES, "okx_spot", "binance_derivatives"))
async def test_a_healthy_book_under_load_has_no_false_alarm(venue: str, server: Server) -> None:
    """Dozens of audits of each market while it is busy: no gap, and the books are exact."""
    exchange = Remembering.of(
        simulator.market(venue, seed=12, trades_per_second=60, quotes_per_second=300)
    )
    async with trio.open_nursery() as nursery:
        rig = await begun(nursery, exchange, server, venue)
        with trio.move_on_after(20):
            while sum(outcomes(rig).values()) < 20:  # noqa: ASYNC110 (nothing tells)
                await trio.sleep(0.1)
        found = outcomes(rig)
        # What was told when its audits were over has come a moment later.
        await rig.settled()
        await rig.stop()
        nursery.cancel_scope.cancel()
    consumer = await rig.consumed()
    assert found["agreed"] >= 15
    assert not found.get("diverged")
    assert consumer.faults == []
    assert consumer.gaps == []
    assert differing(exchange, consumer, venue) == []
