"""Binance's USD-M futures: routes, and the shapes of the websocket's messages.

Source of the rules: Binance's documentation of the USD-M websocket streams as of 2026, when they
were routed, and recordings of 2021, which the player serves on today's routes.
"""

from collections.abc import Collection, Sequence
from typing import Any

import attrs
import msgspec

from .binance_derivatives_rest import BinanceDerivativesRest, listing
from .binance_streams import BinanceStreams, aggregate_ids, as_text, decoded, levels, taken_apart
from .events import Aggregate, Event, Forced, Liquidations, Mark, Message, Update
from .live import Live
from .market import Market, Rules
from .skin import Opening, Options, Rates
from .source import Source

_WS_HOST = "wss://fstream.binance.com"
_PUBLIC = ("@depth", "@bookTicker")
_EVERYBODY = "!forceOrder@arr"
_RULES = Rules(listing, id_step=13, most_levels=900, perpetual=True)
_USD_M, _COIN_M = 1, 2
"""The product type `st` of a payload."""


class _Payload(msgspec.Struct):
    """The keys read from a recorded message; `b` and `a` mean other things in other events."""

    e: str = ""
    s: str = ""
    T: int = 0
    u: int = 0
    pu: int = 0
    b: Any = None
    a: Any = None
    o: Any = None


class BinanceDerivatives(BinanceDerivativesRest, BinanceStreams):
    """`/public` with books, `/market` with the rest; aggTrade, markPrice@1s, forceOrder, depth.

    The unrouted `/ws` and `/stream` of before April 2026 take any subscription, but carry books
    only. So does a route: what is subscribed where it does not belong is silent.
    """

    venue = "binance_derivatives"
    halted = "SETTLING"
    listed = ("BTCUSDT", "ETHUSDT")
    most_commands = (10, 1.0)
    ping_seconds = 180.0

    def __init__(self, options: Options = Options()) -> None:  # noqa: B008 (frozen)
        super().__init__(options.seed)

    def live(self, symbols: Sequence[str], rates: Rates) -> Source:
        """A market of perpetuals whose book ids jump."""
        market = Market(
            self.seed,
            symbols,
            trades_per_second=rates.trades_per_second,
            quotes_per_second=rates.quotes_per_second,
            rules=_RULES,
        )
        return Live(market, self, rates.step)

    def opening(self, target: str) -> Opening | None:
        """`/public/ws`, `/market/stream?streams=…` and so on; without a route the legacy one."""
        for route in ("public", "market"):
            rest = target.removeprefix(f"/{route}/")
            if rest != target:
                opening = super().opening(f"/{rest}")
                return None if opening is None else attrs.evolve(opening, route=route)
        opening = super().opening(target)
        return None if opening is None else attrs.evolve(opening, route="legacy")

    def carries(self, route: str, stream: str) -> bool:
        """Books and book tickers are public, all else is market."""
        name = stream[stream.find("@") :]
        public = name.startswith(_PUBLIC) or stream == "!bookTicker"
        return public != (route == "market")

    def message(self, event: Event) -> Message:
        """An event in Binance's words, on the stream of its symbol."""
        if isinstance(event, Update):
            return _depth(event)
        if isinstance(event, Aggregate):
            name, kind, payload = "aggTrade", "trade", _aggregate(event)
        elif isinstance(event, Mark):
            name, kind, payload = "markPrice@1s", "funding_rate", _mark(event)
        elif isinstance(event, Liquidations):
            # Only the largest of a second is told.
            forced = max(event.orders, key=lambda order: float(order.quantity))
            name, kind = "forceOrder", "liquidation"
            payload = _forced(event.symbol, forced, event.time, _USD_M)
        else:
            raise TypeError(f"no stream carries {type(event).__name__}")
        return Message(f"{event.symbol.lower()}@{name}", event.symbol, kind, as_text(payload))

    def messages(self, event: Event) -> Sequence[Message]:
        """Liquidations are on the stream of everybody too, and COIN-M's among them."""
        if isinstance(event, Liquidations):
            own = self.message(event)
            pair = f"{listing(event.symbol).base}USD_PERP"
            foreign = _forced(pair, event.orders[0], event.time, _COIN_M)
            coin = Message(_EVERYBODY, pair, "liquidation", as_text(foreign))
            return own, attrs.evolve(own, stream=_EVERYBODY), coin
        if isinstance(event, Update | Aggregate | Mark):
            return (self.message(event),)
        return ()

    def some_trade(self, symbol: str) -> Message:
        """A trade of the symbol, whatever it says."""
        return self.message(Aggregate(symbol, 0, "1.00", "1.000", 0, 0, True, 0))

    def recorded(self, raw: str) -> Message | None:
        """A recorded message, enveloped or bare, its payload's text untouched.

        An update's first id is taken as the one after `pu`: its `U` leaves a hole to the update
        before, so only `pu` tells whether one is missing.
        """
        named, text = taken_apart(raw)
        payload = decoded(text, _Payload)
        if payload is None:
            return None
        symbol = payload.s or (payload.o["s"] if isinstance(payload.o, dict) else "")
        if not symbol:
            return None
        name, kind = {
            "depthUpdate": ("depth@100ms", "orderbook"),
            "aggTrade": ("aggTrade", "trade"),
            "markPriceUpdate": ("markPrice@1s", "funding_rate"),
            "forceOrder": ("forceOrder", "liquidation"),
        }.get(payload.e, (payload.e, "other"))
        stream = named or f"{symbol.lower()}@{name}"
        update = None
        if payload.e == "depthUpdate":
            bids, asks = levels(payload.b), levels(payload.a)
            update = Update(symbol, payload.pu + 1, payload.u, bids, asks, payload.T)
        return Message(stream, symbol, kind, text, update)

    def stream_url(self, streams: Collection[str]) -> str:
        """The URL of a combined stream; of both routes, so none that the real exchange has."""
        return f"{_WS_HOST}/stream?streams={'/'.join(streams)}"


