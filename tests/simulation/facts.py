"""What an exchange said, stream by stream, in the terms of the contract: read from its messages
by nobody of ours.
"""

import datetime
import json
from collections.abc import Callable, Iterator
from decimal import ROUND_HALF_EVEN, Context, Decimal
from functools import lru_cache
from typing import Any

import attrs
from truth import Told, Truthful

from marketprism.simulator import okx_instruments
from marketprism.simulator.listings import Listing

MARKETS = {
    "binance_spot": ("binance", "spot"),
    "binance_derivatives": ("binance", "perpetual"),
    "okx_spot": ("okx", "spot"),
    "okx_derivatives": ("okx", "perpetual"),
    "deribit_derivatives": ("deribit", "options"),
}
"""The exchange and the market type of each venue."""

AHEAD = 60_000
"""Milliseconds by which a stamp is one of a time to come."""


@attrs.frozen
class Fact:
    """Something that the stream must tell, or may."""

    identity: str
    at: float
    """When the exchange said it, in virtual seconds."""
    shown: dict[str, Any]
    """Fields of the record, by the contract."""
    required: bool = True
    number: int | None = None


def symbol_of(venue: str, native: str) -> str:
    """How the contract names what the exchange calls so."""
    if venue == "deribit_derivatives":
        return native.partition("_")[0].upper()
    if venue.startswith("okx"):
        return native.removesuffix("-SWAP")
    return f"{native[:-4]}-{native[-4:]}"


def when(milliseconds: int | str) -> str:
    """A time as the contract writes it."""
    seconds, rest = divmod(int(milliseconds), 1000)
    return f"{datetime.datetime.fromtimestamp(seconds, datetime.UTC):%Y-%m-%dT%H:%M:%S}.{rest:03d}Z"


def milliseconds(text: str) -> int:
    """The same, read."""
    return round(datetime.datetime.fromisoformat(text).timestamp() * 1000)


def listed(venue: str, native: str) -> Listing | None:
    """What a contract is worth, where quantities are contracts."""
    derivative = venue == "okx_derivatives"
    return okx_instruments.listing(native) if derivative else None


_digits = Context(prec=12, rounding=ROUND_HALF_EVEN)


@lru_cache(100_000)
def base(contract: Decimal, inverse: bool, quantity: str, price: str) -> Decimal:
    """Contracts in the base asset, by the contract's rule."""
    value = Decimal(quantity) * contract
    return _digits.divide(value, Decimal(price)) if inverse else value


def quantity_in(listing: Listing | None, quantity: str, price: str) -> Decimal:
    """What is published for so much at that price."""
    if listing is None:
        return Decimal(quantity)
    return base(listing.contract, listing.inverse, quantity, price)


def of(exchange: Truthful, data_type: str, native: str, kind: str) -> list[Fact]:
    """All that was said of one stream, in order; the same thing said twice is one fact."""
    stream, read = _STREAMS[exchange.venue.partition("_")[0], data_type]
    name = stream(native, kind if exchange.venue == "binance_spot" else "aggregated")
    facts: dict[str, Fact] = {}
    listing = listed(exchange.venue, native)
    for told in exchange.told[name]:
        for fact in read(told, json.loads(told.message.text), native, listing):
            facts.setdefault(fact.identity, fact)
    found = list(facts.values())
    return _thinned(found) if data_type == "funding_rate" else found


Reader = Callable[[Told, Any, str, Listing | None], Iterator[Fact]]


def _binance_trade(told: Told, said: Any, _native: str, _listing: Listing | None) -> Iterator[Fact]:
    number = said["t"] if "t" in said else said["a"]
    shown = {
        "price": Decimal(said["p"]),
        "quantity": Decimal(said["q"]),
        "side": "sell" if said["m"] else "buy",
        "timestamp": when(said["T"]),
    }
    yield Fact(str(number), told.at, shown, number=number)


def _binance_funding(
    told: Told, said: Any, _native: str, _listing: Listing | None
) -> Iterator[Fact]:
    shown = {
        "current_funding_rate": Decimal(said["r"]),
        "funding_time": when(said["T"]),
        "mark_price": Decimal(said["p"]),
    }
    yield Fact(when(said["E"]), told.at, shown, number=said["E"])


