"""Two OKX connections to one simulated exchange publish what one of them would have published."""

import heapq
import json
import random
from collections import defaultdict
from itertools import count
from typing import Any

import attrs
import pytest
from consumer import Consumer
from forms import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from okx_line import START, SWAP, SWAP_CONFIG

from marketprism.clock import Timestamp
from marketprism.feeds.actions import Output, Send
from marketprism.feeds.okx import OkxDerivatives
from marketprism.feeds.venue import Session
from marketprism.records import DataType, Gap, Record
from marketprism.settings.exchanges import OrderbookOptions
from marketprism.simulator.market import Market, Rules
from marketprism.simulator.okx import OkxDerivatives as Exchange
from marketprism.simulator.okx_instruments import listing
from marketprism.simulator.skin import Options
from marketprism.streams.cursor import Cursor
from marketprism.streams.subscription import Stream, Subscription
from marketprism.wire import encode

pytestmark = pytest.mark.once

MILLISECOND = 1_000_000
ETH = attrs.evolve(SWAP, symbol="ETH-USDT", native_id="ETH-USDT-SWAP", base="ETH")
CONFIG = attrs.evolve(
    SWAP_CONFIG,
    orderbook=OrderbookOptions(snapshot_interval=0),
    limits=attrs.evolve(SWAP_CONFIG.limits, heartbeat=0.0),
)
WANTS = [
    Subscription(data_type, instrument)
    for instrument in (SWAP, ETH)
    for data_type in (
        DataType.ORDERBOOK,
        DataType.TRADE,
        DataType.FUNDING_RATE,
        DataType.OPEN_INTEREST,
        DataType.LIQUIDATION,
    )
]
LENGTH = 20_000
"""Milliseconds of the exchange."""
STEP = 20


def acknowledged(turn: Output) -> list[bytes]:
    """What answers the commands of a turn."""
    commands = [json.loads(step.payload) for step in turn.actions if isinstance(step, Send)]
    return [
        json.dumps({"event": "subscribe", "arg": arg, "connId": "a"}).encode()
        for command in commands
        for arg in command["args"]
    ]


@attrs.define
class Wire:
    """What one connection brings: in order, each as late as that server is just then."""

    dice: random.Random
    slowest: int
    last: int = 0

    def arrival(self, sent: int) -> int:
        self.last = max(self.last, sent + self.dice.randint(0, self.slowest))
        return self.last


