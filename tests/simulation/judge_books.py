"""The judge of books: after each stored message, a book is the exchange's at that id."""

import math
from collections.abc import Iterator
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import facts
from truth import Truthful

from marketprism.simulator.events import Level, Snapshot, Update
from marketprism.simulator.listings import Listing

if TYPE_CHECKING:
    from judge import Entry, Terms

Side = dict[str, str]


class TrueBook:
    """The exchange's own book, which is led forward along what it said."""

    def __init__(self, exchange: Truthful, native: str) -> None:
        first = exchange.watched.first(native)
        self.updates: list[tuple[float, Update]] = [
            (told.at, told.message.update)
            for name in (f"{native.lower()}@depth@100ms", f"books:{native}")
            for told in exchange.told.get(name, ())
            if told.message.update is not None
            # Keep-alives change nothing.
            and told.message.update.last_id != told.message.update.first_id - 1
        ]
        self.pictures = exchange.watched.pictures[native]
        self.place = -1
        """Of the last update in it."""
        self._bids: Side = dict(first.bids)
        self._asks: Side = dict(first.asks)
        self._first_id = first.last_id

    @property
    def last_id(self) -> int:
        return self._first_id if self.place < 0 else self.updates[self.place][1].last_id

    def seek(self, ident: int, within: int | None = None) -> bool:
        """Lead the book on to that id; False when it never comes, or not among the next few."""
        end = len(self.updates) if within is None else self.place + 1 + within
        if ident == self.last_id:
            return True
        for place in range(self.place + 1, min(end, len(self.updates))):
            if self.updates[place][1].last_id == ident:
                self._advance(place)
                return True
        return False

    def seek_picture(self, ident: int) -> Snapshot | None:
        """The book in the middle of an update that was told later, where it was asked for."""
        picture = self.pictures.get(ident)
        if picture is None:
            return None
        place = self.place
        while not self._last_id(place) <= ident < self._last_id(place + 1):
            place += 1
            if place >= len(self.updates):
                return None
        self._advance(place)
        return picture

    def _last_id(self, place: int) -> float:
        if place < 0:
            return self._first_id
        return self.updates[place][1].last_id if place < len(self.updates) else math.inf

    def sides(self) -> tuple[Side, Side]:
        return self._bids, self._asks

    def _advance(self, to: int) -> None:
        for place in range(self.place + 1, to + 1):
            update = self.updates[place][1]
            for side, levels in ((self._bids, update.bids), (self._asks, update.asks)):
                _apply(side, levels)
        self.place = to


def _apply(side: Side, levels: "list[Level] | list[list[str]]") -> None:
    for price, quantity in levels:
        if Decimal(quantity):
            side[price] = quantity
        else:
            side.pop(price, None)


def judged(exchange: Truthful, native: str, entries: "list[Entry]", terms: "Terms") -> list[str]:
    """Every breach of a book's stream."""
    return list(_Case(exchange, native, terms).run(entries))


