"""An independent consumer of what is published: it knows the contract, and none of our code."""

import json
from datetime import datetime
from typing import Any

REMEMBERED = 10_000
"""Trades of a symbol, to know one that is told again."""


class Consumer:
    """Rebuilds books and collects trades from payloads, as a user would."""

    def __init__(self) -> None:
        self.books: dict[str, Book] = {}
        self.trades: dict[str, list[int]] = {}
        self.gaps: list[dict[str, Any]] = []
        self.faults: list[str] = []
        """Every breach of what the contract promises, in words."""
        self._expected: dict[str, int] = {}
        self._told: dict[str, dict[tuple[int, str | None], None]] = {}
        """The latest trades."""
        self._ahead: dict[str, set[int]] = {}
        """Those that had a time to come: what is told so is not told again."""

    def take(self, payload: bytes) -> None:
        """One message, in the order of the stream."""
        fields = json.loads(payload)
        symbol = fields["symbol"]
        match fields["data_type"]:
            case "orderbook":
                self.books.setdefault(symbol, Book()).take(fields, self.faults)
            case "trade":
                self._trade(symbol, fields)
            case "gap":
                self.gaps.append(fields)
                if fields["affected"] == "orderbook":
                    self.books.setdefault(symbol, Book()).synchronised = False
                if fields["affected"] == "trade" and fields["last_missing_id"] is not None:
                    self._missed(symbol, int(fields["last_missing_id"]))

    def _trade(self, symbol: str, fields: dict[str, Any]) -> None:
        number, part = int(fields["trade_id"]), fields["last_trade_id"]
        numbers = self.trades.setdefault(symbol, [])
        told = self._told.setdefault(symbol, {})
        if (number, part) in told:
            self.faults.append(f"{symbol}: trade {number} ({part}) is told twice")
        expected = self._expected.get(symbol, number)
        # Elsewhere ids come in no order. One number may be of two aggregates.
        counted = fields["exchange"] == "binance" and numbers[-1:] != [number]
        if counted and number != expected and not _is_ahead(fields):
            self.faults.append(f"{symbol}: trade {number} after {numbers[-1:]}")
        numbers.append(number)
        told[number, part] = None
        if len(told) > REMEMBERED:
            del told[next(iter(told))]
        if _is_ahead(fields):
            self._ahead.setdefault(symbol, set()).add(number)
        if number == expected or not _is_ahead(fields):
            self._expect(symbol, number + 1)

    def _expect(self, symbol: str, number: int) -> None:
        while number in self._ahead.get(symbol, ()):
            number += 1
        self._expected[symbol] = number

    def _missed(self, symbol: str, last: int) -> None:
        self._expect(symbol, last + 1)


def _is_ahead(fields: dict[str, Any]) -> bool:
    """Whether a record says a time that was more than a minute to come when it was read."""
    happened, read = fields["timestamp"], fields["collected_at"]
    if happened is None or happened < read:
        return False
    since = datetime.fromisoformat(happened) - datetime.fromisoformat(read)
    return since.total_seconds() > 60


class Book:
    """A book, as the messages tell it."""

    def __init__(self) -> None:
        self.bids: dict[str, str] = {}
        self.asks: dict[str, str] = {}
        self.last_id: int | None = None
        self.synchronised = False
        self.updates = 0
        self.snapshots = 0

    def take(self, fields: dict[str, Any], faults: list[str]) -> None:
        last, symbol = fields["last_update_id"], fields["symbol"]
        if fields["update_type"] == "snapshot":
            if self.synchronised and last != self.last_id:
                faults.append(f"{symbol}: snapshot {last} within a chain at {self.last_id}")
            self.bids, self.asks = dict(fields["bids"]), dict(fields["asks"])
            self.last_id, self.synchronised = last, True
            self.snapshots += 1
            return
        self.updates += 1
        if self.last_id is None:
            faults.append(f"{symbol}: update {last} before any snapshot")
            return
        if not self.synchronised or fields["prev_update_id"] != self.last_id:
            faults.append(f"{symbol}: update {last} does not chain to {self.last_id}")
        for side, levels in ((self.bids, fields["bids"]), (self.asks, fields["asks"])):
            for price, quantity in levels:
                if float(quantity) == 0:
                    side.pop(price, None)
                else:
                    side[price] = quantity
        self.last_id = last

    def best(self) -> tuple[tuple[str, str], tuple[str, str]]:
        """The best bid and the best ask, with their quantities."""
        bid, ask = max(self.bids, key=float), min(self.asks, key=float)
        return (bid, self.bids[bid]), (ask, self.asks[ask])
