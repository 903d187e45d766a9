"""One connection over real sockets, from dial to death: how it ends, and what is left of it."""

import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
from patience import PATIENCE
from peers import (
    LOCAL,
    Handler,
    Line,
    Proxy,
    a_world,
    accepted,
    answer,
    frame,
    put,
    serving,
    until_blank,
    websocket,
)
from ports import free_port
from structlog.testing import capture_logs

from marketprism.board.rows import ConnectionRow
from marketprism.clock import Timestamp
from marketprism.errors import Lost, Quiet, RateLimited, Refused, Transient
from marketprism.feeds import liveness, sending
from marketprism.feeds.actions import (
    Action,
    Close,
    Fetch,
    Fetched,
    FetchFailed,
    Output,
    Park,
    Reject,
    Rotate,
    Send,
)
from marketprism.feeds.connection import Connection
from marketprism.feeds.freshness import Freshness
from marketprism.feeds.services import Services
from marketprism.feeds.venue import NO_CURSORS, Holding, Session
from marketprism.instruments import Instrument
from marketprism.records import DataType, Gap, Record, Trade
from marketprism.settings.exchanges import Limits
from marketprism.settings.settings import ProxyConfig
from marketprism.settings.supervision import FreshnessConfig
from marketprism.streams.cursor import Cursor
from marketprism.streams.exchange_clock import ExchangeClock
from marketprism.streams.state import Phase, StreamState
from marketprism.streams.subscription import Capability, Stream, Subscription

BTC = Instrument("binance", "spot", "BTC-USDT", "BTCUSDT")
QUICK = Limits(connect_timeout=0.3, silence_timeout=0.3, message_interval=0.0)
CALM = Limits(connect_timeout=PATIENCE, silence_timeout=PATIENCE, message_interval=0.0)

Talk = Callable[[Line], Awaitable[None]]


def trade(number: int, at: int = 0) -> Trade:
    """A trade that is told by its id."""
    return Trade(BTC, at, at, str(number), "1", "1", "buy")


def gap() -> Gap:
    """A gap: the trades 3 and 4 are missing."""
    return Gap(BTC, 9, 9, DataType.TRADE, "sequence", 3, 9, 3, 4, 2, "test/0")


def trades(frames: Sequence[bytes]) -> Output:
    """Each frame is the id of a trade."""
    return Output([trade(int(each)) for each in frames])


@attrs.define(eq=False)
class Script:
    """A session which does as a test says, and notes what it is told."""

    url: str = ""
    first: list[Action] = attrs.field(factory=list)
    """What `opening` asks for."""
    each: Callable[[Sequence[bytes]], Output] = trades
    """What follows from frames."""
    ticks: Callable[[], Output] = Output
    streams: dict[Stream, StreamState] = attrs.field(factory=dict)
    told: list[str] = attrs.field(factory=list)
    """`opening`, `receive`, in their order."""
    answers: list[tuple[object, Fetched | FetchFailed]] = attrs.field(factory=list)

    def opening(self, now: Timestamp) -> Output:
        self.told.append("opening")
        return Output(actions=self.first)

    def sent(self, number: int, now: Timestamp) -> None:
        self.told.append(f"sent {number}")

    def receive(self, frames: Sequence[bytes], now: Timestamp) -> Output:
        self.told.append("receive")
        return self.each(frames)

    def reply(self, tag: object, answer: Fetched | FetchFailed, now: Timestamp) -> Output:
        self.answers.append((tag, answer))
        return Output([trade(99)])

    def tick(self, now: Timestamp) -> Output:
        return self.ticks()

    def change(
        self,
        add: Sequence[Subscription],
        remove: Sequence[Subscription],
        now: Timestamp,
        cursors: Mapping[Stream, Cursor] = NO_CURSORS,
    ) -> Output:
        return Output()

    def renew(self, stream: Stream, now: Timestamp) -> Output:
        return Output()

    def send_snapshot(self, stream: Stream, heals_gap: int, now: Timestamp) -> Output:
        return Output()

    def take_over(self, elder: Session) -> None:
        self.told.append("adopt")

    def hand_over(self, stream: Stream) -> object:
        return self.streams.pop(stream)

    def old_gone(self, now: Timestamp) -> Output:
        self.told.append("inherit")
        return Output([trade(98)])

    def holding(self) -> Holding:
        return Holding()

    def drop_buffers(self, now: Timestamp) -> None:
        pass


