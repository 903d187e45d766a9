"""A process's outbox over a directory, and damage to what it leaves there."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import trio
from market_log import BTC, ETH, START, Feed, at_once

from marketprism.board.board import Board
from marketprism.clock import Timestamp
from marketprism.outbox.spool import NAME, Spool
from marketprism.sinks import Outbox
from marketprism.wire import Message

LARGE = 10**9
CAPACITY = 400
"""Of the outbox: it makes blocks of fifty."""


class Life:
    """One process's outbox over a directory."""

    def __init__(self, directory: Path) -> None:
        self.board = Board()
        self.spool = Spool(directory, LARGE, 0)
        now = Timestamp(START + 10**12, 1)
        self.outbox = Outbox(
            *(CAPACITY, LARGE, self.board.outbox),
            board=self.board,
            spool=self.spool,
            now=lambda: now,
            worker=at_once,
        )

    async def turn(self) -> None:
        """One round of its disk, and a moment."""
        assert self.outbox.spooler is not None
        await self.outbox.spooler.turn()
        await trio.sleep(0.02)

    async def leaves(self, messages: list[Message], delivered: int = 0) -> None:
        """It takes these, delivers some, and stops with the rest on disk."""
        await self.outbox.open()
        self.outbox.append(messages)
        for number, _ in self.outbox.take(delivered):
            self.outbox.acknowledge(number)
        await self.outbox.store()

    async def delivers(self, more: list[Message] | None = None) -> list[Message]:
        """All there is, and then these."""
        self.outbox.append(more or [])
        self.outbox.close()
        told: list[Message] = []
        for _ in range(10_000):
            if self.outbox.drained:
                break
            await self.turn()
            for number, message in self.outbox.take(70):
                self.outbox.acknowledge(number)
                told.append(message)
        else:
            raise AssertionError("it does not end")
        assert (self.board.spool.held, self.board.spool.held_bytes) == (0, 0)
        await self.outbox.store()
        return told


def market(feed: Feed, outputs: int) -> list[Message]:
    """Two streams of trades and a book that is snapshot now and then."""
    messages = []
    for turn in range(outputs):
        messages += [feed.trade(BTC), feed.trade(ETH), feed.update()]
        messages += [feed.snapshot()] if turn % 20 == 19 else []
    return messages


def garble(connection: sqlite3.Connection, number: int) -> None:
    """As a bit that flips in a block: SQLite does not notice, nor would whoever reads a price."""
    (body,) = connection.execute("SELECT body FROM blocks WHERE first = ?", (number,)).fetchone()
    changed = body.replace(b"50000.1", b"50000.3", 1)
    connection.execute("UPDATE blocks SET body = ? WHERE first = ?", (changed, number))


def damage(directory: Path, place: int, also: str = "") -> None:
    """A block of a process that has ended, by its place in the file."""
    with closing(sqlite3.connect(directory / NAME)) as connection:
        rows = connection.execute("SELECT first FROM blocks ORDER BY first").fetchall()
        garble(connection, rows[place][0])
        connection.commit()
        connection.executescript(also)


def gaps(told: list[Message]) -> list[dict[str, object]]:
    """Those among them."""
    return [json.loads(each.payload) for each in told if each.data_type == "gap"]
