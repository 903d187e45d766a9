"""What a damaged disk costs: gaps in its place, and books that wait for a snapshot."""

import json
from pathlib import Path

import pytest
from damaged import Life, damage, gaps, garble
from market_log import BTC, Feed, Found
from trio.testing import MockClock

from marketprism.clock import MILLISECOND
from marketprism.records import DataType
from marketprism.wire import Message

pytestmark = pytest.mark.once


async def broken(life: Life, feed: Feed) -> list[Message]:
    """Its disk holds a block of a book that cannot be read; what was accepted so far."""
    await life.outbox.open()
    made = [feed.snapshot(), *(feed.update() for _ in range(700))]
    for at in range(0, len(made), 40):
        life.outbox.append(made[at : at + 40])
        for _ in range(3):
            await life.turn()
    connection = life.spool.file.connection
    (first,) = connection.execute("SELECT first FROM blocks LIMIT 1 OFFSET 9").fetchone()
    garble(connection, first)
    return made


async def test_a_book_goes_on_with_a_snapshot_that_names_the_gap(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """What follows the block that is lost cannot be used before: it lies in the gap, to the id."""
    feed, life = Feed(), Life(tmp_path)
    made = await broken(life, feed)
    more = [*(feed.update() for _ in range(10)), feed.snapshot(), feed.update()]
    told = await life.delivers(more)
    (gap,) = gaps(told)
    at = next(place for place, each in enumerate(told) if each.data_type == "gap")
    assert [each.payload for each in told[at + 1 :]] == [each.payload for each in more[-2:]]
    started = told[at].msg_id.rpartition(":")[-1]
    assert told[at + 1].msg_id == f"{more[-2].msg_id.rpartition(':')[0]}:{started}"
    assert gap["first_missing_id"] == str(json.loads(told[at - 1].payload)["last_update_id"] + 1)
    assert gap["last_missing_id"] == "710"
    assert gap["lost"] == len(made) + 10 - at == life.board.spool.dropped
    assert Found.of(told).faults == []


async def test_where_no_snapshot_comes_the_gap_is_told_at_the_end(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """Whoever reads knows that the book is not what it was."""
    feed, life = Feed(), Life(tmp_path)
    made = await broken(life, feed)
    told = await life.delivers([feed.update()])
    assert told[-1].data_type == "gap"
    assert [each.payload for each in told[:-1]] == [each.payload for each in made[: len(told) - 1]]
    (gap,) = gaps(told)
    assert (gap["affected"], gap["last_missing_id"]) == ("orderbook", "701")


async def test_what_went_with_it_may_have_been_delivered_and_proves_what_lies_before(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """The stream's last message is one of the updates behind the block: what is held from before
    is stored as well, and not sent again.
    """
    feed, life = Feed(), Life(tmp_path)
    await life.outbox.open()
    made = [feed.snapshot(), *(feed.update() for _ in range(199))]
    life.outbox.append(made)
    life.outbox.take(160)
    await life.outbox.store()
    damage(tmp_path, 1)
    after = Life(tmp_path)
    await after.outbox.open()
    stored = made[155]
    assert stored.subject in after.outbox.in_doubt()
    assert await after.outbox.forget_stored(stored.subject, stored.msg_id) == 50
    told = await after.delivers([feed.snapshot()])
    assert [each.data_type for each in told] == ["gap", "orderbook"]
    assert told[-1].instrument == BTC
    assert json.loads(told[0].payload)["lost"] is None


async def test_a_second_gap_of_the_same_moment_has_a_millisecond_of_its_own(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """The gaps that are in the file are known before others are made."""
    feed, life = Feed(), Life(tmp_path)
    await life.outbox.open()
    made = [feed.trade() for _ in range(50)]
    lost = [feed.trade() for _ in range(50)]
    feed.clock -= (len(lost) + 5) * MILLISECOND // 3 - 1
    gap = feed.gap(DataType.TRADE)
    assert json.loads(gap.payload)["started_at"] == json.loads(lost[0].payload)["collected_at"]
    life.outbox.append([*made, *lost, gap])
    await life.outbox.store()
    damage(tmp_path, 1)
    after = Life(tmp_path)
    await after.outbox.open()
    told = await after.delivers()
    ids = [each.msg_id for each in told if each.data_type == "gap"]
    assert len(ids) == len(set(ids)) == 2
