"""What happens on an exchange, said without any exchange's protocol.

Prices and quantities are the exact text that goes on the wire; times are integer milliseconds
since the epoch.
"""

import attrs

Level = tuple[str, str]
"""Price and quantity; in an update a quantity of zero removes the level."""


@attrs.frozen
class Trade:
    """One match between a taker and one maker."""

    symbol: str
    trade_id: int
    price: str
    quantity: str
    buyer_is_maker: bool
    time: int


@attrs.frozen
class Aggregate:
    """All matches of one taker order at one price: trades `first_trade_id` to `last_trade_id`."""

    symbol: str
    aggregate_id: int
    price: str
    quantity: str
    first_trade_id: int
    last_trade_id: int
    buyer_is_maker: bool
    time: int


@attrs.frozen
class Update:
    """The book changes `first_id` to `last_id`, both included, as the levels' new quantities."""

    symbol: str
    first_id: int
    last_id: int
    bids: list[Level]
    asks: list[Level]
    time: int


Event = Trade | Aggregate | Update


@attrs.frozen
class Snapshot:
    """A book as of change `last_id`, best levels first."""

    symbol: str
    last_id: int
    bids: list[Level]
    asks: list[Level]
    limit: int | None = None
    """How many levels a side were asked for, where that is known."""


@attrs.frozen
class Message:
    """One thing an exchange says on one of its streams."""

    stream: str
    """The exchange's own name of the stream, `btcusdt@depth@100ms`."""
    symbol: str
    kind: str
    """The data type as in the contract: `trade`, `orderbook`; `other` for what has none."""
    text: str
    """The bare payload, exactly as on the wire, without an envelope naming the stream."""
    update: Update | None = None
    """What the message does to the book, when it does something."""
