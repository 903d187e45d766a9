"""Whatever is wrong with the sink, the whole collector says what it is, waits without spinning, and
goes on without a loss. The stream is read back by a consumer that knows none of our code.
"""

import json
import re
import resource
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from nats_server import Server
from rig import Rig, running
from small_disk import small_disk

from marketprism.errors import SinkState
from marketprism.simulator import Market, player, record
from marketprism.wire import SUBJECTS

pytestmark = pytest.mark.once

SYMBOLS = ("BTC-USDT", "ETH-USDT")
WATCHED = 4.0
"""Seconds for which a trouble lasts, and attempts are counted."""


class Trouble:
    """One thing that can be wrong, from when it is caused until it is healed."""

    state: SinkState
    words: str
    connections = 5
    """New ones that are borne while it lasts."""
    connected = False

    def __init__(self, server: Server, folder: Path) -> None:
        self.server = server
        self.rules = folder / "rules.conf"
        self.until_its_end = ExitStack()

    async def prepare(self) -> None:
        """All is well."""
        self.configure("")

    async def cause(self) -> None: ...

    async def heal(self) -> None: ...

    # What they are made of.

    def configure(self, text: str) -> None:
        """Start the server by a configuration, or let it read another."""
        self.rules.write_text(text)
        if self.server.process is None:
            self.server.start("-c", str(self.rules))
        else:
            self.server.signal(signal.SIGHUP)

    def with_password(self, password: str, rights: str = "") -> None:
        users = f"{{ user: u, password: {password}, permissions: {{ {rights} }} }}"
        admin = "{ user: admin, password: admin }"
        self.configure(f"authorization {{ users: [ {users}, {admin} ] }}")
        self.server.login = {"user": "admin", "password": "admin"}
        self.server.url = f"nats://u:right@127.0.0.1:{self.server.port}"

    async def stream(self, **limits: Any) -> None:
        config = {"name": "MARKET_DATA", "subjects": SUBJECTS, "discard": "new", **limits}
        verb = "UPDATE" if self.server_has_stream else "CREATE"
        answer = await self.server.manage(f"STREAM.{verb}.MARKET_DATA", config)
        assert "error" not in answer, answer
        self.server_has_stream = True

    server_has_stream = False


class FullStream(Trouble):
    """It discards what is new."""

    state, words = SinkState.STREAM_FULL, "maximum messages exceeded"
    connections, connected = 0, True

    async def prepare(self) -> None:
        self.configure("")
        await self.stream()

    async def cause(self) -> None:
        await self.stream(max_msgs=len(await self.server.stored()) + 50)

    async def heal(self) -> None:
        await self.stream(max_msgs=-1)


class FullBytes(FullStream):
    """The same by size."""

    words = "maximum bytes exceeded"

    async def cause(self) -> None:
        size = (await self.server.manage("STREAM.INFO.MARKET_DATA"))["state"]["bytes"]
        await self.stream(max_bytes=size + 20_000)

    async def heal(self) -> None:
        await self.stream(max_bytes=-1)


class FullAccount(Trouble):
    """The account has no storage left."""

    state, words = SinkState.LIMITED, "resource limits exceeded for account"
    connections, connected = 0, True

    def allow(self, size: int) -> None:
        self.configure(
            f"accounts {{ A {{ users: [ {{ user: u, password: p }} ], "
            f"jetstream: {{ max_file: {size}, max_streams: 5 }} }} }}"
        )
        self.server.url = f"nats://u:p@127.0.0.1:{self.server.port}"

    async def prepare(self) -> None:
        self.allow(500_000_000)
        await self.stream(discard="old")

    async def cause(self) -> None:
        size = (await self.server.manage("STREAM.INFO.MARKET_DATA"))["state"]["bytes"]
        self.allow(size + 20_000)

    async def heal(self) -> None:
        self.allow(500_000_000)


class FullDisk(Trouble):
    """Nothing can be written: JetStream says nothing at all, until it is started again."""

    state, words = SinkState.STALLED, "acknowledged nothing for 2 s"

    def allow(self, size: int) -> None:
        assert self.server.process is not None
        resource.prlimit(self.server.process.pid, resource.RLIMIT_FSIZE, (size, -1))

    async def cause(self) -> None:
        self.allow(max(file.stat().st_size for file in self.server.store.rglob("*.blk")) + 5_000)

    async def heal(self) -> None:
        self.server.kill()
        self.server.process = None
        await trio.to_thread.run_sync(self.configure, "")


class SmallDisk(FullDisk):
    """A real disk of 20 MB. When there is room again JetStream must be started again, too."""

    async def prepare(self) -> None:
        self.disk = self.until_its_end.enter_context(small_disk(self.server.store))
        self.configure("")
        # One of our own would reserve more than there is.
        await self.stream(discard="old")

    async def cause(self) -> None:
        self.disk.fill()

    async def heal(self) -> None:
        self.disk.clear()
        await super().heal()


class Locked(Trouble):
    """Our password is no longer the right one."""

    state, words = SinkState.UNAUTHORISED, "authorisation refused: (?i:authorization)"

    async def prepare(self) -> None:
        self.with_password("right")

    async def cause(self) -> None:
        self.with_password("wrong")

    async def heal(self) -> None:
        self.with_password("right")


