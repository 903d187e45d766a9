"""Positions: who learns when where a stream stood, under virtual time."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from market_log import at_once
from patience import PATIENCE
from structlog.testing import capture_logs
from trio.testing import MockClock, wait_all_tasks_blocked

from marketprism.board.board import Board
from marketprism.clock import Timestamp
from marketprism.errors import SinkLost
from marketprism.feeds import capability
from marketprism.instruments import Instrument
from marketprism.outbox.outbox import Numbered, Outbox
from marketprism.outbox.spool import Spool
from marketprism.reading import decode
from marketprism.records import DataType, Gap, OrderBookRecord, Record, Trade
from marketprism.resume import cursors
from marketprism.resume.cursors import WHY
from marketprism.resume.dedupe import dedupe
from marketprism.resume.last_message import Stored
from marketprism.resume.positions import Positions
from marketprism.settings.nats import NatsConfig
from marketprism.sinks.publishing import Publishing
from marketprism.streams.cursor import Cursor, OpenGap
from marketprism.streams.subscription import Capability, Subscription
from marketprism.wire import Message, encode

BTC = Instrument("binance", "spot", "BTC-USDT", "BTCUSDT")
WANT = Subscription(DataType.TRADE, BTC)
SECOND = 1_000_000_000


def trade(number: int, at: int = 0) -> Trade:
    """A trade read at so many seconds."""
    return Trade(BTC, at * SECOND, at * SECOND, str(number), "1", "1", "buy")


def book(number: int, at: int, heals_gap: int = 0) -> OrderBookRecord:
    """A snapshot that ends with this update, read at so many seconds."""
    snapshot = OrderBookRecord(BTC, at * SECOND, at * SECOND, "snapshot", (), (), number, number)
    snapshot.heals_gap = heals_gap
    return snapshot


@attrs.define
class Stream:
    """The stream in JetStream, and what it takes to ask it."""

    holds: dict[str, Stored] = attrs.field(factory=dict)
    seconds: float = 0.1
    fails: bool = False

    def store(self, *records: Record) -> None:
        for number, message in enumerate(map(encode, records)):
            stored = Stored(message.subject, number, message.msg_id, message.payload)
            self.holds[message.subject] = stored

    async def last(self, subjects: Sequence[str]) -> Mapping[str, Stored]:
        await trio.sleep(self.seconds)
        if self.fails:
            raise SinkLost("it went away")
        return {subject: self.holds[subject] for subject in subjects if subject in self.holds}


@attrs.define
class Case:
    """A process that has just begun."""

    stream: Stream = attrs.field(factory=Stream)
    left: dict[str, Message] = attrs.field(factory=dict)
    board: Board = attrs.field(factory=Board)
    capability: Callable[[Subscription], Capability] = capability
    outbox: Outbox = attrs.field(init=False)
    positions: Positions = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.outbox = Outbox(100, 1 << 20, self.board.outbox)
        self.positions = Positions(PATIENCE, self.now, self.board, self.recovered, self.capability)

    def now(self) -> Timestamp:
        return Timestamp(1000 * SECOND, 0)

    async def recovered(self) -> Mapping[str, Message]:
        await trio.lowlevel.checkpoint()
        return self.left

    async def connected(self) -> None:
        """A sink that stands; see `Publishing`."""
        try:
            await self.positions.catch_up(self.stream.last, self.outbox)
            await self.positions.serve(self.stream.last)
        finally:
            self.positions.gone()

    def pump(self, *records: Record) -> None:
        """What the pump does with a batch."""
        messages = [encode(record) for record in records]
        if self.positions.position_unknown:
            messages = self.positions.admitted(records, messages, self.outbox.starts)
        self.outbox.append(messages)

    def gaps_first(self) -> list[Record]:
        """What is to be published before all else."""
        return [decode(m.payload) for queue in self.positions.gaps_first for _, m in queue.take(99)]

    def held(self) -> list[Record]:
        """What waits in the outbox."""
        return [decode(message.payload) for _, message in self.outbox.take(99)]


def told(gap: Record) -> tuple[Any, ...]:
    """What a gap says."""
    assert isinstance(gap, Gap)
    times = (gap.started_at // SECOND, gap.ended_at // SECOND)
    return (gap.affected, gap.reason, *times, gap.first_missing_id, gap.lost, gap.connection)


async def test_a_connected_sink_tells_where_streams_stood(autojump_clock: MockClock) -> None:
    """The feed begins with the cursor of the last stored message, and an open gap; once."""
    case = Case()
    case.stream.store(trade(7, at=100))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(case.connected)
        await case.positions.read([WANT])
        nursery.cancel_scope.cancel()
    cursor = case.positions.cursor(WANT)
    assert (cursor.last_id, cursor.event_time, cursor.received) == (7, 100 * SECOND, 100 * SECOND)
    assert cursor.gap is not None
    assert not case.positions.position_unknown
    assert case.positions.cursor(WANT) == Cursor()


SWAP = Subscription(DataType.TRADE, Instrument("okx", "perpetual", "BTC-USDT", "BTC-USDT-SWAP"))


def shuffled(number: int, at: int = 100) -> Trade:
    """A trade of an exchange whose ids come in no order."""
    return Trade(
        *(SWAP.instrument, at * SECOND, at * SECOND, str(number), "1", "1", "buy"),
        trade_kind="aggregated",
        last_trade_id=str(number),
    )


@attrs.define
class Past:
    """What a stream holds before the last message of a subject, and who asked for it."""

    records: list[Record]
    asked: list[str] = attrs.field(factory=list)

    async def earlier(self, messages: Sequence[Stored]) -> Mapping[str, Sequence[Stored]]:
        await trio.lowlevel.checkpoint()
        self.asked += [message.subject for message in messages]
        found = [(encode(record), number) for number, record in enumerate(self.records)]
        return {found[0][0].subject: [Stored(m.subject, n, m.msg_id, m.payload) for m, n in found]}


SWAP_SUBJECT = encode(shuffled(1)).subject


async def test_of_ids_in_no_order_the_last_messages_are_read(autojump_clock: MockClock) -> None:
    """As the last one alone does not tell what is new; of others it does."""
    case, past = Case(), Past([shuffled(19), shuffled(21)])
    case.stream.store(trade(7, at=100), shuffled(20))

    async def connected() -> None:
        await case.positions.serve(case.stream.last, past.earlier)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(connected)
        await case.positions.read([WANT, SWAP])
        nursery.cancel_scope.cancel()
    cursor = case.positions.cursor(SWAP)
    assert cursor.last_id == 20
    assert cursor.recent is not None
    assert list(cursor.recent) == [19, 21, 20]
    assert past.asked == [SWAP_SUBJECT]
    assert case.positions.cursor(WANT).recent is None


@pytest.mark.parametrize("met", ["before", "after"])
async def test_what_a_late_stream_of_ids_in_no_order_begins_with_is_not_stored_again(
    met: str, autojump_clock: MockClock
) -> None:
    """Whichever of the last ones it is."""
    case, past = Case(), Past([shuffled(19), shuffled(21)])
    case.stream.store(shuffled(20))
    await case.positions.read([SWAP])
    heard = [shuffled(21, at=900), shuffled(22, at=901)]
    heard[0].timestamp = 100 * SECOND
    if met == "before":
        case.pump(*heard)
    await case.positions.catch_up(case.stream.last, case.outbox, past.earlier)
    if met == "after":
        case.pump(*heard)
    assert case.gaps_first() == []
    assert [record.trade_id for record in case.held() if isinstance(record, Trade)] == ["22"]


NAMED = Subscription(DataType.TRADE, Instrument("somewhere", "spot", "BTC-USDT", "BTC-USDT"))
"""Of an exchange whose ids are names."""
FIRST, SECOND_ID, NEW = (f"1b4e28ba-2fa1-11d2-883f-0016d3cca42{n}" for n in range(3))


def named(ident: str, at: int = 100, told: int = 100) -> Trade:
    """A trade that happened and was read at these seconds."""
    return Trade(NAMED.instrument, told * SECOND, at * SECOND, ident, "1", "1", "buy")


def has_names(subscription: Subscription) -> Capability:
    """How that exchange has its trades; others as they are."""
    if subscription != NAMED:
        return capability(subscription)
    return Capability("stream", None, unordered=True, opaque_ids=True)


@pytest.mark.parametrize("met", ["known", "before", "after", "overlapping"])
async def test_ids_that_are_names_are_told_once_and_have_a_gap_since(
    met: str, autojump_clock: MockClock
) -> None:
    """Whether the position is known in time or comes late, before or after the first record: what
    is stored is not stored again, and what came since is behind one gap, which nobody can count;
    but for what begins with something that is stored, and so joins.
    """
    case, past = Case(capability=has_names), Past([named(FIRST)])
    case.stream.store(named(SECOND_ID))
    heard = [named(FIRST, at=900), named(NEW, at=901, told=901)]
    if met == "known":
        async with trio.open_nursery() as nursery:
            nursery.start_soon(case.positions.serve, case.stream.last, past.earlier)
            await case.positions.read([NAMED])
            nursery.cancel_scope.cancel()
        cursor = case.positions.cursor(NAMED)
        assert (cursor.last_id, cursor.gap) == (None, OpenGap("restart", 100 * SECOND, WHY))
        assert cursor.recent is not None
        assert [cursor.recent.knows(each.trade_id, each.timestamp or 0) for each in heard] == [
            True,
            False,
        ]
        return
    await case.positions.read([NAMED])
    if met == "before":
        case.pump(*heard[1:])
    await case.positions.catch_up(case.stream.last, case.outbox, past.earlier)
    if met == "after":
        case.pump(*heard[1:])
    if met == "overlapping":
        case.pump(*heard)
    published = [*case.gaps_first(), *case.held()]
    if met != "overlapping":
        gap = published.pop(0)
        assert told(gap) == (DataType.TRADE, "restart", 100, 901, None, None, "restart")
    assert [each.trade_id for each in published if isinstance(each, Trade)] == [NEW]
    assert len(published) == 1


async def test_an_aggregate_that_the_version_before_stored_is_not_stored_again(
    autojump_clock: MockClock,
) -> None:
    """Its message id was another; what it is of says the same. Another of its number is news."""
    case = Case()

    def aggregate(last: int, at: int) -> Trade:
        return attrs.evolve(
            trade(7, at), trade_kind="aggregated", first_trade_id=str(last),
            last_trade_id=str(last), numbered_apart=True,
        )  # fmt: skip

    message = encode(aggregate(669, at=100))
    former = message.msg_id.removesuffix(":669-669")
    stored = Stored(message.subject, 1, former, message.payload)
    case.stream.holds[message.subject] = stored
    await case.positions.read([WANT])
    case.pump(aggregate(669, at=900), aggregate(670, at=901))
    await case.positions.catch_up(case.stream.last, case.outbox)
    assert case.gaps_first() == []
    (left,) = case.held()
    assert isinstance(left, Trade)
    assert left.last_trade_id == "670"


async def test_a_first_record_of_a_time_to_come_claims_no_ids(autojump_clock: MockClock) -> None:
    """A late stream's gap is of unknown size then."""
    case = Case()
    case.stream.store(trade(7, at=100))
    await case.positions.read([WANT])
    first = trade(10**15, at=900)
    first.timestamp = 100_000 * SECOND
    case.pump(first)
    await case.positions.catch_up(case.stream.last, case.outbox)
    (gap,) = case.gaps_first()
    assert isinstance(gap, Gap)
    assert (gap.first_missing_id, gap.lost) == (None, None)