@attrs.define(eq=False)
class Life:
    """A connection of a test, and how it ended."""

    session: Script
    row: ConnectionRow
    services: Services
    elder: Script | None = None
    freshness: Freshness | None = None
    changes: int = 0
    connection: Connection | None = None
    productive: int = 0
    error: Exception | None = None
    ended: trio.Event = attrs.field(factory=trio.Event)

    @property
    def host(self) -> str:
        return self.session.url.split("/")[2]

    def produced(self) -> None:
        self.productive += 1

    def changed(self) -> None:
        self.changes += 1

    async def run(self, limits: Limits) -> None:
        self.connection = Connection(
            self.session,
            self.row,
            limits,
            self.services,
            self.produced,
            self.freshness,
            self.changed,
            self.elder,
        )
        try:
            await self.connection.run()
        except Exception as error:
            self.error = error
        self.ended.set()

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for something of the real world; sockets tell no event."""
        with trio.fail_after(PATIENCE):
            while not condition():  # noqa: ASYNC110
                await trio.sleep(0.01)


@asynccontextmanager
async def connected(
    handler: Handler,
    session: Script | None = None,
    limits: Limits = CALM,
    proxy: ProxyConfig | None = None,
    capacity: int = 1000,
    elder: Script | None = None,
    freshness: Freshness | None = None,
) -> AsyncIterator[Life]:
    """A connection to a server; both end with the context, if not before."""
    script = session or Script()
    async with serving(handler) as port, a_world(proxy=proxy, capacity=capacity) as services:
        script.url = script.url or f"ws://{LOCAL}:{port}/ws?streams=x"
        row = ConnectionRow("test/0", "test", "binance", "spot", script.url)
        life = Life(script, row, services, elder, freshness)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(life.run, limits)
            yield life
            nursery.cancel_scope.cancel()


async def end(
    handler: Handler,
    session: Script | None = None,
    limits: Limits = CALM,
    proxy: ProxyConfig | None = None,
) -> Life:
    """The whole life of a connection that ends by itself, its records in the outlet."""
    async with connected(handler, session, limits, proxy) as life:
        with trio.fail_after(PATIENCE):
            await life.ended.wait()
    assert life.row.connected_since is None
    return life


async def mute(stream: trio.abc.Stream) -> None:
    """Take what comes, and say nothing."""
    while await stream.receive_some():
        pass


async def silence(line: Line) -> None:
    """Stand, and say nothing: not even to a ping."""
    await trio.sleep_forever()


def saying(*frames: bytes) -> Talk:
    """Say this, and hang up."""

    async def talk(line: Line) -> None:
        await line.say(*frames)

    return talk


def staying(*frames: bytes) -> Talk:
    """Say this, and live on."""

    async def talk(line: Line) -> None:
        await line.say(*frames)
        await line.answer_pings()

    return talk


# How it begins.


async def test_a_peer_that_never_answers_the_handshake_is_given_up() -> None:
    """Within `connect_timeout`; its socket is closed, and no task is left."""
    gone = trio.Event()

    async def handler(stream: trio.abc.Stream) -> None:
        await mute(stream)
        gone.set()

    async with connected(handler, limits=QUICK) as life:
        began = trio.current_time()
        with trio.fail_after(PATIENCE):
            await life.ended.wait()
            await gone.wait()
        assert 0.25 < trio.current_time() - began < 5
    assert isinstance(life.error, Lost)
    assert str(life.error) == f"{life.host}: no connection in time"
    row = life.services.board.hosts[life.host]
    assert (row.reachable, row.reason) == (False, "no connection in time")
    assert life.session.told == []


async def test_a_handshake_that_comes_in_drops_is_given_up() -> None:
    """Each byte is not a reason to wait longer."""

    async def handler(stream: trio.abc.Stream) -> None:
        reply = accepted(await until_blank(stream))
        for number in range(len(reply)):
            await stream.send_all(reply[number : number + 1])
            await trio.sleep(0.05)

    life = await end(handler, limits=QUICK)
    assert "no connection in time" in str(life.error)


@pytest.mark.parametrize(
    ("status", "kind", "words", "reachable"),
    [
        (403, Refused, "refuses us with status 403", True),
        (451, Refused, "refuses us with status 451", True),
        (429, RateLimited, "too many connections, status 429", True),
        (500, Lost, "answered the handshake with status 500", False),
    ],
)
@pytest.mark.parametrize("body", [b"", b"words \x81\x01x"])
async def test_a_handshake_that_is_refused_is_concluded_by_its_status(
    status: int, kind: type[Exception], words: str, reachable: bool, body: bytes
) -> None:
    """With a body or none; the board says what it said, the host's name in no words of its row."""

    async def handler(stream: trio.abc.Stream) -> None:
        await until_blank(stream)
        await stream.send_all(answer(status, body, Retry_After="7"))

    life = await end(handler)
    assert type(life.error) is kind
    assert words in str(life.error)
    if isinstance(life.error, Transient):
        assert life.error.retry_after == (7.0 if status == 429 else None)
    row = life.services.board.hosts[life.host]
    assert row.reachable is reachable
    assert words in str(row.reason)
    assert life.host not in str(row.reason)


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"garbage\r\n\r\n",
        b"\xff" * 500,
        b"HTTP/1.1 101 Yes\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"HTTP/1.1 101 Yes\r\nSec-WebSocket-Accept: wrong\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nx",
        b"HTTP/1.1 403 No\r\nContent-Length: 99\r\n\r\nx",
    ],
)
async def test_a_handshake_that_is_none_is_lost(reply: bytes) -> None:
    """Cut off, garbage, not for us: the world, and no library's error escapes."""

    async def handler(stream: trio.abc.Stream) -> None:
        await until_blank(stream)
        await stream.send_all(reply)

    life = await end(handler)
    assert isinstance(life.error, Lost)
    assert life.session.told == []


