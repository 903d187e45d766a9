"""The interface of an exchange: pure, in batches, without a clock.

A **venue** describes one market of one exchange and plans **shards**: what one connection carries.
A shard opens a **session**: what that connection remembers. Frames go in, a `Output` comes out; all
that follows for a single stream is returned, only what the world must do is asked for in steps.
"""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from marketprism.clock import Timestamp
from marketprism.feeds.actions import Fetch, Fetched, FetchFailed, Output
from marketprism.feeds.http_answers import HttpAnswer, Meaning
from marketprism.instruments import Instrument
from marketprism.records import DataType
from marketprism.settings.exchanges import Limits
from marketprism.settings.supervision import SupervisionConfig
from marketprism.streams.cursor import Cursor
from marketprism.streams.state import StreamState
from marketprism.streams.subscription import Capability, Stream, Subscription

REFUSED_RETRY = SupervisionConfig().refused_retry
"""Seconds; where nothing else is configured."""


SAMPLE_BYTES: Final = 200
"""Of a rejected frame, so many are logged."""


NO_CURSORS: Final[Mapping[Stream, Cursor]] = {}


class Tag(NamedTuple):
    """Which answer this is: an earlier one is not wanted any more."""

    native_id: str
    attempt: int


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

    def opening(self, now: Timestamp) -> Output:
        """The connection stands: what to say first."""

    def sent(self, number: int, now: Timestamp) -> None:
        """The `Send` of that number leaves: it may have waited for long, in a queue or for a
        budget. What it asks for is due from now on.
        """

    def receive(self, frames: Sequence[bytes], now: Timestamp) -> Output:
        """Frames that were read together, in their order."""

    def reply(self, tag: object, answer: Fetched | FetchFailed, now: Timestamp) -> Output:
        """The answer to a `Fetch`; one that is no longer wanted changes nothing."""

    def tick(self, now: Timestamp) -> Output:
        """Called every 250 ms: retries, time-outs, due snapshots."""

    def change(
        self,
        add: Sequence["Subscription"],
        remove: Sequence["Subscription"],
        now: Timestamp,
        cursors: Mapping[Stream, Cursor] = NO_CURSORS,
    ) -> Output:
        """Subscribe and unsubscribe on the live connection, without touching other streams. What
        is added goes on from its cursor, which is moved in place; without one it begins anew.
        """

    def renew(self, stream: Stream, now: Timestamp) -> Output:
        """Resubscribe and resynchronise one stream."""

    def send_snapshot(self, stream: Stream, heals_gap: int, now: Timestamp) -> Output:
        """A snapshot of a book from what is known here, after the channel lost updates of it in
        the gap that started at `heals_gap`; nothing when the book is not synchronised.
        """

    def holding(self) -> Holding:
        """How much it keeps in memory."""

    def drop_buffers(self, now: Timestamp) -> None:
        """Memory is short: drop the updates that wait for a snapshot. Their books ask for one
        anew, once this was not said for a while.
        """

    def take_over(self, old: "Session") -> None:
        """Before `opening`: take over from the session of a connection that is to end. They share
        cursors; each stream is the old one's until what is heard here joins what it published. Then
        it is released there, in the same step in which it goes on from here.
        """

    def hand_over(self, stream: Stream) -> object:
        """The old one's side: the stream is not its own any more, and what its connection still
        tells of it is passed over. The answer is what the new one goes on with: a book, say.
        """

    def old_gone(self, now: Timestamp) -> Output:
        """The old one's connection has ended: what was not taken over yet goes on from here, with
        a gap where it does not join.
        """


class Shard(Protocol):
    """What one connection carries."""

    @property
    def id(self) -> str:
        """`binance_spot/0`: stable over restarts; a gap's `connection`."""

    @property
    def subscriptions(self) -> Sequence[Subscription]: ...

    def open(
        self, cursors: Mapping[Stream, Cursor], refused_retry: float = REFUSED_RETRY
    ) -> Session:
        """A fresh session. It moves the cursors it is handed, in place. What the exchange refuses
        is asked for again every `refused_retry` seconds.
        """


class Poll(Protocol):
    """What is asked for again and again over REST: one stream."""

    @property
    def subscription(self) -> Subscription: ...

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
        self, answer: Fetched | FetchFailed, cursors: Mapping[Stream, Cursor], now: Timestamp
    ) -> Output:
        """The records that are past the cursor. What cannot be read is a `Reject`; an answer that
        failed ends nothing: it is asked for again for ever.
        """


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
    def limits(self) -> Limits: ...

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

    def plan(
        self, subscriptions: Sequence[Subscription], current: Sequence[Shard] = ()
    ) -> list[Shard]:
        """Spread wants over connections. Existing shards keep theirs."""

    def polls(self, subscriptions: Sequence[Subscription]) -> list[Poll]:
        """What has to be polled for those wants."""
