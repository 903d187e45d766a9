"""Who may be connected at once, and whose request is answered. Pure.

A connection waits until its request is whole, and again between two requests. Nobody is turned
away for want of room there: who has waited longest gives way, of those who come from one address
the most. A whole request needs one of a few places, of which an address has no more than its share.
Requests for what is vital have places of their own: behind a proxy all come from one address.
"""

from collections import Counter
from typing import Generic, TypeVar

Guest = TypeVar("Guest")

WAITING = 128
"""Connections without a whole request."""
ANSWERED = 64
"""Requests that are answered at once."""
ADDRESS_SHARE = 2
"""An address has that part of them: one of so many."""
VITAL = 8
"""Requests for what is vital, beside the others. The oldest gives way: a client that does not take
so short an answer has gone.
"""
DESCRIPTOR_SHARE = 8
"""Who waits has no more than that part of the file descriptors: the exchanges need some, too."""


class Admission(Generic[Guest]):
    """Where each connection stands. Its file descriptors are those of all three rooms.

    `descriptors`: how many this process may have.
    """

    def __init__(self, descriptors: int) -> None:
        self._most_waiting = max(1, min(WAITING, descriptors // DESCRIPTOR_SHARE))
        self._most_answered = max(1, min(ANSWERED, descriptors // DESCRIPTOR_SHARE // 2))
        self._waiting: dict[Guest, str] = {}
        """With their addresses; who came first is first, in all three."""
        self._answered: dict[Guest, str] = {}
        self._vital: dict[Guest, str] = {}

    def wait(self, guest: Guest, address: str) -> Guest | None:
        """One is connected and has no whole request, or none any more; who gives way to it."""
        self.leave(guest)
        self._waiting[guest] = address
        return self.evict() if len(self._waiting) > self._most_waiting else None

    def evict(self) -> Guest | None:
        """Who gives way when there must be fewer, and is forgotten; None: nobody can."""
        if not self._waiting:
            return None
        counts = Counter(self._waiting.values())
        most = max(counts.values())
        guest = next(each for each, address in self._waiting.items() if counts[address] == most)
        self.leave(guest)
        return guest

    def ask(self, guest: Guest) -> bool:
        """Its request is whole; whether it may be answered."""
        address = self._waiting.pop(guest, None)
        if address is None or len(self._answered) >= self._most_answered:
            return False
        share = max(1, self._most_answered // ADDRESS_SHARE)
        if sum(other == address for other in self._answered.values()) >= share:
            return False
        self._answered[guest] = address
        return True

    def ask_vital(self, guest: Guest) -> Guest | None:
        """Its request is whole, and for what is vital: it is answered. Who gives way to it."""
        self._vital[guest] = self._waiting.pop(guest, "")
        if len(self._vital) <= VITAL:
            return None
        oldest = next(iter(self._vital))
        self.leave(oldest)
        return oldest

    def leave(self, guest: Guest) -> None:
        """It is not there any more."""
        for room in (self._waiting, self._answered, self._vital):
            room.pop(guest, None)

    @property
    def there(self) -> int:
        """How many are."""
        return len(self._waiting) + len(self._answered) + len(self._vital)
