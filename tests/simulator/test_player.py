"""The player: its books are the exchange's at every moment, and its pace is the recorded one."""

import math
from collections.abc import Callable, Collection
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
import trio
import trio.testing
from patience import PATIENCE

from marketprism.simulator import player, record
from marketprism.simulator.binance import BinanceSpot
from marketprism.simulator.capture import Line, read, read_file
from marketprism.simulator.events import Message
from marketprism.simulator.market import Market
from marketprism.simulator.player import Player

pytestmark = pytest.mark.once


class Audience:
    """A stage on which every message is heard, and nothing else happens."""

    def __init__(self, heard: Callable[[Message], None] | None = None) -> None:
        self.last_subscription = trio.current_time()
        self.interrupted = False
        self.resting: Collection[str] = ()
        self.messages: list[tuple[float, Message]] = []
        self._heard = heard

    def now_ms(self) -> int:
        """No time passes."""
        return 0

    async def until(self, condition: Callable[[], bool]) -> None:
        """Everything has happened already."""
        assert condition()

    async def publish(self, message: Message) -> None:
        """Hear it."""
        self.messages.append((trio.current_time(), message))
        if self._heard:
            self._heard(message)


async def test_final_books_are_those_of_an_independent_reconstruction(
    captures: Path, spot_capture: Path
) -> None:
    """At the end of a recording the books are those published with it."""
    every = msgspec.json.decode((captures / "expected_final_books.json").read_bytes())
    expected = every[spot_capture.relative_to(captures).as_posix()]
    source = Player(read_file(spot_capture), BinanceSpot(), speed=math.inf, start_delay=0)
    await source.play(Audience())
    assert set(source.symbols) == set(expected["final_books"])
    for symbol, book in expected["final_books"].items():
        found = await source.snapshot(symbol, 1_000)
        assert found is not None
        assert found.last_id == book["applied_through_u"]
        assert found.bids[0] == (book["best_bid"], book["best_bid_qty"])
        assert found.asks[0] == (book["best_ask"], book["best_ask_qty"])
        assert (len(found.bids), len(found.asks)) == (book["n_bids"], book["n_asks"])


async def test_every_answer_joins_the_updates_after_it(spot_capture: Path) -> None:
    """Whenever a book is asked for, the updates sent after that lead to the same final book."""
    taken: list[tuple[int, str, dict[Decimal, str]]] = []
    sent: list[Message] = []

    def heard(message: Message) -> None:
        sent.append(message)
        book = source._books.get(message.symbol)
        if message.update and book and len(sent) % 5 == 0:
            answer = book.snapshot(1_000)
            assert answer.last_id >= message.update.last_id
            bids = {Decimal(price): quantity for price, quantity in answer.bids}
            taken.append((answer.last_id, message.symbol, bids))

    source = Player(read_file(spot_capture), BinanceSpot(), speed=math.inf, start_delay=0)
    await source.play(Audience(heard))
    assert len(taken) > 20
    for last_id, symbol, bids in taken:
        known = last_id
        for update in (each.update for each in sent if each.update and each.symbol == symbol):
            if update.last_id > known:
                assert update.first_id <= known + 1
                known = update.last_id
                for price, quantity in update.bids:
                    bids[Decimal(price)] = quantity
        final = await source.snapshot(symbol, 1_000)
        assert final is not None
        kept = {price: quantity for price, quantity in bids.items() if Decimal(quantity)}
        assert kept == {Decimal(price): quantity for price, quantity in final.bids}


def depth(first: int, last: int, bids: list[list[str]], at: float) -> Line:
    """A recorded update of the bids."""
    payload = {
        "e": "depthUpdate",
        "E": 1,
        "s": "BTCUSDT",
        "U": first,
        "u": last,
        "b": bids,
        "a": [],
    }
    message = {"stream": "btcusdt@depth@100ms", "data": payload}
    return Line(str(at), "recv", raw=msgspec.json.encode(message).decode())


def snapshot(last: int, bids: list[list[str]], at: float, limit: int = 2) -> Line:
    """A recorded book."""
    body = {"lastUpdateId": last, "bids": bids, "asks": [["9.0", "1.0"]]}
    url = f"https://api.binance.com/api/v3/depth?symbol=BTCUSDT&limit={limit}"
    return Line(str(at), "http", url, msgspec.json.encode(body).decode())


async def books(lines: list[Line], limit: int = 2) -> list[tuple[int, list[tuple[str, str]]]]:
    """Play the lines; the book after each message, where it is known."""
    found: list[tuple[int, list[tuple[str, str]]]] = []

    def heard(message: Message) -> None:
        book = source._books.get(message.symbol)
        if book:
            answer = book.snapshot(limit)
            found.append((answer.last_id, answer.bids))

    source = Player(lines, BinanceSpot(), speed=math.inf, start_delay=0)
    await source.play(Audience(heard))
    return found


