"""The part of the log that is in memory: in flight, waiting, and the tail. Pure."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain

import attrs

from marketprism.board.rows import QueueRow
from marketprism.outbox.block import Block, Numbered
from marketprism.outbox.in_flight import InFlight
from marketprism.wire import Message

SHORT = 256
"""Messages of the last block that takes up what follows it."""


@attrs.define(eq=False)
class Window:
    """Blocks in order, and in `row` how much they are."""

    row: QueueRow
    in_flight: InFlight = attrs.field(factory=InFlight)
    waiting: deque[Block] = attrs.field(factory=deque)
    tail: deque[Block] = attrs.field(factory=deque)
    """What waits for the disk."""

    @property
    def full(self) -> bool:
        """Nothing more should be taken in now."""
        row = self.row
        return row.held >= row.capacity or row.held_bytes >= row.capacity_bytes

    @property
    def pressed(self) -> bool:
        """Three quarters full: time to go to the disk."""
        row = self.row
        return row.held * 4 >= row.capacity * 3 or row.held_bytes * 4 >= row.capacity_bytes * 3

    @property
    def lowest(self) -> int | None:
        """The lowest number that may be taken, or was; None: there is none."""
        if self.in_flight:
            return self.in_flight.lowest
        return self.waiting[0].first if self.waiting else None

    def put(self, queue: deque[Block], first: int, messages: Sequence[Message]) -> None:
        """Put these, with numbers from `first` on, at the end of what waits or of the tail."""
        self.count(messages)
        if queue and len(queue[-1].messages) < SHORT and queue[-1].after == first:
            queue[-1].messages += messages
        else:
            queue.append(Block(first, list(messages)))

    def cut(self, most: int) -> Block:
        """The first of those that wait, `most` of them at most; there must be one. They wait no
        longer.
        """
        return _cut(self.waiting, most)

    def acknowledge(self, number: int) -> Message | None:
        """Forget a message that is safe, and return it; None for one that is not in flight."""
        message = self.in_flight.acknowledge(number)
        if message is not None:
            row = self.row
            row.held -= 1
            row.held_bytes -= len(message.payload)
        return message

    def replace(
        self, number: int, instead_of: Callable[[Message], Message | None]
    ) -> Message | None:
        """Put what `instead_of` makes of a message that is in flight in its place, under its
        number, and return it; None: forget the message.
        """
        old = self.in_flight.get(number)
        if (new := instead_of(old)) is None:
            self.acknowledge(number)
        else:
            self.in_flight.put(number, new)
            self.row.held_bytes += len(new.payload) - len(old.payload)
        return new

    def find(self, subject: str, msg_id: str, end: int | None) -> int:
        """The number of the first that waits of a subject with this id, up to `end`; 0: none.

        Of two with one id the first was stored, and the second refused for it: what lies between
        them came after the last that is stored.
        """
        for number, message in numbered(self.waiting):
            if end is not None and number > end:
                break
            if message.msg_id == msg_id and message.subject == subject:
                return number
        return 0

    def forget(self, subject: str, last: int) -> int:
        """Forget what waits of a subject up to a number; how many that is."""
        kept: list[Block] = []
        gone: list[Message] = []

        def stays(number: int, message: Message) -> bool:
            if number > last or message.subject != subject:
                return True
            gone.append(message)
            return False

        while self.waiting and self.waiting[0].first <= last:
            kept += self.waiting.popleft().only(stays)
        self.waiting.extendleft(reversed(kept))
        self.count(gone, -1)
        return len(gone)

    def split(self, most: int, most_bytes: int, always: int) -> None:
        """Let so many of those that wait wait on, and all up to the number `always`; the rest is
        the tail.
        """
        head: deque[Block] = deque()
        rest = self.waiting
        while rest and (rest[0].first <= always or (most > 0 and most_bytes > 0)):
            block = _cut(rest, _fitting(rest[0], most, most_bytes, always))
            most -= len(block)
            most_bytes -= block.payload_bytes
            head.append(block)
        self.waiting, self.tail = head, rest

    def oldest_of_tail(self, most_bytes: int) -> list[Numbered]:
        """Its beginning: one message, and as many more as have so many bytes with it."""
        batch: list[Numbered] = []
        for number, message in numbered(self.tail):
            most_bytes -= len(message.payload)
            if batch and most_bytes < 0:
                break
            batch.append((number, message))
        return batch

    def cut_tail(self, count: int) -> Iterator[Block]:
        """Its first messages, which are in it no longer; they are held all the same."""
        while count:
            block = _cut(self.tail, count)
            count -= len(block)
            yield block

    def without_tail(self) -> deque[Block]:
        """Take the tail away: it is not held any more."""
        tail, self.tail = self.tail, deque()
        self.count([message for _, message in numbered(tail)], -1)
        return tail

    def but_tail(self) -> list[Numbered]:
        """All that is held, in order, without the tail."""
        return [*self.in_flight, *numbered(self.waiting)]

    def count(self, messages: Sequence[Message], sign: int = 1) -> None:
        """So many more are held, or less."""
        self.row.held += sign * len(messages)
        self.row.held_bytes += sign * sum([len(message.payload) for message in messages])


def numbered(queue: Iterable[Block]) -> Iterator[Numbered]:
    """The messages of blocks, each with its number."""
    return chain.from_iterable(block.numbered() for block in queue)


def _cut(queue: deque[Block], most: int) -> Block:
    block = queue[0].cut(most)
    if not queue[0]:
        queue.popleft()
    return block


def _fitting(block: Block, most: int, most_bytes: int, always: int) -> int:
    """How many of a block's messages stay: all up to a number, and as many as may."""
    count = 0
    for number, message in block.numbered():
        if number > always and (count >= most or most_bytes <= 0):
            break
        most_bytes -= len(message.payload)
        count += 1
    return count
