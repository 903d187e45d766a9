"""A market whose price wanders, deeper than any snapshot shows, in each exchange's words."""

import json
import random
from collections.abc import Callable
from typing import Any

import attrs

Sides = tuple[dict[int, int], dict[int, int]]
"""Bids and asks: quantity by price, in whole numbers."""


@attrs.frozen
class Told:
    """One update."""

    first_id: int
    last_id: int
    before: int
    """Where the one before ended."""
    sides: Sides


@attrs.define(slots=False)
class Pit:
    """The exchange's own book."""

    seed: int
    levels: int
    """A side, about."""
    drift: float
    """How likely a change eats the best ask, so that the price goes up; below 0, the best bid."""
    id_step: int = 1
    window: int | None = None
    """Only so many best levels are told, and of an update only what it comes to in the end."""
    frozen: int | None = None
    """A price at which nothing happens any more."""
    last_id: int = 1_000
    told_id: int = 1_000
    truths: dict[int, Sides] = attrs.field(factory=dict)
    """What can be known of the book by id, as of each update and each snapshot."""

    def __attrs_post_init__(self) -> None:
        self.dice = random.Random(self.seed)
        self.middle = 100_000
        spread = 3 * self.levels
        bids = self.dice.sample(range(99_999 - spread, 99_999), self.levels)
        asks = self.dice.sample(range(100_001, 100_001 + spread), self.levels)
        self.bids, self.asks = dict.fromkeys(bids, 5), dict.fromkeys(asks, 5)
        self.changed: tuple[set[int], set[int]] = (set(), set())
        self.told = (self.best(self.bids, True), self.best(self.asks, False))
        self.remember()

    def best(self, side: dict[int, int], highest: bool, limit: int | None = None) -> dict[int, int]:
        prices = sorted(side, reverse=highest)[: limit or self.window]
        return {price: side[price] for price in prices}

    def remember(self) -> None:
        self.truths[self.last_id] = (self.best(self.bids, True), self.best(self.asks, False))

    def put(self, bids: bool, price: int, quantity: int) -> None:
        if price == self.frozen:
            return
        side = self.bids if bids else self.asks
        if quantity:
            side[price] = quantity
        elif side.pop(price, None) is None:
            return
        self.changed[not bids].add(price)
        self.last_id += self.dice.randint(1, self.id_step)

    def change(self) -> None:
        """One thing that happens."""
        dice = self.dice
        up, few = self.drift > 0, self.levels // 3
        if dice.random() < abs(self.drift) and len(self.asks if up else self.bids) > few:
            self.middle = min(self.asks) if up else max(self.bids)
            self.put(not up, self.middle, 0)
            self.put(up, self.middle, dice.randint(1, 99))
            return
        bids = dice.random() < 0.5
        if min(len(self.bids), len(self.asks)) <= few:
            bids = len(self.bids) < len(self.asks)
        side = self.bids if bids else self.asks
        if len(side) > self.levels and dice.random() < 0.6:
            self.put(bids, dice.choice(sorted(side)), 0)
            return
        distance = 1 + int(dice.random() ** 2 * 3 * self.levels)
        price = self.middle - distance if bids else self.middle + distance
        self.put(bids, price, dice.randint(1, 99))

    def tell(self) -> Told | None:
        """What changed since the last update."""
        if self.last_id == self.told_id:
            return None
        sides: list[dict[int, int]] = []
        for number, (side, changed) in enumerate(
            zip((self.bids, self.asks), self.changed, strict=True)
        ):
            if self.window is None:
                sides.append({price: side.get(price, 0) for price in changed})
                continue
            before, after = self.told[number], self.best(side, number == 0)
            prices = [p for p in before | after if before.get(p) != after.get(p)]
            sides.append({price: after.get(price, 0) for price in prices})
        told = Told(self.told_id + 1, self.last_id, self.told_id, (sides[0], sides[1]))
        self.told = (self.best(self.bids, True), self.best(self.asks, False))
        self.told_id, self.changed = self.last_id, (set(), set())
        self.remember()
        return told

    def snapshot(self, limit: int) -> tuple[int, Sides]:
        """The book as it is, in the middle of an update or not."""
        self.remember()
        return self.last_id, (self.best(self.bids, True, limit), self.best(self.asks, False, limit))


def levels(side: dict[int, int], *rest: str) -> list[list[str]]:
    """As exchanges write them."""
    return [[f"{price / 10:.1f}", str(quantity), *rest] for price, quantity in side.items()]


def spot_update(told: Told) -> bytes:
    """Binance spot's words."""
    body = {"e": "depthUpdate", "E": 1_700_000_000_000, "s": "BTCUSDT", "U": told.first_id}
    sides = {"u": told.last_id, "b": levels(told.sides[0]), "a": levels(told.sides[1])}
    return json.dumps(body | sides).encode()


def futures_update(told: Told) -> bytes:
    """USD-M's: ids are missing between two updates, each of which names the one before."""
    body = json.loads(spot_update(told)) | {"pu": told.before, "T": 1_700_000_000_000, "st": 1}
    return json.dumps(body).encode()


def binance_snapshot(ident: int, sides: Sides) -> bytes:
    """Both Binance markets' answer."""
    bids, asks = map(levels, sides)
    return json.dumps({"lastUpdateId": ident, "bids": bids, "asks": asks}).encode()


def _okx(ident: int, sides: Sides) -> dict[str, Any]:
    bids, asks = (levels(side, "0", "1") for side in sides)
    return {"bids": bids, "asks": asks, "ts": "1700000000000", "seqId": ident}


def okx_push(native_id: str) -> Callable[[Told], bytes]:
    """OKX's update."""

    def said(told: Told) -> bytes:
        element = _okx(told.last_id, told.sides) | {"prevSeqId": told.before, "checksum": 0}
        arg = {"channel": "books", "instId": native_id}
        return json.dumps({"arg": arg, "action": "update", "data": [element]}).encode()

    return said


def okx_picture(native_id: str, ident: int, sides: Sides) -> bytes:
    """OKX's first word to a subscriber."""
    element = _okx(ident, sides) | {"prevSeqId": -1, "checksum": 0}
    arg = {"channel": "books", "instId": native_id}
    return json.dumps({"arg": arg, "action": "snapshot", "data": [element]}).encode()


def okx_snapshot(ident: int, sides: Sides) -> bytes:
    """OKX's answer."""
    return json.dumps({"code": "0", "msg": "", "data": [_okx(ident, sides)]}).encode()
