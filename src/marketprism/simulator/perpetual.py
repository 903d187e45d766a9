"""What an exchange says of a perpetual beside its book and its trades.

Pure, and from a random generator of its own: a market without it is the same market.
"""

import random
from collections.abc import Iterator
from decimal import Decimal

from .events import Forced, Liquidations, Mark, OpenInterest
from .figures import wave
from .listings import SCALE, Listing, text

_SECOND = 1_000
_OPEN_INTEREST_EVERY = 3
"""Seconds: OKX' own pace."""
_LIQUIDATION_GAP = 2_000.0
"""Mean milliseconds between pushes of liquidations; really they come in bursts, and seldom."""
_RATE_STEP = 5 * _SECOND
_OPEN_VALUE = 2_000_000_000
"""Typical value of all positions, in the quote asset."""


def open_interest(seed: int, listed: Listing, time: int) -> int:
    """The positions open at a second, in units of 1e-8 of the exchange's own count."""
    second = time - time % _SECOND
    typical = _OPEN_VALUE * SCALE * SCALE // listed.unit_value
    share = wave(seed, f"open:{listed.symbol}", second, 60 * _SECOND)
    units = typical + int(typical * 0.05 * share)
    return units - units % listed.lot


def funding_times(time: int, hours: int) -> tuple[int, int]:
    """When the present interval of funding ends, and the one after it."""
    interval = hours * 3_600 * _SECOND
    ends = (time // interval + 1) * interval
    return ends, ends + interval


class Sideline:
    """One perpetual: a mark every second, liquidations now and then."""

    def __init__(self, seed: int, listed: Listing) -> None:
        self.due = float("inf")
        """When there is something to tell; set by `begin`."""
        self._seed = seed
        self._listed = listed
        self._rng = random.Random(f"{seed}:{listed.symbol}:perpetual")
        self._next_second = self._next_forced = 0.0

    def begin(self, now: int) -> None:
        """Set the clock."""
        self._next_second = now - now % _SECOND + _SECOND
        self._next_forced = now + self._rng.expovariate(1 / _LIQUIDATION_GAP)
        self.due = min(self._next_second, self._next_forced)

    def rest(self, now: int) -> None:
        """Put off what is due until after that moment."""
        if self.due < float("inf"):
            self._next_second = max(self._next_second, now - now % _SECOND + _SECOND)
            self._next_forced = max(self._next_forced, now + 1)
            self.due = min(self._next_second, self._next_forced)

    def tell(self, middle: int) -> Iterator[Mark | OpenInterest | Liquidations]:
        """What is due, at a price of `middle`, in units of 1e-8."""
        now = int(self.due)
        if self.due == self._next_second:
            self._next_second += _SECOND
            yield self._mark(middle, now)
            if now // _SECOND % _OPEN_INTEREST_EVERY == 0:
                yield self._open_interest(middle, now)
        else:
            self._next_forced += self._rng.expovariate(1 / _LIQUIDATION_GAP)
            yield self._liquidations(middle, now)
        self.due = min(self._next_second, self._next_forced)

    def _mark(self, middle: int, now: int) -> Mark:
        listed = self._listed
        step = now - now % _RATE_STEP
        rate = wave(self._seed, f"funding:{listed.symbol}", step, 12 * _RATE_STEP)
        basis = int(middle * 2e-4 * rate)
        ends, following = funding_times(now, listed.funding_hours)
        return Mark(
            listed.symbol,
            text(middle),
            text(middle - basis),
            text(middle - basis // 2),
            f"{0.0001 + 0.0003 * rate:.8f}",
            f"{0.0002 * rate:.16f}",
            ends,
            following,
            now,
        )

    def _open_interest(self, middle: int, now: int) -> OpenInterest:
        listed = self._listed
        count = Decimal(open_interest(self._seed, listed, now)) / SCALE
        price = Decimal(middle) / SCALE
        unit = listed.contract / price if listed.inverse else listed.contract
        base = (count * unit).quantize(Decimal("0.00000001"))
        value = (count * unit * price).quantize(Decimal("0.00000001"))
        return OpenInterest(listed.symbol, f"{count:f}", f"{base:f}", f"{value:f}", now)

    def _liquidations(self, middle: int, now: int) -> Liquidations:
        orders = [self._forced(middle, now) for _ in range(self._rng.randint(1, 3))]
        if self._rng.random() < 0.2:
            # Two orders may agree in all that is told of them.
            orders.append(orders[0])
        return Liquidations(self._listed.symbol, tuple(orders), now)

    def _forced(self, middle: int, now: int) -> Forced:
        listed, rng = self._listed, self._rng
        sells = rng.random() < 0.5
        away = int(middle * rng.uniform(0.001, 0.01))
        # The position was worth nothing beyond where the market is: bought above it, sold below.
        price = middle + (-away if sells else away)
        average = middle - middle % listed.tick
        value = int(20_000 * SCALE * rng.lognormvariate(0.0, 1.0))
        lots = max(1, value * SCALE // (listed.unit_value * listed.lot))
        return Forced(
            sells,
            listed.price_text(price - price % listed.tick),
            listed.price_text(average),
            listed.quantity_text(lots * listed.lot),
            now - rng.randrange(900),
        )
