"""OKX books, as one would play the exchange by hand."""

import json

import attrs
import pytest
from forms import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import Mutation, mutations
from okx_line import SECOND, SPOT_CONFIG, START, SWAP, SWAP_CONFIG, OkxChain, OkxLine

from marketprism.feeds.actions import (
    Close,
    Fetch,
    FetchFailed,
    Output,
    Park,
    Priority,
    Reject,
    Send,
)
from marketprism.feeds.okx import OkxSpot
from marketprism.feeds.okx.checksum import checksum
from marketprism.feeds.venue import Holding
from marketprism.orderbook import OrderBook
from marketprism.records import DataType, Gap, OrderBookRecord
from marketprism.settings.exchanges import OrderbookOptions
from marketprism.streams.cursor import Cursor
from marketprism.streams.state import Phase
from marketprism.streams.subscription import Stream, Subscription
from marketprism.wire import encode

BOOK: Stream = (DataType.ORDERBOOK, "BTC-USDT")


def subscribed(chain: OkxChain, number: int = 0) -> OkxLine:
    """A line whose book lives, at the moment before update `number`."""
    return OkxLine(snapshots=lambda _: chain.snapshot(number))


def only_gap(line: OkxLine) -> Gap:
    """The one gap of all that was published."""
    (gap,) = (r for turn in line.outputs for r in turn.records if isinstance(r, Gap))
    return gap


def true(line: OkxLine, chain: OkxChain, number: int = -1) -> bool:
    """The consumer's book is the exchange's, and nothing published broke a promise."""
    book = line.consumer.books["BTC-USDT"]
    assert line.consumer.faults == []
    return (book.last_id, book.bids, book.asks) == attrs.astuple(chain.truths[number])


def test_a_snapshot_and_its_updates_are_published_as_they_came() -> None:
    """Prices and sizes in the exchange's strings; each update names the one it follows."""
    chain = OkxChain.made(1, 3)
    line = subscribed(chain)
    (record,) = line.hear(chain.frame(0)).records
    assert isinstance(record, OrderBookRecord)
    assert record.timestamp == START
    assert (record.prev_update_id, record.last_update_id) == (1000, chain.updates[0]["seqId"])
    assert record.first_update_id is None
    assert [list(level) for level in record.bids] == [u[:2] for u in chain.updates[0]["bids"]]
    line.hear(chain.frame(1), chain.frame(2))
    assert true(line, chain)
    assert line.consumer.gaps == []


def test_a_missed_update_is_a_gap_and_renews_this_one_subscription() -> None:
    """Unsubscribe and subscribe in one tick; what comes between is ignored."""
    chain = OkxChain.made(1, 8)
    line = subscribed(chain)
    line.hear(chain.frame(0), chain.frame(2))
    line.snapshots = lambda _: chain.snapshot(4)
    line.said.clear()
    assert line.session.streams[BOOK].phase is Phase.ACKNOWLEDGED
    line.wait(0.25)
    arg = {"channel": "books", "instId": "BTC-USDT"}
    assert line.said == [{"op": "unsubscribe", "args": [arg]}, {"op": "subscribe", "args": [arg]}]
    line.hear(*(chain.frame(n) for n in range(4, 8)))
    assert true(line, chain)
    gap = only_gap(line)
    first, last = chain.truths[1].last_id + 1, chain.truths[4].last_id
    assert (gap.reason, gap.first_missing_id, gap.last_missing_id) == ("sequence", first, last)
    assert gap.lost is None
    snapshots = [encode(r).msg_id for turn in line.outputs for r in turn.records]
    assert any(i.endswith(f"snapshot:{last}:{gap.started_at // 1_000_000}") for i in snapshots)