async def test_a_stream_that_has_nothing_begins_afresh(autojump_clock: MockClock) -> None:
    """At the very first start nothing can have been missed."""
    case = Case()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(case.connected)
        await case.positions.read([WANT])
        nursery.cancel_scope.cancel()
    assert case.positions.cursor(WANT) == Cursor()
    assert not case.positions.position_unknown


async def test_feeds_wait_no_longer_than_they_may(autojump_clock: MockClock) -> None:
    """Without a sink they begin when their patience ends."""
    case, begun = Case(), trio.current_time()
    await case.positions.read([WANT])
    assert trio.current_time() - begun == pytest.approx(PATIENCE)
    assert case.positions.cursor(WANT) == Cursor()
    assert case.positions.position_unknown


async def test_a_sink_that_is_at_it_is_waited_for(autojump_clock: MockClock) -> None:
    """It has limits of its own; a stream that began meanwhile would be published without a gap."""
    case = Case()
    case.stream.store(trade(7))
    case.stream.seconds = 4 * PATIENCE
    async with trio.open_nursery() as nursery:
        nursery.start_soon(case.connected)
        await case.positions.read([WANT])
        nursery.cancel_scope.cancel()
    assert case.positions.cursor(WANT).last_id == 7


async def test_a_sink_that_goes_away_is_not_waited_for_any_longer(
    autojump_clock: MockClock,
) -> None:
    """What is left of the patience counts."""
    case, begun = Case(), trio.current_time()
    case.stream.seconds, case.stream.fails = 1.0, True

    async def failing() -> None:
        with pytest.raises(SinkLost):
            await case.connected()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(failing)
        await case.positions.read([WANT])
    assert trio.current_time() - begun == pytest.approx(PATIENCE)
    assert case.positions.position_unknown


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        (11, ("trade", "restart", 100, 900, 8, 3, "restart")),
        (5, ("trade", "restart", 100, 900, None, None, "restart")),
        (8, None),
    ],
)
@pytest.mark.parametrize("met", ["before", "after"])
async def test_a_late_stream_has_its_gap_ahead_of_its_first_message(
    first: int, expected: tuple[Any, ...] | None, met: str, autojump_clock: MockClock
) -> None:
    """Whether that waits in the outbox when the sink comes, or comes after it; with the ids that
    are missing where they tell, and none where they join.
    """
    case = Case()
    case.stream.store(trade(7, at=100))
    await case.positions.read([WANT])
    records = [trade(first, at=900), trade(first + 1, at=901)]
    if met == "before":
        case.pump(*records)
    await case.positions.catch_up(case.stream.last, case.outbox)
    if met == "after":
        case.pump(*records)
    told_ahead = case.gaps_first()
    published = told_ahead + case.held()
    gaps = [told(record) for record in published if isinstance(record, Gap)]
    assert gaps == ([expected] if expected else [])
    assert published[len(gaps) :] == [decode(encode(record).payload) for record in records]
    assert bool(told_ahead) == (met == "before" and expected is not None)
    assert not case.positions.position_unknown
    assert sum(case.board.gaps.values()) == len(gaps)


