"""When a poll asks: real REST over a transport that answers, in virtual time."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import attrs
import httpx
import msgspec
import pytest
import trio
import trio.lowlevel
from loopback import UNTRUSTING
from structlog.testing import capture_logs
from trio.testing import MockClock

from marketprism.board.board import Board
from marketprism.board.stream_row import StreamRow
from marketprism.clock import Timestamp
from marketprism.feeds.binance import BinanceDerivatives
from marketprism.feeds.hosts import Hosts
from marketprism.feeds.okx.venues import OkxDerivatives
from marketprism.feeds.polling import REFUSED_FIRST, refused_wait, run_poll
from marketprism.feeds.proxies import Proxies
from marketprism.feeds.rest import Rest
from marketprism.feeds.services import Services
from marketprism.feeds.venue import Venue
from marketprism.instruments import Instrument
from marketprism.pipeline.outlet import Outlet
from marketprism.records import DataType, Gap, Record
from marketprism.settings.exchanges import Api, VenueConfig
from marketprism.settings.settings import ProxyConfig
from marketprism.settings.supervision import SupervisionConfig
from marketprism.streams.state import Phase
from marketprism.streams.subscription import Subscription

ROW = 300
BEGAN = 1_780_000_300
"""Seconds; 100 after a row's time."""
ROOT = "http://rest.test"
POLICY = SupervisionConfig()
SWAP = Instrument("okx", "perpetual", "BTC-USDT", "BTC-USDT-SWAP")
PERPETUAL = Instrument("binance", "perpetual", "BTC-USDT", "BTCUSDT")
VENUES: dict[Instrument, Callable[[VenueConfig], Venue]] = {
    SWAP: OkxDerivatives,
    PERPETUAL: BinanceDerivatives,
}

Answer = Callable[[float], httpx.Response]
"""By how many seconds have passed."""


@attrs.define(eq=False)
class Polling:
    """A poll at work."""

    services: Services
    row: StreamRow
    asked: list[float]

    async def until(self, seconds: float) -> None:
        """So many seconds from the beginning."""
        await trio.sleep(seconds - trio.current_time())

    async def told(self) -> list[Record]:
        """Every record so far."""
        records: list[Record] = []
        while self.services.board.channel.held:
            records += (await anext(self.services.outlet.intake)).records
        return records


@asynccontextmanager
async def polling(
    instrument: Instrument,
    data_type: DataType,
    answer: Answer,
    *,
    ahead: float = 0.0,
    jitter: float = 0.0,
) -> AsyncIterator[Polling]:
    """A poll, until the context ends; `ahead`: by how many seconds our clock is."""
    asked: list[float] = []

    async def respond(_request: httpx.Request) -> httpx.Response:
        asked.append(trio.current_time())
        return answer(trio.current_time())

    def now() -> Timestamp:
        nanoseconds = round(trio.current_time() * 1e9)
        return Timestamp(BEGAN * 10**9 + round(ahead * 1e9) + nanoseconds, nanoseconds)

    board = Board()
    hosts, proxies, tls = Hosts(board), Proxies(ProxyConfig()), UNTRUSTING
    subscription = Subscription(data_type, instrument)
    config = VenueConfig("venue", Api(ROOT, "ws://stream.test"), ("*",), (data_type,))
    venue = VENUES[instrument](config)
    hosts.learn(ROOT, venue.interpret)
    (poll,) = venue.polls([subscription])
    async with (
        Rest(hosts, proxies, now, tls, httpx.MockTransport(respond)) as rest,
        trio.open_nursery() as nursery,
    ):
        services = Services(
            Outlet(100, board), rest, hosts, proxies, board, now, tls, jitter=lambda: jitter
        )
        nursery.start_soon(run_poll, poll, venue, services, POLICY)
        while not board.streams:
            await trio.lowlevel.checkpoint()
        yield Polling(services, board.streams[venue.name, subscription.stream], asked)
        nursery.cancel_scope.cancel()


def rows(seconds: float, late: float = 0.0) -> httpx.Response:
    """OKX's newest row alone."""
    row = int(BEGAN + seconds - late) // ROW * ROW
    body = {"code": "0", "data": [[str(row * 1000), "1.5"]], "msg": ""}
    return httpx.Response(200, content=msgspec.json.encode(body))


def history(seconds: float) -> httpx.Response:
    """The rows of the last hour, newest first."""
    row = int(BEGAN + seconds) // ROW * ROW
    data = [[str((row - n * ROW) * 1000), "1.5"] for n in range(12)]
    return httpx.Response(200, content=msgspec.json.encode({"code": "0", "data": data}))


def interest(seconds: float) -> httpx.Response:
    """Binance's open interest, each time a new one."""
    body = {"symbol": "BTCUSDT", "openInterest": "7", "time": round((BEGAN + seconds) * 1000)}
    return httpx.Response(200, content=msgspec.json.encode(body))


