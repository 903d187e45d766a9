"""Books of an exchange that writes one price in several ways, and who reads them by their text."""

import random

import pytest
from audited import ID_STEP
from forms import form
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from okx_line import INVERSE, SWAP, SWAP_CONFIG, OkxChain, OkxLine
from respelt import WAYS, Exchange

from marketprism.feeds.okx.checksum import checksum
from marketprism.instruments import Instrument
from marketprism.orderbook import OrderBook
from marketprism.records import OrderBookRecord
from marketprism.settings.exchanges import OrderbookOptions

VENUES = pytest.mark.parametrize("venue", ID_STEP)
QUICKLY = settings(
    deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate), max_examples=form(6, 200)
)
DEPTH = 20
EVENTS = ("hear",) * 6 + ("wait",) * 2 + ("lose", "cut", "rotate", "end")


def opened(
    venue: str, seed: int = 1, interval: float = 10.0, audit: float = 2.0, drift: float = 0.15
) -> Exchange:
    """A book in step."""
    options = OrderbookOptions("updates", DEPTH, interval, audit)
    window = 400 if venue.startswith("okx") else None
    exchange = Exchange(venue, seed, options, window=window, drift=drift)
    exchange.wait(1)
    assert exchange.reader.worst is not None
    return exchange


def texts(exchange: Exchange, since: int = 0) -> set[str]:
    """The prices that were published since then."""
    return {
        level[0]
        for record in exchange.records[since:]
        if isinstance(record, OrderBookRecord)
        for level in (*record.bids, *record.asks)
    }


@VENUES
@QUICKLY
@given(st.integers(0, 10**6), st.sampled_from([0.0, 3.0]))
def test_who_knows_prices_by_their_text_has_the_exchanges_book_after_each_message(
    venue: str, seed: int, interval: float
) -> None:
    """Over audits, losses, cuts and rotations, however each price is written at each time."""
    exchange = opened(venue, seed, interval)
    dice = random.Random(seed)
    for _ in range(60):
        event, rotates = dice.choice(EVENTS), exchange.elder is not None
        if event == "hear":
            for _ in range(dice.randint(1, 6)):
                exchange.seconds += 0.05
                exchange.happen(dice.randint(1, 5))
        elif event == "wait":
            exchange.wait(dice.choice((0.5, 2, 6)))
        elif event == "end" and rotates:
            exchange.end()
        elif event == "rotate" and not rotates:
            exchange.rotate()
        elif event in ("lose", "cut") and not rotates:
            exchange.happen(dice.choice((0, 3)), heard=False)
            if event == "cut":
                exchange.cut()
    assert exchange.faults == []


@VENUES
@pytest.mark.parametrize("drift", [0.0, 0.4])
def test_a_book_that_is_written_otherwise_has_not_diverged(venue: str, drift: float) -> None:
    """An audit compares by value. What it takes over is written as consumers have it, who know
    levels still that the market has left.
    """
    exchange = opened(venue, interval=0.0, drift=drift)
    for _ in range(80):
        exchange.happen(4)
        exchange.wait(0.5)
    (state,) = exchange.session.streams.values()
    assert state.audits["agreed"] > 5
    assert state.audits["diverged"] == 0
    assert exchange.gaps == []
    assert exchange.faults == []


@VENUES
def test_a_book_that_had_diverged_is_healed_in_the_spelling_that_consumers_have(venue: str) -> None:
    """The gap is about one level, and not about how prices are written."""
    exchange = opened(venue, interval=0.0, drift=0.0)
    exchange.happen(20)
    before = {*exchange.reader.bids, *exchange.reader.asks}
    exchange.mislead(sorted(exchange.pit.asks)[3])
    (fault,) = exchange.faults
    exchange.wait(70)
    assert exchange.faults == [fault]
    assert len(exchange.gaps) == 1
    assert exchange.reader.worst is not None
    kept = before & {*exchange.reader.bids, *exchange.reader.asks}
    assert len(kept) >= 2 * DEPTH - 2


