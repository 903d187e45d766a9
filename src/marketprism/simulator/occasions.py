"""Faults that wait for their occasion: the next message, or the next request, of some kind."""

from collections.abc import Callable

import attrs

from .events import Message


@attrs.define
class Due:
    """A fault that waits for its occasion, `remaining` times."""

    remaining: int
    symbol: str | None = None
    kind: str | None = None
    stream: str | None = None
    path: str | None = None
    status: int = 0
    seconds: float = 0.0
    retry_after: int | None = None
    jump: int = 0

    def picks(self, message: Message) -> bool:
        """Whether the message is such an occasion."""
        return (
            self.symbol in (None, message.symbol)
            and self.kind in (None, message.kind)
            and self.stream in (None, message.stream)
        )


def claim(waiting: list[Due], fits: Callable[[Due], bool]) -> Due | None:
    """Use up one occasion of the first fault that fits."""
    for due in waiting:
        if fits(due):
            due.remaining -= 1
            if due.remaining <= 0:
                waiting.remove(due)
            return due
    return None
