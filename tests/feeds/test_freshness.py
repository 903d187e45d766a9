"""Silence: learned from a stream's rhythm, answered step by step."""

from itertools import pairwise

import pytest

from marketprism.clock import SECOND
from marketprism.feeds.freshness import Freshness, Remedy
from marketprism.instruments import Instrument
from marketprism.records import DataType
from marketprism.settings.supervision import FreshnessConfig
from marketprism.streams.cursor import Cursor
from marketprism.streams.state import Phase, StreamState
from marketprism.streams.subscription import Capability, Stream

BTC = Instrument("binance", "perpetual", "BTC-USDT", "BTCUSDT")
OFFERS = {
    DataType.TRADE: Capability("stream", None),
    DataType.ORDERBOOK: Capability("stream", 60.0),
    DataType.FUNDING_RATE: Capability("stream", 90.0),
    DataType.LIQUIDATION: Capability("stream", None),
}
SETTINGS = FreshnessConfig(first_record=60, first_trade=600, floor=30, ceiling=3600, factor=8)


class Line:
    """One stream, watched every quarter of a second."""

    def __init__(self, data_type: DataType = DataType.TRADE) -> None:
        self.state = StreamState(BTC, data_type, Cursor(), Phase.ACKNOWLEDGED)
        self.streams: dict[Stream, StreamState] = {(data_type, "BTCUSDT"): self.state}
        self.freshness = Freshness(OFFERS, SETTINGS)
        self.now = 0.0

    def watch(self, seconds: float, every: float | None = None) -> list[tuple[float, Remedy]]:
        """So long, with a record every so many seconds; what was called for, and when."""
        told, end, due = [], self.now + seconds, self.now
        while self.now < end:
            self.now += 0.25
            if every is not None and self.now >= due:
                self.state.last_record = round(self.now * SECOND)
                self.state.phase = Phase.LIVE
                due += every
            for _, step, _ in self.freshness.judge(self.streams, round(self.now * SECOND)):
                told.append((self.now, step))
        return told


@pytest.mark.parametrize(
    ("data_type", "limit"),
    [(DataType.TRADE, 600), (DataType.ORDERBOOK, 60), (DataType.FUNDING_RATE, 90)],
)
def test_a_stream_that_never_speaks_is_found(data_type: DataType, limit: float) -> None:
    """Acknowledged, and then nothing: renewed, reconnected, unhealthy, a limit apart each."""
    told = Line(data_type).watch(4 * limit)
    assert [step for _, step in told] == [Remedy.RENEW, Remedy.RECONNECT, Remedy.UNHEALTHY]
    assert told[0][0] == pytest.approx(limit, abs=1)


def test_a_busy_stream_is_suspect_after_the_floor() -> None:
    """Thirty seconds are borne of any stream, no more of one that always spoke."""
    line = Line()
    assert line.watch(300, every=0.5) == []
    assert line.watch(29) == []
    assert [step for _, step in line.watch(3)] == [Remedy.RENEW]


def test_a_slow_stream_is_given_its_own_time() -> None:
    """One that speaks every two minutes is borne eight times that, not less."""
    line = Line()
    assert line.watch(1500, every=120) == []
    assert line.watch(8 * 120 - 130) == []
    assert [step for _, step in line.watch(140)] == [Remedy.RENEW]


def test_an_old_long_silence_is_forgotten() -> None:
    """After a busy hour the limit is that of a busy stream again."""
    line = Line()
    line.watch(400, every=200)
    line.watch(3600, every=1)
    assert line.watch(28) == []
    assert [step for _, step in line.watch(5)] == [Remedy.RENEW]


def test_a_burst_does_not_make_a_slow_stream_fast() -> None:
    """A trade a minute, and minutes in which there are many: nothing is wrong with it."""
    line = Line()
    line.watch(1200, every=60)
    for _ in range(6):
        assert line.watch(120, every=0.5) == []
        assert line.watch(1800, every=60) == []


@pytest.mark.parametrize("cut", [True, False])
def test_a_time_out_of_contact_or_out_of_step_is_no_rhythm(cut: bool) -> None:
    """A book that was away for minutes is not borne minutes of silence for it."""
    line = Line(DataType.ORDERBOOK)
    line.watch(600, every=0.5)
    if cut:
        line.now += 200
        line.freshness.connected()
    else:
        line.state.phase = Phase.ACKNOWLEDGED
        line.watch(25)
    line.watch(1, every=0.5)
    assert line.watch(28) == []
    assert [step for _, step in line.watch(5)] == [Remedy.RENEW]


