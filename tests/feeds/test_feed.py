"""A feed's two connections in virtual time: when another is opened, and what becomes of the two."""

import pytest
import trio
from box import SETTLED, boxed
from forms import LONG
from structlog.testing import capture_logs
from trio.testing import MockClock
from universe import VENUES

from marketprism.feeds import feed as feed_module

pytestmark = pytest.mark.once

LIFE = 20.0
OLD = 70.0
"""Seconds after which a connection's announced end is no news of its birth."""


@pytest.mark.parametrize("venue", VENUES)
async def test_a_rotation_is_seen_by_nobody(venue: str, autojump_clock: MockClock) -> None:
    """Of everything that a venue has, by the exchange's own account: nothing missing, doubled,
    out of order or wrong, and no gap; one row a connection again, and no reconnect.
    """
    async with boxed(venue, life=LIFE) as box:
        await trio.sleep(8 * LIFE)
        rows = list(box.rows.values())
        assert all(row.rotations["ok"] >= 3 for row in rows if not row.next)
        assert box.count("failed") == 0
        assert [row.reconnects for row in rows] == [0] * len(rows)
        assert await box.breaches() == []
    assert not box.collector.board.gaps
    assert not box.collector.board.rejected


@pytest.mark.skipif(not LONG, reason="many lives of connections: nox -s faults")
async def test_rotations_take_place_one_after_the_other(autojump_clock: MockClock) -> None:
    """Though all connections were born together, and are due together."""
    async with boxed("binance_spot", "binance_derivatives", "okx_derivatives", life=LIFE) as box:
        await trio.sleep(6 * LIFE)
        assert len(box.seen) == 4
        assert box.together == 1


async def test_an_announced_end_waits_for_nobody_s_turn(autojump_clock: MockClock) -> None:
    """Both routes of the perpetuals at once."""
    async with boxed("binance_derivatives") as box:
        await trio.sleep(OLD)
        box.exchange.faults.server_shutdown(30.0)
        await trio.sleep(1.0)
        assert box.together == 2
        await box.until(lambda: box.count() == 2, 30)
        await trio.sleep(40)
        assert await box.breaches() == []


async def test_they_are_spread_over_the_end_of_a_life(autojump_clock: MockClock) -> None:
    """By a part of it that is drawn; what is shown is what happens."""
    async with boxed("binance_spot", life=200.0) as box:
        await trio.sleep(SETTLED)
        row = box.rows["binance_spot/0"]
        assert row.rotation_due is not None
        assert row.connected_since is not None
        life = (row.rotation_due - row.connected_since) / 1e9
        assert 190 <= life <= 200
        assert life != 200
        await box.until(lambda: box.count() == 1, 220)
        began = box.seen["binance_spot/0 (next)"][0]
        assert began == pytest.approx(row.rotation_due / 1e9, abs=0.5)


@pytest.mark.skipif(not LONG, reason="many lives of connections: nox -s faults")
async def test_without_a_life_none_is_planned(autojump_clock: MockClock) -> None:
    """And nothing is due."""
    async with boxed("binance_spot") as box:
        await trio.sleep(240)
        row = box.rows["binance_spot/0"]
        assert (row.rotation_due, box.count(), row.connects) == (None, 0, 1)


@pytest.mark.parametrize("status", [None, 403, 429, 503])
async def test_a_younger_that_is_refused_is_tried_again_later(
    status: int | None, autojump_clock: MockClock
) -> None:
    """The elder goes on; the host's breaker stays closed for those who lose their connection."""
    with capture_logs() as logs:
        async with boxed("binance_spot", life=30.0) as box:
            await trio.sleep(15.0)
            elder = set(box.exchange.connections)
            box.exchange.faults.refuse(60.0, status=status)
            await trio.sleep(50.0)
            assert set(box.exchange.connections) == elder
            assert box.count("failed") >= (1 if status in (403, 429) else 4)
            breaker = box.collector.board.breakers["websocket", "binance_spot"]
            assert breaker.failures == 0
            await box.until(lambda: box.count() == 1)
            row = box.rows["binance_spot/0"]
            assert (row.reconnects, row.state) == (0, "connected")
            assert await box.breaches() == []
    events = [line["event"] for line in logs]
    assert events.count("feed.rotating") == events.count("feed.rotated")
    assert events.count("feed.rotation_failed") == box.count("failed")
    (rotated, *_) = (line for line in logs if line["event"] == "feed.rotated")
    assert rotated["connection"] == "binance_spot/0"
    assert rotated["streams"] == 4
    assert 0 < rotated["seconds"] < 10


@pytest.mark.skipif(not LONG, reason="many lives of connections: nox -s faults")
async def test_a_younger_that_cannot_be_reached_leaves_the_turn_to_others(
    autojump_clock: MockClock,
) -> None:
    """A host that swallows all holds nobody up for longer than a handshake may take."""
    async with boxed("binance_spot", "okx_spot", life=30.0) as box:
        await trio.sleep(15.0)
        box.net.weather["binance_spot"].swallows_until = trio.current_time() + 300
        await trio.sleep(120.0)
        assert box.rows["okx_spot/0"].rotations["ok"] >= 2
        assert box.rows["binance_spot/0"].rotations["failed"] >= 2
        assert box.rows["binance_spot/0"].state == "connected"
        assert box.together == 1


