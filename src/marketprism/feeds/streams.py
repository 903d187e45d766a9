"""What a connection knows of each of its streams, as far as all exchanges tell alike. Pure."""

from abc import ABC, abstractmethod
from collections import deque
from typing import ClassVar, Generic, TypeVar

from marketprism.clock import Timestamp
from marketprism.feeds import continuity
from marketprism.feeds.actions import Output
from marketprism.feeds.kept_book import KeptBook
from marketprism.feeds.sampling import FundingSampling
from marketprism.records import DataType, Liquidation
from marketprism.streams.cursor import Cursor
from marketprism.streams.state import Phase, StreamState
from marketprism.streams.subscription import Stream, Subscription

B = TypeVar("B", bound=KeptBook)
Event = TypeVar("Event")


class Streams(ABC, Generic[B, Event]):
    """The streams of one connection. A venue makes its books (`_book`), and says what follows from
    an event (`accept`).
    """

    remembered: ClassVar[int] = 0
    """Liquidations of one instrument whose ids are known."""

    def __init__(self, name: str) -> None:
        self.states: dict[Stream, StreamState] = {}
        self.books: dict[str, B] = {}
        self.funding: dict[str, FundingSampling] = {}
        self.liquidated: dict[str, deque[str]] = {}
        """The ids of the latest liquidations. They do not count, so only they tell what is new."""
        self._name = name

    def add(self, subscription: Subscription, cursor: Cursor) -> None:
        """One more, that goes on from there."""
        state = StreamState(subscription.instrument, subscription.data_type, cursor)
        native_id = subscription.instrument.native_id
        self.states[subscription.stream] = state
        match subscription.data_type:
            case DataType.ORDERBOOK:
                self.books[native_id] = self._book(state)
            case DataType.FUNDING_RATE:
                self.funding[native_id] = FundingSampling()
            case DataType.LIQUIDATION:
                self.liquidated[native_id] = deque(maxlen=self.remembered)

    def remove(self, stream: Stream) -> object:
        """One less; what was known of it beyond its cursor."""
        data_type, native_id = stream
        del self.states[stream]
        match data_type:
            case DataType.ORDERBOOK:
                return self.books.pop(native_id)
            case DataType.FUNDING_RATE:
                return self.funding.pop(native_id)
            case DataType.LIQUIDATION:
                return self.liquidated.pop(native_id)
        return None

    def go_on_with(self, stream: Stream, handed: object) -> None:
        """What another connection said last of funding or of liquidations, since no id tells what
        of them is new.
        """
        if isinstance(handed, FundingSampling):
            self.funding[stream[1]] = handed
        elif isinstance(handed, deque):
            self.liquidated[stream[1]] = handed

    def confirmed(self, stream: Stream, now: Timestamp) -> None:
        """The exchange confirmed the subscription."""
        state = self.states[stream]
        if state.phase in (Phase.WANTED, Phase.PARKED):
            state.phase, state.detail = Phase.ACKNOWLEDGED, None
        if stream[0] is DataType.ORDERBOOK:
            self.books[stream[1]].acknowledged_at = now.monotonic

    def listening(self, stream: Stream, now: Timestamp, output: Output) -> None:
        """From here on this connection hears all of a stream: for one that may be silent for
        hours, its gap ends.
        """
        state = self.states[stream]
        if stream[0] is DataType.TRADE:
            continuity.awaited(state, now)
        elif stream[0] is DataType.LIQUIDATION:
            gap = continuity.listening(state, now, self._name)
            if gap is not None:
                output.records.append(gap)

    @abstractmethod
    def accept(self, stream: Stream, event: Event, now: Timestamp, output: Output) -> None:
        """An event, and when it was heard. Raises NotANumber, and KeyError where it is of no
        stream of ours.
        """

    @abstractmethod
    def _book(self, state: StreamState) -> B:
        """A new book."""

    def _liquidated(self, record: Liquidation, now: Timestamp, output: Output) -> None:
        native_id = record.instrument.native_id
        state, told = self.states[DataType.LIQUIDATION, native_id], self.liquidated[native_id]
        if record.liquidation_id in told:
            state.duplicates += 1
            return
        told.append(record.liquidation_id)
        continuity.tell(state, record, now, self._name, output)
