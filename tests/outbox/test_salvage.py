"""A damaged block of the spool costs that block: what is behind it is delivered, and what was in it
lies in a gap.
"""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from damaged import LARGE, Life, damage, gaps, garble, market
from forms import form, some
from market_log import BTC, ETH, Feed, Found
from trio.testing import MockClock

from marketprism.outbox.spool import NAME, Spool
from marketprism.records import DataType

pytestmark = pytest.mark.once

PAGE = 16 * 1024


@pytest.mark.parametrize("place", [1, 7, -1])
async def test_what_is_behind_a_damaged_block_is_delivered(
    place: int, tmp_path: Path, autojump_clock: MockClock
) -> None:
    """In order, around the hole; a gap in each of its streams says what was in it, to the id."""
    feed = Feed()
    made = market(feed, 400)
    await Life(tmp_path).leaves(made)
    damage(tmp_path, place)
    life = Life(tmp_path)
    await life.outbox.open()
    assert life.board.spool.set_aside is not None
    told = await life.delivers(more := market(feed, 30))
    found = Found.of(told)
    assert found.faults == []
    assert len(told) - len(gaps(told)) > len(made) + len(more) - 150
    for stream in ("trade BTC-USDT", "trade ETH-USDT"):
        have, missing = set(found.trades[stream]), found.told(stream)
        assert not have & missing
        assert have | missing == set(range(1, 431))
        assert found.lost[stream] == len(missing) in range(5, 20)
    assert {(each["affected"], each["connection"]) for each in gaps(told)} == {
        ("trade", "outbox"),
        ("orderbook", "outbox"),
    }