@attrs.define
class Services:
    """The exchange's whole story, and the collector that hears it."""

    seed: int
    slowest: tuple[int, int]
    """Milliseconds that the elder and the younger lag at most."""
    rotation: int | None = None
    """When the second connection subscribes; None: there is but one."""
    end: int | None = None
    """When the elder's connection ends; None: when it is not needed any more."""
    renumbered: int | None = None
    """When the numbers of a book start over."""
    cursors: dict[Stream, Cursor] = attrs.field(
        factory=lambda: {subscription.stream: Cursor() for subscription in WANTS}
    )
    records: list[Record] = attrs.field(factory=list)
    actions: list[object] = attrs.field(factory=list)
    left: set[Stream] = attrs.field(factory=set)
    """The elder's at the end of the story."""

    def play(self) -> "Services":
        events = self.told()
        venue = OkxDerivatives(CONFIG)
        (shard,) = venue.plan(WANTS)
        sessions: list[Session] = [shard.open(self.cursors)]
        sessions[0].opening(moment(0))
        elder_ends = self.end
        for at, line, frame in events:
            now = moment(at)
            if elder_ends is not None and at >= elder_ends and len(sessions) == 2:
                for cursor in self.cursors.values():
                    if cursor.received is not None and cursor.gap is None:
                        cursor.received = max(cursor.received, now.wall)
                self.did(sessions[1].old_gone(now))
                elder_ends = -1
            if line == 2:
                sessions.append(shard.open(self.cursors))
                sessions[1].take_over(sessions[0])
                self.did(sessions[1].opening(now))
            elif frame is None:
                for session in sessions[elder_ends == -1 :]:
                    for state in session.streams.values():
                        # A ping was answered.
                        state.heard_until = now.monotonic
                    self.did(session.tick(now))
            elif not (line == 0 and elder_ends == -1):
                self.did(sessions[line].receive([frame], now))
        self.left = set(sessions[0].streams) if len(sessions) == 2 else set()
        return self

    def did(self, turn: Output) -> None:
        self.records += turn.records
        self.actions += turn.actions

    def told(self) -> list[tuple[int, int, bytes | None]]:
        """When, by which connection, and what; None is a tick, and a third connection stands for
        the dialling of the second.
        """
        skin = Exchange(Options(seed=self.seed))
        rules = Rules(listing, id_step=4, most_levels=399, perpetual=True)
        market = Market(
            self.seed,
            [subscription.instrument.native_id for subscription in WANTS[::5]],
            trades_per_second=3.0,
            quotes_per_second=10.0,
            rules=rules,
        )
        story: list[tuple[int, int, int, bytes | None]] = []
        order = count()
        dice = random.Random(self.seed)
        wires = [Wire(random.Random(dice.random()), slowest) for slowest in self.slowest]
        latest: dict[str, bytes] = {}

        def say(at: int, line: int, frame: bytes) -> None:
            heapq.heappush(story, (wires[line].arrival(at), next(order), line, frame))

        def greet(at: int, line: int) -> None:
            """Confirm everything, and tell how it stands."""
            (shard,) = OkxDerivatives(CONFIG).plan(WANTS)
            for frame in acknowledged(shard.open({}).opening(moment(at))):
                say(at, line, frame)
                arg: dict[str, Any] = json.loads(frame)["arg"]
                if arg["channel"] == "books":
                    picture = skin.book(market.told(arg["instId"]))
                    assert picture is not None
                    say(at, line, picture.text.encode())
                elif (name := f"{arg['channel']}:{arg.get('instId')}") in latest:
                    say(at, line, latest[name])

        market.step(START // MILLISECOND)
        greet(0, 0)
        for at in range(STEP, LENGTH, STEP):
            if at == self.renumbered:
                market.renumber(SWAP.native_id)
            for event in market.step(START // MILLISECOND + at):
                for message in skin.messages(event):
                    frame = message.text.encode()
                    if message.kind in skin.repeats:
                        latest[message.stream] = frame
                    say(at, 0, frame)
                    if self.rotation is not None and at > self.rotation:
                        say(at, 1, frame)
            if at == self.rotation:
                heapq.heappush(story, (at, next(order), 2, b""))
                greet(at, 1)
            if at % 250 < STEP:
                heapq.heappush(story, (at, next(order), 0, None))
        for at in range(LENGTH, LENGTH + 45_000, 250):
            heapq.heappush(story, (at, next(order), 0, None))
        return [
            (at, line, frame)
            for at, _, line, frame in (heapq.heappop(story) for _ in range(len(story)))
        ]

    def published(self) -> dict[Stream, list[Record]]:
        """By stream; when it was read is the connection's affair."""
        by_stream = defaultdict(list)
        for record in self.records:
            if not isinstance(record, Gap):
                stream = DataType(record.data_type), record.instrument.native_id
                by_stream[stream].append(attrs.evolve(record, collected_at=0))
        return by_stream

    def consumer(self) -> Consumer:
        """Who was told all of it."""
        consumer = Consumer()
        for record in self.records:
            if record.data_type in ("orderbook", "trade", "gap"):
                consumer.take(encode(record).payload)
        return consumer


def moment(at: int) -> Timestamp:
    """So many milliseconds into the story."""
    return Timestamp(START + at * MILLISECOND, at * MILLISECOND)


def times(first: int, last: int) -> st.SearchStrategy[int]:
    """Milliseconds at which the exchange is looked at."""
    return st.integers(first // STEP, last // STEP).map(lambda step: step * STEP)


lags = st.tuples(st.integers(0, 1_500), st.integers(0, 1_500))


@settings(max_examples=examples(25), deadline=None)
@given(
    seed=st.integers(0, 2**32),
    slowest=lags,
    rotation=times(STEP, 12_000),
    renumbered=st.none() | times(1_000, 16_000),
)
def test_a_rotation_is_seen_by_nobody(
    seed: int, slowest: tuple[int, int], rotation: int, renumbered: int | None
) -> None:
    """Whoever lags behind whom, and whenever it is: each stream as one connection would have told
    it, without a gap, a snapshot or a request; and nothing is left to the elder.
    """
    one = Services(seed, slowest, renumbered=renumbered).play()
    two = Services(seed, slowest, rotation, renumbered=renumbered).play()
    assert two.published() == one.published()
    assert not [record for record in two.records if isinstance(record, Gap)]
    assert all(isinstance(step, Send) for step in two.actions)
    assert two.left == set()
    assert two.consumer().faults == []


@settings(max_examples=examples(25), deadline=None)
@given(
    seed=st.integers(0, 2**32),
    slowest=lags,
    rotation=times(STEP, 12_000),
    left=times(0, 3_000),
)
def test_an_elder_that_ends_too_soon_is_a_gap_at_most(
    seed: int, slowest: tuple[int, int], rotation: int, left: int
) -> None:
    """Nothing twice, nothing out of order; what is missing of a stream lies in a gap of it; and
    the books that are told are true to the end.
    """
    one = Services(seed, slowest).play()
    two = Services(seed, slowest, rotation, rotation + left).play()
    expected, told = one.published(), two.published()
    gone = {(g.affected, g.instrument.native_id) for g in two.records if isinstance(g, Gap)}
    for stream, records in expected.items():
        if stream[0] is DataType.ORDERBOOK:
            continue
        ids = [encode(record).msg_id for record in records]
        # After a gap the last rate may be said again, under its own id: it is stored once.
        ours = list(dict.fromkeys(encode(record).msg_id for record in told[stream]))
        assert len(ours) == len(told[stream]) or stream[0] is DataType.FUNDING_RATE
        if stream[0] is not DataType.FUNDING_RATE:
            assert set(ours) <= set(ids)
        elif stream in gone:
            continue
        if stream in gone:
            assert [each for each in ids if each in ours] == ours
        else:
            # Where nothing had been told yet, nothing was lost either.
            assert ours == ids[len(ids) - len(ours) :]
    for services in (one, two):
        assert services.consumer().faults == []
    assert books(two) == books(one)


def books(services: Services) -> list[tuple[str, int | None, dict[str, str], dict[str, str]]]:
    """What the consumer has in the end."""
    return [
        (symbol, book.last_id, book.bids, book.asks)
        for symbol, book in sorted(services.consumer().books.items())
    ]
