"""Records as messages: the only place that knows subjects, message ids and JSON.

The shapes are the contract's: one JSON object a message, every field always present, numbers as
exact strings, times as RFC 3339 in UTC.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import unquote

import attrs
import msgspec

from marketprism.instruments import Instrument
from marketprism.records import (
    AllAccountRatio,
    DataType,
    FundingRate,
    Gap,
    Level,
    Liquidation,
    LongShortRatio,
    OpenInterest,
    OrderBookRecord,
    Record,
    TopPositionRatio,
    Trade,
    VolatilityIndex,
)
from marketprism.times import Clock, milliseconds, time_text

PREFIXES: Final[Mapping[str, str]] = {
    DataType.ORDERBOOK: "orderbook-data",
    DataType.TRADE: "trade-data",
    DataType.FUNDING_RATE: "funding-rate-data",
    DataType.OPEN_INTEREST: "open-interest-data",
    DataType.LIQUIDATION: "liquidation-data",
    DataType.LSR_TOP_POSITION: "lsr-data",
    DataType.LSR_ALL_ACCOUNT: "lsr-data",
    DataType.VOLATILITY_INDEX: "volatility-index-data",
    Gap.data_type: "data-gap",
}
"""The first token of each data type's subject."""

_INFIXES: Final[Mapping[str, str]] = {
    DataType.LSR_TOP_POSITION: "top-position.",
    DataType.LSR_ALL_ACCOUNT: "all-account.",
}

SUBJECTS: Final = tuple(f"{prefix}.>" for prefix in dict.fromkeys(PREFIXES.values()))
"""What a stream must cover to hold everything we publish."""

MAX_PAYLOAD_BYTES: Final = 900 * 1024
"""Larger ones are refused: near 1 MiB the server's and the client's ideas of a message's size
differ, and the client is closed for good (reliability.md, 5)."""

_encode = msgspec.json.Encoder().encode


@attrs.define
class Message:
    """One message for a sink, and what it is about."""

    subject: str
    msg_id: str
    """`Nats-Msg-Id`: made of what the exchange itself says, so that the same fact told twice,
    by whomever, is stored once."""
    payload: bytes
    instrument: Instrument
    data_type: str
    gap_pending: bool = False
    """When it was read, nobody knew what was stored of its stream before: whether there must be a
    gap ahead of it is still to be found out. See `resume/positions.py`."""


def subject(data_type: str, instrument: Instrument) -> str:
    """The subject of a data type of an instrument, `trade-data.binance.spot.BTC-USDT`."""
    return (
        f"{PREFIXES[data_type]}.{token(instrument.exchange)}.{token(instrument.market_type)}."
        f"{_INFIXES.get(data_type, '')}{token(instrument.symbol)}"
    )


def origin(subject: str) -> tuple[str, str, str]:
    """The exchange, the market type and the data type that a subject of ours is of."""
    prefix, exchange, market_type, rest = subject.split(".", 3)
    for data_type, own in PREFIXES.items():
        if own == prefix and rest.startswith(_INFIXES.get(data_type, "")):
            return unquote(exchange), unquote(market_type), str(data_type)
    raise ValueError(f"not a subject of ours: {subject}")


def token(text: str) -> str:
    """`text` as one token of a subject: what may not stand in one is percent-encoded in UTF-8."""
    return "".join(
        character
        if character.isascii() and (character.isalnum() or character in "-_")
        else "".join(f"%{byte:02X}" for byte in character.encode())
        for character in text
    )


def encode(record: Record) -> Message:
    """The message for a record. Raises KeyError for a class that is no record of ours."""
    data_type = record.data_type
    head = _heads.get((data_type, record.instrument))
    if head is None:
        head = _heads[data_type, record.instrument] = _Head.of(data_type, record.instrument)
    identity, fields = SHAPES[type(record)](record)
    return Message(
        head.subject,
        head.msg_id + identity,
        head.payload + _encode(fields)[1:],
        record.instrument,
        data_type,
    )


@attrs.frozen
class _Head:
    """What all messages of one stream begin with."""

    subject: str
    msg_id: str
    payload: bytes

    @classmethod
    def of(cls, data_type: str, instrument: Instrument) -> "_Head":
        names = {
            "data_type": str(data_type),
            "exchange": instrument.exchange,
            "market_type": instrument.market_type,
            "symbol": instrument.symbol,
            "instrument_id": instrument.native_id,
        }
        return cls(
            subject(data_type, instrument),
            f"{data_type}:{instrument.exchange}:{instrument.market_type}:"
            f"{token(instrument.symbol)}:",
            _encode(names)[:-1] + b",",
        )


_heads: dict[tuple[str, Instrument], _Head] = {}


_event_clock, _our_clock = Clock(), Clock()


def _times(record: Record) -> dict[str, Any]:
    timestamp = record.timestamp
    return {
        "timestamp": None if timestamp is None else _event_clock.text(timestamp),
        "collected_at": _our_clock.text(record.collected_at),
    }


_Shape = tuple[str, object]
"""What the message id ends with, and the fields behind the head."""


