"""A session that keeps a wandering book, over lines that are late at random; and what it says of
it, held against the truth.
"""

import json
import random
import re
from decimal import Decimal
from typing import Any

import attrs
import pit as market
from pit import Pit, Sides, Told

from marketprism.clock import Timestamp
from marketprism.feeds import VENUES
from marketprism.feeds.actions import Diverged, Fetch, Fetched, FetchFailed, Output, Send
from marketprism.feeds.audit import Tag
from marketprism.feeds.venue import Session
from marketprism.instruments import Instrument
from marketprism.records import DataType, Gap, OrderBookRecord
from marketprism.settings.exchanges import Api, OrderbookOptions, VenueConfig
from marketprism.streams.cursor import Cursor
from marketprism.streams.state import StreamState
from marketprism.streams.subscription import Subscription

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND
NATIVE = {
    "binance_spot": "BTCUSDT",
    "binance_derivatives": "BTCUSDT",
    "okx_spot": "BTC-USDT",
    "okx_derivatives": "BTC-USDT-SWAP",
}
ID_STEP = {"binance_spot": 1, "binance_derivatives": 9, "okx_spot": 7, "okx_derivatives": 7}


@attrs.define(slots=False)
class Play:
    """One book of one venue."""

    venue: str
    pit: Pit
    options: OrderbookOptions
    lags: tuple[float, float, float] = (0.1, 0.2, 0.2)
    """Seconds, at most: of the stream; of a request; of its answer."""
    seconds: float = 0.0
    faults: list[str] = attrs.field(factory=list)
    """Breaches of the contract, in words."""
    snapshots: list[OrderBookRecord] = attrs.field(factory=list)
    gaps: list[Gap] = attrs.field(factory=list)
    diverged: list[Diverged] = attrs.field(factory=list)
    asked: list[tuple[float, Fetch]] = attrs.field(factory=list)
    corrupt_next: bool = False
    corrupted: Told | None = None
    corrupted_at: int = 0
    failing: bool = False
    """REST answers nothing but 500."""

    def __attrs_post_init__(self) -> None:
        self.dice = random.Random(self.pit.seed)
        self.native = NATIVE[self.venue]
        contract = "0.01" if self.venue == "okx_derivatives" else None
        self.unit = Decimal(contract or 1)
        venue = VENUES[self.venue](
            VenueConfig(
                self.venue,
                Api("http://rest.test", "ws://stream.test"),
                ("*",),
                (DataType.ORDERBOOK,),
                orderbook=self.options,
            )
        )
        instrument = Instrument(
            venue.exchange, venue.market_type, "BTC-USDT", self.native, "BTC", "USDT", contract
        )
        subscription = Subscription(DataType.ORDERBOOK, instrument)
        (shard,) = venue.plan([subscription])
        self.cursor = Cursor()
        self.session: Session = shard.open({subscription.stream: self.cursor})
        self.state: StreamState = self.session.streams[subscription.stream]
        self._frames: list[tuple[float, bytes, Told | None]] = []
        self._requests: list[tuple[float, float, Fetch]] = []
        self._answers: list[tuple[float, float, Fetch, bytes]] = []
        self._beat = 0
        self.bids: dict[str, str] = {}
        self.asks: dict[str, str] = {}
        self.worst: tuple[float, float] | None = None
        self.did(self.session.opening(self.now))

    @property
    def now(self) -> Timestamp:
        passed = round(self.seconds * SECOND)
        return Timestamp(START + passed, passed)

    def run(self, seconds: float, changes: int = 4) -> None:
        """Let so much time pass, with about so many changes in 50 ms."""
        for _ in range(round(seconds / 0.05)):
            self.seconds += 0.05
            self._beat += 1
            for _ in range(self.dice.randint(0, 2 * changes)):
                self.pit.change()
                self._serve()
            if self._beat % 2 == 0 and (told := self.pit.tell()) is not None:
                self._say(told)
            self._serve()
            self._deliver()
            if self._beat % 5 == 0:
                self.did(self.session.tick(self.now))

    def did(self, turn: Output) -> None:
        """Do what it asks for, and judge what it says."""
        for record in turn.records:
            if isinstance(record, Gap):
                self.gaps.append(record)
                self.worst = None
            else:
                assert isinstance(record, OrderBookRecord)
                self._judge(record)
        for step in turn.actions:
            if isinstance(step, Diverged):
                self.diverged.append(step)
            elif isinstance(step, Send):
                self._confirm(step)
            elif isinstance(step, Fetch):
                if step.before is not None:
                    self._confirm(step.before)
                self.asked.append((self.seconds, step))
                late = self.dice.uniform(0, self.lags[1])
                self._requests.append((self.seconds + step.after_send + late, self.seconds, step))

    def audits(self) -> list[float]:
        """When an audit was asked for."""
        return [at for at, fetch in self.asked if isinstance(fetch.tag, Tag)]

    def _confirm(self, send: Send) -> None:
        said = json.loads(send.payload)
        if "args" not in said:
            self._queue(json.dumps({"result": None, "id": said["id"]}).encode(), None)
            return
        for arg in said["args"]:
            self._queue(json.dumps({"event": said["op"], "arg": arg}).encode(), None)
            if said["op"] == "subscribe":
                whole = market.okx_picture(self.native, self.pit.told_id, self.pit.told)
                self._queue(whole, None)

    def _say(self, told: Told) -> None:
        sent = told
        if self.corrupt_next and self.pit.frozen is not None:
            self.corrupt_next, self.corrupted = False, told
            number = int(self.pit.frozen in told.sides[1])
            sides = (dict(told.sides[0]), dict(told.sides[1]))
            sides[number][self.pit.frozen] += 1_000
            sent = attrs.evolve(told, sides=sides)
        words = {
            "binance_spot": market.spot_update,
            "binance_derivatives": market.futures_update,
        }.get(self.venue) or market.okx_push(self.native)
        self._queue(words(sent), told)

    def _queue(self, frame: bytes, told: Told | None) -> None:
        last = self._frames[-1][0] if self._frames else 0.0
        due = max(last, self.seconds + self.dice.uniform(0, self.lags[0]))
        self._frames.append((due, frame, told))

    def _serve(self) -> None:
        for request in [each for each in self._requests if each[0] <= self.seconds]:
            self._requests.remove(request)
            _, asked, fetch = request
            found = re.search(r"(?:limit|sz)=(\d+)", fetch.url)
            assert found is not None
            ident, sides = self.pit.snapshot(int(found[1]))
            okx = self.venue.startswith("okx")
            body = (market.okx_snapshot if okx else market.binance_snapshot)(ident, sides)
            due = self.seconds + self.dice.uniform(0, self.lags[2])
            self._answers.append((due, asked, fetch, body))

    def _deliver(self) -> None:
        while self._frames and self._frames[0][0] <= self.seconds:
            _, frame, told = self._frames.pop(0)
            if told is not None and told is self.corrupted:
                self.corrupted_at = self.now.wall
            self.did(self.session.receive([frame], self.now))
        for each in [each for each in self._answers if each[0] <= self.seconds]:
            self._answers.remove(each)
            _, asked, fetch, body = each
            answer = FetchFailed(500) if self.failing else Fetched(body, round(asked * SECOND) + 1)
            self.did(self.session.reply(fetch.tag, answer, self.now))

    def _judge(self, record: OrderBookRecord) -> None:
        if record.update_type == "snapshot":
            self.snapshots.append(record)
            self.bids = {level[0]: level[1] for level in record.bids}
            self.asks = {level[0]: level[1] for level in record.asks}
            if not self.bids or not self.asks:
                self.faults.append(f"snapshot {record.last_update_id} has an empty side")
                return
            self.worst = (float(record.bids[-1][0]), float(record.asks[-1][0]))
        else:
            for side, levels in ((self.bids, record.bids), (self.asks, record.asks)):
                for price, quantity, *_ in levels:
                    side[price] = quantity
                    if not Decimal(quantity):
                        del side[price]
        if (wrong := self.wrong(record.last_update_id)) is not None:
            self.faults.append(f"{record.update_type} {record.last_update_id}: {wrong}")

    def wrong(self, ident: int) -> Any:
        """How what was published differs from the exchange's book of that id, as far as the last
        snapshot reached; None where it does not.
        """
        if ident not in self.pit.truths or self.worst is None:
            return "the exchange never was there"
        truth: Sides = self.pit.truths[ident]
        low, high = self.worst
        ours = (
            {p: Decimal(q) for p, q in self.bids.items() if float(p) >= low},
            {p: Decimal(q) for p, q in self.asks.items() if float(p) <= high},
        )
        theirs = (
            {f"{p / 10:.1f}": q * self.unit for p, q in truth[0].items() if p / 10 >= low},
            {f"{p / 10:.1f}": q * self.unit for p, q in truth[1].items() if p / 10 <= high},
        )
        return None if ours == theirs else (ours, theirs)
