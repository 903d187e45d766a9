"""OKX played by hand: a made-up book with its chain of updates, and the far end of a line."""

import json
import random
from collections.abc import Callable
from typing import Any

import attrs
from consumer import Consumer
from depth import Side, Truth
from hand_played import HandPlayed

from marketprism.clock import Timestamp
from marketprism.feeds.actions import Fetch, Output, Send
from marketprism.feeds.okx import OkxDerivatives, OkxSpot
from marketprism.feeds.venue import Session
from marketprism.instruments import Instrument
from marketprism.records import DataType
from marketprism.settings.exchanges import Api, Limits, VenueConfig
from marketprism.streams.cursor import Cursor
from marketprism.streams.state import Phase
from marketprism.streams.subscription import Stream, Subscription
from marketprism.wire import encode

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND
BTC = Instrument("okx", "spot", "BTC-USDT", "BTC-USDT", "BTC", "USDT")
SWAP = Instrument(
    "okx", "perpetual", "BTC-USDT", "BTC-USDT-SWAP", "BTC", "USDT", contract_size="0.01"
)
INVERSE = Instrument(
    "okx", "perpetual", "BTC-USD", "BTC-USD-SWAP", "BTC", "USD", contract_size="100", inverse=True
)
SPOT_CONFIG = VenueConfig(
    "okx_spot",
    Api("http://rest.test", "ws://stream.test"),
    ("BTC-USDT",),
    (DataType.ORDERBOOK, DataType.TRADE),
    limits=Limits(heartbeat=20.0),
)
SWAP_CONFIG = attrs.evolve(
    SPOT_CONFIG, name="okx_derivatives", data_types=tuple(OkxDerivatives.offers)
)


def moment(seconds: float) -> Timestamp:
    """So many seconds into the test, on both clocks."""
    return Timestamp(START + round(seconds * SECOND), round(seconds * SECOND))


def push(channel: str, subject: str, *elements: object, action: str | None = None) -> bytes:
    """A push of a channel."""
    key = "instType" if channel == "liquidation-orders" else "instId"
    fields: dict[str, object] = {"arg": {"channel": channel, key: subject}}
    if action is not None:
        fields["action"] = action
    return json.dumps({**fields, "data": elements}).encode()


