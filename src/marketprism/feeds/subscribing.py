"""What one connection asked its exchange to send, and what became of it. Pure.

A **topic** is what is subscribed: a stream, or an argument that tells of several. Topics are asked
for in commands, several at a time, and each is confirmed by the answer to its command or by what
it tells, whichever comes first; never by inference.

- What is heard of a topic while it is being left is of its earlier subscription, and confirms
  nothing; an answer to a later command shows that it is left, whatever became of that answer.
- The time for an answer runs from when a command was sent (`sent`), not from when it was made: ours
  may wait in our own queue, or for a snapshot's budget. A topic that is not confirmed by then is
  asked for again, once; then it is `unheard`, and its connection is in doubt.
- A refused command is divided until the topic to blame is alone (`dividing.py`).
- No refusal is for ever. One that **passes** (the exchange cannot now) holds back all topics that
  met it: a single one asks, by backoff, and the rest follow once it is granted. Any other topic
  that is refused alone is asked for again after half a minute, then every `refused_retry`, together
  with others and within a tenth of what the connection may ask.
- Renewals are gathered, and said together (`renewals.py`).
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Generic, NamedTuple, TypeVar

from marketprism.clock import Timestamp
from marketprism.feeds.commands import Command, OpenCommands, Operations, Rules
from marketprism.feeds.dividing import Batches, OneByOne, Suspects
from marketprism.feeds.refusals import HeldBack
from marketprism.feeds.renewals import Renewals
from marketprism.feeds.unconfirmed import Unconfirmed

K = TypeVar("K", bound=Hashable)


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
        self.unconfirmed = Unconfirmed[K](name, rules.refused_retry)
        """Asked for, or to be asked for again, and not confirmed; as a rule there is none."""
        self._rules = rules
        self._wanted: set[K] = set()
        self._batches = Batches(rules.batch, by_itself)
        self._open = OpenCommands[K]()
        self._operations = Operations(rules)
        self._one_by_one = OneByOne(self._batches)
        self._held = HeldBack[K](name)
        self._renewals = Renewals[K]()

    # What is asked

    def number(self) -> int:
        """Of the next command, or of whatever else needs one on the same connection."""
        return self._open.number()

    def subscribe(self, topics: Sequence[K], now: Timestamp) -> list[Command[K]]:
        """Ask for these."""
        self._wanted.update(topics)
        for topic in topics:
            self.unconfirmed.add(topic)
            self._renewals.discard(topic)
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
        self._renewals.add(topic)
        return True

    def cancel_renewal(self, topic: K) -> None:
        """It spoke before it was renewed, and need not be."""
        self._renewals.discard(topic)

    def forget(self, topic: K) -> None:
        """It is another connection's, or nobody's, from now on."""
        self._wanted.discard(topic)
        self.unconfirmed.discard(topic)
        self._held.discard(topic)
        self._renewals.discard(topic)

    def room(self, now: Timestamp) -> int:
        """How many more operations this hour has."""
        return self._operations.room(now)

    def __contains__(self, topic: object) -> bool:
        """Whether it is asked for, confirmed or not."""
        return topic in self._wanted

    def asking(self) -> list[Command[K]]:
        """The commands that ask for topics and are not answered, the oldest first."""
        return self._open.asking()

    def leaving(self, topic: K) -> bool:
        """Whether it is being left: what it tells now is of an earlier subscription."""
        return self._open.leaving(topic)

    # What is heard

    def sent(self, number: int, now: Timestamp) -> None:
        """That command leaves: its answer is due from now on."""
        self._open.sent(number, now)

    def granted(self, number: int) -> list[K] | None:
        """The exchange accepted that command: the topics that are confirmed by it. None: nothing
        of that number was ever asked.
        """
        if not 0 < number <= self._open.last_number:
            return None
        command = self._open.close(number)
        if command is None or command.leaving:
            return []
        for topic in command.topics:
            self._open.left_before(topic, number)
        return [topic for topic in command.topics if self._confirm(topic)]

    def accepted(self, topic: K) -> bool:
        """The exchange accepted a topic, by its name: whether that confirms it. Where it was asked
        for twice, this is of the first time.
        """
        asking = [command for command in self.asking() if topic in command.topics]
        for command in asking[:1]:
            command.topics.remove(topic)
            self._open.left_before(topic, command.number)
        self._open.tidy()
        return len(asking) < 2 and self._confirm(topic)

    def heard(self, topic: K) -> bool:
        """A topic spoke, so it is confirmed, whatever became of its command: is that news."""
        return topic in self.unconfirmed and not self.leaving(topic) and self._confirm(topic)

    def left(self, topic: K) -> None:
        """The exchange says that a topic is left, by its name."""
        self._open.left(topic)

    def refused(self, number: int | None, now: Timestamp, *, passes: bool) -> list[K]:
        """That command was refused, or one that is not named. `passes`: the exchange cannot now,
        whatever it is asked for. The answer names the topics that cannot be had for now.
        """
        if number is not None:
            command = self._open.close(number)
            blamed = [] if command is None or command.leaving else [command]
        else:
            waiting = [each for each in self._open if each.sent_at is not None]
            blamed = [each for each in waiting if not each.leaving]
            for each in blamed or waiting[:1]:
                # None but one that leaves can be meant where no other is open.
                self._open.close(each.number)
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
        commands = [each for each in self._open if topic in each.topics]
        asked = [each for each in commands if not each.leaving]
        for command in asked or commands:
            command.topics.remove(topic)
        self._open.tidy()
        if not asked or topic not in self._wanted:
            return False
        self._without(topic, now, passes=passes)
        return True

    # What time brings

    def proceed(self, now: Timestamp) -> list[Command[K]]:
        """What can be said at once: the next of those that are asked for one after the other."""
        commands, queue = [], self._one_by_one
        while queue.apart:
            commands += self._affordable(queue.apart.pop(), now)
        while queue.waiting and not commands and not self._waits_for_one():
            commands += self._affordable(queue.waiting.popleft(), now)
        return commands

    def _affordable(self, suspects: Suspects[K], now: Timestamp) -> list[Command[K]]:
        topics = [topic for topic in suspects.topics if topic in self.unconfirmed]
        if not topics:
            return []
        if suspects.retry and not self._operations.afford_retry(len(topics), now):
            for topic in topics:
                self.unconfirmed.postpone(topic, now)
            return []
        alone = not self._batches.by_itself(topics[0])
        return [self._say(topics, now, alone=alone, retry=suspects.retry)]

    def _waits_for_one(self) -> bool:
        """One that is asked for alone has neither been answered nor spoken in all its topics."""
        return any(
            command.alone and self.unconfirmed.any_of(command.topics) for command in self._open
        )

    def tick(self, now: Timestamp) -> Due[K]:
        """What is due: what was not answered, what was refused, what is to be renewed."""
        due = Due[K]([], [])
        if not (self.unconfirmed or self._open or self._renewals):
            return due
        self._overdue(now, due)
        self._ask_for_the_held(now, due)
        self._ask_for_the_refused(now)
        self._renew(now, due)
        due.commands.extend(self.proceed(now))
        return due

    def _overdue(self, now: Timestamp, due: Due[K]) -> None:
        again: list[K] = []
        for command in self._open.overdue(self._rules.answer_within, now):
            self._open.close(command.number)
            asked = [] if command.leaving else command.topics
            for topic in filter(self.unconfirmed.__contains__, asked):
                once_more = self.unconfirmed.unanswered(topic, now)
                (again if once_more else due.unheard).append(topic)
        due.commands.extend(self._commands(again, now))

    def _ask_for_the_held(self, now: Timestamp, due: Due[K]) -> None:
        if not self._held.due(now) or self._held.probe in self._open or self.room(now) <= 0:
            return
        self._held.probe = self._say([self._held.next(self._batches.by_itself)], now)
        due.commands.append(self._held.probe)

    def _ask_for_the_refused(self, now: Timestamp) -> None:
        self._one_by_one.add(self.unconfirmed.take_due(now), retry=True)

    def _renew(self, now: Timestamp, due: Due[K]) -> None:
        lot = self._renewals.due(self._rules.batch, now)
        if lot and self._operations.afford_renewal(len(lot), now):
            self._renewals.renewed_at = now.monotonic
            due.commands.extend(self._leave(lot, now))
            due.commands.extend(self.subscribe(lot, now))

    # Commands

    def _commands(self, topics: Sequence[K], now: Timestamp) -> list[Command[K]]:
        return [self._say(batch, now) for batch in self._batches.mixed(topics)]

    def _leave(self, topics: Sequence[K], now: Timestamp) -> list[Command[K]]:
        return [self._say(batch, now, leaving=True) for batch in self._batches.full(topics)]

    def _say(
        self,
        topics: list[K],
        now: Timestamp,
        *,
        leaving: bool = False,
        alone: bool = False,
        retry: bool = False,
    ) -> Command[K]:
        self._operations.spend(len(topics), now, retry=retry)
        return self._open.add(Command(self.number(), topics, leaving, None, alone, retry))

    # What becomes of a topic

    def _confirm(self, topic: K) -> bool:
        if not self.unconfirmed.discard(topic):
            return False
        if topic in self._held:
            self._one_by_one.add(self._held.granted(topic), retry=False)
        return True

    def _refuse(self, command: Command[K], now: Timestamp, *, passes: bool, sole: bool) -> list[K]:
        """`sole`: it is this command that was refused; else it may have been."""
        topics = [topic for topic in command.topics if topic in self._wanted]
        for topic in topics:
            self.unconfirmed.doubt(topic)
        if (len(topics) == 1 and sole) or (passes and not command.alone):
            for topic in topics:
                self._without(topic, now, passes=passes)
            return topics
        self._one_by_one.divide(topics, retry=command.retry)
        return []

    def _without(self, topic: K, now: Timestamp, *, passes: bool) -> None:
        """It cannot be had for now."""
        self.unconfirmed.refused(topic, now, passes=passes)
        if passes:
            self._held.add(topic, now, scarce=self._operations.scarce(now))
        else:
            self._held.discard(topic)
