"""An independent consumer of what is published: it knows the contract, and none of our code."""

import json
from typing import Any


class Consumer:
    """Rebuilds books and collects trades from payloads, as a user would."""

    def __init__(self) -> None:
        self.books: dict[str, Book] = {}
        self.trades: dict[str, list[int]] = {}
        self.gaps: list[dict[str, Any]] = []
        self.faults: list[str] = []
        """Every breach of what the contract promises, in words."""
        self._expected: dict[str, int] = {}

    def take(self, payload: bytes) -> None:
        """One message, in the order of the stream."""
        fields = json.loads(payload)
        symbol = fields["symbol"]
        match fields["data_type"]:
            case "orderbook":
                self.books.setdefault(symbol, Book()).take(fields, self.faults)
            case "trade":
                counted = fields["exchange"] == "binance"
                self._trade(symbol, int(fields["trade_id"]), counted=counted)
            case "gap":
                self.gaps.append(fields)
                if fields["affected"] == "orderbook":
                    self.books.setdefault(symbol, Book()).synchronised = False
                if fields["affected"] == "trade" and fields["last_missing_id"] is not None:
                    self._missed(symbol, int(fields["last_missing_id"]))

    def _trade(self, symbol: str, number: int, *, counted: bool) -> None:
        numbers = self.trades.setdefault(symbol, [])
        expected = self._expected.get(symbol, number)
        if number < expected or (counted and number > expected):
            self.faults.append(f"{symbol}: trade {number} after {numbers[-1:]}")
        numbers.append(number)
        self._expected[symbol] = number + 1

    def _missed(self, symbol: str, last: int) -> None:
        self._expected[symbol] = last + 1


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
        follows = fields["prev_update_id"] == self.last_id or (
            fields["prev_update_id"] is None
            and fields["first_update_id"] <= self.last_id + 1 <= last
        )
        if not (self.synchronised and follows):
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