def test_what_comes_of_the_old_subscription_is_ignored() -> None:
    """Updates and snapshots before the unsubscription is acknowledged mean nothing."""
    chain = OkxChain.made(1, 8)
    line = subscribed(chain)
    session = line.session
    session.renew(BOOK, line.now)
    line.seconds += 0.25
    leave, join = session.tick(line.now).actions
    assert isinstance(leave, Send)
    assert isinstance(join, Send)
    assert session.receive([chain.frame(0), chain.snapshot(3)], line.now) == Output()
    line.obey(leave.payload)
    line.snapshots = lambda _: chain.snapshot(5)
    line.obey(join.payload)
    line.hear(*(chain.frame(n) for n in range(5, 8)))
    assert true(line, chain)
    assert only_gap(line).reason == "stale"


def test_a_keep_alive_shows_life_and_is_not_published() -> None:
    """Empty sides, and a number that stands still."""
    chain = OkxChain.made(1, 2)
    line = subscribed(chain)
    line.wait(60)
    before = line.session.streams[BOOK].last_record
    last = chain.truths[0].last_id
    alive = chain.frame(0, bids=[], asks=[], prevSeqId=last, seqId=last)
    assert line.hear(alive).records == []
    after = line.session.streams[BOOK].last_record
    assert before is not None
    assert after is not None
    assert after > before
    line.hear(chain.frame(0), chain.frame(1))
    assert true(line, chain)


