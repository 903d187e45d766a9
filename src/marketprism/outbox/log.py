"""What was accepted and is not acknowledged: what of it is in memory, and how far the rest is.
Pure.
"""

from collections.abc import Callable, Iterable, Sequence

from marketprism.board.board import Board
from marketprism.board.rows import QueueRow
from marketprism.gaps.ids import GapStarts
from marketprism.outbox.block import STEP, Block, Numbered, blocks
from marketprism.outbox.contents import Content, LostBlock
from marketprism.outbox.damage import Damage
from marketprism.outbox.doubts import Doubts
from marketprism.outbox.watermarks import Watermarks
from marketprism.outbox.window import Window, numbered
from marketprism.wire import Message, origin


class Log:
    """An ordered log of messages: in flight, waiting, on disk alone, and the tail behind those.

    Its entries are blocks: messages in one range of numbers. Where nothing is on disk there is no
    tail; from the moment something is, whatever is appended is the tail until it is written, and
    only what is written may be taken.

    `away` messages are on disk and not in memory: all of them between what waits and the tail.

    It has as many attributes as a log has parts and marks; `watermarks` is all of the latter.
    """

    def __init__(self, row: QueueRow, board: Board, starts: GapStarts) -> None:
        row.held = row.held_bytes = 0
        self.window = Window(row)
        self.doubts = Doubts()
        self.damage = Damage(starts)
        self.on_disk = False
        """Something is."""
        self.away = 0
        self._board = board
        self._held_back = False
        """Nothing may be taken until the disk has it."""
        self._closed_at: int | None = None
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
        if (lowest := self.window.lowest) is not None:
            return lowest
        if self.away:
            return self._loaded + 1
        return self.window.tail[0].first if self.window.tail else self._next

    @property
    def closed(self) -> bool:
        """Nothing more will be appended."""
        return self._closed_at is not None

    @property
    def takeable(self) -> bool:
        """There is something to take."""
        return not self._held_back and bool(self.window.waiting)

    @property
    def spent(self) -> bool:
        """It is closed, and there is nothing to take unless it is rewound."""
        return self.closed and not (self.window.waiting or self.window.tail or self.away)

    @property
    def drained(self) -> bool:
        """It is closed, and all that was in it is acknowledged."""
        return self.closed and not (self.window.row.held or self.away)

    @property
    def idle(self) -> bool:
        """Nothing is held but the tail."""
        return not (self.away or self.window.waiting or self.window.in_flight)

    # What comes and goes.

    def append(self, messages: Sequence[Message]) -> None:
        """Accept messages, in order."""
        first = self._next
        self._next += STEP * len(messages)
        if self.damage:
            self._accept([Block(first, list(messages))])
            self.damage.put_on(self._board)
        elif messages:
            window = self.window
            window.put(window.tail if self.on_disk else window.waiting, first, messages)

    def _accept(self, entries: Iterable[Block]) -> None:
        """Put these behind all that is there, without what broken books cannot use."""
        queue = self.window.tail if self.on_disk else self.window.waiting
        for block in blocks(self.damage.admit(numbered(entries))) if self.damage else entries:
            self.window.put(queue, block.first, block.messages)

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
            block = self.window.cut(most - len(batch))
            self._handed_out = max(self._handed_out, block.last)
            for each in self._unskipped(block) if self.doubts.skips else [block]:
                self.window.in_flight.add(each)
                batch += each.numbered()
        return batch

    def _unskipped(self, block: Block) -> list[Block]:
        passed = []
        for number, message in block.numbered():
            if self.doubts.is_skipped(message):
                self.window.count([message], -1)
                self._board.published[origin(message.subject)] += 1
                self._board.sink.acknowledged += 1
            else:
                passed.append((number, message))
        return blocks(passed)

    def acknowledge(self, number: int) -> Message | None:
        """Forget a message that is safe, and return it; None for one that is not in flight."""
        return self.window.acknowledge(number)

    def replace(
        self, number: int, instead_of: Callable[[Message], Message | None]
    ) -> Message | None:
        """See `Window.replace`."""
        return self.window.replace(number, instead_of)

    def rewind(self) -> None:
        """Let what was taken and not acknowledged wait again, ahead of the rest, in order."""
        in_flight = self.window.in_flight
        if in_flight:
            self.doubts.remember(in_flight.early.items(), self.floor)
            left = in_flight.rewind()
            self.doubts.add(numbered(left))
            self.window.waiting.extendleft(reversed(left))

    def forget_stored(self, subject: str, msg_id: str | None) -> int:
        """Forget what waits of a subject up to and including `msg_id`, its last message in the
        stream (None: there is none); how many that is, 0 where that message was never here.
        """
        # Only what was taken can be stored by us; of a subject that is not in doubt, anything.
        end, last = self.doubts.settle(subject, msg_id)
        if msg_id is None:
            return 0
        return self.window.forget(subject, max(last, self.window.find(subject, msg_id, end)))

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
        self._into_memory(batch)
        self.doubts.add(each for each in batch if each[0] <= self._handed_out)
        return True

    def taken_over(self) -> None:
        """That was all of it."""
        if not self.on_disk:
            self._written = self._loaded = 0

    def begin_spooling(self, most: int, most_bytes: int) -> None:
        """From now on whatever comes goes by the disk. So many of those that wait stay in memory,
        and all that were ever taken; nothing is taken before those are written.
        """
        self.window.split(most, most_bytes, self._handed_out)
        self.on_disk = self._held_back = True

    def begun(self, head: Sequence[Numbered]) -> None:
        """These, all that stayed in memory, are written."""
        self._held_back = False
        self._loaded = self._written = max(head[-1][0] if head else 0, self._handed_out)

    def wrote(self, batch: Sequence[Numbered], *, stays: bool) -> None:
        """The beginning of the tail is on disk; and in memory, too, if it stays."""
        for block in self.window.cut_tail(len(batch)):
            if stays:
                self.window.waiting.append(block)
            else:
                self.away += len(block)
                self.window.count(block.messages, -1)
        self._written = batch[-1][0]
        if stays:
            self._loaded = self._written

    def fetched(self, batch: Sequence[Numbered]) -> None:
        """These, the next on disk, are in memory again."""
        self._loaded = batch[-1][0]
        self.away -= len(batch)
        self._into_memory(batch)

    def mended(self, damage: Damage, away: int) -> None:
        """What is on disk alone was damaged, and is written anew without what that costs: so many
        are left. What it costs the tail goes, too.
        """
        self.damage.join(damage)
        self.away = away
        if not away:
            self._loaded = self._written
        self._accept(self.window.without_tail())
        self._conclude()

    def end_spooling(self, lost: Sequence[Content] = ()) -> None:
        """Nothing is on disk any more: what was there alone is delivered, or lost, and this is
        what it was.
        """
        tail = self.window.without_tail()
        gaps = self.damage.lose(LostBlock(self._loaded + 1, self._written, tuple(lost)))
        self.away = self._written = self._loaded = 0
        self.on_disk = self._held_back = False
        self._into_memory(gaps)
        self._accept(tail)
        self._conclude()

    def beyond(self, number: int) -> list[Numbered]:
        """What is in memory beyond a number, in order."""
        held = [*self.window.but_tail(), *numbered(self.window.tail)]
        return [each for each in held if each[0] > number]

    def _into_memory(self, batch: Sequence[Numbered]) -> None:
        self.window.waiting += blocks(batch)
        self.window.count([message for _, message in batch])
