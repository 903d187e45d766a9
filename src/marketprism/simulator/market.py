"""A random market whose messages agree with each other.

Pure: no clock, no global random. The same seed and the same sequence of `step` calls give the same
events. Inside, prices are ticks and quantities lots, both integers; text is made on the way out.
"""

import math
import random
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import pairwise

import attrs

from .events import Aggregate, Event, Level, Snapshot, Trade, Update
from .listings import SCALE, Listing, listing
from .perpetual import Sideline

BATCH_MS = 100
"""Book changes are told in batches of this many milliseconds: `@depth@100ms`."""

_LEVELS = (200, 300)
"""Levels a side: none is cancelled below the first; the second to begin with."""
_SPACING = 25.0
"""Mean distance, in ticks, of a new order from the best price of the other side."""
_TYPICAL_VALUE = 3_000
"""Median value of a resting order, in the quote asset when that is worth about a dollar."""


@attrs.frozen
class Rules:
    """What one exchange's markets have of their own."""

    listing: Callable[[str], Listing] = listing
    id_step: int = 1
    """By how much a book change raises the id."""
    most_levels: int = 500
    """Levels a side above which the worst is removed."""
    keep_alive: int | None = None
    """Milliseconds of a quiet book after which an update without levels is told."""
    tops: int = 0
    """With so many best levels a side each update tells what the book is after it."""
    perpetual: bool = False
    """Whether marks, open interest and liquidations are told."""


class Market:
    """Some symbols, each with its book and its traders, independent of one another."""

    def __init__(
        self,
        seed: int,
        symbols: Sequence[str] = ("BTCUSDT", "ETHUSDT"),
        *,
        trades_per_second: float = 5.0,
        quotes_per_second: float = 40.0,
        rules: Rules = Rules(),
    ) -> None:
        """Both rates are of each symbol; trades come in taker orders of one or a few of them."""
        self.symbols = tuple(symbols)
        self._pits = {
            symbol: _Pit(seed, symbol, rules, trades_per_second, quotes_per_second)
            for symbol in symbols
        }
        self._first = {symbol: pit.snapshot(None) for symbol, pit in self._pits.items()}

    def step(self, now_ms: int, resting: Collection[str] = ()) -> list[Event]:
        """All that happens up to `now_ms`, in order of time; the first call only sets the clock.
        In markets that are `resting` nothing does.
        """
        happened: list[Event] = []
        for symbol, pit in self._pits.items():
            if symbol in resting:
                pit.rest(now_ms)
            else:
                happened.extend(pit.advance(now_ms))
        happened.sort(key=lambda event: event.time)
        return happened

    def snapshot(self, symbol: str, limit: int | None = None) -> Snapshot:
        """The book as it is now, which may be in the middle of a batch not told yet."""
        return self._pits[symbol].snapshot(limit)

    def told(self, symbol: str) -> Snapshot:
        """The book as of the last update."""
        return self._pits[symbol].told()

    def renumber(self, symbol: str) -> None:
        """Let the ids of the book begin anew, with a small number, at the next update."""
        self._pits[symbol].renumbered = True

    def first_snapshot(self, symbol: str) -> Snapshot:
        """The book before anything happened."""
        return attrs.evolve(self._first[symbol], time=self._pits[symbol].began)


