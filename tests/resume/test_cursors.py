"""From a stored message to a cursor, and what every session makes of such a cursor."""

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import attrs
import pytest
from cards import CARDS, Card
from desk import START, Desk

from marketprism.clock import HOUR
from marketprism.feeds import capability
from marketprism.feeds.actions import Fetch
from marketprism.instruments import Instrument
from marketprism.records import (
    DataType,
    Gap,
    OrderBookRecord,
    Record,
    TopPositionRatio,
    Trade,
)
from marketprism.resume import cursors
from marketprism.streams.cursor import Cursor
from marketprism.streams.subscription import Capability, Subscription
from marketprism.wire import Message, encode

EVERY = pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
SECOND = 1_000_000_000
BTC = Instrument("binance", "spot", "BTC-USDT", "BTCUSDT")
WANT = Subscription(DataType.TRADE, BTC)
COUNTED = Capability("stream", None, counted=True)
UNCOUNTED = Capability("stream", None)
ROWS = Capability("poll", None, period=300.0)
NAMED = Capability("stream", None, unordered=True, opaque_ids=True)


def want_of(desk: Desk) -> Subscription:
    """What a desk plays."""
    if desk.poll is not None:
        return desk.poll.subscription
    assert desk.session is not None
    (state,) = desk.session.streams.values()
    return Subscription(state.data_type, state.instrument)


def lived(card: Card) -> tuple[Desk, list[Message]]:
    """A former life, and what it stored of the card's stream."""
    desk = Desk(card)
    records = desk.opened + desk.hear(*card.before, card.event).records
    return desk, [encode(record) for record in records]


def restored(desk: Desk, message: Message) -> Cursor:
    """The cursor that a stored message gives."""
    subscription = want_of(desk)
    record = cursors.read(message.payload, subscription, START + SECOND, capability(subscription))
    return cursors.cursor(record, message.msg_id, None, capability(subscription))


@EVERY
def test_the_last_message_gives_the_cursor_that_the_session_had(card: Card) -> None:
    """And a gap since, which is open."""
    desk, stored = lived(card)
    had, found = desk.cursor, restored(desk, stored[-1])
    assert (found.last_id, found.event_time) == (had.last_id, had.event_time)
    assert had.received is not None
    assert found.received == had.received // 1000 * 1000
    assert found.gap is not None
    assert (found.gap.reason, found.gap.started_at) == ("restart", found.received)


@pytest.mark.parametrize(
    "card",
    [card for card in CARDS if card.data_type is not DataType.LIQUIDATION],
    ids=lambda card: card.name,
)
def test_what_was_stored_is_not_published_again(card: Card) -> None:
    """Though the exchange says it again to a new process, and the server forgot the ids."""
    desk, stored = lived(card)
    after = Desk(card, cursor=restored(desk, stored[-1]))
    records = after.opened + after.hear(*card.before, card.event).records
    assert not {encode(record).msg_id for record in records} & {each.msg_id for each in stored}


@pytest.mark.parametrize(
    "card",
    [card for card in CARDS if card.data_type is DataType.ORDERBOOK],
    ids=lambda card: card.name,
)
def test_a_book_that_has_not_moved_since_is_not_published_again(card: Card) -> None:
    """Nothing is missing: no gap, and its snapshot is in the stream already. It goes on."""
    desk = Desk(card)
    snapshot = (desk.opened + desk.hear(*card.before).records)[-1]
    assert isinstance(snapshot, OrderBookRecord)
    after = Desk(card, cursor=restored(desk, encode(snapshot)))
    assert after.opened + after.hear(*card.before).records == []
    (update,) = after.hear(card.event).records
    assert isinstance(update, OrderBookRecord)
    assert update.update_type == "update"


