"""An exchange that writes each price as it pleases (`100.5`, `100.50`), a session that keeps its
book over losses, cuts and rotations, and a consumer that knows prices by their text.
"""

import json
import random
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import attrs
import pit as market
from audited import ID_STEP, NATIVE
from pit import Pit, Sides, Told

from marketprism.clock import Timestamp
from marketprism.feeds import VENUES
from marketprism.feeds.actions import Fetch, Fetched, Output, Send
from marketprism.feeds.venue import Session
from marketprism.instruments import Instrument
from marketprism.records import DataType, Gap, OrderBookRecord, Record
from marketprism.settings.exchanges import Api, OrderbookOptions, VenueConfig
from marketprism.streams.cursor import Cursor
from marketprism.streams.subscription import Subscription

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND
STEP = 0.25
"""Seconds between two ticks."""
WAYS = (".1f", ".2f", ".3f", "g")
"""With so many decimals; without a zero at the end."""


@attrs.define
class Reader:
    """A consumer: by text, as JSON hands it out."""

    bids: dict[str, str] = attrs.field(factory=dict)
    asks: dict[str, str] = attrs.field(factory=dict)
    worst: tuple[Decimal, Decimal] | None = None
    """Between these its book is exact; None: a gap says that it is not."""

    def take(self, record: OrderBookRecord) -> None:
        if record.update_type == "snapshot":
            self.bids, self.asks = dict(record.bids), dict(record.asks)  # type: ignore[arg-type]
            ends = (list(self.bids)[-1], list(self.asks)[-1])
            self.worst = (Decimal(ends[0]), Decimal(ends[1]))
            return
        for side, levels in ((self.bids, record.bids), (self.asks, record.asks)):
            for price, quantity in levels:
                side[price] = quantity
                if not Decimal(quantity):
                    del side[price]

    def wrong(self, truth: Sides, unit: Decimal) -> str | None:
        """How its book differs from that of the exchange; None where it does not."""
        if self.worst is None:
            return None
        found = []
        for side, true, worst, sign in (
            (self.bids, truth[0], self.worst[0], 1),
            (self.asks, truth[1], self.worst[1], -1),
        ):
            levels = ((Decimal(price), Decimal(quantity)) for price, quantity in side.items())
            exact = ((Decimal(price) / 10, quantity * unit) for price, quantity in true.items())
            ours, theirs = (
                sorted(level for level in each if sign * level[0] >= sign * worst)
                for each in (levels, exact)
            )
            if ours != theirs:
                found.append(f"{set(ours) ^ set(theirs) or ours}")
        return "; ".join(found) or None