class _Case:
    def __init__(self, exchange: Truthful, native: str, terms: "Terms") -> None:
        self.true = TrueBook(exchange, native)
        self.listing = facts.listed(exchange.venue, native)
        self.terms = terms
        self.last: int | None = None
        self.next_place = 0
        self.gaps: list[Entry] = []
        self.bids: Side = {}
        self.asks: Side = {}
        self.worst: tuple[Decimal | None, Decimal | None] = (None, None)
        """Beyond these prices nothing is known; None: all is."""

    def run(self, entries: "list[Entry]") -> Iterator[str]:
        for entry in entries:
            if entry.is_gap:
                self.gaps.append(entry)
            elif entry.fields["update_type"] == "snapshot":
                yield from self._snapshot(entry)
            else:
                yield from self._update(entry)
        if self.last is None:
            yield "no book came"
            return
        until = self.terms.until - (self.terms.every or 0.0)
        due = [u for at, u in self.true.updates[self.next_place :] if at < until]
        if due and not self.gaps:
            yield f"{len(due)} lost at the end, from {due[0].last_id} on"

    def _snapshot(self, entry: "Entry") -> Iterator[str]:
        ident = entry.fields["last_update_id"]
        chained = self.last is not None and not self.gaps and self.terms.every is None
        if chained and ident != self.last:
            yield f"snapshot {ident} within a chain at {self.last}, and no gap"
        before, expected = self.true.place, self.next_place
        picture = None
        if self.true.seek(ident):
            bids, asks = self.true.sides()
        elif (picture := self.true.seek_picture(ident)) is not None:
            bids, asks = dict(picture.bids), dict(picture.asks)
        else:
            yield f"snapshot {ident}: the exchange never was there after {self.true.last_id}"
            return
        if self.gaps and self.last is not None:
            yield from self._warranted(ident, before, expected)
        bids, asks = self._published(bids), self._published(asks)
        self.bids, self.asks = dict(entry.fields["bids"]), dict(entry.fields["asks"])
        for name, side, truth, best_first in (
            ("bids", self.bids, bids, True),
            ("asks", self.asks, asks, False),
        ):
            top = sorted(truth, key=_number, reverse=best_first)[: len(side)]
            if list(side) != top or any(_unlike(side[price], truth[price]) for price in top):
                yield f"snapshot {ident}: {name} are not the exchange's"
            if len(side) < min(self._least, len(truth)):
                yield f"snapshot {ident}: {len(side)} {name} of {len(truth)}"
        self.worst = (
            _number(list(self.bids)[-1]) if len(self.bids) < len(bids) else None,
            _number(list(self.asks)[-1]) if len(self.asks) < len(asks) else None,
        )
        self.last, self.gaps, self.next_place = ident, [], self.true.place + 1

    @property
    def _least(self) -> int:
        """A book that was fetched with more levels than there are holds all of them; of another
        the market takes its part, until it is fetched again.
        """
        return self.terms.depth if self.terms.depth >= 400 else 1

    def _warranted(self, ident: int, before: int, expected: int) -> Iterator[str]:
        """Whether the gap is about something, and says what."""
        told = [gap.fields for gap in self.gaps]
        bounds = [gap for gap in told if gap["first_missing_id"] is not None]
        if any(gap.unsure for gap in self.gaps):
            return
        if self.true.place < expected and ident == self.last:
            reasons = [gap["reason"] for gap in told]
            yield f"a gap ({reasons}) where nothing is missing, at {ident}"
        elif self.terms.every is not None:
            # Of what lies between two snapshots nothing is told: the bounds say less.
            return
        elif bounds and self.last is not None and ident > self.last and len(bounds) == len(told):
            first = min(int(gap["first_missing_id"]) for gap in bounds)
            last = max(int(gap["last_missing_id"]) for gap in bounds)
            missed = self.true.updates[expected : expected + 1]
            if missed and first > missed[0][1].last_id:
                yield f"a gap from {first} on after {self.last}"
            if last < ident:
                yield f"a gap up to {last} before a snapshot at {ident}"

    def _update(self, entry: "Entry") -> Iterator[str]:
        fields = entry.fields
        ident = fields["last_update_id"]
        if self.terms.every is not None:
            yield f"update {ident}, where only snapshots were asked for"
        if self.last is None or self.gaps:
            yield f"update {ident} before a snapshot"
            return
        if fields["prev_update_id"] != self.last:
            yield f"update {ident} does not chain to {self.last}"
        if not self.true.seek(ident, within=None) or self.true.place != self.next_place:
            yield f"update {ident} is not the one after {self.last}"
            self.last, self.next_place = ident, self.true.place + 1
            return
        for side, levels in ((self.bids, fields["bids"]), (self.asks, fields["asks"])):
            _apply(side, levels)
        self.last, self.next_place = ident, self.true.place + 1
        if self._says(fields, self.true.updates[self.true.place][1]):
            # What was the same has changed the same way.
            return
        for name, side, truth, worst in zip(
            ("bids", "asks"), (self.bids, self.asks), self.true.sides(), self.worst, strict=True
        ):
            if not self._same(side, truth, worst, higher=name == "bids"):
                yield f"after update {ident} the {name} are not the exchange's"

    def _says(self, fields: dict[str, Any], update: Update) -> bool:
        """Whether an update is published as the exchange said it."""
        for levels, truth in ((fields["bids"], update.bids), (fields["asks"], update.asks)):
            if len(levels) != len(truth):
                return False
            for (price, quantity), (true_price, true_quantity) in zip(levels, truth, strict=True):
                if price != true_price or Decimal(quantity) != facts.quantity_in(
                    self.listing, true_quantity, price
                ):
                    return False
        return True

    def _same(self, side: Side, truth: Side, worst: Decimal | None, *, higher: bool) -> bool:
        if worst is not None:
            side, truth = _known(side, worst, higher), _known(truth, worst, higher)
        if self.listing is None:
            return side == truth
        return side.keys() == truth.keys() and all(
            _decimal(quantity) == facts.quantity_in(self.listing, truth[price], price)
            for price, quantity in side.items()
        )

    def _published(self, side: Side) -> Side:
        return side if self.listing is None else _converted(self.listing, side)


def _converted(listing: Listing, side: Side) -> Side:
    return {p: format(facts.quantity_in(listing, q, p), "f") for p, q in side.items()}


def _known(side: Side, worst: Decimal, higher: bool) -> Side:
    if higher:
        return {price: quantity for price, quantity in side.items() if _number(price) >= worst}
    return {price: quantity for price, quantity in side.items() if _number(price) <= worst}


def _unlike(one: str, other: str) -> bool:
    return one != other and Decimal(one) != Decimal(other)


@lru_cache(100_000)
def _number(price: str) -> Decimal:
    return Decimal(price)


@lru_cache(100_000)
def _decimal(quantity: str) -> Decimal:
    return Decimal(quantity)