@pytest.mark.parametrize("met", ["before", "after"])
async def test_what_a_late_stream_begins_with_and_is_stored_is_not_stored_again(
    met: str, autojump_clock: MockClock
) -> None:
    """A row that the exchange still tells."""
    case = Case()
    case.stream.store(trade(7, at=100))
    await case.positions.read([WANT])
    if met == "before":
        case.pump(trade(7, at=900), trade(8, at=901))
    await case.positions.catch_up(case.stream.last, case.outbox)
    if met == "after":
        case.pump(trade(7, at=900), trade(8, at=901))
    assert case.gaps_first() == []
    assert case.held() == [decode(encode(trade(8, at=901)).payload)]
    assert case.board.outbox.held == 1


@pytest.mark.parametrize(("first", "reasons"), [(8, []), (10, ["disconnect", "restart"])])
async def test_what_a_feed_lost_before_its_first_record_is_known_better_by_the_position(
    first: int, reasons: list[str], autojump_clock: MockClock
) -> None:
    """The feed had nothing to join that record to; where the two join, nothing is missing."""
    case = Case()
    case.stream.store(trade(7, at=100))
    await case.positions.read([WANT])
    await case.positions.catch_up(case.stream.last, case.outbox)
    cursor = Cursor(received=890 * SECOND)
    cursor.lose("disconnect", "of a test")
    lost = cursor.close(BTC, DataType.TRADE, 900 * SECOND, "binance_spot/0", None)
    assert lost is not None
    case.pump(lost, trade(first, at=900))
    published = case.held()
    assert sorted(record.reason for record in published if isinstance(record, Gap)) == reasons
    assert published[-1] == decode(encode(trade(first, at=900)).payload)