def _depth(event: Update) -> Message:
    payload = {
        "e": "depthUpdate",
        "E": event.time + 3,
        "T": event.time,
        "s": event.symbol,
        "ps": event.symbol,
        "st": _USD_M,
        # Ids are of the whole exchange: between two updates of a symbol some are of others.
        "U": event.first_id + _RULES.id_step - 2,
        "u": event.last_id,
        "pu": event.first_id - 1,
        "b": event.bids,
        "a": event.asks,
    }
    stream = f"{event.symbol.lower()}@depth@100ms"
    return Message(stream, event.symbol, "orderbook", as_text(payload), event)


def _aggregate(event: Aggregate) -> dict[str, object]:
    return {
        "e": "aggTrade",
        "E": event.time + 5,
        "s": event.symbol,
        **aggregate_ids(event),
        "p": event.price,
        "q": event.quantity,
        "nq": event.quantity,
        "T": event.time,
        "m": event.buyer_is_maker,
        "st": _USD_M,
    }


def _mark(event: Mark) -> dict[str, object]:
    return {
        "e": "markPriceUpdate",
        "E": event.time,
        "s": event.symbol,
        "p": event.mark,
        "P": event.settle,
        "i": event.index,
        "r": event.rate,
        "T": event.funding_time,
        "st": _USD_M,
    }


def _forced(symbol: str, forced: Forced, time: int, product: int) -> dict[str, object]:
    order = {
        "s": symbol,
        "S": "SELL" if forced.sells else "BUY",
        "o": "LIMIT",
        "f": "IOC",
        "q": forced.quantity,
        "p": forced.price,
        "ap": forced.average,
        "X": "FILLED",
        "l": forced.quantity,
        "z": forced.quantity,
        "T": forced.time,
    }
    return {"e": "forceOrder", "E": time, "o": order, "st": product}