async def test_a_host_that_cannot_be_reached_is_on_the_board() -> None:
    """In the same words as the error's."""
    session = Script(url=f"ws://{LOCAL}:{free_port()}/")
    life = await end(mute, session)
    assert str(life.error) == f"{life.host}: it refuses the connection"
    assert life.services.board.hosts[life.host].reason == "it refuses the connection"


@pytest.mark.parametrize("count", [1, 3])
async def test_what_follows_the_handshake_at_once_is_not_lost(count: int) -> None:
    """In the same segment; the session is told of the connection before it gets frames of it."""

    async def handler(stream: trio.abc.Stream) -> None:
        frames = b"".join(frame(str(n).encode()) for n in range(count))
        await stream.send_all(accepted(await until_blank(stream)) + frames)

    life = await end(handler)
    assert await put(life.services) == [trade(n) for n in range(count)]
    assert life.session.told == ["opening", "receive"]
    assert (life.row.connects, life.row.frames) == (1, count)


async def test_the_request_is_what_the_session_names() -> None:
    """Path, query and host; and the opening's words follow the handshake."""
    heads: list[bytes] = []
    heard: list[tuple[int, bytes]] = []

    async def handler(stream: trio.abc.Stream) -> None:
        heads.append(await until_blank(stream))
        await stream.send_all(accepted(heads[0]))
        line = Line(stream)
        heard.extend([await line.hear(), await line.hear()])

    session = Script(first=[Send("one"), Send("two")])
    life = await end(handler, session)
    assert heads[0].startswith(b"GET /ws?streams=x HTTP/1.1\r\n")
    assert f"\r\nHost: {life.host}\r\n".encode() in heads[0]
    assert heard == [(1, b"one"), (1, b"two")]


