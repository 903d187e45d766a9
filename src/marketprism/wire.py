"""Records as messages: the only place that knows subjects, message ids and JSON.

The shapes are the contract's: one JSON object a message, every field always present, numbers as
exact strings, times as RFC 3339 in UTC.
"""

import datetime
from collections.abc import Callable, Mapping
from types import NoneType
from typing import Any, Final, get_args, get_type_hints
from urllib.parse import unquote

import attrs
import msgspec

from marketprism.instruments import Instrument
from marketprism.records import (
    AllAccountRatio,
    DataType,
    FundingRate,
    Gap,
    Liquidation,
    LongShortRatio,
    OpenInterest,
    OrderBookRecord,
    Record,
    TopPositionRatio,
    Trade,
    VolatilityIndex,
)

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
_decode = msgspec.json.Decoder(dict[str, Any]).decode


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
    gap ahead of it is still to be found out. See `restart`."""


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
    identity, fields = _SHAPES[type(record)](record)
    return Message(
        head.subject,
        head.msg_id + identity,
        head.payload + _encode(fields)[1:],
        record.instrument,
        data_type,
    )


def decode(payload: bytes) -> Record:
    """The record that `encode` made `payload` of, as far as a payload tells it; whichever version
    wrote it: what is not known here is left out, what is missing takes its default.

    Raises:
        msgspec.DecodeError: it is not a JSON object.
        KeyError, ValueError: it is not one of ours.
    """
    fields = _decode(payload)
    kind = _KINDS[fields.pop("data_type")]
    instrument = Instrument(
        fields.pop("exchange"),
        fields.pop("market_type"),
        fields.pop("symbol"),
        fields.pop("instrument_id"),
        contract_size=fields.pop("contract_size", None),
    )
    if (renamed := _RENAMED.get(kind)) is not None:
        renamed(fields)
    for name in _TIME_FIELDS & fields.keys():
        fields[name] = time_value(fields[name])
    read = _defaults(kind)
    read.update((name, fields[name]) for name in read.keys() & fields.keys())
    if lacking := [name for name, value in read.items() if value is _REQUIRED]:
        raise ValueError(f"a {kind.data_type} without {', '.join(lacking)}")
    return kind(instrument, **read)


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


class _Clock:
    """Times as text. Consecutive ones mostly share their second, so that one is kept."""

    second = -1
    prefix = ""

    def text(self, nanoseconds: int) -> str:
        second, rest = divmod(nanoseconds, 1_000_000_000)
        if second != self.second:
            self.prefix = datetime.datetime.fromtimestamp(second, datetime.UTC).strftime(
                "%Y-%m-%dT%H:%M:%S."
            )
            self.second = second
        if rest % 1_000_000 == 0:
            return f"{self.prefix}{rest // 1_000_000:03d}Z"
        return f"{self.prefix}{rest // 1_000:06d}Z"


_event_clock, _our_clock = _Clock(), _Clock()


def time_text(nanoseconds: int | None) -> str | None:
    """RFC 3339 in UTC to the millisecond, or to the microsecond where there are any."""
    return None if nanoseconds is None else _event_clock.text(nanoseconds)


def time_value(text: str | None) -> int | None:
    """The nanoseconds since the epoch of `time_text`'s answer."""
    if text is None:
        return None
    moment = datetime.datetime.fromisoformat(text)
    elapsed = moment - datetime.datetime.fromtimestamp(0, datetime.UTC)
    return (elapsed // datetime.timedelta(microseconds=1)) * 1_000


def _milliseconds(nanoseconds: int | None) -> int:
    return 0 if nanoseconds is None else nanoseconds // 1_000_000


def _times(record: Record) -> dict[str, Any]:
    timestamp = record.timestamp
    return {
        "timestamp": None if timestamp is None else _event_clock.text(timestamp),
        "collected_at": _our_clock.text(record.collected_at),
    }


_Shape = tuple[str, dict[str, Any]]


def _trade(record: Trade) -> _Shape:
    fields = _times(record)
    fields["trade_id"] = record.trade_id
    fields["price"] = record.price
    fields["quantity"] = record.quantity
    fields["side"] = record.side
    fields["trade_kind"] = record.trade_kind
    fields["first_trade_id"] = record.first_trade_id
    fields["last_trade_id"] = record.last_trade_id
    fields["is_maker"] = record.is_maker
    fields["contracts"] = record.contracts
    identity = f"{record.trade_kind}:{record.trade_id}"
    if record.numbered_apart:
        identity += f":{record.first_trade_id}-{record.last_trade_id}"
    return identity, fields


def _orderbook(record: OrderBookRecord) -> _Shape:
    bids, asks = record.bids, record.asks
    fields = _times(record)
    fields["update_type"] = record.update_type
    fields["bids"] = bids
    fields["asks"] = asks
    fields["first_update_id"] = record.first_update_id
    fields["last_update_id"] = record.last_update_id
    fields["prev_update_id"] = record.prev_update_id
    fields["depth_levels"] = record.depth_levels
    snapshot = record.update_type == "snapshot"
    fields["best_bid_price"] = bids[0][0] if snapshot and bids else None
    fields["best_ask_price"] = asks[0][0] if snapshot and asks else None
    fields["contract_size"] = record.instrument.contract_size
    # The contract's. Where OKX numbers a book anew twice within the duplicate window, an update may
    # get the id of an earlier one, and JetStream stores it not: only a time in the id would help.
    identity = f"{record.update_type}:{record.last_update_id}"
    return (f"{identity}:{_milliseconds(record.heals_gap)}" if snapshot else identity), fields


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
    return str(_milliseconds(record.timestamp)), fields


def _by_event_time(*names: str) -> Callable[[Record], _Shape]:
    def shape(record: Record) -> _Shape:
        fields = _times(record)
        fields.update((name, getattr(record, name)) for name in names)
        return str(_milliseconds(record.timestamp)), fields

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
        return str(_milliseconds(record.timestamp)), fields

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
    return f"{record.affected}:{_milliseconds(record.started_at)}", fields


def _bound(value: int | None) -> str | None:
    """Text for every type: a column of one type, whatever an exchange's ids are."""
    return None if value is None else str(value)


_SHAPES: Final[Mapping[type[Record], Callable[[Any], _Shape]]] = {
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

_KINDS: Final[Mapping[str, type[Record]]] = {kind.data_type: kind for kind in _SHAPES}


_REQUIRED: Final = object()
"""Stands where a record says nothing without a field."""


def _defaults(kind: type[Record]) -> dict[str, Any]:
    """What a payload may say of this kind, and what it means that it does not."""
    if (known := _known_defaults.get(kind)) is None:
        hints = get_type_hints(kind)
        known = _known_defaults[kind] = {
            each.name: each.default
            if each.default is not attrs.NOTHING
            else None
            if NoneType in get_args(hints[each.name])
            else _REQUIRED
            for each in attrs.fields(kind)
            if each.name != "instrument"
        }
    return dict(known)


_known_defaults: dict[type[Record], dict[str, Any]] = {}

_TIME_FIELDS = frozenset(
    {"timestamp", "collected_at", "funding_time", "next_funding_time", "started_at", "ended_at"}
)


def _name_shares(fields: dict[str, Any]) -> None:
    """`long_account_ratio` and its like; not `long_short_ratio`."""
    for share in ("long", "short"):
        for noun in ("position", "account"):
            if (name := f"{share}_{noun}_ratio") in fields:
                fields[f"{share}_share"] = fields[name]


def _read_gap(fields: dict[str, Any]) -> None:
    fields["affected"] = DataType(fields["affected"])
    for name in ("first_missing_id", "last_missing_id"):
        if fields.get(name) is not None:
            fields[name] = int(fields[name])


_RENAMED: Final[Mapping[type[Record], Callable[[dict[str, Any]], None]]] = {
    TopPositionRatio: _name_shares,
    AllAccountRatio: _name_shares,
    Gap: _read_gap,
}
"""Kinds whose fields are not told as they are."""
