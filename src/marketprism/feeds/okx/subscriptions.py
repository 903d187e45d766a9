"""What one connection asked OKX to send, and what it answered. Pure.

Each argument is acknowledged by itself, echoed; an error names its argument in words at most. So
where several might be to blame, they are asked for again one after the other.
"""

import re
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final

import attrs
import msgspec

from marketprism.feeds.okx.messages import Arg, Key
from marketprism.feeds.venue import Moment, Send

SECOND: Final = 1_000_000_000
ANSWER_WITHIN: Final = 20 * SECOND
"""A command that is not answered by then was not heard."""
OPERATIONS_AN_HOUR: Final = 470
"""OKX allows 480 subscriptions and unsubscriptions an hour on a connection. Each argument is
counted for one, which is the stricter reading."""
HOUR: Final = 3600 * SECOND
MOST_ARGS: Final = 500
"""In one message: each stays below 128 bytes, together below the 64 KiB that OKX allows."""

_words: Final = re.compile(r"[\w.-]+").findall


@attrs.define(eq=False)
class Topic:
    """One argument, and how it stands."""

    arg: Arg
    wanted: bool = True
    asks: int = 0
    """Subscriptions sent and not yet answered."""
    leaves: int = 0
    """Unsubscriptions likewise. Until they are answered, what comes is of an earlier one."""
    sent_at: int = 0
    """Monotonic: the latest of either."""
    asked_again: bool = False

    def named_in(self, words: Iterable[str]) -> bool:
        """Whether an error's words speak of it."""
        return set(self.arg.key) <= set(words)


@attrs.define(eq=False)
class Subscriptions:
    """All topics of a connection."""

    batch: int
    topics: dict[Key, Topic] = attrs.field(factory=dict)
    _operations: deque[int] = attrs.field(factory=deque)
    _suspects: deque[Topic] = attrs.field(factory=deque)
    _refusals: int = 0

    def subscribe(self, args: Sequence[Arg], now: Moment) -> list[Send]:
        """Ask for these; one that is known already is asked for anew."""
        for arg in args:
            topic = self.topics.setdefault(arg.key, Topic(arg))
            topic.wanted = True
            topic.asks += 1
            topic.sent_at = now.monotonic
        return self._commands("subscribe", args, now)

    def unsubscribe(self, args: Sequence[Arg], now: Moment) -> list[Send]:
        """Leave these. Until it is acknowledged, what comes of them is to be ignored."""
        for arg in args:
            topic = self.topics[arg.key]
            topic.leaves += 1
            topic.sent_at = now.monotonic
        return self._commands("unsubscribe", args, now)

    def room(self, now: Moment) -> int:
        """How many more operations this hour has."""
        while self._operations and now.monotonic - self._operations[0] >= HOUR:
            self._operations.popleft()
        return OPERATIONS_AN_HOUR - len(self._operations)

    def confirmed(self, arg: Arg, now: Moment) -> tuple[Topic | None, list[Send]]:
        """A subscription is acknowledged: the topic that stands with it, and what to send next."""
        topic = self.topics.get(arg.key)
        if topic is None:
            return None, []
        topic.asks = max(0, topic.asks - 1)
        topic.asked_again = False
        return (topic if not topic.asks and not topic.leaves else None), self._next(now)

    def left(self, arg: Arg) -> None:
        """An unsubscription is acknowledged."""
        topic = self.topics.get(arg.key)
        if topic is not None:
            topic.leaves = max(0, topic.leaves - 1)
            if not topic.wanted and not topic.leaves:
                del self.topics[arg.key]

    def refused(self, arg: Arg | None, why: str, now: Moment) -> tuple[Topic | None, list[Send]]:
        """A command was refused: the topic to blame when it can be told, and what to send next."""
        self._refusals += 1
        waiting = [topic for topic in self.topics.values() if topic.asks]
        words = _words(why)
        named = [
            topic
            for topic in waiting
            if (topic.named_in(words) if arg is None else topic.arg.key == arg.key)
        ]
        accused = named or waiting
        if len(accused) == 1:
            (guilty,) = accused
            guilty.asks = 0
            return guilty, self._next(now)
        for topic in accused:
            topic.asks = 0
        self._suspects.extend(accused)
        if not accused:
            # Nothing but an unsubscription can be meant: there was nothing to leave.
            for topic in list(self.topics.values()):
                if topic.leaves:
                    self.left(topic.arg)
        return None, self._next(now)

    def overdue(self, now: Moment) -> tuple[list[Send], bool]:
        """What to ask for again, and whether the exchange does not answer at all.

        One that was in a refused message may have gone down with it, so it is asked for once more.
        """
        late = [
            topic
            for topic in self.topics.values()
            if (topic.asks or topic.leaves) and now.monotonic - topic.sent_at > ANSWER_WITHIN
        ]
        again = [
            topic for topic in late if self._refusals and not topic.asked_again and not topic.leaves
        ]
        if len(again) < len(late):
            return [], True
        for topic in again:
            topic.asks, topic.asked_again = 0, True
        return (self.subscribe([topic.arg for topic in again], now) if again else []), False

    def _next(self, now: Moment) -> list[Send]:
        """The next suspect's turn, when the one before has been answered."""
        if not self._suspects or any(topic.asks for topic in self.topics.values()):
            return []
        return self.subscribe([self._suspects.popleft().arg], now)

    def _commands(self, operation: str, args: Sequence[Arg], now: Moment) -> list[Send]:
        self._operations.extend([now.monotonic] * len(args))
        size = min(self.batch, MOST_ARGS)
        return [
            Send(
                msgspec.json.encode({"op": operation, "args": args[start : start + size]}).decode()
            )
            for start in range(0, len(args), size)
        ]
