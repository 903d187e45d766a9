"""What is asked of Deribit, and what its refusals mean. Pure."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from marketprism.clock import SECOND, Timestamp
from marketprism.feeds.actions import Send
from marketprism.feeds.commands import Command, Rules
from marketprism.streams.subscription import Stream

CHANNEL: Final = "deribit_volatility_index."
ANSWER_WITHIN: Final = 15 * SECOND
"""From a request to its answer."""
AN_HOUR: Final = 3 * 3600
"""Requests: Deribit allows about 3.3 subscriptions a second."""


def rules(batch: int, refused_retry: float) -> Rules:
    """How Deribit wants to be asked."""
    return Rules(batch, ANSWER_WITHIN, refused_retry, AN_HOUR)


def said(command: Command[Stream]) -> Send:
    """A subscription's request, or its end's."""
    method = "public/unsubscribe" if command.leaving else "public/subscribe"
    channels = [CHANNEL + native_id for _, native_id in command.topics]
    return request(command.number, method, {"channels": channels})


def request(number: int, method: str, params: Mapping[str, Any]) -> Send:
    """Any request."""
    body = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
    return Send(msgspec.json.encode(body).decode(), number)


class Formalities:
    """Requests about no stream: for heartbeats, and what answers those."""

    def __init__(self) -> None:
        self._open: dict[int, tuple[str, int | None]] = {}
        """By their number: the method, and when it was sent."""

    def ask(self, number: int, method: str, params: Mapping[str, Any]) -> Send:
        """One more."""
        self._open[number] = method, None
        return request(number, method, params)

    def sent(self, number: int, now: Timestamp) -> bool:
        """Whether that is one of them; it leaves."""
        if number not in self._open:
            return False
        self._open[number] = self._open[number][0], now.monotonic
        return True

    def answered(self, number: int | None) -> str | None:
        """The method of that number, which has its answer; None when it is none of these."""
        method, _ = self._open.pop(-1 if number is None else number, (None, None))
        return method

    def overdue(self, now: Timestamp) -> list[tuple[str, int]]:
        """Those that were not answered in time, and when they were sent; each is named once."""
        late = [
            (number, method, sent_at)
            for number, (method, sent_at) in self._open.items()
            if sent_at is not None and now.monotonic - sent_at > ANSWER_WITHIN
        ]
        for number, _, _ in late:
            del self._open[number]
        return [(method, sent_at) for _, method, sent_at in late]
