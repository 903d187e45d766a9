"""A made-up USD-M exchange: its books, its frames, and one instrument's lines to it."""

import json
import random
from collections.abc import Sequence
from typing import Any

import attrs
from consumer import Consumer
from depth import Chain, Truth
from hand_played import HandPlayed

from marketprism.clock import Timestamp
from marketprism.feeds.actions import Fetch, Output, Send
from marketprism.feeds.binance import BinanceDerivatives
from marketprism.feeds.venue import Session, Shard
from marketprism.instruments import Instrument
from marketprism.records import DataType
from marketprism.settings.exchanges import Api, VenueConfig
from marketprism.streams.cursor import Cursor
from marketprism.streams.state import Phase
from marketprism.streams.subscription import Stream, Subscription
from marketprism.wire import encode

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND
BTC = Instrument("binance", "perpetual", "BTC-USDT", "BTCUSDT", "BTC", "USDT")
STREAMED = (DataType.ORDERBOOK, DataType.TRADE, DataType.FUNDING_RATE, DataType.LIQUIDATION)
CONFIG = VenueConfig(
    "binance_derivatives",
    Api("http://rest.test", "ws://stream.test"),
    ("BTC-USDT",),
    tuple(BinanceDerivatives.offers),
)


def moment(seconds: float) -> Timestamp:
    """So many seconds into the test, on both clocks."""
    return Timestamp(START + round(seconds * SECOND), round(seconds * SECOND))


@attrs.define
class FuturesChain:
    """A chain as USD-M sends it: ids skip, and each update names the one before."""

    updates: list[dict[str, Any]]
    truths: list[Truth]

    @classmethod
    def made(cls, seed: int, length: int) -> "FuturesChain":
        spot, dice = Chain.made(seed, length), random.Random(seed)
        last = 1_000
        truths = [attrs.evolve(spot.truths[0], last_id=last)]
        updates = []
        for update, truth in zip(spot.updates, spot.truths[1:], strict=True):
            first = last + dice.randint(1, 5)
            ended = first + dice.randint(0, 9)
            sent = update["E"]
            updates.append(
                update
                | {"U": first, "u": ended, "pu": last, "T": sent - 3, "st": 1, "ps": "BTCUSDT"}
            )
            last = ended
            truths.append(attrs.evolve(truth, last_id=last))
        return cls(updates, truths)

    def frame(self, number: int) -> bytes:
        """The update's text."""
        return json.dumps(self.updates[number]).encode()

    def snapshot(self, number: int, into: int = 0) -> bytes:
        """What REST answers before the update of that number; or, so many changes of a side into
        it, from the middle of it.
        """
        truth = self.truths[number]
        bids, asks, last_id = dict(truth.bids), dict(truth.asks), truth.last_id
        sent = 1_700_000_000_000 + number * 100 - 60
        if into and number < len(self.updates):
            update = self.updates[number]
            last_id = min(update["U"] + into - 1, update["u"])
            whole = last_id == update["u"]
            part = None if whole else into
            sent = update["T"] if whole else sent
            for side, changes in ((bids, update["b"]), (asks, update["a"])):
                for price, quantity in changes[:part]:
                    if float(quantity):
                        side[price] = quantity
                    else:
                        side.pop(price, None)
        body = {
            "lastUpdateId": last_id,
            "E": sent + 5,
            "T": sent,
            "bids": sorted(bids.items(), key=lambda x: -float(x[0])),
            "asks": sorted(asks.items(), key=lambda x: float(x[0])),
        }
        return json.dumps(body).encode()


