"""Streams that can be counted, a stream server in memory, and what a reader of it finds."""

import json
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeVar

import attrs
import trio

from marketprism.instruments import Instrument
from marketprism.records import DataType, Gap, OrderBookRecord, Trade
from marketprism.sinks import Outbox
from marketprism.wire import Message, encode

BTC = Instrument("binance", "spot", "BTC-USDT", "BTCUSDT")
ETH = Instrument("binance", "spot", "ETH-USDT", "ETHUSDT")
START = 1_700_000_000_000_000_000
MILLISECOND = 1_000_000

T = TypeVar("T")


async def at_once(function: Callable[..., T], *arguments: Any) -> T:
    """In place of a thread for the disk."""
    await trio.lowlevel.checkpoint()
    return function(*arguments)


@attrs.define
class Feed:
    """Makes messages: trades of two instruments, and a book that chains."""

    ids: Counter[str] = attrs.field(factory=Counter)
    clock: int = START

    def trade(self, instrument: Instrument = BTC) -> Message:
        self.clock += MILLISECOND // 3
        self.ids[f"trade {instrument.symbol}"] += 1
        number = str(self.ids[f"trade {instrument.symbol}"])
        return encode(Trade(instrument, self.clock, self.clock, number, "50000.1", "0.01", "buy"))

    def update(self) -> Message:
        self.clock += MILLISECOND // 3
        last = self.ids["book"]
        self.ids["book"] += 1
        return encode(self._book("update", last + 1, last))

    def snapshot(self) -> Message:
        """Of the book as it is."""
        self.clock += MILLISECOND // 3
        return encode(self._book("snapshot", self.ids["book"], None))

    def resynchronised(self) -> list[Message]:
        """A gap in which an update was not seen, and the snapshot that heals it."""
        gap = self.gap(DataType.ORDERBOOK)
        self.ids["book"] += 1
        snapshot = self._book("snapshot", self.ids["book"], None)
        snapshot.heals_gap = self.clock
        return [gap, encode(snapshot)]

    def _book(self, kind: str, last: int, before: int | None) -> OrderBookRecord:
        return OrderBookRecord(
            BTC,
            self.clock,
            self.clock,
            update_type="snapshot" if kind == "snapshot" else "update",
            bids=[("50000.1", "1.5")],
            asks=[("50000.2", "2.5")],
            first_update_id=None if kind == "snapshot" else last,
            last_update_id=last,
            prev_update_id=before,
        )

    def gap(self, affected: DataType, instrument: Instrument = BTC) -> Message:
        """As a feed says it: nobody knows how many."""
        self.clock += 2 * MILLISECOND
        at = self.clock
        gap = Gap(instrument, at, at, affected, "restart", at, at, None, None, None, "feed")
        return encode(gap)


@attrs.define
class Broker:
    """Stores what it is sent, however often; it remembers no ids."""

    stored: list[Message] = attrs.field(factory=list)

    def last(self, subject: str) -> str | None:
        ids = [message.msg_id for message in self.stored if message.subject == subject]
        return ids[-1] if ids else None

    async def settle(self, outbox: Outbox) -> None:
        """What a sink does before it sends anything again."""
        for subject in outbox.in_doubt():
            await outbox.forget_stored(subject, self.last(subject))

    def send(self, outbox: Outbox, most: int, stored: int, unheard: Collection[int] = ()) -> bool:
        """Send a batch of which so many arrive; their answers do too, but for some. Whether all
        was well; else the connection is of no more use.
        """
        batch = outbox.take(most)
        for place, (number, message) in enumerate(batch[:stored]):
            self.stored.append(message)
            if place not in unheard:
                outbox.acknowledge(number)
        return stored >= len(batch) and not any(place < len(batch) for place in unheard)


@attrs.define
class Found:
    """What a reader of the broker finds, stream by stream."""

    trades: dict[str, list[int]] = attrs.field(factory=dict)
    updates: list[int] = attrs.field(factory=list)
    missing: dict[str, list[tuple[int, int]]] = attrs.field(factory=dict)
    """The ranges that overflows tell, by stream."""
    lost: Counter[str] = attrs.field(factory=Counter)
    """How many they count."""
    faults: list[str] = attrs.field(factory=list)

    @classmethod
    def of(cls, stored: Sequence[Message]) -> "Found":
        found, ids = cls(), set()
        expected: dict[str, int | None] = {}
        for message in stored:
            if message.msg_id in ids:
                found.faults.append(f"twice: {message.msg_id}")
            ids.add(message.msg_id)
            found._take(json.loads(message.payload), expected)
        return found

    def _take(self, fields: dict[str, object], expected: dict[str, int | None]) -> None:
        kind = str(fields["data_type"])
        if kind == "gap":
            stream = self._stream(str(fields["affected"]), str(fields["symbol"]))
            expected[stream] = None
            if fields["reason"] == "overflow":
                self._overflow(stream, fields)
            return
        stream = self._stream(kind, str(fields["symbol"]))
        awaited = expected.get(stream, 1)
        if kind == "trade":
            number = int(str(fields["trade_id"]))
            if awaited is not None and number != awaited:
                self.faults.append(f"{stream}: {number} instead of {awaited}")
            self.trades.setdefault(stream, []).append(number)
            expected[stream] = number + 1
            return
        last = int(str(fields["last_update_id"]))
        if fields["update_type"] == "snapshot":
            if awaited is not None and last != awaited - 1:
                self.faults.append(f"{stream}: snapshot {last} in a chain at {awaited - 1}")
        else:
            if last != awaited:
                self.faults.append(f"{stream}: {last} does not chain to {awaited}")
            self.updates.append(last)
        expected[stream] = last + 1

    def _overflow(self, stream: str, fields: dict[str, object]) -> None:
        first, last = fields["first_missing_id"], fields["last_missing_id"]
        if first is not None and last is not None:
            self.missing.setdefault(stream, []).append((int(str(first)), int(str(last))))
        if fields["lost"] is not None:
            self.lost[stream] += int(str(fields["lost"]))

    @staticmethod
    def _stream(kind: str, symbol: str) -> str:
        return "book" if kind == "orderbook" else f"{kind} {symbol}"

    def told(self, stream: str) -> set[int]:
        """Every id that lies in a gap."""
        return {
            number
            for first, last in self.missing.get(stream, ())
            for number in range(first, last + 1)
        }
