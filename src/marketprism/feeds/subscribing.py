"""What one connection asked its exchange to send, and what became of it. Pure.

A **topic** is what is subscribed: a stream, or an argument that tells of several. Topics are asked
for in commands, several at a time, and each is confirmed by the answer to its command or by what
it tells, whichever comes first; never by inference.

- What is heard of a topic while it is being left is of its earlier subscription, and confirms
  nothing; an answer to a later command shows that it is left, whatever became of that answer.
- The time for an answer runs from when a command was sent (`sent`), not from when it was made: ours
  may wait in our own queue, or for a snapshot's budget. A topic that is not confirmed by then is
  asked for again, once; then it is `unheard`, and its connection is in doubt.
- A refused command is divided: its halves are asked for, one command after the other, until the
  topic to blame is alone. So one bad topic of n costs at most 2·⌈log2 n⌉ commands more, and nobody
  else's data.
- No refusal is for ever. One that **passes** (the exchange cannot now) holds back all topics that
  met it: a single one asks, by backoff, and the rest follow once it is granted. Any other topic
  that is refused alone is asked for again after half a minute, then every `refused_retry`, together
  with others and within a tenth of what the connection may ask.
- Renewals are gathered, and said together.
"""

import zlib
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Generic, NamedTuple, TypeVar

import attrs

from marketprism.clock import HOUR, SECOND, Timestamp
from marketprism.errors import Lost
from marketprism.feeds.actions import Close, Output, Park, Rotate
from marketprism.streams.state import Phase, StreamState

PASSING_FIRST, PASSING_CAP = SECOND // 2, 15 * SECOND
"""Waits while the exchange cannot: doubled each time; twice the cap where operations are scarce."""
FIRST_REFUSED_RETRY = 30 * SECOND
"""From the first refusal of a topic to its next command, at most."""
GATHERED = 10 * SECOND
"""Refused topics that are due within so long are asked for together."""
RENEW_EVERY = SECOND
"""Between two lots of renewals."""
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


@attrs.define(eq=False)
class _Topic:
    asked_again: bool = False
    refusals: int = 0
    retry_at: int | None = None
    """Monotonic: refused alone, and asked for again then."""


class _Suspects(NamedTuple, Generic[K]):
    topics: list[K]
    retry: bool