def refusing(good: Answer, bad: httpx.Response, start: float, end: float) -> Answer:
    """One answer, but another from one moment to another."""
    return lambda seconds: bad if start <= seconds < end else good(seconds)


@pytest.mark.parametrize(
    ("ahead", "late", "expected"),
    [
        (0.0, 0.0, [0, 205, 505]),
        (7.0, 0.0, [0, 198, 218, 498, 518]),
        (0.0, 50.0, [0, 205, 225, 265, 505, 525, 565]),
    ],
)
async def test_a_row_that_is_not_there_yet_is_asked_for_again_soon(
    ahead: float, late: float, expected: list[int], autojump_clock: MockClock
) -> None:
    """Whether our clock is ahead of the exchange's or the exchange is late: not a period later."""
    kind = DataType.LSR_ALL_ACCOUNT
    async with polling(SWAP, kind, lambda at: rows(at, late), ahead=ahead) as poll:
        await poll.until(2 * ROW + 60)
        assert [round(at) for at in poll.asked] == expected
        assert poll.row.records == 3


def error(status: int, **body: Any) -> httpx.Response:
    """An answer that tells an error."""
    return httpx.Response(status, content=msgspec.json.encode(body))


UNKNOWN = error(200, code="51001", msg="Instrument ID doesn't exist.", data=[])
REFUSALS = [
    (SWAP, DataType.LSR_TOP_POSITION, UNKNOWN, "51001: Instrument ID doesn't exist."),
    (SWAP, DataType.LSR_ALL_ACCOUNT, error(400, code="50014", msg="no", data=[]), "50014: no"),
    (SWAP, DataType.LSR_ALL_ACCOUNT, httpx.Response(404), "status 404"),
    (PERPETUAL, DataType.OPEN_INTEREST, error(400, code=-1121, msg="no"), "-1121: no"),
    (PERPETUAL, DataType.OPEN_INTEREST, error(400, code=-4108, msg="no"), "-4108: no"),
    (PERPETUAL, DataType.LSR_TOP_POSITION, error(400, code=-1121, msg="no"), "-1121: no"),
    (PERPETUAL, DataType.OPEN_INTEREST, httpx.Response(451), "status 451"),
]


def good(instrument: Instrument, data_type: DataType) -> Answer:
    """What that poll is answered as a rule."""
    if data_type is DataType.OPEN_INTEREST:
        return interest
    return rows if instrument is SWAP else ratios


def ratios(seconds: float) -> httpx.Response:
    """Binance's newest row alone."""
    time = int(BEGAN + seconds) // ROW * ROW * 1000
    row = {"longShortRatio": "1", "longAccount": "0.5", "shortAccount": "0.5", "timestamp": time}
    return httpx.Response(200, content=msgspec.json.encode([row]))


@pytest.mark.parametrize("jitter", [0.0, 0.999])
@pytest.mark.parametrize(("instrument", "kind", "refusal", "words"), REFUSALS)
async def test_a_poll_that_is_refused_is_asked_again_for_ever(
    instrument: Instrument,
    kind: DataType,
    refusal: httpx.Response,
    words: str,
    jitter: float,
    autojump_clock: MockClock,
) -> None:
    """Soon at first, then slowly; the reason is on the board, and once in the log; live when it
    answers.
    """
    end = 2000.0
    answer = refusing(good(instrument, kind), refusal, 0, end)
    with capture_logs() as logs:
        async with polling(instrument, kind, answer, jitter=jitter) as poll:
            await poll.until(end)
            assert poll.row.state == Phase.PARKED
            assert poll.row.live is not None
            assert words in str(poll.row.live.detail)
            refused = [at for at in poll.asked if at < end]
            first, *waits = [b - a for a, b in pairwise(refused)]
            assert first <= REFUSED_FIRST
            assert set(map(round, waits)) == ({270} if jitter else {300})
            await poll.until(end + POLICY.refused_retry + 30)
            assert poll.row.state == Phase.LIVE
            assert poll.row.live.detail is None
            assert poll.row.records > 0
    parked, unparked = (line for line in logs if line["event"].startswith("stream."))
    assert (parked["event"], unparked["event"]) == ("stream.parked", "stream.unparked")
    assert end <= unparked["after"] <= end + POLICY.refused_retry


def test_a_refusals_second_chance_comes_within_half_a_minute_and_all_with_jitter() -> None:
    """Those refused together do not ask together; none is later than `refused_retry`."""
    assert [refused_wait(n, 300.0, 0.0) for n in (1, 2, 99)] == [30, 300, 300]
    assert [round(refused_wait(n, 300.0, 1.0)) for n in (1, 2, 99)] == [15, 270, 270]
    assert refused_wait(1, 5.0, 0.0) == 5.0


