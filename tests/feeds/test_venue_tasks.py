"""The tasks of a venue over real sockets: what there is, and one session after the other."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
from patience import PATIENCE
from peers import LOCAL, Line, a_world, answer, frame, put, serving, until_blank, websocket
from structlog.testing import capture_logs

from marketprism.clock import Timestamp
from marketprism.feeds import venue_tasks as venues
from marketprism.feeds.actions import Fetch, Fetched, FetchFailed, Output, Priority
from marketprism.feeds.http_answers import usual
from marketprism.feeds.services import Services
from marketprism.feeds.venue import NO_CURSORS, Holding, Poll, Session, Shard
from marketprism.feeds.venue_tasks import run_venue
from marketprism.instruments import Instrument
from marketprism.records import DataType, Gap, Record, Trade
from marketprism.settings.exchanges import Api, Limits, VenueConfig
from marketprism.settings.supervision import BackoffConfig, IntensityConfig, SupervisionConfig
from marketprism.streams.cursor import Cursor
from marketprism.streams.state import Phase, StreamState
from marketprism.streams.subscription import Capability, Stream, Subscription

BTC = Instrument("binance", "spot", "BTC-USDT", "BTCUSDT")
TRADES: Stream = (DataType.TRADE, "BTCUSDT")
MANNERS = Limits(connect_timeout=3, silence_timeout=3, message_interval=0)
POLICY = SupervisionConfig(
    BackoffConfig(first=0.02, cap=0.05), IntensityConfig(restarts=2), refused_retry=0.2
)

Talk = Callable[[Line], Awaitable[None]]


@attrs.define(eq=False)
class OneSession:
    """Each frame is the id of a trade; `bug` is one."""

    url: str
    state: StreamState
    others: dict[Stream, StreamState] = attrs.field(factory=dict)
    """They say nothing."""

    @property
    def streams(self) -> Mapping[Stream, StreamState]:
        return {TRADES: self.state, **self.others}

    def opening(self, now: Timestamp) -> Output:
        self.state.phase = Phase.ACKNOWLEDGED
        return Output()

    def sent(self, number: int, now: Timestamp) -> None:
        raise NotImplementedError

    def receive(self, frames: Sequence[bytes], now: Timestamp) -> Output:
        records: list[Record] = []
        cursor = self.state.cursor
        for each in frames:
            if each == b"bug":
                raise ZeroDivisionError("a bug of ours")
            gap = cursor.close(BTC, DataType.TRADE, now.wall, "test/0")
            if gap is not None:
                records.append(gap)
            records.append(Trade(BTC, now.wall, now.wall, each.decode(), "1", "1", "buy"))
            cursor.received = now.wall
            self.state.records += 1
            self.state.phase, self.state.last_record = Phase.LIVE, now.monotonic
        return Output(records)

    def reply(self, tag: object, answer: Fetched | FetchFailed, now: Timestamp) -> Output:
        return Output()

    def tick(self, now: Timestamp) -> Output:
        return Output()

    def change(
        self,
        add: Sequence[Subscription],
        remove: Sequence[Subscription],
        now: Timestamp,
        cursors: Mapping[Stream, Cursor] = NO_CURSORS,
    ) -> Output:
        for subscription in add:
            state = StreamState(
                subscription.instrument, subscription.data_type, cursors[subscription.stream]
            )
            self.others[subscription.stream] = state
        for subscription in remove:
            del self.others[subscription.stream]
        return Output()

    def renew(self, stream: Stream, now: Timestamp) -> Output:
        return Output()

    def send_snapshot(self, stream: Stream, heals_gap: int, now: Timestamp) -> Output:
        return Output()

    def take_over(self, elder: Session) -> None:
        raise NotImplementedError

    def hand_over(self, stream: Stream) -> object:
        raise NotImplementedError

    def old_gone(self, now: Timestamp) -> Output:
        raise NotImplementedError

    def holding(self) -> Holding:
        return Holding()

    def drop_buffers(self, now: Timestamp) -> None:
        pass


@attrs.define(eq=False)
class OneShard:
    """All on one connection."""

    url: str
    subscriptions: Sequence[Subscription]
    id: str = "test/0"

    def open(self, cursors: Mapping[Stream, Cursor], refused_retry: float = 0.0) -> OneSession:
        return OneSession(self.url, StreamState(BTC, DataType.TRADE, cursors[TRADES]))


@attrs.define(eq=False)
class OneVenue:
    """A venue whose metadata is a list of symbols."""

    rest_port: int
    ws_port: int
    metadata: Sequence[Fetch] = ()
    name: str = "test"
    exchange: str = "binance"
    market_type: str = "spot"
    offers: Mapping[DataType, Capability] = attrs.field(
        factory=lambda: {DataType.TRADE: Capability("stream", 60.0)}
    )
    trade_kinds: Sequence[str] = ("raw",)
    limits: Limits = MANNERS
    unknown: Sequence[str] = ()
    bodies: list[bytes] = attrs.field(factory=list)
    interpret = staticmethod(usual)

    def __attrs_post_init__(self) -> None:
        base = f"http://{LOCAL}:{self.rest_port}"
        self.metadata = (
            Fetch(f"{base}/symbols", priority=Priority.METADATA),
            Fetch(f"{base}/extra", priority=Priority.METADATA, required=False),
        )

    def instruments(self, bodies: Sequence[bytes]) -> list[Instrument]:
        self.bodies = list(bodies)
        if b"?" in bodies[0]:
            raise ValueError("symbols cannot be read")
        names = bodies[0].decode().split()
        return [Instrument("binance", "spot", n, n.replace("-", "")) for n in names]

    def plan(
        self, subscriptions: Sequence[Subscription], current: Sequence[Shard] = ()
    ) -> list[Shard]:
        return [OneShard(f"ws://{LOCAL}:{self.ws_port}/ws", subscriptions)]

    def polls(self, subscriptions: Sequence[Subscription]) -> list[Poll]:
        return []


@attrs.define(eq=False)
class Run:
    """A venue at work."""

    services: Services
    venue: OneVenue
    scope: trio.CancelScope
    error: BaseException | None = None
    ended: trio.Event = attrs.field(factory=trio.Event)

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for something of the real world; sockets tell no event."""
        with trio.fail_after(PATIENCE):
            while not condition():  # noqa: ASYNC110
                await trio.sleep(0.005)

    async def stop(self) -> None:
        """As a signal does it."""
        self.scope.cancel()
        with trio.fail_after(PATIENCE):
            await self.ended.wait()


