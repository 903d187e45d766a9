"""Everything that can be made to go wrong, on request.

A method a fault. Each can be called in the same process, or over HTTP with
`POST /simulator/faults` and `{"fault": "<method>", "<argument>": …}`. Durations are seconds.
"""

import inspect
from collections.abc import Callable, Collection
from functools import wraps
from typing import Concatenate, Literal, ParamSpec, Protocol, TypeVar, get_type_hints

import attrs
import msgspec
import trio

from .connection import Connection
from .events import Message
from .skin import Answer, Skin

P = ParamSpec("P")
R = TypeVar("R")

Garbage = Literal[
    "malformed", "truncated", "binary", "unknown_event", "negative_price", "text_price"
]

FAULTS: dict[str, Callable[..., object]] = {}
"""By name, what may be asked for over HTTP."""


def _fault(
    method: Callable[Concatenate["Faults", P], R],
) -> Callable[Concatenate["Faults", P], R]:
    """Register a fault, and note each time it is done."""

    @wraps(method)
    def noted(faults: "Faults", /, *args: P.args, **kwargs: P.kwargs) -> R:
        result = method(faults, *args, **kwargs)
        asked = inspect.signature(method).bind(faults, *args, **kwargs).arguments
        asked.pop(next(iter(asked)))
        faults.done.append({"fault": method.__name__, **asked, "result": result})
        return result

    FAULTS[method.__name__] = noted
    return noted


class Target(Protocol):
    """The exchange, as far as faults reach into it."""

    skin: Skin
    symbols: Collection[str]
    connections: dict[int, Connection]
    last_trades: dict[str, Message]

    def now_ms(self) -> int:
        """The exchange's clock, milliseconds since the epoch."""


@attrs.define
class _Due:
    """A fault that waits for its occasion, `remaining` times."""

    remaining: int
    symbol: str | None = None
    kind: str | None = None
    stream: str | None = None
    path: str | None = None
    status: int = 0
    seconds: float = 0.0
    retry_after: int | None = None

    def picks(self, message: Message) -> bool:
        return (
            self.symbol in (None, message.symbol)
            and self.kind in (None, message.kind)
            and self.stream in (None, message.stream)
        )


