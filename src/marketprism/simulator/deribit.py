"""Deribit's websocket: JSON-RPC, heartbeats, the volatility indices.

Source of the rules: Deribit's documentation of the v2 API.
"""

from collections.abc import Collection, Sequence
from typing import Any
from urllib.parse import urlsplit

import attrs
import msgspec

from .deribit_rest import DeribitRest, Refused, invalid
from .events import Event, Message, Volatility
from .indices import Indices
from .skin import Client, Flaw, Opening, Options, Rates, Reply, Skin
from .source import Source

_PATH = "/ws/api/v2"
_WS_HOST = "wss://www.deribit.com"
_INDEX = "deribit_volatility_index."


class _Params(msgspec.Struct):
    channel: str
    data: Any = None


class _Notification(msgspec.Struct):
    method: str
    params: _Params


class DeribitDerivatives(DeribitRest, Skin):
    """`/ws/api/v2`: deribit_volatility_index.{btc_usd,eth_usd}."""

    venue = "deribit_derivatives"
    listed = ("btc_usd", "eth_usd")
    most_commands = (100, 5.0)
    shortest_heartbeat = 10.0
    """Seconds."""

    def __init__(self, options: Options = Options()) -> None:  # noqa: B008 (frozen)
        super().__init__(options.seed)

    def live(self, symbols: Sequence[str], rates: Rates) -> Source:
        """A value a second of each index."""
        return Indices(self.seed, symbols, self, rates.step)

    def opening(self, target: str) -> Opening | None:
        """One path; channels are subscribed by message."""
        return Opening((), enveloped=False) if urlsplit(target).path == _PATH else None

    def command(self, text: str, client: Client) -> Reply:
        """A request of JSON-RPC 2.0, answered with its id."""
        try:
            request = msgspec.json.decode(text)
        except (msgspec.DecodeError, UnicodeEncodeError):
            return _reply(None, client, error=Refused(-32700, "Parse error"))
        if not isinstance(request, dict) or not isinstance(request.get("params", {}), dict):
            return _reply(None, client, error=Refused(-32600, "Invalid Request"))
        ident = request.get("id")
        try:
            return self._requested(request.get("method"), request.get("params", {}), ident, client)
        except Refused as refused:
            return _reply(ident, client, error=refused)

    def refusal(self, text: str, error: tuple[str, str], stream: str, client: Client) -> Reply:
        """An error of JSON-RPC."""
        ident = msgspec.json.decode(text).get("id")
        return _reply(ident, client, error=Refused(int(error[0]), error[1]))

    def too_many(self, client: Client) -> str | None:
        """Refused; the real exchange would end the session soon after."""
        (text,) = _reply(None, client, error=Refused(10028, "too_many_requests")).texts
        return text

    def heartbeat(self) -> str:
        """To be answered with `public/test`."""
        return _text({"jsonrpc": "2.0", "method": "heartbeat", "params": {"type": "test_request"}})

    def message(self, event: Event) -> Message:
        """A value of an index."""
        if not isinstance(event, Volatility):
            raise TypeError(f"no channel carries {type(event).__name__}")
        data = {"timestamp": event.time, "volatility": event.value, "index_name": event.symbol}
        channel = _INDEX + event.symbol
        return Message(channel, event.symbol, "volatility_index", _notification(channel, data))

    def recorded(self, raw: str) -> Message | None:
        """A notification, its text untouched; the symbol is what follows the channel's name."""
        try:
            notification = msgspec.json.decode(raw, type=_Notification)
        except msgspec.ValidationError:
            return None
        if notification.method != "subscription":
            return None
        channel = notification.params.channel
        kind = "volatility_index" if channel.startswith(_INDEX) else "other"
        return Message(channel, _subject(channel), kind, raw)

    def stream_url(self, streams: Collection[str]) -> str:
        """The one URL."""
        return _WS_HOST + _PATH

    def shutdown_notice(self, now_ms: int) -> tuple[str, str]:
        """None is known."""
        raise ValueError("Deribit announces no end of a connection")

    def flawed(self, flaw: Flaw, like: Message | None, symbol: str) -> Message:
        """A value that cannot be, or a method nobody knows."""
        if like is None:
            like = self.message(Volatility(symbol, 50.0, 0))
        payload = msgspec.json.decode(like.text)
        if flaw == "unknown_event":
            return attrs.evolve(like, kind="other", text=_text({**payload, "method": "unheard_of"}))
        payload["params"]["data"]["volatility"] = -1.0 if flaw == "negative_price" else "abc"
        return attrs.evolve(like, text=_text(payload))

    def _requested(
        self, method: object, params: dict[str, Any], ident: object, client: Client
    ) -> Reply:
        match method:
            case "public/subscribe":
                added = tuple(
                    name for name in _channels(params) if _subject(name) in client.symbols
                )
                return _reply(ident, client, list(added), add=added)
            case "public/unsubscribe":
                removed = tuple(name for name in _channels(params) if name in client.streams)
                return _reply(ident, client, list(removed), remove=removed)
            case "public/unsubscribe_all":
                return _reply(ident, client, "ok", remove=tuple(client.streams))
            case "public/set_heartbeat":
                interval = params.get("interval")
                if not isinstance(interval, int | float) or interval < self.shortest_heartbeat:
                    raise invalid("interval")
                return _reply(ident, client, "ok", heartbeat=float(interval))
            case "public/disable_heartbeat":
                return _reply(ident, client, "ok", heartbeat=0.0)
            case "public/hello":
                return _reply(ident, client, {"version": "1.2.26"})
            case str():
                result = self.asked(method, params, client.symbols, client.now_ms)
                return _reply(ident, client, result, alive=method == "public/test")
        raise Refused(-32600, "Invalid Request")


def _subject(channel: str) -> str:
    """Of what a channel is: `btc_usd` of `deribit_volatility_index.btc_usd`."""
    return channel.partition(".")[2].partition(".")[0] or channel


def _channels(params: dict[str, Any]) -> list[str]:
    channels = params.get("channels")
    if not isinstance(channels, list) or not all(isinstance(name, str) for name in channels):
        raise invalid("channels")
    return list(dict.fromkeys(channels))


def _notification(channel: str, data: object) -> str:
    params = {"channel": channel, "data": data}
    return _text({"jsonrpc": "2.0", "method": "subscription", "params": params})


def _reply(
    ident: object,
    client: Client,
    result: object = None,
    *,
    error: Refused | None = None,
    add: tuple[str, ...] = (),
    remove: tuple[str, ...] = (),
    heartbeat: float | None = None,
    alive: bool = False,
) -> Reply:
    now = client.now_ms * 1_000
    body: dict[str, object] = {"jsonrpc": "2.0"}
    if ident is not None:
        body["id"] = ident
    body |= {"result": result} if error is None else {"error": error.body}
    # Texts since 2026, as recorded then.
    body |= {"usIn": str(now), "usOut": str(now + 200), "usDiff": 200, "testnet": False}
    return Reply((_text(body),), add=add, remove=remove, heartbeat=heartbeat, alive=alive)


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()