@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_a_proxy_is_used_where_one_is_configured(scheme: str) -> None:
    """The host's name is left for it to resolve."""
    async with serving(websocket(saying(frame(b"1")))) as target:
        proxy = Proxy(target)
        async with serving(proxy) as port:
            config = ProxyConfig(all=f"{scheme}://{LOCAL}:{port}")
            session = Script(url="ws://exchange.invalid:9443/ws")
            life = await end(mute, session, proxy=config)
    assert proxy.asked == ["exchange.invalid:9443"]
    assert await put(life.services) == [trade(1)]


# How it ends.


async def test_a_connection_without_frames_is_quiet() -> None:
    """Half-open, or an exchange that has forgotten us: within `silence_timeout`."""
    life = await end(websocket(silence), limits=QUICK)
    assert isinstance(life.error, Quiet)
    assert str(life.error) == "nothing came for 0.3 s"


async def test_each_frame_puts_the_silence_off() -> None:
    """From the last one on it counts."""
    times: list[float] = []

    async def talk(line: Line) -> None:
        for number in range(4):
            await line.say(frame(str(number).encode()))
            times.append(trio.current_time())
            await trio.sleep(0.15)
        await trio.sleep_forever()

    life = await end(websocket(talk), limits=QUICK)
    assert isinstance(life.error, Quiet)
    assert trio.current_time() - times[-1] >= 0.25
    assert len(await put(life.services)) == 4


async def test_a_peer_that_answers_no_ping_and_says_nothing_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A half-open connection shows here first."""
    monkeypatch.setattr(liveness, "PING_EVERY", 0.1)
    monkeypatch.setattr(liveness, "PONG_WITHIN", 0.2)
    life = await end(websocket(silence))
    assert isinstance(life.error, Quiet)
    assert str(life.error) == "no answer to a ping for 0.2 s"


async def test_a_pong_that_never_comes_ends_nothing_while_data_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What delivers is alive: the next ping is sent, and the next."""
    monkeypatch.setattr(liveness, "PING_EVERY", 0.05)
    monkeypatch.setattr(liveness, "PONG_WITHIN", 0.2)
    pinged = trio.Event()

    async def talk(line: Line) -> None:
        async def tell() -> None:
            while True:
                await line.say(frame(b"1"))
                await trio.sleep(0.01)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(tell)
            pings = 0
            while pings < 4:
                opcode, _ = await line.hear()
                pings += opcode == 9
            pinged.set()
            await trio.sleep_forever()

    async with connected(websocket(talk)) as life:
        with trio.fail_after(PATIENCE):
            await pinged.wait()
        assert not life.ended.is_set()


async def test_a_session_hears_when_what_it_says_leaves() -> None:
    """Not when it asked for it: the second one waits for its turn here."""
    heard = trio.Event()

    async def talk(line: Line) -> None:
        opcode, payload = await line.hear()
        assert (opcode, payload) == (1, b"first")
        heard.set()
        await line.answer_pings()

    session = Script(first=[Send("first", 7), Send("second", 8)])
    limits = attrs.evolve(CALM, message_interval=600)
    async with connected(websocket(talk), session, limits):
        with trio.fail_after(PATIENCE):
            await heard.wait()
        assert session.told == ["opening", "sent 7"]