@attrs.define(slots=False)
class Exchange:
    """One book of one venue, and what reads it."""

    venue: str
    seed: int
    options: OrderbookOptions
    ways: Sequence[str] = WAYS
    """Of which each price is written in one by chance."""
    window: int | None = None
    drift: float = 0.15
    pictures: bool = True
    """Of OKX: a snapshot follows a subscription."""
    seconds: float = 0.0
    faults: list[str] = attrs.field(factory=list)
    records: list[Record] = attrs.field(factory=list)
    reader: Reader = attrs.field(factory=Reader)
    cursor: Cursor = attrs.field(factory=Cursor)
    elder: Session | None = None
    """While another connection takes over from it."""

    def __attrs_post_init__(self) -> None:
        self.dice = random.Random(self.seed)
        self.pit = Pit(self.seed, 40, self.drift, ID_STEP[self.venue], self.window)
        contract = "0.01" if self.venue == "okx_derivatives" else None
        self.unit = Decimal(contract or 1)
        self.kind = VENUES[self.venue](
            VenueConfig(
                self.venue,
                Api("http://rest.test", "ws://stream.test"),
                ("*",),
                (DataType.ORDERBOOK,),
                orderbook=self.options,
            )
        )
        self.native = NATIVE[self.venue]
        instrument = Instrument(
            self.kind.exchange,
            self.kind.market_type,
            "BTC-USDT",
            self.native,
            contract_size=contract,
        )
        self.subscription = Subscription(DataType.ORDERBOOK, instrument)
        self.asked: list[tuple[Session, Fetch, int]] = []
        self.session = self.dialled()

    @property
    def now(self) -> Timestamp:
        passed = round(self.seconds * SECOND)
        return Timestamp(START + passed, passed)

    def dialled(self, elder: Session | None = None) -> Session:
        """A new connection, whose commands are answered at once."""
        (shard,) = self.kind.plan([self.subscription])
        session = shard.open({self.subscription.stream: self.cursor})
        if elder is not None:
            session.take_over(elder)
        self.did(session, session.opening(self.now))
        return session

    # What happens.

    def happen(self, changes: int, *, heard: bool = True) -> None:
        """Something changes, and an update says so; perhaps nobody hears it."""
        for _ in range(changes):
            self.pit.change()
        told = self.pit.tell()
        if told is not None and heard:
            for session in filter(None, (self.elder, self.session)):
                self.hear(session, self.update(told))

    def mislead(self, price: int) -> None:
        """Something changes at a price, and the update says something else; nothing happens there
        any more.
        """
        self.pit.put(price < self.pit.middle, price, 77)
        self.pit.frozen = price
        told = self.pit.tell()
        assert told is not None
        bids, asks = ({p: q + (p == price) for p, q in side.items()} for side in told.sides)
        self.hear(self.session, self.update(attrs.evolve(told, sides=(bids, asks))))

    def wait(self, seconds: float) -> None:
        """Let time pass, and the exchange answer what it was asked."""
        for _ in range(round(seconds / STEP)):
            self.seconds += STEP
            for session in filter(None, (self.elder, self.session)):
                self.did(session, session.tick(self.now))
            self.serve()

    def serve(self) -> None:
        """Answer all requests, of whatever moment the book is."""
        asked, self.asked = self.asked, []
        for session, fetch, at in asked:
            limit = int(fetch.url.rpartition("=")[2])
            ident, sides = self.pit.snapshot(limit)
            body = self.snapshot(ident, sides)
            self.did(session, session.reply(fetch.tag, Fetched(body, at), self.now))

    def cut(self) -> None:
        """The connection is lost, and the next one stands."""
        self.cursor.lose("disconnect", "of a test")
        self.asked.clear()
        self.session = self.dialled()

    def rotate(self) -> None:
        """Another connection is to take over."""
        self.elder, self.session = self.session, self.dialled(self.session)

    def end(self) -> None:
        """The elder connection ends."""
        self.elder = None
        self.asked = [each for each in self.asked if each[0] is self.session]
        self.did(self.session, self.session.old_gone(self.now))

    # In the exchange's words.

    def update(self, told: Told) -> bytes:
        words = {
            "binance_spot": market.spot_update,
            "binance_derivatives": market.futures_update,
        }.get(self.venue) or market.okx_push(self.native)
        return self.respelt(words(told))

    def snapshot(self, ident: int, sides: Sides) -> bytes:
        words = market.okx_snapshot if self.venue.startswith("okx") else market.binance_snapshot
        return self.respelt(words(ident, sides))

    def respelt(self, text: bytes) -> bytes:
        """The same, its prices in other digits."""
        body = json.loads(text)
        for holder in (body, *body.get("data", ())):
            for name in ("b", "a", "bids", "asks"):
                for level in holder.get(name, ()):
                    level[0] = self.written(round(Decimal(level[0]) * 10))
        return json.dumps(body).encode()

    def written(self, price: int) -> str:
        way = self.dice.choice(self.ways)
        return f"{price / 10:.6g}" if way == "g" else f"{price / 10:{way}}"

    # What comes of it.

    def hear(self, session: Session, *frames: bytes) -> None:
        self.did(session, session.receive(frames, self.now))

    def did(self, session: Session, turn: Output) -> None:
        self.records += turn.records
        for record in turn.records:
            if isinstance(record, Gap):
                self.reader.worst = None
                continue
            assert isinstance(record, OrderBookRecord)
            self.reader.take(record)
            wrong = self.reader.wrong(self.pit.truths[record.last_update_id], self.unit)
            if wrong is not None:
                self.faults.append(f"{record.update_type} {record.last_update_id}: {wrong}")
        for step in turn.actions:
            if isinstance(step, Send):
                self.obey(session, json.loads(step.payload))
            elif isinstance(step, Fetch):
                if step.before is not None:
                    self.obey(session, json.loads(step.before.payload))
                self.asked.append((session, step, self.now.monotonic + 1))

    def obey(self, session: Session, command: dict[str, Any]) -> None:
        if "args" not in command:
            self.hear(session, json.dumps({"result": None, "id": command["id"]}).encode())
            return
        for arg in command["args"]:
            self.hear(session, json.dumps({"event": command["op"], "arg": arg}).encode())
            if command["op"] == "subscribe" and self.pictures:
                picture = market.okx_picture(self.native, self.pit.told_id, self.pit.told)
                self.hear(session, self.respelt(picture))

    @property
    def gaps(self) -> Sequence[Gap]:
        return [record for record in self.records if isinstance(record, Gap)]
