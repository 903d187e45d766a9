"""The interface of an exchange: pure, in batches, without a clock.

A **venue** describes one market of one exchange and plans **shards**: what one connection carries.
A shard opens a **session**: what that connection remembers. Frames go in, a `Turn` comes out; all
that follows for a single stream is returned, only what the world must do is asked for in steps.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from enum import IntEnum, StrEnum
from typing import Final, NamedTuple, Protocol

import attrs

from marketprism.clock import MILLISECOND, Moment
from marketprism.errors import Transient
from marketprism.feeds.ahead import Ahead
from marketprism.feeds.exchange_clock import ExchangeClock
from marketprism.feeds.http_answers import HttpAnswer, Meaning, usual, worded
from marketprism.feeds.recent_ids import RecentIds
from marketprism.instruments import Instrument
from marketprism.orderbook import OrderBook
from marketprism.records import DataType, Gap, GapReason, Record
from marketprism.settings import Manners, SupervisionConfig

REFUSED_RETRY = SupervisionConfig().refused_retry
"""Seconds; where nothing else is configured."""

Stream = tuple[DataType, str]
"""Data type and native instrument id: the unit of freshness, gaps, parking and hand-over."""


SAMPLE_BYTES: Final = 200
"""Of a rejected frame, so many are logged."""
LONGEST_WHY: Final = 300
"""Characters: what an exchange says may be long."""


@attrs.define
class OpenGap:
    """Sight of a stream was lost and has not come back."""

    reason: GapReason
    started_at: int
    """Wall nanoseconds: when the last record before it was read, or its connection was last alive;
    for a book that was found to be wrong, when it was last known to be right.
    """
    why: str = ""
    """The cause, in words for people."""


@attrs.define
class Cursor:
    """How far a stream is known, whatever happens to connections."""

    last_id: int | None = None
    """The last published trade id or book update id."""
    event_time: int | None = None
    """The exchange's time of the last record, nanoseconds; of those that could be believed."""
    received: int | None = None
    """When the last record was read, wall nanoseconds; None before the first."""
    gap: OpenGap | None = None
    gap_started: int = 0
    """`started_at` of the latest gap. Gap ids are made of it, so it only grows."""
    snapshot_id: int | None = None
    """Where a book stood when a snapshot of it was last published without a loss before it; its
    message id is made of that."""
    counts: str | None = None
    """What kind of trade `last_id` is of, where another process may have had another."""
    last_trade_id: int | None = None
    """Of aggregates that are counted apart from trades: the last trade in the one of `last_id`."""
    needs_snapshot: bool = False
    """Of a book: a gap was told behind its last record, so that nobody has it before a snapshot
    comes, though that may join."""
    recent: RecentIds | None = attrs.field(default=None, eq=False)
    """Of trades whose ids come in no order: the latest ones."""
    ahead: Ahead = attrs.field(factory=Ahead, eq=False)
    """What was told with a stamp of a time to come."""
    clock: ExchangeClock = attrs.field(factory=ExchangeClock, eq=False, repr=False)
    """What stamps are measured by; all streams of an exchange share it."""
    book: OrderBook | None = attrs.field(default=None, eq=False, repr=False)
    """The book that was published, also while none is in step. Consumers know its prices by their
    text, so what goes on without a gap is written as they are."""

    @property
    def told(self) -> OrderBook | None:
        """The book as consumers have it; None when it is not known."""
        return None if self.book is None or self.book.last_id != self.last_id else self.book

    def lose(self, reason: GapReason, why: str, since: int | None = None) -> None:
        """Open a gap, unless nothing was seen yet or one stands open: a loss within a loss is
        the same loss. `why`: the cause, in words for people; `since`: from when on, where that is
        longer ago than the last record.
        """
        if self.received is None or self.gap is not None:
            return
        began = self.received if since is None else min(since, self.received)
        started = max(began, (self.gap_started // MILLISECOND + 1) * MILLISECOND)
        self.gap = OpenGap(reason, started, why[:LONGEST_WHY])
        self.gap_started = started

    def close(
        self,
        instrument: Instrument,
        affected: DataType,
        wall: int,
        connection: str,
        missing: tuple[int, int] | None = None,
        *,
        countable: bool = False,
        until: int | None = None,
    ) -> Gap | None:
        """The record of the open gap, which ends now, or where it was filled: with what was told
        for `until`. None when there is none.

        `missing` are the first and last id that are missing, `countable` whether the exchange
        counts by ones, so that the two say how many.
        """
        gap, self.gap = self.gap, None
        if gap is None:
            return None
        first, last = missing or (None, None)
        lost = last - first + 1 if countable and first is not None and last is not None else None
        ended = max(wall if until is None else until, gap.started_at)
        return Gap(
            instrument,
            ended,
            wall,
            affected=affected,
            reason=gap.reason,
            started_at=gap.started_at,
            ended_at=ended,
            first_missing_id=first,
            last_missing_id=last,
            lost=lost,
            connection=connection,
            detail=gap.why,
        )


NO_CURSORS: Final[Mapping[Stream, Cursor]] = {}


class Phase(StrEnum):
    """Where a stream of a session stands."""

    WANTED = "wanted"
    ACKNOWLEDGED = "acknowledged"
    LIVE = "live"
    PARKED = "parked"


@attrs.define(eq=False)
class StreamState:
    """What a session knows of one of its streams. The counts are this session's own."""

    instrument: Instrument
    data_type: DataType
    cursor: Cursor
    phase: Phase = Phase.WANTED
    detail: str | None = None
    """Why it is parked or not yet live, in words."""
    last_record: int | None = None
    """Monotonic nanoseconds of its last accepted record."""
    records: int = 0
    duplicates: int = 0
    resyncs: int = 0
    audits: Counter[str] = attrs.field(factory=Counter)
    """Of a book: its comparisons with a fresh snapshot, by what came of them."""
    waits: bool = False
    """For an answer over REST, without which it cannot speak: its silence is the host's."""
    heard_until: int | None = None
    """Monotonic nanoseconds: what its connection was told before then has come. A connection that
    stands may be dead: of one that says nothing, only an answered ping proves that it is not.
    """


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


class Tag(NamedTuple):
    """Which answer this is: an earlier one is not wanted any more."""

    native_id: str
    attempt: int


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
    """Said on the wire when the budget grants the fetch, `settle` seconds before it goes out."""
    settle: float = 0.0
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


Step = Send | Fetch | Park | Reject | Close | Diverged | Rotate


@attrs.define
class Turn:
    """What follows from an input: records to publish, in order, and things to do."""

    records: list[Record] = attrs.field(factory=list)
    steps: list[Step] = attrs.field(factory=list)


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


class Holding(NamedTuple):
    """What a session keeps in memory."""

    books: int = 0
    levels: int = 0
    """Of all books."""
    updates: int = 0
    """Those that wait for a snapshot."""
    heard_levels: int = 0
    """In those updates, about."""


class Session(Protocol):
    """What one connection remembers: born at dial, with the cursors it is handed."""

    @property
    def url(self) -> str: ...

    @property
    def streams(self) -> Mapping[Stream, StreamState]: ...

    def opening(self, now: Moment) -> Turn:
        """The connection stands: what to say first."""

    def sent(self, number: int, now: Moment) -> None:
        """The `Send` of that number leaves: it may have waited for long, in a queue or for a
        budget. What it asks for is due from now on.
        """

    def receive(self, frames: Sequence[bytes], now: Moment) -> Turn:
        """Frames that were read together, in their order."""

    def reply(self, tag: object, answer: Fetched | FetchFailed, now: Moment) -> Turn:
        """The answer to a `Fetch`; one that is no longer wanted changes nothing."""

    def tick(self, now: Moment) -> Turn:
        """Called every 250 ms: retries, time-outs, due snapshots."""

    def change(
        self,
        add: Sequence["Want"],
        remove: Sequence["Want"],
        now: Moment,
        cursors: Mapping[Stream, Cursor] = NO_CURSORS,
    ) -> Turn:
        """Subscribe and unsubscribe on the live connection, without touching other streams. What
        is added goes on from its cursor, which is moved in place; without one it begins anew.
        """

    def renew(self, stream: Stream, now: Moment) -> Turn:
        """Resubscribe and resynchronise one stream."""

    def restate(self, stream: Stream, heals: int, now: Moment) -> Turn:
        """A snapshot of a book from what is known here, after the channel lost updates of it in
        the gap that started at `heals`; nothing when the book is not synchronised.
        """

    def holding(self) -> Holding:
        """How much it keeps in memory."""

    def forgo(self, now: Moment) -> None:
        """Memory is short: drop the updates that wait for a snapshot. Their books ask for one
        anew, once this was not said for a while.
        """

    def adopt(self, elder: "Session") -> None:
        """Before `opening`: take over from the session of a connection that is to end. They share
        cursors; each stream is the elder's until what is heard here joins what it published. Then
        it is released there, in the same step in which it goes on from here.
        """

    def release(self, stream: Stream) -> object:
        """The elder's side: the stream is not its own any more, and what its connection still
        tells of it is passed over. The answer is what the younger goes on with: a book, say.
        """

    def inherit(self, now: Moment) -> Turn:
        """The elder's connection has ended: what was not taken over yet goes on from here, with
        a gap where it does not join.
        """


@attrs.frozen
class Want:
    """One thing to collect."""

    data_type: DataType
    instrument: Instrument

    @property
    def stream(self) -> Stream:
        return self.data_type, self.instrument.native_id


class Shard(Protocol):
    """What one connection carries."""

    @property
    def id(self) -> str:
        """`binance_spot/0`: stable over restarts; a gap's `connection`."""

    @property
    def wants(self) -> Sequence[Want]: ...

    def open(
        self, cursors: Mapping[Stream, Cursor], refused_retry: float = REFUSED_RETRY
    ) -> Session:
        """A fresh session. It moves the cursors it is handed, in place. What the exchange refuses
        is asked for again every `refused_retry` seconds.
        """


class Poll(Protocol):
    """What is asked for again and again over REST: one stream."""

    @property
    def want(self) -> Want: ...

    @property
    def connection(self) -> str:
        """What a gap of it names."""

    @property
    def request(self) -> Fetch: ...

    @property
    def period(self) -> float:
        """Seconds; the poll follows each multiple of it, by `offset` seconds."""

    @property
    def offset(self) -> float: ...

    @property
    def again(self) -> float:
        """Seconds after which it is asked once more when an answer held nothing new, then after
        twice as many, and so on: our clock may be ahead of the exchange's, or the exchange late.
        """

    def read(
        self, answer: Fetched | FetchFailed, cursors: Mapping[Stream, Cursor], now: Moment
    ) -> Turn:
        """The records that are past the cursor. What cannot be read is a `Reject`; an answer that
        failed ends nothing: it is asked for again for ever.
        """


@attrs.frozen
class Capability:
    """How a venue has a data type: all that the core must know of it."""

    by: str
    """`stream` or `poll`."""
    quiet_limit: float | None
    """Seconds without a record after which the stream is suspect; None: it may be silent."""
    counted: bool = False
    """Its ids count by ones: they say what is missing, and how much."""
    unordered: bool = False
    """Its ids come in no order, so that the last one alone does not tell what is new."""
    opaque_ids: bool = False
    """Its ids are names and no numbers: nothing follows from one but that it was told. They are
    `unordered`, too.
    """
    period: float | None = None
    """Seconds from one of its rows to the next, where it has them at fixed times."""
    by_currency: bool = False
    """It is of a currency, not of a pair: so it is configured."""


class Venue(Protocol):
    """One market of one exchange."""

    @property
    def name(self) -> str:
        """Its id in the configuration."""

    @property
    def exchange(self) -> str: ...

    @property
    def market_type(self) -> str: ...

    @property
    def offers(self) -> Mapping[DataType, Capability]: ...

    @property
    def trade_kinds(self) -> Sequence[str]:
        """Which kinds of trades it has, of those that `trade.kind` may name; () without trades."""

    @property
    def manners(self) -> Manners: ...

    @property
    def metadata(self) -> Sequence[Fetch]: ...

    def interpret(self, answer: HttpAnswer, wall: int) -> Meaning:
        """What an answer of its hosts means beside its data, be it a good one; `wall` is our time,
        nanoseconds. What HTTP says itself stands in `http_answers.usual`.
        """

    @property
    def unknown(self) -> Sequence[str]:
        """What of the metadata that is not required could not be read yet, in words: it is null
        in the records, and asked for again.
        """

    def instruments(self, bodies: Sequence[bytes]) -> list[Instrument]:
        """What the metadata's answers name, each time that they were asked for; an empty body is
        no answer. Raises ValueError when they cannot be read.
        """

    def plan(self, wants: Sequence[Want], current: Sequence[Shard] = ()) -> list[Shard]:
        """Spread wants over connections. Existing shards keep theirs."""

    def polls(self, wants: Sequence[Want]) -> list[Poll]:
        """What has to be polled for those wants."""
