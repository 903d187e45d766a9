"""One connection takes over from another, over real sockets into a real stream: nobody notices."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from consumer import Consumer
from nats_server import Server
from patience import PATIENCE
from rig import Rig, running

from marketprism import simulator
from marketprism.board.rows import ConnectionRow
from marketprism.board.stream_row import StreamRow
from marketprism.records import DataType

pytestmark = pytest.mark.once

SYMBOLS = {
    "binance_spot": ("BTC-USDT", "ETH-USDT"),
    "binance_derivatives": ("BTC-USDT", "ETH-USDT"),
    "okx_spot": ("BTC-USDT", "ETH-USDT"),
    "okx_derivatives": ("BTC-USDT", "ETH-USDT"),
    "deribit_derivatives": ("BTC", "ETH"),
}
ANNOUNCING = [venue for venue in SYMBOLS if not venue.startswith("deribit")]
RATIOS = (DataType.LSR_TOP_POSITION, DataType.LSR_ALL_ACCOUNT)
POLLED = {"bin": (*RATIOS, DataType.OPEN_INTEREST), "okx": RATIOS, "der": ()}
QUIET = (DataType.LIQUIDATION,)
"""What goes over by its silence, which takes a while."""


@asynccontextmanager
async def collecting(
    venue: str, server: Server, life: float = 0.0, without: tuple[DataType, ...] = QUIET
) -> AsyncIterator[Rig]:
    """A busy venue's streams, all live, on connections that live so long."""
    exchange = simulator.market(venue, seed=11, trades_per_second=80, quotes_per_second=200)
    options: dict[str, Any] = {
        "venue": venue,
        "depth": 400,
        "snapshot_interval": 1.0,
        "kind": "raw",
        "data_types": [each for each in DataType if each not in (*POLLED[venue[:3]], *without)],
        "limits": {"connection_life": life, "message_interval": 0.1},
    }
    async with running(exchange, server, SYMBOLS[venue], **options) as rig:
        yield rig


def rows(rig: Rig) -> list[ConnectionRow]:
    """The feeds' connections; not one that is only about to take over."""
    return [row for row in rig.collector.board.connections.values() if not row.next]


def rotated(rig: Rig, times: int, outcome: str = "ok") -> bool:
    """Whether each feed has rotated so often."""
    found = rows(rig)
    return bool(found) and all(row.rotations[outcome] >= times for row in found)


def live(rig: Rig) -> bool:
    """Whether every stream lives."""
    streams = list(rig.collector.board.stream_rows())
    return bool(streams) and all(row.state == "live" for row in streams)


def books(rig: Rig) -> list[StreamRow]:
    """The streams that are books."""
    streams = rig.collector.board.stream_rows()
    return [row for row in streams if row.data_type is DataType.ORDERBOOK]


async def finished(rig: Rig) -> Consumer:
    """Once there is enough to judge: stop, and read the stream back."""
    before = {row.instrument: row.records for row in books(rig)}
    await rig.until(lambda: all(row.records > before[row.instrument] + 5 for row in books(rig)))
    await rig.stop()
    return await rig.consumed()


def whole(consumer: Consumer, venue: str) -> None:
    """No gap, nothing twice, nothing out of order, every book in step."""
    assert consumer.faults == []
    assert consumer.gaps == []
    if venue.startswith("deribit"):
        return
    assert set(consumer.books) == set(consumer.trades) == set(SYMBOLS[venue])
    assert all(book.updates > 1 for book in consumer.books.values())


@pytest.mark.parametrize("venue", SYMBOLS)
async def test_planned_rotations_are_not_seen_in_the_stream(venue: str, server: Server) -> None:
    """Three of each connection under load: no gap, no duplicate, no inversion; no book is asked
    for again, and no reconnect is counted.
    """
    async with collecting(venue, server, life=1.5) as rig:
        await rig.until(lambda: live(rig), PATIENCE)
        asked = rig.exchange.paths.copy()
        await rig.until(lambda: rotated(rig, 3), PATIENCE)
        await rig.until(lambda: live(rig), PATIENCE)
        assert rig.exchange.paths == asked
        board = rig.collector.board
        assert [(row.reconnects, row.rotations["failed"]) for row in rows(rig)] == [
            (0, 0) for _ in rows(rig)
        ]
        assert rig.exchange.accepted >= 4 * len(rows(rig))
        assert not board.rejected
        consumer = await finished(rig)
    whole(consumer, venue)
    assert not board.gaps


async def test_liquidations_and_all_else_that_perpetuals_have_go_over(server: Server) -> None:
    """What is mostly silent goes over once the elder has answered for its silence."""
    async with collecting("binance_derivatives", server, life=3.0, without=()) as rig:
        await rig.until(lambda: rotated(rig, 1), PATIENCE)
        await rig.until(
            lambda: not any(row.next for row in rig.collector.board.connections.values())
        )
        assert [row.rotations["failed"] for row in rows(rig)] == [0, 0]
        consumer = await finished(rig)
    whole(consumer, "binance_derivatives")


