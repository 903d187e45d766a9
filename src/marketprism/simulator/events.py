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
    book_id: int = 0
    """The book change which the match made."""


@attrs.frozen
class Snapshot:
    """A book as of change `last_id`, best levels first."""

    symbol: str
    last_id: int
    bids: list[Level]
    asks: list[Level]
    limit: int | None = None
    """How many levels a side were asked for, where that is known."""
    time: int = 0
    """When it was so; 0 where that is not known."""


@attrs.frozen
class Update:
    """The book changes `first_id` to `last_id`, both included, as the levels' new quantities.

    The one before ended at `first_id - 1`. One without levels whose `last_id` is that number too
    says that nothing happened; a smaller `last_id` begins a new numbering.
    """

    symbol: str
    first_id: int
    last_id: int
    bids: list[Level]
    asks: list[Level]
    time: int
    top: Snapshot | None = attrs.field(default=None, eq=False)
    """The best levels after it, where the market was asked to tell them."""


@attrs.frozen
class Mark:
    """What a perpetual is worth, and what holding it costs."""

    symbol: str
    mark: str
    index: str
    settle: str
    """The estimated settlement price."""
    rate: str
    """Funding of the present interval."""
    premium: str
    funding_time: int
    """When the present interval ends."""
    following_time: int
    """When the one after it ends."""
    time: int


@attrs.frozen
class OpenInterest:
    """The positions open, as a count of contracts, in the base asset and in US dollars."""

    symbol: str
    contracts: str
    base: str
    value: str
    time: int


@attrs.frozen
class Forced:
    """One order by which a position was liquidated."""

    sells: bool
    """Whether the order sells, so that a long position ends."""
    price: str
    average: str
    quantity: str
    time: int


@attrs.frozen
class Liquidations:
    """Forced orders of one symbol within a second, not in order of time."""

    symbol: str
    orders: tuple[Forced, ...]
    time: int


@attrs.frozen
class Volatility:
    """A volatility index at one second, in percent points."""

    symbol: str
    value: float
    time: int


Event = Trade | Aggregate | Update | Mark | OpenInterest | Liquidations | Volatility


@attrs.frozen
class Message:
    """One thing an exchange says on one of its streams."""

    stream: str
    """The exchange's own name of the stream, `btcusdt@depth@100ms`."""
    symbol: str
    kind: str
    """The data type as in the contract: `trade`, `orderbook` (an update of it); `snapshot` for a
    whole book, `other` for what has none.
    """
    text: str
    """The bare payload, exactly as on the wire, without an envelope naming the stream."""
    update: Update | None = None
    """What the message does to the book, when it does something."""
    snapshot: Snapshot | None = None
    """The whole book, when the message gives one."""
