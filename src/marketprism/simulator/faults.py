"""Everything that can be made to go wrong, on request.

A method a fault. Each can be called in the same process, or over HTTP with
`POST /simulator/faults` and `{"fault": "<method>", "<argument>": …}`. Durations are seconds.
"""

from typing import Literal

import trio

from .answers import Answers, Form, Subject
from .connection import Connection
from .events import Message
from .fault_registry import FAULTS, Target, fault
from .occasions import Due
from .waiting_faults import WaitingFaults

__all__ = ["FAULTS", "Faults"]

Garbage = Literal[
    "malformed", "truncated", "binary", "unknown_event", "negative_price", "text_price"
]


class Faults:
    """The faults of one exchange, as they are asked for."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self.done: list[dict[str, object]] = []
        """What was asked for, in order, with what it came to."""
        self.answers = Answers()
        self.waiting = WaitingFaults(target)
        """Those that wait for their occasion."""

    # Connections

    @fault
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

    @fault
    def refuse(self, seconds: float, status: int | None = None) -> None:
        """Abort new connections at once; with `status`, answer their handshake with it."""
        self.waiting.refuse(trio.current_time() + seconds, status)

    @fault
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
            self.waiting.silent[stream] = until
            return
        for each in self._connections(connection):
            each.mute(until, deaf=deaf)

    @fault
    def server_shutdown(self, seconds: float | None = None, connection: int | None = None) -> int:
        """Announce to one or all connections that they will end, and end them so much later:
        Binance's `serverShutdown`, OKX' notice 64008. Without `seconds`, at the exchange's own
        time. Returns how many connections were meant.
        """
        skin = self._target.skin
        stream, text = skin.shutdown_notice(self._target.now_ms())
        chosen = self._connections(connection)
        for each in chosen:
            each.offer(each.frame(stream, text))
            each.end_in(skin.notice_seconds if seconds is None else seconds)
        return len(chosen)

    # Commands

    @fault
    def refuse_subscriptions(
        self, seconds: float, code: str, words: str = "refused", stream: str | None = None
    ) -> None:
        """Refuse commands that ask for streams, or for that stream among others, with this code.
        What is subscribed already goes on; OKX, asked for several, grants the others.
        """
        self.answers.refuse(seconds, code, words, stream)

    @fault
    def lose_answers(self, seconds: float, about: Subject | None = None) -> None:
        """Obey commands, and say nothing to them: those about that, or any. Of `heartbeat` are
        OKX's `ping`, and Deribit's `public/test` and `public/set_heartbeat`.
        """
        self.answers.lose(seconds, about)

    @fault
    def odd_answers(self, seconds: float, form: Form = "more_keys") -> None:
        """Answer commands in another form than is documented."""
        self.answers.distort(seconds, form)

    # Messages

    @fault
    def skip(
        self,
        count: int = 1,
        symbol: str | None = None,
        kind: str | None = None,
        stream: str | None = None,
    ) -> None:
        """Do not send the next messages of this symbol, kind (`orderbook`, `trade`, …) or stream.

        The exchange's own book contains them all the same.
        """
        self.waiting.skips.append(Due(count, symbol, kind, stream))

    @fault
    def duplicate(
        self,
        count: int = 1,
        symbol: str | None = None,
        kind: str | None = None,
        stream: str | None = None,
    ) -> None:
        """Send each of the next messages of this symbol, kind or stream twice."""
        self.waiting.duplicates.append(Due(count, symbol, kind, stream))

    @fault
    def withhold(self, count: int = 1, symbol: str | None = None) -> None:
        """Do not send the next whole books that are due to new subscribers."""
        self.waiting.skips.append(Due(count, symbol, "snapshot"))

    @fault
    def bad_checksum(self, count: int = 1, symbol: str | None = None) -> None:
        """Send the next book updates of a symbol with a checksum that is wrong."""
        # An exchange that has none says so now.
        like = Message("", "", "orderbook", '{"checksum":0}')
        self._target.skin.misprinted(like)
        self.waiting.misprints.append(Due(count, symbol, "orderbook"))

    @fault
    def corrupt(self, count: int = 1, symbol: str | None = None) -> None:
        """Send the next book updates of a symbol with one level wrong, on the wire alone: their
        ids chain. Where books carry checksums, those give it away.
        """
        self.waiting.corruptions.append(Due(count, symbol, "orderbook"))

    @fault
    def ahead(
        self,
        seconds: float,
        count: int = 1,
        jump: int = 0,
        symbol: str | None = None,
        kind: str | None = None,
        path: str | None = None,
    ) -> None:
        """Stamp the next messages of this symbol and kind so many seconds ahead, with numbers that
        are `jump` higher; with `path` the answers to the next requests of that path instead.
        """
        self.waiting.misdated.append(
            Due(count, symbol, kind, seconds=seconds, path=path, jump=jump)
        )

    @fault
    def renumber(self, symbol: str) -> None:
        """Begin the ids of a market's book anew, as after maintenance, with its next update."""
        self._target.source.renumber(symbol)

    @fault
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

    @fault
    def oversize(self, size: int, connection: int | None = None) -> int:
        """Send at once one JSON message of this many bytes."""
        wrapping = '{"e":"oversize","padding":""}'
        text = wrapping[:-2] + "x" * (size - len(wrapping)) + wrapping[-2:]
        chosen = self._connections(connection)
        for each in chosen:
            each.offer(each.raw_frame(text))
        return len(chosen)

    # REST

    @fault
    def late(
        self,
        seconds: float,
        count: int = 1,
        symbol: str | None = None,
        path: str | None = None,
    ) -> None:
        """Answer the next depth requests so much later, with the book as of their asking.

        With `path` the next requests of that path instead, whatever they ask for.
        """
        self.waiting.late.append(Due(count, symbol, seconds=seconds, path=path))

    @fault
    def stale(self, count: int = 1, symbol: str | None = None) -> None:
        """Answer the next depth requests with the earliest book there was."""
        self.waiting.stale.append(Due(count, symbol))

    @fault
    def fail(
        self,
        status: int,
        count: int = 1,
        retry_after: int | None = None,
        path: str | None = None,
    ) -> None:
        """Answer the next requests, of `path` or of any, with this status and no data."""
        self.waiting.failing.append(Due(count, status=status, retry_after=retry_after, path=path))

    # Markets

    @fault
    def halt(self, symbol: str, seconds: float | None = None, status: str | None = None) -> None:
        """Let a market rest for so long, or for good: it is listed as `status` (the exchange's own
        word for a halt, where none is given), and nothing happens in it.
        """
        word = self._target.skin.halted if status is None else status
        self._target.standings.halt(symbol, seconds, word)

    @fault
    def unlist(self, symbol: str, seconds: float | None = None, trading: bool = False) -> None:
        """Take a market off the list for so long, or for good: nobody knows it, and nothing happens
        in it, unless it goes on `trading`. One that is taken off before anybody asks is listed
        later.
        """
        self._target.standings.unlist(symbol, seconds, trading=trading)

    @fault
    def placeholders(self, seconds: float | None = None) -> None:
        """Keep places on the list of markets for so long, or for good: rows of another name that do
        not trade, with the base and quote of those that do. Deribit has none.
        """
        self._target.standings.keep_places(seconds)

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