@VENUES
@pytest.mark.parametrize("meanwhile", [0, 3])
@pytest.mark.parametrize("pictures", [True, False])
def test_after_a_cut_that_missed_nothing_prices_are_written_as_before(
    venue: str, meanwhile: int, pictures: bool
) -> None:
    """Also where the exchange writes them all otherwise now: updates that waited for a snapshot,
    the snapshot, and what follows. No gap says that a book begins anew.
    """
    exchange = opened(venue, interval=1.0)
    exchange.pictures = pictures
    exchange.ways = (".1f",)
    exchange.cut()
    exchange.wait(8)
    before, known = len(exchange.records), set(exchange.reader.bids) | set(exchange.reader.asks)
    exchange.ways = (".3f",)
    exchange.cut()
    for _ in range(meanwhile):
        exchange.happen(3)
    exchange.wait(6)
    for _ in range(10):
        exchange.happen(6)
    assert exchange.gaps == []
    assert exchange.faults == []
    values = {float(price) for price in known}
    again = {price for price in texts(exchange, before) if float(price) in values}
    assert len(again & known) > 10
    assert len(exchange.records) > before + 9


@VENUES
def test_where_an_exchange_writes_more_digits_from_now_on_its_new_levels_have_them(
    venue: str,
) -> None:
    """A change of the tick, announced or not: those that stand keep what they have."""
    exchange = opened(venue)
    exchange.ways = (".2f",)
    exchange.happen(3, heard=False)
    exchange.cut()
    exchange.wait(6)
    before = len(exchange.records)
    standing = set(exchange.reader.bids) | set(exchange.reader.asks)
    assert all(price[-3] == "." for price in standing)
    exchange.ways = (".3f",)
    for _ in range(30):
        exchange.happen(6)
    assert exchange.faults == []
    told = texts(exchange, before)
    assert any(price[-4] == "." for price in told)
    assert any(price in standing for price in told)


@VENUES
def test_a_book_that_begins_anew_is_written_as_the_exchange_writes_it_now(venue: str) -> None:
    """After a gap a snapshot replaces what consumers have."""
    exchange = opened(venue)
    exchange.ways = (".3f",)
    exchange.happen(3, heard=False)
    exchange.cut()
    before = len(exchange.records)
    exchange.wait(6)
    assert len(exchange.gaps) == 1
    assert all(price[-4] == "." for price in texts(exchange, before))
    assert exchange.faults == []


@VENUES
def test_the_next_connection_may_write_its_prices_otherwise(venue: str) -> None:
    """A rotation of a book needs no gap for it."""
    exchange = opened(venue)
    for way in WAYS:
        exchange.rotate()
        for _ in range(10):
            exchange.happen(3)
            exchange.wait(0.25)
        assert exchange.elder is not None
        assert not exchange.elder.streams
        exchange.ways = (way,)
        exchange.end()
        for _ in range(10):
            exchange.happen(3)
    assert exchange.gaps == []
    assert exchange.faults == []


# OKX alone.


def test_a_checksum_is_of_the_prices_as_okx_wrote_them_last() -> None:
    """Not of what is published in their place."""
    chain = OkxChain.made(3, 6)
    line = OkxLine(snapshots=lambda _: chain.snapshot(0))
    book = line.consumer.books["BTC-USDT"]
    standing = set(book.bids)
    for number in range(6):
        truth, digits = chain.truths[number + 1], number % 3 + 1
        sides = {
            name: [(f"{float(price):.{digits}f}", size) for price, size in side.items()]
            for name, side in (("bids", truth.bids), ("asks", truth.asks))
        }
        for name, levels in sides.items():
            # It tells of what has changed, and then of all that stands.
            chain.updates[number][name] += [[*level, "0", "1"] for level in levels]
        native = OrderBook(sides["bids"], sides["asks"], 0)
        line.hear(chain.frame(number, checksum=checksum(native)))
    assert line.consumer.gaps == []
    assert (book.updates, book.synchronised) == (6, True)
    for ours, theirs in ((book.bids, native.bids), (book.asks, native.asks)):
        assert sorted(map(float, ours)) == sorted(map(float, theirs))
    assert standing & set(book.bids)


@pytest.mark.parametrize("instrument", [SWAP, INVERSE])
def test_contracts_are_converted_whatever_the_price_is_called(instrument: Instrument) -> None:
    """In an inverse contract the quantity depends on the price, not on its digits."""
    native_id = instrument.native_id
    chain = OkxChain.made(3, 1, native_id)
    line = OkxLine(
        config=SWAP_CONFIG,
        instruments=[instrument],
        snapshots=lambda asked: chain.snapshot(0) if asked == native_id else None,
    )
    ((price, size), *_) = chain.truths[0].bids.items()
    converted = line.consumer.books[instrument.symbol].bids[price]
    chain.updates[0] |= {"bids": [[f"{price}00", size, "0", "1"]], "asks": []}
    (record,) = line.hear(chain.frame(0)).records
    assert isinstance(record, OrderBookRecord)
    assert list(record.bids) == [(price, converted)]
