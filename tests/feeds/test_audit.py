"""Audits of a wandering book: never a false alarm, always the true one, nothing unknown shown."""

from itertools import pairwise

import pytest
from audited import ID_STEP, START, Play
from forms import form
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from pit import Pit

from marketprism.records import DataType
from marketprism.settings.exchanges import OrderbookOptions

pytestmark = pytest.mark.once

VENUES = pytest.mark.parametrize("venue", ID_STEP)
LAGS = st.tuples(st.floats(0.0, 0.6), st.floats(0.0, 1.0), st.floats(0.0, 2.0))
OUTCOMES = {
    "binance": {"agreed", "skipped_stale", "skipped_ahead", "skipped_interrupted"},
    "okx": {"agreed", "skipped_stale", "skipped_ahead", "skipped_doubtful"},
}
"""Of a healthy book. A side that ran out interrupts, as it cannot wait."""
QUICKLY = settings(
    deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate), max_examples=form(2, 60)
)


def play(
    venue: str,
    seed: int,
    *,
    levels: int = 200,
    drift: float = 0.1,
    depth: int = 50,
    audit: float = 2.0,
    interval: float = 1.0,
    window: int | None = None,
    lags: tuple[float, float, float] = (0.1, 0.2, 0.2),
) -> Play:
    """A book of a market of its own."""
    pit = Pit(seed, levels, drift, ID_STEP[venue], window)
    return Play(venue, pit, OrderbookOptions("updates", depth, interval, audit), lags)


@VENUES
@QUICKLY
@given(st.integers(0, 10**6), st.floats(-0.5, 0.5), LAGS, st.integers(1, 12))
def test_a_healthy_book_never_is_said_to_be_wrong(
    venue: str, seed: int, drift: float, lags: tuple[float, float, float], changes: int
) -> None:
    """However late the stream, the request and the answer are: no gap, and what is published is
    exact as far as it reaches.
    """
    played = play(venue, seed, drift=drift, lags=lags)
    played.run(25, changes)
    assert played.faults == []
    assert played.gaps == []
    assert played.state.audits["diverged"] == 0
    assert played.state.audits["agreed"] >= 1
    assert set(played.state.audits) <= OUTCOMES[venue.partition("_")[0]]


@pytest.mark.parametrize("venue", ["okx_spot", "okx_derivatives"])
@QUICKLY
@given(st.integers(0, 10**6), st.floats(-0.5, 0.5), LAGS)
def test_a_window_of_a_deeper_book_never_is_said_to_be_wrong(
    venue: str, seed: int, drift: float, lags: tuple[float, float, float]
) -> None:
    """OKX tells of its best 400 levels, and of a change that was undone at once perhaps nothing."""
    played = play(venue, seed, levels=500, drift=drift, depth=400, lags=lags, window=400)
    played.run(20, 8)
    assert played.faults == []
    assert played.gaps == []
    assert played.state.audits["agreed"] >= 1


@VENUES
@QUICKLY
@given(st.integers(0, 10**6), LAGS, st.booleans(), st.integers(0, 20))
def test_one_wrong_level_is_found_said_and_healed(
    venue: str, seed: int, lags: tuple[float, float, float], bids: bool, distance: int
) -> None:
    """Whichever it is: a gap from when the book was last known to be right, then the book."""
    played = play(venue, seed, drift=0.0, lags=lags, audit=4.0)
    played.run(10)
    side = sorted(played.pit.bids, reverse=True) if bids else sorted(played.pit.asks)
    price = side[distance]
    played.pit.put(bids, price, 77)
    played.pit.frozen, played.corrupt_next = price, True
    played.run(40)
    told = played.corrupted
    assert told is not None
    (gap,) = played.gaps
    assert gap.reason == "sequence"
    assert gap.affected == "orderbook"
    assert gap.lost is None
    assert gap.started_at <= played.corrupted_at <= gap.ended_at
    assert gap.first_missing_id is not None
    assert gap.last_missing_id is not None
    assert gap.first_missing_id <= told.last_id <= gap.last_missing_id
    assert played.state.audits["diverged"] == 1
    (step,) = played.diverged
    assert (step.levels, step.stream) == (1, ("orderbook", played.native))
    assert f"{'bid' if bids else 'ask'} {price / 10:.1f}: 1077 here, 77 there" in step.sample
    healing = [each for each in played.snapshots if each.heals_gap]
    assert [each.heals_gap for each in healing] == [gap.started_at]
    assert healing[0].last_update_id == gap.last_missing_id
    # Wrong was what lay between the two, and nothing before or after.
    wrong = [int(fault.split()[1].rstrip(":")) for fault in played.faults]
    assert wrong
    assert told.last_id <= min(wrong)
    assert max(wrong) <= gap.last_missing_id
    assert played.wrong(played.cursor.last_id or 0) is None