async def test_a_younger_that_hears_nothing_is_given_up(autojump_clock: MockClock) -> None:
    """Its subscriptions were confirmed, and nothing comes: the elder keeps all it has."""
    async with boxed("binance_spot", life=30.0) as box:
        await trio.sleep(15.0)
        (elder,) = box.exchange.connections

        async def muffle() -> None:
            while True:
                await trio.sleep(0.01)
                for ident, connection in list(box.exchange.connections.items()):
                    if ident != elder and connection.streams:
                        connection.mute(trio.current_time() + 1000, deaf=False)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(muffle)
            await box.until(lambda: box.count("failed") == 1, 300)
            nursery.cancel_scope.cancel()
        assert elder in box.exchange.connections
        await box.until(lambda: box.count() == 1, 300)
        assert await box.breaches() == []


@pytest.mark.skipif(not LONG, reason="many lives of connections: nox -s faults")
async def test_announcements_to_every_new_connection_are_not_chased(
    autojump_clock: MockClock,
) -> None:
    """A server that goes down may tell so to whoever comes: the next comes later and later."""
    async with boxed("binance_spot") as box:
        await trio.sleep(OLD)

        async def announce() -> None:
            known: set[int] = set()
            while True:
                if set(box.exchange.connections) - known:
                    box.exchange.faults.server_shutdown(3000.0)
                known = set(box.exchange.connections)
                await trio.sleep(0.2)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(announce)
            await trio.sleep(300)
            nursery.cancel_scope.cancel()
        assert 4 <= len(box.net.dialled["binance_spot"]) <= 60
        assert await box.breaches() == []


async def test_an_elder_that_ends_before_the_other_stands_is_an_ordinary_loss(
    autojump_clock: MockClock,
) -> None:
    """It was announced, and nobody was there in time."""
    async with boxed("binance_spot") as box:
        await trio.sleep(OLD)
        box.exchange.faults.refuse(6.0)
        box.exchange.faults.server_shutdown(3.0)
        await box.until(lambda: box.rows["binance_spot/0"].reconnects == 1, 60)
        lost = trio.current_time()
        await trio.sleep(30)
        assert box.count() == 0
        assert list(box.rows) == ["binance_spot/0"]
        assert await box.breaches(lost + 10) == []
    assert set(box.collector.board.gaps) == {
        ("binance", "spot", kind, "disconnect") for kind in ("orderbook", "trade")
    }


async def test_an_elder_that_dies_meanwhile_is_inherited_from(autojump_clock: MockClock) -> None:
    """What it still had goes over at once; a gap at most, and no reconnect."""
    async with boxed("binance_derivatives") as box:
        await trio.sleep(OLD)
        elders = dict(box.exchange.connections)
        box.exchange.faults.server_shutdown(300.0)
        for elder in elders:
            # Silent, so that little joins before it is dead.
            box.exchange.faults.mute(300.0, connection=elder)
        await trio.sleep(2.0)
        assert "binance_derivatives/market/0 (next)" in box.rows
        for elder in elders.keys() & box.exchange.connections.keys():
            box.exchange.faults.cut(connection=elder)
        await box.until(lambda: box.count() == 2, 5)
        lost = trio.current_time()
        assert all(row.reconnects == 0 for row in box.rows.values())
        await trio.sleep(30)
        assert await box.breaches(lost + 10) == []
    assert {reason for *_, reason in box.collector.board.gaps} == {"disconnect"}


async def test_a_younger_that_dies_with_some_of_the_streams_is_an_ordinary_loss(
    autojump_clock: MockClock,
) -> None:
    """What it had and what the elder still had is told as gaps, and comes back."""
    async with boxed("binance_derivatives") as box:
        await trio.sleep(OLD)
        elders = set(box.exchange.connections)
        box.exchange.faults.server_shutdown(300.0)
        market = "binance_derivatives/market/0 (next)"
        # Liquidations are silent, and go over last.
        await trio.sleep(2.0)
        assert market in box.rows
        for ident in set(box.exchange.connections) - elders:
            box.exchange.faults.cut(connection=ident)
        lost = trio.current_time()
        row = box.rows["binance_derivatives/market/0"]
        await box.until(lambda: row.reconnects == 1, 60)
        assert market not in box.rows
        await trio.sleep(60)
        assert await box.breaches(lost + 15) == []


async def test_a_stop_in_the_midst_leaves_nothing_behind(autojump_clock: MockClock) -> None:
    """No row, no gap, nothing said twice."""
    async with boxed("binance_derivatives") as box:
        await trio.sleep(OLD)
        box.exchange.faults.server_shutdown(300.0)
        await trio.sleep(2.0)
        assert box.together == 2
        assert await box.breaches() == []
        assert not [row for row in box.rows.values() if row.next]
        assert {row.state for row in box.rows.values()} == {"stopped"}


async def test_frames_are_counted_once_and_for_good(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The counter never falls, whichever of the two is dropped; the streams count on."""
    monkeypatch.setattr(feed_module, "LOOK_SECONDS", 0.1)
    async with boxed("binance_spot", life=LIFE) as box:
        await trio.sleep(SETTLED)
        frames = records = 0
        for _ in range(600):
            await trio.sleep(0.1)
            now = sum(row.frames for row in box.rows.values())
            told = sum(row.records for row in box.collector.board.stream_rows())
            assert (now >= frames, told >= records) == (True, True)
            frames, records = now, told
            if trio.current_time() % 13 < 0.1:
                for row in list(box.rows.values()):
                    if row.next:
                        box.exchange.faults.cut(connection=max(box.exchange.connections))
        assert box.count() >= 2
