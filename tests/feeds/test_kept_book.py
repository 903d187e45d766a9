"""How any book is kept in step, played on an exchange that has nothing of its own."""

import json

import pytest
from bourse_line import BOOK, Line, line

from marketprism.clock import SECOND
from marketprism.feeds.actions import FetchFailed, Priority, Reject
from marketprism.feeds.kept_book import FORGONE
from marketprism.feeds.venue import Holding


def begun() -> Line:
    """A book whose subscription stands, and whose snapshot on the wire does not come."""
    played = line([BOOK])
    played.grant()
    return played


def asked_for(played: Line) -> None:
    """Wait for the request."""
    before = len(played.fetches)
    while len(played.fetches) == before:
        played.wait(0.25)


def body(played: Line, seq: int) -> bytes:
    """The book over REST."""
    return json.dumps(played.levels("snapshot", seq)).encode()


def test_what_is_heard_waits_for_a_snapshot_that_joins_it() -> None:
    """Then the book is shown, with what came since."""
    played = begun()
    played.book("update", 8, prev=7)
    played.book("update", 9, prev=8)
    assert played.books == []
    asked_for(played)
    played.answer(body(played, 8))
    assert played.books == [("snapshot", 8), ("update", 9)]


def test_a_snapshot_older_than_the_stream_is_asked_for_again_ever_more_slowly() -> None:
    """A book with a hole is never shown."""
    played = begun()
    played.book("update", 8, prev=7)
    waits = []
    asked_for(played)
    for _ in range(4):
        played.answer(body(played, 5))
        since = played.seconds
        asked_for(played)
        waits.append(played.seconds - since)
    assert waits == sorted(waits)
    assert waits[-1] >= 4 * waits[0]
    assert played.books == []
    state = played.session.streams[BOOK.stream]
    assert state.detail == "its snapshot is older than the stream"


def test_a_quiet_book_is_believed_only_as_of_after_its_subscription() -> None:
    """Silence proves nothing of what came before it stood."""
    played = line([BOOK])
    book = played.session._streams.books[BOOK.instrument.native_id]
    played.fetches.append(book.begin())
    played.answer(body(played, 8))
    assert played.books == []
    played.grant()
    asked_for(played)
    played.answer(body(played, 8))
    assert played.books == [("snapshot", 8)]


def test_an_answer_that_is_not_awaited_any_more_changes_nothing() -> None:
    """The snapshot came on the wire meanwhile."""
    played = begun()
    asked_for(played)
    played.book("snapshot", 9)
    played.answer(body(played, 5))
    played.book("update", 10, prev=9)
    assert played.books == [("snapshot", 9), ("update", 10)]


def test_a_host_that_says_when_is_not_asked_before() -> None:
    """However short our own wait would be."""
    played = begun()
    asked_for(played)
    played.answer(FetchFailed(503, 20.0, b""))
    since = played.seconds
    asked_for(played)
    assert played.seconds - since >= 20
    detail = played.session.streams[BOOK.stream].detail
    assert detail is not None
    assert detail.startswith("no snapshot: status 503")


@pytest.mark.parametrize("rubbish", [b"", b"[]", b'{"bids": [["x", "1"]]}', b"\xff"])
def test_a_snapshot_that_cannot_be_read_is_rejected_and_fetched_again(rubbish: bytes) -> None:
    """With a sample; the stream is not touched by it."""
    played = begun()
    asked_for(played)
    turn = played.answer(rubbish)
    (reject,) = (each for each in turn.actions if isinstance(each, Reject))
    assert (reject.reason, reject.sample) == ("unreadable snapshot", rubbish)
    asked_for(played)
    played.answer(body(played, 8))
    assert played.books == [("snapshot", 8)]


def test_what_does_not_follow_puts_it_out_of_step_until_another_snapshot() -> None:
    """That one goes before first snapshots, and a gap before it says what is missing."""
    played = begun()
    played.book("snapshot", 5)
    played.book("update", 9, prev=8)
    played.wait(0.25)
    assert played.fetches[-1].priority is Priority.RESYNC
    played.answer(body(played, 9))
    (gap,) = played.gaps
    assert (gap.reason, gap.first_missing_id, gap.last_missing_id) == ("sequence", 6, 9)
    assert played.books == [("snapshot", 5), ("snapshot", 9)]


def test_where_memory_is_short_what_waits_is_dropped_and_a_snapshot_asked_for_anew() -> None:
    """And the answer that would have joined it is not wanted any more."""
    played = begun()
    played.book("update", 8, prev=7)
    assert played.session.holding() == Holding(0, 0, 1, 2)
    asked_for(played)
    played.session.drop_buffers(played.now)
    assert played.session.holding() == Holding()
    played.answer(body(played, 8))
    assert played.books == []
    since = played.seconds
    asked_for(played)
    assert played.seconds - since >= FORGONE / SECOND - 0.25
    played.answer(body(played, 8))
    assert played.books == [("snapshot", 8)]
    assert played.session.holding() == Holding(1, 2)