@pytest.mark.parametrize(
    "card",
    [card for card in CARDS if card.data_type is DataType.ORDERBOOK],
    ids=lambda card: card.name,
)
def test_a_book_behind_whose_last_record_a_gap_was_told_is_published_again(card: Card) -> None:
    """At the stop, say: whoever heard of that gap waits for a snapshot, though the book has not
    moved; it names the gap that is told before it, and then the book goes on.
    """
    desk = Desk(card)
    snapshot = (desk.opened + desk.hear(*card.before).records)[-1]
    subscription = want_of(desk)
    stopped = attrs.evolve(
        gap(DataType.ORDERBOOK, snapshot.collected_at, snapshot.collected_at + 1),
        instrument=subscription.instrument,
    )
    message = encode(snapshot)
    cursor = cursors.cursor(snapshot, message.msg_id, stopped, capability(subscription))
    after = Desk(card, cursor=cursor)
    told, again = after.opened + after.hear(*card.before).records
    assert isinstance(told, Gap)
    assert isinstance(again, OrderBookRecord)
    assert (again.update_type, again.heals_gap) == ("snapshot", told.started_at)
    assert encode(again).msg_id != message.msg_id
    (update,) = after.hear(card.event).records
    assert isinstance(update, OrderBookRecord)
    assert update.prev_update_id == again.last_update_id


@EVERY
def test_what_comes_later_is_behind_a_gap(card: Card) -> None:
    """Of reason `restart`, from the last stored message on; an index asks for what it missed."""
    desk, stored = lived(card)
    cursor = restored(desk, stored[-1])
    hour = 3600 * SECOND
    cursor.event_time = (cursor.event_time or hour) - hour
    if cursor.last_id is not None:
        cursor.last_id = 5
    after = Desk(card, cursor=cursor)
    turn = after.hear(*card.before, card.event)
    if card.data_type is DataType.VOLATILITY_INDEX:
        assert any(isinstance(step, Fetch) for step in turn.actions)
        return
    gap = (after.opened + turn.records)[0]
    assert isinstance(gap, Gap)
    assert (gap.reason, gap.affected, gap.started_at) == (
        "restart",
        card.data_type,
        cursor.received if cursor.gap else gap.started_at,
    )
    if card.venue.startswith("binance") and card.data_type is DataType.TRADE:
        assert (gap.first_missing_id, gap.last_missing_id, gap.lost) == (6, 76, 71)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"hello",
        b"[]",
        b'"text"',
        b"{}",
        b'{"data_type": []}',
        b'{"data_type": "trade"}',
        b'{"data_type": "gap", "exchange": "binance"}',
    ],
)
def test_a_message_of_other_people_gives_no_cursor(payload: bytes) -> None:
    """Nothing follows from what cannot be read."""
    with pytest.raises(cursors.Foreign):
        cursors.read(payload, WANT, START, COUNTED)
    with pytest.raises(cursors.Foreign):
        cursors.read_gap(payload, START)


def trade(number: str = "7", instrument: Instrument = BTC, **fields: Any) -> Trade:
    """A trade of just now."""
    return Trade(instrument, START, START, number, "1", "1", "buy", **fields)


def book(number: int, update_type: Any = "snapshot", heals_gap: int = 0) -> OrderBookRecord:
    """A book of just now."""
    record = OrderBookRecord(BTC, START, START, update_type, [], [], None, number)
    record.heals_gap = heals_gap
    return record


OTHERS = [
    trade(instrument=Instrument("binance", "spot", "BTC-USDT", "OTHER")),
    trade("abc"),
    trade("١٢"),
    trade("9" * 5000),
    trade(str(2**63)),
    book(1),
    Trade(BTC, START, START + 2 * HOUR, "7", "1", "1", "buy"),
]


@pytest.mark.parametrize("record", OTHERS)
def test_a_message_that_is_not_of_this_stream_gives_no_cursor(record: Record) -> None:
    """Another instrument, another data type, an id that is no number, read at a time to come."""
    with pytest.raises(cursors.Foreign):
        cursors.read(encode(record).payload, WANT, START, COUNTED)


@pytest.mark.parametrize("number", [2**63, 2**64, 10**400, -1])
def test_a_book_whose_number_is_none_gives_no_cursor(number: int) -> None:
    """What is added to it must fit a consumer's 64 bits."""
    subscription = Subscription(DataType.ORDERBOOK, BTC)
    cursors.read(encode(book(2**63 - 1)).payload, subscription, START, COUNTED)
    with pytest.raises(cursors.Foreign):
        cursors.read(encode(book(number)).payload, subscription, START, COUNTED)