async def test_pings_of_both_sides_are_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that answers lives on; so does ours for the peer."""
    monkeypatch.setattr(liveness, "PING_EVERY", 0.05)
    monkeypatch.setattr(liveness, "PONG_WITHIN", 0.2)
    pinged, ponged = trio.Event(), trio.Event()

    async def talk(line: Line) -> None:
        await line.say(frame(b"hello", 9))
        for _ in range(10):
            opcode, payload = await line.hear()
            if opcode == 9:
                pinged.set()
                await line.say(frame(payload, 10))
            elif (opcode, payload) == (10, b"hello"):
                ponged.set()
        await line.answer_pings()

    async with connected(websocket(talk)) as life:
        with trio.fail_after(PATIENCE):
            await pinged.wait()
            await ponged.wait()
        await trio.sleep(0.4)
        assert not life.ended.is_set()


@pytest.mark.parametrize(
    ("wire", "words"),
    [
        (frame(b"\x03\xe8", 8), "closed: 1000"),
        (frame(b"\x03\xf4" + b"we rotate", 8), "closed: 1012 we rotate"),
        (b"", "closed: 1006"),
        (frame(b"\xff\xfe"), "closed: 1007"),
        (b"\x83\x00", "closed: 1002"),
        (b"\xff" * 300, "closed: 100"),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", "closed: 100"),
        (b"\x81\x7f" + (17 * 2**20).to_bytes(8) + b"x" * 1000, "closed: 100"),
    ],
    ids=["close", "with words", "cut off", "not UTF-8", "opcode", "ones", "HTTP", "huge"],
)
async def test_an_end_is_a_loss_in_words(wire: bytes, words: str) -> None:
    """What came before is ours; the way it ended is what the log and the board say."""
    with capture_logs() as logs:
        life = await end(websocket(saying(frame(b"1"), wire)))
    assert isinstance(life.error, Lost)
    assert str(life.error).startswith(words)
    assert await put(life.services) == [trade(1)]
    events = {line["event"]: line for line in logs}
    assert events["feed.disconnected"]["reason"] == str(life.error)
    assert life.services.board.hosts[life.host].reachable


async def test_a_peer_that_says_goodbye_and_stays_is_left() -> None:
    """A closed websocket over an open socket is of no use."""
    life = await end(websocket(staying(frame(b"\x03\xe8", 8))))
    assert str(life.error).startswith("closed: 1000")


@pytest.mark.parametrize("kind", ["one", "fragments"])
async def test_a_message_above_the_limit_ends_it(kind: str) -> None:
    """In one frame or in fragments without end; the peer is told 1009."""
    limits = attrs.evolve(CALM, max_message_bytes=300)
    codes: list[bytes] = []

    async def talk(line: Line) -> None:
        await line.say(frame(b"1"))
        if kind == "one":
            await line.say(b"\x81\x7e\x01\x2d" + b"7" * 301)
            return
        for number in range(4):
            await line.say(frame(b"7" * 100, 0 if number else 1, final=False))

    async def handler(stream: trio.abc.Stream) -> None:
        await stream.send_all(accepted(await until_blank(stream)))
        line = Line(stream)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(talk, line)
            opcode, payload = await line.hear()
            codes.append(payload[:2])
            assert opcode == 8
            nursery.cancel_scope.cancel()

    life = await end(handler, limits=limits)
    assert isinstance(life.error, Lost)
    assert str(life.error).startswith("closed: 1009")
    assert codes == [(1009).to_bytes(2)]
    assert await put(life.services) == [trade(1)]


async def test_a_reset_is_lost() -> None:
    """As a middle box does it."""

    async def handler(stream: trio.abc.Stream) -> None:
        await stream.send_all(accepted(await until_blank(stream)) + frame(b"1"))
        await trio.sleep(0.05)
        assert isinstance(stream, trio.SocketStream)
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    life = await end(handler)
    assert isinstance(life.error, Lost)
    assert await put(life.services) == [trade(1)]


async def test_a_peer_that_does_not_read_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written piles up until a ping has no answer, or the queue is full."""
    monkeypatch.setattr(liveness, "PING_EVERY", 0.1)
    monkeypatch.setattr(liveness, "PONG_WITHIN", 0.2)
    session = Script(first=[Send("x" * 2**20)] * 40)
    life = await end(websocket(silence), session)
    assert isinstance(life.error, Quiet)


async def test_more_to_say_than_the_queue_holds_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """It never waits, and never grows without end."""
    monkeypatch.setattr(sending, "WRITES_WAITING", 10)
    session = Script(first=[Send("x")] * 11)
    life = await end(websocket(silence), session)
    assert isinstance(life.error, Lost)
    assert "more to send" in str(life.error)


async def test_a_session_that_closes_has_its_records_out_first() -> None:
    """`Close` beside records: they were good."""

    def each(frames: Sequence[bytes]) -> Output:
        return Output([trade(1), trade(2)], [Close(Lost("serverShutdown", retry_after=3))])

    life = await end(websocket(staying(frame(b"x"), frame(b"y"))), Script(each=each))
    assert isinstance(life.error, Lost)
    assert (str(life.error), life.error.retry_after) == ("serverShutdown", 3)
    assert await put(life.services) == [trade(1), trade(2)]


