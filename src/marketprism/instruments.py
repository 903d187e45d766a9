"""What is traded, as the exchange's own metadata says it, and how a user selects from it."""

import fnmatch
from collections.abc import Iterable, Sequence

import attrs


@attrs.frozen(cache_hash=True)
class Instrument:
    """One market of one exchange, with all that its list of markets says which matters to us. Two
    are the same when their names are.
    """

    exchange: str
    """`binance`, `okx`, `deribit`: the second token of a subject."""
    market_type: str
    """`spot`, `perpetual`, `options`: the third token of a subject."""
    symbol: str
    """`BASE-QUOTE` in upper case; for a volatility index the bare currency."""
    native_id: str
    """What the exchange calls it, to the letter: `BTCUSDT`, `BTC-USDT-SWAP`, `btc_usd`."""
    base: str = attrs.field(default="", eq=False)
    quote: str = attrs.field(default="", eq=False)
    contract_size: str | None = attrs.field(default=None, eq=False)
    """What one contract is worth: base units (linear) or quote units (inverse), as a plain
    decimal; None where quantities already are base units."""
    inverse: bool = attrs.field(default=False, eq=False)
    """The contract's value is in the quote currency: base = contracts × size ÷ price."""
    trading: bool = attrs.field(default=True, eq=False)
    """The exchange says that it can be traded now."""
    ended: bool = attrs.field(default=False, eq=False)
    """It cannot, and is not to be again: settled, delivered, expired."""
    native_status: str = attrs.field(default="", eq=False)
    """What the exchange calls its state, to the letter: `TRADING`, `BREAK`, `suspend`."""


def select(
    instruments: Iterable[Instrument], patterns: Sequence[str]
) -> tuple[list[Instrument], list[str]]:
    """The instruments that `patterns` name, and the patterns that name nothing there is.

    A pattern is a symbol, or holds `*` and `?`. One that is not trading is selected by its full
    symbol only: a pattern means what can be traded, and one that leaves out all it names, since
    none of it trades now, is no mistake.
    """
    pool = list(instruments)
    chosen: dict[Instrument, None] = {}
    unmatched = []
    for pattern in patterns:
        exact = not set(pattern) & set("*?")
        named = [each for each in pool if fnmatch.fnmatchcase(each.symbol, pattern)]
        chosen.update(dict.fromkeys(each for each in named if each.trading or exact))
        if not named:
            unmatched.append(pattern)
    return list(chosen), unmatched
