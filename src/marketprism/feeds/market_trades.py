"""What an exchange tells among its trades and is none. Pure.

An insurance fund takes over a position, a trade at a price or of a quantity of zero corrects an
account: nobody bought at that price. Such a number is heard, so nothing is missing where it stands;
it is counted among the rejected frames, and not published.
"""

from typing import Final

import msgspec

from marketprism.feeds.actions import Output, Reject
from marketprism.feeds.venue import SAMPLE_BYTES
from marketprism.streams.state import StreamState

NO_MARKET_TRADE: Final = "no market trade"
"""Why it is rejected."""
MARKET: Final = "MARKET"
_is_zero = f"0.{'0' * 64}".startswith
"""Whether a plain decimal is zero: it begins like this, and ends before anything else comes."""


def left_out(price: str, quantity: str, kind: str | None = None) -> str | None:
    """Why a trade is left out, in words; None where it is a market trade. `kind` is the exchange's
    own word for it, where it has one; price and quantity are plain decimals.
    """
    if kind is not None and kind != MARKET:
        return f"it is of kind {kind[:40]!r}"
    if _is_zero(price):
        return "at a price of zero"
    return "of a quantity of zero" if _is_zero(quantity) else None


def leave_out(state: StreamState, said: msgspec.Struct, why: str, output: Output) -> None:
    """What was taken as a trade of a stream is none."""
    state.records -= 1
    output.actions.append(Reject(NO_MARKET_TRADE, why, msgspec.json.encode(said)[:SAMPLE_BYTES]))