@pytest.mark.parametrize("lost", [False, True])
@pytest.mark.parametrize("last", [5, 7])
async def test_the_snapshot_that_a_late_book_begins_with_names_the_gap_before_it(
    last: int, lost: bool, autojump_clock: MockClock
) -> None:
    """Nobody knew of the gap when the session made it; one that is stored is told no more, nor is
    a gap before it.
    """
    case, subscription = Case(), Subscription(DataType.ORDERBOOK, BTC)
    case.stream.store(book(last, at=100))
    await case.positions.read([subscription])
    await case.positions.catch_up(case.stream.last, case.outbox)
    records: list[Record] = [book(7, at=900)]
    if lost:
        cursor = Cursor(received=890 * SECOND)
        cursor.lose("disconnect", "of a test")
        gap = cursor.close(BTC, DataType.ORDERBOOK, 900 * SECOND, "binance_spot/0", None)
        assert gap is not None
        records = [gap, book(7, at=900, heals_gap=gap.started_at)]
    case.pump(*records)
    ids = [message.msg_id for _, message in case.outbox.take(99)]
    if last == 7:
        assert ids == []
    else:
        assert ids[-2:] == [
            "gap:binance:spot:BTC-USDT:orderbook:100000",
            "orderbook:binance:spot:BTC-USDT:snapshot:7:100000",
        ]
        assert len(ids) == 2 + lost


