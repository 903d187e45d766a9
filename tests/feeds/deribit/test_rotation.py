"""One Deribit connection taking over from another, as one would play the exchange by hand."""

import random

import attrs
import pytest
from deribit_line import CONFIG, STREAM, Line, candles, moment, seconds, told
from forms import examples
from hypothesis import example, given, settings
from hypothesis import strategies as st

from marketprism.feeds.actions import Output, Reject, Send
from marketprism.feeds.deribit import DeribitDerivatives
from marketprism.feeds.venue import Session, Shard
from marketprism.records import DataType, Gap, Record, VolatilityIndex
from marketprism.streams.cursor import Cursor
from marketprism.streams.state import Phase
from marketprism.streams.subscription import Stream, Subscription


@attrs.define
class Pair:
    """Two lines of one shard, and all that was published, in its order."""

    old: Line
    new: Line

    @classmethod
    def of(cls, old: Line) -> "Pair":
        """A second line beside one that stands."""
        new = Line(old.cursors, old.session, old.seconds, records=old.records)
        return cls(old, new)

    def elder(self, *frames: bytes) -> Output:
        """The elder hears this."""
        self.old.seconds = self.new.seconds = max(self.old.seconds, self.new.seconds)
        return self.old.hear(*frames)

    def younger(self, *frames: bytes) -> Output:
        """The younger hears this."""
        self.old.seconds = self.new.seconds = max(self.old.seconds, self.new.seconds)
        return self.new.hear(*frames)

    def wait(self, length: float) -> None:
        """Ticks of both, while the elder answers pings."""
        for _ in range(round(length / 0.25)):
            self.old.seconds = max(self.old.seconds, self.new.seconds)
            for state in self.old.session.streams.values():
                state.heard_until = self.old.now.monotonic
            self.old.wait(0.25)
            self.new.wait(0.25)

    def orphan(self) -> None:
        """The elder's connection ends."""
        self.new.seconds = max(self.old.seconds, self.new.seconds) + 0.01
        self.new.did(self.new.session.old_gone(self.new.now))

    @property
    def over(self) -> bool:
        """Whether the index went over."""
        return STREAM not in self.old.session.streams

    @property
    def told(self) -> list[float | str]:
        return seconds(self.new.records)


def test_values_are_held_back_until_the_elder_has_published_the_first_of_them() -> None:
    """Then they go on, nothing is asked for, and what the elder hears is passed over."""
    pair = Pair.of(Line())
    pair.elder(told(0))
    assert pair.younger(told(1), told(2)).records == []
    assert pair.told == [0]
    pair.elder(told(1))
    pair.younger(told(3))
    assert pair.over
    assert pair.elder(told(2), told(3), told(4)) == Output()
    pair.younger(told(4))
    assert pair.told == [0, 1, 2, 3, 4]
    assert pair.new.fetches == []
    assert pair.new.session.streams[STREAM].phase is Phase.LIVE


def test_an_elder_far_ahead_is_no_clock_that_was_set_back() -> None:
    """However many of its values come again."""
    pair = Pair.of(Line())
    pair.elder(*(told(n) for n in range(12)))
    pair.younger(told(0), told(1), told(2), told(3), told(4))
    assert pair.over
    pair.younger(*(told(n) for n in range(5, 14)))
    assert pair.told == [*range(14)]
    # From here on several earlier values in a row are one again.
    pair.younger(told(5), told(6), told(7), told(8))
    assert pair.told == [*range(14), "gap", 7, 8]


def test_silence_of_both_is_no_gap() -> None:
    """Nor the occasion to ask for anything; the index of which nothing ever came goes over too."""
    pair = Pair.of(Line())
    pair.elder(told(0))
    pair.wait(6)
    assert pair.over
    assert not pair.old.session.streams
    assert pair.new.session.streams[STREAM].phase is Phase.LIVE
    pair.younger(told(9))
    assert pair.told == [0, 9]
    assert pair.new.fetches == []


def test_an_elder_that_fills_a_hole_is_waited_for() -> None:
    """Its values come with it; nothing is asked for twice."""
    old = Line()
    old.hear(told(0))
    old.reconnected(10)
    pair = Pair.of(old)
    pair.younger(told(11), told(12))
    pair.elder(told(11))
    pair.wait(1)
    assert pair.told == [0]
    old.answer(candles(0, 9))
    pair.younger(told(13))
    assert pair.over
    assert pair.told == [*range(14)]
    assert pair.new.fetches == []


