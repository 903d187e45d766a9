"""The outbox and its disk: over a real server, over disks that fail, and over a stop."""

import resource
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import attrs
import pytest
import trio
import trio.lowlevel
from forms import form
from market_log import Broker, Feed, Found
from nats_server import Server
from structlog.testing import capture_logs
from trio.testing import wait_all_tasks_blocked

from marketprism.board.board import Board
from marketprism.clock import Timestamp
from marketprism.errors import Refused, SinkLost
from marketprism.outbox.spool import NAME, Spool
from marketprism.settings.nats import NatsConfig
from marketprism.sinks import Outbox
from marketprism.sinks.nats import NatsSink
from marketprism.wire import Message

pytestmark = pytest.mark.once

Until = Callable[..., Awaitable[None]]


@attrs.define
class Life:
    """One process's outbox over a directory."""

    directory: Path
    capacity: int = 1000
    max_bytes: int = 10**8
    board: Board = attrs.field(factory=Board)
    outbox: Outbox = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.outbox = Outbox(
            self.capacity,
            10**9,
            self.board.outbox,
            board=self.board,
            spool=Spool(self.directory, self.max_bytes, 0),
            now=lambda: Timestamp(1_800_000_000 * 10**9, 1),
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Outbox]:
        """Its disk at work, until the end; then what is left is stored."""
        await self.outbox.open()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.outbox.run)
            yield self.outbox
            nursery.cancel_scope.cancel()
        await self.outbox.store()

    async def fill(self, messages: list[Message]) -> None:
        """As the pump does."""
        for at in range(0, len(messages), 50):
            self.outbox.append(messages[at : at + 50])
            await self.outbox.room()
            await trio.lowlevel.checkpoint()


def trades(count: int) -> list[Message]:
    """Trades of one stream."""
    feed = Feed()
    return [feed.trade() for _ in range(count)]


def touched(directory: Path) -> dict[str, int]:
    """Its files, and when they were changed."""
    return {file.name: file.stat().st_mtime_ns for file in directory.iterdir()}


def size(directory: Path) -> int:
    """What all its files take."""
    return sum(file.stat().st_size for file in directory.iterdir())


async def taken(outbox: Outbox, count: int) -> list[Message]:
    """So many of them, acknowledged at once."""
    messages: list[Message] = []
    while len(messages) < count:
        await outbox.available()
        for number, message in outbox.take(min(100, count - len(messages))):
            outbox.acknowledge(number)
            messages.append(message)
        await trio.lowlevel.checkpoint()
    return messages


async def emptied(outbox: Outbox) -> list[Message]:
    """All there is, acknowledged at once."""
    messages = []
    outbox.close()
    while not outbox.drained:
        await outbox.available()
        for number, message in outbox.take(100):
            outbox.acknowledge(number)
            messages.append(message)
        await trio.lowlevel.checkpoint()
    return messages


async def test_while_nats_is_away_messages_go_to_disk_and_come_back_in_order(
    server: Server, tmp_path: Path, until: Until
) -> None:
    """Memory, disk, memory: what is appended before, meanwhile and after is stored once, in order,
    and the disk is empty again.
    """
    life = Life(tmp_path / "spool")
    board, feed = life.board, Feed()
    sent = [feed.trade() for _ in range(500)]
    sink = NatsSink(NatsConfig((server.url,)), [server.url], board)

    async def keep_running() -> None:
        while not life.outbox.drained:
            try:
                await sink.run(life.outbox)
            except (SinkLost, Refused):
                await trio.sleep(0.05)

    async with life.running() as outbox, trio.open_nursery() as nursery:
        nursery.start_soon(keep_running)
        await life.fill(sent)
        await until(lambda: board.sink.acknowledged > 100)
        server.kill()
        away = [feed.trade() for _ in range(form(12_000, 30_000))]
        await life.fill(away)
        await until(lambda: board.spool.held > form(9_000, 25_000))
        assert board.outbox.held < life.capacity
        assert board.spool.state == "spooling"
        await trio.to_thread.run_sync(server.start)
        after = [feed.trade() for _ in range(5_000)]
        await life.fill(after)
        outbox.close()
        await until(lambda: outbox.drained)
        await until(lambda: board.spool.state == "idle")
    expected = [message.payload for message in (*sent, *away, *after)]
    assert await server.stored() == expected
    assert (board.spool.held, board.spool.dropped) == (0, 0)