async def test_a_connection_that_ends_for_asking_too_much_keeps_others_away() -> None:
    """Though it stood: the host is left alone by all, and that is on the board."""

    def each(frames: Sequence[bytes]) -> Output:
        return Output(actions=[Close(RateLimited("too_many_requests", retry_after=60))])

    life = await end(websocket(staying(frame(b"x"))), Script(each=each))
    assert isinstance(life.error, RateLimited)
    now = life.services.now().monotonic
    assert life.services.hosts.stop_of(life.host).wait(now) > 50 * 10**9
    row = life.services.board.hosts[life.host]
    assert (row.reason, row.blocked_until > now) == ("too_many_requests", True)


async def test_a_bug_of_a_session_leaves_as_itself() -> None:
    """Whatever called it: it must not be taken for the world's weather."""

    def fails(*_: object) -> Output:
        raise ZeroDivisionError

    for session in (Script(each=fails), Script(ticks=fails)):
        life = await end(websocket(staying(frame(b"1"))), session)
        assert isinstance(life.error, ExceptionGroup)
        assert life.error.subgroup(ZeroDivisionError) is not None


# What it does meanwhile.


async def test_cancelling_loses_nothing_that_was_read() -> None:
    """Whatever the session was told of is in the outlet, in order, and the peer sees the end."""
    gone = trio.Event()
    read: list[int] = []

    def each(frames: Sequence[bytes]) -> Output:
        read.extend(map(int, frames))
        return trades(frames)

    async def talk(line: Line) -> None:
        async with trio.open_nursery() as nursery:

            async def flood() -> None:
                number = 0
                while True:
                    await line.say(*(frame(str(number + n).encode()) for n in range(50)))
                    number += 50

            nursery.start_soon(flood)
            with trio.move_on_after(PATIENCE):
                try:
                    await line.hear()
                except (trio.ClosedResourceError, trio.BrokenResourceError):
                    gone.set()
            nursery.cancel_scope.cancel()

    async with connected(websocket(talk), Script(each=each), capacity=10**6) as life:
        await life.until(lambda: len(read) > 2000)
    assert read == list(range(len(read)))
    assert await put(life.services) == [trade(n) for n in read]
    assert life.row.frames == len(read)
    assert gone.is_set() or life.ended.is_set()


async def test_sends_are_paced() -> None:
    """`message_interval` between two of them: exchanges hang up on who is faster."""
    times: list[float] = []

    async def talk(line: Line) -> None:
        for _ in range(4):
            await line.hear()
            times.append(trio.current_time())

    limits = attrs.evolve(CALM, message_interval=0.1)
    session = Script(first=[Send(str(n)) for n in range(4)])
    began = trio.current_time()
    await end(websocket(talk), session, limits)
    # A busy machine may hear several of them together.
    assert all(at - began >= 0.1 * number for number, at in enumerate(times))
    assert len(times) == 4


async def test_the_answer_to_a_fetch_reaches_the_session() -> None:
    """Under its tag; its records go out; what is to be said before is said on this connection."""
    heard: list[bytes] = []

    async def rest(stream: trio.abc.Stream) -> None:
        await until_blank(stream)
        assert heard == [b"subscribe"]
        await stream.send_all(answer(200, b"snapshot"))

    async def talk(line: Line) -> None:
        heard.append((await line.hear())[1])
        await line.answer_pings()

    async with serving(rest) as port:
        fetch = Fetch(f"http://{LOCAL}:{port}/", tag=("BTC", 1), before=Send("subscribe"))
        session = Script(first=[fetch])
        async with connected(websocket(talk), session) as life:
            await life.until(lambda: session.answers)
            ((tag, got),) = session.answers
            assert tag == ("BTC", 1)
            assert isinstance(got, Fetched)
            assert got.body == b"snapshot"
            assert await put(life.services) == [trade(99)]