def test_a_keep_alive_at_another_number_is_a_gap() -> None:
    """It shows that an update was missed."""
    chain = OkxChain.made(1, 4)
    line = subscribed(chain)
    last = chain.truths[2].last_id
    line.snapshots = lambda _: chain.snapshot(2)
    time = str(START // 1_000_000 + 60_000)
    line.hear(chain.frame(0, bids=[], asks=[], prevSeqId=last, seqId=last, ts=time))
    line.wait(0.25)
    assert only_gap(line).last_missing_id == last
    line.hear(chain.frame(2), chain.frame(3))
    assert true(line, chain)


def started_over(length: int = 6, at: int = 2) -> OkxChain:
    """A chain whose numbers begin anew, far below, with the update `at`."""
    chain = OkxChain.made(1, length, first=1_000_000)
    shift = 900_000
    for number in range(at, length):
        chain.updates[number]["seqId"] -= shift
        if number > at:
            chain.updates[number]["prevSeqId"] -= shift
        last_id = chain.updates[number]["seqId"]
        chain.truths[number + 1] = attrs.evolve(chain.truths[number + 1], last_id=last_id)
    return chain


def test_numbers_that_start_over_continue_the_book() -> None:
    """Maintenance: the update follows the last one, and its own number is smaller."""
    chain = started_over()
    line = subscribed(chain)
    line.hear(*(chain.frame(n) for n in range(6)))
    assert true(line, chain)
    assert line.consumer.gaps == []


def test_an_unasked_snapshot_replaces_the_book_and_is_a_gap_where_numbers_are_missing() -> None:
    """Whatever was said before it."""
    chain = OkxChain.made(1, 8)
    line = subscribed(chain)
    line.hear(chain.frame(0), chain.snapshot(4))
    gap = only_gap(line)
    assert (gap.reason, gap.last_missing_id) == ("sequence", chain.truths[4].last_id)
    line.hear(*(chain.frame(n) for n in range(4, 8)))
    assert true(line, chain)


def test_an_unasked_snapshot_at_the_last_number_is_no_gap() -> None:
    """Nothing was lost."""
    chain = OkxChain.made(1, 4)
    line = subscribed(chain)
    line.hear(chain.frame(0), chain.snapshot(1), chain.frame(1), chain.frame(2), chain.frame(3))
    assert line.consumer.gaps == []
    assert true(line, chain)


def crc(chain: OkxChain, number: int) -> int:
    """The checksum of the true book before update `number`."""
    truth = chain.truths[number]
    return checksum(OrderBook(list(truth.bids.items()), list(truth.asks.items()), 0))


def test_the_checksum_is_the_documented_one() -> None:
    """OKX's own example of how the string is made, with sides of unequal length."""
    book = OrderBook([("3366.1", "7")], [("3366.8", "9"), ("3368", "8"), ("3372", "8")], 1)
    import zlib

    value = zlib.crc32(b"3366.1:7:3366.8:9:3368:8:3372:8")
    assert checksum(book) == (value - 2**32 if value >= 2**31 else value)


def test_a_good_checksum_passes_and_zero_is_not_looked_at() -> None:
    """Zero is what OKX has sent since June 2026."""
    chain = OkxChain.made(3, 4)
    line = OkxLine(snapshots=lambda _: chain.snapshot(0, checksum=crc(chain, 0)))
    line.hear(*(chain.frame(n, checksum=crc(chain, n + 1)) for n in range(3)), chain.frame(3))
    assert line.consumer.gaps == []
    assert true(line, chain)


def test_a_bad_checksum_is_a_gap_and_a_resynchronisation() -> None:
    """The update that does not agree is never published."""
    chain = OkxChain.made(3, 4)
    line = subscribed(chain)
    assert line.hear(chain.frame(0, checksum=crc(chain, 1) + 1)).records == []
    line.snapshots = lambda _: chain.snapshot(2)
    line.wait(0.25)
    line.hear(chain.frame(2), chain.frame(3))
    assert only_gap(line).reason == "sequence"
    assert true(line, chain)


def test_a_book_that_will_not_agree_is_asked_for_ever_more_rarely() -> None:
    """480 operations an hour is all there is: two minutes of failures stay far below."""
    chain = OkxChain.made(3, 4)
    line = OkxLine(snapshots=lambda _: chain.snapshot(0, checksum=7))
    line.wait(120)
    assert 5 < len(line.said) < 24


def test_where_no_snapshot_comes_one_is_fetched() -> None:
    """Five seconds after the acknowledgement; it joins within an update, too."""
    chain = OkxChain.made(2, 9)
    line = OkxLine()
    line.hear(*(chain.frame(n) for n in range(2, 5)))
    line.wait(4)
    assert line.fetches == []
    line.wait(2)
    (fetch,) = line.fetches
    assert fetch.url == "http://rest.test/api/v5/market/books?instId=BTC-USDT&sz=400"
    # One number short of the fourth update's: within it, or the third's last.
    line.answer(chain.body(4, seqId=chain.truths[4].last_id - 1))
    line.hear(*(chain.frame(n) for n in range(5, 9)))
    assert line.consumer.gaps == []
    assert true(line, chain)


def test_a_fetched_snapshot_of_a_quiet_book_joins_the_first_update() -> None:
    """Updates in it are passed over, the first beyond it continues it."""
    chain = OkxChain.made(2, 6)
    line = OkxLine()
    line.wait(6)
    line.answer(chain.body(3, seqId=chain.truths[3].last_id + 0))
    line.hear(*(chain.frame(n) for n in range(1, 6)))
    assert line.consumer.gaps == []
    assert true(line, chain)


def test_a_fetched_snapshot_older_than_the_stream_is_fetched_again() -> None:
    """What lies between was sent to nobody."""
    chain = OkxChain.made(2, 6)
    line = OkxLine()
    line.hear(chain.frame(3))
    line.wait(6)
    assert line.answer(chain.body(1)).records == []
    line.wait(1)
    line.answer(chain.body(4))
    line.hear(chain.frame(4), chain.frame(5))
    assert true(line, chain)


@pytest.mark.parametrize("status", [None, 500, 429, 403])
def test_a_failed_fetch_is_repeated_later(status: int | None) -> None:
    """Not at once, and not before the host allows it."""
    chain = OkxChain.made(2, 6)
    line = OkxLine()
    line.wait(6)
    line.answer(FetchFailed(status, 5.0 if status == 429 else None))
    line.wait(4)
    assert len(line.fetches) == 1 + (status != 429)
    line.wait(2)
    line.answer(chain.body(0))
    assert line.session.streams[BOOK].phase is Phase.LIVE


def test_a_snapshot_on_the_wire_makes_a_fetched_one_superfluous() -> None:
    """The answer that comes later is of an attempt given up."""
    chain = OkxChain.made(2, 6)
    line = OkxLine()
    line.wait(6)
    line.hear(chain.snapshot(0), chain.frame(0))
    assert line.answer(chain.body(0)) == Output()
    line.wait(20)
    assert len(line.fetches) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b"[" * 10_000,
        b'{"code":"50011","data":[]}',
        b'{"code":"0","data":[{"bids":[],"asks":[],"ts":"1"}]}',
        b'{"code":"0","data":[{"bids":[["x","1"]],"asks":[],"ts":"1","seqId":4}]}',
    ],
)
def test_an_unreadable_snapshot_is_rejected_and_fetched_again(body: bytes) -> None:
    """Whatever the host calls an answer; one without a number cannot be joined."""
    line = OkxLine()
    line.wait(6)
    (reject,) = line.answer(body).actions
    assert isinstance(reject, Reject)
    line.wait(1)
    assert len(line.fetches) == 2