async def test_a_sink_that_keeps_up_costs_no_file_anything(tmp_path: Path) -> None:
    """Below three quarters of what memory holds, the disk is not touched."""
    life = Life(tmp_path)
    async with life.running() as outbox:
        before = touched(tmp_path)
        for _ in range(50):
            outbox.append(trades(700))
            for number, _ in outbox.take(700):
                outbox.acknowledge(number)
            await wait_all_tasks_blocked()
        assert touched(tmp_path) == before
        assert not outbox.log.on_disk


async def test_what_is_left_at_the_stop_is_the_first_of_the_next_process(tmp_path: Path) -> None:
    """In memory or on disk, taken or waiting: all of it in order; what was taken is in doubt."""
    messages = trades(5000)
    for count in (10, 5000):
        place = tmp_path / str(count)
        life = Life(place)
        async with life.running() as outbox:
            await life.fill(messages[: count // 2])
            taken = outbox.take(5)
            outbox.acknowledge(taken[0][0])
            await life.fill(messages[count // 2 : count])
        assert (life.board.outbox.held, life.board.spool.held) == (0, count - 1)
        life = Life(place)
        async with life.running() as outbox:
            last = await outbox.recovered()
            assert last == {messages[0].subject: messages[count - 1]}
            assert outbox.in_doubt() == [messages[0].subject]
            settled = await outbox.forget_stored(messages[0].subject, messages[2].msg_id)
            assert settled in (2, 3)  # an acknowledged one goes from the disk with its block
            assert await emptied(outbox) == messages[3:count]
        async with Life(place).running() as outbox:
            assert await outbox.recovered() == {}


async def test_a_full_disk_takes_no_more_in_and_throws_nothing_away(
    tmp_path: Path, until: Until
) -> None:
    """Whoever appends waits; what was accepted comes in its order, and then there is room."""
    life = Life(tmp_path, max_bytes=1_000_000)
    made, board = trades(12_000), life.board
    with capture_logs() as logs:
        async with life.running() as outbox, trio.open_nursery() as nursery:
            nursery.start_soon(life.fill, made)
            await until(lambda: board.spool.state == "full" and outbox.full)
            accepted = board.outbox.held + board.spool.held
            await trio.sleep(1.0)
            assert board.outbox.held + board.spool.held == accepted
            assert (tmp_path / NAME).stat().st_size <= 1_000_000
            left = await taken(outbox, len(made))
    assert left == made
    assert (board.spool.dropped, sum(board.lost.values()), sum(board.gaps.values())) == (0, 0, 0)
    assert [line["event"] for line in logs if line["event"] == "spool.full"] != []


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file of this process may grow beyond: the disk is full. Nor may the one that standard
    output goes to, so logs are captured meanwhile.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_disk_that_fails_on_the_way_costs_nothing(tmp_path: Path, until: Until) -> None:
    """It is said; memory takes what it holds, and no more; when the disk works it is used again."""
    life = Life(tmp_path)
    board, made = life.board, trades(22_000)
    async with life.running() as outbox, trio.open_nursery() as nursery:
        with capture_logs() as logs:
            with largest_file(1_500_000):
                nursery.start_soon(life.fill, made)
                await until(lambda: board.spool.state == "failed" and outbox.full)
                await trio.sleep(1.0)
            await until(lambda: board.spool.state != "failed", 6)
            left = await taken(outbox, len(made))
            await until(lambda: board.spool.state == "idle")
    failures = [line for line in logs if line["event"] == "spool.failed"]
    assert failures
    assert all(line["reason"] for line in failures)
    assert logs[-1]["event"] == "spool.idle"
    assert "after" in logs[-1], "it is told for how long messages went to disk"
    assert (board.spool.set_aside, board.spool.dropped) == (None, 0)
    assert left == made


async def test_a_disk_that_can_only_be_read_loses_nothing(tmp_path: Path, until: Until) -> None:
    """Also where all that memory has of it was sent in vain: the file is not given up, and what is
    still in it is delivered.
    """
    life, broker, feed = Life(tmp_path), Broker(), Feed()
    async with life.running() as outbox:
        await life.fill([feed.trade() for _ in range(20_000)])
        await until(lambda: life.board.spool.held > 18_000)
        outbox.take(100)
        outbox.rewind()
        with capture_logs(), largest_file(8192):
            outbox.append([feed.trade() for _ in range(1_200)])
            await until(lambda: life.board.spool.state == "failed" and outbox.full)
            await trio.sleep(2.5)
        assert (life.board.spool.set_aside, life.board.spool.dropped) == (None, 0)
        assert life.board.spool.held > 15_000
        await broker.settle(outbox)
        left = await emptied(outbox)
    found = Found.of(left)
    assert found.faults == []
    assert found.trades["trade BTC-USDT"] == list(range(1, 21_201))


async def test_a_full_disk_gets_its_room_back_when_all_is_delivered(
    tmp_path: Path, until: Until
) -> None:
    """The file cannot be emptied then, but it can be deleted; the disk is used again."""
    life, feed = Life(tmp_path), Feed()
    made = [feed.trade() for _ in range(5000)]
    async with life.running() as outbox:
        await life.fill(made)
        await until(lambda: life.board.spool.held > 3000)
        with capture_logs(), largest_file(8192):
            left = await taken(outbox, len(made))
            await until(lambda: not outbox.log.on_disk)
            assert size(tmp_path) < 50_000
        assert (life.board.spool.state, life.board.spool.set_aside) == ("idle", None)
        made += (more := [feed.trade() for _ in range(5000)])
        await life.fill(more)
        await until(lambda: life.board.spool.held > 3000)
        left += await emptied(outbox)
    assert left == made


async def test_what_a_full_disk_gave_away_is_not_stored_twice_by_the_next_process(
    tmp_path: Path,
) -> None:
    """How far it was handed out is on record although the disk takes nothing; and what is
    acknowledged by then does not come back to memory.
    """
    broker, sent = Broker(), trades(7000)
    async with Life(tmp_path).running() as outbox:
        for at in range(0, len(sent), 50):
            outbox.append(sent[at : at + 50])
            await outbox.room()
    with capture_logs(), largest_file(8192):
        life = Life(tmp_path)
        await life.outbox.open()
        for _ in range(40):
            broker.send(life.outbox, 100, 100)
            await life.outbox.spooler.turn()  # type: ignore[union-attr]
            await trio.sleep(0.02)
        assert life.board.spool.state == "failed"
        await life.outbox.store()
        assert 1000 < len(broker.stored) < 7000
    life = Life(tmp_path)
    await life.outbox.open()
    assert life.board.outbox.held < 1000
    await broker.settle(life.outbox)
    while life.outbox.log.on_disk:
        broker.send(life.outbox, 100, 100)
        await life.outbox.spooler.turn()  # type: ignore[union-attr]
    assert [message.msg_id for message in broker.stored] == [message.msg_id for message in sent]


async def test_killed_on_a_full_disk_what_is_on_it_is_all_there(
    tmp_path: Path, until: Until
) -> None:
    """What memory alone held is gone: the end of it, never a piece of its middle."""
    place, copy, feed = tmp_path / "one", tmp_path / "another", Feed()
    life = Life(place)
    async with life.running() as outbox:
        await life.fill([feed.trade() for _ in range(10_000)])
        await until(lambda: life.board.spool.held > 9_000)
        with capture_logs(), largest_file(8192):
            outbox.append([feed.trade() for _ in range(1_000)])
            await until(lambda: life.board.spool.state == "failed")
            await trio.sleep(0.2)
        shutil.copytree(place, copy)
        await taken(outbox, 11_000)
    life = Life(copy)
    async with life.running() as outbox:
        left = await emptied(outbox)
    found = Found.of(left)
    assert found.faults == []
    have = found.trades["trade BTC-USDT"]
    assert have == list(range(1, len(have) + 1))
    assert 9_000 < len(have) < 11_000


async def test_without_a_disk_from_the_start_memory_serves(tmp_path: Path, until: Until) -> None:
    """A file where the directory should be: said, and no more than memory holds is taken in."""
    (tmp_path / "file").write_bytes(b"")
    life, made = Life(tmp_path / "file" / "spool"), trades(3000)
    async with life.running() as outbox, trio.open_nursery() as nursery:
        assert (life.board.spool.state, outbox.safe) == ("failed", False)
        nursery.start_soon(life.fill, made)
        await until(lambda: outbox.full)
        await wait_all_tasks_blocked()
        assert life.board.outbox.held == 1000
        left = await taken(outbox, len(made))
    assert left == made


async def test_a_file_damaged_while_it_is_needed_is_set_aside_and_a_gap(
    tmp_path: Path, until: Until
) -> None:
    """What cannot be read any more is told as lost; what came later follows it."""
    life = Life(tmp_path)
    feed = Feed()
    async with life.running() as outbox:
        await life.fill([feed.trade() for _ in range(20_000)])
        await until(lambda: life.board.spool.held > 18_000)
        for file in (tmp_path / NAME, tmp_path / f"{NAME}-wal"):
            content = file.read_bytes().replace(b"50000.1", b"66666.6")
            file.write_bytes(content)
        left = await emptied(outbox)
        assert life.board.spool.set_aside is not None
    found = Found.of(left)
    have = found.trades["trade BTC-USDT"]
    assert have == sorted(have)
    assert len(have) + found.lost["trade BTC-USDT"] == 20_000
    assert all(b"66666.6" not in message.payload for message in left)
    assert any(name.startswith(f"{NAME}.damaged-") for name in touched(tmp_path))


async def test_a_disk_that_comes_late_does_not_bring_back_the_past(
    tmp_path: Path, until: Until
) -> None:
    """What an earlier process left cannot be delivered behind what came after: it is set aside."""
    place, away = tmp_path / "spool", tmp_path / "away"
    async with Life(place).running() as outbox:
        outbox.append(trades(10))
    place.rename(away)
    place.write_bytes(b"")
    life, messages = Life(place), trades(5000)
    async with life.running() as outbox:
        await life.fill(messages[:100])
        place.unlink()
        away.rename(place)
        await until(lambda: trio.current_time() >= outbox.spooler._retry_at)  # type: ignore[union-attr]
        await life.fill(messages[100:])
        await until(lambda: life.board.spool.held > 3000)
        assert await emptied(outbox) == messages
    assert any(name.startswith(f"{NAME}.late-") for name in touched(place))


async def test_taking_in_vain_and_settling_is_as_in_memory(tmp_path: Path) -> None:
    """A broker that remembers no ids, and forgets to answer, gets everything once."""
    life, broker, feed = Life(tmp_path), Broker(), Feed()
    async with life.running() as outbox:
        await life.fill([feed.trade() for _ in range(5000)])
        while len(broker.stored) < 5000:
            broker.send(outbox, 100, 60, [10, 59])
            outbox.rewind()
            await broker.settle(outbox)
            await trio.sleep(0.002)
    found = Found.of(broker.stored)
    assert (found.faults, len(broker.stored)) == ([], 5000)


async def test_a_stop_at_the_very_moment_it_begins_to_spool_loses_nothing(tmp_path: Path) -> None:
    """Whatever the disk was about to do when it was told to stop, the end writes all there is."""
    messages = trades(900)
    for checkpoints in range(12):
        place = tmp_path / str(checkpoints)
        life = Life(place)
        async with life.running() as outbox:
            outbox.append(messages)
            for _ in range(checkpoints):
                await trio.lowlevel.checkpoint()
        assert (life.board.outbox.held, life.board.spool.held) == (0, 900)
        async with Life(place).running() as outbox:
            assert await emptied(outbox) == messages