async def test_updates_that_a_snapshot_contains_do_not_change_it() -> None:
    """A snapshot ahead of the stream is answered with its own id until the stream reaches it."""
    found = await books([
        depth(1, 2, [["1.0", "7.0"]], 0),
        snapshot(5, [["1.0", "5.0"]], 1),
        depth(3, 4, [["1.0", "6.0"]], 2),
        depth(5, 6, [["1.0", "8.0"]], 3),
    ])  # fmt: skip
    assert found == [(5, [("1.0", "5.0")]), (6, [("1.0", "8.0")])]


async def test_a_snapshot_behind_the_stream_is_brought_up_to_it() -> None:
    """What was sent before a late snapshot, and is newer than it, is put upon it."""
    found = await books([
        depth(1, 2, [["1.0", "2.0"]], 0),
        depth(3, 4, [["1.0", "4.0"]], 1),
        snapshot(2, [["1.0", "2.0"]], 2),
        depth(5, 5, [["2.0", "5.0"]], 3),
    ])  # fmt: skip
    assert found == [(5, [("2.0", "5.0"), ("1.0", "4.0")])]


async def test_after_a_hole_in_the_recording_the_next_snapshot_counts() -> None:
    """Where the recorder lost an update the book is unknown until it fetched a new one."""
    found = await books([
        snapshot(2, [["1.0", "2.0"]], 0),
        depth(5, 5, [["1.0", "5.0"]], 1),
        snapshot(5, [["1.0", "9.0"]], 2),
        depth(6, 6, [["3.0", "6.0"]], 3),
    ])  # fmt: skip
    assert found == [(6, [("3.0", "6.0"), ("1.0", "9.0")])]


async def test_only_a_smaller_limit_than_the_recorded_one_cuts() -> None:
    """At the recorded limit all known levels are given, below it as many as asked for."""
    lines = [
        snapshot(1, [["1.0", "1.0"], ["2.0", "1.0"]], 0),
        depth(2, 2, [["3.0", "1.0"]], 1),
    ]
    assert len((await books(lines, 2))[0][1]) == 3
    assert (await books(lines, 1))[0][1] == [("3.0", "1.0")]


async def test_a_book_asked_for_too_early_waits_for_its_recorded_moment() -> None:
    """Before the recorded snapshot there is no answer; then there is the snapshot."""
    lines = [depth(1, 1, [], 0), snapshot(1, [["1.0", "1.0"]], 0.2), depth(2, 2, [], 0.4)]
    source = Player(lines, BinanceSpot(), start_delay=0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(source.play, Audience())
        began = trio.current_time()
        with trio.fail_after(PATIENCE):
            found = await source.snapshot("BTCUSDT", 2)
    assert found is not None
    assert found.last_id == 1
    assert trio.current_time() - began > 0.15


async def test_a_book_never_recorded_is_given_up_at_the_end() -> None:
    """When the playback is over, nobody waits any longer for a book that was not in it."""
    source = Player([depth(1, 1, [], 0)], BinanceSpot(), speed=math.inf, start_delay=0)
    await source.play(Audience())
    with trio.fail_after(PATIENCE):
        assert await source.snapshot("BTCUSDT", 2) is None


async def test_pace_is_the_recorded_one_divided_by_the_speed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Distances between messages are those of the recording over the speed, after the delay."""
    lines = [depth(1, 1, [], 100.0), depth(2, 2, [], 101.0), depth(3, 3, [], 106.0)]
    source = Player(lines, BinanceSpot(), speed=10, start_delay=2)
    audience = Audience()
    began = trio.current_time()
    await source.play(audience)
    times = [at - began for at, _ in audience.messages]
    assert times == pytest.approx([2.0, 2.1, 2.6])


async def test_a_recorded_market_ends_with_the_book_of_the_market() -> None:
    """What was recorded of a seeded market plays back to the market's own book."""
    lines = read(record(Market(9, ["BTCUSDT"], quotes_per_second=100), 5))
    source = Player(lines, BinanceSpot(), speed=math.inf, start_delay=0)
    await source.play(Audience())
    found = await source.snapshot("BTCUSDT", 1_000)
    assert found is not None
    twin = Market(9, ["BTCUSDT"], quotes_per_second=100)
    twin.step(1_700_000_000_000)
    twin.step(1_700_000_004_900)
    last = twin.snapshot("BTCUSDT")
    assert (found.last_id, found.bids, found.asks) == (last.last_id, last.bids, last.asks)


def test_a_speed_must_be_above_zero() -> None:
    """There is no playing backwards."""
    with pytest.raises(ValueError, match="speed"):
        player([], speed=0)
