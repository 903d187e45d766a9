"""A session played by hand: frames, answers and time, one after the other, without a socket."""

from abc import ABC, abstractmethod

from marketprism.clock import Timestamp
from marketprism.feeds.actions import Fetch, Fetched, FetchFailed, Output, Send
from marketprism.feeds.venue import Session

TICK_SECONDS = 0.25


class HandPlayed(ABC):
    """What the lines of all venues have in common; a subclass says what is done with a turn."""

    session: Session
    seconds: float
    """Into the test."""
    fetches: list[Fetch]

    @property
    @abstractmethod
    def now(self) -> Timestamp:
        """So many seconds into the test."""

    @abstractmethod
    def did(self, turn: Output) -> Output:
        """Note what a turn brought."""

    def hear(self, *frames: bytes) -> Output:
        self.seconds += 0.01
        return self.did(self.session.receive(frames, self.now))

    def answer(self, body: bytes | FetchFailed) -> Output:
        """Answer the newest request, sent a moment ago."""
        asked = self.now.monotonic
        self.seconds += 0.01
        answer = body if isinstance(body, FetchFailed) else Fetched(body, asked)
        return self.did(self.session.reply(self.fetches[-1].tag, answer, self.now))

    def leave(self, turn: Output) -> None:
        """What a turn asks to be said leaves at once."""
        for step in turn.actions:
            said = step.before if isinstance(step, Fetch) else step
            if isinstance(said, Send) and said.number is not None:
                self.session.sent(said.number, self.now)

    def wait(self, seconds: float) -> Output:
        """Ticks until then; the last one's turn."""
        turn = Output()
        for _ in range(round(seconds / TICK_SECONDS)):
            self.seconds += TICK_SECONDS
            turn = self.did(self.session.tick(self.now))
        return turn
