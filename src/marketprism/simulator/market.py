"""A random market whose messages agree with each other.

Pure: no clock, no global random. The same seed and the same sequence of `step` calls give the same
events. Inside, prices are ticks and quantities lots, both integers; text is made on the way out.
"""

import math
import random
from collections.abc import Iterator, Sequence
from itertools import pairwise

from .events import Aggregate, Event, Level, Snapshot, Trade, Update
from .listings import SCALE, Listing, listing, text

BATCH_MS = 100
"""Book changes are told in batches of this many milliseconds: `@depth@100ms`."""

_LEVELS = (200, 300, 500)
"""Levels a side: none is cancelled below the first, the second to begin with, trimmed above the
third."""
_SPACING = 25.0
"""Mean distance, in ticks, of a new order from the best price of the other side."""
_TYPICAL_VALUE = 3_000
"""Median value of a resting order, in the quote asset when that is worth about a dollar."""


class Market:
    """Some symbols, each with its book and its traders, independent of one another."""

    def __init__(
        self,
        seed: int,
        symbols: Sequence[str] = ("BTCUSDT", "ETHUSDT"),
        *,
        trades_per_second: float = 5.0,
        quotes_per_second: float = 40.0,
    ) -> None:
        """Both rates are of each symbol; trades come in taker orders of one or a few of them."""
        self.symbols = tuple(symbols)
        self._pits = {
            symbol: _Pit(
                listing(symbol),
                random.Random(f"{seed}:{symbol}"),
                trades_per_second,
                quotes_per_second,
            )
            for symbol in symbols
        }
        self._first = {symbol: pit.snapshot(None) for symbol, pit in self._pits.items()}

    def step(self, now_ms: int) -> list[Event]:
        """All that happens up to `now_ms`, in order of time; the first call only sets the clock."""
        happened: list[Event] = []
        for pit in self._pits.values():
            happened.extend(pit.advance(now_ms))
        happened.sort(key=lambda event: event.time)
        return happened

    def snapshot(self, symbol: str, limit: int | None = None) -> Snapshot:
        """The book as it is now, which may be in the middle of a batch not told yet."""
        return self._pits[symbol].snapshot(limit)

    def first_snapshot(self, symbol: str) -> Snapshot:
        """The book before anything happened."""
        return self._first[symbol]


