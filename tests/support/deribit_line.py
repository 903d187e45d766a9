"""Deribit played by hand: the far end of a line, and what it tells."""

import json
from typing import Any

import attrs
from hand_played import HandPlayed

from marketprism.clock import Timestamp
from marketprism.feeds.actions import Fetch, Output, Send
from marketprism.feeds.deribit import DeribitDerivatives
from marketprism.feeds.venue import Session
from marketprism.reading import decode
from marketprism.records import DataType, Gap, Record
from marketprism.settings.exchanges import Api, VenueConfig
from marketprism.streams.cursor import Cursor
from marketprism.streams.subscription import Stream, Subscription
from marketprism.wire import encode

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND
CONFIG = VenueConfig(
    "deribit_derivatives",
    Api("http://rest.test", "ws://stream.test"),
    ("BTC", "ETH"),
    (DataType.VOLATILITY_INDEX,),
)
BTC, ETH = DeribitDerivatives(CONFIG).instruments([])
STREAM: Stream = (DataType.VOLATILITY_INDEX, "btc_usd")


def moment(seconds: float) -> Timestamp:
    """So many seconds into the test, on both clocks."""
    return Timestamp(START + round(seconds * SECOND), round(seconds * SECOND))


def told(second: float, volatility: str = "47.55", index: str = "btc_usd") -> bytes:
    """A value of the index, of so many seconds into the test."""
    timestamp = 1_700_000_000_000 + round(second * 1000)
    return (
        '{"jsonrpc":"2.0","method":"subscription","params":'
        f'{{"channel":"deribit_volatility_index.{index}","data":'
        f'{{"volatility":{volatility},"timestamp":{timestamp},"index_name":"{index}"}}}}}}'
    ).encode()


def candles(first: int, last: int, step: int = 1, continuation: int | None = None) -> bytes:
    """REST's answer: candles that begin so many seconds into the test, closing at theirs."""
    rows = [
        [1_700_000_000_000 + second * 1000, 1.5, 99.5, 0.5, 40 + second / 1000]
        for second in range(first, last + 1, step)
    ]
    result = {"data": rows, "continuation": continuation}
    return json.dumps({"jsonrpc": "2.0", "id": 0, "result": result}).encode()


@attrs.define
class Line(HandPlayed):
    """A session, and the exchange's end of its line."""

    cursors: dict[Stream, Cursor] = attrs.field(factory=dict)
    elder: Session | None = None
    """Of the connection that this one takes over from."""
    seconds: float = 0.0
    fetches: list[Fetch] = attrs.field(factory=list)
    outputs: list[Output] = attrs.field(factory=list)
    records: list[Record] = attrs.field(factory=list)
    session: Session = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.connect()

    def connect(self) -> Output:
        """Dial (again), and confirm all that is asked for."""
        subscriptions = [Subscription(DataType.VOLATILITY_INDEX, one) for one in (BTC, ETH)]
        (shard,) = DeribitDerivatives(CONFIG).plan(subscriptions)
        for subscription in subscriptions:
            self.cursors.setdefault(subscription.stream, Cursor())
        self.session = shard.open(self.cursors)
        if self.elder is not None:
            self.session.take_over(self.elder)
        return self.grant(self.did(self.session.opening(self.now)))

    def grant(self, turn: Output) -> Output:
        """Do what a turn asks for."""
        for body in said(turn):
            result = body["params"].get("channels", "ok")
            self.hear(json.dumps({"jsonrpc": "2.0", "id": body["id"], "result": result}).encode())
        return turn

    def cut(self) -> None:
        """The connection is lost."""
        for cursor in self.cursors.values():
            cursor.lose("disconnect", "of a test")

    def reconnected(self, second: float) -> Output:
        """Lost, dialled again, and heard again for the first time."""
        self.cut()
        self.connect()
        self.seconds = max(self.seconds, second)
        return self.hear(told(second))

    @property
    def now(self) -> Timestamp:
        return moment(self.seconds)

    def did(self, turn: Output) -> Output:
        self.outputs.append(turn)
        self.fetches += [step for step in turn.actions if isinstance(step, Fetch)]
        for record in turn.records:
            assert decode(encode(record).payload).timestamp == record.timestamp
        self.records += turn.records
        self.leave(turn)
        return turn


def said(turn: Output) -> list[dict[str, Any]]:
    """What a turn says on the wire."""
    return [json.loads(step.payload) for step in turn.actions if isinstance(step, Send)]


def seconds(records: list[Record]) -> list[float | str]:
    """When the values were, seconds into the test; `gap` for a gap."""
    return [
        "gap" if isinstance(record, Gap) else ((record.timestamp or 0) - START) / SECOND
        for record in records
    ]