@pytest.mark.parametrize("venue", ANNOUNCING)
async def test_an_announced_end_comes_to_a_connection_that_is_not_needed_any_more(
    venue: str, server: Server
) -> None:
    """Announced, and kept: meanwhile another took over, whoever's turn it was."""
    async with collecting(venue, server) as rig:
        await rig.until(lambda: live(rig), PATIENCE)
        asked, board = rig.exchange.paths.copy(), rig.collector.board
        old = set(rig.exchange.connections)
        rig.exchange.faults.server_shutdown(8.0)
        await rig.until(lambda: rotated(rig, 1), PATIENCE)
        await rig.until(lambda: not old & set(rig.exchange.connections), PATIENCE)
        await trio.sleep(0.5)
        assert live(rig)
        assert rig.exchange.paths == asked
        assert all(row.reconnects == 0 for row in rows(rig))
        assert not board.gaps
        consumer = await finished(rig)
    whole(consumer, venue)


@pytest.mark.parametrize("status", [None, 429, 403])
async def test_a_younger_that_is_refused_does_not_disturb(
    status: int | None, server: Server
) -> None:
    """The elder goes on; it is counted, and another tries later."""
    async with collecting("binance_spot", server) as rig:
        await rig.until(lambda: live(rig), PATIENCE)
        rig.exchange.faults.refuse(2.0, status=status)
        rig.exchange.faults.server_shutdown(600.0)
        await rig.until(lambda: rotated(rig, 1, "failed"), PATIENCE)
        (row,) = rows(rig)
        assert (row.state, row.reconnects, row.rotations["ok"]) == ("connected", 0, 0)
        assert live(rig)
        _, page = await rig.get("/connections")
        shown = page["connections"][0]
        assert shown["id"] == "binance_spot/0"
        assert shown["rotations"]["failed"] >= 1
        if status is None:
            await rig.until(lambda: rotated(rig, 1), PATIENCE)
        consumer = await finished(rig)
    whole(consumer, "binance_spot")


async def test_a_younger_that_is_cut_before_it_has_a_stream_does_no_harm(server: Server) -> None:
    """Nor does one that hears nothing of what it asked for."""
    async with collecting("binance_spot", server) as rig:
        await rig.until(lambda: live(rig), PATIENCE)
        exchange = rig.exchange
        elder = max(exchange.connections)
        exchange.faults.server_shutdown(600.0)
        for _ in range(2):
            known = set(exchange.connections)
            await rig.until(lambda: set(exchange.connections) - known, PATIENCE)  # noqa: B023
            exchange.faults.cut(connection=max(exchange.connections))
            await rig.until(lambda: set(exchange.connections) == {elder}, PATIENCE)
        await rig.until(lambda: rotated(rig, 1), PATIENCE)
        (row,) = rows(rig)
        assert row.rotations["failed"] == 2
        assert row.reconnects == 0
        consumer = await finished(rig)
    whole(consumer, "binance_spot")


async def test_an_elder_that_is_cut_meanwhile_is_inherited_from(server: Server) -> None:
    """The younger has it all at once; what is missing, if anything is, is a gap; no reconnect."""
    async with collecting("binance_spot", server) as rig:
        await rig.until(lambda: live(rig), PATIENCE)
        exchange, board = rig.exchange, rig.collector.board
        (elder,) = exchange.connections
        exchange.faults.server_shutdown(600.0)
        # So that the two cannot join, and something is missed between them.
        exchange.faults.mute(600.0, connection=elder)
        exchange.faults.refuse(0.5)
        key = "binance_spot/0 (next)"
        await rig.until(
            lambda: key in board.connections and board.connections[key].state == "connected"
        )
        exchange.faults.cut(connection=elder)
        await rig.until(lambda: rotated(rig, 1) and live(rig), PATIENCE)
        (row,) = rows(rig)
        assert row.reconnects == 0
        consumer = await finished(rig)
    assert consumer.faults == []
    assert {gap["reason"] for gap in consumer.gaps} == {"disconnect"}


async def test_both_connections_are_shown_while_there_are_two(server: Server) -> None:
    """And when the one is due; afterwards there is one row again."""
    async with collecting("binance_spot", server, life=1.0) as rig:
        shown: list[list[dict[str, Any]]] = []
        with trio.fail_after(PATIENCE):
            while not rotated(rig, 2) or not any(len(page) == 2 for page in shown):
                _, page = await rig.get("/connections")
                shown.append(page["connections"])
        ids = [[row["id"] for row in page] for page in shown if page]
        assert ["binance_spot/0", "binance_spot/0 (next)"] in ids
        assert all(page in (ids[0], ["binance_spot/0", "binance_spot/0 (next)"]) for page in ids)
        dues = [
            row["rotation_due_seconds"]
            for page in shown
            for row in page
            if row["id"] == "binance_spot/0" and row["rotation_due_seconds"] is not None
        ]
        assert all(0 <= due <= 1.0 for due in dues)
        assert any(due > 0 for due in dues)
        health, _ = await rig.get("/health")
        assert health == 200