@pytest.mark.parametrize(
    "answer",
    [b'{"code":"51001","msg":"","data":[]}', FetchFailed(400, None, b'{"code":"51001"}')],
)
def test_an_instrument_that_the_host_does_not_know_is_asked_about_slowly(
    answer: bytes | FetchFailed,
) -> None:
    """By its own code, with either status: after half a minute, then every five; told once."""
    chain = OkxChain.made(2, 6)
    line = OkxLine()
    line.wait(6)
    (park,) = line.answer(answer).actions
    assert isinstance(park, Park)
    assert park.stream == BOOK
    assert line.session.streams[BOOK].phase is Phase.PARKED
    line.wait(31)
    assert len(line.fetches) == 2
    assert line.answer(answer) == Output()
    line.wait(260)
    assert len(line.fetches) == 2
    line.wait(50)
    assert len(line.fetches) == 3
    line.answer(chain.body(0))
    line.hear(chain.frame(0))
    assert true(line, chain, 1)
    assert line.session.streams[BOOK].phase is Phase.LIVE


@pytest.mark.parametrize("whole", [True, False])
def test_a_book_that_the_host_does_not_know_lives_when_it_speaks(*, whole: bool) -> None:
    """A snapshot on the wire is the book; an update brings a fetch within a second or two."""
    chain = OkxChain.made(2, 6)
    line = OkxLine()
    line.wait(6)
    line.answer(b'{"code":"51001","msg":"","data":[]}')
    line.wait(1)
    if whole:
        line.hear(chain.snapshot(0))
        assert line.session.streams[BOOK].phase is Phase.LIVE
        line.hear(chain.frame(0))
    else:
        line.hear(chain.frame(0))
        assert line.session.streams[BOOK].phase is Phase.ACKNOWLEDGED
        line.wait(2)
        assert len(line.fetches) == 2
        line.answer(chain.body(0))
    assert true(line, chain, 1)
    line.wait(60)
    audits = [fetch for fetch in line.fetches if fetch.priority is Priority.AUDIT]
    assert len(line.fetches) - len(audits) == (1 if whole else 2)


def test_a_host_that_denies_a_book_which_speaks_is_not_asked_all_the_time() -> None:
    """Ever more rarely, as after any failure."""
    chain = OkxChain.made(2, 200)
    line = OkxLine()
    asked = 0
    line.wait(6)
    for number in range(200):
        if len(line.fetches) > asked:
            asked = len(line.fetches)
            line.answer(b'{"code":"51001","msg":"","data":[]}')
        line.hear(chain.frame(number))
        line.wait(0.5)
    assert len(line.fetches) < 12


