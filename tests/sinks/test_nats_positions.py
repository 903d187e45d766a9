"""Where streams stood, read from a real server's stream."""

import random
from typing import Any

import trio

from marketprism.clock import Timestamp
from marketprism.feeds import capability
from marketprism.instruments import Instrument
from marketprism.records import DataType, Trade
from marketprism.resume.positions import Positions
from marketprism.sinks.nats import NatsSink
from marketprism.streams.recent_ids import LEAST
from marketprism.streams.subscription import Subscription
from marketprism.wire import encode

SECOND = 1_000_000_000
COUNTED = Subscription(DataType.TRADE, Instrument("binance", "spot", "BTC-USDT", "BTCUSDT"))
BUSY, RARE, ONCE, NEVER = (
    Subscription(DataType.TRADE, Instrument("okx", "spot", f"{name}-USDT", f"{name}-USDT"))
    for name in ("BUSY", "RARE", "ONCE", "NEVER")
)


def trade(subscription: Subscription, number: int, at: int) -> Trade:
    """A trade of so many seconds into the test."""
    kind: Any = "raw" if subscription is COUNTED else "aggregated"
    time = at * SECOND
    return Trade(subscription.instrument, time, time, str(number), "1", "1", "buy", trade_kind=kind)


async def test_the_last_trades_are_read_where_ids_come_in_no_order(
    server: Any, delivery: Any
) -> None:
    """As many as tell what is new, however rare they are in the stream; of others the last one."""
    dice = random.Random(7)
    told: dict[Subscription, list[int]] = {
        subscription: [] for subscription in (COUNTED, BUSY, RARE, ONCE, NEVER)
    }
    for at in range(5_000):
        subscriptions = [COUNTED, BUSY] + [RARE] * (at % 400 == 7) + [ONCE] * (at == 100)
        for subscription in subscriptions:
            number = (
                len(told[subscription]) if subscription is COUNTED else 10 * at + dice.randrange(30)
            )
            told[subscription].append(number)
            delivery.outbox.append([encode(trade(subscription, number, at))])
    delivery.outbox.close()
    await NatsSink(delivery.config, [server.url], delivery.board).run(delivery.outbox)
    again = type(delivery)()

    async def recovered() -> dict[str, Any]:
        await trio.lowlevel.checkpoint()
        return {}

    positions = Positions(
        10.0, lambda: Timestamp(10_000 * SECOND, 0), again.board, recovered, capability
    )
    sink = NatsSink(again.config, [server.url], again.board, positions)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sink.run, again.outbox)
        await positions.read(list(told))
        nursery.cancel_scope.cancel()
    for subscription in (BUSY, RARE, ONCE):
        cursor = positions.cursor(subscription)
        assert cursor.recent is not None
        # The stream takes no id twice within its window.
        published = list(dict.fromkeys(told[subscription]))
        assert list(cursor.recent) == published[-LEAST:]
        assert cursor.last_id == published[-1]
    counted = positions.cursor(COUNTED)
    assert (counted.last_id, counted.recent) == (4_999, None)
    assert positions.cursor(NEVER).received is None