async def test_a_fetch_that_fails_is_the_sessions_to_judge() -> None:
    """The connection stands; one host's trouble is not the other's."""
    fetch = Fetch(f"http://{LOCAL}:{free_port()}/", tag="x")
    session = Script(first=[fetch])
    async with connected(websocket(staying()), session) as life:
        await life.until(lambda: session.answers)
        assert isinstance(session.answers[0][1], FetchFailed)
        assert not life.ended.is_set()


async def test_rejected_frames_are_counted_and_three_of_a_kind_are_shown() -> None:
    """By their reason; their neighbours' records go out."""

    def each(frames: Sequence[bytes]) -> Output:
        turn = Output()
        for text in frames:
            if text.isdigit():
                turn.records.append(trade(int(text)))
            else:
                turn.actions.append(Reject(text.decode(), "why", text))
        return turn

    wire = [frame(each) for each in (b"1", *[b"odd"] * 5, b"2", b"even", b"3")]
    with capture_logs() as logs:
        life = await end(websocket(saying(*wire)), Script(each=each))
    assert await put(life.services) == [trade(1), trade(2), trade(3)]
    assert life.services.board.rejected == {("test", "odd"): 5, ("test", "even"): 1}
    shown = [line["sample"] for line in logs if line["event"] == "frame.rejected"]
    assert sorted(shown) == ["even", "odd", "odd", "odd"]
    assert isinstance(life.error, Lost)


async def test_records_are_counted_by_origin() -> None:
    """Those that were received; gaps are ours, and go out with them in their order."""

    def each(frames: Sequence[bytes]) -> Output:
        records: list[Record] = [trade(2), gap(), trade(5)]
        return Output(records, [Park((DataType.TRADE, "ETHUSDT"), "unknown symbol")])

    with capture_logs() as logs:
        life = await end(websocket(saying(frame(b"x"))), Script(each=each))
    assert await put(life.services) == [trade(2), gap(), trade(5)]
    board = life.services.board
    assert board.received == {("binance", "spot", "trade"): 2}
    assert life.productive == 1
    events = {line["event"]: line for line in logs}
    assert events["stream.parked"]["instrument"] == "ETHUSDT"
    assert board.transit_of("binance").count == 3


