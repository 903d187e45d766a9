"""Any history of an outbox with a spool, crashes and all, against what a reader then finds."""

import json
import shutil
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from forms import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from market_log import BTC, ETH, Broker, Feed, Found, at_once
from trio.testing import MockClock

from marketprism.board.board import Board
from marketprism.clock import Timestamp
from marketprism.errors import SpoolLost
from marketprism.outbox.peek import gap_start
from marketprism.outbox.spool import Spool
from marketprism.outbox.spool_file import SpoolFile
from marketprism.records import DataType
from marketprism.sinks import Outbox
from marketprism.wire import Message

pytestmark = pytest.mark.once

KINDS = ("trade", "trade", "other trade", "update", "update", "snapshot", "gap")
STEPS = st.one_of(
    st.tuples(st.just("append"), st.lists(st.sampled_from(KINDS), min_size=1, max_size=40)),
    st.tuples(
        st.just("send"),
        st.tuples(st.integers(1, 30), st.integers(0, 30), st.sets(st.integers(0, 29), max_size=3)),
    ),
    st.tuples(st.just("turn"), st.floats(0.02, 3)),
    st.tuples(st.just("reconnect"), st.none()),
    st.tuples(st.sampled_from(["crash", "stop"]), st.none()),
    st.tuples(st.just("disk"), st.booleans()),
)


class FullFile(SpoolFile):
    """One whose disk may be so full that nothing in the file can be changed."""

    full = False

    def changing(self) -> Any:
        if self.full:
            raise SpoolLost("the disk is full")
        return super().changing()


@attrs.define
class History:
    """One outbox after another, over one directory, and the broker they send to."""

    place: Path
    spool_bytes: int
    feed: Feed = attrs.field(factory=Feed)
    broker: Broker = attrs.field(factory=Broker)
    gone: dict[str, set[int]] = attrs.field(factory=lambda: defaultdict(set))
    """The trades of each stream that were in memory alone at a crash: the last ones."""
    dropped: int = 0
    lives: int = 0
    connected: bool = True
    outbox: Outbox = attrs.field(init=False)
    board: Board = attrs.field(init=False)
    spool: Spool = attrs.field(init=False)
    file: FullFile = attrs.field(init=False)

    async def begin(self) -> None:
        self.lives += 1
        self.board = Board()
        self.spool = Spool(self.place / str(self.lives), self.spool_bytes, 0)
        self.spool.file = self.file = FullFile(self.spool.directory)
        self.outbox = Outbox(
            60,
            10**9,
            self.board.outbox,
            board=self.board,
            spool=self.spool,
            now=lambda: Timestamp(self.feed.clock, 1),
            worker=at_once,
        )
        await self.outbox.open()
        await self.reconnect()

    async def reconnect(self) -> None:
        self.outbox.rewind()
        await self.broker.settle(self.outbox)

    def append(self, kinds: list[str]) -> None:
        if self.outbox.full:
            return  # the pump waits then
        feed = self.feed
        made = []
        for kind in kinds:
            match kind:
                case "trade":
                    made.append(feed.trade())
                case "other trade":
                    made.append(feed.trade(ETH))
                case "update":
                    made.append(feed.update())
                case "snapshot":
                    made += [feed.update(), feed.snapshot()]
                case "gap":
                    made += feed.resynchronised()
        self._append(made)

    def _append(self, made: list[Message]) -> None:
        for message in made:
            if message.data_type == "gap":
                stream, started = gap_start(message)
                assert self.outbox.starts.later(stream, started) == started  # as the pump does
        self.outbox.append(made)

    async def end(self, kind: str) -> None:
        """The process is no more; another follows, and says that it saw nothing meanwhile."""
        self.file.full = self.file.full and kind == "crash"
        before = self.place / str(self.lives)
        self.dropped += self.board.spool.dropped
        if kind == "stop":
            await self.outbox.store()
            if self.board.outbox.held:
                assert self.board.spool.state in ("full", "failed")
                self.spool.open("")
                self._crash()
        else:
            self._crash()
        shutil.copytree(before, self.place / str(self.lives + 1))
        self.spool.close()
        await self.begin()
        feed = self.feed
        opening = [
            feed.gap(DataType.TRADE),
            feed.gap(DataType.TRADE, ETH),
            *feed.resynchronised(),
        ]
        self._append(opening)

    def _crash(self) -> None:
        """What nobody can know any more is what came after all that is known."""
        known = list(self.broker.stored)
        for block in self.spool.blocks():
            known += [message for _, message in block.messages()]
        for instrument in (BTC, ETH):
            stream = f"trade {instrument.symbol}"
            latest = max(
                (
                    int(json.loads(message.payload)["trade_id"])
                    for message in known
                    if message.data_type == "trade" and message.instrument == instrument
                ),
                default=0,
            )
            self.gone[stream] |= set(range(latest + 1, self.feed.ids[stream] + 1))

    async def drain(self) -> None:
        """Until nothing is left."""
        outbox = self.outbox
        outbox.close()
        await self.reconnect()
        for _ in range(1000):
            self.broker.send(outbox, 7, 1000)
            await outbox.spooler.turn()  # type: ignore[union-attr]
            await trio.sleep(0.6)
            if outbox.drained and not outbox.log.on_disk:
                break
        assert outbox.drained
        assert self.board.outbox.held == self.board.outbox.held_bytes == 0
        assert self.board.spool.held == self.board.spool.held_bytes == 0


async def lived(actions: list[tuple[str, Any]], spool_bytes: int) -> History:
    """A history from its beginning to its end."""
    with tempfile.TemporaryDirectory() as place:
        history = History(Path(place), spool_bytes)
        await history.begin()
        history.append(["snapshot"])
        for kind, argument in actions:
            match kind:
                case "append":
                    history.append(argument)
                case "send":
                    most, stored, unheard = argument
                    if not history.broker.send(history.outbox, most, stored, unheard):
                        await history.reconnect()
                case "turn":
                    await history.outbox.spooler.turn()  # type: ignore[union-attr]
                    await trio.sleep(argument)
                case "reconnect":
                    await history.reconnect()
                case "disk":
                    history.file.full = argument
                case _:
                    await history.end(kind)
            assert history.outbox.log.watermarks.next > 0
        history.file.full = False
        await history.drain()
        history.dropped += history.board.spool.dropped
        history.spool.close()
        return history


@given(st.lists(STEPS, max_size=60), st.sampled_from([250_000, 400_000, 10**8]))
@settings(max_examples=examples(150), deadline=None)
def test_every_message_is_stored_once_in_order_or_lies_in_a_gap(
    actions: list[tuple[str, Any]], spool_bytes: int
) -> None:
    """Whatever was cut, crashed, stopped, full: books chain, trades count on, nothing
    comes twice although the broker remembers no ids; what is told missing is what is missing.
    """
    history = trio.run(lived, actions, spool_bytes, clock=MockClock(autojump_threshold=0))
    found = Found.of(history.broker.stored)
    assert found.faults == []
    assert history.dropped == 0, "what was accepted is thrown away"
    for stream in ("trade BTC-USDT", "trade ETH-USDT"):
        have, told = set(found.trades.get(stream, ())), found.told(stream)
        assert not have & told
        missing = set(range(1, history.feed.ids[stream] + 1)) - have
        assert told <= missing <= told | history.gone[stream]