async def live(line: Line) -> None:
    """A peer that says one trade, and stays."""
    await line.say(frame(b"1"))
    await line.answer_pings()


def talking(*talks: Talk) -> Talk:
    """One after the other, a connection each; the last one for all that follow."""
    left = list(talks)

    async def talk(line: Line) -> None:
        await (left.pop(0) if len(left) > 1 else left[0])(line)

    return talk


def saying(*frames: bytes) -> Talk:
    """Say this, and hang up."""

    async def talk(line: Line) -> None:
        await line.say(*map(frame, frames))

    return talk


@asynccontextmanager
async def running(
    replies: Sequence[bytes] = (answer(200, b"BTC-USDT ETH-USDT"),),
    talk: Talk = live,
    symbols: tuple[str, ...] = ("BTC-USDT",),
    extra: bytes = answer(200, b"extra"),
) -> AsyncIterator[Run]:
    """A venue whose metadata is answered so, the last answer for ever."""
    left = list(replies)

    async def rest(stream: trio.abc.Stream) -> None:
        while request := await until_blank(stream):
            if b"/extra" in request.split(b"\r\n")[0]:
                await stream.send_all(extra)
            else:
                await stream.send_all(left.pop(0) if len(left) > 1 else left[0])

    async with (
        serving(rest) as rest_port,
        serving(websocket(talk)) as ws_port,
        a_world() as services,
    ):
        venue = OneVenue(rest_port, ws_port)
        api = Api(f"http://{LOCAL}:{rest_port}", f"ws://{LOCAL}:{ws_port}")
        settings = VenueConfig("test", api, symbols, (DataType.TRADE,), limits=MANNERS)
        scope = trio.CancelScope()
        run = Run(services, venue, scope)

        async def work() -> None:
            try:
                with scope:
                    async with trio.open_nursery() as feeds:
                        feeds.start_soon(run_venue, venue, settings, services, POLICY, feeds)
            except Exception as error:
                run.error = error
            run.ended.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(work)
            yield run
            nursery.cancel_scope.cancel()


