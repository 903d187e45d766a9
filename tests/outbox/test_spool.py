"""The spool's file: what is written is read, in order, and whatever is wrong with it is said."""

import json
import random
import sqlite3
from pathlib import Path

import pytest
import trio
from forms import form
from market_log import Feed, at_once
from trio.testing import MockClock

from marketprism.board.board import Board
from marketprism.clock import Timestamp
from marketprism.errors import SpoolDamaged, SpoolFull, SpoolLost, StartFailed
from marketprism.outbox.block import Numbered
from marketprism.outbox.progress import Progress
from marketprism.outbox.spool import NAME, PROGRESS, Spool
from marketprism.outbox.stored_blocks import StoredBlock, cut
from marketprism.sinks import Outbox

pytestmark = pytest.mark.once

NOW = "20260101T000000Z"
LARGE = 10**8


def numbered(count: int, first: int = 2) -> list[Numbered]:
    """Messages of a market, with the numbers that an outbox would give them."""
    feed = Feed()
    return [(first + 2 * place, feed.trade()) for place in range(count)]


def opened(directory: Path, max_bytes: int = LARGE) -> Spool:
    """A spool that is open."""
    spool = Spool(directory, max_bytes, 0)
    spool.open(NOW)
    return spool


def all_of(spool: Spool) -> list[Numbered]:
    """What is in it."""
    return [each for block in spool.blocks() for each in block.messages()]


def filled(spool: Spool, batch: list[Numbered], written: int) -> int:
    """Write until no more goes in; how many are written then."""
    try:
        while True:
            spool.write(batch[written : written + 100], 0)
            written += 100
    except SpoolFull:
        return written


def test_what_is_written_is_read_in_order_by_the_next_process(tmp_path: Path) -> None:
    """Messages, and how far they were handed out."""
    batch = numbered(2500)
    spool = opened(tmp_path)
    spool.write(batch[:1500], 2)
    spool.write(batch[1500:], 0)
    spool.mark(40)
    spool.close()
    spool = opened(tmp_path)
    assert all_of(spool) == batch
    assert spool.progress.handed_out == 40
    assert spool.read(0, 10, LARGE)[0] == batch[0]
    spool.close()


def test_a_killed_process_leaves_what_it_committed(tmp_path: Path) -> None:
    """Its log of changes is not in the file yet."""
    batch = numbered(10)
    spool = opened(tmp_path / "old")
    spool.write(batch, 0)
    copy = tmp_path / "new"
    copy.mkdir()
    for file in (tmp_path / "old").iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    spool.close()
    spool = opened(copy)
    assert all_of(spool) == batch
    spool.close()


def test_only_blocks_of_which_nothing_is_held_are_deleted(tmp_path: Path) -> None:
    """Those below the floor."""
    batch = numbered(100)
    spool = opened(tmp_path)
    for at in range(0, 100, 10):
        spool.write(batch[at : at + 10], 0)
    spool.trim(batch[15][0])
    assert all_of(spool) == batch[10:]
    spool.file.empty()
    assert all_of(spool) == []
    assert spool.path.stat().st_size < 200_000
    spool.close()


def test_it_never_uses_more_than_it_may(tmp_path: Path) -> None:
    """It says so before it writes; what is deleted makes room."""
    spool = opened(tmp_path, 1_000_000)
    batch = numbered(20_000)
    written = filled(spool, batch, 0)
    assert all_of(spool) == batch[:written]
    for _ in range(5):
        spool.trim(batch[written - 1000][0])
        written = filled(spool, batch, written)
    spool.close()
    assert 500_000 < spool.path.stat().st_size <= 1_000_000


def test_it_leaves_others_their_part_of_the_disk(tmp_path: Path) -> None:
    """A file system that is nearly full is not filled by us."""
    spool = Spool(tmp_path, LARGE, 10**18)
    spool.open(NOW)
    with pytest.raises(SpoolFull, match="bytes left"):
        spool.write(numbered(100), 0)
    spool.close()