def pause_of(who: str, refused_retry: float, refusals: int) -> int:
    """Nanoseconds from a refusal of a single thing to the next attempt at it: spread by `who` asks
    for what, the same each time.
    """
    patience = round(refused_retry * SECOND)
    if refusals:
        return _spread(f"{who} {refusals}", patience * 9 // 10, patience)
    first = min(FIRST_REFUSED_RETRY, patience)
    return _spread(f"{who} {refusals}", first // 2, first)


def _spread(who: str, least: int, most: int) -> int:
    """Somewhere between."""
    return least + (most - least) * zlib.crc32(who.encode()) // 2**32


class Due(NamedTuple, Generic[K]):
    """What time brought."""

    commands: list[Command[K]]
    unheard: list[K]
    """Asked for twice, and neither answered nor heard of: the connection is in doubt."""


class Subscriptions(Generic[K]):
    """All topics of a connection."""

    def __init__(
        self, name: str, rules: Rules, by_itself: Callable[[K], bool] = lambda _topic: False
    ) -> None:
        """`name` spreads the waits of several connections; topics that are `by_itself` have
        commands of their own, which may wait long to be sent.
        """
        self.unconfirmed: dict[K, _Topic] = {}
        """Asked for, or to be asked for again, and not confirmed; as a rule there is none."""
        self._name = name
        self._rules = rules
        self._by_itself = by_itself
        self._last_number = 0
        self._wanted: set[K] = set()
        self._open: dict[int, Command[K]] = {}
        self._suspects: deque[_Suspects[K]] = deque()
        self._apart: list[_Suspects[K]] = []
        """Those that need not wait for one another, being by themselves."""
        self._held: dict[K, None] = {}
        """Met a refusal that passes."""
        self._held_until = 0
        self._probes = 0
        """Commands since then that met it again."""
        self._probe: Command[K] | None = None
        self._renewals: dict[K, None] = {}
        self._renewed_at = -RENEW_EVERY
        self._operations: deque[tuple[int, int, bool]] = deque()
        self._used = self._used_by_retries = 0

    # What is asked

    def number(self) -> int:
        """Of the next command, or of whatever else needs one on the same connection."""
        self._last_number += 1
        return self._last_number

    def subscribe(self, topics: Sequence[K], now: Timestamp) -> list[Command[K]]:
        """Ask for these."""
        self._wanted.update(topics)
        for topic in topics:
            self.unconfirmed[topic] = _Topic()
            self._renewals.pop(topic, None)
        return self._commands(topics, now)

    def unsubscribe(self, topics: Sequence[K], now: Timestamp) -> list[Command[K]]:
        """Leave these, and forget them."""
        for topic in topics:
            self.forget(topic)
        return self._leave(topics, now)

    def renew(self, topic: K) -> bool:
        """Leave and ask anew, soon, with others. Nothing where it is asked for anyway: False."""
        if topic in self.unconfirmed:
            return False
        self._renewals[topic] = None
        return True

    def cancel_renewal(self, topic: K) -> None:
        """It spoke before it was renewed, and need not be."""
        self._renewals.pop(topic, None)

    def forget(self, topic: K) -> None:
        """It is another connection's, or nobody's, from now on."""
        self._wanted.discard(topic)
        self.unconfirmed.pop(topic, None)
        self._held.pop(topic, None)
        self._renewals.pop(topic, None)

    def room(self, now: Timestamp) -> int:
        """How many more operations this hour has."""
        while self._operations and now.monotonic - self._operations[0][0] >= HOUR:
            _, cost, retry = self._operations.popleft()
            self._used -= cost
            self._used_by_retries -= cost * retry
        return self._rules.an_hour - self._used

    def __contains__(self, topic: object) -> bool:
        """Whether it is asked for, confirmed or not."""
        return topic in self._wanted

    def asking(self) -> list[Command[K]]:
        """The commands that ask for topics and are not answered, the oldest first."""
        return [command for command in self._open.values() if not command.leaving]

    def leaving(self, topic: K) -> bool:
        """Whether it is being left: what it tells now is of an earlier subscription."""
        return any(command.leaving and topic in command.topics for command in self._open.values())

    # What is heard

    def sent(self, number: int, now: Timestamp) -> None:
        """That command leaves: its answer is due from now on."""
        if (command := self._open.get(number)) is not None:
            command.sent_at = now.monotonic

    def granted(self, number: int) -> list[K] | None:
        """The exchange accepted that command: the topics that are confirmed by it. None: nothing
        of that number was ever asked.
        """
        if not 0 < number <= self._last_number:
            return None
        command = self._closed(number)
        if command is None or command.leaving:
            return []
        for topic in command.topics:
            self._left_before(topic, number)
        return [topic for topic in command.topics if self._confirm(topic)]

    def accepted(self, topic: K) -> bool:
        """The exchange accepted a topic, by its name: whether that confirms it. Where it was asked
        for twice, this is of the first time.
        """
        asking = [command for command in self.asking() if topic in command.topics]
        for command in asking[:1]:
            command.topics.remove(topic)
            self._left_before(topic, command.number)
        self._tidy()
        return len(asking) < 2 and self._confirm(topic)

    def heard(self, topic: K) -> bool:
        """A topic spoke, so it is confirmed, whatever became of its command: is that news."""
        return topic in self.unconfirmed and not self.leaving(topic) and self._confirm(topic)

    def left(self, topic: K) -> None:
        """The exchange says that a topic is left, by its name."""
        for command in self._open.values():
            if command.leaving and topic in command.topics:
                command.topics.remove(topic)
                break
        self._tidy()

    def refused(self, number: int | None, now: Timestamp, *, passes: bool) -> list[K]:
        """That command was refused, or one that is not named. `passes`: the exchange cannot now,
        whatever it is asked for. The answer names the topics that cannot be had for now.
        """
        if number is not None:
            command = self._closed(number)
            blamed = [] if command is None or command.leaving else [command]
        else:
            waiting = [each for each in self._open.values() if each.sent_at is not None]
            blamed = [each for each in waiting if not each.leaving]
            for each in blamed or waiting[:1]:
                # None but one that leaves can be meant where no other is open.
                self._closed(each.number)
            for each in blamed:
                each.topics = [topic for topic in each.topics if topic in self.unconfirmed]
        without: list[K] = []
        for command in blamed:
            without += self._refuse(command, now, passes=passes, sole=len(blamed) == 1)
        return without

    def refused_topic(self, topic: K, now: Timestamp, *, passes: bool) -> bool:
        """A topic was refused by its name: whether it was asked for. What was asked for with it is
        answered by itself.
        """
        commands = [each for each in self._open.values() if topic in each.topics]
        asked = [each for each in commands if not each.leaving]
        for command in asked or commands:
            command.topics.remove(topic)
        self._tidy()
        if not asked or topic not in self._wanted:
            return False
        self._without(topic, now, passes=passes)
        return True

    # What time brings

    def proceed(self, now: Timestamp) -> list[Command[K]]:
        """What can be said at once: the next of those that are asked for one after the other."""
        commands = []
        while self._apart:
            commands += self._affordable(self._apart.pop(), now)
        while self._suspects and not commands and not self._waits_for_one():
            commands += self._affordable(self._suspects.popleft(), now)
        return commands

    def _affordable(self, suspects: _Suspects[K], now: Timestamp) -> list[Command[K]]:
        topics = [topic for topic in suspects.topics if topic in self.unconfirmed]
        if not topics:
            return []
        if suspects.retry and not self._affords(len(topics), now):
            for topic in topics:
                self.unconfirmed[topic].retry_at = now.monotonic + self._pause(topic)
            return []
        alone = not self._by_itself(topics[0])
        return [self._say(topics, now, alone=alone, retry=suspects.retry)]

    def _waits_for_one(self) -> bool:
        """One that is asked for alone has neither been answered nor spoken in all its topics."""
        return any(
            command.alone and not self.unconfirmed.keys().isdisjoint(command.topics)
            for command in self._open.values()
        )

    def tick(self, now: Timestamp) -> Due[K]:
        """What is due: what was not answered, what was refused, what is to be renewed."""
        due = Due[K]([], [])
        if not (self.unconfirmed or self._open or self._renewals):
            return due
        self._overdue(now, due)
        self._ask_for_the_held(now, due)
        self._ask_for_the_refused(now, due)
        self._renew(now, due)
        due.commands.extend(self.proceed(now))
        return due

    def _overdue(self, now: Timestamp, due: Due[K]) -> None:
        patience = self._rules.answer_within
        late = [
            command
            for command in self._open.values()
            if command.sent_at is not None and now.monotonic - command.sent_at > patience
        ]
        again = []
        for command in late:
            self._closed(command.number)
            for topic in [] if command.leaving else command.topics:
                state = self.unconfirmed.get(topic)
                if state is None:
                    continue
                if state.asked_again:
                    due.unheard.append(topic)
                    state.retry_at = now.monotonic + self._pause(topic)
                    state.refusals += 1
                else:
                    state.asked_again = True
                    again.append(topic)
        due.commands.extend(self._commands(again, now))

    def _ask_for_the_held(self, now: Timestamp, due: Due[K]) -> None:
        if not self._held or self._probe is not None or now.monotonic < self._held_until:
            return
        if self.room(now) <= 0:
            return
        topic = next((each for each in self._held if not self._by_itself(each)), None)
        topic = next(iter(self._held)) if topic is None else topic
        self._probe = self._say([topic], now)
        due.commands.append(self._probe)

    def _ask_for_the_refused(self, now: Timestamp, due: Due[K]) -> None:
        times = [
            (state.retry_at, topic)
            for topic, state in self.unconfirmed.items()
            if state.retry_at is not None
        ]
        if not times or min(at for at, _ in times) > now.monotonic:
            return
        gathered = [topic for at, topic in times if at <= now.monotonic + GATHERED]
        for topic in gathered:
            state = self.unconfirmed[topic]
            state.retry_at, state.asked_again = None, False
        self._one_by_one(gathered, retry=True)

    def _renew(self, now: Timestamp, due: Due[K]) -> None:
        if not self._renewals or now.monotonic - self._renewed_at < RENEW_EVERY:
            return
        lot = list(self._renewals)[: self._rules.batch]
        cost = 2 * self._rules.cost(len(lot))
        if self.room(now) < cost + self._rules.spared:
            return
        self._renewed_at = now.monotonic
        due.commands.extend(self._leave(lot, now))
        due.commands.extend(self.subscribe(lot, now))

    # Commands

    def _commands(self, topics: Sequence[K], now: Timestamp) -> list[Command[K]]:
        together, apart = self._parted(topics)
        commands = [self._say(batch, now) for batch in self._batches(together)]
        return commands + [self._say([topic], now) for topic in apart]

    def _parted(self, topics: Iterable[K]) -> tuple[list[K], list[K]]:
        """Those that may share a command, and those that are by themselves."""
        together: list[K] = []
        apart: list[K] = []
        for topic in topics:
            (apart if self._by_itself(topic) else together).append(topic)
        return together, apart

    def _leave(self, topics: Sequence[K], now: Timestamp) -> list[Command[K]]:
        return [self._say(batch, now, leaving=True) for batch in self._batches(topics)]

    def _batches(self, topics: Sequence[K]) -> Iterable[list[K]]:
        size = self._rules.batch
        return (list(topics[at : at + size]) for at in range(0, len(topics), size))

    def _say(
        self,
        topics: list[K],
        now: Timestamp,
        *,
        leaving: bool = False,
        alone: bool = False,
        retry: bool = False,
    ) -> Command[K]:
        command = Command(self.number(), topics, leaving, None, alone, retry)
        self._open[command.number] = command
        self.room(now)
        cost = self._rules.cost(len(topics))
        self._operations.append((now.monotonic, cost, retry))
        self._used += cost
        self._used_by_retries += cost * retry
        return command

    def _closed(self, number: int) -> Command[K] | None:
        command = self._open.pop(number, None)
        if command is not None and command is self._probe:
            self._probe = None
        return command

    def _left_before(self, topic: K, number: int) -> None:
        """Commands are obeyed in their order: what was to be left before that one is left."""
        for command in self._open.values():
            if command.leaving and command.number < number and topic in command.topics:
                command.topics.remove(topic)
        self._tidy()

    def _tidy(self) -> None:
        """Commands of which every topic has an answer are answered."""
        for number in [each.number for each in self._open.values() if not each.topics]:
            self._closed(number)

    # What becomes of a topic

    def _confirm(self, topic: K) -> bool:
        if self.unconfirmed.pop(topic, None) is None:
            return False
        if topic in self._held:
            # The exchange takes subscriptions again: it is the others' turn.
            del self._held[topic]
            self._one_by_one(list(self._held), retry=False)
            self._held.clear()
            self._probe, self._probes = None, 0
        return True

    def _refuse(self, command: Command[K], now: Timestamp, *, passes: bool, sole: bool) -> list[K]:
        """`sole`: it is this command that was refused; else it may have been."""
        topics = [topic for topic in command.topics if topic in self._wanted]
        for topic in topics:
            # It may have spoken, of an earlier subscription.
            self.unconfirmed.setdefault(topic, _Topic())
        if (len(topics) == 1 and sole) or (passes and not command.alone):
            for topic in topics:
                self._without(topic, now, passes=passes)
            return topics
        half = (len(topics) + 1) // 2
        for part in (topics[half:], topics[:half]):
            if part:
                self._suspects.appendleft(_Suspects(part, command.retry))
        return []

    def _without(self, topic: K, now: Timestamp, *, passes: bool) -> None:
        """It cannot be had for now."""
        state = self.unconfirmed.setdefault(topic, _Topic())
        state.asked_again = False
        met_again = topic in self._held
        self._held.pop(topic, None)
        if not passes:
            state.retry_at = now.monotonic + self._pause(topic)
            state.refusals += 1
            return
        state.retry_at = None
        if met_again or not self._held:
            self._probes = self._probes + 1 if met_again else 0
            # Where few operations are left, they are made to last until the first ones come back.
            scarce = self.room(now) < self._rules.an_hour // 4
            cap = PASSING_CAP * 2 if scarce else PASSING_CAP
            wait = min(PASSING_FIRST << min(self._probes, 10), cap)
            who = f"{self._name} {topic} {self._probes}"
            self._held_until = now.monotonic + _spread(who, wait // 2, wait)
        # Last, so that another asks next.
        self._held[topic] = None

    def _one_by_one(self, topics: Sequence[K], *, retry: bool) -> None:
        """Have these asked for while no other such command is open; at once, where they are by
        themselves.
        """
        together, apart = self._parted(topics)
        self._suspects.extend(_Suspects(batch, retry) for batch in self._batches(together))
        self._apart.extend(_Suspects([topic], retry) for topic in apart)

    def _affords(self, topics: int, now: Timestamp) -> bool:
        room, cost = self.room(now), self._rules.cost(topics)
        share = max(self._rules.an_hour // RETRY_SHARE, cost)
        return room - cost >= self._rules.spared and self._used_by_retries + cost <= share

    def _pause(self, topic: K) -> int:
        refusals = self.unconfirmed[topic].refusals
        return pause_of(f"{self._name} {topic}", self._rules.refused_retry, refusals)


# What becomes of the streams


def park(state: StreamState, why: str, output: Output) -> None:
    """A stream cannot be had for now, and is asked for again: that is told once, not each time it
    is refused in the same words.
    """
    if state.phase is Phase.PARKED and state.detail == why:
        return
    state.phase, state.detail = Phase.PARKED, why
    output.actions.append(Park((state.data_type, state.instrument.native_id), why))


def doubted(what: str, *, speaks: bool) -> Rotate | Close:
    """What follows where `what` was never answered nor heard of: while the connection `speaks` of
    others, these lose nothing where another takes over from it.
    """
    words = f"{what} was asked for twice and not answered"
    return Rotate(words) if speaks else Close(Lost(words))
