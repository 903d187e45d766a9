"""The part of the outbox that is in memory: what waits, what is out, and what goes. Pure."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, count

from marketprism.board.board import Board
from marketprism.board.rows import QueueRow
from marketprism.outbox.blocks import Numbered
from marketprism.outbox.lost_stretches import LostStretches
from marketprism.wire import Message, origin

STEP = 2
"""Between the numbers of two messages: a gap that must go between them gets the odd one."""


class Backlog:
    """An ordered log of messages: out, waiting, and behind those on disk, the tail.

    While something is on disk, what is appended goes to the tail; `away` messages are on disk and
    not in memory, all of them between the waiting ones and the tail.
    """

    def __init__(
        self, max_messages: int, max_bytes: int, row: QueueRow, board: Board, losses: LostStretches
    ) -> None:
        self.row = row
        self._board = board
        self.losses = losses
        row.capacity, row.capacity_bytes = max_messages, max_bytes
        row.held = row.held_bytes = 0
        self._next = STEP
        self.closed = False
        self.crowded = False
        """Somebody waits for room."""
        self.held_back = False
        """Nothing may be taken until the disk has it."""
        self.away = 0
        self.handed = 0
        """The highest number that was ever taken."""
        self.taken: dict[int, Message] = {}
        self._order: deque[int] = deque()
        """The numbers of those taken, ascending; some at its end may be acknowledged."""
        self._early: dict[int, Message] = {}
        """Acknowledged before one that was taken before it."""
        self.waiting: deque[Numbered] = deque()
        self.tail: deque[Numbered] | None = None
        """None: nothing is on disk."""
        self._skipped: dict[str, str] = {}
        """See `skip`."""
        self._doubted: dict[str, int] = {}
        """The last number of each subject that may be in the stream."""

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
    def drained(self) -> bool:
        """It is closed, and all that was in it is acknowledged."""
        return self.closed and not self.row.held and not self.away and not self.losses

    @property
    def spent(self) -> bool:
        """It is closed, and there is nothing to take unless it is rewound."""
        return (
            self.closed and not self.waiting and not self.tail and not self.away and not self.losses
        )

    def append(self, messages: Iterable[Message]) -> None:
        """Accept messages, in order."""
        numbered = list(zip(count(self._next, STEP), messages, strict=False))
        (self.waiting if self.tail is None else self.tail).extend(numbered)
        self._next += STEP * len(numbered)
        self.row.held += len(numbered)
        self.row.held_bytes += payload_bytes(numbered)

    def take(self, most: int) -> list[Numbered]:
        """The next messages that wait, `most` of them at most, and the gaps that belong between."""
        waiting = self.waiting
        if self.held_back:
            return []
        batch = [waiting.popleft() for _ in range(min(most, len(waiting)))]
        if self._skipped:
            batch = self._unskipped(batch)
        if self.losses:
            batch = self._gated(batch, most)
        if batch:
            self.taken.update(batch)
            self._order.extend([number for number, _ in batch])
            self.handed = max(self.handed, batch[-1][0])
        return batch

    def skip(self, subject: str, msg_id: str) -> None:
        """The next message of this subject is stored already if it has this id: it is on disk, and
        is left out when it comes. Of a subject of which nothing was taken yet.
        """
        self._skipped[subject] = msg_id

    @property
    def skips(self) -> bool:
        """Something that is stored already is still to be left out, which no disk remembers."""
        return bool(self._skipped)

    def _unskipped(self, batch: list[Numbered]) -> list[Numbered]:
        passed: list[Numbered] = []
        for number, message in batch:
            if self._skipped.pop(message.subject, None) == message.msg_id:
                self.recount([(number, message)], -1)
                self._board.published[origin(message.subject)] += 1
                self._board.sink.acknowledged += 1
            else:
                passed.append((number, message))
        return passed

    def _gated(self, batch: list[Numbered], most: int) -> list[Numbered]:
        """What may go of a batch and what follows it: see `LostStretches`."""
        waiting = self.waiting
        while True:
            passed = self.losses.gated(batch)
            self.recount(batch, -1)
            self.recount(passed, 1)
            if passed or not waiting:
                break
            batch = [waiting.popleft() for _ in range(min(most, len(waiting)))]
        if not passed and self._tells_rest:
            passed = self.losses.rest(self._number, closed=self.closed)
            self.recount(passed, 1)
        return passed

    @property
    def _tells_rest(self) -> bool:
        """Nothing waits behind what was lost, and something of it can be told."""
        idle = not (self.waiting or self.tail or self.away)
        return idle and bool(self.losses) and self.losses.tellable(closed=self.closed)

    @property
    def takeable(self) -> bool:
        return not self.held_back and bool(self.waiting or self._tells_rest)

    @property
    def latest(self) -> int:
        """The highest number that was given to a message."""
        return self._next - STEP

    def _number(self) -> int:
        """Of a gap that goes behind all there is."""
        self._next += STEP
        return self._next - STEP - 1

    def recount(self, batch: Iterable[Numbered], sign: int) -> None:
        for _, message in batch:
            self.row.held += sign
            self.row.held_bytes += sign * len(message.payload)

    def acknowledge(self, number: int) -> Message | None:
        """Forget a message that is safe, and return it; None for one that is not out."""
        message = self.taken.pop(number, None)
        if message is None:
            return None
        row = self.row
        row.held -= 1
        row.held_bytes -= len(message.payload)
        if self._order[0] == number:
            self._order.popleft()
            if self._early:
                self._forget_early()
        else:
            self._early[number] = message
        if self.crowded:
            self.moved()
        return message

    def replace(
        self, number: int, instead_of: Callable[[Message], Message | None]
    ) -> Message | None:
        """Put what `instead_of` makes of a message that is out in its place, under its number, and
        return it; None: forget the message.
        """
        old = self.taken[number]
        if (new := instead_of(old)) is None:
            self.acknowledge(number)
        else:
            self.taken[number] = new
            self.row.held_bytes += len(new.payload) - len(old.payload)
        return new

    def _forget_early(self) -> None:
        order = self._order
        while order and order[0] not in self.taken:
            order.popleft()
        floor = self.floor
        self._early = {each: kept for each, kept in self._early.items() if each > floor}

    def moved(self) -> None:
        """Something is elsewhere than before: whoever waits may go on."""

    def rewind(self) -> None:
        """Let what was taken and not acknowledged wait again, ahead of the rest, in order."""
        self.doubt((message.subject, number) for number, message in self.taken.items())
        self.waiting.extendleft(reversed(self.taken.items()))
        self.taken.clear()
        self._order.clear()

    def doubt(self, messages: Iterable[tuple[str, int]]) -> None:
        """Messages of these subjects, up to these numbers, which ascend, may be in the stream
        although nobody told us.
        """
        self._doubted.update(messages)

    def continue_after(self, number: int) -> None:
        """A former process came as far as this, at least."""
        self._next = max(self._next, number - number % STEP + STEP)

    def in_doubt(self) -> list[str]:
        """The subjects of messages that may be in the stream although nobody told us: those that
        were taken in vain, by us or by a former process.
        """
        return list(self._doubted)

    def _settled(self, subject: str, msg_id: str | None) -> int:
        """See `Outbox.forget_stored`."""
        # Only what was taken can be stored by us; of a subject that is not in doubt, anything.
        end = self._doubted.pop(subject, None)
        if msg_id is None:
            return 0
        last = self.losses.stored_upto(subject, msg_id, self.waiting)
        early = [n for n, each in self._early.items() if _is(each, subject, msg_id)]
        last = max(last, *early, 0)
        healing = self.losses.healing(subject, self.waiting) if self.losses else {}
        passed: list[Numbered] = []
        found = 0
        for number, message in self.waiting:
            if end is not None and number > end:
                break
            passed.append((number, message))
            if _is(message, subject, msg_id) or msg_id in healing.get(number, ()):
                # Of two with one id the first was stored, and the second refused for it: what lies
                # between them came after the last that is stored.
                found = found or number
        last = max(last, found)
        stored = [each for each in passed if each[0] <= last and each[1].subject == subject]
        ended = [loss for each in stored if (loss := self.losses.passed(*each)) is not None]
        dropped = [each for each in passed if any(loss.holds(*each) for loss in ended)]
        if stored:
            for _ in passed:
                self.waiting.popleft()
            gone = dict(stored) | dict(dropped)
            self.waiting.extendleft(each for each in reversed(passed) if each[0] not in gone)
            self.recount(gone.items(), -1)
        return len(dict(stored).keys() - dict(dropped).keys())

    @property
    def floor(self) -> int:
        """Nothing below this number is held, in memory."""
        if self._order:
            return self._order[0]
        queue = self.waiting or self.tail
        return queue[0][0] if queue else self._next

    def unwritten(self, after: int) -> Iterator[Numbered]:
        """What is in memory beyond a number, in order; but not our own gaps, which are made anew
        from what was dropped.
        """
        held = chain(self.taken.items(), self.waiting, self.tail or ())
        return (each for each in held if each[0] > after and each[0] % STEP == 0)

    def split(self, most: int, most_bytes: int) -> None:
        """Leave so many waiting messages where they are, and all that were ever taken; the rest
        is the tail.
        """
        head: deque[Numbered] = deque()
        waiting = self.waiting
        while waiting and (waiting[0][0] <= self.handed or (len(head) < most and most_bytes > 0)):
            most_bytes -= len(waiting[0][1].payload)
            head.append(waiting.popleft())
        self.waiting, self.tail = head, waiting

    def join(self) -> None:
        """The tail follows what waits: nothing is on disk between them."""
        self.waiting.extend(self.tail or ())
        self.tail = None


def payload_bytes(batch: Sequence[Numbered]) -> int:
    """Of all of them together."""
    return sum(len(message.payload) for _, message in batch)


def _is(message: Message, subject: str, msg_id: str) -> bool:
    return message.msg_id == msg_id and message.subject == subject