class _TradeFields(msgspec.Struct, gc=False):
    """As they follow in the payload."""

    timestamp: str | None
    collected_at: str
    trade_id: str
    price: str
    quantity: str
    side: str | None
    trade_kind: str
    first_trade_id: str | None
    last_trade_id: str | None
    is_maker: bool | None
    contracts: str | None


def _trade(record: Trade) -> _Shape:
    timestamp, kind, number = record.timestamp, record.trade_kind, record.trade_id
    fields = _TradeFields(
        None if timestamp is None else _event_clock.text(timestamp),
        _our_clock.text(record.collected_at),
        number,
        record.price,
        record.quantity,
        record.side,
        kind,
        record.first_trade_id,
        record.last_trade_id,
        record.is_maker,
        record.contracts,
    )
    if record.numbered_apart:
        return f"{kind}:{number}:{record.first_trade_id}-{record.last_trade_id}", fields
    return f"{kind}:{number}", fields


class _BookFields(msgspec.Struct, gc=False):
    """As they follow in the payload."""

    timestamp: str | None
    collected_at: str
    update_type: str
    bids: Sequence[Level]
    asks: Sequence[Level]
    first_update_id: int | None
    last_update_id: int
    prev_update_id: int | None
    depth_levels: int
    best_bid_price: str | None
    best_ask_price: str | None
    contract_size: str | None


def _orderbook(record: OrderBookRecord) -> _Shape:
    bids, asks, timestamp = record.bids, record.asks, record.timestamp
    snapshot = record.update_type == "snapshot"
    fields = _BookFields(
        None if timestamp is None else _event_clock.text(timestamp),
        _our_clock.text(record.collected_at),
        record.update_type,
        bids,
        asks,
        record.first_update_id,
        record.last_update_id,
        record.prev_update_id,
        record.depth_levels,
        bids[0][0] if snapshot and bids else None,
        asks[0][0] if snapshot and asks else None,
        record.instrument.contract_size,
    )
    # The contract's. Where OKX numbers a book anew twice within the duplicate window, an update may
    # get the id of an earlier one, and JetStream stores it not: only a time in the id would help.
    identity = f"{record.update_type}:{record.last_update_id}"
    return (f"{identity}:{milliseconds(record.heals_gap)}" if snapshot else identity), fields


def _funding_rate(record: FundingRate) -> _Shape:
    fields = _times(record) | {
        "current_funding_rate": record.current_funding_rate,
        "estimated_funding_rate": record.estimated_funding_rate,
        "funding_time": time_text(record.funding_time),
        "next_funding_time": time_text(record.next_funding_time),
        "funding_interval": record.funding_interval,
        "mark_price": record.mark_price,
        "index_price": record.index_price,
    }
    return str(milliseconds(record.timestamp)), fields


def _by_event_time(*names: str) -> Callable[[Record], _Shape]:
    def shape(record: Record) -> _Shape:
        fields = _times(record)
        fields.update((name, getattr(record, name)) for name in names)
        return str(milliseconds(record.timestamp)), fields

    return shape


def _liquidation(record: Liquidation) -> _Shape:
    _, fields = _liquidation_fields(record)
    return record.liquidation_id, fields


_liquidation_fields = _by_event_time(
    "liquidation_id",
    "side",
    "status",
    "price",
    "average_price",
    "quantity",
    "filled_quantity",
    "notional_value",
    "contracts",
    "sampled",
)


def _ratio(noun: str) -> Callable[[LongShortRatio], _Shape]:
    def shape(record: LongShortRatio) -> _Shape:
        fields = _times(record) | {
            "long_short_ratio": record.long_short_ratio,
            f"long_{noun}_ratio": record.long_share,
            f"short_{noun}_ratio": record.short_share,
            "period": record.period,
        }
        return str(milliseconds(record.timestamp)), fields

    return shape


def _gap(record: Gap) -> _Shape:
    fields = _times(record) | {
        "affected": str(record.affected),
        "reason": record.reason,
        "started_at": time_text(record.started_at),
        "ended_at": time_text(record.ended_at),
        "first_missing_id": _bound(record.first_missing_id),
        "last_missing_id": _bound(record.last_missing_id),
        "lost": record.lost,
        "connection": record.connection,
        "detail": record.detail,
    }
    return f"{record.affected}:{milliseconds(record.started_at)}", fields


def _bound(value: int | None) -> str | None:
    """Text for every type: a column of one type, whatever an exchange's ids are."""
    return None if value is None else str(value)


SHAPES: Final[Mapping[type[Record], Callable[[Any], _Shape]]] = {
    Trade: _trade,
    OrderBookRecord: _orderbook,
    FundingRate: _funding_rate,
    OpenInterest: _by_event_time("open_interest", "open_interest_contracts", "open_interest_value"),
    Liquidation: _liquidation,
    TopPositionRatio: _ratio("position"),
    AllAccountRatio: _ratio("account"),
    VolatilityIndex: _by_event_time("volatility_index", "currency", "index_name"),
    Gap: _gap,
}