async def test_a_venue_finds_its_instruments_and_its_records_flow() -> None:
    """The board has a row of each thing; the host's budget is the configured share."""
    async with running() as run:
        board = run.services.board
        await run.until(lambda: board.channel.held)
        (record,) = await put(run.services)
        assert isinstance(record, Trade)
        row = board.venues["test"]
        assert (row.state, row.reason, row.instruments, row.unmatched) == ("running", None, 1, [])
        assert set(board.connections) == {"test/0"}
        assert set(board.streams) == {("test", TRADES)}
        assert board.streams["test", TRADES].quiet_limit == 60.0
        host = f"{LOCAL}:{run.venue.rest_port}"
        assert board.hosts[host].weight_limit == 4500


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        (answer(500), "answers with status 500"),
        (answer(200, b"?"), "test: symbols cannot be read"),
        (b"garbage\r\n\r\n", "illegal status line"),
    ],
)
async def test_metadata_is_asked_for_until_it_can_be_had(
    trouble: bytes, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Meanwhile the venue is failing, in words; after it, all is as ever."""
    slow = attrs.evolve(POLICY, backoff=BackoffConfig(first=0.5, cap=0.5))
    monkeypatch.setitem(globals(), "POLICY", slow)  # long enough to be seen failing
    reasons: list[str] = []

    async with running([*[trouble] * 4, answer(200, b"BTC-USDT")]) as run:
        rows = run.services.board.venues

        def runs() -> bool:
            if "test" in rows and rows["test"].reason:
                assert rows["test"].state == "failing"
                reasons.append(str(rows["test"].reason))
            return "test" in rows and rows["test"].state == "running"

        await run.until(runs)
        assert rows["test"].reason is None
        assert words in reasons[0]


async def test_metadata_that_is_not_required_may_fail() -> None:
    """The venue gets nothing in its place, and starts."""
    async with running(extra=answer(500)) as run:
        await run.until(lambda: run.services.board.channel.held)
        assert run.venue.bodies == [b"BTC-USDT ETH-USDT", b""]


async def test_symbols_that_the_exchange_has_not_are_told() -> None:
    """On the board and in the log, with the nearest that it has; the others are collected."""
    with capture_logs() as logs:
        async with running(symbols=("BTC-USDT", "BTC-EUR", "X*")) as run:
            await run.until(lambda: run.services.board.channel.held)
            row = run.services.board.venues["test"]
            assert (row.state, row.instruments) == ("running", 1)
            assert row.unmatched == ["BTC-EUR", "X*"]
            assert row.nearest == {"BTC-EUR": ["BTC-USDT"], "X*": []}
    unknown = {line["symbol"]: line["nearest"] for line in logs if "symbol" in line}
    assert unknown == {"BTC-EUR": ["BTC-USDT"], "X*": []}


async def test_of_two_instruments_of_one_symbol_the_second_is_refused_by_name() -> None:
    """In the log and on the board; only the first is collected."""
    with capture_logs() as logs:
        async with running([answer(200, b"BTC-USDT BTCU-SDT ETH-USDT eth-USDT")]) as run:
            await run.until(lambda: run.services.board.channel.held)
            row = run.services.board.venues["test"]
            assert row.instruments == 1
            words = "BTC-USDT is BTCUSDT: BTCUSDT has that name too, refused"
            assert row.collisions == [words]
            assert set(run.services.board.streams) == {("test", TRADES)}
    assert [line["reason"] for line in logs if line["event"] == "symbol.collision"] == [words]


async def test_a_venue_without_any_of_the_symbols_is_refused() -> None:
    """Said once in the log; tried again, slowly: a listing may come."""
    nothing, something = answer(200, b"ETH-USDT"), answer(200, b"BTC-USDT")
    with capture_logs() as logs:
        async with running([nothing, nothing, something]) as run:
            rows = run.services.board.venues
            await run.until(lambda: rows and rows["test"].state == "refused")
            began = trio.current_time()
            words = str(rows["test"].reason)
            assert words == "test has none of the configured symbols: BTC-USDT"
            await run.until(lambda: rows["test"].state == "running")
            assert trio.current_time() - began >= POLICY.refused_retry
            assert rows["test"].reason is None
    assert [line["event"] for line in logs].count("venue.refused") == 1


async def test_a_list_that_cannot_be_read_again_costs_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is known holds and is collected; it is asked for until it can be read."""
    monkeypatch.setattr(venues, "LOOK_SECONDS", 0.01)
    listed, trouble = answer(200, b"BTC-USDT"), answer(500)
    later = answer(200, b"BTC-USDT BTC-EUR")
    with capture_logs() as logs:
        async with running(
            [listed, trouble, answer(200, b"?"), trouble, later], symbols=("BTC-USDT", "BTC-EUR")
        ) as run:
            await run.until(lambda: run.services.board.channel.held)
            row, stream = (
                run.services.board.venues["test"],
                run.services.board.streams["test", TRADES],
            )
            states = set()

            def complete() -> bool:
                states.add((row.state, stream.state))
                return not row.unmatched

            await run.until(complete)
            assert states == {("running", "live")}
            assert run.services.board.connections["test/0"].connects == 1
    events = [line["event"] for line in logs]
    assert events.count("venue.started") == events.count("symbol.unknown") == 1
    assert [line["symbol"] for line in logs if line["event"] == "market.listed"] == ["BTC-EUR"]
    # Each reason once.
    assert events.count("metadata.not_read") == 2


async def test_a_stream_is_one_row_over_a_reconnect() -> None:
    """Its counts go on; between two sessions it is disconnected; the gap is between the records."""
    again = trio.Event()

    async def waits(line: Line) -> None:
        await again.wait()
        await live(line)

    with capture_logs() as logs:
        async with running(talk=talking(saying(b"1", b"2"), waits)) as run:
            board = run.services.board
            await run.until(lambda: board.channel.held == 2)
            row, stream = board.connections["test/0"], board.streams["test", TRADES]
            await run.until(lambda: row.state == "waiting" or row.attempts == 2)
            assert stream.cursor is not None
            await run.until(lambda: row.connects == 2)
            assert stream.cursor.gap is not None
            assert (stream.state, stream.records, row.reason) == ("acknowledged", 2, None)
            again.set()
            await run.until(lambda: board.channel.held == 4)
            assert (stream.state, stream.records) == ("live", 3)
            assert (row.state, row.reconnects, row.attempts) == ("connected", 1, 2)
            records = await put(run.services)
            await run.stop()
            assert row.state == "stopped"
    kinds = [record.data_type for record in records]
    assert kinds == ["trade", "trade", "gap", "trade"]
    assert isinstance(records[2], Gap)
    assert records[2].reason == "disconnect"
    assert records[2].started_at >= records[1].collected_at
    assert "feed.disconnected" in [line["event"] for line in logs]


async def test_a_connection_that_waits_says_why() -> None:
    """The row has the words of the last end, and its streams are disconnected."""
    async with running(talk=saying(b"1")) as run:
        board = run.services.board
        seen = set()

        def waited() -> bool:
            row = board.connections.get("test/0")
            if row is not None and row.state == "waiting":
                assert "closed: 1006" in str(row.reason)
                assert row.connected_since is None
                seen.add(board.streams["test", TRADES].state)
            return bool(seen)

        await run.until(waited)
        assert seen == {"disconnected"}


async def test_a_bug_is_told_with_its_traceback_and_borne() -> None:
    """The session starts afresh; what was missed is a gap."""
    with capture_logs() as logs:
        async with running(talk=talking(saying(b"1", b"2"), saying(b"bug"), live)) as run:
            board = run.services.board
            await run.until(lambda: board.channel.held >= 4)
            kinds = [record.data_type for record in await put(run.services)]
            assert kinds == ["trade", "trade", "gap", "trade"]
    (line,) = (line for line in logs if line["event"] == "task.failed")
    assert (line["task"], line["reason"]) == ("test/0", "ZeroDivisionError: a bug of ours")
    assert isinstance(line["exc_info"], BaseException)


async def test_bugs_beyond_the_intensity_end_it_all() -> None:
    """Two are borne; the third leaves, and what is open is published before."""
    with capture_logs() as logs:
        async with running(talk=talking(saying(b"1"), saying(b"bug"))) as run:
            with trio.fail_after(PATIENCE):
                await run.ended.wait()
            records = await put(run.services)
            assert run.services.board.connections["test/0"].state == "stopped"
    assert isinstance(run.error, ExceptionGroup)
    assert run.error.subgroup(ZeroDivisionError) is not None
    assert [record.data_type for record in records] == ["trade", "gap"]
    events = [line["event"] for line in logs]
    assert (events.count("task.failed"), events.count("task.given_up")) == (3, 1)


async def test_gaps_that_are_open_are_published_at_the_stop() -> None:
    """Ended now, `lost` unknown; nobody will see their end any more."""

    async def mute(line: Line) -> None:
        await line.answer_pings()

    async with running(talk=talking(saying(b"1"), mute)) as run:
        board = run.services.board
        await run.until(lambda: "test/0" in board.connections)
        await run.until(lambda: board.connections["test/0"].connects == 2)
        await run.stop()
        trade, gap = await put(run.services)
    assert run.error is None
    assert isinstance(gap, Gap)
    assert (gap.reason, gap.affected, gap.connection) == ("disconnect", DataType.TRADE, "test/0")
    assert (gap.lost, gap.first_missing_id, gap.last_missing_id) == (None, None, None)
    assert trade.collected_at <= gap.started_at <= gap.ended_at


async def test_a_stop_without_a_loss_publishes_no_gap() -> None:
    """What was read is all there is."""
    async with running() as run:
        await run.until(lambda: run.services.board.channel.held)
        await run.stop()
        assert [record.data_type for record in await put(run.services)] == ["trade"]
