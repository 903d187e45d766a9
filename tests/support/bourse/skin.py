"""The Bourse in a box: what its simulator says and understands."""

import uuid
from collections.abc import Collection, Sequence
from urllib.parse import urlsplit

import attrs
import msgspec

from marketprism.simulator.events import Event, Level, Message, Snapshot, Trade, Update
from marketprism.simulator.listings import SCALE, Listing
from marketprism.simulator.live import Live
from marketprism.simulator.market import Market, Rules
from marketprism.simulator.skin import (
    Answer,
    Client,
    Desk,
    Flaw,
    Opening,
    Options,
    Rates,
    Reply,
    Request,
    Skin,
)
from marketprism.simulator.source import Source


class BourseSkin(Skin):
    """One path, two kinds of topics, a list of markets and books over REST."""

    venue = "bourse_spot"
    listed = ("BTC-USDT", "ETH-USDT")
    halted = "halted"
    most_commands = (1_000, 3_600.0)
    repeats = ()

    def __init__(self, options: Options = Options()) -> None:  # noqa: B008 (frozen)
        self._seed = options.seed

    def live(self, symbols: Sequence[str], rates: Rates) -> Source:
        """The usual market."""
        market = Market(
            self._seed,
            symbols,
            trades_per_second=rates.trades_per_second,
            quotes_per_second=rates.quotes_per_second,
            rules=Rules(_listing),
        )
        return Live(market, self, rates.step)

    def opening(self, target: str) -> Opening | None:
        """Topics are subscribed by message."""
        return Opening((), enveloped=False) if urlsplit(target).path == "/feed" else None

    def command(self, text: str, client: Client) -> Reply:
        """`subscribe` and `unsubscribe`: what is not refused by its name is granted."""
        try:
            command = msgspec.json.decode(text)
            op, number, topics = command["op"], command["id"], list(command["topics"])
        except (msgspec.DecodeError, KeyError, TypeError):
            return Reply((_text({"error": "bad request"}),))
        known = [topic for topic in topics if _known(topic, client.symbols)]
        refused = {topic: "no such topic" for topic in topics if topic not in known}
        answer = _text({"id": number, "op": op, "granted": known, "refused": refused})
        if op == "subscribe":
            return Reply((answer,), add=tuple(known))
        return Reply((answer,), remove=tuple(known))

    def refusal(self, text: str, error: tuple[str, str], stream: str, client: Client) -> Reply:
        """All of the command."""
        command = msgspec.json.decode(text)
        return Reply((_text({"id": command["id"], "error": error[1]}),))

    def too_many(self, client: Client) -> str | None:
        """Refused, and the connection lives on."""
        return _text({"error": "too many requests"})

    def message(self, event: Event) -> Message:
        """A trade by a name that is no number, or the changes of a book."""
        if isinstance(event, Trade):
            return _trade(event)
        assert isinstance(event, Update)
        told = {"kind": "update", "prev": event.first_id - 1, "seq": event.last_id}
        return _book(event.symbol, told, event.bids, event.asks, event.time, update=event)

    def messages(self, event: Event) -> Sequence[Message]:
        """Nothing is told of aggregates."""
        return (self.message(event),) if isinstance(event, Trade | Update) else ()

    def trade_kind(self, stream: str) -> str | None:
        """Each match is told."""
        return "raw" if stream.startswith("trades:") else None

    def book_symbol(self, stream: str) -> str | None:
        """A new subscriber is told the whole book first."""
        topic, _, symbol = stream.partition(":")
        return symbol if topic == "books" else None

    def book(self, snapshot: Snapshot) -> Message | None:
        """That book."""
        told = {"kind": "snapshot", "seq": snapshot.last_id}
        return _book(snapshot.symbol, told, snapshot.bids, snapshot.asks, snapshot.time, snapshot)

    def stream_url(self, streams: Collection[str]) -> str:
        """The one URL."""
        return "wss://bourse.example/feed"

    def shutdown_notice(self, now_ms: int) -> tuple[str, str]:
        """It announces no end."""
        raise ValueError("the Bourse announces no end")

    def flawed(self, flaw: Flaw, like: Message | None, symbol: str) -> Message:
        """A trade with an impossible price, or a topic nobody knows."""
        like = like or _trade(Trade(symbol, 0, "1", "1", buyer_is_maker=True, time=0))
        payload = msgspec.json.decode(like.text)
        if flaw == "unknown_event":
            payload["topic"] = "unheard-of"
            return attrs.evolve(like, kind="other", text=_text(payload))
        payload["price"] = "-1" if flaw == "negative_price" else "abc"
        return attrs.evolve(like, text=_text(payload))

    async def answer(self, request: Request, desk: Desk) -> Answer:
        """`/markets` and `/book?market=`."""
        if request.path == "/markets":
            desk.spend(1)
            rows = [
                {"name": name, "status": desk.status(name) or "open"}
                for name in sorted(desk.listed)
            ]
            return Answer(200, msgspec.json.encode({"markets": rows}))
        snapshot = None
        if request.path == "/book":
            desk.spend(1)
            snapshot = await desk.depth(request.query.get("market", ""), 1_000)
        if snapshot is None:
            return Answer(404, b'{"error":"not found"}')
        book = {"seq": snapshot.last_id, "bids": snapshot.bids, "asks": snapshot.asks}
        return Answer(200, msgspec.json.encode({**book, "at": snapshot.time}))

    def failure(self, status: int) -> bytes:
        """The same for all."""
        return b'{"error":"failed"}'


def _listing(symbol: str) -> Listing:
    base, _, quote = symbol.partition("-")
    return Listing(symbol, base, quote, 1_000_000, 10_000, 60_000 * SCALE)


def _known(topic: str, symbols: Collection[str]) -> bool:
    kind, _, symbol = topic.partition(":")
    return kind in ("trades", "books") and symbol in symbols


def _trade(event: Trade) -> Message:
    topic = f"trades:{event.symbol}"
    told = {
        "topic": topic,
        "id": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{event.symbol} {event.trade_id}")),
        "price": event.price,
        "size": event.quantity,
        "taker": "sell" if event.buyer_is_maker else "buy",
        "at": event.time,
    }
    return Message(topic, event.symbol, "trade", _text(told))


def _book(
    symbol: str,
    told: dict[str, object],
    bids: list[Level],
    asks: list[Level],
    time: int,
    snapshot: Snapshot | None = None,
    *,
    update: Update | None = None,
) -> Message:
    topic = f"books:{symbol}"
    text = _text({"topic": topic, **told, "bids": bids, "asks": asks, "at": time})
    kind = "orderbook" if snapshot is None else "snapshot"
    return Message(topic, symbol, kind, text, update, snapshot)


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()