def test_a_book_that_stood_still_over_a_reconnect_has_no_gap() -> None:
    """The new snapshot is at the very number that was published last."""
    chain = OkxChain.made(1, 4)
    line = subscribed(chain)
    line.hear(chain.frame(0), chain.frame(1))
    line.cut()
    line.snapshots = lambda _: chain.snapshot(2)
    line.connect()
    line.hear(chain.frame(2), chain.frame(3))
    assert line.consumer.gaps == []
    assert true(line, chain)


def test_a_book_that_moved_over_a_reconnect_has_one_gap_with_its_bounds() -> None:
    """From the last published number to the snapshot's; numbers do not count."""
    chain = OkxChain.made(1, 6)
    line = subscribed(chain)
    line.hear(chain.frame(0))
    line.cut()
    line.snapshots = lambda _: chain.snapshot(3)
    line.connect()
    gap = only_gap(line)
    first, last = chain.truths[1].last_id + 1, chain.truths[3].last_id
    assert (gap.reason, gap.first_missing_id, gap.last_missing_id) == ("disconnect", first, last)
    assert gap.lost is None
    line.hear(*(chain.frame(n) for n in range(3, 6)))
    assert true(line, chain)


def test_updates_that_join_over_a_reconnect_leave_no_gap() -> None:
    """Heard before a fetched snapshot, they go on from what was published last."""
    chain = OkxChain.made(1, 6)
    line = subscribed(chain)
    line.hear(chain.frame(0))
    line.cut()
    line.snapshots = lambda _: None
    line.connect()
    line.hear(chain.frame(1), chain.frame(2), chain.frame(3))
    line.wait(6)
    line.answer(chain.body(3))
    line.hear(chain.frame(4), chain.frame(5))
    assert line.consumer.gaps == []
    assert line.consumer.books["BTC-USDT"].updates == 6
    assert true(line, chain)


def test_a_server_that_lags_is_waited_for() -> None:
    """What was published already is not said again: a stream would drop it as stored twice."""
    chain = OkxChain.made(1, 8)
    line = subscribed(chain)
    line.hear(*(chain.frame(n) for n in range(5)))
    line.cut()
    line.snapshots = lambda _: chain.snapshot(2)
    line.connect()
    assert line.session.streams[BOOK].detail == "catching up with what was published"
    line.hear(*(chain.frame(n) for n in range(2, 8)))
    assert line.consumer.gaps == []
    assert line.consumer.books["BTC-USDT"].updates == 8
    assert true(line, chain)


def test_smaller_numbers_at_a_later_time_are_a_new_count() -> None:
    """A gap without bounds, and on it goes."""
    chain = OkxChain.made(1, 4, first=900_000)
    line = subscribed(chain)
    line.hear(chain.frame(0))
    line.cut()
    anew = OkxChain.made(1, 4)
    line.snapshots = lambda _: anew.snapshot(3)
    line.connect()
    gap = only_gap(line)
    assert (gap.first_missing_id, gap.last_missing_id) == (None, None)
    line.hear(anew.frame(3))
    assert true(line, anew)


@pytest.mark.parametrize("first", [2, 3])
def test_a_fetched_snapshot_from_before_numbers_started_over_does_not_join(first: int) -> None:
    """Its number is higher than all that was heard, its time is earlier: it is fetched again."""
    chain = started_over(8)
    line = OkxLine()
    line.hear(*(chain.frame(n) for n in range(first, 5)))
    line.wait(6)
    line.answer(chain.body(1))
    assert line.session.streams[BOOK].phase is Phase.ACKNOWLEDGED
    assert line.consumer.books == {}
    line.wait(1)
    line.answer(chain.body(4))
    line.hear(*(chain.frame(n) for n in range(5, 8)))
    assert true(line, chain)
    assert line.consumer.gaps == []


def test_a_fetched_snapshot_that_ends_where_numbers_started_over_is_continued() -> None:
    """What follows it has smaller numbers all the same."""
    chain = started_over(8)
    line = OkxLine()
    line.hear(*(chain.frame(n) for n in range(2, 5)))
    line.wait(6)
    line.answer(chain.body(2))
    line.hear(*(chain.frame(n) for n in range(5, 8)))
    assert true(line, chain)
    assert line.consumer.gaps == []


