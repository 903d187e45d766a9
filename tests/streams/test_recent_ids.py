"""The latest ids of a stream whose ids come in no order."""

from forms import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from marketprism.streams.recent_ids import LEAST, MOST, SPAN, RecentIds

SECOND = 1_000_000_000


@settings(max_examples=examples(300), deadline=None)
@given(
    jitter=st.lists(st.integers(0, 6), min_size=1, max_size=200),
    repeats=st.lists(st.tuples(st.integers(0, 199), st.integers(0, 199)), max_size=30),
    pace=st.sampled_from([1, 1_000_000, SECOND // 10, 30 * SECOND]),
)
def test_ids_that_come_in_some_other_order_are_each_news_once(
    jitter: list[int], repeats: list[tuple[int, int]], pace: int
) -> None:
    """A little late, and each told again at any time later."""
    late = sorted(range(len(jitter)), key=lambda number: number + jitter[number])
    again: dict[int, list[int]] = {}
    for place, number in repeats:
        again.setdefault(place, []).append(number)
    recent, published = RecentIds(), list[int]()
    for place, number in enumerate(late):
        heard = [number, *(late[back] for back in again.get(place, []) if back <= place)]
        for each in heard:
            if not recent.knows(each, each * pace):
                published.append(each)
            recent.add(each, each * pace)
    assert published == late


def test_more_of_one_moment_than_are_kept_are_all_news() -> None:
    """One order that takes a whole side of a book."""
    recent = RecentIds()
    for number in range(3 * MOST):
        assert not recent.knows(number, SECOND)
        recent.add(number, SECOND)
    assert len(list(recent)) == MOST


def test_a_quiet_stream_keeps_few() -> None:
    """Those of the last moments, and a handful."""
    recent = RecentIds()
    for number in range(1_000):
        recent.add(number, number * SPAN)
    assert len(list(recent)) == LEAST
    assert recent.knows(5, 5 * SPAN)


def test_a_count_that_begins_anew_is_news() -> None:
    """Lower ids at a later time; those from before are known still."""
    recent = RecentIds()
    for number in range(100):
        recent.add(10_000 + number, number * SECOND)
    assert not recent.knows(1, 100 * SECOND)
    recent.add(1, 100 * SECOND)
    assert recent.knows(10_050, 50 * SECOND)
    assert recent.knows(10_099, 99 * SECOND)


def test_what_a_stream_ends_with_tells_what_came_before() -> None:
    """Of the same moment a higher id is news, and a lower one than all that is known is not."""
    recent = RecentIds.last([(18, 5), (21, 7), (20, 7)])
    assert [recent.knows(*each) for each in [(20, 7), (21, 7), (17, 5), (3, 1)]] == [True] * 4
    assert [recent.knows(*each) for each in [(19, 6), (19, 7), (22, 5), (1, 8)]] == [False] * 4
