"""What Binance's websockets have in common: stream names, commands, envelopes.

Source of the rules: Binance's documentation of the websocket market streams.
"""

import re
from typing import TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

import attrs
import msgspec

from .events import Aggregate, Message
from .skin import Client, Flaw, Opening, Reply, Skin

_STREAM = re.compile(r"[^@\s/]+@[^\s/]+|![^\s/]+")
_METHODS = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS")
_MOST_STREAMS = 1024

T = TypeVar("T")


class _Enveloped(msgspec.Struct):
    stream: str
    data: msgspec.Raw


class BinanceStreams(Skin):
    """The half of a skin that Binance's markets share."""

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

    def command(self, text: str, client: Client) -> Reply:
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
            return Reply((as_text({"result": list(client.streams), "id": ident}),))
        if not isinstance(names, list) or not names:
            return _error(2, "Invalid request: missing field `params`", ident)
        if not all(isinstance(name, str) and _STREAM.fullmatch(name) for name in names):
            return _error(2, "Invalid request: invalid stream", ident)
        done = (as_text({"result": None, "id": ident}),)
        if method == "UNSUBSCRIBE":
            return Reply(done, remove=tuple(names))
        if len(set(client.streams) | set(names)) > _MOST_STREAMS:
            return _error(2, "Invalid request: too many parameters", ident)
        return Reply(done, add=tuple(names))

    def refusal(self, text: str, error: tuple[str, str], stream: str, client: Client) -> Reply:
        """An error with the command's id."""
        return _error(int(error[0]), error[1], msgspec.json.decode(text).get("id"))

    def envelope(self, stream: str, text: str) -> str:
        """`{"stream":…,"data":…}`, with the payload's own text inside."""
        return f'{{"stream":{as_text(stream)},"data":{text}}}'

    def trade_kind(self, stream: str) -> str | None:
        """By the stream's name."""
        return {"trade": "raw", "aggTrade": "aggregated"}.get(stream.partition("@")[2])

    def shutdown_notice(self, now_ms: int) -> tuple[str, str]:
        """`serverShutdown`: reconnect at once."""
        return "!serverShutdown", as_text({"e": "serverShutdown", "E": now_ms})

    def some_trade(self, symbol: str) -> Message:
        """A trade of the symbol, whatever it says."""
        raise NotImplementedError

    def flawed(self, flaw: Flaw, like: Message | None, symbol: str) -> Message:
        """A trade with an impossible price, or an event nobody knows."""
        if like is None:
            like = self.some_trade(symbol)
        if flaw == "unknown_event":
            text = as_text({"e": "unheardOf", "E": 0, "s": like.symbol, "x": [1, 2, 3]})
            return attrs.evolve(like, kind="other", text=text)
        payload = msgspec.json.decode(like.text)
        payload["p"] = "-1.00000000" if flaw == "negative_price" else "abc"
        return attrs.evolve(like, text=as_text(payload))


def aggregate_ids(event: Aggregate) -> dict[str, int]:
    """Its own id, and the first and last of the trades it sums up."""
    return {"a": event.aggregate_id, "f": event.first_trade_id, "l": event.last_trade_id}


def taken_apart(raw: str) -> tuple[str | None, str]:
    """The stream of a recorded message, where an envelope names it, and the payload's own text."""
    enveloped = decoded(raw, _Enveloped)
    return (None, raw) if enveloped is None else (enveloped.stream, bytes(enveloped.data).decode())


def levels(found: list[list[str]]) -> list[tuple[str, str]]:
    """Prices and quantities, without what else a level may carry."""
    return [(price, quantity) for price, quantity, *_ in found]


def decoded(raw: str, shape: type[T]) -> T | None:
    """JSON of this shape, else None."""
    try:
        return msgspec.json.decode(raw, type=shape)
    except msgspec.ValidationError:
        return None


def as_text(value: object) -> str:
    """JSON, as it goes on the wire."""
    return msgspec.json.encode(value).decode()


def _error(code: int, message: str, ident: int | str | None) -> Reply:
    return Reply((as_text({"error": {"code": code, "msg": message}, "id": ident}),))