class _Pit:
    """One symbol: the place where its traders meet. What it draws comes from one stream of chance,
    in one order, so it is all in one place.
    """

    def __init__(
        self, seed: int, symbol: str, rules: Rules, trade_rate: float, quote_rate: float
    ) -> None:
        self._listed = listed = rules.listing(symbol)
        self._rules = rules
        self._rng = rng = random.Random(f"{seed}:{symbol}")
        self._sideline = Sideline(seed, listed)
        # A taker order makes about two and a half trades: see _take and _parts.
        self._order_gap = 2_500.0 / trade_rate if trade_rate else math.inf
        self._quote_gap = 1_000.0 / quote_rate if quote_rate else math.inf
        self._typical = max(2, _TYPICAL_VALUE * SCALE * SCALE // (listed.unit_value * listed.lot))
        self.bids: dict[int, int] = {}
        self.asks: dict[int, int] = {}
        self._changed: tuple[dict[int, None], dict[int, None]] = ({}, {})
        self._update_id = rng.randrange(10**9, 10**10)
        self._told_id, self._told_time, self.began = self._update_id, 0, 0
        self.renumbered = False
        """Whether the next update begins a new numbering."""
        self._trade_id = rng.randrange(10**8, 10**9)
        self._aggregate_id = self._trade_id * 9 // 10
        self._next_order = self._next_quote = self._next_batch = math.nan
        middle = listed.price // listed.tick
        for side, sign in ((self.bids, -1), (self.asks, 1)):
            price = middle
            for _ in range(_LEVELS[1]):
                price += sign * rng.randint(1, 12)
                side[price] = self._resting()
        self._told_sides = (self.bids.copy(), self.asks.copy())

    def advance(self, now: int) -> Iterator[Event]:
        if math.isnan(self._next_batch):
            self._next_batch = now - now % BATCH_MS + BATCH_MS
            self._next_order = now + self._after(self._order_gap)
            self._next_quote = now + self._after(self._quote_gap)
            self._told_time = self.began = now
            if self._rules.perpetual:
                self._sideline.begin(now)
        while (due := self._due()) <= now:
            if due == self._next_batch:
                yield from self._tell(int(due))
                self._next_batch += BATCH_MS
            elif due == self._next_order:
                yield from self._take(int(due))
                self._next_order += self._after(self._order_gap)
            elif due == self._sideline.due:
                middle = (max(self.bids) + min(self.asks)) * self._listed.tick // 2
                yield from self._sideline.tell(middle)
            else:
                self._quote()
                self._next_quote += self._after(self._quote_gap)

    def rest(self, now: int) -> None:
        """Put off what is due until after that moment."""
        if not math.isnan(self._next_batch):
            batch = now - now % BATCH_MS + BATCH_MS
            self._next_batch = max(self._next_batch, batch)
            self._next_order, self._next_quote = (
                max(due, now + 1) for due in (self._next_order, self._next_quote)
            )
            self._sideline.rest(now)

    def snapshot(self, limit: int | None) -> Snapshot:
        return self._snapshot(self._update_id, self.bids, self.asks, limit)

    def told(self) -> Snapshot:
        return self._snapshot(self._told_id, *self._told_sides, None)

    def _snapshot(
        self, ident: int, bids: dict[int, int], asks: dict[int, int], limit: int | None
    ) -> Snapshot:
        return Snapshot(
            self._listed.symbol,
            ident,
            [self._level(price, bids) for price in sorted(bids, reverse=True)[:limit]],
            [self._level(price, asks) for price in sorted(asks)[:limit]],
            limit,
            self._told_time,
        )

    def _due(self) -> float:
        return min(self._next_order, self._next_quote, self._next_batch, self._sideline.due)

    def _after(self, gap: float) -> float:
        return math.inf if gap == math.inf else self._rng.expovariate(1 / gap)

    def _resting(self) -> int:
        return max(1, int(self._typical * self._rng.lognormvariate(0.0, 1.2)))

    def _level(self, price: int, side: dict[int, int]) -> Level:
        listed = self._listed
        quantity = listed.quantity_text(side.get(price, 0) * listed.lot)
        return listed.price_text(price * listed.tick), quantity

    def _set(self, side: dict[int, int], price: int, quantity: int) -> None:
        if quantity:
            side[price] = quantity
        else:
            del side[price]
        self._changed[side is self.asks][price] = None
        self._update_id += self._rules.id_step

    def _tell(self, time: int) -> Iterator[Update]:
        """One batch; when nothing changed none, but where it is due that nothing did."""
        quiet = self._update_id == self._told_id
        silence = self._rules.keep_alive
        if quiet and (silence is None or time - self._told_time < silence):
            return
        first = self._told_id + 1
        if self.renumbered and not quiet:
            self.renumbered = False
            self._update_id = self._rng.randrange(10, 1_000)
        self._told_id, self._told_time = self._update_id, time
        bids, asks = self._changed
        for told, side, prices in zip(
            self._told_sides, (self.bids, self.asks), self._changed, strict=True
        ):
            for price in prices:
                if price in side:
                    told[price] = side[price]
                else:
                    told.pop(price, None)
        yield Update(
            self._listed.symbol,
            first,
            self._update_id,
            [self._level(price, self.bids) for price in sorted(bids, reverse=True)],
            [self._level(price, self.asks) for price in sorted(asks)],
            time,
            self.snapshot(self._rules.tops) if self._rules.tops else None,
        )
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
            price_text = self._listed.price_text(price * self._listed.tick)
            first = self._trade_id + 1
            for part in self._parts(filled):
                self._trade_id += 1
                yield Trade(
                    self._listed.symbol,
                    self._trade_id,
                    price_text,
                    self._listed.quantity_text(part * self._listed.lot),
                    sells,
                    time,
                )
            self._aggregate_id += 1
            yield Aggregate(
                self._listed.symbol,
                self._aggregate_id,
                price_text,
                self._listed.quantity_text(filled * self._listed.lot),
                first,
                self._trade_id,
                sells,
                time,
                self._update_id,
            )

    def _parts(self, quantity: int) -> list[int]:
        """A quantity in one to three parts, none of them empty."""
        cuts = {self._rng.randrange(1, quantity + 1) for _ in range(self._rng.randrange(3))}
        return [high - low for low, high in pairwise(sorted({0, quantity} | cuts))]

    def _quote(self) -> None:
        """A maker places, changes or cancels an order, without crossing the other side."""
        buys = self._rng.random() < 0.5
        side, other_best = (self.bids, min(self.asks)) if buys else (self.asks, max(self.bids))
        if len(side) > self._rules.most_levels:
            self._set(side, min(side) if buys else max(side), 0)
        elif len(side) > _LEVELS[0] and self._rng.random() < 0.5:
            price = self._rng.choice(list(side))
            self._set(side, price, 0 if self._rng.random() < 0.7 else self._resting())
        else:
            distance = 1 + int(self._rng.expovariate(1 / _SPACING))
            price = other_best - distance if buys else other_best + distance
            if price > 0:
                self._set(side, price, side.get(price, 0) + self._resting())
