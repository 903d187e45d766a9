"""The outbox: what was accepted and is not yet acknowledged, in order."""

from collections import deque
from collections.abc import Callable, Iterable

from trio.lowlevel import ParkingLot, checkpoint

from marketprism.status import QueueRow
from marketprism.wire import Message

SPILLED_SHARE = 1 / 8
"""The part of its capacity that is used where memory is short."""

Numbered = tuple[int, Message]
"""A message and its sequence number: ascending, never used twice in one outbox."""


class Outbox:
    """An ordered log of messages from the channel to their acknowledgement.

    A message waits, is taken, and is acknowledged; `rewind` makes those that were taken in vain
    wait again, ahead of the others, under the numbers they had. It holds `max_messages` and
    `max_bytes` of payload, and what one `append` may bring beyond: nothing accepted is dropped.
    `row` shows how full it is.

    One task appends and one takes; only `room` and `available` wait.
    """

    def __init__(self, max_messages: int, max_bytes: int, row: QueueRow) -> None:
        self._row = row
        self._most = max_messages, max_bytes
        row.capacity, row.capacity_bytes = self._most
        row.held = row.held_bytes = 0
        self._next = 0
        self._closed = False
        self._waiting: deque[Numbered] = deque()
        self._taken: dict[int, Numbered] = {}
        self._doubt: dict[str, int] = {}
        self._freed = ParkingLot()
        self._filled = ParkingLot()

    @property
    def full(self) -> bool:
        """Nothing more should be appended now."""
        row = self._row
        return row.held >= row.capacity or row.held_bytes >= row.capacity_bytes

    @property
    def drained(self) -> bool:
        """It is closed, and all that was in it is acknowledged."""
        return self._closed and not self._row.held

    @property
    def spent(self) -> bool:
        """It is closed, and there is nothing to take unless it is rewound."""
        return self._closed and not self._waiting

    def append(self, messages: Iterable[Message]) -> None:
        """Accept messages, in order."""
        row, sequence = self._row, self._next
        for message in messages:
            self._waiting.append((sequence, message))
            row.held_bytes += len(message.payload)
            sequence += 1
        row.held += sequence - self._next
        self._next = sequence
        if self._waiting:
            self._filled.unpark_all()

    def spill(self, early: bool) -> None:
        """Hold less in memory, since it is short, or as much as before. What is held stays."""
        share = SPILLED_SHARE if early else 1
        row = self._row
        row.capacity, row.capacity_bytes = (max(1, int(most * share)) for most in self._most)
        if not self.full:
            self._freed.unpark_all()

    async def room(self) -> None:
        """Return when it is not full."""
        while self.full:
            await self._freed.park()

    async def available(self) -> None:
        """Return when there is something to take, or it is closed."""
        while not self._waiting and not self._closed:
            await self._filled.park()

    def take(self, most: int) -> list[Numbered]:
        """The next messages that wait, `most` of them at most."""
        waiting = self._waiting
        batch = [waiting.popleft() for _ in range(min(most, len(waiting)))]
        for numbered in batch:
            self._taken[numbered[0]] = numbered
        return batch

    def acknowledge(self, sequence: int) -> Message | None:
        """Forget a message that is safe, and return it; None for one that is not out."""
        numbered = self._taken.pop(sequence, None)
        if numbered is None:
            return None
        message = numbered[1]
        self._row.held -= 1
        self._row.held_bytes -= len(message.payload)
        if self._freed and not self.full:
            self._freed.unpark_all()
        return message

    def replace(
        self, sequence: int, instead_of: Callable[[Message], Message | None]
    ) -> Message | None:
        """Put what `instead_of` makes of a message that is out in its place, under its number, and
        return it; None: forget the message.
        """
        _, old = self._taken[sequence]
        if (new := instead_of(old)) is None:
            self.acknowledge(sequence)
        else:
            self._taken[sequence] = sequence, new
            self._row.held_bytes += len(new.payload) - len(old.payload)
        return new

    def rewind(self) -> None:
        """Let what was taken and not acknowledged wait again, ahead of the rest, in order."""
        self._doubt.update((message.subject, at) for at, message in self._taken.values())
        self._waiting.extendleft(reversed(self._taken.values()))
        self._taken.clear()
        if self._waiting:
            self._filled.unpark_all()

    def in_doubt(self) -> list[str]:
        """The subjects of messages that may be stored although nobody told us: those that were
        taken and rewound.
        """
        return list(self._doubt)

    async def settle(self, subject: str, msg_id: str | None) -> int:
        """Forget what is held of a subject up to and including `msg_id`, its last message in the
        stream (None: there is none); how many that is, 0 where that message is not held.

        The subject is in doubt no longer.
        """
        await checkpoint()
        # Only what was taken can be stored by us; of a subject that is not in doubt, anything.
        end = self._doubt.pop(subject, None)
        passed: list[Numbered] = []
        found = False
        while self._waiting and not found:
            if end is not None and self._waiting[0][0] > end:
                break
            numbered = self._waiting.popleft()
            passed.append(numbered)
            found = numbered[1].subject == subject and numbered[1].msg_id == msg_id
        settled = [m for _, m in passed if m.subject == subject] if found else []
        self._waiting.extendleft(
            numbered for numbered in reversed(passed) if not found or numbered[1].subject != subject
        )
        self._row.held -= len(settled)
        self._row.held_bytes -= sum(len(message.payload) for message in settled)
        if settled and self._freed and not self.full:
            self._freed.unpark_all()
        return len(settled)

    async def recovered(self) -> dict[str, Message]:
        """The last message of each subject that a former process left behind: none, as nothing
        here outlives the process.
        """
        await checkpoint()
        return {}

    def close(self) -> None:
        """Nothing more will be appended."""
        self._closed = True
        self._filled.unpark_all()