@attrs.define
class OkxChain:
    """Updates as OKX sends them, with numbers that jump, and snapshots of any moment."""

    native_id: str
    updates: list[dict[str, Any]]
    truths: list[Truth]
    """`truths[n]` is before `updates[n]`; one more than updates."""

    @classmethod
    def made(
        cls, seed: int, length: int, native_id: str = "BTC-USDT", first: int = 1000
    ) -> "OkxChain":
        dice = random.Random(seed)
        bids = {f"{100 - n}.5": f"{dice.randint(1, 9)}" for n in range(5)}
        asks = {f"{101 + n}.5": f"{dice.randint(1, 9)}" for n in range(5)}
        last, updates = first, []
        truths = [Truth(last, dict(bids), dict(asks))]
        for number in range(length):
            before, last = last, last + dice.randint(1, 40)
            changes: dict[str, list[list[str]]] = {"bids": [], "asks": []}
            for key, side, base in (("bids", bids, 96), ("asks", asks, 101)):
                for _ in range(dice.randint(0, 3)):
                    price, size = f"{base + dice.randint(0, 4)}.5", f"{dice.randint(0, 9)}"
                    changes[key].append([price, size, "0", "1"])
                    if size == "0":
                        side.pop(price, None)
                    else:
                        side[price] = size
            time = str(START // 1_000_000 + number * 100)
            updates.append(
                {**changes, "ts": time, "checksum": 0, "prevSeqId": before, "seqId": last}
            )
            truths.append(Truth(last, dict(bids), dict(asks)))
        return cls(native_id, updates, truths)

    def frame(self, number: int, **changes: object) -> bytes:
        """The update's push."""
        return push("books", self.native_id, self.updates[number] | changes, action="update")

    def picture(self, number: int, **changes: object) -> dict[str, object]:
        """The book before the update of that number."""
        truth = self.truths[number]

        def levels(side: Side, sign: int) -> list[list[str]]:
            prices = sorted(side, key=lambda price: sign * float(price))
            return [[price, side[price], "0", "1"] for price in prices]

        return {
            "asks": levels(truth.asks, 1),
            "bids": levels(truth.bids, -1),
            "ts": str(START // 1_000_000 + (number - 1) * 100),
            "checksum": 0,
            "prevSeqId": -1,
            "seqId": truth.last_id,
        } | changes

    def snapshot(self, number: int, **changes: object) -> bytes:
        """The same as a push."""
        return push("books", self.native_id, self.picture(number, **changes), action="snapshot")

    def body(self, number: int, **changes: object) -> bytes:
        """The same as REST has it."""
        return json.dumps(
            {"code": "0", "msg": "", "data": [self.picture(number, **changes)]}
        ).encode()


@attrs.define
class OkxLine(HandPlayed):
    """A session, the exchange's end of its line, and the consumer of what it publishes."""

    config: VenueConfig = SPOT_CONFIG
    instruments: list[Instrument] = attrs.field(factory=lambda: [BTC])
    cursors: dict[Stream, Cursor] = attrs.field(factory=dict)
    consumer: Consumer = attrs.field(factory=Consumer)
    snapshots: Callable[[str], bytes | None] = lambda native_id: None
    """What follows the acknowledgement of a book."""
    elder: Session | None = None
    """Of the connection that this one takes over from."""
    refuses: str | None = None
    """A channel that cannot be had any more."""
    seconds: float = 0.0
    outputs: list[Output] = attrs.field(factory=list)
    fetches: list[Fetch] = attrs.field(factory=list)
    said: list[dict[str, Any]] = attrs.field(factory=list)
    """The commands sent, `ping` left out."""
    pings: int = 0
    session: Session = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.connect()

    def connect(self) -> Output:
        """Dial (again); all that is asked for is acknowledged."""
        kind = OkxSpot if self.config.name == "okx_spot" else OkxDerivatives
        subscriptions = [
            Subscription(data, one) for one in self.instruments for data in self.config.data_types
        ]
        (shard,) = kind(self.config).plan(subscriptions)
        for subscription in shard.subscriptions:
            self.cursors.setdefault(subscription.stream, Cursor())
        self.fetches.clear()
        self.session = shard.open(self.cursors)
        if self.elder is not None:
            self.session.take_over(self.elder)
        return self.did(self.session.opening(self.now))

    def cut(self) -> None:
        """The connection is lost."""
        for cursor in self.cursors.values():
            cursor.lose("disconnect", "of a test")

    @property
    def now(self) -> Timestamp:
        return moment(self.seconds)

    def did(self, turn: Output) -> Output:
        """Note what a turn asks for, and do it as the exchange would."""
        self.outputs.append(turn)
        self.fetches += [step for step in turn.actions if isinstance(step, Fetch)]
        for record in turn.records:
            if record.data_type in ("orderbook", "gap"):
                self.consumer.take(encode(record).payload)
        self.leave(turn)
        for step in turn.actions:
            if isinstance(step, Send):
                self.obey(step.payload)
        return turn

    def obey(self, payload: str) -> None:
        """Answer a command."""
        if payload == "ping":
            self.pings += 1
            self.hear(b"pong")
            return
        command = json.loads(payload)
        self.said.append(command)
        for arg in command["args"]:
            event = {"event": command["op"], "arg": arg, "connId": "a4d3ae55"}
            if arg["channel"] == self.refuses:
                event |= {"event": "error", "code": "60018", "msg": "doesn't exist"}
            self.hear(json.dumps(event).encode())
            if arg["channel"] == "books" and command["op"] == "subscribe":
                picture = self.snapshots(arg["instId"])
                if picture is not None:
                    self.hear(picture)

    def synchronise(self, native_id: str = "BTC-USDT") -> None:
        """Wait until the book lives."""
        for _ in range(400):
            if self.session.streams[DataType.ORDERBOOK, native_id].phase is Phase.LIVE:
                return
            self.wait(0.25)
        raise AssertionError("the book never lived")
