"""Counted streams against arbitrary sequences: nothing twice, nothing lost without a gap."""

from collections.abc import Sequence

import attrs
from forms import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from marketprism.clock import Timestamp
from marketprism.feeds import continuity
from marketprism.feeds.continuity import Place
from marketprism.instruments import Instrument
from marketprism.records import DataType, Gap
from marketprism.streams.cursor import Cursor
from marketprism.streams.state import StreamState

SECOND = 1_000_000_000
DAY = 86_400 * SECOND
START = 1_700_000_000 * SECOND
BTC = Instrument("binance", "spot", "BTC-USDT", "BTCUSDT")


@attrs.define
class Counted:
    """A counted stream, and what is published of it."""

    cursor: Cursor = attrs.field(factory=Cursor)
    slow: int = 0
    seconds: int = 0
    published: list[tuple[int, int | None] | Gap] = attrs.field(factory=list)
    state: StreamState = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.state = StreamState(BTC, DataType.TRADE, self.cursor)

    @property
    def now(self) -> Timestamp:
        return Timestamp(START + self.seconds * SECOND - self.slow, self.seconds * SECOND)

    def hear(self, number: int, part: int | None = None, ahead: int = 0) -> bool:
        """An event of now, or with a stamp so far ahead; whether it is published."""
        self.seconds += 1
        stamp = START + self.seconds * SECOND + ahead
        news, gaps = continuity.accept_counted(self.state, number, stamp, self.now, "test", part)
        self.published += gaps
        if news:
            self.published.append((number, part))
        return news

    @property
    def gaps(self) -> list[Gap]:
        return [each for each in self.published if isinstance(each, Gap)]

    @property
    def numbers(self) -> list[int]:
        return [each[0] for each in self.published if not isinstance(each, Gap)]

    @property
    def bounds(self) -> list[tuple[int | None, int | None]]:
        return [(gap.first_missing_id, gap.last_missing_id) for gap in self.gaps]


def test_a_time_and_an_id_of_a_time_to_come_block_nothing() -> None:
    """Both in one frame: it is told once, and all goes on from where it was, without a gap."""
    stream = Counted()
    assert [stream.hear(n) for n in (1, 2)] == [True, True]
    assert [stream.hear(10**15, ahead=DAY) for _ in range(2)] == [True, False]
    assert [stream.hear(n) for n in (3, 4)] == [True, True]
    assert stream.numbers == [1, 2, 10**15, 3, 4]
    assert stream.gaps == []
    assert (stream.cursor.last_id, stream.cursor.ahead.count) == (4, 1)
    assert stream.cursor.event_time == START + stream.seconds * SECOND


def test_what_follows_by_one_moves_the_id_whatever_its_time() -> None:
    """And not the time."""
    stream = Counted()
    stream.hear(1)
    assert [stream.hear(n, ahead=DAY) for n in (2, 3)] == [True, True]
    assert (stream.cursor.last_id, stream.cursor.event_time) == (3, START + SECOND)
    assert [stream.hear(n) for n in (3, 4, 6)] == [False, True, True]
    assert stream.bounds == [(5, 5)]


