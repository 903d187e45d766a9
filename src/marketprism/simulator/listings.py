"""What is listed: base and quote of a symbol, its tick, its lot, a price to begin at.

A capture does not carry the exchange's metadata, so it is completed from here; a symbol that is not
in the table is taken apart by its ending. Only a simulator may do that.
"""

import attrs

SCALE = 10**8
"""Prices and quantities have eight decimals on the wire."""

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


def text(units: int) -> str:
    """Units of 1e-8 as the exchange writes them: `58001.03000000`."""
    return f"{units // SCALE}.{units % SCALE:08d}"


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
