"""Where the feeds, which ask for positions, and the sink, which knows them, await one another."""

import math
from collections import deque
from collections.abc import Sequence

import attrs
import trio
from trio.lowlevel import ParkingLot

from marketprism.streams.subscription import Subscription


@attrs.define(eq=False)
class Question:
    """What a venue waits for."""

    subscriptions: Sequence[Subscription]
    answered: bool = False


@attrs.define(eq=False)
class Questions:
    """Those that nobody answered yet, in their order."""

    _asked: deque[Question] = attrs.field(factory=deque)
    _serving: bool = False
    """A sink is connected."""
    _moved: ParkingLot = attrs.field(factory=ParkingLot)

    async def ask(self, subscriptions: Sequence[Subscription], patience: float) -> bool:
        """Whether there is an answer within so many seconds; a sink that is connected is waited
        for: it has limits of its own.
        """
        question = Question(subscriptions)
        self._asked.append(question)
        self._moved.unpark_all()
        deadline = trio.current_time() + patience
        while not question.answered:
            with trio.move_on_at(math.inf if self._serving else deadline) as limit:
                await self._moved.park()
            if limit.cancelled_caught:
                self._asked.remove(question)
                break
        return question.answered

    def sink_is(self, *, connected: bool) -> None:
        """A sink comes, or goes."""
        self._serving = connected
        self._moved.unpark_all()

    async def next(self) -> Question:
        """The first one; waits until there is one."""
        while not self._asked:
            await self._moved.park()
        return self._asked[0]

    def answered(self, question: Question) -> None:
        """It has its answer."""
        question.answered = True
        self._asked.remove(question)
        self._moved.unpark_all()
