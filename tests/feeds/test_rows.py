"""Rows of fixed times, whatever the exchange: what is told of them, and where a gap is."""

from typing import ClassVar

import attrs

from marketprism.clock import SECOND, Timestamp
from marketprism.feeds.actions import Output
from marketprism.feeds.rows import RowPoll
from marketprism.instruments import Instrument
from marketprism.records import DataType, Gap, GapReason, Record, VolatilityIndex
from marketprism.streams.cursor import Cursor
from marketprism.streams.subscription import Subscription

START = 1_700_000_000 * SECOND
WANT = Subscription(
    DataType.VOLATILITY_INDEX, Instrument("elsewhere", "options", "A", "a", "A", "USD")
)


@attrs.define(eq=False)
class Poll(RowPoll[str]):
    """One row a second, of a number."""

    step: ClassVar[int] = SECOND
    reason: ClassVar[GapReason] = "sequence"
    subscription: Subscription = WANT
    connection: str = "elsewhere/0"
    cursor: Cursor = attrs.field(factory=Cursor)

    def _record(self, told_at: int, row: str, now: Timestamp) -> Record:
        return VolatilityIndex(self.subscription.instrument, told_at, now.wall, row, "A", "a")

    def answer(self, *seconds: int) -> list[str]:
        """What is told of an answer with the rows of these seconds; of a gap, its bounds."""
        turn, now = Output(), Timestamp(START + 100 * SECOND, 0)
        rows = [(START + second * SECOND, str(second)) for second in seconds]
        self._tell(rows, self.cursor.event_time, self.cursor, now, turn)
        return [self._word(record) for record in turn.records]

    def _word(self, record: Record) -> str:
        if isinstance(record, Gap):
            return f"{record.reason} until {(record.ended_at - START) // SECOND}"
        assert isinstance(record, VolatilityIndex)
        return record.volatility_index


def test_the_newest_alone_is_told_at_the_very_first() -> None:
    """What was before nobody asked for."""
    assert Poll().answer(1, 2, 3) == ["3"]


def test_what_was_told_is_not_told_again_and_what_follows_is_told_in_order() -> None:
    """However far back an answer reaches."""
    poll = Poll()
    poll.answer(1)
    assert poll.answer(1) == []
    assert poll.answer(1, 2, 3) == ["2", "3"]


def test_a_row_that_is_missing_is_a_gap_that_ends_with_the_next() -> None:
    """Rows on both sides are told."""
    poll = Poll()
    poll.answer(1)
    assert poll.answer(2, 5, 6) == ["2", "sequence until 5", "5", "6"]


def test_a_loss_that_left_nothing_out_is_no_gap() -> None:
    """The next row proves it, and so does the last one where it is still the newest."""
    poll = Poll()
    poll.answer(1)
    poll.cursor.lose("disconnect", "nobody answered")
    assert poll.answer(1, 2) == ["2"]
    poll.cursor.lose("disconnect", "nobody answered")
    assert poll.answer(1, 2) == []
    assert poll.cursor.gap is None
