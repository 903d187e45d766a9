"""What an exchange refuses for a while or does not answer, in virtual time: all is live again in
time, neighbours notice nothing, and each loss is told.
"""

from collections.abc import Iterable

import pytest
import trio
from box import SETTLED, Box, boxed
from trio.testing import MockClock

from marketprism.board.stream_row import StreamRow

pytestmark = pytest.mark.once

WATCHED = 20.0
OLD = 70.0
"""Seconds after which a connection's announced end is no news of its birth."""


def rows(box: Box) -> Iterable[StreamRow]:
    """All streams that are told on connections."""
    return box.collector.board.streams.values()


def states(box: Box) -> set[str]:
    """What the board calls them, polls and liquidations left out."""
    return {
        str(row.state)
        for row in rows(box)
        if not row.data_type.startswith("lsr") and row.data_type != "liquidation"
    }


async def lives(box: Box, seconds: float) -> None:
    """All is live again by then."""
    await box.until(lambda: states(box) == {"live"}, seconds)


async def calm(box: Box) -> float:
    """When every gap that was told is stored: from here on, there must be none."""

    def stored() -> int:
        return sum(message.subject.startswith("data-gap.") for message in box.broker.stream)

    await box.until(lambda: stored() == sum(box.collector.board.gaps.values()), 10)
    return trio.current_time()


async def test_deribits_maintenance_ends_for_us_as_well(autojump_clock: MockClock) -> None:
    """The socket stands for 92 s, heartbeats are answered, nothing comes, and our own renewals are
    refused: both indices live within a minute of its end, on the same connection.
    """
    async with boxed("deribit_derivatives") as box:
        await trio.sleep(SETTLED)
        exchange = box.exchange
        for stream in list(exchange.streams):
            exchange.faults.mute(92, stream=stream)
        exchange.faults.refuse_subscriptions(92, "11051", "system_maintenance")
        await trio.sleep(90)
        assert states(box) == {"parked"}
        (row,) = rows(box)
        assert row.live is not None
        assert row.live.detail == "11051: system_maintenance"
        assert row.live.cursor.gap is not None
        await trio.sleep(2)
        await lives(box, 60)
        since = await calm(box)
        await trio.sleep(WATCHED)
        assert exchange.accepted == 1
        assert await box.breaches(since) == []
    # What was missed was filled in.
    assert not box.collector.board.gaps


async def test_okx_refuses_everything_at_the_start(autojump_clock: MockClock) -> None:
    """50001 for five seconds."""
    async with boxed("okx_spot", "okx_derivatives") as box:
        for exchange in box.exchanges.values():
            exchange.faults.refuse_subscriptions(5, "50001", "Service temporarily unavailable")
        await trio.sleep(5)
        assert states(box) == {"parked"}
        await lives(box, 15)
        assert [exchange.accepted for exchange in box.exchanges.values()] == [1, 1]
        await trio.sleep(WATCHED)
        assert await box.breaches() == []


async def test_okx_refuses_the_resubscription_of_a_book(autojump_clock: MockClock) -> None:
    """One missed update, and 50026 for two seconds: one gap, and all else goes on."""
    async with boxed("okx_derivatives") as box:
        await trio.sleep(SETTLED)
        box.exchange.faults.refuse_subscriptions(2, "50026", "System error")
        box.exchange.faults.skip(1, "BTC-USDT-SWAP", "orderbook")
        await box.until(lambda: "parked" in states(box), 10)
        await lives(box, 10)
        since = await calm(box)
        await trio.sleep(WATCHED)
        assert box.exchange.accepted == 1
        assert await box.breaches(since) == []
    assert sum(box.collector.board.gaps.values()) == 1


async def test_a_stream_of_okx_lists_later(autojump_clock: MockClock) -> None:
    """60018 until then: it lives within half a minute, and its neighbours all the while."""
    async with boxed("okx_spot") as box:
        box.exchange.faults.refuse_subscriptions(15, "60018", stream="books:BTC-USDT")
        await trio.sleep(SETTLED)
        assert sorted(row.state for row in rows(box)).count("parked") == 1
        await lives(box, 30)
        await trio.sleep(WATCHED)
        assert await box.breaches() == []


@pytest.mark.parametrize("venue", ["okx_spot", "okx_derivatives", "deribit_derivatives"])
async def test_no_answer_to_anything_cuts_nothing(venue: str, autojump_clock: MockClock) -> None:
    """Neither to subscriptions nor to heartbeats, for as long as there is data; a book that then
    misses an update is put right.
    """
    async with boxed(venue) as box:
        box.exchange.faults.lose_answers(300)
        await lives(box, 60)
        await trio.sleep(60)
        if venue != "deribit_derivatives":
            symbol = next(iter(box.exchange.symbols))
            box.exchange.faults.skip(1, symbol, "orderbook")
            await trio.sleep(30)
            await lives(box, 30)
        since = await calm(box)
        await trio.sleep(WATCHED)
        assert box.exchange.accepted == 1
        assert await box.breaches(since) == []


@pytest.mark.parametrize("venue", ["okx_derivatives", "deribit_derivatives"])
@pytest.mark.parametrize("form", ["text_id", "more_keys", "empty_result"])
async def test_answers_of_another_form_are_answers(
    venue: str, form: str, autojump_clock: MockClock
) -> None:
    """All lives, and nothing is asked for twice."""
    async with boxed(venue) as box:
        box.exchange.faults.odd_answers(300, form)  # type: ignore[arg-type]
        await lives(box, SETTLED)
        await trio.sleep(60)
        assert box.exchange.accepted == 1
        assert await box.breaches() == []


async def test_what_a_parked_stream_missed_is_told_at_the_stop(autojump_clock: MockClock) -> None:
    """Where it does not live again before."""
    async with boxed("deribit_derivatives") as box:
        await trio.sleep(SETTLED)
        for stream in list(box.exchange.streams):
            box.exchange.faults.mute(300, stream=stream)
        box.exchange.faults.refuse_subscriptions(300, "11051", "system_maintenance")
        await trio.sleep(90)
        assert states(box) == {"parked"}
        assert not box.collector.board.gaps
        await box.stop()
    assert sum(box.collector.board.gaps.values()) == 1


@pytest.mark.parametrize(
    ("code", "stream"), [("50026", None), ("60018", "books:BTC-USDT"), ("60018", "trades:BTC-USDT")]
)
async def test_a_younger_that_is_refused_keeps_asking_while_the_elder_keeps_telling(
    code: str, stream: str | None, autojump_clock: MockClock
) -> None:
    """For half a minute: the rotation takes as long, and is seen by nobody."""
    async with boxed("okx_spot") as box:
        await trio.sleep(OLD)
        box.exchange.faults.refuse_subscriptions(30, code, "System error", stream)
        box.exchange.faults.server_shutdown(100.0)
        await trio.sleep(25)
        assert box.together == 1
        assert box.count() == 0
        await box.until(lambda: box.count() == 1, 60)
        await trio.sleep(WATCHED)
        assert box.exchange.accepted == 2
        assert await box.breaches() == []
    assert not box.collector.board.gaps
