"""Every record that is published, on one page.

Units that hold throughout: a time is integer nanoseconds since the Unix epoch, UTC; a price,
quantity or rate is the exchange's own decimal string in plain notation, or one computed exactly;
None means that the exchange does not say, or nothing that can be read. How a record looks on the
wire stands in `wire.py`.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import ClassVar, Literal

import attrs

from marketprism.instruments import Instrument

Level = Sequence[str]
"""`(price, quantity)`; in an update a quantity of zero removes the price."""


class DataType(StrEnum):
    """What can be asked for."""

    ORDERBOOK = "orderbook"
    TRADE = "trade"
    FUNDING_RATE = "funding_rate"
    OPEN_INTEREST = "open_interest"
    LIQUIDATION = "liquidation"
    LSR_TOP_POSITION = "lsr_top_position"
    LSR_ALL_ACCOUNT = "lsr_all_account"
    VOLATILITY_INDEX = "volatility_index"


@attrs.define
class Record:
    """What all records have in common."""

    data_type: ClassVar[str]

    instrument: Instrument
    timestamp: int | None
    """When it happened, by the exchange's clock. Each record says which of its times it is."""
    collected_at: int
    """When the frame that told us was read, by our clock."""


@attrs.define
class Trade(Record):
    """A trade, or several fills of one order that the exchange tells as one. Its fields are the
    contract's.
    """

    data_type: ClassVar[str] = DataType.TRADE

    trade_id: str
    """The exchange's id; for an aggregated one the aggregate's."""
    price: str
    quantity: str
    """In the base asset."""
    side: Literal["buy", "sell"] | None
    """The taker's."""
    trade_kind: Literal["raw", "aggregated"] = "raw"
    first_trade_id: str | None = None
    last_trade_id: str | None = None
    is_maker: bool | None = None
    """The buyer was the maker (Binance's `m`)."""
    contracts: str | None = None
    """The native count, where the exchange counts contracts."""
    numbered_apart: bool = attrs.field(default=False, eq=False)
    """Of an aggregate: its number is none of its trades'. Two of them have been seen to share one,
    so the message id names their trades, too; this is a part of that only."""


@attrs.define
class OrderBookRecord(Record):
    """A change of a book, or a picture of it. `timestamp`: of the last change in it."""

    data_type: ClassVar[str] = DataType.ORDERBOOK

    update_type: Literal["snapshot", "update"]
    bids: Sequence[Level]
    """Best first in a snapshot; as they came in an update."""
    asks: Sequence[Level]
    first_update_id: int | None
    last_update_id: int
    prev_update_id: int | None = None
    """Of an update: `last_update_id` of the message of this book before it, snapshot or update."""
    heals_gap: int = 0
    """For a snapshot that ends a gap, the gap's `started_at`: a part of the message id only."""

    @property
    def depth_levels(self) -> int:
        """The larger side's count of levels in this message."""
        return max(len(self.bids), len(self.asks))


@attrs.define
class FundingRate(Record):
    """The funding of a perpetual. `timestamp`: the event's."""

    data_type: ClassVar[str] = DataType.FUNDING_RATE

    current_funding_rate: str
    estimated_funding_rate: str | None
    funding_time: int | None
    """When `current_funding_rate` is paid."""
    next_funding_time: int | None
    """The one after that."""
    funding_interval: str | None
    """`8h`."""
    mark_price: str | None = None
    index_price: str | None = None


@attrs.define
class OpenInterest(Record):
    """What is open in one contract."""

    data_type: ClassVar[str] = DataType.OPEN_INTEREST

    open_interest: str | None
    """In the base asset."""
    open_interest_contracts: str | None = None
    open_interest_value: str | None = None
    """US dollars, or the quote's notional."""


@attrs.define
class Liquidation(Record):
    """A position closed by force. Its fields are the contract's."""

    data_type: ClassVar[str] = DataType.LIQUIDATION

    liquidation_id: str
    side: Literal["buy", "sell"] | None
    """Of the liquidation order: a long is liquidated by a sell."""
    status: str | None
    price: str | None
    average_price: str | None
    quantity: str | None
    """In the base asset."""
    filled_quantity: str | None
    notional_value: str | None
    contracts: str | None = None
    sampled: bool = True
    """The exchange publishes a sample of its liquidations, not all."""


@attrs.define
class LongShortRatio(Record):
    """How long and short are shared out. `timestamp`: of the five-minute row."""

    long_short_ratio: str | None
    long_share: str | None
    short_share: str | None
    period: str


@attrs.define
class TopPositionRatio(LongShortRatio):
    """By the positions of the top traders."""

    data_type: ClassVar[str] = DataType.LSR_TOP_POSITION


@attrs.define
class AllAccountRatio(LongShortRatio):
    """By the number of all accounts."""

    data_type: ClassVar[str] = DataType.LSR_ALL_ACCOUNT


@attrs.define
class VolatilityIndex(Record):
    """A volatility index, in percent points."""

    data_type: ClassVar[str] = DataType.VOLATILITY_INDEX

    volatility_index: str
    currency: str
    index_name: str


GapReason = Literal["disconnect", "sequence", "overflow", "stale", "restart", "metadata"]


@attrs.define
class Gap(Record):
    """Where we could not see, published when we see again. `timestamp`: `ended_at`. Its fields are
    the contract's.
    """

    data_type: ClassVar[str] = "gap"

    affected: DataType
    reason: GapReason
    started_at: int
    """From when on records may be missing: when its connection was last alive, at the last accepted
    one's `collected_at` or later; of a book that was wrong, when it was last known to be right; of
    what we could not keep, the first one's `collected_at`; within a hole that was filled, the time
    of the value before it. Moved where two gaps would share it.
    """
    ended_at: int
    """When sight came back; in a hole that was filled, the time of the value after it."""
    first_missing_id: int | None
    last_missing_id: int | None
    """Both inclusive; for a book, everything that the healing snapshot stands for."""
    lost: int | None
    """How many ids; None when they cannot be counted."""
    connection: str
    """The feed that lost sight: `binance_spot/0`."""
    detail: str | None = None
    """The cause, in words for people."""
    quiet: bool = attrs.field(default=False, eq=False)
    """One of many, whose cause is said once: logged at DEBUG."""