@pytest.mark.parametrize("name", ["collected_at", "timestamp", "started_at"])
@pytest.mark.parametrize("year", [1, 1969, 2101, 9999])
def test_a_time_that_is_none_gives_no_cursor(name: str, year: int) -> None:
    """Something will be added to it, or taken from it; a gap begins no later than it ended."""
    record = trade() if name in ("collected_at", "timestamp") else gap(DataType.TRADE, START, START)
    fields = json.loads(encode(record).payload)
    fields[name] = f"{year:04}-12-31T23:59:59.999Z"
    payload = json.dumps(fields).encode()
    read: Callable[..., Record]
    read = (
        cursors.read_gap
        if isinstance(record, Gap)
        else partial(cursors.read, subscription=WANT, has=COUNTED)
    )
    with pytest.raises(cursors.Foreign):
        read(payload, wall=START)


@EVERY
def test_a_last_message_of_a_time_to_come_is_a_position_by_its_id_and_when_it_was_read(
    card: Card,
) -> None:
    """And no time: the same again is not told again, and what comes next is, after a gap."""
    desk, stored = lived(card)
    subscription = want_of(desk)
    has = capability(subscription)
    record = cursors.read(stored[-1].payload, subscription, START + SECOND, has)
    last_id = cursors.cursor(record, None, None, has).last_id
    record.timestamp = START + 30 * 24 * HOUR
    again = cursors.read(encode(record).payload, subscription, START + SECOND, has)
    found = cursors.cursor(again, stored[-1].msg_id, None, has)
    assert (found.last_id, found.event_time, found.received) == (last_id, None, record.collected_at)
    assert found.gap is not None
    assert found.gap.started_at == record.collected_at
    after = Desk(card, cursor=found)
    heard = after.opened + after.hear(*card.before, card.event).records
    if last_id is None:
        # It went by its time alone, and that was wrong: what is said now is later.
        kinds = [type(each) for each in heard]
        assert kinds in ([Gap, type(record)], [type(record)])
        assert found.gap is None
    elif card.data_type is DataType.TRADE:
        # It is the very trade of that id.
        assert heard == []


@pytest.mark.parametrize("field", ["collected_at", "timestamp", "trade_id", "exchange"])
@pytest.mark.parametrize("value", [b"null", b"5", b"[]", b'"x"', b"{}"])
def test_a_field_of_another_shape_gives_no_cursor_or_a_good_one(field: str, value: bytes) -> None:
    """Whatever stands in a payload, nothing but `Foreign` is raised."""
    payload = encode(trade()).payload
    head, _, rest = payload.partition(b'"%b":' % field.encode())
    _, _, tail = rest.partition(b',"')
    try:
        record = cursors.read(
            head + b'"%b":' % field.encode() + value + b',"' + tail, WANT, START, COUNTED
        )
    except cursors.Foreign:
        return
    assert cursors.cursor(record, None, None, COUNTED).received == START


def gap(affected: DataType, started_at: int, collected_at: int) -> Gap:
    """A gap that was published."""
    return Gap(
        BTC, collected_at, collected_at, affected, "stale", started_at, collected_at,
        None, None, None, "binance_spot/0",
    )  # fmt: skip


MILLISECOND = 1_000_000


@pytest.mark.parametrize(
    ("last", "starts"),
    [
        (None, START),
        (gap(DataType.TRADE, START - SECOND, START), START),
        (gap(DataType.TRADE, START, START + SECOND), START + MILLISECOND),
        (gap(DataType.TRADE, START - MILLISECOND, START + SECOND), START - 501 * MILLISECOND),
        (gap(DataType.TRADE, START + SECOND, START + SECOND), START + SECOND + MILLISECOND),
        (gap(DataType.ORDERBOOK, START - SECOND, START - SECOND), START),
        (gap(DataType.ORDERBOOK, START, START + SECOND), START - 501 * MILLISECOND),
    ],
)
def test_the_gap_of_a_restart_has_an_id_of_its_own(last: Gap | None, starts: int) -> None:
    """One that was published after the last record may have begun with it; so may some that
    another stream's hides.
    """
    found = cursors.cursor(trade(), None, last, COUNTED)
    assert found.gap is not None
    assert found.gap.started_at == starts


