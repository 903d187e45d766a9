"""Spools that a version before left: read to their end, and what it had not told is told."""

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest
from damaged import Life, gaps, market
from market_log import Feed, Found
from trio.testing import MockClock

pytestmark = pytest.mark.once

LEFT = Path(__file__).parent / "format" / "1"
"""`market(Feed(), 100)` of which thirty were delivered, as the commit b12f2a3 left it; `untold` has
a block that could not be read, which that version remembered in a table of its own.
"""


@pytest.fixture
def left(tmp_path: Path) -> Callable[[str], Path]:
    """Puts what was left where it can be opened."""

    def put(kind: str) -> Path:
        for file in (LEFT / kind).iterdir():
            (tmp_path / file.stem).write_bytes(gzip.decompress(file.read_bytes()))
        return tmp_path

    return put


async def test_it_is_read_to_its_end(
    left: Callable[[str], Path], autojump_clock: MockClock
) -> None:
    """Each message, in its order; and what comes behind it goes by the same file."""
    life, feed = Life(left("clean")), Feed()
    made = market(feed, 100)
    await life.outbox.open()
    assert life.board.spool.set_aside is None
    told = await life.delivers(more := market(feed, 30))
    assert told == [*made[30:], *more]


async def test_what_it_had_not_told_is_told(
    left: Callable[[str], Path], autojump_clock: MockClock
) -> None:
    """Once, in the place of what is lost; the file it stood in is set aside, which is said."""
    life, feed = Life(left("untold")), Feed()
    made = market(feed, 100)
    await life.outbox.open()
    assert life.board.spool.set_aside is not None
    assert life.board.spool.set_aside.endswith("lost something of it, and did not tell that")
    told = await life.delivers()
    found = Found.of([*made[:30], *told])
    assert found.faults == []
    assert len(gaps(told)) == 3
    for symbol, lost in (("BTC-USDT", 16), ("ETH-USDT", 17)):
        have, missing = set(found.trades[f"trade {symbol}"]), found.told(f"trade {symbol}")
        assert len(missing) == lost
        assert not have & missing
        assert have | missing == set(range(1, 101))
    places = {message.payload: at for at, message in enumerate(made)}
    kept = [places[message.payload] for message in told if message.data_type != "gap"]
    assert kept == sorted(kept)