def test_a_hole_that_the_elder_fills_in_silence_is_filled_by_the_younger() -> None:
    """It goes over with nothing told of it: it is asked for again."""
    old = Line()
    old.hear(told(0))
    old.reconnected(10)
    pair = Pair.of(old)
    pair.wait(6)
    assert pair.over
    pair.younger(told(11))
    pair.new.answer(candles(0, 10))
    assert pair.told == [*range(12)]


def test_a_loss_of_the_elders_that_the_younger_heard_is_none() -> None:
    """The younger knows all since the last that was published."""
    pair = Pair.of(Line())
    pair.elder(told(0), told(1))
    pair.old.cursors[STREAM].lose("stale", "of a test")
    pair.younger(told(1), told(2))
    assert pair.told == [0, 1, 2]


@pytest.mark.parametrize("joins", [True, False])
def test_an_elder_that_ends_while_it_fills_a_hole_loses_nothing(*, joins: bool) -> None:
    """The younger asks for what both missed, and the values that waited go on waiting."""
    old = Line()
    old.hear(told(0))
    old.reconnected(10)
    pair = Pair.of(old)
    pair.elder(told(11), told(12))
    pair.younger(told(12 if joins else 13))
    pair.orphan()
    (fetch,) = pair.new.fetches
    assert pair.told == [0]
    pair.new.answer(candles(0, 9 if joins else 12))
    pair.younger(told(14))
    assert pair.told == [*range(13 if joins else 14), 14]
    values = [r.volatility_index for r in pair.new.records if isinstance(r, VolatilityIndex)]
    # Heard, or taken from candles.
    assert values[11] == ("47.55" if joins else "40.01")
    assert f"end_timestamp={1_700_000_000_000 + (10 if joins else 13) * 1000}" in fetch.url


def test_an_index_that_is_inherited_is_filled_up() -> None:
    """As after any reconnect; nothing heard before counts for it."""
    pair = Pair.of(Line())
    pair.elder(told(0))
    pair.orphan()
    assert pair.old.cursors[STREAM].gap is not None
    pair.younger(told(5))
    pair.new.answer(candles(0, 4))
    assert pair.told == [0, 1, 2, 3, 4, 5]

    pair = Pair.of(Line())
    pair.younger(told(0), told(1))
    pair.elder(told(0))
    pair.orphan()
    pair.younger(told(2))
    assert pair.told == [0, 1, 2]
    assert pair.new.fetches == []


def test_an_index_that_never_joins_is_filled_up_after_a_while() -> None:
    """The elder has gone deaf."""
    pair = Pair.of(Line())
    pair.elder(told(0))
    for second in range(5, 34):
        pair.younger(told(second))
        pair.wait(1)
    assert pair.told == [0]
    pair.wait(2)
    pair.new.answer(candles(0, 4))
    assert pair.told == [0, 1, 2, 3, 4, *range(5, 34)]


@pytest.mark.parametrize("parked", [False, True])
def test_an_index_that_the_younger_is_refused_is_given_up_only_with_the_elder(
    *, parked: bool
) -> None:
    """While the elder has it, that goes on telling, and the younger asking: it goes over once it
    is granted. Where the elder cannot have it either, it is the younger's to ask for.
    """
    old = Line()
    old.hear(told(0))
    if parked:
        old.session.streams[STREAM].phase = Phase.PARKED
    shard = _shard()
    new = shard.open(old.cursors)
    new.take_over(old.session)
    new.opening(old.now)
    new.sent(2, old.now)
    answer = b'{"jsonrpc":"2.0","id":2,"result":["deribit_volatility_index.eth_usd"]}'
    new.receive([answer], old.now)
    assert new.streams[STREAM].phase is Phase.PARKED
    assert (STREAM not in old.session.streams) is parked
    assert (old.cursors[STREAM].gap is not None) is parked
    assert (old.hear(told(1)) == Output()) is parked
    (again,) = new.tick(moment(31)).actions
    assert isinstance(again, Send)
    assert again.number is not None
    new.sent(again.number, moment(31))
    granted = f'{{"id":{again.number},"result":["deribit_volatility_index.btc_usd"]}}'
    new.receive([granted.encode()], moment(32))
    assert new.streams[STREAM].phase is Phase.ACKNOWLEDGED
    new.receive([told(1 if parked else 2)], moment(32))
    if not parked:
        old.hear(told(2))
    new.tick(moment(33))
    assert STREAM not in old.session.streams
    assert new.streams[STREAM].phase is Phase.LIVE
    assert old.cursors[STREAM].gap is None


