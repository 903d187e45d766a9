"""The line of each minute: rates, and what is down."""

import attrs
import pytest
import trio
from box import boxed
from structlog.testing import capture_logs
from trio.testing import MockClock

from marketprism.board.board import Board
from marketprism.board.rows import ConnectionRow, VenueRow
from marketprism.clock import Timestamp
from marketprism.observe.health import judge
from marketprism.observe.summary import Summary

SECOND = 1_000_000_000
START = Timestamp(1_764_000_000 * SECOND, 5 * SECOND)


def after(seconds: float) -> Timestamp:
    """So long after the start."""
    return Timestamp(
        START.wall + round(seconds * SECOND), START.monotonic + round(seconds * SECOND)
    )


def working() -> Board:
    """All is well."""
    board = Board(started=START.monotonic)
    board.sink.connected, board.sink.connects = True, 1
    board.sink.state = board.sink.state.CONNECTED
    board.venues["okx_spot"] = VenueRow("okx_spot", "okx", "spot", "running")
    row = ConnectionRow("okx_spot/0", "okx_spot", "okx", "spot", "wss://host", "connected")
    board.connections["okx_spot/0"] = row
    return board


def lively(board: Board, now: Timestamp) -> None:
    """Something came just now."""
    board.connections["okx_spot/0"].last_message = now.monotonic


def test_it_tells_what_came_since_the_one_before() -> None:
    """A second, in all and of each market; and what was lost."""
    board = working()
    summary = Summary(board, START)
    board.received.update({("okx", "spot", "trade"): 600, ("binance", "spot", "orderbook"): 60})
    board.published.update({("okx", "spot", "trade"): 540})
    board.gaps.update({("okx", "spot", "trade", "stale"): 2})
    board.lost.update({("okx", "spot", "trade"): 3})
    board.outbox.held, board.channel.held, board.memory.used = 110, 10, 7
    assert summary.due_in(60, after(20)) == 40
    lively(board, after(60))
    assert summary.take(after(60)) == (
        True,
        {
            "seconds": 60.0,
            "received_per_second": 11.0,
            "stored_per_second": 9.0,
            "markets": {"binance.spot": 1.0, "okx.spot": 10.0},
            "gaps": 2,
            "lost": 3,
            "held": 120,
            "memory_bytes": 7,
            "health": judge(board, after(60)).body["status"],
            "down": [],
        },
    )
    board.received.update({("okx", "spot", "trade"): 30})
    assert summary.due_in(60, after(61)) == 59
    lively(board, after(90))
    _, words = summary.take(after(90))
    assert words["seconds"] == 30.0
    assert words["markets"] == {"binance.spot": 0.0, "okx.spot": 1.0}
    assert (words["gaps"], words["lost"], words["stored_per_second"]) == (0, 0, 0.0)


def test_it_says_again_what_stays_down() -> None:
    """In the words of /health, with since when."""
    board = working()
    summary = Summary(board, START)
    row = board.connections["okx_spot/0"]
    row.state, row.reason, row.down_since = "waiting", "closed: 1006", after(70).monotonic
    for seconds in (100, 160):
        lively(board, after(seconds))
        well, words = summary.take(after(seconds))
        assert not well
        assert words["health"] == "degraded"
        assert (
            "connections: 0 of 1 connected;"
            f" okx_spot/0 is waiting for {seconds - 70} s: closed: 1006"
        ) in words["down"]
        checks = judge(board, after(seconds)).body["checks"]
        assert words["down"] == [
            f"{name}: {check['detail']}"
            for name, check in checks.items()
            if check["status"] in ("degraded", "unhealthy")
        ]


async def test_a_collector_logs_it_each_minute(autojump_clock: MockClock) -> None:
    """At INFO while all is well, as a warning while anything is down; and what is back says after
    how long.
    """
    async with boxed("okx_spot") as box:
        with capture_logs() as lines:
            await trio.sleep(130)
            box.net.weather["okx_spot"].refuses_until = trio.current_time() + 100
            box.exchange.faults.cut()
            await trio.sleep(180)
    told = [line for line in lines if line["event"] == "collector.summarised"]
    # At the end of the fourth minute it may be either.
    levels = [line["log_level"] for line in told]
    assert levels[:3] + levels[4:] == ["info", "info", "warning", "info"]
    assert all(0 < line["markets"]["okx.spot"] < 1000 for line in told[:2])
    assert any("connections: 0 of 1 connected" in words for words in told[2]["down"])
    events = {line["event"]: line for line in lines}
    assert 90 < events["feed.connected"]["after"] < 120
    assert 90 < events["host.reachable"]["after"] < 120


async def test_it_can_be_switched_off(autojump_clock: MockClock) -> None:
    """0: never."""
    async with boxed("okx_spot") as box:
        log = attrs.evolve(box.collector.config.log, summary_interval=0.0)
        box.collector.config = attrs.evolve(box.collector.config, log=log)
        with capture_logs() as lines:
            await trio.sleep(70)
    assert "collector.summarised" not in {line["event"] for line in lines}


async def test_a_line_that_cannot_be_worded_ends_nothing(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often: it is logged as the bug that it is, and records go on coming."""

    def fail(_summary: Summary, _now: Timestamp) -> None:
        raise ZeroDivisionError("a bug of ours")

    monkeypatch.setattr(Summary, "take", fail)
    async with boxed("deribit_derivatives") as box:
        log = attrs.evolve(box.collector.config.log, summary_interval=1.0)
        box.collector.config = attrs.evolve(box.collector.config, log=log)
        with capture_logs() as lines:
            await trio.sleep(120)
            received = box.collector.board.received.total()
            await trio.sleep(5)
        assert box.collector.board.received.total() > received
    failed = [line for line in lines if line["event"] == "task.failed"]
    assert len(failed) > 5