def test_what_jumps_in_such_a_frame_is_a_position_once_another_goes_on_from_it() -> None:
    """Then the gap before it is told, around what was told already."""
    stream = Counted()
    stream.hear(1)
    stream.hear(5, ahead=DAY)
    assert stream.gaps == []
    stream.hear(6)
    assert stream.bounds == [(2, 4)]
    assert stream.gaps[0].lost == 3
    stream.hear(9, ahead=DAY)
    stream.hear(12)
    assert stream.bounds[1:] == [(7, 8), (10, 11)]
    assert stream.numbers == [1, 5, 6, 9, 12]
    assert len({gap.started_at // 1_000_000 for gap in stream.gaps}) == 3


def test_a_gap_that_stands_open_ends_where_the_numbers_go_on() -> None:
    """What jumps with such a time does not end it, and is not in it."""
    stream = Counted()
    stream.hear(1)
    stream.cursor.lose("disconnect", "of a test")
    stream.hear(4, ahead=DAY)
    assert stream.cursor.gap is not None
    stream.hear(7)
    assert stream.bounds == [(2, 3), (5, 6)]
    assert [gap.reason for gap in stream.gaps] == ["disconnect"] * 2


def test_the_first_of_a_stream_may_be_such_a_one() -> None:
    """There is nothing from which it could jump; what comes then shows that it was wrong."""
    stream = Counted()
    stream.hear(10**15, ahead=DAY)
    assert [stream.hear(n) for n in (7, 8, 10)] == [True, True, True]
    assert stream.bounds == [(None, None), (9, 9)]


def test_where_our_clock_is_slow_numbers_go_on_all_the_same() -> None:
    """All is of a time to come until the exchange's clock is known."""
    stream = Counted(slow=DAY)
    heard = [stream.hear(n) for n in (5, 6, 6, 7, 9, 10, 12)]
    assert heard == [True, True, False, True, True, True, True]
    assert stream.bounds == [(8, 8)]
    for number in range(13, 60):
        stream.hear(number)
        stream.cursor.clock.learn(START + stream.seconds * SECOND, stream.now)
    assert stream.hear(58, ahead=-3 * SECOND) is False
    assert [stream.hear(n) for n in (60, 62)] == [True, True]
    assert stream.bounds == [(8, 8), (11, 11), (61, 61)]


def test_of_one_number_a_later_part_is_news() -> None:
    """Two aggregates of one number; neither is told twice, and what follows has no gap."""
    stream = Counted()
    heard = [(1, 9), (2, 669), (2, 670), (2, 670), (2, 669), (3, 680)]
    assert [stream.hear(*each) for each in heard] == [True, True, True, False, False, True]
    assert stream.gaps == []
    stream.hear(3, 10**15, ahead=DAY)
    assert stream.hear(3, 681)


def test_a_cursor_of_a_time_to_come_is_no_authority() -> None:
    """However it came there: what counts lower has not passed."""
    stream = Counted(Cursor(10**15, START + DAY, START))
    assert [stream.hear(n) for n in (7, 8)] == [True, True]
    assert stream.bounds == [(None, None)]


ORDINARY, WRONG = 0, st.sampled_from([61 * SECOND, DAY, 9_000 * DAY])
DELIVERED = st.one_of(
    st.tuples(st.just("next"), st.just(0), st.just(ORDINARY)),
    st.tuples(st.just("next"), st.just(0), st.just(ORDINARY)),
    st.tuples(st.just("next"), st.just(0), WRONG),
    st.tuples(st.just("lost"), st.integers(1, 4), st.just(ORDINARY)),
    st.tuples(st.just("again"), st.integers(0, 5), st.sampled_from([-20 * SECOND, DAY])),
    st.tuples(st.just("stray"), st.integers(1, 9), WRONG),
    st.tuples(st.just("cut"), st.just(0), st.just(ORDINARY)),
)


@settings(max_examples=examples(300), deadline=None)
@given(delivered=st.lists(DELIVERED, max_size=60), slow=st.sampled_from([0, 0, DAY]))
def test_nothing_is_told_twice_and_nothing_missing_without_a_gap(
    delivered: Sequence[tuple[str, int, int]], slow: int
) -> None:
    """Whatever is lost, told again, told with a time to come, with its own number or any other."""
    stream, number = Counted(slow=slow), 101
    true, strays = [100, 101], set[int]()
    assert stream.hear(100)
    assert stream.hear(101)
    for what, size, ahead in delivered:
        if what == "cut":
            stream.cursor.lose("disconnect", "of a test")
        elif what == "lost":
            number += size
        elif what == "again" and true:
            stream.hear(true[max(0, len(true) - 1 - size)], ahead=ahead)
        elif what == "stray":
            # No two that follow one another: those would be a position.
            stray = number + size if not strays else number + size * 10**15 + 20 * len(strays)
            strays.add(stray)
            stream.hear(stray, ahead=ahead)
        elif what == "next":
            number += 1
            true.append(number)
            stream.hear(number, ahead=ahead)
    for _ in range(3):
        number += 1
        true.append(number)
        stream.hear(number)
    assert len(set(stream.numbers)) == len(stream.numbers)
    assert set(true) <= set(stream.numbers)
    claimed = [
        missing
        for gap in stream.gaps
        if gap.first_missing_id is not None and gap.last_missing_id is not None
        for missing in range(gap.first_missing_id, min(gap.last_missing_id, 10_000) + 1)
    ]
    assert len(set(claimed)) == len(claimed)
    assert not set(claimed) & set(true)
    unheard = set(range(true[0], number + 1)) - set(true) - strays
    assert unheard <= set(claimed)


@settings(max_examples=examples(200), deadline=None)
@given(
    actions=st.lists(
        st.tuples(st.sampled_from([0, 1, 1, 1, 5]), st.sampled_from([0, 0, 0, 61, 86_400])),
        max_size=80,
    )
)
def test_times_of_a_time_to_come_are_each_told_once_and_pass_nothing_over(
    actions: Sequence[tuple[int, int]],
) -> None:
    """Of a stream that goes by its times: every stamp is told once, in the order in which it came,
    and the time at which the stream stands is never one to come.
    """
    cursor, second, said, told = Cursor(), 0, list[int](), list[int]()
    for step, ahead in actions:
        second += step
        now = Timestamp(START + second * SECOND, second * SECOND)
        stamp = START + (second + ahead) * SECOND
        said.append(stamp)
        if (place := continuity.placed(cursor, stamp, now)) in (Place.NEWS, Place.AHEAD):
            told.append(stamp)
        if place is Place.NEWS:
            cursor.event_time = stamp
        assert cursor.event_time is None or cursor.event_time <= now.wall
    assert told == list(dict.fromkeys(said))


def test_a_time_that_turns_out_to_be_of_a_time_to_come_is_given_up() -> None:
    """What came after it may have been passed over: a gap of unknown size since it was read."""
    now = Timestamp(START, 0)
    cursor = Cursor(None, START + DAY, START - SECOND)
    assert continuity.placed(cursor, START, now) is Place.NEWS
    assert cursor.gap is not None
    assert cursor.gap.started_at == START - SECOND
    assert continuity.placed(cursor, START + DAY, now) is Place.LATEST