def test_a_bad_value_is_rejected_whosever_the_index_is() -> None:
    """And a channel nobody has, as ever."""
    pair = Pair.of(Line())
    actions = pair.younger(told(1, '"x"'), told(1, index="doge_usd"), told(1)).actions
    assert [type(step) for step in actions] == [Reject, Reject]
    pair.elder(told(1))
    assert pair.told == [1]


WANTS = [
    Subscription(DataType.VOLATILITY_INDEX, one)
    for one in DeribitDerivatives(CONFIG).instruments([])
]
LENGTH = 30


def _shard() -> Shard:
    (shard,) = DeribitDerivatives(CONFIG).plan(WANTS)
    return shard


def story(
    seed: int, slowest: tuple[int, int], rotation: int | None
) -> tuple[list[Record], list[object], set[Stream]]:
    """What is published of half a minute, what is asked for, and what is the elder's at its end.

    Lags are milliseconds: at most so late is what the elder and the younger are told. A connection
    keeps order: a pong says that all has come which was said before it.
    """
    cursors = {subscription.stream: Cursor() for subscription in WANTS}
    shard = _shard()
    sessions: list[Session] = [shard.open(cursors)]
    events: list[tuple[float, int, bytes | None]] = []
    late: list[tuple[int, float, float]] = []
    for line, first in ((0, 0.0), (1, rotation)):
        dice, last = random.Random(seed + line), 0.0
        for second in range(LENGTH):
            at = second + 0.007
            last = max(last, at + dice.randint(0, slowest[line]) / 1000)
            late.append((line, at, last))
            if first is not None and at > first / (1 if line == 0 else 1000):
                for index in ("btc_usd", "eth_usd"):
                    value = random.Random(f"{seed}:{second}").randint(1, 9)
                    events.append((last, line, told(at, f"4{value}.5", index)))
    events += [(tick / 4, 2, None) for tick in range(4 * (LENGTH + 10))]
    granted = b'"deribit_volatility_index.btc_usd","deribit_volatility_index.eth_usd"'
    answers = [b'{"id":1,"result":"ok"}', b'{"id":2,"result":[' + granted + b"]}"]
    records: list[Record] = []
    actions: list[object] = []
    sessions[0].opening(moment(0))
    sessions[0].receive(answers, moment(0))
    for at, line, frame in sorted(events, key=lambda event: event[0]):
        now = moment(at)
        if len(sessions) == 1 and rotation is not None and at >= rotation / 1000:
            sessions.append(shard.open(cursors))
            sessions[1].take_over(sessions[0])
            sessions[1].opening(now)
            sessions[1].receive(answers, now)
        if frame is not None:
            outputs = [sessions[line].receive([frame], now)]
        else:
            for number, session in enumerate(sessions):
                due = (said for of, said, comes in late if of == number and said <= at < comes)
                until = moment(min(due, default=at)).monotonic
                for state in session.streams.values():
                    state.heard_until = until
            outputs = [session.tick(now) for session in sessions]
        records += [record for turn in outputs for record in turn.records]
        actions += [step for turn in outputs for step in turn.actions]
    return records, actions, set(sessions[0].streams) if len(sessions) == 2 else set()


@settings(max_examples=examples(200), deadline=None)
@given(
    seed=st.integers(0, 2**32),
    slowest=st.tuples(st.integers(0, 6_000), st.integers(0, 6_000)),
    rotation=st.integers(0, 20_000),
)
@example(seed=74309471, slowest=(5331, 5407), rotation=7)
def test_a_rotation_is_seen_by_nobody(seed: int, slowest: tuple[int, int], rotation: int) -> None:
    """Whoever lags behind whom, and whenever it is: each index as one connection would have told
    it, without a gap or a request; and nothing is left to the elder.
    """
    alone, _, _ = story(seed, slowest, None)
    records, actions, left = story(seed, slowest, rotation)
    assert by_index(records) == by_index(alone)
    assert not [step for step in actions if not isinstance(step, Send)]
    assert left == set()


def by_index(records: list[Record]) -> dict[str, list[tuple[int | None, str]]]:
    """Times and values of each."""
    assert not [record for record in records if isinstance(record, Gap)]
    values: dict[str, list[tuple[int | None, str]]] = {"btc_usd": [], "eth_usd": []}
    for record in records:
        assert isinstance(record, VolatilityIndex)
        values[record.index_name].append((record.timestamp, record.volatility_index))
    return values
