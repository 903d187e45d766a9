"""A made-up exchange's book: a chain of updates, and the truth after each of them."""

import json
import random
from typing import Any

import attrs

Side = dict[str, str]


@attrs.frozen
class Truth:
    """The whole book after an update."""

    last_id: int
    bids: Side
    asks: Side


@attrs.define
class Chain:
    """Updates as Binance spot sends them, and snapshots of any moment."""

    updates: list[dict[str, Any]]
    truths: list[Truth]
    """`truths[n]` is before `updates[n]`; one more than updates."""

    @classmethod
    def made(cls, seed: int, length: int, symbol: str = "BTCUSDT", first: int = 100) -> "Chain":
        dice = random.Random(seed)
        bids = {f"{100 - n}.50": f"{dice.randint(1, 9)}.00" for n in range(5)}
        asks = {f"{101 + n}.50": f"{dice.randint(1, 9)}.00" for n in range(5)}
        last, updates = first, []
        truths = [Truth(last, dict(bids), dict(asks))]
        for number in range(length):
            low, last = last + 1, last + dice.randint(1, 4)
            changes: dict[str, list[list[str]]] = {"b": [], "a": []}
            for key, side, base in (("b", bids, 96), ("a", asks, 101)):
                for _ in range(dice.randint(0, 3)):
                    price = f"{base + dice.randint(0, 4)}.50"
                    quantity = f"{dice.randint(0, 9)}.00"
                    changes[key].append([price, quantity])
                    if float(quantity):
                        side[price] = quantity
                    else:
                        side.pop(price, None)
            updates.append(
                {
                    "e": "depthUpdate",
                    "E": 1_700_000_000_000 + number * 100,
                    "s": symbol,
                    "U": low,
                    "u": last,
                    **changes,
                }
            )
            truths.append(Truth(last, dict(bids), dict(asks)))
        return cls(updates, truths)

    def frame(self, number: int) -> bytes:
        """The update's text."""
        return json.dumps(self.updates[number]).encode()

    def snapshot(self, number: int) -> bytes:
        """What REST answers before the update of that number."""
        truth = self.truths[number]
        return json.dumps(
            {
                "lastUpdateId": truth.last_id,
                "bids": sorted(truth.bids.items(), key=lambda x: -float(x[0])),
                "asks": sorted(truth.asks.items(), key=lambda x: float(x[0])),
            }
        ).encode()