@pytest.mark.parametrize(
    ("instrument", "kind", "passing"),
    [
        *[
            (SWAP, DataType.LSR_TOP_POSITION, error(200, code=code, msg="no", data=[]))
            for code in ("50011", "50013", "50026", "50001")
        ],
        (SWAP, DataType.LSR_TOP_POSITION, httpx.Response(503)),
        (PERPETUAL, DataType.OPEN_INTEREST, error(400, code=-1000, msg="no")),
        (PERPETUAL, DataType.OPEN_INTEREST, error(503, code=-1008, msg="no")),
        (PERPETUAL, DataType.LSR_TOP_POSITION, error(200, code=-1003, msg="no")),
    ],
)
async def test_a_refusal_that_passes_is_over_within_a_minute(
    instrument: Instrument,
    kind: DataType,
    passing: httpx.Response,
    autojump_clock: MockClock,
) -> None:
    """However long it lasted; the ordinary backoff, and no burst meanwhile."""
    end = 400.0
    answer = refusing(good(instrument, kind), passing, 0, end)
    async with polling(instrument, kind, answer, jitter=0.999) as poll:
        await poll.until(end)
        assert poll.row.state != Phase.LIVE
        assert len(poll.asked) < end / 5
        await poll.until(end + 60)
        assert poll.row.state == Phase.LIVE
        assert poll.row.records > 0


async def test_one_refusal_does_not_end_a_ratio(autojump_clock: MockClock) -> None:
    """A single 51001 between good answers; the row it cost is in the next answer."""
    answer = refusing(history, UNKNOWN, 200, 210)
    async with polling(SWAP, DataType.LSR_TOP_POSITION, answer) as poll:
        await poll.until(2 * ROW)
        records = await poll.told()
        assert [type(each) for each in records if isinstance(each, Gap)] == []
        assert [(each.timestamp or 0) // 10**9 - BEGAN for each in records] == [-100, 200, 500]
        assert poll.row.state == Phase.LIVE
        assert poll.row.cursor is not None
        assert poll.row.cursor.gap is None


@pytest.mark.parametrize(("instrument", "kind", "refusal"), [case[:3] for case in REFUSALS])
async def test_what_a_poll_missed_is_an_open_gap_until_it_answers(
    instrument: Instrument, kind: DataType, refusal: httpx.Response, autojump_clock: MockClock
) -> None:
    """On the board meanwhile, from where it was last known; then told before what comes next."""
    start, end = 190.0, 2000.0
    answer = refusing(good(instrument, kind), refusal, start, end)
    async with polling(instrument, kind, answer) as poll:
        await poll.until(start)
        before = await poll.told()
        await poll.until(end)
        assert await poll.told() == []
        assert poll.row.cursor is not None
        assert poll.row.cursor.gap is not None
        assert poll.row.cursor.gap.started_at == before[-1].collected_at
        await poll.until(end + 400)
        gap, record, *_ = await poll.told()
        assert isinstance(gap, Gap)
        assert (gap.affected, gap.started_at) == (kind, before[-1].collected_at)
        # A row ends it at its own time; what has no rows, when it was read.
        rowed = kind is not DataType.OPEN_INTEREST
        assert gap.ended_at == (record.timestamp if rowed else record.collected_at)
        assert poll.row.cursor.gap is None


async def test_a_gap_that_is_open_at_the_stop_is_told(autojump_clock: MockClock) -> None:
    """Nobody will see its end any more."""
    answer = refusing(rows, UNKNOWN, 190, 10**6)
    async with polling(SWAP, DataType.LSR_TOP_POSITION, answer) as poll:
        await poll.until(1000)
        await poll.told()
    (gap,) = await poll.told()
    assert isinstance(gap, Gap)
    assert (gap.reason, gap.ended_at) == ("disconnect", (BEGAN + 1000) * 10**9)


@pytest.mark.parametrize(
    ("known", "levels"), [(False, ("warning", "info")), (True, ("debug",) * 2)]
)
async def test_a_poll_that_fails_is_told_once_and_its_return_with_after_how_long(
    known: bool, levels: tuple[str, str], autojump_clock: MockClock
) -> None:
    """At DEBUG where its host is in trouble, which is told once and not for each of its polls."""

    def answer(at: float) -> httpx.Response:
        if at < 60 and known:
            raise httpx.ConnectError("refused")
        return httpx.Response(500) if at < 60 else rows(at)

    with capture_logs() as logs:
        async with polling(SWAP, DataType.LSR_ALL_ACCOUNT, answer) as poll:
            await poll.until(100)
    told = [line for line in logs if line["event"].startswith("poll.")]
    assert [line["event"] for line in told] == ["poll.failed", "poll.recovered"]
    assert tuple(line["log_level"] for line in told) == levels
    assert 60 <= told[1]["after"] < 90