@pytest.mark.parametrize("venue", ["binance_spot", "binance_derivatives"])
@QUICKLY
@given(st.integers(0, 10**6), st.sampled_from([50, 100]), st.sampled_from([-0.06, 0.06]), LAGS)
def test_a_book_that_the_market_leaves_is_followed(
    venue: str, seed: int, depth: int, drift: float, lags: tuple[float, float, float]
) -> None:
    """Without audits: what is not known is never shown, and is fetched before long."""
    played = play(venue, seed, levels=300, depth=depth, drift=drift, audit=0.0, lags=lags)
    played.run(150, 2)
    assert played.faults == []
    assert played.gaps == []
    shown = [min(len(each.bids), len(each.asks)) for each in played.snapshots]
    assert min(shown) < depth
    asked = played.audits()
    assert asked
    assert all(later - earlier >= 9.5 for earlier, later in pairwise(asked))
    after = [each for each in played.snapshots if each.collected_at > START + (asked[0] + 8) * 1e9]
    assert max(min(len(each.bids), len(each.asks)) for each in after) >= depth * 0.8


def test_a_side_that_ran_out_is_not_shown_and_does_not_wait_its_turn() -> None:
    """No snapshot with an empty side; the request goes before all audits, once in ten seconds."""
    played = play("binance_spot", 3, levels=300, depth=50, drift=0.0, audit=0.0)
    played.run(3)
    played.failing = True
    for price in sorted(played.pit.asks)[:150]:
        played.pit.put(False, price, 0)
    before = len(played.snapshots)
    for second in range(30):
        played.pit.put(True, 99_000, 1 + second)
        played.run(1, 0)
    assert len(played.snapshots) == before
    again = [(at, fetch.priority.name) for at, fetch in played.asked if at > 3]
    assert {name for _, name in again} == {"RESYNC"}
    assert 2 <= len(again) <= 3
    played.failing = False
    played.run(15)
    assert len(played.snapshots) > before
    assert played.faults == []
    assert played.gaps == []


def test_a_snapshot_that_cannot_be_had_is_counted_and_asked_for_again_later() -> None:
    """No storm: with an interval of an hour, once a minute."""
    played = play("binance_spot", 4, audit=0.0, drift=0.0)
    played.run(2)
    played.session._streams.books["BTCUSDT"].auditor.schedule.due = 0  # type: ignore[attr-defined]
    played.failing = True
    played.run(150)
    assert played.state.audits == {"skipped_failed": 3}
    assert played.gaps == []


def test_never_means_never() -> None:
    """An interval of 0, and a book of which enough is known: nothing is asked for."""
    played = play("okx_spot", 5, audit=0.0)
    played.run(60)
    assert played.asked == []


def test_a_resynchronisation_ends_an_audit() -> None:
    """Its answer, when it comes, means nothing any more."""
    played = play("binance_spot", 6, audit=3.0, lags=(0.1, 0.1, 3.0))
    played.run(20)
    audits = len(played.audits())
    while len(played.audits()) == audits:
        played.run(0.05)
    played.did(played.session.renew((DataType.ORDERBOOK, "BTCUSDT"), played.now))
    played.run(20)
    assert played.state.audits["skipped_interrupted"] == 1
    assert played.faults == []
    assert [gap.reason for gap in played.gaps] in ([], ["stale"])
