"""What a connection has asked of Binance, and what became of it."""

from collections.abc import Callable, Sequence
from itertools import count
from typing import Final

import attrs
import msgspec

from marketprism.feeds.venue import Moment, Send, Stream

SECOND = 1_000_000_000
ANSWER_WITHIN = 10 * SECOND
"""A command that is not answered by then was not heard."""
UNSENT: Final = 1 << 62
"""Stands for a moment that has not come: the command waits for the budget with its snapshot."""


@attrs.define(eq=False)
class Command:
    """One that is not answered yet."""

    method: str
    streams: list[Stream]
    sent_by: int
    """Monotonic: when it was handed over to be sent."""


class Commands:
    """Those of one connection, by their number."""

    def __init__(self, channel: Callable[[Stream], str]) -> None:
        self._channel = channel
        self._numbers = count(1)
        self._open: dict[int, Command] = {}

    def say(self, method: str, streams: Sequence[Stream], now: Moment | None) -> Send:
        """The command's text. `now` is None for one that is not sent yet."""
        number = next(self._numbers)
        handed = UNSENT if now is None else now.monotonic
        self._open[number] = Command(method, list(streams), handed)
        body = {
            "method": method,
            "params": [self._channel(stream) for stream in streams],
            "id": number,
        }
        return Send(msgspec.json.encode(body).decode())

    def sent(self, stream: Stream, now: Moment) -> None:
        """What waited for that stream's snapshot is sent: from here on, its answer is due."""
        for command in self._open.values():
            if command.sent_by == UNSENT and command.streams == [stream]:
                command.sent_by = now.monotonic

    def answered(self, number: int | None) -> Command | None:
        """The command of that number, which is open no more; None when there is none."""
        return None if number is None else self._open.pop(number, None)

    def overdue(self, now: Moment) -> Command | None:
        """One that was not heard, if there is one."""
        for command in self._open.values():
            if now.monotonic - command.sent_by > ANSWER_WITHIN:
                return command
        return None