async def test_a_gap_that_was_in_it_is_told_as_one_of_unknown_size(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """What that spoke of stands elsewhere, and would be a hole that nobody told."""
    feed = Feed()
    await Life(tmp_path).leaves(
        [
            *(feed.trade(BTC) for _ in range(100)),
            *(feed.trade(ETH) for _ in range(49)),
            feed.gap(DataType.TRADE, BTC),
            *(feed.trade(BTC) for _ in range(100)),
        ]
    )
    damage(tmp_path, 2)
    life = Life(tmp_path)
    await life.outbox.open()
    told = await life.delivers()
    lost = {str(each["symbol"]): each["lost"] for each in gaps(told)}
    assert lost == {"BTC-USDT": None, "ETH-USDT": 49}
    assert len(told) == 202


@pytest.mark.parametrize("wound", ["DELETE FROM contents", "UPDATE contents SET checksum = 1"])
async def test_where_nothing_says_what_was_in_it_each_stream_may_have_lost_something(
    wound: str, tmp_path: Path, autojump_clock: MockClock
) -> None:
    """Nobody knows how much; but a stream whose ids go on has lost nothing. It is what becomes of
    files that were written before anything was told apart, too.
    """
    feed = Feed()
    made = [*market(feed, 60), *(feed.trade(BTC) for _ in range(50)), *market(feed, 60)]
    await Life(tmp_path).leaves(made)
    damage(tmp_path, 3, wound)
    life = Life(tmp_path)
    await life.outbox.open()
    found = Found.of(told := await life.delivers())
    assert found.faults == []
    assert {(each["symbol"], each["lost"]) for each in gaps(told)} >= {("BTC-USDT", None)}
    assert len(told) - len(gaps(told)) >= len(made) - 70


async def test_of_what_may_have_been_delivered_nobody_says_how_much_is_lost(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """It was sent, and the process ended before it heard."""
    feed, life = Feed(), Life(tmp_path)
    await life.outbox.open()
    life.outbox.append([feed.trade() for _ in range(200)])
    life.outbox.take(60)
    await life.outbox.store()
    damage(tmp_path, 1)
    after = Life(tmp_path)
    await after.outbox.open()
    told = await after.delivers()
    (gap,) = gaps(told)
    assert (gap["lost"], len(told)) == (None, 151)


async def test_what_is_lost_is_remembered_until_it_is_told(tmp_path: Path) -> None:
    """A process that ends in between leaves that to the next; it is told once."""
    feed = Feed()
    await Life(tmp_path).leaves([feed.trade() for _ in range(200)])
    damage(tmp_path, 2)
    told = []
    for now in ("1", "2", "3"):
        spool = Spool(tmp_path, LARGE, 0)
        spool.open(now)
        told.append([message for block in spool.blocks() for _, message in block.messages()])
        spool.close()
    assert told[0] == told[1] == told[2]
    (gap,) = gaps(told[0])
    assert (gap["lost"], gap["first_missing_id"], gap["last_missing_id"]) == (50, "101", "150")
    assert [each.data_type for each in told[0]] == ["trade"] * 100 + ["gap"] + ["trade"] * 50


async def test_a_block_that_is_damaged_while_it_is_needed_costs_that_block(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """Found when it is read back: the rest is delivered, and the disk is used on."""
    feed, life = Feed(), Life(tmp_path)
    await life.outbox.open()
    made = market(feed, 400)
    for at in range(0, len(made), 40):
        life.outbox.append(made[at : at + 40])
        for _ in range(3):
            await life.turn()
    assert life.board.spool.held > 900
    connection = life.spool.file.connection
    row = connection.execute("SELECT first FROM blocks ORDER BY first LIMIT 1 OFFSET 9").fetchone()
    garble(connection, row[0])
    told = await life.delivers(more := market(feed, 30))
    found = Found.of(told)
    assert found.faults == []
    assert len(told) - len(gaps(told)) > len(made) + len(more) - 150
    for stream in ("trade BTC-USDT", "trade ETH-USDT"):
        have, missing = set(found.trades[stream]), found.told(stream)
        assert not have & missing
        assert have | missing == set(range(1, 431))
    assert life.board.spool.set_aside is not None
    assert life.board.spool.state != "failed"


async def test_what_memory_still_has_of_a_damaged_block_is_on_disk_again(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """Everything that is not acknowledged is on disk, whatever was damaged: nothing is lost, and a
    process that dies then costs nothing either.
    """
    feed, life = Feed(), Life(tmp_path)
    await life.outbox.open()
    life.outbox.append(made := [feed.trade() for _ in range(380)])
    for _ in range(4):
        await life.turn()
    assert life.outbox.spooler is not None
    taken = life.outbox.take(20)
    connection = life.spool.file.connection
    garble(connection, taken[0][0])
    await life.outbox.spooler._mend("it is damaged")
    life.spool.close()
    after = Life(tmp_path)
    await after.outbox.open()
    assert after.spool.damage is None
    assert [each.payload for each in await after.delivers()] == [each.payload for each in made]


def zeroed(content: bytearray, chance: random.Random) -> None:
    """A page that the disk does not give back."""
    at = chance.randrange(1, len(content) // PAGE) * PAGE
    content[at : at + PAGE] = bytes(PAGE)


def flipped(content: bytearray, chance: random.Random) -> None:
    """A bit."""
    content[chance.randrange(PAGE, len(content))] ^= 1 << chance.randrange(8)


@pytest.mark.parametrize("wound", some([flipped, zeroed], zeroed))
@pytest.mark.parametrize("seed", range(form(1, 3)))
async def test_whatever_is_wrong_behind_its_head_no_hole_is_left_untold(
    seed: int,
    wound: Callable[[bytearray, random.Random], None],
    tmp_path: Path,
    autojump_clock: MockClock,
) -> None:
    """A real file of many blocks, damaged anywhere but in its first page, which all else hangs on:
    what is delivered is what was written, in order, and each hole in a stream has its gap.
    """
    feed, chance = Feed(), random.Random(seed)
    made = market(feed, 500)
    written = {message.subject + message.msg_id: message.payload for message in made}
    (first := tmp_path / "first").mkdir()
    await Life(first).leaves(made)
    files = {file.name: file.read_bytes() for file in first.iterdir()}
    few = 0
    for turn in range(40):
        (place := tmp_path / str(turn)).mkdir()
        for name, whole in files.items():
            content = bytearray(whole)
            if name == NAME:
                wound(content, chance)
            (place / name).write_bytes(content)
        life = Life(place)
        await life.outbox.open()
        told = await life.delivers(market(Feed(feed.ids.copy(), feed.clock), 25))
        found = Found.of(told)
        assert found.faults == [], (turn, found.faults[:3])
        for message in told:
            known = written.get(message.subject + message.msg_id)
            assert known in (None, message.payload)
        few += sum(message.subject + message.msg_id in written for message in told) > 1000
    assert few > 30
