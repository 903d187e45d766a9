"""What was accepted and is not acknowledged: the part in memory, and how far the rest is. Pure."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain

from marketprism.board.board import Board
from marketprism.board.rows import QueueRow
from marketprism.gaps.ids import GapStarts
from marketprism.outbox.block import STEP, Block, Numbered, blocks
from marketprism.outbox.contents import Content, LostBlock
from marketprism.outbox.damage import Damage
from marketprism.outbox.doubts import Doubts
from marketprism.outbox.in_flight import InFlight
from marketprism.outbox.watermarks import Watermarks
from marketprism.wire import Message, origin

SHORT = 256
"""Messages of the last block that takes up what follows it."""


class Log:
    """An ordered log of messages: in flight, waiting, on disk alone, and the tail behind those.

    Its entries are blocks: messages in one range of numbers. Where nothing is on disk there is no
    tail; from the moment something is, whatever is appended is the tail until it is written, and
    only what is written may be taken.

    `away` messages are on disk and not in memory: all of them between what waits and the tail.
    """

    # Many attributes: each is one part of the log, or one of the numbers of `watermarks`.

    def __init__(self, row: QueueRow, board: Board, starts: GapStarts) -> None:
        self.row = row
        row.held = row.held_bytes = 0
        self._board = board
        self._closed_at: int | None = None
        self.held_back = False
        """Nothing may be taken until the disk has it."""
        self.on_disk = False
        """Something is on disk."""
        self.away = 0
        self.doubts = Doubts()
        self.damage = Damage(starts)
        self._in_flight = InFlight()
        self._waiting: deque[Block] = deque()
        self._tail: deque[Block] = deque()
        self._next = STEP
        self._handed_out = self._written = self._loaded = 0

    # How it stands.

    @property
    def watermarks(self) -> Watermarks:
        """How far it has come, checked."""
        acknowledged = min(self.floor - STEP, self._handed_out)
        return Watermarks(acknowledged, self._handed_out, self._written, self._loaded, self._next)

    @property
    def floor(self) -> int:
        """The lowest number that is held; of what comes next, where nothing is."""
        if self._in_flight:
            return self._in_flight.lowest
        if self._waiting:
            return self._waiting[0].first
        if self.away:
            return self._loaded + 1
        return self._tail[0].first if self._tail else self._next

    @property
    def full(self) -> bool:
        """Nothing more should be appended now."""
        row = self.row
        return row.held >= row.capacity or row.held_bytes >= row.capacity_bytes

    @property
    def pressed(self) -> bool:
        """Three quarters full: time to go to the disk."""
        row = self.row
        return row.held * 4 >= row.capacity * 3 or row.held_bytes * 4 >= row.capacity_bytes * 3

    @property
    def closed(self) -> bool:
        """Nothing more will be appended."""
        return self._closed_at is not None

    @property
    def takeable(self) -> bool:
        """There is something to take."""
        return not self.held_back and bool(self._waiting)

    @property
    def spent(self) -> bool:
        """It is closed, and there is nothing to take unless it is rewound."""
        return self.closed and not (self._waiting or self._tail or self.away)

    @property
    def drained(self) -> bool:
        """It is closed, and all that was in it is acknowledged."""
        return self.closed and not (self.row.held or self.away)

    @property
    def idle(self) -> bool:
        """Nothing is held but the tail."""
        return not (self.away or self._waiting or self._in_flight)

    @property
    def waiting(self) -> int:
        """How many messages may be taken."""
        return sum(map(len, self._waiting))

    @property
    def unwritten(self) -> int:
        """How many messages are in the tail."""
        return sum(map(len, self._tail))

    # What comes and goes.

    def append(self, messages: Sequence[Message]) -> None:
        """Accept messages, in order."""
        first = self._next
        self._next += STEP * len(messages)
        if self.damage:
            passed = self.damage.admit(Block(first, list(messages)).numbered())
            self.damage.put_on(self._board)
            for block in blocks(passed):
                self._accept(block.first, block.messages)
        elif messages:
            self._accept(first, messages)

    def _accept(self, first: int, messages: Sequence[Message]) -> None:
        """Put these behind all that is there."""
        queue = self._tail if self.on_disk else self._waiting
        self._count(messages)
        if queue and len(queue[-1].messages) < SHORT and queue[-1].after == first:
            queue[-1].messages += messages
        else:
            queue.append(Block(first, list(messages)))

    def close(self, wall: int) -> None:
        """Nothing more will be appended."""
        self._closed_at = wall
        self._conclude()

    def _conclude(self) -> None:
        """Tell what is known of the damage; at the end, that no snapshot will come for a book."""
        if self.damage and self._closed_at is not None:
            gaps = self.damage.rest(self._next, self._closed_at)
            self.append([message for _, message in gaps])
        self.damage.put_on(self._board)

    def take(self, most: int) -> list[Numbered]:
        """The next messages that wait, `most` of them at most."""
        batch: list[Numbered] = []
        while self.takeable and len(batch) < most:
            block = self._waiting[0].cut(most - len(batch))
            if not self._waiting[0]:
                self._waiting.popleft()
            self._handed_out = max(self._handed_out, block.last)
            for each in self._unskipped(block) if self.doubts.skips else [block]:
                self._in_flight.add(each)
                batch += each.numbered()
        return batch

    def _unskipped(self, block: Block) -> list[Block]:
        passed = []
        for number, message in block.numbered():
            if self.doubts.is_skipped(message):
                self._count([message], -1)
                self._board.published[origin(message.subject)] += 1
                self._board.sink.acknowledged += 1
            else:
                passed.append((number, message))
        return blocks(passed)

    def acknowledge(self, number: int) -> Message | None:
        """Forget a message that is safe, and return it; None for one that is not in flight."""
        message = self._in_flight.acknowledge(number)
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
        old = self._in_flight.get(number)
        if (new := instead_of(old)) is None:
            self.acknowledge(number)
        else:
            self._in_flight.put(number, new)
            self.row.held_bytes += len(new.payload) - len(old.payload)
        return new

    def rewind(self) -> None:
        """Let what was taken and not acknowledged wait again, ahead of the rest, in order."""
        if self._in_flight:
            self.doubts.remember(self._in_flight.early.items(), self.floor)
            left = self._in_flight.rewind()
            self.doubts.add(each for block in left for each in block.numbered())
            self._waiting.extendleft(reversed(left))

    def forget_stored(self, subject: str, msg_id: str | None) -> int:
        """Forget what waits of a subject up to and including `msg_id`, its last message in the
        stream (None: there is none); how many that is, 0 where that message was never here.
        """
        # Only what was taken can be stored by us; of a subject that is not in doubt, anything.
        end, last = self.doubts.settle(subject, msg_id)
        if msg_id is None:
            return 0
        for number, message in self._all(self._waiting):
            if end is not None and number > end:
                break
            if message.msg_id == msg_id and message.subject == subject:
                # Of two with one id the first was stored, and the second refused for it: what lies
                # between them came after the last that is stored.
                last = max(last, number)
                break
        return self._forget(subject, last)

    def _forget(self, subject: str, last: int) -> int:
        kept: list[Block] = []
        gone: list[Message] = []

        def stays(number: int, message: Message) -> bool:
            if number > last or message.subject != subject:
                return True
            gone.append(message)
            return False

        while self._waiting and self._waiting[0].first <= last:
            kept += self._waiting.popleft().only(stays)
        self._waiting.extendleft(reversed(kept))
        self._count(gone, -1)
        return len(gone)

    # What is on disk.

    def continue_after(self, number: int) -> None:
        """A former process came as far as this, at least."""
        self._next = max(self._next, number - number % STEP + STEP)

    def take_over(self, handed_out: int, loaded: int) -> None:
        """What a former process left begins here, of which all up to `handed_out` may have been
        delivered, and all up to `loaded` comes to memory.
        """
        self._handed_out = handed_out
        self._loaded = self._written = max(handed_out, loaded)
        self.continue_after(self._written)

    def found(self, batch: Sequence[Numbered]) -> bool:
        """These are on disk, by a former process; whether they are in memory now, too."""
        self.on_disk = True
        last = batch[-1][0]
        self._written = max(self._written, last)
        self.continue_after(last)
        if last > self._loaded:
            self.away += len(batch)
            return False
        self._waiting += blocks(batch)
        self._count([message for _, message in batch])
        self.doubts.add(each for each in batch if each[0] <= self._handed_out)
        return True

    def taken_over(self) -> None:
        """That was all of it."""
        if not self.on_disk:
            self._written = self._loaded = 0

    def begin_spooling(self, most: int, most_bytes: int) -> None:
        """From now on whatever comes goes by the disk. So many of those that wait stay in memory,
        and all that were ever taken: `in_memory` must be written before anything is taken.
        """
        head: deque[Block] = deque()
        waiting = self._waiting
        while waiting and (waiting[0].first <= self._handed_out or (most > 0 and most_bytes > 0)):
            block = waiting[0].cut(_fitting(waiting[0], most, most_bytes, self._handed_out))
            most -= len(block)
            most_bytes -= block.payload_bytes
            head.append(block)
            if not waiting[0]:
                waiting.popleft()
        self._waiting, self._tail = head, waiting
        self.on_disk = self.held_back = True

    def begun(self, head: Sequence[Numbered]) -> None:
        """These, all that was `in_memory`, are written."""
        self.held_back = False
        self._loaded = self._written = max(head[-1][0] if head else 0, self._handed_out)

    def in_memory(self) -> list[Numbered]:
        """What is held, in order, and is in memory, but for the tail."""
        return [*self._in_flight, *self._all(self._waiting)]

    def oldest_unwritten(self, most_bytes: int) -> list[Numbered]:
        """The beginning of the tail, as much as is written at once."""
        batch: list[Numbered] = []
        for number, message in self._all(self._tail):
            most_bytes -= len(message.payload)
            if batch and most_bytes < 0:
                break
            batch.append((number, message))
        return batch

    def wrote(self, batch: Sequence[Numbered], *, stays: bool) -> None:
        """The beginning of the tail is on disk; and in memory, too, if it stays."""
        left = len(batch)
        while left:
            block = self._tail[0].cut(left)
            left -= len(block)
            if not self._tail[0]:
                self._tail.popleft()
            if stays:
                self._waiting.append(block)
            else:
                self.away += len(block)
                self._count(block.messages, -1)
        self._written = batch[-1][0]
        if stays:
            self._loaded = self._written

    def fetched(self, batch: Sequence[Numbered]) -> None:
        """These, the next on disk, are in memory again."""
        self._loaded = batch[-1][0]
        self.away -= len(batch)
        self._waiting += blocks(batch)
        self._count([message for _, message in batch])

    def mended(self, damage: Damage, away: int) -> None:
        """What is on disk alone was damaged, and is written anew without what that costs: so many
        are left. What it costs the tail goes, too.
        """
        self.damage.join(damage)
        self.away = away
        if not away:
            self._loaded = self._written
        self._accept_anew(self._without_tail())
        self._conclude()

    def end_spooling(self, lost: Sequence[Content] = ()) -> None:
        """Nothing is on disk any more: what was there alone is delivered, or lost, and this is
        what it was.
        """
        tail = self._without_tail()
        gaps = self.damage.lose(LostBlock(self._loaded + 1, self._written, tuple(lost)))
        self.away = self._written = self._loaded = 0
        self.on_disk = self.held_back = False
        self._waiting += blocks(gaps)
        self._count([message for _, message in gaps])
        self._accept_anew(tail)
        self._conclude()

    def _accept_anew(self, tail: Iterable[Block]) -> None:
        """Put what was the tail behind all that is there, without what broken books cannot use."""
        for block in blocks(self.damage.admit(self._all(tail))) if self.damage else tail:
            self._accept(block.first, block.messages)

    def _without_tail(self) -> deque[Block]:
        """Take the tail away."""
        tail, self._tail = self._tail, deque()
        self._count([message for _, message in self._all(tail)], -1)
        return tail

    def beyond(self, number: int) -> list[Numbered]:
        """What is in memory beyond a number, in order."""
        held = chain(self._in_flight, self._all(self._waiting), self._all(self._tail))
        return [each for each in held if each[0] > number]

    @staticmethod
    def _all(queue: Iterable[Block]) -> Iterator[Numbered]:
        return chain.from_iterable(block.numbered() for block in queue)

    def _count(self, messages: Sequence[Message], sign: int = 1) -> None:
        """So many more are held, or less."""
        self.row.held += sign * len(messages)
        self.row.held_bytes += sign * sum([len(message.payload) for message in messages])


def _fitting(block: Block, most: int, most_bytes: int, always: int) -> int:
    """How many of a block's messages stay: all up to a number, and as many as may."""
    count = 0
    for number, message in block.numbered():
        if number > always and (count >= most or most_bytes <= 0):
            break
        most_bytes -= len(message.payload)
        count += 1
    return count
