"""A connection to the Bourse played by hand: what every exchange has in common, and little else."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
from bourse.session import BourseSession
from hand_played import HandPlayed

from marketprism.clock import SECOND, Timestamp
from marketprism.feeds.actions import Action, Fetch, Output, Send
from marketprism.instruments import Instrument
from marketprism.records import DataType, Gap, OrderBookRecord, Record
from marketprism.settings.exchanges import Api, OrderbookOptions, VenueConfig
from marketprism.streams.cursor import Cursor
from marketprism.streams.subscription import Stream, Subscription

START = 1_780_000_000 * SECOND
BTC = Instrument("bourse", "spot", "BTC-USDT", "BTC-USDT")
TRADES, BOOK = (Subscription(each, BTC) for each in (DataType.TRADE, DataType.ORDERBOOK))
CONFIG = VenueConfig(
    "bourse_spot",
    Api("https://bourse.test", "wss://bourse.test"),
    ("BTC-USDT",),
    (DataType.TRADE, DataType.ORDERBOOK),
    orderbook=OrderbookOptions(snapshot_interval=0.0, audit_interval=0.0),
)


@attrs.define(eq=False)
class Line(HandPlayed):
    """One connection, its cursors and all it did."""

    cursors: dict[Stream, Cursor]
    session: BourseSession
    seconds: float = 0.0
    fetches: list[Fetch] = attrs.field(factory=list)
    records: list[Record] = attrs.field(factory=list)
    actions: list[Action] = attrs.field(factory=list)
    said: list[dict[str, Any]] = attrs.field(factory=list)

    @property
    def now(self) -> Timestamp:
        nanoseconds = round(self.seconds * SECOND)
        return Timestamp(START + nanoseconds, nanoseconds)

    def did(self, turn: Output) -> Output:
        self.records += turn.records
        self.actions += turn.actions
        self.fetches += [step for step in turn.actions if isinstance(step, Fetch)]
        sends = [step for step in turn.actions if isinstance(step, Send)]
        self.said += [json.loads(step.payload) for step in sends]
        self.leave(turn)
        return turn

    def tell(self, **message: Any) -> Output:
        """The exchange says this."""
        return self.hear(json.dumps(message).encode())

    def grant(self) -> Output:
        """The exchange accepts the latest command."""
        return self.tell(id=self.said[-1]["id"])

    def trade(self, name: str) -> Output:
        at = self.now.wall // 1_000_000
        return self.tell(
            topic="trades:BTC-USDT", id=name, price="1.5", size="2", taker="buy", at=at
        )

    def book(self, kind: str, seq: int, prev: int = 0) -> Output:
        return self.tell(**self.levels(kind, seq, prev))

    def levels(self, kind: str, seq: int, prev: int = 0) -> dict[str, Any]:
        """A message of the topic `books`."""
        at = self.now.wall // 1_000_000
        sides = {"bids": [["1.5", str(seq)]], "asks": [["1.6", "1"]]}
        return {"topic": "books:BTC-USDT", "kind": kind, "seq": seq, "prev": prev, "at": at} | sides

    @property
    def gaps(self) -> list[Gap]:
        return [record for record in self.records if isinstance(record, Gap)]

    @property
    def books(self) -> list[tuple[str, int]]:
        """Of the book, what was published: how, and up to which number."""
        return [
            (record.update_type, record.last_update_id)
            for record in self.records
            if isinstance(record, OrderBookRecord)
        ]


def line(
    subscriptions: Sequence[Subscription], cursors: Mapping[Stream, Cursor] | None = None
) -> Line:
    """One that has just been opened."""
    own = cursors or {each.stream: Cursor() for each in subscriptions}
    begun = Line(dict(own), BourseSession(CONFIG, "bourse_spot/0", subscriptions, own))
    begun.did(begun.session.opening(begun.now))
    return begun


def following(old: Line, subscriptions: Sequence[Subscription]) -> Line:
    """The connection that is to take over from that one."""
    new = Line(old.cursors, BourseSession(CONFIG, "bourse_spot/0", subscriptions, old.cursors))
    new.seconds = old.seconds
    new.session.take_over(old.session)
    new.did(new.session.opening(new.now))
    return new
