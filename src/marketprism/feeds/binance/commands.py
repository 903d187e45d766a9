"""What is said to Binance, and what its answers mean.

Commands and their answers: https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams
("Live Subscribing/Unsubscribing to streams"); USD-M futures have the same.
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec

from marketprism.clock import SECOND
from marketprism.feeds.actions import Send
from marketprism.feeds.commands import Command, Rules
from marketprism.streams.subscription import Stream

ANSWER_WITHIN: Final = 10 * SECOND
"""A command that is not answered by then was not heard."""
COMMANDS_AN_HOUR: Final = 5 * 3600
"""Spot takes five messages a second on a connection; futures ten."""
FOR_GOOD: Final = frozenset({2, 3, -1121})
"""Codes that refuse what was asked for: an invalid request, a malformed one, an unknown symbol.
All others may pass."""
_FINE: Final = frozenset({0, 200})


def rules(batch: int, refused_retry: float) -> Rules:
    """How a connection to Binance asks."""
    return Rules(batch, ANSWER_WITHIN, refused_retry, COMMANDS_AN_HOUR)


def text(command: Command[Stream], channel: Callable[[Stream], str]) -> Send:
    """What is said on the wire."""
    body = {
        "method": "UNSUBSCRIBE" if command.leaving else "SUBSCRIBE",
        "params": [channel(stream) for stream in command.topics],
        "id": command.number,
    }
    return Send(msgspec.json.encode(body).decode(), command.number)


class CommandError(msgspec.Struct):
    """Why a command was refused."""

    code: int = -1
    msg: str = ""

    @property
    def passes(self) -> bool:
        """It says that the exchange cannot now, not that it never will."""
        return self.code not in FOR_GOOD

    @property
    def words(self) -> str:
        """For people."""
        return f"{self.code}: {self.msg}" if self.msg else f"code {self.code}"


class Answer(NamedTuple):
    """To a command."""

    number: int | None
    """Of which; None where it does not say."""
    error: CommandError | None
    """None: it was accepted."""


class _Answer(msgspec.Struct):
    id: int | str | msgspec.UnsetType | None = msgspec.UNSET
    error: CommandError | str | None = None
    code: int | None = None
    msg: str = ""
    e: Any = None
    """An event has it, an answer has not."""


_read = msgspec.json.Decoder(_Answer).decode


def read_answer(frame: bytes) -> Answer:
    """The answer that a frame is, in whatever form: an error nested or flat, with or without an id
    or with one in text; whatever stands beside. Raises msgspec.DecodeError where it is none.
    """
    said = _read(frame)
    error = CommandError(msg=said.error) if isinstance(said.error, str) else said.error
    if error is None and said.code is not None and said.code not in _FINE:
        error = CommandError(said.code, said.msg)
    if said.e is not None or (said.id is msgspec.UNSET and error is None):
        raise msgspec.ValidationError("it is neither an event nor an answer")
    return Answer(_number(said.id), error)


def _number(said: int | str | msgspec.UnsetType | None) -> int | None:
    if isinstance(said, str):
        return int(said) if said.isascii() and said.isdigit() and len(said) < 20 else None
    return None if isinstance(said, msgspec.UnsetType) else said
