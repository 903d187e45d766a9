"""The interface between an exchange's protocol (its skin) and everything behind it.

A skin knows paths, commands and the shapes of messages. It has no sockets, no clock and no state of
its own; what it must ask of the exchange behind it stands in `Desk`.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Literal, Protocol

import attrs

from .capture import Line
from .events import Event, Message, Snapshot
from .source import Source

Flaw = Literal["unknown_event", "negative_price", "text_price"]
"""What is wrong with a message that is well-formed JSON."""


@attrs.frozen
class Options:
    """What may be chosen of any exchange; most of it means nothing to most of them."""

    seed: int = 0
    """Of the figures that are told over REST."""
    checksums: bool = False
    """OKX: whether books carry a real checksum; else it is 0, as since June 2026."""
    keep_alive: float = 60.0
    """OKX: seconds after which a quiet book is told to be quiet."""
    instruments: Mapping[str, Mapping[str, str]] = attrs.field(factory=dict)
    """OKX: recorded rows of instruments, by instrument; others are made up."""


@attrs.frozen
class Rates:
    """How busy a market is; of each symbol."""

    trades_per_second: float = 5.0
    quotes_per_second: float = 40.0
    step: float = 0.02
    """Seconds between two looks at what has happened."""


@attrs.frozen
class Opening:
    """What a websocket's URL asks for."""

    streams: tuple[str, ...]
    enveloped: bool
    """Whether messages of this connection are wrapped to name their stream."""
    route: str = ""
    """Which of the exchange's routes it is, where it has several."""


@attrs.frozen
class Client:
    """Who says a command."""

    streams: Collection[str] = ()
    """Those it has."""
    ident: int = 0
    symbols: Collection[str] = ()
    """What is listed."""
    now_ms: int = 0
    """The exchange's clock, milliseconds since the epoch."""


@attrs.frozen
class Reply:
    """What a command is answered with, and what it changes."""

    texts: tuple[str, ...]
    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    counts: bool = True
    """Whether it counts towards what a connection may ask."""
    heartbeat: float | None = None
    """From now on the client wants a heartbeat each so many seconds; 0 for none any more."""
    alive: bool = False
    """Whether it answers a heartbeat."""


@attrs.frozen
class Request:
    """A REST request: the path and query, percent-decoded; of a repeated key the last value."""

    path: str
    query: Mapping[str, str]


@attrs.frozen
class Answer:
    """A REST answer."""

    status: int
    body: bytes
    headers: Mapping[str, str] = attrs.field(factory=dict)


class Desk(Protocol):
    """What a skin may ask while it answers a REST request."""

    @property
    def symbols(self) -> Collection[str]:
        """What can be asked for."""

    @property
    def listed(self) -> Collection[str]:
        """What the list of markets holds: as a rule the same."""

    def status(self, symbol: str) -> str | None:
        """What the exchange calls the state of a market; None while it trades as usual."""

    def now_ms(self) -> int:
        """The exchange's clock, milliseconds since the epoch."""

    def spend(self, weight: int, budget: str = "weight", seconds: int = 60) -> int:
        """Book the weight of a request; what was spent of the budget in this window, with it."""

    async def depth(self, symbol: str, limit: int) -> Snapshot | None:
        """A book of a listed symbol; None when it cannot be known any more."""


class Skin(Protocol):
    """One exchange's protocol. What most of them lack has an answer here that says so."""

    venue: str
    listed: tuple[str, ...]
    """The symbols of its market, where none are given."""
    halted: str = "BREAK"
    """What it calls a market that is halted, where nothing else is said."""
    most_commands: tuple[int, float]
    """How many commands a connection may send, in how many seconds."""
    ping_seconds: float = math.inf
    """How often it pings a client on the websocket's own level."""
    silence_seconds: float = math.inf
    """After how long a connection is closed to which nothing was said."""
    silence_code: int = 1000
    """The code of that close."""
    notice_seconds: float = 60.0
    """From the announcement of a connection's end to that end."""
    repeats: Collection[str] = ()
    """The kinds of messages of which a new subscriber is told the latest."""

    def live(self, symbols: Sequence[str], rates: Rates) -> Source:
        """Its seeded market."""

    def opening(self, target: str) -> Opening | None:
        """Read the target of a websocket request, `/stream?streams=…`; None is a 404."""

    def carries(self, route: str, stream: str) -> bool:
        """Whether a connection on this route gets a stream which it has subscribed."""
        return True

    def command(self, text: str, client: Client) -> Reply:
        """Answer a message of a client."""

    def refusal(self, text: str, error: tuple[str, str], stream: str, client: Client) -> Reply:
        """The reply to a command that asks for streams, of which that one is refused with this code
        and words: as a rule with all others.
        """

    def too_many(self, client: Client) -> str | None:
        """The answer to a command too many; with None the connection is closed."""
        return None

    def heartbeat(self) -> str:
        """What a client must answer, where it may ask for that."""
        return ""

    def envelope(self, stream: str, text: str) -> str:
        """The payload wrapped so that it names its stream."""
        return text

    def message(self, event: Event) -> Message:
        """Say an event of the market in the exchange's words."""

    def messages(self, event: Event) -> Sequence[Message]:
        """The same, where it is said on several streams or on none."""
        return (self.message(event),)

    def trade_kind(self, stream: str) -> str | None:
        """Whether the trades of a stream are `raw` or `aggregated`; None for a stream of others."""
        return None

    def book_symbol(self, stream: str) -> str | None:
        """Whose book a new subscriber of this stream is told first; None for no book."""
        return None

    def book(self, snapshot: Snapshot) -> Message | None:
        """A whole book as a message; None where none are told on streams."""
        return None

    def prepared(self, lines: "Sequence[Line]") -> "tuple[Sequence[Line], str | None]":
        """A capture as it can be played, and what had to be made up for it, in words."""
        return lines, None

    def recorded(self, raw: str) -> Message | None:
        """Read a received line of a capture; None when it belongs to no stream (an answer)."""

    def recorded_snapshot(self, url: str, raw: str) -> Snapshot | None:
        """Read a REST line of a capture; None when it is not a book."""

    def stream_url(self, streams: Collection[str]) -> str:
        """The real exchange's URL of these streams: for the first line of a capture."""

    def depth_url(self, symbol: str, limit: int) -> str:
        """The real exchange's URL of a book."""

    def depth_text(self, snapshot: Snapshot) -> str:
        """A book as the body of a REST answer."""

    def shutdown_notice(self, now_ms: int) -> tuple[str, str]:
        """The stream and payload that announce the end of a connection; ValueError where an
        exchange announces none.
        """

    def flawed(self, flaw: Flaw, like: Message | None, symbol: str) -> Message:
        """A message with a flaw: like a trade sent before, else like some trade of the symbol."""

    def misprinted(self, message: Message) -> Message:
        """A message about a book with a wrong checksum; ValueError where there are none."""
        raise ValueError(f"{self.venue} has no checksums")

    async def answer(self, request: Request, desk: Desk) -> Answer:
        """Answer a REST request."""

    def failure(self, status: int) -> bytes:
        """The body the exchange gives with this status."""