def ratio(row: int) -> TopPositionRatio:
    """The row of so many periods after the first."""
    at = START + row * 300 * SECOND
    return TopPositionRatio(BTC, at, START, "1", "0.5", "0.5", "5m")


@pytest.mark.parametrize(
    ("before", "first", "joins"),
    [
        (ratio(0), ratio(1), True),
        (ratio(0), ratio(2), False),
        (trade("7"), trade("8", first_trade_id="8", last_trade_id="8"), True),
        (trade("7"), trade("8", last_trade_id="8"), False),
        (trade("7"), trade("9", first_trade_id="9", last_trade_id="9"), False),
    ],
)
def test_what_says_itself_that_it_follows_has_no_gap_before_it(
    before: Record, first: Record, joins: bool
) -> None:
    """The next row of a ratio; of OKX, whose ids may have holes, the next trade alone."""
    has = UNCOUNTED if isinstance(first, Trade) else ROWS
    known = cursors.cursor(before, None, None, has)
    found = cursors.gap_before(known, first, has, "restart")
    assert (found is None) is joins


def test_restarts_before_the_next_record_do_not_share_a_gap_s_id() -> None:
    """Though each finds the same record, and behind it another stream's gap."""
    hiding = [gap(DataType.ORDERBOOK, START, START + n * SECOND // 9) for n in range(1, 9)]
    begun = [cursors.cursor(trade(), None, each, COUNTED).gap for each in hiding]
    starts = [each.started_at // MILLISECOND for each in begun if each is not None]
    assert len(set(starts)) == len(hiding)
    assert all(START - SECOND <= start * MILLISECOND < START for start in starts)


@pytest.mark.parametrize(
    ("record", "snapshot_id"),
    [(book(5), 5), (book(5, heals_gap=START), None), (book(5, "update"), None)],
)
def test_a_snapshot_that_was_stored_last_is_known(
    record: OrderBookRecord, snapshot_id: int | None
) -> None:
    """Its message id is made of where the book stood; one that healed a gap has another."""
    subscription = Subscription(DataType.ORDERBOOK, BTC)
    message = encode(record)
    found = cursors.read(message.payload, subscription, START, COUNTED)
    assert cursors.cursor(found, message.msg_id, None, COUNTED).snapshot_id == snapshot_id


def test_ids_of_trades_say_nothing_of_aggregates() -> None:
    """They are counted apart: after a change of `trade.kind` the gap has no ids, and ends."""
    (card,) = (c for c in CARDS if (c.venue, c.data_type) == ("binance_spot", DataType.TRADE))
    cursor = cursors.cursor(trade("3", trade_kind="aggregated"), None, None, COUNTED)
    desk = Desk(card, cursor=cursor)
    told, *_ = desk.hear(card.event).records
    assert isinstance(told, Gap)
    assert (told.first_missing_id, told.lost, told.reason) == (None, None, "restart")
    assert cursor.gap is None


@pytest.mark.parametrize(
    ("before", "first", "expected"),
    [
        (trade("7"), trade("8"), None),
        (trade("7"), trade("11"), (8, 10, 3)),
        (trade("7"), trade("3"), (None, None, None)),
        (trade("7"), trade("11", trade_kind="aggregated"), (None, None, None)),
        (book(7), book(7), None),
        (book(7), book(9), (None, None, None)),
    ],
)
def test_what_lies_between_a_position_and_a_first_record(
    before: Record, first: Record, expected: tuple[Any, ...] | None
) -> None:
    """Ids tell it where they can."""
    known = cursors.cursor(before, None, None, COUNTED)
    first.collected_at = START + SECOND
    found = cursors.gap_before(known, first, COUNTED, "restart")
    if expected is None:
        assert found is None
        return
    assert found is not None
    assert (found.first_missing_id, found.last_missing_id, found.lost) == expected
    assert (found.reason, found.started_at, found.ended_at) == ("restart", START, START + SECOND)