async def test_a_late_stream_that_was_never_stored_has_no_gap(autojump_clock: MockClock) -> None:
    """Nothing came before its first message."""
    case = Case()
    await case.positions.read([WANT])
    case.pump(trade(1, at=900))
    await case.positions.catch_up(case.stream.last, case.outbox)
    assert (case.gaps_first(), len(case.held()), case.positions.position_unknown) == ([], 1, False)


async def test_a_sink_that_fails_before_it_knows_leaves_it_to_the_next(
    autojump_clock: MockClock,
) -> None:
    """Nothing is decided by half."""
    case = Case()
    case.stream.store(trade(7, at=100))
    await case.positions.read([WANT])
    case.pump(trade(11, at=900))
    case.stream.fails = True
    with pytest.raises(SinkLost):
        await case.positions.catch_up(case.stream.last, case.outbox)
    case.stream.fails = False
    await case.positions.catch_up(case.stream.last, case.outbox)
    assert len(case.gaps_first()) == 1


@pytest.mark.parametrize(("stored", "left", "expected"), [(7, 9, 9), (9, 7, 9), (None, 7, 7)])
async def test_what_a_former_process_left_behind_counts(
    stored: int | None, left: int, expected: int, autojump_clock: MockClock
) -> None:
    """The later of the two is where the stream stood."""
    case = Case()
    case.left = {encode(trade(1)).subject: encode(trade(left, at=left))}
    if stored is not None:
        case.stream.store(trade(stored, at=stored))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(case.connected)
        await case.positions.read([WANT])
        nursery.cancel_scope.cancel()
    assert case.positions.cursor(WANT).last_id == expected


async def test_what_a_former_process_left_behind_needs_no_sink(autojump_clock: MockClock) -> None:
    """It is here: the stream is not late."""
    case = Case()
    case.left = {encode(trade(1)).subject: encode(trade(7))}
    await case.positions.read([WANT])
    assert case.positions.cursor(WANT).last_id == 7
    assert not case.positions.position_unknown


@attrs.define
class Process:
    """One of a row of them over one spool; what it publishes is in the stream at once."""

    directory: Path
    stream: Stream
    published: list[Record]
    board: Board = attrs.field(factory=Board)
    outbox: Outbox = attrs.field(init=False)
    positions: Positions = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        spool = Spool(self.directory, 10**8, 0)
        self.outbox = Outbox(
            *(100, 1 << 20, self.board.outbox), board=self.board, spool=spool, worker=at_once
        )
        self.positions = Positions(
            PATIENCE, self.now, self.board, self.outbox.recovered, capability
        )

    def now(self) -> Timestamp:
        return Timestamp(10_000 * SECOND, 0)

    async def reads(self, *records: Record) -> None:
        """It begins with NATS away, and reads these."""
        await self.outbox.open()
        subscriptions = {
            Subscription(DataType(each.data_type), each.instrument) for each in records
        }
        await self.positions.read(list(subscriptions))
        messages = [encode(record) for record in records]
        self.outbox.append(self.positions.admitted(records, messages, self.outbox.starts))

    async def publishes(
        self, gaps_first: int = 99, stored: int = 99, acknowledged: int = 99
    ) -> None:
        """NATS is there, for so many gaps that go ahead and so many messages, of which it
        acknowledges so many.
        """
        self.outbox.rewind()
        await dedupe(self.outbox, self.stream.last, self.board, ())
        await self.positions.catch_up(self.stream.last, self.outbox)
        while self.positions.gaps_first:
            for number, message in self.positions.gaps_first[0].take(gaps_first):
                self._publish(message)
                self.positions.gaps_first[0].acknowledge(number)
                gaps_first -= 1
            if not gaps_first:
                return
            self.positions.gaps_first.popleft()
        await self.positions.ahead_stored(self.outbox)
        for place, (number, message) in enumerate(self.outbox.take(stored)):
            self._publish(message)
            if place < acknowledged:
                self.outbox.acknowledge(number)

    def _publish(self, message: Message) -> None:
        record = decode(message.payload)
        self.published.append(record)
        self.stream.store(record)


