"""OKX's websocket: subscriptions, answers, manners.

Source of the rules: OKX's documentation of the v5 websocket API. Spot and derivatives are one
exchange; here they differ in what is listed.
"""

import re
from collections.abc import Collection, Sequence
from typing import Any
from urllib.parse import urlsplit

import attrs
import msgspec

from .capture import Line
from .events import Aggregate, Event, Message, Snapshot, Trade
from .live import Live
from .market import Market, Rules
from .okx_capture import numbered, recorded
from .okx_instruments import kind, listing
from .okx_rest import OkxRest
from .okx_words import push, stream_name, whole_book
from .skin import Client, Flaw, Opening, Options, Rates, Reply, Skin
from .source import Source

_PATH = "/ws/v5/public"
_WS_HOST = "wss://ws.okx.com:8443"
_CHANNELS = ("books", "trades", "tickers", "funding-rate", "open-interest")
"""By instrument; `liquidation-orders` is by type of instrument."""
_DERIVATIVE_CHANNELS = ("funding-rate", "open-interest")
_MOST_BYTES = 64 * 1024
_LEVELS = 400
_CHECKED_LEVELS = 25
_CHECKSUM = re.compile(r'"checksum":(-?\d+)')


class OkxSkin(OkxRest, Skin):
    """`/ws/v5/public`: books, trades, funding-rate, open-interest, liquidation-orders."""

    halted = "suspend"
    most_commands = (480, 3_600.0)
    silence_seconds = 30.0
    silence_code = 4004
    repeats = ("trade", "funding_rate", "open_interest")

    def __init__(self, options: Options = Options()) -> None:  # noqa: B008 (frozen)
        super().__init__(options)
        self._checksums = options.checksums
        self._rules = Rules(
            listing,
            id_step=4,
            # At most so many are there at any time: one more before the worst is removed.
            most_levels=_LEVELS - 1,
            keep_alive=int(options.keep_alive * 1_000),
            tops=_CHECKED_LEVELS if options.checksums else 0,
            perpetual=kind(self.listed[0]) == "SWAP",
        )

    def live(self, symbols: Sequence[str], rates: Rates) -> Source:
        """A market whose quantities are contracts where OKX counts those."""
        market = Market(
            self.seed,
            symbols,
            trades_per_second=rates.trades_per_second,
            quotes_per_second=rates.quotes_per_second,
            rules=self._rules,
        )
        return Live(market, self, rates.step)

    def opening(self, target: str) -> Opening | None:
        """One path; streams are subscribed by message."""
        return Opening((), enveloped=False) if urlsplit(target).path == _PATH else None

    def command(self, text: str, client: Client) -> Reply:
        """`ping`, or subscribe and unsubscribe, where each argument is answered by itself."""
        if text == "ping":
            return Reply(("pong",), counts=False)
        try:
            command = msgspec.json.decode(text)
        except (msgspec.DecodeError, UnicodeEncodeError):
            command = None
        args = command.get("args") if isinstance(command, dict) else None
        if (
            not isinstance(args, list)
            or not args
            or command["op"] not in ("subscribe", "unsubscribe")
            or len(text.encode()) > _MOST_BYTES
        ):
            return Reply((_error("60012", f"Illegal request: {text[:200]}", client),))
        tag = {"id": command["id"]} if "id" in command else {}
        texts: list[str] = []
        streams: list[str] = []
        for arg in args:
            stream = _stream(arg, client.symbols)
            if stream is None:
                texts.append(_error("60018", _unknown(arg), client, tag))
            else:
                streams.append(stream)
                done = {**tag, "event": command["op"], "arg": arg, "connId": _conn_id(client)}
                texts.append(_text(done))
        if command["op"] == "subscribe":
            return Reply(tuple(texts), add=tuple(streams))
        return Reply(tuple(texts), remove=tuple(streams))

    def refusal(self, text: str, error: tuple[str, str], stream: str, client: Client) -> Reply:
        """60018 is about one argument, and names it; others are about the command."""
        code, words = error
        if code != "60018":
            return Reply((_error(code, words, client),))
        command = msgspec.json.decode(text)
        bad = [arg for arg in command["args"] if _stream(arg, client.symbols) == stream]
        command["args"] = [arg for arg in command["args"] if arg not in bad]
        rest = self.command(_text(command), client) if command["args"] else Reply(())
        errors = tuple(_error(code, _unknown(arg), client) for arg in bad)
        return attrs.evolve(rest, texts=(*errors, *rest.texts))

    def too_many(self, client: Client) -> str | None:
        """Refused, and the connection lives on."""
        return _error("60014", "Requests too frequent", client)

    def message(self, event: Event) -> Message:
        """An event in OKX's words."""
        return push(event)

    def messages(self, event: Event) -> Sequence[Message]:
        """Single trades are not told, only all of one order at one price."""
        return () if isinstance(event, Trade) else (push(event),)

    def trade_kind(self, stream: str) -> str | None:
        """Those of one order at one price are one."""
        return "aggregated" if stream.startswith("trades:") else None

    def book_symbol(self, stream: str) -> str | None:
        """The instrument of the channel `books`."""
        channel, _, symbol = stream.partition(":")
        return symbol if channel == "books" else None

    def book(self, snapshot: Snapshot) -> Message | None:
        """What a new subscriber of `books` is told first."""
        best = attrs.evolve(snapshot, bids=snapshot.bids[:_LEVELS], asks=snapshot.asks[:_LEVELS])
        return whole_book(best, checksums=self._checksums)

    def prepared(self, lines: Sequence[Line]) -> tuple[Sequence[Line], str | None]:
        """With ids, where the recording is of before there were any."""
        return numbered(lines)

    def recorded(self, raw: str) -> Message | None:
        """A push, its text untouched."""
        return recorded(raw)

    def stream_url(self, streams: Collection[str]) -> str:
        """The one URL."""
        return _WS_HOST + _PATH

    def shutdown_notice(self, now_ms: int) -> tuple[str, str]:
        """Notice 64008: a minute later the connection will be closed."""
        words = "The connection will soon be closed for a service upgrade. Please reconnect."
        notice = {"event": "notice", "code": "64008", "msg": words, "connId": "a4d3ae55"}
        return "", _text(notice)

    def flawed(self, flaw: Flaw, like: Message | None, symbol: str) -> Message:
        """A trade with an impossible price, or a channel nobody knows."""
        if like is None:
            like = push(Aggregate(symbol, 0, "1", "1", 0, 0, True, 0))
        payload: dict[str, Any] = msgspec.json.decode(like.text)
        if flaw == "unknown_event":
            payload["arg"]["channel"] = "unheard-of"
            return attrs.evolve(like, kind="other", text=_text(payload))
        payload["data"][0]["px"] = "-1" if flaw == "negative_price" else "abc"
        return attrs.evolve(like, text=_text(payload))

    def misprinted(self, message: Message) -> Message:
        """A checksum that is not zero, and not that of the book."""
        wrong = _CHECKSUM.sub(lambda found: f'"checksum":{int(found[1]) ^ 0x55AA}', message.text)
        return attrs.evolve(message, text=wrong)


