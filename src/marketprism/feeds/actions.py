"""What follows from what a session is told: records, and what the world is asked to do. Pure."""

from enum import IntEnum

import attrs

from marketprism.errors import Transient
from marketprism.feeds.http_answers import HttpAnswer, Meaning, usual, worded
from marketprism.records import Record
from marketprism.streams.cursor import LONGEST_WHY
from marketprism.streams.subscription import Stream


class Priority(IntEnum):
    """Who is served first from a host's budget."""

    METADATA = 0
    RESYNC = 1
    FIRST_SNAPSHOT = 2
    POLL = 3
    AUDIT = 4


@attrs.frozen
class Send:
    """Say this on the wire."""

    payload: str
    number: int | None = None
    """Where it is awaited: `Session.sent` is told of it when it leaves."""


@attrs.frozen
class Fetch:
    """Get this over REST; the answer comes to `reply` under the same tag."""

    url: str
    tag: object = None
    """Carries the attempt, so that an answer that comes too late is known as such."""
    weight: int = 1
    """What it costs of the host's budget, in the host's own unit."""
    priority: Priority = Priority.POLL
    before: Send | None = None
    """Said on the wire when the budget grants the fetch, which goes out `after_send` seconds
    later."""
    after_send: float = 0.0
    required: bool = True
    """For metadata: the venue cannot start without it."""


@attrs.frozen
class Park:
    """This one stream cannot be had now; the others go on, and it is asked for again."""

    stream: Stream
    reason: str


@attrs.frozen
class Reject:
    """A frame that could not be used. It is counted by `reason`, and a sample is logged."""

    reason: str
    """A short fixed phrase: it becomes a metric's label."""
    detail: str
    sample: bytes


@attrs.frozen
class Close:
    """This connection has no more use; the records beside this step are still good."""

    error: Transient


@attrs.frozen
class Diverged:
    """A book was found not to be the exchange's, and is healed; to be logged."""

    stream: Stream
    levels: int
    """How many differed."""
    sample: str


@attrs.frozen
class Rotate:
    """The exchange announced that it will end this connection: another should take over."""

    reason: str


Action = Send | Fetch | Park | Reject | Close | Diverged | Rotate


@attrs.define
class Output:
    """What follows from an input: records to publish, in order, and things to do."""

    records: list[Record] = attrs.field(factory=list)
    actions: list[Action] = attrs.field(factory=list)


@attrs.frozen
class Fetched:
    """The body of a successful answer."""

    body: bytes
    asked: int
    """Monotonic nanoseconds: when the request went out. What the wire acknowledged before then
    is complete from the answer on."""


def _usual_meaning(failed: "FetchFailed") -> Meaning:
    if failed.status is None:
        return Meaning(failed.body.decode(errors="replace") or "no answer")
    return usual(HttpAnswer(failed.status, {}, failed.body), 0)


@attrs.frozen
class FetchFailed:
    """No usable answer. `status` None: none at all, and the body says why."""

    status: int | None
    """200, where the exchange says in the body that it is an error."""
    retry_after: float | None = None
    body: bytes = b""
    meaning: Meaning = attrs.field(default=attrs.Factory(_usual_meaning, takes_self=True))
    """As the venue reads it."""

    @property
    def words(self) -> str:
        """Why there is none, for people."""
        if self.status is None:
            return self.body[:LONGEST_WHY].decode(errors="replace")
        return worded(self.status, self.meaning)