def test_a_snapshot_from_before_numbers_started_over_is_not_published_after_it() -> None:
    """A server that lags may have the higher number; the book is renewed when it cannot go on."""
    chain = started_over(8)
    line = subscribed(chain)
    line.hear(*(chain.frame(n) for n in range(5)))
    line.cut()
    line.snapshots = lambda _: chain.snapshot(1)
    line.connect()
    assert line.session.streams[BOOK].phase is Phase.ACKNOWLEDGED
    line.snapshots = lambda _: chain.snapshot(6)
    line.hear(chain.frame(5))
    line.wait(0.25)
    line.hear(chain.frame(6), chain.frame(7))
    assert true(line, chain)
    assert only_gap(line).last_missing_id == chain.truths[6].last_id


@settings(max_examples=examples(300), deadline=None)
@given(
    seed=st.integers(0, 2**32),
    lost=st.sets(st.integers(1, 28), max_size=4),
    repeated=st.sets(st.integers(0, 29), max_size=4),
    silent=st.booleans(),
)
def test_any_losses_and_repetitions_end_in_the_true_book(
    seed: int, lost: set[int], repeated: set[int], silent: bool
) -> None:
    """A loss is a gap, then a snapshot, on the wire or fetched; a repetition is nothing."""
    chain = OkxChain.made(seed, 30)
    line = OkxLine()
    at = 0

    def picture(_: str) -> bytes | None:
        return None if silent else chain.snapshot(at)

    line.snapshots = picture
    line.connect()
    losses = 0
    for number in range(31):
        at = number
        while line.session.streams[BOOK].phase is not Phase.LIVE:
            asked = len(line.fetches)
            line.wait(0.25)
            if len(line.fetches) > asked:
                line.answer(chain.body(number))
        if number in lost or number == 30:
            continue
        line.hear(*[chain.frame(number)] * (2 if number in repeated else 1))
        losses += line.session.streams[BOOK].phase is not Phase.LIVE
    assert true(line, chain)
    assert len(line.consumer.gaps) == losses