class Forbidden(Locked):
    """We may not publish any more."""

    words = "(?i)permissions violation for publish to"

    async def cause(self) -> None:
        self.with_password("right", "publish: { deny: 'trade-data.>' }")


class NoApi(Locked):
    """We may not ask JetStream."""

    words = r"(?i)permissions violation for publish to ..JS\.API"

    async def cause(self) -> None:
        self.with_password("right", "publish: { deny: '$JS.API.>' }")
        # What stands goes on standing: it does not ask any more.
        self.server.kill()
        await trio.to_thread.run_sync(self.server.start, "-c", str(self.rules))


class NoJetStream(Trouble):
    """The server comes back without it."""

    state, words = SinkState.NO_JETSTREAM, "has no JetStream enabled"

    async def cause(self) -> None:
        self.server.kill()
        await trio.to_thread.run_sync(lambda: self.server.start(jetstream=False))

    async def heal(self) -> None:
        self.server.kill()
        await trio.to_thread.run_sync(self.server.start)


class Crowded(Trouble):
    """The server has all the connections it wants."""

    state, words = SinkState.LIMITED, "maximum connections exceeded"

    async def cause(self) -> None:
        self.rules.write_text("max_connections: 1")
        said = b"-ERR"
        while b"-ERR" in said:
            # The collector may be quicker than this one, which is thrown out then: once more.
            self.server.kill()
            await trio.to_thread.run_sync(self.server.start, "-c", str(self.rules))
            self.other = await trio.open_tcp_stream("127.0.0.1", self.server.port)
            said = b""
            with trio.move_on_after(0.3):
                while more := await self.other.receive_some():
                    said += more
            if b"-ERR" in said:
                await self.other.aclose()

    async def heal(self) -> None:
        await self.other.aclose()
        self.configure("max_connections: 100")


def market(seconds: float) -> list[str]:
    """A capture of a seeded market."""
    made = Market(7, ["BTCUSDT", "ETHUSDT"], trades_per_second=40, quotes_per_second=100)
    return record(made, seconds)


def trades_of(lines: list[str]) -> dict[str, list[int]]:
    """Every trade of it, by symbol."""
    numbers: dict[str, list[int]] = {}
    for line in map(json.loads, lines):
        data = json.loads(line["raw"])["data"] if line["kind"] == "recv" else {}
        if data.get("e") == "aggTrade":
            numbers.setdefault(data["s"].replace("USDT", "-USDT"), []).append(data["a"])
    return numbers


@asynccontextmanager
async def flowing(server: Server, seconds: float) -> AsyncIterator[tuple[Rig, list[str]]]:
    """A collector whose records are being stored."""
    lines = market(seconds)
    exchange = player(lines, speed=1, start_delay=0.5)
    async with running(exchange, server, SYMBOLS) as rig:
        await rig.until(lambda: sum(rig.collector.board.published.values()) > 200)
        yield rig, lines


async def drained(rig: Rig) -> None:
    """All that the exchange had to say is stored, and the collector has stopped."""
    await rig.exchange.finished.wait()
    await rig.drained()
    await rig.settled()
    await rig.stop()


@pytest.mark.parametrize(
    "kind",
    [
        FullStream,
        FullBytes,
        FullAccount,
        FullDisk,
        SmallDisk,
        Locked,
        Forbidden,
        NoApi,
        NoJetStream,
        Crowded,
    ],
)
async def test_a_trouble_is_named_waited_out_and_loses_nothing(
    absent_server: Server, tmp_path: Path, kind: Callable[[Server, Path], Trouble]
) -> None:
    """On /health in words within 10 s, few attempts meanwhile, flowing within 10 s of the cure;
    every trade once and in order, every book chained, no gap.
    """
    trouble = kind(absent_server, tmp_path)
    with trouble.until_its_end:
        await _lived_through(trouble, absent_server)


async def _lived_through(trouble: Trouble, absent_server: Server) -> None:
    await trouble.prepare()
    async with flowing(absent_server, 10) as (rig, lines):
        row, board = rig.collector.board.sink, rig.collector.board
        await trouble.cause()
        await rig.until(lambda: row.state is trouble.state, 10)
        status, health = await rig.get("/health")
        assert status == 503
        check = health["checks"]["sink"]["detail"]
        assert str(trouble.state).replace("_", " ") in check
        assert re.search(trouble.words, check)
        before = (await trio.to_thread.run_sync(absent_server.traffic))["total_connections"]
        seen = set()
        with trio.move_on_after(WATCHED):
            while True:
                seen.add(row.state)
                await trio.sleep(0.05)
        after = (await trio.to_thread.run_sync(absent_server.traffic))["total_connections"]
        assert after - before <= trouble.connections
        assert seen == {trouble.state}
        assert row.connected or not trouble.connected
        _, page = await rig.get("/status")
        assert page["sink"]["state"] == trouble.state
        await trouble.heal()
        stored = sum(board.published.values())
        await rig.until(lambda: sum(board.published.values()) > stored + 100, 10)
        await rig.until(lambda: row.state is SinkState.CONNECTED, 5)
        assert (await rig.get("/health"))[1]["checks"]["sink"]["status"] == "healthy"
        await drained(rig)
        consumer = await rig.consumed()
    assert (consumer.faults, consumer.gaps) == ([], [])
    assert consumer.trades == trades_of(lines)
