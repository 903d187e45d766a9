"""Binance spot's websocket: the shapes of its messages.

Source of the rules: Binance's documentation of the spot websocket streams, and recordings of 2021.
"""

from collections.abc import Collection, Sequence
from typing import Any

import msgspec

from .binance_rest import BinanceRest
from .binance_streams import BinanceStreams, aggregate_ids, as_text, decoded, levels, taken_apart
from .events import Aggregate, Event, Message, Trade, Update
from .live import Live
from .market import Market
from .skin import Options, Rates
from .source import Source

_WS_HOST = "wss://stream.binance.com:9443"


class _Payload(msgspec.Struct):
    """The keys read from a recorded message; `b` and `a` mean other things in other events."""

    e: str = ""
    s: str = ""
    E: int = 0
    U: int = 0
    u: int = 0
    b: Any = None
    a: Any = None


class BinanceSpot(BinanceRest, BinanceStreams):
    """`/ws`, `/stream`; trade, aggTrade and depth@100ms."""

    venue = "binance_spot"
    listed = ("BTCUSDT", "ETHUSDT")
    most_commands = (5, 1.0)
    ping_seconds = 20.0

    def __init__(self, options: Options = Options()) -> None:  # noqa: B008 (frozen)
        self._seed = options.seed

    def live(self, symbols: Sequence[str], rates: Rates) -> Source:
        """A market of trades and books."""
        market = Market(
            self._seed,
            symbols,
            trades_per_second=rates.trades_per_second,
            quotes_per_second=rates.quotes_per_second,
        )
        return Live(market, self, rates.step)

    def message(self, event: Event) -> Message:
        """An event in Binance's words; depth is `@depth@100ms`."""
        lower = event.symbol.lower()
        if isinstance(event, Update):
            payload: dict[str, object] = {
                "e": "depthUpdate",
                "E": event.time,
                "s": event.symbol,
                "U": event.first_id,
                "u": event.last_id,
                "b": event.bids,
                "a": event.asks,
            }
            stream = f"{lower}@depth@100ms"
            return Message(stream, event.symbol, "orderbook", as_text(payload), event)
        if isinstance(event, Trade):
            name, ids = "trade", {"t": event.trade_id}
        elif isinstance(event, Aggregate):
            name, ids = "aggTrade", aggregate_ids(event)
        else:
            raise TypeError(f"spot has no {type(event).__name__}")
        payload = {
            "e": name,
            "E": event.time,
            "s": event.symbol,
            **ids,
            "p": event.price,
            "q": event.quantity,
            "T": event.time,
            "m": event.buyer_is_maker,
            "M": True,
        }
        return Message(f"{lower}@{name}", event.symbol, "trade", as_text(payload))

    def some_trade(self, symbol: str) -> Message:
        """A trade of the symbol, whatever it says."""
        return self.message(Trade(symbol, 0, "1.00000000", "1.00000000", True, 0))

    def recorded(self, raw: str) -> Message | None:
        """A recorded message, enveloped or bare, its payload's text untouched."""
        named, text = taken_apart(raw)
        payload = decoded(text, _Payload)
        if payload is None or not payload.s:
            return None
        stream = named or _stream(payload)
        if payload.e == "depthUpdate":
            update = Update(
                payload.s, payload.U, payload.u, levels(payload.b), levels(payload.a), payload.E
            )
            return Message(stream, payload.s, "orderbook", text, update)
        kind = "trade" if payload.e in ("trade", "aggTrade") else "other"
        return Message(stream, payload.s, kind, text)

    def stream_url(self, streams: Collection[str]) -> str:
        """The combined URL of the real exchange."""
        return f"{_WS_HOST}/stream?streams={'/'.join(streams)}"


def _stream(payload: _Payload) -> str:
    # A bare book ticker has no event name.
    name = {"depthUpdate": "depth@100ms", "": "bookTicker"}.get(payload.e, payload.e)
    return f"{payload.s.lower()}@{name}"