class OkxSpot(OkxSkin):
    """Spot pairs."""

    venue = "okx_spot"
    listed = ("BTC-USDT", "ETH-USDT")


class OkxDerivatives(OkxSkin):
    """Perpetual swaps: two linear ones, and one that is inverse."""

    venue = "okx_derivatives"
    listed = ("BTC-USDT-SWAP", "ETH-USDT-SWAP", "BTC-USD-SWAP")


def _stream(arg: object, symbols: Collection[str]) -> str | None:
    """The stream an argument means, when there is one."""
    match arg:
        case {"channel": "liquidation-orders", "instType": "SWAP" | "FUTURES" as of_kind}:
            return stream_name("liquidation-orders", of_kind)
        case {"channel": str() as channel, "instId": str() as symbol}:
            derivative = symbol in symbols and kind(symbol) != "SPOT"
            wrong = channel in _DERIVATIVE_CHANNELS and not derivative
            if channel in _CHANNELS and symbol in symbols and not wrong:
                return stream_name(channel, symbol)
    return None


def _unknown(arg: object) -> str:
    named = (
        ",".join(f"{key}:{value}" for key, value in arg.items()) if isinstance(arg, dict) else arg
    )
    return (
        f"Wrong URL or {named} doesn't exist. Please use the correct URL, channel and parameters "
        "referring to API document."
    )


def _error(code: str, words: str, client: Client, tag: dict[str, object] | None = None) -> str:
    error = {"event": "error", "code": code, "msg": words, "connId": _conn_id(client)}
    return _text({**(tag or {}), **error})


def _conn_id(client: Client) -> str:
    return f"{0xA4D30000 + client.ident:08x}"


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()