class Faults:
    """The faults of one exchange: those done at once, and those waiting for their occasion."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self.done: list[dict[str, object]] = []
        """What was asked for, in order, with what it came to."""
        self._refused_until = float("-inf")
        self._refusal: int | None = None
        self._silent: dict[str, float] = {}
        self._skips: list[_Due] = []
        self._duplicates: list[_Due] = []
        self._late: list[_Due] = []
        self._stale: list[_Due] = []
        self._failing: list[_Due] = []

    # Connections

    @_fault
    def cut(self, connection: int | None = None, code: int | None = None) -> int:
        """Abort the TCP of one or all connections; with `code`, close the websocket with it.

        Returns how many connections were meant.
        """
        chosen = self._connections(connection)
        for each in chosen:
            if code is None:
                each.abort()
            else:
                each.close(code)
        return len(chosen)

    @_fault
    def refuse(self, seconds: float, status: int | None = None) -> None:
        """Abort new connections at once; with `status`, answer their handshake with it."""
        self._refused_until = trio.current_time() + seconds
        self._refusal = status

    @_fault
    def mute(
        self,
        seconds: float,
        connection: int | None = None,
        stream: str | None = None,
        deaf: bool = False,
    ) -> None:
        """Send nothing, neither messages nor answers to commands: they are lost, not delayed.

        One or all of the present connections stay open; a new one hears everything. They still
        send and answer pings, unless `deaf`. With `stream` that stream alone falls silent, for
        everybody.
        """
        until = trio.current_time() + seconds
        if stream is not None:
            self._silent[stream] = until
            return
        for each in self._connections(connection):
            each.mute(until, deaf=deaf)

    @_fault
    def server_shutdown(self) -> int:
        """Announce to all connections that they will end."""
        stream, text = self._target.skin.shutdown_notice(self._target.now_ms())
        for each in self._connections(None):
            each.offer(each.frame(stream, text))
        return len(self._target.connections)

    # Messages

    @_fault
    def skip(
        self,
        count: int = 1,
        symbol: str | None = None,
        kind: str | None = None,
        stream: str | None = None,
    ) -> None:
        """Do not send the next messages of this symbol, kind (`orderbook`, `trade`) or stream.

        The exchange's own book contains them all the same.
        """
        self._skips.append(_Due(count, symbol, kind, stream))

    @_fault
    def duplicate(
        self,
        count: int = 1,
        symbol: str | None = None,
        kind: str | None = None,
        stream: str | None = None,
    ) -> None:
        """Send each of the next messages of this symbol, kind or stream twice."""
        self._duplicates.append(_Due(count, symbol, kind, stream))

    @_fault
    def garbage(
        self,
        flaw: Garbage = "malformed",
        text: str | None = None,
        symbol: str | None = None,
        connection: int | None = None,
    ) -> int:
        """Send at once a message that cannot be meant; with `text`, that text as it is.

        A flawed trade is the last trade of the symbol (of any, when none is given) with another
        price. Returns how many messages were sent.
        """
        chosen = self._connections(connection)
        for each in chosen:
            each.offer(
                each.raw_frame(text) if text is not None else self._flawed(flaw, symbol, each)
            )
        return len(chosen)

    @_fault
    def oversize(self, size: int, connection: int | None = None) -> int:
        """Send at once one JSON message of this many bytes."""
        wrapping = '{"e":"oversize","padding":""}'
        text = wrapping[:-2] + "x" * (size - len(wrapping)) + wrapping[-2:]
        chosen = self._connections(connection)
        for each in chosen:
            each.offer(each.raw_frame(text))
        return len(chosen)

    # REST

    @_fault
    def late(self, seconds: float, count: int = 1, symbol: str | None = None) -> None:
        """Answer the next depth requests so much later, with the book as of their asking."""
        self._late.append(_Due(count, symbol, seconds=seconds))

    @_fault
    def stale(self, count: int = 1, symbol: str | None = None) -> None:
        """Answer the next depth requests with the earliest book there was."""
        self._stale.append(_Due(count, symbol))

    @_fault
    def fail(
        self,
        status: int,
        count: int = 1,
        retry_after: int | None = None,
        path: str | None = None,
    ) -> None:
        """Answer the next requests, of `path` or of any, with this status and no data."""
        self._failing.append(_Due(count, status=status, retry_after=retry_after, path=path))

    # What the exchange asks

    def refusal(self) -> int | None:
        """How a new connection is refused: by status, 0 for an abort; None when it is welcome."""
        if trio.current_time() >= self._refused_until:
            return None
        return self._refusal or 0

    def copies(self, message: Message) -> int:
        """How often a message that somebody waits for is sent."""
        if self._silent.get(message.stream, float("-inf")) > trio.current_time():
            return 0
        if _claim(self._skips, lambda due: due.picks(message)):
            return 0
        return 2 if _claim(self._duplicates, lambda due: due.picks(message)) else 1

    def depth(self, symbol: str) -> tuple[float, bool]:
        """By how many seconds an answer is late, and whether it is stale."""
        late = _claim(self._late, lambda due: due.symbol in (None, symbol))
        stale = _claim(self._stale, lambda due: due.symbol in (None, symbol))
        return (late.seconds if late else 0.0), stale is not None

    def failure(self, path: str) -> Answer | None:
        """The failure this request meets."""
        due = _claim(self._failing, lambda due: due.path in (None, path))
        if due is None:
            return None
        headers = {} if due.retry_after is None else {"Retry-After": str(due.retry_after)}
        return Answer(due.status, self._target.skin.failure(due.status), headers)

    def _connections(self, connection: int | None) -> list[Connection]:
        every = self._target.connections
        if connection is None:
            return list(every.values())
        if connection not in every:
            raise ValueError(f"connection {connection}: there is no such connection")
        return [every[connection]]

    def _flawed(self, flaw: Garbage, symbol: str | None, connection: Connection) -> bytes:
        if flaw == "malformed":
            return connection.raw_frame('{"e":"trade",,}')
        if flaw == "truncated":
            return connection.raw_frame('{"stream":"btcusdt@trade","data":{"e":"tra')
        if flaw == "binary":
            return connection.raw_frame(bytes(range(255, 191, -1)))
        told = [
            trade
            for stream in connection.streams
            if (trade := self._target.last_trades.get(stream)) and symbol in (None, trade.symbol)
        ]
        like = told[0] if told else None
        message = self._target.skin.flawed(flaw, like, symbol or next(iter(self._target.symbols)))
        return connection.frame(message.stream, message.text)


def request_fault(faults: Faults, body: bytes) -> object:
    """Do the fault a JSON object asks for, and return its result.

    Raises:
        ValueError: it asks for none there is, or with arguments it does not take.
    """
    try:
        asked = msgspec.json.decode(body, type=dict[str, object])
        method = FAULTS[str(asked.pop("fault", None))]
        hints = get_type_hints(method)
        arguments = {name: msgspec.convert(value, hints[name]) for name, value in asked.items()}
        inspect.signature(method).bind(faults, **arguments)
    except KeyError as error:
        raise ValueError(f"{error.args[0]}: unknown") from error
    except TypeError as error:
        raise ValueError(str(error)) from error
    return method(faults, **arguments)


def _claim(waiting: list[_Due], fits: Callable[[_Due], bool]) -> _Due | None:
    """Use up one occasion of the first fault that fits."""
    for due in waiting:
        if fits(due):
            due.remaining -= 1
            if due.remaining <= 0:
                waiting.remove(due)
            return due
    return None
