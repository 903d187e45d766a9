"""What one connection remembers, as far as that is the same for every exchange. Pure.

A **topic** is what is subscribed (`subscribing.py`): it tells of one stream, or of several. What
became of it is told of each of them: confirmed, refused, left, never answered.

A stream is this connection's own, or the old one's still, until it goes over (`handover.py`): then
what is heard of it is held back, and its subscription is confirmed to the succession alone.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Generic, Self, TypeVar

from marketprism.clock import Timestamp
from marketprism.feeds import audit
from marketprism.feeds.actions import Action, Fetched, FetchFailed, Output
from marketprism.feeds.commands import Command, Rules
from marketprism.feeds.refusals import doubted, park
from marketprism.feeds.streams import Streams
from marketprism.feeds.subscribing import Subscriptions
from marketprism.feeds.succession import Succession
from marketprism.feeds.venue import NO_CURSORS, Holding, Session, Tag
from marketprism.streams.cursor import Cursor
from marketprism.streams.state import Phase, StreamState
from marketprism.streams.subscription import Stream, Subscription

Topic = TypeVar("Topic")
Known = TypeVar("Known", bound=Streams[Any, Any])
"""What it knows of its streams."""
Event = TypeVar("Event")


class Conversation(ABC, Generic[Topic, Known, Event]):
    """A session, but for what its exchange says.

    A venue's session adds `opening`, `receive`, `tick` (of `_tick_books`, `_proceed` and
    `_ask_again`, in its own order) and `renew`, and what is abstract here: how topics are named and
    said, and how another connection's streams go on.
    """

    def __init__(
        self,
        name: str,
        url: str,
        known: Known,
        rules: Rules,
        subscriptions: Sequence[Subscription],
        cursors: Mapping[Stream, Cursor],
    ) -> None:
        self.name = name
        self.url = url
        self._streams = known
        self._answer_within = rules.answer_within
        self._subscriptions = Subscriptions[Topic](name, rules, self._is_by_itself)
        self._succession: Succession[Known, Event] | None = None
        self._released: set[Topic] = set()
        """Those that went over to another connection: what is still heard of them is no news."""
        for subscription in subscriptions:
            known.add(subscription, cursors.get(subscription.stream) or Cursor())

    @property
    def streams(self) -> Mapping[Stream, StreamState]:
        """Those that this connection has, or is about to take over."""
        return self._streams.states

    def sent(self, number: int, now: Timestamp) -> None:
        """Its answer is due from now on."""
        self._subscriptions.sent(number, now)

    def reply(self, tag: object, answer: Fetched | FetchFailed, now: Timestamp) -> Output:
        """A snapshot, or why there is none."""
        output = Output()
        assert isinstance(tag, Tag)
        if (book := self._streams.books.get(tag.native_id)) is None:
            return output
        if isinstance(tag, audit.Tag):
            book.audited(tag.attempt, answer, now, output)
        else:
            book.answered(tag.attempt, answer, now, output)
        return output

    def change(
        self,
        add: Sequence[Subscription],
        remove: Sequence[Subscription],
        now: Timestamp,
        cursors: Mapping[Stream, Cursor] = NO_CURSORS,
    ) -> Output:
        """Subscribe and unsubscribe on the live connection, without touching other streams. What
        shares a topic with others is left with the last of them, and stands where they do.
        """
        gone = [
            subscription.stream for subscription in remove if subscription.stream in self.streams
        ]
        for stream in gone:
            if self._succession is not None:
                self._succession.give_up(stream)
            self._streams.remove(stream)
        kept = set(map(self._topic, self.streams))
        standing = {
            self._topic(stream)
            for stream, state in self.streams.items()
            if state.phase in (Phase.ACKNOWLEDGED, Phase.LIVE)
        }
        left = [topic for topic in dict.fromkeys(map(self._topic, gone)) if topic not in kept]
        output = Output(actions=self._said(self._subscriptions.unsubscribe(left, now)))
        new = [subscription for subscription in add if subscription.stream not in self.streams]
        for subscription in new:
            self._streams.add(subscription, cursors.get(subscription.stream) or Cursor())
        fresh = [
            subscription.stream
            for subscription in new
            if self._topic(subscription.stream) not in kept
        ]
        output.actions += self._subscribe(fresh, now)
        for subscription in new:
            if self._topic(subscription.stream) in standing:
                self._stand(subscription.stream, now, output)
        return output

    def send_snapshot(self, stream: Stream, heals_gap: int, now: Timestamp) -> Output:
        """A snapshot from the local book."""
        output = Output()
        if (book := self._streams.books.get(stream[1])) is not None:
            book.send_snapshot(heals_gap, now, output, lost=True)
        return output

    def holding(self) -> Holding:
        """Books, and what waits for their snapshots."""
        each = [book.holding() for book in self._streams.books.values()]
        return Holding(*map(sum, zip(*each, strict=True))) if each else Holding()

    def drop_buffers(self, now: Timestamp) -> None:
        """Every book that is out of step does."""
        for book in self._streams.books.values():
            book.drop_buffers(now)

    # From one connection to the next

    def take_over(self, old: Session) -> None:
        """Take over from the session of a connection that is to end, stream by stream."""
        assert isinstance(old, type(self))
        self._succession = self._follow(old)

    def hand_over(self, stream: Stream) -> object:
        """It is the new one's from now on: what was known of it beyond its cursor."""
        handed, topic = self._streams.remove(stream), self._topic(stream)
        if not self._told_by(topic):
            self._released.add(topic)
            self._subscriptions.forget(topic)
        return handed

    def old_gone(self, now: Timestamp) -> Output:
        """The old one's connection has ended: go on with all that is left."""
        output = Output()
        if self._succession is not None:
            self._succession.old_gone(now, output)
            self._succession = None
        return output

    def _proceed(self, now: Timestamp, output: Output) -> None:
        """Take over what has joined."""
        if self._succession is not None:
            self._succession.proceed(now, output)
            self._succession = self._succession or None

    def _awaits(self, stream: Stream) -> bool:
        """Whether a stream is another connection's still."""
        return self._succession is not None and stream in self._succession

    def _happened(self, stream: Stream, event: Event, now: Timestamp, output: Output) -> None:
        """An event of a stream. Raises NotANumber, and KeyError where it is of none of ours."""
        if self._succession is None or not self._succession.hold(stream, event, now):
            self._streams.accept(stream, event, now, output)

    # What becomes of a topic

    def _subscribe(self, streams: Sequence[Stream], now: Timestamp) -> list[Action]:
        topics = list(dict.fromkeys(map(self._topic, streams)))
        self._released.difference_update(topics)
        return self._said(self._subscriptions.subscribe(topics, now))

    def _confirmed(self, topic: Topic, now: Timestamp, output: Output) -> None:
        """By the answer to its command, or by what it tells."""
        for stream in self._told_by(topic):
            self._stand(stream, now, output)

    def _stand(self, stream: Stream, now: Timestamp, output: Output) -> None:
        """Its subscription is confirmed."""
        self._streams.confirmed(stream, now)
        if self._succession is not None and stream in self._succession:
            self._succession.confirmed(stream, now)
        else:
            self._streams.listening(stream, now, output)

    def _park(self, stream: Stream, why: str, output: Output) -> None:
        """It cannot be had now, and is asked for again; meanwhile the board says why."""
        if self._succession is not None:
            self._succession.refused(stream)
        park(self.streams[stream], why, output)

    # What time brings

    def _tick_books(self, now: Timestamp, output: Output) -> None:
        """Their retries, due snapshots and audits."""
        for book in self._streams.books.values():
            book.tick(now, output)
        audit.tick(self._streams.books.values(), now, output)

    def _ask_again(self, now: Timestamp, output: Output) -> None:
        """Topics that were refused, or not answered, or are to be renewed. What is left for that is
        out of sight: what it says meanwhile is not heard.
        """
        due = self._subscriptions.tick(now)
        for command in due.commands:
            for topic in command.topics if command.leaving else ():
                for stream in self._told_by(topic):
                    self._lose_sight(stream, now)
        output.actions += self._said(due.commands)
        if due.unheard:
            output.actions.append(self._doubt(due.unheard, now))

    def _doubt(self, unheard: Sequence[Topic], now: Timestamp) -> Action:
        """What becomes of a connection that twice did not answer for these."""
        speaks = self._speaks(now.monotonic - self._answer_within)
        return doubted(self._words(unheard[0]), speaks=speaks)

    # A venue's own

    @abstractmethod
    def _topic(self, stream: Stream) -> Topic:
        """What tells of a stream."""

    @abstractmethod
    def _told_by(self, topic: Topic) -> Sequence[Stream]:
        """The streams of ours that it tells of."""

    @abstractmethod
    def _words(self, topic: Topic) -> str:
        """Its name, for people."""

    @abstractmethod
    def _said(self, asked: Sequence[Command[Topic]]) -> list[Action]:
        """What to do for these to be said."""

    @abstractmethod
    def _speaks(self, since: int) -> bool:
        """Whether the connection has told of its streams since then, monotonic."""

    @abstractmethod
    def _follow(self, old: Self) -> Succession[Known, Event]:
        """How its streams go on here."""

    def _is_by_itself(self, topic: Topic) -> bool:
        """Whether a topic has a command of its own, which may wait long to be sent."""
        return False

    def _lose_sight(self, stream: Stream, now: Timestamp) -> None:
        """It is left, to be asked for anew."""
