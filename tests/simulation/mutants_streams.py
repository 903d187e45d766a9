"""Mutants of what sessions and polls do to keep their streams whole."""

import re
from collections.abc import Sequence
from typing import Any

import attrs
import pytest
import trio
from mutants import mutant

from marketprism import orderbook
from marketprism.errors import Transient
from marketprism.feeds import comparison, continuity, freshness, polling
from marketprism.feeds.actions import FetchFailed
from marketprism.feeds.binance import book as binance_book
from marketprism.feeds.binance import depth, derivatives, spot
from marketprism.feeds.deribit import series
from marketprism.feeds.okx import book as okx_book
from marketprism.feeds.okx import chain, channels
from marketprism.feeds.okx.chain import Heard
from marketprism.records import Gap

# Books


@mutant("binance_spot", "skip", "swap")
def any_update_continues_a_spot_book(patch: pytest.MonkeyPatch) -> None:
    """No look at the ids."""
    patch.setattr(binance_book.BookStream, "_continues_book", lambda *_: True)


@mutant("binance_derivatives", "skip", "swap")
def pu_is_not_looked_at(patch: pytest.MonkeyPatch) -> None:
    """The same for perpetuals."""
    patch.setattr(derivatives, "chains", lambda update, last_id: update.u > last_id)


@mutant("binance_spot", "stale", "late", "cut")
def a_snapshot_is_joined_whatever_its_age(patch: pytest.MonkeyPatch) -> None:
    """Step 4 of the procedure is left out."""
    patch.setattr(binance_book.BookStream, "_too_old", lambda *_: None)


@mutant("binance_spot")
def any_update_continues_a_snapshot(patch: pytest.MonkeyPatch) -> None:
    """Whether the buffer joins it is not asked."""
    patch.setattr(spot, "follows", lambda update, last_id: update.u > last_id)


@mutant("binance_derivatives", "fail", "garbled", "cut")
def a_failed_snapshot_is_not_asked_for_again(patch: pytest.MonkeyPatch) -> None:
    """The book stays out of step; nor does anybody mind its silence, which would mend that."""
    patch.setattr(binance_book.BookStream, "_later", lambda *_: None)
    patch.setattr(freshness.Freshness, "judge", lambda *_: iter(()))


@mutant("binance_spot")
def a_book_always_joins_what_was_published(patch: pytest.MonkeyPatch) -> None:
    """A resynchronised book is told without a gap."""
    patch.setattr(depth.Buffer, "bridges", lambda *_: True)


@mutant("okx_spot", "skip", "swap")
def prev_seq_id_is_not_looked_at(patch: pytest.MonkeyPatch) -> None:
    """Any later update continues an OKX book."""
    patch.setattr(Heard, "follows", lambda heard, book, joining: heard.sequence > book.last_id)


@mutant("okx_spot")
def a_new_okx_book_always_joins(patch: pytest.MonkeyPatch) -> None:
    """It is told without a gap."""
    join = okx_book.BookStream.join

    def settled(book: okx_book.BookStream, *rest: Any, **more: Any) -> None:
        book.state.cursor.last_id = book.state.cursor.gap = None
        join(book, *rest, **more)

    patch.setattr(okx_book.BookStream, "join", settled)


@mutant("okx_spot", "renumber", "stale", *["withhold"] * 3)
def the_time_of_a_fetched_okx_book_is_not_looked_at(patch: pytest.MonkeyPatch) -> None:
    """One from before a new numbering has the higher number."""
    answered = okx_book.BookStream.answered

    def undated(book: okx_book.BookStream, attempt: int, answer: Any, now: Any, turn: Any) -> None:
        time = b'"ts":"%d"' % (now.wall // 1_000_000)
        changed = attrs.evolve(answer, body=re.sub(rb'"ts":"\d+"', time, answer.body))
        answered(book, attempt, changed, now, turn)

    patch.setattr(okx_book.BookStream, "answered", undated)


@mutant("binance_spot", first=3)
def what_lies_beyond_a_snapshot_is_shown(patch: pytest.MonkeyPatch) -> None:
    """Where a book was cut is forgotten."""
    patch.setattr(orderbook, "_worst", lambda *_, **__: None)


@mutant("binance_derivatives", first=3)
def an_audit_compares_a_snapshot_as_it_came(patch: pytest.MonkeyPatch) -> None:
    """It is not led to where the book is."""
    lead = comparison.Trail.lead

    def led(trail: comparison.Trail, *rest: Any) -> comparison.Verdict | None:
        trail.changes.clear()
        return lead(trail, *rest)

    patch.setattr(comparison.Trail, "lead", led)


# Trades, indices, polls


@mutant("binance_spot", "skip", "swap")
def trade_ids_may_jump(patch: pytest.MonkeyPatch) -> None:
    """Without a gap."""
    accept = continuity.accept_counted

    def accepted(state: Any, number: int, *rest: Any) -> tuple[bool, Sequence[Gap]]:
        if (state.cursor.last_id or number) < number:
            state.cursor.last_id = number - 1
        return accept(state, number, *rest)

    patch.setattr(continuity, "accept_counted", accepted)


@mutant("okx_derivatives")
def contracts_are_not_converted(patch: pytest.MonkeyPatch) -> None:
    """Quantities are published as they came."""
    for module in (chain, channels):
        patch.setattr(module, "base_quantity", lambda _instrument, contracts, _price: contracts)


@mutant("deribit_derivatives")
def what_an_index_missed_is_not_filled_in(patch: pytest.MonkeyPatch) -> None:
    """And is no gap either."""

    def answered(filler: series.Series, _attempt: int, _answer: Any, now: Any, turn: Any) -> None:
        if filler.filling is not None:
            filler._finish(now, turn)

    patch.setattr(series.Filling, "lacks", lambda *_: False)
    patch.setattr(series.Series, "answered", answered)


@mutant("binance_derivatives")
def a_failed_poll_is_no_gap_and_its_last(patch: pytest.MonkeyPatch) -> None:
    """It is not repeated."""

    def failure(_request: Any, _answer: FetchFailed) -> Exception:
        return Transient("for good", retry_after=1e9)

    patch.setattr(polling, "failure", failure)


@mutant("binance_derivatives", "broker_killed", "broker_stalled", tight=True)
def polls_do_not_confess(patch: pytest.MonkeyPatch) -> None:
    """What the channel lost of a poll is never told, nor anything after it."""

    async def silent(*_: Any) -> None:
        await trio.lowlevel.checkpoint()

    patch.setattr(polling._Polling, "_tell_gaps", silent)
