"""What is said to an exchange about topics: how it wants to be asked, what is not answered yet, and
what an hour has room for. Pure.
"""

from collections import deque
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

import attrs

from marketprism.clock import HOUR, Timestamp

RETRY_SHARE = 10
"""Refused topics are asked for within this part (a tenth) of what the connection may ask."""

K = TypeVar("K", bound=Hashable)


@attrs.frozen
class Rules:
    """How an exchange wants to be asked."""

    batch: int
    """Topics in one command, at most."""
    answer_within: int
    """Nanoseconds from sending to the answer."""
    refused_retry: float
    """Seconds between two attempts at a topic that the exchange refuses, after the first ones."""
    an_hour: int
    """Operations that a connection may have in an hour."""
    counts_topics: bool = False
    """An operation is a topic of a command, not the command."""
    spared: int = 0
    """Operations of an hour that neither renewals nor topics that are refused alone may use."""

    def cost(self, topics: int) -> int:
        """Operations of a command about so many topics."""
        return topics if self.counts_topics else 1


@attrs.define(eq=False)
class Command(Generic[K]):
    """Something to say to the exchange, until it is answered."""

    number: int
    topics: list[K]
    leaving: bool = False
    """Unsubscribe, instead of subscribe."""
    sent_at: int | None = None
    """Monotonic; None while it waits to be sent."""
    alone: bool = False
    """Asked while no other such command is open: some topic of it may be to blame."""
    retry: bool = False
    """About topics that were refused before."""


class Operations:
    """What a connection has used of an hour, by the commands that it said."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._spent: deque[tuple[int, int, bool]] = deque()
        """When, how many, and whether for topics that were refused before."""
        self._used = self._used_by_retries = 0

    def room(self, now: Timestamp) -> int:
        """How many more this hour has."""
        while self._spent and now.monotonic - self._spent[0][0] >= HOUR:
            _, cost, retry = self._spent.popleft()
            self._used -= cost
            self._used_by_retries -= cost * retry
        return self._rules.an_hour - self._used

    def spend(self, topics: int, now: Timestamp, *, retry: bool) -> None:
        """A command about so many topics is said."""
        self.room(now)
        cost = self._rules.cost(topics)
        self._spent.append((now.monotonic, cost, retry))
        self._used += cost
        self._used_by_retries += cost * retry

    def afford_retry(self, topics: int, now: Timestamp) -> bool:
        """Whether so many may be asked for that were refused before."""
        room, cost = self.room(now), self._rules.cost(topics)
        share = max(self._rules.an_hour // RETRY_SHARE, cost)
        return room - cost >= self._rules.spared and self._used_by_retries + cost <= share

    def afford_renewal(self, topics: int, now: Timestamp) -> bool:
        """Whether so many may be left and asked for anew."""
        return self.room(now) >= 2 * self._rules.cost(topics) + self._rules.spared

    def scarce(self, now: Timestamp) -> bool:
        """Whether few are left, to be made to last until the first ones come back."""
        return self.room(now) < self._rules.an_hour // 4


class OpenCommands(Generic[K]):
    """Those that are not answered, the oldest first."""

    def __init__(self) -> None:
        self.last_number = 0
        self._open: dict[int, Command[K]] = {}

    def __iter__(self) -> Iterator[Command[K]]:
        return iter(self._open.values())

    def __len__(self) -> int:
        return len(self._open)

    def __contains__(self, command: object) -> bool:
        return isinstance(command, Command) and command.number in self._open

    def number(self) -> int:
        """Of the next command."""
        self.last_number += 1
        return self.last_number

    def add(self, command: Command[K]) -> Command[K]:
        """It is to be said."""
        self._open[command.number] = command
        return command

    def sent(self, number: int, now: Timestamp) -> None:
        """That one leaves."""
        if (command := self._open.get(number)) is not None:
            command.sent_at = now.monotonic

    def overdue(self, patience: int, now: Timestamp) -> list[Command[K]]:
        """Those that were sent longer ago than that."""
        return [
            command
            for command in self
            if command.sent_at is not None and now.monotonic - command.sent_at > patience
        ]

    def asking(self) -> list[Command[K]]:
        """Those that ask for topics."""
        return [command for command in self if not command.leaving]

    def leaving(self, topic: K) -> bool:
        """Whether one of them leaves it."""
        return any(command.leaving and topic in command.topics for command in self)

    def close(self, number: int) -> Command[K] | None:
        """That one needs no answer any more."""
        return self._open.pop(number, None)

    def left(self, topic: K) -> None:
        """The oldest one that leaves it has its answer."""
        for command in self:
            if command.leaving and topic in command.topics:
                command.topics.remove(topic)
                break
        self.tidy()

    def left_before(self, topic: K, number: int) -> None:
        """Commands are obeyed in their order: what was to be left before that one is left."""
        for command in self:
            if command.leaving and command.number < number and topic in command.topics:
                command.topics.remove(topic)
        self.tidy()

    def tidy(self) -> None:
        """Commands of which every topic has an answer are answered."""
        for number in [command.number for command in self if not command.topics]:
            self.close(number)