def test_a_record_ends_the_alarm() -> None:
    """The next silence begins from the first step."""
    line = Line()
    line.watch(100, every=0.5)
    assert [step for _, step in line.watch(65)] == [Remedy.RENEW, Remedy.RECONNECT]
    line.watch(5, every=0.5)
    assert line.freshness.step((DataType.TRADE, "BTCUSDT")) is Remedy.NONE
    assert [step for _, step in line.watch(35)] == [Remedy.RENEW]


def test_a_new_connection_gives_time_again_but_does_not_forget_the_step() -> None:
    """What is silent there too is unhealthy, not reconnected for ever."""
    line = Line()
    line.watch(100, every=0.5)
    assert [step for _, step in line.watch(65)] == [Remedy.RENEW, Remedy.RECONNECT]
    line.freshness.connected()
    assert line.watch(28) == []
    assert [step for _, step in line.watch(10)] == [Remedy.UNHEALTHY]


def test_what_renewals_do_not_help_is_renewed_less_and_less_often() -> None:
    """They cost the exchange's patience; ten minutes apart is the least, from the first record on
    it is as ever.
    """
    line = Line()
    line.watch(100, every=0.5)
    told = [at for at, step in line.watch(4 * 3600) if step is Remedy.UNHEALTHY]
    pauses = [round(later - earlier) for earlier, later in pairwise(told)]
    assert pauses[:5] == [30, 60, 120, 240, 480]
    assert set(pauses[5:]) == {600}
    line.watch(5, every=0.5)
    assert [step for _, step in line.watch(95)] == [
        Remedy.RENEW,
        Remedy.RECONNECT,
        Remedy.UNHEALTHY,
    ]


def test_a_slow_book_that_answers_our_renewals_is_known_before_long() -> None:
    """It changes every eighty seconds: asked anew once, it tells what stands, and then its change.
    That is its rhythm, and no connection is replaced for it.
    """
    line = Line(DataType.ORDERBOOK)
    actions = []
    for second in range(1, 1600):
        told = [step for _, step in line.watch(1)]
        if told or second % 80 == 0:
            line.watch(0.25, every=1)
        actions += told
    assert actions == [Remedy.RENEW]


@pytest.mark.parametrize("data_type", [DataType.ORDERBOOK, DataType.FUNDING_RATE])
def test_what_only_answers_our_renewals_does_not_speak(data_type: DataType) -> None:
    """A snapshot over REST, or what a new subscriber is told first, whatever the exchange has
    stopped to say: step follows step. What comes of itself ends the alarm.
    """
    line, limit = Line(data_type), 90.0 if data_type is DataType.FUNDING_RATE else 30.0
    line.watch(700, every=0.5)
    actions = []
    for _ in range(5):
        actions += [step for _, step in line.watch(limit + 1)]
        line.watch(0.5, every=10)
    assert actions == [Remedy.RENEW, Remedy.RECONNECT, Remedy.UNHEALTHY, Remedy.UNHEALTHY]
    line.watch(1, every=0.5)
    assert line.freshness.step((data_type, "BTCUSDT")) is Remedy.NONE


def test_who_waits_for_a_host_is_not_late() -> None:
    """Neither another subscription nor another connection would bring its answer sooner."""
    line = Line(DataType.ORDERBOOK)
    line.watch(100, every=0.5)
    line.state.phase, line.state.waits = Phase.ACKNOWLEDGED, True
    assert line.watch(4 * 3600) == []
    line.state.waits = False
    assert [step for _, step in line.watch(35)] == [Remedy.RENEW]


@pytest.mark.parametrize("phase", [Phase.WANTED, Phase.PARKED])
def test_what_is_not_asked_for_is_not_late(phase: Phase) -> None:
    """It waits for the budget, or was given up in words."""
    line = Line(DataType.ORDERBOOK)
    line.state.phase = phase
    assert line.watch(1000) == []


def test_liquidations_may_be_silent() -> None:
    """Nothing but their connection's life is asked of them."""
    assert Line(DataType.LIQUIDATION).watch(10_000) == []
