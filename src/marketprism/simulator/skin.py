"""The interface between an exchange's protocol (its skin) and everything behind it.

A skin knows paths, commands and the shapes of messages. It has no sockets, no clock and no state of
its own; what it must ask of the exchange behind it stands in `Desk`.
"""

from collections.abc import Collection, Mapping
from typing import Literal, Protocol

import attrs

from .events import Event, Message, Snapshot

Flaw = Literal["unknown_event", "negative_price", "text_price"]
"""What is wrong with a message that is well-formed JSON."""


@attrs.frozen
class Opening:
    """What a websocket's URL asks for."""

    streams: tuple[str, ...]
    enveloped: bool
    """Whether messages of this connection are wrapped to name their stream."""


@attrs.frozen
class Reply:
    """What a command is answered with, and what it changes."""

    text: str
    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()


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

    symbols: Collection[str]

    def now_ms(self) -> int:
        """The exchange's clock, milliseconds since the epoch."""

    def spend(self, weight: int) -> int:
        """Book the weight of a request; the weight spent in this minute, with it."""

    async def depth(self, symbol: str, limit: int) -> Snapshot | None:
        """A book of a listed symbol; None when it cannot be known any more."""


class Skin(Protocol):
    """One exchange's protocol."""

    venue: str
    commands_per_second: int
    """A connection that sends more is closed, as the exchange does."""

    def opening(self, target: str) -> Opening | None:
        """Read the target of a websocket request, `/stream?streams=…`; None is a 404."""

    def command(self, text: str, streams: Collection[str]) -> Reply:
        """Answer a message of a client which has these streams."""

    def envelope(self, stream: str, text: str) -> str:
        """The payload wrapped so that it names its stream."""

    def message(self, event: Event) -> Message:
        """Say an event of the market in the exchange's words."""

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
        """The stream and payload that announce the end of a connection."""

    def flawed(self, flaw: Flaw, like: Message | None, symbol: str) -> Message:
        """A message with a flaw: like a trade sent before, else like some trade of the symbol."""

    async def answer(self, request: Request, desk: Desk) -> Answer:
        """Answer a REST request."""

    def failure(self, status: int) -> bytes:
        """The body the exchange gives with this status."""
