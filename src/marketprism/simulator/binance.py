"""Binance spot's websocket: paths, commands, shapes of messages.

Source of the rules: Binance's documentation of the spot websocket streams, and recordings of 2021.
"""

import re
from collections.abc import Collection
from typing import Any, TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

import attrs
import msgspec

from .binance_rest import BinanceRest
from .events import Aggregate, Event, Message, Trade, Update
from .skin import Flaw, Opening, Reply

_STREAM = re.compile(r"[^@\s/]+@[^\s/]+|![^\s/]+")
_METHODS = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS")
_MOST_STREAMS = 1024
_WS_HOST = "wss://stream.binance.com:9443"

T = TypeVar("T")


class _Enveloped(msgspec.Struct):
    stream: str
    data: msgspec.Raw


class _Payload(msgspec.Struct):
    """The keys read from a recorded message; `b` and `a` mean other things in other events."""

    e: str = ""
    s: str = ""
    E: int = 0
    U: int = 0
    u: int = 0
    b: Any = None
    a: Any = None


class BinanceSpot(BinanceRest):
    """`/ws`, `/stream`; trade, aggTrade and depth@100ms."""

    venue = "binance_spot"
    commands_per_second = 5

    def opening(self, target: str) -> Opening | None:
        """`/ws[/<stream>…]` is bare, `/stream[?streams=a/b]` names the stream of each message."""
        parts = urlsplit(target)
        path, _, names = parts.path.strip("/").partition("/")
        if path == "stream" and not names:
            names = parse_qs(parts.query).get("streams", [""])[-1]
        elif path != "ws":
            return None
        streams = tuple(dict.fromkeys(unquote(name) for name in names.split("/") if name))
        if len(streams) > _MOST_STREAMS or not all(map(_STREAM.fullmatch, streams)):
            return None
        return Opening(streams, enveloped=path == "stream")

    def command(self, text: str, streams: Collection[str]) -> Reply:
        """SUBSCRIBE, UNSUBSCRIBE, LIST_SUBSCRIPTIONS; else error 2, or 3 when it is not JSON."""
        try:
            command = msgspec.json.decode(text)
        except (msgspec.DecodeError, UnicodeEncodeError) as error:
            return _error(3, f"Invalid JSON: {error}", None)
        if not isinstance(command, dict):
            return _error(2, "Invalid request: expected an object", None)
        ident = command.get("id")
        if isinstance(ident, bool) or not isinstance(ident, int | str | None):
            return _error(2, "Invalid request: request ID must be an unsigned integer", None)
        if "method" not in command:
            return _error(2, "Invalid request: missing field `method`", ident)
        method, names = command["method"], command.get("params")
        if method not in _METHODS:
            expected = ", ".join(f"`{name}`" for name in _METHODS)
            return _error(
                2, f"Invalid request: unknown variant `{method}`, expected one of {expected}", ident
            )
        if method == "LIST_SUBSCRIPTIONS":
            return Reply(_text({"result": list(streams), "id": ident}))
        if not isinstance(names, list) or not names:
            return _error(2, "Invalid request: missing field `params`", ident)
        if not all(isinstance(name, str) and _STREAM.fullmatch(name) for name in names):
            return _error(2, "Invalid request: invalid stream", ident)
        done = _text({"result": None, "id": ident})
        if method == "UNSUBSCRIBE":
            return Reply(done, remove=tuple(names))
        if len(set(streams) | set(names)) > _MOST_STREAMS:
            return _error(2, "Invalid request: too many parameters", ident)
        return Reply(done, add=tuple(names))

    def envelope(self, stream: str, text: str) -> str:
        """`{"stream":…,"data":…}`, with the payload's own text inside."""
        return f'{{"stream":{_text(stream)},"data":{text}}}'

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
            return Message(stream, event.symbol, "orderbook", _text(payload), event)
        if isinstance(event, Trade):
            name, ids = "trade", {"t": event.trade_id}
        else:
            name, ids = "aggTrade", _aggregate_ids(event)
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
        return Message(f"{lower}@{name}", event.symbol, "trade", _text(payload))

    def recorded(self, raw: str) -> Message | None:
        """A recorded message, enveloped or bare, its payload's text untouched."""
        enveloped = _decode(raw, _Enveloped)
        text = raw if enveloped is None else bytes(enveloped.data).decode()
        payload = _decode(text, _Payload)
        if payload is None or not payload.s:
            return None
        stream = _stream(payload) if enveloped is None else enveloped.stream
        if payload.e == "depthUpdate":
            update = Update(
                payload.s, payload.U, payload.u, _levels(payload.b), _levels(payload.a), payload.E
            )
            return Message(stream, payload.s, "orderbook", text, update)
        kind = "trade" if payload.e in ("trade", "aggTrade") else "other"
        return Message(stream, payload.s, kind, text)

    def stream_url(self, streams: Collection[str]) -> str:
        """The combined URL of the real exchange."""
        return f"{_WS_HOST}/stream?streams={'/'.join(streams)}"

    def shutdown_notice(self, now_ms: int) -> tuple[str, str]:
        """`serverShutdown`: reconnect at once."""
        return "!serverShutdown", _text({"e": "serverShutdown", "E": now_ms})

    def flawed(self, flaw: Flaw, like: Message | None, symbol: str) -> Message:
        """A trade with an impossible price, or an event nobody knows."""
        if like is None:
            like = self.message(Trade(symbol, 0, "1.00000000", "1.00000000", True, 0))
        if flaw == "unknown_event":
            text = _text({"e": "unheardOf", "E": 0, "s": like.symbol, "x": [1, 2, 3]})
            return attrs.evolve(like, kind="other", text=text)
        payload = msgspec.json.decode(like.text)
        payload["p"] = "-1.00000000" if flaw == "negative_price" else "abc"
        return attrs.evolve(like, text=_text(payload))


def _aggregate_ids(event: Aggregate) -> dict[str, int]:
    return {"a": event.aggregate_id, "f": event.first_trade_id, "l": event.last_trade_id}


def _stream(payload: _Payload) -> str:
    # A bare book ticker has no event name.
    name = {"depthUpdate": "depth@100ms", "": "bookTicker"}.get(payload.e, payload.e)
    return f"{payload.s.lower()}@{name}"


def _levels(levels: list[list[str]]) -> list[tuple[str, str]]:
    return [(price, quantity) for price, quantity, *_ in levels]


def _decode(raw: str, shape: type[T]) -> T | None:
    try:
        return msgspec.json.decode(raw, type=shape)
    except msgspec.ValidationError:
        return None


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _error(code: int, message: str, ident: int | str | None) -> Reply:
    return Reply(_text({"error": {"code": code, "msg": message}, "id": ident}))