def test_sizes_are_published_in_the_base_asset_and_kept_in_contracts() -> None:
    """0.01 BTC a contract; a removal stays zero."""
    chain = OkxChain.made(1, 0, "BTC-USDT-SWAP")
    config = attrs.evolve(SWAP_CONFIG, data_types=(DataType.ORDERBOOK,))
    line = OkxLine(config, [SWAP], snapshots=lambda _: chain.snapshot(0))
    (best, _), *_ = sorted(chain.truths[0].bids.items(), reverse=True)
    assert line.consumer.books["BTC-USDT"].bids["100.5"] == f"0.0{chain.truths[0].bids['100.5']}"
    update = {"bids": [[best, "0", "0", "0"], ["1.5", "12.5", "0", "1"]], "asks": []}
    last = chain.truths[0].last_id
    frame = {**update, "ts": str(START // 1_000_000), "seqId": last + 1, "prevSeqId": last}
    chain.updates.append(frame)
    (record,) = line.hear(chain.frame(0)).records
    assert isinstance(record, OrderBookRecord)
    assert record.bids == [(best, "0"), ("1.5", "0.125")]


def test_snapshots_come_at_their_interval_while_the_book_moves() -> None:
    """Not while its number stands still: that snapshot is in the stream already."""
    chain = OkxChain.made(1, 10)
    line = subscribed(chain)
    book = line.consumer.books["BTC-USDT"]
    line.wait(21)
    assert book.snapshots == 1
    line.hear(chain.frame(0))
    line.wait(11)
    assert book.snapshots == 2
    assert true(line, chain, 1)


def test_snapshot_mode_publishes_snapshots_only() -> None:
    """The local book is kept all the same."""
    chain = OkxChain.made(1, 10)
    options = OrderbookOptions(mode="snapshot", depth=2, snapshot_interval=1)
    line = OkxLine(
        attrs.evolve(SPOT_CONFIG, orderbook=options), snapshots=lambda _: chain.snapshot(0)
    )
    line.hear(*(chain.frame(n) for n in range(10)))
    line.wait(1.25)
    book = line.consumer.books["BTC-USDT"]
    assert book.updates == 0
    assert book.last_id == chain.truths[-1].last_id
    assert len(book.bids) == min(2, len(chain.truths[-1].bids))


def test_a_lost_snapshot_is_told_once_more_though_the_book_stands_still() -> None:
    """The channel had no room for it; else the next update would be withheld with it."""
    chain = OkxChain.made(1, 10)
    line = subscribed(chain)
    (record,) = line.session.send_snapshot(BOOK, 0, line.now).records
    assert isinstance(record, OrderBookRecord)
    assert (record.heals_gap, record.last_update_id) == (0, chain.truths[0].last_id)


def test_a_lost_stretch_can_be_restated_from_the_local_book() -> None:
    """After the channel overflowed: the book as it is, healing that gap."""
    chain = OkxChain.made(1, 10)
    line = subscribed(chain)
    line.hear(chain.frame(0))
    (record,) = line.session.send_snapshot(BOOK, 5_000_000, line.now).records
    assert isinstance(record, OrderBookRecord)
    assert (record.heals_gap, record.last_update_id) == (5_000_000, chain.truths[1].last_id)


BAD: list[dict[str, object]] = [
    {"bids": [["-1", "2", "0", "1"]]},
    {"bids": [["1,5", "2", "0", "1"]]},
    {"asks": [["1", "1e999", "0", "1"]]},
    {"asks": [["1", None, "0", "1"]]},
    {"asks": [["1"]]},
    {"asks": None},
    {"ts": "x"},
    {"ts": "999999999999999"},
    {"ts": "4102444800001"},
    {"seqId": -4},
    {"seqId": 2**63},
    {"seqId": 2**70},
    {"prevSeqId": None},
]


@pytest.mark.parametrize("changes", BAD, ids=str)
def test_a_bad_update_is_rejected_whole(changes: dict[str, object]) -> None:
    """It changes nothing; it is missed by what follows it."""
    chain = OkxChain.made(1, 3)
    line = subscribed(chain)
    (reject,) = line.hear(chain.frame(0, **changes)).actions
    assert isinstance(reject, Reject)
    assert line.session.streams[BOOK].phase is Phase.LIVE
    line.hear(chain.frame(0), chain.frame(1), chain.frame(2))
    assert true(line, chain)


@settings(max_examples=examples(500), deadline=None)
@given(mutate=st.lists(mutations(), min_size=1, max_size=8), seed=st.integers(0, 1000))
def test_a_mutated_frame_gives_nothing_worse_than_a_reject(
    mutate: list[Mutation], seed: int
) -> None:
    """No exception, whatever it is turned into; and every record can be told on the wire."""
    chain = OkxChain.made(seed, 4)
    line = subscribed(chain)
    for number, change in enumerate(mutate):
        line.hear(change(chain.frame(number % 4)))
    line.wait(1)
    line.hear(mutate[0](chain.snapshot(2)))
    line.wait(6)
    if line.fetches:
        line.answer(mutate[0](chain.body(3)))
    actions = [step for turn in line.outputs[1:] for step in turn.actions]
    assert not any(isinstance(step, Close | Park) for step in actions)


def test_a_session_without_operations_left_fetches_instead() -> None:
    """The hour's allowance is never exceeded."""
    chain = OkxChain.made(1, 4)
    line = subscribed(chain)
    wanted = Subscription(DataType.TRADE, attrs.evolve(SWAP, native_id="X"))
    for _ in range(240):
        line.session.change([wanted], [], line.now)
        line.session.change([], [wanted], line.now)
    line.hear(chain.frame(0), chain.frame(2))
    line.said.clear()
    line.wait(0.25)
    assert line.said == []
    assert isinstance(line.outputs[-1].actions[0], Fetch)
    line.answer(chain.body(3))
    line.hear(chain.frame(3))
    assert true(line, chain)


def test_renewals_leave_the_last_operations_to_books() -> None:
    """What is out of step needs them; a channel that is silent for hours does not."""
    chain = OkxChain.made(1, 4)
    line = subscribed(chain)
    trades = (DataType.TRADE, "BTC-USDT")
    line.said.clear()
    for _ in range(400):
        line.session.renew(trades, line.now)
        line.wait(1)
    spent = len(line.said)
    assert 300 < spent < 400
    line.wait(60)
    assert len(line.said) == spent
    line.session.renew(BOOK, line.now)
    line.wait(0.25)
    assert len(line.said) == spent + 2


def test_the_cursor_says_how_far_the_book_is_known() -> None:
    """Number, event time and when it was read."""
    chain = OkxChain.made(1, 4)
    line = subscribed(chain)
    line.hear(chain.frame(0))
    snapshot, update = chain.truths[:2]
    expected = Cursor(update.last_id, START, line.now.wall, snapshot_id=snapshot.last_id)
    assert line.cursors[BOOK] == expected


def test_an_update_too_long_ago_is_a_doubt() -> None:
    """An older number at a later time: one of the two is wrong."""
    chain = OkxChain.made(1, 6)
    line = subscribed(chain)
    line.hear(chain.frame(0), chain.frame(1), chain.frame(2))
    later = str((START + 60 * SECOND) // 1_000_000)
    line.hear(chain.frame(0, ts=later))
    assert line.session.streams[BOOK].phase is Phase.ACKNOWLEDGED


def test_the_venue_is_named_as_configured() -> None:
    """The id of the configuration, and the tokens of subjects."""
    venue = OkxSpot(SPOT_CONFIG)
    assert (venue.name, venue.exchange, venue.market_type) == ("okx_spot", "okx", "spot")
    assert json.loads(json.dumps([fetch.url for fetch in venue.metadata])) == [
        "http://rest.test/api/v5/public/instruments?instType=SPOT"
    ]


@given(st.integers(0, 99), st.integers(1, 20), st.integers(0, 20), st.booleans())
def test_a_book_that_forgoes_its_backlog_asks_anew_and_is_right(
    seed: int, heard: int, after: int, pushed: bool
) -> None:
    """What waited is dropped; a snapshot on the wire still is the book, a fetched one joins what
    came since, and an answer that was under way joins nothing.
    """
    chain = OkxChain.made(seed, 50)
    line = OkxLine()
    line.hear(*(chain.frame(n) for n in range(heard)))
    line.wait(5.25)
    assert len(line.fetches) == 1
    assert line.session.holding().updates == heard
    line.session.drop_buffers(line.now)
    assert line.session.holding() == Holding()
    assert line.answer(chain.body(0)).records == []
    if pushed:
        line.hear(chain.snapshot(heard))
    line.hear(*(chain.frame(n) for n in range(heard, heard + after)))
    if not pushed:
        line.wait(5)
        assert len(line.fetches) == 2
        line.answer(chain.body(heard))
    assert true(line, chain, heard + after)
    assert line.session.holding().books == 1


def test_a_book_that_is_renewed_soon_forgoes_without_a_fetch() -> None:
    """Its new subscription brings a snapshot of its own."""
    chain = OkxChain.made(1, 12)
    line = subscribed(chain)
    line.hear(chain.frame(3), chain.frame(4))
    line.session.drop_buffers(line.now)
    line.snapshots = lambda _: chain.snapshot(7)
    line.synchronise()
    assert line.fetches == []
    assert true(line, chain, 7)