def test_two_processes_do_not_share_one(tmp_path: Path) -> None:
    """The second is told in a line which it is, and touches nothing."""
    first = opened(tmp_path)
    first.write(numbered(3), 0)
    with pytest.raises(StartFailed, match=f"{tmp_path / NAME} is another process's"):
        opened(tmp_path)
    assert len(all_of(first)) == 3
    first.close()
    opened(tmp_path).close()


def test_a_place_that_cannot_be_is_the_disks_failure(tmp_path: Path) -> None:
    """A file where the directory should be."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SpoolLost, match="file/spool"):
        opened(tmp_path / "file/spool")
    with pytest.raises(SpoolLost, match="not open"):
        Spool(tmp_path / "file/spool", LARGE, 0).mark(2)


@pytest.mark.parametrize("damage", ["garbled", "truncated", "not ours", "a later version"])
def test_a_damaged_file_is_set_aside_and_read_as_far_as_it_can_be(
    damage: str, tmp_path: Path
) -> None:
    """What is kept is what was written, in order, but for the blocks that cannot be read; they are
    counted, and the file stays where it can be looked at.
    """
    batch = numbered(20_000)
    spool = opened(tmp_path)
    for at in range(0, len(batch), 1000):
        spool.write(batch[at : at + 1000], 2)
    spool.close()
    content = bytearray(spool.path.read_bytes())
    if damage == "garbled":
        content[content.index(b"50000.1", len(content) // 2)] ^= 1
    elif damage == "truncated":
        del content[len(content) * 3 // 4 :]
    elif damage == "not ours":
        content = bytearray(b"something else" * 1000)
    else:
        connection = sqlite3.connect(spool.path)
        connection.execute("PRAGMA user_version = 99")
        connection.close()
        content = bytearray(spool.path.read_bytes())
    spool.path.write_bytes(content)
    spool = opened(tmp_path)
    found = all_of(spool)
    kept = [(number, message) for number, message in found if message.data_type != "gap"]
    numbers = {number for number, _ in kept}
    assert kept == [each for each in batch if each[0] in numbers]
    if damage == "garbled":
        (gap,) = [json.loads(each.payload) for _, each in found if each.data_type == "gap"]
        assert gap["lost"] == 1000
        assert len(kept) == 19_000
    elif damage == "truncated":
        assert 10_000 < len(kept) < 20_000
    elif damage == "a later version":
        assert kept == batch
    aside = spool.path.with_name(f"{NAME}.damaged-{NOW}")
    assert spool.file.set_aside is not None
    assert spool.file.set_aside.startswith(f"{aside}: ")
    assert aside.read_bytes() == content
    spool.write(numbered(1, 50_000), 0)
    spool.close()


def test_how_far_it_was_handed_out_needs_no_room(tmp_path: Path) -> None:
    """It stands in a file that never grows, and goes on from where it was."""
    spool = opened(tmp_path)
    size = (tmp_path / PROGRESS).stat().st_size
    spool.mark(40, 20)
    spool.mark(30, 30)
    spool.mark(placed=10)
    assert spool.progress == Progress(40, 30, 10)
    spool.close()
    assert (tmp_path / PROGRESS).stat().st_size == size
    assert opened(tmp_path).progress == Progress(40, 30, 10)


def test_a_mark_that_is_torn_or_gone_costs_no_start(tmp_path: Path) -> None:
    """One of its two copies is enough; without both, the first blocks may have been delivered."""
    spool = opened(tmp_path)
    for at in range(0, 30_000, 1000):
        spool.write(numbered(1000, 2 + 2 * at), 0)
    spool.mark(40)
    spool.close()
    marks = tmp_path / PROGRESS
    marks.write_bytes(b"x" * 16 + marks.read_bytes()[16:])
    spool = opened(tmp_path)
    assert spool.progress.handed_out == 40
    spool.close()
    for content in (b"", b"x" * 5000):
        marks.write_bytes(content)
        spool = opened(tmp_path)
        assert spool.progress.handed_out == 16 * 2000
        assert len(all_of(spool)) == 30_000
        spool.close()


def contents(directory: Path) -> dict[str, bytes]:
    """Of its files, by name."""
    return {file.name: file.read_bytes() for file in directory.iterdir()}


def flip(directory: Path, files: dict[str, bytes], chance: random.Random) -> None:
    """Have these files there and no others, and some of their bits wrong."""
    for file in directory.iterdir():
        file.unlink()
    for name, content in files.items():
        flipped = bytearray(content)
        for _ in range(chance.choice([1, 1, 1, 4, 64])):
            flipped[chance.randrange(len(flipped))] ^= 1 << chance.randrange(8)
        (directory / name).write_bytes(flipped)


@pytest.mark.parametrize("seed", range(form(1, 4)))
async def test_whatever_bits_are_flipped_a_collector_starts(
    seed: int, tmp_path: Path, autojump_clock: MockClock
) -> None:
    """What it takes over is what was written; the disk is used again; nothing is said of a
    damaged file but that it is set aside.
    """
    chance, feed = random.Random(seed), Feed()

    def begun() -> tuple[Outbox, Board]:
        board, spool = Board(), Spool(tmp_path, 300_000, 0)
        now = Timestamp(feed.clock, 1)
        outbox = Outbox(
            *(60, LARGE, board.outbox), board=board, spool=spool, now=lambda: now, worker=at_once
        )
        return outbox, board

    outbox, board = begun()
    await outbox.open()
    made = []
    for turn in range(60):
        batch = [feed.trade() for _ in range(11)] + [feed.update()]
        batch += feed.resynchronised() if turn % 7 == 0 else []
        made += batch
        outbox.append(batch)
        for _ in range(2):
            await outbox.spooler.turn()  # type: ignore[union-attr]
            await trio.sleep(1)
    await outbox.store()
    assert board.spool.held > 300
    payloads = {message.payload for message in made}
    files = contents(tmp_path)
    for _ in range(100):
        flip(tmp_path, files, chance)
        for _ in range(2):
            outbox, board = begun()
            await outbox.open()
            assert board.spool.state in ("idle", "spooling")
            for message in (await outbox.recovered()).values():
                # A snapshot behind what is lost names the gap, in its id.
                assert message.payload in payloads or b'"outbox"' in message.payload
            outbox.spooler._disk.spool.close()  # type: ignore[union-attr]


def test_a_block_that_was_changed_is_not_believed() -> None:
    """A flipped bit in a price would be believed by anybody."""
    (block,) = cut(numbered(3))
    assert [message for _, message in block.messages()] == [m for _, m in numbered(3)]
    changed = StoredBlock(
        block.first, block.last, block.checksum, block.body.replace(b"50000", b"60000")
    )
    with pytest.raises(SpoolDamaged):
        changed.messages()


def test_to_open_one_can_be_given_up(tmp_path: Path) -> None:
    """The file stays as it is."""
    spool = opened(tmp_path)
    spool.write(numbered(3000), 0)
    spool.close()
    spool = Spool(tmp_path, LARGE, 0)
    spool.abandon()
    with pytest.raises(SpoolLost, match="not needed any more"):
        spool.open(NOW)
    spool.abandon()
    spool.close()
    assert spool.file.set_aside is None
    assert all_of(opened(tmp_path)) == numbered(3000)


def test_what_is_unplaced_is_so_after_it_was_read(tmp_path: Path) -> None:
    """The fact goes to the disk with the message."""
    batch = numbered(5)
    batch[3][1].gap_pending = True
    spool = opened(tmp_path)
    spool.write(batch, 0)
    assert [number for number, message in all_of(spool) if message.gap_pending] == [batch[3][0]]


def test_a_message_larger_than_a_block_has_one_of_its_own() -> None:
    """Order and completeness do not depend on sizes."""
    batch = numbered(10)
    batch[4][1].payload = b"x" * 5000
    blocks = list(cut(batch, most_bytes=3000))
    assert [each for block in blocks for each in block.messages()] == batch
    assert [(block.first, block.last) for block in blocks if block.first == block.last == 10]