class _Pit:
    """One symbol: the place where its traders meet."""

    def __init__(
        self, listed: Listing, rng: random.Random, trade_rate: float, quote_rate: float
    ) -> None:
        self._listed = listed
        self._rng = rng
        # A taker order makes about two and a half trades: see _take and _parts.
        self._order_gap = 2_500.0 / trade_rate if trade_rate else math.inf
        self._quote_gap = 1_000.0 / quote_rate if quote_rate else math.inf
        self._typical = max(2, _TYPICAL_VALUE * SCALE * SCALE // (listed.price * listed.lot))
        self.bids: dict[int, int] = {}
        self.asks: dict[int, int] = {}
        self._changed: tuple[dict[int, None], dict[int, None]] = ({}, {})
        self._update_id = rng.randrange(10**9, 10**10)
        self._told_id = self._update_id
        self._trade_id = rng.randrange(10**8, 10**9)
        self._aggregate_id = self._trade_id * 9 // 10
        self._next_order = self._next_quote = self._next_batch = math.nan
        middle = listed.price // listed.tick
        for side, sign in ((self.bids, -1), (self.asks, 1)):
            price = middle
            for _ in range(_LEVELS[1]):
                price += sign * rng.randint(1, 12)
                side[price] = self._resting()

    def advance(self, now: int) -> Iterator[Event]:
        if math.isnan(self._next_batch):
            self._next_batch = now - now % BATCH_MS + BATCH_MS
            self._next_order = now + self._after(self._order_gap)
            self._next_quote = now + self._after(self._quote_gap)
        while (due := min(self._next_order, self._next_quote, self._next_batch)) <= now:
            if due == self._next_batch:
                yield from self._tell(int(due))
                self._next_batch += BATCH_MS
            elif due == self._next_order:
                yield from self._take(int(due))
                self._next_order += self._after(self._order_gap)
            else:
                self._quote()
                self._next_quote += self._after(self._quote_gap)

    def snapshot(self, limit: int | None) -> Snapshot:
        return Snapshot(
            self._listed.symbol,
            self._update_id,
            [self._level(price, self.bids) for price in sorted(self.bids, reverse=True)[:limit]],
            [self._level(price, self.asks) for price in sorted(self.asks)[:limit]],
            limit,
        )

    def _after(self, gap: float) -> float:
        return math.inf if gap == math.inf else self._rng.expovariate(1 / gap)

    def _resting(self) -> int:
        return max(1, int(self._typical * self._rng.lognormvariate(0.0, 1.2)))

    def _level(self, price: int, side: dict[int, int]) -> Level:
        return text(price * self._listed.tick), text(side.get(price, 0) * self._listed.lot)

    def _set(self, side: dict[int, int], price: int, quantity: int) -> None:
        if quantity:
            side[price] = quantity
        else:
            del side[price]
        self._changed[side is self.asks][price] = None
        self._update_id += 1

    def _tell(self, time: int) -> Iterator[Update]:
        """One batch; none when nothing changed."""
        if self._update_id == self._told_id:
            return
        bids, asks = self._changed
        yield Update(
            self._listed.symbol,
            self._told_id + 1,
            self._update_id,
            [self._level(price, self.bids) for price in sorted(bids, reverse=True)],
            [self._level(price, self.asks) for price in sorted(asks)],
            time,
        )
        self._told_id = self._update_id
        self._changed = ({}, {})

    def _take(self, time: int) -> Iterator[Trade | Aggregate]:
        """A taker order eats from the best level on; at each level from one or a few makers."""
        sells = self._rng.random() < 0.5
        side, best = (self.bids, max) if sells else (self.asks, min)
        remaining = max(1, self._resting() // 2)
        while remaining and len(side) > _LEVELS[0] // 2:
            price = best(side)
            filled = min(remaining, side[price])
            remaining -= filled
            self._set(side, price, side[price] - filled)
            price_text = text(price * self._listed.tick)
            first = self._trade_id + 1
            for part in self._parts(filled):
                self._trade_id += 1
                yield Trade(
                    self._listed.symbol,
                    self._trade_id,
                    price_text,
                    text(part * self._listed.lot),
                    sells,
                    time,
                )
            self._aggregate_id += 1
            yield Aggregate(
                self._listed.symbol,
                self._aggregate_id,
                price_text,
                text(filled * self._listed.lot),
                first,
                self._trade_id,
                sells,
                time,
            )

    def _parts(self, quantity: int) -> list[int]:
        """A quantity in one to three parts, none of them empty."""
        cuts = {self._rng.randrange(1, quantity + 1) for _ in range(self._rng.randrange(3))}
        return [high - low for low, high in pairwise(sorted({0, quantity} | cuts))]

    def _quote(self) -> None:
        """A maker places, changes or cancels an order, without crossing the other side."""
        buys = self._rng.random() < 0.5
        side, other_best = (self.bids, min(self.asks)) if buys else (self.asks, max(self.bids))
        if len(side) > _LEVELS[2]:
            self._set(side, min(side) if buys else max(side), 0)
        elif len(side) > _LEVELS[0] and self._rng.random() < 0.5:
            price = self._rng.choice(list(side))
            self._set(side, price, 0 if self._rng.random() < 0.7 else self._resting())
        else:
            distance = 1 + int(self._rng.expovariate(1 / _SPACING))
            price = other_best - distance if buys else other_best + distance
            if price > 0:
                self._set(side, price, side.get(price, 0) + self._resting())