async def test_each_batch_tells_the_exchange_s_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the stamp of its first record: that of a gap is our own. All streams share that clock."""
    learnt: list[int] = []
    monkeypatch.setattr(ExchangeClock, "learn", lambda _, stamp, now: learnt.append(stamp))
    batches: dict[bytes, list[Record]] = {
        b"a": [trade(7), trade(8)],
        b"b": [gap(), trade(9)],
        b"c": [trade(10)],
    }
    life = await end(
        websocket(saying(*map(frame, batches))),
        Script(each=lambda frames: Output([r for text in frames for r in batches[text]])),
    )
    # A busy machine may hear several of them together.
    assert learnt[0] == trade(7).timestamp
    assert set(learnt) <= {trade(7).timestamp, trade(10).timestamp}
    clock = life.services.board.clocks["binance"]
    subscriptions = [Subscription(each, BTC) for each in (DataType.TRADE, DataType.ORDERBOOK)]
    assert all(life.services.cursor(subscription).clock is clock for subscription in subscriptions)


async def test_the_session_is_ticked_without_frames() -> None:
    """Every quarter of a second, and what follows is done."""
    ticks = iter(range(100))
    life = await end(
        websocket(staying()),
        Script(ticks=lambda: Output([trade(n := next(ticks))], [Close(Lost("x"))] if n else [])),
    )
    assert await put(life.services) == [trade(0), trade(1)]


async def test_its_row_says_where_it_stands() -> None:
    """For people, and for /connections."""
    async with connected(websocket(staying(frame(b"1"), frame(b"2")))) as life:
        await life.until(lambda: life.row.frames == 2)
        row = life.row
        assert (row.state, row.connects, row.reconnects) == ("connected", 1, 0)
        assert row.connected_since is not None
        assert row.last_message is not None
        assert row.connected_since <= row.last_message <= life.services.now().monotonic


async def test_what_the_channel_lost_is_confessed_when_there_is_room() -> None:
    """Without a record coming: the ticks do it."""
    numbers = [frame(str(n).encode()) for n in range(6)]
    async with connected(websocket(staying(*numbers)), capacity=4) as life:
        await life.until(lambda: life.row.frames == 6)
        assert len(await put(life.services)) == 4
        await life.until(lambda: life.services.board.channel.held)
        (confession,) = await put(life.services)
    assert isinstance(confession, Gap)
    assert (confession.reason, confession.lost, confession.first_missing_id) == ("overflow", 2, 4)


# Two connections


async def test_an_announced_end_is_told_once_and_ends_nothing() -> None:
    """Whoever keeps the connection is told to look; records and connection go on."""

    def each(frames: Sequence[bytes]) -> Output:
        return Output([trade(int(number)) for number in frames], [Rotate("maintenance")])

    talk = staying(frame(b"1"), frame(b"2"))
    async with connected(websocket(talk), Script(each=each)) as life:
        await life.until(lambda: life.services.board.channel.held == 2)
        assert life.connection is not None
        assert life.connection.announced == "maintenance"
        # It stands; its end is announced.
        assert life.changes == 2
        assert life.connection.stands
        assert not life.ended.is_set()


async def test_what_a_ping_proves_is_noted_for_the_streams_it_owns() -> None:
    """Asked at once; what was sent before the question has come. The elder's are the elder's."""
    state, other = (StreamState(BTC, DataType.TRADE, Cursor()) for _ in range(2))
    mine, its = (DataType.TRADE, "BTCUSDT"), (DataType.TRADE, "ETHUSDT")
    script = Script(streams={mine: state, its: other})
    elder = Script(streams={its: StreamState(BTC, DataType.TRADE, Cursor())})
    async with connected(websocket(staying(frame(b"1"))), script, elder=elder) as life:
        await life.until(lambda: life.row.state == "connected")
        assert life.connection is not None
        before = life.services.now().monotonic
        life.connection.ask()
        await life.until(lambda: state.heard_until is not None)
        assert state.heard_until is not None
        assert before <= state.heard_until <= life.services.now().monotonic
        assert other.heard_until is None


async def test_the_silence_of_what_the_elder_has_is_not_judged() -> None:
    """It is its own connection's to judge, until it goes over."""
    since = 1
    stream = (DataType.TRADE, "BTCUSDT")
    state = StreamState(BTC, DataType.TRADE, Cursor(), Phase.LIVE, last_record=since)
    quick = FreshnessConfig(first_record=0.1, first_trade=0.1, floor=0.1, ceiling=0.2)
    freshness = Freshness({DataType.TRADE: Capability("stream", None)}, quick)
    elder, script = Script(streams={stream: state}), Script(streams={stream: state})
    async with connected(
        websocket(staying(frame(b"1"))), script, elder=elder, freshness=freshness
    ) as life:
        await life.until(lambda: life.row.state == "connected")
        await trio.sleep(0.8)
        assert not life.services.board.silences
        elder.hand_over(stream)
        await life.until(lambda: life.services.board.silences)


async def test_a_younger_that_cannot_be_had_does_not_open_the_breaker() -> None:
    """Nor does it use up the one call that finds out whether the host is back."""
    for failures in range(6):
        life = await end_of_younger(failures)
        assert isinstance(life.error, Lost)
        breaker = life.services.hosts.breaker("websocket", life.host)
        assert breaker.failures == failures
        assert breaker.probing_since is None


async def end_of_younger(failures: int) -> Life:
    """A connection that has an elder, to a host that failed so often before."""
    port = free_port()
    script = Script(f"ws://{LOCAL}:{port}/ws")
    async with a_world() as services:
        breaker = services.hosts.breaker("websocket", f"{LOCAL}:{port}")
        for _ in range(failures):
            breaker.failed(services.now().monotonic - 3600 * 10**9)
        row = ConnectionRow("test/0", "test", "binance", "spot", script.url)
        life = Life(script, row, services, elder=Script())
        with trio.fail_after(PATIENCE):
            await life.run(CALM)
    return life