def _binance_liquidation(
    told: Told, said: Any, _native: str, _listing: Listing | None
) -> Iterator[Fact]:
    order = said["o"]
    side = order["S"].lower()
    shown = {"price": Decimal(order["p"]), "quantity": Decimal(order["q"]), "side": side}
    yield Fact(f"{order['T']}:{side}::{order['p']}:{order['q']}:1", told.at, shown)


def _okx_trade(told: Told, said: Any, _native: str, listing: Listing | None) -> Iterator[Fact]:
    for each in said["data"]:
        shown = {
            "price": Decimal(each["px"]),
            "quantity": quantity_in(listing, each["sz"], each["px"]),
            "side": each["side"],
            "timestamp": when(each["ts"]),
        }
        yield Fact(each["tradeId"], told.at, shown)


def _okx_funding(told: Told, said: Any, _native: str, _listing: Listing | None) -> Iterator[Fact]:
    for each in said["data"]:
        shown = {
            "current_funding_rate": Decimal(each["fundingRate"]),
            "funding_time": when(each["fundingTime"]),
        }
        yield Fact(when(each["ts"]), told.at, shown, number=int(each["ts"]))


def _okx_interest(told: Told, said: Any, _native: str, _listing: Listing | None) -> Iterator[Fact]:
    for each in said["data"]:
        shown = {
            "open_interest": Decimal(each["oiCcy"]),
            "open_interest_contracts": Decimal(each["oi"]),
        }
        yield Fact(when(each["ts"]), told.at, shown)


def _okx_liquidation(told: Told, said: Any, native: str, listing: Listing | None) -> Iterator[Fact]:
    seen: dict[str, int] = {}
    for row in said["data"]:
        if row["instId"] != native:
            continue
        for each in row["details"]:
            said_so = ":".join(each[key] for key in ("ts", "side", "posSide", "bkPx", "sz"))
            seen[said_so] = seen.get(said_so, 0) + 1
            shown = {
                "price": Decimal(each["bkPx"]),
                "quantity": quantity_in(listing, each["sz"], each["bkPx"]),
                "side": each["side"],
            }
            yield Fact(f"{said_so}:{seen[said_so]}", told.at, shown)


def _thinned(facts: list[Fact]) -> list[Fact]:
    """Required is what changed, and the first of each 30 s; and what says a time to come, which
    says nothing of what follows it.
    """
    thinned, said = [], None
    late = min(((fact.number or 0) - fact.at * 1000 for fact in facts), default=0.0) + AHEAD
    for fact in facts:
        assert fact.number is not None
        if fact.number - fact.at * 1000 > late:
            thinned.append(fact)
            continue
        now = (*fact.shown.values(), fact.number // 30_000)
        now = (fact.shown["current_funding_rate"], fact.shown["funding_time"], now[-1])
        thinned.append(attrs.evolve(fact, required=now != said))
        said = now
    return thinned


_STREAMS: dict[tuple[str, str], tuple[Callable[[str, str], str], Reader]] = {
    ("binance", "trade"): (
        lambda native, kind: f"{native.lower()}@{'trade' if kind == 'raw' else 'aggTrade'}",
        _binance_trade,
    ),
    ("binance", "funding_rate"): (
        lambda native, _: f"{native.lower()}@markPrice@1s",
        _binance_funding,
    ),
    ("binance", "liquidation"): (
        lambda native, _: f"{native.lower()}@forceOrder",
        _binance_liquidation,
    ),
    ("okx", "trade"): (lambda native, _: f"trades:{native}", _okx_trade),
    ("okx", "funding_rate"): (lambda native, _: f"funding-rate:{native}", _okx_funding),
    ("okx", "open_interest"): (lambda native, _: f"open-interest:{native}", _okx_interest),
    ("okx", "liquidation"): (lambda *_: "liquidation-orders:SWAP", _okx_liquidation),
}
IDENTITY: dict[str, str] = {
    "trade": "trade_id",
    "liquidation": "liquidation_id",
    "funding_rate": "timestamp",
    "open_interest": "timestamp",
}
"""The field of a record that says which fact it is."""
