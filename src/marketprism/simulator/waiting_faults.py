"""Faults that wait for their occasion, as the exchange comes upon them."""

import attrs
import trio

from .corruption import corrupted, corruptible
from .events import Message
from .fault_registry import Target
from .misdating import misdated
from .occasions import Due, claim
from .placeholders import with_placeholders
from .skin import Answer


class WaitingFaults:
    """Those of one exchange: a list of each kind, the first that fits has its occasion."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._refused_until = float("-inf")
        self._refusal: int | None = None
        self.silent: dict[str, float] = {}
        """Until when a stream is."""
        self.skips: list[Due] = []
        self.duplicates: list[Due] = []
        self.misprints: list[Due] = []
        self.corruptions: list[Due] = []
        self.misdated: list[Due] = []
        self.late: list[Due] = []
        self.stale: list[Due] = []
        self.failing: list[Due] = []

    def refuse(self, until: float, status: int | None) -> None:
        """Refuse new connections until then; see `Faults.refuse`."""
        self._refused_until, self._refusal = until, status

    def refusal(self) -> int | None:
        """How a new connection is refused: by status, 0 for an abort; None when it is welcome."""
        if trio.current_time() >= self._refused_until:
            return None
        return self._refusal or 0

    def copies(self, message: Message) -> int:
        """How often a message that somebody waits for is sent."""
        if self.silent.get(message.stream, float("-inf")) > trio.current_time():
            return 0
        if message.symbol in self._target.standings.resting:
            return 0
        if claim(self.skips, lambda due: due.picks(message)):
            return 0
        return 2 if claim(self.duplicates, lambda due: due.picks(message)) else 1

    def printed(self, message: Message) -> Message:
        """A message as it is sent: some are misprinted."""
        dated = claim(self.misdated, lambda due: due.path is None and due.picks(message))
        if dated:
            text = misdated(message.text, dated.seconds, dated.jump)
            message = attrs.evolve(message, text=text)
        if corruptible(message) and claim(self.corruptions, lambda due: due.picks(message)):
            return corrupted(message)
        if claim(self.misprints, lambda due: due.picks(message)):
            return self._target.skin.misprinted(message)
        return message

    def altered(self, path: str, answer: Answer) -> Answer:
        """The answer to a request of this path as it is sent: some are stamped ahead, or have rows
        that keep a place.
        """
        text = answer.body.decode()
        if due := claim(self.misdated, lambda due: due.path == path):
            text = misdated(text, due.seconds, due.jump)
        if self._target.standings.keeps_places and answer.status == 200:
            text = with_placeholders(path, text)
        return attrs.evolve(answer, body=text.encode())

    def delay(self, path: str) -> float:
        """By how many seconds the answer to a request of this path is late."""
        late = claim(self.late, lambda due: due.path == path)
        return late.seconds if late else 0.0

    def depth(self, symbol: str) -> tuple[float, bool]:
        """By how many seconds an answer is late, and whether it is stale."""
        late = claim(self.late, lambda due: due.path is None and due.symbol in (None, symbol))
        stale = claim(self.stale, lambda due: due.symbol in (None, symbol))
        return (late.seconds if late else 0.0), stale is not None

    def failure(self, path: str) -> Answer | None:
        """The failure this request meets."""
        due = claim(self.failing, lambda due: due.path in (None, path))
        if due is None:
            return None
        headers = {} if due.retry_after is None else {"Retry-After": str(due.retry_after)}
        return Answer(due.status, self._target.skin.failure(due.status), headers)
