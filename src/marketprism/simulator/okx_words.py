"""What OKX says on its channels: an event of the market as a push.

Source of the rules: OKX's documentation of the v5 websocket API, and recorded messages.
"""

from itertools import zip_longest
from zlib import crc32

import msgspec

from .events import (
    Aggregate,
    Event,
    Level,
    Liquidations,
    Mark,
    Message,
    OpenInterest,
    Snapshot,
    Update,
)
from .okx_instruments import family, kind

_CHECKED_LEVELS = 25


def stream_name(channel: str, subject: str) -> str:
    """A stream's name here: `books:BTC-USDT`, `liquidation-orders:SWAP`."""
    return f"{channel}:{subject}"


def checksum(bids: list[Level], asks: list[Level]) -> int:
    """CRC32, signed, of the best 25 levels `bid:ask:bid:ask…`, each as `price:size`."""
    pairs = zip_longest(bids[:_CHECKED_LEVELS], asks[:_CHECKED_LEVELS])
    told = [f"{level[0]}:{level[1]}" for pair in pairs for level in pair if level is not None]
    unsigned = crc32(":".join(told).encode())
    return unsigned - (1 << 32) if unsigned >= 1 << 31 else unsigned


def whole_book(snapshot: Snapshot, *, checksums: bool) -> Message:
    """Channel `books`: what a new subscriber is told first."""
    check = checksum(snapshot.bids, snapshot.asks) if checksums else 0
    data = {
        "asks": _levels(snapshot.asks),
        "bids": _levels(snapshot.bids),
        "ts": str(snapshot.time),
        "checksum": check,
        "seqId": snapshot.last_id,
        "prevSeqId": -1,
    }
    return _book(snapshot.symbol, "snapshot", data, None, snapshot)


def book_body(snapshot: Snapshot) -> dict[str, object]:
    """A book as REST gives it: a `seqId`, and nothing of what was before."""
    return {
        "asks": _levels(snapshot.asks),
        "bids": _levels(snapshot.bids),
        "ts": str(snapshot.time),
        "seqId": snapshot.last_id,
    }


def push(event: Event) -> Message:
    """Any event that has a channel."""
    match event:
        case Update():
            return _update(event)
        case Aggregate():
            return _trade(event)
        case Mark():
            return _funding(event)
        case OpenInterest():
            return _open_interest(event)
        case Liquidations():
            return _liquidations(event)
    raise TypeError(f"no channel carries {type(event).__name__}")


def _update(event: Update) -> Message:
    data = {
        "asks": _levels(event.asks),
        "bids": _levels(event.bids),
        "ts": str(event.time),
        "checksum": 0 if event.top is None else checksum(event.top.bids, event.top.asks),
        "seqId": event.last_id,
        "prevSeqId": event.first_id - 1,
    }
    return _book(event.symbol, "update", data, event, None)


def _book(
    symbol: str, action: str, data: object, update: Update | None, snapshot: Snapshot | None
) -> Message:
    arg = {"channel": "books", "instId": symbol}
    text = _text({"arg": arg, "action": action, "data": [data]})
    kind_ = "orderbook" if snapshot is None else "snapshot"
    return Message(stream_name("books", symbol), symbol, kind_, text, update, snapshot)


def _trade(event: Aggregate) -> Message:
    return _instrument("trades", "trade", event.symbol, {
        "tradeId": str(event.last_trade_id),
        "px": event.price,
        "sz": event.quantity,
        "side": "sell" if event.buyer_is_maker else "buy",
        "ts": str(event.time),
        "count": str(event.last_trade_id - event.first_trade_id + 1),
        "source": "0",
        "seqId": event.book_id,
    })  # fmt: skip


def _funding(event: Mark) -> Message:
    return _instrument("funding-rate", "funding_rate", event.symbol, {
        "instType": "SWAP",
        "formulaType": "withRate",
        "fundingRate": event.rate,
        "fundingTime": str(event.funding_time),
        "impactValue": "",
        "interestRate": "0.0001",
        "maxFundingRate": "0.00375",
        "method": "current_period",
        "minFundingRate": "-0.00375",
        "nextFundingRate": "",
        "nextFundingTime": str(event.following_time),
        "premium": event.premium,
        "settFundingRate": event.rate,
        "settState": "settled",
        "ts": str(event.time),
    })  # fmt: skip


def _open_interest(event: OpenInterest) -> Message:
    return _instrument("open-interest", "open_interest", event.symbol, {
        "instType": "SWAP",
        "oi": event.contracts,
        "oiCcy": event.base,
        "oiUsd": event.value,
        "ts": str(event.time),
    })  # fmt: skip


def _instrument(channel: str, kind_: str, symbol: str, data: dict[str, object]) -> Message:
    arg = {"channel": channel, "instId": symbol}
    text = _text({"arg": arg, "data": [{"instId": symbol, **data}]})
    return Message(stream_name(channel, symbol), symbol, kind_, text)


def _liquidations(event: Liquidations) -> Message:
    of_kind = kind(event.symbol)
    details = [
        {
            "bkLoss": "0",
            "bkPx": forced.price,
            "ccy": "",
            "posSide": "long" if forced.sells else "short",
            "side": "sell" if forced.sells else "buy",
            "sz": forced.quantity,
            "ts": str(forced.time),
        }
        for forced in event.orders
    ]
    one = {
        "details": details,
        "instFamily": family(event.symbol),
        "instId": event.symbol,
        "instType": of_kind,
        "uly": family(event.symbol),
    }
    text = _text({"arg": {"channel": "liquidation-orders", "instType": of_kind}, "data": [one]})
    return Message(stream_name("liquidation-orders", of_kind), event.symbol, "liquidation", text)


def _levels(levels: list[Level]) -> list[tuple[str, str, str, str]]:
    # Nobody keeps count of orders here: a level has one, a removed level none.
    return [(price, size, "0", "0" if size == "0" else "1") for price, size in levels]


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()