@attrs.define
class Line(HandPlayed):
    """A session of one route, the exchange's end of it, and the consumer of what it publishes."""

    route: str = "market"
    config: VenueConfig = CONFIG
    cursors: dict[Stream, Cursor] = attrs.field(factory=dict)
    consumer: Consumer = attrs.field(factory=Consumer)
    seconds: float = 0.0
    outputs: list[Output] = attrs.field(factory=list)
    fetches: list[Fetch] = attrs.field(factory=list)
    payloads: list[bytes] = attrs.field(factory=list)
    metadata: Sequence[bytes] = (b'{"symbols":[]}', b"[]")
    """`exchangeInfo` and `fundingInfo`: none deviates from the usual."""
    shard: Shard = attrs.field(init=False)
    session: Session = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.connect()

    def connect(self) -> Output:
        """Dial (again): subscribe, and confirm all that is asked for; the confirmations' turn."""
        venue = BinanceDerivatives(self.config)
        venue.instruments(self.metadata)
        shards = venue.plan([Subscription(data_type, BTC) for data_type in STREAMED])
        (self.shard,) = (shard for shard in shards if f"/{self.route}/" in shard.id)
        for subscription in self.shard.subscriptions:
            self.cursors.setdefault(subscription.stream, Cursor())
        self.fetches.clear()
        self.session = self.shard.open(self.cursors)
        turn = self.did(self.session.opening(self.now))
        said = [step for step in turn.actions if isinstance(step, Send)]
        said += [fetch.before for fetch in self.fetches if fetch.before is not None]
        numbers = [json.loads(send.payload)["id"] for send in said]
        return self.hear(*(b'{"result":null,"id":%d}' % number for number in numbers))

    def cut(self) -> None:
        """The connection is lost."""
        for cursor in self.cursors.values():
            cursor.lose("disconnect", "of a test")

    @property
    def now(self) -> Timestamp:
        return moment(self.seconds)

    @property
    def live(self) -> bool:
        """The book is in step."""
        return self.session.streams[DataType.ORDERBOOK, "BTCUSDT"].phase is Phase.LIVE

    def did(self, turn: Output) -> Output:
        self.outputs.append(turn)
        self.fetches += [step for step in turn.actions if isinstance(step, Fetch)]
        for record in turn.records:
            self.payloads.append(encode(record).payload)
            self.consumer.take(self.payloads[-1])
        return turn

    def synchronise(self, chain: FuturesChain, number: int = 0, into: int = 0) -> None:
        """Answer until the book lives: with the exchange's book before the update `number`."""
        for _ in range(20):
            if self.live:
                return
            asked = len(self.fetches)
            self.answer(chain.snapshot(number, into))
            if not self.live:
                self.wait(40)
                assert len(self.fetches) > asked, "a retry is due"
        raise AssertionError("the book never lived")


def said(**fields: Any) -> bytes:
    """An event's frame."""
    return json.dumps(fields).encode()


def trade(number: int, **changes: Any) -> bytes:
    """An aggregate trade's frame."""
    fields = {
        "e": "aggTrade",
        "E": 1_700_000_000_000 + number,
        "s": "BTCUSDT",
        "a": number,
        "p": "100.50",
        "q": "0.25",
        "nq": "0.25",
        "f": number * 2,
        "l": number * 2 + 1,
        "T": 1_700_000_000_000 + number,
        "m": True,
        "st": 1,
    }
    return said(**fields | changes)


def mark_price(second: int, **changes: Any) -> bytes:
    """A mark price's frame, of so many seconds into the test."""
    fields = {
        "e": "markPriceUpdate",
        "E": 1_700_000_000_000 + second * 1000,
        "s": "BTCUSDT",
        "p": "100.10000000",
        "i": "100.20000000",
        "P": "100.30000000",
        "r": "-0.00010000",
        "T": 1_700_006_400_000,
        "st": 1,
    }
    return said(**fields | changes)


def order(**changes: Any) -> dict[str, Any]:
    """The order of a liquidation."""
    fields = {
        "s": "BTCUSDT",
        "S": "SELL",
        "o": "LIMIT",
        "f": "IOC",
        "q": "0.014",
        "p": "99.10",
        "ap": "99.25",
        "X": "FILLED",
        "l": "0.002",
        "z": "0.013",
        "T": 1_700_000_000_123,
    }
    return fields | changes


def force_order(order: object, **changes: Any) -> dict[str, Any]:
    """A liquidation's event."""
    return {"e": "forceOrder", "E": 1_700_000_000_200, "o": order} | changes
