"""What is listed: base and quote of a symbol, its tick, its lot, a price to begin at.

A capture does not carry the exchange's metadata, so it is completed from here; a symbol that is not
in the table is taken apart by its ending. Only a simulator may do that.
"""

from decimal import Decimal
from functools import lru_cache

import attrs

SCALE = 10**8
"""Prices and quantities are integers of 1e-8."""

QUOTE_ASSETS = (
    "FDUSD", "USDT", "USDC", "BUSD", "TUSD", "BIDR", "BKRW", "IDRT",
    "BTC", "ETH", "BNB", "EUR", "GBP", "TRY", "BRL", "AUD", "DAI", "PAX", "RUB", "UAH", "USD",
)  # fmt: skip
"""The longest that fits is the quote."""


@attrs.frozen
class Listing:
    """One symbol; `tick`, `lot` and `price` in units of 1e-8."""

    symbol: str
    base: str
    quote: str
    tick: int
    lot: int
    price: int
    decimals: tuple[int | None, int | None] = (8, 8)
    """Of prices and of quantities on the wire; None for as many as are needed."""
    contract: Decimal = Decimal(1)
    """What quantity 1 is: so much of the base, or of the quote where it is `inverse`."""
    inverse: bool = False
    funding_hours: int = 8

    @property
    def unit_value(self) -> int:
        """What quantity 1 is worth at the first price, in units of 1e-8 of the quote."""
        return int(self.contract * (SCALE if self.inverse else self.price))

    def price_text(self, units: int) -> str:
        """A price as the exchange writes it."""
        return text(units, self.decimals[0])

    def quantity_text(self, units: int) -> str:
        """A quantity as the exchange writes it."""
        return text(units, self.decimals[1])


@lru_cache(1 << 16)
def text(units: int, decimals: int | None = 8) -> str:
    """Units of 1e-8 with so many decimals, `58001.03000000`; with None as few as `58001.03`."""
    if decimals is None:
        return f"{units // SCALE}.{units % SCALE:08d}".rstrip("0").rstrip(".")
    if decimals == 0:
        return str(units // SCALE)
    return f"{units // SCALE}.{units % SCALE // 10 ** (8 - decimals):0{decimals}d}"


def decimals_of(step: int) -> int:
    """How many decimals the multiples of a step of 1e-8 need."""
    return len(text(step, None).partition(".")[2])


_TABLE = {
    listing.symbol: listing
    for listing in (
        Listing("BTCUSDT", "BTC", "USDT", 1_000_000, 1_000, 60_000 * SCALE),
        Listing("ETHUSDT", "ETH", "USDT", 1_000_000, 10_000, 3_000 * SCALE),
        Listing("BNBUSDT", "BNB", "USDT", 1_000_000, 100_000, 600 * SCALE),
        Listing("SOLUSDT", "SOL", "USDT", 1_000_000, 100_000, 150 * SCALE),
        Listing("DOTUSDT", "DOT", "USDT", 100_000, 1_000_000, 40 * SCALE),
        Listing("XRPUSDT", "XRP", "USDT", 10_000, 10_000_000, 2 * SCALE),
        Listing("ETHBTC", "ETH", "BTC", 1_000, 10_000, 5_000_000),
    )
}


def listing(symbol: str) -> Listing:
    """The listing of a symbol; of an unknown one with a plausible tick and lot.

    Raises:
        LookupError: the symbol ends in no known quote asset.
    """
    if symbol in _TABLE:
        return _TABLE[symbol]
    for quote in sorted(QUOTE_ASSETS, key=len, reverse=True):
        if symbol.endswith(quote) and len(symbol) > len(quote):
            return Listing(
                symbol, symbol.removesuffix(quote), quote, 1_000_000, 100_000, 100 * SCALE
            )
    raise LookupError(f"{symbol}: ends in no known quote asset")
