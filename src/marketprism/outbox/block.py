"""An entry of the log: consecutive messages with one range of numbers. Pure."""

from collections.abc import Callable, Iterable, Iterator

import attrs

from marketprism.wire import Message

STEP = 2
"""Between the numbers of two messages: a gap that must go between them gets the odd one."""

Numbered = tuple[int, Message]
"""A message and its sequence number: ascending, never used twice in one log."""


@attrs.define(eq=False)
class Block:
    """Messages in order, each number `STEP` beyond the one before."""

    first: int
    messages: list[Message]

    def __len__(self) -> int:
        return len(self.messages)

    @property
    def last(self) -> int:
        """The number of the last message."""
        return self.first + STEP * (len(self.messages) - 1)

    @property
    def after(self) -> int:
        """The number that a message behind it would have."""
        return self.first + STEP * len(self.messages)

    @property
    def payload_bytes(self) -> int:
        """Of all of them together."""
        return sum(len(message.payload) for message in self.messages)

    def numbered(self) -> Iterator[Numbered]:
        """The messages, each with its number."""
        return zip(range(self.first, self.after, STEP), self.messages, strict=True)

    def cut(self, count: int) -> "Block":
        """Take the first `count` messages, or all of them, away from it."""
        head = Block(self.first, self.messages if count >= len(self) else self.messages[:count])
        self.messages = self.messages[count:]
        self.first = head.after
        return head

    def only(self, stays: Callable[[int, Message], bool]) -> "list[Block]":
        """What of it stays, in blocks."""
        return blocks(each for each in self.numbered() if stays(*each))


def blocks(batch: Iterable[Numbered]) -> list[Block]:
    """The same messages in as few blocks as their numbers allow."""
    found: list[Block] = []
    for number, message in batch:
        if found and found[-1].after == number:
            found[-1].messages.append(message)
        else:
            found.append(Block(number, [message]))
    return found