@pytest.mark.parametrize(
    "met",
    [
        ("never",),
        ("never", "never"),
        ("before the first gap",),
        ("between the gaps",),
        ("between the gaps", "between the gaps"),
        ("behind the gaps",),
        ("behind the first message",),
        ("unheard",),
    ],
)
async def test_a_gap_that_a_process_could_not_tell_is_told_once_by_the_next(
    met: tuple[str, ...], tmp_path: Path, autojump_clock: MockClock
) -> None:
    """It began with NATS away and was stopped before NATS had come, or in whatever moment
    afterwards: what it read first follows the gap, in the process that finds NATS to stay.
    """
    stream, published = Stream(), list[Record]()
    stream.store(trade(100, at=100), book(100, at=100))
    process = Process(tmp_path, stream, published)
    await process.reads(trade(200, at=900), book(200, at=901), trade(201, at=902))
    for meeting in met:
        match meeting:
            case "before the first gap":
                await process.positions.catch_up(stream.last, process.outbox)
            case "between the gaps":
                await process.publishes(gaps_first=1)
            case "behind the gaps":
                await process.publishes(stored=0)
            case "behind the first message":
                await process.publishes(stored=1)
            case "unheard":
                await process.publishes(stored=2, acknowledged=0)
        await process.outbox.store()
        process = Process(tmp_path, stream, published)
        await process.reads()
    await process.publishes()
    await process.outbox.store()
    gaps = [record for record in published[:2] if isinstance(record, Gap)]
    assert [(gap.affected, gap.ended_at // SECOND, gap.lost) for gap in gaps] == [
        ("trade", 900, 99),
        ("orderbook", 901, None),
    ]
    assert all(gap.reason == "restart" for gap in gaps)
    assert all(98 * SECOND < gap.started_at <= 100 * SECOND for gap in gaps)
    assert published[2:] == [
        decode(encode(record).payload)
        for record in (trade(200, at=900), book(200, at=901), trade(201, at=902))
    ]


FULL = b'{"error":{"err_code":10077,"description":"maximum messages exceeded"},"seq":0}'


async def held_up(
    case: Case, alive: Callable[[], bool], task_status: trio.TaskStatus[None]
) -> None:
    """A sink whose stream is full: nothing goes ahead. `alive` tells whether its server is."""
    publishing = Publishing(NatsConfig(), case.board, "nats://test")

    async def send(batch: Sequence[Numbered]) -> None:
        await trio.sleep(0.01)
        for number, _ in batch:
            publishing.answer(number, FULL)

    async def pulse() -> None:
        await trio.lowlevel.checkpoint()
        if not alive():
            raise SinkLost("it does not answer")

    task_status.started()
    await publishing.run(case.outbox, send, 1 << 20, case.stream.last, case.positions, pulse)


async def test_venues_are_answered_while_a_full_stream_holds_up_what_goes_ahead(
    autojump_clock: MockClock,
) -> None:
    """A stream may be full for hours; who begins meanwhile needs nothing of it but to be read."""
    case = Case()
    case.stream.store(trade(7, at=100))
    await case.positions.read([WANT])
    case.pump(trade(11, at=900))
    async with trio.open_nursery() as nursery:
        await nursery.start(held_up, case, lambda: True)
        await trio.sleep(2)
        assert case.board.sink.state == "stream_full"
        with trio.fail_after(PATIENCE):
            await case.positions.read([Subscription(DataType.FUNDING_RATE, BTC)])
        assert len(case.positions.gaps_first) == 1
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("fails", ["its pulse", "its answers"])
async def test_a_server_that_dies_while_it_holds_up_what_goes_ahead_is_left(
    fails: str, autojump_clock: MockClock
) -> None:
    """Its death is noticed as at any other time, and the gap is ahead over the next connection."""
    case = Case()
    case.stream.store(trade(7, at=100))
    await case.positions.read([WANT])
    case.pump(trade(11, at=900))

    async def meet() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(held_up, case, lambda: fails != "its pulse")
            await trio.sleep(2)
            case.stream.fails = fails == "its answers"
            nursery.start_soon(case.positions.read, [Subscription(DataType.FUNDING_RATE, BTC)])
            await trio.sleep(60)
            pytest.fail("nobody noticed")

    with pytest.raises(ExceptionGroup) as group:
        await meet()
    assert [type(each) for each in group.value.exceptions] == [SinkLost]
    assert len(case.positions.gaps_first) == 1


async def test_other_peoples_messages_are_said_once(autojump_clock: MockClock) -> None:
    """They give no cursor, and stop nothing."""
    case = Case()
    subscriptions = [
        WANT,
        Subscription(DataType.ORDERBOOK, BTC),
        Subscription(DataType.FUNDING_RATE, BTC),
    ]
    case.stream.store(trade(1))
    for prefix in ("orderbook-data", "funding-rate-data", "data-gap"):
        subject = f"{prefix}.binance.spot.BTC-USDT"
        case.stream.holds[subject] = Stored(subject, 1, None, b"hello")
    with capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(case.connected)
            await case.positions.read(subscriptions)
            nursery.cancel_scope.cancel()
    assert [case.positions.cursor(subscription).last_id for subscription in subscriptions] == [
        1,
        None,
        None,
    ]
    (line,) = (line for line in logs if line["event"] == "restart.foreign_message")
    assert line["log_level"] == "warning"


@pytest.mark.parametrize("number", ["9" * 5000, str(2**63), "-1"])
async def test_a_stored_id_that_is_none_stops_nothing(
    number: str, autojump_clock: MockClock
) -> None:
    """The stream begins afresh, and the sink goes on."""
    case = Case()
    case.stream.store(attrs.evolve(trade(1), trade_id=number))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(case.connected)
        await case.positions.read([WANT])
        assert case.positions.cursor(WANT) == Cursor()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("met", ["before", "after"])
async def test_a_gap_that_cannot_be_encoded_costs_itself(
    met: str, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left of it goes where it was to go; the sink and the pump go on."""
    year_10000 = 253_402_300_800 * SECOND
    gap = Gap(
        BTC, 900, 900, DataType.TRADE, "restart", 100, year_10000, None, None, None, "restart"
    )  # fmt: skip
    monkeypatch.setattr(cursors, "gap_before", lambda *_, **__: gap)
    case = Case()
    case.stream.store(trade(7, at=100))
    await case.positions.read([WANT])
    if met == "before":
        case.pump(trade(10, at=900))
    await case.positions.catch_up(case.stream.last, case.outbox)
    if met == "after":
        case.pump(trade(10, at=900))
    published = case.gaps_first() + case.held()
    assert [record.data_type for record in published] == ["gap", "trade"]
    assert case.board.faults == {"record_unencodable": 1}


async def test_venues_are_answered_one_after_another(autojump_clock: MockClock) -> None:
    """Each is waited for by its own, also when the sink comes later than they ask."""
    case = Case()
    eth = Instrument("binance", "spot", "ETH-USDT", "ETHUSDT")
    other = Subscription(DataType.TRADE, eth)
    case.stream.store(trade(7), Trade(eth, 0, 0, "9", "1", "1", "buy"))
    done: list[Callable[..., object]] = []

    async def ask(subscription: Subscription) -> None:
        await case.positions.read([subscription])
        done.append(ask)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, WANT)
        nursery.start_soon(ask, other)
        await trio.sleep(1)
        assert not done
        nursery.start_soon(case.connected)
        await trio.sleep(1)
        await wait_all_tasks_blocked()
        assert len(done) == 2
        nursery.cancel_scope.cancel()
    assert [case.positions.cursor(subscription).last_id for subscription in (WANT, other)] == [7, 9]
